"""`saelens-data diff`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from saelens_data.cli.diff_explain import explain_options, say_explanation, take_explain
from saelens_data.cli.diff_gate import check_gate, gate_options, judge, write_verdict
from saelens_data.cli.diff_many import check_ways, compare_many, is_for_many, many_options, show_many
from saelens_data.cli.diff_sets import check_split, split_options, two_sets
from saelens_data.cli.options import (
    alpha_option,
    number,
    option,
    output_options,
    reading_options,
    report_option,
    seed_option,
    verb,
)
from saelens_data.cli.output import Output, plain, say, say_result
from saelens_data.cli.source import open_or_encode
from saelens_data.errors import InputError
from saelens_data.wording import difference_in_points, explained, latents, share

if TYPE_CHECKING:
    import polars as pl

    from saelens_data.diff.many import ManyResult
    from saelens_data.diff.trend import TrendResult
    from saelens_data.diff.two import DiffResult

#: Rows that a table on the terminal shows by default.
_TOP = 10


@verb(
    "diff",
    "diff old.jsonl new.jsonl --pair-on prompt --report diff.html",
    """diff all.sae --where "model = 'A'" --versus "model = 'B'\"""",
    """diff all.sae --where-concepts '"refusal" > p90' --versus-concepts 'not "refusal" > p90'""",
    "diff answers.sae --by model",
    'diff old.sae new.sae --fail-on "abs(difference) > 0.1" --watch refus',
)
@click.argument("a")
@click.argument("b", required=False)
@split_options
@many_options
@option("--pair-on", metavar="COL", help="Compare documents with the same value here as pairs.")
@option("--cluster-on", metavar="COL", help="Documents with the same value here may depend on each other.")
@option("--adjust", multiple=True, metavar="COL", help="Also compare at equal values of this column; repeatable.")
@option("--group/--no-group", default=True, help="Near-duplicate latents are one finding, or each its own.")
@option(
    "--holdout",
    type=float,
    default=0.0,
    show_default=False,
    metavar="SHARE",
    help="Confirm the findings on this share of the documents, as 0.5.",
)
@alpha_option
@option("--names", nargs=2, metavar="A B", help="What to call the two sets.")
@option("--aa-check", "aa", is_flag=True, help="Also look where nothing is: in random splits.")
@number("--splits", least=1, default=200, help="Splits of --aa-check.")
@seed_option
@gate_options
@explain_options
@reading_options
@output_options()
@report_option
def diff_command(
    a: str,
    b: str | None,
    by: str | None,
    names: tuple[str, str] | None,
    report: Path | None,
    aa: bool,
    splits: int,
    out: Output,
    **more: Any,
) -> None:
    """Say in which concepts sets of texts differ.

    The sets are two stores or files, A and B, or one that is split. The table shows the share of documents in which
    each concept occurs, the difference in percentage points with its 95% interval, effect (how much more often it is
    stronger in A than in B, presence and strength in one), strength (the chance that where it occurs in both it is
    stronger in A), and q. The lines are ordered by how large the difference is at least. Files hold all groups of
    concepts tested and all columns.
    """
    from saelens_data.diff.two import diff

    gating = {key: more.pop(key) for key in ("fail_on", "watch", "junit", "markdown")}
    check_gate(gating["fail_on"], gating["watch"], gating["junit"])
    split = {key: more.pop(key) for key in ("where", "versus", "where_concepts", "versus_concepts")}
    ways = {key: more.pop(key) for key in ("reference", "all_pairs", "trend", "order")}
    check_ways(ways, by)
    by_column = check_split(b, split, by)
    explaining = take_explain(more)
    named = (more["pair_on"], more["cluster_on"], by, *(name for name in more["adjust"] if name != "length"))
    opened = open_or_encode(*(source for source in (a, b) if source is not None), columns=named)
    if by_column and is_for_many(opened[0], str(by), ways):
        if explaining is not None:
            raise InputError("--explain is for two sets: choose two with --where and --versus")
        many = compare_many(opened[0], str(by), ways, {**more, **gating, "names": names})
        many = _said_many(many, (splits, more["seed"]) if aa else None)
        show_many(many, out)
        if report is not None:
            from saelens_data.report.many import write_many_report

            say(f"wrote {write_many_report(many, report)}")
        return
    first, second, called, notes = two_sets(opened, a, b, split, by)
    name_a, name_b = map(plain, names or called)  # a path may hold what is no text
    result = diff(first, second, names=(name_a, name_b), **more)
    result = replace(result, notes=(*notes, *result.notes))
    gated = judge(result, gating["fail_on"], gating["watch"])
    say_result(result)
    checked = _with_aa_check(result, splits, more["seed"]) if aa else result
    _show(checked, out)
    for line in checked.notes[len(result.notes) :]:
        say(line)
    if report is not None:
        from saelens_data.report.two import write_diff_report

        say(f"wrote {write_diff_report(checked, report)}")
    if explaining is not None:
        say_explanation(checked, explaining, more["seed"])
    write_verdict(checked, gated, gating["junit"], gating["markdown"])
    if gated is not None and not gated.ok:
        click.get_current_context().exit(1)


