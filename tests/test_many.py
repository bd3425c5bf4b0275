"""Several sets: by value against diff, planted concepts, what sets one apart, permuted columns, nulls, errors."""

from __future__ import annotations

from datetime import date

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keywords import keyword_matrix
from polars.testing import assert_frame_equal
from scipy.sparse import csr_array
from scipy.stats import binom, false_discovery_control

from saelens_data import stats
from saelens_data.diff.many import ManyResult, diff_many
from saelens_data.diff.many_check import aa_check_many
from saelens_data.diff.trend import trend
from saelens_data.diff.two import diff
from saelens_data.errors import InputError
from saelens_data.matrix import ConceptMatrix, Source
from saelens_data.stats.trend import exchanged

SOURCE = Source(encoder="tiny", reader="r", reader_sha256="0", sae="s", sae_sha256="1", hook="final")


def matrix(values, **columns) -> ConceptMatrix:
    """A matrix with these activations [documents, latents]."""
    values = np.asarray(values, dtype=np.float32)
    docs = pl.DataFrame({"doc_id": pl.Series([f"d{i}" for i in range(len(values))], dtype=pl.String), **columns})
    latents = np.arange(values.shape[1], dtype=np.int32)
    concepts = pl.DataFrame({"latent": latents, "label": [f"concept {i}" for i in latents]})
    return ConceptMatrix(csr_array(values), docs, concepts, SOURCE)


def models(seed: int = 0, k: int = 5, n: int = 60, d: int = 25) -> ConceptMatrix:
    """`n` answers of each of `k` models to the same prompts; only model m2 has latent 3 often, and 4 strongly."""
    rng = np.random.default_rng(seed)
    code = np.repeat(np.arange(k), n)
    active = rng.random((k * n, d)) < rng.uniform(0.05, 0.6, d)
    active[:, 3] = rng.random(k * n) < np.where(code == 2, 0.7, 0.08)
    active[:, 4] = True
    values = active * rng.uniform(0.1, 1, (k * n, d))
    values[:, 4] += code == 2
    return matrix(values, model=[f"m{c}" for c in code], prompt=np.tile(np.arange(n), k))


def split(m: ConceptMatrix, name: str) -> tuple[ConceptMatrix, ConceptMatrix]:
    return m.filter_docs(pl.col("model") == name), m.filter_docs(pl.col("model") != name)


def own_rows(result: ManyResult, name: str, against: str) -> pl.DataFrame:
    return result.frame.filter((pl.col("set") == name) & (pl.col("against") == against)).sort("latent")


# --- by value


@pytest.mark.parametrize("options", [{}, {"pair_on": "prompt"}, {"cluster_on": "prompt"}, {"adjust": ["prompt"]}])
def test_two_sets_are_what_diff_says(options):
    m = models(k=2, n=80)
    m = matrix(
        m.X.toarray() + 0.5 * (np.arange(160) >= 80)[:, None] * (np.arange(25) == 7), **m.docs.drop("doc_id").to_dict()
    )
    sides = split(m, "m0")
    expected = diff(*sides, names=("m0", "m1"), **options)
    result = diff_many(m, "model", **options)
    assert list(result.results) == [("m0", "m1")]
    assert_frame_equal(result.results["m0", "m1"].frame, expected.frame)
    assert_frame_equal(result.frame.select(expected.frame.columns), expected.frame)
    assert expected.findings.height > 0
    assert result.n_tested == expected.n_tested
    assert result.results["m0", "m1"].notes[:-1] == expected.notes


def test_one_against_the_rest_is_diff_of_the_split_with_one_correction():
    m = models()
    result = diff_many(m, "model")
    p = []
    for name in result.sets:
        expected = diff(*split(m, name), names=(name, "the rest")).frame.sort("latent")
        rows = own_rows(result, name, "the rest")
        same = [c for c in expected.columns if c not in {"rank", "q_value", "finding"} and "adjusted" not in c]
        same = [c for c in same if c not in {"explained_by", "undecided"}]
        assert_frame_equal(rows.select(same), expected.select(same))
        p.append(rows["p_value"].to_numpy())
        shown = result.results[name, "the rest"].frame
        assert_frame_equal(shown.sort("latent")["q_value"].to_frame(), rows["q_value"].to_frame())
        assert shown["rank"].to_list() == list(range(1, shown.height + 1))
    together = np.concatenate([own_rows(result, name, "the rest")["q_value"] for name in result.sets])
    np.testing.assert_allclose(together, false_discovery_control(np.concatenate(p)), rtol=1e-9)
    assert result.n_tested == len(together)


