"""Least squares of many sparse outcomes on a few covariates, with errors that do not assume equal variances."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.sparse import csr_array
from scipy.special import stdtrit

from saelens_data.stats.intervals import LEVEL

#: Share of a column's length below which what is left of it counts as rounding.
_COLLINEAR = 1e-7
#: Non-zeros turned into doubles at once.
_BLOCK = 1 << 20


def regression(
    Y: csr_array, W: np.ndarray, *, clusters: np.ndarray | None = None, level: float = LEVEL
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Coefficient of the first column of `W` in the least squares of each column of `Y` on `W`: (estimate, low, high).

    `Y` [rows, latents] sparse, `W` [rows, columns] float; columns of W that follow from others are dropped. The
    interval is that of Student's t with n - k degrees of freedom and HC3 errors (MacKinnon & White 1985, J. Econom.
    29:305-325), which let the variance differ from row to row, as that of a 0/1 outcome does. With `clusters` [rows],
    integers that rows of one cluster share, errors may also be correlated within a cluster: CR1 errors and clusters - 1
    degrees of freedom (Cameron & Miller 2015, J. Hum. Resour. 50:317-372, eq. 11-12). NaN where the first column
    follows from the others, no row is left over or there is one cluster only.

    With E an orthonormal basis of W led by what the others leave of the first (Frisch & Waugh 1933), b = E'y and e the
    leading column, both variances are quadratic in b, so that only products with Y are needed.
    """
    E, length = _basis(W)
    (n, k), free = E.shape, E.shape[0] - E.shape[1]
    if clusters is not None:
        clusters = np.unique(clusters, return_inverse=True)[1]
        free = int(clusters.max(initial=-1))
    if length == 0 or n <= k or free < 1:
        return (np.full(Y.shape[1], np.nan),) * 3
    b, variance = _hc3(Y, E) if clusters is None else _cr1(Y, E, clusters)
    estimate = b / length
    half = stdtrit(free, 0.5 + level / 2) * np.sqrt(np.maximum(variance, 0.0)) / length
    return estimate, estimate - half, estimate + half


def _basis(W: np.ndarray) -> tuple[np.ndarray, float]:
    """An orthonormal basis of the columns of W, led by what the others leave of the first, and the length of that."""
    rest = W[:, 1:] / np.maximum(np.linalg.norm(W[:, 1:], axis=0), np.finfo(float).tiny)
    U, size, _ = np.linalg.svd(rest, full_matrices=False)
    U = U[:, size > _COLLINEAR]
    own = W[:, 0] - U @ (U.T @ W[:, 0])
    length = float(np.linalg.norm(own))
    if length <= _COLLINEAR * np.linalg.norm(W[:, 0]):
        return U, 0.0
    return np.column_stack([own / length, U]), length


def _hc3(Y: csr_array, E: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """b of the leading column and its variance: sum v (y - E b)^2, v = (e / (1 - leverage))^2."""
    spare = 1 - np.einsum("ij,ij->i", E, E)
    exact = spare < _COLLINEAR  # such a row has no residual
    v = np.where(exact, 0.0, E[:, 0] / np.where(exact, 1.0, spare)) ** 2
    k, right = E.shape[1], np.column_stack([E, v[:, None] * E])
    found, squares = np.zeros((2 * k, Y.shape[1])), np.zeros(Y.shape[1])
    for rows in _blocks(np.diff(Y.indptr)):
        block = Y[rows].astype(np.float64)
        found += (block.T @ right[rows]).T
        block.data **= 2
        squares += block.T @ v[rows]
    return _sum_of_squares(found[:k], squares, found[k:], E.T @ (v[:, None] * E))


def _cr1(Y: csr_array, E: np.ndarray, clusters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """b of the leading column and its variance: sum over clusters of (sum e (y - E b))^2, times the CR1 factor."""
    (n, k), order = E.shape, np.argsort(clusters, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(clusters[order])) + 1, n)
    starts, filled = np.append(0, ends[:-1]), np.append(0, np.cumsum(np.diff(Y.indptr)[order]))
    M = np.add.reduceat((E[:, :1] * E)[order], starts)
    b, cross, squares = np.zeros((k, Y.shape[1])), np.zeros((k, Y.shape[1])), np.zeros(Y.shape[1])
    for part in _blocks(filled[ends] - filled[starts]):
        first, rows = starts[part.start], order[starts[part.start] : ends[part.stop - 1]]
        block = Y[rows].astype(np.float64)
        b += (block.T @ E[rows]).T
        ptr = np.append(starts[part], ends[part.stop - 1]) - first
        scores = csr_array((E[rows, 0], np.arange(len(rows)), ptr), shape=(len(ptr) - 1, len(rows))) @ block
        cross += (scores.T @ M[part]).T
        scores.data **= 2
        squares += scores.sum(axis=0)
    factor = len(ends) / (len(ends) - 1) * (n - 1) / (n - k)
    leading, variance = _sum_of_squares(b, squares, cross, M.T @ M)
    return leading, factor * variance


def _sum_of_squares(
    b: np.ndarray, squares: np.ndarray, cross: np.ndarray, gram: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """b of the leading column, and squares - 2 b'cross + b'gram b for each latent."""
    return b[0], squares - 2 * (b * cross).sum(axis=0) + (b * (gram @ b)).sum(axis=0)


def _blocks(sizes: np.ndarray) -> Iterator[slice]:
    """Consecutive parts that hold about `_BLOCK` non-zeros each, a part at least."""
    ends = np.cumsum(sizes)
    cuts = np.searchsorted(ends, np.arange(_BLOCK, ends[-1] + _BLOCK, _BLOCK), side="left") + 1
    start = 0
    for stop in np.unique(np.minimum(np.append(cuts, len(sizes)), len(sizes))):
        yield slice(start, int(stop))
        start = int(stop)
