"""A concept query as a tree: made by `parse` or by hand, checked when it is made, written out by `unparse`.

Every node knows the character it was read from (`at`, from 0; None if made by hand), for messages alone: two
queries that say the same are equal wherever they stood.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TypeAlias

from saelens_data.errors import InputError

Scalar: TypeAlias = str | int | float | bool
Concept: TypeAlias = "Phrase | Latent"
Query: TypeAlias = "Phrase | Latent | Threshold | Column | Weighted | Not | And | Or"

#: Comparisons of a concept, and those that order values.
ORDERINGS = ("<", "<=", ">", ">=")
#: Comparisons of a column with one value.
COMPARISONS = ("=", "!=", *ORDERINGS)
MEMBERSHIPS = ("in", "not in")
NULL_TESTS = ("is null", "is not null")
#: One word of letters, digits and _, not one of the language: a column that needs no backticks.
_PLAIN_NAME = re.compile(r"(?!(?:and|or|not|in|is|null|true|false)\b)[^\W\d]\w*", re.IGNORECASE)
#: Groups within groups. Reading and writing a query recurse, and nobody reads one this deep.
MAX_DEPTH = 100
#: Whole numbers of more digits fit no column and no list of latents.
_MOST_DIGITS = 18
#: Lighter than this is nothing, and heavier than its inverse is all.
_LIGHTEST = 1e-6
#: Characters of the user's own text that a message repeats.
_SHOWN = 40


@dataclass(frozen=True)
class _Node:
    at: int | None = field(default=None, compare=False, repr=False, kw_only=True)
    #: Levels of groups, `not` and weights from here down.
    depth: int = field(default=0, init=False, compare=False, repr=False)

    def _wrong(self, reason: str) -> InputError:
        return wrong(reason, self.at)

    def _nest(self, *parts: _Node) -> None:
        """Count the levels, and stop before they are too many to walk."""
        depth = 1 + max(part.depth for part in parts)
        if depth > MAX_DEPTH:
            raise self._wrong(f"nested more than {MAX_DEPTH} levels deep; take out some parentheses or `not`")
        object.__setattr__(self, "depth", depth)


@dataclass(frozen=True)
class Phrase(_Node):
    """Words whose meaning is looked for."""

    text: str

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise self._wrong("an empty phrase; write some words between the double quotes")


@dataclass(frozen=True)
class Latent(_Node):
    """One latent by its number."""

    number: int

    def __post_init__(self) -> None:
        if not 0 <= self.number < 10**_MOST_DIGITS:
            raise self._wrong("no latent has this number; latents count from 0")


@dataclass(frozen=True)
class Percentile(_Node):
    """The level below which `value` percent of a concept's scores above zero lie; `value` from 0 to 100."""

    value: float

    def __post_init__(self) -> None:
        if not 0 <= self.value <= 100:
            raise self._wrong(f"p{_number(self.value)} is no percentile; they run from p0 to p100")


@dataclass(frozen=True)
class Threshold(_Node):
    """A filter: documents whose score for `concept` lies on one side of a level (0 to 1, or a percentile)."""

    concept: Concept
    op: str
    value: float | Percentile

    def __post_init__(self) -> None:
        if self.op not in ORDERINGS:
            raise self._wrong(
                f"a concept has no exact score to compare with {self.op}; use one of {', '.join(ORDERINGS)}"
            )
        if not isinstance(self.value, Percentile) and not 0 <= self.value <= 1:
            meant = f"; for a percentile write p{_number(self.value)}" if 1 < self.value <= 100 else ""
            raise self._wrong(f"{_number(self.value)} is no score; they run from 0 to 1{meant}")


@dataclass(frozen=True)
class Column(_Node):
    """A filter on a column of the documents: `value` is one, a tuple for `in`, None for `is null`."""

    name: str
    op: str
    value: Scalar | tuple[Scalar, ...] | None = None

    def __post_init__(self) -> None:
        wanted = (
            isinstance(self.value, tuple) and bool(self.value)
            if self.op in MEMBERSHIPS
            else self.value is None
            if self.op in NULL_TESTS
            else isinstance(self.value, str | int | float)
        )
        if self.op not in COMPARISONS + MEMBERSHIPS + NULL_TESTS or not wanted:
            raise self._wrong(f"column {shown(self.name)} cannot be compared by {self.op!r} with {self.value!r}")
        for value in self.values:
            if isinstance(value, int | float) and not abs(value) < 10 ** (2 * _MOST_DIGITS):
                raise self._wrong("this number is too large to compare a column with")

    @property
    def values(self) -> tuple[Scalar, ...]:
        """The values compared with; none for `is null`."""
        return self.value if isinstance(self.value, tuple) else () if self.value is None else (self.value,)


