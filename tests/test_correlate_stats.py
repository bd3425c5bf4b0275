"""Kernels of pairs: exact tails, bounds, NPMI, counts of testable pairs and q, against SciPy, statsmodels and brute force."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import hypergeom
from statsmodels.stats.multitest import multipletests

from saelens_data.stats.pairs import (
    LogFactorials,
    LogHistogram,
    discount,
    expected_within,
    log_bound_p,
    log_exact_p,
    log_least_p,
    nearest_to_chance,
    npmi,
)
from saelens_data.stats.testable import testable as count_testable


def tables(seed: int, n: int, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    a, b = rng.integers(1, n, number), rng.integers(1, n, number)
    return rng.integers(np.maximum(a + b - n, 0), np.minimum(a, b) + 1), a, b


@pytest.mark.parametrize("n", [7, 60, 401])
def test_exact_p_is_twice_the_smaller_tail(n):
    both, a, b = tables(n, n, 800)
    tail = np.where(both * n < a * b, hypergeom.cdf(both, n, a, b), hypergeom.sf(both - 1, n, a, b))
    expected = np.minimum(2 * tail, 1)
    np.testing.assert_allclose(np.exp(log_exact_p(both, a, b, LogFactorials(n))), expected, rtol=1e-9, atol=1e-290)


def test_exact_p_does_not_underflow():
    n = 100_000
    found = log_exact_p(np.array([5_000]), np.array([5_000]), np.array([5_000]), LogFactorials(n))
    assert found[0] == pytest.approx(np.log(2) + hypergeom.logpmf(5_000, n, 5_000, 5_000), rel=1e-9)
    assert found[0] < -10_000


def test_least_p_is_the_least_of_all_tables():
    n, factorials = 23, LogFactorials(23)
    for a in range(n + 1):
        for b in range(n + 1):
            both = np.arange(max(a + b - n, 0), min(a, b) + 1)
            p = log_exact_p(both, np.full(len(both), a), np.full(len(both), b), factorials)
            assert log_least_p(np.array([a]), np.array([b]), factorials)[0] == pytest.approx(p.min(), abs=1e-9)


@pytest.mark.parametrize("n", [31, 80])
@pytest.mark.parametrize("two", [False, True])
def test_testable_pairs_are_counted_as_by_listing_them(n, two):
    rng = np.random.default_rng(n)
    factorials = LogFactorials(n)
    for _ in range(8):
        a = np.minimum(rng.geometric(0.08, 40), n)
        b = rng.integers(0, n + 1, 30)
        other = b if two else a
        least = log_least_p(a[:, None] + 0 * other, other + 0 * a[:, None], factorials)
        pairs = least.ravel() if two else least[np.triu_indices(len(a), 1)]
        k = next(k for k in range(1, len(pairs) + 1) if (pairs < np.log(0.05 / k)).sum() <= k)
        found = count_testable(a, b if two else None, n, 0.05)
        small = least < np.log(0.05 / k)
        assert (found.n_tests, found.n_pairs) == ((pairs < np.log(0.05 / k)).sum(), len(pairs))
        if not two:
            np.fill_diagonal(small, val=False)
        np.testing.assert_array_equal(found.partners_a, small.sum(axis=1))
        np.testing.assert_array_equal(found.partners_b, small.sum(axis=0))


def test_billions_of_pairs_are_counted_without_listing_them():
    support = np.minimum((50_000 / (np.arange(65_536) + 20) * 20).astype(int) + 1, 25_000)
    found = count_testable(support, None, 50_000, 0.05)
    assert found.n_pairs == 65_536 * 65_535 // 2
    assert 0.9 * found.n_pairs < found.n_tests < found.n_pairs


def strata(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(3, 12, 4)
    return rng.integers(0, sizes + 1), rng.integers(0, sizes + 1), sizes


def law(a: np.ndarray, b: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Probabilities of the sum of hypergeometric counts."""
    total = np.ones(1)
    for n_a, n_b, n in zip(a, b, sizes, strict=True):
        total = np.convolve(total, hypergeom.pmf(np.arange(min(n_a, n_b) + 1), n, n_a, n_b))
    return total


@pytest.mark.parametrize("seed", range(25))
def test_the_bound_within_strata_is_never_below_the_exact_tail(seed):
    a, b, sizes = strata(seed)
    pmf = law(a, b, sizes)
    mean = float(expected_within(a[:, None], b[:, None], sizes)[0])
    assert mean == pytest.approx(np.arange(len(pmf)) @ pmf)
    for both in np.flatnonzero(pmf > 1e-15):
        bound = np.exp(log_bound_p(np.array([both]), a[:, None], b[:, None], sizes)[0])
        tail = pmf[both:].sum() if both > mean else pmf[: both + 1].sum()
        assert min(2 * tail, 1) <= bound * (1 + 1e-9)


def test_the_bound_is_close_for_rare_things_and_many_documents():
    sizes = np.array([500, 500, 500, 500])
    a, b = np.array([5, 10, 20, 40]), np.array([10, 10, 30, 30])
    pmf = law(a, b, sizes)
    bound = np.exp(log_bound_p(np.array([12]), a[:, None], b[:, None], sizes)[0])
    assert 1 <= bound / (2 * pmf[12:].sum()) < 2.5


def test_npmi_at_its_ends_and_in_between():
    assert npmi(np.array([0]), np.array([5.0]), 100)[0] == -1
    assert npmi(np.array([10]), np.array([1.0]), 100)[0] == pytest.approx(1)
    assert npmi(np.array([5]), np.array([5.0]), 100)[0] == 0
    assert npmi(np.array([8]), np.array([2.0]), 100)[0] == pytest.approx(np.log(4) / -np.log(0.08))


def test_one_coincidence_is_far_from_always_and_many_are_near():
    n = 5_000
    counts = np.array([1, 5, 500])
    chance = counts * counts / n
    shrunk = npmi(counts, chance, n) * discount(counts, counts, counts, chance)
    np.testing.assert_allclose(shrunk, [1 / 4, 25 / 36, (500 / 501) ** 2], rtol=1e-12)
    low = npmi(nearest_to_chance(counts, counts, counts, chance), chance, n)
    assert low[0] < 0.9 < low[2] < 1


def test_chance_in_the_interval_leaves_nothing():
    assert nearest_to_chance(np.array([6]), np.array([10]), np.array([50]), np.array([5.0]))[0] == 5.0


def test_q_of_counted_p_is_that_of_all_within_a_thousandth():
    rng = np.random.default_rng(0)
    p = np.concatenate([rng.random(4_000), 10 ** -rng.uniform(2, 30, 300)])
    histogram = LogHistogram()
    for part in np.array_split(p[p <= 0.05], 7):
        histogram.add(np.log(part))
    q = multipletests(p, method="fdr_bh")[1]
    small = q < 0.05
    found = np.exp(histogram.log_q(np.log(p[small]), len(p)))
    assert (found >= q[small] * (1 - 1e-12)).all()
    np.testing.assert_allclose(found, q[small], rtol=2e-3)
    assert histogram.n_below(0.05, len(p)) == (found < 0.05).sum()
    threshold = histogram.log_threshold(0.05, len(p))
    assert histogram.n_up_to(threshold) == histogram.n_below(0.05, len(p))


def test_no_p_is_no_finding():
    histogram = LogHistogram()
    assert histogram.n_below(0.05, 1_000) == 0
    assert histogram.log_threshold(0.05, 1_000) == -np.inf
    assert histogram.n_up_to(-np.inf) == 0
