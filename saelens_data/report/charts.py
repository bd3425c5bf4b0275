"""What the charts of a report draw: densities, differences and strengths, each with its interval, placed on a scale."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from saelens_data import stats
from saelens_data.diff.two import DiffResult
from saelens_data.wording import points, share, short_names

#: Upper ends that the scale of a chart may have, as shares; few for densities, whose bars are read against the whole.
_DENSITIES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
_DIFFERENCES = (*_DENSITIES[:5], 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
#: Height and margin of the overview in pixels.
_HEIGHT, _MARGIN = 132, 6

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
class Mark:
    """A finding in the overview."""

    id: str
    title: str
    side: str
    by_strength: bool
    doubtful: bool


@dataclass(frozen=True)
class Overview:
    """Findings from left to right by rank; `x` in percent of the width, heights in pixels from above."""

    height: int
    #: Where no difference lies.
    zero: float
    #: Each with (x, low, high, difference).
    marks: tuple[tuple[Mark, tuple[float, float, float, float]], ...]


@dataclass(frozen=True, eq=False)
class Charts:
    """The charts of a comparison, all on the same scales."""

    result: DiffResult
    #: What differences were adjusted to: 'at equal length'.
    at_equal: str
    #: Ends of the scales of densities and of differences.
    scales: tuple[float, float]

    @classmethod
    def of(cls, result: DiffResult, rows: Sequence[Row], at_equal: str) -> Charts:
        """On scales that hold these rows of `result.frame`."""
        densities = _scale(_DENSITIES, (_wilson(result, row)[1].max() for row in rows))
        return cls(result, at_equal, (densities, _scale(_DIFFERENCES, map(_reach, rows))))

    def bars(self, row: Row) -> Iterator[Bar]:
        """Both densities."""
        end, names = self.scales[0], short_names(self.result.names)
        sides = zip("ab", names, (self.result.a, self.result.b), *_wilson(self.result, row).tolist(), strict=True)
        for side, name, m, low, high in sides:
            density = row[f"density_{side}"]
            width, least, most = (100 * min(value / end, 1.0) for value in (density, low, high))
            documents = f"{row[f'n_{side}']:,} of {m.n_docs:,}"
            interval = f"{share(low)} to {share(high)}"
            yield Bar(side, name, width, least, most, share(density), interval, documents)

    def effects(self, row: Row) -> Iterator[Effect]:
        """The raw difference and, where known, what is left of it and what it is in the documents held out."""
        yield self._effect("raw", "difference", row, ("difference", "ci_low", "ci_high"))
        if row["adjusted_difference"] is not None and row["adjusted_low"] is not None:
            keys = ("adjusted_difference", "adjusted_low", "adjusted_high")
            yield self._effect("adjusted", self.at_equal, row, keys)
        if row["confirmed"] is not None:
            yield self._effect("held", "held out", row, ("confirm_difference", "confirm_low", "confirm_high"))

    def _effect(self, kind: str, term: str, row: Row, keys: tuple[str, str, str]) -> Effect:
        """In the direction of the raw difference, so that what shrinks is seen to shrink."""
        at, low, high = (row[key] for key in keys)
        raw, end = row["difference"], self.scales[1]
        number, interval = points(at, low, high, towards=raw or row["delta"])
        more = f"{number} points more in {self.result.names[int(raw < 0)]}" if raw else f"{number} points"
        least, most, dot = (50 + 50 * min(max(value / end, -1.0), 1.0) for value in (low, high, at))
        return Effect(
            kind=kind,
            term=term,
            side=_side(raw),
            low=least,
            high=most,
            at=dot,
            words="no difference" if kind == "raw" and not raw else more,
            short=f"{number} {term}" if kind != "raw" else f"{number} points more" if raw else "no difference",
            interval=interval,
        )

    def strength(self, row: Row) -> Effect | None:
        """The chance that A's document is the stronger, on a scale from 0 to 1; None where it is not known."""
        if (auc := row["auc"]) is None:
            return None
        low, high = (auc if row[key] is None else row[key] for key in ("auc_low", "auc_high"))
        value, least, most = (auc, low, high) if auc >= 0.5 else (1 - auc, 1 - high, 1 - low)
        paired = self.result.pair_on is not None
        where = "pairs where both have it" if paired else "comparisons of two documents that have it"
        ahead = f"{self.result.names[int(auc < 0.5)]}’s is the stronger in {share(value)} of {where}"
        return Effect(
            kind="strength",
            term="strength",
            side=_side(auc - 0.5),
            low=100 * low,
            high=100 * high,
            at=100 * auc,
            words=ahead if auc != 0.5 else f"neither is the stronger more often, of {where}",
            short=f"stronger in {share(value)} of {'pairs' if paired else 'comparisons'}",
            interval=f"{share(least)} to {share(most)}",
        )


def overview(marks: Sequence[Mark], rows: Sequence[Row]) -> Overview:
    """The differences of `rows` on a scale that just holds them; A is above the line."""
    places = np.array([[row[key] for key in ("ci_low", "ci_high", "difference")] for row in rows])
    top, bottom = max(0.0, places.max()), min(0.0, places.min())
    heights = _MARGIN + (top - np.append(places, 0.0)) * (_HEIGHT - 2 * _MARGIN) / (top - bottom)
    *flat, zero = heights.tolist()
    placed = [(100 * (i + 0.5) / len(marks), *flat[3 * i : 3 * i + 3]) for i in range(len(marks))]
    return Overview(_HEIGHT, zero, tuple(zip(marks, placed, strict=True)))


def _side(difference: float) -> str:
    """The set that has more."""
    return "a" if difference > 0 else "b" if difference < 0 else ""


def _wilson(result: DiffResult, row: Row) -> np.ndarray:
    """Intervals of both densities, [low or high, set]."""
    return np.array(stats.wilson(np.array([row["n_a"], row["n_b"]]), np.array([result.a.n_docs, result.b.n_docs])))


def _reach(row: Row) -> float:
    ends = [row[key] for key in ("ci_low", "ci_high", "adjusted_low", "adjusted_high", "confirm_low", "confirm_high")]
    return max(abs(float(end)) for end in ends if end is not None)


def _scale(ends: Sequence[float], values: Iterable[float]) -> float:
    """The least of `ends` that reaches all values."""
    reach = max(values, default=1.0)
    return next(end for end in ends if end >= min(reach, 1.0))
