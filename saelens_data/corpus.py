"""Any source of text -> one table of documents: `doc_id`, `text`, often `prompt`, and the other columns of the source.

Layouts of chats and evals are recognised by their columns (`LAYOUTS`). Of a conversation, the text is what the
assistant said, all turns joined by a blank line; `prompt` is what the user said, joined likewise, and `system` the
system's words, if any; turns of tools are left out, with a note. The columns that became the text and the prompt are
there under these names only; all others stay. If no layout fits, the text is the only column of strings, or the one
with by far the longest, with a note.

- A column that is named but missing is an error that lists those there are; so is a text that is not made of strings.
- Null and empty texts are kept as they are and counted in a note. A conversation without an assistant has an empty one.
- Ids come from the column `id=`, in which nulls and duplicates are errors; else from the first of `ID_COLUMNS` that is
  there, has neither (one that has is passed over, with a note) and holds strings or integers; else they are the numbers
  of the rows, "000001" and so on. The column they come from stays.
- A column of the source whose name is needed (`doc_id`, `text`, `n_units`, `n_tokens`, `error`; also `prompt` and
  `system` if they are made) gets the suffix `_source`, with a note.
- A source without rows is a corpus of no documents, with a note.

What is read, and what is repaired on the way, is written down in `corpus_formats`.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import Any

import polars as pl

from saelens_data.corpus_chats import is_chat, speak
from saelens_data.corpus_formats import name_of, read_frame, read_pandas, read_path
from saelens_data.corpus_text import Column, Table, as_series
from saelens_data.errors import InputError, choices
from saelens_data.matrix import DOC_COLUMNS

#: Columns taken for ids, the first that is there and fits.
ID_COLUMNS = ("doc_id", "id", "uid", "uuid", "question_id", "conversation_id")
_PROMPTS = ("prompt", "question", "instruction", "query", "input")
_ANSWERS = ("response", "answer", "completion", "output", "generation", "generated_text", "model_output", "reply")
_TEXTS = (
    *("content", "body", "document", "tweet", "review", "comment", "sentence", "message", "post", "article"),
    *("abstract", "summary", "description", "passage", "utterance", "prompt", "question", "instruction", "query"),
)
#: A column is guessed to hold the text if its strings are this many times longer than those of any other.
_CLEARLY_LONGER = 3
_DIGEST_ROWS = 8192


@dataclass(frozen=True)
class Layout:
    """How a kind of file lays out its text. Column names are compared without regard to case."""

    #: Name in `Corpus.schema`.
    name: str
    #: Columns that may hold the text, best first: strings or conversations.
    text: tuple[str, ...]
    #: Columns that may hold what was asked, best first; one must be there, unless none is named.
    prompt: tuple[str, ...] = ()
    #: Columns whose words belong to the prompt, where they are not empty.
    context: tuple[str, ...] = ()
    #: Further columns that must be there.
    needs: tuple[str, ...] = ()
    #: Whether the text must be a conversation.
    chat: bool = False


#: The layouts that are recognised; the first that fits is taken.
LAYOUTS = (
    Layout("arena-hard", ("messages",), needs=("uid",), chat=True),
    Layout("openai", ("messages",), chat=True),
    Layout("sharegpt", ("conversations",), chat=True),
    Layout("lmsys", ("conversation",), chat=True),
    Layout("chat", ("chat", "dialogue", "dialog"), chat=True),
    Layout("choices", ("choices",), chat=True),
    Layout("alpaca-eval", ("output",), prompt=("instruction",), needs=("generator",)),
    Layout("instruction", _ANSWERS, prompt=("instruction",), context=("input", "context")),
    Layout("prompt-response", _ANSWERS, prompt=_PROMPTS),
    Layout("text", ("text", *_ANSWERS, *_TEXTS)),
)


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

    def __repr__(self) -> str:
        return f"Corpus({self.name}: {self.docs.height:,} documents, {self.schema})"

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of the names, order and values of the columns, whatever they were read from.

        Hashed is, for each column and each block of 8,192 rows, the JSON text of [name, number of the first row,
        values], in UTF-8, with sorted keys, no escapes and the separators of `json.dumps`. What JSON lacks is written
        as by `str`, bytes as hex. Types of one spelling (integers of any width) are not told apart.
        """
        hashed = hashlib.sha256()
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
) -> Corpus:
    """Read documents from a file, a folder, or a Polars or pandas frame.

    `text` names the column of the text (strings or conversations), `id` the column of unique ids; both are recognised
    if they are not given. Only the first `limit` documents are read. Raises InputError, in one sentence, for whatever
    cannot be read as the module describes.
    """
    if limit is not None and limit < 1:
        raise InputError(f"the limit is {limit}: give 1 or more documents")
    table, name = _read(source, None if limit is None else min(limit, sys.maxsize))
    if not table.height:
        docs = pl.DataFrame(schema={"doc_id": pl.String, "text": pl.String})
        return Corpus(docs, (*table.notes, f"'{name}' holds no documents"), name, "empty")
    for asked, option in ((text, "text"), (id, "id")):
        if asked is not None and asked not in table.columns:
            raise InputError(f"there is no column '{asked}' in '{name}' ({option}); {choices(asked, table.columns)}")
    found = _named(table, text) if text else _recognise(table, name)
    ids, id_notes = _explicit_ids(table, id) if id else _found_ids(table)
    docs, notes = _assemble(table, found, ids)
    return Corpus(docs, (*table.notes, *found.notes, *id_notes, *notes), name, found.schema)


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


