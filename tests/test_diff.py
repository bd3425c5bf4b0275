"""diff: planted differences by value, pairs by value, what is left out, and that nothing is found where nothing is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from scipy.stats import binomtest, false_discovery_control, fisher_exact
from statsmodels.stats.proportion import confint_proportions_2indep

from saelens_data import stats
from saelens_data.diff import DiffResult, diff
from saelens_data.errors import InputError
from saelens_data.matrix import ConceptMatrix, Source

SOURCE = Source(encoder="tiny", reader="r", reader_sha256="0", sae="s", sae_sha256="1", hook="final")
COLUMNS = [
    *("rank", "latent", "label", "density_a", "density_b", "difference", "ci_low", "ci_high"),
    *("p_value", "q_value", "n_a", "n_b", "favours", "finding", "n_pairs", "only_a", "only_b"),
]


def matrix(active, name: str = "d", **columns) -> ConceptMatrix:
    """A matrix with activation 0.5 wherever `active` [documents, latents] is true."""
    active = np.atleast_2d(np.asarray(active, dtype=bool))
    n, d = active.shape
    docs = pl.DataFrame({"doc_id": pl.Series([f"{name}{i}" for i in range(n)], dtype=pl.String), **columns})
    concepts = pl.DataFrame({"latent": np.arange(d, dtype=np.int32), "label": [f"concept {i}" for i in range(d)]})
    return ConceptMatrix(csr_array(active * np.float32(0.5)), docs, concepts, SOURCE)


def of_counts(counts: list[int], n: int, name: str) -> ConceptMatrix:
    """`n` documents; latent j is active in counts[j] of them, spread by a fixed shuffle."""
    rng = np.random.default_rng(len(name) + n)
    return matrix(np.stack([rng.permutation(n) < c for c in counts], axis=1), name)


def line(result: DiffResult, latent: int) -> dict:
    return result.frame.row(by_predicate=pl.col("latent") == latent, named=True)


# --- independent sets


def test_a_planted_difference_is_found_by_value():
    counts_a, counts_b = [80, 30, 60, 5, 0, 200], [30, 28, 120, 4, 1, 160]
    result = diff(of_counts(counts_a, 200, "a"), of_counts(counts_b, 160, "bb"), names=("new", "old"))
    assert result.frame.columns == COLUMNS
    p = [fisher_exact([[x, 200 - x], [y, 160 - y]])[1] for x, y in zip(counts_a, counts_b, strict=True)]
    tested = [0, 1, 2, 3]  # 4 is too rare, 5 is active everywhere
    q = false_discovery_control([p[j] for j in tested])
    assert sorted(result.frame["latent"].to_list()) == tested
    assert (result.n_tested, result.n_untestable) == (4, 2)
    for j in tested:
        x, y = counts_a[j], counts_b[j]
        low, high = confint_proportions_2indep(x, 200, y, 160, method="newcomb", compare="diff")
        assert line(result, j) == {
            "rank": {2: 1, 0: 2, 1: 3, 3: 4}[j],
            "latent": j,
            "label": f"concept {j}",
            "density_a": x / 200,
            "density_b": y / 160,
            "difference": pytest.approx(x / 200 - y / 160),
            "ci_low": pytest.approx(low, abs=1e-12),
            "ci_high": pytest.approx(high, abs=1e-12),
            "p_value": pytest.approx(p[j], rel=1e-10),
            "q_value": pytest.approx(q[j], rel=1e-10),
            "n_a": x,
            "n_b": y,
            "favours": ["new", "old", "old", None][j],
            "finding": j in {0, 2},
            "n_pairs": None,
            "only_a": None,
            "only_b": None,
        }
    assert result.findings["latent"].to_list() == [2, 0]
    assert result.summary() == (
        "new (200 documents) against old (160 documents): 4 of 6 concepts tested. "
        "2 findings at q < 0.05: 1 more frequent in new, 1 in old."
    )


def test_order_is_findings_by_size_then_the_rest_by_p():
    counts_a = [100, 120, 60, 60, 52, 50, 50, 12]
    counts_b = [20, 20, 10, 10, 50, 50, 50, 4]
    frame = diff(of_counts(counts_a, 200, "a"), of_counts(counts_b, 200, "b")).frame
    assert frame["latent"].to_list() == [1, 0, 2, 3, 7, 4, 5, 6]
    assert frame["finding"].to_list() == [True] * 4 + [False] * 4
    assert frame["rank"].to_list() == list(range(1, 9))
    assert frame["favours"].to_list() == ["A"] * 6 + [None, None]


def test_latents_that_no_outcome_could_make_a_finding_are_not_counted():
    rng = np.random.default_rng(5)
    density = rng.uniform(0, 0.2, 120)
    a, b = (matrix(rng.random((n, 120)) < density) for n in (25, 18))
    result = diff(a, b)
    support = (a.X.toarray() > 0).sum(axis=0) + (b.X.toarray() > 0).sum(axis=0)
    reachable = []
    for k in support:
        tables = range(max(0, k - 18), min(k, 25) + 1)
        reachable.append(min(fisher_exact([[x, 25 - x], [k - x, 18 - k + x]])[1] for x in tables) < 0.05)
    assert sorted(result.frame["latent"].to_list()) == np.flatnonzero(reachable).tolist()
    assert result.n_tested + result.n_untestable == 120
    assert result.parameters["tested"] == result.n_tested == sum(reachable)
    silent = int((support == 0).sum())
    rare = result.n_untestable - silent
    (note,) = result.notes
    assert note == (
        f"Not tested, and not counted among the tests: {silent} concepts active in no document and {rare} concepts "
        "active in too few documents or all but too few for any outcome to reach p < 0.05."
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
    assert shuffled.frame.equals(first.frame)
    turned = diff(b, a, pair_on=on, names=("B", "A")).frame.sort("latent")
    back = first.frame.sort("latent")
    assert turned["n_a"].to_list() == back["n_b"].to_list()
    assert turned["favours"].to_list() == back["favours"].to_list()
    for one, other, sign in (("difference", "difference", -1), ("ci_low", "ci_high", -1), ("p_value", "p_value", 1)):
        np.testing.assert_allclose(turned[one], sign * back[other], rtol=1e-9, atol=1e-12)


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
    assert (result.n_tested, result.n_untestable, result.notes) == (d, 0, ())
    frame = result.frame.sort("latent")
    assert frame["only_a"].to_list() == only_a.tolist()
    assert frame["only_b"].to_list() == only_b.tolist()
    assert frame["n_pairs"].to_list() == [n] * d
    assert frame["n_a"].to_list() == active_a.sum(axis=0).tolist()
    p = [binomtest(x, x + y, 0.5).pvalue for x, y in zip(only_a, only_b, strict=True)]
    np.testing.assert_allclose(frame["p_value"], p, rtol=1e-10)
    np.testing.assert_allclose(frame["q_value"], false_discovery_control(p), rtol=1e-10)
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
    assert result.notes[:2] == (
        "Left out of A when pairing on 'prompt': 1 document without a partner and 1 document with no value.",
        "Left out of B when pairing on 'prompt': 1 document without a partner and 2 documents with no value.",
    )
    assert result.parameters["documents"] == [3, 3]


def test_the_smallest_support_that_is_tested_in_pairs():
    active = np.zeros((20, 3), dtype=bool)
    active[:5, 0] = active[:6, 1] = True
    result = diff(matrix(active, prompt=range(20)), matrix(np.zeros((20, 3)), prompt=range(20)), pair_on="prompt")
    assert result.frame["latent"].to_list() == [1]
    assert line(result, 1)["p_value"] == 2**-5
    (note,) = result.notes
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
    with pytest.raises(InputError, match=r"it holds List\(Int64\) in A; pair on a column of plain"):
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
    assert result.notes == ("Left out of A: 2 documents that could not be encoded.",)
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
        assert "0 of 3 concepts tested. 0 findings" in result.summary()


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
    assert result.notes == ("A and B hold the very same documents: no difference is to be expected.",)
    assert result.frame["difference"].to_list() == [0.0] * 4
    assert result.frame["p_value"].to_list() == pytest.approx([1.0] * 4)
    assert diff(m.take_docs(range(40)), m.take_docs(range(20, 60))).notes == ()
    edited = m.with_docs(m.docs.with_columns(pl.col("text") + "!"))
    unknown = m.with_docs(m.docs.with_columns(text=pl.lit(None, pl.String)))
    assert diff(m, edited).notes == diff(unknown, unknown).notes == ()


def test_longer_documents_are_pointed_out():
    active = np.random.default_rng(0).random((60, 4)) < 0.5
    short, long = matrix(active, "a", n_units=[4, 6] * 30), matrix(active, "b", n_units=[8] * 60)
    (note,) = diff(short, long).notes
    assert note == (
        "Documents of B are longer: 8.0 units on average against 5.0. A longer document activates more concepts, and "
        "nothing here is adjusted for length."
    )
    assert diff(long, short).notes[0].startswith("Documents of A are longer: 8.0 units")
    assert diff(short, matrix(active, "c", n_units=[5, 5, 6] * 20)).notes == ()


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
        "alpha": 0.05,
        "test": "Fisher exact, two-sided",
        "interval": "Newcombe hybrid score (method 10), 95%",
        "correction": "Benjamini-Hochberg",
        "concepts": 2,
        "tested": 2,
        "untestable": 0,
    }
    assert "<table>" in result._repr_html_()


# --- nothing is found where nothing is

RUNS = 200
#: The largest share of runs with a finding that chance explains when the true share is 5%.
ALLOWED = 0.05 + 2 * np.sqrt(0.05 * 0.95 / RUNS)


def answers(n: int, d: int, rng: np.random.Generator) -> np.ndarray:
    """Two answers to each of n prompts, [2, n, d]: densities 0.002 to 0.7, alike as far as the prompt decides."""
    density = np.exp(rng.uniform(np.log(0.002), np.log(0.7), d))
    prompt = rng.random((n, d)) < density
    own = rng.random((2, n, d)) < density
    return np.where(rng.random((2, n, d)) < 0.5, prompt, own)


@pytest.mark.parametrize("share", [0.5, 0.15])
def test_random_parts_of_one_set_do_not_differ(share):
    rng = np.random.default_rng(2024)
    whole = matrix(answers(400, 2500, rng)[0])
    cut = int(share * whole.n_docs)
    found = 0
    for _ in range(RUNS):
        order = rng.permutation(whole.n_docs)
        found += diff(whole.take_docs(order[:cut]), whole.take_docs(order[cut:])).findings.height > 0
    assert found / RUNS <= ALLOWED


def test_pairs_turned_at_random_do_not_differ():
    rng = np.random.default_rng(2025)
    n = 200
    both = answers(n, 2500, rng)
    whole = matrix(both.reshape(2 * n, -1), prompt=[*range(n), *range(n)])
    found = 0
    for _ in range(RUNS):
        side = rng.integers(0, 2, n)
        a, b = (whole.take_docs(np.arange(n) + n * s) for s in (side, 1 - side))
        found += diff(a, b, pair_on="prompt").findings.height > 0
    assert found / RUNS <= ALLOWED


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
