"""What is kept beside the activations, so that a finding shows its words without running a model again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from saelens_data.matrix.sparse import gather, join_ptr


@dataclass(frozen=True, eq=False)
class Units:
    """The spans or tokens of each document, as character offsets into its text.

    `ptr` [n_docs + 1] int64 delimits the units of document i: `start[ptr[i]:ptr[i+1]]` and `end[...]`.
    """

    ptr: np.ndarray
    start: np.ndarray
    end: np.ndarray

    def __post_init__(self) -> None:
        if not (len(self.start) == len(self.end) == int(self.ptr[-1])):
            raise ValueError(
                f"units: {len(self.start)} starts, {len(self.end)} ends, {int(self.ptr[-1])} expected by ptr"
            )

    def take(self, rows: np.ndarray) -> Units:
        """The units of the documents `rows`, in that order."""
        ptr, index = gather(self.ptr, rows)
        return Units(ptr, self.start[index], self.end[index])


@dataclass(frozen=True, eq=False)
class Evidence:
    """What is kept beside each maximum, aligned with `X.data`.

    `mean` [nnz] float32: mean activation over all units of the document (inactive units count as 0).
    `unit` [nnz] int32: number, within its document, of the unit that holds the maximum (the first, on ties).
    """

    mean: np.ndarray
    unit: np.ndarray
    units: Units

    @staticmethod
    def joined(parts: Sequence[Evidence]) -> Evidence:
        """The evidence of all parts, one part after the other."""
        units = Units(
            join_ptr([p.units.ptr for p in parts]),
            np.concatenate([p.units.start for p in parts]),
            np.concatenate([p.units.end for p in parts]),
        )
        return Evidence(np.concatenate([p.mean for p in parts]), np.concatenate([p.unit for p in parts]), units)
