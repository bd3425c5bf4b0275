"""diff: planted differences by value, pairs by value, what is left out, and that nothing is found where nothing is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from scipy.sparse import csr_array
from scipy.stats import binom, binomtest, false_discovery_control, fisher_exact, mannwhitneyu, wilcoxon
from statsmodels.stats.proportion import confint_proportions_2indep
from test_comparison import dense_scores, rank_p

from saelens_data import stats
from saelens_data.diff.adjust import bent_line
from saelens_data.diff.pairing import clusters
from saelens_data.diff.two import DiffResult, diff
from saelens_data.errors import InputError
from saelens_data.matrix import ConceptMatrix, Evidence, Source, Units

SOURCE = Source(encoder="tiny", reader="r", reader_sha256="0", sae="s", sae_sha256="1", hook="final")
COLUMNS = [
    *("rank", "latent", "label", "members", "density_a", "density_b", "difference", "ci_low", "ci_high"),
    *("auc", "auc_low", "auc_high", "delta", "p_presence", "p_rank", "p_strength", "p_value", "q_value", "n_a", "n_b"),
    *("any_a", "any_b", "favours", "finding", "n_pairs", "only_a", "only_b"),
    *("adjusted_difference", "adjusted_low", "adjusted_high", "explained_by", "undecided"),
    *("confirmed", "confirm_difference", "confirm_low", "confirm_high", "confirm_q"),
]
SAME = "A and B hold the very same documents: no difference is to be expected."


def matrix(values, name: str = "d", **columns) -> ConceptMatrix:
    """A matrix of activations [documents, latents]; of truth values, with activation 0.5 wherever they are true."""
    values = np.atleast_2d(np.asarray(values))
    n, d = values.shape
    X = csr_array((values * np.float32(0.5) if values.dtype == bool else values).astype(np.float32))
    docs = pl.DataFrame({"doc_id": pl.Series([f"{name}{i}" for i in range(n)], dtype=pl.String), **columns})
    concepts = pl.DataFrame({"latent": np.arange(d, dtype=np.int32), "label": [f"concept {i}" for i in range(d)]})
    return ConceptMatrix(X, docs, concepts, SOURCE)


def of_counts(counts: list[int], n: int, name: str) -> ConceptMatrix:
    """`n` documents; latent j is active in counts[j] of them, spread by a fixed shuffle."""
    rng = np.random.default_rng(len(name) + n)
    return matrix(np.stack([rng.permutation(n) < c for c in counts], axis=1), name)


def said(result: DiffResult) -> tuple[str, ...]:
    """The notes, but for what could have been found."""
    return tuple(note for note in result.notes if "80% power" not in note)


def line(result: DiffResult, latent: int) -> dict:
    return result.frame.row(by_predicate=pl.col("latent") == latent, named=True)


# --- independent sets


def test_a_planted_difference_is_found_by_value():
    counts_a, counts_b = [80, 30, 60, 5, 0, 200], [30, 28, 120, 4, 1, 160]
    sets = of_counts(counts_a, 200, "a"), of_counts(counts_b, 160, "bb")
    result = diff(*sets, names=("new", "old"))
    assert result.frame.columns == COLUMNS
    presence = [fisher_exact([[x, 200 - x], [y, 160 - y]])[1] for x, y in zip(counts_a, counts_b, strict=True)]
    by_rank = [rank_p(*(m.X.toarray()[:, j] for m in sets))[0] for j in range(6)]
    p = [min(1.0, 2 * min(pair)) for pair in zip(presence, by_rank, strict=True)]
    tested = [0, 1, 2, 3]  # 4 is too rare, 5 is active everywhere
    q = false_discovery_control([p[j] for j in tested])
    assert sorted(result.frame["latent"].to_list()) == tested
    assert (result.n_tested, result.n_untestable) == (4, 2)
    for j in tested:
        x, y = counts_a[j], counts_b[j]
        low, high = confint_proportions_2indep(x, 200, y, 160, method="newcomb", compare="diff")
        auc_low, auc_high = stats.strength.auc_interval(np.array([0.5]), np.array([x]), np.array([y]))
        assert {key: value for key, value in line(result, j).items() if value is not None} == {
            "rank": {2: 1, 0: 2, 3: 3, 1: 4}[j],
            "latent": j,
            "label": f"concept {j}",
            "members": [j],
            "density_a": x / 200,
            "density_b": y / 160,
            "difference": pytest.approx(x / 200 - y / 160),
            "ci_low": pytest.approx(low, abs=1e-12),
            "ci_high": pytest.approx(high, abs=1e-12),
            "auc": 0.5,
            "auc_low": pytest.approx(auc_low[0]),
            "auc_high": pytest.approx(auc_high[0]),
            "delta": pytest.approx(x / 200 - y / 160),
            "p_presence": pytest.approx(presence[j], rel=1e-10),
            "p_rank": pytest.approx(by_rank[j], rel=1e-5),
            "p_strength": 1.0,
            "p_value": pytest.approx(p[j], rel=1e-5),
            "q_value": pytest.approx(q[j], rel=1e-5),
            "n_a": x,
            "n_b": y,
            "any_a": x / 200,
            "any_b": y / 160,
            "finding": j in {0, 2},
            **({"favours": ["new", "old", "old"][j]} if j != 3 else {}),
            **({"undecided": False} if j in {0, 2} else {}),
        }
    assert result.findings["latent"].to_list() == [2, 0]
    assert result.summary() == (
        "new (200 documents) against old (160 documents): 4 of 6 concepts tested, in 4 groups. "
        "2 findings at q < 0.05: 1 more in new, 1 more in old."
    )


def test_order_is_findings_by_size_then_the_rest_by_p():
    counts_a = [100, 120, 60, 60, 52, 50, 50, 12]
    counts_b = [20, 20, 10, 10, 50, 50, 50, 4]
    frame = diff(of_counts(counts_a, 200, "a"), of_counts(counts_b, 200, "b")).frame
    assert frame["latent"].to_list() == [1, 0, 2, 3, 7, 4, 5, 6]
    assert frame["finding"].to_list() == [True] * 4 + [False] * 4
    assert frame["rank"].to_list() == list(range(1, 9))
    assert frame["favours"].to_list() == ["A"] * 6 + [None, None]


def test_least_size_ranks_findings_and_p_the_rest():
    # of 0 and 1 the larger difference has the larger p; 2 and 3 are no findings
    frame = diff(of_counts([180, 60, 150, 9], 300, "a"), of_counts([120, 12, 140, 2], 300, "b")).frame
    p = dict(zip(frame["latent"], frame["p_value"], strict=True))
    size = {row["latent"]: max(row["ci_low"], -row["ci_high"]) for row in frame.iter_rows(named=True)}
    assert (size[0] > size[1], p[0] > p[1]) == (True, True)
    assert p[2] > p[3]
    assert frame["latent"].to_list() == [0, 1, 3, 2]
    assert frame["finding"].to_list() == [True, True, False, False]


def test_latents_that_no_outcome_could_make_a_finding_are_not_counted():
    rng = np.random.default_rng(5)
    density = rng.uniform(0, 0.2, 120)
    a, b = (matrix(rng.random((n, 120)) < density) for n in (25, 18))
    result = diff(a, b)
    support = (a.X.toarray() > 0).sum(axis=0) + (b.X.toarray() > 0).sum(axis=0)
    reachable = []
    for j, k in enumerate(support):
        tables = range(max(0, k - 18), min(k, 25) + 1)
        by_presence = min(fisher_exact([[x, 25 - x], [k - x, 18 - k + x]])[1] for x in tables)
        by_rank = rank_p(a.X.toarray()[:, j], b.X.toarray()[:, j])[1]
        reachable.append(min(by_presence, by_rank) < 0.05)
    assert sorted(result.frame["latent"].to_list()) == np.flatnonzero(reachable).tolist()
    assert result.n_tested + result.n_untestable == 120
    assert result.parameters["tested"] == result.n_tested == sum(reachable)
    silent = int((support == 0).sum())
    rare = result.n_untestable - silent
    (note,) = said(result)
    assert note == (
        f"Not tested, and not counted among the tests: {silent} concepts active in no document and {rare} concepts "
        "active in too few documents, or in all alike, for any outcome to reach p < 0.05."
    )


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.booleans())
def test_the_order_of_documents_and_the_names_of_the_sets_do_not_matter(seed, paired):
    rng = np.random.default_rng(seed)
    density = rng.uniform(0, 1, 12)
    a, b = (matrix(rng.random((40, 12)) < density**power, prompt=range(40)) for power in (1, 3))
    on = "prompt" if paired else None
    first = diff(a, b, pair_on=on)
    shuffled = diff(a.take_docs(rng.permutation(40)), b.take_docs(rng.permutation(40)), pair_on=on)
    assert_frame_equal(shuffled.frame, first.frame, rel_tol=1e-5, abs_tol=1e-12)
    turned = diff(b, a, pair_on=on, names=("B", "A")).frame.sort("latent")
    back = first.frame.sort("latent")
    assert turned["n_a"].to_list() == back["n_b"].to_list()
    assert turned["favours"].to_list() == back["favours"].to_list()
    for one, other in (("difference", "difference"), ("ci_low", "ci_high"), ("delta", "delta")):
        np.testing.assert_allclose(turned[one], -back[other], rtol=1e-9, atol=1e-12)
    for name in ("p_presence", "p_rank", "p_strength", "p_value", "q_value"):
        np.testing.assert_allclose(turned[name], back[name], rtol=1e-5)
    np.testing.assert_allclose(turned["auc"], 1 - back["auc"], rtol=1e-9)


# --- pairs


def test_pairs_are_compared_by_value():
    rng = np.random.default_rng(11)
    n, d = 90, 25
    active_a, active_b = (rng.random((n, d)) < rng.uniform(0.1, 0.9, d) for _ in range(2))
    prompts = [f"prompt {i}" for i in range(n)]
    a = matrix(active_a, "a", prompt=prompts)
    shuffled = rng.permutation(n)
    b = matrix(active_b[shuffled], "b", prompt=[prompts[i] for i in shuffled])
    result = diff(a, b, pair_on="prompt")
    only_a, only_b = (active_a & ~active_b).sum(axis=0), (active_b & ~active_a).sum(axis=0)
    assert (result.n_tested, result.n_untestable, said(result)) == (d, 0, ())
    frame = result.frame.sort("latent")
    assert frame["only_a"].to_list() == only_a.tolist()
    assert frame["only_b"].to_list() == only_b.tolist()
    assert frame["n_pairs"].to_list() == [n] * d
    assert frame["n_a"].to_list() == active_a.sum(axis=0).tolist()
    p = [binomtest(x, x + y, 0.5).pvalue for x, y in zip(only_a, only_b, strict=True)]
    np.testing.assert_allclose(frame["p_presence"], p, rtol=1e-10)
    # where all are equally strong, the ranks say what presence says, but by the normal distribution
    total = (only_a - only_b) * (only_a + only_b + 1) / 2
    ties = (only_a + only_b) ** 3.0 - (only_a + only_b)
    by_rank = stats.signed_rank_p(total, only_a + only_b, ties)
    np.testing.assert_allclose(frame["p_rank"], by_rank, rtol=1e-10)
    one = np.minimum(2 * np.minimum(p, by_rank), 1)
    assert (only_a + only_b).min() > 8
    np.testing.assert_allclose(frame["p_value"], one, rtol=1e-10)
    np.testing.assert_allclose(frame["q_value"], false_discovery_control(one), rtol=1e-10)
    low, high = stats.newcombe_paired((active_a & active_b).sum(axis=0), only_a, only_b, n)
    np.testing.assert_array_equal(frame["ci_low"], low)
    np.testing.assert_array_equal(frame["ci_high"], high)
    assert result.a.docs["prompt"].equals(result.b.docs["prompt"])
    np.testing.assert_array_equal(result.b.X.toarray() > 0, active_b)
    assert result.summary().startswith("A (90 documents) against B (90 documents), paired on 'prompt': 25 of 25 ")


def test_what_has_no_partner_is_left_out_aloud():
    a = matrix(np.ones((5, 1)), "a", prompt=["p", "q", None, "only a", "r"])
    b = matrix(np.zeros((6, 1)), "b", prompt=["r", None, None, "only b", "p", "q"])
    result = diff(a, b, pair_on="prompt")
    assert result.a.docs["doc_id"].to_list() == ["a0", "a1", "a4"]
    assert result.b.docs["doc_id"].to_list() == ["b4", "b5", "b0"]
    assert said(result)[:2] == (
        "Left out of A when pairing on 'prompt': 1 document without a partner and 1 document with no value.",
        "Left out of B when pairing on 'prompt': 1 document without a partner and 2 documents with no value.",
    )
    assert result.parameters["documents"] == [3, 3]


def test_the_smallest_support_that_is_tested_in_pairs():
    active = np.zeros((20, 3), dtype=bool)
    active[:5, 0] = active[:6, 1] = True
    result = diff(matrix(active, prompt=range(20)), matrix(np.zeros((20, 3)), prompt=range(20)), pair_on="prompt")
    assert result.frame["latent"].to_list() == [1]
    assert line(result, 1)["p_presence"] == 2**-5
    (note,) = said(result)
    assert note == (
        "Not tested, and not counted among the tests: 1 concept active in no document and 1 concept differing in too few "
        "pairs for any outcome to reach p < 0.05."
    )


@pytest.mark.parametrize(
    ("of_a", "of_b"),
    [
        (pl.Series([1, 2, 3], dtype=pl.Int64), pl.Series([3, 2, 9], dtype=pl.Int16)),
        (pl.Series([1, 2, 3]), pl.Series([3.0, 2.0, 9.5])),
        (pl.Series([1, 2, 3]), pl.Series(["3", "2", "x"])),
        (pl.Series(["x", "y", "z"], dtype=pl.Categorical), pl.Series(["z", "y", "w"])),
    ],
)
def test_keys_of_different_types_still_meet(of_a, of_b):
    a, b = matrix(np.eye(3), "a", key=of_a), matrix(np.eye(3), "b", key=of_b)
    result = diff(a, b, pair_on="key")
    assert result.a.docs["doc_id"].to_list() == ["a1", "a2"]
    assert result.b.docs["doc_id"].to_list() == ["b1", "b0"]


def test_keys_that_cannot_pair_say_why():
    a = matrix(np.eye(4), "a", prompt=["p", "q", "q", "q"], other=["1", "2", "3", "4"], lists=[[1], [2], [3], [4]])
    b = matrix(np.eye(4), "b", prompt=["p", "q", "r", "s"], other=["5", "6", "7", "8"], lists=[[1], [2], [3], [4]])
    with pytest.raises(InputError, match="in A 'q' stands in 3 documents; pair on a column that is unique"):
        diff(a, b, pair_on="prompt")
    with pytest.raises(InputError, match="in B 'q' stands in 3 documents; pair on"):
        diff(b, a, pair_on="prompt")
    with pytest.raises(InputError, match=r"no value is in both A \(4 values\) and B \(4 values\)"):
        diff(a, b, pair_on="other")
    with pytest.raises(InputError, match="A has no such column; did you mean 'prompt'"):
        diff(a, b, pair_on="promt")
    with pytest.raises(InputError, match=r"it holds List\(Int64\) in A; give a column of plain"):
        diff(a, b, pair_on="lists")
    many = matrix(np.eye(6)[:, :4], "a", prompt=["y" * 99, "y" * 99, "x", "x", "w", "z"])
    with pytest.raises(InputError, match=r"'x' stands in 2 documents \(1 more such value\); pair on"):
        diff(many, b, pair_on="prompt")


# --- what is compared


def test_failed_documents_are_left_out_and_empty_ones_stay():
    active = np.zeros((10, 1), dtype=bool)
    active[:4] = True
    a = matrix(active, "a", error=["broken", *[None] * 8, "broken"])
    b = matrix(np.ones((6, 1)), "b", error=[None] * 6)
    result = diff(a, b, alpha=0.5)
    assert (result.a.n_docs, result.b.n_docs) == (8, 6)
    assert line(result, 0)["density_a"] == 3 / 8
    assert said(result) == ("Left out of A: 2 documents that could not be encoded.",)
    with pytest.raises(InputError, match="B has no documents to compare: all 2 could not be encoded"):
        diff(a, matrix(np.eye(2)[:, :1], error=["x", "y"]))


def test_an_empty_set_is_refused_and_one_document_is_not_enough():
    one = matrix([[True, False, True]], "a", prompt=["p"])
    with pytest.raises(InputError, match="A has no documents to compare: it is empty"):
        diff(one.take_docs([]), one)
    for on in (None, "prompt"):
        result = diff(one, matrix([[False, False, True]], "b", prompt=["p"]), pair_on=on)
        assert result.frame.height == 0
        assert (result.n_tested, result.n_untestable) == (0, 3)
        assert "0 of 3 concepts tested, in 0 groups. 0 findings" in result.summary()


def test_columns_and_their_types_are_the_same_in_every_result():
    many = matrix(np.random.default_rng(0).random((60, 4)) < 0.5, prompt=range(60))
    one = many.take_docs([0])
    schemas = [diff(m, m, pair_on=on).frame.schema for m in (many, one) for on in (None, "prompt")]
    assert all(schema == schemas[0] for schema in schemas)
    assert schemas[0]["latent"] == pl.Int32
    assert schemas[0]["n_a"] == schemas[0]["only_a"] == pl.Int64


def test_the_very_same_documents_are_said_to_be_so():
    m = matrix(np.random.default_rng(0).random((60, 4)) < 0.5, text=[f"text {i}" for i in range(60)])
    result = diff(m, m.take_docs(np.arange(60)[::-1]))
    assert said(result) == (SAME,)
    assert result.frame["difference"].to_list() == [0.0] * 4
    assert result.frame["p_value"].to_list() == pytest.approx([1.0] * 4)
    assert said(diff(m.take_docs(range(40)), m.take_docs(range(20, 60)))) == ()
    edited = m.with_docs(m.docs.with_columns(pl.col("text") + "!"))
    unknown = m.with_docs(m.docs.with_columns(text=pl.lit(None, pl.String)))
    assert said(diff(m, edited)) == said(diff(unknown, unknown)) == ()


def test_sets_and_options_that_do_not_fit():
    m = matrix(np.eye(3))
    other = replace(m, source=replace(SOURCE, sae="t"))
    with pytest.raises(InputError, match="sae: 's' and 't'"):
        diff(m, other)
    with pytest.raises(InputError, match="A has 3 concepts and B 2, and they are not the same"):
        diff(m, m.filter_concepts("latent > 0"))
    with pytest.raises(InputError, match="alpha is 5: give the share"):
        diff(m, m, alpha=5)
    with pytest.raises(InputError, match="both sets are called 'x'"):
        diff(m, m, names=("x", "x"))


def test_concepts_filtered_alike_keep_their_numbers():
    rng = np.random.default_rng(2)
    a, b = matrix(rng.random((80, 6)) < 0.7), matrix(rng.random((80, 6)) < 0.2)
    whole, part = diff(a, b), diff(*(m.filter_concepts("latent in (2, 5)") for m in (a, b)))
    assert part.n_tested == 2
    assert sorted(part.frame["latent"].to_list()) == [2, 5]
    assert line(part, 5)["n_a"] == line(whole, 5)["n_a"]
    assert line(part, 5)["label"] == "concept 5"


def test_a_matrix_without_labels_gives_null_labels():
    m = matrix(np.random.default_rng(0).random((60, 3)) < 0.5)
    bare = replace(m, concepts=m.concepts.select("latent"))
    assert diff(bare, bare).frame["label"].to_list() == [None] * 3


def test_the_result_is_saved_with_its_parameters(tmp_path):
    result = diff(of_counts([80, 30], 200, "a"), of_counts([30, 28], 160, "bb"))
    saved = [result.save(tmp_path / f"{name}.json").read_bytes() for name in ("one", "two")]
    assert saved[0] == saved[1]
    assert pl.read_csv(result.save(tmp_path / "r.csv")).columns == COLUMNS
    assert result.kind == "diff"
    assert result.parameters == {
        "encoder": "tiny",
        "names": ["A", "B"],
        "documents": [200, 160],
        "pair_on": None,
        "cluster_on": None,
        "alpha": 0.05,
        "test_of_presence": "Fisher exact, two-sided",
        "test_by_rank": "exchange of rank shares over all documents, two-sided",
        "interval": "Newcombe hybrid score (method 10), 95%",
        "joint_test": "Simes",
        "correction": "Benjamini-Hochberg",
        "adjusted_for": [],
        "concepts": 2,
        "tested": 2,
        "untestable": 0,
        "grouped": True,
        "groups": 2,
        "holdout": 0.0,
        "seed": 0,
    }
    assert "<table>" in result._repr_html_()


# --- strength


def strong(active: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Activations where `active`, of a strength that leans on the document."""
    by_document = rng.gamma(4, 0.25, (*active.shape[:-1], 1))
    return np.where(active, 0.01 + by_document * rng.gamma(3, 0.2, active.shape), 0).astype(np.float32)


