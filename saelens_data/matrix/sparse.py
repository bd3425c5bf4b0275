"""Sparse rows as arrays: data, indices, and the pointers that delimit each row."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_array


def canonical_csr(data: np.ndarray, indices: np.ndarray, indptr: np.ndarray, shape: tuple[int, int]) -> csr_array:
    """A read-only csr_array over these very arrays, whose rows are known to be sorted and distinct.

    Nothing is scanned, so arrays mapped from disk stay unread. The two index arrays get one dtype,
    int32 unless one of them needs int64.
    """
    wide = len(data) > np.iinfo(np.int32).max or indices.dtype == np.int64
    X = csr_array(shape, dtype=data.dtype)
    index = (array.astype(np.int64 if wide else np.int32, copy=False) for array in (indices, indptr))
    X.data, X.indices, X.indptr = (read_only(array) for array in (data, *index))
    X.has_canonical_format = True
    return X


def read_only(array: np.ndarray) -> np.ndarray:
    """A view that cannot be written into."""
    view = array.view()
    view.flags.writeable = False
    return view


def join_ptr(parts: Sequence[np.ndarray]) -> np.ndarray:
    """The pointers of rows that are put one part after the other."""
    counts = np.concatenate([np.diff(np.asarray(p, dtype=np.int64)) for p in parts])
    return np.concatenate([[0], np.cumsum(counts)])


def gather(ptr: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """New ptr and the positions of the entries of `rows`, without a Python loop."""
    start = ptr[rows].astype(np.int64)
    counts = ptr[rows + 1] - start
    new = np.zeros(len(rows) + 1, dtype=np.int64)
    np.cumsum(counts, out=new[1:])
    index = np.arange(new[-1], dtype=np.int64) + np.repeat(start - new[:-1], counts)
    return new, index
