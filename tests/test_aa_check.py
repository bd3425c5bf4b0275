"""aa_check: the same as running diff on every split, by value, and calm on real answers."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from keywords import keyword_matrix
from scipy.sparse import csr_array
from scipy.stats import binom
from statsmodels.stats.proportion import proportion_confint
from test_diff import grouped, matrix, strong

from saelens_data import stats
from saelens_data.cli.main import cli
from saelens_data.corpus import read_corpus
from saelens_data.diff.aa_check import aa_check
from saelens_data.diff.two import DiffResult, diff
from saelens_data.errors import InputError
from saelens_data.matrix import ConceptMatrix, Source
from saelens_data.store import write_store

ALPHA = 0.4  # so that findings by chance are many


def some_sets(seed: int, n_a: int = 41, n_b: int = 30) -> tuple[ConceptMatrix, ConceptMatrix]:
    """30 latents with strengths and evidence: one always active, every fifth a near-duplicate of the one before."""
    rng = np.random.default_rng(seed)
    density = np.repeat(rng.uniform(0, 0.6, 6), 5) * rng.uniform(0.5, 1, 30)
    sets = []
    for n, name in ((n_a, "a"), (n_b, "b")):
        values = strong(rng.random((n, 30)) < np.r_[1.0, density[1:]], rng)
        values[:, 4::5] = values[:, 3::5] * rng.lognormal(0, 0.2, (n, 6))
        sets.append(grouped(values, name=name, prompt=range(n), text_id=np.arange(n) // 3))
    return tuple(sets)


def judged(results: list[DiffResult], row: dict) -> None:
    """`row` of the check says what diff said of every split."""
    hits = sum(result.findings.height > 0 for result in results)
    assert row["tested"] == sum(result.n_tested for result in results) // len(results)
    assert row["with_findings"] == hits
    assert 0 < hits < len(results)


@pytest.mark.parametrize("group", [False, True])
def test_halves_are_judged_as_diff_judges(group):
    a, b = some_sets(0)
    rng = np.random.default_rng(7)
    check = aa_check(diff(a, b, alpha=ALPHA, group=group, names=("old", "new")), splits=40, seed=7)
    for m, row in zip((a, b), check.frame.iter_rows(named=True), strict=True):
        n = m.n_docs
        results = [
            diff(*(m.take_docs(np.flatnonzero(half)) for half in (in_a, ~in_a)), alpha=ALPHA, group=group)
            for in_a in rng.permuted(np.tile(np.arange(n) < n // 2, (40, 1)), axis=1)
        ]
        judged(results, row)
        assert {result.n_tested for result in results} == {row["tested"]}
        assert (row["tested"] < a.n_concepts - results[0].n_untestable) == group
    assert check.frame["set"].to_list() == ["old", "new"]


@pytest.mark.parametrize("group", [False, True])
def test_turned_pairs_are_judged_as_diff_judges(group):
    a, b = some_sets(1, 40, 40)
    whole = ConceptMatrix.concat([a, b])
    options = {"pair_on": "prompt", "alpha": ALPHA, "group": group}
    check = aa_check(diff(a, b, **options), splits=40, seed=3)
    turns = np.random.default_rng(3).integers(0, 2, (40, 40))
    results = [diff(*(whole.take_docs(np.arange(40) + 40 * side) for side in (t, 1 - t)), **options) for t in turns]
    (row,) = check.frame.iter_rows(named=True)
    judged(results, row)
    assert {result.n_tested for result in results} == {row["tested"]}
    assert row["set"] == "A and B"


@pytest.mark.parametrize("group", [False, True])
@pytest.mark.parametrize("column", ["prompt", "text_id"])
def test_moved_clusters_are_judged_as_diff_judges(column, group):
    a, b = some_sets(2, 42, 33)
    if column == "text_id":  # clusters of one set each
        b = b.with_docs(b.docs.with_columns(pl.col("text_id") + 100))
    whole, options = ConceptMatrix.concat([a, b]), {"cluster_on": column, "alpha": ALPHA, "group": group}
    result = diff(a, b, **options)
    check = aa_check(result, splits=25, seed=4)
    rng, in_a = np.random.default_rng(4), np.arange(75) < 42
    sides = [stats.relabel(result.cluster, in_a, rng) for _ in range(25)]
    results = [diff(*(whole.take_docs(np.flatnonzero(half)) for half in (side, ~side)), **options) for side in sides]
    (row,) = check.frame.iter_rows(named=True)
    judged(results, row)
    assert check.notes[0].startswith(f"A/A check: {row['with_findings']} of 25 random exchanges of clusters between")


def test_counting_in_blocks_draws_the_same_halves(monkeypatch):
    result = diff(*some_sets(2), alpha=ALPHA)
    whole = aa_check(result, splits=50).frame
    monkeypatch.setattr(sys.modules["saelens_data.diff.aa_check"], "_CELLS", 100)
    assert aa_check(result, splits=50).frame.equals(whole)


def test_the_outcome_in_numbers_and_words():
    check = aa_check(diff(*some_sets(3), alpha=ALPHA, names=("old", "new")), splits=50, seed=5)
    row = check.frame.row(0, named=True)
    low, high = proportion_confint(row["with_findings"], 50, method="wilson")
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((low, high))
    assert check.notes[0] == (
        f"A/A check: {row['with_findings']} of 50 random splits of old into halves show a finding at q < 0.4: "
        f"{row['with_findings'] / 50:.1%}, 95% interval {low:.1%} to {high:.1%}. "
        "Where nothing differs, at most 40% is expected."
    )
    assert len(check.notes) == 2
    assert check.parameters == {"splits": 50, "seed": 5, "alpha": ALPHA, "pair_on": None}
    with pytest.raises(InputError, match="0 splits asked for"):
        aa_check(diff(*some_sets(3)), splits=0)


def test_one_document_has_no_halves():
    one = matrix([[True, False]], "a")
    check = aa_check(diff(one, matrix([[False, True]], "b")), splits=10)
    assert check.frame["with_findings"].to_list() == check.frame["tested"].to_list() == [0, 0]


def test_the_command_says_it_after_the_findings_and_in_the_report(tmp_path):
    texts = [f"Number {i}. It says {drink} once." for i, drink in enumerate(["tea", "milk"] * 20)]
    sets = [keyword_matrix(part, {5: "tea", 9: "milk"}, ["tea", "milk"]) for part in (texts[:19], texts[19:])]
    for m, name in zip(sets, ("old", "new"), strict=True):
        write_store(tmp_path / f"{name}.sae", m)
    given = [str(tmp_path / "old.sae"), str(tmp_path / "new.sae"), "--aa-check", "--splits", "30", "--seed", "2"]
    ended = CliRunner().invoke(cli, ["diff", *given, "--report", str(tmp_path / "r.html")], catch_exceptions=False)
    check = aa_check(diff(*sets, names=("old", "new")), splits=30, seed=2)
    assert tuple(ended.stderr.splitlines()[-3:-1]) == check.notes
    html = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert all(f"<li>{sentence}</li>" in html.replace("&lt;", "<") for sentence in check.notes)
    hits = ", ".join(map(str, check.frame["with_findings"]))
    assert f"splits 30, seed 2, with findings [{hits}]" in html


def words(path: Path) -> ConceptMatrix:
    """Answers as a matrix over the words they hold, which lean on each other as concepts do."""
    docs = read_corpus(path).docs
    sets = [set(text.lower().split()) for text in docs["text"].fill_null("")]
    vocabulary = {word: i for i, word in enumerate(sorted(set().union(*sets)))}
    active = np.zeros((len(sets), len(vocabulary)), dtype=np.float32)
    for row, found in enumerate(sets):
        active[row, [vocabulary[word] for word in found]] = 1
    concepts = pl.DataFrame({"latent": np.arange(len(vocabulary), dtype=np.int32)})
    return ConceptMatrix(csr_array(active), docs, concepts, Source("words", "r", "0", "s", "1", "final"))


def test_real_answers_split_at_random_do_not_differ(shared_data):
    m = words(shared_data / "arena_hard_v0.1_gpt-4-0314.jsonl")
    n = m.n_docs
    halves = [m.take_docs(np.arange(start, n, 2)) for start in (0, 1)]
    partners = [
        half.with_docs(pl.DataFrame({"doc_id": half.docs["doc_id"], "k": range(half.n_docs)})) for half in halves
    ]
    fits = min(half.n_docs for half in halves)
    for result in (diff(m, halves[0]), diff(*(p.take_docs(range(fits)) for p in partners), pair_on="k")):
        frame = aa_check(result, splits=200).frame
        assert frame["tested"].min() > 500
        # no more splits with a finding than a true share of 5% gives 99.9 times of 100
        assert frame["with_findings"].max() <= binom.ppf(0.999, 200, 0.05)
