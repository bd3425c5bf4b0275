"""Strength of latents where they are active: rank tests and the AUC, in independent sets or pairs.

Presence is tested elsewhere. Everything here is conditional on it: only documents in which the latent is active count,
so that under the null the p-value holds whatever the presence counts are. `X` and `Y` [documents, latents] are CSR,
float32, sorted, with positive values at every stored entry.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array, vstack
from scipy.special import ndtr, ndtri

from saelens_data.stats.counts import count_active
from saelens_data.stats.intervals import LEVEL, wilson

#: Activations sorted at once (whole latents, at least one).
_BLOCK = 1 << 18
#: Largest share of ties that the rank-sum test takes, as `_tie_share` counts it: 63% of the documents at one value.
#: Beyond it the normal tail is wrong in sets of unequal size.
MOST_TIED = 0.25
#: Halvings of the range in which a bound of an AUC lies: enough for a double.
_HALVINGS = 54


@dataclass(frozen=True, eq=False)
class Strength:
    """Whether each latent, where active, is stronger in A than in B. Arrays over latents.

    auc: P(value in A > in B) + P(equal) / 2 over active documents (of pairs: both active), float64, NaN where none.
    low, high: its interval, NaN as `auc`.
    p_value: two-sided, float64, 1 where nothing can be compared.
    n_a, n_b: active documents of each set, int64; of pairs, both are the pairs with both documents active.
    """

    auc: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p_value: np.ndarray
    n_a: np.ndarray
    n_b: np.ndarray


# --- independent sets


def rank_sum(X: csr_array, Y: csr_array, level: float = LEVEL) -> Strength:
    """Compare the activations of two independent sets [n_a, latents] and [n_b, latents] among active documents.

    Wilcoxon (1945), Biometrics Bull. 1:80-83; Mann & Whitney (1947), Ann. Math. Stat. 18:50-60. Raises ValueError where
    the sets differ in latents.
    """
    if X.shape[1] != Y.shape[1]:
        raise ValueError(f"sets of {X.shape[1]} and {Y.shape[1]} latents")
    return rank_sum_of(*pooled_ranks(csr_array(vstack([X, Y], format="csr"))), X.shape[0], level)


def rank_sum_of(ranks: csr_array, ties: np.ndarray, n_docs_a: int, level: float = LEVEL) -> Strength:
    """The same from what `pooled_ranks` gives for the documents of A, the first `n_docs_a` rows, and of B."""
    n_latents, in_a = ranks.shape[1], int(ranks.indptr[n_docs_a])
    total = _sum_by_latent(ranks.indices[:in_a], ranks.data[:in_a], n_latents)
    n_a, n_b = (count_active(part, n_latents) for part in (ranks.indices[:in_a], ranks.indices[in_a:]))
    auc = _ratio(total - n_a * (n_a + 1) / 2, n_a * n_b)
    low, high = auc_interval(auc, n_a, n_b, level)
    return Strength(auc, low, high, rank_sum_p(total, n_a, n_b, ties), n_a, n_b)


def pooled_ranks(X: csr_array) -> tuple[csr_array, np.ndarray]:
    """Rank of every activation among the active documents of its latent: (ranks, ties).

    ranks: CSR [documents, latents] float64, the pattern of `X`, 1 for the weakest; equal values share their mean rank.
    ties: [latents] float64, the sum of t^3 - t over groups of t equal values.
    """
    ranks, ties = _midranks(X)
    return csr_array((ranks, X.indices, X.indptr), shape=X.shape), ties


def rank_scores(ranks: csr_array, *, centred: bool = False) -> csr_array:
    """Pooled ranks as shares, above 0 to 1 for the strongest; a document in which a latent is not active has 0.

    `centred`: less their mean over active documents, so that they say nothing of how many are active.
    """
    active = count_active(ranks.indices, ranks.shape[1]).astype(np.float32)
    shares = ranks.data.astype(np.float32)  # sums of them are of doubles
    if centred:
        shares -= ((active + 1) / 2)[ranks.indices]
    shares /= active[ranks.indices]
    return csr_array((shares, ranks.indices, ranks.indptr), shape=ranks.shape)


def rank_sum_p(rank_sum_a: np.ndarray, n_a: np.ndarray, n_b: np.ndarray, ties: np.ndarray) -> np.ndarray:
    """Two-sided p-value of the rank-sum test, float64; the arguments broadcast.

    `rank_sum_a` is the sum of the ranks of the `n_a` active documents of A among all `n_a + n_b` active ones, `ties` as
    `pooled_ranks` gives it. Normal tail with the variance reduced by ties, as scipy.stats.mannwhitneyu. Its continuity
    correction of 1/2 holds without ties; ties make larger steps and take a larger correction. p is 1 where a side is
    empty, or where the share of ties is above `MOST_TIED`.
    """
    a, b = np.asarray(n_a, dtype=np.float64), np.asarray(n_b, dtype=np.float64)
    n = a + b
    share = _tie_share(n, ties)
    reach = np.abs(rank_sum_a - a * (n + 1) / 2) - (1 + n * np.sqrt(share)) / 2
    variance = a * b * (n + 1) * (1 - share) / 12
    return _two_sided(reach, np.where(share <= MOST_TIED, variance, 0.0))


def rank_sum_least_p(support: np.ndarray, n_a: int, n_b: int, ties: np.ndarray | float = 0.0) -> np.ndarray:
    """Least p-value that `rank_sum_p` can give to latents active in `support` documents of sets of `n_a` and `n_b`.

    It depends on the pooled margins alone (Tarone 1990, Biometrics 46:515-522) and is reached where every active
    document of A is stronger than every one of B and they are as equal in number as the sets allow. With `ties`, the
    bound for latents with these ties; the default holds without ties only.
    """
    support = np.asarray(support, dtype=np.int64)
    a = np.clip((support + 1) // 2, np.maximum(support - n_b, 0), np.minimum(support, n_a))
    b = support - a
    return rank_sum_p(a * (a + 1) / 2 + a * b, a, b, np.asarray(ties))


def auc_interval(
    auc: np.ndarray, n_a: np.ndarray, n_b: np.ndarray, level: float = LEVEL
) -> tuple[np.ndarray, np.ndarray]:
    """Score-type interval of the AUC of independent sets with `n_a` and `n_b` values: (low, high), NaN where `auc` is.

    Method 5 of Newcombe (2006), Stat. Med. 25:559-573: the bound t solves |auc - t| = z sqrt(V(t)), where
    V(t) = t (1 - t) (1 + m (1 - t) / (2 - t) + m t / (1 + t)) / (n_a n_b) and m = (n_a + n_b) / 2 - 1, after
    Hanley & McNeil (1982), Radiology 143:29-36.
    """
    a, b = np.asarray(n_a, dtype=np.float64), np.asarray(n_b, dtype=np.float64)
    # V is symmetric: the upper bound of the AUC is one minus the lower bound of its complement.
    return _lower_bound(auc, a, b, level), 1 - _lower_bound(1 - auc, a, b, level)


def _lower_bound(auc: np.ndarray, a: np.ndarray, b: np.ndarray, level: float) -> np.ndarray:
    z2, m, pairs = ndtri(0.5 + level / 2) ** 2, (a + b) / 2 - 1, np.maximum(a * b, 1)
    low, high = np.zeros_like(auc), np.asarray(auc, dtype=np.float64)
    for _ in range(_HALVINGS):
        t = (low + high) / 2
        variance = t * (1 - t) * (1 + m * (1 - t) / (2 - t) + m * t / (1 + t)) / pairs
        outside = (auc - t) ** 2 > z2 * variance
        low, high = np.where(outside, t, low), np.where(outside, high, t)
    return np.where(np.isnan(auc), np.nan, low)


# --- pairs


def signed_rank(X: csr_array, Y: csr_array, level: float = LEVEL) -> Strength:
    """Compare the activations of pairs (row i of `X`, row i of `Y`, both [pairs, latents]) in which both are active.

    `auc` is the share of those pairs in which A is stronger, equal ones counted half. The test is
    Wilcoxon's (1945) signed-rank test of the differences; equal pairs are dropped. Raises ValueError where the shapes
    differ.
    """
    differences, both = _differences(X, Y)
    ranks, ties = _signed(differences)
    n_latents = X.shape[1]
    differing = count_active(ranks.indices, n_latents)
    wins = count_active(ranks.indices[ranks.data > 0], n_latents)
    auc = _ratio(wins + (both - differing) / 2, both)
    low, high = paired_auc_interval(wins, both - differing, both, level)
    total = _sum_by_latent(ranks.indices, ranks.data, n_latents)
    return Strength(auc, low, high, signed_rank_p(total, differing, ties), both, both)


def signed_ranks(X: csr_array, Y: csr_array) -> tuple[csr_array, np.ndarray]:
    """Ranks of the differences `X - Y` by size, with their signs: (ranks, ties).

    ranks: CSR [pairs, latents] float64, stored where both are active and differ; 1 for the smallest difference, equal
    sizes share their mean rank. ties: [latents] float64, as of `pooled_ranks`. Differences are taken in float32, as the
    activations are stored. Raises ValueError where the shapes differ.
    """
    return _signed(_differences(X, Y)[0])


def all_signed_ranks(X: csr_array, Y: csr_array) -> tuple[csr_array, np.ndarray]:
    """As `signed_ranks`, over all pairs that differ: a document in which a latent is not active has strength 0."""
    if X.shape != Y.shape:
        raise ValueError(f"paired matrices: shapes {X.shape} and {Y.shape} differ")
    differences = csr_array(X - Y)
    differences.eliminate_zeros()
    return _signed(differences)


def signed_rank_p(total: np.ndarray, differing: np.ndarray, ties: np.ndarray) -> np.ndarray:
    """Two-sided p-value of the signed-rank test, float64; the arguments broadcast.

    `total` is the sum of the signed ranks of the `differing` pairs, `ties` as `signed_ranks` gives it. Normal tail with
    the variance that the ranks have when signs are fair coins, as scipy.stats.wilcoxon(correction=True); the correction
    grows with the share of ties, as the steps of `total` do. p is 1 where no pair differs.
    """
    n = np.asarray(differing, dtype=np.float64)
    share = _tie_share(n, ties)
    reach = np.abs(total) - (1 + (n - 1) * share / 2)
    return _two_sided(reach, n * (n + 1) * (2 * n + 1) / 6 - np.asarray(ties) / 12)


def signed_rank_least_p(both: np.ndarray, ties: np.ndarray | float = 0.0) -> np.ndarray:
    """Least p-value that `signed_rank_p` can give to `both` pairs with both documents active: all differ, all one way.

    With `ties`, that of differing pairs with these ties in the size of their differences.
    """
    n = np.asarray(both, dtype=np.float64)
    return signed_rank_p(n * (n + 1) / 2, n, np.asarray(ties))


def paired_auc_interval(
    wins: np.ndarray, equal: np.ndarray, both: np.ndarray, level: float = LEVEL
) -> tuple[np.ndarray, np.ndarray]:
    """Interval of (wins + equal / 2) / both, the share of `both` pairs that A wins: (low, high), NaN where `both` is 0.

    Wilson's, for as many pairs as would have the same variance without equal ones. An equal pair takes 1/4 off the
    variance of its coin; 2 are added to `both` in their share, so that the interval has width where all are equal.
    """
    n, z2 = np.maximum(both, 1), ndtri(0.5 + level / 2) ** 2
    share = (wins + equal / 2) / n
    centre = (n * share + z2 / 2) / (n + z2)
    n = n / (1 - equal / (n + 2) / (4 * centre * (1 - centre)))
    low, high = wilson(share * n, n, level)
    return np.where(both > 0, low, np.nan), np.where(both > 0, high, np.nan)


def _differences(X: csr_array, Y: csr_array) -> tuple[csr_array, np.ndarray]:
    """`X - Y` [pairs, latents] where both are active and differ, and the number of pairs with both active [latents]."""
    if X.shape != Y.shape:
        raise ValueError(f"paired matrices: shapes {X.shape} and {Y.shape} differ")
    x, y = _within(X, Y), _within(Y, X)
    both = count_active(x.indices, X.shape[1])
    differences = csr_array((x.data - y.data, x.indices, x.indptr), shape=X.shape)
    differences.eliminate_zeros()
    return differences, both


def _within(X: csr_array, Y: csr_array) -> csr_array:
    """Values of `X` where `Y` too is active."""
    return X.multiply(csr_array((np.ones(Y.nnz, dtype=np.bool_), Y.indices, Y.indptr), shape=Y.shape))


def _signed(differences: csr_array) -> tuple[csr_array, np.ndarray]:
    where, shape = (differences.indices, differences.indptr), differences.shape
    ranks, ties = _midranks(csr_array((np.abs(differences.data), *where), shape=shape))
    return csr_array((np.copysign(ranks, differences.data, out=ranks), *where), shape=shape), ties


# --- shared


def _midranks(X: csr_array) -> tuple[np.ndarray, np.ndarray]:
    """Mean ranks of the stored values within their column, in the order of `X.data`, and each column's tie term."""
    # The positions of the values, column by column.
    position = np.arange(X.nnz, dtype=np.min_scalar_type(X.nnz))
    columns = csr_array((position, X.indices, X.indptr), shape=X.shape).tocsc()
    del position
    ranks, ties = np.empty(X.nnz), np.zeros(X.shape[1])
    for first, last in _blocks(columns.indptr):
        ptr = columns.indptr[first : last + 1]
        where = columns.data[ptr[0] : ptr[-1]]
        column = np.repeat(np.arange(last - first, dtype=np.uint64), np.diff(ptr))
        # Positive floats are ordered like their bits: one integer holds column and value.
        key = column << np.uint64(32) | X.data[where].view(np.uint32)
        order = np.argsort(key)
        start, run = _runs(key[order])
        head = column[start].astype(np.int64)
        ranks[where[order]] = np.repeat(start - (ptr[head] - ptr[0]) + (run + 1) / 2, run)
        ties[first:last] = np.bincount(head, weights=run.astype(np.float64) ** 3 - run, minlength=last - first)
    return ranks, ties


