"""`saelens-data correlate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from saelens_data.cli.correlate_output import check_export, export, show
from saelens_data.cli.options import (
    check_output,
    check_target,
    corpus_options,
    encoder_options,
    open_or_encode,
    output_options,
    progress_bar,
    say,
)
from saelens_data.errors import InputError

if TYPE_CHECKING:
    from saelens_data.correlate import CorrelateResult, OrderedResult
    from saelens_data.matrix import ConceptMatrix

#: Bytes of a GB of --memory.
_GB = 1 << 30


@click.command("correlate")
@click.argument("store")
@click.option(
    "--with", "column", metavar="COL", help="Pair concepts with a column of the data: label, score, date, ..."
)
@click.option(
    "--as",
    "as_",
    type=click.Choice(["auto", "categories", "ordered"]),
    default="auto",
    help="What that column holds; auto: numbers and dates are ordered, all else categories.",
)
@click.option("--between", nargs=2, metavar="A B", help="Pair concepts of one field with another's: prompt response.")
@click.option("--no-filter", "without", multiple=True, metavar="NAME", help="Switch a filter off; repeatable.")
@click.option("--min-documents", type=click.IntRange(min=1), default=5, show_default=True, help="Least in common.")
@click.option("--alpha", type=float, default=0.05, show_default=True, help="Share of false findings to accept.")
@click.option(
    "--memory", type=click.FloatRange(min=0.05), default=1.0, show_default=True, help="GB for counts of pairs."
)
@click.option("--permutation-check", "check", is_flag=True, help="Also look where nothing is: in shuffled documents.")
@click.option("--runs", type=click.IntRange(min=1), default=20, show_default=True, help="Runs of --permutation-check.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of --permutation-check.")
@click.option("--groups", type=click.IntRange(min=1), default=10, show_default=True, help="Groups shown and exported.")
@click.option(
    "--export",
    "exported",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the documents behind the groups shown to this file (csv, jsonl, parquet).",
)
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), help="Write a report to this HTML file.")
@corpus_options
@encoder_options
@output_options
def correlate_command(
    store: str,
    column: str | None,
    as_: Any,
    between: tuple[str, str] | None,
    memory: float,
    check: bool,
    runs: int,
    seed: int,
    groups: int,
    exported: Path | None,
    report: Path | None,
    format_: str,
    output: Path | None,
    rows: int | None,
    **more: Any,
) -> None:
    """Find concepts that go together, or never do, where they should not: artefacts, biases and leaks in the data.

    Every pair is counted and tested; what is trivial is left out by filters (few, everywhere, similar, spans, length,
    third), and it is said how many each removed. Pairs that meet in the same documents are one group. The table shows
    for each group its best pairs: documents that hold each and both, NPMI (-1 never meet, 1 always), lift (times as
    often as by chance), q, and how similar the two are. Files hold all pairs and columns.

    \b
    Example: saelens-data correlate train.jsonl --between prompt response --export suspects.jsonl
             saelens-data correlate train.jsonl --with score
             saelens-data correlate train.sae --report correlations.html --permutation-check
             saelens-data correlate train.sae --no-filter similar --no-filter spans -o pairs.parquet
    """
    output = check_output(format_, output)
    if report is not None:
        check_target(report, (".html", ".htm"))
    check_export(exported)
    _check_kind(column, between, check=check)
    reading = {key.rstrip("_"): more.pop(key) for key in ("text", "id_", "limit", "encoder", "dtype")}
    from saelens_data.correlate.pairs import Options

    Options(**more, memory=int(memory * _GB)).filters()
    m = _opened(store, between, reading)
    result = _result(m, column, as_, between, {**more, "memory": int(memory * _GB)})
    say(result.summary())
    if result.removed:
        say(
            "Removed by the filters, in their order: "
            + ", ".join(f"{k} {n:,}" for k, n in result.removed.items())
            + "."
        )
    for note in result.notes:
        say(note)
    show(result, format_, output, rows, groups)
    if check:
        from saelens_data.correlate.check import permutation_check
        from saelens_data.correlate.result import CorrelateResult

        assert isinstance(result, CorrelateResult)
        say(permutation_check(result, runs=runs, seed=seed, memory=int(memory * _GB)).notes[0])
    if exported is not None:
        export(result, exported, groups)
    if report is not None:
        from saelens_data.report.correlate import write_correlate_report

        say(f"wrote {write_correlate_report(result, report)}")


def _check_kind(column: str | None, between: tuple[str, str] | None, *, check: bool) -> None:
    if column is not None and between is not None:
        raise InputError("both --with and --between given: pair concepts with a column, or those of two fields")
    if between is not None and between[0] == between[1]:
        raise InputError(f"--between pairs two fields, and both are '{between[0]}': give two, or leave --between out")
    if column is not None and check:
        raise InputError("--permutation-check shuffles the documents of pairs of concepts: leave --with out")


def _opened(store: str, between: tuple[str, str] | None, reading: dict[str, Any]) -> ConceptMatrix:
    """The store, or the file encoded; of two fields, both."""
    from saelens_data.store import is_store

    if between is None or is_store(store):
        (m,) = open_or_encode(store, **reading)
        return m
    from saelens_data.corpus import read_corpus
    from saelens_data.encode import encode
    from saelens_data.encoders import check_encoder

    check_encoder(reading["encoder"])
    encoder = {key: reading.pop(key) for key in ("encoder", "dtype")}
    corpus = read_corpus(store, **reading)
    for note in corpus.notes:
        say(f"{store}: {note}")
    with progress_bar(f"encoding {Path(store).name}") as progress:
        return encode(corpus, fields=between, progress=progress, **encoder)


def _result(
    m: ConceptMatrix, column: str | None, as_: Any, between: tuple[str, str] | None, options: dict[str, Any]
) -> CorrelateResult | OrderedResult:
    from saelens_data.correlate import correlate, correlate_between, correlate_with

    if column is not None:
        return correlate_with(m, column, as_=as_, **options)
    if between is not None:
        return correlate_between(m, *between, **options)
    return correlate(m, **options)
