"""The commands `diff` and `examples`: what they print, write and refuse."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner, Result
from keywords import keyword_matrix

from saelens_data.cli.diff_sets import _file_names
from saelens_data.cli.main import cli, main
from saelens_data.diff.many import diff_many
from saelens_data.diff.two import diff
from saelens_data.evidence import examples
from saelens_data.store import open_store, write_store

WORDS = {5: "tea", 9: "coffee", 12: "milk"}
LABELS = ["hot tea", None, "[bold]milk[/bold]"]
FIRST = ["rank", "latent", "label", "members", "density_a", "density_b", "difference", "ci_low", "ci_high"]


def write(path: Path, drinks: list[str], **columns: list[object]) -> str:
    texts = [f"This is number {i} of them. Here it says \x1b[31m{drink} once." for i, drink in enumerate(drinks)]
    write_store(path, keyword_matrix(texts, WORDS, LABELS, **columns))
    return str(path)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, str]:
    """Two stores to compare, and one that holds both with columns to split it by."""
    folder = tmp_path_factory.mktemp("stores")
    old, new = ["tea"] * 15 + ["milk"] * 5, ["coffee"] * 10 + ["milk"] * 8 + ["tea"] * 2
    prompts = [f"What of {i}?" for i in range(20)]
    both: dict[str, list[object]] = {
        "model": ["old"] * 20 + ["new"] * 20 + [None],
        "size": list(range(41)),
        "group": ["x", "y", "z", "x"] * 10 + [None],
        "one": ["same"] * 41,
    }
    return (
        write(folder / "old.sae", old, prompt=prompts),
        write(folder / "new.sae", new, prompt=prompts),
        write(folder / "all.sae", [*old, *new, "tea"], **both),
    )


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments, catch_exceptions=False)


def fail(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What the entry point says of a user's error: nothing on stdout, one line, exit status 2."""
    monkeypatch.setattr(sys, "argv", ["saelens-data", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    assert ended.value.code == 2
    assert said.out == ""
    lines = said.err.splitlines()
    assert lines[-1].startswith("Error: ")
    assert [line for line in lines if line.startswith(("Error", "Traceback"))] == lines[-1:]
    return lines[-1].removeprefix("Error: ")


# diff


def test_the_table_starts_with_the_label_and_shows_findings_alone(stores: tuple[str, str, str]) -> None:
    ended = run("diff", *stores[:2], "--pair-on", "prompt")
    lines = [line.split() for line in ended.stdout.splitlines()]
    row = diff(open_store(stores[0]), open_store(stores[1]), pair_on="prompt").frame.row(0, named=True)
    interval = f"[{100 * row['ci_low']:.0f}, {100 * row['ci_high']:.0f}]"
    heads = "rank label latent in old in new difference [95%] effect strength q"
    assert lines[0] == heads.split()
    assert lines[1] == f"1 hot tea 5 75% 10% +65 {interval} +0.65 {row['q_value']:.2g}".split()
    assert lines[2][:7] == ["2", "unlabelled", "9", "0%", "50%", "-50", "[-70,"]
    assert len(lines) == 3
    assert ended.exit_code == 0
    assert ended.stderr.splitlines()[0] == (
        "old (20 documents) against new (20 documents), paired on 'prompt': 3 of 3 concepts tested, in 3 groups. "
        "2 findings at q < 0.05: 1 more in old, 1 more in new."
    )


def test_more_rows_are_marked_as_no_findings(stores: tuple[str, str, str]) -> None:
    table = run("diff", *stores[:2], "-n", "3").stdout
    assert "[bold]milk[/bold]" in table
    assert [line.endswith("no finding") for line in map(str.strip, table.splitlines()[1:])] == [False, False, True]


def test_without_findings_the_nearest_are_shown(stores: tuple[str, str, str]) -> None:
    ended = run("diff", stores[0], stores[0])
    assert "old (1) (20 documents) against old (2) (20 documents)" in ended.stderr
    assert "hold the very same documents" in ended.stderr
    assert "No finding; the nearest are shown." in ended.stderr
    assert ended.stdout.count("no finding") == len(ended.stdout.splitlines()) - 1 == 2


def test_csv_and_json_lines_hold_every_row_and_column(stores: tuple[str, str, str], tmp_path: Path) -> None:
    expected = diff(open_store(stores[0]), open_store(stores[1]), names=("old", "new")).frame
    rows = [json.loads(line) for line in run("diff", *stores[:2], "-f", "jsonl").stdout.splitlines()]
    assert rows == expected.to_dicts()
    assert list(rows[0])[: len(FIRST)] == FIRST
    table = list(csv.DictReader(io.StringIO(run("diff", *stores[:2], "-f", "csv").stdout)))
    assert [float(row["p_value"]) for row in table] == expected["p_value"].to_list()
    assert run("diff", *stores[:2], "-o", str(tmp_path / "r.parquet")).stdout == ""
    assert pl.read_parquet(tmp_path / "r.parquet").equals(expected)
    assert len(run("diff", *stores[:2], "-f", "jsonl", "-n", "1").stdout.splitlines()) == 1


def test_one_store_split_by_expressions(stores: tuple[str, str, str]) -> None:
    where, versus = "model = 'old' and size < 15", "model = 'new'"
    ended = run("diff", stores[2], "--where", where, "--versus", versus, "-f", "jsonl")
    first = json.loads(ended.stdout.splitlines()[0])
    assert (first["latent"], first["n_a"], first["density_a"], first["n_b"]) == (5, 15, 1.0, 2)
    assert f"{where} (15 documents) against {versus} (20 documents)" in ended.stderr
    assert "Left out: 6 documents that match neither expression." in ended.stderr


def test_one_store_split_by_a_column(stores: tuple[str, str, str]) -> None:
    ended = run("diff", stores[2], "--by", "model", "-f", "jsonl")
    first = json.loads(ended.stdout.splitlines()[0])
    assert (first["latent"], first["density_a"], first["density_b"], first["favours"]) == (5, 0.1, 0.75, "old")
    assert ended.stderr.startswith("new (20 documents) against old (20 documents)")
    assert "Left out: 1 document with no value in 'model'." in ended.stderr


def test_names_alpha_and_limits_are_passed_on(stores: tuple[str, str, str]) -> None:
    ended = run("diff", *stores[:2], "--names", "before", "after \x1b[31m", "--alpha", "1e-3", "--limit", "3")
    assert "before (20 documents) against after  [31m (20 documents)" in ended.stderr
    assert "2 findings at q < 0.001" in ended.stderr
    assert "old.sae is a store, already encoded: --limit can change nothing in it" in ended.stderr
    assert "\x1b" not in ended.stderr + ended.stdout


def test_the_report_holds_the_result(stores: tuple[str, str, str], tmp_path: Path) -> None:
    path = tmp_path / "r.html"
    ended = run("diff", *stores[:2], "--pair-on", "prompt", "--report", str(path))
    assert ended.stderr.splitlines()[-1] == f"wrote {path}"
    html = path.read_text(encoding="utf-8")
    assert "<title>old and new: what differs</title>" in html
    assert "<mark>Here it says ⟨U+001B⟩[31mtea once.</mark>" in html


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ALL"], "name a second store or file, or split the one with --by COLUMN or with --where and --versus"),
        (["OLD", "NEW", "--by", "prompt"], "split the one with --by COLUMN or with --where and --versus, not both"),
        (["ALL", "--by", "group", "--names", "a", "b"], "--names goes with the comparison of two sets"),
        (["ALL", "--by", "group", "--reference", "w"], "w"),
        (["ALL", "--by", "group", "--reference", "x", "--all-pairs"], "are different comparisons: give one of them"),
        (["ALL", "--by", "group", "--order", "x,y,z"], "--order goes with --trend"),
        (
            ["OLD", "NEW", "--trend"],
            "--trend compares the sets that a column of one source makes: name it with --by COLUMN",
        ),
        (["ALL", "--trend"], "--trend compares the sets that a column of one source makes: name it with --by COLUMN"),
        (["ALL", "--by", "group", "--trend"], "the order of 'group' is not clear"),
        (["OLD", "NEW", "--watch", "tea"], "--watch goes with a rule that can fail: give one, as in --fail-on"),
        (["OLD", "NEW", "--fail-on", "difference >"], 'the rule "difference >" is no SQL expression'),
        (["OLD", "NEW", "--fail-on", "diference > 0"], "diference"),
        (["OLD", "NEW", "--fail-on", "difference > 0", "--junit", "r.txt"], "its name must end in .xml"),
        (
            ["OLD", "NEW", "--fail-on", "difference > 0", "--watch", "nothing"],
            "the watchlist covers nothing by 'nothing'",
        ),
        (["OLD", "NEW", "--cluster-on", "nothing"], "cannot cluster on 'nothing': old has no such column"),
        (["OLD", "NEW", "--pair-on", "prompt", "--cluster-on", "prompt"], "give one; clusters may hold"),
        (["OLD", "NEW", "--adjust", "nothing"], "cannot adjust for 'nothing': old has no such column"),
        (["OLD", "NEW", "--holdout", "1"], "holdout is 1: give the share of documents to confirm with, 0.5 say"),
        (["ALL", "--where", "size > 3"], "--where and --versus go together: one expression for each set"),
        (["ALL", "--versus", "size > 3", "--by", "model"], "--where and --versus go together"),
        (["ALL", "--where", "size > 3", "--versus", "size < 3", "--by", "model"], "give one of them"),
        (
            ["ALL", "--where", "size < 25", "--versus", "size > 20"],
            '4 of the documents match both --where "size < 25" and --versus "size > 20": exclude them from one',
        ),
        (["ALL", "--where", "size <", "--versus", "size > 3"], "cannot evaluate size <: "),
        (["ALL", "--where", "sise < 3", "--versus", "size > 3"], "available: doc_id, text, model, size, group, one"),
        (["ALL", "--where", "size > 99", "--versus", "size > 3"], "size > 99 has no documents to compare: it is empty"),
        (["ALL", "--by", "one"], "'one' has 1 value (same: 41)"),
        (["ALL", "--by", "modle"], "cannot split by 'modle': there is no such column; did you mean 'model'?"),
        (["OLD", "NEW", "--pair-on", "promt"], "did you mean 'prompt'?"),
        (["OLD", "NEW", "--alpha", "2"], "alpha is 2: give the share of false findings to accept, between 0 and 1"),
        (["OLD", "NEW", "--names", "x", "x"], "both sets are called 'x': give them different names"),
        (["OLD", "NEW", "--report", "TMP/none/r.html"], "none/r.html': there is no folder '"),
        (["OLD", "TMP/none.sae"], "none.sae"),
    ],
)
def test_errors_are_one_line(
    arguments: list[str],
    message: str,
    stores: tuple[str, str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    places = {"OLD": stores[0], "NEW": stores[1], "ALL": stores[2]}
    given = [places.get(argument, argument.replace("TMP", str(tmp_path))) for argument in arguments]
    assert message in fail(monkeypatch, capsys, "diff", *given)


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (("x/old.jsonl", "new.sae"), ("old", "new")),
        (("gpt-4.1.jsonl.gz", "v0.1_gpt-3.5.csv"), ("gpt-4.1", "v0.1_gpt-3.5")),
        (("a/answers.jsonl", "b/answers.jsonl"), ("a/answers", "b/answers")),
        (("answers.jsonl", "answers.sae"), ("answers (1)", "answers (2)")),
        (("folder/", "file"), ("folder", "file")),
    ],
)
def test_sets_are_called_by_their_files(paths: tuple[str, str], names: tuple[str, str]) -> None:
    assert _file_names(*paths) == names


