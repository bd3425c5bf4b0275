"""From coordinates, or from which concepts documents share, to clusters: scikit-learn's methods, seeded."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from scipy.sparse import csr_array

from saelens_data.errors import InputError
from saelens_data.wording import count

Method = Literal["kmeans", "hdbscan", "spectral"]
METHODS: tuple[str, ...] = get_args(Method)
#: Starts of k-means, of which the best stays.
STARTS = 10
#: Of more documents than this k-means starts on a part of them, and every document is then moved to convergence.
_START_ON = 10_000
#: Bytes that the similarities of the spectral method may take: 20,000 documents.
MOST_BYTES = 3_200_000_000
#: Rows of similarities computed at a time.
_BLOCK = 1_024


@dataclass(frozen=True, eq=False)
class Clusters:
    """`labels` [assigned] int64, the cluster of each document, -1 for one that HDBSCAN leaves out as noise.

    `membership` [assigned] float32 from 0, on the border with another cluster, to 1. `centres` [clusters, r] float32:
    the mean coordinates of each cluster's documents.
    """

    labels: np.ndarray
    membership: np.ndarray
    centres: np.ndarray

    @property
    def k(self) -> int:
        """Number of clusters."""
        return len(self.centres)

    @property
    def sizes(self) -> np.ndarray:
        """Documents of each cluster."""
        return np.bincount(self.labels[self.labels >= 0], minlength=self.k)


def kmeans(Z: np.ndarray, k: int, *, seed: int = 0, starts: int = STARTS) -> Clusters:
    """K-means (Lloyd 1982, k-means++ starts) on coordinates [documents, r]; the best of `starts` starts."""
    _check_k(k, len(Z))
    if len(Z) > _START_ON:
        part = np.sort(np.random.default_rng(seed).choice(len(Z), _START_ON, replace=False))
        _, first = lloyd(Z[part], k, seed=seed, starts=starts)
        labels, _ = lloyd(Z, len(first), start=first)
    else:
        labels, _ = lloyd(Z, k, seed=seed, starts=starts)
    return by_size(Z, labels)


def lloyd(
    Z: np.ndarray, k: int, *, seed: int = 0, starts: int = 1, start: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Labels [documents] int64 and centres [k, r] of scikit-learn's k-means, from `start` or the best of `starts`.

    Where fewer than k documents differ, fewer clusters have documents.
    """
    from sklearn.cluster import KMeans  # noqa: PLC0415
    from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415

    begin = {"init": start, "n_init": 1} if start is not None else {"n_init": starts, "random_state": seed}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # it warns of equal documents, of which a note tells
        found = KMeans(k, **begin).fit(Z)
    return found.labels_.astype(np.int64), found.cluster_centers_


def hdbscan(Z: np.ndarray, *, least: int) -> Clusters:
    """HDBSCAN (Campello et al. 2013) with clusters of at least `least` documents; the number of clusters is its own.

    Raises InputError if it finds no cluster.
    """
    from sklearn.cluster import HDBSCAN  # noqa: PLC0415

    if not 2 <= least <= len(Z):
        raise InputError(
            f"clusters of at least {least} documents asked for, and {len(Z):,} can be grouped: give 2 to {len(Z):,}"
        )
    found = HDBSCAN(min_cluster_size=least, copy=True).fit(Z)
    labels = found.labels_.astype(np.int64)
    if labels.max() < 0:
        raise InputError(
            f"hdbscan finds no cluster of {least} or more documents that is denser than what lies around it: "
            "try a smaller --least, or -k with kmeans"
        )
    clusters = by_size(Z, labels)
    return Clusters(clusters.labels, found.probabilities_.astype(np.float32), clusters.centres)


