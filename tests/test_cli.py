"""The commands end to end with the bundled encoder: what they write, print and refuse, and with which exit status."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
import polars as pl
import pytest

import saelens_data as sd
from saelens_data.cli.main import COMMANDS, cli, main
from saelens_data.cli.output import SUFFIXES
from saelens_data.encode import encode_robustly
from saelens_data.encoders import find_encoder
from saelens_data.evidence import examples
from saelens_data.store.manifest import read_manifest, write_manifest

HABITS = Path(__file__).parents[1] / "datasets" / "habits"
ANSWERS_A, ANSWERS_B = HABITS / "answers_a.jsonl", HABITS / "answers_b.jsonl"
SCRIPT = Path(sys.executable).parent / "saelens-data"
#: The module, which the package hides behind its function of that name.
ENCODE = import_module("saelens_data.encode")
LIMIT = 20
READ = "read as prompt-response: the text is 'response', the prompt 'prompt'"
INTERRUPTED = "Interrupted: what was finished is kept; run the same command again to go on."
#: Options of a training run of two seconds.
TINY = ("--latents", "64", "--k", "4", "--epochs", "1", "--batch", "64")


class Ran(NamedTuple):
    code: int
    out: str
    err: list[str]

    @property
    def error(self) -> str:
        """The one line that says what is wrong, after checking that it is one, the last, and that nothing is data."""
        assert self.code == 2
        assert self.out == ""
        assert [line for line in self.err if line.startswith(("Error", "Traceback"))] == self.err[-1:]
        return self.err[-1].removeprefix("Error: ")


Run = Callable[..., Ran]


def exit_status(*arguments: object) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["saelens-data", *map(str, arguments)])
        try:
            main()
        except SystemExit as ended:
            return int(ended.code or 0)
        return 0


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SAELENS_DATA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path / "cache"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command through the real entry point, in this process."""

    def ran(*arguments: object) -> Ran:
        capsys.readouterr()
        code = exit_status(*arguments)
        said = capsys.readouterr()
        return Ran(code, said.out, said.err.splitlines())

    return ran


