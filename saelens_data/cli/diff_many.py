"""`saelens-data diff --by COLUMN` where the column makes more than two sets, or steps of a trend."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from saelens_data.cli.options import option, stack
from saelens_data.cli.output import Output, plain, say
from saelens_data.errors import InputError
from saelens_data.wording import difference_in_points, explained, latents, share

if TYPE_CHECKING:
    import polars as pl

    from saelens_data.diff.many import ManyResult
    from saelens_data.diff.trend import TrendResult
    from saelens_data.matrix import ConceptMatrix

#: Rows that a table on the terminal shows by default.
_TOP = 20
#: Options of the comparison of two sets that have no meaning for several.
_FOR_TWO = {"names": "--names", "fail_on": "--fail-on", "markdown": "--markdown"}


many_options = stack(
    option("--by", metavar="COL", help="Compare the sets that the values of this column make."),
    option("--reference", metavar="NAME", help="With --by: each other set against this one, not the rest."),
    option("--all-pairs", is_flag=True, help="With --by: every two sets."),
    option("--trend", is_flag=True, help="With --by: a rise or fall along the values in their order."),
    option("--order", metavar="A,B,...", help="With --trend: the values from first to last."),
)


def check_ways(ways: dict[str, Any], by: str | None) -> None:
    """Refuse ways to compare several sets where no column makes them, and two at once; `ways` has them by option."""
    asked = [f"--{name.replace('_', '-')}" for name, value in ways.items() if value]
    if asked and by is None:
        raise InputError(f"{asked[0]} compares the sets that a column of one source makes: name it with --by COLUMN")
    if len(asked) > 1 and set(asked) != {"--trend", "--order"}:
        raise InputError(f"{' and '.join(asked)} are different comparisons: give one of them")
    if asked == ["--order"]:
        raise InputError("--order goes with --trend")


def is_for_many(m: ConceptMatrix, by: str, ways: dict[str, Any]) -> bool:
    """Whether the column is to be compared as several sets: it has more than two values, or that was asked for."""
    if any(ways.values()):
        return True
    return by in m.docs.columns and not m.docs[by].dtype.is_nested() and m.docs[by].drop_nulls().n_unique() > 2


def compare_many(m: ConceptMatrix, by: str, ways: dict[str, Any], more: dict[str, Any]) -> ManyResult | TrendResult:
    """The comparison that was asked for. Raises InputError for options of two sets."""
    from saelens_data.diff.many import diff_many
    from saelens_data.diff.trend import trend

    for name, asked in _FOR_TWO.items():
        if more.pop(name, None):
            raise InputError(f"{asked} goes with the comparison of two sets: choose them with --where and --versus")
    if more.pop("holdout"):
        raise InputError("--holdout goes with the comparison of two sets: choose them with --where and --versus")
    options = {key: more[key] for key in ("cluster_on", "adjust", "group", "alpha")}
    if not ways["trend"]:
        pairs, reference = ways["all_pairs"], ways["reference"]
        return diff_many(m, by, reference=reference, pairs=pairs, pair_on=more["pair_on"], **options)
    if more["pair_on"]:
        raise InputError("--pair-on and --trend: give --cluster-on, within whose values the steps are then compared")
    order = [value.strip() for value in ways["order"].split(",")] if ways["order"] else None
    return trend(m, by, order=order, **options)


def show_many(result: ManyResult | TrendResult, out: Output) -> None:
    """On the terminal the first findings of each comparison, or the nearest to one; in files all rows."""
    from saelens_data.diff.trend import TrendResult

    found = result.findings.height
    shown = out.first(min(found, _TOP) or _TOP)
    if shown != out:
        if found > _TOP:
            say(f"The first {_TOP} of {found:,} findings; -n shows more, -o FILE.csv keeps them.")
        elif not found and result.frame.height:
            say("No finding; the nearest are shown.")
    view, right = (
        (_trend_table, ("latent", "slope [95%]")) if isinstance(result, TrendResult) else (_many_table, ("latent",))
    )
    shown.emit(result, view=view, right=right)


def _many_table(frame: pl.DataFrame) -> pl.DataFrame:
    """Rows for a reader: the set, its density, that of what it is compared with, and the others' range."""
    import polars as pl

    lines = []
    for row in frame.iter_rows(named=True):
        others = "" if row["others_low"] is None else f"{share(row['others_low'])} to {share(row['others_high'])}"
        lines.append(
            {
                "set": plain(row["set"]),
                "against": plain(row["against"]),
                "label": row["label"] or "unlabelled",
                "latent": latents(row["members"]),
                "here": share(row["density_a"]),
                "there": share(row["density_b"]),
                "each other set": others,
                "difference [95%]": difference_in_points(row),
                "q": f"{row['q_value']:.2g}" + _remark(row),
            }
        )
    return pl.DataFrame(lines)


def _trend_table(frame: pl.DataFrame) -> pl.DataFrame:
    import polars as pl

    lines = [
        {
            "rank": row["rank"],
            "label": row["label"] or "unlabelled",
            "latent": latents(row["members"]),
            "densities": " ".join(share(density) for density in row["densities"]),
            "slope [95%]": difference_in_points(
                {"difference": row["slope"], "ci_low": row["slope_low"], "ci_high": row["slope_high"]}
            ),
            "q": f"{row['q_value']:.2g}" + _remark(row),
        }
        for row in frame.iter_rows(named=True)
    ]
    return pl.DataFrame(lines)


def _remark(row: dict[str, Any]) -> str:
    if not row["finding"]:
        return "  no finding"
    apart = "  unlike each" if row.get("apart") else ""
    return apart + f"  {explained(row)}".rstrip()
