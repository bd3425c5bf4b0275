"""Recipes run as their pages say, on bundled data and on a file of one's own, and print what is so and what the pages show.

As on the pages, arithmetic is float32.
"""

from __future__ import annotations

import ast
import copy
import functools
import json
import re
import runpy
import sys
from pathlib import Path

import nbformat
import numpy as np
import polars as pl
import pytest
import torch
from llm_server import Server
from nbclient import NotebookClient
from scipy.optimize import linear_sum_assignment
from shown import blocks, missing

import saelens_data as sd
from saelens_data.errors import EncoderWarning
from saelens_data.readers.weights import MINILM
from saelens_data.sae.checkpoints import save_saelens
from saelens_data.sae.model import SAE

FOLDER = Path(__file__).parents[1] / "recipes"
SCRIPTS = sorted(path.stem for path in FOLDER.glob("*.py"))


@pytest.fixture(scope="module", autouse=True)
def place(request):
    """One cache for all recipes and pages, and for later runs too, so that the bundled texts are encoded once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAELENS_DATA_CACHE", str(request.config.cache.mkdir("encoded")))
        patch.setattr(sd, "encode", functools.partial(sd.encode, dtype="float32"))
        yield


@pytest.fixture
def run(capsys, monkeypatch):
    """Run a recipe as its command would; its output, or its last line of error where it refuses."""

    def run(name: str, *args: object) -> str:
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, args)])
        capsys.readouterr()
        try:
            runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
        except SystemExit as stopped:
            if stopped.code != 2:
                raise
            return capsys.readouterr().err.splitlines()[-1]
        return capsys.readouterr().out

    return run


@pytest.fixture(scope="module")
def habits():
    return sd.encode(sd.datasets.load("habits"))


@pytest.fixture(scope="module")
def truth():
    return {habit["name"]: habit for habit in listed(sd.datasets.load("habits").truth["habits"])}


def listed(habits):
    return [{"name": name, **value} for name, value in habits.items()] if isinstance(habits, dict) else habits


def share(m: sd.ConceptMatrix, latent: int, mask: np.ndarray) -> float:
    """In how many of the documents of a mask a latent is active, counted plainly."""
    column = m.X[:, [int(np.flatnonzero(m.concepts["latent"].to_numpy() == latent)[0])]].toarray()[:, 0]
    return float((column[mask] > 0).mean())


def own_file(tmp_path: Path, **names: str) -> Path:
    """Sixteen bundled answers as somebody's own file: other names of columns, a csv."""
    docs = sd.datasets.load("habits").docs.filter(pl.col("id") <= "p008")
    names = {"text": "reply", "prompt": "question", "model": "who"} | names
    docs.select(pl.col("doc_id").alias("uid"), *names).rename(names).write_csv(tmp_path / "own.csv")
    return tmp_path / "own.csv"


@pytest.mark.parametrize("name", SCRIPTS)
def test_each_has_a_page_with_its_command(name):
    page = (FOLDER / f"{name}.md").read_text(encoding="utf-8")
    script = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
    assert f"python recipes/{name}.py" in page
    assert f"Usage: python recipes/{name}.py" in ast.get_docstring(ast.parse(script))
    for option in re.findall(rf"recipes/{name}\.py[^\n]*", page):
        for flag in re.findall(r" (--?[a-z][\w-]*)", option):
            assert f'"{flag}"' in script, flag


def test_the_index_lists_every_page():
    index = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\]\((\w+)\.md\)", index)) == {path.stem for path in FOLDER.glob("*.md")} - {"README"}


def test_links_of_the_pages_lead_somewhere():
    for page in FOLDER.glob("*.md"):
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert "://" in target or (FOLDER / target).exists(), f"{page.name} links to {target}"


def printed_as_on_its_page(name: str, out: str) -> None:
    """Every line that the page shows is printed, with its numbers to the last digits."""
    shown = next(block.body for block in blocks(f"recipes/{name}.md") if block.kind == "text")
    line = missing(shown, out)
    assert line is None, f"recipes/{name}.md shows a line that is not printed:\n{line}\nprinted is\n{out}"


