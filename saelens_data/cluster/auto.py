"""How many clusters: the number that comes again most surely, beyond what a single cloud of the same shape would give.

Stability alone favours few clusters: any long cloud is cut in two at the same place again and again. So each number of
clusters is judged against data without clusters: normal draws of the same mean and covariance, brought to length 1
like the documents (the null of Liu et al. 2008, Statistical significance of clustering, and in the spirit of the gap
statistic of Tibshirani et al. 2001). Where no number is more stable than there, there are no clusters to be counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from saelens_data.cluster.coordinates import FOR_EACH, unit
from saelens_data.cluster.methods import lloyd, nearest
from saelens_data.errors import InputError

#: Numbers of clusters that are tried, if there are this many documents for each.
TRIED, _EACH = (2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 20, 25), 10
#: Pairs of halves for each, documents drawn for them, and starts of k-means.
PAIRS, _MOST, _STARTS = 8, 1_500, 2
#: What counts as more stable: the mean is higher by so much, and by so many standard errors.
LEAST_EXCESS, _ERRORS = 0.05, 3.0


@dataclass(frozen=True, eq=False)
class Auto:
    """`k`, the number chosen, None where no number is more stable than in data without clusters, and the `curve`.

    `curve` has a row for each number tried: `k`; `stability`, the mean adjusted Rand index of clusters made of two
    halves of the documents, and its standard error `error`; `null` and `null_error`, the same in data without clusters;
    `excess`, the difference; `beyond`, whether it counts.
    """

    k: int | None
    curve: pl.DataFrame


def choose_k(P: np.ndarray, *, tried: Sequence[int] = TRIED, seed: int = 0) -> Auto:
    """Try numbers of clusters k on the first components [documents, r] of `coordinates`, as many as k is given.

    Numbers of which there are fewer than 10 documents for each are passed over. Raises InputError where none is left.
    """
    tried = [k for k in tried if k * _EACH <= len(P)]
    if not tried:
        raise InputError(f"{len(P)} documents are too few to choose a number of clusters: give one with -k")
    rng = np.random.default_rng(seed)
    if len(P) > _MOST:
        P = P[np.sort(rng.choice(len(P), _MOST, replace=False))]
    values, vectors = np.linalg.eigh(np.cov(P.T, dtype=np.float64).reshape(P.shape[1], P.shape[1]))
    root, mean = vectors * np.sqrt(np.maximum(values, 0)), P.mean(axis=0)
    found = np.empty((2, len(tried), PAIRS))
    for pair in range(PAIRS):
        cloud = (mean + rng.normal(size=P.shape) @ root.T).astype(np.float32)
        order = rng.permutation(len(P))
        for which, points in enumerate((P, cloud)):
            for at, k in enumerate(tried):
                found[which, at, pair] = agree(unit(points[:, : FOR_EACH * k]), order, k, seed + pair)
    return _chosen(tried, found)


def agree(Z: np.ndarray, order: np.ndarray, k: int, seed: int) -> float:
    """ARI between two groupings of all rows: by centres from the first half of `order`, and from the second."""
    from sklearn.metrics import adjusted_rand_score  # noqa: PLC0415

    halves = np.array_split(order, 2)
    one, other = (nearest(Z, lloyd(Z[np.sort(half)], k, seed=seed, starts=_STARTS)[1]) for half in halves)
    return float(adjusted_rand_score(one, other))


def _chosen(tried: Sequence[int], found: np.ndarray) -> Auto:
    mean, error = found.mean(axis=2), found.std(axis=2, ddof=1) / np.sqrt(found.shape[2])
    excess = mean[0] - mean[1]
    beyond = (excess >= LEAST_EXCESS) & (excess >= _ERRORS * np.hypot(*error))
    curve = pl.DataFrame(
        {
            "k": tried,
            "stability": mean[0],
            "error": error[0],
            "null": mean[1],
            "null_error": error[1],
            "excess": excess,
            "beyond": beyond,
        }
    )
    best = int(np.argmax(np.where(beyond, excess, -np.inf))) if beyond.any() else None
    return Auto(None if best is None else tried[best], curve)
