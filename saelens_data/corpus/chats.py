"""Conversations -> who said what, turn by turn.

A conversation is a list of turns, or the JSON (or Python) text of one. A turn is an object with a speaker (`role`,
`from` or `speaker`) and words; words are a string, a list of parts, of which those with text count, or an object that
holds them. Of a list of `choices`, the first counts. Speakers of many names become the roles "assistant", "user" and
"system"; all others, such as tools, keep their name, and what they say is in no field.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import polars as pl

from saelens_data.corpus.text import Column

_SPEAKER_KEYS = ("role", "from", "speaker")
#: How many values of a column tell what it holds.
_LOOK_AT = 100
_WORD_KEYS = ("content", "value", "answer", "text", "parts")
_ROLES = {
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "model", "bot", "ai", "bing", "bard"), "assistant"),
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("system", "developer"), "system"),
}
#: Column of the words of each role, in the order of the columns.
_COLUMNS = {"text": "assistant", "prompt": "user", "system": "system"}


@dataclass(frozen=True, slots=True)
class Turn:
    """What one speaker said before another spoke."""

    #: "system", "user" or "assistant"; another speaker by his own name.
    role: str
    #: His words, "" for a turn without any.
    content: str
    #: Said by the assistant in what was asked, so that it is context and not response.
    given: bool = False


@dataclass
class FlatTurns:
    """Turns of many conversations, one after the other: `counts` of each conversation, `roles`, `contents`."""

    counts: list[int] = field(default_factory=list)
    roles: list[str] = field(default_factory=list)
    contents: list[str] = field(default_factory=list)

    def add(self, turns: Iterable[tuple[str, str]]) -> None:
        """Append a conversation of (role, words)."""
        before = len(self.roles)
        for role, words in turns:
            self.roles.append(role)
            self.contents.append(words)
        self.counts.append(len(self.roles) - before)


def is_chat(column: Column) -> bool:
    """Whether a column holds conversations, by its first values: some list is one, or all of its strings are."""
    if isinstance(column, pl.Series):
        column = column.drop_nulls().head(_LOOK_AT).to_list() if column.dtype in (pl.String, pl.List, pl.Array) else []
    values = list(islice((value for value in column if value), _LOOK_AT))
    lists = [value for value in values if isinstance(value, list)]
    if lists:
        return any(_turns(value) is not None for value in lists)
    return bool(values) and all(_turns(value) is not None for value in values)


def speak(column: Column, plain: str) -> tuple[dict[str, list[str | None]], FlatTurns, tuple[str, ...]]:
    """What each conversation says, as `text` (the assistant), `prompt` (the user) and `system`; its turns; and notes.

    Turns of one speaker are joined by a blank line. A string that is no conversation is one turn of the role `plain`.
    `text` is null where there is neither, and empty for a conversation without an assistant; `prompt` and `system` are
    null where nothing was said, and left out if so everywhere.
    """
    said: dict[str, list[str | None]] = {name: [] for name in _COLUMNS}
    flat = FlatTurns()
    strange = silent = 0
    for value in column.to_list() if isinstance(column, pl.Series) else column:
        turns = _turns(value)
        if turns is None and isinstance(value, str):
            turns = [(plain, value)]
        strange += turns is None and value is not None
        silent += sum(not words or role not in _COLUMNS.values() for role, words in turns or ())
        for name, texts in said.items():
            words = "\n\n".join(words for role, words in turns or () if role == _COLUMNS[name] and words)
            texts.append(words or ("" if turns is not None and name == "text" else None))
        flat.add(turns or ())
    kept = {name: texts for name, texts in said.items() if name == "text" or any(texts)}
    notes = []
    if silent:
        notes.append(f"turns of tools or without words, left out: {silent:,}")
    if strange:
        notes.append(f"rows without a conversation, whose text is null: {strange:,}")
    return kept, flat, tuple(notes)


def _turns(value: Any) -> list[tuple[str, str]] | None:
    """(role, words) of each turn, or None if `value` is no conversation."""
    if isinstance(value, str):
        value = _parsed(value)
    if not isinstance(value, list) or not all(isinstance(turn, dict) for turn in value):
        return None
    if value and ("turns" in value[0] or "message" in value[0]):
        return [("assistant", _words(turn)) for turn in value[0].get("turns") or [value[0].get("message")]]
    if value and not _role(value[0]):
        return None
    return [(_role(turn), _words(turn)) for turn in value]


def _parsed(text: str) -> Any:
    if not text.lstrip().startswith("[{"):
        return None
    for parse in (json.loads, ast.literal_eval):  # frames written as csv spell conversations as Python does
        try:
            return parse(text)
        except (ValueError, SyntaxError, RecursionError):
            continue
    return None


def _role(turn: dict[str, Any]) -> str:
    """Who speaks; an unknown speaker by his own name, "" if there is none."""
    speaker = next((str(turn[key]) for key in _SPEAKER_KEYS if turn.get(key)), "")
    return _ROLES.get(speaker.lower(), speaker)


def _words(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "\n".join(filter(None, map(_words, value)))
    if isinstance(value, dict):
        return next(filter(None, (_words(value.get(key)) for key in _WORD_KEYS)), "")
    return ""
