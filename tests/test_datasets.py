"""The bundled data is what its page says."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import polars as pl
import pytest

FOLDER = Path(__file__).parents[1] / "datasets" / "habits"
CROSSED = FOLDER.parent / "crossed"
TOPICS = ("astronomy", "cooking", "football", "money")
STYLES = ("poem", "dialogue", "news", "diary")


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


@pytest.fixture(scope="module")
def crossed():
    return pl.concat([pl.read_ndjson(CROSSED / name) for name in ("texts.jsonl", "texts_fr_de.jsonl")])


def test_the_crossed_page_holds_the_files_hashes_and_rows():
    page = (CROSSED / "README.md").read_text(encoding="utf-8")
    said = re.findall(r"\| `(\S+)` \| (\d+) \| `([0-9a-f]{64})` \|", page)
    assert [name for name, _, _ in said] == ["texts.jsonl", "texts_fr_de.jsonl"]
    for name, rows, digest in said:
        assert hashlib.sha256((CROSSED / name).read_bytes()).hexdigest() == digest, f"{name} has changed"
        assert pl.read_ndjson(CROSSED / name).height == int(rows)


def test_every_topic_comes_in_every_style_equally_often(crossed):
    cells = crossed.group_by("language", "topic", "style").len()
    assert {tuple(cell[:3]): cell[3] for cell in cells.iter_rows()} == {
        (language, topic, style): count
        for language, count in (("en", 14), ("fr", 4), ("de", 4))
        for topic in TOPICS
        for style in STYLES
    }
    assert crossed["id"].n_unique() == crossed.height
    for name, topic, style, language in crossed.select("id", "topic", "style", "language").iter_rows():
        assert re.fullmatch(rf"{topic}-{style}-{language}-\d\d", name)


def test_english_themes_come_once_in_every_style(crossed):
    themes = crossed.filter(language="en").group_by("topic", "theme").agg(pl.col("style").sort())
    assert themes.height == len(TOPICS) * 14
    assert all(styles == sorted(STYLES) for styles in themes["style"].to_list())


def test_crossed_texts_are_as_long_as_the_page_says(crossed):
    page = (CROSSED / "README.md").read_text(encoding="utf-8")
    counted = crossed.with_columns(words=pl.col("text").map_elements(lambda text: len(text.split()), pl.Int64))
    for style in STYLES:
        row = next(line for line in page.splitlines() if line.startswith(f"| `{style}` |"))
        for language, said in zip(("en", "fr", "de"), row.split("|")[3:6], strict=True):
            words = counted.filter(language=language, style=style)["words"]
            assert said.strip() == f"{words.min()} to {words.max()}, mean {round(words.mean())}"
    assert counted.filter(language="en")["words"].is_between(50, 130).all()
    lines = crossed.filter(style="poem")["text"].str.split("\n").list.len()
    assert lines.is_between(6, 14).all()


def test_no_crossed_text_names_its_style_or_repeats_another(crossed):
    seen: dict[tuple[str, ...], str] = {}
    for name, text in crossed.select("id", "text").iter_rows():
        words = re.findall(r"[^\W_]+(?:['’][^\W_]+)*", text.casefold())
        if "-en-" in name:
            assert not {"poem", "poems", "verse", "dialogue", "news", "newspaper", "diary"} & set(words), name
        for at in range(len(words) - 5):
            owner = seen.setdefault(tuple(words[at : at + 6]), name)
            assert owner == name, f"six words of {owner} stand again in {name}"
