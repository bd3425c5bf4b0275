"""The findings of one comparison as a page shows them; `templates/findings.html` draws them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from saelens_data.diff.two import DiffResult
from saelens_data.evidence import column_of
from saelens_data.report.caveats import Caveat, Grounds, caveats
from saelens_data.report.charts import Bar, Charts, Effect, Mark, Overview, overview
from saelens_data.report.examples import SURE, Group, by_strength, examples_of
from saelens_data.wording import p_in_words, points, share, short_names

#: Shown, and marked as such, where nothing is a finding.
NEAREST = 10
#: Findings from which an overview helps.
_OVERVIEW_FROM = 4
#: Members of a finding that stand in its table, and characters of a label and of an explanation.
_MEMBERS, _LABEL_CHARS, _EXPLANATION_CHARS = 12, 160, 600

Row = Mapping[str, Any]


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
    #: The first of the near-duplicate latents; empty where there is one alone.
    members: tuple[Member, ...]
    n_members: int
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
    #: None where it would not help.
    overview: Overview | None
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
    grounds = Grounds.of(result)
    charts = Charts.of(result, rows, grounds.at_equal)
    page = _Page(result, grounds, charts, _member_rows(result, table), prefix)
    examples_of_each = examples_of(result, rows, examples)
    shown = tuple(page.finding(row, groups) for row, groups in zip(rows, examples_of_each, strict=True))
    helps = found.height and len(rows) >= _OVERVIEW_FROM
    return Shown(
        names=dict(zip("ab", result.names, strict=True)),
        short=dict(zip("ab", short_names(result.names), strict=True)),
        findings=shown,
        overview=overview([_mark(finding) for finding in shown], rows) if helps else None,
        n_found=found.height,
        n_tested=result.n_tested,
        paired=result.pair_on is not None,
        clustered=result.cluster_on is not None,
        scales=(share(charts.scales[0]), share(charts.scales[1])),
        at_equal=grounds.at_equal if any(e.kind == "adjusted" for f in shown for e in f.effects) else "",
        tags=frozenset(tag for finding in shown for tag in finding.tags.split()),
    )


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
    charts: Charts
    latents: Mapping[int, Row]
    prefix: str

    def finding(self, row: Row, groups: tuple[Group, ...]) -> Finding:
        concept = self.result.a.concepts.row(column_of(self.result.a, row["latent"]), named=True)
        members = [self.latents[latent] for latent in row["members"]]
        found = row["finding"]
        return Finding(
            id=f"{self.prefix}latent-{row['latent']}",
            rank=row["rank"],
            latent=row["latent"],
            label=shortened(row["label"], _LABEL_CHARS),
            explanation=shortened(concept.get("explanation"), _EXPLANATION_CHARS),
            side=self._side(row["favours"]),
            is_finding=found,
            bars=tuple(self.charts.bars(row)),
            effects=tuple(self.charts.effects(row)),
            strength=self.charts.strength(row),
            carried=_carried(row, self.result) if found else "",
            by_strength=by_strength(row),
            caveats=caveats(self.grounds, row, members),
            facts=tuple(_facts(self.result, row)),
            members=tuple(self._members(members[:_MEMBERS])) if len(members) > 1 else (),
            n_members=len(members),
            groups=groups,
            q=row["q_value"],
            adjusted=abs(row["difference"] if row["adjusted_difference"] is None else row["adjusted_difference"]),
            tags=_tags(row),
        )

    def _side(self, name: str | None) -> str:
        return dict(zip(self.result.names, "ab", strict=True)).get(name, "") if name is not None else ""

    def _members(self, members: Sequence[Row]) -> Iterator[Member]:
        for m in members:
            raw = m["difference"]
            number, interval = points(raw, m["ci_low"], m["ci_high"], towards=raw)
            yield Member(
                m["latent"],
                shortened(m["label"], _LABEL_CHARS),
                "a" if raw > 0 else "b" if raw < 0 else "",
                (share(m["density_a"]), share(m["density_b"])),
                f"{number} points more" if raw else "none",
                interval,
                p_in_words(m["p_value"]),
            )


def shortened(text: str | None, chars: int) -> str | None:
    """A text of at most so many characters; None for none."""
    return text if not text or len(text) <= chars else text[:chars].rstrip() + "…"


def _carried(row: Row, result: DiffResult) -> str:
    """Which of presence and strength makes it a finding, in words."""
    more = result.names[int(row["difference"] < 0)]
    stronger = result.names[int((row["auc"] or 0.5) < 0.5)]
    if by_strength(row):
        also = f" It is also in more documents of {more}." if row["p_presence"] < SURE and row["difference"] else ""
        return f"Strength carries it: where both sets have it, it is stronger in {stronger}.{also}"
    clear = row["auc"] not in (None, 0.5) and row["p_strength"] < SURE
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
        "explained": row["explained_by"] is not None and not row["undecided"],
        "undecided": bool(row["undecided"]),
        "confirmed": row["confirmed"] is True,
        "unconfirmed": row["confirmed"] is False,
    }
    return " ".join(tag for tag, holds in tags.items() if holds)


def _mark(f: Finding) -> Mark:
    title = f"{f.rank}. {f.label or 'unlabelled concept'}: {f.effects[0].words} ({f.effects[0].interval})"
    return Mark(f.id, title, f.side, f.by_strength, bool({"explained", "undecided"} & set(f.tags.split())))
