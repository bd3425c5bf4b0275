"""The report of comparisons of many sets, or of a trend: one HTML file, as `report` makes of two sets.

A comparison is shown as `findings` shows it, with what all sets have of each concept; a trend by `trend`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from saelens_data.diff.many import ManyResult
from saelens_data.diff.trend import TrendResult
from saelens_data.diff.two import DiffResult
from saelens_data.errors import InputError
from saelens_data.report.caveats import Caveat
from saelens_data.report.charts import Charts
from saelens_data.report.examples import by_strength
from saelens_data.report.findings import Finding, shown_findings
from saelens_data.report.page import encoded, piece, render, write_page
from saelens_data.report.parameters import parameters_in_words
from saelens_data.report.trend import shown_trend
from saelens_data.wording import share

if TYPE_CHECKING:
    from markupsafe import Markup

#: Findings shown by default: of each comparison, and of a trend.
_OF_EACH, _OF_TREND = 12, 50
#: Bytes that the findings of a page may take; the rest is for style, lists of sets and how it was made.
_ROOM = 1_750_000
#: Findings of a comparison that are rather shown without examples than left out.
_FEW = 3

Row = Mapping[str, Any]


def write_many_report(
    result: ManyResult | TrendResult,
    path: str | os.PathLike[str],
    *,
    findings: int | None = None,
    examples: int = 3,
) -> Path:
    """Write `result` as one HTML file below 2 MB; the same result gives the same bytes.

    Of each comparison that has any the first `findings` are shown (12), of a trend likewise (50), each with up to
    `examples` documents of the kind that bears it out. Where room is scarce there are fewer of both. Without any
    finding, the nearest non-findings are shown and marked.
    Raises InputError for a path that cannot be written and for counts out of range.
    """
    return write_page(path, many_html(result, findings=findings, examples=examples))


def many_html(result: ManyResult | TrendResult, *, findings: int | None = None, examples: int = 3) -> str:
    """The page that `write_many_report` writes."""
    if (findings is not None and findings < 1) or examples < 0:
        raise InputError(f"{findings} findings and {examples} examples asked for: give 1 and 0 or more")
    if isinstance(result, TrendResult):
        return _trend_page(result, findings or _OF_TREND, examples)
    return _many_page(result, findings or _OF_EACH, examples)


# A trend


def _trend_page(result: TrendResult, findings: int, examples: int) -> str:
    def draw(findings: int, examples: int) -> Markup:
        return piece("trend_findings", shown=shown_trend(result, findings=findings, examples=examples))

    favours = result.findings["favours"]
    return render(
        "many",
        like="diff",
        result=result,
        sets=_sizes(result),
        trend={"rising": (favours == "rising").sum(), "falling": (favours == "falling").sum()},
        sections=[_fitted(draw, findings, examples, _ROOM)] if result.frame.height else [],
        contents=[],
        without=[],
        parameters=parameters_in_words({**result.parameters, **asdict(result.documents.m.source)}),
    )


# Many sets


@dataclass(frozen=True)
class Comparison:
    """A line of the table of contents."""

    id: str
    names: tuple[str, str]
    n_docs: tuple[int, int]
    n_found: int
    #: Findings that hold against each other set by itself; None where there is no rest.
    n_apart: int | None
    #: The label of the first finding.
    first: str


@dataclass(frozen=True)
class Strip:
    """What all sets have of a concept; each with its place in percent of the width and its kind."""

    words: str
    #: (place, "a" for the set, "b" for the one that it is compared with, "" for others; name and density).
    dots: tuple[tuple[float, str, str], ...]


def _many_page(result: ManyResult, findings: int, examples: int) -> str:
    sets = _sizes(result)
    contents = sorted(_contents(result), key=lambda line: -line.n_found)
    listed = [line for line in contents if line.n_found]
    return render(
        "many",
        like="diff",
        result=result,
        sets=sets,
        trend=None,
        sections=list(_sections(result, listed or _nearest(result, contents), findings, examples)),
        contents=listed,
        without=[line for line in contents if not line.n_found],
        parameters=parameters_in_words({**result.parameters, **asdict(result.documents.m.source)}),
    )


def _sizes(result: ManyResult | TrendResult) -> list[tuple[str, int]]:
    return list(zip(result.documents.names, result.documents.sizes.tolist(), strict=True))


def _contents(result: ManyResult) -> Iterator[Comparison]:
    """All comparisons in their order."""
    sizes, found = result.documents.sizes.tolist(), result.findings.partition_by("set", "against", as_dict=True)
    for number, (key, (one, other)) in enumerate(zip(result.results, result.comparisons, strict=True), start=1):
        rows = found.get(key)
        sizes_of = sizes[one], sum(sizes) - sizes[one] if other is None else sizes[other]
        apart = None if other is not None else 0 if rows is None else int(rows["apart"].sum())
        first = "" if rows is None else rows["label"][0] or "unlabelled concept"
        yield Comparison(f"set-{number}", key, sizes_of, 0 if rows is None else rows.height, apart, first)


def _nearest(result: ManyResult, contents: Sequence[Comparison]) -> list[Comparison]:
    """The comparison that came nearest to a finding."""
    first = result.frame.select("set", "against").head(1).rows()
    return [line for line in contents if [line.names] == first]


def _sections(result: ManyResult, lines: Sequence[Comparison], findings: int, examples: int) -> Iterator[Markup]:
    """The findings of each comparison, one in memory at a time; each may take its part of the room that is left."""
    left = _ROOM
    for number, line in enumerate(lines):
        section = _fitted(_Section.of(result, line).draw, findings, examples, left // (len(lines) - number))
        left -= len(encoded(section))
        yield section


def _fitted(draw: Callable[[int, int], Markup], findings: int, examples: int, room: int) -> Markup:
    """What `draw` makes of so many findings and examples, or of as many fewer as take no more than `room` bytes."""
    drawn = draw(findings, examples)
    while len(encoded(drawn)) > room and (findings > 1 or examples):
        if examples > 1 or (examples and findings <= _FEW):
            examples //= 2
        else:
            findings = max(findings // 2, 1)
        drawn = draw(findings, examples)
    return drawn


@dataclass(frozen=True, eq=False)
class _Section:
    """One comparison as a part of the page."""

    many: ManyResult
    line: Comparison
    result: DiffResult
    #: The rows of the comparison, by latent.
    rows: Mapping[int, Row]

    @classmethod
    def of(cls, many: ManyResult, line: Comparison) -> _Section:
        one, against = line.names
        rows = many.frame.filter((pl.col("set") == one) & (pl.col("against") == against))
        return cls(many, line, many.results[line.names], {row["latent"]: row for row in rows.iter_rows(named=True)})

    def draw(self, findings: int, examples: int) -> Markup:
        shown = shown_findings(self.result, findings=findings, examples=examples, prefix=f"{self.line.id}-")
        rows = [self.rows[finding.latent] for finding in shown.findings]
        end = self._end(rows)
        told = tuple(self._told(finding, row) for finding, row in zip(shown.findings, rows, strict=True))
        return piece(
            "many_findings",
            line=self.line,
            shown=replace(shown, findings=told),
            strips={finding.id: self._strip(row, end) for finding, row in zip(told, rows, strict=True)},
            strips_to="" if share(end) == shown.scales[0] else share(end),
        )

    def _end(self, rows: Sequence[Row]) -> float:
        """The end of the scale of the bars, unless a set lies beyond it."""
        bars = Charts.of(self.result, rows, "").scales[0]
        return bars if max(max(row["densities"]) for row in rows) <= bars else 1.0

    def _strip(self, row: Row, end: float) -> Strip:
        """The two sets compared are drawn last, over the others."""
        side = dict(zip(self.line.names, "ab", strict=True))
        dots = [
            (100 * density / end, side.get(name, ""), f"{name}: {share(density)}")
            for name, density in zip(self.many.sets, row["densities"], strict=True)
        ]
        low, high = share(min(row["densities"])), share(max(row["densities"]))
        words = f"the densities of all {len(dots)} sets, {low} to {high}"
        return Strip(words, tuple(sorted(dots, key=lambda dot: "ba".find(dot[1]) if dot[1] else -1)))

    def _told(self, finding: Finding, row: Row) -> Finding:
        """The finding with what the other sets say of it."""
        caveat = self._apart(row)
        each = ", ".join(f"{name} {share(d)}" for name, d in zip(self.many.sets, row["densities"], strict=True))
        return replace(
            finding,
            caveats=finding.caveats if caveat is None else (caveat, *finding.caveats),
            facts=(*finding.facts, ("density in each set", each)),
        )

    def _apart(self, row: Row) -> Caveat | None:
        if row["apart"] is None:
            return None
        name, others, held = row["set"], len(self.many.sets) - 1, row["holds_against"]
        sure = f"(p < {self.many.alpha:g} each)"
        low, high = share(row["others_low"]), share(row["others_high"])
        if row["apart"]:
            text = f"Unlike each other set by itself: {name} differs from all {others} others {sure}"
            return Caveat(f"{text}, which have {low} to {high}.", "unlike each other set", "good")
        text = f"By itself {name} differs from {held} of the {others} other sets {sure}"
        if by_strength(row):
            return Caveat(f"{text}, so that it may come of one of them.", "may come of one other set", "doubt")
        far = _farthest(self.many.sets, row)
        near = f"{row['nearest']} has {share(row['densities'][self.many.sets.index(row['nearest'])])}"
        end = low if row["difference"] > 0 else high
        return Caveat(f"{text}: {near}. It may come of one other set, {far} with {end}.", f"may come of {far}", "doubt")


def _farthest(sets: Sequence[str], row: Row) -> str:
    """The other set that lies farthest in the direction of the difference."""
    others = [(d, name) for name, d in zip(sets, row["densities"], strict=True) if name != row["set"]]
    choose = min if row["difference"] > 0 else max
    return choose(others, key=lambda other: other[0])[1]
