"""Scores by vectors and by concepts against plain loops and dense arrays."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.sparse import csr_array
from synthetic import random_matrix, write

from saelens_data.retrieve import ranking
from saelens_data.retrieve.by_example import from_examples, sparse_logistic
from saelens_data.retrieve.lexical import LexicalIndex, places
from saelens_data.retrieve.ranking import (
    ConceptArm,
    DenseArm,
    Ranker,
    best,
    evenly,
    lengths_of,
    reading_lengths,
    shrink,
    sum_by_latent,
)
from saelens_data.store import open_store

DIM = 6


def units(rng, n):
    found = rng.normal(size=(n, DIM)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


@pytest.fixture
def parts():
    rng = np.random.default_rng(0)
    m = random_matrix(0, 60, 12)
    return m, rng.normal(size=(12, DIM)).astype(np.float32), units(rng, 60).astype(np.float16), units(rng, 3)


def by_hand(m, directions, query):
    """Scores by concepts, a document and a latent at a time."""
    towards = [float(direction @ query) for direction in directions]
    limit = 0.5 * np.std(towards)
    weights = [np.sign(g) * max(abs(g) - limit, 0) for g in towards]
    mean = m.pooled("mean").X.toarray()
    scores = []
    for row in mean:
        length = np.sqrt(sum(sum(a * d[k] for a, d in zip(row, directions, strict=True)) ** 2 for k in range(DIM)))
        scores.append(sum(a * w for a, w in zip(row, weights, strict=True)) / length if length else 0.0)
    return np.array(scores), np.array(weights)


def test_concepts_score_as_the_formula_says(parts):
    m, directions, _, queries = parts
    arm = ConceptArm.of(m, directions)
    scores, weights = by_hand(m, directions, queries[0])
    assert arm.scores(queries)[:, 0] == pytest.approx(scores, abs=1e-5)
    assert arm.weights(queries)[:, 0] == pytest.approx(weights, abs=1e-6)
    assert arm.scores(queries, np.array([5, 2]))[:, 1] == pytest.approx(arm.scores(queries)[[5, 2], 1])
    assert ((arm.scores(queries) == 0).all(axis=1) == (np.diff(m.X.indptr) == 0)).all()


def test_shares_of_latents_add_up_to_the_score_by_concepts(parts):
    m, directions, _, queries = parts
    arm = ConceptArm.of(m, directions)
    weights = arm.weights(queries)[:, 2]
    for row, score in enumerate(arm.scores(queries)[:, 2]):
        columns, shares = arm.shares(weights, row)
        assert shares.sum() == pytest.approx(score, abs=1e-6)
        dense = m.pooled("mean").X[[row]].toarray().ravel() * weights / max(arm.lengths[row], 1e-12)
        assert shares == pytest.approx(dense[columns], rel=1e-5)


def test_dense_scores_are_cosines_in_blocks(parts, monkeypatch):
    monkeypatch.setattr(ranking, "_BLOCK", 7)
    _, _, vectors, queries = parts
    brute = np.array([[float(np.dot(v.astype(np.float64), q)) for q in queries] for v in vectors])
    assert DenseArm(vectors).scores(queries) == pytest.approx(brute, abs=1e-6)
    assert DenseArm(vectors).candidates(queries[0], 5).tolist() == np.argsort(-brute[:, 0])[:5].tolist()


def test_lengths_in_blocks_are_those_of_the_whole(parts, monkeypatch):
    m, directions, _, _ = parts
    mean = m.pooled("mean").X
    whole = np.linalg.norm(mean.toarray() @ directions, axis=1)
    monkeypatch.setattr(ranking, "_BLOCK", 7)
    assert reading_lengths(mean, directions) == pytest.approx(whole, rel=1e-5)


def test_lengths_of_many_documents_are_kept_in_the_store(parts, tmp_path, monkeypatch):
    m, directions, _, _ = parts
    write(tmp_path / "s.sae", m)

    def brute(by):
        return pytest.approx(np.linalg.norm(m.pooled("mean").X.toarray() @ by, axis=1), rel=1e-5)

    assert lengths_of(open_store(tmp_path / "s.sae"), directions) == brute(directions)
    assert not (tmp_path / "s.sae" / "derived" / "lengths").exists()  # few are not worth a file
    monkeypatch.setattr(ranking, "KEPT_FROM", 60)
    assert lengths_of(open_store(tmp_path / "s.sae"), directions) == brute(directions)
    with monkeypatch.context() as patch:
        patch.setattr(ranking, "reading_lengths", lambda *_: pytest.fail("worked out again"))
        assert lengths_of(open_store(tmp_path / "s.sae"), directions.copy()) == brute(directions)
        with pytest.raises(pytest.fail.Exception):  # a part of a store has nothing kept
            lengths_of(open_store(tmp_path / "s.sae").filter_docs("true"), directions)
    for other in (directions * 2, directions[::-1].copy()):
        assert lengths_of(open_store(tmp_path / "s.sae"), other) == brute(other)


def test_an_arm_is_kept_for_its_directions(parts):
    m, directions, *_ = parts
    arm = ConceptArm.of(m, directions)
    assert ConceptArm.of(m, directions.copy()) is arm
    assert ConceptArm.of(m, 3 * directions).lengths == pytest.approx(3 * arm.lengths, rel=1e-5)
    assert DenseArm.of(m) is DenseArm.of(m)
    assert DenseArm.of(m).vectors is m.vectors
    assert DenseArm.of(m.filter_docs("true")) is not DenseArm.of(m)
    assert DenseArm.of(replace(m, vectors=None)) is None


def test_arms_do_not_keep_a_matrix_alive(parts):
    m = parts[0].filter_docs("true")
    gone, arms = weakref.ref(m), (ConceptArm.of(m, parts[1]), DenseArm.of(m))
    del m
    gc.collect()
    assert gone() is None
    assert arms[0].lengths.shape == (60,)


def test_hybrid_adds_the_arms_by_their_spread(parts):
    m, directions, vectors, queries = parts
    dense, concepts = DenseArm(vectors), ConceptArm.of(m, directions)
    found = Ranker(np.ones(60, bool), dense, concepts, 0).rank(queries)
    for i in range(3):
        d, c = dense.scores(queries)[:, i].astype(np.float64), concepts.scores(queries)[:, i].astype(np.float64)
        assert found.score[:, i] == pytest.approx(d + 0.25 * d.std() / c.std() * c, abs=1e-5)


def test_many_documents_spread_as_some_of_them_do(parts, monkeypatch):
    m, directions, vectors, queries = parts
    monkeypatch.setattr(ranking, "_SURVEY", 20)
    dense, concepts = DenseArm(vectors), ConceptArm.of(m, directions)
    found = Ranker(np.ones(60, bool), dense, concepts, 0).rank(queries)
    rows = evenly(60)
    assert len(rows) == 20
    for i in range(3):
        d, c = dense.scores(queries, rows)[:, i], concepts.scores(queries, rows)[:, i]
        assert found.factor[i] == pytest.approx(0.25 * d.std() / c.std(), rel=1e-5)
        assert found.spread[i] == pytest.approx((d + found.factor[i] * c).std(), rel=1e-5)


def test_feedback_moves_the_query_to_the_first_and_away_from_all(parts):
    _, _, vectors, queries = parts
    fit = np.ones(60, bool)
    fit[int(np.argmax(vectors.astype(np.float32) @ queries[0]))] = False  # not found, so it does not pull
    found = Ranker(fit, DenseArm(vectors), None, 2).rank(queries[:1])
    scores = np.where(fit, vectors.astype(np.float64) @ queries[0], -np.inf)
    top = np.argsort(-scores)[:2]
    spread = (vectors.astype(np.float64) @ queries[0]).std()
    share = np.exp((scores[top] - scores[top[0]]) / spread)
    pull = share @ vectors[top].astype(np.float64) / share.sum() - 0.8 * vectors.astype(np.float64).mean(axis=0)
    moved = queries[0] + 2.0 * pull / np.linalg.norm(pull)
    assert found.queries[0] == pytest.approx(moved / np.linalg.norm(moved), abs=1e-3)


def test_no_more_than_one_document_in_twenty_pulls(parts):
    _, _, vectors, queries = parts
    ranker = Ranker(np.ones(60, bool), DenseArm(vectors), None, 10)
    assert np.array_equal(ranker.rank(queries).score, Ranker(ranker.fit, ranker.dense, None, 3).rank(queries).score)


def test_queries_in_a_batch_are_ranked_as_alone(parts):
    m, directions, vectors, queries = parts
    ranker = Ranker(np.ones(60, bool), DenseArm(vectors), ConceptArm.of(m, directions))
    together = ranker.rank(queries).score
    for i, query in enumerate(queries):
        assert ranker.rank_one(query).score[:, 0] == pytest.approx(together[:, i], abs=1e-5)


def test_columns_add_up_as_scipy_does(parts):
    m, *_ = parts
    latents, weights = np.array([3, 0, 7]), np.array([0.5, -2.0, 1.0], np.float32)
    dense = np.zeros(12)
    dense[latents] = weights
    assert sum_by_latent(m.by_latent, latents, weights, 60) == pytest.approx(m.pooled("mean").X @ dense, abs=1e-6)


def test_heaviest_latents_alone_find_candidates(parts, monkeypatch):
    m, directions, _, queries = parts
    monkeypatch.setattr(ranking, "EXACT", 10)
    monkeypatch.setattr(ranking, "HEAVIEST", 12)
    arm = ConceptArm.of(m, directions)
    assert arm.by_latent is not None
    every = arm.scores(queries[:1])[:, 0]
    assert arm.candidates(queries[0], 9).tolist() == best(every, 9).tolist()


def test_best_breaks_ties_by_row_and_leaves_out_what_cannot_be_found():
    scores = np.array([1.0, 3.0, 3.0, -np.inf, 2.0, 3.0])
    assert best(scores, 2).tolist() == [1, 2]
    assert best(scores, 9).tolist() == [1, 2, 5, 4, 0]
    assert best(np.full(3, -np.inf), 2).tolist() == []


def test_shrink_is_a_soft_threshold():
    towards = np.array([[3.0], [-1.0], [0.1], [-2.0]])
    limit = 0.5 * towards.std()
    assert shrink(towards).ravel() == pytest.approx([3 - limit, limit - 1, 0, limit - 2])


def test_rows_are_spread_evenly(monkeypatch):
    monkeypatch.setattr(ranking, "_SURVEY", 5)
    assert evenly(4).tolist() == [0, 1, 2, 3]
    assert evenly(101).tolist() == [0, 25, 50, 75, 100]


@pytest.mark.parametrize("l1", [0.0, 0.05])
def test_sparse_logistic_reaches_the_minimum(l1):
    rng = np.random.default_rng(3)
    A = csr_array(rng.normal(size=(30, 5)) * (rng.random((30, 5)) < 0.6))
    wanted, weight, offset = rng.random(30) < 0.4, rng.random(30) + 0.5, rng.normal(size=30)

    def loss(both):
        w, b = both[:5] - both[5:10], both[10]
        logit = offset + b + A @ w
        fit = weight @ np.logaddexp(0, np.where(wanted, -logit, logit))
        return fit + l1 * both[:10].sum() + 0.1 * (w @ w) / 2

    found = minimize(loss, np.zeros(11), bounds=[(0, None)] * 10 + [(None, None)], tol=1e-12)
    w = sparse_logistic(A, wanted, weight, offset, l1=l1, l2=0.1, steps=3000)
    assert w == pytest.approx(found.x[:5] - found.x[5:10], abs=2e-3)


def test_a_large_penalty_leaves_the_prior():
    A = csr_array(np.eye(4))
    w = sparse_logistic(A, np.array([1, 0, 0, 1]), np.ones(4), np.zeros(4), l1=9.0, l2=0.0, steps=50)
    assert not w.any()


def test_examples_learn_what_the_prior_does_not_know():
    rng = np.random.default_rng(5)
    n = 400
    right = rng.random(n) < 0.3
    dense = rng.random((n, 8)) * (rng.random((n, 8)) < 0.5) + 0.01
    dense[:, 0] = np.where(right, 1.0, 0.02)  # the latent that tells them apart points nearly nowhere
    directions = rng.normal(size=(8, DIM)).astype(np.float32)
    directions[0] *= 0.05
    mean = csr_array(dense.astype(np.float32))
    arm = ConceptArm(mean, directions, reading_lengths(mean, directions))
    like = np.flatnonzero(right)[:16]
    example = from_examples(arm, None, like, np.empty(0, np.int64), fit=np.ones(n, bool), seed=0)
    scores = arm.weighed(example.weights[:, None])[:, 0]
    prior = arm.scores(arm.towards(like)[None])[:, 0]
    below = [np.mean(s[right][:, None] > s[~right][None]) for s in (scores, prior)]
    assert below[0] > below[1] + 0.05


def test_bm25_against_its_formula():
    texts = ["the cat sat", "the dog and the cat", "birds"]
    index = LexicalIndex.build(texts)
    split = [text.split() for text in texts]
    mean = np.mean([len(words) for words in split])
    scores = []
    for words in split:
        score = 0.0
        for word in ("cat", "dog"):
            n = sum(word in other for other in split)
            idf, tf = np.log(1 + (3 - n + 0.5) / (n + 0.5)), words.count(word)
            score += idf * tf / (tf + 1.5 * (1 - 0.75 + 0.75 * len(words) / mean))
        scores.append(score)
    assert index.scores(["cat", "dog", "unknown"]) == pytest.approx(scores, rel=1e-5)
    parts = index.parts(["cat", "dog", "cat"], np.arange(3))
    assert sum(parts.values()) == pytest.approx(index.scores(["cat", "dog", "cat"]), rel=1e-6)


def test_texts_without_words_have_no_scores():
    assert LexicalIndex.build(["", "  ", "!"]).scores(["a"]).tolist() == [0, 0, 0]
    assert list(places("Cat, cat's", ["cat"])) == [(0, 3, "cat"), (5, 8, "cat")]
