"""Clustered documents: the interval against statsmodels, the test against exact tests and brute force."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from saelens_data import stats
from saelens_data.stats import clusters
from saelens_data.stats.clusters import cluster_test, permutation, relabel


def sparse(dense: np.ndarray) -> csr_array:
    return csr_array(np.asarray(dense, dtype=np.float64))


def chunks(rng: np.random.Generator, a: int, b: int, most: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Texts of one set each: (in_a, cluster)."""
    size = rng.integers(1, most + 1, a + b)
    return np.repeat(np.arange(a + b) < a, size), np.repeat(np.arange(a + b), size)


def answers(prompts: int, a: int, b: int) -> tuple[np.ndarray, np.ndarray]:
    """Prompts answered `a` and `b` times: (in_a, cluster)."""
    return np.tile(np.arange(a + b) < a, prompts), np.repeat(np.arange(prompts), a + b)


def both(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    one, other = answers(7, 2, 3), chunks(rng, 6, 5)
    return np.concatenate([one[0], other[0]]), np.concatenate([one[1], 100 + other[1]])


DESIGNS = {
    "chunks": lambda rng: chunks(rng, 9, 7),
    "answers": lambda _: answers(12, 3, 3),
    "uneven answers": lambda _: answers(12, 1, 4),
    "both": both,
    "two clusters": lambda _: (np.arange(8) < 5, np.array([0, 0, 1, 0, 0, 1, 1, 1])),
}


def drawn(name: str, *, seed: int = 0, signed: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    in_a, cluster = DESIGNS[name](rng)
    y = (rng.random((len(in_a), 12)) < rng.uniform(0.05, 0.95, 12)) * 1.0
    return (y * rng.normal(size=y.shape) if signed else y), in_a, cluster


# --- the interval


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("name", DESIGNS)
def test_interval_equals_that_of_statsmodels(name, signed):
    y, in_a, cluster = drawn(name, signed=signed)
    found = cluster_test(sparse(y), in_a, cluster)
    groups = np.unique(cluster, return_inverse=True)[1]
    tolerance = 1e-5 if name == "two clusters" else 1e-8  # the root of a rounding error where the variance is 0
    for j in range(y.shape[1]):
        fit = sm.OLS(y[:, j], sm.add_constant(in_a * 1.0)).fit(
            cov_type="cluster", cov_kwds={"groups": groups}, use_t=True
        )
        expected = [fit.params[1], *fit.conf_int()[1]]
        if np.isnan(expected[1]):  # its variance is 0, and rounding took it below
            expected[1:] = expected[:1] * 2
        np.testing.assert_allclose([found.difference[j], found.low[j], found.high[j]], expected, atol=tolerance)
    assert found.n_clusters == len(np.unique(cluster))


# --- one document of a set in each cluster: the exact tests


def test_equals_mcnemar_where_each_cluster_is_a_pair():
    rng = np.random.default_rng(0)
    n = 80
    a, b = (rng.random((n, 60)) < rng.uniform(0.02, 0.98, 60) for _ in range(2))
    b[:, :5] = False
    in_a, cluster = np.arange(2 * n) < n, np.tile(np.arange(n), 2)
    found = cluster_test(sparse(np.vstack([a, b])), in_a, cluster)
    only_a, only_b = (a & ~b).sum(axis=0), (b & ~a).sum(axis=0)
    np.testing.assert_allclose(found.p_value, stats.mcnemar_exact(only_a, only_b), rtol=1e-9)
    np.testing.assert_allclose(found.least_p, stats.mcnemar_least_p(only_a + only_b), rtol=1e-9)
    assert found.active_clusters.tolist() == (a | b).sum(axis=0).tolist()


@pytest.mark.parametrize(("n_a", "n_b"), [(150, 150), (30, 270), (500, 500)])
def test_close_to_fisher_where_each_cluster_is_a_document(n_a, n_b):
    """Over all tables of a support: no more rejections than promised, and p near twice the tail in the balanced case."""
    for support in (4, 12, 40, (n_a + n_b) // 2):
        x = np.arange(max(0, support - n_b), min(support, n_a) + 1)
        dense = np.zeros((n_a + n_b, len(x)))
        for j, count in enumerate(x):
            dense[:count, j] = dense[n_a : n_a + support - count, j] = 1
        law = permutation(sparse(dense), np.arange(n_a + n_b) < n_a, np.arange(n_a + n_b))
        p, chance = law.p_value(1.0), np.exp(stats.exact._log_pmf(x, np.full(len(x), support), n_a, n_b))
        for threshold in (1e-2, 1e-3, 1e-4, 1e-5):
            assert chance[p <= threshold].sum() <= 1.05 * threshold
        fisher = stats.fisher_exact(x, support - x, n_a, n_b)
        if n_a == n_b:
            far = (fisher < 0.1) & (fisher > 1e-9)
            assert np.all((p[far] > 0.75 * fisher[far]) & (p[far] < 1.1 * fisher[far]))
        assert (law.least_p() <= p * (1 + 1e-9)).all()


def test_copies_of_documents_change_nothing():
    """Every document five times over, as chunks of one text that are all alike: the test of the documents alone."""
    rng = np.random.default_rng(3)
    in_a = np.arange(60) < 25
    y = (rng.random((60, 30)) < rng.uniform(0.05, 0.6, 30)) * 1.0
    once = cluster_test(sparse(y), in_a, np.arange(60))
    times = cluster_test(sparse(np.repeat(y, 5, axis=0)), np.repeat(in_a, 5), np.repeat(np.arange(60), 5))
    inside = once.p_value < 0.5  # the correction by half a step is smaller for sums in steps of 5
    assert inside.sum() > 5
    assert (np.abs(np.log(times.p_value / once.p_value))[inside] < 0.35).all()
    np.testing.assert_allclose(times.least_p, once.least_p, rtol=1e-9)


# --- moments, range and p against all exchanges of sides


def exchanges(in_a: np.ndarray, cluster: np.ndarray) -> np.ndarray:
    """Every choice of sides: whole clusters of one set, documents within clusters of both, [choices, documents]."""
    kinds = {c: set(in_a[cluster == c]) for c in np.unique(cluster)}
    pure, mixed = ([c for c in kinds if len(kinds[c]) == n] for n in (1, 2))
    options = []
    if pure:
        chosen = combinations(pure, sum(True in kinds[c] for c in pure))
        options.append([np.isin(cluster, one) for one in chosen])
    for c in mixed:
        own = np.flatnonzero(cluster == c)
        options.append([np.isin(np.arange(len(in_a)), one) for one in combinations(own, in_a[own].sum())])
    return np.array([np.any(choice, axis=0) for choice in product(*options)])


SMALL = {
    "even chunks": (np.repeat(np.arange(9) < 4, 2), np.repeat(np.arange(9), 2)),
    "chunks": (np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 1, 0, 0], bool), np.array([0, 0, 1, 2, 3, 3, 4, 5, 5, 6, 7, 8])),
    "answers": (
        np.array([1, 0, 0, 1, 1, 0, 1, 0, 0, 1, 1, 0, 0], bool),
        np.array([0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 3]),
    ),
    "both": (np.array([1, 0, 0, 1, 0, 1, 1, 1, 0, 0, 0], bool), np.array([0, 0, 0, 1, 1, 2, 2, 3, 4, 4, 5])),
}


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("name", SMALL)
def test_moments_equal_those_over_all_exchanges(name, signed):
    in_a, cluster = SMALL[name]
    rng = np.random.default_rng(1)
    y = (rng.random((len(in_a), 40)) < rng.uniform(0.1, 0.9, 40)) * 1.0
    y = y * rng.normal(size=y.shape) if signed else y
    sides = exchanges(in_a, cluster)
    laws = [permutation(sparse(y), one, cluster) for one in sides]
    observed = np.array([law.observed for law in laws])
    np.testing.assert_allclose(observed.mean(axis=0), 0, atol=1e-12)
    variance = np.array([law.variance for law in laws])
    if name == "even chunks":
        np.testing.assert_allclose(variance, observed.var(axis=0) + 0 * variance, atol=1e-12)
    else:  # larger by the squares of what was observed, or where the clusters of one set are longer
        assert (variance.mean(axis=0) >= observed.var(axis=0) - 1e-12).all()
    if name == "answers" and not signed:
        np.testing.assert_allclose(observed.max(axis=0), laws[0].above, atol=1e-12)
        np.testing.assert_allclose(-observed.min(axis=0), laws[0].below, atol=1e-12)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("name", SMALL)
def test_least_p_is_a_lower_bound_and_the_level_holds_over_all_exchanges(name, signed):
    in_a, cluster = SMALL[name]
    rng = np.random.default_rng(2)
    y = (rng.random((len(in_a), 60)) < rng.uniform(0.1, 0.9, 60)) * 1.0
    y = y * rng.normal(size=y.shape) if signed else y
    step = 0.0 if signed else 1.0
    laws = [permutation(sparse(y), one, cluster) for one in exchanges(in_a, cluster)]
    p = np.array([law.p_value(step) for law in laws])
    least = np.array([law.least_p() for law in laws])
    assert (least <= p * (1 + 1e-9)).all()
    if name == "answers":  # elsewhere it depends on how many documents the clusters of A have
        assert (least.max(axis=0) <= p.min(axis=0) * (1 + 1e-9)).all()
    for threshold in (0.2, 0.1, 0.05, 0.02):
        assert (p <= threshold).mean() <= threshold


# --- level


def rejected(in_a: np.ndarray, cluster: np.ndarray, chance: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Share of latents rejected at 0.01, by this test, Fisher's and the CR1 t-test."""
    y = rng.random((len(in_a), chance.shape[1])) < chance
    found = cluster_test(sparse(y), in_a, cluster, level=0.99)
    a, b = (y[side].sum(axis=0) for side in (in_a, ~in_a))
    fisher = stats.fisher_exact(a, b, int(in_a.sum()), int((~in_a).sum()))
    robust = (found.low > 0) | (found.high < 0)
    return np.array([(found.p_value <= 0.01).mean(), (fisher <= 0.01).mean(), robust.mean()])


def test_level_holds_where_chunks_of_a_text_are_alike():
    rng = np.random.default_rng(5)
    in_a, cluster = chunks(rng, 15, 60, most=15)
    chance = rng.beta(0.2, 0.8, (75, 4000))[cluster]
    this, fisher, robust = rejected(in_a, cluster, chance, rng)
    assert this <= 0.01
    assert fisher > 0.1
    assert robust > 0.02


def test_level_holds_where_answers_of_one_side_to_a_prompt_are_alike():
    rng = np.random.default_rng(6)
    in_a, cluster = answers(40, 4, 4)
    chance = rng.beta(0.4, 0.6, (80, 4000))[2 * cluster + in_a]
    this, fisher, _ = rejected(in_a, cluster, chance, rng)
    assert 0.002 < this <= 0.01
    assert fisher > 0.05


def test_a_difference_is_found():
    rng = np.random.default_rng(7)
    for in_a, cluster in (chunks(rng, 80, 80), answers(80, 3, 3)):
        y = rng.random((len(in_a), 50)) < 0.1 + 0.4 * in_a[:, None]
        found = cluster_test(sparse(y), in_a, cluster)
        assert (found.p_value < 1e-5).all()
        assert ((found.low > 0) & (found.high < 1)).all()


# --- what must not matter, and edges


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(sorted(set(DESIGNS) - {"two clusters"})), st.integers(0, 10_000), st.booleans())
def test_order_names_and_blocks_do_not_matter(name, seed, signed):
    y, in_a, cluster = drawn(name, seed=seed, signed=signed)
    found = cluster_test(sparse(y), in_a, cluster)
    order = np.random.default_rng(seed).permutation(len(in_a))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clusters, "_BLOCK", 9)
        other = cluster_test(sparse(y[order]), in_a[order], -7 * cluster[order])
    for field in ("difference", "low", "high", "p_value", "least_p", "active_clusters"):
        np.testing.assert_allclose(getattr(other, field), getattr(found, field), rtol=1e-7, atol=1e-6)


