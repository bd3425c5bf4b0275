"""Rank tests and AUCs against SciPy, brute force and full enumeration."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.sparse import csr_array
from scipy.special import ndtr, ndtri
from scipy.stats import mannwhitneyu, rankdata, wilcoxon

from saelens_data.stats import strength, wilson

THRESHOLDS = [1e-2, 1e-3, 1e-4, 1e-5]


def activations(n: int, latents: int, density: float, rng: np.random.Generator, levels: int = 0) -> csr_array:
    """Random activations; of `levels` distinct values where it is not 0."""
    dense = rng.random((n, latents), dtype=np.float32) + np.float32(0.01)
    if levels:
        dense = np.ceil(dense * levels).astype(np.float32)
    return csr_array(dense * (rng.random((n, latents)) < density))


def active(X: csr_array, latent: int) -> np.ndarray:
    """As float64: SciPy computes in the dtype that it gets."""
    values = X.toarray()[:, latent]
    return values[values > 0].astype(np.float64)


def tie_term(values: np.ndarray) -> float:
    t = np.unique(values, return_counts=True)[1].astype(np.float64)
    return float((t**3 - t).sum())


def two_sided(reach: float, sd: float) -> float:
    return float(2 * ndtr(-max(reach, 0) / sd))


# --- ranks


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 12), st.integers(1, 6), st.integers(0, 3), st.integers(0, 2**31))
def test_pooled_ranks_are_mean_ranks_within_each_latent(n, latents, levels, seed):
    X = activations(n, latents, 0.6, np.random.default_rng(seed), levels)
    ranks, ties = strength.pooled_ranks(X)
    assert ranks.indices.tolist() == X.indices.tolist()
    assert ranks.indptr.tolist() == X.indptr.tolist()
    for j in range(latents):
        assert active(ranks, j).tolist() == rankdata(active(X, j)).tolist()
        assert ties[j] == tie_term(active(X, j))


def test_ranks_order_the_smallest_and_largest_floats():
    values = np.array([3e38, 1e-45, 1.0, np.nextafter(np.float32(1), np.float32(2)), 1e-38], dtype=np.float32)
    ranks, ties = strength.pooled_ranks(csr_array(values[:, None]))
    assert ranks.data.tolist() == [5, 1, 3, 4, 2]
    assert ties.tolist() == [0]


@pytest.mark.parametrize("block", [1, 7, 50])
def test_ranking_in_blocks_gives_the_same(monkeypatch, block):
    rng = np.random.default_rng(1)
    X, Y = activations(40, 20, 0.5, rng, 6), activations(40, 20, 0.7, rng, 6)
    whole = [strength.rank_sum(X, Y), strength.signed_rank(X, Y)]
    monkeypatch.setattr(strength, "_BLOCK", block)
    for a, b in zip(whole, [strength.rank_sum(X, Y), strength.signed_rank(X, Y)], strict=True):
        for name in ("auc", "low", "high", "p_value", "n_a", "n_b"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


def test_signed_ranks_are_those_of_the_differences_where_both_are_active():
    rng = np.random.default_rng(2)
    X, Y = activations(30, 8, 0.7, rng, 5), activations(30, 8, 0.7, rng, 5)
    ranks, ties = strength.signed_ranks(X, Y)
    x, y = X.toarray(), Y.toarray()
    difference = np.where((x > 0) & (y > 0), x - y, 0)
    for j in range(8):
        d = difference[:, j]
        expected = np.zeros(30)
        expected[d != 0] = np.sign(d[d != 0]) * rankdata(np.abs(d[d != 0]))
        assert ranks.toarray()[:, j].tolist() == expected.tolist()
        assert ties[j] == tie_term(np.abs(d[d != 0]))
    assert np.all(ranks.data != 0)


# --- tests and effects


@pytest.mark.parametrize(("n_a", "n_b"), [(60, 90), (8, 200), (5, 5)])
def test_rank_sum_equals_scipy_without_ties(n_a, n_b):
    rng = np.random.default_rng(n_a)
    X, Y = activations(n_a, 30, 0.8, rng), activations(n_b, 30, 0.5, rng)
    found = strength.rank_sum(X, Y)
    for j in range(30):
        x, y = active(X, j), active(Y, j)
        assert (found.n_a[j], found.n_b[j]) == (len(x), len(y))
        u, p = mannwhitneyu(x, y, method="asymptotic", use_continuity=True)
        assert found.p_value[j] == pytest.approx(p, rel=1e-10)
        assert found.auc[j] == pytest.approx(u / (len(x) * len(y)), rel=1e-12)
        assert found.auc[j] == pytest.approx(np.mean(x[:, None] > y), rel=1e-12)


@pytest.mark.parametrize("levels", [3, 10, 100])
def test_with_ties_rank_sum_has_scipys_variance_and_a_larger_correction(levels):
    rng = np.random.default_rng(levels)
    X, Y = activations(40, 20, 0.7, rng, levels), activations(70, 20, 0.5, rng, levels)
    found = strength.rank_sum(X, Y)
    for j in range(20):
        x, y = active(X, j), active(Y, j)
        auc = np.mean(x[:, None] > y) + np.mean(x[:, None] == y) / 2
        assert found.auc[j] == pytest.approx(auc, rel=1e-12)
        n, both = len(x) + len(y), len(x) * len(y)
        distance = abs(auc - 0.5) * both
        z = -ndtri(mannwhitneyu(x, y, method="asymptotic", use_continuity=False).pvalue / 2)
        sd = distance / z if z else 1.0
        share = tie_term(np.concatenate([x, y])) / (n**3 - n)
        expected = two_sided(distance - (1 + n * share**0.5) / 2, sd) if share <= strength.MOST_TIED else 1.0
        assert found.p_value[j] == pytest.approx(expected, rel=1e-8)
        assert found.p_value[j] >= mannwhitneyu(x, y, method="asymptotic").pvalue


def test_rank_sum_is_not_tested_where_most_are_tied():
    x, y = np.full(20, 1.0), np.concatenate([np.full(10, 1.0), np.arange(2, 12)])
    found = strength.rank_sum(*(csr_array(v.astype(np.float32)[:, None]) for v in (x, y)))
    assert found.p_value.tolist() == [1.0]
    assert found.auc.tolist() == [0.25]
    assert mannwhitneyu(x, y, method="asymptotic").pvalue < 1e-3


@pytest.mark.parametrize("n", [9, 30, 200])
def test_signed_rank_equals_scipy_without_ties(n):
    rng = np.random.default_rng(n)
    X, Y = activations(n, 25, 0.9, rng), activations(n, 25, 0.8, rng)
    found = strength.signed_rank(X, Y)
    for j in range(25):
        x, y = X.toarray()[:, j], Y.toarray()[:, j]
        both = (x > 0) & (y > 0)
        difference = (x - y)[both].astype(np.float64)
        assert found.n_a[j] == found.n_b[j] == both.sum()
        assert found.auc[j] == pytest.approx(np.mean(difference > 0), rel=1e-12)
        p = wilcoxon(difference, correction=True, method="asymptotic", zero_method="wilcox").pvalue
        assert found.p_value[j] == pytest.approx(p, rel=1e-10)


def test_with_ties_signed_rank_has_scipys_variance_and_a_larger_correction():
    rng = np.random.default_rng(5)
    X, Y = activations(80, 20, 0.9, rng, 6), activations(80, 20, 0.9, rng, 6)
    found = strength.signed_rank(X, Y)
    for j in range(20):
        x, y = X.toarray()[:, j], Y.toarray()[:, j]
        difference = (x - y)[(x > 0) & (y > 0)].astype(np.float64)
        assert found.auc[j] == pytest.approx(np.mean((difference > 0) + (difference == 0) / 2), rel=1e-12)
        d = difference[difference != 0]
        total = abs(np.sum(np.sign(d) * rankdata(np.abs(d))))
        z = -ndtri(wilcoxon(d, correction=False, method="asymptotic").pvalue / 2)
        share = tie_term(np.abs(d)) / (len(d) ** 3 - len(d))
        expected = two_sided(total - 1 - (len(d) - 1) * share / 2, total / z) if total else 1.0
        assert found.p_value[j] == pytest.approx(expected, rel=1e-8)


def test_sides_exchanged_give_the_complement():
    rng = np.random.default_rng(6)
    X, Y = activations(30, 10, 0.7, rng, 8), activations(30, 10, 0.7, rng, 8)
    for kernel in (strength.rank_sum, strength.signed_rank):
        one, other = kernel(X, Y), kernel(Y, X)
        np.testing.assert_allclose(one.p_value, other.p_value, rtol=1e-12)
        np.testing.assert_allclose(one.auc, 1 - other.auc, atol=1e-12)
        np.testing.assert_allclose(one.low, 1 - other.high, atol=1e-12)


def test_a_difference_of_the_last_bit_is_a_difference():
    one = np.float32(1)
    X, Y = (csr_array(np.full((20, 1), v, dtype=np.float32)) for v in (np.nextafter(one, 2 * one), one))
    assert strength.signed_rank(X, Y).auc.tolist() == [1.0]


# --- nothing to compare


def test_latents_without_activity_on_a_side_have_no_effect_and_p_1():
    X = csr_array(np.array([[1, 0, 0, 1], [2, 0, 0, 2]], dtype=np.float32))
    Y = csr_array(np.array([[0, 3, 0, 3], [0, 4, 0, 4]], dtype=np.float32))
    for kernel in (strength.rank_sum, strength.signed_rank):
        found = kernel(X, Y)
        assert np.isnan([found.auc, found.low, found.high])[:, :3].all()
        assert found.p_value[:3].tolist() == [1, 1, 1]
        assert found.auc[3] == 0
        assert 0 == found.low[3] < found.high[3] < 1


@pytest.mark.parametrize("shape", [(0, 3), (4, 3)])
def test_empty_matrices(shape):
    empty = csr_array(shape, dtype=np.float32)
    for kernel in (strength.rank_sum, strength.signed_rank):
        found = kernel(empty, empty)
        assert found.p_value.tolist() == [1, 1, 1]
        assert np.isnan(found.auc).all()
        assert found.n_a.tolist() == [0, 0, 0]


def test_equal_pairs_give_one_half_with_an_interval_and_p_1():
    X = csr_array(np.arange(1, 31, dtype=np.float32)[:, None])
    found = strength.signed_rank(X, X)
    assert found.auc.tolist() == [0.5]
    assert found.p_value.tolist() == [1.0]
    assert 0.3 < found.low[0] < 0.5 < found.high[0] < 0.7


def test_matrices_that_do_not_fit_are_refused():
    X, Y = csr_array((3, 2), dtype=np.float32), csr_array((3, 4), dtype=np.float32)
    with pytest.raises(ValueError, match="sets of 2 and 4 latents"):
        strength.rank_sum(X, Y)
    with pytest.raises(ValueError, match=r"\(3, 2\) and \(3, 4\)"):
        strength.signed_rank(X, Y)


def test_read_only_arrays_serve_and_stay_as_they_are():
    X = activations(20, 6, 0.6, np.random.default_rng(7))
    for part in (X.data, X.indices, X.indptr):
        part.flags.writeable = False
    before = X.toarray()
    strength.rank_sum(X, X), strength.signed_rank(X, X)
    assert (X.toarray() == before).all()


# --- ranks reused over many splits


def test_p_values_of_splits_from_pooled_ranks_equal_those_of_the_split_matrices():
    rng = np.random.default_rng(8)
    X = activations(60, 12, 0.6, rng, 20)
    ranks, ties = strength.pooled_ranks(X)
    side = rng.random((5, 60)) < 0.4
    total, n_a = side @ ranks.toarray(), side @ (X.toarray() > 0).astype(int)
    n_b = (X.toarray() > 0).sum(axis=0) - n_a
    p = strength.rank_sum_p(total, n_a, n_b, ties)
    assert p.shape == (5, 12)
    for row, chosen in zip(p, side, strict=True):
        np.testing.assert_allclose(row, strength.rank_sum(X[chosen], X[~chosen]).p_value, rtol=1e-12)


def test_p_values_of_exchanged_pairs_from_signed_ranks_equal_those_of_the_exchanged_matrices():
    rng = np.random.default_rng(9)
    X, Y = activations(50, 12, 0.8, rng, 20), activations(50, 12, 0.8, rng, 20)
    ranks, ties = strength.signed_ranks(X, Y)
    sign = rng.choice([-1, 1], (5, 50))
    p = strength.signed_rank_p(sign @ ranks.toarray(), (ranks.toarray() != 0).sum(axis=0), ties)
    for row, s in zip(p, sign, strict=True):
        a, b = (np.where(s[:, None] == k, X.toarray(), Y.toarray()) for k in (1, -1))
        np.testing.assert_allclose(row, strength.signed_rank(csr_array(a), csr_array(b)).p_value, rtol=1e-12)


# --- all outcomes under the null

TIES = [[], [3], [3, 3], [2, 2, 2, 2], [5], [4, 4], [6, 2]]


def pooled_values(n: int, groups: list[int]) -> np.ndarray:
    """n values, of which the weakest are tied in groups."""
    values = np.arange(n, dtype=np.float64) + 1
    for k, size in enumerate(groups):
        values[sum(groups[:k]) : sum(groups[:k]) + size] = -1 - k
    return values[:n]


def all_rank_sums(ranks: np.ndarray, n_a: int) -> np.ndarray:
    return ranks[np.array(list(combinations(range(len(ranks)), n_a)))].sum(axis=1)


@pytest.mark.parametrize("groups", TIES, ids=str)
@pytest.mark.parametrize(("n_a", "n_b"), [(8, 8), (3, 50), (2, 100), (6, 12), (1, 40)])
def test_rank_sum_never_rejects_more_often_than_stated(n_a, n_b, groups):
    scale = 1 if n_b < 40 else 6  # groups of the same share in larger sets
    values = pooled_values(n_a + n_b, [g * scale for g in groups])
    p = strength.rank_sum_p(all_rank_sums(rankdata(values), n_a), n_a, n_b, tie_term(values))
    for t in THRESHOLDS:
        assert np.mean(p <= t) <= t


@pytest.mark.parametrize("groups", [*TIES, [14], [7, 7]], ids=str)
def test_signed_rank_never_rejects_more_often_than_stated(groups):
    values = pooled_values(14, groups)
    values -= values.min() - 1
    totals = np.array(list(product([-1, 1], repeat=14))) @ rankdata(values)
    p = strength.signed_rank_p(totals, 14, tie_term(values))
    for t in THRESHOLDS:
        assert np.mean(p <= t) <= t


@pytest.mark.parametrize("groups", TIES, ids=str)
def test_least_p_is_the_least_over_all_outcomes(groups):
    for n_a, n_b in [(6, 6), (3, 9), (2, 10), (12, 4)]:
        for support in range(2, 11):
            values = pooled_values(support, groups)
            ranks, ties = rankdata(values), tie_term(values)
            least = strength.rank_sum_least_p(np.array([support]), n_a, n_b, ties)[0]
            found = min(
                strength.rank_sum_p(all_rank_sums(ranks, a), a, support - a, ties).min()
                for a in range(max(support - n_b, 1), min(support, n_a) + 1)
            )
            assert least <= found + 1e-12
            if not groups:
                assert least == pytest.approx(found, rel=1e-12)


def test_least_p_of_pairs_is_that_of_all_differences_one_way():
    assert strength.signed_rank_least_p(np.array([0])).tolist() == [1.0]
    for n in range(1, 12):
        totals = np.array(list(product([-1, 1], repeat=n))) @ np.arange(1, n + 1)
        found = strength.signed_rank_p(totals, n, 0.0).min()
        assert strength.signed_rank_least_p(np.array([n]))[0] == pytest.approx(found, rel=1e-12)
    # Two latents of 20 pairs: without ties, and with all differences of one size.
    least = strength.signed_rank_least_p(np.array([20, 20]), np.array([0, 20**3 - 20]))
    assert least[0] == pytest.approx(two_sided(210 - 1, 2870**0.5), rel=1e-12)
    assert least[1] == pytest.approx(two_sided(210 - 10.5, (20 * 10.5**2) ** 0.5), rel=1e-12)


def test_least_p_falls_with_support_and_is_1_where_one_set_is_empty():
    least = strength.rank_sum_least_p(np.arange(0, 41), 20, 20)
    assert least[0] == least[1] == 1
    assert np.all(np.diff(least[2:]) < 0)
    assert strength.rank_sum_least_p(np.array([5]), 0, 9).tolist() == [1.0]


# --- intervals


@pytest.mark.parametrize(("n_a", "n_b"), [(1, 1), (5, 5), (3, 40), (200, 17)])
def test_auc_interval_solves_its_equation(n_a, n_b):
    m, z = (n_a + n_b) / 2 - 1, ndtri(0.95)

    def equation(t, auc):
        variance = t * (1 - t) * (1 + m * (1 - t) / (2 - t) + m * t / (1 + t)) / (n_a * n_b)
        return (auc - t) ** 2 - z**2 * variance

    auc = np.array([0.0, 0.1, 0.5, 0.83, 1.0])
    low, high = strength.auc_interval(auc, np.full(5, n_a), np.full(5, n_b), level=0.9)
    assert low[0] == 0
    assert high[-1] == 1
    for k in range(1, 5):
        assert low[k] == pytest.approx(brentq(equation, 0, auc[k] - 1e-9, args=(auc[k],)), abs=1e-9)
        assert high[k - 1] == pytest.approx(brentq(equation, auc[k - 1] + 1e-9, 1, args=(auc[k - 1],)), abs=1e-9)
    assert np.all((low >= 0) & (low <= auc) & (auc <= high) & (high <= 1) & (low < high))


@pytest.mark.parametrize(("n_a", "n_b"), [(10, 10), (20, 20), (5, 60), (100, 30)])
def test_auc_interval_covers_the_truth(n_a, n_b):
    rng = np.random.default_rng(10)
    for shift in (0, 1, 2):
        x, y = rng.normal(size=(1500, n_a)) + shift, rng.normal(size=(1500, n_b))
        ranks = rankdata(np.concatenate([x, y], axis=1), axis=1)[:, :n_a].sum(axis=1)
        auc = (ranks - n_a * (n_a + 1) / 2) / (n_a * n_b)
        low, high = strength.auc_interval(auc, np.full(1500, n_a), np.full(1500, n_b))
        truth = ndtr(shift / 2**0.5)
        assert 0.935 < np.mean((low <= truth) & (truth <= high)) < 0.99


def test_paired_interval_is_wilsons_without_equal_pairs_and_narrower_with_them():
    wins, n = np.array([0, 3, 10, 20]), np.full(4, 20)
    for ours, plain in zip(strength.paired_auc_interval(wins, np.zeros(4), n), wilson(wins, n), strict=True):
        np.testing.assert_allclose(ours, plain, rtol=1e-12)
    low, high = strength.paired_auc_interval(np.array([5, 0, 0]), np.array([10, 20, 10]), np.array([20, 20, 10]))
    assert np.all((low > 0) & (high < 1) & (low < 0.5) & (high > 0.5))
    assert np.all(high - low < np.subtract(*wilson(np.array([10, 10, 5]), np.array([20, 20, 10]))[::-1]))


def test_paired_interval_covers_the_truth():
    rng = np.random.default_rng(11)
    for n in (20, 100):
        for equal in (0.2, 0.6):
            wins, same, _ = rng.multinomial(n, [0.7 * (1 - equal), equal, 0.3 * (1 - equal)], size=3000).T
            low, high = strength.paired_auc_interval(wins, same, np.full(3000, n))
            truth = 0.7 * (1 - equal) + equal / 2
            assert 0.935 < np.mean((low <= truth) & (truth <= high)) < 0.985
