"""Which columns hold the text, the prompt and the conversation: layouts of chats and evals, and guesses.

What is done with a source is described in `corpus`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import polars as pl

from saelens_data.corpus.chats import is_chat, speak
from saelens_data.corpus.fields import FIELDS, SAYS, Turns
from saelens_data.corpus.text import Column, Table, as_series
from saelens_data.errors import InputError

#: Columns taken for ids, the first that is there and fits.
ID_COLUMNS = ("doc_id", "id", "uid", "uuid", "question_id", "conversation_id", "conversation_hash", "comment_id")
_PROMPTS = ("prompt", "question", "instruction", "query", "input")
_ANSWERS = ("response", "answer", "completion", "output", "generation", "generated_text", "model_output", "reply")
_TEXTS = (
    *("content", "body", "document", "tweet", "review", "comment", "sentence", "message", "post", "article"),
    *("comment_text",),
    *("abstract", "summary", "description", "passage", "utterance", "prompt", "question", "instruction", "query"),
)
#: A column is guessed to hold the text if its strings are this many times longer than those of any other.
_CLEARLY_LONGER = 3
#: Columns beside a conversation that may hold what the system says.
_SYSTEMS = ("system", "system_prompt", "system_message")


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
    #: Whether a row holds two answers, each in a column of its own, of which the first is read.
    two: bool = False


#: The layouts that are recognised; the first that fits is taken.
LAYOUTS = (
    Layout("arena-hard", ("messages",), needs=("uid",), chat=True),
    Layout("openai", ("messages",), chat=True),
    Layout("sharegpt", ("conversations",), chat=True),
    Layout("lmsys", ("conversation",), chat=True),
    Layout("arena-pairs", ("conversation_a", "conversation_b"), chat=True, two=True),
    Layout("chat", ("chat", "dialogue", "dialog"), chat=True),
    Layout("choices", ("choices",), chat=True),
    Layout("alpaca-eval", ("output",), prompt=("instruction",), needs=("generator",)),
    Layout("alpaca-eval-pairs", ("output_1", "output_2"), prompt=("instruction",), two=True),
    Layout("instruction", _ANSWERS, prompt=("instruction",), context=("input", "context")),
    Layout("prompt-response", _ANSWERS, prompt=_PROMPTS),
    Layout("text", ("text", *_ANSWERS, *_TEXTS)),
)


@dataclass(frozen=True, eq=False)
class Found:
    """The text of a table, and what was made with it."""

    schema: str
    text: Column
    #: `prompt` and `system`, where known.
    made: Mapping[str, Column]
    #: Columns of the source that are the text or the prompt now.
    used: frozenset[str]
    notes: tuple[str, ...]
    #: Who said what, if the text is of conversations or answers a prompt.
    turns: Turns | None = None


def recognise(table: Table, source: str) -> Found:
    """The text of a table whose columns nobody named. Raises InputError if it cannot be told."""
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


def named(table: Table, text: str) -> Found:
    """The layout that takes the column `text` for its text, else that column alone."""
    for layout in LAYOUTS:
        if text.lower() in layout.text and (found := _fit(replace(layout, text=(text,)), table)):
            return found
    if not _is_words(table.columns[text]):
        raise InputError(f"the column '{text}' holds no text but {_kind(table.columns[text])}; {_has(table)}")
    return _found("chat" if is_chat(table.columns[text]) else "text", table, text)


def _fit(layout: Layout, table: Table) -> Found | None:
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
    found = _found(layout.name, table, text, prompt, context)
    if layout.two and len(layout.text) > 1:
        other = next((name for name in layout.text if name != text.lower()), text)
        more = f"a row holds two answers, of which '{text}' was read: --text {other} (text=) reads the other"
        found = replace(found, notes=(*found.notes, more))
    return found


def _found(schema: str, table: Table, text: str, prompt: str | None = None, context: Sequence[str] = ()) -> Found:
    made, turns, notes = _said(table.as_text(text), "text")
    read = f"read as {schema}: the text is {'what the assistant says in ' if turns else ''}'{text}'"
    if prompt is None:
        read += ", the prompt what the user says" if "prompt" in made else ""
        if turns and "prompt" in made and not any(made["text"]):
            notes = (*notes, f"the assistant says nothing in '{text}': --field prompt (field=) reads the user")
    else:
        asked, before, more = _said(table.as_text(prompt), "prompt")
        beside = [table.as_text(name) for name in context]
        made = {"text": made["text"], **asked, "prompt": _join([asked["prompt"], *beside])}
        notes += more
        read += f", the prompt '{prompt}'" + "".join(f" and '{name}'" for name in context)
        parts = [before, *(Turns.of_strings(column, "user") for column in beside)] if before else []
        before = Turns.joined(parts) if parts else Turns.of_strings(made["prompt"], "user")
        if turns:  # a response that tells the whole conversation repeats the prompt
            before = before.without(turns.with_role("user"))
        turns = Turns.joined([before, turns or Turns.of_strings(made["text"], "assistant")])
    used = frozenset({text} if prompt is None else {text, prompt})
    if turns and "system" not in made and (system := _system(table, used)) is not None:
        turns = Turns.joined([Turns.of_strings(system, "system"), turns])
    return Found(schema, made.pop("text"), made, used, (read, *notes), turns)


def _system(table: Table, used: frozenset[str]) -> Column | None:
    """A column of what the system says, beside a conversation."""
    names = {name.lower(): name for name in reversed(list(table.columns)) if name not in used}
    found = (table.as_text(names[name]) for name in _SYSTEMS if name in names)
    return next((column for column in found if _is_text(column)), None)


def _said(column: Column, part: str) -> tuple[dict[str, Column], Turns | None, tuple[str, ...]]:
    """The words of a column, of strings as `part`, of conversations by who said them; their turns; and notes."""
    if not is_chat(column):
        return {part: column}, None, ()
    asked = part == "prompt"
    said, flat, notes = speak(column, "user" if asked else "assistant")
    kept: dict[str, Column] = {name: words for name, words in said.items() if name != "text" or not asked}
    return {part: [None] * len(column), **kept}, Turns.of_conversations(flat, asked=asked), notes


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


def field_hint(table: Table, asked: str) -> str:
    """What to write instead where somebody asks for a field of conversations as if it were a column."""
    found = next(filter(None, (_fit(layout, table) for layout in LAYOUTS)), None) if asked in FIELDS else None
    if found is None or found.turns is None or asked not in found.turns.fields:
        return ""
    return f", but what {SAYS[asked]} is a field: --field {asked} (field=) reads it"