def test_compare_models(run, habits, truth, tmp_path):
    out = run("compare_models", "--report", tmp_path / "diff.html")
    printed_as_on_its_page("compare_models", out)
    model = habits.docs["model"].to_numpy()
    said = re.findall(
        r"^(.+): (\d+)% of A, (\d+)% of B\n  difference ([+-]\d+)% \[([+-]\d+)%, ([+-]\d+)%\]", out, re.MULTILINE
    )
    assert len(said) == 5
    for label, in_a, in_b, difference, low, high in said:
        same = habits.concepts.filter(label=label)["latent"]
        shares = [(share(habits, j, model == "A"), share(habits, j, model == "B")) for j in same]
        assert any(f"{x:.0%} {y:.0%} {x - y:+.0%}" == f"{in_a}% {in_b}% {difference}%" for x, y in shares), label
        assert int(low) <= int(difference) <= int(high)
    assert ("i was · felt · i had", "B") in {(label, "B" if int(a) < int(b) else "A") for label, a, b, *_ in said}
    anecdote = re.search(r"i was · felt.*\n.*\n  (p\d+)-B: ", out).group(1)
    assert anecdote in truth["personal_anecdote"]["ids"]
    assert "i was · felt · i had" in (tmp_path / "diff.html").read_text(encoding="utf-8")


def test_find_artefacts(run, tmp_path):
    out = run("find_artefacts", "--export", tmp_path / "suspects.jsonl", "--report", tmp_path / "artefacts.html")
    printed_as_on_its_page("find_artefacts", out)
    planted = listed(sd.datasets.load("artefacts").truth["artefacts"])
    hopes = {name for artefact in planted if artefact["name"] == "hope_correct" for name in artefact["ids"]}
    rows = pl.read_ndjson(tmp_path / "suspects.jsonl")
    for group in (1, 2, 3):  # each is a list of rows to mend
        assert rows.filter(group=group)["id"].is_in(list(hopes)).mean() >= 0.75
    assert len(set(rows["id"]) & hopes) >= 24
    assert "<!DOCTYPE html>" in (tmp_path / "artefacts.html").read_text(encoding="utf-8")
    assert "no field 'question'" in run("find_artefacts", "--fields", "question", "response")


def test_a_file_of_ones_own_and_a_wrong_column(run, tmp_path):
    path = own_file(tmp_path)
    out = run("compare_models", path, "--column", "who", "--pair-on", "prompt")
    assert out.startswith("A (8 documents) against B (8 documents), paired on 'prompt': ")
    assert run("compare_models", path) == (
        "compare_models.py: error: there is no column 'model': name one with --column; "
        "doc_id, text, prompt, uid, who, n_units, n_tokens, error"
    )
    assert "has 16 values, and two are compared" in run("compare_models", path, "--column", "uid")
    assert "cannot find" in run("search", tmp_path / "nothing.csv") or "no file" in run("search", tmp_path / "no.csv")


def test_what_changed(run, habits, tmp_path):
    out = run("what_changed", "--report", tmp_path / "trend.html")
    printed_as_on_its_page("what_changed", out)
    made = runpy.run_path(str(FOLDER / "what_changed.py"))
    m = made["made_versions"]()
    counts = m.docs.group_by("version").agg(n=pl.len(), b=(pl.col("model") == "B").sum()).sort("version")
    assert counts.rows() == [(version, 80, b) for version, b in made["MADE"].items()]
    assert set(m.docs["doc_id"]) == set(habits.docs["doc_id"])
    line = re.search(
        r"^ +([+-]\d+)%  \[([+-]\d+)%, ([+-]\d+)%\] +((?:\d+% )+) *i was · felt · i had$", out, re.MULTILINE
    )
    version = m.docs["version"].to_numpy()
    latent = int(m.concepts.filter(label="i was · felt · i had")["latent"][0])
    steps = [share(m, latent, version == name) for name in made["MADE"]]
    assert line.group(4).split() == [f"{step:.0%}" for step in steps]
    assert f"{np.polyfit(range(4), steps, 1)[0]:+.0%}" == f"{line.group(1)}%"
    assert 0 < int(line.group(2)) <= int(line.group(1)) <= int(line.group(3))
    assert "trend" in (tmp_path / "trend.html").read_text(encoding="utf-8").lower()


def test_cluster_by_style(run, monkeypatch, tmp_path):
    results, cluster = [], sd.cluster
    monkeypatch.setattr(sd, "cluster", lambda *args, **more: results.append(cluster(*args, **more)) or results[-1])
    out = run("cluster_by_style", "--report", tmp_path / "map.html")
    printed_as_on_its_page("cluster_by_style", out)
    docs = sd.datasets.load("crossed").docs
    for result, (follow, ignore) in zip(results, [("style", "topic"), ("topic", "style")], strict=True):
        found = {}
        for column in (follow, ignore):
            table = result.assignments.join(docs.select("doc_id", column), on="doc_id")
            codes = [np.unique(table[name].to_numpy(), return_inverse=True)[1] for name in ("cluster", column)]
            grid = np.zeros((4, 4))
            np.add.at(grid, tuple(codes), 1)
            found[column] = grid[linear_sum_assignment(-grid)].sum() / docs.height
        assert f"  truth: of '{follow}' it finds {found[follow]:.0%} (chance 25%)" in out
        assert f"  leakage: of '{ignore}' it finds {found[ignore]:.0%} (chance 25%)" in out
        assert found[follow] > 0.7
        assert found[ignore] < 0.45
    assert "poem" in (tmp_path / "map.html").read_text(encoding="utf-8")


