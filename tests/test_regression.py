"""The regression kernel by value: statsmodels' OLS with HC3 and cluster errors, and the Mantel-Haenszel difference."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import statsmodels.api as sm
from scipy.sparse import csr_array

from saelens_data.stats.regression import regression

kernel = sys.modules["saelens_data.stats.regression"]


def outcomes(n: int, seed: int, d: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Values [n, d], mostly 0 and of either sign, and a 0/1 column, a constant and two covariates."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    W = np.column_stack([rng.random(n) < 0.3 + 0.2 * (x > 0), np.ones(n), x, np.maximum(x, 0)])
    kept = rng.random((n, d)) < np.linspace(0.02, 0.9, d)
    return kept * np.where(np.arange(d) % 2, 1.0, rng.normal(1 + x[:, None], 1, (n, d))), W


def by_statsmodels(Y: np.ndarray, W: np.ndarray, level: float, **options) -> np.ndarray:
    fits = [sm.OLS(y, W).fit(use_t=True, **options) for y in Y.T]
    return np.array([[fit.params[0], *fit.conf_int(1 - level)[0]] for fit in fits]).T


@pytest.mark.parametrize("block", [1 << 20, 60, 1])
@pytest.mark.parametrize("level", [0.95, 0.9])
def test_hc3_is_that_of_statsmodels(monkeypatch, block, level):
    monkeypatch.setattr(kernel, "_BLOCK", block)
    Y, W = outcomes(150, 0)
    expected = by_statsmodels(Y, W, level, cov_type="HC3")
    np.testing.assert_allclose(regression(csr_array(Y), W, level=level), expected, atol=1e-10)


@pytest.mark.parametrize("block", [1 << 20, 60, 1])
@pytest.mark.parametrize("n_clusters", [4, 40, 150])
def test_clusters_are_those_of_statsmodels(monkeypatch, block, n_clusters):
    monkeypatch.setattr(kernel, "_BLOCK", block)
    Y, W = outcomes(150, 1)
    groups = np.random.default_rng(2).permutation(np.arange(150) % n_clusters)
    expected = by_statsmodels(Y, W, 0.95, cov_type="cluster", cov_kwds={"groups": groups})
    np.testing.assert_allclose(regression(csr_array(Y), W, clusters=7 * groups - 3), expected, atol=1e-10)


@pytest.mark.parametrize("clusters", [None, np.arange(200) // 3])
def test_integers_and_empty_rows_and_columns_too_many(clusters):
    Y, W = outcomes(200, 2)
    presence = Y != 0
    presence[::3] = False
    whole = regression(csr_array(presence.astype(float)), W, clusters=clusters)
    as_int = regression(csr_array(presence.astype(np.int8)), W, clusters=clusters)
    more = np.column_stack([W, W[:, 1] + W[:, 2], np.zeros(200)])
    again = regression(csr_array(presence.astype(float)), more, clusters=clusters)
    np.testing.assert_allclose(as_int, whole, atol=1e-12)
    np.testing.assert_allclose(again, whole, atol=1e-10)


def test_strata_give_the_risk_difference_of_mantel_and_haenszel():
    Y, W = outcomes(300, 3)
    active = Y != 0
    side, stratum = W[:, 0] > 0, np.digitize(W[:, 2], [-0.8, 0, 0.8])
    strata = stratum[:, None] == np.arange(4)
    estimate, _, _ = regression(csr_array(active.astype(float)), np.column_stack([side, strata]))
    tables = [(side & inside, ~side & inside) for inside in strata.T]
    weight = np.array([a.sum() * b.sum() / (a.sum() + b.sum()) for a, b in tables])
    within = np.stack([active[a].mean(axis=0) - active[b].mean(axis=0) for a, b in tables])
    np.testing.assert_allclose(estimate, weight @ within / weight.sum(), rtol=1e-10)


def test_a_row_that_is_fitted_exactly_does_not_count():
    Y, W = outcomes(60, 4)
    alone = np.column_stack([W, np.arange(60) == 0])
    whole, without = regression(csr_array(Y), alone), regression(csr_array(Y[1:]), W[1:])
    np.testing.assert_allclose(whole, without, atol=1e-10)


def test_where_nothing_can_be_said():
    Y, W = outcomes(30, 5)
    for X in (W[:, [1, 1]], np.column_stack([W, W[:, 0] * 2]), np.eye(30)):
        assert np.isnan(regression(csr_array(Y), X)).all()
    assert np.isnan(regression(csr_array(Y), W, clusters=np.zeros(30, dtype=int))).all()
    assert np.isnan(regression(csr_array((0, 3)), np.ones((0, 2)))).all()
    assert regression(csr_array((30, 0)), W)[0].shape == (0,)
    np.testing.assert_allclose(regression(csr_array((30, 2)), W), 0)
