"""Offline labels on planted phrases, and which rows an encoder is trained on."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
from scipy.sparse import csr_array

import saelens_data as sd
from saelens_data.encoders.meaning import meanings
from saelens_data.encoders.usual import Usual, usual
from saelens_data.labels.offline import _overlaps, _worth, label_latents, top_spans
from saelens_data.sae.train import TrainConfig
from saelens_data.training import HOLD_OUT, SpanSet, part_scales, train

NOUNS = "river garden window letter engine market winter teacher bridge mountain".split()
VERBS = "sees finds paints follows remembers carries answers leaves".split()


@pytest.fixture(scope="module")
def planted():
    """600 plain sentences; 40 offer help, 40 speak of refunds; latent 0 fires on the first, 1 on the second, 2 never."""
    rng = np.random.default_rng(0)
    spans = [f"The {rng.choice(NOUNS)} {rng.choice(VERBS)} the {rng.choice(NOUNS)} number {i}." for i in range(600)]
    spans += [f"Would you like another {rng.choice(NOUNS)} {i}?" for i in range(40)]
    spans += [f"A {['full refund', 'card payment'][i % 2]} for the {rng.choice(NOUNS)} {i}." for i in range(40)]
    X = np.zeros((len(spans), 3), np.float32)
    X[600:640, 0] = 1 + rng.random(40)
    X[640:, 1] = 1 + rng.random(40)
    X[:5, 1] = 0.1
    return spans, csr_array(X)


def test_labels_are_the_phrases_that_set_a_latent_apart(planted):
    labels = label_latents(*planted)
    assert labels["latent"].to_list() == [0, 1, 2]
    assert labels["label"][0].split(" · ")[0] == "would you like another"
    assert set(labels["label"][1].split(" · ")[:2]) == {"a full refund", "a card payment"}
    assert labels["label"][2] is None
    assert labels["score"][0] == 1.0
    assert labels["score"][1] == pytest.approx(40 / 45)
    assert labels["origin"].to_list() == ["offline phrases", "offline phrases", None]


def test_top_spans_are_the_strongest_and_no_wording_comes_twice():
    spans = ["Yes.", "no", "YES.", "perhaps"]
    X = csr_array(np.array([[1.0], [2.0], [3.0], [0.0]], np.float32))
    assert [rows.tolist() for rows in top_spans(spans, X, 5)] == [[2, 1]]
    assert [rows.tolist() for rows in top_spans(spans, X, 1)] == [[2]]


@pytest.mark.parametrize(
    "phrase", ["the", "of", "would", "part of the", "7", "? the", "s", "and f", "! yes", "a", "in the"]
)
def test_fragments_are_worth_nothing(phrase):
    assert _worth(phrase) == 0


def test_whole_phrases_are_worth_more_than_numbers_and_empty_words():
    assert _worth("a full refund") > _worth("full refund") > _worth("refund") > _worth("would you be so") > 0
    assert _worth("refund 20") < _worth("full refund")


def test_phrases_that_say_it_again_overlap():
    assert _overlaps("full refund", ["a refund"])
    assert _overlaps("communicating", ["communication"])
    assert not _overlaps("card payment", ["full refund"])


def test_training_takes_each_wording_once_and_holds_out_only_new_ones():
    doc = np.array([0, 0, 1, HOLD_OUT - 1, HOLD_OUT - 1, HOLD_OUT - 1, 2 * HOLD_OUT - 1, 2])
    wording = pl.Series(["Same here", "own", "same   HERE", "same here", "fresh", "Fresh", "late", "late"])
    spans = SpanSet(np.zeros((8, 2), np.float16), wording, doc)
    train, held = spans.rows()
    assert train.tolist() == [0, 1, 7]
    assert held.tolist() == [4]


def test_parts_are_scaled_to_variance_one():
    rng = np.random.default_rng(0)
    x = np.hstack([rng.normal(5, 0.1, (4000, 3)), rng.normal(0, 20, (4000, 2))]).astype(np.float16)
    scales = part_scales(x, [3, 2])
    scaled = x.astype(np.float64) * np.repeat(scales, [3, 2])
    assert scaled[:, :3].var(axis=0).sum() == pytest.approx(1, rel=1e-3)
    assert scaled[:, 3:].var(axis=0).sum() == pytest.approx(1, rel=1e-3)


def test_spans_in_which_nothing_recurs_leave_latents_without_a_label():
    spans = ["alpha", "beta", "一二三", "###"]
    labels = label_latents(spans, csr_array(np.eye(4, 2, dtype=np.float32)))
    assert labels["label"].to_list() == [None, None]


def test_a_corpus_too_small_to_hold_any_out_trains_all_the_same(tmp_path):
    rng = np.random.default_rng(0)
    texts = [
        ". ".join(f"The {rng.choice(NOUNS)} {rng.choice(VERBS)} the {rng.choice(NOUNS)} {i}" for i in range(40))
        for _ in range(8)
    ]
    docs = pl.DataFrame({"doc_id": [str(i) for i in range(8)], "text": texts})
    config = TrainConfig(latents=32, k=4, epochs=1, batch=32)
    encoder = train(docs, tmp_path / "tiny", config=config)
    metrics = json.loads((tmp_path / "tiny" / "metrics.json").read_text())
    assert metrics["documents"] == 8
    assert "explained_variance" not in metrics
    assert encoder.sae.d_sae == 32


def test_training_writes_what_correlate_compares_concepts_by(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where an encoder is found by its name
    rng = np.random.default_rng(0)
    texts = []
    for i in range(130):  # two kinds of documents, with words of their own
        nouns, verbs = NOUNS[i % 2 :: 2], VERBS[i % 2 :: 2]
        n = rng.integers(2, 9)
        texts.append(
            ". ".join(f"The {rng.choice(nouns)} {rng.choice(verbs)} the {rng.choice(nouns)}" for _ in range(n))
        )
    docs = pl.DataFrame({"doc_id": [str(i) for i in range(130)], "text": texts})
    encoder = train(docs, tmp_path / "tiny", config=TrainConfig(latents=32, k=4, epochs=1, batch=32), dtype="float32")
    m = sd.encode(docs, encoder=encoder, store=tmp_path / "tiny.sae")
    about, of = meanings(m.source), usual(m.source)
    np.testing.assert_allclose(np.linalg.norm(about, axis=1), (about != 0).any(axis=1), atol=1e-6)
    assert of.n_docs == 130
    counted = Usual.of(m.X, m.concepts["latent"].to_numpy(), m.docs["n_units"].to_numpy())
    apart = np.abs(of.steps.toarray().astype(int) - counted.steps.toarray())
    assert (apart > 0).sum() < 0.1 * counted.steps.nnz  # vectors on disk are float16
    assert counted.steps.nnz > 50
