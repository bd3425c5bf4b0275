"""Any source of text -> one table of documents: `doc_id`, `text`, often `prompt`, and the other columns of the source.

Layouts of chats and evals are recognised by their columns (`layouts`). Of a conversation, the text is what the
assistant said, all turns joined by a blank line; `prompt` is what the user said, joined likewise, and `system` the
system's words, if any; turns of tools are left out, with a note. The columns that became the text and the prompt are
there under these names only; all others stay. If no layout fits, the text is the only column of strings, or the one
with by far the longest, with a note.

Of conversations, and of prompts with responses, all turns are kept in their order (`Corpus.turns`), and
`Corpus.field("prompt")` is the same documents with another **field** for their text: `fields` says which there
are and how a text is made of turns. Words of a column `system`, `system_prompt` or `system_message` come first, unless
a conversation has a system of its own.

- A column that is named but missing is an error that lists those there are; so is a text that is not made of strings.
- Null and empty texts are kept as they are and counted in a note. A conversation without an assistant has an empty one.
- Ids come from the column `id=`, in which nulls and duplicates are errors; else from the first of `ID_COLUMNS` that is
  there, has neither (one that has is passed over, with a note) and holds strings or integers; else they are the numbers
  of the rows, "000001" and so on. The column they come from stays.
- A column of the source whose name is needed (`doc_id`, `text`, `n_units`, `n_tokens`, `error`; also `prompt` and
  `system` if they are made) gets the suffix `_source`, with a note.
- A source without rows is a corpus of no documents, with a note.

What is read, and what is repaired on the way, is written down in `formats`.
"""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import dataclass, replace
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import polars as pl

from saelens_data.corpus.fields import FIELDS, SAYS, Conversation, Turns, conversation
from saelens_data.corpus.formats import name_of, read_frame, read_pandas, read_path
from saelens_data.corpus.layouts import ID_COLUMNS, Found, field_hint, named, recognise
from saelens_data.corpus.text import Column, Table, as_series
from saelens_data.errors import InputError, choices
from saelens_data.matrix import DOC_COLUMNS
from saelens_data.matrix.fields import DEFAULT_FIELD

_DIGEST_ROWS = 8192


