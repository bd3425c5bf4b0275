"""The trend test: against permutations, exact sums, statsmodels and SciPy; planted trends; orders of steps; errors."""

from __future__ import annotations

from datetime import date
from itertools import permutations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keywords import keyword_matrix
from polars.testing import assert_frame_equal
from scipy.sparse import csr_array
from scipy.stats import binom, linregress, rankdata, somersd
from statsmodels.api import OLS, add_constant
from statsmodels.stats.contingency_tables import Table

from saelens_data import stats
from saelens_data.diff.partition import in_order, partition
from saelens_data.diff.trend import trend
from saelens_data.errors import InputError
from saelens_data.matrix import ConceptMatrix, Source
from saelens_data.stats.trend import detectable_rise, exchanged, trend_law, trend_test

SOURCE = Source(encoder="tiny", reader="r", reader_sha256="0", sae="s", sae_sha256="1", hook="final")


def matrix(values, **columns) -> ConceptMatrix:
    """A matrix with these activations [documents, latents]."""
    values = np.asarray(values, dtype=np.float32)
    docs = pl.DataFrame({"doc_id": pl.Series([f"d{i}" for i in range(len(values))], dtype=pl.String), **columns})
    latents = np.arange(values.shape[1], dtype=np.int32)
    concepts = pl.DataFrame({"latent": latents, "label": [f"concept {i}" for i in latents]})
    return ConceptMatrix(csr_array(values), docs, concepts, SOURCE)


