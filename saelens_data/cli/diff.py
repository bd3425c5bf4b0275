"""`saelens-data diff`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from saelens_data.cli.options import (
    check_output,
    check_target,
    corpus_options,
    emit,
    encoder_options,
    open_or_encode,
    output_options,
    plain,
    say,
)
from saelens_data.errors import InputError, choices
from saelens_data.wording import count, difference_in_points, share

if TYPE_CHECKING:
    import polars as pl

    from saelens_data.diff import DiffResult
    from saelens_data.matrix import ConceptMatrix

#: Rows that a table on the terminal shows by default.
_TOP = 10
#: Values of a column that a message lists, and the characters of each.
_LISTED, _CHARS = 8, 40
#: What a name of a set need not say.
_SUFFIXES = {".sae", ".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".txt", ".gz", ".zst"}


@click.command("diff")
@click.argument("a")
@click.argument("b", required=False)
@click.option("--where", metavar="SQL", help="The documents of one set, as in \"model = 'A'\"; needs --versus.")
@click.option("--versus", metavar="SQL", help="The documents of the other set.")
@click.option("--by", metavar="COL", help="Compare the two groups that this column makes.")
@click.option("--pair-on", metavar="COL", help="Compare documents with the same value here as pairs.")
@click.option("--alpha", type=float, default=0.05, show_default=True, help="Share of false findings to accept.")
@click.option("--names", nargs=2, metavar="A B", help="What to call the two sets.")
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), help="Write a report to this HTML file.")
@click.option("--aa-check", "aa", is_flag=True, help="Also look for findings in random splits, where there is nothing.")
@click.option("--splits", type=click.IntRange(min=1), default=200, show_default=True, help="Splits of --aa-check.")
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Where chance is used: its seed."
)
@corpus_options
@encoder_options
@output_options
def diff_command(
    a: str,
    b: str | None,
    where: str | None,
    versus: str | None,
    by: str | None,
    pair_on: str | None,
    alpha: float,
    names: tuple[str, str] | None,
    report: Path | None,
    aa: bool,
    splits: int,
    seed: int,
    text: str | None,
    id_: str | None,
    limit: int | None,
    encoder: str,
    dtype: str,
    format_: str,
    output: Path | None,
    rows: int | None,
) -> None:
    """Say in which concepts two sets of texts differ: two stores or files, A and B, or one that is split.

    The table shows the share of documents in which each concept occurs, the difference in percentage points with its
    95% interval, and q. Files hold all concepts tested and all columns.

    \b
    Example: saelens-data diff old.jsonl new.jsonl --pair-on prompt --report diff.html
             saelens-data diff all.sae --where "model = 'A'" --versus "model = 'B'"
    """
    from saelens_data.diff import diff

    output = check_output(format_, output)
    if report is not None:
        check_target(report, (".html", ".htm"))
    reading = {"text": text, "id": id_, "limit": limit, "encoder": encoder, "dtype": dtype}
    first, second, called, notes = _two_sets(a, b, (where, versus), by, reading)
    name_a, name_b = map(plain, names or called)  # a path may hold what is no text
    result = diff(first, second, pair_on=pair_on, alpha=alpha, names=(name_a, name_b))
    result = replace(result, notes=(*notes, *result.notes))
    for line in (result.summary(), *result.notes):
        say(line)
    checked = _with_aa_check(result, splits, seed) if aa else result
    _show(checked, format_, output, rows)
    for line in checked.notes[len(result.notes) :]:
        say(line)
    if report is not None:
        from saelens_data.report import write_diff_report

        say(f"wrote {write_diff_report(checked, report)}")


def _with_aa_check(result: DiffResult, splits: int, seed: int) -> DiffResult:
    """The result with the outcome of the check among its parameters and notes."""
    from saelens_data.aa_check import aa_check

    check = aa_check(result, splits=splits, seed=seed)
    outcome = {"splits": splits, "seed": seed, "with_findings": check.frame["with_findings"].to_list()}
    return replace(result, parameters={**result.parameters, "aa_check": outcome}, notes=(*result.notes, *check.notes))


_Sets = tuple["ConceptMatrix", "ConceptMatrix", tuple[str, str], list[str]]


def _two_sets(
    a: str, b: str | None, split: tuple[str | None, str | None], by: str | None, reading: dict[str, Any]
) -> _Sets:
    """The sets to compare, what to call them, and notes on what was left out."""
    where, versus = split
    if (where is None) != (versus is None):
        raise InputError("--where and --versus go together: one expression for each set")
    if where is not None and by is not None:
        raise InputError("both --where and --by split the documents: give one of them")
    if (b is None) == (where is None and by is None):
        ways = "name a second store or file, or split the one with --by COLUMN or with --where and --versus"
        raise InputError(f"diff compares two sets: {ways}" + ("" if b is None else ", not both"))
    if b is not None:
        first, second = open_or_encode(a, b, **reading)
        return first, second, _file_names(a, b), []
    (m,) = open_or_encode(a, **reading)
    return _split_by(m, by) if by is not None else _split_where(m, str(where), str(versus))


def _split_where(m: ConceptMatrix, where: str, versus: str) -> _Sets:
    first, second = m.filter_docs(where), m.filter_docs(versus)
    if both := first.docs.join(second.docs, on="doc_id", how="semi").height:
        raise InputError(
            f'{both:,} of the documents match both --where "{where}" and --versus "{versus}": exclude them from one'
        )
    rest = m.n_docs - first.n_docs - second.n_docs
    notes = [f"Left out: {count(rest, 'document')} that match neither expression."] if rest else []
    return first, second, (where, versus), notes


def _split_by(m: ConceptMatrix, by: str) -> _Sets:
    import polars as pl

    if by not in m.docs.columns:
        raise InputError(f"cannot split by '{by}': there is no such column; {choices(by, m.docs.columns)}")
    if (column := m.docs[by]).dtype.is_nested():
        raise InputError(f"cannot split by '{by}': it holds {column.dtype}; give a column of plain values")
    values = column.drop_nulls().unique().sort().to_list()
    if len(values) != 2:
        what = f"choose two with --where and --versus, as in --where {_equals(column)}"
        advice = what if len(values) > 2 else "give another column"
        raise InputError(f"--by compares two groups, and '{by}' has {_listed(column)}: {advice}")
    first, second = (m.filter_docs(pl.col(by) == pl.lit(value)) for value in values)
    empty = column.null_count()
    notes = [f"Left out: {count(empty, 'document')} with no value in '{by}'."] if empty else []
    name_a, name_b = (str(value) or "(empty)" for value in values)
    return first, second, (name_a, name_b), notes


def _listed(column: pl.Series) -> str:
    """'3 values (x: 12, y: 8, z: 1)', the most frequent first."""
    counts = column.alias("value").drop_nulls().value_counts(name="n").sort("n", "value", descending=[True, False])
    shown = ", ".join(f"{str(value)[:_CHARS]}: {n:,}" for value, n in counts.head(_LISTED).iter_rows())
    more = ", …" if counts.height > _LISTED else ""
    return count(counts.height, "value") + (f" ({shown}{more})" if shown else "")


def _equals(column: pl.Series) -> str:
    """An expression for --where, as a shell takes it: a name that is a word of SQL, such as group, needs quotes."""
    import polars as pl

    name = column.name
    try:
        simple = pl.sql_expr(name).meta.eq(pl.col(name))
    except pl.exceptions.PolarsError:
        simple = False
    value = "…" if column.dtype.is_numeric() or column.dtype == pl.Boolean else "'…'"
    return f'"{name} = {value}"' if simple else f'"\\"{name}\\" = {value}"'


def _file_names(a: str, b: str) -> tuple[str, str]:
    """The files' names without what is known of their kind; with their folders, or numbered, where these are equal."""
    first, second = _bare(Path(a)), _bare(Path(b))
    if first.name != second.name:
        return first.name, second.name
    if first != second:
        return str(first), str(second)
    return f"{first.name} (1)", f"{second.name} (2)"


