"""Charts as Altair draws them: of a small table, with its data inside, the same table giving the same chart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import polars as pl

from saelens_data.display.bars import COLOURS
from saelens_data.display.stretches import short as _short
from saelens_data.errors import InputError, MissingExtraError

#: Colours of categories, in order: the first two are those of the bars in tables.
_CATEGORIES = [*COLOURS, "#3a9a6b", "#a05fb5", "#b8912f", "#c4506b", "#4aa3b5", "#808080"]
#: Pixels of a chart's width, of a row, and of the words on its left.
_WIDTH, _ROW, _WORDS = 420, 20, 320
#: Categories above which a legend is left out.
_LEGEND = 20

#: Columns of the table by name -> what to call them in the tooltip.
Names = Mapping[str, str]


def dots(
    frame: pl.DataFrame,
    *,
    y: str,
    x: str,
    low: str,
    high: str,
    title: str,
    tooltip: Names,
    colour: tuple[str, str] | None = None,
    order: Sequence[str] | None = None,
    zero: float | None = 0.0,
    percent: bool = False,
    heading: str = "",
) -> Any:
    """A dot for each row, in their order, with its interval; `colour` is a column and its title.

    `order` are the values of `colour` in their order. `zero` is where a line is drawn, None for none.
    """
    alt = _altair(frame)
    base = alt.Chart(_data(frame)).encode(
        y=_rows(alt, frame, y), tooltip=_tooltip(alt, tooltip, frame), **_coloured(alt, frame, colour, order)
    )
    axis = {"axis": alt.Axis(format="+.0%")} if percent else {}
    layers = [] if zero is None else [_line(alt, zero)]
    layers += [
        base.mark_rule(strokeWidth=2, opacity=0.6).encode(
            x=alt.X(f"{_name(low)}:Q", title=title, **axis), x2=_name(high)
        ),
        base.mark_circle(size=70, opacity=1).encode(x=alt.X(f"{_name(x)}:Q", title=title, **axis)),
    ]
    return alt.layer(*layers).properties(width=_WIDTH, height=alt.Step(_ROW), **_heading(heading))


def bars(
    frame: pl.DataFrame,
    *,
    y: str,
    x: str,
    title: str,
    tooltip: Names,
    colour: tuple[str, str] | None = None,
    order: Sequence[str] | None = None,
    heading: str = "",
) -> Any:
    """A bar for each value of `y`, in their order; several rows with the same value are stacked."""
    alt = _altair(frame)
    chart = alt.Chart(_data(frame)).mark_bar(opacity=0.85)
    chart = chart.encode(
        y=_rows(alt, frame, y),
        x=alt.X(f"{_name(x)}:Q", title=title),
        tooltip=_tooltip(alt, tooltip, frame),
        **_coloured(alt, frame, colour, order),
    )
    return chart.properties(width=_WIDTH, height=alt.Step(_ROW), **_heading(heading))


def heat(
    frame: pl.DataFrame, *, y: str, x: str, value: str, titles: tuple[str, str], tooltip: Names, heading: str = ""
) -> Any:
    """A cell for each row, the darker the larger its share from 0 to 1; `titles` are those of `x` and of the value."""
    alt = _altair(frame)
    columns = frame[x].unique(maintain_order=True).to_list()
    chart = alt.Chart(_data(frame)).mark_rect()
    chart = chart.encode(
        y=_rows(alt, frame, y),
        x=alt.X(f"{_name(x)}:N", title=titles[0], sort=columns, axis=alt.Axis(labelAngle=-30, orient="top")),
        color=alt.Color(
            f"{_name(value)}:Q", title=titles[1], scale=alt.Scale(scheme="blues", domainMin=0), legend=_percent(alt)
        ),
        tooltip=_tooltip(alt, tooltip, frame),
    )
    return chart.properties(width=alt.Step(56), height=alt.Step(_ROW), **_heading(heading))


def lines(
    frame: pl.DataFrame,
    *,
    x: str,
    y: str,
    low: str,
    high: str,
    colour: tuple[str, str],
    titles: tuple[str, str],
    tooltip: Names,
    heading: str = "",
) -> Any:
    """A line for each value of `colour` over the steps of `x`, in their order, each value with its interval."""
    alt = _altair(frame)
    steps = frame[x].unique(maintain_order=True).to_list()
    base = alt.Chart(_data(frame)).encode(
        x=alt.X(f"{_name(x)}:O", title=titles[0], sort=steps, axis=alt.Axis(labelAngle=0)),
        tooltip=_tooltip(alt, tooltip, frame),
        **_coloured(alt, frame, colour, None),
    )
    place = alt.Y(f"{_name(y)}:Q", title=titles[1], axis=alt.Axis(format="%"))
    layers = (
        base.mark_area(opacity=0.12).encode(y=alt.Y(f"{_name(low)}:Q", title=titles[1]), y2=_name(high)),
        base.mark_line().encode(y=place),
        base.mark_circle(size=50, opacity=1).encode(y=place),
    )
    return alt.layer(*layers).properties(width=_WIDTH, height=260, **_heading(heading))


def scatter(frame: pl.DataFrame, *, x: str, y: str, colour: tuple[str, str], titles: tuple[str, str]) -> Any:
    """A point for each row; every column is in its tooltip but the two places."""
    alt = _altair(frame)
    chart = alt.Chart(_data(frame)).mark_circle(opacity=0.6)
    shown = {name: name for name in frame.columns if name not in (x, y)}
    chart = chart.encode(
        x=alt.X(f"{_name(x)}:Q", title=titles[0]),
        y=alt.Y(f"{_name(y)}:Q", title=titles[1]),
        tooltip=_tooltip(alt, shown | {colour[0]: colour[1]}, frame),
        **_coloured(alt, frame, colour, None),
    )
    return chart.properties(width=600, height=400)


def numbered(frame: pl.DataFrame, words: pl.Expr, *, number: str | None = None) -> pl.Series:
    """A name for each row that no other row has: '1. tea'."""
    numbers = frame[number] if number else pl.Series(range(1, frame.height + 1))
    names = frame.select(words.cast(pl.String)).to_series()
    return pl.Series("name", [f"{n}. {name}" for n, name in zip(numbers, names, strict=True)], dtype=pl.String)


def named(label: str = "label", latent: str = "latent") -> pl.Expr:
    """The label of a concept, or its number."""
    return pl.coalesce(pl.col(label), pl.format("latent {}", pl.col(latent)))


def short(heading: str) -> str:
    """A heading that does not run over the chart."""
    return _short(heading, 90)


def none_of(kind: str, instead: str) -> InputError:
    """The error of a result without a chart."""
    return InputError(f"there is no chart of a result of kind '{kind}': {instead}")


def _altair(frame: pl.DataFrame) -> Any:
    """Altair. Raises MissingExtraError without it, InputError where there is nothing to draw."""
    if find_spec("altair") is None:
        raise MissingExtraError("drawing a chart", "plots")
    if frame.is_empty():
        raise InputError("there is nothing to draw: the result has no rows")
    import altair as alt  # noqa: PLC0415

    return alt


def _data(frame: pl.DataFrame) -> Any:
    import altair as alt  # noqa: PLC0415

    return alt.Data(values=frame.to_dicts())


def _rows(alt: Any, frame: pl.DataFrame, y: str) -> Any:
    """One row for each value, from above in the order of the table."""
    names = frame[y].unique(maintain_order=True).to_list()
    return alt.Y(f"{_name(y)}:N", title=None, sort=names, axis=alt.Axis(labelLimit=_WORDS))


def _coloured(alt: Any, frame: pl.DataFrame, colour: tuple[str, str] | None, order: Sequence[str] | None) -> Any:
    if colour is None:
        return {"color": alt.value(COLOURS[0])}
    name, title = colour
    values = list(order) if order else frame[name].unique(maintain_order=True).to_list()
    scale = alt.Scale(domain=values, range=[_CATEGORIES[i % len(_CATEGORIES)] for i in range(len(values))])
    legend = {} if len(values) <= _LEGEND else {"legend": None}
    return {"color": alt.Color(f"{_name(name)}:N", title=title, scale=scale, **legend)}


def _line(alt: Any, at: float) -> Any:
    return alt.Chart(alt.Data(values=[{"zero": at}])).mark_rule(color="#808080").encode(x="zero:Q")


def _tooltip(alt: Any, names: Names, frame: pl.DataFrame) -> list[Any]:
    kinds = {True: "Q", False: "N"}
    formats = {True: {"format": ".3~g"}, False: {}}
    return [
        alt.Tooltip(
            f"{_name(name)}:{kinds[frame.schema[name].is_numeric()]}",
            title=title,
            **formats[frame.schema[name].is_float()],
        )
        for name, title in names.items()
    ]


def _percent(alt: Any) -> Any:
    return alt.Legend(format="%")


def _heading(heading: str) -> dict[str, str]:
    return {"title": heading} if heading else {}


def _name(column: str) -> str:
    """As Vega-Lite reads a field's name, whatever is in it."""
    return column.replace("\\", "\\\\").replace(".", "\\.").replace("[", "\\[").replace("]", "\\]").replace(":", "\\:")
