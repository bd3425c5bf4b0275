"""Kernels against SciPy, statsmodels, published numbers and brute force."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array, random_array
from scipy.stats import binom, binomtest, chi2, false_discovery_control, hypergeom
from scipy.stats import fisher_exact as scipy_fisher
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from saelens_data import stats

DOCS = Path(__file__).parents[1] / "docs" / "statistics.md"


def all_tables(n_a: int, n_b: int) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.meshgrid(np.arange(n_a + 1), np.arange(n_b + 1), indexing="ij")
    return a, b


# --- counting


def test_counts_equal_those_of_dense_arrays():
    rng = np.random.default_rng(0)
    for shape, density in (((40, 30), 0.2), ((1, 5), 0.5), ((7, 1), 0.5), ((20, 9), 0.0), ((20, 9), 1.0)):
        X, Y = (random_array(shape, density=density, format="csr", rng=rng) for _ in range(2))
        for m in (X, Y):
            m.sort_indices()
        dense_x, dense_y = X.toarray() > 0, Y.toarray() > 0
        assert stats.count_active(X.indices, shape[1]).tolist() == dense_x.sum(axis=0).tolist()
        assert stats.count_both(X, Y).tolist() == (dense_x & dense_y).sum(axis=0).tolist()


def test_counts_within_sets_equal_those_of_dense_arrays():
    rng = np.random.default_rng(4)
    X = random_array((40, 9), density=0.3, format="csr", rng=rng)
    chosen = rng.integers(-1, 2, (6, 40))
    assert stats.count_chosen(X, chosen).tolist() == (chosen @ (X.toarray() > 0)).tolist()


def test_counting_in_blocks_gives_the_same(monkeypatch):
    indices = np.random.default_rng(1).integers(0, 13, 1000).astype(np.int32)
    whole = stats.count_active(indices, 13)
    monkeypatch.setattr(stats.counts, "_BLOCK", 7)
    assert stats.count_active(indices, 13).tolist() == whole.tolist() == np.bincount(indices, minlength=13).tolist()


def test_both_counts_activity_however_small_the_values():
    tiny = csr_array(np.full((3, 2), 1e-30, dtype=np.float32))
    assert stats.count_both(tiny, tiny).tolist() == [3, 3]


def test_both_refuses_matrices_of_different_shape():
    with pytest.raises(ValueError, match=r"\(3, 2\) and \(2, 2\)"):
        stats.count_both(csr_array((3, 2)), csr_array((2, 2)))


# --- intervals


@pytest.mark.parametrize("n", [1, 2, 7, 50, 100_000])
def test_wilson_equals_statsmodels(n):
    count = np.unique(np.linspace(0, n, 60).astype(int))
    low, high = stats.wilson(count, n)
    expected_low, expected_high = proportion_confint(count, n, method="wilson")
    np.testing.assert_allclose(low, expected_low, atol=1e-12)
    np.testing.assert_allclose(high, expected_high, atol=1e-12)
    assert low[0] == 0
    assert high[-1] == 1


@pytest.mark.parametrize(("n_a", "n_b"), [(1, 1), (1, 9), (6, 4), (23, 31)])
def test_unpaired_interval_equals_statsmodels_for_every_table(n_a, n_b):
    a, b = all_tables(n_a, n_b)
    low, high = stats.newcombe_unpaired(a, b, n_a, n_b)
    for i, j in np.ndindex(a.shape):
        expected = confint_proportions_2indep(i, n_a, j, n_b, method="newcomb", compare="diff")
        assert (low[i, j], high[i, j]) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        # PSI CAMIS, "Confidence intervals for paired proportions": phi is 0 since 0 <= ru - st <= N / 2.
        ((20, 15, 6, 5), (0.002602, 0.369943)),
        # By hand for Altman et al. (2000), Statistics with Confidence, table 6.2: ru - st = 308, less 41/2 = 287.5,
        # phi = 287.5 / sqrt(19 * 22 * 14 * 27) = 0.72328; Wilson 0.319540..0.612927 and 0.215590..0.494555.
        ((14, 5, 0, 22), (0.011483, 0.226493)),
        # Negative correlation: phi = -24 / sqrt(48 * 2 * 38 * 12) = -0.114708, not reduced.
        ((36, 12, 2, 0), (0.056930, 0.340428)),
        # A margin is empty: phi is 0.
        ((43, 0, 1, 0), (-0.118077, 0.059718)),
        ((54, 0, 0, 0), (-0.066414, 0.066414)),
    ],
)
def test_paired_interval_equals_worked_examples(table, expected):
    both, only_a, only_b, neither = table
    low, high = stats.newcombe_paired(both, only_a, only_b, both + only_a + only_b + neither)
    assert (float(low), float(high)) == pytest.approx(expected, abs=1e-6)


@settings(max_examples=200, deadline=None)
@given(st.tuples(*[st.integers(0, 400)] * 4).filter(any))
def test_paired_interval_holds_the_difference_and_turns_with_the_sides(table):
    both, only_a, only_b, neither = table
    n = sum(table)
    low, high = stats.newcombe_paired(both, only_a, only_b, n)
    assert -1 - 1e-12 <= low <= (only_a - only_b) / n <= high <= 1 + 1e-12
    assert stats.newcombe_paired(both, only_b, only_a, n) == pytest.approx((-high, -low), abs=1e-12)
    assert stats.newcombe_paired(neither, only_a, only_b, n) == pytest.approx((low, high), abs=1e-12)


# --- tests of one latent


@pytest.mark.parametrize(("n_a", "n_b"), [(1, 1), (1, 7), (5, 5), (8, 13), (30, 21)])
def test_fisher_equals_scipy_for_every_table(n_a, n_b):
    a, b = all_tables(n_a, n_b)
    expected = [[scipy_fisher([[i, n_a - i], [j, n_b - j]])[1] for j in range(n_b + 1)] for i in range(n_a + 1)]
    np.testing.assert_allclose(stats.fisher_exact(a, b, n_a, n_b), expected, rtol=1e-10)


@pytest.mark.parametrize(("n_a", "n_b"), [(400, 400), (90, 2500), (60_000, 60_000)])
@pytest.mark.parametrize("density", [0.0005, 0.02, 0.5, 0.97])
def test_fisher_equals_scipy_for_large_sets(n_a, n_b, density):
    rng = np.random.default_rng(n_a)
    a, b = rng.binomial(n_a, density, 6), rng.binomial(n_b, min(1.05 * density, 1), 6)
    expected = [scipy_fisher([[i, n_a - i], [j, n_b - j]])[1] for i, j in zip(a, b, strict=True)]
    np.testing.assert_allclose(stats.fisher_exact(a, b, n_a, n_b), expected, rtol=1e-8)


def test_fisher_far_in_the_tail():
    # Complete separation: only this table and its mirror are so unlikely, each with probability 1 / C(1000, 500).
    p = stats.fisher_exact(np.array([500, 0]), np.array([0, 500]), 500, 500)
    expected = 2 * hypergeom.pmf(500, 1000, 500, 500)
    np.testing.assert_allclose(p, [expected, expected], rtol=1e-9)
    assert 0 < expected < 1e-290


def test_fisher_of_one_latent_does_not_depend_on_the_others(monkeypatch):
    rng = np.random.default_rng(3)
    a, b = rng.binomial(3000, 0.1, 300), rng.binomial(2000, rng.uniform(0, 1, 300))
    together = stats.fisher_exact(a, b, 3000, 2000)
    assert stats.fisher_exact(a[::-1], b[::-1], 3000, 2000)[::-1].tolist() == together.tolist()
    monkeypatch.setattr(stats.exact, "_BLOCK", 64)
    assert stats.fisher_exact(a, b, 3000, 2000).tolist() == together.tolist()
    assert stats.fisher_exact(a[:1], b[:1], 3000, 2000).tolist() == together[:1].tolist()


@pytest.mark.parametrize(("n_a", "n_b"), [(1, 1), (6, 6), (9, 4), (3, 40)])
def test_fisher_rejects_no_more_often_than_stated_at_any_support(n_a, n_b):
    for support in range(n_a + n_b + 1):
        x = np.arange(max(0, support - n_b), min(support, n_a) + 1)
        p = stats.fisher_exact(x, support - x, n_a, n_b)
        likely = hypergeom.pmf(x, n_a + n_b, support, n_a)
        assert all(likely[p <= level].sum() <= level * (1 + 1e-9) for level in p)
        assert stats.fisher_least_p(np.array([support]), n_a, n_b) == pytest.approx(p.min(), rel=1e-10)


def test_mcnemar_equals_scipy_and_statsmodels_for_every_small_table():
    a, b = all_tables(24, 24)
    p = stats.mcnemar_exact(a, b)
    for i, j in np.ndindex(a.shape):
        assert p[i, j] == pytest.approx(mcnemar([[5, i], [j, 2]], exact=True).pvalue, rel=1e-10)
        if i + j:
            assert p[i, j] == pytest.approx(binomtest(i, i + j, 0.5).pvalue, rel=1e-10)


@pytest.mark.parametrize(("only_a", "only_b"), [(5000, 5250), (300, 900), (0, 400), (40_000, 40_000), (10, 2000)])
def test_mcnemar_equals_scipy_for_many_pairs(only_a, only_b):
    expected = binomtest(only_a, only_a + only_b, 0.5).pvalue
    assert stats.mcnemar_exact(only_a, only_b) == pytest.approx(expected, rel=1e-9)


def test_mcnemar_least_p_is_that_of_the_most_extreme_table():
    d = np.arange(60)
    np.testing.assert_allclose(stats.mcnemar_least_p(d), stats.mcnemar_exact(d, np.zeros_like(d)), rtol=1e-12)


# --- many tests


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.01, 0.5, 1.0])), min_size=1, max_size=60))
def test_benjamini_hochberg_equals_scipy(p):
    np.testing.assert_allclose(stats.benjamini_hochberg(p), false_discovery_control(p), rtol=1e-12)


def test_benjamini_hochberg_of_no_test():
    assert stats.benjamini_hochberg(np.array([])).tolist() == []


def simes_by_hand(p: list[float]) -> float:
    ordered = sorted(x for x in p if not np.isnan(x))
    return min([x * len(ordered) / rank for rank, x in enumerate(ordered, 1)] + [1.0])


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.01, 1.0, np.nan])), min_size=1, max_size=12))
def test_simes_equals_a_loop_over_what_counts(p):
    assert stats.simes(np.array(p)) == pytest.approx(simes_by_hand(p), rel=1e-12)
    assert stats.simes(np.array([p, p[::-1]])) == pytest.approx([simes_by_hand(p)] * 2, rel=1e-12)
    assert stats.simes(np.array([*p, np.nan])) == stats.simes(np.array(p))


def test_simes_is_the_smallest_q_of_its_tests():
    p = np.random.default_rng(6).uniform(0, 0.2, (30, 2, 5))
    expected = [[false_discovery_control(p[i, j]).min() for j in range(2)] for i in range(30)]
    np.testing.assert_allclose(stats.simes(p), expected, rtol=1e-12)
    assert stats.simes(np.full((2, 3), np.nan)).tolist() == [1.0, 1.0]


@pytest.mark.parametrize("level", [0.05, 1e-3])
def test_simes_holds_its_level_exactly_for_independent_tests_and_below_for_like_ones(level):
    rng, runs = np.random.default_rng(8), 400_000
    allowed = level + 4 * np.sqrt(level * (1 - level) / runs)
    uniform = rng.random((runs, 4))
    rate = (stats.simes(uniform) <= level).mean()
    assert 2 * level - allowed <= rate <= allowed
    like = np.where(rng.random((runs, 4)) < 0.7, uniform[:, :1], uniform)
    assert (stats.simes(like) <= level).mean() <= allowed
    k = np.arange(13)
    discrete = stats.mcnemar_exact(k, 12 - k)[rng.binomial(12, 0.5, (runs, 4))]
    assert (stats.simes(discrete) <= level).mean() <= allowed


# --- the numbers of docs/statistics.md


def rejections(p: np.ndarray, n_a: int, n_b: int, level: float) -> float:
    """Worst P(p <= level) / level over densities, when the sets do not differ."""
    a, b = np.arange(n_a + 1), np.arange(n_b + 1)
    density = np.geomspace(0.01, 0.5, 60)[:, None]
    rate = ((binom.pmf(a, n_a, density) @ (p <= level)) * binom.pmf(b, n_b, density)).sum(axis=1)
    return float(rate.max() / level)


def mid_p(a: np.ndarray, b: np.ndarray, n_a: int, n_b: int) -> np.ndarray:
    own = hypergeom.pmf(a, n_a + n_b, a + b, n_a)
    twin = (n_a == n_b) & (a != b)  # in sets of equal size the mirrored table is as likely
    return stats.fisher_exact(a, b, n_a, n_b) - np.where(twin, 2, 1) * own / 2


def score(a: np.ndarray, b: np.ndarray, n_a: int, n_b: int) -> np.ndarray:
    n, support = n_a + n_b, a + b
    scale = np.maximum(support * (n - support) * float(n_a * n_b), 1)
    return chi2.sf(n * (a * float(n_b) - b * float(n_a)) ** 2 / scale, 1)


def test_documented_rejection_rates_are_those_of_the_tests():
    text = DOCS.read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| (\d+) \| (0\.0+1) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", text, re.MULTILINE)
    assert len(rows) == 4
    for n_a, n_b, level, *documented in rows:
        sizes = int(n_a), int(n_b)
        tables = all_tables(*sizes)
        found = [
            f"{rejections(test(*tables, *sizes), *sizes, float(level)):.2f}"
            for test in (stats.fisher_exact, mid_p, score)
        ]
        assert found == documented


def test_documented_worst_support_for_mid_p():
    worst = 0.0
    for support in range(1, 300):
        x = np.arange(max(0, support - 150), min(support, 150) + 1)
        own = hypergeom.pmf(x, 300, support, 150)
        worst = max(worst, own[mid_p(x, support - x, 150, 150) <= 1e-5].sum() / 1e-5)
    assert f"{worst:.1f} times too often (sets of 150 and 150" in DOCS.read_text(encoding="utf-8").replace("\n  ", " ")


def test_documented_least_p_values():
    text = DOCS.read_text(encoding="utf-8")
    five, six = stats.fisher_least_p(np.array([5, 6]), 150, 150)
    assert f"{five:.4f} at a support of 5 (left out), {six:.4f} at 6 (tested)" in text
    np.testing.assert_allclose(stats.fisher_least_p(np.array([295, 294]), 150, 150), [five, six], rtol=1e-9)
    five, six = stats.mcnemar_least_p(np.array([5, 6]))
    assert f"{five:g} at d = 5 (left out), {six:g} at d = 6 (tested)" in text


def test_documented_example_line():
    text = DOCS.read_text(encoding="utf-8")
    low, high = stats.wilson(np.array([48, 21]), 150)
    assert f"{low[0]:.4f} to {high[0]:.4f} and {low[1]:.4f} to {high[1]:.4f}" in text
    low, high = stats.newcombe_unpaired(48, 21, 150, 150)
    assert f"= {low:.4f} and high" in text
    assert f"= {high:.4f}.\n" in text
    unpaired = float(stats.fisher_exact(48, 21, 150, 150))
    assert f"Fisher's exact p = {unpaired:.6f}." in text
    low, high = stats.newcombe_paired(15, 33, 6, 150)
    assert f"Interval {low:.4f} to {high:.4f}, narrower" in text
    paired = float(stats.mcnemar_exact(33, 6))
    assert f"McNemar's exact p = {paired:.7f}." in text
    assert f"{unpaired * 2000 / 3:.4f} for the\nindependent sets" in text
    assert f"{paired * 2000 / 3:.4f} for the pairs" in text
