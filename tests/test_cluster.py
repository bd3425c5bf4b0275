"""`cluster` as a whole: what was planted is found, and nothing where nothing was."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module

import numpy as np
import polars as pl
import pytest
from planted import noise, planted
from sklearn.base import clone
from sklearn.metrics import adjusted_rand_score

import saelens_data as sd
from saelens_data.cluster.estimator import ConceptClusterer
from saelens_data.cluster.plot import points
from saelens_data.cluster.run import find_axis
from saelens_data.cluster.saved import read_clusters
from saelens_data.errors import InputError


@pytest.fixture(scope="module")
def m():
    return planted(0)


@pytest.fixture(scope="module")
def found(m):
    return sd.cluster(m, k=4, truth="truth", leakage="noise")


def labels(result):
    return result.assignments["cluster"].fill_null(-1).to_numpy()


def test_planted_groups_are_found(m, found):
    assert found.quality["truth"].accuracy > 0.97
    assert adjusted_rand_score(m.docs["truth"], labels(found)) == pytest.approx(found.quality["truth"].ari)
    assert found.quality["stability"] > 0.9
    assert abs(found.quality["leakage"].gain) < 0.2


def test_each_cluster_is_named_by_concepts_of_its_group(m, found):
    for cluster in range(4):
        group = m.docs["truth"].filter(found.assignments["cluster"] == cluster).mode()[0]
        own = range(12 * int(group[-1]), 12 * int(group[-1]) + 12)
        listed = found.concepts.filter((pl.col("cluster") == cluster) & pl.col("apart"))["latent"].to_list()
        assert len(listed) >= 8
        assert set(listed) <= set(own)
    assert len(set(found.names)) == 4


def test_the_frame_adds_up(m, found):
    assert found.frame["size"].to_list() == sorted(found.frame["size"], reverse=True)
    assert found.frame["size"].sum() == m.n_docs - found.unassigned
    assert found.frame["share"].sum() == pytest.approx(1)
    counts = found.assignments["cluster"].drop_nulls().value_counts().sort("cluster")["count"]
    assert counts.to_list() == found.frame["size"].to_list()
    for row in found.frame.iter_rows(named=True):
        own = found.assignments.filter(pl.col("cluster") == row["cluster"])
        assert row["membership"] == pytest.approx(own["membership"].mean(), rel=1e-5)
        assert row["central"] in own["doc_id"].to_list()


def test_densities_of_listed_concepts_are_shares_of_documents(m, found):
    row = found.concepts.row(0, named=True)
    inside = labels(found) == row["cluster"]
    active = m.X[:, [row["latent"]]].toarray()[:, 0] > 0
    assert row["here"] == pytest.approx(active[inside].mean())
    assert row["there"] == pytest.approx(active[~inside].mean())
    assert row["ci_low"] < row["difference"] < row["ci_high"]


def test_the_order_of_documents_changes_nothing(m, found):
    order = np.random.default_rng(5).permutation(m.n_docs)
    turned = sd.cluster(m.take_docs(order), k=4)
    assert adjusted_rand_score(labels(found)[order], labels(turned)) > 0.97
    assert turned.frame["size"].to_list() == pytest.approx(found.frame["size"].to_list(), abs=3)


def test_the_same_command_gives_the_same_bytes(m, found, tmp_path):
    again = sd.cluster(m, k=4, truth="truth", leakage="noise")
    assert again.to_bytes(".json") == found.to_bytes(".json")
    one, other = (r.save_clusters(tmp_path / name) for r, name in ((found, "a.safetensors"), (again, "b.safetensors")))
    assert one.read_bytes() == other.read_bytes()


def test_documents_without_a_chosen_concept_stay_unassigned(m):
    empty = m.filter_concepts(pl.col("latent") < 6)
    alone = int((np.diff(empty.X.indptr) == 0).sum())
    assert alone > 20
    result = sd.cluster(empty, k=2)
    assert result.unassigned == alone
    assert (labels(result)[np.diff(empty.X.indptr) == 0] == -1).all()
    assert result.assignments.filter(pl.col("cluster").is_null())["membership"].to_list() == [0.0] * alone
    assert any(note.startswith(f"Unassigned: {alone} documents") for note in result.notes)
    assert find_axis(m).n == m.n_concepts


def test_fewer_clusters_than_were_asked_for_are_counted(m):
    equal = replace(m.filter_concepts(pl.col("latent") < 2), evidence=None)
    X = equal.X.copy()
    X.data[:] = 1
    result = sd.cluster(replace(equal, X=X), k=5, pooling="max")
    kinds = len(np.unique(X.toarray()[np.diff(X.indptr) > 0], axis=0))
    assert result.k == kinds < 5
    assert f"5 clusters were asked for, and there are {result.k}: the documents do not differ enough." in result.notes


def test_documents_that_failed_are_left_out_and_counted(m):
    failed = replace(m, docs=m.docs.with_columns(error=pl.when(pl.int_range(pl.len()) < 3).then(pl.lit("odd"))))
    result = sd.cluster(failed, k=4)
    assert result.assignments.height == m.n_docs - 3
    assert "Left out: 3 documents that could not be encoded." in result.notes


@pytest.mark.parametrize("method", ["spectral", "hdbscan"])
def test_other_methods_find_what_was_planted(m, method):
    result = sd.cluster(m, k=None if method == "hdbscan" else 4, method=method, truth="truth")
    assert result.k == 4
    assert result.quality["truth"].accuracy > 0.9
    assert result.parameters["method"] == method


@pytest.mark.parametrize("k", [3, 5])
def test_auto_finds_the_number_that_was_planted(k):
    result = sd.cluster(planted(k, k=k, n=30 * k), k="auto", truth="truth")
    assert result.k == k
    assert result.quality["truth"].accuracy > 0.95
    assert result.curve["k"].to_list()[:3] == [2, 3, 4]
    assert f"{k} clusters were chosen of 2 to" in result.quality_in_words()[0]


@pytest.mark.parametrize("seed", range(2))
def test_auto_says_that_noise_has_no_clusters(seed):
    with pytest.raises(InputError, match="do not separate the documents"):
        sd.cluster(noise(seed, n=90), k="auto")


def test_a_number_that_was_asked_for_is_doubted_in_noise(found):
    doubted = sd.cluster(noise(1, n=90), k=3)
    assert doubted.notes[0].startswith("Doubtful: 3 clusters made of two halves of the documents agree hardly better")
    assert not any(note.startswith("Doubtful") for note in found.notes)
    assert found.quality["halves"]["stability"] > found.quality["halves"]["null"] + 0.3


def test_in_noise_no_concept_sets_a_cluster_apart():
    """Clusters of noise differ in what made them; tested on clusters made without it, nothing is left."""
    results = [sd.cluster(noise(seed), k=3) for seed in range(4)]
    assert sum(int(r.concepts["apart"].any()) for r in results) <= 1
    # By the intervals, which are descriptive, the same concepts seem to differ:
    assert all((r.concepts["ci_low"] > 0).sum() >= 10 for r in results)


def test_the_tree_cuts_into_any_number(m, found):
    assert found.tree.k == 4
    coarse = found.cut(2)
    assert coarse["cluster"].n_unique() == 2
    pairs = pl.DataFrame({"fine": found.assignments["cluster"], "coarse": coarse["cluster"]}).unique()
    assert pairs.height == 4
    assert found.cut(4)["cluster"].to_list() == found.assignments["cluster"].to_list()
    with pytest.raises(ValueError, match="cannot be cut into 5"):
        found.cut(5)


def test_examples_are_of_their_cluster_with_the_words_that_count(m, found):
    of = dict(found.assignments.select("doc_id", "cluster").iter_rows())
    for row in found.examples.iter_rows(named=True):
        assert of[row["doc_id"]] == row["cluster"] != row["next"]
        assert row["evidence"] == "first secon third"[row["start"] : row["end"]]
        own = found.concepts.filter(pl.col("cluster") == row["cluster"])["latent"].to_list()
        assert row["latent"] in own
    membership = found.examples.group_by("kind").agg(pl.col("membership").mean())
    assert dict(membership.iter_rows())["central"] > dict(membership.iter_rows())["border"]


@pytest.mark.parametrize("how", ["result", "file"])
def test_assign_reproduces_the_clusters(m, found, tmp_path, how):
    kept = found if how == "result" else found.save_clusters(tmp_path / "clusters.safetensors")
    result = sd.assign(kept, m)
    assert result.frame["cluster"].to_list() == found.assignments["cluster"].to_list()
    np.testing.assert_allclose(result.frame["membership"], found.assignments["membership"], atol=1e-5)
    assert not result.frame["beyond"].any()
    assert result.frame["name"].to_list() == [found.names[c] for c in result.frame["cluster"]]


def test_new_documents_come_to_their_group(m, found):
    """The second half of one set by the clusters of its first."""
    whole = planted(0, n=480)
    first = sd.cluster(whole.take_docs(np.arange(240)), k=4)
    result = sd.assign(first, whole.take_docs(np.arange(240, 480)))
    assert adjusted_rand_score(whole.docs["truth"][240:], result.frame["cluster"]) > 0.9


def test_new_documents_without_a_chosen_concept_stay_unassigned(m):
    few = sd.cluster(m.filter_concepts(pl.col("latent") < 6), k=2)
    result = sd.assign(few, m)
    silent = ~(m.X[:, :6].toarray() > 0).any(axis=1)
    assert result.frame["cluster"].is_null().to_numpy().tolist() == silent.tolist()
    assert result.notes[0].startswith(f"Unassigned: {silent.sum()} documents")
    assert result.frame["name"].null_count() == silent.sum()


def test_assign_refuses_another_encoder(m, found):
    other = replace(m, source=replace(m.source, sae_sha256="cc"))
    with pytest.raises(InputError, match="encoded differently"):
        sd.assign(found, other)


def test_assign_refuses_a_matrix_without_the_concepts(m, found):
    with pytest.raises(InputError, match=r"73 of the 78 concepts .* are not in this matrix"):
        sd.assign(found, m.filter_concepts(pl.col("latent") < 5))


def test_files_that_hold_no_clusters_are_refused(m, found, tmp_path):
    from safetensors.numpy import save_file

    text, other = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    text.write_text("no tensors")
    save_file({"x": np.zeros(3)}, other)
    for path in (text, other, tmp_path / "missing.safetensors"):
        with pytest.raises(InputError, match="holds no clusters"):
            read_clusters(path)
    with pytest.raises(InputError, match=r"must end in \.safetensors"):
        found.save_clusters(tmp_path / "clusters.pkl")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "how many clusters"),
        ({"k": 1}, "1 cluster asked for: give 2 or more"),
        ({"k": 500}, "only 240 documents can be grouped"),
        ({"k": "many"}, "give a number, or 'auto'"),
        ({"k": 3, "method": "kmean"}, "no method 'kmean'; did you mean 'kmeans'"),
        ({"k": 3, "method": "hdbscan"}, "finds the number of clusters itself"),
        ({"method": "hdbscan", "least": 999}, "give 2 to 240"),
        ({"k": 3, "least": 9}, "goes with hdbscan"),
        ({"k": 3, "truth": "trouth"}, "no column 'trouth' to compare with; did you mean 'truth'"),
    ],
)
def test_what_cannot_be_done_is_refused(m, options, message):
    with pytest.raises(InputError, match=message):
        sd.cluster(m, **options)


def test_too_large_a_spectral_clustering_is_refused_with_its_memory(m, monkeypatch):
    monkeypatch.setattr(import_module("saelens_data.cluster.methods"), "MOST_BYTES", 8 * 100 * 100)
    with pytest.raises(InputError, match=r"all pairs of 240 documents, which takes 0.0 GB; it is made for at most 100"):
        sd.cluster(m, k=3, method="spectral")


def test_the_estimator_is_one_of_scikit_learn(m, found):
    model = clone(ConceptClusterer(k=3).set_params(k=4))
    assert model.get_params()["k"] == 4
    assert model.fit_predict(m).tolist() == labels(found).tolist()
    assert model.predict(m).tolist() == model.labels_.tolist()
    assert model.cluster_centers_.shape == (4, 8)
    assert sd.ConceptClusterer is ConceptClusterer


def test_the_map_has_a_point_for_each_document(m, found):
    frame = points(found, "truth")
    assert frame["doc_id"].to_list() == m.docs["doc_id"].to_list()
    assert frame["colour"].to_list() == m.docs["truth"].to_list()
    np.testing.assert_allclose(frame["x"], found.coordinates.P[:, 0])
    assert set(points(found)["colour"]) == set(found.names)
    with pytest.raises(InputError, match="no column 'truht' to colour by"):
        points(found, "truht")


def test_words_of_the_result(found):
    assert "240 documents in 4 clusters by 78 concepts (kmeans)" in found.summary()
    said = " ".join(found.quality_in_words())
    assert "Agreement with 'truth' (4 values): accuracy" in said
    assert "Leakage of 'noise'" in said
    assert "<table>" in found._repr_html_()
