"""Bars of a few pixels for the cells of a table, as pictures in the page.

They are pictures (SVG in the address of an `img`) and not styled elements, for where notebooks are shown on the web,
styles and inline drawings are taken out of them. The colours are in the middle between white and black: both serve as
paper.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markupsafe import Markup

#: The first of two things compared, or the only one, and the second; and the scale behind them.
COLOURS = ("#3b82c4", "#d9772b")
_RAIL = "#808080"
#: Pixels.
WIDTH, HEIGHT = 110, 14


@dataclass(frozen=True)
class Scale:
    """The values at the left and the right end of the bars of a column, and where they begin."""

    low: float
    high: float
    zero: float = 0.0

    def at(self, value: float) -> float:
        """The place of a value in pixels; what lies beyond an end is drawn at it."""
        share = (value - self.low) / ((self.high - self.low) or 1.0)
        return round(WIDTH * min(max(share, 0.0), 1.0), 1)


def bar(scale: Scale, value: float, interval: tuple[float, float] | None = None, colour: int = 0) -> Markup:
    """A bar from the zero of the scale to a value, with a whisker where there is an interval."""
    zero, end, own = scale.at(scale.zero), scale.at(value), COLOURS[colour]
    low, width = min(zero, end), round(abs(end - zero), 1)
    solid = ".55" if interval else ".85"
    parts = [
        f'<rect width="{WIDTH}" height="10" y="2" fill="{_RAIL}" fill-opacity=".15"/>',
        f'<rect x="{low}" y="2" width="{width}" height="10" fill="{own}" fill-opacity="{solid}"/>',
    ]
    if scale.low < scale.zero < scale.high:
        parts.append(f'<path d="M{zero} 0v14" stroke="{_RAIL}"/>')
    if interval:
        first, last = (scale.at(place) for place in interval)
        parts.append(f'<path d="M{first} 4v6M{last} 4v6M{first} 7H{last}" stroke="{own}" stroke-width="1.5"/>')
    return _picture(parts, WIDTH)


def steps(values: Sequence[float | None], most: float) -> Markup:
    """A column for each of the values, from left to right, as high as its share of `most`."""
    wide = max(3, min(14, WIDTH // max(len(values), 1) - 2))
    parts = []
    for number, value in enumerate(values):
        height = round(HEIGHT * min(max((value or 0.0) / (most or 1.0), 0.0), 1.0), 1)
        at = number * (wide + 2)
        parts.append(f'<rect x="{at}" width="{wide}" height="{HEIGHT}" fill="{_RAIL}" fill-opacity=".15"/>')
        parts.append(
            f'<rect x="{at}" y="{round(HEIGHT - height, 1)}" width="{wide}" height="{height}" fill="{COLOURS[0]}"/>'
        )
    return _picture(parts, len(values) * (wide + 2))


def _picture(parts: Sequence[str], width: int) -> Markup:
    from markupsafe import Markup  # noqa: PLC0415

    svg = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{HEIGHT}">{"".join(parts)}</svg>'
    address = b64encode(svg.encode()).decode()
    # Nothing in it but numbers. The number itself is written beside it, so that it needs no words of its own.
    style = "display:inline;vertical-align:middle;margin:0"
    img = f'<img alt="" width="{width}" height="{HEIGHT}" style="{style}" src="data:image/svg+xml;base64,{address}">'
    return Markup(img)  # noqa: S704