# Which column holds the text


@dataclass(frozen=True, eq=False)
class _Found:
    """The text of a table, and what was made with it."""

    schema: str
    text: Column
    #: `prompt` and `system`, where known.
    made: Mapping[str, Column]
    #: Columns of the source that are the text or the prompt now.
    used: frozenset[str]
    notes: tuple[str, ...]


def _recognise(table: Table, source: str) -> _Found:
    for layout in LAYOUTS:
        if found := _fit(layout, table):
            return found
    if guess := _longest(table):
        found = _found("text", table, guess)
        return replace(found, notes=(*found.notes, f"'{guess}' was guessed: choose another with --text (text=)"))
    if not any(_is_words(column) for column in table.columns.values()):
        raise InputError(f"no column of '{source}' holds text: give a source that has one; {_has(table)}")
    raise InputError(
        f"cannot tell which column of '{source}' holds the text: name it with --text (text=); {_has(table)}"
    )


def _named(table: Table, text: str) -> _Found:
    """The layout that takes the column `text` for its text, else that column alone."""
    for layout in LAYOUTS:
        if text.lower() in layout.text and (found := _fit(replace(layout, text=(text,)), table)):
            return found
    if not _is_words(table.columns[text]):
        raise InputError(f"the column '{text}' holds no text but {_kind(table.columns[text])}; {_has(table)}")
    return _found("chat" if is_chat(table.columns[text]) else "text", table, text)


def _fit(layout: Layout, table: Table) -> _Found | None:
    """The text and the prompt of `table` if it has this layout."""
    names = {name.lower(): name for name in reversed(list(table.columns))}

    def first(wanted: tuple[str, ...], fits: Callable[[Column], bool]) -> str | None:
        here = (names[w.lower()] for w in wanted if w.lower() in names)
        return next((name for name in here if fits(table.as_text(name))), None)

    text = first(layout.text, is_chat if layout.chat else _is_words)
    prompt = first(layout.prompt, _is_words)
    if text is None or (layout.prompt and prompt is None) or not names.keys() >= set(layout.needs):
        return None
    context = [names[c] for c in layout.context if c in names and _is_text(table.as_text(names[c]))]
    return _found(layout.name, table, text, prompt, context)


def _found(schema: str, table: Table, text: str, prompt: str | None = None, context: Sequence[str] = ()) -> _Found:
    made, notes = _said(table.as_text(text), "text")
    of = "what the assistant says in " if is_chat(table.as_text(text)) else ""
    read = f"read as {schema}: the text is {of}'{text}'"
    if prompt is None:
        read += ", the prompt what the user says" if "prompt" in made else ""
    else:
        asked, more = _said(table.as_text(prompt), "prompt")
        made = {"text": made["text"], **asked, "prompt": _join([asked["prompt"], *map(table.as_text, context)])}
        notes += more
        read += f", the prompt '{prompt}'" + "".join(f" and '{name}'" for name in context)
    used = frozenset({text} if prompt is None else {text, prompt})
    return _Found(schema, made.pop("text"), made, used, (read, *notes))


def _said(column: Column, part: str) -> tuple[dict[str, Column], tuple[str, ...]]:
    """The words of a column, of strings as `part`, of conversations by who said them; and notes."""
    if not is_chat(column):
        return {part: column}, ()
    said, notes = speak(column, part)
    kept: dict[str, Column] = {name: words for name, words in said.items() if name != "text" or part == "text"}
    return {part: [None] * len(column), **kept}, notes


def _join(columns: Sequence[Column]) -> Column:
    """The words of several columns, row by row, joined by a blank line where there is more than one."""
    if len(columns) == 1:
        return columns[0]
    rows = zip(*columns, strict=True)
    return [None if row[0] is None else "\n\n".join(filter(None, row)) for row in rows]


def _longest(table: Table) -> str | None:
    """The only column of strings, or the one whose strings are clearly the longest on average, if there is one."""
    sizes = {
        name: float(as_series(name, column)[0].cast(pl.String).str.len_chars().mean() or 0)  # type: ignore[arg-type]
        for name, column in table.columns.items()
        if _is_text(column) and name.lower() not in ID_COLUMNS
    }
    names = sorted(sizes, key=lambda name: -sizes[name])
    clear = len(names) == 1 or (len(names) > 1 and sizes[names[0]] > _CLEARLY_LONGER * sizes[names[1]])
    return names[0] if clear else None


def _is_text(column: Column) -> bool:
    if isinstance(column, list):
        return all(value is None or isinstance(value, str) for value in column)
    return column.dtype in (pl.String, pl.Categorical, pl.Enum, pl.Null)


def _is_words(column: Column) -> bool:
    return _is_text(column) or is_chat(column)


def _kind(column: Column) -> str:
    if isinstance(column, pl.Series):
        return str(column.dtype)
    return " and ".join(sorted({type(value).__name__ for value in column if value is not None}))


def _has(table: Table) -> str:
    """The columns there are, for a message."""
    columns = [f"{name} ({_kind(column)})" for name, column in islice(table.columns.items(), 12)]
    return f"columns: {', '.join(columns)}"


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


def _assemble(table: Table, found: _Found, ids: pl.Series) -> tuple[pl.DataFrame, tuple[str, ...]]:
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