@pytest.mark.parametrize("name", DESIGNS)
def test_exchanging_a_and_b_turns_the_difference(name):
    y, in_a, cluster = drawn(name, seed=3)
    found, turned = cluster_test(sparse(y), in_a, cluster), cluster_test(sparse(y), ~in_a, cluster)
    np.testing.assert_allclose(turned.p_value, found.p_value, rtol=1e-9)
    np.testing.assert_allclose(turned.difference, -found.difference, atol=1e-12)
    assert ((found.p_value > 0) & (found.p_value <= 1) & (found.least_p <= found.p_value)).all()


def test_a_scale_of_scores_does_not_matter():
    y, in_a, cluster = drawn("both", signed=True)
    one, other = (cluster_test(sparse(s * y), in_a, cluster) for s in (1, 1e-3))
    np.testing.assert_allclose(other.p_value, one.p_value, rtol=1e-9)


@pytest.mark.parametrize("name", DESIGNS)
def test_latents_that_say_nothing_have_p_1(name):
    y, in_a, cluster = drawn(name)
    y[:, 0], y[:, 1] = 0, 1
    found = cluster_test(sparse(y), in_a, cluster)
    assert found.p_value[:2].tolist() == found.least_p[:2].tolist() == [1, 1]
    assert found.active_clusters[:2].tolist() == [0, found.n_clusters]