@pytest.mark.parametrize("paired", [False, True])
def test_a_difference_in_strength_alone_is_found_by_value(paired):
    rng = np.random.default_rng(31)
    a, b = (strong(rng.random((90, 12)) < np.r_[1.0, 0.9, np.full(10, 0.5)], rng) for _ in range(2))
    a[:, 0] *= 2
    sets = [matrix(x, prompt=range(90)) for x in (a, b)]
    result = diff(*sets, pair_on="prompt" if paired else None)
    assert result.findings["latent"].to_list() == [0]
    row, x, y = line(result, 0), a[:, 0].astype(float), b[:, 0].astype(float)
    assert (row["difference"], row["p_presence"], row["favours"]) == (0, pytest.approx(1), "A")
    sign = np.sign(x - y) if paired else np.sign(x[:, None] - y)
    assert row["auc"] == pytest.approx((sign.mean() + 1) / 2)
    assert row["delta"] == pytest.approx(sign.mean())
    if paired:
        expected = wilcoxon(x, y, correction=True, method="asymptotic").pvalue
        assert row["p_rank"] == pytest.approx(expected, rel=1e-5)
    else:
        expected = mannwhitneyu(x, y, method="asymptotic").pvalue
        assert row["p_rank"] == pytest.approx(rank_p(x, y)[0], rel=1e-5)
    assert row["p_strength"] == pytest.approx(expected, rel=1e-5)
    assert row["p_value"] == pytest.approx(row["p_rank"], rel=1e-12)  # presence could not differ


