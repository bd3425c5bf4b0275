"""What `retrieve` writes to files and pages, and several queries at once."""

from __future__ import annotations

import csv
import io
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner, Result
from keywords import keyword_matrix
from pages import Page

import saelens_data as sd
from saelens_data.cli.main import cli
from saelens_data.errors import InputError
from saelens_data.matrix import ConceptMatrix
from saelens_data.retrieve import RetrieveResult, ranking, retrieve, retrieve_many

TEXTS = [
    "The cat slept on the warm windowsill all afternoon.",
    "My kitten chases every ball of wool it sees.",
    "The bank raised its interest rates once more.",
    "Investors sold their shares after the weak quarterly report.",
    "Heavy rain flooded the streets of the town. A cat watched.",
    "The forecast promises sunshine and a light breeze.",
    "The striker scored twice in the final minutes.",
    "Our goalkeeper saved a penalty, and it rained.",
]
QUERIES = [
    "pets",
    '"finance" and not "weather"',
    "cats and dogs",
    'topic = \'even\' and "heavy rain" or "pets"',
    "pets",
    "cat " * 9_000,
    "the goalkeeper",
    "topic = 'odd'",
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("retrieve") / "m.sae"
    topics = ["odd" if i % 2 else "even" for i in range(len(TEXTS))]
    frame = pl.DataFrame({"doc_id": [f"d{i}" for i in range(len(TEXTS))], "topic": topics, "text": TEXTS})
    asked = pl.format("Tell me of {}.", "doc_id").alias("prompt")
    sd.encode(frame.with_columns(asked), store=path, text="text", dtype="float32")
    return path


@pytest.fixture(scope="module")
def m(store: Path) -> ConceptMatrix:
    return sd.open(store)


def run(store: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["retrieve", str(store), *arguments])


# Files


def test_csv_holds_concepts_and_evidence_as_json_in_a_cell(store: Path, m: ConceptMatrix) -> None:
    ended = run(store, "pets", "-n", "3", "-f", "csv")
    assert ended.exit_code == 0, ended.output
    rows = list(csv.DictReader(io.StringIO(ended.stdout)))
    want = retrieve(m, "pets", n=3).frame.rows(named=True)
    assert [list(row) for row in rows] == [["rank", "doc_id", "score", "text", "concepts", "evidence"]] * 3
    for row, wanted in zip(rows, want, strict=True):
        assert json.loads(row["concepts"]) == wanted["concepts"]
        assert json.loads(row["evidence"]) == wanted["evidence"]
        assert (int(row["rank"]), row["doc_id"], row["text"]) == (wanted["rank"], wanted["doc_id"], wanted["text"])
        assert float(row["score"]) == wanted["score"]


def test_files_hold_what_the_result_holds(store: Path, m: ConceptMatrix, tmp_path: Path) -> None:
    want = retrieve(m, "heavy rain", n=4)
    for suffix in ("csv", "jsonl", "parquet", "json"):
        ended = run(store, "heavy rain", "-n", "4", "-o", str(tmp_path / f"r.{suffix}"))
        assert ended.exit_code == 0, ended.output
    assert pl.read_parquet(tmp_path / "r.parquet").equals(want.frame)
    lines = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text(encoding="utf-8").splitlines()]
    assert lines == want.frame.rows(named=True)
    assert json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))["rows"] == lines
    read = pl.read_csv(tmp_path / "r.csv", schema_overrides={"doc_id": pl.String})
    assert [json.loads(cell) for cell in read["concepts"]] == want.frame["concepts"].to_list()
    assert [json.loads(cell) for cell in read["evidence"]] == want.frame["evidence"].to_list()


def test_json_in_a_cell_is_compact_and_keeps_what_csv_has_to_quote(tmp_path: Path) -> None:
    frame = pl.DataFrame({"spans": [[{"start": 1, "label": 'a "b",\n é 🙂', "value": float("nan")}], [], None]})
    saved = sd.Result(frame).save(tmp_path / "r.csv").read_bytes().decode()
    (head, *cells) = list(csv.reader(io.StringIO(saved, newline="")))
    assert head == ["spans"]
    assert cells[0] == ['[{"start":1,"label":"a \\"b\\",\\n é 🙂","value":null}]']
    assert cells[1] == ["[]"]


# The page


def test_the_report_is_the_result_on_a_page(store: Path, m: ConceptMatrix, tmp_path: Path) -> None:
    target = tmp_path / "r.html"
    ended = run(store, "pets", "-n", "3", "-f", "jsonl", "--report", str(target))
    assert ended.exit_code == 0, ended.output
    assert ended.stderr.splitlines()[-1] == f"wrote {target}"
    assert len(ended.stdout.splitlines()) == 3
    page, want = Page(target.read_text(encoding="utf-8")), retrieve(m, "pets", n=3).frame
    assert page.texts("h1") == ['"pets"']
    assert page.texts("span", "label") == want["doc_id"].to_list()
    assert page.texts("p", "prompt") == [f"Asked Tell me of {i}." for i in want["doc_id"]]
    for table, row in zip(page.texts("table", "parts"), want.iter_rows(named=True), strict=True):
        for part in row["concepts"]:
            assert f"{part['share']:+.3f}" in table
        assert table.endswith(f"score {row['score']:.3f}")
    assert {span["text"] for row in want["evidence"] for span in row} == set(page.texts("mark"))


