"""The index of embeddings against brute force."""

from __future__ import annotations

import importlib.util
import shutil
from dataclasses import replace

import numpy as np
import pytest
from synthetic import random_matrix, write

from saelens_data.errors import InputError, MissingExtraError
from saelens_data.retrieve import dense_index, ranking
from saelens_data.retrieve.dense_index import DenseIndex
from saelens_data.retrieve.ranking import DenseArm, Ranker
from saelens_data.store import open_store

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
    (tmp_path / "other.index").write_bytes(b"no index")
    with pytest.raises(InputError, match="holds no index"):
        DenseIndex.load(tmp_path / "other.index")
    with pytest.raises(OSError, match="could not be written"):
        index.save(tmp_path / "nowhere" / "m.index")


def test_without_faiss_the_error_names_the_extra(vectors, monkeypatch):
    monkeypatch.setattr(dense_index, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"saelens_data\[faiss\]"):
        DenseIndex.build(vectors)


def test_two_packages_of_faiss_are_one_too_many(vectors, monkeypatch):
    monkeypatch.setattr(dense_index, "find_spec", lambda name: True)
    monkeypatch.setattr(dense_index, "_installed", {"faiss-cpu", "faiss-gpu-cu12"}.__contains__)
    with pytest.raises(InputError, match=r"^faiss-cpu and faiss-gpu-cu12 are both installed .*pip uninstall both"):
        DenseIndex.build(vectors)


@pytest.fixture(scope="module")
def whole(vectors, tmp_path_factory):
    """A store of the vectors."""
    path = tmp_path_factory.mktemp("dense") / "s.sae"
    m = random_matrix(0, 4000, 3)
    there = (m.docs["n_units"].to_numpy() > 0)[:, None]
    write(path, replace(m, vectors=(vectors * there).astype(np.float16)), 1000)
    return path


@pytest.fixture(scope="module")
def stored(whole):
    return open_store(whole).vectors


@pytest.fixture
def path(whole, tmp_path, monkeypatch):
    monkeypatch.setattr(ranking, "EXACT", 100)
    return shutil.copytree(whole, tmp_path / "s.sae")


def brute(vectors, query, n):
    return np.argsort(-(vectors.astype(np.float64) @ query), kind="stable")[:n]


@needs_faiss
def test_a_list_in_the_store_finds_what_brute_force_finds(path, stored, queries, monkeypatch):
    for again in (False, True):
        if again:
            monkeypatch.setattr(DenseIndex, "build", lambda *_, **__: pytest.fail("made again"))
        arm = DenseArm.of(open_store(path))
        for query in queries:
            assert set(arm.candidates(query, 25)) == set(brute(stored, query, 25))
            assert arm.candidates(query, 1) == brute(stored, query, 1)
    assert {file.name for file in (path / "derived" / "dense").iterdir()} == {"dense.faiss", "dense.json"}


@needs_faiss
def test_a_graph_in_the_store_finds_nineteen_of_twenty(path, stored, queries, monkeypatch):
    monkeypatch.setattr(dense_index, "LIST_UP_TO", 1000)
    for _ in range(2):
        arm = DenseArm.of(open_store(path))
        found = [len(np.intersect1d(arm.candidates(q, 10), brute(stored, q, 10))) for q in queries]
        assert np.mean(found) >= 0.95 * 10
    assert hasattr(arm._kept_index.index, "hnsw")


@needs_faiss
@pytest.mark.parametrize("list_up_to", [1000, 9999])
def test_a_damaged_or_outdated_index_is_made_again(path, stored, queries, monkeypatch, list_up_to):
    monkeypatch.setattr(dense_index, "LIST_UP_TO", list_up_to)
    file, expected = path / "derived" / "dense" / "dense.faiss", brute(stored, queries[0], 1)
    assert DenseArm.of(open_store(path)).candidates(queries[0], 1) == expected
    whole = file.read_bytes()
    middle = len(whole) // 2
    for damage in (b"", b"no index", whole[:middle], whole[:middle] + b"\xff" * 64 + whole[middle + 64 :]):
        file.unlink()  # it may be mapped
        file.write_bytes(damage)
        assert DenseArm.of(open_store(path)).candidates(queries[0], 1) == expected
        assert len(file.read_bytes()) == len(whole)
    monkeypatch.setattr(dense_index, "_key", lambda n: {"faiss": "another"})
    assert DenseArm.of(open_store(path)).candidates(queries[0], 1) == expected
    assert "another" in file.with_suffix(".json").read_text()


@pytest.mark.parametrize("why", ["no faiss", "few documents", "part of a store", "nothing can be written"])
def test_without_an_index_the_search_is_exact(path, stored, queries, monkeypatch, why):
    if why == "no faiss":
        monkeypatch.setattr(dense_index, "find_spec", lambda name: None)
    if why == "few documents":
        monkeypatch.setattr(ranking, "EXACT", 4000)
    if why == "nothing can be written":
        monkeypatch.setattr("saelens_data.store.kept.locked", _refuse)
    m = open_store(path)
    arm = DenseArm.of(m.filter_docs("true") if why == "part of a store" else m)
    assert set(arm.candidates(queries[0], 25)) == set(brute(stored, queries[0], 25))
    assert arm._kept_index is None
    assert not (path / "derived" / "dense").exists()


def _refuse(*_, **__):
    raise PermissionError("read-only")


@needs_faiss
def test_an_index_is_made_only_for_candidates(path, queries):
    arm = DenseArm.of(open_store(path))
    Ranker(np.ones(4000, bool), arm).rank(queries)
    assert not (path / "derived" / "dense").exists()
    Ranker(np.ones(4000, bool), arm).rank_one(queries[0])
    assert (path / "derived" / "dense").exists()
