"""Pairs of concepts, with columns and between fields: values by hand, filters one by one, and nothing in shuffled data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from scipy.sparse import csr_array
from scipy.stats import fisher_exact, hypergeom, mannwhitneyu
from synthetic import SOURCE, concepts

import saelens_data as sd
from saelens_data.correlate import CorrelateResult, correlate, correlate_between, correlate_with, scan
from saelens_data.correlate.between import between_matrices
from saelens_data.correlate.check import permutation_check, shuffle_within
from saelens_data.correlate.groups import group_sets
from saelens_data.correlate.pairs import ALL_FILTERS, Options
from saelens_data.correlate.scan import chance_near, with_neighbours
from saelens_data.correlate.sides import Side, label_words
from saelens_data.errors import InputError
from saelens_data.matrix import ConceptMatrix, Evidence, Units
from saelens_data.stats.strata import strata_of

LABELS = ["sugar", "river", "granite", "violin", "tractor", "harbour", "pepper", "marble", "falcon", "cotton"]


def matrix(
    held: np.ndarray, *, units: int | np.ndarray = 6, unit: np.ndarray | None = None, **columns: Sequence[object]
) -> ConceptMatrix:
    """Documents x concepts of 0/1 with labels that share no word; `unit` [documents, concepts] holds the maxima."""
    n, d = held.shape
    X = csr_array(held.astype(np.float32))
    X.sort_indices()
    n_units = np.broadcast_to(np.asarray(units), n)
    ptr = np.concatenate([[0], np.cumsum(n_units)]).astype(np.int64)
    start = np.arange(ptr[-1], dtype=np.int32) * 5
    start -= np.repeat(start[ptr[:-1]], n_units)
    row, column = X.nonzero()
    # Places far apart: even concepts at the start, odd ones at the end.
    default = np.where(column % 2 == 0, 0, n_units[row] - 1)
    own = (default if unit is None else unit[row, column]).astype(np.int32)
    evidence = Evidence(X.data, own, Units(ptr, start, start + 5))
    texts = [" ".join(f"w{u:03}" for u in range(k)) for k in n_units.tolist()]
    docs = pl.DataFrame(
        {
            "doc_id": [f"d{i}" for i in range(n)],
            "text": texts,
            **columns,
            "n_units": n_units,
            "error": pl.Series([None] * n, dtype=pl.String),
        }
    )
    labels = pl.Series("label", [LABELS[i % len(LABELS)] + "x" * (i // 10) for i in range(d)])
    table = concepts(range(d)).with_columns(labels)
    return ConceptMatrix(X, docs, table, SOURCE, evidence)


def together(n: int = 400, d: int = 8, both: int = 30, seed: int = 0) -> np.ndarray:
    """Independent concepts, of which 0 and 1 hold `both` documents in common."""
    rng = np.random.default_rng(seed)
    held = rng.random((n, d)) < 0.12
    held[:both, 0] = held[:both, 1] = True
    return held


def pair(result: CorrelateResult, a: int, b: int) -> dict:
    found = result.frame.filter((pl.col("latent_a") == a) & (pl.col("latent_b") == b))
    if not found.height:
        found = result.frame.filter((pl.col("latent_a") == b) & (pl.col("latent_b") == a))
    return found.row(0, named=True)


def test_a_pair_has_the_numbers_of_its_table():
    held = together()
    result = correlate(matrix(held))
    row = pair(result, 0, 1)
    a, b = (row["latent_a"], row["latent_b"])
    n_a, n_b, both = held[:, a].sum(), held[:, b].sum(), (held[:, a] & held[:, b]).sum()
    assert (row["n_a"], row["n_b"], row["n_both"], row["direction"]) == (n_a, n_b, both, "together")
    assert row["lift"] == pytest.approx(both * 400 / (n_a * n_b))
    assert row["b_given_a"] == pytest.approx(both / n_a)
    assert row["b_given_a_low"] < row["b_given_a"] < row["b_given_a_high"]
    assert row["p_value"] == pytest.approx(2 * hypergeom.sf(both - 1, 400, n_a, n_b), rel=1e-6)
    raw = np.log(both * 400 / (n_a * n_b)) / -np.log(both / 400)
    rarer = min(n_a, n_b)
    assert row["npmi"] == pytest.approx(raw * both / (both + 1) * rarer / (rarer + 1))
    assert 0 < row["npmi_low"] < raw
    assert row["q_value"] == pytest.approx(row["p_value"] * result.n_tested, rel=2e-3)
    assert result.frame.height == 1
    assert result.n_pairs == 8 * 7 // 2


def test_a_pair_that_never_meets_is_found_apart():
    held = together(both=0)
    held[:, 2] = np.arange(400) % 2 == 0
    held[:, 3] = np.arange(400) % 4 == 1
    row = pair(correlate(matrix(held)), 2, 3)
    assert (row["n_both"], row["direction"], row["lift"]) == (0, "apart", 0)
    assert -1 < row["npmi"] < -0.9
    assert -1 < row["npmi_low"] < 0
    assert row["p_value"] == pytest.approx(2 * hypergeom.cdf(0, 400, 200, 100), rel=1e-6)


def test_blocks_of_any_size_give_the_same(monkeypatch):
    m = matrix(together(d=40, seed=3))
    whole = correlate(m, without=["length"])
    monkeypatch.setattr(scan, "_blocks", lambda problem, _: ((i, i + 1) for i in range(len(problem.left))))
    again = correlate(m, without=["length"])
    assert whole.frame.equals(again.frame)
    assert whole.removed == again.removed


def test_the_order_of_documents_changes_nothing():
    m = matrix(together(d=20, seed=1))
    one, other = correlate(m), correlate(m.take_docs(np.random.default_rng(0).permutation(m.n_docs)))
    key = ["latent_a", "latent_b"]
    assert one.frame.select(*key, "n_both", "group").equals(other.frame.select(*key, "n_both", "group"))
    np.testing.assert_allclose(one.frame["q_value"], other.frame["q_value"], rtol=1e-9)


# Filters


def removed(m: ConceptMatrix, name: str) -> tuple[int, int]:
    """How many pairs a filter took, and how many more there are without it."""
    with_, without = correlate(m), correlate(m, without=[name])
    assert name not in without.removed
    return with_.removed[name], without.frame.height - with_.frame.height


def test_few_documents_in_common_are_no_finding_unless_asked_for():
    held = together(both=0)
    held[:, 0] = held[:, 1] = False
    held[:4, 0] = held[:4, 1] = True
    assert removed(matrix(held), "few") == (1, 1)
    assert correlate(matrix(held), min_documents=4).frame.height == 1


def test_a_concept_that_is_everywhere_is_left_out():
    held = together()
    held[:, 1] = np.arange(400) >= 80
    held[:, 0] = (np.arange(400) >= 80) & (np.arange(400) % 5 < 2)
    assert removed(matrix(held), "everywhere") == (1, 1)


def test_concepts_with_like_labels_are_left_out():
    m = matrix(together())
    labels = m.concepts["label"].to_list()
    labels[1] = "sugar river"
    assert removed(m.with_labels(m.concepts.select("latent").with_columns(label=pl.Series(labels))), "similar") == (
        1,
        1,
    )
    one, other = label_words(*(replace(Side.of_concepts(m), names=pl.Series(x)) for x in (["a bc de"], ["de zz"])))
    assert 0 < (one @ other.T).toarray()[0, 0] < 1


def test_concepts_that_fire_on_neighbouring_spans_are_left_out():
    held = together()
    unit = np.zeros(held.shape, dtype=np.int64)
    unit[:, 1] = 1
    assert removed(matrix(held, unit=unit), "spans") == (1, 1)
    unit[:, 1] = 2
    assert correlate(matrix(held, unit=unit)).removed["spans"] == 0


def test_in_documents_of_one_or_two_spans_places_say_nothing():
    held = together()
    assert correlate(matrix(held, units=1)).removed["spans"] == 0
    assert correlate(matrix(held, units=2)).frame["near"][0] is None


def test_neighbours_are_those_of_one_document():
    ptr = np.array([0, 2, 5])
    rng = np.random.default_rng(0)
    units = csr_array((rng.random((5, 7)) < 0.4).astype(np.int32))
    found, dense = with_neighbours(units, ptr).toarray(), units.toarray()
    for u in range(5):
        first, last = (0, 2) if u < 2 else (2, 5)
        np.testing.assert_array_equal(found[u], dense[max(u - 1, first) : min(u + 2, last)].sum(axis=0))
    places = np.arange(6)
    assert chance_near(np.array([6]))[0] == pytest.approx((np.abs(places[:, None] - places) <= 1).mean())


def test_length_explains_concepts_of_long_documents():
    rng = np.random.default_rng(0)
    long = np.arange(1_600) % 8 == 0
    held = rng.random((1_600, 8)) < 0.05
    held[:, :2] |= (rng.random((1_600, 2)) < 0.6) & long[:, None]
    m = matrix(held, units=np.where(long, 30, 5))
    assert removed(m, "length") == (1, 1)


def test_concepts_that_only_fire_more_often_in_longer_documents_are_no_finding():
    rng = np.random.default_rng(0)
    length = np.minimum(1 + rng.pareto(1.2, 2_000) * 3, 80).astype(int)
    rates = np.exp(rng.uniform(np.log(0.002), np.log(0.1), 120))
    m = matrix(rng.random((2_000, 120)) < 1 - np.exp(-np.outer(length, rates)), units=length)
    without = ["third", "similar", "spans"]
    assert correlate(m, without=[*without, "length"]).frame.height > 100
    assert correlate(m, without=without).frame.height == 0


def test_a_sign_that_turns_at_equal_length_is_called_out():
    rng = np.random.default_rng(1)
    long = np.arange(4_000) % 2 == 0
    held = rng.random((4_000, 6)) < 0.05
    one = rng.random(4_000) < np.where(long, 0.45, 0.02)
    held[:, 0], held[:, 1] = one, rng.random(4_000) < np.where(long, np.where(one, 0.28, 0.42), 0.02)
    result = correlate(matrix(held, units=np.where(long, 30, 5)), without=["everywhere"])
    assert result.frame.filter((pl.col("latent_a") + pl.col("latent_b")) == 1).height == 0
    assert any("Simpson" in note for note in result.notes)


def test_a_third_concept_explains_what_it_brings_about():
    rng = np.random.default_rng(2)
    held = rng.random((2_000, 6)) < 0.03
    cause = rng.random(2_000) < 0.1
    held[:, 0] = cause
    held[:, 1] = np.where(cause, rng.random(2_000) < 0.8, rng.random(2_000) < 0.02)
    held[:, 3] = np.where(cause, rng.random(2_000) < 0.8, rng.random(2_000) < 0.02)
    unit = np.zeros(held.shape, dtype=np.int64) + np.array([0, 5, 0, 3, 0, 0])
    m = matrix(held, unit=unit)
    assert removed(m, "third") == (1, 1)
    kept = {tuple(sorted(p)) for p in correlate(m).frame.select("latent_a", "latent_b").rows()}
    assert kept == {(0, 1), (0, 3)}


def test_pairs_that_meet_in_the_same_documents_are_one_group():
    sets = [np.arange(0, 20), np.arange(5, 25), np.arange(100, 110), np.arange(0, 3)]
    np.testing.assert_array_equal(group_sets(sets, 200, np.ones(4, bool)), [0, 0, 1, 2])
    np.testing.assert_array_equal(group_sets(sets, 200, np.array([True, False, True, True])), [0, 1, 2, 3])
    held = together(d=6)
    held[:, 2] = held[:, 0]
    held[:30, 4] = True
    found = correlate(matrix(held), without=["third"]).frame
    assert found.height > 1
    assert found["group"].n_unique() < found.height
    assert found["group"].to_list() == sorted(found["group"].to_list())


# Where nothing is


def test_shuffled_documents_keep_their_length_and_show_nothing():
    rng = np.random.default_rng(4)
    long = rng.random(600) < 0.3
    held = rng.random((600, 120)) < np.where(long, 0.3, 0.05)[:, None]
    result = correlate(matrix(held, units=np.where(long, 20, 4)))
    found = permutation_check(result, runs=25, seed=1)
    row = found.frame.row(0, named=True)
    assert row["with_findings"] <= 4
    assert row["tested"] > 1_000
    assert f"{row['with_findings']} of 25 runs" in found.notes[0]
    assert found.frame.equals(permutation_check(result, runs=25, seed=1).frame)


def test_the_check_would_see_findings():
    held = together(both=60, d=8)
    m = matrix(held)
    result = correlate(m)
    # Without the shuffle the same rule finds the pair: what the check reports is not blind.
    assert result.frame.height == 1
    stratum = np.array([0, 1, 0, 1, 0])
    moved = shuffle_within(stratum, np.random.default_rng(0))
    np.testing.assert_array_equal(np.sort(moved), np.arange(5))
    np.testing.assert_array_equal(stratum[moved], stratum)
    with pytest.raises(InputError, match="at least one"):
        permutation_check(result, runs=0)


def test_strata_hold_documents_of_like_length():
    length = np.random.default_rng(0).integers(1, 50, 2_000)
    code = strata_of(length)
    for k in range(code.max() + 1):
        mine = length[code == k]
        assert mine.max() < 2 * mine.min()
    order = np.argsort(length, kind="stable")
    assert (np.diff(code[order]) >= 0).all()
    assert code.max() == 5  # 1, 2 to 3, 4 to 7, 8 to 15, 16 to 31, and the rest
    assert strata_of(np.repeat(length, 10)).max() == 9  # narrower ones, where documents are many
    assert strata_of(length[:100]).max() == 1
    both = strata_of(length, length[::-1])
    assert len(np.unique(both)) == len({*zip(code.tolist(), code[::-1].tolist(), strict=True)})
    assert strata_of(np.array([3, 80])).max() == 0


# Fields and columns


def test_fields_are_paired_with_each_other_and_not_with_themselves():
    rng = np.random.default_rng(5)
    one, other = (matrix(rng.random((500, 12)) < 0.1) for _ in range(2))
    held = other.X.toarray() > 0
    held[:, 4] = (one.X.toarray()[:, 7] > 0) & (rng.random(500) < 0.9)
    other = matrix(held)
    result = between_matrices(one, other, ("prompt", "response"), Options())
    assert result.frame.select("latent_a", "latent_b").rows() == [(7, 4)]
    assert {"prompt", "response"} <= set(result.docs.columns)
    row = result.frame.row(0, named=True)
    a, b = one.X.toarray()[:, 7] > 0, held[:, 4]
    assert (row["n_a"], row["n_b"], row["n_both"]) == (a.sum(), b.sum(), (a & b).sum())
    assert result.n_pairs == 144


def test_permuted_fields_show_a_finding_at_most_as_often_as_stated():
    rng = np.random.default_rng(6)
    held = rng.random((300, 60)) < rng.uniform(0.02, 0.3, 60)
    m, hits = matrix(held), 0
    for _ in range(50):
        other = matrix(held[rng.permutation(300)])
        hits += between_matrices(m, other, ("a", "b"), Options(without=["few"])).frame.height > 0
    assert hits <= 7  # 5% of 50 and two standard errors


def test_fields_of_other_documents_are_refused():
    one = matrix(together())
    other = one.with_docs(one.docs.select("doc_id")).take_docs(np.arange(399, -1, -1))
    with pytest.raises(InputError, match="same documents"):
        between_matrices(one, other, ("a", "b"), Options())
    with pytest.raises(InputError, match="both fields are"):
        correlate_between(one, "response", "response")
    with pytest.raises(InputError, match="no field 'prompt'"):
        correlate_between(one, "prompt", "response")


def test_a_concept_goes_with_a_value_of_a_column():
    held = together()
    kind = ["x" if held[i, 2] and i % 5 else "yz"[i % 2] for i in range(400)]
    result = correlate_with(matrix(held, kind=kind), "kind")
    row = result.frame.row(0, named=True)
    assert (row["latent_a"], row["latent_b"], row["label_b"]) == (2, None, "x")
    mask = np.array(kind) == "x"
    assert (row["n_b"], row["n_both"]) == (mask.sum(), (mask & held[:, 2]).sum())
    table = [[(x & y).sum() for y in (held[:, 2], ~held[:, 2])] for x in (mask, ~mask)]
    assert row["p_value"] < 3 * fisher_exact(table).pvalue


def test_a_concept_goes_with_high_values():
    held = together(n=600)
    rng = np.random.default_rng(0)
    score = rng.normal(size=600) + 1.5 * held[:, 3]
    m = matrix(held, score=score.tolist())
    result = correlate_with(m, "score")
    row = result.frame.row(0, named=True)
    assert result.frame["latent"].to_list() == [3]
    test = mannwhitneyu(score[held[:, 3]], score[~held[:, 3]])
    n = held[:, 3].sum()
    assert row["auc"] == pytest.approx(test.statistic / (n * (600 - n)))
    assert row["auc_low"] < row["auc"] < row["auc_high"]
    assert row["direction"] == "higher"
    assert row["mean_with"] == pytest.approx(score[held[:, 3]].mean())
    assert np.log(row["p_value"]) == pytest.approx(np.log(test.pvalue), rel=0.2)
    assert (np.diff(score[result.rows(1)]) <= 0).all()
    assert correlate_with(m, "score", as_="ordered").frame.equals(result.frame)


def test_dates_are_ordered_and_shuffled_values_show_nothing():
    held, rng, hits = together(n=300, d=40), np.random.default_rng(0), 0
    for _ in range(20):
        days = pl.Series(rng.permutation(300)).cast(pl.Int32).cast(pl.Date)
        hits += correlate_with(matrix(held, day=days), "day").frame.height > 0
    assert hits <= 4


def test_the_check_of_a_column_shuffles_its_values_and_would_see_findings():
    held = together(d=30)
    score = np.where(held[:, 0], 4.0, 1.0) + np.random.default_rng(3).random(400)
    result = correlate_with(matrix(held, score=score.tolist()), "score")
    assert result.frame["latent"].to_list() == [0, 1]
    assert permutation_check(result, runs=20).frame["with_findings"][0] <= 3  # 5% of 20, binomial error
    kept = replace(result, stratum=np.arange(400))  # nothing can change places
    assert permutation_check(kept, runs=2).frame["with_findings"][0] == 0  # nor is anything seen at equal "length"
    loose = replace(result, values=score, stratum=np.zeros(400, dtype=np.int64), alpha=0.9)
    assert permutation_check(loose, runs=5).frame["with_findings"][0] >= 1


def test_columns_that_cannot_be_used_are_refused():
    m = matrix(together(), one=["x"] * 400, many=[str(i) for i in range(400)] * 1, lists=[[1]] * 400)
    for column, words in (("one", "1 value"), ("nothing", "no column"), ("lists", "plain values")):
        with pytest.raises(InputError, match=words):
            correlate_with(m, column)


def test_a_column_of_numbers_with_a_word_in_it_is_said_to_be_none():
    score = [str(i % 5) for i in range(399)]
    result = correlate_with(matrix(together(), score=[*score, "n/a"]), "score")
    assert "'score' holds numbers, and 1 value that is none ('n/a')" in result.notes[0]
    assert not any(
        "holds numbers" in note for note in correlate_with(matrix(together(), score=list("ab") * 200), "score").notes
    )


def test_documents_without_a_value_are_counted():
    m = matrix(together(), kind=[None if i < 100 else "ab"[i % 2] for i in range(400)])
    assert "Left out: 100 documents with no value in 'kind'." in correlate_with(m, "kind").notes


# Results


def test_the_documents_of_a_cell_are_those_of_the_table():
    held = together()
    result = correlate(matrix(held))
    row = result.frame.row(0, named=True)
    a, b = held[:, row["latent_a"]], held[:, row["latent_b"]]
    for name, mask in (("both", a & b), ("only_a", a & ~b), ("only_b", ~a & b), ("neither", ~a & ~b)):
        np.testing.assert_array_equal(result.rows(1, name), np.flatnonzero(mask))
    exported = result.documents()
    assert exported["doc_id"].to_list() == [f"d{i}" for i in np.flatnonzero(a & b)]
    assert exported["latent_a"].unique().to_list() == [row["latent_a"]]
    for wrong in ((0, "both"), (2, "both"), (1, "some")):
        with pytest.raises(InputError):
            result.rows(*wrong)


def test_nothing_found_is_an_empty_table_with_all_columns():
    result = correlate(matrix(together(both=0)))
    assert result.frame.height == 0
    assert result.n_groups == 0
    assert result.documents().height == 0
    assert result.frame.columns == correlate(matrix(together())).frame.columns


def test_options_out_of_range_are_refused():
    m = matrix(together())
    for options in ({"alpha": 0}, {"without": ["no such"]}, {"memory": 5}):
        with pytest.raises(InputError):
            correlate(m, **options)
    with pytest.raises(InputError, match="several documents"):
        correlate(m.take_docs([0]))
    assert set(ALL_FILTERS) == {"few", "everywhere", "similar", "spans", "length", "usual", "third"}
    assert sd.correlate is correlate
