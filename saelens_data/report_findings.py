"""The findings of one comparison as a page shows them: numbers, charts, words; `templates/findings.html` draws them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from saelens_data import stats
from saelens_data.diff import DiffResult
from saelens_data.evidence import column_of
from saelens_data.report_caveats import Caveat, Grounds, caveats
from saelens_data.report_examples import Group, by_strength, examples_of
from saelens_data.wording import p_in_words, points, share, short_names

#: Shown, and marked as such, where nothing is a finding.
NEAREST = 10
#: Upper ends that the scale of a chart may have, as shares; few for densities, whose bars are read against the whole.
_DENSITIES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
_DIFFERENCES = (*_DENSITIES[:5], 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
#: Findings from which an overview helps, and its height in pixels.
_OVERVIEW_FROM, _OVERVIEW_HEIGHT = 4, 132
#: p below which the look that does not carry a finding is mentioned too.
_ALSO = 0.05

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Bar:
    """The density in one set with its Wilson interval; places in percent of the chart's width."""

    side: str
    name: str
    width: float
    low: float
    high: float
    value: str
    interval: str
    documents: str


@dataclass(frozen=True)
class Effect:
    """A difference (or a chance) with its interval; places in percent of the chart's width, A to the right of 50."""

    #: "raw", "adjusted", "held" or "strength".
    kind: str
    term: str
    #: "a" or "b": the set that has more; "" if neither.
    side: str
    low: float
    high: float
    at: float
    words: str
    #: The words where there is less room.
    short: str
    interval: str


@dataclass(frozen=True)
class Member:
    """One of the near-duplicate latents of a finding."""

    latent: int
    label: str | None
    side: str
    densities: tuple[str, str]
    difference: str
    interval: str
    p: str


@dataclass(frozen=True)
class Mark:
    """A finding in the overview: `x` in percent of the width, heights in pixels from above."""

    id: str
    title: str
    side: str
    x: float
    low: float
    high: float
    at: float
    by_strength: bool
    doubtful: bool


@dataclass(frozen=True)
class Finding:
    """One finding as the page shows it."""

    id: str
    rank: int
    latent: int
    label: str | None
    explanation: str | None
    #: "a" or "b": the set that it favours; "" if neither.
    side: str
    is_finding: bool
    bars: tuple[Bar, ...]
    effects: tuple[Effect, ...]
    strength: Effect | None
    carried: str
    by_strength: bool
    caveats: tuple[Caveat, ...]
    facts: tuple[tuple[str, str], ...]
    members: tuple[Member, ...]
    groups: tuple[Group, ...]
    #: What the page sorts and filters by.
    q: float
    adjusted: float
    tags: str


@dataclass(frozen=True)
class Shown:
    """The findings of one comparison, and what their charts have in common."""

    names: dict[str, str]
    short: dict[str, str]
    findings: tuple[Finding, ...]
    marks: tuple[Mark, ...]
    overview_height: int
    #: How many findings there are, shown or not.
    n_found: int
    n_tested: int
    paired: bool
    clustered: bool
    #: Ends of the scales of densities and of differences.
    scales: tuple[str, str]
    #: 'at equal length', or "" where nothing could be adjusted for.
    at_equal: str
    #: What can be filtered by.
    tags: frozenset[str]


def shown_findings(result: DiffResult, *, findings: int, examples: int, prefix: str = "") -> Shown:
    """The `findings` largest findings of `result`, or the nearest to one; `prefix` keeps ids apart on one page."""
    found = result.findings
    table = found.head(findings) if found.height else result.frame.head(NEAREST)
    rows = list(table.iter_rows(named=True))
    wilson = _wilson(result, table)
    scales = (
        _scale(_DENSITIES, (max(high) for _, high in wilson)),
        _scale(_DIFFERENCES, (_reach(row) for row in rows)),
    )
    page = _Page(result, Grounds.of(result), scales, _member_rows(result, table), prefix)
    lines = zip(rows, wilson, examples_of(result, rows, examples), strict=True)
    shown = tuple(page.finding(row, interval, groups) for row, interval, groups in lines)
    return Shown(
        names=dict(zip("ab", result.names, strict=True)),
        short=dict(zip("ab", short_names(result.names), strict=True)),
        findings=shown,
        marks=_marks(shown, rows, scales[1]) if min(len(rows), found.height) >= _OVERVIEW_FROM else (),
        overview_height=_OVERVIEW_HEIGHT,
        n_found=found.height,
        n_tested=result.n_tested,
        paired=result.pair_on is not None,
        clustered=result.cluster_on is not None,
        scales=(share(scales[0]), share(scales[1])),
        at_equal=page.grounds.at_equal if any(e.kind == "adjusted" for f in shown for e in f.effects) else "",
        tags=frozenset(tag for finding in shown for tag in finding.tags.split()),
    )