def test_a_concept_of_one_set_is_found_only_there_and_holds_against_each():
    m = models()
    result = diff_many(m, "model")
    apart = result.findings.filter("apart")
    assert sorted(apart.select("set", "latent").rows()) == [("m2", 3), ("m2", 4)]
    assert result.findings["latent"].is_in([3, 4]).all()
    assert result.frame["apart"].head(2).all()
    active = (m.X.toarray() > 0)[:, 3].reshape(5, 60).mean(axis=1)
    row = apart.row(by_predicate=pl.col("latent") == 3, named=True)
    assert row["densities"] == pytest.approx(list(active))
    others = np.delete(active, 2)
    assert (row["others_low"], row["others_high"]) == (others.min(), others.max())
    assert row["nearest"] == f"m{np.delete(np.arange(5), 2)[others.argmax()]}"
    assert row["holds_against"] == 4
    assert row["favours"] == "m2"
    lower = result.findings.filter(pl.col("favours") == "the rest")
    assert not lower["apart"].any()  # the others lie below their rest only because m2 is in it
    head, tail = result.summary().split(". ")
    assert head == "5 sets by 'model' (60 documents each), each against the rest: 125 tests in 5 comparisons"
    assert tail.startswith(f"{result.findings.height} findings at q < 0.05: 2 of m2 against the rest, ")
    assert tail.endswith("; 2 hold against each other set by itself.")
    assert any("may come of one other set in the rest" in note for note in result.notes)


def test_a_set_between_the_others_does_not_hold_against_those_beyond():
    rng, code = np.random.default_rng(0), np.repeat(np.arange(5), 80)
    values = np.zeros((400, 3))
    for latent, densities in enumerate([[0.6, 0.1, 0.12, 0.1, 0.95], [0.05, 0.5, 0.6, 0.7, 0.8]]):
        values[:, latent] = rng.random(400) < np.array(densities)[code]
    result = diff_many(matrix(values, by=code), "by")
    between, lowest = (own_rows(result, "0", "the rest").row(latent, named=True) for latent in (0, 1))
    assert between["finding"]
    assert (between["favours"], between["nearest"], between["holds_against"], between["apart"]) == ("0", "4", 3, False)
    assert (lowest["favours"], lowest["nearest"], lowest["holds_against"], lowest["apart"]) == (
        "the rest",
        "1",
        4,
        True,
    )


@pytest.mark.parametrize("cluster_on", [None, "prompt"])
def test_what_holds_against_each_is_counted_by_diff_of_pairs(cluster_on):
    m = models(3)
    result = diff_many(m, "model", cluster_on=cluster_on)
    assert result.findings["holds_against"].n_unique() > 1
    for row in result.findings.iter_rows(named=True):
        holds = 0
        for other in set(result.sets) - {row["set"]}:
            sides = (m.filter_docs(pl.col("model") == name) for name in (row["set"], other))
            frame = diff(*sides, group=False, cluster_on=cluster_on).frame.filter(pl.col("latent") == row["latent"])
            same = frame.height and np.sign(frame["delta"][0]) == np.sign(row["delta"])
            holds += bool(same and frame["p_value"][0] < 0.05)
        assert row["holds_against"] == holds
        assert row["apart"] == (holds == 4)


@pytest.mark.parametrize("options", [{}, {"pair_on": "prompt"}])
def test_all_pairs_and_a_reference(options):
    m = models(k=4)
    parts = {name: split(m, name)[0] for name in ("m0", "m1", "m2", "m3")}
    pairs = diff_many(m, "model", pairs=True, **options)
    assert list(pairs.results) == [("m0", "m1"), ("m0", "m2"), ("m0", "m3"), ("m1", "m2"), ("m1", "m3"), ("m2", "m3")]
    one = diff_many(m, "model", reference="m2", **options)
    assert list(one.results) == [("m0", "m2"), ("m1", "m2"), ("m3", "m2")]
    for result in (pairs, one):
        for key in result.results:
            expected = diff(*(parts[name] for name in key), names=key, **options)
            np.testing.assert_allclose(own_rows(result, *key)["p_value"], expected.frame.sort("latent")["p_value"])
            assert result.results[key].pair_on == options.get("pair_on")
        assert result.frame["apart"].null_count() == result.frame.height
        assert {"m2"} == set(result.findings["favours"])
        q = false_discovery_control(result.frame["p_value"].to_numpy())
        np.testing.assert_allclose(result.frame["q_value"], q, rtol=1e-9)


def test_against_the_rest_prompts_are_clusters():
    m = models()
    result = diff_many(m, "model", pair_on="prompt")
    expected = diff(*split(m, "m2"), cluster_on="prompt").frame.sort("latent")
    assert_frame_equal(
        own_rows(result, "m2", "the rest").select("p_value", "ci_low"), expected.select("p_value", "ci_low")
    )
    assert result.results["m2", "the rest"].cluster_on == "prompt"
    assert "Compared within equal values of 'prompt', as clusters" in result.notes[0]
    assert {("m2", 3), ("m2", 4)} == set(result.findings.filter("apart").select("set", "latent").rows())


