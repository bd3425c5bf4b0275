"""The words shown for a latent are those of its maximum, the strongest documents first."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keywords import keyword_matrix
from synthetic import random_matrix

from saelens_data.errors import InputError
from saelens_data.evidence import CONTEXT, Span, active_rows, column_of, evidence_for, examples, passage

TEXTS = [
    "Take some tea now. No more of it, please.",
    "Nothing of the kind is in here.",
    "First a line without. Then tea, tea and tea again.",
    "Coffee comes first here. Some tea comes after it.",
]
WORDS = {3: "tea", 8: "coffee", 20: "offee", 21: "milk"}
M = keyword_matrix(TEXTS, WORDS)


def test_examples_strongest_first_ties_in_row_order() -> None:
    found = examples(M, 3)
    assert found.frame.select("rank", "doc_id", "activation", "text", "start", "end").rows() == [
        (1, "d2", 3.0, "Then tea, tea and tea again.", 22, 50),
        (2, "d0", 1.0, "Take some tea now.", 0, 18),
        (3, "d3", 1.0, "Some tea comes after it.", 25, 49),
    ]
    assert found.frame["before"].to_list() == ["First a line without. ", "", "Coffee comes first here. "]
    assert found.frame["after"].to_list() == ["", " No more of it, please.", ""]
    assert found.summary() == "latent 3 (tea): active in 3 of 4 documents"
    assert found.parameters == {"encoder": "words", "latent": 3, "label": "tea", "origin": None, "n": 10}
    assert found.notes == ()


def test_n_limits_and_the_summary_says_so() -> None:
    found = examples(M, 3, n=1)
    assert found.frame["doc_id"].to_list() == ["d2"]
    assert found.summary() == "latent 3 (tea): active in 3 of 4 documents; the strongest 1"


def test_a_latent_that_is_active_nowhere_gives_an_empty_table_and_a_note() -> None:
    found = examples(M, 21)
    assert found.frame.height == 0
    assert found.frame.schema == examples(M, 3).frame.schema
    assert found.notes == ("Latent 21 is active in none of the 4 documents.",)


def test_latents_are_found_by_number_not_by_column() -> None:
    assert [column_of(M, latent) for latent in WORDS] == [0, 1, 2, 3]
    kept = M.filter_concepts(pl.col("latent") > 3)
    assert examples(kept, 20).frame.equals(examples(M, 20).frame)
    assert examples(kept, 20).frame["text"].to_list() == ["Coffee comes first here."]


def test_evidence_for_keeps_the_order_of_the_rows_and_leaves_out_inactive_ones() -> None:
    assert evidence_for(M, 3, [3, 1, 2]) == [Span(3, 1.0, 25, 49), Span(2, 3.0, 22, 50)]
    assert evidence_for(M, 3, np.array([1])) == []


def test_evidence_follows_documents_that_were_taken_out_and_reordered() -> None:
    taken = M.take_docs([3, 2])
    assert evidence_for(taken, 3, [0, 1]) == [Span(0, 1.0, 25, 49), Span(1, 3.0, 22, 50)]
    assert active_rows(taken, [3])[3].tolist() == [1, 0]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 999), n=st.integers(1, 12), d=st.integers(1, 6))
def test_against_a_dense_search(seed: int, n: int, d: int) -> None:
    m = random_matrix(seed, n, d)
    dense = m.X.toarray()
    every = active_rows(m, range(d))
    for latent in range(d):
        active = [row for row in range(n) if dense[row, latent] > 0]
        assert active_rows(m, [latent])[latent].tolist() == every[latent].tolist()
        assert every[latent].tolist() == sorted(active, key=lambda row: (-dense[row, latent], row))
        for span in evidence_for(m, latent, range(n)):
            at = next(k for k in range(m.X.indptr[span.row], m.X.indptr[span.row + 1]) if m.X.indices[k] == latent)
            unit = m.evidence.units.ptr[span.row] + m.evidence.unit[at]
            place = m.evidence.units.start[unit], m.evidence.units.end[unit]
            assert span == (span.row, dense[span.row, latent], *place)
        assert [span.row for span in evidence_for(m, latent, range(n))] == active


def test_offsets_are_characters_whatever_the_script() -> None:
    texts = ["🎉🎉 Ça alors, été! Un thé noir 🍵 s'il vous plaît.", "Ничего не вышло. Только thé и ещё раз thé."]
    found = examples(keyword_matrix(texts, {1: "thé"}), 1).frame
    assert found["text"].to_list() == ["Только thé и ещё раз thé.", "Un thé noir 🍵 s'il vous plaît."]
    for row in found.iter_rows(named=True):
        text = texts[int(row["doc_id"][1:])]
        assert text[row["start"] : row["end"]] == row["text"]
        assert row["before"] + row["text"] + row["after"] == text


def test_the_context_is_limited_and_cut_between_words() -> None:
    text = "word " * 400 + "\n\nHere is the tea.\n\n" + "more " * 400
    row = examples(keyword_matrix([text], {1: "tea"}), 1).frame.row(0, named=True)
    assert row["text"] == "Here is the tea."
    assert text[row["start"] - len(row["before"]) : row["end"] + len(row["after"])] == "".join(
        row[part] for part in ("before", "text", "after")
    )
    for part, word in (("before", "word"), ("after", "more")):
        assert CONTEXT - 30 < len(row[part]) <= CONTEXT
        assert set(row[part].split()) == {word}


def test_means_rank_by_the_mean_and_show_the_unit_of_the_maximum() -> None:
    found = examples(M.pooled("mean"), 3).frame
    assert found["activation"].to_list() == [1.5, 0.5, 0.5]
    assert found["text"].to_list() == examples(M, 3).frame["text"].to_list()


def test_texts_that_were_not_kept_are_null() -> None:
    bare = replace(M, docs=M.docs.drop("text"))
    found = examples(bare, 3, n=1).frame.row(0, named=True)
    assert (found["doc_id"], found["start"], found["end"]) == ("d2", 22, 50)
    assert [found[part] for part in ("before", "text", "after")] == [None] * 3


@pytest.mark.parametrize(
    ("latent", "message"),
    [
        (22, "there is no latent 22: choose one from 3 to 21"),
        (-1, "there is no latent -1: choose one from 3 to 21"),
        (13, "latent 13 is not among the 4 kept here: the nearest is 8; choose one of these, or filter concepts less"),
    ],
)
def test_a_latent_that_is_not_there(latent: int, message: str) -> None:
    for call in (
        examples,
        lambda m, latent: active_rows(m, [3, latent]),
        lambda m, latent: evidence_for(m, latent, [0]),
    ):
        with pytest.raises(InputError) as error:
            call(M, latent)
        assert str(error.value) == message


def test_what_else_cannot_be_shown() -> None:
    with pytest.raises(InputError, match="does not say which words made an activation: open the store"):
        examples(replace(M, evidence=None), 3)
    with pytest.raises(InputError, match="0 examples asked for: give 1 or more"):
        examples(M, 3, n=0)
    with pytest.raises(InputError, match="holds no concepts"):
        examples(M.filter_concepts(pl.lit(value=False)), 3)


# Passages


def test_a_short_text_is_shown_whole() -> None:
    cut = passage("  One. Two. Three. ", Span(0, 1.0, 7, 11), chars=100)
    assert (cut.before, cut.evidence, cut.after) == ("One. ", "Two.", " Three.")
    assert (cut.cut_before, cut.cut_after) == (False, False)


def test_a_long_text_is_cut_on_both_sides_of_its_evidence() -> None:
    text = "a b " * 5000 + "EVIDENCE" + " c d" * 5000
    cut = passage(text, Span(0, 1.0, 20000, 20008), chars=200)
    assert cut.evidence == "EVIDENCE"
    assert (cut.cut_before, cut.cut_after) == (True, True)
    assert 180 <= len(cut.before + cut.evidence + cut.after) <= 200
    assert text.count(cut.before + cut.evidence + cut.after) == 1
    assert cut.at == pytest.approx(0.5, abs=1e-3)


def test_evidence_at_the_end_leaves_room_before_it() -> None:
    text = "x " * 500 + "THE END"
    cut = passage(text, Span(0, 1.0, 1000, 1007), chars=100)
    assert (cut.evidence, cut.after, cut.cut_after) == ("THE END", "", False)
    assert 80 <= len(cut.before) <= 93
    assert cut.at == 1.0


def test_evidence_longer_than_the_passage_is_cut() -> None:
    cut = passage("z" * 1_000_000, Span(0, 1.0, 10, 1_000_000), chars=50)
    assert (cut.before, cut.evidence, cut.after) == ("", "z" * 50, "")
    assert (cut.cut_before, cut.cut_after) == (True, True)


@pytest.mark.parametrize(("at", "shown"), [(0.0, "one"), (0.5, "two"), (1.0, "six")])
def test_a_text_without_evidence_is_shown_at_the_same_place(at: float, shown: str) -> None:
    text = "one " * 50 + "two " * 50 + "six " * 50
    cut = passage(text.strip(), None, chars=80, at=at)
    assert cut.evidence == ""
    assert set(cut.after.split()) == {shown}
    assert (cut.cut_before, cut.cut_after) == (at > 0, at < 1)


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=300), data=st.data(), chars=st.integers(1, 120))
def test_a_passage_is_a_part_of_the_text_with_the_evidence_in_place(text: str, data: st.DataObject, chars: int) -> None:
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    cut = passage(text, Span(0, 1.0, start, end), chars=chars)
    assert cut.evidence == text[start : min(end, start + chars)]
    assert text[:start].endswith(cut.before)
    assert text[start + len(cut.evidence) :].startswith(cut.after)
    assert len(cut.before + cut.evidence + cut.after) <= max(chars, len(cut.evidence)) + 1
    assert 0 <= cut.at <= 1
