"""Well-known public sets in their published layouts: small made rows with the columns and types of the real ones."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import saelens_data as sd

WHEN = "2023-04-25 01:02:03"
MODERATION = [{"categories": {"hate": False}, "category_scores": {"hate": 0.1}, "flagged": False}]


def chat(*said: str, **more: Any) -> list[dict[str, Any]]:
    return [{"content": text, "role": ("user", "assistant")[i % 2], **more} for i, text in enumerate(said)]


#: Set -> (two rows as published, layout, ids, texts, prompts, columns that must stay).
PUBLISHED: dict[str, tuple[list[dict[str, Any]], str, list[str], list[str], list[str] | None, list[str]]] = {
    "AlpacaEval outputs": (
        [
            {"dataset": "koala", "instruction": q, "output": a, "generator": "gpt4", "datasplit": "eval"}
            for q, a in (("Q1", "A1"), ("Q2", "A2"))
        ],
        "alpaca-eval",
        ["000001", "000002"],
        ["A1", "A2"],
        ["Q1", "Q2"],
        ["dataset", "generator", "datasplit"],
    ),
    "AlpacaEval annotations": (
        [
            {
                "instruction": q,
                "output_1": f"{q} one",
                "generator_1": "x",
                "output_2": f"{q} two",
                "generator_2": "y",
                "preference": 1.5,
            }
            for q in ("Q1", "Q2")
        ],
        "alpaca-eval-pairs",
        ["000001", "000002"],
        ["Q1 one", "Q2 one"],
        ["Q1", "Q2"],
        ["generator_1", "output_2", "generator_2", "preference"],
    ),
    "arena-hard v0.1 answers": (
        [
            {
                "question_id": q,
                "answer_id": f"a-{q}",
                "model_id": "m",
                "choices": [{"index": 0, "turns": [{"content": f"Answer to {q}", "token_len": 3}]}],
                "tstamp": 1713.5,
            }
            for q in ("q1", "q2")
        ],
        "choices",
        ["q1", "q2"],
        ["Answer to q1", "Answer to q2"],
        None,
        ["answer_id", "model_id", "tstamp"],
    ),
    "arena-hard v2 answers": (
        [
            {
                "uid": u,
                "ans_id": f"a-{u}",
                "model": "m",
                "messages": [
                    {"role": "user", "content": f"Q {u}"},
                    {"role": "assistant", "content": {"answer": f"A {u}"}},
                ],
                "tstamp": 1713.5,
                "metadata": {"token_len": 7, "header_count": {"h1": 0}},
            }
            for u in ("u1", "u2")
        ],
        "arena-hard",
        ["u1", "u2"],
        ["A u1", "A u2"],
        ["Q u1", "Q u2"],
        ["ans_id", "model", "metadata"],
    ),
    "LMSYS-Chat-1M": (
        [
            {
                "conversation_id": c,
                "model": "vicuna-13b",
                "conversation": chat("Hi", f"Hello {c}", "And?", "No more."),
                "turn": 2,
                "language": "English",
                "openai_moderation": MODERATION,
                "redacted": False,
            }
            for c in ("c1", "c2")
        ],
        "lmsys",
        ["c1", "c2"],
        ["Hello c1\n\nNo more.", "Hello c2\n\nNo more."],
        ["Hi\n\nAnd?", "Hi\n\nAnd?"],
        ["model", "turn", "language", "openai_moderation", "redacted"],
    ),
    "LMSYS arena conversations": (
        [
            {
                "question_id": q,
                "model_a": "m",
                "model_b": "n",
                "winner": "tie (bothbad)",
                "judge": "arena_user_1",
                "conversation_a": chat("Q", f"a {q}"),
                "conversation_b": chat("Q", f"b {q}"),
                "turn": 1,
            }
            for q in ("q1", "q2")
        ],
        "arena-pairs",
        ["q1", "q2"],
        ["a q1", "a q2"],
        ["Q", "Q"],
        ["model_a", "model_b", "winner", "conversation_b"],
    ),
    "WildChat-1M": (
        [
            {
                "conversation_hash": h,
                "model": "gpt-4-0314",
                "timestamp": WHEN,
                "conversation": chat(
                    "Q", f"A {h}", country="Peru", hashed_ip="0a", language="English", toxic=False, turn_identifier=1
                ),
                "turn": 1,
                "language": "English",
                "openai_moderation": MODERATION,
                "detoxify_moderation": [{"toxicity": 0.001}],
                "toxic": False,
                "redacted": False,
                "state": "Lima",
                "country": "Peru",
                "hashed_ip": "0a",
                "header": {"accept-language": "es", "user-agent": "x"},
            }
            for h in ("h1", "h2")
        ],
        "lmsys",
        ["h1", "h2"],
        ["A h1", "A h2"],
        ["Q", "Q"],
        ["conversation_hash", "model", "timestamp", "toxic", "country", "header"],
    ),
    "Tulu SFT mixture": (
        [
            {
                "id": f"ai2-adapt-dev/x_{i}",
                "messages": [{"role": "system", "content": "S"}, *chat("Q", f"A{i}")],
                "source": "x",
            }
            for i in (1, 2)
        ],
        "openai",
        ["ai2-adapt-dev/x_1", "ai2-adapt-dev/x_2"],
        ["A1", "A2"],
        ["Q", "Q"],
        ["system", "source"],
    ),
    "CivilComments, hub": (
        [{"text": t, "toxicity": 0.4, "severe_toxicity": 0.0, "obscene": 0.1, "threat": 0.0} for t in ("T1", "T2")],
        "text",
        ["000001", "000002"],
        ["T1", "T2"],
        None,
        ["toxicity", "severe_toxicity", "obscene", "threat"],
    ),
    "CivilComments, competition": (
        [
            {
                "id": n,
                "target": 0.0,
                "comment_text": t,
                "severe_toxicity": 0.0,
                "created_date": "2015-09-29 10:50:41.987077+00",
                "publication_id": 2,
                "rating": "rejected",
            }
            for n, t in ((59848, "So cool."), (59849, "Thank you!"))
        ],
        "text",
        ["59848", "59849"],
        ["So cool.", "Thank you!"],
        None,
        ["target", "created_date", "rating"],
    ),
}


def written(folder: Path, rows: list[dict[str, Any]], form: str) -> Path:
    path = folder / f"rows.{form}"
    if form == "parquet":
        pl.DataFrame(rows).write_parquet(path)
    elif form == "json":
        path.write_text(json.dumps(rows))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


#: Words that are a string here and an object there fit no Parquet file, and none is published.
CASES = [
    (n, f) for n in PUBLISHED for f in ("jsonl", "json", "parquet") if (n, f) != ("arena-hard v2 answers", "parquet")
]


@pytest.mark.parametrize(("name", "form"), CASES)
def test_published_rows_are_read_as_they_are(tmp_path, name, form):
    rows, layout, ids, texts, prompts, stay = PUBLISHED[name]
    corpus = sd.read_corpus(written(tmp_path, rows, form))
    assert corpus.schema == layout
    assert corpus.docs["doc_id"].to_list() == ids
    assert corpus.docs["text"].to_list() == texts
    assert (corpus.docs["prompt"].to_list() if prompts else None) == prompts
    for column in stay:
        want = "S" if column == "system" else rows[0][column]
        found = corpus.docs[column][0]
        assert (found.to_list() if isinstance(found, pl.Series) else found) == want, column


def test_civil_comments_as_csv(tmp_path):
    rows = PUBLISHED["CivilComments, competition"][0]
    pl.DataFrame(rows).write_csv(tmp_path / "train.csv")
    corpus = sd.read_corpus(tmp_path / "train.csv")
    assert corpus.docs.select("doc_id", "text").rows() == [("59848", "So cool."), ("59849", "Thank you!")]


@pytest.mark.parametrize(
    ("name", "text", "first"),
    [("LMSYS arena conversations", "conversation_b", "b q1"), ("AlpacaEval annotations", "output_2", "Q1 two")],
)
def test_of_two_answers_the_other_is_read_by_its_name(tmp_path, name, text, first):
    path = written(tmp_path, PUBLISHED[name][0], "jsonl")
    assert any(f"two answers, of which '{text[:-1]}" in note and f"--text {text} " in note for note in notes_of(path))
    other = sd.read_corpus(path, text=text)
    assert (other.docs["text"][0], other.docs["prompt"][0]) == (first, "Q" if "conversation" in text else "Q1")
    assert not any("two answers" in note for note in other.notes)


def notes_of(path: Path) -> tuple[str, ...]:
    return sd.read_corpus(path).notes


def test_a_timestamp_is_no_text(tmp_path):
    """WildChat's files hold real timestamps, which must stay what they are."""
    rows = [row | {"timestamp": datetime(2023, 4, 25, tzinfo=UTC)} for row in PUBLISHED["WildChat-1M"][0]]
    corpus = sd.read_corpus(written(tmp_path, rows, "parquet"))
    assert corpus.docs["text"].to_list() == ["A h1", "A h2"]
    assert corpus.docs["timestamp"][0] == datetime(2023, 4, 25, tzinfo=UTC)
