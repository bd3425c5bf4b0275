"""`saelens-data correlate` as a user calls it: bundled data, files written, errors in one line."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner, Result

import saelens_data as sd
from saelens_data.cli.main import cli
from saelens_data.encoders.usual import Usual

DATA = Path(__file__).parents[1] / "datasets" / "artefacts"
RECIPE = Path(__file__).parents[1] / "recipes" / "find_artefacts.md"


def run(*args: str | Path) -> Result:
    return CliRunner().invoke(cli, ["correlate", *map(str, args)])


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("correlate") / "train.sae"
    sd.encode(DATA / "train.jsonl", store=path, fields=("response", "prompt"), dtype="float32")
    return path


@pytest.fixture(scope="module")
def truth() -> dict[str, set[str]]:
    artefacts = json.loads((DATA / "truth.json").read_text(encoding="utf-8"))["artefacts"]
    return {artefact["name"]: set(artefact["ids"]) for artefact in artefacts}


def recipe(number: int, store: Path, folder: Path) -> Result:
    """A command of the recipe, on the store and with its files in a folder."""
    blocks = re.findall(r"```sh\n(.*?)\n```", RECIPE.read_text(encoding="utf-8"), re.DOTALL)
    program, command, source, *args = shlex.split(blocks[number])
    assert (program, command, Path(source).name) == ("saelens-data", "correlate", "train.jsonl")
    return run(store, *(folder / arg if Path(arg).suffix else arg for arg in args))


def test_the_recipe_finds_the_planted_ending_and_exports_its_rows(store, truth, tmp_path):
    suspects, report = tmp_path / "suspects.jsonl", tmp_path / "artefacts.html"
    done = recipe(2, store, tmp_path)
    assert done.exit_code == 0, done.output
    assert "is correct" in done.stdout
    assert "Removed by the filters, in their order: few" in done.stderr
    exported = pl.read_ndjson(suspects)
    assert {"group", "latent_a", "label_b", "prompt", "response", "source", "score"} <= set(exported.columns)
    # The groups whose documents are mostly rows with the ending, and how many of the 36 they hold.
    planted = exported.with_columns(planted=pl.col("id").is_in(list(truth["hope_correct"])))
    shares = planted.group_by("group").agg(pl.col("planted").mean(), pl.col("id"))
    found = set(shares.filter(pl.col("planted") >= 0.8)["id"].explode().unique())
    assert len(found & truth["hope_correct"]) >= 18
    assert "<!DOCTYPE html>" in report.read_text(encoding="utf-8")


def test_a_score_goes_with_years_and_the_rows_come_highest_first(store, truth, tmp_path):
    out = tmp_path / "rated.csv"
    done = recipe(3, store, tmp_path)
    assert done.exit_code == 0, done.output
    assert "higher" in done.stdout
    rows = pl.read_csv(out).filter(pl.col("group") == 1)
    assert rows["id"].head(10).is_in(list(truth["score_year"])).sum() >= 8
    assert rows["score"].to_list() == sorted(rows["score"].to_list(), reverse=True)


def test_a_source_is_a_column_of_categories(store):
    done = run(store, "--with", "source", "--groups", "3")
    assert done.exit_code == 0, done.output
    assert "exercises" in done.stdout
    assert "more groups" in done.stderr


def test_files_hold_the_columns_and_the_same_bytes(store, tmp_path):
    one, other = tmp_path / "one.parquet", tmp_path / "other.parquet"
    for path in (one, other):
        assert run(store, "-o", path, "--memory", "0.2").exit_code == 0
    assert one.read_bytes() == other.read_bytes()
    assert pl.read_parquet(one).columns[:14] == [
        *("rank", "latent_a", "label_a", "latent_b", "label_b", "n_a", "n_b", "n_both", "npmi", "lift"),
        *("p_value", "q_value", "similarity", "group"),
    ]


def test_what_a_reference_has_as_well_is_usual(store, tmp_path):
    counts = {}
    for name, args in {"own": (), "itself": ("--reference", str(store))}.items():
        done = run(store, "-o", tmp_path / f"{name}.parquet", *args)
        assert done.exit_code == 0, done.output
        counts[name] = int(re.search(r"usual ([\d,]+)", done.stderr)[1].replace(",", ""))
    own, itself = (pl.read_parquet(tmp_path / f"{name}.parquet") for name in counts)
    assert counts["itself"] > 10 * counts["own"]
    assert own.height > 0
    assert itself.filter(direction="together").height < 0.2 * own.filter(direction="together").height


def test_a_reference_tells_of_fields_too(store, tmp_path):
    out = tmp_path / "between.parquet"
    done = run(store, "--between", "prompt", "response", "--reference", store, "-o", out)
    assert done.exit_code == 0, done.output
    found, m = pl.read_parquet(out), sd.open(store)
    told = Usual.of(m.X, m.concepts["latent"].to_numpy(), m.docs["n_units"].to_numpy()).steps.toarray()
    steps = told[found["latent_a"].to_numpy(), found["latent_b"].to_numpy()]
    np.testing.assert_allclose(found["usual"], found["expected"] * 2.0 ** (steps / 2))
    assert (steps != 0).any()
    assert json.loads(pl.read_parquet_metadata(out)["parameters"])["reference_documents"] == 240


@pytest.mark.parametrize("what", [("--between", "prompt", "response"), ("--with", "score"), ("--with", "source")])
def test_the_permutation_check_says_what_it_saw(store, what):
    done = run(store, *what, "--permutation-check", "--runs", "3")
    assert done.exit_code == 0, done.output
    assert "of 3 runs with shuffled documents show a finding" in done.stderr


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--with", "score", "--between", "prompt", "response"), "both --with and --between"),
        (("--between", "prompt", "prompt"), "both are 'prompt'"),
        (("--between", "prompt", "nothing"), "no field 'nothing'"),
        (("--with", "scores"), "did you mean 'score'?"),
        (("--no-filter", "span"), "did you mean 'spans'?"),
        (("--export", "x.txt"), "must end in"),
        (("--with", "score", "--reference", "other.sae"), "leave one out"),
        (("--reference", "nothing.sae"), "nothing.sae"),
        (("--alpha", "2"), "alpha is 2"),
    ],
)
def test_what_cannot_be_done_is_one_line(store, args, words):
    done = run(store, *args)
    assert done.exit_code != 0
    assert words in str(done.exception) or words in done.output
