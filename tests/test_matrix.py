"""ConceptMatrix against the same computation on dense NumPy arrays."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csc_array, csr_array
from synthetic import SOURCE, random_matrix

from saelens_data.errors import InputError
from saelens_data.matrix import ConceptMatrix, Evidence, canonical_csr

seeds = st.integers(0, 2**32 - 1)
heights = st.integers(0, 9)
widths = st.integers(0, 7)
quick = settings(max_examples=60, deadline=None)


def dense(m: ConceptMatrix) -> dict[str, np.ndarray]:
    """Maxima, means and unit numbers as dense arrays, -1 where there is no activation."""
    assert m.evidence is not None
    rows = np.repeat(np.arange(m.n_docs), np.diff(m.X.indptr))
    found = {}
    for name, values in (("max", m.X.data), ("mean", m.evidence.mean), ("unit", m.evidence.unit)):
        found[name] = np.full(m.X.shape, -1.0)
        found[name][rows, m.X.indices] = values
    return found


def spans(m: ConceptMatrix) -> list[list[tuple[int, int]]]:
    assert m.evidence is not None
    u = m.evidence.units
    return [
        list(zip(u.start[a:b].tolist(), u.end[a:b].tolist(), strict=True))
        for a, b in zip(u.ptr[:-1], u.ptr[1:], strict=True)
    ]


def assert_is(m: ConceptMatrix, arrays: dict[str, np.ndarray], units: list[list[tuple[int, int]]]) -> None:
    found = dense(m)
    for name, expected in arrays.items():
        np.testing.assert_array_equal(found[name], expected)
    assert spans(m) == units
    assert m.X.dtype == np.float32
    fresh = csr_array((m.X.data.copy(), m.X.indices.copy(), m.X.indptr.copy()), shape=m.X.shape)
    assert fresh.has_canonical_format
    assert not any(a.flags.writeable for a in (m.X.data, m.X.indices, m.X.indptr))


@quick
@given(seeds, heights, widths, st.data())
def test_take_docs(seed: int, n: int, d: int, data: st.DataObject) -> None:
    m = random_matrix(seed, n, d)
    rows = data.draw(st.lists(st.integers(0, n - 1), unique=True)) if n else []
    taken = m.take_docs(rows)
    assert_is(taken, {k: v[rows] for k, v in dense(m).items()}, [spans(m)[row] for row in rows])
    assert taken.docs["doc_id"].to_list() == [f"doc {row}" for row in rows]
    assert taken.concepts is m.concepts


@quick
@given(seeds, heights, widths)
def test_filter_docs(seed: int, n: int, d: int) -> None:
    m = random_matrix(seed, n, d)
    keep = [i for i in range(n) if i % 3 == 0]
    for where in ("model = 'A'", pl.col("model") == "A"):
        found = m.filter_docs(where)
        assert_is(found, {k: v[keep] for k, v in dense(m).items()}, [spans(m)[row] for row in keep])
        assert found.docs["doc_id"].to_list() == [f"doc {row}" for row in keep]


@quick
@given(seeds, heights, widths, st.data())
def test_filter_concepts(seed: int, n: int, d: int, data: st.DataObject) -> None:
    m = random_matrix(seed, n, d)
    keep = sorted(data.draw(st.sets(st.integers(0, d - 1)))) if d else []
    found = m.filter_concepts(pl.col("latent").is_in(keep))
    assert_is(found, {k: v[:, keep] for k, v in dense(m).items()}, spans(m))
    assert found.concepts["latent"].to_list() == keep


@quick
@given(seeds, heights, widths, st.lists(st.integers(0, 9), max_size=3))
def test_concat_is_the_inverse_of_a_cut(seed: int, n: int, d: int, cuts: list[int]) -> None:
    m = random_matrix(seed, n, d)
    bounds = sorted({0, n, *(min(cut, n) for cut in cuts)})
    parts = [m.take_docs(range(a, b)) for a, b in pairwise(bounds)] or [m]
    joined = ConceptMatrix.concat(parts)
    assert_is(joined, dense(m), spans(m))
    assert joined.docs.equals(m.docs)


@quick
@given(seeds, heights, widths)
def test_filters_commute(seed: int, n: int, d: int) -> None:
    m = random_matrix(seed, n, d)
    one = m.filter_docs("model = 'B'").filter_concepts("latent % 2 = 0")
    other = m.filter_concepts("latent % 2 = 0").filter_docs("model = 'B'")
    assert_is(one, dense(other), spans(other))


@quick
@given(seeds, heights, widths)
def test_density_and_means(seed: int, n: int, d: int) -> None:
    m = random_matrix(seed, n, d)
    active = dense(m)["max"] > 0
    np.testing.assert_allclose(m.density(), active.mean(axis=0) if n else np.zeros(d))
    mean = m.pooled("mean")
    np.testing.assert_array_equal(mean.X.toarray(), np.where(active, dense(m)["mean"], 0))
    assert mean.pooled("mean") is mean
    assert m.pooled("max") is m


@quick
@given(seeds, heights, widths, st.data())
def test_vectors_go_with_their_documents(seed: int, n: int, d: int, data: st.DataObject) -> None:
    m = random_matrix(seed, n, d)
    rows = data.draw(st.lists(st.integers(0, n - 1), unique=True)) if n else []
    np.testing.assert_array_equal(m.take_docs(rows).vectors, m.vectors[rows])
    keep = [i for i in range(n) if i % 3 == 0]
    np.testing.assert_array_equal(m.filter_docs("model = 'A'").vectors, m.vectors[keep])
    for same in (m.filter_concepts("latent > 1"), m.pooled("mean"), m.with_docs(m.docs[["doc_id"]])):
        assert np.shares_memory(same.vectors, m.vectors) or not n
        np.testing.assert_array_equal(same.vectors, m.vectors)
    parts = [m.take_docs(range(n // 2)), m.take_docs(range(n // 2, n))]
    np.testing.assert_array_equal(ConceptMatrix.concat(parts).vectors, m.vectors)
    assert ConceptMatrix.concat([parts[0], replace(parts[1], vectors=None)]).vectors is None
    assert replace(m, vectors=None).take_docs(rows).vectors is None


def test_means_and_maxima_do_not_mix() -> None:
    m = random_matrix(1, 6, 4)
    mean = m.take_docs([0, 1, 2]).pooled("mean")
    with pytest.raises(InputError, match="holds means"):
        mean.pooled("max")
    with pytest.raises(InputError, match="pooling: 'mean' and 'max'"):
        ConceptMatrix.concat([mean, m.take_docs([3, 4, 5])])
    with pytest.raises(InputError, match="holds no means"):
        replace(m, evidence=None).pooled("mean")


def test_concat_refuses_what_does_not_fit() -> None:
    m = random_matrix(1, 6, 4)
    a, b = m.take_docs([0, 1, 2]), m.take_docs([3, 4, 5])
    with pytest.raises(InputError, match="doc_id 'doc 0' is in more than one set"):
        ConceptMatrix.concat([a, a])
    with pytest.raises(InputError, match="different concepts"):
        ConceptMatrix.concat([a.filter_concepts("latent < 2"), b.filter_concepts("latent > 1")])
    with pytest.raises(InputError, match="encoded differently \\(hook: 'final' and 'other'\\)"):
        ConceptMatrix.concat([a, replace(b, source=replace(SOURCE, hook="other"))])
    with pytest.raises(InputError, match="do not combine"):
        ConceptMatrix.concat([a, b.with_docs(b.docs.select("doc_id", model=pl.concat_list("text")))])
    with pytest.raises(ValueError, match="nothing"):
        ConceptMatrix.concat([])


def test_concat_ignores_rounding_and_fills_columns() -> None:
    m = random_matrix(1, 4, 3)
    other = replace(m.take_docs([3]), source=replace(SOURCE, dtype="bfloat16", versions={}))
    other = other.with_docs(pl.DataFrame({"doc_id": ["doc 3"], "year": [1999]}))
    joined = ConceptMatrix.concat([m.take_docs([0, 1]), other])
    assert joined.docs["year"].to_list() == [None, None, 1999]
    assert joined.source.dtype == "float32"


@pytest.mark.parametrize(
    ("rows", "error"),
    [([6], IndexError), ([-1], IndexError), ([True, False], IndexError), ([0.5], IndexError), ([1, 1], ValueError)],
)
def test_take_docs_refuses(rows: list[int], error: type[Exception]) -> None:
    with pytest.raises(error):
        random_matrix(1, 6, 4).take_docs(rows)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("colour = 'red'", "colour.*available: doc_id, text, model"),
        ("model =", "cannot evaluate model ="),
        ("n_units", "gives Int32, not true or false"),
        (pl.col("error").drop_nulls() == "too odd", "cannot evaluate"),
        (pl.all() == "A", "cannot evaluate"),
        (7, "cannot evaluate 7"),
    ],
)
def test_filter_docs_refuses(where: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        random_matrix(1, 6, 4).filter_docs(where)


def test_filter_by_a_constant_and_by_nulls() -> None:
    m = random_matrix(1, 6, 4)
    assert m.filter_docs("true").n_docs == 6
    assert m.filter_docs(pl.lit(False)).n_docs == 0
    assert random_matrix(1, 0, 4).filter_docs("true").n_docs == 0
    assert m.filter_docs("model <> 'A'").docs["model"].to_list() == ["B", "B"]  # null is neither
    assert m.filter_docs(pl.col("n_units") >= pl.col("n_units").min()).n_docs == 6


def test_with_docs_keeps_the_order_and_fills_with_null() -> None:
    m = random_matrix(1, 4, 3)
    found = m.with_docs(pl.DataFrame({"doc_id": ["doc 2", "stranger", "doc 0"], "model": ["x", "y", "z"]}))
    assert found.docs["doc_id"].to_list() == m.docs["doc_id"].to_list()
    assert found.docs["model"].to_list() == ["z", None, "x", None]
    for table in (pl.DataFrame({"model": ["x"]}), pl.DataFrame({"doc_id": ["doc 1", "doc 1"], "y": [1, 2]})):
        with pytest.raises(InputError, match="each id once"):
            m.with_docs(table)


def test_with_labels_replaces_whole_rows() -> None:
    m = random_matrix(1, 4, 3)
    found = m.with_labels(pl.DataFrame({"latent": [2, 0], "label": ["two", None], "stray": [1, 2]})).concepts
    assert found.columns == ["latent", "label", "explanation", "score", "origin"]
    assert found["label"].to_list() == [None, "label 1", "two"]
    assert found["score"].to_list() == [None, 0.5, None]  # a score belongs to its label
    assert found["latent"].to_list() == [0, 1, 2]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"label": ["x"]}, "needs the columns"),
        ({"latent": ["one"], "label": ["x"]}, "cannot be read"),
        ({"latent": [1, 1], "label": ["x", "y"]}, "latent 1 more than once"),
    ],
)
def test_with_labels_refuses(table: dict[str, list[object]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        random_matrix(1, 4, 3).with_labels(pl.DataFrame(table))


def test_misaligned_parts_are_refused_with_both_numbers() -> None:
    m = random_matrix(1, 6, 4)
    assert m.evidence is not None
    short = Evidence(m.evidence.mean[1:], m.evidence.unit, m.evidence.units)
    cases = [
        ({"docs": m.docs[:5]}, "documents: X has 6, the docs table has 5"),
        ({"concepts": m.concepts[:3]}, "concepts: X has 4, the concepts table has 3"),
        ({"docs": m.docs.drop("doc_id")}, "'doc_id' is missing"),
        ({"evidence": short}, f"{m.X.nnz - 1} means"),
        ({"evidence": replace(m.evidence, units=m.evidence.units.take(np.arange(5)))}, "units of 5 documents"),
        ({"vectors": m.vectors[:5]}, r"vectors: \[6, dim\] float16 wanted, got \[5, 5\] float16"),
        ({"vectors": m.vectors[:, 0]}, r"got \[6\] float16"),
        ({"vectors": m.vectors.astype(np.float32)}, "got .* float32"),
        ({"X": m.X.astype(np.float64)}, "csr float64"),
        ({"X": csc_array(m.X)}, "csc float32"),
    ]
    for changes, message in cases:
        with pytest.raises(ValueError, match=message):
            replace(m, **changes)
    unsorted = csr_array((np.ones(2, np.float32), np.array([1, 0]), np.array([0, 2])), shape=(1, 2))
    with pytest.raises(ValueError, match="sorted"):
        ConceptMatrix(unsorted, m.docs[:1], m.concepts[:2], SOURCE)


def test_x_is_read_only_and_works_with_scipy() -> None:
    m = random_matrix(1, 6, 4)
    with pytest.raises(ValueError, match="read-only"):
        m.X.data[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        m.vectors[0] = 1
    full = m.X.toarray()
    np.testing.assert_allclose((m.X @ m.X.T).toarray(), full @ full.T, rtol=1e-6)
    np.testing.assert_array_equal(m.X[[2, 0]].toarray(), full[[2, 0]])
    np.testing.assert_array_equal(m.X[:, [3]].toarray(), full[:, [3]])
    np.testing.assert_array_equal(m.X.tocsc().toarray(), full)
    np.testing.assert_array_equal((m.X > 0.5).toarray(), full > 0.5)


def test_canonical_csr_copies_nothing() -> None:
    data, indices = np.ones(3, np.float32), np.array([0, 1, 0], np.int32)
    indptr = np.array([0, 2, 3], np.int32)
    X = canonical_csr(data, indices, indptr, (2, 2))
    assert all(np.shares_memory(a, b) for a, b in ((X.data, data), (X.indices, indices), (X.indptr, indptr)))
    assert data.flags.writeable
    wide = canonical_csr(data, indices.astype(np.int64), indptr, (2, 2))
    assert wide.indices.dtype == wide.indptr.dtype == np.int64
    np.testing.assert_array_equal(wide.toarray(), X.toarray())
