"""Which documents a condition on a column holds for; a document without a value holds for `is null` alone."""

from __future__ import annotations

import operator
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import polars as pl

from saelens_data.errors import InputError, choices
from saelens_data.query.syntax import MEMBERSHIPS, NULL_TESTS, ORDERINGS, Column, literal, shown, wrong

_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
#: Characters of the text: a column that every table of documents has, unless it has its own of this name.
_LENGTH = "length"


def column_mask(condition: Column, docs: pl.DataFrame) -> np.ndarray:
    """Where `condition` holds, [documents] bool.

    Numbers compare with numbers, text with text (by code point), days and times with ISO 8601. NaN counts as
    no value. `length` is the number of characters of `text` where `docs` has no such column.

    Raises InputError for a column that is not there and for a value of another kind than the column.
    """
    column = _column(condition, docs)
    if column.dtype.is_float():
        column = column.fill_nan(None)
    if condition.op in NULL_TESTS:
        missing = column.is_null()
        return (missing if condition.op == "is null" else ~missing).to_numpy()
    if column.dtype == pl.Null:
        return np.zeros(docs.height, dtype=bool)
    column, values = _comparable(column, condition)
    if condition.op in MEMBERSHIPS:
        found = column.is_in(values.implode())
        found = ~found if condition.op == "not in" else found
    else:
        found = _OPERATORS[condition.op](column, values)
    return found.fill_null(value=False).to_numpy()


def _column(condition: Column, docs: pl.DataFrame) -> pl.Series:
    if condition.name in docs.columns:
        return docs.get_column(condition.name).rename("column")  # a name such as ^x$ would be a pattern
    if condition.name == _LENGTH and "text" in docs.columns:
        return docs.get_column("text").str.len_chars()
    raise wrong(f"there is no column {shown(condition.name)}; {choices(condition.name, docs.columns)}", condition.at)


def _comparable(column: pl.Series, condition: Column) -> tuple[pl.Series, pl.Series]:
    """The column and the values of the condition, both of one type that compares as a reader expects."""
    kind = column.dtype
    if kind.is_numeric():
        return _numbers(column, condition)
    if kind in (pl.String, pl.Categorical, pl.Enum):
        values = _of_type(condition, str, "text", "put it in single quotes")
        return column.cast(pl.String), pl.Series(values, dtype=pl.String)
    if kind == pl.Boolean:
        if condition.op in ORDERINGS:
            raise _refusal(condition, "true or false", f"which {condition.op} does not order")
        return column, pl.Series(_of_type(condition, bool, "true or false", "write true or false"), dtype=pl.Boolean)
    if kind == pl.Date or kind == pl.Datetime:  # noqa: PLR1714 - a Datetime of any zone equals the class alone
        return _moments(column, condition)
    raise _refusal(condition, f"values of the type {kind}", "which only `is null` can ask about")


def _numbers(column: pl.Series, condition: Column) -> tuple[pl.Series, pl.Series]:
    """Whole numbers exactly; others in the precision of the column, so that 0.1 finds the 0.1 of a float32."""
    values = _of_type(condition, (int, float), "numbers", "write a number without quotes")
    whole = column.dtype.is_integer() and not any(isinstance(value, float) for value in values)
    kind = pl.Int128() if whole else pl.Float32() if column.dtype == pl.Float32 else pl.Float64()
    return column.cast(kind), pl.Series(values, dtype=kind)


def _moments(column: pl.Series, condition: Column) -> tuple[pl.Series, pl.Series]:
    """Days if every value is a day, and otherwise times, of which a day is the first."""
    texts = [str(text) for text in _of_type(condition, str, "dates", "write it as '2024-01-31'")]
    if all(map(_is_day, texts)):
        days = [_iso(condition, text, date.fromisoformat) for text in texts]
        return column if column.dtype == pl.Date else column.dt.date(), pl.Series(days, dtype=pl.Date)
    if column.dtype == pl.Date:
        raise _refusal(condition, "days", "without a time of day; write them as '2024-01-31'")
    times = [_iso(condition, text, datetime.fromisoformat) for text in texts]
    offsets = {time.tzinfo is not None for time in times}
    if offsets == {True} and getattr(column.dtype, "time_zone", None):
        column = column.dt.convert_time_zone("UTC")
        times = [time.astimezone(UTC).replace(tzinfo=None) for time in times]
    elif True in offsets:
        raise _refusal(condition, "times", "which these cannot be compared with; leave out the offset from UTC")
    return column.dt.replace_time_zone(None).cast(pl.Datetime("us")), pl.Series(times, dtype=pl.Datetime("us"))


def _is_day(text: str) -> bool:
    return not any(mark in text for mark in ":T ")


def _iso(condition: Column, text: str, reading: Callable[[str], Any]) -> Any:
    try:
        return reading(text)
    except ValueError:
        raise _refusal(
            condition, "dates", f"and {shown(text)} is none; write it as '2024-01-31' or '2024-01-31T18:00'"
        ) from None


def _of_type(condition: Column, kind: type | tuple[type, ...], holds: str, advice: str) -> list[Any]:
    """The values of the condition if all are of one kind; true and false are no numbers."""
    for value in condition.values:
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise _refusal(condition, holds, f"and {shown(literal(value))} is none of them; {advice}")
    return list(condition.values)


def _refusal(condition: Column, holds: str, reason: str) -> InputError:
    return wrong(f"column {shown(condition.name)} holds {holds}, {reason}", condition.at)