@pytest.mark.parametrize("mode", ["concepts", "dense", "lexical"])
def test_every_mode_has_a_page(store: Path, tmp_path: Path, mode: str) -> None:
    ended = run(store, "the cat", "-n", "2", "--mode", mode, "--report", str(tmp_path / "r.html"))
    assert ended.exit_code == 0, ended.output
    page = Page((tmp_path / "r.html").read_text(encoding="utf-8"))
    assert len(page.texts("article")) == 2
    assert bool(page.texts("mark")) == (mode != "dense")


def test_examples_on_a_page(store: Path, tmp_path: Path) -> None:
    ended = run(store, "--like", "d0", "--unlike", "d4", "-n", "2", "--report", str(tmp_path / "r.html"))
    assert ended.exit_code == 0, ended.output
    assert Page((tmp_path / "r.html").read_text(encoding="utf-8")).texts("h1") == ["like d0 and unlike d4"]


def test_a_page_that_cannot_be_written_is_refused_before_any_work(tmp_path: Path) -> None:
    for name, message in (("r.txt", "must end in .html or .htm"), ("no/r.html", "there is no folder")):
        ended = run(tmp_path / "none.sae", "pets", "--report", str(tmp_path / name))
        assert isinstance(ended.exception, InputError)
        assert message in str(ended.exception)


# Several queries


def same(one: RetrieveResult, other: RetrieveResult) -> None:
    """Equal but for the rounding of a product of matrices."""
    about = [(r.kind, r.query, r.mode, r.n_docs, r.parameters, r.notes, r.prompts) for r in (one, other)]
    assert about[0] == about[1]
    assert one.frame["score"].to_list() == pytest.approx(other.frame["score"].to_list(), abs=1e-5)
    for column in ("rank", "doc_id", "text", "evidence"):
        assert one.frame[column].to_list() == other.frame[column].to_list()
    for a, b in zip(one.frame["concepts"], other.frame["concepts"], strict=True):
        shares = [{(part["latent"], part["label"]): part["share"] for part in parts} for parts in (a, b)]
        assert shares[0] == pytest.approx(shares[1], abs=1e-5)


@pytest.mark.parametrize("feedback", [0, 3])
@pytest.mark.parametrize("mode", ["hybrid", "concepts", "dense", "lexical"])
def test_several_queries_are_answered_as_each_by_itself(m: ConceptMatrix, mode: str, feedback: int) -> None:
    options = {"n": 5, "mode": mode, "feedback": feedback}
    many = retrieve_many(m, QUERIES, **options)
    assert len(many) == len(QUERIES)
    for query, found in zip(QUERIES, many, strict=True):
        same(found, retrieve(m, query, **options))


def test_all_phrases_are_scored_in_one_batch_or_in_blocks_of_queries(
    m: ConceptMatrix, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches, rank = [], ranking.Ranker.rank

    def watched(self: ranking.Ranker, queries: np.ndarray) -> ranking.Ranking:
        batches.append(len(queries))
        return rank(self, queries)

    monkeypatch.setattr(ranking.Ranker, "rank", watched)
    whole = retrieve_many(m, QUERIES, n=5)
    assert batches == [9]
    monkeypatch.setattr(sys.modules["saelens_data.retrieve.run"], "_TOGETHER", 3 * m.n_docs)
    for found, other in zip(retrieve_many(m, QUERIES, n=5), whole, strict=True):
        same(found, other)
    assert batches == [9, 4, 4, 1]


def test_notes_stay_with_their_query(m: ConceptMatrix) -> None:
    found = retrieve_many(replace(m, vectors=None), ["pets", "cat " * 9_000, "cats and dogs"], n=1)
    assert [len(result.notes) for result in found] == [1, 2, 2]
    assert all(any("encode them again" in note for note in result.notes) for result in found)
    assert "9,000 tokens" in found[1].notes[-1]
    assert "one phrase" in found[2].notes[0]
    assert {result.mode for result in found} == {"concepts"}


def test_a_very_large_set_is_scored_whole(m: ConceptMatrix, monkeypatch: pytest.MonkeyPatch) -> None:
    want = retrieve(m, "pets", n=3)
    monkeypatch.setattr(ranking, "EXACT", 3)
    monkeypatch.setattr(ranking, "CANDIDATES", 1)
    (found,) = retrieve_many(m, ["pets"], n=3)
    same(found, want)


def test_queries_of_no_phrase_need_no_encoder(m: ConceptMatrix) -> None:
    lost = replace(m, source=replace(m.source, encoder="gone"))
    latent = int(m.concepts["latent"][int(np.bincount(m.X.indices).argmax())])
    (found,) = retrieve_many(lost, [f"{latent} and topic = 'odd'"])
    assert found.frame.height
    with pytest.raises(sd.SaelensDataError, match="gone"):
        retrieve_many(lost, [str(latent), "pets"])
    assert retrieve_many(m, []) == []


@pytest.mark.parametrize(
    ("queries", "message"),
    [("pets", "'pets' is one text: give a list of queries"), (["pets", " "], "the phrase is empty")],
)
def test_bad_queries_are_refused(m: ConceptMatrix, queries: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        retrieve_many(m, queries)  # type: ignore[arg-type]


def test_prompts_go_with_the_documents_found(m: ConceptMatrix) -> None:
    found = retrieve(m, "pets", n=2)
    assert found.prompts == {i: f"Tell me of {i}." for i in found.frame["doc_id"]}
    assert retrieve(keyword_matrix(["tea"], {5: "tea"}), "tea", mode="lexical").prompts == {}
