"""Two things that documents may hold, concepts or values of a column: do they meet more, or less, often than by chance?

Every function takes arrays over pairs. Of a pair, `both` documents of `n` hold both, `a` the one and `b` the other.
`docs/correlate.md` says why these tests.
"""

from __future__ import annotations

import numpy as np
from scipy.special import bdtr, bdtrc, gammaln

from saelens_data.stats.intervals import LEVEL, wilson

#: A term of a tail below this share of the sum so far ends it.
_NEGLIGIBLE = 1e-12
#: Where a double would round to 0.
_SMALLEST = 1e-300
#: Bins of `LogHistogram` for each factor of e, and factors of e that are told apart.
_FINE, _REACH = 1000, 720


class LogFactorials:
    """ln k! for k = 0 to n, looked up rather than computed."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.table = gammaln(np.arange(n + 2, dtype=np.float64) + 1)

    def log_pmf(self, both: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Log-probability that `both` of the `b` documents lie among the `a`, all margins given, of n."""
        t, n = self.table, self.n
        held = t[a] + t[b] + t[n - a] + t[n - b] - t[n]
        return np.asarray(held - t[both] - t[a - both] - t[b - both] - t[n - a - b + both])


def log_exact_p(both: np.ndarray, a: np.ndarray, b: np.ndarray, factorials: LogFactorials) -> np.ndarray:
    """ln of twice the smaller tail of the hypergeometric law, at most 0, float64: exact however small.

    The tail that holds the observed count (Fisher 1935) is summed from there outwards. Its law is log-concave, so that
    terms only fall faster, and the sum ends where they are below the rounding of a double.
    """
    n = factorials.n
    both, a, b = (np.asarray(x, dtype=np.int64) for x in (both, a, b))
    less = both * n < a * b
    x, other = np.where(less, a - both, both), np.where(less, n - b, b)  # the lower tail of one is the upper of these
    total, term, at, live = np.ones(len(x)), np.ones(len(x)), x.astype(np.float64), np.arange(len(x))
    top, side, rest = a.astype(np.float64), other.astype(np.float64), (n - a - other).astype(np.float64)
    while len(live):
        term = term * ((top - at) * (side - at)) / ((at + 1) * (rest + at + 1))
        total[live] += term
        at = at + 1
        more = term > _NEGLIGIBLE * total[live]
        live = live[more]
        term, at, top, side, rest = (v[more] for v in (term, at, top, side, rest))
    return np.asarray(np.minimum(np.log(2.0) + factorials.log_pmf(x, a, other) + np.log(total), 0.0))


def log_least_p(a: np.ndarray, b: np.ndarray, factorials: LogFactorials) -> np.ndarray:
    """ln of the least that `log_exact_p` can give to a pair with these margins, whatever `both` is."""
    n = factorials.n
    ends = np.maximum(a + b - n, 0), np.minimum(a, b)
    return np.asarray(np.minimum(np.log(2.0) + np.minimum(*(factorials.log_pmf(end, a, b) for end in ends)), 0.0))


