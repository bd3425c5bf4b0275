"""Spans: every mark in exactly one, none too long, in linear time."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saelens_data.readers.split import MAX_CHARS, split_spans

MARKS = st.sampled_from(list("ab.!?…\"') \n\t。\u2028\u0085\x00é1`#-") + ["\n\n", "Dr. ", "e.g. ", "```\n", "    "])


def pieces(text: str) -> list[str]:
    return [text[start:end] for start, end in split_spans(text)]


@settings(deadline=None, max_examples=300)
@given(st.lists(MARKS, max_size=300).map("".join) | st.text(max_size=400))
def test_every_mark_lies_in_exactly_one_span(text):
    last = 0
    for start, end in split_spans(text):
        assert last <= start < end <= start + MAX_CHARS
        assert not text[last:start].strip()
        assert text[start:end] == text[start:end].strip()
        last = end
    assert not text[last:].strip()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" \n\t ", []),
        ("One sentence. Another one! A third?", ["One sentence.", "Another one!", "A third?"]),
        ("Dr. Smith paid 3.50 e.g. for tea. Then he left.", ["Dr. Smith paid 3.50 e.g. for tea.", "Then he left."]),
        ('"Really?" he asked. "Yes, of course."', ['"Really?" he asked.', '"Yes, of course."']),
        ("A line that was wrapped hard at the column's very edge\nand goes on.", None),
        ("A title\n\nA paragraph.", ["A title", "A paragraph."]),
        ("1. Wash the rice.\n2. Boil the water.", ["1. Wash the rice.", "2. Boil the water."]),
        (
            "```python\nif a > b:\n    a = b\n```\nDone. All is well.",
            ["```python\nif a > b:\n    a = b\n```", "Done. All is well."],
        ),
        ("これは文です。もう一つの文がここにあります。", ["これは文です。もう一つの文がここにあります。"]),
    ],
)
def test_spans_are_sentences(text, expected):
    assert pieces(text) == ([text] if expected is None else expected)


def test_a_long_word_is_cut_hard_and_a_long_sentence_at_white_space():
    assert [len(p) for p in pieces("a" * 2500)] == [1000, 1000, 500]
    assert all(piece.endswith("word") for piece in pieces("word " * 1000))


@pytest.mark.parametrize("unit", [".", "a", " ", "hi. ", ".)", "\n", ") . "])
def test_ten_megabytes_of_anything_are_covered(unit):
    text = unit * (10_000_000 // len(unit))  # a splitter that is not linear would not come back
    spans = split_spans(text)
    assert sum(len(text[start:end].split()) for start, end in spans) >= len(text.split())
    assert all(end - start <= MAX_CHARS for start, end in spans)