# --- clusters


def test_documents_of_one_cluster_are_compared_by_value():
    rng = np.random.default_rng(12)
    prompt = rng.random((40, 1, 8)) < 0.4
    dense = [strong((rng.random((40, 3, 8)) < 0.3) | prompt, rng).reshape(120, 8) for _ in range(2)]
    dense[0][:, 2] += rng.random(120) < 0.3
    sets = [matrix(x, prompt=np.repeat(np.arange(40), 3)) for x in dense]
    result = diff(*sets, cluster_on="prompt", names=("new", "old"))
    both, in_a, cluster = (
        csr_array(np.concatenate(dense)),
        np.arange(240) < 120,
        np.tile(np.repeat(np.arange(40), 3), 2),
    )
    pattern = csr_array((np.ones(both.nnz), both.indices, both.indptr), shape=both.shape)
    test, frame = stats.cluster_test(pattern, in_a, cluster), result.frame.sort("latent")
    np.testing.assert_allclose(frame["p_presence"], test.p_value, rtol=1e-12)
    np.testing.assert_allclose(frame["difference"], test.difference, atol=1e-12)
    np.testing.assert_allclose(frame["ci_low"], np.maximum(test.low, -1), atol=1e-12)
    np.testing.assert_allclose(frame["ci_high"], np.minimum(test.high, 1), atol=1e-12)
    law = stats.permutation(dense_scores(both.toarray()), in_a, cluster)
    np.testing.assert_allclose(frame["p_rank"], law.p_value(0.0), rtol=1e-5)
    assert result.findings["latent"].to_list() == [2]
    assert result.parameters["interval"] == "cluster-robust (CR1), 95%"
    assert result.parameters["test_of_presence"] == "exchange of clusters, two-sided"
    assert ", clustered on 'prompt': 8 of 8 concepts tested" in result.summary()
    np.testing.assert_array_equal(result.cluster, cluster)


