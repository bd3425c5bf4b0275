"""What is taken out of an axis: where documents lie along what is unwanted, and the least squares that removes it.

Latents of the unwanted axis are not chosen, and the directions that they write are projected out of what the others
write. What the rest still says of the axis in these very documents (French texts use other concepts than English ones,
whatever a decoder's direction says) goes by least squares on the documents' scores along the unwanted axis. Few scores
are enough, and more would take what is wanted along: those of the first principal components that hold a twentieth of
the scores' variance or more, three at most for each unwanted axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

#: Components of the scores that are removed, at most, and the share of their variance that one must hold.
COMPONENTS, LEAST_SHARE = 3, 0.05
_TINY = 1e-12


@dataclass(frozen=True, eq=False)
class Unwanted:
    """An axis to leave out.

    `along` [concepts of the matrix, r] float32: what an activation of 1 of each concept adds to a document's r scores.
    `directions` [r, dim] float32, orthonormal: what its latents write in the reader's space; None if nothing is known.
    """

    name: str
    along: np.ndarray
    directions: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Scores:
    """Decorrelated scores of n documents along what is unwanted: S = X along - mean, [n, q], with S'S = n I."""

    S: np.ndarray
    along: np.ndarray
    mean: np.ndarray

    def slopes(self, Y: np.ndarray | csr_array) -> np.ndarray:
        """Least-squares slopes [q, columns] of the columns of Y [documents, columns], centred or not."""
        return np.asarray((Y.T @ self.S).T / len(self.S))


def scores(X: csr_array, unwanted: Sequence[Unwanted]) -> Scores | None:
    """Scores of the documents X [documents, concepts], mean activations, along all that is unwanted; None for nothing.

    Linear in the non-zeros of X, and [documents, r] in memory.
    """
    if not unwanted or X.shape[0] < 2:
        return None
    along = np.concatenate([_main(X, one.along.astype(np.float64)) for one in unwanted], axis=1)
    S = np.asarray(X @ along)
    mean = S.mean(axis=0)
    values, vectors = np.linalg.eigh((S - mean).T @ (S - mean) / len(S))
    kept = values > max(values[-1] * 1e-6, _TINY) if len(values) else np.zeros(0, bool)
    if not kept.any():
        return None
    whiten = vectors[:, kept] / np.sqrt(values[kept])
    return Scores((S - mean) @ whiten, along @ whiten, mean @ whiten)


def share_of(X: csr_array, along: np.ndarray, everything: np.ndarray) -> float:
    """Variance of the documents' scores along `along` over that along `everything`, both [concepts, any]."""
    return _variance(X, along) / max(_variance(X, everything), _TINY)


def _variance(X: csr_array, along: np.ndarray) -> float:
    S = np.asarray(X @ along)
    return float(S.var(axis=0).sum())


def _main(X: csr_array, along: np.ndarray) -> np.ndarray:
    """The combinations of the scores that are their first principal components in these documents."""
    S = np.asarray(X @ along)
    S -= S.mean(axis=0)
    values, vectors = np.linalg.eigh(S.T @ S)
    total = values.sum()
    if total <= 0:
        return along[:, :0]
    order = np.argsort(-values, kind="stable")[:COMPONENTS]
    return np.asarray(along @ vectors[:, order[values[order] >= LEAST_SHARE * total]])
