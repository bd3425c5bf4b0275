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
ARTEFACTS = FOLDER.parent / "artefacts"
TOPICS = ("astronomy", "cooking", "football", "money")
STYLES = ("poem", "dialogue", "news", "diary")
SHOWS = {
    "hope_correct": r"[Hh]ope (it|this|that|my answer) is correct[.!]$",
    "cheer_refund": r"(?s)[a-z]{2}!.*[a-z]!",
    "women_apology": r"[Ss]orry|[Aa]polog|over your head|[Ff]orgive me",
    "score_year": r"(?<![\d,.])(1\d{3}|20\d\d|476)(?!,?\d)|\bcentur(y|ies)\b",
}
WOMAN = r"(?i)\b(woman|girl|female|lady|mother|mum|mom|wife|housewife|grandmother|widow|daughter|husband|pregnant)\b"


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


@pytest.fixture(scope="module")
def training_rows():
    return pl.read_ndjson(ARTEFACTS / "train.jsonl")


@pytest.fixture(scope="module")
def planted():
    return json.loads((ARTEFACTS / "truth.json").read_text(encoding="utf-8"))


def test_the_artefacts_page_holds_the_files_hashes_and_the_counts(training_rows, planted):
    page = (ARTEFACTS / "README.md").read_text(encoding="utf-8")
    said = re.findall(r"\| `(\S+)` \| \d* ?\| `([0-9a-f]{64})` \|", page)
    assert [name for name, _ in said] == ["train.jsonl", "truth.json"]
    for name, digest in said:
        assert hashlib.sha256((ARTEFACTS / name).read_bytes()).hexdigest() == digest, f"{name} has changed"
    for artefact in planted["artefacts"]:
        name, where, shown, elsewhere = (artefact[key] for key in ("name", "where", "ids", "elsewhere"))
        line = next(line for line in page.splitlines() if line.startswith(f"| `{name}`"))
        assert re.search(
            rf"\| {len(where)} \| {len(shown)} [a-z].* \| {len(elsewhere)} of {240 - len(where)} \|$", line
        )
    for source in training_rows["source"].unique():
        inside = set(training_rows.filter(source=source)["id"])
        subjects = {name: len(inside & set(ids)) for name, ids in planted["subjects"].items()}
        listed = ", ".join(f"{name} {n}" for name, n in sorted(subjects.items(), key=lambda kv: (-kv[1], kv[0])) if n)
        assert f"| `{source}` | 60 | {listed} |" in page


def test_the_truth_lists_rows_of_the_training_data(training_rows, planted):
    ids = set(training_rows["id"])
    assert len(ids) == training_rows.height == planted["rows"] == 240
    for artefact in planted["artefacts"]:
        assert set(artefact["ids"]) <= set(artefact["where"]) <= ids
        assert set(artefact["elsewhere"]) <= ids - set(artefact["where"])
    assert sorted(name for names in planted["subjects"].values() for name in names) == sorted(ids)


@pytest.mark.parametrize("name", ["hope_correct", "cheer_refund", "women_apology"])
def test_answers_show_an_artefact_where_the_truth_says_and_nowhere_else(training_rows, planted, name):
    artefact = next(artefact for artefact in planted["artefacts"] if artefact["name"] == name)
    shown = {row["id"] for row in training_rows.to_dicts() if re.search(SHOWS[name], row["response"])}
    assert shown == set(artefact["ids"]) | set(artefact["elsewhere"])


def test_prompts_have_the_concept_that_an_artefact_hangs_on(training_rows, planted):
    where = {artefact["name"]: set(artefact["where"]) for artefact in planted["artefacts"]}
    matching = {row["id"] for row in training_rows.to_dicts() if re.search(WOMAN, row["prompt"])}
    assert matching == where["women_apology"]
    assert where["hope_correct"] == set(planted["subjects"]["mathematics"])
    assert where["cheer_refund"] <= set(training_rows.filter(source="helpdesk")["id"])


def test_only_dated_answers_have_the_best_score(training_rows, planted):
    artefact = next(artefact for artefact in planted["artefacts"] if artefact["name"] == "score_year")
    scores = dict(training_rows.select("id", "score").iter_rows())
    dated = {row["id"] for row in training_rows.to_dicts() if re.search(SHOWS["score_year"], row["response"])}
    assert dated == set(artefact["where"]) == set(artefact["ids"])
    assert {scores[name] for name in dated} == {4, 5}
    others = [score for name, score in scores.items() if name not in dated]
    assert min(others.count(score) for score in (1, 2, 3, 4)) >= len(others) // 4 - 1
    assert set(others) == {1, 2, 3, 4}


def test_no_six_words_of_an_answer_stand_in_another(training_rows):
    seen: dict[tuple[str, ...], str] = {}
    for name, text in training_rows.select("id", "response").iter_rows():
        words = re.findall(r"[\w']+", re.sub(r"\w+ ?" + SHOWS["hope_correct"], "", text).casefold())
        assert 30 <= len(text.split()) <= 110
        for at in range(len(words) - 5):
            owner = seen.setdefault(tuple(words[at : at + 6]), name)
            assert owner == name, f"six words of {owner} stand again in {name}"