def test_clusters_of_one_are_as_good_as_none():
    rng = np.random.default_rng(13)
    a, b = (strong(rng.random((200, 15)) < rng.uniform(0.05, 0.9, 15), rng) for _ in range(2))
    one = diff(matrix(a, k=range(200)), matrix(b, k=range(200, 400)), cluster_on="k").frame.sort("latent")
    none = diff(matrix(a), matrix(b)).frame.sort("latent")
    np.testing.assert_allclose(one["p_rank"], none["p_rank"], rtol=1e-12)  # the very same test
    # presence by the binomial that matches the hypergeometric in range and variance, not by Fisher's sum over tables
    np.testing.assert_allclose(np.log10(one["p_presence"]), np.log10(none["p_presence"]), rtol=0.03)
    np.testing.assert_allclose(one["ci_low"], none["ci_low"], atol=0.01)
    blank = diff(matrix(a, k=[None] * 200), matrix(b, k=[None] * 200), cluster_on="k").frame.sort("latent")
    assert_frame_equal(blank, one)


def test_pairs_as_clusters_are_compared_as_pairs():
    rng = np.random.default_rng(14)
    active = rng.random((2, 90, 10)) < rng.uniform(0.2, 0.8, 10)
    sets = [matrix(x, prompt=range(90)) for x in active]
    pairs, clustered = (
        diff(*sets, **on).frame.sort("latent") for on in ({"pair_on": "prompt"}, {"cluster_on": "prompt"})
    )
    np.testing.assert_allclose(clustered["p_presence"], pairs["p_presence"], rtol=1e-9)