def test_one_cluster_of_one_set_each_cannot_be_told_apart():
    found = cluster_test(sparse([[1], [1], [0], [0]]), np.array([True, True, False, False]), np.array([0, 0, 1, 1]))
    assert found.p_value.tolist() == [1.0]
    assert found.difference.tolist() == pytest.approx([1.0])


# --- other sides


@pytest.mark.parametrize("name", DESIGNS)
def test_relabel_keeps_what_the_test_conditions_on(name):
    _, in_a, cluster = drawn(name)
    rng = np.random.default_rng(0)
    drawn_sides = np.array([relabel(cluster, in_a, rng) for _ in range(400)])
    code = np.unique(cluster, return_inverse=True)[1]
    kept = {c: in_a[code == c].sum() for c in range(code.max() + 1)}
    mixed = np.array([0 < kept[c] < (code == c).sum() for c in kept])
    for sides in drawn_sides:
        counts = np.bincount(code, weights=sides)
        assert (counts[mixed] == np.array(list(kept.values()))[mixed]).all()
        assert np.isin(counts[~mixed] / np.bincount(code)[~mixed], (0, 1)).all()
        assert (counts[~mixed] > 0).sum() == sum(kept[c] > 0 for c in kept if not mixed[c])
    if name != "two clusters":
        share = np.where(
            mixed,
            np.array(list(kept.values())) / np.bincount(code),
            np.mean([kept[c] > 0 for c in kept if not mixed[c]] or [0]),
        )
        np.testing.assert_allclose(drawn_sides.mean(axis=0), share[code], atol=0.12)


