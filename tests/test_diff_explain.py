"""`diff --explain`: hypotheses are written from one half of the documents and hold, or not, in the other."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from label_matrices import word, worded_matrix
from llm_server import PRICE, Server, answer_to

import saelens_data as sd
from saelens_data.diff.explain import explain
from saelens_data.errors import InputError
from saelens_data.labels.settings import LabelSettings
from saelens_data.stats import newcombe_paired, newcombe_unpaired

SETTINGS = LabelSettings(price=PRICE, concurrency=2)


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SAELENS_DATA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OPENAI_API_KEY", "sk-0")
    return tmp_path


@pytest.fixture(scope="module")
def parts():
    """Two sets: nearly all documents of latents 0 and 1 in the first, the others dealt out."""
    m = worded_matrix(6, 400, active=90)
    X = m.X.toarray() > 0
    in_a = np.where(X[:, 0] | X[:, 1], np.arange(400) % 8 > 0, np.arange(400) % 3 == 0)
    return m.take_docs(np.flatnonzero(in_a)), m.take_docs(np.flatnonzero(~in_a))


def model(*hypotheses):
    """Answers with these hypotheses, (statement, set, findings), and judges by words."""

    def answer(body):
        if "You explain" in body["messages"][0]["content"]:
            said = [{"statement": s, "set": which, "findings": list(f)} for s, which, f in hypotheses]
            return json.dumps({"hypotheses": said})
        return answer_to(body)

    return answer


def test_what_holds_is_verified_and_what_does_not_is_marked(parts):
    result = sd.diff(*parts, names=("new", "old"))
    assert set(result.findings["latent"]) >= {0, 1}
    hypotheses = ((word(0), "first", [1]), (word(1), "second", [2, 99]), ("nowhere", "first", []))
    with Server(answer=model(*hypotheses)) as server:
        found = explain(result, model="x", base_url=server.url, settings=SETTINGS)
        again = explain(result, model="x", base_url=server.url, settings=SETTINGS)
    frame = found.frame
    assert frame["hypothesis"].to_list() == [word(0), word(1), "nowhere"]
    assert frame["favours"].to_list() == ["new", "old", "new"]
    assert frame["findings"].to_list() == [[1], [2], []]
    # The second is true of the other set more often, the third of neither.
    assert frame["verified"].to_list() == [True, False, False]
    assert frame["difference"][1] > 0.2
    for row in frame.iter_rows(named=True):
        counts = round(row["share_a"] * row["n_a"]), round(row["share_b"] * row["n_b"])
        low, high = newcombe_unpaired(*map(np.array, counts), row["n_a"], row["n_b"], 1 - 0.05 / 3)
        assert (row["low"], row["high"]) == pytest.approx((low, high))
    assert found.calls == len(server.served)
    assert again.calls == 0
    assert again.frame.equals(frame)
    assert found.in_words()[0].startswith(f"1. verified: {word(0)} (more in new: new ")
    assert found.in_words()[1].startswith("2. NOT verified")
    assert found.summary().startswith("3 hypotheses, 1 verified; ")


def test_hypotheses_are_checked_on_documents_that_they_were_not_written_from(parts):
    result = sd.diff(*parts)
    with Server(answer=model((word(0), "first", [1]))) as server:
        explain(result, model="x", base_url=server.url, settings=SETTINGS)
    written = server.served[0].body["messages"][1]["content"]
    numbers = [int(text.split(" is ")[1].split(".")[0]) for text in written.split("<<")[1:]]
    assert len(numbers) >= 8
    checked = "".join(s.body["messages"][1]["content"] for s in server.served[1:])
    assert not [n for n in numbers if f"Plain words number {n}." in checked]
    # The judge is not told of which set a text is.
    assert "A" not in {line.strip() for line in checked.splitlines()}
    texts = [json.dumps(s.body["messages"]) for s in server.served]
    assert max(Counter(texts).values()) == 1


def test_pairs_are_checked_as_pairs():
    m = worded_matrix(4, 120, active=50)
    X = m.X.toarray() > 0
    first = np.flatnonzero(X[:, 0])
    rows_b = np.flatnonzero(~X[:, 0])[: len(first)]
    first = first[: len(rows_b)]
    a, b = (
        part.with_docs(pl.DataFrame({"doc_id": part.docs["doc_id"], "prompt": [f"p{i}" for i in range(part.n_docs)]}))
        for part in (m.take_docs(first), m.take_docs(rows_b))
    )
    result = sd.diff(a, b, pair_on="prompt")
    with Server(answer=model((word(0), "first", [1]), (word(3), "first", [1]))) as server:
        found = explain(result, model="x", base_url=server.url, settings=SETTINGS).frame
    row = found.row(0, named=True)
    assert row["n_a"] == row["n_b"] == 25
    assert (row["share_a"], row["share_b"], row["verified"]) == (1.0, 0.0, True)
    low, high = newcombe_paired(np.array(0), np.array(25), np.array(0), 25, 1 - 0.05 / 2)
    assert (row["low"], row["high"]) == pytest.approx((float(low), float(high)))


def test_limits_hold_and_what_is_not_checked_is_not_verified(parts):
    result = sd.diff(*parts)
    with Server(answer=model((word(0), "first", [1]), (word(1), "first", [1]))) as server:
        found = explain(result, model="x", base_url=server.url, settings=SETTINGS, max_calls=15)
    assert len(server.served) == 15
    assert found.frame["verified"].to_list() == [True, False]
    assert found.frame["difference"].null_count() == 1
    assert found.notes == ("Hypothesis 2 is not checked: the limit of 15 calls is reached.",)
    assert found.in_words()[1].startswith("2. not checked")


def test_a_judge_that_refuses_verifies_nothing(parts):
    def faults(number, body):
        return "refusal" if number else None

    with Server(answer=model((word(0), "first", [1])), faults=faults) as server:
        found = explain(sd.diff(*parts), model="x", base_url=server.url, settings=SETTINGS).frame
    assert found["verified"].to_list() == [False]
    assert found["missing"][0] == 96
    assert found["share_a"][0] is None


def test_without_a_finding_there_is_nothing_to_explain():
    m = worded_matrix(4, 120)
    halves = [m.take_docs(np.sort(part)) for part in np.split(np.random.default_rng(0).permutation(120), 2)]
    with pytest.raises(InputError, match="no finding to explain"):
        explain(sd.diff(*halves), model="x", base_url="http://127.0.0.1:9/v1", settings=SETTINGS)


def test_the_command_explains_and_refuses(parts, alone, monkeypatch, capsys):
    from saelens_data.cli.main import main

    stores = [alone / name for name in ("new.sae", "old.sae")]
    for store, part in zip(stores, parts, strict=True):
        sd.write_store(store, part)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["saelens-data", "diff", *map(str, (*stores, *arguments))])
        try:
            main()
        except SystemExit as ended:
            return int(ended.code or 0), capsys.readouterr()
        return 0, capsys.readouterr()

    with Server(answer=model((word(0), "first", [1]))) as server:
        asked = ("--explain", "--model", "x", "--base-url", server.url, "--price", 2, 8, "--max-cost", 1)
        code, said = run(*asked, "--hypotheses", alone / "h.json", "-f", "csv")
    assert code == 0
    assert "1. verified: " in said.err
    assert json.loads((alone / "h.json").read_text())["rows"][0]["verified"] is True
    for arguments, says in (
        (("--explain",), "name it with --model"),
        (("--max-cost", "1"), "--max-cost is for --explain"),
        (("--explain", "--model", "x", "--hypotheses", "h.txt"), "its name must end in"),
    ):
        code, said = run(*arguments)
        assert code == 2
        assert says in said.err.splitlines()[-1]