def _wilson(result: DiffResult, table: pl.DataFrame) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """For each row the lower ends of both densities' intervals, then the upper ones."""
    ends = [stats.wilson(table[n].to_numpy(), m.n_docs) for n, m in (("n_a", result.a), ("n_b", result.b))]
    (low_a, high_a), (low_b, high_b) = ((low.tolist(), high.tolist()) for low, high in ends)
    return list(zip(zip(low_a, low_b, strict=True), zip(high_a, high_b, strict=True), strict=True))


def _reach(row: Row) -> float:
    ends = [row[key] for key in ("ci_low", "ci_high", "adjusted_low", "adjusted_high", "confirm_low", "confirm_high")]
    return max(abs(float(end)) for end in ends if end is not None)


def _scale(ends: Sequence[float], values: Iterator[float]) -> float:
    """The least of `ends` that reaches all values."""
    reach = max(values, default=1.0)
    return next(end for end in ends if end >= min(reach, 1.0))


def _member_rows(result: DiffResult, table: pl.DataFrame) -> dict[int, Row]:
    """What each latent of these findings shows by itself."""
    wanted = table["members"].explode()
    rows = result.latents.filter(pl.col("latent").is_in(wanted.implode())).iter_rows(named=True)
    return {row["latent"]: row for row in rows}


@dataclass(frozen=True, eq=False)
class _Page:
    """What all findings of a comparison need to be put into words."""

    result: DiffResult
    grounds: Grounds
    scales: tuple[float, float]
    latents: Mapping[int, Row]
    prefix: str

    def finding(
        self, row: Row, wilson: tuple[tuple[float, float], tuple[float, float]], groups: tuple[Group, ...]
    ) -> Finding:
        concept = self.result.a.concepts.row(column_of(self.result.a, row["latent"]), named=True)
        members = [self.latents[latent] for latent in row["members"]]
        found = row["finding"]
        return Finding(
            id=f"{self.prefix}latent-{row['latent']}",
            rank=row["rank"],
            latent=row["latent"],
            label=row["label"] or None,
            explanation=concept.get("explanation"),
            side=self._side(row["favours"]),
            is_finding=found,
            bars=tuple(self._bars(row, *wilson)),
            effects=tuple(self._effects(row)),
            strength=_strength(row, self.result),
            carried=_carried(row, self.result) if found else "",
            by_strength=by_strength(row),
            caveats=caveats(self.grounds, row, members),
            facts=tuple(_facts(self.result, row)),
            members=tuple(self._members(members)) if len(members) > 1 else (),
            groups=groups,
            q=row["q_value"],
            adjusted=abs(row["difference"] if row["adjusted_difference"] is None else row["adjusted_difference"]),
            tags=_tags(row),
        )

    def _side(self, name: str | None) -> str:
        return dict(zip(self.result.names, "ab", strict=True)).get(name, "") if name is not None else ""

    def _bars(self, row: Row, low: tuple[float, float], high: tuple[float, float]) -> Iterator[Bar]:
        sides = zip("ab", short_names(self.result.names), (self.result.a, self.result.b), low, high, strict=True)
        for side, name, m, least, most in sides:
            density, end = row[f"density_{side}"], self.scales[0]
            width, reach_low, reach_high = (100 * min(value / end, 1.0) for value in (density, least, most))
            interval, documents = f"{share(least)} to {share(most)}", f"{row[f'n_{side}']:,} of {m.n_docs:,}"
            yield Bar(side, name, width, reach_low, reach_high, share(density), interval, documents)

    def _effects(self, row: Row) -> Iterator[Effect]:
        yield self._effect("raw", "difference", row, ("difference", "ci_low", "ci_high"))
        if row["adjusted_difference"] is not None and row["adjusted_low"] is not None:
            keys = ("adjusted_difference", "adjusted_low", "adjusted_high")
            yield self._effect("adjusted", self.grounds.at_equal, row, keys)
        if row["confirmed"] is not None:
            yield self._effect("held", "held out", row, ("confirm_difference", "confirm_low", "confirm_high"))

    def _effect(self, kind: str, term: str, row: Row, keys: tuple[str, str, str]) -> Effect:
        """In the direction of the raw difference, so that what shrinks is seen to shrink."""
        at, low, high = (row[key] for key in keys)
        raw = row["difference"]
        number, interval = points(at, low, high, towards=raw or row["delta"])
        more = f"{number} points more in {self.result.names[int(raw < 0)]}" if raw else f"{number} points"
        return Effect(
            kind=kind,
            term=term,
            side="a" if raw > 0 else "b" if raw < 0 else "",
            low=50 + 50 * low / self.scales[1],
            high=50 + 50 * high / self.scales[1],
            at=50 + 50 * at / self.scales[1],
            words="no difference" if kind == "raw" and not raw else more,
            short=f"{number} points more" if kind == "raw" and raw else f"{number} {term}",
            interval=interval,
        )

    def _members(self, members: Sequence[Row]) -> Iterator[Member]:
        for m in members:
            raw = m["difference"]
            number, interval = points(raw, m["ci_low"], m["ci_high"], towards=raw)
            yield Member(
                m["latent"],
                m["label"] or None,
                "a" if raw > 0 else "b" if raw < 0 else "",
                (share(m["density_a"]), share(m["density_b"])),
                f"{number} points more" if raw else "none",
                interval,
                p_in_words(m["p_value"]),
            )


