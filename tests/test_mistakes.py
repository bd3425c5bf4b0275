"""What people get wrong in their first minutes: one sentence that says what to do, status 2, before anything is encoded or written."""

from __future__ import annotations

import sys
from importlib import import_module

import pytest
from planted import planted

import saelens_data as sd
from saelens_data.cli.main import main
from saelens_data.errors import InputError
from saelens_data.matrix.filters import mask_of


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the files that people have; whatever begins to encode one fails."""
    (tmp_path / "texts.csv").write_text("text,kind,score\nabc def,1,nan\nabd def,2,3\n")
    (tmp_path / "more.csv").write_text("text,kind,score\nfirst one,1,2\nsecond one,2,3\n")
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "notes.txt").write_text("no store")
    data = tmp_path / "data"
    data.mkdir()
    (data / "README.md").write_text("# Our data")
    (data / "a.jsonl").write_text('{"text": "abc"}\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SAELENS_DATA_CACHE", str(tmp_path / "cache"))

    def never(*_: object, **__: object) -> None:
        pytest.fail("began to encode")

    monkeypatch.setattr(import_module("saelens_data.encode"), "encode", never)
    return tmp_path


def refused(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *argv: str) -> str:
    """The sentence with which a command ends."""
    monkeypatch.setattr(sys, "argv", ["saelens-data", *argv])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    assert ended.value.code == 2
    assert said.out == ""
    return said.err.splitlines()[-1].removeprefix("Error: ")


AVAILABLE = "available: doc_id, text, kind, score, n_units, n_tokens, error"
EMPTY = "'empty.jsonl' holds no documents: give a file with texts in it"
MISTAKES = {
    ("dif", "texts.csv", "more.csv"): "no command 'dif': did you mean 'diff'? available: ",
    ("diff", "text.csv", "more.csv"): "there is no file or folder 'text.csv'; did you mean 'texts.csv'? available: ",
    ("diff", "texts.csv"): "diff compares two sets: name a second store or file, or split the one with ",
    ("diff", "texts.csv", "empty.jsonl"): EMPTY,
    ("diff", "data", "more.csv"): "the folder 'data' holds files of texts and a README: give one file, such as 'data/a.jsonl'",
    ("diff", "texts.csv", "more.csv", "--pair-on", "kinds"): f"there is no column 'kinds' in 'texts.csv'; did you mean 'kind'? {AVAILABLE}",
    ("diff", "texts.csv", "more.csv", "--cluster-on", "kin"): f"there is no column 'kin' in 'texts.csv'; did you mean 'kind'? {AVAILABLE}",
    ("diff", "texts.csv", "more.csv", "--adjust", "scor"): f"there is no column 'scor' in 'texts.csv'; did you mean 'score'? {AVAILABLE}",
    ("diff", "texts.csv", "--by", "model"): f"there is no column 'model' in 'texts.csv'; {AVAILABLE}",
    ("diff", "texts.csv", "more.csv", "-n", "-1"): "Invalid value for '-n' / '--rows': -1 is not in the range x>=0",
    ("diff", "texts.csv", "more.csv", "--report", "no/page.html"): "cannot write 'no/page.html': there is no folder 'no'; create it first",
    ("diff", "texts.csv", "more.csv", "--encoder", "minilm8k"): "no encoder 'minilm8k': give a name that `saelens-data encoders` lists (did you mean 'minilm-8k'?",
    ("encode", "empty.jsonl", "-o", "empty.sae"): EMPTY,
    ("encode", "notes.txt", "-o"): "Option '-o' requires an argument",
    ("encode", "texts.csv", "--text", "txt"): "there is no column 'txt' in 'texts' (text); did you mean 'text'? available: text, kind, score",
    ("correlate", "texts.csv", "--with", "scores"): f"there is no column 'scores' in 'texts.csv'; did you mean 'score'? {AVAILABLE}",
    ("correlate", "texts.csv", "--between", "prompt", "response"): "'texts' has no field 'prompt' (its documents are plain texts, of 'text' layout): available: ",
    ("cluster", "texts.csv"): "how many clusters? Give -k with a number, or -k auto to have it chosen by stability",
    ("cluster", "texts.csv", "-k", "2", "--truth", "knd"): f"there is no column 'knd' in 'texts.csv'; did you mean 'kind'? {AVAILABLE}",
    ("cluster", "empty.jsonl", "-k", "2"): EMPTY,
    ("cluster", "texts.csv", "-k", "2", "--save", "clusters.pkl"): "cannot write 'clusters.pkl': its name must end in .safetensors",
    ("retrieve", "tea and coffee", "texts.csv"): 'the file comes first, then the words: saelens-data retrieve texts.csv "tea and coffee"',
    ("retrieve", "empty.jsonl", "tea"): EMPTY,
    ("concepts", "tea", "texts.csv"): 'the file comes first, then the words: saelens-data concepts texts.csv "tea"',
    ("concepts", "texts.csv", " "): "the phrase is empty: say in words what to look for",
    ("examples", "texts.csv", "tea"): "Invalid value for 'LATENT': 'tea' is no latent: saelens-data concepts STORE \"PHRASE\" finds one",
    ("concept", "texts.csv", "1,5"): "Invalid value for 'LATENT': '1,5' is no latent: ",
    ("info", "texts.csv"): "texts.csv is a file, not a store: if it holds texts, make a store of them with saelens-data encode texts.csv",
    ("train", "texts.csv"): "Missing option '-o' / '--output'",
    ("train", "empty.jsonl", "-o", "encoder"): "there is no text to train on in empty.jsonl: give other sources",
}  # fmt: skip


@pytest.mark.parametrize("argv", MISTAKES, ids=" ".join)
def test_a_mistake_is_one_sentence_and_leaves_nothing_behind(argv, folder, capsys, monkeypatch):
    before = {path for path in folder.rglob("*") if "cache" not in path.parts}
    assert refused(capsys, monkeypatch, *argv).startswith(MISTAKES[argv])
    assert {path for path in folder.rglob("*") if "cache" not in path.parts} == before


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("kind = ", "it is no whole expression of SQL, such as model = 'A'; columns: "),
        ('kind = "tea"', "there is no column 'tea'; available: "),
        ('kind = "tea"', "; a value stands in single quotes, 'tea'"),
    ],
)
def test_a_condition_that_is_no_condition_says_how_to_write_one(where, said):
    m = planted(0)
    with pytest.raises(InputError) as refusal:
        mask_of(m.docs.with_columns(kind=m.docs["doc_id"]), where)
    assert str(refusal.value).startswith(f"cannot evaluate {where}: ")
    assert said in str(refusal.value)


def test_nothing_asked_for_says_how_to_ask():
    with pytest.raises(InputError, match=r"nothing is asked for: give words, or documents .* \(--like\)"):
        sd.retrieve(planted(0), None)


def test_a_latent_is_read_as_tables_show_it():
    from saelens_data.cli.options import LATENT

    assert [LATENT.convert(value, None, None) for value in ("1,409", "1409", "7", 12)] == [1409, 1409, 7, 12]


def test_where_each_document_is_a_cluster_no_silhouette_is_said():
    said = sd.cluster(planted(0).take_docs([0, 1]), k=2).quality_in_words()
    assert not any("nan" in line or "Silhouette" in line for line in said)
    assert any("Silhouette" in line for line in sd.cluster(planted(0), k=4).quality_in_words())