@pytest.fixture(scope="session")
def stores(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The first answers of both assistants, encoded by the command."""
    folder = tmp_path_factory.mktemp("stores")
    a, b = folder / "a.sae", folder / "b.sae"
    assert exit_status("encode", ANSWERS_A, "-o", a, "--limit", LIMIT) == 0
    assert exit_status("encode", ANSWERS_B, "-o", b, "--limit", LIMIT) == 0
    return a, b


def short_texts(path: Path) -> Path:
    """The first words of every bundled answer, 320 texts, in a csv."""
    texts = pl.concat([pl.read_ndjson(ANSWERS_A), pl.read_ndjson(ANSWERS_B)])["response"].str.slice(0, 160)
    pl.DataFrame({"text": texts, "licence": "CC0"}).write_csv(path)
    return path


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """An encoder trained by the console script in a process of its own, and how that ended."""
    folder = tmp_path_factory.mktemp("trained")
    command = [SCRIPT, "train", short_texts(folder / "texts.csv"), "-o", folder / "tiny", *TINY]
    return folder / "tiny", subprocess.run(command, capture_output=True, text=True, check=False)


def tree(folder: Path) -> dict[str, str]:
    """SHA-256 of every file but the lock."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


# encode


def test_encode_writes_what_python_writes(run: Run, tmp_path: Path, stores: tuple[Path, Path]) -> None:
    ended = run("encode", ANSWERS_A, "-o", tmp_path / "again.sae", "--limit", LIMIT)
    m = sd.open(tmp_path / "again.sae")
    assert ended == Ran(
        0,
        "",
        [
            f"{ANSWERS_A}: 20 documents, layout: prompt-response",
            f"  {READ}",
            f"{tmp_path / 'again.sae'}: 20 documents, {m.docs['n_units'].sum()} spans, {m.X.nnz:,} activations",
        ],
    )
    assert m.docs["doc_id"].to_list() == [f"p{number:03}" for number in range(1, LIMIT + 1)]
    assert m.docs["text"].to_list() == pl.read_ndjson(ANSWERS_A)["response"].head(LIMIT).to_list()
    sd.encode(ANSWERS_A, store=tmp_path / "python.sae", limit=LIMIT)
    assert tree(tmp_path / "again.sae") == tree(tmp_path / "python.sae") == tree(stores[0])


def test_encode_again_changes_nothing(run: Run, stores: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    before = tree(stores[0])
    monkeypatch.setattr(ENCODE, "encode_robustly", lambda *_: pytest.fail("encoded twice"))
    assert run("encode", ANSWERS_A, "-o", stores[0], "--limit", LIMIT).code == 0
    assert tree(stores[0]) == before


@pytest.mark.parametrize(
    ("source", "store"),
    [
        ("answers.jsonl", "answers.sae"),
        ("answers.jsonl.gz", "answers.sae"),
        ("with space é.csv", "with space é.sae"),
        ("./-dash.v2.jsonl", "-dash.v2.sae"),
        ("folder", "folder.sae"),
        ("run.v2/", "run.v2.sae"),
        ("run.v2/one.txt", "run.v2/one.sae"),
        ("run.v2/.", "run.v2.sae"),
    ],
)
def test_the_store_lies_beside_its_source(
    source: str, store: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    row = json.dumps({"text": "One short text."})
    for folder in ("folder", "run.v2"):
        Path(folder).mkdir()
        Path(folder, "one.txt").write_text("One short text.")
    Path("answers.jsonl").write_text(row)
    Path("-dash.v2.jsonl").write_text(row)
    Path("answers.jsonl.gz").write_bytes(gzip.compress(row.encode()))
    Path("with space é.csv").write_text("text\nOne short text.\n")
    assert run("encode", source).err[-1].startswith(f"{store}: 1 document, 1 span, ")
    assert sd.open(store).docs["text"].to_list() == ["One short text."]


def test_documents_that_cannot_be_encoded_are_listed(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def poisoned(encoder: object, texts: list[str]) -> object:
        shards = encode_robustly(encoder, texts)  # type: ignore[arg-type]
        return replace(shards, errors=[f"no {i}" if i != 1 else None for i in range(len(texts))])

    monkeypatch.setattr(ENCODE, "encode_robustly", poisoned)
    ended = run("encode", ANSWERS_A, "-o", tmp_path / "a.sae", "--limit", 8)
    assert ended.code == 0
    listed = [f"  not encoded: document 'p00{n}': no {n - 1}" for n in (1, 3, 4, 5, 6)]
    assert ended.err[2:8] == [*listed, "  and 2 more: see the column 'error'"]


def test_an_interruption_keeps_what_was_done(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ENCODE, "SHARD_DOCS", 4)
    assert run("encode", ANSWERS_A, "-o", tmp_path / "whole.sae", "--limit", 12).code == 0
    calls: list[int] = []

    def interrupted(encoder: object, texts: list[str]) -> object:
        calls.append(len(texts))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return encode_robustly(encoder, texts)  # type: ignore[arg-type]

    monkeypatch.setattr(ENCODE, "encode_robustly", interrupted)
    store = tmp_path / "kept.sae"
    ended = run("encode", ANSWERS_A, "-o", store, "--limit", 12)
    assert (ended.code, ended.out, ended.err[-1]) == (130, "", INTERRUPTED)
    unfinished = f"{store} is unfinished (1 of 3 shards): run the encode command again to finish it"
    assert run("info", store).error == unfinished
    assert run("diff", store, tmp_path / "whole.sae").error == unfinished
    assert run("verify", store).out.splitlines() == [unfinished]
    assert run("encode", ANSWERS_A, "-o", store, "--limit", 12).code == 0
    assert calls == [4, 4, 4, 4]  # the first shard was kept, the second done again
    assert tree(store) == tree(tmp_path / "whole.sae")


# info, verify, encoders


def test_info_says_what_a_store_holds(run: Run, stores: tuple[Path, Path]) -> None:
    m = sd.open(stores[0])
    ended = run("info", stores[0])
    said = {line[:18].strip(): line[19:] for line in ended.out.splitlines()}
    assert (ended.code, ended.err) == (0, [])
    assert said["documents"] == "20"
    assert said["spans"] == str(m.evidence.units.ptr[-1])
    assert said["tokens"] == f"{m.docs['n_tokens'].sum():,}"
    assert said["concepts"] == f"8,192, {len(np.unique(m.X.indices)):,} of them active here"
    assert said["columns"] == "doc_id, text, prompt, id, kind, model, n_units, n_tokens, error"
    assert (said["encoder"], said["pooling"], said["dtype"]) == ("minilm-8k", "max", m.source.dtype)
    assert (
        said["sae sha256"]
        == hashlib.sha256((find_encoder("minilm-8k") / "sae_weights.safetensors").read_bytes()).hexdigest()
    )
    assert said["limits"] == "max_tokens 256"


def test_verify_is_quiet_about_a_sound_store(run: Run, stores: tuple[Path, Path]) -> None:
    assert run("verify", stores[0]) == Ran(0, f"{stores[0]}: sound\n", [])


@pytest.mark.parametrize("part", ["manifest.json", "docs.parquet", "concepts.parquet", "shards/00000.parquet"])
def test_verify_names_the_part_with_a_flipped_bit(
    part: str, run: Run, tmp_path: Path, stores: tuple[Path, Path]
) -> None:
    store = tmp_path / "a.sae"
    shutil.copytree(stores[0], store)
    flip(store / part)
    ended = run("verify", store)
    assert (ended.code, len(ended.out.splitlines())) == (2, 1)
    assert ended.out.startswith(f"{store / part} is damaged")
    assert ended.err == [f"Error: {store} is not sound: 1 problem, listed with what to do"]


def test_a_damaged_part_is_mended_as_verify_says(run: Run, tmp_path: Path, stores: tuple[Path, Path]) -> None:
    store = tmp_path / "a.sae"
    shutil.copytree(stores[0], store)
    flip(store / "shards/00000.parquet")
    assert "delete that file and run the encode command again" in run("verify", store).out
    (store / "shards/00000.parquet").unlink()
    assert run("encode", ANSWERS_A, "-o", store, "--limit", LIMIT).code == 0
    assert run("verify", store).code == 0
    assert tree(store) == tree(stores[0])


def test_encoders_shows_measured_figures(run: Run, trained: tuple[Path, object]) -> None:
    ended = run("encoders", trained[0])
    metrics = json.loads((find_encoder("minilm-8k") / "metrics.json").read_text())
    lines = ended.out.splitlines()
    assert (ended.code, ended.err) == (0, ["Of a pair that is not here, --encoder NAME says which command fetches it."])
    assert lines[0] == "minilm-8k: sentence-transformers/all-MiniLM-L6-v2, final + layer.3"
    assert f"  explained variance         {metrics['explained_variance']:.3f}" in lines
    assert f"{trained[0]}: sentence-transformers/all-MiniLM-L6-v2, final + layer.3" in lines
    assert "  trained on                 CC0" in lines


# train


def test_train_says_how_far_it_is_and_nothing_else(trained: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, ended = trained
    assert (ended.returncode, ended.stdout) == (0, "")
    lines = ended.stderr.splitlines()
    assert lines[0] == f"{folder.parent / 'texts.csv'}: read as text: the text is 'text'"
    assert lines[-1] == f"wrote {folder}: use it with --encoder {folder}"
    stages = ("reading", "training", "measuring", "naming", "comparing")
    assert {line.split()[0] for line in lines[1:-1]} == set(stages)  # no library says a word
    assert any(line.startswith("training 100% loss ") for line in lines)
    assert sorted(path.name for path in folder.parent.iterdir()) == ["texts.csv", "tiny"]


def test_a_trained_encoder_encodes(run: Run, tmp_path: Path, trained: tuple[Path, object]) -> None:
    ended = run("encode", ANSWERS_A, "-o", tmp_path / "a.sae", "--limit", 5, "--encoder", trained[0])
    m = sd.open(tmp_path / "a.sae")
    assert ended.code == 0
    assert (m.source.encoder, m.X.shape) == ("tiny", (5, 64))
    assert 1 < m.X.nnz / m.docs["n_units"].sum() < 8  # k is 4
    labels = pl.read_parquet(trained[0] / "concepts.parquet")["label"]
    assert m.concepts["label"].to_list() == labels.to_list()


def test_the_same_training_gives_the_same_bytes(run: Run, tmp_path: Path, trained: tuple[Path, object]) -> None:
    texts = trained[0].parent / "texts.csv"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("saelens_data.training.label_latents", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        ended = run("train", texts, "-o", tmp_path / "tiny", *TINY)
    assert (ended.code, ended.err[-1]) == (130, INTERRUPTED)
    assert "no encoder" in run("encode", ANSWERS_A, "--encoder", tmp_path / "tiny").error
    ended = run("train", texts, "-o", tmp_path / "tiny", *TINY)
    assert not [line for line in ended.err if line.startswith("reading")]  # the interrupted run has done that
    assert tree(tmp_path / "tiny") == tree(trained[0])


# diff and examples, from files


def test_a_second_diff_uses_the_cache_and_says_the_same(
    run: Run, cache: Path, stores: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("diff", ANSWERS_A, ANSWERS_B, "--pair-on", "prompt", "--limit", LIMIT, "-n", "5")
    first = run(*arguments)
    expected = sd.diff(sd.open(stores[0]), sd.open(stores[1]), pair_on="prompt", names=("answers_a", "answers_b"))
    assert first.code == 0
    assert first.err[:3] == [f"{ANSWERS_A}: {READ}", f"{ANSWERS_B}: {READ}", expected.summary()]
    assert [line.split()[0] for line in first.out.splitlines()] == ["rank", "1", "2", "3", "4", "5"]
    shown = zip(expected.frame["latent"].head(5), first.out.splitlines()[1:], strict=True)
    assert all(f"  {latent}  " in line for latent, line in shown)
    kept = tree(cache)
    assert len(list(cache.glob("*.sae"))) == 2
    monkeypatch.setattr(ENCODE, "load_encoder", lambda *_, **__: pytest.fail("encoded twice"))
    assert run(*arguments) == first
    assert tree(cache) == kept
    rows = [json.loads(line) for line in run(*arguments[:-2], "-f", "jsonl").out.splitlines()]
    assert rows == expected.frame.to_dicts()


def test_files_of_a_diff_are_the_same_bytes_twice(run: Run, tmp_path: Path, stores: tuple[Path, Path]) -> None:
    made: list[dict[str, str]] = []
    for name in ("first", "second"):
        folder = tmp_path / name
        folder.mkdir()
        for suffix in SUFFIXES:
            ended = run("diff", *stores, "-o", folder / f"d{suffix}", "--report", folder / "r.html")
            assert (ended.code, ended.out) == (0, "")
            assert ended.err[-2:] == [f"wrote {folder / f'd{suffix}'}", f"wrote {folder / 'r.html'}"]
        made.append(tree(folder))
    assert made[0] == made[1]
    assert sorted(made[0]) == ["d.csv", "d.json", "d.jsonl", "d.parquet", "r.html"]


def test_the_format_names_a_file_without_suffix(run: Run, tmp_path: Path, stores: tuple[Path, Path]) -> None:
    assert run("diff", *stores, "-f", "parquet", "-o", tmp_path / "d").err[-1] == f"wrote {tmp_path / 'd.parquet'}"
    assert pl.read_parquet(tmp_path / "d.parquet").equals(sd.diff(*map(sd.open, stores), names=("a", "b")).frame)


def test_more_rows_than_there_are(run: Run, stores: tuple[Path, Path]) -> None:
    assert run("diff", *stores, "-f", "csv", "-n", "9" * 30) == run("diff", *stores, "-f", "csv")


def test_nothing_to_compare_prints_nothing(run: Run, tmp_path: Path) -> None:
    (tmp_path / "one.jsonl").write_text('{"text": "Just one text."}\n')
    ended = run("diff", tmp_path / "one.jsonl", tmp_path / "one.jsonl")
    assert (ended.code, ended.out) == (0, "")
    assert "one (1) and one (2) hold the very same documents: no difference is to be expected." in ended.err


def test_every_file_is_read_before_one_is_encoded(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ENCODE, "load_encoder", lambda *_, **__: pytest.fail("encoded too early"))
    (tmp_path / "b.jsonl").write_text("{")
    assert run("diff", ANSWERS_A, tmp_path / "b.jsonl").error.startswith("b.jsonl, line 1, column 2: broken JSON")


def test_examples_of_a_file(run: Run, stores: tuple[Path, Path]) -> None:
    m = sd.open(stores[0])
    latent = int(np.bincount(m.X.indices).argmax())
    ended = run("examples", ANSWERS_A, latent, "--limit", LIMIT, "-n", 3, "-f", "jsonl")
    expected = examples(m, latent, n=3)
    assert [json.loads(line) for line in ended.out.splitlines()] == expected.frame.to_dicts()
    assert ended.err == [f"{ANSWERS_A}: {READ}", expected.summary()]
    for row in expected.frame.iter_rows(named=True):
        text = m.docs["text"].filter(m.docs["doc_id"] == row["doc_id"])[0]
        assert text[row["start"] : row["end"]] == row["text"]


def test_evidence_is_marked_without_colour(
    run: Run, stores: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"FORCE_COLOR": "1", "TERM": "xterm-256color", "NO_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)
    latent = int(np.bincount(sd.open(stores[0]).X.indices).argmax())
    span = examples(sd.open(stores[0]), latent, n=1).frame["text"][0]
    assert f"**{' '.join(span.splitlines())}**" in run("examples", stores[0], latent, "-n", 1).out


# Errors: one line, exit status 2, nothing on stdout, nothing left behind


@pytest.fixture(scope="session")
def here(tmp_path_factory: pytest.TempPathFactory, stores: tuple[Path, Path], trained: tuple[Path, object]) -> Path:
    """A folder of things to stumble over."""
    folder = tmp_path_factory.mktemp("here")
    shutil.copytree(stores[0], folder / "a.sae")
    shutil.copytree(trained[0], folder / "tiny")
    shutil.copytree(stores[0], folder / "half.sae")
    manifest = read_manifest(stores[0])
    write_manifest(folder / "half.sae", manifest.without(["shards/00000.parquet"]))
    for name in ("empty", "pictures", "notes"):
        (folder / name).mkdir()
    (folder / "pictures" / "a.png").write_bytes(b"\x89PNG")
    (folder / "notes" / "a.txt").write_text("A note.")
    rows = [json.dumps({"text": f"Text {i} is here.", "group": "xyz"[i % 3], "n": i}) for i in range(9)]
    (folder / "texts.jsonl").write_text("\n".join(rows))
    (folder / "broken.jsonl").write_text("\n".join([*rows[:2], '{"text": "no end}', *rows[3:]]))
    (folder / "numbers.csv").write_text("a,b\n1,2\n3,4\n")
    (folder / "blank.jsonl").write_text('{"text": ""}\n{"text": null}\n')
    (folder / "picture.jsonl").write_bytes(np.random.default_rng(0).bytes(4000))
    os.mkfifo(folder / "pipe.jsonl")
    return folder


SEE = "(see 'saelens-data {} --help')"
OTHER = "encoder: 'minilm-8k' and 'tiny'; sae: 'minilm-8k' and 'tiny'; sae_sha256: '{}' and '{}'"  # of the two weights
ERRORS = {
    "nope": f"no command 'nope': available: {', '.join(COMMANDS)} (see 'saelens-data --help')",
    "dif a b": "no command 'dif': did you mean 'diff'? available: *",
    "diff --pair a b": "No such option '--pair'*",
    "encode": "Missing argument 'SOURCE' " + SEE.format("encode"),
    "encode texts.jsonl --limit 0": "Invalid value for '--limit': 0 is not in the range x>=1 " + SEE.format("encode"),
    # sources
    "encode text.jsonl": "there is no file or folder 'text.jsonl'; did you mean 'texts.jsonl'? available: *",
    "encode nowhere/a.jsonl": "there is no file or folder 'nowhere/a.jsonl', because there is no folder 'nowhere'",
    "encode ''": "the path of the texts is empty: name a file or a folder",
    "encode -": "texts are not read from standard input: save them to a file first",
    "encode pipe.jsonl": "'pipe.jsonl' is no file but a device or a pipe: save the texts to a file first",
    "encode broken.jsonl": "broken.jsonl, line 3, column 10: broken JSON (Unterminated string starting at): repair or delete that line",
    "encode texts.jsonl --text txt": "there is no column 'txt' in 'texts' (text); did you mean 'text'? available: text, group, n",
    "encode texts.jsonl --id nr": "there is no column 'nr' in 'texts' (id); did you mean 'n'? available: text, group, n",
    "encode texts.jsonl --id group": "the column 'group' cannot be the ids, because 'x' is in rows 1 and 4: leave it out to number the documents",
    "encode numbers.csv": "no column of 'numbers' holds text: give a source that has one; columns: a (Int64), b (Int64)",
    "encode empty": "the folder 'empty' has no .txt or .md file (it holds nothing): give a file",
    "encode pictures": "the folder 'pictures' has no .txt or .md file (it holds 1 .png): give a file",
    "encode picture.jsonl": "the file 'picture.jsonl' looks binary: give JSON lines, csv, parquet or plain text, as UTF-8",
    "encode a.sae": "'a.sae' is a store, encoded already: give the texts that it was made of",
    # encoders
    "encode texts.jsonl --encoder minilm": "no encoder 'minilm': give a name that `saelens-data encoders` lists (did you mean 'minilm-8k'? available: minilm-8k, llama-3.1-8b-goodfire, llama-3.3-70b-goodfire and 13 more) or a folder that `saelens-data train` wrote",
    "diff a.sae a.sae --encoder notes": "no encoder 'notes': *",
    "encoders empty": "no encoder 'empty': *",
    # stores
    "encode texts.jsonl -o texts.jsonl/x.sae": "texts.jsonl/x.sae cannot be written (Not a directory); choose another place",
    "encode texts.jsonl -o broken.jsonl": "broken.jsonl is a file, not the folder of a store: choose another name",
    "encode texts.jsonl -o notes": "notes is not a store (it holds a.txt) and is left as it is: choose another name",
    "encode texts.jsonl -o a.sae": "a.sae is a complete store of other input (documents: 20 there, 9 now): choose another name, or replace it with --overwrite (overwrite=True)",
    "info half.sae": "half.sae is unfinished (0 of 1 shards): run the encode command again to finish it",
    "diff a.sae half.sae": "half.sae is unfinished (0 of 1 shards): run the encode command again to finish it",
    "examples half.sae 1": "half.sae is unfinished (0 of 1 shards): run the encode command again to finish it",
    "info nowhere.sae": "there is no store at nowhere.sae: give a folder that saelens-data encode wrote",
    "info texts.jsonl": "texts.jsonl is a file, not a store: if it holds texts, make a store of them with saelens-data encode texts.jsonl",
    "verify texts.jsonl": "texts.jsonl is a file, not a store: if it holds texts, make a store of them with saelens-data encode texts.jsonl",
    "verify notes": "notes is not a store, because it has no manifest.json: give a folder that saelens-data encode wrote",
    # diff and examples
    "diff a.sae": "diff compares two sets: name a second store or file, or split the one with --by COLUMN or with --where and --versus",
    "diff a.sae texts.jsonl --encoder tiny": f"the two sets were encoded differently ({OTHER}): encode both with one encoder",
    "diff texts.jsonl --where group='x' --versus n>3": "cannot evaluate group='x': expected an expression (found 'group' clause), a word of SQL: a column of that name needs double quotes; columns: *",
    "diff texts.jsonl --where grup='x' --versus n>3": "cannot evaluate grup='x': there is no column 'grup'; did you mean 'group'? available: doc_id, text, group, n, n_units, n_tokens, error",
    "diff a.sae a.sae -o nowhere/d.csv": "cannot write 'nowhere/d.csv': there is no folder 'nowhere'; create it first",
    "diff a.sae a.sae -o texts.jsonl/d.csv": "cannot write 'texts.jsonl/d.csv': there is no folder 'texts.jsonl'; create it first",
    "diff a.sae a.sae -o d.xlsx": "cannot write 'd.xlsx': its name must end in .csv or .json or .jsonl or .parquet",
    "diff a.sae a.sae -f csv -o d.jsonl": "-f csv and -o d.jsonl ask for different formats: leave one out",
    "diff a.sae a.sae -f parquet": "parquet is not text: name a file with -o FILE.parquet",
    "diff a.sae a.sae -o notes": "Invalid value for '-o' / '--output': File 'notes' is a directory "
    + SEE.format("diff"),
    "diff a.sae a.sae --report nowhere/r.html": "cannot write 'nowhere/r.html': there is no folder 'nowhere'; create it first",
    "diff a.sae a.sae --report texts.jsonl": "cannot write 'texts.jsonl': its name must end in .html or .htm",
    "examples a.sae 8192": "there is no latent 8192: choose one from 0 to 8191",
    "examples a.sae x": "Invalid value for 'LATENT': 'x' is no latent: saelens-data concepts STORE \"PHRASE\" finds one "
    + SEE.format("examples"),
    "examples a.sae 1 -n 0": "0 examples asked for: give 1 or more",
    # train
    "train texts.jsonl": "Missing option '-o' / '--output' " + SEE.format("train"),
    "train texts.jsonl -o new": "9 units are too few to train on: give more text (at least 2048 units)",
    "train blank.jsonl -o new": "there is no text to train on in blank.jsonl: give other sources",
    "train texts.jsonl -o tiny": "tiny holds an encoder already: choose another folder or say --overwrite",
    "train texts.jsonl -o notes": "notes is not an encoder (it holds a.txt) and is left as it is: choose another name",
    "train texts.jsonl -o numbers.csv": "numbers.csv is a file, not the folder of an encoder: choose another name",
    "train texts.jsonl -o numbers.csv/new": "numbers.csv/new cannot be written (Not a directory); choose another place",
    "train texts.jsonl -o new --k 64 --latents 64": "k is 64 with 64 latents: it must lie between 1 and the latents",
    "train texts.jsonl -o new --part layer.6": "sentence-transformers/all-MiniLM-L6-v2 has no 'layer.6': use final or layer.0 to layer.5",
    "train texts.jsonl -o new --reader notes": "no .safetensors weights in notes: other weight files are not read, for safety",
}


@pytest.mark.parametrize("command", ERRORS)
def test_a_users_error_is_one_line(command: str, run: Run, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)
    before = tree(here)
    message = ERRORS[command].replace(OTHER, OTHER.format(*(sha256(find_encoder(e)) for e in ("minilm-8k", "tiny"))))
    error = run(*("" if argument == "''" else argument for argument in command.split())).error
    assert (error[: len(message) - 1] + "*" if message.endswith("*") else error) == message
    assert tree(here) == before
    assert not Path("new.training").exists()


def sha256(folder: Path) -> str:
    return hashlib.sha256((folder / "sae_weights.safetensors").read_bytes()).hexdigest()


@pytest.mark.parametrize(
    "file", ["encoder.json", "cfg.json", "concepts.parquet", "metrics.json", "sae_weights.safetensors"]
)
def test_a_damaged_encoder_is_one_line(file: str, run: Run, tmp_path: Path, trained: tuple[Path, object]) -> None:
    shutil.copytree(trained[0], tmp_path / "tiny")
    (tmp_path / "tiny" / file).write_text("{ no")
    if file != "metrics.json":  # which is only shown
        error = run("encode", ANSWERS_A, "--limit", 2, "-o", tmp_path / "a.sae", "--encoder", tmp_path / "tiny").error
        assert str(tmp_path / "tiny") in error
    if file in ("encoder.json", "metrics.json"):
        ended = run("encoders", tmp_path / "tiny")
        assert (ended.code, len(ended.err)) == (2, 1)
        assert ended.err[0].startswith(f"Error: {tmp_path / 'tiny' / file} is ")


def test_a_cache_that_cannot_be_written(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SAELENS_DATA_CACHE", str(tmp_path / "file"))
    error = run("examples", ANSWERS_A, 1, "--limit", 2).error
    assert error == f"{tmp_path / 'file'} cannot be written (File exists); choose another place"


def test_what_the_system_refuses_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "/some/where")

    monkeypatch.setattr("saelens_data.store.verify_store", full)
    expected = (
        "the system refuses to read or write '/some/where' (No space left on device): mend that and run this again"
    )
    assert run("verify", "x.sae").error == expected


def test_a_defect_keeps_its_traceback(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("saelens_data.store.verify_store", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run("verify", "x.sae")


# The console script


def script(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([SCRIPT, *map(str, arguments)], capture_output=True, text=True, check=False, **options)


@pytest.mark.parametrize("command", [(), *((name,) for name in COMMANDS)], ids=" ".join)
def test_help_imports_nothing_heavy(command: tuple[str, ...]) -> None:
    run = subprocess.run(
        [sys.executable, "-X", "importtime", SCRIPT, *command, "--help"], capture_output=True, text=True, check=True
    )
    imported = {line.rpartition("|")[2].strip().split(".")[0] for line in run.stderr.splitlines()}
    assert "click" in imported
    assert not imported & {
        "torch",
        "transformers",
        "sentence_transformers",
        "polars",
        "numpy",
        "scipy",
        "pyarrow",
        "rich",
    }
    assert run.stdout.startswith(f"Usage: saelens-data {' '.join(command)}".strip())


@pytest.mark.parametrize("name", COMMANDS)
def test_help_speaks_with_one_voice(name: str) -> None:
    with click.Context(cli, info_name="saelens-data", **cli.context_settings) as top:
        command = cli.get_command(top, name)
        assert command is not None
        context = click.Context(command, info_name=name, parent=top, terminal_width=110, max_content_width=110)
        text, options = command.get_help(context), [p for p in command.get_params(context) if p.opts[0][0] == "-"]
    lines = text.splitlines()
    # One line an option, all from the same column on, each a sentence or its default.
    assert not [line for line in lines if line.startswith("   ")]
    own = [line for line in lines if line.startswith("  -")]
    assert len(own) == len(options)
    assert len({len(re.match(r"  -.*?(  +|$)(?=\S)", line)[0]) for line in own}) == 1
    assert all(line.endswith((".", "]", '".', ",", "catalogue")) for line in own)
    headings = [line for line in lines if re.fullmatch(r"[A-Z].*:", line)]
    known = ["Options:", "A test for CI:", "Asking a language model:", "Reading tokens:", "Reading texts:", "Output:"]
    assert headings == [heading for heading in [*known, "Examples:"] if heading in headings]
    assert lines[lines.index("Examples:") + 1].startswith("  saelens-data ")
    assert lines[-1].startswith(f"  saelens-data {name}")


def test_a_new_process_says_no_word_of_its_libraries(tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("A first sentence is here. A second one follows.")
    ended = script("encode", "one.txt", cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (0, "")
    m = sd.open(tmp_path / "one.sae")
    assert ended.stderr.splitlines() == [
        "one.txt: 1 document, layout: text",
        "  one.txt was read as one document: give a csv or JSON lines for many",
        "  read as text: the text is 'text'",
        f"one.sae: 1 document, 2 spans, {m.X.nnz} activations",
    ]


def test_any_encoding_of_the_terminal_will_do(stores: tuple[Path, Path], tmp_path: Path) -> None:
    odd = tmp_path / "\udcff ü.sae"  # bytes that are not UTF-8, as old archives leave them
    shutil.copytree(stores[0], odd)
    ended = subprocess.run(
        [SCRIPT, "diff", odd, stores[1], "-n", "8192"],
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert (ended.returncode, ended.stderr.count(b"Traceback")) == (0, 0)
    assert b"\\xb7" in ended.stdout  # the dot between the words of a label
    assert ended.stdout.splitlines()[0].split()[3:6] == [b"in", b"\\xfc", b"in"]


def test_a_reader_that_leaves_is_no_error(stores: tuple[Path, Path]) -> None:
    process = subprocess.Popen(
        [SCRIPT, "diff", *stores, "-f", "jsonl"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline().startswith('{"rank": 1, ')
    process.stdout.close()
    said = process.stderr.read()
    process.stderr.close()
    assert process.wait() == 0
    assert "Traceback" not in said
    assert "BrokenPipe" not in said


def test_exit_status_and_version_of_the_script(tmp_path: Path) -> None:
    assert script("info", "nothing.sae", cwd=tmp_path).returncode == 2
    ended = script("--version")
    assert (ended.returncode, ended.stdout) == (0, f"saelens-data, version {version('saelens_data')}\n")