def test_columns_that_cannot_cluster_say_why():
    m = matrix(np.eye(4), prompt=range(4), lists=[[1]] * 4)
    with pytest.raises(InputError, match=r"both pairs \('prompt'\) and clusters \('prompt'\) asked for: give one"):
        diff(m, m, pair_on="prompt", cluster_on="prompt")
    with pytest.raises(InputError, match="cannot cluster on 'promt': A has no such column; did you mean 'prompt'"):
        diff(m, m, cluster_on="promt")
    with pytest.raises(InputError, match="cannot cluster on 'prompt': B has no such column"):
        diff(m, matrix(np.eye(4)), cluster_on="prompt")
    with pytest.raises(InputError, match=r"cannot cluster on 'lists': it holds List\(Int64\) in A; give a column of"):
        diff(m, m, cluster_on="lists")


def test_clusters_are_numbered_over_both_sets():
    a, b = matrix(np.eye(5), k=["x", "y", None, "x", None]), matrix(np.eye(5), k=["y", None, "z", "z", "x"])
    found = clusters(a, b, "k", ("A", "B"))
    key = ["x", "y", 2, "x", 4, "y", 6, "z", "z", "x"]
    assert sorted(set(found.tolist())) == list(range(6))
    np.testing.assert_array_equal(found[:, None] == found, [[one == other for other in key] for one in key])
    text = matrix(np.eye(5), k=["7", "8", "8", "9", None])
    numbers = matrix(np.eye(5), k=[8, 7, 1, None, None])
    assert clusters(text, numbers, "k", ("A", "B"))[:7].tolist() == [1, 2, 2, 3, 4, 2, 1]