@dataclass(frozen=True, eq=False, repr=False)
class Corpus:
    """Documents, and what was done to read them."""

    #: One row for each document: `doc_id` (unique strings), `text`, `prompt` and `system` where known, the others.
    docs: pl.DataFrame
    #: What was recognised, repaired, renamed or passed over; sentences for the user.
    notes: tuple[str, ...]
    #: Name of the source: that of the file without its suffixes, or "frame".
    name: str
    #: Name of the layout that was recognised; "empty" where there are no documents.
    schema: str
    #: The turns of each document; None for plain texts.
    turns: Turns | None = None
    #: Which field of the conversations `text` is.
    field_name: str = DEFAULT_FIELD
    #: The text of the field "response" where `text` is that of another.
    response: pl.Series | None = None

    def __repr__(self) -> str:
        of = "" if self.field_name == DEFAULT_FIELD else f", field {self.field_name}"
        return f"Corpus({self.name}: {self.docs.height:,} documents, {self.schema}{of})"

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the fields there are: "response" alone for plain texts, all of them without documents."""
        if not self.docs.height:
            return tuple(FIELDS)
        return (DEFAULT_FIELD,) if self.turns is None else self.turns.fields

    def field(self, name: str) -> Corpus:
        """The same documents with the text of another field, as `corpus/fields.py` describes them.

        What the assistant says is then the column `response`, unless the source has one of that name. Raises
        InputError, listing the fields there are, for one that the source lacks.
        """
        if name == self.field_name:
            return self
        if name not in self.fields:
            plain = "" if self.turns else f" (its documents are plain texts, of {self.schema!r} layout)"
            column = f"; a column of that name is read with --text {name} (text=)" if name in self.docs.columns else ""
            raise InputError(f"'{self.name}' has no field '{name}'{plain}: {choices(name, self.fields)}{column}")
        response = self.docs["text"] if self.response is None else self.response
        text = response if name == DEFAULT_FIELD or self.turns is None else self.turns.text(name)
        docs = self.docs.with_columns(text.alias("text"))
        if DEFAULT_FIELD not in docs.columns and self.field_name == DEFAULT_FIELD:
            docs = docs.with_columns(response.alias(DEFAULT_FIELD))
        stale = _missing_texts(self.docs["text"])
        notes = [note for note in self.notes if note not in stale]
        notes.append(f"field {name}: the text is what {SAYS[name]}")
        notes += _missing_texts(docs["text"])
        return replace(self, docs=docs, notes=tuple(notes), field_name=name, response=response)

    def conversations(self, start: int = 0, stop: int | None = None) -> list[Conversation]:
        """The documents from row `start` up to `stop`, each with its turns and their places in the text."""
        texts = self.docs["text"][start:stop].to_list()
        if self.turns is None:
            return list(map(Conversation, texts))
        turns = self.turns[start : start + len(texts)]
        return [conversation(*both, self.field_name) for both in zip(texts, turns, strict=True)]

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of the names, order and values of the columns, whatever they were read from.

        Hashed is, for each column and each block of 8,192 rows, the JSON text of [name, number of the first row,
        values], in UTF-8, with sorted keys, no escapes and the separators of `json.dumps`. What JSON lacks is written
        as by `str`, bytes as hex. Types of one spelling (integers of any width) are not told apart. A field other
        than "response" is hashed first, as ["field", name].
        """
        hashed = hashlib.sha256()
        if self.field_name != DEFAULT_FIELD:
            hashed.update(json.dumps(["field", self.field_name]).encode())
        for column in self.docs.iter_columns():
            for start in range(0, column.len(), _DIGEST_ROWS):
                block = [column.name, start, column.slice(start, _DIGEST_ROWS).to_list()]
                hashed.update(json.dumps(block, ensure_ascii=False, sort_keys=True, default=_spelled).encode())
        return hashed.hexdigest()


