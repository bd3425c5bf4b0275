"""How many pairs could reach significance, from the margins alone: never a list of pairs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from saelens_data.stats.pairs import LogFactorials, log_least_p


@dataclass(frozen=True, eq=False)
class Testable:
    """Which pairs are tested, and how many there are.

    `n_tests` pairs of all `n_pairs` are tested: those whose margins allow a p below e^`log_threshold`. `partners_a` and
    `partners_b` [things of each side] say how many pairs each is in.
    """

    n_tests: int
    n_pairs: int
    log_threshold: float
    partners_a: np.ndarray
    partners_b: np.ndarray


def testable(a: np.ndarray, b: np.ndarray | None, n: int, alpha: float) -> Testable:
    """Tarone's rule for all pairs of things with `a` and things with `b` documents of `n`; of one kind if `b` is None.

    The smallest K such that at most K pairs could have p < alpha / K: no other pair could be found by a correction for
    K tests, whatever its count, so none of them is tested (Tarone 1990, Biometrics 46:515-522; for false discovery
    rates Gilbert 2005, Appl. Stat. 54:143-158). It takes sorted margins and bisection: the least p of a pair falls
    towards equal margins (they could always meet) and towards margins that add up to n (they could never).
    """
    other = a if b is None else b
    counted = _Counts(np.asarray(a, np.int64), np.asarray(other, np.int64), n)
    halve, self_pairs = b is None, len(a)

    def number(log_threshold: float) -> tuple[int, np.ndarray]:
        partners = counted.partners(log_threshold)
        if not halve:
            return int(partners.sum()), partners
        partners = partners - counted.with_itself(log_threshold)
        return int(partners.sum()) // 2, partners

    most = len(a) * (len(a) - 1) // 2 if halve else self_pairs * len(other)
    low, high = 1, max(most, 1)
    while low < high:  # number(ln alpha / k) <= k holds from some k on
        middle = (low + high) // 2
        if number(np.log(alpha / middle))[0] <= middle:
            high = middle
        else:
            low = middle + 1
    threshold = float(np.log(alpha / low))
    n_tests, partners = number(threshold)
    back = partners if halve else _Counts(counted.other, counted.own, n).partners(threshold)
    return Testable(n_tests, most, threshold, partners, back)


class _Counts:
    """Least p of one side's margins against the other side's, sorted."""

    def __init__(self, own: np.ndarray, other: np.ndarray, n: int) -> None:
        self.own, self.other, self.n = own, other, n
        self.factorials = LogFactorials(n)
        self.margins, self.back = np.unique(own, return_inverse=True)
        self.sorted = np.sort(other)

    def partners(self, log_threshold: float) -> np.ndarray:
        """Of how many of the other side the least p with each of this side is below the threshold, [own] int64."""
        found = sum(stop - start for start, stop in self._ranges(log_threshold))
        return np.asarray(found)[self.back]

    def with_itself(self, log_threshold: float) -> np.ndarray:
        """1 where something's least p with another of the same margin is below the threshold."""
        return (log_least_p(self.own, self.own, self.factorials) < log_threshold).astype(np.int64)

    def _ranges(self, log_threshold: float) -> list[tuple[np.ndarray, np.ndarray]]:
        """Disjoint ranges of the sorted margins with a smaller least p, for each distinct margin of this side."""
        equal, rest = self.margins, self.n - self.margins
        nearer, farther = np.minimum(equal, rest), np.maximum(equal, rest)
        middle = np.searchsorted(self.sorted, (nearer + farther) // 2, side="right")
        ranges = []
        for peak, floor, top in (
            (nearer, np.zeros_like(middle), middle),
            (farther, middle, np.full_like(middle, len(self.sorted))),
        ):
            at = np.clip(np.searchsorted(self.sorted, peak), floor, top)
            start = self._edge(floor, at, log_threshold, rising=False)
            stop = self._edge(at, top, log_threshold, rising=True)
            ranges.append((start, np.maximum(stop, start)))
        return ranges

    def _edge(self, low: np.ndarray, high: np.ndarray, log_threshold: float, *, rising: bool) -> np.ndarray:
        """First place in [low, high] from which on the least p is not below the threshold (is, if it falls)."""
        low, high = low.copy(), high.copy()
        while (open_ := low < high).any():
            middle = (low + high) // 2
            at = np.minimum(middle, len(self.sorted) - 1)
            small = log_least_p(self.margins, self.sorted[at], self.factorials) < log_threshold
            up = open_ & (small if rising else ~small)
            low, high = np.where(up, middle + 1, low), np.where(open_ & ~up, middle, high)
        return low
