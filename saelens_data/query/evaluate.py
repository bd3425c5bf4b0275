"""Scores of documents for a query: filters that keep or drop, concepts that count by degree.

Degrees are joined by the p-norm with p = 2 of extended Boolean retrieval (Salton, Fox and Wu 1983, Communications of
the ACM 26:1022-1036): `or` is the distance from the point where nothing is found, `and` is one less the distance from
the point where all is found, each over weights w and degrees x and divided by the distance of the two points:

    or  = sqrt(sum w^2 x^2 / sum w^2)        and = 1 - sqrt(sum w^2 (1 - x)^2 / sum w^2)        not = 1 - x
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import polars as pl

from saelens_data.query.columns import column_mask
from saelens_data.query.syntax import (
    And,
    Column,
    Concept,
    Latent,
    Not,
    Or,
    Percentile,
    Phrase,
    Query,
    Threshold,
    Weighted,
)

#: Rounding of a scorer that is forgiven: scores this far outside 0 to 1 are moved to the end.
_ROUNDING = 1e-5
#: Documents at a time: what is computed of them stays in the cache.
_BLOCK = 1 << 14
_COMPARE: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
}


@dataclass(frozen=True, eq=False)
class Leaf:
    """What one part of a query found and gave, for some documents.

    `node` is a concept, or a filter that counts in the score (see `evaluate`); `weight` the product of the weights
    above it; `sign` -1 under an odd number of `not`; `score` [documents] its own degree, before any `not`.
    `share` [documents] is what it gave to the score, `not` included: `not "x"` gives where x is missing. The shares
    of all leaves add up to the score.
    """

    node: Query
    weight: float
    sign: int
    score: np.ndarray
    share: np.ndarray


@dataclass(frozen=True, eq=False)
class Scored:
    """What `evaluate` found: `mask` [documents] bool, those that pass every filter, and `score` [documents] in 0..1.

    The score is 0 where a document does not pass.
    """

    mask: np.ndarray
    score: np.ndarray
    _root: _Part = field(repr=False)

    @cached_property
    def leaves(self) -> list[Leaf]:
        """Every leaf, for all documents."""
        return self.explain()

    def explain(self, rows: np.ndarray | None = None) -> list[Leaf]:
        """Every leaf for the documents `rows` (all if None), in the order of the query: memory follows `rows`.

        A share is handed down the tree: a group gives each part its portion of the squared distance that makes the
        score of the group, w^2 x^2 of `or` and w^2 (1 - (1 - x)^2) of `and`. So shares are never negative, add up to
        the score, are 0 where a part is 0, and a part found in full (where the slope of `and` is 0) gets its due.
        """
        at = slice(None) if rows is None else rows
        return list(_leaves(self._root, self.score[at], at))


def evaluate(query: Query, docs: pl.DataFrame, score: Callable[[Concept], np.ndarray]) -> Scored:
    """Score the documents of `docs` for a query.

    `score(concept)` gives [documents] degrees in 0..1, however they are made; it is called once a concept.
    Filters (thresholds and columns) only keep or drop in an `and`; beside concepts in an `or` they count as 0 or 1;
    a query of filters alone scores 1 where it holds. `not` goes to the leaves (De Morgan), so that `not` of a
    filter keeps the other documents; a group within one of the same kind is taken apart unless it has a weight.

    Raises InputError for a column that is not there or of another kind, ValueError for scores that are no degrees.
    """
    scores = _Scores(score, docs.height)
    root = _Builder(docs, scores, scores).part(query, 1, 1.0, 1.0)
    held = root.held(docs.height)
    return Scored(held, np.where(held, root.value, 0.0), root)


def mask(query: Query, docs: pl.DataFrame, score: Callable[[Concept], np.ndarray]) -> np.ndarray:
    """Which documents pass the filters of a query, [documents] bool; only concepts of thresholds are scored."""
    nothing = np.zeros(docs.height)
    builder = _Builder(docs, _Scores(score, docs.height), lambda _: nothing)
    return builder.part(query, 1, 1.0, 1.0).held(docs.height)


def concepts_of(query: Query) -> list[tuple[Concept, float, int]]:
    """The concepts a query asks for by degree, in its order: (concept, product of its weights, 1 or -1 under `not`).

    Concepts of thresholds are filters and not among them.
    """
    return list(_concepts(query, 1.0, 1))


def _concepts(node: Query, weight: float, sign: int) -> Iterator[tuple[Concept, float, int]]:
    match node:
        case Phrase() | Latent():
            yield node, weight, sign
        case Not(part):
            yield from _concepts(part, weight, -sign)
        case Weighted(own, part):
            yield from _concepts(part, weight * own, sign)
        case And(parts) | Or(parts):
            for part in parts:
                yield from _concepts(part, weight, sign)


class _Scores:
    """The scorer of the caller, asked once a concept, its answer checked."""

    def __init__(self, score: Callable[[Concept], np.ndarray], n: int) -> None:
        self._score, self._n = score, n
        self._known: dict[Concept, np.ndarray] = {}

    def __call__(self, concept: Concept) -> np.ndarray:
        if concept not in self._known:
            found = np.asarray(self._score(concept), dtype=np.float64)
            if found.shape != (self._n,):
                raise ValueError(f"scores of {concept} have the shape {found.shape}, not ({self._n},)")
            low, high = found.min(initial=0.0), found.max(initial=1.0)
            if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):  # NaN is neither
                raise ValueError(f"scores of {concept} are not all between 0 and 1")
            self._known[concept] = found if low == 0 and high == 1 else np.clip(found, 0.0, 1.0)
        return self._known[concept]


@dataclass(frozen=True, eq=False)
class _Part:
    """A part of a query over all documents, `not` already carried out.

    `own` counts among the neighbours, `weight` is the product from the top. `mask` is None where all documents pass.
    `value` [documents] is the degree of those that pass; `found` that of a leaf itself, before any `not`.
    A part that is `hard` holds or does not, and its value is 1. `counted` are the parts that make its degree.
    """

    node: Query
    own: float
    weight: float
    sign: int
    mask: np.ndarray | None
    value: np.ndarray
    found: np.ndarray
    hard: bool = False
    joint: bool = False
    counted: tuple[_Part, ...] = ()

    def held(self, n: int) -> np.ndarray:
        """Which documents pass, [n] bool."""
        return np.ones(n, dtype=bool) if self.mask is None else self.mask

    def degree(self, at: slice | np.ndarray) -> np.ndarray:
        """The degree of documents `at`, 0 where they do not pass."""
        return self.value[at] if self.mask is None else np.where(self.mask[at], self.value[at], 0.0)


@dataclass(frozen=True)
class _Builder:
    """Carries out a query from the leaves up: `scores` for thresholds, `degrees` for concepts that count by degree."""

    docs: pl.DataFrame
    scores: Callable[[Concept], np.ndarray]
    degrees: Callable[[Concept], np.ndarray]

    def part(self, node: Query, sign: int, own: float, above: float) -> _Part:
        """The part of `node`; `own` and `above` are its weight among its neighbours and the product above them."""
        match node:
            case Not(part):
                return self.part(part, -sign, own, above)
            case Weighted(weight, part):
                return self.part(part, sign, own * weight, above)
            case And(parts) | Or(parts):
                return self._group(node, parts, sign, own, above)
            case Phrase() | Latent():
                found = self.degrees(node)
                value = found if sign > 0 else 1 - found
                return _Part(node, own, own * above, sign, None, value, found)
            case Threshold(concept, op, level):
                scores = self.scores(concept)
                holds = _COMPARE[op](scores, _level(scores, level))
            case Column():
                holds = column_mask(node, self.docs)
        held = holds if sign > 0 else ~holds
        return _Part(node, own, own * above, sign, held, np.broadcast_to(1.0, len(held)), holds, hard=True)

    def _group(self, node: And | Or, parts: tuple[Query, ...], sign: int, own: float, above: float) -> _Part:
        joint = isinstance(node, And) == (sign > 0)
        built = [self.part(part, sign, 1.0, own * above) for part in parts]
        holds = _all_of(built) if joint else _any_of(built)
        hard = all(part.hard for part in built)
        flat = [below for part in built for below in _taken_apart(part, joint=joint)]
        counted = tuple(part for part in flat if hard or not (joint and part.hard))
        value = built[0].value if hard else _norm(counted, self.docs.height, joint=joint)
        return _Part(node, own, own * above, sign, holds, value, value, hard, joint, counted)


def _taken_apart(part: _Part, *, joint: bool) -> tuple[_Part, ...]:
    """The parts of a group of the same kind, which its place among others does not change unless it has a weight."""
    return part.counted if part.counted and part.joint == joint and part.own == 1 else (part,)


def _level(scores: np.ndarray, level: float | Percentile) -> float:
    """The level to compare scores with; a percentile of no score above zero is above all of them."""
    if not isinstance(level, Percentile):
        return level
    active = scores[scores > 0]
    return float(np.percentile(active, level.value)) if active.size else np.inf


def _all_of(parts: list[_Part]) -> np.ndarray | None:
    masks = [part.mask for part in parts if part.mask is not None]
    return np.all(masks, axis=0) if masks else None


def _any_of(parts: list[_Part]) -> np.ndarray | None:
    masks = [part.mask for part in parts if part.mask is not None]
    return np.any(masks, axis=0) if len(masks) == len(parts) else None


def _squares(parts: tuple[_Part, ...]) -> np.ndarray:
    """Squared weights; the largest is 1 before it is squared, so that no weight is too large."""
    weights = np.array([part.own for part in parts])
    squares: np.ndarray = (weights / weights.max()) ** 2
    return squares


def _norm(parts: tuple[_Part, ...], n: int, *, joint: bool) -> np.ndarray:
    """Degree of `and` (`joint`) or `or`, [n]; that of a part alone is not changed by a rounding."""
    if len(parts) == 1:
        return parts[0].value
    squares, degree = _squares(parts), np.empty(n)
    for start in range(0, n, _BLOCK):
        at = slice(start, start + _BLOCK)
        total, longest = 0.0, 0.0
        for square, part in zip(squares, parts, strict=True):
            side = 1 - part.degree(at) if joint else part.degree(at)
            total = total + square * (side * side)
            longest += square  # in the order of the total, so that all sides of 1 make just 1
        degree[at] = np.sqrt(total / longest)
    return 1 - degree if joint else degree


def _leaves(part: _Part, share: np.ndarray, at: slice | np.ndarray) -> Iterator[Leaf]:
    """The leaves below `part`, between which its `share` of the score is divided."""
    if not part.counted:
        yield Leaf(part.node, part.weight, part.sign, part.found[at].astype(np.float64), share)
        return
    degrees = [below.degree(at) for below in part.counted]
    squares = _squares(part.counted)
    portions = [w * (1 - (1 - x) ** 2 if part.joint else x**2) for w, x in zip(squares, degrees, strict=True)]
    total = np.sum(portions, axis=0)
    rate = np.divide(share, total, out=np.zeros_like(total), where=total > 0)
    for below, portion in zip(part.counted, portions, strict=True):
        yield from _leaves(below, portion * rate, at)
