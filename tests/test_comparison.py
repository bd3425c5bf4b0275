"""compare: every column against SciPy and brute force on dense arrays, pairs, clusters and groups included."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from scipy.stats import beta, binomtest, false_discovery_control, fisher_exact, mannwhitneyu, norm, rankdata, wilcoxon
from statsmodels.stats.proportion import confint_proportions_2indep

from saelens_data import stats
from saelens_data.diff.comparison import Comparison, Looks, Sets, compare, joint_p, rank_law
from saelens_data.diff.grouping import Groups, alone

ALPHA = 0.05
#: Latents 0, 3 and 6 are one group, 1 and 7 another; the rest are alone.
PARTITION = Groups(np.array([0, 1, 2, 0, 3, 4, 0, 1, 0, 1]), 5, 8)


def activations(n: int, density: np.ndarray, rng: np.random.Generator, *, levels: int = 0) -> np.ndarray:
    """[n, latents] float32, 0 where not active; of `levels` distinct values if given."""
    strength = rng.gamma(2, 0.2, (n, len(density))) + 0.01
    strength = np.ceil(strength * levels) / 8 if levels else strength
    return np.where(rng.random((n, len(density))) < density, strength, 0).astype(np.float32)


def two(seed: int, n_a: int, n_b: int, *, d: int = 8, levels: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Dense activations that differ in presence and strength from latent to latent."""
    rng = np.random.default_rng(seed)
    a, b = (activations(n, rng.uniform(0.1, 1, d), rng, levels=levels) for n in (n_a, n_b))
    return a * 2.0 ** rng.integers(-1, 2, d).astype(np.float32), b


def sets(a: np.ndarray, b: np.ndarray, **options: object) -> Sets:
    return Sets(csr_array(a), csr_array(b), **options)


def with_groups(a: np.ndarray, b: np.ndarray, groups: Groups) -> tuple[np.ndarray, np.ndarray]:
    """The groups' own columns by hand: the sum of the members, each over its mean activation."""
    both = np.concatenate([a, b]).astype(np.float64)
    mean = np.array([column[column > 0].mean() if column.any() else 1.0 for column in both.T])
    own = [groups.of[: groups.n_latents] == group for group in groups.of[groups.n_latents :]]
    extra = [np.column_stack([(x / mean)[:, which].sum(axis=1) for which in own]) for x in (a, b)]
    return tuple(np.column_stack([x, more]) for x, more in zip((a, b), extra, strict=True))


# --- the test of strength over all documents, by hand


def scores(column: np.ndarray) -> np.ndarray:
    active = column > 0
    out = np.zeros(len(column))
    out[active] = rankdata(column[active]) / max(active.sum(), 1)
    return out


def dense_scores(values: np.ndarray) -> csr_array:
    return csr_array(np.column_stack([scores(column) for column in values.T]))


def two_valued(score: np.ndarray, n_a: int) -> tuple[float, float]:
    """How far A's sum can lie above and below 0 if all scores above their mean were alike, and all others."""
    z = score - score.mean()
    up = z > 1e-12
    size = z[up].sum()
    alike = np.sort(np.where(up, size / max(up.sum(), 1), -size / max((~up).sum(), 1)))
    return alike[len(z) - n_a :].sum(), -alike[:n_a].sum()


def exchange_p(observed: float, variance: float, above: float, below: float) -> float:
    """Twice the tail of the binomial between -below and above with mean 0 and this variance."""
    if min(variance, above, below) <= 1e-12 or observed == 0:
        return 1.0
    if observed < 0:
        return exchange_p(-observed, variance, below, above)
    trials, chance = above * below / variance, below / (above + below)
    successes = min((observed + below) / (above + below) * trials, trials)
    if successes > trials * (1 - 1e-9):
        return min(2 * chance**trials, 1.0)
    return min(2 * beta.cdf(chance, successes, trials - successes + 1), 1.0)


