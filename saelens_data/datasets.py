"""The bundled data by name, checked as it is loaded: `sd.datasets.load("habits")`.

Files, columns and what is planted in them are described in `datasets/README.md` of the repository. An installed package
brings its own copy.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import polars as pl

from saelens_data.corpus import Corpus, read_corpus
from saelens_data.errors import InputError, choices

__all__ = ["Dataset", "load", "names"]

#: In the repository a link to its folder `datasets`; in a built package a copy.
_ASSETS = Path(__file__).parent / "assets" / "datasets"
#: Where a checkout keeps them if it could not make the link.
_CHECKOUT = Path(__file__).parents[1] / "datasets"


@dataclass(frozen=True)
class Entry:
    """What is bundled under a name."""

    about: str
    #: Rows of all files of texts together.
    rows: int
    #: File -> SHA-256 (hex), below the folder `datasets`; texts first, in their order.
    files: Mapping[str, str]
    #: What is planted, as JSON: file -> SHA-256.
    truth: Mapping[str, str] = field(default_factory=dict)
    licence: str = "Apache-2.0"


CATALOGUE: Mapping[str, Entry] = {
    "habits": Entry(
        about="two assistants' answers to the same 160 prompts, with twelve planted habits",
        rows=320,
        files={
            "habits/answers_a.jsonl": "ca6e5cb174b5afb76faaa82d44d4018f483aa5a594c204ea4fbb9675ba0e69d1",
            "habits/answers_b.jsonl": "a281e50a696a83686867bab133e8151198abfaba031cb35d2487b5d5d32473bb",
        },
        truth={"habits/truth.json": "ddf656a28b9de9ede8a502a4f346025e9536fd129a1efbb2d20796742e757a3a"},
    ),
    "crossed": Entry(
        about="short English texts, each of four topics in each of four styles",
        rows=224,
        files={"crossed/texts.jsonl": "8af454184aafd331d4b855c05c30a583f7cb9cd65ec42bb85802f17b0c9bdc14"},
    ),
    "crossed_fr_de": Entry(
        about="the same four topics in the same four styles, in French and German",
        rows=128,
        files={"crossed/texts_fr_de.jsonl": "207ee85389f1201abcbd52e11a0af04589514d5abfc0e69baebe547dd094f7b8"},
    ),
    "artefacts": Entry(
        about="instruction data with four planted pairs of things that should not go together",
        rows=240,
        files={"artefacts/train.jsonl": "d508a085be321953446afb81114f8bc3a2d323ba66fbf052f9fa1465f3c54939"},
        truth={"artefacts/truth.json": "082067c673f01b8920d0fa47c14a134e114c6e729c91af7fc63836ac09552dec"},
    ),
}


@dataclass(frozen=True, eq=False, repr=False)
class Dataset(Corpus):
    """A bundled corpus, with what is known of it: `sd.encode` and whatever else takes a Corpus takes it.

    `docs` has one row for each document, `doc_id` and `text` first. `licence` is that of the texts, `about` says
    what they are, `paths` are their files, and `truth` is what was planted in them, if anything was.
    """

    licence: str = ""
    about: str = ""
    paths: tuple[Path, ...] = ()
    truth: Mapping[str, Any] | None = None

    def __repr__(self) -> str:
        return f"Dataset({self.name}: {self.docs.height:,} documents, {self.about}; {self.licence})"

    @property
    def rows(self) -> int:
        """How many documents there are."""
        return self.docs.height


def names() -> list[str]:
    """The names of the bundled data."""
    return list(CATALOGUE)


def load(name: str) -> Dataset:
    """Load bundled data: a corpus with its licence, its files and what was planted in it.

    Ids are those of the files; of "habits", where both assistants answer a prompt of one id, they end in the assistant
    (`p001-A`). Raises InputError, listing the names there are, for another name, and for a file that is missing or is
    not the one that was published (by its SHA-256).
    """
    entry = CATALOGUE.get(name)
    if entry is None:
        raise InputError(f"there is no bundled data '{name}': {choices(name, names())}")
    paths = {file: _checked(file, digest) for file, digest in (*entry.files.items(), *entry.truth.items())}
    texts = tuple(paths[file] for file in entry.files)
    frame = pl.concat([pl.read_ndjson(path) for path in texts])
    if frame["id"].is_duplicated().any():
        frame = frame.select(pl.concat_str("id", "model", separator="-").alias("doc_id"), pl.all())
    corpus = read_corpus(frame)
    truth = next((json.loads(paths[file].read_text(encoding="utf-8")) for file in entry.truth), None)
    read = {part.name: getattr(corpus, part.name) for part in fields(corpus)} | {"name": name}
    return Dataset(**read, licence=entry.licence, about=entry.about, paths=texts, truth=truth)


def _checked(file: str, digest: str) -> Path:
    """Where a bundled file is, once it is known to be the one that was published."""
    path = next((folder / file for folder in (_ASSETS, _CHECKOUT) if (folder / file).is_file()), None)
    if path is None:
        raise InputError(f"the bundled file '{file}' is not here: install saelens_data again")
    if hashlib.sha256(path.read_bytes()).hexdigest() != digest:
        raise InputError(f"'{path}' is not the bundled file, it was changed: install saelens_data again")
    return path
