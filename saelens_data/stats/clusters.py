"""Two sets of documents that come in clusters: answers to one prompt, chunks of one text.

The unit that is drawn anew is the cluster. `docs/statistics.md` says why these tests, and what they cost.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from scipy.sparse import csc_array, csr_array
from scipy.special import betainc

from saelens_data.stats.intervals import LEVEL
from saelens_data.stats.regression import regression

#: Share of a spread below which what is left of it counts as rounding.
_ROUNDING = 1e-6
#: Non-zeros read at once.
_BLOCK = 1 << 20


@dataclass(frozen=True, eq=False)
class ClusterTest:
    """The comparison of two sets of clustered documents, an array over latents in each field but `n_clusters`."""

    #: Mean of A less mean of B, with its CR1 interval, not clipped (NaN with one cluster only).
    difference: np.ndarray
    low: np.ndarray
    high: np.ndarray
    #: Two-sided, and the least that the margins allow.
    p_value: np.ndarray
    least_p: np.ndarray
    #: Clusters in the two sets together, and those in which each latent is active (int64).
    n_clusters: int
    active_clusters: np.ndarray


@dataclass(frozen=True, eq=False)
class Permutation:
    """What A's sum less its expectation can be when clusters change sides, an array over latents in each field."""

    #: The observed value, its variance, and how far it can lie above and below 0.
    observed: np.ndarray
    variance: np.ndarray
    above: np.ndarray
    below: np.ndarray
    #: The least that `variance` can be, whatever lies where.
    floor: np.ndarray
    #: Clusters of both sets that could be turned as a whole; infinite where clusters of one set count too.
    turning: np.ndarray
    #: Clusters in which the latent is active.
    active: np.ndarray

    def __add__(self, other: Permutation) -> Permutation:
        """The sum of two independent statistics."""
        return Permutation(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))

    def p_value(self, step: float) -> np.ndarray:
        """Twice the smaller tail of the binomial with the same variance and range, at most 1.

        k = above below / variance trials of chance below / (above + below), scaled to the range: McNemar's exact test
        where each cluster holds one document of each set. Between whole numbers of successes the tail is the
        incomplete beta function. Where the values are multiples of `step`, the binomial is read at the lower edge
        of the observed one. No p is below that of all clusters turned one way, 2^(1 - turning).
        """
        spread = self.above + self.below
        some = (self.variance > 0) & (self.above > 0) & (self.below > 0)
        up, down, variance, spread = (np.where(some, x, 1.0) for x in (self.above, self.below, self.variance, spread))
        trials, scale = up * down / variance, variance * spread / (up * down)
        inward = np.maximum(step - scale, 0.0) / 2
        size = np.maximum(np.abs(self.observed) - inward, 0.0) / scale
        tails = []
        for sign, chance in ((1, down / spread), (-1, up / spread)):
            x = np.clip(trials * chance + size, 0.0, trials)
            x = np.where(trials - x < _ROUNDING * trials, trials, x)
            tails.append(np.where(sign * self.observed > 0, betainc(x, trials - x + 1, chance), 0.0))
        p = np.clip(2 * (tails[0] + tails[1]), 2.0 ** (1 - self.turning), 1.0)
        return np.asarray(np.where(some & (self.observed != 0), p, 1.0))

    def least_p(self) -> np.ndarray:
        """A lower bound of the p-value on any sides: that of the farthest value, at the least variance."""
        ends = [replace(self, observed=end, variance=self.floor) for end in (self.above, -self.below)]
        return np.asarray(np.minimum(*(end.p_value(0.0) for end in ends)))


def cluster_test(Y: csr_array, in_a: np.ndarray, cluster: np.ndarray, level: float = LEVEL) -> ClusterTest:
    """Compare the means of each column of `Y` in two sets of documents that come in clusters.

    `Y` [documents, latents] sparse without stored zeros, `in_a` [documents] bool, `cluster` [documents] int: equal
    codes are one cluster. The interval is that of `regression` with clusters: CR1 errors and Student's t.

    The test is that of `permutation`: where nothing differs, a cluster that lies in one set could as well have been in
    the other, and documents of a cluster that lies in both could have been of either.
    """
    in_a = np.asarray(in_a, dtype=bool)
    W = np.column_stack([in_a, np.ones(len(in_a))])
    difference, low, high = regression(Y, W, clusters=cluster, level=level)
    law, n_clusters = permutation(Y, in_a, cluster), len(np.unique(cluster))
    return ClusterTest(difference, low, high, law.p_value(smallest_step(Y)), law.least_p(), n_clusters, law.active)


