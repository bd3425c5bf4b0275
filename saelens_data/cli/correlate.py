"""`saelens-data correlate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from saelens_data.cli.correlate_output import export, show
from saelens_data.cli.options import (
    alpha_option,
    new_file,
    number,
    option,
    output_options,
    reading_options,
    report_option,
    seed_option,
    verb,
)
from saelens_data.cli.output import SUFFIXES, Output, say
from saelens_data.cli.source import open_or_encode
from saelens_data.errors import InputError

if TYPE_CHECKING:
    from saelens_data.correlate import CorrelateResult, OrderedResult
    from saelens_data.matrix import ConceptMatrix

#: Bytes of a GB of --memory.
_GB = 1 << 30


@verb(
    "correlate",
    "correlate train.jsonl --between prompt response --export suspects.jsonl",
    "correlate train.jsonl --with score",
    "correlate train.sae --report correlations.html --permutation-check",
    "correlate train.sae --no-filter similar --no-filter spans -o pairs.parquet",
)
@click.argument("store")
@option("--with", "column", metavar="COL", help="Pair concepts with a column of the data: label, score, date, ...")
@option(
    "--as",
    "as_",
    type=click.Choice(["auto", "categories", "ordered"]),
    metavar="KIND",
    default="auto",
    help="What that column holds: auto, categories or ordered.",
)
@option("--between", nargs=2, metavar="A B", help="Pair concepts of one field with another's: prompt response.")
@option("--reference", metavar="STORE", help="Ordinary documents: pairs count beyond what these have.")
@option("--no-filter", "without", multiple=True, metavar="NAME", help="Switch a filter off; repeatable.")
@number("--min-documents", least=1, default=5, help="Documents that a pair has in common at least.")
@alpha_option
@option("--memory", type=click.FloatRange(min=0.05), metavar="GB", default=1.0, help="Memory for counts of pairs.")
@option("--permutation-check", "check", is_flag=True, help="Also look where nothing is: in shuffled documents.")
@number("--runs", least=1, default=20, help="Runs of --permutation-check.")
@seed_option
@number("--groups", least=1, default=10, help="Groups shown and exported.")
@reading_options
@output_options()
@new_file("--export", "exported", suffixes=SUFFIXES, help="Write the documents behind the groups to this file.")
@report_option
def correlate_command(
    store: str,
    column: str | None,
    as_: Any,
    between: tuple[str, str] | None,
    reference: str | None,
    memory: float,
    check: bool,
    runs: int,
    seed: int,
    groups: int,
    exported: Path | None,
    report: Path | None,
    out: Output,
    **more: Any,
) -> None:
    """Find concepts that go together where they should not.

    They tell of artefacts, biases and leaks in the data; so do those that never meet. Every pair is counted and tested;
    what is trivial is left out by filters (few, everywhere, similar, spans, length, usual, third), and it is said how
    many each removed. A pair counts as far as it exceeds what ordinary text has: that of the encoder, or --reference.
    Pairs that meet in the same documents are one group. The table shows for each group its best pairs: documents that
    hold each and both, NPMI (-1 never meet, 1 always), lift (times as often as by chance), q, and how similar the two
    are. Files hold all pairs and columns.
    """
    _check_kind(column, between, reference)
    from saelens_data.correlate.pairs import Options

    Options(**more, memory=int(memory * _GB)).filters()
    (m,) = open_or_encode(store, fields=between or (), columns=(column,))
    if reference is not None:
        (more["reference"],) = open_or_encode(reference)
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
    show(result, out, groups)
    if check:
        from saelens_data.correlate.check import permutation_check

        say(permutation_check(result, runs=runs, seed=seed, memory=int(memory * _GB)).notes[0])
    if exported is not None:
        export(result, exported, groups)
    if report is not None:
        from saelens_data.report.correlate import write_correlate_report

        say(f"wrote {write_correlate_report(result, report)}")


def _check_kind(column: str | None, between: tuple[str, str] | None, reference: str | None) -> None:
    if column is not None and between is not None:
        raise InputError("both --with and --between given: pair concepts with a column, or those of two fields")
    if between is not None and between[0] == between[1]:
        raise InputError(f"--between pairs two fields, and both are '{between[0]}': give two, or leave --between out")
    if column is not None and reference is not None:
        raise InputError(
            "--reference says which concepts usually go together, and --with pairs a column: leave one out"
        )


def _result(
    m: ConceptMatrix, column: str | None, as_: Any, between: tuple[str, str] | None, options: dict[str, Any]
) -> CorrelateResult | OrderedResult:
    from saelens_data.correlate import correlate, correlate_between, correlate_with

    if column is not None:
        return correlate_with(m, column, as_=as_, **options)
    if between is not None:
        return correlate_between(m, *between, **options)
    return correlate(m, **options)