def spectral(X: csr_array, Z: np.ndarray, k: int, *, seed: int = 0) -> Clusters:
    """The paper's method: documents are alike by the Jaccard index of their active concepts; spectral clustering.

    `X` [documents, chosen] with the same rows as `Z`. All similarities are held, 8 bytes each. Raises InputError where
    they would take more than `MOST_BYTES`.
    """
    from sklearn.cluster import SpectralClustering  # noqa: PLC0415

    n = X.shape[0]
    _check_k(k, n)
    if (need := 8 * n * n) > MOST_BYTES:
        raise InputError(
            f"the spectral method compares all pairs of {n:,} documents, which takes {need / 1e9:,.1f} GB; it is made "
            f"for at most {int((MOST_BYTES / 8) ** 0.5):,}: take kmeans, or fewer documents with --limit"
        )
    model = SpectralClustering(k, affinity="precomputed", random_state=seed, assign_labels="kmeans", n_init=STARTS)
    return by_size(Z, model.fit_predict(jaccard(X)).astype(np.int64))


def jaccard(X: csr_array) -> np.ndarray:
    """Active concepts that two documents share, as a share of those that either has, [documents, documents] float64.

    Exact: counts from a sparse product, a block of rows at a time.
    """
    pattern = csr_array((np.ones(X.nnz), X.indices, X.indptr), shape=X.shape)
    across, size = csr_array(pattern.T), np.diff(X.indptr).astype(np.float64)
    out = np.empty((X.shape[0], X.shape[0]))
    for at in range(0, X.shape[0], _BLOCK):
        shared = (pattern[at : at + _BLOCK] @ across).toarray()
        either = size[at : at + _BLOCK, None] + size[None, :] - shared
        out[at : at + _BLOCK] = np.divide(shared, either, out=np.zeros_like(shared), where=either > 0)
    return out


def by_size(Z: np.ndarray, labels: np.ndarray) -> Clusters:
    """Clusters numbered from the largest on (equal ones by the first document), with centres and membership."""
    present, first, size = np.unique(labels[labels >= 0], return_index=True, return_counts=True)
    order = present[np.lexsort((first, -size))]
    number = np.full(int(labels.max()) + 1, -1, dtype=np.int64)
    number[order] = np.arange(len(order))
    labels = np.where(labels >= 0, number[labels], -1)
    centres = means(Z, labels, len(order))
    return Clusters(labels, membership(Z, labels, centres), centres)


def means(Z: np.ndarray, labels: np.ndarray, k: int) -> np.ndarray:
    """Mean coordinates of each cluster, [k, r] float32."""
    there = np.flatnonzero(labels >= 0)
    member = csr_array((np.ones(len(there)), (labels[there], there)), shape=(k, len(Z)))
    size = np.maximum(np.bincount(labels[there], minlength=k), 1)
    return np.asarray((member @ Z.astype(np.float64)) / size[:, None], dtype=np.float32)


def nearest(Z: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """The number of the nearest centre, [documents] int64."""
    return np.asarray(distances(Z, centres).argmin(axis=1), dtype=np.int64)


def membership(Z: np.ndarray, labels: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """1 - distance to the own centre / distance to the nearest other, 0 at least and for documents in no cluster.

    [documents] float32; 1 where there is one cluster.
    """
    far = distances(Z, centres)
    at = np.arange(len(Z))
    own = far[at, np.maximum(labels, 0)].copy()
    far[at, np.maximum(labels, 0)] = np.inf
    other = far.min(axis=1) if centres.shape[0] > 1 else np.full(len(Z), np.inf)
    found = np.where(other > 0, 1 - own / np.maximum(other, 1e-12), 0.0)
    return np.where(labels >= 0, np.clip(found, 0.0, 1.0), 0.0).astype(np.float32)


def distances(Z: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Euclidean distances [documents, centres] float32."""
    squared = (Z**2).sum(axis=1)[:, None] + (centres**2).sum(axis=1)[None, :] - 2 * Z @ centres.T
    return np.asarray(np.sqrt(np.maximum(squared, 0.0)))


def _check_k(k: int, n: int) -> None:
    if k < 2:
        raise InputError(f"{count(k, 'cluster')} asked for: give 2 or more")
    if k > n:
        raise InputError(f"{k} clusters asked for, and only {n:,} documents can be grouped: give fewer")