def test_search(run, truth):
    out = run("search")
    printed_as_on_its_page("search", out)
    words, query, like = (re.findall(r"\d\. (\S+) \(", part) for part in out.split("\n\n")[1:])
    sports = {f"{name}-B" for name in truth["sports_metaphor"]["ids"]}
    assert len(set(words) & sports) >= 4
    assert not set(words[:2]) & set(like)
    docs = sd.datasets.load("habits").docs
    assert (docs.filter(pl.col("doc_id").is_in(query))["text"].str.len_chars() > 300).all()
    shown = dict(re.findall(r"\d\. (\S+) \([\d.]+\)  (.+)", out))
    for name, sentence in shown.items():
        assert sentence.split("\n")[0] in docs.filter(doc_id=name)["text"][0]


def test_label_locally(run):
    with Server() as server:
        out = run("label_locally", "--model", "stand-in", "--base-url", server.url, "-n", "2")
        printed_as_on_its_page("label_locally", out)
        assert f"; {len(server.served)} calls, {server.tokens:,} tokens, $0.00" in out
        verdicts = re.findall(r"detection ([\d.]+) \[([\d.]+), ([\d.]+)\], the label before ([\d.]+): (.+)", out)
        assert len(verdicts) == 2
        for score, low, high, before, verdict in verdicts:
            assert float(low) <= float(score) <= float(high)
            assert (verdict == "used") == (float(score) > float(before) and float(low) > 0.5)
        before = len(server.served)
        again = run("label_locally", "--model", "stand-in", "--base-url", server.url, "-n", "2")
        assert len(server.served) == before
        assert again.split("\n\n")[1:] == out.split("\n\n")[1:]
    # A server that is not there is one sentence, whatever was answered before.
    assert run("label_locally", "--model", "other", "--base-url", "nowhere").startswith("label_locally.py: error: ")


def test_train_your_own(run, tmp_path):
    texts = tmp_path / "own.jsonl"
    sd.datasets.load("crossed").docs.filter(style="news").select("text").write_ndjson(texts)
    out = run("train_your_own", texts, "-o", tmp_path / "own", "--latents", 64, "-k", 8, "--epochs", 2, "--batch", 64)
    figures = json.loads((tmp_path / "own" / "metrics.json").read_text())
    assert out.startswith(f"{figures['training_units']:,} spans to train on, {figures['held_out_units']:,} held out\n")
    assert f"variance explained on these: {figures['explained_variance']:.2f};" in out
    m = sd.encode(texts, encoder=str(tmp_path / "own"))
    assert (m.n_docs, m.n_concepts) == (56, 64)
    named = m.concepts.drop_nulls("score").filter(pl.col("span_density") >= 0.005)
    best = named.sort("score", "latent", descending=[True, False]).row(0, named=True)
    assert f"{best['latent']:>5}  {best['score']:.2f}  on {best['span_density']:.1%} of spans  {best['label']}" in out
    assert "holds an encoder already" in run("train_your_own", texts, "-o", tmp_path / "own")