def random_case(seed: int, n: int = 120, d: int = 20, k: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Activations and steps; latent 1 rises, latent 2 is active everywhere and falls in strength."""
    rng = np.random.default_rng(seed)
    score = rng.integers(0, k, n)
    active = rng.random((n, d)) < rng.uniform(0.05, 0.7, d)
    active[:, 1] = rng.random(n) < 0.05 + 0.6 * score / (k - 1)
    active[:, 2] = True
    values = active * rng.uniform(0.1, 1, (n, d))
    values[:, 2] += 0.4 * (k - 1 - score)
    return values, score


# --- the law


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32))
def test_moments_and_range_are_those_of_all_permutations(seed):
    rng = np.random.default_rng(seed)
    score, y = rng.integers(0, 4, 6).astype(float), (rng.random((6, 8)) < 0.5).astype(float)
    law = trend_law(csr_array(y), score)
    sums = np.array([order @ y for order in permutations(score)])
    np.testing.assert_allclose(law.observed, score @ y - sums.mean(axis=0), atol=1e-9)
    np.testing.assert_allclose(law.variance, sums.var(axis=0), atol=1e-9)
    np.testing.assert_allclose(law.above, sums.max(axis=0) - sums.mean(axis=0), atol=1e-9)
    np.testing.assert_allclose(law.below, sums.mean(axis=0) - sums.min(axis=0), atol=1e-9)


def test_variance_within_clusters_is_that_of_permutations_within_each():
    score, cluster = np.array([0, 1, 2, 0, 2.0]), np.array([5, 5, 5, 9, 9])
    y = np.array([[1, 0, 2], [0, 1, 0], [0, 3, 1], [0, 0, 1], [0, 1, 0.5]])
    moved = [np.append(a, b) for a in permutations(score[:3]) for b in permutations(score[3:])]
    sums = np.array([s @ y for s in moved])
    law = trend_law(csr_array(y), score, cluster)
    np.testing.assert_allclose(law.observed, score @ y - sums.mean(axis=0), atol=1e-9)
    own = [(score[r] - score[r].mean()) @ y[r] for r in (slice(0, 3), slice(3, 5))]
    np.testing.assert_allclose(law.variance, np.maximum(sums.var(axis=0), np.square(own).sum(axis=0)), atol=1e-9)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(["alone", "equal", "crossed"]))
def test_two_steps_are_two_sets(seed, kind):
    rng = np.random.default_rng(seed)
    in_a = np.tile([False, True], 20) if kind == "crossed" else np.repeat([False, True], [24, 16])
    cluster = np.arange(40) // {"alone": 1, "equal": 4, "crossed": 4}[kind]
    y = (rng.random((40, 9)) < 0.4) * (1.0 if seed % 2 else rng.random((40, 9)))
    one, other = stats.permutation(csr_array(y), in_a, cluster), trend_law(csr_array(y), in_a.astype(float), cluster)
    np.testing.assert_allclose(other.observed, one.observed, atol=1e-9)
    np.testing.assert_allclose(other.variance, one.variance, atol=1e-9)
    np.testing.assert_allclose(other.p_value(0.0), one.p_value(0.0), rtol=1e-6)


def test_large_counts_agree_with_statsmodels_and_the_slope_with_scipy():
    rng = np.random.default_rng(1)
    score = rng.integers(0, 5, 4000)
    y = rng.random((4000, 6)) < np.linspace(0.3, 0.5, 6) + 0.02 * score[:, None]
    found = trend_test(csr_array(y.astype(float)), score)
    law = trend_law(csr_array(y.astype(float)), score)
    for j in range(6):
        counts = np.array([[(~y[score == s, j]).sum(), y[score == s, j].sum()] for s in range(5)]).T
        other = Table(counts, shift_zeros=False).test_ordinal_association(np.arange(2.0), np.arange(5.0))
        assert law.observed[j] / np.sqrt(law.variance[j]) == pytest.approx(other.zscore, rel=1e-3)
        assert np.log(found.p_value[j]) == pytest.approx(np.log(other.pvalue), rel=0.04)
        assert found.slope[j] == pytest.approx(linregress(score, y[:, j]).slope)
        fit = OLS(y[:, j].astype(float), add_constant(score.astype(float))).fit(cov_type="HC3", use_t=True)
        np.testing.assert_allclose([found.low[j], found.high[j]], fit.conf_int()[1], rtol=1e-6)


@pytest.mark.parametrize("sizes", [(30, 30, 30), (12, 20, 5, 40), (100, 30, 10, 5), (6,) * 8])
@pytest.mark.parametrize("support", [5, 9, 16])
def test_rare_latents_are_never_rejected_more_often_than_stated(sizes, support):
    # all tables with these margins, by enumeration of the counts at each step
    score = np.repeat(np.arange(len(sizes)), sizes)
    sums, chance = exact_law(sizes, support)
    y = np.zeros((len(score), 1))
    y[:support] = 1
    law = trend_law(csr_array(y), score)
    columns = len(sums)
    spread = type(law)(
        **{
            **{name: np.full(columns, value[0]) for name, value in vars(law).items()},
            "observed": sums - support * score.mean(),
        }
    )
    p = spread.p_value(1.0)
    for threshold in 10.0 ** -np.arange(1, 7):
        assert chance[p <= threshold].sum() <= threshold
    assert law.least_p()[0] <= p.min() * (1 + 1e-9)
    tails = np.minimum(np.cumsum(chance), np.cumsum(chance[::-1])[::-1])
    likely = chance > 1e-9
    assert np.median(p[likely] / np.minimum(2 * tails, 1)[likely]) < 3  # and it is not far off


def exact_law(sizes: tuple[int, ...], support: int) -> tuple[np.ndarray, np.ndarray]:
    """The sums of steps of `support` documents drawn from these steps, and their chances, document by document."""
    states = {(0, 0): 1}
    for step, size in enumerate(sizes):
        for _ in range(size):
            after = dict(states)
            for (n, total), ways in states.items():
                if n < support:
                    after[n + 1, total + step] = after.get((n + 1, total + step), 0) + ways
            states = after
    found = sorted((total, ways) for (n, total), ways in states.items() if n == support)
    whole = sum(ways for _, ways in found)
    return np.array([total for total, _ in found]), np.array([ways / whole for _, ways in found])


@pytest.mark.parametrize("sizes", [(60,) * 4, (20, 40, 80, 160)])
@pytest.mark.parametrize("density", [0.05, 0.3])
def test_the_detectable_rise_is_found_about_as_often_as_stated(sizes, density):
    score = np.repeat(np.arange(4), sizes)
    rise = detectable_rise(score, density, 1e-4)
    rng = np.random.default_rng(0)
    y = rng.random((len(score), 3000)) < (density + rise * score / 3)[:, None]
    found = (trend_test(csr_array(y.astype(float)), score).p_value < 1e-4).mean()
    assert 0.7 < found < 0.86
    assert np.isnan(detectable_rise(score[:6], density, 1e-4))  # one step
    assert np.isnan(detectable_rise(np.arange(4), density, 1e-4))  # four documents


@pytest.mark.parametrize("cluster", [None, np.repeat(np.arange(40), 5), np.tile(np.arange(40), 5)])
def test_exchanged_steps_keep_what_belongs_together(cluster):
    score = np.repeat(np.arange(5), 40)
    moved = exchanged(score, cluster, np.random.default_rng(0))
    assert sorted(moved) == sorted(score)
    assert not np.array_equal(moved, score)
    if cluster is not None:
        for own in range(40):
            assert (
                sorted(moved[cluster == own]) == sorted(score[cluster == own]) or len(set(moved[cluster == own])) == 1
            )


# --- the analysis


def test_planted_trends_are_found_by_value():
    values, score = random_case(3)
    result = trend(matrix(values, version=[f"v1.{3 * s}" for s in score]), "version")
    assert result.steps == ("v1.0", "v1.3", "v1.6", "v1.9")
    assert set(result.findings["latent"]) == {1, 2}
    rows = {row["latent"]: row for row in result.frame.iter_rows(named=True)}
    assert (rows[1]["favours"], rows[2]["favours"]) == ("rising", "falling")
    for latent in (0, 1, 5):
        active, row = values[:, latent] > 0, rows[latent]
        assert row["densities"] == pytest.approx([active[score == s].mean() for s in range(4)])
        assert (row["first"], row["last"]) == (row["densities"][0], row["densities"][-1])
        assert row["slope"] == pytest.approx(linregress(score, active).slope)
        ridit = (rankdata(values[:, latent].astype(np.float32)) - 0.5) / len(score)
        assert row["delta"] == pytest.approx(2 * linregress(score, ridit).slope, abs=1e-6)
        assert row["n"] == active.sum()
        assert row["p_value"] == pytest.approx(min(2 * min(row["p_presence"], row["p_rank"]), 1))
    np.testing.assert_allclose(rows[2]["slope"], 0, atol=1e-9)
    assert rows[2]["p_presence"] == 1
    assert rows[2]["p_value"] == rows[2]["p_rank"]  # active everywhere: presence could not have been found
    rise = detectable_rise(score, 0.2, 0.05 / (2 * result.n_tested))
    assert f"from 20% of documents to {100 * (0.2 + rise):.0f}%" in result.notes[-1]
    assert result.notes[-1].startswith("With about 80% power, the first straight rise would have been found from 5.0%")
    assert result.summary().startswith("120 documents in 4 steps of 'version', v1.0 to v1.9: 20 of 20 concepts tested")
    assert result.summary().endswith("2 findings at q < 0.05: 1 rising, 1 falling.")


def test_delta_between_two_neighbouring_steps_is_cliffs():
    values, score = random_case(5, k=2)
    middle = np.full(1, 0.5)
    assert linregress(score, (rankdata(values[:, 4]) - middle) / len(score)).slope * 2 == pytest.approx(
        somersd(score, values[:, 4]).statistic
    )


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32))
def test_the_order_of_documents_does_not_matter_and_a_reversed_order_only_turns_the_signs(seed):
    values, score = random_case(seed)
    order = np.random.default_rng(seed).permutation(len(score))
    first = trend(matrix(values, step=score), "step").frame.sort("latent")
    for other in (trend(matrix(values[order], step=score[order]), "step"), trend(matrix(values, step=score), "step")):
        frame = other.frame.sort("latent")
        np.testing.assert_allclose(frame["p_value"], first["p_value"], rtol=1e-6)
        np.testing.assert_allclose(frame["slope_low"], first["slope_low"], rtol=1e-6, atol=1e-7)
    turned = trend(matrix(values, step=score), "step", order=[3, 2, 1, 0]).frame.sort("latent")
    np.testing.assert_allclose(turned["slope"], -first["slope"], atol=1e-9)
    np.testing.assert_allclose(turned["slope_low"], -first["slope_high"], atol=1e-7)
    np.testing.assert_allclose(turned["p_value"], first["p_value"], rtol=1e-6)


def test_prompts_answered_at_each_step_are_compared_within():
    rng = np.random.default_rng(2)
    prompt, score = np.repeat(np.arange(60), 4), np.tile(np.arange(4), 60)
    level = rng.random((60, 12))[prompt]
    active = rng.random((240, 12)) < np.where(level > 0.5, 0.9, 0.1)
    active[:, 3] |= rng.random(240) < 0.15 * score
    m = matrix(active * rng.uniform(0.1, 1, active.shape), step=score, prompt=prompt)
    alone, within = trend(m, "step"), trend(m, "step", cluster_on="prompt")
    row = within.frame.row(by_predicate=pl.col("latent") == 3, named=True)
    fit = OLS(active[:, 3].astype(float), add_constant(score.astype(float))).fit(
        cov_type="cluster", cov_kwds={"groups": prompt}, use_t=True
    )
    np.testing.assert_allclose([row["slope_low"], row["slope_high"]], fit.conf_int()[1], rtol=1e-6)
    assert within.findings["latent"].to_list() == [3]
    wide = alone.frame.row(by_predicate=pl.col("latent") == 3, named=True)
    assert row["slope_high"] - row["slope_low"] < wide["slope_high"] - wide["slope_low"]


def test_a_permuted_column_shows_findings_in_at_most_a_twentieth_of_runs():
    rng = np.random.default_rng(0)
    values, score = random_case(7, n=90, d=40)
    found = sum(bool(trend(matrix(values, step=rng.permutation(score)), "step").findings.height) for _ in range(100))
    assert found <= binom.ppf(0.999, 100, 0.05)


def test_longer_documents_over_time_explain_a_rising_word():
    rng = np.random.default_rng(4)
    texts = [
        " ".join(rng.choice(["Alpha here.", "Beta there.", "Gamma now.", "Delta so."], 2 + 3 * step))
        for step in range(4)
        for _ in range(60)
    ]
    short = [i for i in range(240) if rng.random() < 0.25]  # lengths overlap
    texts = [" ".join(t.split()[:4]) if i in short else t for i, t in enumerate(texts)]
    texts = [text + (" Omega!" if i % 60 < 10 + 15 * (i // 60) else "") for i, text in enumerate(texts)]
    m = keyword_matrix(texts, {1: "Alpha", 2: "Omega"}, year=[2020 + i // 60 for i in range(240)])
    result = trend(m, "year")
    rows = {row["latent"]: row for row in result.findings.iter_rows(named=True)}
    assert set(rows) == {1, 2}
    assert rows[1]["adjusted_slope"] < rows[1]["slope"]
    assert result.parameters["adjusted_for"] == ["length"]
    assert rows[1]["explained_by"] == "length"
    again = trend(m.take_docs(rng.permutation(240)), "year")
    assert_frame_equal(again.frame, result.frame, rel_tol=1e-6)
    assert "Of 2 findings, 1 is explained by length or another column (column explained_by)." in result.notes


# --- the order of steps


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["v1.10", "v1.2", "v1.9"], ["v1.2", "v1.9", "v1.10"]),
        (["1.2", "v1.3", "1.2.1"], ["1.2", "1.2.1", "v1.3"]),
        (["2024-11", "2023-12", "2024-02"], ["2023-12", "2024-02", "2024-11"]),
        (["step-100", "step-20", "step-3"], ["step-3", "step-20", "step-100"]),
        ([3, -1, 20], ["-1", "3", "20"]),
        ([0.5, 0.25, 10.0], ["0.25", "0.5", "10.0"]),
        ([date(2024, 5, 1), date(2023, 7, 9), date(2024, 4, 30)], ["2023-07-09", "2024-04-30", "2024-05-01"]),
    ],
)
def test_order_of_values(values, expected):
    notes: list[str] = []
    p = in_order(partition(matrix(np.eye(3), by=values), "by", notes), None, notes)
    assert list(p.names) == expected
    assert [p.names[i] for i in p.code] == [str(v) for v in values]
    assert notes == [f"The order of 'by': {', '.join(expected)}; the steps count as equal."]


def test_an_enum_has_its_own_order_and_any_text_the_given_one():
    level = pl.Series(["high", "low", "mid"], dtype=pl.Enum(["low", "mid", "high"]))
    assert trend(matrix(np.eye(3), by=level), "by").steps == ("low", "mid", "high")
    result = trend(matrix(np.eye(3), by=["high", "low", "mid"]), "by", order=["low", "mid", "high"])
    assert result.documents.code.tolist() == [2, 0, 1]


@pytest.mark.parametrize(
    ("values", "order", "message"),
    [
        (["red", "green", "blue"], None, "the order of 'by' is not clear from values such as"),
        (["1.0", "1.0-rc1", "1.1"], None, "is not clear from values such as"),
        (["1.2", "1.10", "1.3"], None, "may be versions or decimal numbers"),
        (["05/01/2024", "01/02/2023", "09/09/2022"], None, "may mean two things"),
        (["a1", "a01", "a2"], None, "is not clear"),
        (["x", "y", "z"], ["x", "y", "w"], "names 'w'"),
        (["x", "y", "z"], ["x", "y"], "lacks 'z'"),
        (["x", "y", "z"], ["x", "y", "z", "x"], "names a value twice"),
        (["x", "y", "y"], ["x", "y"], "at least 3 are wanted"),
        ([[1], [2], [3]], None, "it holds List"),
    ],
)
def test_unclear_orders_are_refused(values, order, message):
    with pytest.raises(InputError, match=message):
        trend(matrix(np.eye(3), by=values), "by", order=order)


def test_options_are_checked():
    m = matrix(np.eye(3), by=[1, 2, 3])
    for options, message in (
        ({"alpha": 1.0}, "alpha is 1"),
        ({"cluster_on": "by"}, "cannot make the clusters too"),
        ({"cluster_on": "nope"}, "no such column"),
        ({"adjust": ["nope"]}, "no such column"),
    ):
        with pytest.raises(InputError, match=message):
            trend(m, "by", **options)
    with pytest.raises(InputError, match=r"did you mean 'by'"):
        trend(m, "byy")


def test_the_result_is_saved_with_its_parameters(tmp_path):
    values, score = random_case(3)
    result = trend(matrix(values, step=score), "step")
    table = pl.read_parquet(result.save(tmp_path / "t.parquet"))
    assert table.equals(result.frame)
    assert (result.kind, result.parameters["steps"]) == ("trend", ["0", "1", "2", "3"])
    assert "rising" in (result.save(tmp_path / "t.json")).read_text()
