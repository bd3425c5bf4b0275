"""`saelens-data cluster` and `assign`: tables, files, refusals."""

from __future__ import annotations

import json
import re
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner, Result
from planted import planted
from synthetic import write

from saelens_data.cli.main import cli
from saelens_data.errors import InputError


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cluster") / "m.sae"
    m = planted(0, n=96, k=3, own=8, others=6)
    m = type(m)(
        m.X,
        m.docs.with_columns(n_units=pl.lit(3, pl.Int32), n_tokens=pl.lit(9, pl.Int32)),
        m.concepts,
        m.source,
        m.evidence,
    )
    write(path, m, docs_per_shard=40)
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments], catch_exceptions=False)


def test_the_table_says_what_a_person_needs(store):
    ended = run("cluster", store, "-k", 3, "--truth", "truth")
    assert ended.exit_code == 0
    lines = ended.stdout.splitlines()
    assert lines[0].split() == ["cluster", "name", "documents", "share", "stability", "set", "apart", "by"]
    assert len([line for line in lines if line.strip()[:2] in {"0 ", "1 ", "2 "}]) == 3
    assert "96 documents in 3 clusters by 30 concepts (kmeans)" in ended.stderr
    assert re.search(r"Agreement with 'truth' \(3 values\): accuracy (1|0\.9)", ended.stderr)
    assert "tested on clusters made without them" in ended.stderr


def test_files_hold_the_same_clusters(store, tmp_path):
    assignments, rows, kept = (tmp_path / name for name in ("a.csv", "r.json", "c.safetensors"))
    ended = run("cluster", store, "-k", 3, "--assignments", assignments, "-o", rows, "--save", kept)
    assert ended.exit_code == 0
    assert ended.stdout == ""
    table, result = pl.read_csv(assignments), json.loads(rows.read_text())
    assert table.columns == ["doc_id", "cluster", "membership"]
    counts = table["cluster"].value_counts().sort("cluster")["count"].to_list()
    assert [row["size"] for row in result["rows"]] == counts
    assert result["parameters"]["method"] == "kmeans"
    assert result["parameters"]["quality"]["stability"] > 0.9

    again = run("assign", kept, store, "-f", "csv")
    assert again.exit_code == 0
    found = pl.read_csv(again.stdout.encode())
    assert found["cluster"].to_list() == table["cluster"].to_list()
    assert "96 documents put into 3 clusters, 0 unassigned" in again.stderr


def test_assign_shows_the_first_rows(store, tmp_path):
    kept = tmp_path / "c.safetensors"
    run("cluster", store, "-k", 3, "--save", kept)
    ended = run("assign", kept, store)
    assert "The first 20 of 96 documents" in ended.stderr
    assert len(ended.stdout.splitlines()) == 21


def test_the_same_command_gives_the_same_bytes(store):
    one, other = (run("cluster", store, "-k", 3, "-f", "jsonl").stdout for _ in range(2))
    assert one == other
    assert len(one.splitlines()) == 3


def test_k_auto_says_what_it_chose(store):
    ended = run("cluster", store, "-k", "auto")
    assert ended.exit_code == 0
    assert "3 clusters were chosen of 2 to 8: made of two halves they agree at" in ended.stderr


def test_the_axis_is_shown_and_given_back(store, tmp_path):
    axis = tmp_path / "axis.csv"
    ended = run("cluster", store, "--show-axis", "-o", axis)
    assert ended.exit_code == 0
    assert "30 concepts; edit the list" in ended.stderr
    table = pl.read_csv(axis)
    assert table.columns[:2] == ["latent", "label"]
    table.filter(pl.col("latent") < 24).write_csv(axis)
    ended = run("cluster", store, "--latents", axis, "-k", 3, "--truth", "truth")
    assert "in 3 clusters by 24 concepts" in ended.stderr
    assert re.search(r"accuracy (1|0\.9)", ended.stderr)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "how many clusters? Give -k with a number, or -k auto"),
        (("-k", 3, "--assignments", "a.txt"), "its name must end in .csv"),
        (("-k", 3, "--save", "c.pkl"), "its name must end in .safetensors"),
        (("-k", 3, "--truth", "truht"), "no column 'truht' to compare with; did you mean 'truth'"),
        (("-k", 3, "--method", "hdbscan"), "hdbscan finds the number of clusters itself"),
    ],
)
def test_refusals_are_one_sentence(store, arguments, message):
    with pytest.raises(InputError) as refused:
        run("cluster", store, *arguments)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_number_of_clusters_that_is_none_is_refused(store):
    ended = run("cluster", store, "-k", "many")
    assert ended.exit_code == 2
    assert "'many' is neither a number of clusters nor 'auto'" in ended.stderr


def test_latents_that_cannot_be_read_are_refused(store, tmp_path):
    wrong = tmp_path / "axis.txt"
    wrong.write_text("1")
    with pytest.raises(InputError, match="cannot read latents from"):
        run("cluster", store, "--latents", wrong, "-k", 3)
    damaged = tmp_path / "axis.parquet"
    damaged.write_text("not parquet")
    with pytest.raises(InputError, match="cannot be read as a table of latents"):
        run("cluster", store, "--latents", damaged, "-k", 3)


def test_a_map_needs_the_extra(store, monkeypatch):
    monkeypatch.setattr("saelens_data.display.plots.find_spec", lambda _: None)
    import saelens_data as sd
    from saelens_data.errors import MissingExtraError

    with pytest.raises(MissingExtraError, match=r"saelens_data\[plots\]"):
        sd.cluster(sd.open(store), k=3).plot()