def rank_p(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """p of strength of one column, and the least that A's documents could give."""
    score, n_a = scores(np.concatenate([a, b])), len(a)
    n, z = len(score), score - score.mean()
    variance = n_a * (n - n_a) / (n * (n - 1)) * (z**2).sum()
    above, below = two_valued(score, n_a)
    least = min(exchange_p(end, variance, above, below) for end in (above, -below))
    return exchange_p(z[:n_a].sum(), variance, above, below), least


def delta_by_hand(a: np.ndarray, b: np.ndarray, *, paired: bool) -> float:
    sign = np.sign(a - b) if paired else np.sign(a[:, None] - b[None, :])
    return float(sign.mean())


def taken(least_presence: float, least_rank: float) -> tuple[bool, bool]:
    """Which looks are taken: both where twice the smaller p can be below alpha, else the one that can alone."""
    presence, rank = least_presence < ALPHA, least_rank < ALPHA
    if presence and rank and 2 * min(least_presence, least_rank) >= ALPHA:
        return least_presence <= least_rank, least_rank < least_presence
    return presence, rank


def looks(c: Comparison, column: int) -> tuple[bool, bool]:
    return bool(c.looks.take_presence[column]), bool(c.looks.take_rank[column])


def assert_group_p(c: Comparison) -> None:
    """One p of each column and group, from the two looks."""
    t, groups = c.looks, c.groups
    for j in range(len(groups.of)):
        both = t.take_presence[j] and t.take_rank[j]
        one = t.presence[j] if t.take_presence[j] else t.by_rank[j]
        expected = min(1.0, 2 * min(t.presence[j], t.by_rank[j])) if both else one
        if t.take_presence[j] or t.take_rank[j]:
            assert c.p[j] == expected
    for group in range(groups.n):
        p = [c.p[j] for j in np.flatnonzero(groups.of == group) if t.tested[j]]
        if p:
            assert c.group_p[group] == pytest.approx(false_discovery_control(p).min(), rel=1e-12)
        else:
            assert np.isnan(c.group_p[group])


# --- independent sets


@pytest.mark.parametrize(
    ("seed", "n_a", "n_b", "levels"), [(0, 40, 55, 0), (1, 23, 80, 0), (2, 60, 60, 6), (3, 7, 9, 0)]
)
def test_every_column_of_independent_sets_equals_scipy(seed, n_a, n_b, levels):
    a, b = two(seed, n_a, n_b, levels=levels)
    c = compare(sets(a, b), PARTITION, ALPHA)
    a, b = with_groups(a, b, PARTITION)
    for j in range(a.shape[1]):
        x, y = a[:, j].astype(np.float64), b[:, j].astype(np.float64)
        k, m = (x > 0).sum(), (y > 0).sum()
        assert (c.counts.a[j], c.counts.b[j]) == (k, m)
        assert c.looks.presence[j] == pytest.approx(fisher_exact([[k, n_a - k], [m, n_b - m]])[1], rel=1e-9)
        expected = confint_proportions_2indep(k, n_a, m, n_b, method="newcomb", compare="diff")
        assert (c.low[j], c.high[j]) == pytest.approx(expected, abs=1e-12)
        test = mannwhitneyu(x[x > 0], y[y > 0], use_continuity=True, method="asymptotic")
        assert c.strength.auc[j] == pytest.approx(test.statistic / (k * m), abs=1e-12)
        if not levels:  # ties take a larger correction than SciPy's
            assert c.strength.p_value[j] == pytest.approx(test.pvalue, rel=1e-9)
        p, least = rank_p(x, y)
        assert c.looks.by_rank[j] == pytest.approx(p, rel=1e-5)
        assert looks(c, j) == taken(stats.fisher_least_p(k + m, n_a, n_b), least)
        assert c.delta[j] == pytest.approx(delta_by_hand(a[:, j], b[:, j], paired=False), abs=1e-12)
    assert_group_p(c)


@pytest.mark.parametrize("n_a", [8, 5])
def test_the_test_of_strength_rejects_no_more_often_than_stated_over_all_exchanges(n_a):
    values = activations(16, np.array([0.3, 0.5, 0.8, 1.0]), np.random.default_rng(5))
    chosen = np.array(list(combinations(range(16), n_a)))
    score = dense_scores(values).toarray()
    observed = score[chosen].sum(axis=1) - n_a * score.mean(axis=0)
    law = rank_law(dense_scores(values), np.arange(16) < n_a, None)
    p = replace(law, observed=observed).p_value(0.0)
    for level in (0.3, 0.1, 0.05, 0.01, 0.001):
        assert (p <= level).mean(axis=0).max() <= level
    assert (p >= law.least_p() * (1 - 1e-9)).all()


def test_the_test_of_strength_nears_the_normal_one_in_large_sets():
    rng = np.random.default_rng(6)
    values = activations(3000, np.array([0.2, 0.6, 1.0]), rng)
    values[:1500] *= 1.06
    law = rank_law(dense_scores(values), np.arange(3000) < 1500, None)
    for j in range(3):
        score = scores(values[:, j])
        z = score - score.mean()
        sd = np.sqrt(3000 / 4 * z.var())
        assert law.p_value(0.0)[j] == pytest.approx(2 * norm.sf(abs(z[:1500].sum()) / sd), rel=0.12)


# --- pairs


@pytest.mark.parametrize(("seed", "n", "levels"), [(0, 70, 0), (1, 12, 0), (2, 90, 6)])
def test_every_column_of_pairs_equals_scipy(seed, n, levels):
    a, b = two(seed, n, n, levels=levels)
    c = compare(sets(a, b, paired=True), PARTITION, ALPHA)
    a, b = with_groups(a, b, PARTITION)
    for j in range(a.shape[1]):
        x, y = a[:, j].astype(np.float64), b[:, j].astype(np.float64)
        only_a, only_b, both = ((x > 0) & (y == 0)).sum(), ((y > 0) & (x == 0)).sum(), (x > 0) & (y > 0)
        assert c.counts.both[j] == both.sum()
        p = binomtest(only_a, only_a + only_b, 0.5).pvalue if only_a + only_b else 1.0
        assert c.looks.presence[j] == pytest.approx(p, rel=1e-9)
        apart, ties = np.unique(np.abs(a[:, j] - b[:, j])[a[:, j] != b[:, j]], return_counts=True)
        least = stats.signed_rank_least_p(ties.sum(), (ties**3 - ties).sum())
        assert looks(c, j) == taken(2.0 ** (1 - int(only_a + only_b)), least)
        assert len(apart) == (x != y).sum() or levels
        low, high = stats.newcombe_paired(both.sum(), only_a, only_b, n)
        assert (c.low[j], c.high[j]) == (low, high)
        assert c.delta[j] == pytest.approx(delta_by_hand(a[:, j], b[:, j], paired=True), abs=1e-6)
        wins, equal = (x > y)[both].sum(), (x == y)[both].sum()
        expected = (wins + equal / 2) / both.sum() if both.any() else np.nan
        assert c.strength.auc[j] == pytest.approx(expected, abs=1e-12, nan_ok=True)
        if not levels and both.any():
            options = {"zero_method": "wilcox", "correction": True, "method": "asymptotic"}
            assert c.strength.p_value[j] == pytest.approx(wilcoxon(x[both], y[both], **options).pvalue, rel=1e-6)
            assert c.looks.by_rank[j] == pytest.approx(wilcoxon(x, y, **options).pvalue, rel=1e-6)
    assert_group_p(c)


# --- clusters


@pytest.mark.parametrize("design", ["prompts", "texts"])
def test_every_column_of_clusters_equals_the_cluster_kernels(design):
    a, b = two(4, 60, 60)
    cluster = np.tile(np.repeat(np.arange(20), 3), 2) if design == "prompts" else np.repeat(np.arange(40), 3)
    c = compare(sets(a, b, cluster=cluster), PARTITION, ALPHA)
    stacked, in_a = np.concatenate(with_groups(a, b, PARTITION)), np.arange(120) < 60
    test = stats.cluster_test(csr_array((stacked > 0) * 1.0), in_a, cluster)
    np.testing.assert_allclose(c.looks.presence, test.p_value, rtol=1e-9)
    np.testing.assert_allclose(c.low, np.maximum(test.low, -1), atol=1e-12)
    np.testing.assert_allclose(c.high, np.minimum(test.high, 1), atol=1e-12)
    law = stats.permutation(dense_scores(stacked), in_a, cluster)
    np.testing.assert_allclose(c.looks.by_rank, law.p_value(0.0), rtol=1e-5)
    least = zip(test.least_p, law.least_p(), strict=True)
    assert [looks(c, j) for j in range(10)] == [taken(*pair) for pair in least]
    assert_group_p(c)
    for j in range(stacked.shape[1]):
        assert c.delta[j] == pytest.approx(delta_by_hand(stacked[in_a, j], stacked[~in_a, j], paired=False), abs=1e-12)


def test_intervals_of_clusters_stay_within_what_a_difference_can_be():
    a, b = np.ones((7, 1), np.float32), np.zeros((7, 1), np.float32)
    a[:2] = 0
    b[:2] = 1
    cluster = np.array([0, 0, 1, 1, 2, 2, 2, 3, 3, 4, 4, 5, 5, 5])
    raw = stats.cluster_test(csr_array(np.concatenate([a, b]).astype(np.float64)), np.arange(14) < 7, cluster)
    assert raw.high[0] > 1
    assert compare(sets(a, b, cluster=cluster), alone(1), ALPHA).high[0] == 1
    assert compare(sets(b, a, cluster=cluster), alone(1), ALPHA).low[0] == -1


# --- one p from two looks, one from many latents


def test_one_p_takes_the_looks_that_count():
    presence = np.array([0.01, 0.3, 0.01, 0.6, 0.2, 0.04, 0.04, 0.5])
    by_rank = np.array([0.2, 0.02, 0.004, 0.9, 0.1, 0.03, 0.03, 0.5])
    least_presence = np.array([1e-4, 1e-4, 0.01, 0.01, 0.06, 0.03, 0.04, 0.05])
    least_rank = np.array([1e-4, 0.03, 0.05, 0.01, 0.01, 0.04, 0.03, 0.05])
    found = Looks.of(presence, by_rank, (least_presence, least_rank), ALPHA)
    # both; both; presence alone could be found, rank alone; and where two have no room, the one that reaches lower
    expected = [0.02, 0.04, 0.01, 1.0, 0.1, 0.04, 0.03]
    np.testing.assert_allclose(found.p_value()[:7], expected, rtol=1e-15)
    assert found.tested.tolist() == [True] * 7 + [False]
    pairs = zip(least_presence, least_rank, strict=True)
    assert list(zip(found.take_presence, found.take_rank, strict=True)) == [taken(*pair) for pair in pairs]


@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize("clustered", [False, True])
def test_the_sets_can_change_places(paired, clustered):
    if paired and clustered:
        return
    a, b = two(6, 45, 45, levels=5)
    cluster = np.random.default_rng(0).integers(0, 25, 90) if clustered else None
    turned = None if cluster is None else np.concatenate([cluster[45:], cluster[:45]])
    one = compare(sets(a, b, paired=paired, cluster=cluster), PARTITION, ALPHA)
    other = compare(sets(b, a, paired=paired, cluster=turned), PARTITION, ALPHA)
    np.testing.assert_allclose(other.p, one.p, rtol=1e-5)
    np.testing.assert_allclose(other.group_p, one.group_p, rtol=1e-5)
    np.testing.assert_allclose(other.delta, -one.delta, atol=1e-12)
    np.testing.assert_allclose(other.strength.auc, 1 - one.strength.auc, atol=1e-12)
    np.testing.assert_allclose(other.low, -one.high, atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 9))
