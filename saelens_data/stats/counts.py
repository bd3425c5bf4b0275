"""Counts of documents in which latents are active: one pass over the non-zeros."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

#: Activations read at once.
_BLOCK = 1 << 20


def count_active(indices: np.ndarray, n_latents: int) -> np.ndarray:
    """Documents in which each latent is active, [n_latents] int64, from the column indices of a CSR matrix."""
    counts = np.zeros(n_latents, dtype=np.int64)
    for start in range(0, len(indices), _BLOCK):  # bincount copies what it reads to int64: keep the copy small
        counts += np.bincount(indices[start : start + _BLOCK], minlength=n_latents)
    return counts


def count_both(X: csr_array, Y: csr_array) -> np.ndarray:
    """Rows in which each latent is active in both matrices, [latents] int64.

    `X` and `Y` [rows, latents] have sorted indices and no stored zeros; row i of one is the partner of row i of the
    other. Their values are not read: a product of two small ones may be 0.
    """
    if X.shape != Y.shape:
        raise ValueError(f"paired matrices: shapes {X.shape} and {Y.shape} differ")
    return count_active(pattern(X).multiply(pattern(Y)).indices, X.shape[1])


def pattern(X: csr_array, dtype: type = np.bool_) -> csr_array:
    """1 where `X` stores anything, whatever it is."""
    return csr_array((np.ones(len(X.indices), dtype=dtype), X.indices, X.indptr), shape=X.shape)


def count_chosen(X: csr_array, chosen: np.ndarray) -> np.ndarray:
    """Documents in which each latent is active within each of several sets, [sets, latents] int32.

    `chosen` [sets, documents] int: how often each set counts a document (1 or 0; -1 takes it away).
    """
    return np.asarray((pattern(X, np.int32).T @ np.ascontiguousarray(chosen.T, dtype=np.int32)).T)
