"""Conversations -> fields: the turns of each document, the text of each field, and where each turn stands in it.

| field | its text |
|---|---|
| `response` | what the assistant says; of a source without conversations, the text |
| `prompt` | what the user says |
| `system` | what the system says |
| `all` | the words of these three, in their order |

The text of a field is the words of its turns, joined by a blank line (two line feeds) and nothing else: no speaker is
named, since a name would be a concept of every document. Turns without words are passed over. Of an answer that has a
conversation for its prompt, what the assistant says in the prompt belongs to `all` alone. Where nobody says anything in
a field its text is null, and the document stays, so that the fields of a corpus have the same rows; only `response` is
as it was read: null where the answer is, and empty for a conversation in which the assistant is silent.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, overload

import numpy as np
import polars as pl

from saelens_data.corpus.chats import FlatTurns, Turn
from saelens_data.corpus.text import Column, as_series
from saelens_data.matrix.fields import DEFAULT_FIELD

#: Roles whose words make each field.
FIELDS = {
    DEFAULT_FIELD: ("assistant",),
    "prompt": ("user",),
    "system": ("system",),
    "all": ("system", "user", "assistant"),
}
#: Who says what is in each field, for people.
SAYS = {DEFAULT_FIELD: "the assistant says", "prompt": "the user says", "system": "the system says", "all": "all say"}
#: Stands between the turns of a field.
BETWEEN = "\n\n"
_DIGEST_TURNS = 8192


class Place(NamedTuple):
    """Where a turn stands in the text of a field: `text[start:end]` is what it says."""

    #: Number of the turn in its document, from 0, turns of all speakers counted.
    turn: int
    start: int
    end: int


@dataclass(frozen=True)
class Conversation:
    """One document: the text of its field, all turns of the conversation, and the places of those in the field.

    A plain text has neither turns nor places.
    """

    text: str | None
    turns: tuple[Turn, ...] = ()
    places: tuple[Place, ...] = ()


@dataclass(frozen=True, eq=False, repr=False)
class Turns(Sequence[tuple[Turn, ...]]):
    """The turns of each document, in their order; `turns[i]` are those of document i, made when they are asked for."""

    #: Turns of document i are ptr[i] to ptr[i + 1] - 1, [documents + 1] int64.
    ptr: np.ndarray
    #: Of each turn, as in `Turn`; String without nulls, String without nulls, bool.
    role: pl.Series
    content: pl.Series
    given: np.ndarray

    def __repr__(self) -> str:
        return f"Turns({len(self):,} documents, {len(self.role):,} turns)"

    def __len__(self) -> int:
        return len(self.ptr) - 1

    @overload
    def __getitem__(self, row: int) -> tuple[Turn, ...]: ...
    @overload
    def __getitem__(self, row: slice) -> list[tuple[Turn, ...]]: ...
    def __getitem__(self, row: int | slice) -> tuple[Turn, ...] | list[tuple[Turn, ...]]:
        if not isinstance(row, slice):
            at = range(len(self))[row]
            return next(self._of(at, at + 1))
        start, stop, step = row.indices(len(self))
        if step == 1:
            return list(self._of(start, max(start, stop)))
        return [self[at] for at in range(start, stop, step)]

    def _of(self, start: int, stop: int) -> Iterator[tuple[Turn, ...]]:
        """The turns of a run of documents, taken out at once."""
        first, last = int(self.ptr[start]), int(self.ptr[stop])
        roles, contents = self.role[first:last].to_list(), self.content[first:last].to_list()
        turns = list(map(Turn, roles, contents, self.given[first:last].tolist()))
        for a, b in zip(self.ptr[start:stop] - first, self.ptr[start + 1 : stop + 1] - first, strict=True):
            yield tuple(turns[a:b])

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of who says what in which order: what numbers depend on that were read in context."""
        hashed = hashlib.sha256(json.dumps(np.diff(self.ptr).tolist()).encode())
        for start in range(0, len(self.role), _DIGEST_TURNS):
            run = slice(start, start + _DIGEST_TURNS)
            block = [self.role[run].to_list(), self.content[run].to_list(), self.given[run].tolist()]
            hashed.update(json.dumps(block, ensure_ascii=False).encode())
        return hashed.hexdigest()

    @cached_property
    def lengths(self) -> np.ndarray:
        """Characters of all turns of each document, [documents] int64."""
        ends = _pointers(self.content.str.len_chars().to_numpy())
        return np.diff(ends[self.ptr])

    @cached_property
    def are_columns(self) -> bool:
        """Whether the columns `system`, `prompt` and `text` say all: one turn of each at most, in this order."""
        ranks = {role: rank for rank, role in enumerate(FIELDS["all"])}
        rank = self.role.replace_strict(ranks, default=-1, return_dtype=pl.Int8).to_numpy()
        first = np.zeros(len(rank), np.bool_)
        first[self.ptr[:-1][np.diff(self.ptr) > 0]] = True
        follows = np.diff(rank, prepend=np.int8(-1)) > 0
        return bool((rank >= 0).all() and (first | follows).all() and not self.given.any())

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """Fields in which somebody says something, and `response` and `all` in any case."""
        return tuple(name for name in FIELDS if name in (DEFAULT_FIELD, "all") or self._has(name).any())

    def text(self, field: str) -> pl.Series:
        """The text of a field of each document; null where nobody says anything in it."""
        doc = np.repeat(np.arange(len(self)), np.diff(self.ptr))
        said = pl.DataFrame({"doc": doc, "text": self.content}).filter(self._has(field))
        joined = said.group_by("doc", maintain_order=True).agg(pl.col("text").str.join(BETWEEN))
        rows = pl.DataFrame({"doc": np.arange(len(self))})
        return rows.join(joined, on="doc", how="left", maintain_order="left")["text"]

    def _has(self, field: str) -> pl.Series:
        """Which turns the text of a field is made of."""
        mask = self.role.is_in(list(FIELDS[field])) & (self.content != "")
        return mask & ~pl.Series(self.given, dtype=pl.Boolean) if field == DEFAULT_FIELD else mask

    @staticmethod
    def of_strings(column: Column, role: str) -> Turns:
        """One turn of this role for each value that is not null."""
        words = as_series("content", column)[0].cast(pl.String)
        there = words.is_not_null().to_numpy()
        n = int(there.sum())
        return Turns(
            _pointers(there), pl.repeat(role, n, dtype=pl.String, eager=True), words.drop_nulls(), np.zeros(n, np.bool_)
        )

    @staticmethod
    def of_conversations(flat: FlatTurns, *, asked: bool) -> Turns:
        """Turns as they were read; those of the assistant are given if the conversation is what was `asked`."""
        # As the text was: a lone surrogate is replaced in both, so that a turn is found in its text.
        role, content = (as_series("turns", column)[0].cast(pl.String) for column in (flat.roles, flat.contents))
        given = (role == "assistant").to_numpy() & asked
        return Turns(_pointers(np.array(flat.counts, np.int64)), role, content, given.astype(np.bool_))

    @staticmethod
    def joined(parts: Sequence[Turns]) -> Turns:
        """For each document the turns of all parts, one part after the other."""
        counts = [np.diff(part.ptr) for part in parts]
        doc = np.concatenate([np.repeat(np.arange(len(count)), count) for count in counts])
        order = np.argsort(doc, kind="stable")
        role, content = (pl.concat([getattr(part, name) for part in parts])[order] for name in ("role", "content"))
        return Turns(
            _pointers(np.sum(counts, axis=0)), role, content, np.concatenate([part.given for part in parts])[order]
        )

    def without(self, docs: np.ndarray) -> Turns:
        """The same, but no turns in the documents of the mask `docs` [documents]."""
        counts = np.diff(self.ptr)
        kept = np.repeat(~docs, counts)
        mask = pl.Series(kept, dtype=pl.Boolean)
        left = np.where(docs, 0, counts)
        return Turns(_pointers(left), self.role.filter(mask), self.content.filter(mask), self.given[kept])

    def with_role(self, role: str) -> np.ndarray:
        """In which documents somebody of this role says something, [documents] bool."""
        says = ((self.role == role) & (self.content != "")).to_numpy()
        doc = np.repeat(np.arange(len(self)), np.diff(self.ptr))
        return np.bincount(doc[says], minlength=len(self)) > 0


def conversation(text: str | None, turns: tuple[Turn, ...], field: str) -> Conversation:
    """A document of a field, with the place of each turn that the text is made of."""
    places, at = [], 0
    for number, turn in enumerate(turns):
        if turn.content and turn.role in FIELDS[field] and not (turn.given and field == DEFAULT_FIELD):
            places.append(Place(number, at, at + len(turn.content)))
            at += len(turn.content) + len(BETWEEN)
    return Conversation(text, turns, tuple(places))


def _pointers(counts: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
