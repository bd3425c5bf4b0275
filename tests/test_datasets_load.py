"""Bundled data by name: what is loaded is what the page lists, whole, and refused where a file was changed."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

import saelens_data as sd
from saelens_data.datasets import CATALOGUE, Dataset
from saelens_data.errors import InputError

FOLDER = Path(__file__).parents[1] / "datasets"


def test_the_page_lists_every_file_with_its_rows_and_hash():
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    listed = {
        file: (name, rows, digest)
        for file, name, rows, digest in re.findall(r"\| `(\S+)` \| `(\w+)` \| ?(\d*) \| `([0-9a-f]{64})` \|", page)
    }
    data = {str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*") if path.is_file() and path.suffix != ".md"}
    assert set(listed) == data
    for file, (name, rows, digest) in listed.items():
        content = (FOLDER / file).read_bytes()
        assert hashlib.sha256(content).hexdigest() == digest
        assert {**CATALOGUE[name].files, **CATALOGUE[name].truth}[file] == digest
        assert rows == (str(content.count(b"\n")) if file.endswith("l") else "")
    for name, entry in CATALOGUE.items():
        line = next(line for line in page.splitlines() if line.startswith(f"| [`{name}`]("))
        assert f"| {entry.rows} | {entry.licence} |" in line


@pytest.mark.parametrize("name", CATALOGUE)
def test_each_is_loaded_whole(name):
    data = sd.datasets.load(name)
    rows = [
        json.loads(line)
        for file in CATALOGUE[name].files
        for line in (FOLDER / file).read_text(encoding="utf-8").splitlines()
    ]
    assert data.rows == data.docs.height == CATALOGUE[name].rows == len(rows)
    assert data.docs["text"].to_list() == [row.get("response", row.get("text")) for row in rows]
    assert data.docs["id"].to_list() == [row["id"] for row in rows]
    assert data.docs["doc_id"].n_unique() == data.rows
    assert data.licence == "Apache-2.0"
    assert (data.name, [path.name for path in data.paths]) == (name, [Path(f).name for f in CATALOGUE[name].files])
    assert (data.truth is None) == (not CATALOGUE[name].truth)


def test_answers_of_two_have_ids_of_their_own_and_the_truth_speaks_of_their_prompts():
    habits = sd.datasets.load("habits")
    assert habits.docs.select("doc_id", "id", "model").row(160) == ("p001-B", "p001", "B")
    for habit in habits.truth["habits"]:
        shown = set(habit["ids"]) if isinstance(habit, dict) else set(habits.truth["habits"][habit]["ids"])
        assert shown <= set(habits.docs["id"])
    assert repr(habits).startswith("Dataset(habits: 320 documents, two assistants' answers")


def test_a_dataset_is_a_corpus_and_keeps_its_licence_in_another_field():
    prompts = sd.datasets.load("artefacts").field("prompt")
    assert isinstance(prompts, Dataset)
    assert (prompts.field_name, prompts.licence, prompts.rows) == ("prompt", "Apache-2.0", 240)
    rows = pl.read_ndjson(FOLDER / "artefacts" / "train.jsonl")
    assert prompts.docs["text"].to_list() == rows["prompt"].to_list()
    assert prompts.docs["response"].to_list() == rows["response"].to_list()


def test_names_and_a_wrong_one():
    assert sd.datasets.names() == ["habits", "crossed", "crossed_fr_de", "artefacts"]
    with pytest.raises(
        InputError, match=r"no bundled data 'habit': did you mean 'habits'\? available: habits, crossed"
    ):
        sd.datasets.load("habit")


def test_a_changed_or_missing_file_is_refused(tmp_path, monkeypatch):
    from saelens_data import datasets

    shutil.copytree(FOLDER, tmp_path / "copy")
    monkeypatch.setattr(datasets, "_ASSETS", tmp_path / "copy")
    monkeypatch.setattr(datasets, "_CHECKOUT", tmp_path / "nowhere")
    assert datasets.load("crossed").rows == 224
    file = tmp_path / "copy" / "crossed" / "texts.jsonl"
    file.write_text(file.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"texts\.jsonl' is not the bundled file, it was changed: install"):
        datasets.load("crossed")
    file.unlink()
    with pytest.raises(InputError, match=r"'crossed/texts\.jsonl' is not here: install saelens_data again"):
        datasets.load("crossed")


def test_the_module_is_not_imported_before_it_is_asked_for():
    code = "import sys, saelens_data as sd; before = 'saelens_data.datasets' in sys.modules; sd.datasets.names(); print(before)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


def test_the_package_reaches_the_files_as_an_asset():
    link = Path(sd.__file__).parent / "assets" / "datasets"
    assert (link / "habits" / "answers_a.jsonl").read_bytes() == (FOLDER / "habits" / "answers_a.jsonl").read_bytes()