def test_real_lm(run, tmp_path, monkeypatch):
    """The same script, with a layer of the bundled reader as the language model and a small SAE of random weights."""
    W = torch.randn((384, 96), generator=torch.Generator().manual_seed(0)) / 384**0.5
    zeros = torch.zeros(384)
    sae = SAE(
        W_enc=W,
        b_enc=torch.full((96,), -1.5),
        in_center=zeros,
        W_dec=W.t().contiguous(),
        b_dec=zeros,
        activation="relu",
        metadata={"model_name": MINILM, "hook_name": "blocks.4.hook_resid_post"},
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SAELENS_DATA_CACHE", str(tmp_path / "cache"))  # what is in the cache warns no more
    save_saelens(sae, Path("tinysae"))
    parts = {"reader": MINILM, "layer": 4, "sae": "tinysae"}
    path = sd.datasets.load("artefacts").paths[0]
    with pytest.warns(EncoderWarning, match="the SAE explains less of the reader's states than their mean does"):
        out = run("real_lm", path, "--limit", 24, "-n", 2, *(f"--{name}={value}" for name, value in parts.items()))
    printed_as_on_its_page("real_lm", out)
    m = sd.encode(path, limit=24, **parts)
    assert m.source.unit == "token"
    said = re.findall(r"^(\d+) \(.*\), in (\d+) of 24 documents\n  (\S+) ([\d.]+)  .*>>(.+)<<", out, re.MULTILINE)
    assert len(said) == 2
    X = m.X.toarray()
    for latent, n, name, strongest, token in said:
        column = X[:, int(latent)]
        assert int(n) == (column > 0).sum() <= 12
        assert (name, strongest) == (m.docs["doc_id"][int(column.argmax())], f"{column.max():.2f}")
        assert token.strip() in m.docs["text"][int(column.argmax())]
    assert "name one SAE: its path" in run("real_lm", path, "--reader", MINILM, "--limit", 2)


def test_use_a_store(run, habits, tmp_path):
    sd.write_store(tmp_path / "habits.sae", habits)
    out = run("use_a_store", tmp_path / "habits.sae", "--csv", tmp_path / "table.csv")
    printed_as_on_its_page("use_a_store", out)
    accuracy = float(re.search(r"accuracy ([\d.]+) in 5 folds", out).group(1))
    assert 0.75 < accuracy < 0.95
    table = pl.read_csv(tmp_path / "table.csv")
    assert table["doc_id"].to_list() == habits.docs["doc_id"].to_list()
    for name in table.columns[-10:]:
        latent = int(name.split()[0])
        values = habits.X[:, [latent]].toarray()[:, 0]
        np.testing.assert_allclose(table[name].to_numpy(), values, rtol=1e-6)
        a, b = (f"{values[habits.docs['model'].to_numpy() == side].mean():.3f}" for side in "AB")
        assert re.search(rf"^{re.escape(name)} +{a} +{b}$", out, re.MULTILINE), name
    assert "there is no column 'kindly': name one with --target" in run("use_a_store", "--target", "kindly")
    assert "argument -k: invalid number_or_auto value: 'many'" in run("cluster_by_style", "-k", "many")


def shown_by(cell: nbformat.NotebookNode, kind: str = "text/html") -> str:
    """What the last expression of a cell shows."""
    return next(output.data.get(kind, "") for output in cell.outputs if output.output_type == "execute_result")


def words_of(html: str) -> list[list[str]]:
    """The cells of a table, row by row, numbers aside: they depend on a machine's arithmetic."""
    rows = [
        re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in re.findall(r"<tr.*?</tr>", html, re.DOTALL)
    ]
    return [[re.sub(r"[\d.,⁰¹²³⁴⁵⁶⁷⁸⁹]+", "#", re.sub(r"<[^>]+>", "", cell)).strip() for cell in row] for row in rows]


def test_the_notebook_runs_in_a_kernel_and_is_kept_as_it_shows_itself(habits):
    kept = nbformat.read(FOLDER / "notebook.ipynb", as_version=4)
    assert (FOLDER / "notebook.ipynb").stat().st_size < 400_000
    fresh = copy.deepcopy(kept)
    NotebookClient(fresh, timeout=600, kernel_name="python3").execute()
    cells = [pair for pair in zip(kept.cells, fresh.cells, strict=True) if pair[0].cell_type == "code"][1:]
    assert [[output.output_type for output in cell.outputs] for cell, _ in cells] == [["execute_result"]] * len(cells)
    tables = [pair for pair in cells if "image/png" not in pair[0].outputs[0].data]
    assert len(cells) - len(tables) == 2  # the charts, which are kept as pictures
    for cell, now in tables:
        assert words_of(shown_by(cell))[:2] == words_of(shown_by(now))[:2], "run tools/notebook.py"
    m, d, chart, examples, found, _, _, table = (now for _, now in cells)
    assert "ConceptMatrix(320 documents" in shown_by(m)
    assert "i was · felt · i had (" in words_of(shown_by(d))[1][1]
    assert "vega" in shown_by(chart)
    assert shown_by(d).count("data:image/svg+xml;base64,") == 10
    assert "<mark" in shown_by(examples)
    assert "p027-B" in shown_by(found)
    rows = re.findall(r"<td>([\d.]+)</td>", shown_by(table))
    model = habits.docs["model"].to_numpy()
    latent = int(habits.concepts.filter(label="i was · felt · i had")["latent"][0])
    assert [float(value) for value in rows[:2]] == [round(share(habits, latent, model == side), 2) for side in "AB"]
