"""What is left at equal length: by value against statsmodels, planted lengths, and what cannot be adjusted for."""

from __future__ import annotations

from datetime import date
from functools import partial

import numpy as np
import polars as pl
import pytest
import statsmodels.api as sm
from scipy.sparse import csr_array
from scipy.stats import mannwhitneyu, rankdata
from synthetic import SOURCE, concepts

from saelens_data.diff.adjust import (
    LENGTH,
    Adjusted,
    adjusted,
    adjusted_active,
    adjusted_active_pairs,
    adjusted_pairs,
    bent_line,
    covariates,
    explain,
)
from saelens_data.errors import InputError
from saelens_data.matrix import ConceptMatrix

NAMES = ("A", "B")
NOT_LENGTH = "Not adjusted for length: hardly a document of A is as long as one of B"


def texts(n: int, seed: int, units: float = 12, d: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Presence [n, d] and lengths [n] of texts made of units that are drawn alike."""
    rng = np.random.default_rng(seed)
    length = rng.poisson(rng.gamma(4, units / 4, n)) + 1
    rate = np.exp(np.random.default_rng(99).uniform(np.log(0.005), np.log(0.3), d))
    return (rng.random((n, d)) < 1 - (1 - rate) ** length[:, None]).astype(float), length


def united(active: np.ndarray, length: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Each text with an unrelated one after it."""
    order = np.random.default_rng(seed).permutation(len(active))
    other = np.empty_like(order)
    other[order] = np.roll(order, 1)
    return np.maximum(active, active[other]), length + length[other]


def of_lengths(*lengths: np.ndarray) -> np.ndarray:
    return bent_line(np.log1p(np.concatenate(lengths).astype(float)))


def documents(n: int = 4, **columns: object) -> ConceptMatrix:
    docs = pl.DataFrame({"doc_id": [str(i) for i in range(n)], **columns})
    return ConceptMatrix(csr_array((n, 1), dtype=np.float32), docs, concepts([0]), SOURCE)


def by_statsmodels(y: np.ndarray, base: np.ndarray, terms: np.ndarray, groups: np.ndarray | None) -> list[float]:
    """The difference left with its 95% interval, and the 90% interval of 2 x left - raw, from its covariance."""
    robust = {"cov_type": "HC3"} if groups is None else {"cov_type": "cluster", "cov_kwds": {"groups": groups}}
    fit = sm.OLS(y, np.column_stack([base, terms])).fit(use_t=True, **robust)
    gap = [sm.OLS(term, base).fit().params[0] for term in terms.T]
    contrast = np.array([1, *[0] * (base.shape[1] - 1), *(-np.array(gap))])
    return [fit.params[0], *fit.conf_int()[0], *fit.t_test(contrast).conf_int(0.1)[0]]


def values(a: Adjusted) -> np.ndarray:
    return np.stack([a.difference, a.low, a.high, a.excess_low, a.excess_high])


@pytest.mark.parametrize("clustered", [False, True])
@pytest.mark.parametrize("paired", [False, True])
def test_what_is_left_is_that_of_statsmodels(paired, clustered):
    n = 150
    (active_a, length_a), (active_b, length_b) = texts(n, 1, d=10), texts(n, 2, 20, d=10)
    terms = [of_lengths(length_a, length_b), np.random.default_rng(0).normal(size=(2 * n, 1))]
    if paired:
        Y, base = active_a - active_b, np.ones((n, 1))
        W, fit = np.column_stack([term[:n] - term[n:] for term in terms]), partial(adjusted_pairs, n=n)
    else:
        Y, side = np.concatenate([active_a, active_b]), np.arange(2 * n) < n
        base, W = np.column_stack([side, np.ones(2 * n)]), np.column_stack(terms)
        fit = partial(adjusted, in_a=side)
    groups = np.arange(len(Y)) // 4 if clustered else None
    expected = np.array([by_statsmodels(y, base, W, groups) for y in Y.T]).T
    found = fit(csr_array(Y), terms=terms, clusters=groups)
    np.testing.assert_allclose(values(found), expected, atol=1e-9)


@pytest.mark.parametrize("clustered", [False, True])
def test_strength_is_the_regression_of_ranks_where_active(clustered):
    rng = np.random.default_rng(3)
    n, d = 120, 5
    X = np.round(rng.gamma(2, 1, (2 * n, d)), 1) * (rng.random((2 * n, d)) < [0.02, 0.2, 0.5, 0.9, 1])
    side, terms = np.arange(2 * n) < n, of_lengths(rng.integers(3, 30, 2 * n))
    groups = np.arange(2 * n) // 3 if clustered else None
    found = values(adjusted_active(csr_array(X), side, [terms], clusters=groups))
    assert np.isnan(found[:, 0]).all()
    for j in range(1, d):
        on = X[:, j] > 0
        score = (rankdata(X[on, j]) - 0.5) / on.sum()
        own = None if groups is None else np.unique(groups[on], return_inverse=True)[1]
        expected = by_statsmodels(score, np.column_stack([side, np.ones(2 * n)])[on], terms[on], own)
        np.testing.assert_allclose(found[:, j], expected, atol=1e-9)
    alone = adjusted_active(csr_array(X), side, [np.zeros((2 * n, 1))]).difference
    for j in range(1, d):
        a, b = X[:n, j][X[:n, j] > 0], X[n:, j][X[n:, j] > 0]
        assert alone[j] == pytest.approx(mannwhitneyu(a, b).statistic / len(a) / len(b) - 0.5)


def test_strength_within_pairs():
    rng = np.random.default_rng(4)
    n = 90
    X = np.round(rng.gamma(2, 1, (2 * n, 3)), 1) * (rng.random((2 * n, 3)) < [0.2, 0.6, 1])
    terms = of_lengths(rng.integers(3, 30, 2 * n))
    found = values(adjusted_active_pairs(csr_array(X), n, [terms]))
    assert np.isnan(found[:, 0]).all()
    for j in (1, 2):
        a, b = X[:n, j], X[n:, j]
        on = (a > 0) & (b > 0)
        score_a, score_b = np.split((rankdata(np.concatenate([a[on], b[on]])) - 0.5) / (2 * on.sum()), 2)
        expected = by_statsmodels(score_a - score_b, np.ones((on.sum(), 1)), (terms[:n] - terms[n:])[on], None)
        np.testing.assert_allclose(found[:, j], expected, atol=1e-9)
    assert values(adjusted_active_pairs(csr_array((2 * n, 0)), n, [terms])).shape == (5, 0)


@pytest.mark.parametrize("paired", [False, True])
def test_doubled_length_explains_nearly_all_that_it_makes(paired):
    n = 3000
    (a, length_a), (b, length_b) = texts(n, 3), united(*texts(n, 3 if paired else 4), seed=5)
    raw = a.mean(axis=0) - b.mean(axis=0)
    finding = np.abs(raw) > 0.02
    Y = csr_array(a - b) if paired else csr_array(np.concatenate([a, b]))
    fit = partial(adjusted_pairs, n=n) if paired else partial(adjusted, in_a=np.arange(2 * n) < n)
    found = explain(Y, lambda Y, terms: fit(Y, terms=terms), raw, finding, {LENGTH: of_lengths(length_a, length_b)})
    reasons = pl.Series(found.explained_by)
    assert finding.sum() > 150
    assert (reasons == LENGTH).sum() > (0.6 if paired else 0.85) * finding.sum()
    stands = finding & reasons.is_null().to_numpy() & ~found.undecided
    assert stands.sum() < 0.08 * finding.sum()
    assert reasons.filter(~finding).null_count() == (~finding).sum()


def test_a_difference_in_words_is_not_explained_by_length():
    (active_a, length_a), (active_b, length_b) = texts(600, 6, d=30), texts(600, 7, 20, d=30)
    active_a[:, :3] = np.random.default_rng(0).random((600, 3)) < [0.6, 0.5, 0.4]
    active_b[:, :3] = np.random.default_rng(1).random((600, 3)) < [0.3, 0.3, 0.1]
    raw = active_a.mean(axis=0) - active_b.mean(axis=0)
    Y, side = csr_array(np.concatenate([active_a, active_b])), np.arange(1200) < 600
    left = adjusted(Y, side, [of_lengths(length_a, length_b)])
    np.testing.assert_allclose(left.difference[:3], [0.3, 0.2, 0.3], atol=0.09)
    assert (left.low[:3] > 0).all()
    assert not (left.explains(raw) | left.undecided(raw))[:3].any()


def test_the_three_verdicts():
    nan = np.nan
    left = Adjusted(
        *np.array(
            [
                # left, 95% interval, 90% interval of left - explained
                (0.20, 0.10, 0.30, 0.0, 0.3),
                (0.02, -0.05, 0.09, -0.2, -0.1),
                (0.08, -0.02, 0.18, -0.1, 0.04),
                (-0.20, -0.30, -0.10, -0.9, -0.5),
                (nan, nan, nan, nan, nan),
            ]
        ).T
    )
    raw = np.full(5, 0.2)
    assert left.explains(raw).tolist() == [False, True, False, True, False]
    assert left.undecided(raw).tolist() == [False, False, True, False, False]
    mirrored = Adjusted(-left.difference, -left.high, -left.low, -left.excess_high, -left.excess_low)
    np.testing.assert_array_equal(mirrored.explains(-raw), left.explains(raw))
    np.testing.assert_array_equal(mirrored.undecided(-raw), left.undecided(raw))


def test_less_than_half_left_is_found_as_often_as_stated():
    """Where exactly half is left, the one-sided test calls it explained in 5% of sets, whatever the covariates."""
    rng = np.random.default_rng(9)
    n, d = 400, 4000
    side, x = np.arange(n) < n // 2, rng.normal(size=n)
    x += side - (x[side].mean() - x[~side].mean()) * side
    Y = 0.5 * (side + x)[:, None] + rng.normal(size=(n, d)) * np.exp(x / 3)[:, None]
    left = adjusted(csr_array(Y), side, [x[:, None]])
    assert left.difference.mean() == pytest.approx(0.5, abs=0.02)
    assert (left.excess_high < 0).mean() == pytest.approx(0.05, abs=0.012)


def sets_by_topic() -> tuple[csr_array, np.ndarray, dict[str, np.ndarray], np.ndarray]:
    """Two sets of 800 that differ in topic: in latents 0 and 1 only by topic, in 2 not, in 3 within either topic."""
    rng = np.random.default_rng(8)
    side = np.arange(1600) < 800
    topic = rng.random(1600) < np.where(side, 0.8, 0.3)
    active = rng.random((1600, 4)) < np.where(topic[:, None], [0.6, 0.1, 0.3, 0.5], [0.1, 0.5, 0.3, 0.5])
    active[:, 3] |= side & (rng.random(1600) < 0.5)
    words, units = np.where(topic, "sport", "trade"), rng.integers(3, 9, 1600)
    a, b = (documents(800, topic=words[rows], n_units=units[rows]) for rows in (side, ~side))
    terms = covariates(a, b, ["topic"], NAMES, [])
    return csr_array(active.astype(np.int8)), side, terms, topic


def test_another_column_can_explain():
    Y, side, terms, topic = sets_by_topic()
    active = Y.toarray()
    raw = active[side].mean(axis=0) - active[~side].mean(axis=0)
    found = explain(Y, lambda Y, terms: adjusted(Y, side, terms), raw, np.array([True, True, False, True]), terms)
    assert found.explained_by == ["topic", "topic", None, None]
    assert not found.undecided.any()
    within = [active[side & (topic == t), 3].mean() - active[~side & (topic == t), 3].mean() for t in (0, 1)]
    assert found.left.difference[3] == pytest.approx(np.mean(within), abs=0.03)
    only = explain(Y, lambda Y, terms: adjusted(Y, side, terms), raw, raw > 0.1, {LENGTH: terms[LENGTH]})
    assert only.explained_by == [None] * 4


def test_covariates_that_explain_only_together():
    rng = np.random.default_rng(2)
    side = np.arange(4000) < 2000
    x, z = (rng.normal(size=4000) + 0.8 * side for _ in range(2))
    y = 0.5 * (x + z) + 0.3 * rng.normal(size=4000)
    raw = np.array([y[side].mean() - y[~side].mean()])
    terms = {"x": x[:, None], "z": z[:, None]}
    found = explain(csr_array(y[:, None]), lambda Y, t: adjusted(Y, side, t), raw, np.array([True]), terms)
    assert found.explained_by == ["x + z"]


def test_without_covariates_or_findings_nothing_is_said():
    Y, side, terms, _ = sets_by_topic()
    raw = np.full(4, 0.1)
    found = explain(Y, lambda Y, terms: adjusted(Y, side, terms), raw, raw > 0, {})
    assert np.isnan(values(found.left)).all()
    assert (found.explained_by, found.undecided.tolist()) == ([None] * 4, [False] * 4)
    found = explain(Y, lambda Y, terms: adjusted(Y, side, terms), raw, raw > 1, terms)
    assert np.isfinite(values(found.left)).all()
    assert (found.explained_by, found.undecided.tolist()) == ([None] * 4, [False] * 4)


# --- covariates


def test_missing_values_are_a_group_of_their_own_and_types_may_differ():
    a = documents(
        year=pl.Series([1, 2, None, 3]), kind=["x", None, "1", "x"], day=[date(2020, 1, i) for i in (1, 2, 3, 4)]
    )
    b = documents(
        year=pl.Series([1.0, 2.0, float("nan"), 4.0]),
        kind=pl.Series([1, 1, None, 2]),
        day=[None, *(date(2020, 1, i) for i in (2, 3, 5))],
    )
    notes: list[str] = []
    found = covariates(a, b, ["year", "kind", "day"], NAMES, notes)
    assert list(found) == ["year", "kind", "day"]
    assert found["year"][:, -1].tolist() == [0, 0, 1, 0, 0, 0, 1, 0]
    year = found["year"][:, 0]
    np.testing.assert_allclose(year - year[0], [0, 1, 1, 2, 0, 1, 1, 3])  # no value: at the median
    assert found["kind"].sum(axis=0).tolist() == [2, 2, 3, 1]  # x, none, 1, 2
    assert found["day"][:, -1].tolist() == [0, 0, 0, 0, 1, 0, 0, 0]
    assert notes == []


def test_length_is_the_logarithm_of_units_bent_at_the_quartiles():
    units = np.arange(1, 41)
    a, b = documents(20, n_units=units[::2]), documents(20, n_units=units[1::2])
    x = np.log1p(np.concatenate([units[::2], units[1::2]]))
    expected = np.column_stack([x, *(np.maximum(x - knot, 0) for knot in np.quantile(x, [0.25, 0.5, 0.75]))])
    found = covariates(a, b, [], NAMES, [])
    assert list(found) == [LENGTH]
    np.testing.assert_allclose(found[LENGTH], expected - expected.mean(axis=0))
    assert covariates(a, documents(20), [], NAMES, []) == {}
    own = documents(20, n_units=units[::2], length=["s", "t"] * 10)
    assert list(covariates(own, own, [LENGTH], NAMES, [])) == [LENGTH, "column length"]


def test_lengths_that_do_not_meet_are_not_compared():
    notes: list[str] = []
    found = covariates(documents(n_units=[1, 2, 3, 4]), documents(n_units=[90, 100, 110, 120]), [], NAMES, notes)
    assert found == {}
    assert len(notes) == 1
    assert notes[0].startswith(NOT_LENGTH)


def test_columns_that_cannot_be_adjusted_for():
    a = documents(60, topic=["x"] * 60, lists=[[1]] * 60, title=[f"n{i}" for i in range(60)], model="A", year=2000)
    b = documents(60, model="B", year=2001)
    cases = {
        "topc": "cannot adjust for 'topc': A has no such column; did you mean 'topic'",
        "lists": r"it holds List\(Int64\) in A; give plain values",
        "title": "it has 60 values, and at most 50 groups",
    }
    for column, message in cases.items():
        with pytest.raises(InputError, match=message):
            covariates(a, a, [column], NAMES, [])
    for column in ("model", "year"):
        with pytest.raises(InputError, match=f"cannot adjust for '{column}': A and B share hardly a value of it"):
            covariates(a, b, [column], NAMES, [])