def test_joint_p_equals_a_loop_over_groups(seed, n_latents):
    rng = np.random.default_rng(seed)
    of = np.unique(rng.integers(0, 5, n_latents), return_inverse=True)[1]
    groups = Groups(np.concatenate([of, np.flatnonzero(np.bincount(of) > 1)]), int(of.max()) + 1, n_latents)
    tested, p = rng.random(len(groups.of)) < 0.7, rng.random((3, len(groups.of)))
    found = joint_p(p, groups, tested)
    for row, group in np.ndindex(found.shape):
        own = p[row, (groups.of == group) & tested]
        expected = false_discovery_control(own).min() if len(own) else np.nan
        assert found[row, group] == pytest.approx(expected, rel=1e-12, nan_ok=True)


def test_the_leading_latent_has_the_smallest_p_and_of_equal_ones_the_smallest_number():
    a, b = two(7, 30, 30)
    b[:, 6] = a[:, 6] = a[:, 3]
    b[:, 3] = a[:, 3]
    c = compare(sets(a, b), PARTITION, ALPHA)
    p = c.p[:8]
    expected = [min(np.flatnonzero(PARTITION.of[:8] == group), key=lambda j: (p[j], j)) for group in range(5)]
    assert c.leads().tolist() == expected
    assert replace(c, p=np.where(np.arange(10) == 6, 0.0, c.p)).leads()[0] == 6
    assert replace(c, p=np.full(10, 0.5)).leads().tolist() == [0, 1, 2, 4, 5]


