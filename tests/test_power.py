"""What a comparison could have found: against enumeration, simulation and the normal approximation."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import betaincinv
from scipy.stats import binom, multinomial
from statsmodels.stats.power import NormalIndPower
from statsmodels.stats.proportion import proportion_effectsize

from saelens_data.stats import fisher_exact, mcnemar_exact, power

THRESHOLDS = (0.05, 1e-3, 1e-5)


def enumerated(n_a: int, n_b: int, density_a: float, density_b: float, threshold: float) -> float:
    """The probability of every table that is rejected with more in A."""
    x, y = np.meshgrid(np.arange(n_a + 1), np.arange(n_b + 1), indexing="ij")
    found = (fisher_exact(x, y, n_a, n_b) < threshold) & (x * n_b > y * n_a)
    mass = binom.pmf(x, n_a, density_a) * binom.pmf(y, n_b, density_b)
    return float(mass[found].sum())


def enumerated_pairs(n: int, only_a: float, only_b: float, threshold: float) -> float:
    s, t = (part.ravel() for part in np.meshgrid(np.arange(n + 1), np.arange(n + 1), indexing="ij"))
    s, t = s[s + t <= n], t[s + t <= n]
    mass = multinomial.pmf(np.stack([s, t, n - s - t], axis=1), n, [only_a, only_b, 1 - only_a - only_b])
    return float(mass[(mcnemar_exact(s, t) < threshold) & (s > t)].sum())


# --- power


@pytest.mark.parametrize(("n_a", "n_b"), [(1, 1), (6, 40), (40, 6), (30, 30), (25, 110)])
def test_power_of_independent_sets_equals_enumeration(n_a, n_b):
    for (a, b), threshold in itertools.product([(0.4, 0.1), (1.0, 0.2), (0.9, 0.0), (0.2, 0.2)], THRESHOLDS):
        found = power.power_unpaired(n_a, n_b, a, b, threshold)
        assert found == pytest.approx(enumerated(n_a, n_b, a, b, threshold), abs=1e-9)


@pytest.mark.parametrize("n", [1, 5, 30, 70])
def test_power_of_pairs_equals_enumeration(n):
    for (a, b, phi), threshold in itertools.product([(0.5, 0.2, 0.0), (0.6, 0.3, 0.4), (0.9, 0.5, -0.2)], THRESHOLDS):
        both = a * b + phi * np.sqrt(a * (1 - a) * b * (1 - b))
        expected = enumerated_pairs(n, a - both, b - both, threshold)
        assert power.power_paired(n, a, b, threshold, phi) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("a", "b", "phi"), [(0.5, 0.2, 1.0), (0.3, 0.3, 1.0), (0.9, 0.8, -1.0), (0.2, 0.1, -1.0)])
def test_a_correlation_that_no_pairs_can_have_gives_way_to_the_nearest(a, b, phi):
    both = min(a, b) if phi > 0 else max(0.0, a + b - 1)
    expected = enumerated_pairs(40, a - both, b - both, 0.05)
    assert power.power_paired(40, a, b, 0.05, phi) == pytest.approx(expected, abs=1e-9)


def test_interpolated_critical_values_lose_less_than_a_document(monkeypatch):
    for n_a, n_b in ((20_000, 20_000), (3_000, 60_000)):
        rough = power.detectable_unpaired(n_a, n_b, 0.2, 1e-5), power.detectable_paired(n_b, 0.2, 1e-5, 0.3)
        with monkeypatch.context() as patch:
            patch.setattr(power, "_EACH", 10**9)
            whole = power.detectable_unpaired(n_a, n_b, 0.2, 1e-5), power.detectable_paired(n_b, 0.2, 1e-5, 0.3)
        assert (np.abs(np.subtract(rough, whole)) < (1 / n_a, 1 / n_b)).all()
        assert rough != whole


# --- the smallest difference


@pytest.mark.parametrize(("n_a", "n_b"), [(30, 30), (20, 80), (80, 20)])
def test_the_difference_is_the_smallest_with_the_power_asked_for(n_a, n_b):
    for density, threshold, wanted in itertools.product((0.0, 0.05, 0.4), THRESHOLDS[:2], (0.5, 0.8)):
        d = power.detectable_unpaired(n_a, n_b, density, threshold, wanted)
        assert enumerated(n_a, n_b, density + d, density, threshold) >= wanted - 1e-9
        assert enumerated(n_a, n_b, density + d - 1e-5, density, threshold) < wanted


def test_the_difference_of_pairs_is_the_smallest_with_the_power_asked_for():
    for density, phi in itertools.product((0.05, 0.4), (0.0, 0.5)):
        d = power.detectable_paired(60, density, 1e-3, phi)
        assert power.power_paired(60, density + d, density, 1e-3, phi) >= 0.8
        assert power.power_paired(60, density + d - 1e-5, density, 1e-3, phi) < 0.8


def test_where_nothing_can_be_found_it_says_so():
    assert np.isnan(power.detectable_unpaired(20, 20, 0.5, 1e-5))
    assert np.isnan(power.detectable_unpaired(3, 1000, 0.5, 0.05))
    assert np.isnan(power.detectable_paired(5, 0.1, 0.05, 0.0))  # the least p of 5 pairs is 0.0625
    assert np.isnan(power.detectable_unpaired(100, 100, 1.0, 0.05))


def test_a_concept_new_in_one_set_is_found_from_the_count_that_can_be_significant():
    least = next(x for x in range(100) if fisher_exact(x, 0, 100, 100) < 1e-4)
    expected = betaincinv(least, 101 - least, 0.8)  # the density at which Binomial(100) reaches `least` 4 times in 5
    assert power.detectable_unpaired(100, 100, 0.0, 1e-4) == pytest.approx(expected, abs=1e-6)
    least = next(s for s in range(100) if mcnemar_exact(s, 0) < 1e-4)
    expected = betaincinv(least, 101 - least, 0.8)
    assert power.detectable_paired(100, 0.0, 1e-4, 0.5) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("density", [0.05, 0.2, 0.5])
@pytest.mark.parametrize("n", [20_000, 200_000])
def test_large_sets_agree_with_the_normal_approximation(n, density):
    threshold = 0.05 / 3000
    d = power.detectable_unpaired(n, n, density, threshold)
    effect = proportion_effectsize(density + d, density)
    assert NormalIndPower().power(effect, n, threshold) == pytest.approx(0.8, abs=0.02)
    needed = NormalIndPower().solve_power(None, n, threshold, 0.8)
    assert effect == pytest.approx(needed, rel=0.02)


@settings(max_examples=25, deadline=None)
@given(st.integers(50, 400), st.integers(50, 400), st.floats(0.01, 0.6), st.sampled_from(THRESHOLDS), st.floats(0, 0.8))
def test_more_documents_or_a_softer_threshold_find_less(n_a, n_b, density, threshold, phi):
    def rises(small: float, large: float) -> bool:
        return np.isnan(large) or small <= large + 0.01  # exact tests are not quite monotone: one more may reject less

    def pairs(n: int) -> float:
        return power.detectable_paired(n, density, threshold, phi)

    at = power.detectable_unpaired(n_a, n_b, density, threshold)
    assert rises(power.detectable_unpaired(2 * n_a, n_b, density, threshold), at)
    assert rises(power.detectable_unpaired(n_a, 2 * n_b, density, threshold), at)
    assert rises(power.detectable_unpaired(n_a, n_b, density, 2 * threshold), at)
    assert rises(pairs(2 * n_a), pairs(n_a))
    assert rises(power.detectable_paired(n_a, density, threshold, min(phi + 0.1, 1.0)), pairs(n_a))


def test_what_is_simulated_at_the_difference_is_found_as_often_as_promised():
    rng, runs, threshold = np.random.default_rng(0), 20_000, 0.05 / 2000
    allowed = 4 * np.sqrt(0.8 * 0.2 / runs)
    for n_a, n_b, density in ((150, 150, 0.2), (80, 600, 0.05), (2_000, 3_000, 0.05)):
        d = power.detectable_unpaired(n_a, n_b, density, threshold)
        x, y = rng.binomial(n_a, density + d, runs), rng.binomial(n_b, density, runs)
        assert np.mean(fisher_exact(x, y, n_a, n_b) < threshold) == pytest.approx(0.8, abs=allowed)
    for n, density, phi in ((150, 0.2, 0.3), (1_000, 0.05, 0.1)):
        a = density + power.detectable_paired(n, density, threshold, phi)
        both = a * density + phi * np.sqrt(a * (1 - a) * density * (1 - density))
        cells = rng.multinomial(n, [a - both, density - both, 1 - a - density + 2 * both], runs)
        assert np.mean(mcnemar_exact(cells[:, 0], cells[:, 1]) < threshold) == pytest.approx(0.8, abs=allowed)


# --- rows of a comparison


def test_rows_hold_whichever_set_has_more():
    rows = power.detectable(100, 900, 1e-4)
    assert [density for density, _ in rows] == [0.05, 0.2, 0.5]
    for density, d in rows:
        ways = [power.detectable_unpaired(*n, density, 1e-4) for n in ((100, 900), (900, 100))]
        assert ways[0] != ways[1]
        assert d == max(ways)
    assert np.isnan(power.detectable(4, 900, 1e-4)[2][1])  # one way would do, but not the other
    assert power.detectable(300, 300, 1e-4, phi=0.2, densities=[0.1]) == [
        (0.1, power.detectable_paired(300, 0.1, 1e-4, 0.2))
    ]


def test_the_correlation_of_one_latent_is_that_of_numpy_and_of_several_their_mean():
    rng = np.random.default_rng(2)
    base = rng.random((5, 200)) < 0.4
    a, b = (base ^ (rng.random(base.shape) < 0.2) for _ in range(2))
    both, count_a, count_b = (a & b).sum(1), a.sum(1), b.sum(1)
    phi = [np.corrcoef(x, y)[0, 1] for x, y in zip(a, b, strict=True)]
    for i in range(5):
        assert power.pair_correlation(both[[i]], count_a[[i]], count_b[[i]], 200) == pytest.approx(phi[i])
    spread = a.std(axis=1) * b.std(axis=1)
    found = power.pair_correlation(both, count_a, count_b, 200)
    assert found == pytest.approx(np.average(phi, weights=spread))
    assert power.pair_correlation(np.array([0, 9]), np.array([0, 9]), np.array([0, 9]), 9) == 0.0


def test_a_comparison_of_a_million_documents_takes_no_time():
    start = time.perf_counter()
    power.detectable_unpaired(1_000_000, 1_000_000, 0.5, 1e-5)
    power.detectable_paired(1_000_000, 0.5, 1e-5, 0.3)
    assert time.perf_counter() - start < 2  # 0.25 s; room for a busy machine
