"""All pairs, block by block: counted, tested and sifted without ever holding them all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace

import numpy as np
from scipy.sparse import csr_array
from scipy.special import ndtri

from saelens_data.correlate.sides import Side, label_words, ones
from saelens_data.encoders.usual import STEPS
from saelens_data.stats.pairs import (
    LogFactorials,
    LogHistogram,
    expected_within,
    log_bound_p,
    log_exact_p,
    log_least_p,
    nearest_to_chance,
    npmi,
)
from saelens_data.stats.testable import Testable

#: Filters that look at one pair alone, in the order in which they are asked; the first ones need no second test.
PLAIN_FILTERS = ("few", "everywhere", "similar", "spans")
FILTERS = (*PLAIN_FILTERS, "length", "usual")
#: Documents that two concepts must share to be listed as meeting too often.
LEAST_DOCUMENTS = 5
#: Share of documents from which on a concept counts as everywhere: it cannot be twice as frequent beside another.
EVERYWHERE = 0.5
#: Cosine of labels, directions or meanings from which on two concepts count as similar. Of random pairs of the bundled
#: encoder's concepts 2% reach it.
SIMILAR = 0.2
#: Share of the way from chance to always that makes the places of two maxima the same or neighbours.
NEAR = 0.5
#: What is expected of a pair is at least this share of chance, however rarely ordinary text has it.
LEAST_USUAL = 0.1
#: Pairs kept of all that pass.
KEPT = 20_000
#: Bytes of a cell of a block.
_CELL = 73
#: How a document's chance of neighbouring maxima is packed beside its count: bits, and the largest value.
_BITS, _CHANCE = 33, 255
#: Pairs tested at once.
_CHUNK = 1 << 17


@dataclass(frozen=True, eq=False)
class Problem:
    """Two sides and what is known of their documents. With one side, its columns are paired with each other."""

    left: Side
    right: Side
    #: Documents of like length have one number, [documents]; zeros where length is not to matter.
    stratum: np.ndarray
    testable: Testable
    filters: frozenset[str]
    alpha: float
    #: Whether the places of the maxima can be compared: both sides come from the same texts.
    places: bool = False
    #: What ordinary text has, [left columns, right columns] (see `Usual.between`); None if that is not known.
    usual: csr_array | None = None
    min_documents: int = LEAST_DOCUMENTS
    #: Pairs with a larger p are passed over, whatever alpha is; None passes over those above alpha.
    most_p: float | None = None

    @property
    def same(self) -> bool:
        """Whether columns of one side are paired with each other."""
        return self.left is self.right

    @property
    def n(self) -> int:
        """Documents."""
        return int(self.left.held.shape[0])


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of columns of the two sides, an array in each field."""

    left: np.ndarray
    right: np.ndarray
    both: np.ndarray
    log_p: np.ndarray
    #: The larger of that and of the bound at equal length.
    log_p_length: np.ndarray
    #: What `both` is expected to be at equal length.
    expected: np.ndarray
    #: How often ordinary text has them, as log2 of the lift in halves; 0 where that is not known.
    steps: np.ndarray
    #: Cosine of labels, directions or meanings, whichever is largest; NaN where neither is known.
    similarity: np.ndarray
    #: Share of documents that hold both in which the maxima lie in the same or neighbouring units, above chance.
    near: np.ndarray
    #: What they are ranked by: NPMI beyond what is usual at the end nearest to that of the interval that all
    #: pairs have at once, times `unlike`; 0 to 1.
    score: np.ndarray

    def __len__(self) -> int:
        return len(self.left)

    def take(self, index: np.ndarray) -> Pairs:
        """These of them."""
        return Pairs(*(getattr(self, f.name)[index] for f in fields(self)))

    @classmethod
    def none(cls) -> Pairs:
        """No pairs."""
        whole, real = np.empty(0, dtype=np.int64), np.empty(0)
        return cls(*(whole if f.name in ("left", "right", "both") else real for f in fields(cls)))

    @staticmethod
    def join(parts: Sequence[Pairs]) -> Pairs:
        """All of them, one after the other."""
        return Pairs(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Pairs)))

    def best(self, n: int) -> Pairs:
        """The `n` with the highest scores; ties by p, then by place."""
        return self.take(np.lexsort((self.right, self.left, self.log_p, -self.score))[:n])


