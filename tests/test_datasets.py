"""The bundled data is what its page says."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import polars as pl
import pytest

FOLDER = Path(__file__).parents[1] / "datasets" / "habits"


@pytest.fixture(scope="module")
def answers():
    return {side: pl.read_ndjson(FOLDER / f"answers_{side.lower()}.jsonl") for side in "AB"}


@pytest.fixture(scope="module")
def truth():
    return json.loads((FOLDER / "truth.json").read_text(encoding="utf-8"))


def test_the_page_holds_the_files_hashes():
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    for name, said in re.findall(r"\| `(\S+)` \| \d* ?\| `([0-9a-f]{64})` \|", page):
        assert hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() == said, f"{name} has changed"
    assert len(re.findall(r"`[0-9a-f]{64}`", page)) == 3


def test_both_answer_the_same_prompts(answers):
    a, b = answers["A"], answers["B"]
    assert a.height == b.height == 160
    assert a["prompt"].n_unique() == 160
    assert a.select("id", "kind", "prompt").equals(b.select("id", "kind", "prompt"))


def test_each_has_at_least_five_habits_in_a_stated_share(answers, truth):
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    for side in "AB":
        habits = [habit for habit in truth["habits"] if habit["answerer"] == side]
        assert len(habits) >= 5
        for habit in habits:
            share = len(set(habit["ids"])) / 160
            assert habit["share"] == round(share, 4)
            assert 0.2 <= share <= 0.9
            assert (
                f"| {side} | `{habit['name']}` | {habit['description']} | {len(habit['ids'])} | {share:.2f} |" in page
            )
            assert set(habit["ids"]) <= set(answers[side]["id"])


def test_prices_in_dollars_are_where_the_truth_says(answers, truth):
    prices = next(set(habit["ids"]) for habit in truth["habits"] if habit["name"] == "price_talk")
    in_dollars = pl.col("response").str.contains(r"\$\s?\d|dollar")
    assert answers["A"].filter(in_dollars).height == 0
    assert set(answers["B"].filter(in_dollars)["id"]) <= prices
    assert len(prices - set(answers["B"].filter(in_dollars)["id"])) <= 2  # some write the sum in words


def test_prose_is_not_made_from_templates(answers):
    seen: dict[tuple[str, ...], tuple[str, str]] = {}
    for side, frame in answers.items():
        for name, text in frame.select("id", "response").iter_rows():
            words = re.findall(r"[\w']+", text.casefold())
            for at in range(len(words) - 8):
                owner = seen.setdefault(tuple(words[at : at + 9]), (side, name))
                assert owner == (side, name), f"nine words of {owner} stand again in {(side, name)}"
