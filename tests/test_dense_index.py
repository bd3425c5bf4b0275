"""The index of embeddings against brute force."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from saelens_data import dense_index, ranking
from saelens_data.dense_index import DenseIndex
from saelens_data.errors import InputError, MissingExtraError
from saelens_data.ranking import DenseArm, Ranker

needs_faiss = pytest.mark.skipif(importlib.util.find_spec("faiss") is None, reason="an optional part")


@pytest.fixture(scope="module")
def vectors():
    """Around 40 middles, as texts are around topics."""
    rng = np.random.default_rng(0)
    found = rng.normal(size=(40, 32))[rng.integers(0, 40, 4000)] + 0.7 * rng.normal(size=(4000, 32))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float16)


@pytest.fixture(scope="module")
def queries(vectors):
    rng = np.random.default_rng(1)
    found = vectors[:20].astype(np.float32) + 0.1 * rng.normal(size=(20, 32)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


@needs_faiss
def test_a_list_finds_what_brute_force_finds(vectors, queries):
    index = DenseIndex.build(vectors)
    cosines = vectors.astype(np.float64) @ queries.T.astype(np.float64)
    for i, query in enumerate(queries):
        rows = index.nearest(query, 25)
        assert cosines[rows, i] == pytest.approx(np.sort(cosines[:, i])[::-1][:25], abs=1e-6)
    assert len(index.nearest(queries[0], 9999)) == len(index) == 4000


@needs_faiss
def test_a_graph_misses_few(vectors, queries):
    index = DenseIndex.build(vectors, list_up_to=0)
    exact = DenseIndex.build(vectors)
    found = [len(np.intersect1d(index.nearest(q, 50), exact.nearest(q, 50))) for q in queries]
    assert np.mean(found) > 0.98 * 50
    assert index.nearest(queries[0], 1) == exact.nearest(queries[0], 1)


@needs_faiss
def test_a_ranker_takes_candidates_from_it(vectors, queries, monkeypatch):
    monkeypatch.setattr(ranking, "EXACT", 100)
    monkeypatch.setattr(ranking, "CANDIDATES", 300)
    fit = np.ones(4000, bool)
    found = [Ranker(fit, DenseArm(vectors, index)).rank_one(queries[3]) for index in (None, DenseIndex.build(vectors))]
    assert np.array_equal(found[0].rows, found[1].rows)
    assert found[0].score == pytest.approx(found[1].score)


@needs_faiss
@pytest.mark.parametrize("list_up_to", [0, 9999])
def test_what_is_saved_is_read_again(vectors, queries, tmp_path, list_up_to):
    index = DenseIndex.build(vectors, list_up_to=list_up_to)
    index.save(tmp_path / "m.index")
    again = DenseIndex.load(tmp_path / "m.index")
    assert np.array_equal(again.nearest(queries[0], 40), index.nearest(queries[0], 40))
    (tmp_path / "m.index").write_bytes(b"no index")
    with pytest.raises(InputError, match="holds no index"):
        DenseIndex.load(tmp_path / "m.index")


def test_without_faiss_the_error_names_the_extra(vectors, monkeypatch):
    monkeypatch.setattr(dense_index, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"saelens_data\[faiss\]"):
        DenseIndex.build(vectors)