@dataclass(eq=False)
class Found:
    """What a scan gives: numbers over all pairs, and the best of those that pass."""

    pairs: Pairs | None = None
    #: p of all pairs tested and of those left by each plain filter; p at equal length of those left by all plain ones,
    #: and of those of them that are not usual.
    tested: LogHistogram = field(default_factory=LogHistogram)
    left: dict[str, LogHistogram] = field(default_factory=lambda: {name: LogHistogram() for name in PLAIN_FILTERS})
    by_length: LogHistogram = field(default_factory=LogHistogram)
    unusual: LogHistogram = field(default_factory=LogHistogram)
    #: Pairs whose sign turns at equal length.
    turned: int = 0
    examples: list[tuple[float, int, int]] = field(default_factory=list)


def scan(problem: Problem, *, memory: int, keep: int = KEPT) -> Found:
    """Count and test every pair that could reach significance; `memory` bytes bound what a block of them may take."""
    found = Found()
    block = _Block(problem)
    kept: list[Pairs] = []
    for start, stop in _blocks(problem, memory):
        kept.extend(_sift(problem, pairs, found) for pairs in block.candidates(start, stop))
        if sum(map(len, kept)) > 4 * keep:
            kept = [Pairs.join(kept).best(keep)]
    if kept:
        found.pairs = Pairs.join(kept).best(keep)
    return found


