"""The ways to see documents in few dimensions: each returns a basis, an offset, and slopes of what is taken out.

A document's coordinates are x basis - offset - s slopes, with x [chosen] its activations and s [q] its decorrelated
scores along what is unwanted; slopes are None where nothing is. What is taken out is taken out first, so that the
dimensions are those of the rest.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array, diags_array
from scipy.sparse.linalg import LinearOperator, svds

from saelens_data.cluster.subtract import Scores

#: Documents whose reconstructions are held at a time.
BLOCK = 16_384
#: Basis [chosen, r], offset [r], slopes [q, r].
Found = tuple[np.ndarray, np.ndarray, np.ndarray | None]


def reconstruction(X: csr_array, W: np.ndarray, taken: Scores | None, dimensions: int) -> Found:
    """The documents' sums of `W` [chosen, dim], centred, along their first principal components."""
    n, dim = X.shape[0], W.shape[1]
    mean = np.asarray(X.sum(axis=0)).ravel() / n @ W
    spread, shared = np.zeros((dim, dim)), np.zeros((0 if taken is None else taken.S.shape[1], dim))
    for at in range(0, n, BLOCK):
        part = X[at : at + BLOCK] @ W - mean
        spread += part.T @ part
        if taken is not None:
            shared += taken.S[at : at + BLOCK].T @ part
    slopes = shared / n  # the scores are decorrelated, each of variance 1
    values, vectors = np.linalg.eigh(spread - n * slopes.T @ slopes)
    kept = np.flatnonzero(values > values[-1] * 1e-6)[::-1][:dimensions]
    turn = signed(vectors[:, kept])
    return W @ turn, mean @ turn, None if taken is None else slopes @ turn


def svd(X: csr_array, weights: np.ndarray, taken: Scores | None, dimensions: int, seed: int) -> Found:
    """Components of the concepts, each scaled to variance weights^2, centred without ever being dense."""
    n = X.shape[0]
    X = X.astype(np.float64)
    mean = np.asarray(X.sum(axis=0)).ravel() / n
    variance = np.asarray(X.power(2).sum(axis=0)).ravel() / n - mean**2
    scale = np.where(variance > 1e-12 * np.maximum(mean**2, 1e-30), weights / np.sqrt(np.maximum(variance, 1e-30)), 0.0)
    scaled = csr_array(X @ diags_array(scale))
    slopes = None if taken is None else taken.slopes(scaled)
    V, _ = singular(
        scaled, mean * scale, dimensions, seed, None if slopes is None or taken is None else (taken.S, slopes)
    )
    basis = scale[:, None] * V
    return basis, mean @ basis, None if slopes is None else slopes @ V


def graph(X: csr_array, weights: np.ndarray, taken: Scores | None, dimensions: int, seed: int) -> Found:
    """Of A = D1^-1/2 X D2^-1/2 the vectors after the first; documents are D1^-1/2 U = D1^-1 X D2^-1/2 V S^-1.

    The division by a document's degree changes its length alone, which is set to 1 later; so the map stays affine.
    """
    X = csr_array(X.astype(np.float64) @ diags_array(weights))
    by_doc, by_concept = (np.asarray(X.sum(axis=axis)).ravel() for axis in (1, 0))
    across = np.where(by_concept > 0, 1 / np.sqrt(np.maximum(by_concept, 1e-30)), 0.0)
    A = csr_array(diags_array(1 / np.sqrt(by_doc)) @ X @ diags_array(across))
    V, S = singular(A, np.zeros(X.shape[1]), dimensions + 1, seed)
    V, S = V[:, 1:], S[1:]
    basis, offset = weights[:, None] * across[:, None] * V / np.maximum(S, 1e-12), np.zeros(V.shape[1])
    return basis, offset, None if taken is None else taken.slopes(csr_array(X @ diags_array(1 / weights)) @ basis)


def singular(
    X: csr_array,
    mean: np.ndarray,
    dimensions: int,
    seed: int,
    less: tuple[np.ndarray, np.ndarray] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Right singular vectors [columns, r] and values, largest first, of X - mean - S B, never made dense.

    `less` is (S [documents, q], B [q, columns]) or None.
    """
    S, B = less or (np.zeros((X.shape[0], 0)), np.zeros((0, X.shape[1])))
    r = min(dimensions, min(X.shape) - 1)
    if r < 1 or X.shape[1] <= dimensions:  # no larger than the coordinates, and the solver below would leave one out
        _, values, Vt = np.linalg.svd(X.toarray() - mean - S @ B, full_matrices=False)
        kept = max(1, int((values > values[0] * 1e-6).sum()))
        return signed(Vt[:kept].T), values[:kept]
    centred = LinearOperator(
        X.shape,
        matvec=lambda v: X @ v - mean @ v - S @ (B @ v),
        rmatvec=lambda u: X.T @ u - mean * u.sum() - B.T @ (S.T @ u),
        matmat=lambda V: X @ V - mean @ V - S @ (B @ V),
        rmatmat=lambda U: X.T @ U - np.outer(mean, U.sum(axis=0)) - B.T @ (S.T @ U),
        dtype=np.float64,
    )
    start = np.random.default_rng(seed).normal(size=min(X.shape))
    _, values, Vt = svds(centred, k=r, v0=start)
    order = np.argsort(-values, kind="stable")
    return signed(Vt[order].T), values[order]


def signed(vectors: np.ndarray) -> np.ndarray:
    """Each column with its largest number positive, so that a solver's choice of sign is not seen."""
    largest = np.argmax(np.abs(vectors), axis=0)
    return np.asarray(vectors * np.sign(vectors[largest, np.arange(vectors.shape[1])]))
