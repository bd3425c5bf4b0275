"""The parts of `cluster`, by value: coordinates, methods, merge tree, numbers of quality, leakage, names, k."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import polars as pl
import pytest
from planted import matrix_of, noise, planted
from scipy.cluster.hierarchy import linkage
from scipy.sparse import csr_array
from scipy.stats import f_oneway
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score, silhouette_score
from sklearn.utils.extmath import svd_flip

from saelens_data.cluster.auto import choose_k
from saelens_data.cluster.axis import Axis, all_concepts
from saelens_data.cluster.coordinates import BESIDE, chosen, coordinates, unit
from saelens_data.cluster.hierarchy import merge_tree
from saelens_data.cluster.leakage import left_out, unwanted_scores
from saelens_data.cluster.methods import by_size, jaccard, kmeans, membership
from saelens_data.cluster.naming import matched, one_against_rest, short_names
from saelens_data.cluster.quality import agreement, explained, silhouette, stability
from saelens_data.cluster.subtract import Unwanted
from saelens_data.diff.comparison import Sets, compare
from saelens_data.diff.grouping import alone
from saelens_data.errors import InputError

DIM = 20


@pytest.fixture(scope="module")
def m():
    return planted(1, n=120, k=3, own=8, others=10)


def axis_of(m, columns=None, weights=None, unwanted=()):
    columns = np.arange(m.n_concepts) if columns is None else np.asarray(columns)
    weights = np.ones(len(columns), np.float32) if weights is None else np.asarray(weights, np.float32)
    return Axis(columns, weights, pl.DataFrame(), unwanted)


@pytest.fixture
def decoder(m, monkeypatch):
    W = unit(np.random.default_rng(3).normal(size=(m.n_concepts, DIM)).astype(np.float32))
    monkeypatch.setattr(import_module("saelens_data.cluster.coordinates"), "decoder_directions", lambda source: W)
    return W


def halfway(P):
    """Components divided by the root of their standard deviation, as coordinates are."""
    return P / np.sqrt(P.std(axis=0))


def same_up_to_sign(one, other, atol=2e-4):
    signs = np.sign((one * other).sum(axis=0))
    np.testing.assert_allclose(one, other * signs, atol=atol * np.abs(other).max())


# --- coordinates


def test_svd_is_that_of_the_standardised_dense_matrix(m):
    weights = np.linspace(0.5, 2, m.n_concepts)
    placed = coordinates(m, axis_of(m, weights=weights), space="svd", dimensions=4)
    X = m.pooled("mean").X.toarray().astype(np.float64)[placed.rows]
    U, S, _ = np.linalg.svd((X - X.mean(axis=0)) / X.std(axis=0) * weights, full_matrices=False)
    same_up_to_sign(placed.P, halfway(U[:, :4] * S[:4]))
    np.testing.assert_allclose(np.linalg.norm(placed.Z, axis=1), 1, rtol=1e-5)


def test_reconstruction_is_the_principal_components_of_the_weighted_sum_of_directions(m, decoder):
    weights = np.linspace(0.5, 2, m.n_concepts)
    placed = coordinates(m, axis_of(m, weights=weights), dimensions=5)
    assert placed.space == "reconstruction"
    R = m.pooled("mean").X.toarray().astype(np.float64)[placed.rows] @ (decoder * weights[:, None])
    U, S, _ = np.linalg.svd(R - R.mean(axis=0), full_matrices=False)
    same_up_to_sign(placed.P, halfway(U[:, :5] * S[:5]))


def test_graph_is_the_singular_vectors_after_the_first(m):
    placed = coordinates(m, axis_of(m), space="graph", dimensions=3)
    X = m.pooled("mean").X.toarray().astype(np.float64)[placed.rows]
    A = X / np.sqrt(X.sum(axis=1, keepdims=True)) / np.sqrt(X.sum(axis=0))
    U, S, Vt = np.linalg.svd(A, full_matrices=False)
    U, _ = svd_flip(U, Vt)
    assert S[0] == pytest.approx(1)
    same_up_to_sign(placed.Z, unit(U[:, 1:4] / np.sqrt(X.sum(axis=1, keepdims=True))))


@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_pooling_says_which_values_are_read(m, pooling):
    got = chosen(m, np.array([5, 2]), pooling).toarray()
    np.testing.assert_array_equal(got, m.pooled(pooling).X.toarray()[:, [5, 2]])


def test_the_parts_of_a_reader_count_differently(m, decoder):
    from dataclasses import replace

    two = replace(m, source=replace(m.source, hook="final+layer.3"))
    scale = np.repeat([1.0, BESIDE], DIM // 2)
    placed = coordinates(two, axis_of(two), dimensions=3)
    R = m.pooled("mean").X.toarray().astype(np.float64)[placed.rows] @ (decoder * scale)
    U, S, _ = np.linalg.svd(R - R.mean(axis=0), full_matrices=False)
    same_up_to_sign(placed.P, halfway(U[:, :3] * S[:3]))


def two_directions():
    return np.linalg.qr(np.random.default_rng(4).normal(size=(DIM, 2)))[0].T.astype(np.float32)


def test_what_is_removed_is_gone_from_the_reconstruction(m, decoder):
    removed = two_directions()
    silent = Unwanted("odd", np.zeros((m.n_concepts, 1), np.float32), removed)
    placed = coordinates(m, axis_of(m, unwanted=(silent,)), dimensions=DIM)
    R = m.pooled("mean").X.toarray().astype(np.float64)[placed.rows] @ (decoder - decoder @ removed.T @ removed)
    U, S, _ = np.linalg.svd(R - R.mean(axis=0), full_matrices=False)
    assert placed.P.shape[1] == DIM - 2
    same_up_to_sign(placed.P[:, :5], halfway(U[:, :5] * S[:5]))


@pytest.mark.parametrize("space", ["reconstruction", "svd"])
def test_scores_along_what_is_unwanted_no_longer_tell_the_coordinates(m, decoder, space):
    unwanted = Unwanted("odd", decoder @ two_directions().T)
    placed = coordinates(m, axis_of(m, unwanted=(unwanted,)), space=space, dimensions=4)
    before = coordinates(m, axis_of(m), space=space, dimensions=4)
    scores = unwanted_scores(m, unwanted)[placed.rows]

    def correlation(P):
        return np.abs(np.corrcoef(np.hstack([P, scores]).T)[: P.shape[1], P.shape[1] :]).max()

    assert correlation(before.P) > 0.2
    assert correlation(placed.P) < 1e-3


def test_first_and_take_are_parts_of_the_same_coordinates(m):
    placed = coordinates(m, axis_of(m), dimensions=6)
    fewer = coordinates(m, axis_of(m), dimensions=3)
    same_up_to_sign(placed.first(3).P, fewer.P)
    some = placed.take(np.array([4, 9]))
    np.testing.assert_array_equal(some.Z, placed.Z[[4, 9]])
    Z, rows = placed.first(3).transform.place(m)
    np.testing.assert_allclose(Z, placed.first(3).Z, atol=1e-5)
    assert rows.tolist() == placed.rows.tolist()


def test_coordinates_that_cannot_be_made_are_refused(m):
    with pytest.raises(InputError, match="no coordinates 'svg'; did you mean 'svd'"):
        coordinates(m, axis_of(m), space="svg")
    with pytest.raises(InputError, match="the reconstruction needs the decoder of encoder 'tiny'"):
        coordinates(m, axis_of(m), space="reconstruction")
    with pytest.raises(InputError, match="what is to be left out needs the decoder"):
        coordinates(m, axis_of(m, unwanted=(Unwanted("odd", np.ones((m.n_concepts, 1)), np.eye(DIM)[:1]),)))
    with pytest.raises(InputError, match="none of the 1 chosen concepts is active"):
        coordinates(m.take_docs(np.flatnonzero(m.X[:, [0]].toarray()[:, 0] == 0)), axis_of(m, [0]))


def test_one_concept_gives_one_dimension(m):
    placed = coordinates(m, axis_of(m, [3]), space="svd", dimensions=4)
    assert placed.P.shape[1] == 1
    np.testing.assert_allclose(np.abs(placed.Z), 1)


# --- methods


def test_jaccard_is_shared_over_either():
    X = np.array([[1, 2, 0, 0], [3, 0, 4, 0], [0, 0, 0, 5.0], [1, 1, 1, 0]])
    active = X > 0
    want = [[(a & b).sum() / (a | b).sum() for b in active] for a in active]
    np.testing.assert_allclose(jaccard(csr_array(X)), want)


def test_clusters_are_numbered_by_size_and_noise_keeps_minus_one():
    Z = unit(np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32))
    found = by_size(Z, np.array([5, 2, 2, -1, 2, 9, 9]))
    assert found.labels.tolist() == [2, 0, 0, -1, 0, 1, 1]
    np.testing.assert_allclose(found.centres[0], Z[[1, 2, 4]].mean(axis=0), rtol=1e-5)
    assert found.membership[3] == 0
    assert found.sizes.tolist() == [3, 2, 1]


def test_membership_is_0_on_the_border_and_1_at_the_centre():
    centres = np.array([[0.0, 0], [4, 0]], np.float32)
    Z = np.array([[0, 0], [2, 0], [1, 0]], np.float32)
    np.testing.assert_allclose(membership(Z, np.array([0, 0, 0]), centres), [1, 0, 1 - 1 / 3], atol=1e-6)
    np.testing.assert_allclose(membership(Z, np.zeros(3, int), centres[:1]), 1)


def test_kmeans_of_many_documents_starts_on_a_part_and_ends_on_all(monkeypatch):
    Z = coordinates(planted(2, n=300), all_concepts(planted(2, n=300)), dimensions=8).Z
    whole = kmeans(Z, 4)
    monkeypatch.setattr(import_module("saelens_data.cluster.methods"), "_START_ON", 100)
    assert adjusted_rand_score(whole.labels, kmeans(Z, 4).labels) > 0.97


# --- merge tree


def test_the_tree_of_single_documents_is_wards():
    points = np.random.default_rng(1).normal(size=(12, 3))
    np.testing.assert_allclose(merge_tree(points, np.ones(12)).merges, linkage(points, "ward"), rtol=1e-10)


def test_sizes_count_as_that_many_documents():
    rng = np.random.default_rng(2)
    points, sizes = rng.normal(size=(6, 3)), rng.integers(1, 9, 6)
    tree = merge_tree(points, sizes)
    repeated = linkage(np.repeat(points, sizes, axis=0), "ward")[-5:]
    np.testing.assert_allclose(tree.merges[:, 2:], repeated[:, 2:], rtol=1e-9)
    assert tree.merges[-1, 3] == sizes.sum()
    assert sorted(tree.order().tolist()) == list(range(6))
    assert tree.table()["node"].to_list() == [6, 7, 8, 9, 10]


def test_a_cut_joins_what_merges_first():
    tree = merge_tree(np.array([[0.0], [10], [0.2], [11]]), np.ones(4))
    assert tree.cut(2).tolist() == [0, 1, 0, 1]
    assert tree.cut(3).tolist() == [0, 1, 0, 2]
    assert tree.cut(1).tolist() == [0, 0, 0, 0]
    assert tree.cut(4).tolist() == [0, 1, 2, 3]


# --- quality


def test_agreement_is_that_of_scikit_learn_over_documents_that_have_both():
    rng = np.random.default_rng(0)
    codes, labels = rng.integers(-1, 3, 200), rng.integers(-1, 4, 200)
    both = (codes >= 0) & (labels >= 0)
    found = agreement(labels, codes)
    assert found.n == both.sum()
    assert found.ari == pytest.approx(adjusted_rand_score(codes[both], labels[both]))
    assert found.nmi == pytest.approx(normalized_mutual_info_score(codes[both], labels[both]))


def test_accuracy_matches_one_to_one_and_gain_is_beyond_the_largest_value():
    labels = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2, 2])
    codes = np.array([0, 0, 1, 0, 0, 1, 1, 1, 1, 0])
    found = agreement(labels, codes)
    assert found.accuracy == pytest.approx((2 + 4) / 10)  # clusters 0 or 1 for value 0, 2 for value 1, one for none
    assert found.predicted == pytest.approx((2 + 2 + 4) / 10)
    assert found.majority == 0.5
    assert found.gain == pytest.approx((0.8 - 0.5) / 0.5)
    assert agreement(codes, codes).gain == 1
    assert agreement(np.zeros(10, int), codes).gain == 0
    assert np.isnan(agreement(np.full(10, -1), codes).accuracy)


def test_explained_is_omega_squared():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [10, 15, 25])
    x = rng.normal(size=50) + labels * 0.8
    f = f_oneway(*(x[labels == i] for i in range(3))).statistic
    assert explained(x[:, None], labels) == pytest.approx(2 * (f - 1) / (2 * (f - 1) + 50))


def test_nothing_is_explained_by_chance():
    rng = np.random.default_rng(1)
    found = [explained(rng.normal(size=(60, 3)), rng.integers(0, 8, 60)) for _ in range(200)]
    assert np.mean(found) < 0.03
    eta = 7 / 59  # what the share of the sum of squares would be
    assert np.mean(found) < eta / 3


def test_silhouette_is_that_of_scikit_learn(m):
    placed = coordinates(m, axis_of(m), dimensions=6)
    labels = kmeans(placed.Z, 3).labels
    assert silhouette(placed.Z, labels) == pytest.approx(silhouette_score(placed.Z, labels, metric="cosine"))
    assert np.isnan(silhouette(placed.Z, np.zeros(len(labels), int)))


def test_stability_is_1_where_the_same_comes_again_and_0_where_chance_does():
    labels = np.arange(300) % 3
    same = stability(labels, lambda part, seed: labels[part])
    assert same.ari == 1
    np.testing.assert_array_equal(same.by_cluster, 1)
    other = stability(labels, lambda part, seed: np.random.default_rng(seed).integers(0, 3, len(part)))
    assert abs(other.ari) < 0.02
    assert (other.by_cluster < 0.35).all()


def test_stability_tells_which_cluster_falls_apart():
    labels = np.arange(300) % 3

    def split(part, seed):
        return np.where(labels[part] == 2, 2 + part % 2, labels[part])

    found = stability(labels, split)
    np.testing.assert_allclose(found.by_cluster, [1, 1, 0.5], atol=0.06)


def test_what_was_left_out_is_measured_between_clusters(m, decoder):
    unwanted = Unwanted("odd", decoder[:, :1])
    scores = unwanted_scores(m, unwanted)
    np.testing.assert_allclose(scores, m.pooled("mean").X.toarray() @ decoder[:, :1], rtol=1e-4, atol=1e-5)
    along, across = (scores[:, 0] > np.median(scores)).astype(int), np.arange(m.n_docs) % 2
    found = left_out(m, (unwanted,), across, along)["odd"]
    assert found["explained_before"] > 0.4
    assert found["explained"] < 0.1


# --- names


def test_one_against_the_rest_is_the_test_of_diff(m):
    labels = np.arange(m.n_docs) % 3
    found = one_against_rest(m.X, labels, 3)
    for cluster in range(3):
        c = compare(Sets(m.X[labels == cluster], m.X[labels != cluster]), alone(m.n_concepts), 0.05)
        np.testing.assert_allclose(found.p[cluster], np.where(c.looks.tested, c.p, np.nan), rtol=1e-9)


def test_matched_clusters_take_the_numbers_of_those_they_share_most_with():
    labels = np.array([0, 0, 0, 1, 1, 2])
    assert matched(labels, np.array([2, 2, 1, 0, 0, 1])).tolist() == [0, 0, 2, 1, 1, 2]
    assert matched(labels, np.array([0, 0, -1, 1, 3, 2])).tolist()[:3] == [0, 0, -1]
    assert matched(labels, np.full(6, -1)).tolist() == [-1] * 6


def test_names_are_distinct_and_leave_out_what_all_share():
    rows = [
        (0, 1, 5, "mark · game", 0.5),
        (0, 2, 6, "mark · team", 0.4),
        (1, 1, 7, "mark · law", 0.5),
        (1, 2, 8, None, 0.4),
        (2, 1, 5, "mark · game", 0.5),
    ]
    table = pl.DataFrame(rows, schema=["cluster", "rank", "latent", "label", "difference"], orient="row")
    names = short_names(table.with_columns(apart=pl.col("cluster") < 2), 4)
    assert "game" in names[0] or "team" in names[0]
    assert "latent 8" in names[1]
    assert "law" in names[1]
    assert names[3] == "cluster 3"
    assert [name.endswith("?") for name in names[:3]] == [False, False, names[2] != "cluster 2"]
    words = [word for name in names for word in name.split(", ")]
    assert len(set(words)) == len(words)


# --- how many


def test_one_long_cloud_has_no_clusters_although_two_halves_are_stable():
    rng = np.random.default_rng(0)
    P = (rng.normal(size=(160, 6)) * [5, 1, 1, 1, 1, 1] + 8).astype(np.float32)
    found = choose_k(P)
    assert found.k is None
    two = found.curve.row(by_predicate=pl.col("k") == 2, named=True)
    assert two["stability"] > 0.6
    assert abs(two["excess"]) < 0.15


def test_too_few_documents_to_choose_are_refused():
    with pytest.raises(InputError, match="19 documents are too few"):
        choose_k(np.zeros((19, 3), np.float32))


def test_planted_matrices_are_what_they_say():
    m = noise(0, n=50, d=8)
    assert m.X.shape == (50, 8)
    rng = np.random.default_rng(0)
    assert matrix_of(rng, np.zeros((4, 2)), np.zeros(4, int)).X.nnz == 0