def _bare(path: Path) -> Path:
    while path.suffix.lower() in _SUFFIXES:
        path = path.with_suffix("")
    return path


def _show(result: DiffResult, format_: str, output: Path | None, rows: int | None) -> None:
    """On the terminal the largest findings, or the nearest to one; in files all rows."""
    if rows is None and format_ == "table" and output is None:
        found = result.findings.height
        rows = min(found, _TOP) or _TOP
        if found > _TOP:
            say(f"The {_TOP} largest findings; -n shows more, -o FILE.csv or --report FILE.html keeps them.")
        elif not found and result.frame.height:
            say("No finding; the nearest are shown.")
    shares = {side: f"in {name}" for side, name in zip("ab", result.names, strict=True)}

    def view(frame: pl.DataFrame) -> pl.DataFrame:
        return _table(frame, shares)

    emit(result, format_, output, rows, view=view, right=("latent", *shares.values(), "difference [95%]"))


def _table(frame: pl.DataFrame, shares: dict[str, str]) -> pl.DataFrame:
    """Rows of the result for a reader: shares in percent, the difference with its interval in percentage points."""
    import polars as pl

    lines = [
        {
            "rank": row["rank"],
            "label": row["label"] or "unlabelled",
            "latent": str(row["latent"]),
            **{shares[side]: share(row[f"density_{side}"]) for side in "ab"},
            "difference [95%]": difference_in_points(row),
            "q": f"{row['q_value']:.2g}" + ("" if row["finding"] else "  no finding"),
        }
        for row in frame.iter_rows(named=True)
    ]
    return pl.DataFrame(lines)
