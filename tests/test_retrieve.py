"""Retrieval: scores against plain computations, shares that add up, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import import_module

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from synthetic import random_matrix

import saelens_data as sd
from saelens_data.cli.main import cli
from saelens_data.errors import InputError
from saelens_data.retrieve import ranking, retrieve
from saelens_data.retrieve.lexical import words_of
from saelens_data.retrieve.run import degree

SENTENCES = {
    "cats": [
        "The cat slept on the warm windowsill all afternoon.",
        "My kitten chases every ball of wool it sees.",
        "Two stray cats were fighting behind the house.",
        "A cat purrs when someone strokes its fur.",
    ],
    "money": [
        "The bank raised its interest rates once more.",
        "Investors sold their shares after the weak quarterly report.",
        "She opened a savings account for her daughter.",
        "The loan must be repaid within ten years.",
    ],
    "rain": [
        "Heavy rain flooded the streets of the town.",
        "The forecast promises sunshine and a light breeze.",
        "Snow fell all night and covered the fields.",
        "A thunderstorm is moving in from the west.",
    ],
    "football": [
        "The striker scored twice in the final minutes.",
        "Our goalkeeper saved a penalty yesterday.",
        "The coach was dismissed after the sixth defeat.",
        "Fans celebrated the championship until dawn.",
    ],
}


@pytest.fixture(scope="module")
def m(tmp_path_factory):
    rows = [(f"{topic}-{i}", topic, text) for topic, texts in SENTENCES.items() for i, text in enumerate(texts)]
    rows += [("two", "both", SENTENCES["cats"][0] + " " + SENTENCES["rain"][0]), ("empty", "none", "")]
    frame = pl.DataFrame(rows, schema=["doc_id", "topic", "text"], orient="row")
    return sd.encode(frame, store=tmp_path_factory.mktemp("retrieve") / "m.sae", text="text", dtype="float32")


def ids(result):
    return result.frame["doc_id"].to_list()


@pytest.mark.parametrize("mode", ["hybrid", "concepts", "dense"])
@pytest.mark.parametrize(("phrase", "topic"), [("pets", "cats"), ("finance", "money"), ("sports", "football")])
def test_words_find_documents_that_hold_none_of_them(m, mode, phrase, topic):
    found = ids(retrieve(m, phrase, n=4, mode=mode, feedback=3))
    assert sum(i.startswith(topic) for i in found) >= 3


def test_few_documents_take_no_feedback_unless_asked(m, monkeypatch):
    assert retrieve(m, "pets").parameters["feedback"] == 0
    assert retrieve(m, "pets").frame.equals(retrieve(m, "pets", feedback=0).frame)
    monkeypatch.setattr(import_module("saelens_data.retrieve.run"), "_FEW", m.n_docs)
    assert retrieve(m, "pets").parameters["feedback"] == 12


@pytest.mark.parametrize("feedback", [0, 3])
@pytest.mark.parametrize("mode", ["hybrid", "concepts", "dense", "lexical"])
def test_shares_add_up_to_the_score(m, mode, feedback):
    found = retrieve(m, "the cat and the rain", mode=mode, feedback=feedback, n=20)
    assert found.frame.height
    for row in found.frame.iter_rows(named=True):
        assert sum(part["share"] for part in row["concepts"]) == pytest.approx(row["score"], abs=1e-9)
    assert np.diff(found.frame["score"].to_numpy()).max(initial=0) < 1e-6


def test_evidence_is_where_its_offsets_say_and_holds_the_concept(m):
    (row,) = retrieve(m, "heavy rain", n=20, mode="concepts").frame.filter(doc_id="two").iter_rows(named=True)
    for span in row["evidence"]:
        assert row["text"][span["start"] : span["end"]] == span["text"]
    assert "rain" in row["evidence"][0]["text"]
    for latent in row["evidence"][0]["latents"]:
        (shown,) = [s for s in sd.examples(m, latent, n=50).frame.iter_rows(named=True) if s["doc_id"] == "two"]
        assert (shown["start"], shown["end"]) == (row["evidence"][0]["start"], row["evidence"][0]["end"])


def test_documents_without_concepts_are_not_found(m):
    for mode in ("hybrid", "concepts", "dense", "lexical"):
        assert "empty" not in ids(retrieve(m, "cat", n=99, mode=mode))
    assert len(ids(retrieve(m, "cat", n=99))) == 17


def test_lexical_ranks_by_words_and_marks_them(m):
    found = retrieve(m, "CAT purrs", mode="lexical")
    assert ids(found)[0] == "cats-3"
    row = found.frame.row(0, named=True)
    assert [span["text"] for span in row["evidence"]] == ["cat", "purrs"]
    assert [part["label"] for part in row["concepts"]] == ["word 'cat'", "word 'purrs'"]
    nothing = retrieve(m, "xylophone", mode="lexical")
    assert nothing.frame.is_empty()
    assert nothing.notes == ("No document has any of what was asked for.",)


def test_a_query_filters_and_weighs(m):
    found = retrieve(m, '"animals" and not "weather" and topic != \'money\'', n=30)
    assert not any(i.startswith("money") for i in ids(found))
    assert ids(found)[0].startswith("cats")
    for row in found.frame.iter_rows(named=True):
        assert sum(part["share"] for part in row["concepts"]) == pytest.approx(row["score"], abs=1e-9)
    top = found.frame.row(0, named=True)
    assert {part["label"] for part in top["concepts"]} == {'"animals"', 'not "weather"'}
    assert top["evidence"]


def test_a_latent_in_a_query_counts_by_its_maximum(m):
    latent = int(m.concepts["latent"][int(np.bincount(m.X.indices).argmax())])
    found = retrieve(m, str(latent), n=99)
    column = m.X[:, [latent]].toarray().ravel()
    score = {m.docs["doc_id"][i]: column[i] / column.max() for i in range(m.n_docs)}
    assert found.frame["score"].to_list() == pytest.approx([score[i] for i in ids(found)])
    assert found.frame["score"].is_sorted(descending=True)


@pytest.mark.parametrize("mode", ["hybrid", "concepts", "dense"])
def test_examples_find_others_like_them_from_one_up(m, mode):
    for like in (["money-0"], ["money-0", "money-1"]):
        found = retrieve(m, like=like, mode=mode, n=4)
        assert not set(ids(found)) & set(like)
        assert sum(i.startswith("money") for i in ids(found)) >= 4 - len(like) - (mode == "dense")
        for row in found.frame.iter_rows(named=True):
            assert sum(part["share"] for part in row["concepts"]) == pytest.approx(row["score"], abs=1e-6)


def test_examples_are_shown_as_a_query_that_can_be_asked(m):
    found = retrieve(m, like=["money-0", "money-1"], unlike=["rain-0"], mode="concepts")
    assert " or " in found.query
    assert any(i.startswith("money") for i in ids(retrieve(m, found.query, n=5)))
    assert found.query == retrieve(m, like=["money-0", "money-1"], unlike=["rain-0"], mode="concepts").query
    assert "like money-0, money-1 unlike rain-0" in found.summary()


def test_unlike_moves_documents_down(m):
    place = {}
    for unlike in ([], ["rain-0"]):
        order = [i for i in ids(retrieve(m, like=["two"], unlike=unlike, n=99)) if i != "rain-0"]
        place[bool(unlike)] = sum(order.index(f"rain-{i}") for i in (1, 2, 3))
    assert place[True] > place[False]


def test_a_store_without_vectors_says_so(m):
    old = replace(m, vectors=None)
    found = retrieve(old, "pets", n=3)
    assert found.mode == "concepts"
    assert "encode them again" in found.notes[0]
    with pytest.raises(InputError, match="no embeddings"):
        retrieve(old, "pets", mode="dense")


def test_a_phrase_that_is_too_long_is_cut_and_said_so(m):
    found = retrieve(m, "cat " * 10_000, n=2)
    assert "10,000 tokens: the first 256 were read" in found.notes[0]
    assert len(found.query) <= 200


def test_other_languages_and_words_of_the_query_language(m):
    assert ids(retrieve(m, "Katze", n=1))
    found = retrieve(m, "cats and dogs", n=1)
    assert "one phrase" in found.notes[0]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"query": "  "}, "the phrase is empty"),
        ({"query": "x", "n": 0}, "0 documents asked for"),
        ({"query": "x", "mode": "hybird"}, "did you mean 'hybrid'"),
        ({"query": "x", "feedback": -1}, "feedback from -1"),
        ({}, "nothing is asked for"),
        ({"query": "x", "like": ["two"]}, "not both"),
        ({"query": "x", "unlike": ["two"]}, "not both"),
        ({"unlike": ["two"]}, "alone say too little"),
        ({"like": "two"}, "list of document ids"),
        ({"like": ["tow"]}, "there is no document 'tow'; did you mean 'two'"),
        ({"like": ["two"], "unlike": ["two"]}, "as like and as unlike"),
        ({"like": ["empty"]}, "have no concepts"),
        ({"like": ["two"], "mode": "lexical"}, "choose another mode"),
        ({"query": '"x" and'}, "at the end"),
        ({"query": "99999"}, "no latent 99999"),
        ({"query": "\"x\" and colour = 'red'"}, "no column `colour`"),
    ],
)
def test_bad_input_is_one_sentence(m, asked, message):
    with pytest.raises(InputError, match=message) as raised:
        retrieve(m, **asked)
    assert "\n" not in str(raised.value)


def test_an_encoder_that_is_not_at_hand(m):
    lost = replace(m, source=replace(m.source, encoder="gone"))
    with pytest.raises(sd.SaelensDataError, match="gone"):
        retrieve(lost, "cat")
    assert ids(retrieve(lost, "cat", mode="lexical"))  # words need no encoder


def test_a_matrix_of_few_concepts_and_documents_serves_too(m):
    part = m.filter_docs("topic = 'cats'").filter_concepts("latent < 2000")
    found = retrieve(part, "pets", n=9)
    assert found.frame.height == found.n_docs == 4
    assert all(p["latent"] is None or p["latent"] < 2000 for row in found.frame["concepts"] for p in row)


def test_degrees_are_half_at_two_deviations():
    scores = np.array([-1.0, 1.0, -1.0, 1.0, 9.0])
    fit = np.array([True, True, True, True, False])
    assert degree(scores, fit) == pytest.approx([1 / (1 + np.exp(6)), 1 / (1 + np.exp(2))] * 2 + [0])
    assert degree(np.ones(3), np.ones(3, bool)).tolist() == [0, 0, 0]


def test_random_matrices_without_an_encoder_are_refused():
    with pytest.raises(sd.SaelensDataError, match="tiny"):
        retrieve(random_matrix(1, 20, 10), "cat", mode="concepts")


class TestCommand:
    def run(self, m, monkeypatch, *arguments):
        monkeypatch.setattr("saelens_data.cli.retrieve.open_or_encode", lambda *a, **k: [m])
        run = CliRunner().invoke(cli, ["retrieve", "m.sae", *arguments], catch_exceptions=False)
        assert run.exit_code == 0, run.output
        return run

    def test_table_marks_the_evidence(self, m, monkeypatch):
        run = self.run(m, monkeypatch, "pets", "-n", "2", "--mode", "concepts")
        assert run.stdout.startswith("1. cats-")
        assert "**" in run.stdout
        assert '"pets": the first 2 of 17 documents by concepts' in run.stderr

    def test_jsonl_has_offsets(self, m, monkeypatch):
        run = self.run(m, monkeypatch, "pets", "-n", "3", "-f", "jsonl")
        rows = [json.loads(line) for line in run.stdout.splitlines()]
        assert [row["rank"] for row in rows] == [1, 2, 3]
        span = rows[0]["evidence"][0]
        assert rows[0]["text"][span["start"] : span["end"]] == span["text"]

    def test_examples(self, m, monkeypatch):
        run = self.run(m, monkeypatch, "--like", "cats-0", "--unlike", "rain-0", "-n", "2")
        assert "as a query:" in run.stderr

    def test_what_documents_hold_is_no_markup(self, m, monkeypatch):
        text = "[red]the cat[/red] \x1b[31m sleeps [link=x]"
        odd = m.with_docs(pl.DataFrame({"doc_id": m.docs["doc_id"]}).with_columns(text=pl.lit(text)))
        run = self.run(odd, monkeypatch, "cat sleeps", "-n", "1", "--mode", "lexical")
        assert "[red]the **cat**[/red]  [31m **sleeps** [link=x]" in run.stdout
        assert "\x1b" not in run.stdout


def test_many_documents_are_ranked_by_candidates_as_all_are(m, monkeypatch):
    whole = retrieve(m, "pets", n=5)
    monkeypatch.setattr(ranking, "EXACT", 3)
    monkeypatch.setattr(ranking, "CANDIDATES", 8)
    few = retrieve(m, "pets", n=5)
    assert ids(few)[:3] == ids(whole)[:3]
    assert few.frame["score"][:3].to_list() == pytest.approx(whole.frame["score"][:3].to_list(), rel=1e-4)


def test_words_are_found_in_any_script():
    assert words_of("Été, ¿qué? — 雨 2nd!") == ["été", "qué", "雨", "2nd"]
