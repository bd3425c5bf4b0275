"""What is paired: concepts of documents, or values of a column, as who holds what in compressed columns and rows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
from scipy.sparse import csc_array, csr_array

from saelens_data.encoders import decoder_of
from saelens_data.encoders.meaning import meanings
from saelens_data.matrix import ConceptMatrix
from saelens_data.stats import count_active

#: What counts as a word of a label.
_WORD = re.compile(r"[^\W\d_]{2,}")


@dataclass(frozen=True, eq=False)
class Side:
    """One side of the pairs. Columns lie from the most frequent to the rarest, those without documents left out.

    `held` [documents, columns] csr of ones; `columns` the column of the matrix (or the number of the value) that each
    stands for; `names` what to call it; `m` the concepts' matrix, None for values.
    """

    held: csr_array
    columns: np.ndarray
    names: pl.Series
    m: ConceptMatrix | None = None

    @classmethod
    def of_concepts(cls, m: ConceptMatrix) -> Side:
        """The concepts of a matrix that are active in any document."""
        names = m.concepts["label"] if "label" in m.concepts.columns else pl.Series([None] * m.n_concepts)
        return cls._ordered(m.X.indices, m.X.indptr, names.cast(pl.String), m)

    @classmethod
    def of_values(cls, values: pl.Series) -> Side:
        """The values of a column, [documents]; null belongs to none."""
        names = values.drop_nulls().unique().sort()
        code = values.replace_strict(names, np.arange(len(names)), default=None, return_dtype=pl.Int32)
        indptr = np.concatenate([[0], np.cumsum(code.is_not_null().to_numpy())])
        return cls._ordered(code.drop_nulls().to_numpy(), indptr, names.cast(pl.String), None)

    @classmethod
    def _ordered(cls, indices: np.ndarray, indptr: np.ndarray, names: pl.Series, m: ConceptMatrix | None) -> Side:
        support = count_active(indices, len(names))
        columns = np.argsort(-support, kind="stable")[: int((support > 0).sum())]
        place = np.full(len(names), -1, dtype=np.int32)
        place[columns] = np.arange(len(columns), dtype=np.int32)
        held = csr_array(
            (np.ones(len(indices), dtype=np.int8), place[indices], np.asarray(indptr, dtype=np.int64)),
            shape=(len(indptr) - 1, len(columns)),
        )
        held.sort_indices()
        return cls(held, columns, names[columns], m)

    def __len__(self) -> int:
        return len(self.columns)

    @cached_property
    def by_column(self) -> csc_array:
        """The same by column: rows ascending."""
        found = self.held.tocsc()
        found.sort_indices()
        return found

    @cached_property
    def support(self) -> np.ndarray:
        """Documents that hold each, [columns] int64, falling."""
        return np.asarray(np.diff(self.by_column.indptr), dtype=np.int64)

    def rows(self, column: int) -> np.ndarray:
        """The documents that hold a column, ascending."""
        c = self.by_column
        return np.asarray(c.indices[c.indptr[column] : c.indptr[column + 1]])

    def within(self, stratum: np.ndarray, n_strata: int) -> np.ndarray:
        """Documents of each stratum that hold each column, [strata, columns] int32."""
        member = csr_array(
            (np.ones(len(stratum), dtype=np.int32), (stratum, np.arange(len(stratum)))), (n_strata, len(stratum))
        )
        return np.asarray((member @ self.held.astype(np.int32)).toarray())

    def pruned(self, keep: np.ndarray) -> Side:
        """Only the columns of this mask."""
        if keep.all():
            return self
        at = np.flatnonzero(keep)
        held = csr_array(self.held[:, at])
        held.sort_indices()
        return Side(held, self.columns[at], self.names[at], self.m)

    def taken(self, rows: np.ndarray) -> Side:
        """The documents at these places, in this order, each column where it is."""
        held = csr_array(self.held[rows])
        held.sort_indices()
        return Side(held, self.columns, self.names, self.m)

    @cached_property
    def directions(self) -> np.ndarray | None:
        """What each concept writes, [columns, dimensions] of length 1; None if that is not at hand."""
        found = decoder_of(self.m) if self.m is not None else None
        return None if found is None else found[self.columns]

    @cached_property
    def meanings(self) -> np.ndarray | None:
        """What each concept is about, [columns, dimensions] of length 1; None if that is not at hand."""
        found = meanings(self.m.source) if self.m is not None else None
        latents = None if self.m is None else self.m.concepts["latent"].to_numpy()
        if found is None or latents is None or latents.max(initial=0) >= len(found):
            return None
        return np.asarray(found[latents[self.columns]])

    @cached_property
    def units(self) -> csr_array | None:
        """The units that hold the maxima, [units, columns] csr of ones; None if that was not kept."""
        if self.m is None or (evidence := self.m.evidence) is None:
            return None
        X = self.m.X
        place = np.full(self.m.n_concepts, -1, dtype=np.int32)
        place[self.columns] = np.arange(len(self.columns), dtype=np.int32)
        column = place[X.indices]
        kept = column >= 0
        row = np.repeat(np.arange(X.shape[0]), np.diff(X.indptr))[kept]
        unit = evidence.units.ptr[row] + evidence.unit[kept]
        shape = (len(evidence.units.start), len(self.columns))
        found = csr_array((np.ones(len(unit), dtype=np.int32), (unit, column[kept])), shape=shape)
        found.sort_indices()
        return found


def label_words(*sides: Side) -> list[csr_array]:
    """The words of each side's names, [columns, words] csr with rows of length 1; rare words weigh more."""
    texts = [[set(_WORD.findall((name or "").lower())) for name in side.names.to_list()] for side in sides]
    vocabulary = {word: i for i, word in enumerate(sorted(set().union(*(words for side in texts for words in side))))}
    number = np.zeros(len(vocabulary))
    for words in (words for side in texts for words in side):
        for word in words:
            number[vocabulary[word]] += 1
    weight = np.log((1 + sum(map(len, texts))) / (1 + number)) + 1
    return [_weighted(side, vocabulary, weight) for side in texts]


def _weighted(texts: Sequence[set[str]], vocabulary: dict[str, int], weight: np.ndarray) -> csr_array:
    indices = [sorted(vocabulary[word] for word in words) for words in texts]
    flat = np.array([i for row in indices for i in row], dtype=np.int64)
    indptr = np.concatenate([[0], np.cumsum([len(row) for row in indices])]).astype(np.int64)
    data = weight[flat] if len(flat) else np.zeros(0)
    found = csr_array((data, flat, indptr), shape=(len(texts), max(len(vocabulary), 1)))
    length = np.sqrt(found.multiply(found).sum(axis=1))
    found.data = found.data / np.repeat(np.where(length > 0, length, 1), np.diff(indptr))
    return csr_array(found.astype(np.float32))


def length_of(m: ConceptMatrix) -> np.ndarray | None:
    """Units of each document, or characters where units are not known; None if neither is."""
    if "n_units" in m.docs.columns and not m.docs["n_units"].null_count():
        return m.docs["n_units"].to_numpy()
    if "text" in m.docs.columns and not m.docs["text"].null_count():
        return m.docs["text"].str.len_chars().to_numpy()
    return None


def ones(columns: csc_array, start: int, stop: int, dtype: type = np.int64) -> csr_array:
    """Some columns of a csc array as the rows of a csr array of ones."""
    ptr = columns.indptr[start : stop + 1]
    rows = columns.indices[ptr[0] : ptr[-1]]
    return csr_array((np.ones(len(rows), dtype), rows, ptr - ptr[0]), shape=(stop - start, columns.shape[0]))
