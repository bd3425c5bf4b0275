"""What notebooks show of comparisons: the columns of their tables, and their charts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from saelens_data import stats
from saelens_data.display import plots, table
from saelens_data.display.stretches import Stretch
from saelens_data.display.table import ROWS, Column, Row, Shown
from saelens_data.evidence import strongest
from saelens_data.wording import count, difference_in_points, explained, p_in_words, share

if TYPE_CHECKING:
    from saelens_data.diff.explain import ExplainResult
    from saelens_data.diff.many import ManyResult
    from saelens_data.diff.trend import TrendResult
    from saelens_data.diff.two import DiffResult

#: Sets whose densities have a column each.
_SETS = 6
#: The name of a row in a chart, and what its tooltip shows of a comparison.
_NAME = "name"
_TOOLTIP = {
    "difference": "difference in share of documents",
    "ci_low": "95% interval from",
    "ci_high": "to",
    "q_value": "q",
}

_RANK = Column("#", "rank", right=True)
_CONCEPT = Column("concept", table.concept())
_Q = Column("q", "q_value", p_in_words, right=True)
_CAVEAT = Column("caveat", explained)


def _towards(row: Row) -> int:
    """The colour of the set that has more."""
    return int(row["difference"] < 0)


def _difference(title: str) -> Column:
    """The difference in points with its interval."""
    return Column(
        title,
        "difference",
        low="ci_low",
        high="ci_high",
        said=difference_in_points,
        scale=table.about(0.0),
        colour=_towards,
    )


def _example(found: Mapping[Any, tuple[Stretch, ...]], key: Callable[[Row], Any]) -> Column:
    return Column("strongest example", lambda row: found.get(key(row)))


def of_diff(result: DiffResult) -> Shown:
    """The findings with both densities, the difference and an example of the set that each favours."""
    (a, b), head = result.names, result.frame.head(ROWS)
    found: dict[tuple[str, int], tuple[Stretch, ...]] = {}
    for name, m in ((a, result.a), (b, result.b)):
        latents = head.filter(pl.col("favours").fill_null(a) == name)["latent"].to_list()
        found |= {(name, latent): words for latent, words in strongest(m, latents).items()}
    return Shown.of(
        result.frame,
        _RANK,
        _CONCEPT,
        Column(f"in {a}", "density_a", share, right=True),
        Column(f"in {b}", "density_b", share, right=True),
        _difference(f"{a} less {b}, points"),
        _Q,
        Column("finding", "finding", table.yes),
        _CAVEAT,
        Column("held out", "confirmed", lambda value: "confirmed" if value else "not confirmed"),
        _example(found, lambda row: (row["favours"] or a, row["latent"])),
        noun="group",
    )


def of_findings(frame: pl.DataFrame) -> Shown:
    """Rows of a comparison by themselves."""
    columns = (_RANK, _CONCEPT, Column("favours", "favours"), _difference("difference, points"), _Q, _CAVEAT)
    return Shown.of(frame, *columns, noun="finding")


def of_many(result: ManyResult) -> Shown:
    """The findings with the difference, and the density in each set."""
    columns = [
        _RANK,
        Column("set", "set"),
        Column("against", "against"),
        _CONCEPT,
        _difference("set less other, points"),
    ]
    if len(result.sets) <= _SETS:
        columns += [_density(name, number) for number, name in enumerate(result.sets)]
    else:
        columns.append(Column(f"in each of {len(result.sets)} sets", "densities", steps=True))
    apart = Column("against each other set", "apart", lambda value: "holds" if value else "does not hold")
    return Shown.of(result.frame, *columns, _Q, Column("finding", "finding", table.yes), apart, _CAVEAT, noun="row")


def _density(name: str, number: int) -> Column:
    return Column(f"in {name}", lambda row: row["densities"][number], share, right=True)


def of_trend(result: TrendResult) -> Shown:
    """The findings with the density at each step, the slope and an example."""
    found = strongest(result.documents.m, result.frame.head(ROWS)["latent"].to_list())
    slope = Column(
        "points a step",
        "slope",
        said=lambda row: difference_in_points(
            {"difference": row["slope"], "ci_low": row["slope_low"], "ci_high": row["slope_high"]}
        ),
        low="slope_low",
        high="slope_high",
        scale=table.about(0.0),
        colour=lambda row: int(row["slope"] < 0),
    )
    return Shown.of(
        result.frame,
        _RANK,
        _CONCEPT,
        Column(result.steps[0], "first", share, right=True),
        Column("each step", "densities", steps=True),
        Column(result.steps[-1], "last", share, right=True),
        slope,
        _Q,
        Column("finding", "finding", table.yes),
        _CAVEAT,
        _example(found, lambda row: row["latent"]),
        noun="group",
    )


def of_explanation(result: ExplainResult) -> Shown:
    """The hypotheses with the shares of documents in which a judge found them."""
    a, b = result.names
    difference = Column(
        f"{a} less {b}, points",
        "difference",
        said=lambda row: difference_in_points({**row, "ci_low": row["low"], "ci_high": row["high"]}),
        low="low",
        high="high",
        scale=table.about(0.0),
        colour=_towards,
    )
    return Shown.of(
        result.frame,
        Column("hypothesis", "hypothesis"),
        Column("said to favour", "favours"),
        Column(f"in {a}", "share_a", share, right=True),
        Column(f"in {b}", "share_b", share, right=True),
        difference,
        Column("verified", "verified", table.yes),
        Column("findings", "findings", table.listed),
        noun="hypothesis",
    )


# --- charts


def diff_chart(result: DiffResult, n: int) -> Any:
    """The differences of the first findings; of the first rows where nothing was found."""
    a, b = result.names
    rows, what = _first(result.findings, result.frame, n)
    frame = rows.select(
        plots.numbered(rows, plots.named(), number="rank"),
        "latent",
        *_TOOLTIP,
        "density_a",
        "density_b",
        more=pl.col("favours").fill_null("neither"),
    )
    return plots.dots(
        frame,
        y=_NAME,
        x="difference",
        low="ci_low",
        high="ci_high",
        title=f"difference in share of documents: left more in {b}, right more in {a}",
        tooltip={_NAME: "concept", **_TOOLTIP, "density_a": f"share in {a}", "density_b": f"share in {b}"},
        colour=("more", "more in"),
        order=[name for name in (a, b, "neither") if name in frame["more"]],
        percent=True,
        heading=what,
    )


def many_chart(result: ManyResult, n: int) -> Any:
    """How frequent the concepts of the first findings are in each set."""
    rows, what = _first(result.findings, result.frame, result.frame.height)
    rows = rows.unique("latent", keep="first", maintain_order=True).head(n)
    what = f"{count(rows.height, 'concept')} of {what}"
    frame = rows.select(plots.numbered(rows, plots.named()), "latent", share="densities")
    frame = frame.with_columns(set=pl.lit(list(result.sets), pl.List(pl.String))).explode("share", "set")
    return plots.heat(
        frame,
        y=_NAME,
        x="set",
        value="share",
        titles=(result.documents.by, "share of documents"),
        tooltip={_NAME: "concept", "latent": "latent", "set": result.documents.by, "share": "share of documents"},
        heading=what,
    )


def trend_chart(result: TrendResult, n: int) -> Any:
    """The share of documents at each step, with its Wilson interval, of the first findings."""
    rows, what = _first(result.findings, result.frame, n)
    p = result.documents
    shares = np.array(rows["densities"].to_list()).reshape(rows.height, len(p.names))
    low, high = stats.wilson(np.rint(shares * p.sizes), p.sizes)
    names = plots.numbered(rows, plots.named(), number="rank").to_list()
    frame = pl.DataFrame(
        {
            _NAME: np.repeat(names, len(p.names)),
            "step": list(p.names) * rows.height,
            "share": shares.ravel(),
            "low": low.ravel(),
            "high": high.ravel(),
        }
    )
    return plots.lines(
        frame,
        x="step",
        y="share",
        low="low",
        high="high",
        colour=(_NAME, "concept"),
        titles=(p.by, "share of documents"),
        tooltip={_NAME: "concept", "step": p.by, "share": "share", "low": "95% interval from", "high": "to"},
        heading=what,
    )


def explanation_chart(result: ExplainResult) -> Any:
    """The differences that a judge found between the sets, by hypothesis."""
    a, b = result.names
    frame = result.frame.select(
        plots.numbered(result.frame, pl.col("hypothesis")),
        "difference",
        "low",
        "high",
        verified=pl.when("verified").then(pl.lit("verified")).otherwise(pl.lit("not verified")),
    ).drop_nulls("difference")
    return plots.dots(
        frame,
        y=_NAME,
        x="difference",
        low="low",
        high="high",
        title=f"difference in share of documents: left more in {b}, right more in {a}",
        tooltip={_NAME: "hypothesis", "difference": "difference", "low": "interval from", "high": "to"},
        colour=("verified", "on other documents"),
        order=[word for word in ("verified", "not verified") if word in frame["verified"]],
        percent=True,
    )


def _first(findings: pl.DataFrame, frame: pl.DataFrame, n: int) -> tuple[pl.DataFrame, str]:
    """The first findings, or rows where there are none, and which these are."""
    rows = findings if findings.height else frame
    what = "findings" if findings.height else "concepts; none is a finding"
    of = f"the first {n:,} of {rows.height:,} {what}" if rows.height > n else f"{rows.height:,} {what}"
    return rows.head(n), of