def smallest_step(Y: csr_array) -> float:
    """1 where every value is 1, so that sums are whole numbers; else 0."""
    return float((Y.data == 1).all())


def permutation(Y: csr_array, in_a: np.ndarray, cluster: np.ndarray) -> Permutation:
    """The moments and range of A's sum over exchanges of sides; arguments as of `cluster_test`."""
    code, n_all, n_in_a = _census(cluster, in_a)
    mixed = ((n_in_a > 0) & (n_in_a < n_all))[code]
    parts = [(_within, np.flatnonzero(mixed)), (_between, np.flatnonzero(~mixed))]
    laws = [law(Y, in_a, code, rows) for law, rows in parts if len(rows)]
    return laws[0] if len(laws) == 1 else laws[0] + laws[1]


def relabel(cluster: np.ndarray, in_a: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Other sides that are as likely as `in_a` where nothing differs, [documents] bool.

    Clusters of one set change sides as a whole, as many of them in A as before. A cluster with as many documents of A
    as of B exchanges its sides or not by a coin, so that what is alike within a side stays together; in another cluster
    of both sets documents change sides one by one, as many of them in A as before.
    """
    code, n_all, n_in_a = _census(cluster, in_a)
    order = np.argsort(code, kind="stable")
    turned = np.empty(len(code), dtype=bool)
    turned[np.lexsort((rng.random(len(code)), code))] = in_a[order]
    even = 2 * n_in_a == n_all
    turned = np.where(even[code], in_a ^ rng.integers(0, 2, len(n_all), dtype=bool)[code], turned)
    pure = np.flatnonzero((n_in_a == 0) | (n_in_a == n_all))
    side = np.zeros(len(n_all), dtype=bool)
    side[pure] = rng.permutation(n_in_a[pure] > 0)
    return np.where(np.isin(code, pure), side[code], turned)


def _census(cluster: np.ndarray, in_a: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Clusters coded from 0, their documents and those of A."""
    code = np.unique(cluster, return_inverse=True)[1]
    return code, np.bincount(code), np.bincount(code, weights=in_a).astype(np.int64)


def _between(Y: csr_array, in_a: np.ndarray, code: np.ndarray, rows: np.ndarray) -> Permutation:
    """Clusters that lie in one set change sides as a whole: their sums, in one stratum."""
    _, first, own, size = np.unique(code[rows], return_index=True, return_inverse=True, return_counts=True)
    member = csr_array((np.ones(len(rows)), (own, rows)), shape=(len(size), Y.shape[0]))
    sums, n = csc_array(member @ Y), Y.shape[1]
    design = _Design(in_a[rows[first]], size, np.zeros(len(size), dtype=np.int64))
    total = np.zeros((4, n))
    for part in _parts(np.diff(sums.indptr)):
        used = slice(sums.indptr[part.start], sums.indptr[part.stop])
        cell = np.repeat(np.arange(part.stop - part.start), np.diff(sums.indptr)[part])
        stratum = np.zeros(part.stop - part.start, dtype=np.int64)
        total[:, part] = _exchange(design, sums.data[used], sums.indices[used], cell, stratum)
    observed, variance, above, below = total
    square = csr_array((np.square(Y.data, dtype=np.float64), Y.indices, Y.indptr), shape=Y.shape)
    squares = square.T @ np.bincount(rows, minlength=Y.shape[0]) - sums.sum(axis=0) ** 2 / len(rows)
    turning = np.where(variance > 0, np.inf, 0.0)
    variance = np.maximum(variance, _by_size(design, variance, squares))
    return Permutation(observed, variance, above, below, variance, turning, np.diff(sums.indptr).astype(np.int64))


def _by_size(design: _Design, variance: np.ndarray, squares: np.ndarray) -> np.ndarray:
    """The variance of A's sum if that of a cluster depends on its size, for sets whose clusters differ in size.

    `variance` is that of exchanging clusters of any size, `squares` the sum of squares of documents about their mean.
    A cluster of n documents varies by n v + n (n - 1) c, with v the variance of a document and c the covariance of
    two of one cluster.
    """
    size, in_a = design.size.astype(np.float64), design.in_a
    n, k, k_a = size.sum(), len(size), in_a.sum()
    twos = size * (size - 1)
    v = squares / n
    c = (variance * k * (k - 1) / max(k_a * (k - k_a), 1) - squares) / max(twos.sum(), 1)
    share = size[in_a].sum() / n
    spread = [x**2 * (size[s].sum() * v + twos[s].sum() * c) for x, s in ((1 - share, in_a), (share, ~in_a))]
    return np.asarray(k / max(k - 1, 1) * sum(spread))


def _within(Y: csr_array, in_a: np.ndarray, code: np.ndarray, rows: np.ndarray) -> Permutation:
    """In clusters that lie in both sets documents change sides: each cluster a stratum.

    The variance is at least the sum of squares of what was observed in each cluster, which is that of exchanging the
    sides of whole clusters: documents of one side of a cluster may be alike, and a difference may differ in direction
    from cluster to cluster.
    """
    rows, n = rows[np.argsort(code[rows], kind="stable")], Y.shape[1]
    starts = np.flatnonzero(np.diff(code[rows], prepend=-1))
    ends, filled = np.append(starts[1:], len(rows)), np.append(0, np.cumsum(np.diff(Y.indptr)[rows]))
    total, active = np.zeros((6, n)), np.zeros(n, dtype=np.int64)
    for part in _parts(filled[ends] - filled[starts]):
        own = rows[starts[part.start] : ends[part.stop - 1]]
        block, stratum = Y[own], np.unique(code[own], return_inverse=True)[1]
        unit = np.repeat(np.arange(len(own)), np.diff(block.indptr))
        key, cell = np.unique(stratum[unit] * n + block.indices, return_inverse=True)
        design = _Design(in_a[own], np.ones(len(own), dtype=np.int64), stratum)
        moved = _exchange(design, block.data, unit, cell, key // n)
        each = [*moved, moved[0] ** 2, moved[1] > 0]
        total += [np.bincount(key % n, weights=row, minlength=n) for row in each]
        active += np.bincount(key % n, minlength=n)
    observed, variance, above, below, squares, moving = total
    return Permutation(observed, np.maximum(variance, squares), above, below, variance, moving, active)


@dataclass(frozen=True, eq=False)
class _Design:
    """Units that change sides within their stratum, [units]: in A or not, their documents, and their stratum."""

    in_a: np.ndarray
    size: np.ndarray
    stratum: np.ndarray

    def total(self, weights: np.ndarray) -> np.ndarray:
        """Sum of the weights in each stratum."""
        return np.bincount(self.stratum, weights=weights)


def _exchange(
    design: _Design, value: np.ndarray, unit: np.ndarray, cell: np.ndarray, stratum: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(observed, variance, above, below) of A's sum in each cell, a latent in a stratum; see `Permutation`.

    `value`, `unit`, `cell` [non-zeros], `stratum` [cells]. A unit counts as its value less what its documents have on
    average, z; those of A are drawn without replacement, which gives the variance. Where all z above 0 are equal and
    all below 0 are, as for documents with 0/1 values, so is the range: A holds as many of the ones as it can.
    """

    def total(weights: np.ndarray | None) -> np.ndarray:
        return np.bincount(cell, weights=weights, minlength=len(stratum))

    ones, sizes = np.ones(len(design.size)), design.size
    weights = (ones, design.in_a, sizes, sizes**2, sizes * design.in_a)
    units, in_a, documents, squared, documents_in_a = (design.total(w)[stratum] for w in weights)
    value, size = value.astype(np.float64), sizes[unit]
    mean = total(value)
    mean = np.where(np.abs(mean) > _ROUNDING * total(np.abs(value)), mean, 0.0) / documents
    z = value - mean[cell] * size
    z[np.abs(z) <= _ROUNDING * np.abs(value)] = 0.0
    half = total(np.maximum(z, 0)) + np.maximum(-mean, 0) * (documents - total(size))
    over = (total(z > 0) + (mean < 0) * (units - total(None))) / units
    squares = total(z**2) + mean**2 * (squared - total(size**2))
    observed = total(value * design.in_a[unit]) - mean * documents_in_a
    variance = in_a * (units - in_a) / (units * np.maximum(units - 1, 1)) * squares
    share = documents_in_a / documents
    over, under = np.maximum(over, 1 / units), np.maximum(1 - over, 1 / units)
    above = half * np.minimum((1 - share) / under, share / over)
    below = half * np.minimum(share / under, (1 - share) / over)
    return observed, variance, above, below


def _parts(sizes: np.ndarray) -> Iterator[slice]:
    """Consecutive parts that begin within the same `_BLOCK` of non-zeros."""
    if len(sizes):
        cuts = np.flatnonzero(np.diff((np.cumsum(sizes) - sizes) // _BLOCK)) + 1
        yield from (slice(int(i), int(j)) for i, j in pairwise([0, *cuts, len(sizes)]))