# examples


def test_examples_mark_the_evidence(stores: tuple[str, str, str]) -> None:
    ended = run("examples", stores[0], "5", "-n", "2")
    assert ended.stderr == "latent 5 (hot tea): active in 15 of 20 documents; the strongest 2\n"
    assert ended.stdout.splitlines() == [
        "1. d0  activation 1.00",
        "This is number 0 of them. **Here it says  [31mtea once.**",
        "",
        "2. d1  activation 1.00",
        "This is number 1 of them. **Here it says  [31mtea once.**",
        "",
    ]


def test_examples_are_ten_and_coloured_on_a_terminal(
    stores: tuple[str, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    shown = run("examples", stores[0], "5").stdout
    assert shown.count("activation") == 10
    assert "\x1b[30;43mHere it says  [31mtea once.\x1b[0m" in shown
    assert "**" not in shown


def test_examples_in_json_lines_hold_offsets(stores: tuple[str, str, str]) -> None:
    rows = [json.loads(line) for line in run("examples", stores[1], "9", "-f", "jsonl").stdout.splitlines()]
    assert rows == examples(open_store(stores[1]), 9).frame.to_dicts()
    assert (rows[0]["start"], rows[0]["end"]) == (26, 56)


def test_a_latent_that_is_not_there(
    stores: tuple[str, str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fail(monkeypatch, capsys, "examples", stores[0], "99") == "there is no latent 99: choose one from 5 to 12"
    assert "0 examples asked for" in fail(monkeypatch, capsys, "examples", stores[0], "5", "-n", "0")


@pytest.mark.parametrize("command", ["diff", "examples"])
def test_help_has_an_example(command: str) -> None:
    assert f"Examples:\n  saelens-data {command} " in run(command, "--help").stdout


def test_a_gate_ends_with_its_status(stores: tuple[str, str, str], tmp_path: Path) -> None:
    junit, markdown = tmp_path / "r.xml", tmp_path / "r.md"
    files = ["--junit", str(junit), "--markdown", str(markdown)]
    passed = run("diff", *stores[:2], "--fail-on", "difference > 0.9", *files)
    assert passed.exit_code == 0
    assert passed.stderr.splitlines()[-1] == "Passed: 0 of 2 findings match difference > 0.9."
    failed = run("diff", *stores[:2], "--fail-on", "difference > 0.5", "--watch", "hot", *files)
    assert failed.exit_code == 1
    assert failed.stderr.splitlines()[-1] == "Failed: 1 of 1 finding on 1 watched concept matches difference > 0.5."
    assert failed.stdout.splitlines()[1].split()[:4] == ["1", "hot", "tea", "5"]
    assert '<failure message="' in junit.read_text(encoding="utf-8")
    assert "**Failed:**" in markdown.read_text(encoding="utf-8")


def test_the_entry_point_ends_with_the_status_of_the_gate(
    stores: tuple[str, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["saelens-data", "diff", *stores[:2], "--fail-on", "difference > 0.5"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1


def test_clusters_adjustment_holdout_and_grouping_are_passed_on(stores: tuple[str, str, str]) -> None:
    both = open_store(stores[2])
    new, old = (both.filter_docs(pl.col("model") == name) for name in ("new", "old"))
    ended = run("diff", stores[2], "--by", "model", "--cluster-on", "group", "--adjust", "group", "-f", "jsonl")
    expected = diff(new, old, cluster_on="group", adjust=["group"], names=("new", "old"))
    assert [json.loads(line) for line in ended.stdout.splitlines()] == expected.frame.to_dicts()
    assert "clustered on 'group'" in ended.stderr
    ended = run("diff", *stores[:2], "--holdout", "0.5", "--seed", "3", "--no-group", "-f", "jsonl")
    expected = diff(*map(open_store, stores[:2]), holdout=0.5, seed=3, group=False, names=("old", "new"))
    assert [json.loads(line) for line in ended.stdout.splitlines()] == expected.frame.to_dicts()
    assert expected.notes[-1] in ended.stderr


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One store of three sets, of which one alone talks of coffee, ever more of milk."""
    drinks = ["tea"] * 20 + ["coffee"] * 18 + ["milk"] * 2 + ["tea"] * 10 + ["milk"] * 10
    models = [f"v1.{version}" for version in (2, 9, 10) for _ in range(20)]
    return write(tmp_path_factory.mktemp("three") / "three.sae", drinks, model=models, prompt=list(range(20)) * 3)


def test_several_sets_are_compared_with_the_rest(three: str) -> None:
    ended = run("diff", three, "--by", "model", "--no-group")
    assert ended.exit_code == 0
    lines = ended.stdout.splitlines()
    assert lines[0].split()[:6] == ["set", "against", "label", "latent", "here", "there"]
    assert any(line.startswith("v1.9") and "unlabelled" in line and "90%" in line for line in lines[1:])
    expected = diff_many(open_store(three), "model", group=False)
    assert ended.stderr.splitlines()[: 1 + len(expected.notes)] == [expected.summary(), *expected.notes]
    rows = [
        json.loads(line)
        for line in run("diff", three, "--by", "model", "--no-group", "-f", "jsonl").stdout.splitlines()
    ]
    assert rows == expected.frame.to_dicts()
    csv_text = run("diff", three, "--by", "model", "-f", "csv").stdout
    assert len(next(csv.DictReader(io.StringIO(csv_text)))["densities"].split()) == 3


def test_a_reference_all_pairs_and_a_trend(three: str) -> None:
    ended = run("diff", three, "--by", "model", "--reference", "v1.2", "-f", "jsonl")
    assert {json.loads(line)["against"] for line in ended.stdout.splitlines()} == {"v1.2"}
    ended = run("diff", three, "--by", "model", "--all-pairs", "--pair-on", "prompt", "--aa-check", "--splits", "3")
    assert "3 sets by 'model' (20 documents each), all pairs" in ended.stderr
    assert "of 3 runs with 'model' dealt out at random show a finding" in ended.stderr
    ended = run("diff", three, "--by", "model", "--trend", "--no-group")
    assert "The order of 'model': v1.2, v1.9, v1.10" in ended.stderr
    assert any("[bold]milk[/bold]" in line and "0% 10% 50%" in line for line in ended.stdout.splitlines())
