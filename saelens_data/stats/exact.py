"""Exact tests of presence in two sets, independent or paired."""

from __future__ import annotations

import numpy as np
from scipy.special import bdtr, gammaln

#: Relative difference below which two probabilities count as equally likely, as in R's fisher.test.
_TIE = 1e-7
#: Table cells held at once by `fisher_exact`.
_BLOCK = 1 << 20


def fisher_exact(count_a: np.ndarray, count_b: np.ndarray, n_a: int, n_b: int) -> np.ndarray:
    """Two-sided p-value of Fisher's exact test for each latent, float64.

    The table of a latent is [[count_a, n_a - count_a], [count_b, n_b - count_b]]; p is the total probability, given
    all margins, of the tables no more likely than it (Fisher 1935; Irwin 1935; as scipy.stats.fisher_exact).
    """
    count_a, count_b = np.asarray(count_a, dtype=np.int64), np.asarray(count_b, dtype=np.int64)
    code = count_a * (n_b + 1) + count_b
    distinct, back = np.unique(code, return_inverse=True)
    x, y = np.divmod(distinct, n_b + 1)
    # Work in the set where the latent is rarer than expected, so that the observed table lies in the lower tail.
    flip = x > (n_a + 1) * (x + y + 1) // (n_a + n_b + 2)
    x, y = np.where(flip, y, x), np.where(flip, x, y)
    a, b = np.where(flip, n_b, n_a), np.where(flip, n_a, n_b)
    p = np.empty(len(x))
    terms = _terms(x + y, a, b)
    for width in np.unique(terms):  # one width per class: a latent's sum never depends on the other latents
        rows = np.flatnonzero(terms == width)
        for block in np.array_split(rows, -(-len(rows) * int(width) // _BLOCK)):
            tables = x[block], (x + y)[block], a[block], b[block], int(width)
            p[block] = _near_tail(*tables) + _far_tail(*tables)
    return np.asarray(np.minimum(p, 1.0)[back].reshape(count_a.shape))


def fisher_least_p(support: np.ndarray, n_a: int, n_b: int) -> np.ndarray:
    """Smallest p-value that `fisher_exact` can give to a latent active in `support` documents of both sets.

    Tarone (1990), Biometrics 46:515-522: where it is not below alpha, no outcome can be a finding.
    """
    support = np.asarray(support, dtype=np.int64)
    least, most = np.maximum(support - n_b, 0), np.minimum(support, n_a)
    low, high = _log_pmf(least, support, n_a, n_b), _log_pmf(most, support, n_a, n_b)
    tie = (np.abs(low - high) <= _TIE) & (least < most)
    return np.asarray(np.minimum(np.exp(np.minimum(low, high)) * np.where(tie, 2.0, 1.0), 1.0))


def _terms(support: np.ndarray, n_a: np.ndarray, n_b: np.ndarray) -> np.ndarray:
    """Terms to add in each tail, a power of 2, so that what is left out is below the rounding of a double.

    A hypergeometric count is a sum of independent 0/1 variables (Vatutin & Mikhailov 1982), so Bernstein's
    inequality bounds its tail by its variance; and it is log-concave, so no tail falls more slowly than from the mode.
    """
    n = n_a + n_b
    variance = support / n * n_a / n * n_b * (n - support) / np.maximum(n - 1, 1)
    enough = 31 + 9.5 * np.sqrt(variance)
    return np.asarray(2 ** np.ceil(np.log2(np.minimum(enough, support + 2))).astype(np.int64))


def _near_tail(x: np.ndarray, support: np.ndarray, n_a: np.ndarray, n_b: np.ndarray, width: int) -> np.ndarray:
    """P(X <= x) for X hypergeometric and x not above its mode."""
    k, a, b = support[:, None], n_a[:, None], n_b[:, None]
    down = x[:, None] - np.arange(width)
    # Ratios of neighbouring probabilities reach 0 at the last possible table and keep the product there.
    falling = down * (b - k + down) / ((a - down + 1) * (k - down + 1))
    at_x = np.exp(_log_pmf(x, support, n_a, n_b))
    return np.asarray(at_x * (1 + np.cumprod(falling, axis=1).sum(axis=1)))


def _far_tail(x: np.ndarray, support: np.ndarray, n_a: np.ndarray, n_b: np.ndarray, width: int) -> np.ndarray:
    """P(X > x and no more likely than x) for X hypergeometric and x not above its mode."""
    other = _mirror(x, _log_pmf(x, support, n_a, n_b), support, n_a, n_b)
    top = np.minimum(support, n_a)
    exists, other = other <= top, np.minimum(other, top)
    k, a, b = support[:, None], n_a[:, None], n_b[:, None]
    up = other[:, None] + np.arange(width)
    rising = (a - up) * (k - up) / ((up + 1) * (b - k + up + 1))
    upper = np.exp(_log_pmf(other, support, n_a, n_b)) * (1 + np.cumprod(rising, axis=1).sum(axis=1))
    return np.where(exists, upper, 0.0)


def _mirror(x: np.ndarray, at_x: np.ndarray, support: np.ndarray, n_a: np.ndarray, n_b: np.ndarray) -> np.ndarray:
    """First count above x that is no more likely than x, or one past the last possible count; by bisection."""
    low, high = x + 1, np.minimum(support, n_a) + 1
    while (low < high).any():
        middle = np.minimum((low + high) // 2, high - 1)
        rare = _log_pmf(middle, support, n_a, n_b) <= at_x + _TIE
        low, high = np.where((low < high) & ~rare, middle + 1, low), np.where((low < high) & rare, middle, high)
    return np.asarray(low)


def _log_pmf(x: np.ndarray, support: np.ndarray, n_a: int | np.ndarray, n_b: int | np.ndarray) -> np.ndarray:
    """Log-probability that x of the `support` active documents lie in a set of n_a out of n_a + n_b."""
    return np.asarray(
        _log_choose(n_a, x) + _log_choose(n_b, support - x) - _log_choose(n_a + n_b, support), dtype=np.float64
    )


def _log_choose(n: int | np.ndarray, k: np.ndarray) -> np.ndarray:
    return np.asarray(gammaln(n + 1.0) - gammaln(k + 1.0) - gammaln(n - k + 1.0))


def mcnemar_exact(only_a: np.ndarray, only_b: np.ndarray) -> np.ndarray:
    """Two-sided p-value of McNemar's exact test for each latent, float64.

    Under the null the latent is equally often active in A alone as in B alone: twice the smaller binomial(1/2) tail
    of the discordant pairs, at most 1 (McNemar 1947; as statsmodels' mcnemar(exact=True)).
    """
    only_a, only_b = np.asarray(only_a), np.asarray(only_b)
    return np.asarray(np.minimum(2 * bdtr(np.minimum(only_a, only_b), only_a + only_b, 0.5), 1.0))


def mcnemar_least_p(discordant: np.ndarray) -> np.ndarray:
    """Smallest p-value that `mcnemar_exact` can give to a latent with this many discordant pairs: 2^(1 - d)."""
    return np.asarray(np.minimum(2.0 ** (1.0 - np.asarray(discordant)), 1.0))