def test_within_prompts_a_set_holds_against_each_by_differences_that_prompts_would_hide():
    code, prompt = np.repeat(np.arange(4), 100), np.tile(np.arange(100), 4)
    limit = np.where(code == 2, 35, 50)
    m = matrix(np.column_stack([prompt >= limit, prompt % 2 == 0]), by=code, prompt=prompt)
    (row,) = diff_many(m, "by", pair_on="prompt").findings.filter("apart").iter_rows(named=True)
    assert (row["set"], row["latent"], row["holds_against"]) == ("2", 0, 3)
    two = [m.filter_docs(pl.col("by") == i) for i in (2, 1)]
    assert diff(*two, cluster_on="prompt").frame["p_value"].min() < 0.05 / 2
    alone = diff(*two).frame.filter(pl.col("latent") == 0)
    assert alone["p_value"][0] > 0.05  # 65 of 100 against 50 of 100


def test_near_duplicates_are_grouped_once_for_all_sets():
    words = ["north", "south", "east", "west"]
    rng = np.random.default_rng(0)
    texts = [" ".join(f"{word}." for word in words if rng.random() < 0.4) or "none." for _ in range(200)]
    texts = [text + (" Xylo xy." if i % 4 == 1 and rng.random() < 0.8 else "") for i, text in enumerate(texts)]
    m = keyword_matrix(texts, dict(enumerate([*words, "Xylo", "Xyl"])), city=[f"c{i % 4}" for i in range(200)])
    result = diff_many(m, "city")
    assert result.groups.n == 5
    (row,) = result.findings.filter("apart").iter_rows(named=True)
    assert (row["set"], sorted(row["members"])) == ("c1", [4, 5])
    assert all(shown.groups is result.groups for shown in result.results.values())


# --- nothing to be found, and chance


def test_a_permuted_column_shows_findings_in_at_most_a_twentieth_of_runs():
    m = models(k=4, n=40, d=30)
    check = aa_check_many(diff_many(m, "model"), splits=100, seed=1)
    assert check.frame["with_findings"][0] <= binom.ppf(0.999, 100, 0.05)


def test_the_check_judges_as_diff_many_does():
    m = models(k=3, n=40, d=12)
    result, rng = diff_many(m, "model", alpha=0.9), np.random.default_rng(5)  # a lenient alpha, to find something
    runs = []
    for _ in range(12):
        names = np.array(result.sets)[exchanged(result.documents.code, None, rng)]
        runs.append(diff_many(matrix(m.X.toarray(), model=names), "model", alpha=0.9))
    row = aa_check_many(result, splits=12, seed=5).frame.row(0, named=True)
    assert row["with_findings"] == sum(bool(run.findings.height) for run in runs) > 0
    assert row["tested"] == sum(run.n_tested for run in runs) // 12


@pytest.mark.parametrize("options", [{}, {"pair_on": "prompt"}, {"pairs": True, "pair_on": "prompt"}])
def test_the_check_of_many_sets_is_calm_and_repeats(options):
    result = diff_many(models(k=3, n=40, d=12), "model", **options)
    assert result.findings.height > 0
    check = aa_check_many(result, splits=25, seed=3)
    row = check.frame.row(0, named=True)
    assert row["splits"] == 25
    assert row["with_findings"] <= binom.ppf(0.999, 25, 0.05)
    assert row["tested"] == pytest.approx(result.n_tested, rel=0.1)
    assert_frame_equal(check.frame, aa_check_many(result, splits=25, seed=3).frame)
    assert check.notes[0].startswith(f"A/A check: {row['with_findings']} of 25")
    with pytest.raises(InputError, match="at least one"):
        aa_check_many(result, splits=0)


def test_the_check_of_a_trend_is_calm():
    m = models(k=4, n=40, d=30)
    for options in ({}, {"cluster_on": "prompt"}):
        row = aa_check_many(trend(m, "model", **options), splits=60).frame.row(0, named=True)
        assert row["with_findings"] <= binom.ppf(0.999, 60, 0.05)
        assert row["set"] == "all by model"


def test_the_same_call_gives_the_same_bytes(tmp_path):
    paths = [diff_many(models(), "model").save(tmp_path / f"{i}.json") for i in range(2)]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert pl.read_parquet(diff_many(models(), "model").save(tmp_path / "m.parquet")).height > 0


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**32))
def test_the_order_of_documents_does_not_matter(seed):
    m = models(seed % 7, k=3, n=30, d=10)
    order = np.random.default_rng(seed).permutation(m.n_docs)
    one, other = diff_many(m, "model"), diff_many(m.take_docs(order), "model")
    assert_frame_equal(one.frame, other.frame)