def _blocks(problem: Problem, memory: int) -> Iterator[tuple[int, int]]:
    """Ranges of left columns whose counts fit."""
    most = max(1, int(memory // (_CELL * max(len(problem.right), 1))))
    for start in range(0, len(problem.left), most):
        yield start, min(start + most, len(problem.left))


class _Block:
    """Counts of some left columns with right ones; with one side, with those at least as frequent."""

    def __init__(self, problem: Problem) -> None:
        self.problem, self.factorials = problem, LogFactorials(problem.n)
        self.most_p = problem.most_p or problem.alpha
        # An exact tail is longer than the normal one on the long side and shorter on the other, down to half as long.
        self.least_z = -float(ndtri(self.most_p / 2)) / 1.25 if self.most_p < 1 else 0.0
        right = problem.right.held
        self.weights = np.full(problem.n, 1 << _BITS, dtype=np.int64)
        self.near: csr_array | None = None
        self.units: csr_array | None = None
        if problem.places and "spans" in problem.filters and (units := problem.left.units) is not None:
            evidence = problem.left.m.evidence  # type: ignore[union-attr]
            ptr = evidence.units.ptr  # type: ignore[union-attr]
            self.weights += np.round(_CHANCE * chance_near(np.diff(ptr))).astype(np.int64)
            self.units, self.near = units.tocsc(), with_neighbours(units, ptr)
        self.right = csr_array(
            (np.repeat(self.weights, np.diff(right.indptr)), right.indices, right.indptr), shape=right.shape
        )
        self.words = label_words(problem.left, problem.right) if "similar" in problem.filters else None

    def candidates(self, start: int, stop: int) -> Iterator[Pairs]:
        """The pairs of these left columns that are tested and have p < alpha, some at a time."""
        problem, n = self.problem, self.problem.n
        last = stop if problem.same else len(problem.right)
        packed = (ones(problem.left.by_column, start, stop) @ self.right[:, :last]).toarray()
        both = (packed >> _BITS).astype(np.int32)
        a, b = problem.left.support[start:stop], problem.right.support[:last]
        mean = np.outer(a, b).astype(np.float32) / n
        spread = mean * np.outer(n - a, n - b).astype(np.float32) / (n * max(n - 1, 1))
        far = (both - mean) ** 2 >= self.least_z**2 * spread
        if problem.same:
            far &= np.arange(last)[None, :] < np.arange(start, stop)[:, None]
        row, column = np.nonzero(far)
        del mean, spread, far
        near = self._near(start, stop, last)
        similarity = self._similarity(start, stop, last)
        usual = None if problem.usual is None else problem.usual[start:stop, :last].toarray()
        for part in range(0, len(row), _CHUNK):
            i, j = row[part : part + _CHUNK], column[part : part + _CHUNK]
            count, log_p = both[i, j].astype(np.int64), None
            log_p = log_exact_p(count, a[i], b[j], self.factorials)
            small = np.flatnonzero(log_p <= np.log(self.most_p))
            least = log_least_p(a[i[small]], b[j[small]], self.factorials)
            small = small[least < problem.testable.log_threshold]
            i, j, count, log_p = i[small], j[small], count[small], log_p[small]
            chance = (packed[i, j] & ((1 << _BITS) - 1)) / _CHANCE
            beside = _nan(len(i)) if near is None else _excess(near[i, j], chance, count)
            alike = _nan(len(i)) if similarity is None else similarity[i, j]
            steps = np.zeros(len(i), dtype=np.int8) if usual is None else usual[i, j]
            nothing = np.zeros(len(i))
            values = (count, log_p, nothing, nothing, steps, alike.astype(np.float32), beside, nothing)
            yield Pairs(i + start, j, *values)

    def _near(self, start: int, stop: int, last: int) -> np.ndarray | None:
        if self.units is None or self.near is None:
            return None
        return np.asarray((ones(self.units, start, stop, np.int32) @ self.near[:, :last]).toarray())

    def _similarity(self, start: int, stop: int, last: int) -> np.ndarray | None:
        if self.words is None:
            return None
        left, right = self.problem.left, self.problem.right
        found: np.ndarray = (self.words[0][start:stop] @ self.words[1][:last].T).toarray()
        for one, other in ((left.directions, right.directions), (left.meanings, right.meanings)):
            if one is not None and other is not None:
                np.maximum(found, one[start:stop] @ other[:last].T, out=found)
        return found


def _nan(n: int) -> np.ndarray:
    return np.full(n, np.nan, dtype=np.float32)


def chance_near(n_units: np.ndarray) -> np.ndarray:
    """Chance that two places drawn at random from so many in a row are the same or neighbours: (3 n - 2) / n^2."""
    n = np.maximum(n_units, 1).astype(np.float64)
    return np.asarray((3 * n - 2) / n**2)


def with_neighbours(units: csr_array, ptr: np.ndarray) -> csr_array:
    """Each maximum in its own unit and in those before and after it, of the same document, [units, columns] csr."""
    unit = np.repeat(np.arange(units.shape[0]), np.diff(units.indptr))
    first = np.zeros(units.shape[0] + 1, dtype=bool)
    first[ptr] = True
    after, before = ~first[1:][unit], ~first[:-1][unit]
    place = np.concatenate([unit, unit[after] + 1, unit[before] - 1])
    column = np.concatenate([units.indices, units.indices[after], units.indices[before]])
    found = csr_array((np.ones(len(place), dtype=np.int32), (place, column)), shape=units.shape)
    found.sort_indices()
    return found


def _excess(near: np.ndarray, chance: np.ndarray, both: np.ndarray) -> np.ndarray:
    """How far from chance to always neighbours are neighbours: 0 at chance, 1 always; NaN where chance is always."""
    room = both - chance
    enough = room > 0.5
    return np.where(enough, (near - chance) / np.where(enough, room, 1.0), np.nan).astype(np.float32)


def _sift(problem: Problem, pairs: Pairs, found: Found) -> Pairs:
    """Those that no filter drops, with all their numbers; `found` counts all."""
    found.tested.add(pairs.log_p)
    for name in PLAIN_FILTERS:
        if name in problem.filters:
            drop = _DROPS[name](problem, pairs, *_margins(problem, pairs))
            pairs = pairs.take(np.flatnonzero(~drop)) if drop.any() else pairs
        found.left[name].add(pairs.log_p)
    pairs = _with_length(problem, pairs, found)
    found.by_length.add(pairs.log_p_length)
    keep = pairs.log_p_length <= np.log(problem.alpha)
    if "usual" in problem.filters:
        keep &= ~_usual(problem, pairs)
    found.unusual.add(pairs.log_p_length[keep])
    return _scored(problem, pairs.take(np.flatnonzero(keep)))


def _margins(problem: Problem, pairs: Pairs) -> tuple[np.ndarray, np.ndarray]:
    """Documents that hold the one and the other."""
    return problem.left.support[pairs.left], problem.right.support[pairs.right]


def _with_length(problem: Problem, pairs: Pairs, found: Found) -> Pairs:
    """The pairs with what is expected of them, and p, at equal length; `found` keeps those that turn."""
    a, b = _margins(problem, pairs)
    log_p, expected = pairs.log_p, a * b / problem.n
    if "length" in problem.filters:
        log_length, expected = _at_equal_length(problem, pairs)
        turned = _turns(pairs, a, b, expected, log_length, problem)
        found.turned += int(turned.sum())
        worst = np.flatnonzero(turned)[np.argsort(log_length[turned])[:3]]
        found.examples += [(float(log_length[k]), int(pairs.left[k]), int(pairs.right[k])) for k in worst]
        found.examples = sorted(found.examples)[:3]
        more = pairs.both * problem.n > a * b
        log_p = np.where((pairs.both > expected) == more, np.maximum(pairs.log_p, log_length), 0.0)
    return replace(pairs, log_p_length=log_p, expected=expected)


def _scored(problem: Problem, pairs: Pairs) -> Pairs:
    """The pairs with their scores."""
    a, b = _margins(problem, pairs)
    chance = _chance(problem, pairs)
    level = 1 - problem.alpha / max(problem.testable.n_tests, 1)  # of all intervals at once
    least = npmi(nearest_to_chance(pairs.both, a, b, chance, level), chance, problem.n)
    sign = np.where(pairs.both * problem.n > a * b, 1, -1)
    return replace(pairs, score=np.clip(sign * least, 0, 1) * unlike(pairs.similarity))


def _chance(problem: Problem, pairs: Pairs) -> np.ndarray:
    """How often a pair would meet by chance, at equal length or not, whichever is nearer; times what is usual."""
    a, b = _margins(problem, pairs)
    alone, expected = a * b / problem.n, pairs.expected
    more = pairs.both > alone
    chance = np.where(more, np.maximum(expected, alone), np.minimum(expected, alone))
    if "usual" not in problem.filters:
        return np.asarray(chance)
    lift = np.exp2(pairs.steps / STEPS)
    lift = np.where(more, np.maximum(lift, LEAST_USUAL), np.minimum(lift, 1 / LEAST_USUAL))
    return np.asarray(np.clip(chance * lift, None, np.minimum(a, b)))


def _usual(problem: Problem, pairs: Pairs) -> np.ndarray:
    """Where ordinary text has what the pair shows: the 95% interval of its meetings reaches what is usual."""
    a, b = _margins(problem, pairs)
    chance = _chance(problem, pairs)
    near = nearest_to_chance(pairs.both, a, b, chance)
    more = pairs.both * problem.n > a * b
    return np.asarray(np.where(more, (pairs.steps > 0) & (near <= chance), (pairs.steps < 0) & (near >= chance)))


def unlike(similarity: np.ndarray) -> np.ndarray:
    """1 for two that have nothing in common, less for similar ones: what their association counts for."""
    return np.asarray(1 - np.clip(np.nan_to_num(similarity), 0.0, 0.99), dtype=np.float64)


def _at_equal_length(problem: Problem, pairs: Pairs) -> tuple[np.ndarray, np.ndarray]:
    a, b, sizes = strata_margins(problem)
    log_p, expected = np.zeros(len(pairs)), np.zeros(len(pairs))
    for start in range(0, len(pairs), _CHUNK // 4):
        part = slice(start, start + _CHUNK // 4)
        one, other = a[:, pairs.left[part]], b[:, pairs.right[part]]
        expected[part] = expected_within(one, other, sizes)
        log_p[part] = log_bound_p(pairs.both[part], one, other, sizes)
    return log_p, expected


def strata_margins(problem: Problem) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Documents of each stratum that hold each left and each right column, and its size."""
    kept = problem.__dict__.get("_margins")
    if kept is None:
        sizes = np.bincount(problem.stratum)
        one = problem.left.within(problem.stratum, len(sizes))
        other = one if problem.same else problem.right.within(problem.stratum, len(sizes))
        kept = one, other, sizes
        problem.__dict__["_margins"] = kept
    return kept


def _turns(
    pairs: Pairs, a: np.ndarray, b: np.ndarray, expected: np.ndarray, log_p: np.ndarray, problem: Problem
) -> np.ndarray:
    """Where the association at equal length has the other sign, beyond chance among all that are tested."""
    other = (pairs.both > expected) != (pairs.both * problem.n > a * b)
    return np.asarray(other & (log_p < np.log(problem.alpha / max(problem.testable.n_tests, 1))))


# Whether each filter drops pairs, as told the problem, the pairs and their margins.


def _few(problem: Problem, pairs: Pairs, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.asarray((pairs.both < problem.min_documents) & (pairs.both * problem.n > a * b))


def _everywhere(problem: Problem, pairs: Pairs, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    most = EVERYWHERE * problem.n
    wide = np.zeros(len(pairs), dtype=bool)
    for side, support in ((problem.left, a), (problem.right, b)):
        if side.m is not None:  # a value of a column is what was asked for
            wide |= support > most
    return wide


def _similar(_: Problem, pairs: Pairs, _a: np.ndarray, _b: np.ndarray) -> np.ndarray:
    return np.asarray(pairs.similarity >= SIMILAR)


def _spans(problem: Problem, pairs: Pairs, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Places say something of pairs that meet more than by chance: there are two words for one thing.

    Where ordinary text is known and does not have the pair, it is no such thing, but a phrase of this data.
    """
    twice = np.asarray((pairs.near >= NEAR) & (pairs.both * problem.n > a * b))
    return np.asarray(twice & (pairs.steps > 0)) if "usual" in problem.filters else twice


_DROPS = {"few": _few, "everywhere": _everywhere, "similar": _similar, "spans": _spans}
