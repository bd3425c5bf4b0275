"""Write the source of Python's standard library as JSON Lines: the code that the bundled encoder is trained on.

Usage: python tools/stdlib_text.py OUT.jsonl
"""

from __future__ import annotations

import json
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

#: Packages of the library that are read beside its top-level modules.
PACKAGES = (
    "asyncio collections concurrent/futures csv ctypes email html http importlib json logging multiprocessing sqlite3 "
    "unittest urllib wsgiref xml/etree"
)
#: A document is a run of whole lines of about this many characters.
SIZE = 2_000


def documents(folder: Path) -> Iterator[dict[str, str]]:
    """Yield the library's source in pieces, in order of the file names."""
    for package in ("", *PACKAGES.split()):
        for path in sorted((folder / package).glob("*.py")):
            piece = ""
            for line in [*path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True), ""]:
                if piece.strip() and (not line or len(piece) + len(line) > SIZE):
                    yield {"text": piece, "source": "python_stdlib", "licence": "PSF-2.0"}
                    piece = ""
                piece += line


if __name__ == "__main__":
    out = Path(sys.argv[1])
    out.parent.mkdir(parents=True, exist_ok=True)
    rows = documents(Path(sysconfig.get_paths()["stdlib"]))
    out.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
