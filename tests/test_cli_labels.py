"""`saelens-data labels`: what it lists, adds, prefers and removes, and where its labels are shown."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner, Result
from synthetic import random_matrix, write

import saelens_data as sd
from saelens_data.cli.main import cli
from saelens_data.errors import InputError, StoreError
from saelens_data.store.labels import read_labels


@pytest.fixture
def store(tmp_path: Path) -> Path:
    write(tmp_path / "a.sae", random_matrix(3, 12, 6))
    return tmp_path / "a.sae"


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    (tmp_path / "mine.csv").write_text("latent,label,score\n1,one,0.7\n4,four,\n")
    return tmp_path / "mine.csv"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["labels", *map(str, arguments)], catch_exceptions=False)


def rows(ended: Result) -> list[tuple[int, str, str, bool]]:
    found = [json.loads(line) for line in ended.stdout.splitlines()]
    return [(row["latent"], row["label"], row["origin"], row["shown"]) for row in found]


def test_all_labels_of_a_latent_and_which_is_shown(store: Path, mine: Path) -> None:
    assert run(store, "--import", mine).exit_code == 0
    assert rows(run(store, 1, 2, "-f", "jsonl")) == [
        (1, "one", "file:mine", True),
        (1, "label 1", "test", False),
        (2, "label 2", "test", True),
    ]
    assert [row[0] for row in rows(run(store, "--origin", "file", "-f", "jsonl"))] == [1, 4]
    listed = run(store)
    assert "8 labels of 6 latents: file:mine 2, test 6" in listed.stderr
    assert listed.stdout.splitlines()[0].split() == [
        *("latent", "label", "origin", "score", "score_kind", "baseline", "shown")
    ]
    assert "and 5 more: -n 8, or -o FILE" in run(store, "-n", 3).stderr


def test_import_says_what_it_read_and_lists_nothing(store: Path, mine: Path) -> None:
    ended = run(store, "--import", mine, "--origin", "me")
    assert (ended.exit_code, ended.stdout) == (0, "")
    assert ended.stderr.splitlines() == [f"{mine}: table, 2 labels", "8 labels of 6 latents: me 2, test 6"]
    assert sd.open(store).concepts["origin"].to_list() == ["test", "me", "test", "test", "me", "test"]


def test_prefer_default_order_and_remove(store: Path, mine: Path) -> None:
    run(store, "--import", mine)
    assert "preferred: test" in run(store, "--prefer", "test").stderr
    assert sd.open(store).concepts["label"][1] == "label 1"
    run(store, "--default-order")
    assert sd.open(store).concepts["label"][1] == "one"
    run(store, "--remove", "file:mine")
    assert sd.open(store).concepts["label"][1] == "label 1"
    assert read_labels(store) is None


def test_examples_show_the_preferred_label_and_its_origin(store: Path, mine: Path) -> None:
    run(store, "--import", mine)
    shown = CliRunner().invoke(cli, ["examples", str(store), "1"], catch_exceptions=False)
    assert "latent 1 (one; label: file:mine): active in" in shown.stderr
    assert sd.examples(sd.open(store), 1).parameters["origin"] == "file:mine"


def test_a_label_that_is_not_used_says_so(store: Path, tmp_path: Path) -> None:
    table = pl.DataFrame({"latent": [1], "label": ["worse"], "origin": ["llm:x"], "score": [0.4], "baseline": [0.5]})
    table.write_parquet(tmp_path / "x.parquet")
    ended = run(store, "--import", tmp_path / "x.parquet")
    assert "1 did not beat the label they would replace and are not used" in ended.stderr
    assert rows(run(store, 1, "-f", "jsonl")) == [(1, "worse", "llm:x", False), (1, "label 1", "test", True)]


def test_what_a_file_says_is_shown_as_text(store: Path, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps({"1": "[red]\x1b[31m<b>bold</b>\nnext"}))
    run(store, "--import", tmp_path / "x.json")
    assert "[red] [31m<b>bold</b> next" in run(store, 1).stdout
    assert "\x1b" not in run(store, 1).stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--prefer", "nobody"], "no labels of origin 'nobody'"),
        (["--remove", "test"], "came with the encoder and stay"),
        (["--prefer", "test", "--default-order"], "ask for two orders"),
        (["--source", "x"], "--source belongs to --import"),
        (["--origin", "nobody"], "no labels of origin 'nobody'"),
        (["77"], "latent 77 has no label here"),
        (["--import", "nowhere.csv"], "there are no labels at 'nowhere.csv'"),
    ],
)
def test_what_cannot_be_done_changes_nothing(arguments: list[str], says: str, store: Path) -> None:
    with pytest.raises(InputError, match=says):
        run(store, *arguments)
    assert read_labels(store) is None


def test_a_folder_that_is_neither_store_nor_encoder(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"has no manifest\.json"):
        run(tmp_path)
