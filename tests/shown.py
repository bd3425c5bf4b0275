"""The commands of a page, and whether what it shows is what they print."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
_BLOCK = re.compile(r"(?:<!-- not run: (?P<why>[^>]+) -->\n+)?```(?P<kind>sh|text|python)\n(?P<body>.*?)```", re.DOTALL)
_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page; `why_not` says why a reader's command is not run by the tests."""

    kind: str
    body: str
    why_not: str | None


def blocks(page: str) -> list[Block]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return [Block(m["kind"], m["body"], m["why"]) for m in _BLOCK.finditer(text)]


def pages() -> list[str]:
    """Every page with something to paste; the reference is made from the code, and compared with it elsewhere."""
    files = [
        ROOT / "README.md",
        *(path for name in ("docs", "recipes", "datasets") for path in (ROOT / name).rglob("*.md")),
    ]
    found = sorted(str(path.relative_to(ROOT)) for path in files)
    return [page for page in found if page != "docs/reference.md" and any(b.kind != "text" for b in blocks(page))]


def lines(body: str) -> list[str]:
    """The lines of a block as the shell takes them, without those that say nothing to it."""
    whole = (line.strip() for line in body.replace("\\\n", " ").splitlines())
    return [line for line in whole if line and not line.startswith("#")]


def words(line: str) -> list[str]:
    return shlex.split(line, comments=True)


def value(number: str) -> float:
    return float(number.replace(",", ""))


def unit(number: str) -> float:
    """What the last digit of a number as it is written counts."""
    mantissa, _, exponent = number.partition("e")
    return 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))


def alike(shown: str, printed: str) -> bool:
    """Equal words; numbers within two in the last digit shown, or 5% where there are more digits than that says."""
    if shown.endswith("…"):
        shown, printed = shown[:-1].rstrip(), printed[: len(shown) - 1].rstrip()
    if _NUMBER.sub("0", shown) != _NUMBER.sub("0", printed):
        return False
    pairs = zip(_NUMBER.findall(shown), _NUMBER.findall(printed), strict=True)
    return all(abs(value(s) - value(p)) <= max(2.001 * unit(s), 0.05 * value(s) if "e" in s else 0.0) for s, p in pairs)


def missing(shown: str, printed: str) -> str | None:
    """The first line of `shown` that `printed` does not have behind those before it."""
    rest = iter([" ".join(line.split()) for line in printed.splitlines()])
    for line in filter(None, (" ".join(line.split()) for line in shown.splitlines())):
        if line != "…" and not any(alike(line, candidate) for candidate in rest):
            return line
    return None
