"""How far clusters can be trusted: do they come again, are they apart, do they agree with what is known, do they leak.

Numbers are ones that chance cannot raise: ARI (Hubert & Arabie 1985) is 0 for clusters drawn at random, and what a
column gains by the clusters is counted beyond what its most frequent value gives.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

#: Times that documents are drawn again, the share drawn, and the most of them.
DRAWS, SHARE, MOST = 10, 0.8, 5_000
#: Documents that a silhouette is computed from.
SAMPLE = 2_000
#: Groups some of the documents, by their positions, into labels: (positions, seed) -> labels [positions].
Grouping = Callable[[np.ndarray, int], np.ndarray]


@dataclass(frozen=True, eq=False)
class Stability:
    """How much of the clusters comes again when they are made of a part of the documents.

    `ari` mean adjusted Rand index with the clusters of all, over draws; `by_cluster` [clusters] mean over draws of the
    Jaccard index with the cluster most like it (Hennig 2007, Cluster-wise assessment of cluster stability).
    """

    ari: float
    by_cluster: np.ndarray


def stability(labels: np.ndarray, group: Grouping, *, seed: int = 0, draws: int = DRAWS, most: int = MOST) -> Stability:
    """Group parts of the documents, `SHARE` of them and at most `most`, again, and compare with `labels`."""
    from sklearn.metrics import adjusted_rand_score  # noqa: PLC0415

    n, k = len(labels), int(labels.max()) + 1
    rng = np.random.default_rng(seed)
    ari, by_cluster = [], []
    for draw in range(draws):
        part = np.sort(rng.choice(n, min(max(2, round(SHARE * n)), most), replace=False))
        again = group(part, seed + draw)
        ari.append(adjusted_rand_score(labels[part], again))
        by_cluster.append(_best_jaccard(labels[part], again, k))
    seen = np.ma.masked_invalid(np.stack(by_cluster))
    return Stability(float(np.mean(ari)), np.asarray(seen.mean(axis=0).filled(np.nan)))


def _best_jaccard(labels: np.ndarray, again: np.ndarray, k: int) -> np.ndarray:
    """Of each cluster the largest Jaccard index with one of `again`; NaN for one without documents here."""
    shared = crossed(labels, again, k, max(int(again.max()) + 1, 1))
    own = np.bincount(labels[labels >= 0], minlength=k)
    other = np.bincount(again[again >= 0], minlength=shared.shape[1])
    either = own[:, None] + other[None, :] - shared
    best = (shared / np.maximum(either, 1)).max(axis=1)
    return np.where(own > 0, best, np.nan)


def silhouette(Z: np.ndarray, labels: np.ndarray, *, seed: int = 0) -> float:
    """Mean silhouette width (Rousseeuw 1987) by cosine distance, of a sample in large sets; NaN for one cluster."""
    from sklearn.metrics import silhouette_score  # noqa: PLC0415

    there = np.flatnonzero(labels >= 0)
    if len(there) > SAMPLE:
        there = np.sort(np.random.default_rng(seed).choice(there, SAMPLE, replace=False))
    found = len(np.unique(labels[there]))
    if not 2 <= found < len(there):
        return float("nan")
    return float(silhouette_score(Z[there], labels[there], metric="cosine"))


@dataclass(frozen=True)
class Agreement:
    """Clusters against the values of a column, over documents that have both.

    `accuracy`: share of documents right when each cluster stands for one value of its own, matched for the most
    (Hungarian method); `nmi`: mutual information over the mean of both entropies; `ari`: adjusted Rand index.
    `predicted`: share of documents right when each cluster stands for its most frequent value, and `gain`, the same
    beyond chance: (predicted - majority) / (1 - majority), `majority` being the share of the most frequent value; 0
    where clusters say nothing of the column, 1 where they give it away.
    """

    n: int
    values: int
    accuracy: float
    nmi: float
    ari: float
    predicted: float
    majority: float
    gain: float


def agreement(labels: np.ndarray, codes: np.ndarray) -> Agreement:
    """Compare clusters [documents] with the codes [documents] of a column's values; -1 in either is left out."""
    from scipy.optimize import linear_sum_assignment  # noqa: PLC0415
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score  # noqa: PLC0415

    there = (labels >= 0) & (codes >= 0)
    labels, codes = labels[there], codes[there]
    n = int(there.sum())
    values = len(np.unique(codes))
    if not n:
        return Agreement(0, 0, *[float("nan")] * 6)
    table = crossed(labels, codes, int(labels.max()) + 1, int(codes.max()) + 1)
    one, other = linear_sum_assignment(-table)
    predicted, majority = table.max(axis=1).sum() / n, np.bincount(codes).max() / n
    return Agreement(
        n,
        values,
        float(table[one, other].sum() / n),
        float(normalized_mutual_info_score(codes, labels)),
        float(adjusted_rand_score(codes, labels)),
        float(predicted),
        float(majority),
        float((predicted - majority) / (1 - majority)) if majority < 1 else 0.0,
    )


def crossed(one: np.ndarray, other: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Documents of each pair of codes, [rows, columns] int64; codes below 0 are left out."""
    there = (one >= 0) & (other >= 0)
    return np.bincount(one[there] * columns + other[there], minlength=rows * columns).reshape(rows, columns)


def explained(scores: np.ndarray, labels: np.ndarray) -> float:
    """Share of the variance of `scores` [documents, directions] that lies between the clusters, beyond chance.

    Omega squared, the sum of squares between clusters less k - 1 times the mean square within them, over the total plus
    that mean square, directions summed; 0 at least. Documents in no cluster are left out; NaN where nothing varies.
    """
    there = labels >= 0
    scores, labels = scores[there].astype(np.float64), labels[there]
    present, labels = np.unique(labels, return_inverse=True)
    k, n = len(present), len(labels)
    scores = scores - scores.mean(axis=0)
    total = float((scores**2).sum())
    if n <= k or total <= 0:
        return float("nan")
    sums = np.zeros((k, scores.shape[1]))
    np.add.at(sums, labels, scores)
    between = float((sums**2 / np.bincount(labels)[:, None]).sum())
    within = (total - between) / (n - k)
    return max(0.0, (between - (k - 1) * within) / (total + within))
