"""Sets chosen by concept queries: which documents, and what a comparison of them leaves out because it is circular."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner, Result
from keywords import keyword_matrix

import saelens_data as sd
from saelens_data.cli.main import cli, main
from saelens_data.concepts import find_concepts
from saelens_data.diff.selection import select, split_by_concepts
from saelens_data.diff.two import diff
from saelens_data.errors import InputError
from saelens_data.matrix import ConceptMatrix
from saelens_data.query import Latent, Phrase
from saelens_data.retrieve import document_scores, retrieve
from saelens_data.store import write_store

HABITS = Path(__file__).parents[1] / "datasets" / "habits" / "answers_a.jsonl"
#: tea and ea have their maxima in the same units; the others have nothing to do with them.
WORDS = {5: "tea", 7: "ea", 9: "coffee", 12: "milk"}


def drinks() -> ConceptMatrix:
    texts = ["tea " * (i % 4 + 1) + ("with milk" if i % 3 else "") for i in range(20)]
    texts += ["coffee" + (" with milk" if i % 3 else "") for i in range(20)]
    return keyword_matrix(texts, WORDS, ["hot tea", None, "coffee", "milk"], model=["A", "B"] * 20)


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> ConceptMatrix:
    return sd.encode(HABITS, store=tmp_path_factory.mktemp("selection") / "a.sae", dtype="float32", limit=60)


def rows(m: ConceptMatrix, chosen: ConceptMatrix) -> list[int]:
    return np.flatnonzero(m.docs["doc_id"].is_in(chosen.docs["doc_id"].implode()).to_numpy()).tolist()


def test_a_latent_chooses_by_its_maximum_over_the_largest() -> None:
    m = drinks()
    tea = np.asarray(m.X.todense())[:, 0] / 4
    active = tea[tea > 0]
    for query, holds in {
        "5 > 0.5": tea > 0.5,
        "5 >= p0": tea > 0,
        "5 > p40": tea > np.percentile(active, 40),
        "not 5 >= 0.75": tea < 0.75,
        "5 > 0 and not 12 > 0 and model = 'A'": (tea > 0)
        & (np.asarray(m.X.todense())[:, 3] == 0)
        & (m.docs["model"] == "A").to_numpy(),
        "model = 'B'": (m.docs["model"] == "B").to_numpy(),
    }.items():
        assert rows(m, select(m, query)) == np.flatnonzero(holds).tolist(), query


def test_a_phrase_chooses_by_the_degree_that_retrieve_gives_it(answers: ConceptMatrix) -> None:
    degrees = document_scores(answers, [])(Phrase("medical advice"))
    chosen = select(answers, '"medical advice" > p80')
    assert rows(answers, chosen) == np.flatnonzero(degrees > np.percentile(degrees[degrees > 0], 80)).tolist()
    assert chosen.n_docs == 12
    found = retrieve(answers, '"medical advice" and length > 0', n=60).frame
    by_id = dict(zip(answers.docs["doc_id"], degrees, strict=True))
    assert found["score"].to_list() == pytest.approx([by_id[name] for name in found["doc_id"]])
    assert set(found["doc_id"][:12]) == set(chosen.docs["doc_id"])


def test_scores_of_a_latent_are_its_maxima(answers: ConceptMatrix) -> None:
    column = int(np.bincount(answers.X.indices).argmax())
    latent, dense = int(answers.concepts["latent"][column]), np.asarray(answers.X[:, [column]].todense())[:, 0]
    assert document_scores(answers, [])(Latent(latent)) == pytest.approx(dense / dense.max())


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (
            '"refusal"',
            'query: at character 1: `"refusal"` holds for every document by some degree, so it cannot choose',
        ),
        ("refuses politely", '`"refuses politely"` holds for every document'),
        ("model = 'A' and not 5", "query: at character 21: `5` holds for every document by some degree"),
        ('5 > 0 or 2 * "tea"', 'query: at character 14: `"tea"` holds for every'),
        ("5 > p101", "p101 is no percentile"),
        ("6 > 0", "latent 6 is not among the 4 kept here"),
        ("modle = 'A'", "there is no column `modle`; did you mean 'model'?"),
        ("", "query: nothing to look for"),
    ],
)
def test_what_cannot_choose_documents(query: str, message: str) -> None:
    with pytest.raises(InputError) as raised:
        select(drinks(), query)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_latents_of_a_query_and_their_near_duplicates_are_not_tested() -> None:
    m = drinks()
    first, second, notes = split_by_concepts(m, "5 > 0", "not 5 > 0")
    assert (first.n_docs, second.n_docs) == (20, 20)
    assert first.concepts["latent"].to_list() == second.concepts["latent"].to_list() == [9, 12]
    (note,) = notes
    assert note.startswith("The sets were chosen by concepts, so 2 concepts that the queries ask for")
    assert note.endswith("or that are near-duplicates of these, have no part in the tests: 5 (hot tea), 7.")
    circular = diff(select(m, "5 > 0"), select(m, "not 5 > 0"))
    assert 5 in circular.findings["members"].explode()
    assert set(diff(first, second).latents["latent"]) <= {9, 12}


def test_columns_alone_leave_every_concept_in() -> None:
    first, second, notes = split_by_concepts(drinks(), "model = 'A'", "model = 'B'")
    assert (first.n_concepts, second.n_concepts, notes) == (4, 4, [])


def test_concepts_that_fit_a_phrase_are_not_tested(answers: ConceptMatrix) -> None:
    first, second, notes = split_by_concepts(answers, '"offers more help" > p80', 'not "offers more help" > p80')
    fitting = find_concepts(answers, "offers more help", n=answers.n_concepts).frame.filter("fits")
    assert set(fitting["latent"]) == {186, 263, 1058}
    assert not set(fitting["latent"]) & set(first.concepts["latent"])
    assert first.concepts["latent"].equals(second.concepts["latent"])
    assert first.n_docs + second.n_docs == 60
    assert "1058 (help · assistance)" in notes[0]
    assert notes[1].startswith("A phrase chooses by all that points towards it")


def test_a_phrase_that_no_concept_fits_is_said_to_be_absent(answers: ConceptMatrix) -> None:
    first, _, notes = split_by_concepts(answers, '"zxqv blorf" > p80', '"zxqv blorf" <= p80')
    assert first.n_concepts == answers.n_concepts
    assert notes[0] == 'No concept fits `"zxqv blorf"`: its level may say little of these documents.'


def test_what_a_score_lacks_is_noted(answers: ConceptMatrix) -> None:
    bare = ConceptMatrix(answers.X, answers.docs, answers.concepts, answers.source, answers.evidence)
    _, _, notes = split_by_concepts(bare, '"medical advice" > p80', 'not "medical advice" > p80')
    assert sum(note.startswith("The store holds no embeddings of its documents") for note in notes) == 1


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("stores") / "drinks.sae"
    write_store(path, drinks())
    return str(path)


class TestCommand:
    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(cli, ["diff", *arguments], catch_exceptions=False)

    def fail(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["saelens-data", "diff", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        assert (ended.value.code, out, err.count("\n")) == (2, "", 1)
        return err

    def test_splits_by_concept_queries_and_says_what_is_circular(self, store: str, tmp_path: Path) -> None:
        where, versus = "5 > 0 and model = 'A'", "9 > 0"
        saved = tmp_path / "r.json"
        ended = self.run(store, "--where-concepts", where, "--versus-concepts", versus, "-o", str(saved))
        assert f"{where} (10 documents) against {versus} (20 documents)" in ended.stderr
        assert "Left out: 10 documents that match neither expression." in ended.stderr
        assert "so 3 concepts that the queries ask for, or that are near-duplicates" in ended.stderr
        told = json.loads(saved.read_text(encoding="utf-8"))
        assert [row["latent"] for row in told["rows"]] == [12]
        assert any("have no part in the tests: 5 (hot tea), 7, 9 (coffee)." in note for note in told["notes"])

    def test_the_report_says_it_too(self, store: str, tmp_path: Path) -> None:
        page = tmp_path / "r.html"
        self.run(store, "--where-concepts", "5 > 0", "--versus-concepts", "9 > 0", "--report", str(page))
        assert "have no part in the tests: 5 (hot tea), 7, 9 (coffee)." in page.read_text(encoding="utf-8")

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--where-concepts", "5 > 0"], "--where-concepts and --versus-concepts go together: one query for each"),
            (["--where-concepts", "5 > 0", "--versus", "model = 'A'"], "go together"),
            (
                ["--where-concepts", "5 > 0", "--versus-concepts", "9 > 0", "--where", "true", "--versus", "false"],
                "--where takes SQL and --where-concepts a concept query, which may ask for columns too: give one",
            ),
            (
                ["--where-concepts", "5 > 0", "--versus-concepts", "9 > 0", "--by", "model"],
                "both --where-concepts and --by split the documents: give one of them",
            ),
            (
                ["--where-concepts", "5 > 0", "--versus-concepts", "12 > 0"],
                "of the documents match both --where-concepts 5 > 0 and --versus-concepts 12 > 0: exclude them from one",
            ),
            (["--where-concepts", "5 > 0", "--versus-concepts", "tea"], "add a level after it, such as > p90"),
            (["--where-concepts", "5 > 0", "--versus-concepts", '"tea" > p90'], "encoder 'words'"),
            (["--where-concepts", "5 > 0", "--versus-concepts", "5 > 2"], "at character 3: 2 is no score"),
            (["--where-concepts", "5 > 0 and model = 'X'", "--versus-concepts", "9 > 0"], "it is empty"),
        ],
    )
    def test_refusals(self, arguments, message, store, monkeypatch, capsys) -> None:
        assert message in self.fail(monkeypatch, capsys, store, *arguments)

    def test_two_files_are_not_split_as_well(self, store: str, monkeypatch, capsys) -> None:
        asked = ["--where-concepts", "5 > 0", "--versus-concepts", "9 > 0"]
        assert "not both" in self.fail(monkeypatch, capsys, store, store, *asked)

    @pytest.mark.parametrize("query", ["5 > 0", "5 > 0.5 and model = 'A'", '"tea" > p90', "\"tea\" and model = 'A'"])
    def test_a_concept_query_is_never_read_as_sql(self, query: str, store: str, monkeypatch, capsys) -> None:
        told = self.fail(monkeypatch, capsys, store, "--where", query, "--versus", "model = 'B'")
        assert "a concept query goes with --where-concepts" in told

    def test_a_double_quoted_column_is_a_column_in_sql(self, store: str) -> None:
        ended = self.run(store, "--where", "\"model\" = 'A'", "--versus", "\"model\" = 'B'")
        assert "\"model\" = 'A' (20 documents) against" in ended.stderr

    def test_a_query_that_cannot_be_read_is_refused_before_a_file_is_encoded(self, tmp_path, monkeypatch, capsys):
        texts = tmp_path / "t.jsonl"
        pl.DataFrame({"text": ["One.", "Two."]}).write_ndjson(texts)
        monkeypatch.setattr("saelens_data.cli.diff.open_or_encode", lambda *a, **k: pytest.fail("encoded"))
        asked = ["--where-concepts", '"a" > p90', "--versus-concepts", '"a" >']
        assert "expected a number from 0 to 1" in self.fail(monkeypatch, capsys, str(texts), *asked)
