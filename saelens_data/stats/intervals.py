"""Intervals of shares and of their differences."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri

#: Coverage of every interval.
LEVEL = 0.95


def wilson(count: np.ndarray, n: int | np.ndarray, level: float = LEVEL) -> tuple[np.ndarray, np.ndarray]:
    """Score interval of a share `count / n`, n >= 1: (low, high) float64.

    Wilson (1927), J. Am. Stat. Assoc. 22:209-212.
    """
    z2 = ndtri(0.5 + level / 2) ** 2
    count = np.asarray(count, dtype=np.float64)
    share = count / n
    centre = (count + z2 / 2) / (n + z2)
    half = np.sqrt(z2 * n * share * (1 - share) + z2 * z2 / 4) / (n + z2)
    # At 0 and n the bound is the share itself; rounding must not put it on the wrong side.
    low = np.where(count == 0, 0.0, np.minimum(centre - half, share))
    high = np.where(count == n, 1.0, np.maximum(centre + half, share))
    return low, high


def newcombe_unpaired(
    count_a: np.ndarray, count_b: np.ndarray, n_a: int, n_b: int, level: float = LEVEL
) -> tuple[np.ndarray, np.ndarray]:
    """Hybrid score interval of `count_a / n_a - count_b / n_b` in independent sets, n_a, n_b >= 1: (low, high).

    Method 10 of Newcombe (1998), Stat. Med. 17:873-890.
    """
    return _hybrid(count_a, count_b, n_a, n_b, np.zeros(()), level)


def newcombe_paired(
    both: np.ndarray, only_a: np.ndarray, only_b: np.ndarray, n: int, level: float = LEVEL
) -> tuple[np.ndarray, np.ndarray]:
    """Hybrid score interval of `(only_a - only_b) / n` over n >= 1 pairs: (low, high).

    Method 10 of Newcombe (1998), Stat. Med. 17:2635-2650: the correlation of the two shares is phi with
    its positive numerator reduced by n / 2, and 0 where a margin is empty.
    """
    r, s, t = (np.asarray(x, dtype=np.float64) for x in (both, only_a, only_b))
    u = n - r - s - t
    cross = r * u - s * t
    cross = np.where(cross > 0, np.maximum(cross - n / 2, 0.0), cross)
    spread = np.sqrt((r + s) * (t + u)) * np.sqrt((r + t) * (s + u))
    phi = np.divide(cross, spread, out=np.zeros_like(cross), where=spread > 0)
    return _hybrid(r + s, r + t, n, n, phi, level)


def _hybrid(
    count_a: np.ndarray, count_b: np.ndarray, n_a: int, n_b: int, phi: np.ndarray, level: float
) -> tuple[np.ndarray, np.ndarray]:
    """Square and add the distances from each share to its Wilson bounds, less their covariance."""
    a, b = np.asarray(count_a) / n_a, np.asarray(count_b) / n_b
    low_a, high_a = wilson(count_a, n_a, level)
    low_b, high_b = wilson(count_b, n_b, level)

    def reach(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        # (x - y)^2 + 2 (1 - phi) x y, which rounding cannot make negative
        return np.asarray(np.sqrt((x - y) ** 2 + 2 * (1 - phi) * x * y))

    return (a - b) - reach(a - low_a, high_b - b), (a - b) + reach(high_a - a, b - low_b)
