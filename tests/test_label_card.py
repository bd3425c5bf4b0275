"""The trust card of a concept: its numbers by value, what it warns of, and the command."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from importlib import import_module

import numpy as np
import polars as pl
import pytest
from label_matrices import letters, word, worded_matrix
from scipy.stats import spearmanr

import saelens_data as sd
from saelens_data.errors import InputError
from saelens_data.matrix.label_table import LabelTable
from saelens_data.stats import wilson


def card_of(m, latent, **options):
    return sd.concept_card(m, latent, embed=letters, **options)


def value(card, part, what=None):
    rows = card.of(part) if what is None else card.of(part).filter(what=what)
    return rows["value"][0]


@pytest.fixture(scope="module")
def matrix():
    m = worded_matrix(12, 200, active=30, labels=[word(0), "plain words", *[None] * 10])
    return replace(m, concepts=m.concepts.with_columns(span_density=pl.lit(0.01)))


def test_density_here_and_at_the_source(matrix):
    card = card_of(matrix, 0)
    row = card.of("density").row(0, named=True)
    low, high = wilson(np.array(30), 200)
    assert (row["value"], row["low"], row["high"], row["n"]) == (0.15, float(low), float(high), 200)
    assert value(card, "density", "spans at the source") == 0.01
    units = np.diff(matrix.evidence.units.ptr)
    expected = np.mean([1 - 0.99**n for n in units])
    assert value(card, "density", "documents here, if its spans were as those at the source") == pytest.approx(expected)
    assert card.summary() == f"latent 0 ({word(0)}): active in 15% of the documents"


def test_a_concept_that_is_a_word_is_said_to_be_one(matrix):
    card = card_of(matrix, 3)
    best = card.of("keyword").filter(what="best keyword, AUC").row(0, named=True)
    assert best["text"] == word(3)
    assert best["value"] == best["high"] == 1.0
    assert value(card, "keyword", "active units that hold it") == 1.0
    assert value(card, "keyword", "other units that hold it") == 0.0
    assert any(f"nearly the word '{word(3)}'" in note for note in card.notes)


def test_a_concept_that_is_no_word_has_no_good_keyword():
    """Units are dealt to the latent at random: whatever word is best on one half is no better than chance on the other."""
    areas = []
    for seed in range(12):
        m = worded_matrix(1, 400, active=30)
        rng = np.random.default_rng(seed)
        texts = [" ".join(rng.choice([word(n) for n in range(100, 140)], 6)) for _ in range(400)]
        units = replace(
            m.evidence.units,
            ptr=np.arange(401),
            start=np.zeros(400, np.int32),
            end=np.array([len(t) for t in texts], np.int32),
        )
        evidence = replace(m.evidence, unit=np.zeros(m.X.nnz, np.int32), mean=m.X.data.copy(), units=units)
        m = replace(m, docs=m.docs.with_columns(text=pl.Series(texts)), evidence=evidence)
        row = card_of(m, 0).of("keyword").filter(what="best keyword, AUC").row(0, named=True)
        areas.append(row["value"])
        assert row["low"] < 0.55
    assert abs(np.mean(areas) - 0.5) < 0.06


def test_correlation_with_length_is_spearmans(matrix):
    card = card_of(matrix, 5)
    values = matrix.X.toarray()[:, 5]
    assert value(card, "length") == pytest.approx(spearmanr(values, matrix.docs["n_tokens"]).statistic)
    longer = matrix.with_docs(
        pl.DataFrame({"doc_id": matrix.docs["doc_id"], "n_tokens": pl.Series(10 * values, dtype=pl.Int32)})
    )
    assert value(card_of(longer, 5), "length") == pytest.approx(1.0)
    assert any("stronger in longer documents (rank correlation 1.00)" in note for note in card_of(longer, 5).notes)


def test_a_true_label_scores_and_a_false_one_does_not(matrix):
    true, false = card_of(matrix, 0).of("score"), card_of(matrix, 1).of("score")
    assert true["value"][0] == 1.0
    assert true["low"][0] > 0.8
    assert false["low"][0] < 0.5
    assert any("not shown to tell" in note for note in card_of(matrix, 1).notes)
    assert not any("not shown to tell" in note for note in card_of(matrix, 0).notes)
    unlabelled = card_of(matrix, 4)
    assert not unlabelled.of("score").height
    assert "The concept has no label: `saelens-data label` gives it one." in unlabelled.notes


def test_examples_are_of_the_whole_range(matrix):
    shown = card_of(matrix, 2).of("example")
    assert shown["what"].to_list() == ["strongest"] * 2 + ["middle"] * 2 + ["weakest"] * 2
    assert shown["value"].to_list() == [30.0, 29.0, 15.0, 14.0, 2.0, 1.0]
    assert all(f"<<Here {word(2)} is" in text for text in shown["text"])


def test_failures_are_the_held_out_documents_that_the_label_gets_most_wrong(matrix):
    X = matrix.X.toarray()[:, 1]
    rows = card_of(matrix, 1).of("failure")
    ids = matrix.docs["doc_id"].to_list()
    missed, false = (
        rows.filter(what="active, though unlike the label"),
        rows.filter(what="not active, though like the label"),
    )
    assert all(X[ids.index(doc)] > 0 for doc in missed["doc_id"])
    assert all(X[ids.index(doc)] == 0 for doc in false["doc_id"])
    assert missed["value"].is_sorted()
    assert false["value"].is_sorted(descending=True)


def test_all_labels_are_shown_with_their_scores(matrix):
    extra = json.dumps({"f1": 0.7, "fuzzing": 0.8, "other": "x"})
    row = {
        "latent": 1,
        "label": word(1),
        "explanation": "why",
        "origin": "llm:x",
        "method": "m",
        "score": 0.9,
        "score_kind": "detection",
    }
    rows = pl.DataFrame([{**row, "score_low": 0.7, "score_high": 0.97, "baseline": 0.5, "n": 32, "extra": extra}])
    m = matrix.with_labels(LabelTable.of(rows, sae_sha256="bb"))
    shown = card_of(m, 1).of("label")
    assert shown["what"].to_list() == [
        "llm:x: detection",
        "llm:x: explanation",
        "llm:x: f1",
        "llm:x: fuzzing",
        "offline phrases: cover",
    ]
    assert shown["value"].to_list() == [0.9, None, 0.7, 0.8, None]
    assert shown["text"].to_list() == [word(1), "why", None, None, "plain words"]


def test_nearest_concepts_without_the_encoder_are_those_of_the_same_documents(matrix):
    rows = card_of(matrix, 0).of("nearest")
    B = matrix.X.toarray() > 0
    cosine = (B.T.astype(float) @ B[:, 0]) / np.sqrt(B.sum(0) * B[:, 0].sum())
    cosine[0] = -1
    assert rows["value"].to_list() == pytest.approx(sorted(cosine, reverse=True)[:5])
    assert 0 not in rows["latent"].to_list()


def test_a_concept_of_no_document_has_a_card_too(matrix):
    m = matrix.take_docs(np.flatnonzero(matrix.X.toarray()[:, 0] == 0))
    card = card_of(m, 0)
    assert card.summary() == f"latent 0 ({word(0)}): active in 0% of the documents"
    assert any("cannot be scored here" in note for note in card.notes)
    with pytest.raises(InputError, match="there is no latent 99"):
        card_of(matrix, 99)


def test_the_command_prints_the_card_and_saves_it(tmp_path, monkeypatch, capsys, matrix):
    from saelens_data.cli.main import main

    monkeypatch.setattr(import_module("saelens_data.labels.card"), "embedder_of", lambda m: letters)
    store = tmp_path / "a.sae"
    sd.write_store(store, matrix)
    for arguments, says in (((), "Where label and concept part"), (("-f", "csv"), "part,what,value")):
        monkeypatch.setattr(sys, "argv", ["saelens-data", "concept", str(store), "0", *arguments])
        main()
        said = capsys.readouterr()
        assert says in said.out
        assert said.err.startswith(f"latent 0 ({word(0)}): active in 15% of the documents")
    assert card_of(matrix, 0).to_bytes(".json") == card_of(matrix, 0).to_bytes(".json")