def _blocks(indptr: np.ndarray) -> Iterator[tuple[int, int]]:
    """Ranges of columns that hold at most `_BLOCK` values together, or are one column."""
    first, n = 0, len(indptr) - 1
    while first < n:
        last = max(int(np.searchsorted(indptr, indptr[first] + _BLOCK, side="right")) - 1, first + 1)
        yield first, last
        first = last


def _runs(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Start and length of each run of equal values, int64."""
    start = np.flatnonzero(np.concatenate([np.ones(min(len(x), 1), dtype=np.bool_), x[1:] != x[:-1]]))
    return start, np.diff(start, append=len(x))


def _sum_by_latent(indices: np.ndarray, values: np.ndarray, n_latents: int) -> np.ndarray:
    total = np.zeros(n_latents)
    for start in range(0, len(indices), _BLOCK):  # bincount copies the indices to int64: keep the copy small
        block = slice(start, start + _BLOCK)
        total += np.bincount(indices[block], weights=values[block], minlength=n_latents)
    return total


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.asarray(np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0))


def _tie_share(n: np.ndarray, ties: np.ndarray) -> np.ndarray:
    """Share of the rank variance of n values that ties take away: 0 without ties, 1 when all are equal."""
    most = n**3 - n
    return np.asarray(np.where(most > 0, ties / np.maximum(most, 1), 0.0))


def _two_sided(reach: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """2 P(normal > reach / sd), at most 1; 1 where the variance is 0."""
    possible = variance > 0
    z = np.where(possible, np.maximum(reach, 0), 0.0) / np.sqrt(np.where(possible, variance, 1.0))
    return np.asarray(2 * ndtr(-z))