# --- at equal length


def of_length(units: np.ndarray, seed: int, d: int = 60) -> np.ndarray:
    """Presence of latents in texts of as many units."""
    rate = np.exp(np.random.default_rng(99).uniform(np.log(0.01), np.log(0.2), d))
    return np.random.default_rng(seed).random((len(units), d)) < 1 - (1 - rate) ** units[:, None]


def test_doubled_texts_are_explained_by_length_and_what_was_planted_is_not():
    rng = np.random.default_rng(40)
    short, long = rng.poisson(rng.gamma(3, 4, 500)) + 1, rng.poisson(rng.gamma(3, 8, 500)) + 2
    a, b = of_length(short, 1), of_length(long, 2)
    a[:, 5] |= rng.random(500) < 0.4
    result = diff(matrix(a, n_units=short), matrix(b, n_units=long))
    found = result.findings
    assert found.height > 20
    assert line(result, 5)["explained_by"] is None
    assert not line(result, 5)["undecided"]
    others = found.filter(pl.col("latent") != 5)["explained_by"]
    assert set(others) <= {"length", None}
    assert (others == "length").sum() > 0.8 * len(others)
    explained = found["explained_by"].drop_nulls().len()
    assert any(f"Of {found.height} findings, {explained} are explained by length:" in note for note in result.notes)
    assert result.parameters["adjusted_for"] == ["length"]
    # by statsmodels: least squares on the set and a line that bends at the quartiles, HC3 errors
    length = np.log1p(np.concatenate([short, long]))
    design = np.column_stack([np.arange(1000) < 500, np.ones(1000), bent_line(length)]).astype(float)
    for row in found.iter_rows(named=True):
        y = np.concatenate([a, b])[:, row["latent"]].astype(float)
        fit = sm.OLS(y, design).fit(cov_type="HC3", use_t=True)
        left = row["adjusted_difference"], row["adjusted_low"], row["adjusted_high"]
        assert left == pytest.approx((fit.params[0], *fit.conf_int()[0]), abs=1e-9)
    rest = result.frame.filter(~pl.col("finding"))
    assert rest.select("adjusted_difference", "explained_by", "undecided").null_count().row(0) == (rest.height,) * 3


