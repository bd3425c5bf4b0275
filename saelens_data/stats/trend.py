"""Whether concepts become more or less frequent along an ordered column: versions, dates, sizes.

The steps are equal: their scores are 0, 1, 2, ... `docs/statistics.md` says why, and how far the test holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csc_array, csr_array
from scipy.special import ndtri

from saelens_data.stats.clusters import Permutation
from saelens_data.stats.intervals import LEVEL
from saelens_data.stats.power import POWER
from saelens_data.stats.regression import regression

#: Share of a spread below which what is left of it counts as rounding.
_ROUNDING = 1e-9
#: Halvings of a rise: to one part in a million.
_HALVINGS = 20
#: Non-zeros read at once.
_BLOCK = 1 << 20


@dataclass(frozen=True, eq=False)
class TrendTest:
    """Straight lines through the steps, an array over latents in each field."""

    #: Change of the mean from step to step, with its interval, not clipped.
    slope: np.ndarray
    low: np.ndarray
    high: np.ndarray
    #: Two-sided, and the least that the margins allow.
    p_value: np.ndarray
    least_p: np.ndarray


def trend_test(Y: csr_array, score: np.ndarray, cluster: np.ndarray | None = None, level: float = LEVEL) -> TrendTest:
    """Test whether the documents in which a latent is active have higher or lower scores than the others.

    `Y` [documents, latents] holds 1 where active, `score` [documents] whole numbers, `cluster` [documents] int:
    documents with equal codes may depend on each other. The statistic is that of Cochran (1954), Biometrics 10:417-451,
    and Armitage (1955), Biometrics 11:375-386; its p-value is read from `trend_law`. The slope is that of the least
    squares line, the interval that of `regression`.
    """
    score = np.asarray(score, dtype=np.float64)
    slope, low, high = regression(Y, np.column_stack([score, np.ones(len(score))]), clusters=cluster, level=level)
    law = trend_law(Y, score, cluster)
    return TrendTest(slope, low, high, law.p_value(1.0), law.least_p())


def trend_law(Y: csr_array, score: np.ndarray, cluster: np.ndarray | None = None) -> Permutation:
    """The sum of score x value over the documents, less its expectation, when the scores change places.

    `Y` [documents, latents] sparse without stored zeros, `score` [documents] float. Without clusters the documents
    change places freely. A cluster within one step changes places as a whole with others; within a cluster that lies in
    several steps its documents do, and the variance there is at least the sum of squares of what was observed in each.
    With two scores, 0 and 1, this is `permutation`.
    """
    design = _Design.of(score, cluster)
    values = csc_array(design.member @ Y) if cluster is not None else csc_array(Y)
    total = np.zeros((8, Y.shape[1]))
    for part in _columns(values.indptr):
        used = slice(values.indptr[part.start], values.indptr[part.stop])
        column = np.repeat(np.arange(part.stop - part.start), np.diff(values.indptr)[part])
        total[:, part] = _moments(design, values.data[used], values.indices[used], column, part.stop - part.start)
    observed, above, below, free, active, bound, squares, moving = total
    if (design.size > 1).any():
        free = np.maximum(free, _by_size(design, Y, free))
    turning = np.where(free > 0, np.inf, moving)
    variance = free + np.maximum(bound, squares)
    return Permutation(observed, variance, above, below, free + bound, turning, active.astype(np.int64))


def detectable_rise(score: np.ndarray, density: float, threshold: float, power: float = POWER) -> float:
    """Smallest rise from `density` at the first step, by a straight line to the last, that the test finds.

    Found means p < `threshold` for presence, in at least `power` of all such sets of documents with these scores.
    By the normal law of T, so about; NaN where not even a rise to 1 is.
    """
    reach, spread = float(np.ptp(score)), len(score) * float(np.var(score))
    z = ndtri(1 - threshold / 2), ndtri(power)
    share = (np.mean(score) - np.min(score)) / max(reach, 1.0)

    def missing(rise: float) -> float:
        line = density + rise * (score - np.min(score)) / max(reach, 1.0)
        mean = density + rise * share
        noise = float(((score - np.mean(score)) ** 2 * line * (1 - line)).sum())
        return float(
            z[0] * np.sqrt(mean * (1 - mean) * spread) + z[1] * np.sqrt(noise) - rise / max(reach, 1.0) * spread
        )

    low, high = 0.0, 1 - density
    if reach == 0 or missing(high) > 0:
        return float("nan")
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if missing(middle) > 0 else (low, middle)
    return high


def exchanged(score: np.ndarray, cluster: np.ndarray | None, rng: np.random.Generator) -> np.ndarray:
    """The scores in other places, [documents]: as likely as `score` where nothing differs; see `trend_law`.

    Clusters within one step change places with each other, whatever their sizes.
    """
    code = _codes(len(score), cluster)
    order = np.argsort(code, kind="stable")
    moved = np.empty_like(score)
    moved[np.lexsort((rng.random(len(code)), code))] = score[order]
    pure, first = _pure(score, code)
    own = score[first]
    own[pure] = rng.permutation(own[pure])
    return np.where(pure[code], own[code], moved)


def _codes(n: int, cluster: np.ndarray | None) -> np.ndarray:
    return np.arange(n) if cluster is None else np.unique(cluster, return_inverse=True)[1]


def _pure(score: np.ndarray, code: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which clusters have one score, and the first document of each."""
    first = np.unique(code, return_index=True)[1]
    return np.bincount(code, weights=score != score[first][code]) == 0, first


