"""Tables for notebooks: which columns of a result are shown, and how, said in a few words for each."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import polars as pl

from saelens_data.display.bars import Scale, bar, steps
from saelens_data.display.markup import environment
from saelens_data.display.stretches import Stretch, short

if TYPE_CHECKING:
    from markupsafe import Markup

#: Rows shown, and characters of a cell and of an example.
ROWS, CHARS, EXAMPLE_CHARS = 10, 120, 200

Row = Mapping[str, Any]
#: The name of a column, or what to make of a row.
Value = str | Callable[[Row], Any]


@dataclass(frozen=True)
class Column:
    """A column of the table shown. A column without a value in any row is left out."""

    title: str
    value: Value
    #: The words for a value that is not None.
    words: Callable[[Any], str] | None = None
    #: The words for a row, value and interval together, instead.
    said: Callable[[Row], str] | None = None
    #: Ends of its interval; with a bar they make its whisker.
    low: Value | None = None
    high: Value | None = None
    #: The scale of its bars: None for no bar, or one for the rows shown.
    scale: Callable[[Sequence[float]], Scale] | None = None
    #: 1 where a row's bar has the second colour.
    colour: Callable[[Row], int] | None = None
    #: Whether the values are those of steps, drawn side by side.
    steps: bool = False
    #: Whether the numbers are written at the right.
    right: bool = False


@dataclass(frozen=True)
class Shown:
    """What a result shows: its columns, of these rows, and how many there are in all."""

    frame: pl.DataFrame
    columns: tuple[Column, ...]
    total: int
    #: What a row is.
    noun: str = "row"

    @classmethod
    def of(cls, frame: pl.DataFrame, *columns: Column, most: int = ROWS, noun: str = "row") -> Shown:
        """The first rows of a table."""
        return cls(frame.head(most), columns, frame.height, noun)


@dataclass(frozen=True)
class Cell:
    """What a cell holds: a bar, words, and stretches of a text."""

    words: str = ""
    bar: Markup | None = None
    text: tuple[Stretch, ...] = field(default=())

    @property
    def empty(self) -> bool:
        """Whether nothing is in it."""
        return not (self.words or self.bar or self.text)


def html(summary: str, shown: Shown, notes: Iterable[str] = ()) -> str:
    """The table as a part of a page, without script; every text is escaped."""
    rows = shown.frame.rows(named=True)
    columns = [(column, _cells(column, rows)) for column in shown.columns]
    kept = [(column, cells) for column, cells in columns if not all(cell.empty for cell in cells)] if rows else columns
    return (
        environment()
        .get_template("table.html")
        .render(
            summary=summary,
            columns=[column for column, _ in kept],
            rows=list(zip(*(cells for _, cells in kept), strict=True)),
            more=shown.total - len(rows),
            noun=shown.noun,
            notes=tuple(notes),
        )
    )


def everything(frame: pl.DataFrame) -> Shown:
    """All columns of a table as they are: for results that do not say what to show."""
    columns = (Column(name, name, right=dtype.is_numeric()) for name, dtype in frame.schema.items())
    return Shown.of(frame, *columns)


# --- scales


def shares(_: Sequence[float] = ()) -> Scale:
    """From 0 to 1."""
    return Scale(0.0, 1.0)


def either_way(_: Sequence[float] = ()) -> Scale:
    """From -1 to 1, bars from 0."""
    return Scale(-1.0, 1.0)


def about(zero: float, least: float = 0.0) -> Callable[[Sequence[float]], Scale]:
    """As far to the left of `zero` as to the right, and as the values reach, but `least` at least."""

    def scale(values: Sequence[float]) -> Scale:
        reach = max((abs(value - zero) for value in values), default=0.0)
        return Scale(zero - max(reach, least), zero + max(reach, least), zero)

    return scale


def from_zero(values: Sequence[float]) -> Scale:
    """From 0, or the least value if that is below, to the largest."""
    return Scale(min(0.0, *values), max(0.0, *values)) if values else Scale(0.0, 1.0)


# --- words


def number(value: float) -> str:
    """Three digits that count."""
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"


def two_places(value: float) -> str:
    """For values between -1 and 1."""
    return f"{value:.2f}"


def yes(value: bool) -> str:  # noqa: FBT001
    """'yes' or 'no'."""
    return "yes" if value else "no"


def listed(value: Sequence[Any]) -> str:
    """Several, with commas."""
    return ", ".join(map(str, value))


def concept(label: str = "label", latent: str = "latent") -> Callable[[Row], str]:
    """The label of a concept with its number, or the number alone."""

    def words(row: Row) -> str:
        if row[latent] is None:
            return row[label] or ""
        return f"{short(row[label], CHARS)} ({row[latent]})" if row[label] else f"latent {row[latent]}"

    return words


# --- cells


def _cells(column: Column, rows: Sequence[Row]) -> list[Cell]:
    values = [_of(row, column.value) for row in rows]
    if column.steps:
        most = max((value or 0.0 for each in values for value in each or ()), default=0.0)
        return [Cell(bar=steps(each, most)) if each else Cell() for each in values]
    ends = [_ends(column, row) for row in rows]
    scale = None
    if column.scale is not None:
        places = [*values, *(end for pair in ends if pair for end in pair)]
        scale = column.scale([place for place in places if _finite(place)])
    return [_cell(column, row, value, pair, scale) for row, value, pair in zip(rows, values, ends, strict=True)]


def _cell(column: Column, row: Row, value: Any, ends: tuple[float, float] | None, scale: Scale | None) -> Cell:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return Cell()
    if isinstance(value, tuple):
        return Cell(text=value)
    said = column.said(row) if column.said else column.words(value) if column.words else _plain(value)
    if ends and column.words:
        said += f" [{', '.join(map(column.words, ends))}]"
    drawn = None
    if scale is not None and _finite(value):
        drawn = bar(scale, value, ends, column.colour(row) if column.colour else 0)
    return Cell(said, drawn)


def _of(row: Row, value: Value) -> Any:
    return row[value] if isinstance(value, str) else value(row)


def _ends(column: Column, row: Row) -> tuple[float, float] | None:
    if column.low is None or column.high is None:
        return None
    low, high = _of(row, column.low), _of(row, column.high)
    return (low, high) if _finite(low) and _finite(high) else None


def _finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return short(str(value), CHARS)