@pytest.mark.parametrize("how", ["pair_on", "cluster_on"])
def test_pairs_and_clusters_are_adjusted_by_value(how):
    rng = np.random.default_rng(42)
    short, long = rng.poisson(rng.gamma(3, 4, 240)) + 1, rng.poisson(rng.gamma(3, 6, 240)) + 1
    a, b = of_length(short, 1), of_length(long, 2)
    a[:, 5] |= rng.random(240) < 0.4
    prompt = np.arange(240) // (1 if how == "pair_on" else 3)
    sets = [matrix(x, n_units=n, prompt=prompt) for x, n in ((a, short), (b, long))]
    result = diff(*sets, **{how: "prompt"})
    line_of = bent_line(np.log1p(np.concatenate([short, long])))
    found = result.findings
    assert found.height >= 5
    for row in found.iter_rows(named=True):
        x, y = a[:, row["latent"]].astype(float), b[:, row["latent"]].astype(float)
        if how == "pair_on":
            design = np.column_stack([np.ones(240), line_of[:240] - line_of[240:]])
            fit = sm.OLS(x - y, design).fit(cov_type="HC3", use_t=True)
        else:
            design = np.column_stack([np.arange(480) < 240, np.ones(480), line_of]).astype(float)
            groups = np.tile(prompt, 2)
            fit = sm.OLS(np.concatenate([x, y]), design).fit(
                cov_type="cluster", cov_kwds={"groups": groups}, use_t=True
            )
        left = row["adjusted_difference"], row["adjusted_low"], row["adjusted_high"]
        assert left == pytest.approx((fit.params[0], *fit.conf_int()[0]), abs=1e-9)
        others = [value for value in (row["explained_by"], row["undecided"]) if value]
        assert others in ([], ["length"], ["length", True])
    assert line(result, 5)["explained_by"] is None


def test_a_difference_in_strength_is_explained_by_length_too():
    rng = np.random.default_rng(43)
    units = [np.round(rng.lognormal(mean, 0.6, 400)).astype(int) + 1 for mean in (2.0, 2.7)]
    # always active: the strongest of as many units as the document has; latent 1 is truly stronger in A
    sets = [
        matrix(np.column_stack([[rng.random(n).max() for n in length], rng.random(400) + shift]), n_units=length)
        for length, shift in zip(units, (0.4, 0.1), strict=True)
    ]
    result = diff(*sets)
    assert set(result.findings["latent"]) == {0, 1}
    assert (line(result, 0)["favours"], line(result, 1)["favours"]) == ("B", "A")
    assert (line(result, 0)["explained_by"], line(result, 1)["explained_by"]) == ("length", None)
    assert not line(result, 0)["undecided"]


def test_what_another_column_explains_is_said_on_request():
    rng = np.random.default_rng(41)
    topic = [np.where(rng.random(400) < share, "tea", "milk") for share in (0.8, 0.3)]
    dense = [rng.random((400, 5)) < np.where((t == "tea")[:, None], [0.7, 0.3, 0.3, 0.3, 0.3], 0.2) for t in topic]
    dense[0][:, 3] |= rng.random(400) < 0.4
    sets = [matrix(x, topic=t) for x, t in zip(dense, topic, strict=True)]
    plain, result = diff(*sets), diff(*sets, adjust=["topic"])
    assert set(plain.findings["latent"]) >= {0, 3}
    assert plain.findings["explained_by"].to_list() == [None] * plain.findings.height
    assert line(result, 0)["explained_by"] == "topic"
    assert line(result, 3)["explained_by"] is None
    assert result.parameters["adjusted_for"] == ["topic"]
    # two groups: the Mantel-Haenszel risk difference
    y = [x[:, 3] for x in dense]
    strata = [[x[t == group] for x, t in zip(y, topic, strict=True)] for group in ("tea", "milk")]
    weight = [len(x) * len(z) / (len(x) + len(z)) for x, z in strata]
    expected = np.average([x.mean() - z.mean() for x, z in strata], weights=weight)
    assert line(result, 3)["adjusted_difference"] == pytest.approx(expected, abs=1e-9)
    with pytest.raises(InputError, match="cannot adjust for 'topc': A has no such column; did you mean 'topic'"):
        diff(*sets, adjust=["topc"])