@dataclass(frozen=True, eq=False)
class _Design:
    """Units that exchange their scores within their stratum; stratum 0 holds whole clusters or lone documents.

    `member` [units, documents]; `score` (less the mean over the documents of its stratum), `size` and `stratum`
    [units]. Of each stratum its units, documents, and the sum of squares of its units' scores about their mean.
    `reached`, `sums`: how many documents the highest units of each stratum hold, and the sum of their scores.
    """

    member: csr_array
    score: np.ndarray
    size: np.ndarray
    stratum: np.ndarray
    units: np.ndarray
    documents: np.ndarray
    spread: np.ndarray
    reached: np.ndarray
    sums: np.ndarray

    @classmethod
    def of(cls, score: np.ndarray, cluster: np.ndarray | None) -> _Design:
        """The units of documents with these scores in these clusters."""
        score, code = np.asarray(score, dtype=np.float64), _codes(len(score), cluster)
        n, pure = len(code), _pure(score, code)[0][code]
        _, first, unit = np.unique(np.where(pure, code, n + np.arange(n)), return_index=True, return_inverse=True)
        stratum = np.unique(np.append(0, np.where(pure, 0, code + 1)[first]), return_inverse=True)[1][1:]
        size, own = np.bincount(unit), score[first]
        units, documents = np.bincount(stratum), np.bincount(stratum, size)
        centred = own - (np.bincount(stratum, size * own) / np.maximum(documents, 1))[stratum]
        centred[np.abs(centred) <= _ROUNDING * np.ptp(score)] = 0.0
        mean = np.bincount(stratum, centred) / np.maximum(units, 1)
        spread = np.bincount(stratum, (centred - mean[stratum]) ** 2)
        member = csr_array((np.ones(n), (unit, np.arange(n))), shape=(len(first), n))
        return cls(member, centred, size, stratum, units, documents, spread, *_highest(centred, size, stratum, units))

    def top(self, stratum: np.ndarray, share: np.ndarray) -> np.ndarray:
        """Sum of the highest scores of the strata, of this share of the documents of each."""
        begins = (np.cumsum(self.documents) - self.documents + np.arange(len(self.units)))[stratum]
        return np.asarray(np.interp(begins + share * self.documents[stratum], self.reached, self.sums))


