"""The activations of a concept matrix by latent: which documents a latent is active in, and how strongly."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array

#: Activations sorted at once; what is in memory follows this number, whatever the size of the matrix.
ENTRIES = 1 << 22
#: Activations read at once.
_BLOCK = 1 << 21


@dataclass(frozen=True, eq=False)
class ByLatent:
    """`X` of a ConceptMatrix in compressed sparse columns, with the means beside it.

    `ptr` [latents + 1] int64: the activations of column j are `ptr[j]` to `ptr[j + 1] - 1` of the others, [nnz]:
    `rows` int32, numbers of documents, ascending for each latent; `maximum` float32, the values of `X`;
    `mean` float32 as in `Evidence`, None where the matrix has no evidence.
    Raises ValueError for parts of other lengths.
    """

    ptr: np.ndarray
    rows: np.ndarray
    maximum: np.ndarray
    mean: np.ndarray | None

    def __post_init__(self) -> None:
        for name, part in (("rows", self.rows), ("maximum", self.maximum), ("mean", self.mean)):
            if part is not None and len(part) != self.ptr[-1]:
                raise ValueError(f"by latent: {len(part)} {name}, {self.ptr[-1]} expected by ptr")


#: Told a name ("indices" or one of the values) and [start, stop), gives those activations of the matrix by document.
Read = Callable[[str, int, int], np.ndarray]


@dataclass(frozen=True, eq=False)
class Columns:
    """Activations by document that are handed out by latent, some at a time, from wherever `read` finds them.

    A counting sort that makes one pass over the activations for each `entries` of them, so it writes in order and
    needs no room on the disk or in memory beside them. `indptr` [documents + 1] delimits the rows.
    """

    indptr: np.ndarray
    read: Read
    n_latents: int
    entries: int = ENTRIES

    def pointers(self) -> np.ndarray:
        """Where each column begins, [latents + 1] int64."""
        counts = np.zeros(self.n_latents, np.int64)
        for start, stop in self._blocks():
            counts += np.bincount(self.read("indices", start, stop), minlength=self.n_latents)
        return np.concatenate([[0], np.cumsum(counts)])

    def pieces(self, ptr: np.ndarray, values: tuple[str, ...]) -> Iterator[dict[str, np.ndarray]]:
        """`rows` and the values of some columns, then of those after them, and so on to the last."""
        first = 0
        while first < self.n_latents and ptr[-1]:
            stop = max(first + 1, int(np.searchsorted(ptr, ptr[first] + self.entries, side="right")) - 1)
            yield self._sorted(first, stop, values)
            first = stop

    def _sorted(self, first: int, stop: int, values: tuple[str, ...]) -> dict[str, np.ndarray]:
        found: dict[str, list[np.ndarray]] = {name: [] for name in ("latent", "rows", *values)}
        for a, b in self._blocks():
            latent = self.read("indices", a, b) - first
            kept = np.flatnonzero((latent >= 0) & (latent < stop - first))
            found["latent"].append(latent[kept])
            found["rows"].append(self._rows(a, b)[kept])
            for name in values:
                found[name].append(self.read(name, a, b)[kept])
        joined = {name: np.concatenate(parts) for name, parts in found.items()}
        number = np.arange(len(joined["rows"]), dtype=np.int32)
        shape = (len(self.indptr) - 1, stop - first)
        order = coo_array((number, (joined["rows"], joined["latent"])), shape=shape).tocsc().data
        return {name: joined[name][order] for name in ("rows", *values)}

    def _rows(self, start: int, stop: int) -> np.ndarray:
        """The document of each activation."""
        first, last = np.searchsorted(self.indptr, [start, stop - 1], side="right") - 1
        bounds = np.clip(self.indptr[first : last + 2], start, stop)
        return np.repeat(np.arange(first, last + 1, dtype=np.int32), np.diff(bounds))

    def _blocks(self) -> Iterator[tuple[int, int]]:
        nnz = int(self.indptr[-1])
        return ((start, min(start + _BLOCK, nnz)) for start in range(0, nnz, _BLOCK))


def in_memory(columns: Columns, values: tuple[str, ...]) -> ByLatent:
    """All columns; `values` is ("max", "mean"), or ("max",) where there are no means."""
    ptr = columns.pointers()
    empty: dict[str, np.ndarray] = {"rows": np.empty(0, np.int32)} | dict.fromkeys(values, np.empty(0, np.float32))
    found = [empty, *columns.pieces(ptr, values)]
    rows, maximum, *mean = (np.concatenate([piece[name] for piece in found]) for name in ("rows", *values))
    for array in (ptr, rows, maximum, *mean):
        array.flags.writeable = False
    return ByLatent(ptr, rows, maximum, mean[0] if mean else None)