# --- the column


@pytest.mark.parametrize(
    ("values", "names"),
    [
        (["b", "a", "a b"], ["a", "a b", "b"]),
        ([10, 9, -1], ["-1", "9", "10"]),
        ([True, False, True], ["False", "True"]),
        ([date(2024, 1, 2), date(2023, 1, 2), date(2024, 1, 1)], ["2023-01-02", "2024-01-01", "2024-01-02"]),
        (["", "x", "y"], ["(empty)", "x", "y"]),
        (["the rest", "x", "y"], ["the rest", "x", "y"]),
    ],
)
def test_values_of_many_types(values, names):
    m = matrix(np.eye(3)[np.arange(60) % 3], by=[values[i % 3] for i in range(60)])
    result = diff_many(m, "by")
    assert list(result.sets) == names
    if len(names) > 2:
        other = "all others" if "the rest" in names else "the rest"
        assert list(result.results) == [(name, other) for name in names]
        assert result.findings.height == 9
        assert (own_rows(result, *(names[0], other))["apart"]).sum() == 1


def test_documents_without_a_value_or_with_an_error_are_left_out():
    m = models(k=3, n=40)
    column = m.docs["model"].to_list() + [None] * 7 + ["m1"] * 3
    errors = [None] * 127 + ["too odd"] * 3
    whole = matrix(
        np.vstack([m.X.toarray(), np.ones((10, 25))]), model=column, error=pl.Series(errors, dtype=pl.String)
    )
    one, other = diff_many(m, "model"), diff_many(whole, "model")
    assert_frame_equal(one.frame, other.frame)
    assert other.notes[:2] == (
        "Left out: 3 documents that could not be encoded.",
        "Left out: 7 documents with no value in 'model'.",
    )
    numbers = matrix(m.X.toarray(), model=[float(i % 3) if i % 9 else float("nan") for i in range(120)])
    assert diff_many(numbers, "model").sets == ("0.0", "1.0", "2.0")


def test_a_set_too_small_to_show_anything_is_named():
    m = models(k=3, n=40)
    column = ["tiny" if i in (0, 50) else v for i, v in enumerate(m.docs["model"].to_list())]
    result = diff_many(matrix(m.X.toarray()[:, 5:], model=column), "model", reference="m1")
    few, power = result.notes[1:3]
    assert few == "Too few documents for a difference in presence to be found with 80% power: tiny against m1 (2)."
    at = dict(stats.detectable(39, 39, 0.05 / (2 * result.n_tested)))
    assert power.startswith("With 80% power, the first difference in presence would have been found from 5.0%")
    assert power.endswith(f"to {at[0.5] + 0.5:.1%} in the smallest other comparison, m0 against m1.")


@pytest.mark.parametrize(
    ("by", "options", "message"),
    [
        ("modl", {}, r"cannot split by 'modl': there is no such column; did you mean 'model'"),
        ("lists", {}, "it holds List"),
        ("prompt", {}, "it has 60 values, and at most 50 sets are compared"),
        ("constant", {}, "it has 1 value in the documents that were encoded, and at least 2 are wanted"),
        ("model", {"reference": "m9"}, "no set is called 'm9' in 'model'; available: m0, m1"),
        ("model", {"reference": "m1", "pairs": True}, "both a reference and all pairs"),
        ("model", {"pair_on": "model"}, "'model' makes the sets"),
        ("model", {"cluster_on": "model"}, "'model' makes the sets"),
        ("model", {"pair_on": "prompt", "cluster_on": "prompt"}, "give one"),
        ("model", {"alpha": 0.0}, "alpha is 0"),
        ("model", {"pairs": True, "pair_on": "constant"}, "stands in 60 documents"),
        ("model", {"adjust": ["nope"]}, "no such column"),
        ("third", {"pairs": True}, "are 435 comparisons, and at most 200 are made"),
    ],
)
def test_what_cannot_be_compared_is_refused(by, options, message):
    m = models()
    extra = {"lists": [[i] for i in range(300)], "constant": ["c"] * 300, "third": np.arange(300) % 30}
    with pytest.raises(InputError, match=message):
        diff_many(matrix(m.X.toarray(), **m.docs.drop("doc_id").to_dict(), **extra), by, **options)


def test_an_unknown_comparison_names_those_there_are():
    with pytest.raises(KeyError, match="m1"):
        diff_many(models(k=3), "model").results["m1", "m2"]