def _said_many(result: ManyResult | TrendResult, check: tuple[int, int] | None) -> ManyResult | TrendResult:
    """The result with the outcome of the check, if asked for (splits, seed), among its notes; all are said."""
    from saelens_data.diff.many_check import aa_check_many

    say_result(result)
    if check is None:
        return result
    outcome = aa_check_many(result, splits=check[0], seed=check[1]).notes
    for line in outcome:
        say(line)
    return replace(result, notes=(*result.notes, *outcome))


def _with_aa_check(result: DiffResult, splits: int, seed: int) -> DiffResult:
    """The result with the outcome of the check among its parameters and notes."""
    from saelens_data.diff.aa_check import aa_check

    check = aa_check(result, splits=splits, seed=seed)
    outcome = {"splits": splits, "seed": seed, "with_findings": check.frame["with_findings"].to_list()}
    return replace(result, parameters={**result.parameters, "aa_check": outcome}, notes=(*result.notes, *check.notes))


def _show(result: DiffResult, out: Output) -> None:
    """On the terminal the largest findings, or the nearest to one; in files all rows."""
    found = result.findings.height
    shown = out.first(min(found, _TOP) or _TOP)
    if shown != out:
        if found > _TOP:
            say(f"The {_TOP} largest findings; -n shows more, -o FILE.csv or --report FILE.html keeps them.")
        elif not found and result.frame.height:
            say("No finding; the nearest are shown.")
    shares = {side: f"in {name}" for side, name in zip("ab", result.names, strict=True)}

    def view(frame: pl.DataFrame) -> pl.DataFrame:
        return _table(frame, shares)

    right = ("latent", *shares.values(), "difference [95%]", "effect", "strength")
    shown.emit(result, view=view, right=right)


def _table(frame: pl.DataFrame, shares: dict[str, str]) -> pl.DataFrame:
    """Rows of the result for a reader: shares in percent, the difference with its interval in percentage points."""
    import polars as pl

    lines = [
        {
            "rank": row["rank"],
            "label": row["label"] or "unlabelled",
            "latent": latents(row["members"]),
            **{shares[side]: share(row[f"density_{side}"]) for side in "ab"},
            "difference [95%]": difference_in_points(row),
            "effect": f"{row['delta']:+.2f}",
            "strength": "" if row["auc"] is None else f"{row['auc']:.2f}",
            "q": f"{row['q_value']:.2g}" + _remark(row),
        }
        for row in frame.iter_rows(named=True)
    ]
    return pl.DataFrame(lines)


def _remark(row: dict[str, Any]) -> str:
    """What to know of a row beside its numbers."""
    if not row["finding"]:
        return "  no finding"
    told = {None: "", True: "  confirmed", False: "  not confirmed"}[row["confirmed"]]
    return told + f"  {explained(row)}".rstrip()
