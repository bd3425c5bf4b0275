"""A store, or a file of texts in its place."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from saelens_data.cli.options import GIVEN
from saelens_data.cli.output import progress_bar, say
from saelens_data.errors import InputError, choices

if TYPE_CHECKING:
    from saelens_data.corpus import Corpus
    from saelens_data.matrix import ConceptMatrix

#: Columns that a document has once it is encoded.
MADE = ("n_units", "n_tokens", "error")


def open_or_encode(
    *sources: str, fields: Sequence[str] = (), columns: Sequence[str | None] = (), **reading: Any
) -> list[ConceptMatrix]:
    """Open stores, or encode files of texts into the cache, as `reading_options` or `reading` say.

    A store keeps the encoder it was made with. Each is given in the first of `fields`, from which the others are
    opened, or in that of --field. All are read before the first is encoded, so that a wrong name, or one of `columns`
    that is not there, is found at once and not after minutes.
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
    read = [(_open_or_read(source, fields, reading), source) for source in sources]
    for part, source in read:
        if isinstance(part, Corpus):
            _check_columns(part, source, columns)
    found = []
    for part, source in read:
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

    corpus = refuse_empty(read_corpus(source, **reading), source)
    for name in reversed(fields):  # all are looked for; the notes are those of the first
        corpus = corpus.field(name)
    for note in corpus.notes:
        say(f"{source}: {note}")
    return corpus


def refuse_empty(corpus: Corpus, source: str) -> Corpus:
    """The corpus, unless it has no documents: InputError then."""
    if not corpus.docs.height:
        raise InputError(f"'{source}' holds no documents: give a file with texts in it")
    return corpus


def check_order(command: str, store: str, words: str | None) -> None:
    """Raise InputError where words were given first and the file they are looked up in second."""
    if words and Path(words).exists() and not Path(store).exists():
        raise InputError(f'the file comes first, then the words: saelens-data {command} {words} "{store}"')


def _check_columns(corpus: Corpus, source: str, columns: Sequence[str | None]) -> None:
    known = [*corpus.docs.columns, *(name for name in MADE if name not in corpus.docs.columns)]
    for name in filter(None, columns):
        if name not in known:
            raise InputError(f"there is no column '{name}' in '{source}'; {choices(name, known)}")