# --- what must not matter


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(["unpaired", "paired", "clustered"]))
def test_order_scale_and_silent_latents_change_nothing(seed, how):
    rng = np.random.default_rng(seed)
    a, b = two(seed, 24, 24)
    cluster = rng.integers(0, 12, 48) if how == "clustered" else None
    options = {"paired": how == "paired", "cluster": cluster}
    plain = compare(sets(a, b, **options), PARTITION, ALPHA)

    order_a = rng.permutation(24)
    order_b = order_a if how == "paired" else rng.permutation(24)
    moved = None if cluster is None else np.concatenate([cluster[:24][order_a], cluster[24:][order_b]])
    shuffled = compare(sets(a[order_a], b[order_b], **{**options, "cluster": moved}), PARTITION, ALPHA)
    np.testing.assert_allclose(shuffled.p, plain.p, rtol=1e-5)
    np.testing.assert_allclose(shuffled.delta, plain.delta, atol=1e-12)

    power = 2.0 ** rng.integers(-20, 20, 8).astype(np.float32)
    scaled = compare(sets(a * power, b * power, **options), PARTITION, ALPHA)
    assert scaled.p[:8].tolist() == plain.p[:8].tolist()
    np.testing.assert_allclose(scaled.p[8:], plain.p[8:], rtol=1e-5)

    silent = alone(9)
    wider = compare(sets(*(np.column_stack([x, np.zeros(24, np.float32)]) for x in (a, b)), **options), silent, ALPHA)
    assert wider.p[:8].tolist() == plain.p[:8].tolist()
    np.testing.assert_array_equal(wider.group_p[:8], compare(sets(a, b, **options), alone(8), ALPHA).group_p)
    assert np.isnan(wider.group_p[8])