def _spelled(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


def read_corpus(
    source: str | PathLike[str] | pl.DataFrame | pl.LazyFrame | Any,
    *,
    text: str | None = None,
    id: str | None = None,  # noqa: A002 - the name the command line has
    limit: int | None = None,
    field: str | None = None,
) -> Corpus:
    """Read documents from a file, a folder, or a Polars or pandas frame.

    `text` names the column of the text (strings or conversations), `id` the column of unique ids; both are recognised
    if they are not given. Only the first `limit` documents are read. `field` names the field of conversations that
    becomes the text, as `Corpus.field` has it. Raises InputError, in one sentence, for whatever cannot be read as the
    module describes.
    """
    if limit is not None and limit < 1:
        raise InputError(f"the limit is {limit}: give 1 or more documents")
    table, name = _read(source, None if limit is None else min(limit, sys.maxsize))
    if not table.height:
        docs = pl.DataFrame(schema={"doc_id": pl.String, "text": pl.String})
        corpus = Corpus(docs, (*table.notes, f"'{name}' holds no documents"), name, "empty")
    else:
        corpus = _corpus(table, name, text, id)
    return corpus if field is None else corpus.field(field)


def _corpus(table: Table, name: str, text: str | None, id_: str | None) -> Corpus:
    for asked, option in ((text, "text"), (id_, "id")):
        if asked is not None and asked not in table.columns:
            told = field_hint(table, asked) if option == "text" else ""
            raise InputError(
                f"there is no column '{asked}' in '{name}' ({option}){told}; {choices(asked, table.columns)}"
            )
    found = named(table, text) if text else recognise(table, name)
    ids, id_notes = _explicit_ids(table, id_) if id_ else _found_ids(table)
    docs, notes = _assemble(table, found, ids)
    return Corpus(docs, (*table.notes, *found.notes, *id_notes, *notes), name, found.schema, found.turns)


def _read(source: Any, limit: int | None) -> tuple[Table, str]:
    if isinstance(source, str | PathLike):
        if not str(source).strip():  # as from an unset variable; it must not mean the current folder
            raise InputError("the path of the texts is empty: name a file or a folder")
        path = Path(source).expanduser()
        return read_path(path, limit), name_of(path)
    if isinstance(source, pl.LazyFrame):
        return read_frame((source if limit is None else source.head(limit)).collect()), "frame"
    if isinstance(source, pl.DataFrame):
        return read_frame(source if limit is None else source.head(limit)), "frame"
    pandas = sys.modules.get("pandas")  # whoever has such a frame has imported it
    if pandas is not None and isinstance(source, pandas.DataFrame):
        return read_pandas(source.iloc[:limit]), "frame"
    raise InputError(f"cannot read documents from a {type(source).__name__}: give a path, or a Polars or pandas frame")


# Ids and the other columns


def _explicit_ids(table: Table, name: str) -> tuple[pl.Series, tuple[str, ...]]:
    """The ids of the column `name`, still named after it."""
    ids = as_series(name, table.as_text(name))[0]
    if problem := _id_problem(ids):
        raise InputError(
            f"the column '{name}' cannot be the ids, because {problem}: leave it out to number the documents"
        )
    return ids.cast(pl.String), ()


def _found_ids(table: Table) -> tuple[pl.Series, tuple[str, ...]]:
    """The ids of the first column that serves, else the numbers of the rows; and notes on columns that do not serve."""
    names = {name.lower(): name for name in reversed(list(table.columns))}
    notes: list[str] = []
    for name in (names[candidate] for candidate in ID_COLUMNS if candidate in names):
        ids = as_series(name, table.as_text(name))[0]
        problem = _id_problem(ids)
        if problem is None:
            return ids.cast(pl.String), tuple(notes)
        notes.append(f"the column '{name}' was not taken for ids, because {problem}")
    numbers: pl.Series = pl.int_range(1, table.height + 1, eager=True).cast(pl.String).str.zfill(6)
    return numbers, tuple(notes)


def _id_problem(ids: pl.Series) -> str | None:
    """Why these values cannot be ids, if they cannot."""
    if not (ids.dtype in (pl.String, pl.Categorical, pl.Enum) or ids.dtype.is_integer()):
        return f"it holds {ids.dtype}"
    ids = ids.cast(pl.String)
    if (missing := ids.fill_null("") == "").any():
        return f"row {missing.arg_true()[0] + 1} has none"
    if (repeated := ~ids.is_first_distinct()).any():
        second = repeated.arg_true()[0]
        return f"'{ids[second]}' is in rows {(ids == ids[second]).arg_true()[0] + 1} and {second + 1}"
    return None


def _assemble(table: Table, found: Found, ids: pl.Series) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """The documents, and notes on what their columns needed."""
    text, notes = as_series("text", found.text)
    columns = {"doc_id": ids.alias("doc_id"), "text": text.cast(pl.String)}
    sources: dict[str, Column] = dict(found.made)
    for name, column in table.columns.items():
        if name in found.used or name == ids.name == "doc_id":
            continue
        new = name
        while new in columns or new in sources or new in DOC_COLUMNS:
            new += "_source"
        sources[new] = column
        if new != name:
            notes += (f"the column '{name}' was renamed '{new}', because its name is needed",)
    for name, column in sources.items():
        columns[name], more = as_series(name, column)
        notes += more
    docs = pl.DataFrame(list(columns.values()))
    return docs, (*notes, *_missing_texts(docs["text"]))


def _missing_texts(text: pl.Series) -> tuple[str, ...]:
    counts = {"null": text.null_count(), "empty": int((text.str.strip_chars() == "").sum())}
    found = " and ".join(f"{n:,} {kind}" for kind, n in counts.items() if n)
    return (f"of {len(text):,} texts, {found}: they are kept, and no concept is active in them",) if found else ()
