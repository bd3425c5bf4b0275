"""Fields: the prompt and the answer of the same documents, each a matrix of its own, row for row alike.

A matrix that was opened from a store with several fields knows where the others are. It keeps, for each of its
documents, the row it has there, so that a filtered, reordered or stacked matrix finds the same documents in each field.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Protocol

import numpy as np

from saelens_data.errors import StoreError

if TYPE_CHECKING:
    import polars as pl

    from saelens_data.matrix import ConceptMatrix

#: The field of a store that names none: what the assistant says, or a plain text.
DEFAULT_FIELD = "response"


class FieldSource(Protocol):
    """What holds several fields of the same documents, in the same order."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the fields."""

    @property
    def n_docs(self) -> int:
        """Number of documents of each."""

    def open(self, name: str) -> ConceptMatrix:
        """All documents of a field. Raises StoreError."""


@dataclass(frozen=True, eq=False)
class Beside:
    """Where the documents of a matrix are in sources of fields: `rows` count through all sources, None if all are."""

    sources: tuple[FieldSource, ...]
    rows: np.ndarray | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Fields that all sources have, in the order of the first."""
        first, *others = self.sources
        return tuple(name for name in first.names if all(name in source.names for source in others))

    @property
    def n_docs(self) -> int:
        """Number of documents."""
        return sum(source.n_docs for source in self.sources) if self.rows is None else len(self.rows)

    def take(self, rows: np.ndarray) -> Beside:
        """The documents `rows`, in that order."""
        return replace(self, rows=rows if self.rows is None else self.rows[rows])

    @staticmethod
    def joined(parts: Sequence[Beside | None]) -> Beside | None:
        """The documents of all parts, one part after the other; None if one has no other fields."""
        known = [part for part in parts if part is not None]
        if len(known) < len(parts):
            return None
        rows, before = [], 0
        for part in known:
            rows.append(before + (np.arange(part.n_docs) if part.rows is None else part.rows))
            before += sum(source.n_docs for source in part.sources)
        return Beside(tuple(source for part in known for source in part.sources), np.concatenate(rows))

    def open(self, name: str) -> ConceptMatrix:
        """The same documents of another field, in the same order. Raises StoreError."""
        if len(self.sources) == 1:
            found = self.sources[0].open(name)
            return found if self.rows is None else found.take_docs(self.rows)
        bounds = np.concatenate([[0], np.cumsum([source.n_docs for source in self.sources])])
        rows = np.arange(bounds[-1]) if self.rows is None else self.rows
        place = [np.flatnonzero((rows >= start) & (rows < stop)) for start, stop in pairwise(bounds)]
        parts = [
            source.open(name).take_docs(rows[at] - start)
            for source, at, start in zip(self.sources, place, bounds, strict=False)
        ]
        # Ids are unique among the documents taken, if not among all there are.
        return parts[0].concat(parts).take_docs(np.argsort(np.concatenate(place)))


def field_of(m: ConceptMatrix, name: str, doc_columns: Sequence[str]) -> ConceptMatrix:
    """The documents of `m` in another field of `m.beside`; `doc_columns` are those that a field has of its own.

    The other columns are those of `m`, as are its labels and the way of pooling. Raises StoreError.
    """
    assert m.beside is not None
    found = m.beside.open(name)
    if not found.docs["doc_id"].equals(m.docs["doc_id"]):
        raise StoreError(
            f"the fields '{m.source.field}' and '{name}' do not hold the same documents: encode both again"
        )
    docs = m.docs.with_columns(found.docs[column] for column in doc_columns if column in found.docs.columns)
    if "text" in m.docs.columns and m.source.field not in docs.columns:
        docs = docs.with_columns(m.docs["text"].alias(m.source.field))
    keeper = found.keeper
    if m.source.pooling == "mean":
        found, keeper = found.pooled("mean"), None
    concepts = _labelled(found.concepts, m.concepts)
    labelled = replace(found, docs=docs, concepts=concepts, beside=m.beside, label_table=m.label_table)
    return labelled.backed(keeper)


def _labelled(concepts: pl.DataFrame, by: pl.DataFrame) -> pl.DataFrame:
    """The concepts of a field, described as those of another that may have fewer."""
    if concepts["latent"].equals(by["latent"]):
        return by
    known = by.select(column for column in by.columns if column in concepts.columns)
    return concepts.update(known, on="latent", how="left", include_nulls=True)