@dataclass(frozen=True)
class Weighted(_Node):
    """A part that counts `weight` times beside its neighbours in `and` or `or`; above 0."""

    weight: float
    part: Query

    def __post_init__(self) -> None:
        if not self.weight > 0:
            raise self._wrong(f'a weight is above 0, not {_number(self.weight)}; for the opposite write not "..."')
        if not _LIGHTEST <= self.weight <= 1 / _LIGHTEST:
            raise self._wrong(f"a weight lies between {_LIGHTEST:f} and {1 / _LIGHTEST:,.0f}")
        part = self.part
        while isinstance(part, Not):
            part = part.part
        if isinstance(part, Weighted):
            raise self._wrong("a weight of a weight; write their product")
        self._nest(self.part)


@dataclass(frozen=True)
class Not(_Node):
    """The opposite of a part."""

    part: Query

    def __post_init__(self) -> None:
        self._nest(self.part)


@dataclass(frozen=True)
class _Group(_Node):
    """Two parts or more. A part of the same kind is taken apart: parentheses around `and` in `and` say nothing."""

    parts: tuple[Query, ...]

    def __post_init__(self) -> None:
        flat: list[Query] = []
        for part in self.parts:
            flat.extend(part.parts if type(part) is type(self) else (part,))
        if len(flat) < 2:
            raise self._wrong(f"`{type(self).__name__.lower()}` joins two parts or more")
        object.__setattr__(self, "parts", tuple(flat))
        self._nest(*flat)


@dataclass(frozen=True)
class And(_Group):
    """All of the parts."""


@dataclass(frozen=True)
class Or(_Group):
    """Any of the parts."""


def wrong(reason: str, at: int | None = None) -> InputError:
    """The error of a query, with the character (counted from 1) if it is known."""
    where = "" if at is None else f"at character {at + 1}: "
    return InputError(f"query: {where}{reason}")


def unparse(query: Query) -> str:
    """The query in words, with no more parentheses than it needs; `parse` of it gives an equal query."""
    return _written(query, 0)


def _written(node: Query, within: int) -> str:
    """`node` in words, in parentheses where it binds less tightly than the place it stands in."""
    match node:
        case Phrase(text):
            return quoted(text, '"')
        case Latent(number):
            return str(number)
        case Threshold(concept, op, value):
            level = f"p{_number(value.value)}" if isinstance(value, Percentile) else _number(value)
            text, binds = f"{_written(concept, 3)} {op} {level}", 2
        case Column():
            text, binds = _condition(node), 2
        case Weighted(weight, part):
            text, binds = f"{_number(weight)} * {_written(part, 3)}", 2
        case Not(part):
            text, binds = f"not {_written(part, 2)}", 2
        case And(parts):
            text, binds = " and ".join(_written(part, 2) for part in parts), 1
        case Or(parts):
            text, binds = " or ".join(_written(part, 1) for part in parts), 0
    return text if binds >= within else f"({text})"


def _condition(node: Column) -> str:
    name = node.name if _PLAIN_NAME.fullmatch(node.name) else quoted(node.name, "`")
    if node.op in NULL_TESTS:
        return f"{name} {node.op}"
    values = ", ".join(map(literal, node.values))
    return f"{name} {node.op} ({values})" if node.op in MEMBERSHIPS else f"{name} {node.op} {values}"


def literal(value: Scalar) -> str:
    """A value of a column as a query writes it."""
    if isinstance(value, str):
        return quoted(value, "'")
    return str(value).lower() if isinstance(value, bool) else _number(value) if isinstance(value, float) else str(value)


def _number(value: float) -> str:
    return repr(float(value) + 0.0).removesuffix(".0")  # -0.0 is 0


def quoted(text: str, quote: str) -> str:
    """`text` in quotes of this kind, with those inside doubled."""
    return quote + text.replace(quote, 2 * quote) + quote


def shown(text: str, most: int = _SHOWN) -> str:
    """The user's own text, short, and harmless to a terminal: what does not print is written by its number."""
    short = text if len(text) <= most else f"{text[: most - 1]}…"
    visible = "".join(c if c.isprintable() else " " if c.isspace() else f"<U+{ord(c):04X}>" for c in short)
    return f"`{visible.strip()}`"
