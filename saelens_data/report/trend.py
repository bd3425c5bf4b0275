"""The findings of a trend as a page shows them; `templates/trend_findings.html` draws them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from saelens_data import stats
from saelens_data.diff.trend import TrendResult
from saelens_data.evidence import active_rows, column_of, evidence_for, passage
from saelens_data.report.caveats import EVERYWHERE, FEW, GUESS, Caveat
from saelens_data.report.charts import Effect
from saelens_data.report.examples import AGAINST, FOR, SURE, Document, Exhibit, Group
from saelens_data.report.findings import NEAREST, shortened
from saelens_data.wording import count, p_in_words, points, share

#: Ends that the scales may have, as shares: of densities and of slopes.
_DENSITIES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
_SLOPES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
#: Height and margin of the line over the steps in pixels.
HEIGHT, _MARGIN = 56, 5
#: Characters of a label, an explanation, a document and a prompt that are shown.
_LABEL_CHARS, _EXPLANATION_CHARS, _PASSAGE_CHARS, _PROMPT_CHARS = 160, 600, 520, 280

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Step:
    """The density at one step with its Wilson interval: in words, as places in percent of a width, and as heights."""

    name: str
    value: str
    interval: str
    documents: str
    #: Where the step lies on the line, in percent of the width; the heights of its density and interval in pixels.
    x: float
    y: float
    y_low: float
    y_high: float
    #: The same as a bar, in percent of the width.
    width: float
    low: float
    high: float


@dataclass(frozen=True)
class TrendFinding:
    """One finding as the page shows it. Side "a" rises, as the last step is "a" and the first "b"."""

    id: str
    rank: int
    latent: int
    label: str | None
    explanation: str | None
    side: str
    is_finding: bool
    steps: tuple[Step, ...]
    effects: tuple[Effect, ...]
    carried: str
    caveats: tuple[Caveat, ...]
    facts: tuple[tuple[str, str], ...]
    n_members: int
    groups: tuple[Group, ...]
    #: What the page sorts and filters by.
    q: float
    adjusted: float
    tags: str


@dataclass(frozen=True)
class ShownTrend:
    """The findings of a trend, and what their charts have in common."""

    findings: tuple[TrendFinding, ...]
    n_found: int
    n_tested: int
    clustered: bool
    #: Names of the first and the last step.
    ends: tuple[str, str]
    #: Ends of the scales of densities and of slopes.
    scales: tuple[str, str]
    #: 'at equal length', or "" where nothing could be adjusted for.
    at_equal: str
    tags: frozenset[str]


def shown_trend(result: TrendResult, *, findings: int, examples: int) -> ShownTrend:
    """The first `findings` findings of `result`, or the nearest to one, each with up to `examples` documents."""
    found = result.findings
    rows = list((found.head(findings) if found.height else result.frame.head(NEAREST)).iter_rows(named=True))
    page = _Page.of(result, rows, examples)
    shown = tuple(page.finding(row) for row in rows)
    return ShownTrend(
        findings=shown,
        n_found=found.height,
        n_tested=result.n_tested,
        clustered=result.cluster_on is not None,
        ends=(result.steps[0], result.steps[-1]),
        scales=(share(page.scales[0]), share(page.scales[1])),
        at_equal=page.at_equal if any(len(finding.effects) > 1 for finding in shown) else "",
        tags=frozenset(tag for finding in shown for tag in finding.tags.split()),
    )


@dataclass(frozen=True, eq=False)
class _Page:
    """What all findings of a trend need to be put into words."""

    result: TrendResult
    examples: int
    #: Documents with each leading latent, and the ends of their shares' Wilson intervals: latent -> [steps].
    active: Mapping[int, np.ndarray]
    intervals: Mapping[int, tuple[np.ndarray, np.ndarray]]
    #: Rows of the documents with each leading latent, strongest first.
    rows: Mapping[int, np.ndarray]
    scales: tuple[float, float]

    @classmethod
    def of(cls, result: TrendResult, rows: Sequence[Row], examples: int) -> _Page:
        p, latents = result.documents, [row["latent"] for row in rows]
        where = active_rows(p.m, latents)
        active = {latent: np.bincount(p.code[where[latent]], minlength=len(p.names)) for latent in latents}
        intervals = {latent: stats.wilson(active[latent], p.sizes) for latent in latents}
        slopes = [abs(row[key] or 0.0) for row in rows for key in _ENDS]
        scales = (
            _scale(_DENSITIES, [float(high.max()) for _, high in intervals.values()]),
            _scale(_SLOPES, [slope for slope in slopes if np.isfinite(slope)]),
        )
        kept = p.m.evidence is not None
        return cls(result, examples if kept else 0, active, intervals, where, scales)

    @property
    def at_equal(self) -> str:
        return "at equal " + " and ".join(self.result.parameters["adjusted_for"])

    def finding(self, row: Row) -> TrendFinding:
        m, latent = self.result.documents.m, row["latent"]
        concept = m.concepts.row(column_of(m, latent), named=True)
        steps = tuple(self._steps(latent))
        adjusted = row["slope"] if row["adjusted_slope"] is None else row["adjusted_slope"]
        return TrendFinding(
            id=f"latent-{latent}",
            rank=row["rank"],
            latent=latent,
            label=shortened(row["label"], _LABEL_CHARS),
            explanation=shortened(concept.get("explanation"), _EXPLANATION_CHARS),
            side={"rising": "a", "falling": "b"}.get(row["favours"], ""),
            is_finding=row["finding"],
            steps=steps,
            effects=tuple(self._effects(row)),
            carried=_carried(row) if row["finding"] else "",
            caveats=tuple(self._caveats(row, concept.get("score"))),
            facts=tuple(_facts(row)),
            n_members=len(row["members"]),
            groups=tuple(self._groups(row)) if self.examples else (),
            q=row["q_value"],
            adjusted=abs(adjusted),
            tags=_tags(row),
        )

    def _steps(self, latent: int) -> Iterator[Step]:
        p, active, (lows, highs) = self.result.documents, self.active[latent], self.intervals[latent]
        for i, (name, size) in enumerate(zip(p.names, p.sizes.tolist(), strict=True)):
            density, low, high = float(active[i]) / size, float(lows[i]), float(highs[i])
            parts = [min(value / self.scales[0], 1.0) for value in (density, low, high)]
            yield Step(
                name,
                share(density),
                f"{share(low)} to {share(high)}",
                f"{active[i]:,} of {size:,}",
                100 * (i + 0.5) / len(p.names),
                *(HEIGHT - _MARGIN - part * (HEIGHT - 2 * _MARGIN) for part in parts),
                *(100 * part for part in parts),
            )

    def _effects(self, row: Row) -> Iterator[Effect]:
        """The slope and, where known, what is left of it."""
        yield self._effect("raw", "slope", row, ("slope", "slope_low", "slope_high"))
        if row["adjusted_slope"] is not None and row["adjusted_low"] is not None:
            yield self._effect("adjusted", self.at_equal, row, ("adjusted_slope", "adjusted_low", "adjusted_high"))

    def _effect(self, kind: str, term: str, row: Row, keys: tuple[str, str, str]) -> Effect:
        at, low, high = (row[key] for key in keys)
        number, interval = points(at, low, high)
        least, most, dot = (50 + 50 * min(max(value / self.scales[1], -1.0), 1.0) for value in (low, high, at))
        words = f"{'+' if at > 0 else ''}{number} points a step"
        short = words if kind == "raw" else f"{number} {term}"
        return Effect(kind, term, _side(row["slope"]), least, most, dot, words, short, interval)

    def _caveats(self, row: Row, score: float | None) -> Iterator[Caveat]:
        terms, reason = " and ".join(self.result.parameters["adjusted_for"]), row["explained_by"]
        if row["undecided"]:
            yield Caveat(
                f"It may or may not be explained by {reason or terms}: {self.at_equal} nothing need be left, but there "
                "are too few documents to show that.",
                f"may be {reason or terms}",
                "doubt",
            )
        elif reason is not None:
            yield Caveat(
                f"Explained by {reason}: documents of equal {terms} need not show a trend, and less than half of it "
                "would be left.",
                f"explained by {reason}",
                "doubt",
            )
        if _by_strength(row) and row["p_presence"] >= SURE:
            yield Caveat("Strength only: it is not shown to be in more or fewer documents.", "strength only")
        yield from self._of_course(row)
        yield from _of_label(row["label"], score)

    def _of_course(self, row: Row) -> Iterator[Caveat]:
        """What the line over the steps says against a straight one, and how much it rests on."""
        (low, high), names = self.intervals[row["latent"]], self.result.steps
        back = high[1:] < low[:-1] if row["slope"] > 0 else low[1:] > high[:-1]
        if at := np.flatnonzero(back).tolist():
            steps = ", ".join(f"{names[i]} to {names[i + 1]}" for i in at)
            yield Caveat(f"It does not go one way: the opposite from {steps}.", "not one way", "doubt")
        n_docs = self.result.documents.m.n_docs
        if row["n"] < FEW or n_docs - row["n"] < FEW:
            n, which = (row["n"], "with") if row["n"] < FEW else (n_docs - row["n"], "without")
            yield Caveat(f"It rests on few documents: {count(n, 'document')} {which} it.", "few documents", "doubt")
        if (least := min(row["densities"])) >= EVERYWHERE:
            yield Caveat(f"It is nearly everywhere: in {share(least)} of the documents of each step or more.")

    def _groups(self, row: Row) -> Iterator[Group]:
        """Documents of the first and of the last step: with the concept, and one without."""
        last = len(self.result.steps) - 1
        for step, side in ((0, "b"), (last, "a")):
            own = (row["favours"] == "rising") == (side == "a")
            of = self.result.documents.rows(step)
            have = self.rows[row["latent"]]
            have = have[self.result.documents.code[have] == step]
            lack = np.setdiff1d(of, have)
            most = self.examples if own else max(1, self.examples // 2)
            yield self._group(row, side, step, FOR if own else AGAINST, ("In", have, of, most, have[:most]))
            middle = lack[len(lack) // 2 :][:1]
            yield self._group(row, side, step, AGAINST if own else FOR, ("Not in", lack, of, 1, middle))

    def _group(self, row: Row, side: str, step: int, role: str, what: tuple[str, Any, Any, int, Any]) -> Group:
        where, found, of, most, chosen = what
        which = "one of them" if where == "Not in" else "the strongest" if most == 1 else f"the {most} strongest"
        more = f"; {which}" if len(found) > most else ""
        title = f"{where} {self.result.steps[step]}: {len(found):,} of {count(len(of), 'document')}{more}"
        exhibits = tuple(self._exhibit(row["latent"], side, step, document) for document in chosen.tolist())
        return Group(side, role, title, exhibits)

    def _exhibit(self, latent: int, side: str, step: int, document: int) -> Exhibit:
        m = self.result.documents.m
        span = next(iter(evidence_for(m, latent, [document])), None)
        state = "not active" if span is None else f"activation {span.activation:.2f}"
        text = m.docs["text"][document] if "text" in m.docs.columns else None
        cut = passage(text or "", span if text else None, chars=_PASSAGE_CHARS)
        prompt = m.docs["prompt"][document] if "prompt" in m.docs.columns else None
        shown = Document(side, self.result.steps[step], m.docs["doc_id"][document], state, cut)
        return Exhibit(shortened(str(prompt or "").strip(), _PROMPT_CHARS), (shown,))


_ENDS = ("slope_low", "slope_high", "adjusted_low", "adjusted_high")


def _of_label(label: str | None, score: float | None) -> Iterator[Caveat]:
    if not label:
        yield Caveat("It has no label: read the examples.")
    elif score is not None and score < GUESS:
        yield Caveat(f"Its label is a guess (it scores {score:.2f} of 1): read the examples, not the label.")


def _by_strength(row: Row) -> bool:
    return bool(row["p_rank"] < row["p_presence"])


def _carried(row: Row) -> str:
    """Which of presence and strength makes it a finding, in words. The test of strength has presence in it."""
    if not _by_strength(row):
        return f"Presence carries it: from step to step {'more' if row['slope'] > 0 else 'fewer'} documents have it."
    what = "Presence and strength together carry it" if row["p_presence"] < SURE else "Strength carries it"
    stronger = "stronger" if row["favours"] == "rising" else "weaker"
    return f"{what}: from step to step it is {stronger}, its absence counting as weakest."


def _facts(row: Row) -> Iterator[tuple[str, str]]:
    """Further terms and values that a sceptic asks for."""
    if len(row["members"]) > 1:
        yield "near-duplicate latents", ", ".join(map(str, row["members"]))
    yield "p", p_in_words(row["p_value"])
    yield "q", p_in_words(row["q_value"])
    yield "p of presence", p_in_words(row["p_presence"])
    yield "p of strength, over all documents", p_in_words(row["p_rank"])
    yield "effect of a step", f"{row['delta']:+.3f}"


def _tags(row: Row) -> str:
    undecided = bool(row["undecided"])
    tags = {"explained": row["explained_by"] is not None and not undecided, "undecided": undecided}
    return " ".join(tag for tag, holds in tags.items() if holds)


def _side(slope: float) -> str:
    return "a" if slope > 0 else "b" if slope < 0 else ""


def _scale(ends: Sequence[float], values: Sequence[float]) -> float:
    """The least of `ends` that reaches all values."""
    reach = min(max(values, default=1.0), 1.0)
    return next(end for end in ends if end >= reach)