# --- nothing is found where nothing is

RUNS = 150
#: The largest share of runs with a finding that chance explains, all but once in a thousand times, where it is truly 5%.
ALLOWED = binom.ppf(0.999, RUNS, 0.05) / RUNS


def answers(n: int, d: int, rng: np.random.Generator) -> np.ndarray:
    """Two answers to each of n prompts, [2, n, d] truth values: densities 0.002 to 0.7, half decided by the prompt."""
    density = np.exp(rng.uniform(np.log(0.002), np.log(0.7), d))
    prompt = rng.random((n, d)) < density
    own = rng.random((2, n, d)) < density
    return np.where(rng.random((2, n, d)) < 0.5, prompt, own)


def corpus(n: int, d: int, rng: np.random.Generator) -> np.ndarray:
    """The same as activations, [2 n, d], with strengths; every fifth latent is a near-duplicate of the one before."""
    values = strong(answers(n, d, rng), rng).reshape(2 * n, d)
    copies = np.arange(4, d, 5)
    noise = rng.lognormal(0, 0.1, (2 * n, len(copies))) * (rng.random((2 * n, len(copies))) < 0.95)
    values[:, copies] = values[:, copies - 1] * noise
    return values


def grouped(values: np.ndarray, **columns) -> ConceptMatrix:
    """With evidence: every document has 3 units, near-duplicates have their maxima in the same one."""
    m = matrix(values, **columns)
    row, latent = np.repeat(np.arange(m.n_docs), np.diff(m.X.indptr)), m.X.indices
    owner = np.where(latent % 5 == 4, latent - 1, latent)
    start = np.arange(3 * m.n_docs, dtype=np.int32)
    units = Units(np.arange(m.n_docs + 1) * 3, start, start + 1)
    return replace(m, evidence=Evidence(m.X.data, ((row * 7 + owner * 13) % 11 % 3).astype(np.int32), units))


def share_with_findings(splits) -> float:
    return sum(diff(a, b, **options).findings.height > 0 for a, b, options in splits) / RUNS


@pytest.mark.parametrize("part", [0.5, 0.15])
def test_random_parts_of_one_set_do_not_differ(part):
    rng = np.random.default_rng(2024)
    whole = grouped(corpus(120, 250, rng))
    assert diff(whole, whole).groups.n_several >= 30
    cut = int(part * whole.n_docs)
    orders = (rng.permutation(whole.n_docs) for _ in range(RUNS))
    splits = ((whole.take_docs(order[:cut]), whole.take_docs(order[cut:]), {}) for order in orders)
    assert share_with_findings(splits) <= ALLOWED


def test_pairs_turned_at_random_do_not_differ():
    rng, n = np.random.default_rng(2025), 120
    whole = grouped(corpus(n, 250, rng), prompt=[*range(n), *range(n)])
    sides = (rng.integers(0, 2, n) for _ in range(RUNS))
    splits = (
        (*(whole.take_docs(np.arange(n) + n * s) for s in (side, 1 - side)), {"pair_on": "prompt"}) for side in sides
    )
    assert share_with_findings(splits) <= ALLOWED


def test_clusters_split_at_random_do_not_differ():
    rng, n = np.random.default_rng(2026), 60
    values = np.repeat(corpus(n // 2, 250, rng), 3, axis=0)  # three chunks of each text, much alike
    values *= (rng.random(values.shape) < 0.8) * rng.lognormal(0, 0.2, values.shape)
    whole = grouped(values, text_id=np.repeat(np.arange(n), 3))
    splits = []
    for _ in range(RUNS):
        in_a = np.repeat(rng.permutation(n) < n // 2, 3)
        parts = [whole.take_docs(np.flatnonzero(rows)) for rows in (in_a, ~in_a)]
        splits.append((*parts, {"cluster_on": "text_id"}))
    assert share_with_findings(splits) <= ALLOWED
    naive = ((a, b, {}) for a, b, _ in splits)
    assert share_with_findings(naive) > 2 * ALLOWED


def test_a_real_difference_among_many_concepts_is_found():
    rng = np.random.default_rng(2026)
    a, b = answers(300, 800, rng)
    a[:, 5], b[:, 5] = np.arange(300) < 120, np.arange(300) < 60
    a[:, 9], b[:, 9] = np.arange(300) % 10 < 2, np.arange(300) % 10 < 5
    for on in (None, "prompt"):
        result = diff(matrix(a, prompt=range(300)), matrix(b, prompt=range(300)), pair_on=on)
        assert result.findings["latent"].to_list() == [9, 5]
        assert result.findings["favours"].to_list() == ["B", "A"]
        assert line(result, 9)["difference"] == pytest.approx(-0.3)
        assert line(result, 5)["difference"] == pytest.approx(0.2)