def expected_within(a: np.ndarray, b: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """What `both` is on average when documents change places within strata only: the sum of a b / n over strata.

    `a`, `b` [strata, pairs] are the margins in each stratum, `sizes` [strata] its documents; Mantel & Haenszel (1959).
    """
    return np.asarray((a * b / np.maximum(sizes, 1)[:, None]).sum(axis=0))


def log_bound_p(both: np.ndarray, a: np.ndarray, b: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """ln of an upper bound of twice the tail of `both` when documents change places within strata only, at most 0.

    `a`, `b`, `sizes` as of `expected_within`. A hypergeometric count is a sum of independent 0/1 variables, as many as
    it can reach (Vatutin & Mikhailov 1982), and so is the sum over strata. Of all such sums with one mean the binomial
    has the heaviest tails from one beyond the mean on (Hoeffding 1956, Ann. Math. Stat. 27:713-721). That holds of
    each cell of the table; taken is the cell that spreads least, which the margins alone decide. 0 within one of the
    mean.
    """
    n = sizes[:, None]
    without_a, without_b = n - a, n - b
    total_a, total_b, total = a.sum(axis=0), b.sum(axis=0), int(sizes.sum())
    mean = expected_within(a, b, sizes)
    cells = (
        (np.minimum(a, b), 1, 0),
        (np.minimum(a, without_b), -1, total_a),
        (np.minimum(without_a, b), -1, total_b),
        (np.minimum(without_a, without_b), 1, total - total_a - total_b),
    )
    m, mu, x = np.ones(len(both), np.int64), np.zeros(len(both)), np.zeros(len(both))
    least = np.full(len(both), np.inf)
    for reach, sign, offset in cells:
        most = reach.sum(axis=0, dtype=np.int64)
        here = sign * mean + offset
        spread = here * (1 - here / np.maximum(most, 1))
        better = spread < least
        least = np.where(better, spread, least)
        m, mu, x = (np.where(better, new, old) for new, old in ((most, m), (here, mu), (sign * both + offset, x)))
    chance = np.clip(mu / np.maximum(m, 1), 0.0, 1.0)
    tail = np.where(x > mu, bdtrc(np.maximum(x - 1, 0), m, chance), bdtr(np.minimum(x, m), m, chance))
    found = np.log(np.maximum(2 * tail, _SMALLEST))
    return np.asarray(np.where(np.abs(x - mu) < 1, 0.0, np.minimum(found, 0.0)))


def npmi(both: np.ndarray, expected: np.ndarray, n: int) -> np.ndarray:
    """Normalised pointwise mutual information, ln(both / expected) / -ln(both / n): -1 never meet, 1 always together.

    Bouma (2009), Proc. GSCL 31-40. 0 where `both` is what is expected; a pair of two that are everywhere is 0 too.
    """
    both, expected = np.asarray(both, dtype=np.float64), np.asarray(expected, dtype=np.float64)
    some = (both > 0) & (expected > 0) & (both < n)
    value = np.log(np.where(some, both / np.where(some, expected, 1.0), 1.0)) / -np.log(np.where(some, both / n, 0.5))
    return np.asarray(np.where(some, np.clip(value, -1, 1), np.where((both == 0) & (expected > 0), -1.0, 0.0)))


def discount(both: np.ndarray, a: np.ndarray, b: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """What few documents take from an NPMI, a factor below 1: m / (m + 1) for meetings, and for the rarer of the two.

    Pantel & Lin (2002), Proc. KDD 613-619. Of pairs that meet less than expected, m are the expected meetings.
    """
    meetings, rarer = np.maximum(both, expected), np.minimum(a, b)
    return np.asarray(meetings / (meetings + 1) * rarer / (rarer + 1))


def nearest_to_chance(
    both: np.ndarray, a: np.ndarray, b: np.ndarray, expected: np.ndarray, level: float = LEVEL
) -> np.ndarray:
    """The end nearest to `expected` of the interval of `both`, from that of the share of the rarer that has the other.

    Wilson (1927); `expected` where the interval holds it.
    """
    rarer = np.maximum(np.minimum(a, b), 1)
    low, high = wilson(both, rarer, level)
    more, fewer = np.maximum(low * rarer, expected), np.minimum(high * rarer, expected)
    return np.asarray(np.where(both > expected, more, fewer))


class LogHistogram:
    """How many p-values are how small, whatever their number: what Benjamini-Hochberg needs of them.

    A p is known to one part in a thousand and rounded up, so that a q from it is too large by that much at most.
    """

    def __init__(self) -> None:
        self.counts = np.zeros(_REACH * _FINE + 1, dtype=np.int64)

    def add(self, log_p: np.ndarray) -> None:
        """Count these."""
        bins, number = np.unique(self._bins(log_p), return_counts=True)
        self.counts[bins] += number

    def log_q(self, log_p: np.ndarray, n_tests: int) -> np.ndarray:
        """ln of the adjusted values of these among all that were counted and, of `n_tests`, the rest, all larger."""
        bins, log_q = self._log_q(n_tests)
        at = np.searchsorted(bins, self._bins(log_p))
        return np.asarray(log_q[at]) if len(bins) else np.zeros(len(log_p))

    def n_below(self, alpha: float, n_tests: int) -> int:
        """How many of those counted have q < alpha."""
        bins, log_q = self._log_q(n_tests)
        return int(self.counts[bins[log_q < np.log(alpha)]].sum())

    def log_threshold(self, alpha: float, n_tests: int) -> float:
        """ln p up to which q < alpha; -inf if none is."""
        bins, log_q = self._log_q(n_tests)
        found = bins[log_q < np.log(alpha)]
        return -float(found[0]) / _FINE if len(found) else -np.inf

    def n_up_to(self, log_p: float) -> int:
        """How many of those counted are at most e^log_p, which `log_threshold` gave."""
        return 0 if log_p == -np.inf else int(self.counts[round(-log_p * _FINE) :].sum())

    def _bins(self, log_p: np.ndarray) -> np.ndarray:
        """Bin k holds ln p in (-(k + 1), -k] / _FINE."""
        found = np.minimum(np.floor(-np.asarray(log_p) * _FINE), len(self.counts) - 1)
        return np.asarray(found, dtype=np.int64)

    def _log_q(self, n_tests: int) -> tuple[np.ndarray, np.ndarray]:
        """The bins that hold any, and ln q there."""
        bins = np.flatnonzero(self.counts)
        rank = np.cumsum(self.counts[bins][::-1])[::-1]  # p up to the upper edge of each bin
        scaled = -bins / _FINE + np.log(max(n_tests, 1)) - np.log(np.maximum(rank, 1))
        return bins, np.minimum(np.minimum.accumulate(scaled), 0.0) if len(bins) else scaled