def test_relabel_exchanges_the_sides_of_an_even_cluster_as_a_whole():
    in_a, cluster = answers(5, 4, 4)
    rng = np.random.default_rng(1)
    for _ in range(20):
        turned = (relabel(cluster, in_a, rng) ^ in_a).reshape(5, 8)
        assert (turned == turned[:, :1]).all()


def test_relabelled_sides_are_rejected_as_often_as_stated():
    rng = np.random.default_rng(8)
    in_a, cluster = both(rng)
    many = np.concatenate([cluster + 1000 * i for i in range(4)]), np.tile(in_a, 4)
    y = sparse(rng.random((len(many[0]), 200)) < rng.beta(0.3, 0.5, (4200, 200))[many[0]])
    p = np.array([permutation(y, relabel(many[0], many[1], rng), many[0]).p_value(1.0) for _ in range(60)])
    assert 0.02 < (p <= 0.05).mean() <= 0.05


def test_no_p_is_below_that_of_turning_all_clusters_one_way():
    """Answers of a side that are alike, and all for A: as with so many pairs, however many answers there are."""
    for prompts in (3, 6, 20):
        in_a, cluster = answers(prompts, 4, 4)
        y = np.zeros((len(in_a), 3))
        y[in_a, 0] = 1  # all answers of A
        y[np.arange(len(in_a)) % 8 < 2, 1] = 1  # two of four
        y[np.arange(len(in_a)) % 8 < 1, 2] = 1  # one of four
        found = cluster_test(sparse(y), in_a, cluster)
        np.testing.assert_allclose(found.p_value[0], 2.0 ** (1 - prompts), rtol=1e-9)
        assert (found.p_value >= 2.0 ** (1 - prompts) * (1 - 1e-9)).all()
        assert (found.least_p <= found.p_value * (1 + 1e-9)).all()