def _highest(
    score: np.ndarray, size: np.ndarray, stratum: np.ndarray, units: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """How many documents the highest units of each stratum hold, none to all, and the sums of their scores.

    The strata lie one after the other, with a gap of 1.
    """
    order = np.lexsort((-score, stratum))
    own, ends = np.repeat(np.arange(len(units)), units + 1), np.append(0, np.cumsum(units))
    reached, sums = (np.append(0.0, np.cumsum(x[order]))[np.arange(len(own)) - own] for x in (size, size * score))
    return reached + own, sums - np.append(0.0, np.cumsum((size * score)[order]))[ends[:-1]][own]


def _moments(design: _Design, value: np.ndarray, unit: np.ndarray, column: np.ndarray, width: int) -> np.ndarray:
    """The sums of `trend_law` for each of `width` columns, from their non-zeros; [8, width].

    In each cell, a latent in a stratum, a unit counts as its value less what its documents have on average, z. Where
    all z above 0 are equal and all below 0 are, as for documents with 0/1 values, the range is exact.
    """
    if len(design.units) == 1:
        key, cell = np.arange(width), column
    else:
        key, cell = np.unique(design.stratum[unit].astype(np.int64) * width + column, return_inverse=True)
    stratum, n = key // width, len(key)

    def total(weights: np.ndarray | None) -> np.ndarray:
        return np.bincount(cell, weights=weights, minlength=n)

    units, documents, size = design.units[stratum], design.documents[stratum], design.size[unit]
    mean = total(value)
    mean = np.where(np.abs(mean) > _ROUNDING * total(np.abs(value)), mean, 0.0) / documents
    z = value - mean[cell] * size
    z[np.abs(z) <= _ROUNDING * np.abs(value)] = 0.0
    half = total(np.maximum(z, 0)) + np.maximum(-mean, 0) * (documents - total(size))
    over = (total(z > 0) + (mean < 0) * (units - total(None))) / units
    squares = total(z**2) + mean**2 * (np.bincount(design.stratum, design.size**2)[stratum] - total(size**2))
    observed = total(value * design.score[unit])
    variance = design.spread[stratum] / np.maximum(units - 1, 1) * squares
    each = half / (documents * np.maximum(over, 1 / units) * np.maximum(1 - over, 1 / units))
    above, below = each * design.top(stratum, over), each * design.top(stratum, 1 - over)
    bound = stratum > 0
    rows = [observed, above, below, np.where(bound, 0.0, variance), np.where(bound, 1.0, total(None))]
    rows += [bound * x for x in (variance, observed**2, variance > 0)]
    return np.stack([np.bincount(key % width, weights=row, minlength=width) for row in rows])


def _by_size(design: _Design, Y: csr_array, variance: np.ndarray) -> np.ndarray:
    """The variance over stratum 0 if that of a cluster depends on its size, for steps whose clusters differ in size.

    `variance` is that of exchanging clusters of any size. A cluster of n documents varies by n v + n (n - 1) c, with v
    the variance of a document and c the covariance of two of one cluster.
    """
    free = design.stratum == 0
    size, lever, k = design.size[free].astype(np.float64), design.score[free] ** 2, max(int(free.sum()) - 1, 1)
    rows, twos = np.asarray(free @ design.member, dtype=np.float64), size * (size - 1)
    squares = csr_array((Y.data.astype(np.float64) ** 2, Y.indices, Y.indptr), shape=Y.shape).T @ rows
    squares = squares - (Y.T @ rows) ** 2 / max(size.sum(), 1)
    v = squares / max(size.sum(), 1)
    c = (variance * k / max(design.spread[0], _ROUNDING) - squares) / max(twos.sum(), 1)
    return np.asarray((k + 1) / k * ((lever * size).sum() * v + (lever * twos).sum() * c))


def _columns(indptr: np.ndarray) -> Iterator[slice]:
    """Ranges of columns that hold at most `_BLOCK` values together, or are one column."""
    first, n = 0, len(indptr) - 1
    while first < n:
        last = max(int(np.searchsorted(indptr, indptr[first] + _BLOCK, side="right")) - 1, first + 1)
        yield slice(first, last)
        first = last