def _strength(row: Row, result: DiffResult) -> Effect | None:
    """The chance that A's document is the stronger, on a scale from 0 to 1."""
    if row["auc"] is None:
        return None
    ends = [row[key] for key in ("auc_low", "auc_high")]
    low, high = (row["auc"] if end is None else end for end in ends)
    b = row["auc"] < 0.5
    value = 1 - row["auc"] if b else row["auc"]
    span = sorted((1 - low, 1 - high)) if b else (low, high)
    where = "pairs where both have it" if result.pair_on is not None else "two documents that have it"
    return Effect(
        kind="strength",
        term="strength",
        side="b" if b else "a" if row["auc"] > 0.5 else "",
        low=100 * low,
        high=100 * high,
        at=100 * row["auc"],
        words=f"{result.names[int(b)]}’s is the stronger in {share(value)} of {where}"
        if row["auc"] != 0.5
        else f"neither is the stronger more often, of {where}",
        short=f"stronger in {share(value)} of {'pairs' if result.pair_on is not None else 'comparisons'}",
        interval=f"{share(span[0])} to {share(span[1])}",
    )


def _carried(row: Row, result: DiffResult) -> str:
    """Which of presence and strength makes it a finding, in words."""
    more = result.names[int(row["difference"] < 0)]
    stronger = result.names[int((row["auc"] or 0.5) < 0.5)]
    if by_strength(row):
        also = f" It is also in more documents of {more}." if row["p_presence"] < _ALSO and row["difference"] else ""
        return f"Strength carries it: where both sets have it, it is stronger in {stronger}.{also}"
    clear = row["auc"] not in (None, 0.5) and row["p_strength"] < _ALSO
    too = " too" if stronger == more else ""
    also = f" Where active, it is stronger in {stronger}{too}." if clear else ""
    return f"Presence carries it: more documents of {more} have it.{also}"


def _facts(result: DiffResult, row: Row) -> Iterator[tuple[str, str]]:
    """Further terms and values that a sceptic asks for."""
    if row["n_pairs"] is not None:
        both = row["n_a"] - row["only_a"]
        neither = row["n_pairs"] - both - row["only_a"] - row["only_b"]
        only = ", ".join(f"only {name} in {row[f'only_{s}']:,}" for s, name in zip("ab", result.names, strict=True))
        yield "pairs", f"{only}, both in {both:,}, neither in {neither:,}"
    if len(row["members"]) > 1:
        shares = zip("ab", result.names, strict=True)
        yield "with any of its latents", ", ".join(f"{share(row[f'any_{s}'])} of {name}" for s, name in shares)
    yield "p", p_in_words(row["p_value"])
    yield "q", p_in_words(row["q_value"])
    yield "p of presence", p_in_words(row["p_presence"])
    if row["auc"] is not None:
        yield "p of strength", p_in_words(row["p_strength"])


def _tags(row: Row) -> str:
    """What a finding can be filtered by."""
    tags = {
        "explained": row["explained_by"] is not None,
        "undecided": bool(row["undecided"]),
        "confirmed": row["confirmed"] is True,
        "unconfirmed": row["confirmed"] is False,
    }
    return " ".join(tag for tag, holds in tags.items() if holds)


def _marks(shown: Sequence[Finding], rows: Sequence[Row], reach: float) -> tuple[Mark, ...]:
    """The findings in the overview, from left to right by rank; A is above the middle."""
    middle = _OVERVIEW_HEIGHT / 2
    places = np.array([[row[key] for key in ("ci_low", "ci_high", "difference")] for row in rows])
    heights = (middle - (middle - 6) * places / reach).tolist()
    return tuple(
        Mark(
            id=f.id,
            title=f"{f.rank}. {f.label or 'unlabelled concept'}: {f.effects[0].words} ({f.effects[0].interval})",
            side=f.side,
            x=100 * (i + 0.5) / len(shown),
            low=low,
            high=high,
            at=at,
            by_strength=f.by_strength,
            doubtful=bool({"explained", "undecided"} & set(f.tags.split())),
        )
        for i, (f, (low, high, at)) in enumerate(zip(shown, heights, strict=True))
    )
