"""A store, or a file of texts in its place."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from saelens_data.cli.options import GIVEN
from saelens_data.cli.output import progress_bar, say

if TYPE_CHECKING:
    from saelens_data.corpus import Corpus
    from saelens_data.matrix import ConceptMatrix


def open_or_encode(*sources: str, fields: Sequence[str] = (), **reading: Any) -> list[ConceptMatrix]:
    """Open stores, or encode files of texts into the cache, as `reading_options` or `reading` say.

    A store keeps the encoder it was made with. Each is given in the first of `fields`, from which the others are
    opened, or in that of --field. All are read before the first is encoded, so that a wrong name is found at once and
    not after minutes.
    """
    from saelens_data.corpus import Corpus
    from saelens_data.encode import encode
    from saelens_data.encoders import DEFAULT_ENCODER, check_encoder

    context = click.get_current_context(silent=True)
    given = context.meta.get(GIVEN, {}) if context else {}
    reading = {"encoder": DEFAULT_ENCODER, "dtype": "auto", "field": None, **given, **reading}
    encoder, dtype, field = (reading.pop(name) for name in ("encoder", "dtype", "field"))
    fields = fields or ((field,) if field else ())
    check_encoder(encoder)
    found = []
    for part, source in [(_open_or_read(source, fields, reading), source) for source in sources]:
        if isinstance(part, Corpus):
            with progress_bar(f"encoding {Path(source).name}") as progress:
                found.append(encode(part, encoder=encoder, dtype=dtype, fields=fields, progress=progress))
        else:
            found.append(part)
    return found


def _open_or_read(source: str, fields: Sequence[str], reading: dict[str, Any]) -> ConceptMatrix | Corpus:
    from saelens_data.store import is_store, open_store

    if is_store(source):
        if given := [f"--{option}" for option, value in reading.items() if value is not None]:
            say(f"{source} is a store, already encoded: {' and '.join(given)} can change nothing in it")
        m = open_store(source)
        opened = [m.field(name) for name in fields]
        return opened[0] if opened else m
    from saelens_data.corpus import read_corpus

    corpus = read_corpus(source, **reading)
    for name in reversed(fields):  # all are looked for; the notes are those of the first
        corpus = corpus.field(name)
    for note in corpus.notes:
        say(f"{source}: {note}")
    return corpus
