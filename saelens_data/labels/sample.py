"""Which documents show what a latent means, and which are kept back to judge what was said of it.

Documents in which the latent is active are taken over the whole range of its activation; beside them, documents in
which it is not: some that are near them by embedding, some drawn at random. The labeller's documents and the judge's
have neither a document nor a wording of the evidence in common.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Literal

import numpy as np

from saelens_data.display.stretches import between_words
from saelens_data.errors import InputError
from saelens_data.evidence import active_rows, column_of
from saelens_data.labels.fence import steers
from saelens_data.matrix import ConceptMatrix

#: Active documents, and documents without, that a label is worth asking for: half of them to judge it.
LEAST = 8
#: Documents without the latent among which near ones are looked for, and the share of these that is near.
_POOL, _NEAR = 5_000, 0.05
#: Characters of a unit on the median below which it is a token, and no span.
_TOKEN = 12
#: Excess of the summed activation over the maximum, relative, up to which the maximum is the only active unit: float16.
_ROUNDING = 4e-3
#: Evenly drawn active documents that are looked at, at most: more are not needed for a few dozen.
_ACTIVE = 600

Kind = Literal["active", "near", "random"]


@dataclass(frozen=True)
class Excerpt:
    """A piece of a document: `text`, one unit of it, and the words around. `activation` 0: the latent is not active."""

    row: int
    doc_id: str
    kind: Kind
    activation: float
    before: str
    text: str
    after: str
    #: Tenth of the range of the latent's activation, 1 to 10; 0 where it is not active.
    level: int = 0
    #: Holds words that speak to a model.
    steers: bool = False

    @property
    def active(self) -> bool:
        """Whether the latent is active in this document."""
        return self.activation > 0

    @property
    def whole(self) -> str:
        """The piece without marks."""
        return self.before + self.text + self.after


@dataclass(frozen=True)
class Sample:
    """Excerpts for one latent. `marked` shows other units of judged documents, for which the latent is not active."""

    latent: int
    n_active: int
    #: For the labeller.
    shown: tuple[Excerpt, ...]
    #: For the judge.
    held: tuple[Excerpt, ...]
    #: For fuzzing: (excerpt, whether its marked unit activates the latent).
    marked: tuple[tuple[Excerpt, bool], ...]
    #: Documents that look like instructions to a model and would have been taken.
    steering: tuple[str, ...] = ()
    #: Why there is too little to go by, if there is.
    lacking: str | None = None


@dataclass(frozen=True)
class Sizes:
    """How many excerpts, of how many characters. Raises InputError for numbers that make no sample."""

    #: Active documents that the labeller sees; half as many without the latent beside them.
    shown: int = 16
    #: Active documents that the judge sees, and as many without.
    judged: int = 16
    #: Characters of an excerpt.
    chars: int = 320

    def __post_init__(self) -> None:
        if self.shown < LEAST // 2 or self.judged < LEAST // 2 or self.chars < 20:
            raise InputError(
                f"give {LEAST // 2} or more documents to label by and to judge by, of 20 or more characters"
            )


class Sampler:
    """Draws excerpts from a matrix. Raises InputError for one without texts or evidence."""

    def __init__(self, m: ConceptMatrix, latents: Sequence[int], *, sizes: Sizes | None = None, seed: int = 0) -> None:
        if m.evidence is None or "text" not in m.docs.columns:
            raise InputError(
                "labels need the documents' texts and evidence: open the store that they were encoded into"
            )
        self.m, self.sizes, self.seed = m, sizes or Sizes(), seed
        self.units = m.evidence.units
        self._active = active_rows(m, latents)
        self._usable = (np.diff(self.units.ptr) > 0) & m.docs["text"].is_not_null().to_numpy()
        self._texts = m.docs["text"]
        self._ids = m.docs["doc_id"]

    @cached_property
    def reads_tokens(self) -> bool:
        """Whether a unit is a token, too short to be shown without the words around it."""
        step = max(1, len(self.units.start) // 10_000)
        lengths = (self.units.end - self.units.start)[::step]
        return bool(len(lengths) and np.median(lengths) < _TOKEN)

    def sample(self, latent: int) -> Sample:
        """The excerpts of a latent; the same seed, the same excerpts, whatever other latents are sampled."""
        rows = self._active[latent]
        chance = np.random.default_rng([self.seed, latent])
        found, steering = self._distinct(latent, rows[self._usable[rows]])
        if len(found) < LEAST:
            why = f"active in {len(found)} documents of different wording: {LEAST} are needed"
            return Sample(latent, len(rows), (), (), (), tuple(steering), why)
        near, other = self._without(rows, [e.text for e in found], chance, steering)
        if len(near) + len(other) < LEAST:
            why = f"active in nearly all documents: {LEAST} without it are needed"
            return Sample(latent, len(rows), (), (), (), tuple(steering), why)
        ours, theirs = _halves(found, chance)
        split = [_halves(part, chance) for part in (near, other)]
        few = self.sizes.shown // 4
        contrast = [e for part, _ in split for e in part[:few]]
        judged = _spread(theirs, self.sizes.judged, chance)
        held = _mixed(split[0][1], split[1][1], len(judged))
        shown = (*_spread(ours, self.sizes.shown, chance), *contrast)
        steering = sorted(set(steering))
        marked = self._marked(latent, judged, held, chance)
        return Sample(latent, len(rows), shown, (*judged, *held), marked, tuple(steering))

    def excerpts(self, latent: int, rows: np.ndarray, n: int) -> list[Excerpt]:
        """`n` of the documents `rows`, strongest first, over the whole range of activation; no wording twice."""
        found, _ = self._distinct(latent, rows[self._usable[rows]])
        return _spread(found, n, np.random.default_rng([self.seed, latent, 4]))

    def _distinct(self, latent: int, rows: np.ndarray) -> tuple[list[Excerpt], list[str]]:
        """Excerpts at the maximum, strongest first, no wording twice; and the documents that look like instructions.

        These are left out unless that would leave out more than half: the latent may be about them.
        """
        if len(rows) > _ACTIVE:
            rows = rows[np.linspace(0, len(rows) - 1, _ACTIVE).astype(np.int64)]
        column, found, seen = column_of(self.m, latent), [], set()
        top = 0.0
        for row in rows.tolist():
            at = self._position(row, column)
            value, unit = float(self.m.X.data[at]), int(self.units.ptr[row]) + self._unit(at)
            top = max(top, value)
            excerpt = self._excerpt(row, unit, "active", value)
            said = " ".join((excerpt.whole if self.reads_tokens else excerpt.text).casefold().split())
            if said and said not in seen:
                seen.add(said)
                found.append(replace(excerpt, level=max(1, int(np.ceil(10 * value / top)))))
        plain = [e for e in found if not e.steers]
        steering = [e.doc_id for e in found if e.steers]
        return (plain if 2 * len(plain) >= len(found) else found), steering

    def _position(self, row: int, column: int) -> int:
        first, last = int(self.m.X.indptr[row]), int(self.m.X.indptr[row + 1])
        return first + int(np.searchsorted(self.m.X.indices[first:last], column))

    def _unit(self, at: int) -> int:
        assert self.m.evidence is not None
        return int(self.m.evidence.unit[at])

    def _excerpt(self, row: int, unit: int, kind: Kind, activation: float = 0.0) -> Excerpt:
        text, chars = self._texts[row], self.sizes.chars
        start, end = int(self.units.start[unit]), int(self.units.end[unit])
        end = min(end, start + chars)
        spare = max(0, chars - (end - start))
        low = max(0, min(start - spare // 2, len(text) - chars))
        high = min(len(text), max(end + spare // 2, low + chars))
        low, high = between_words(text, low, high, start, end)
        parts = text[low:start].lstrip(), text[start:end], text[end:high].rstrip()
        return Excerpt(row, self._ids[row], kind, activation, *parts, steers=steers("".join(parts)))

    def _without(
        self, active: np.ndarray, words: list[str], chance: np.random.Generator, steering: list[str]
    ) -> tuple[list[Excerpt], list[Excerpt]]:
        """Excerpts of documents in which the latent is not active: near the active ones, and at random."""
        free = self._usable.copy()
        free[active] = False
        rows = np.flatnonzero(free)
        if len(rows) > _POOL:
            rows = np.sort(chance.choice(rows, _POOL, replace=False))
        wanted = 2 * max(self.sizes.shown // 4, -(-self.sizes.judged // 2)) + 2
        order = self._by_nearness(active, rows)
        # Near is relative: the nearest few in a hundred, and never more than half of what there is.
        n_near = min(max(wanted, int(_NEAR * len(rows))), len(rows) // 2)
        near = chance.permutation(order[:n_near])[:wanted]
        rest = chance.permutation(np.setdiff1d(rows, near))[:wanted]
        vocabulary = {word for text in words for word in text.casefold().split()}
        parts: list[list[Excerpt]] = []
        seen: set[str] = set()
        for kind, chosen in (("near", near), ("random", rest)):
            found = [self._excerpt(row, self._pick(row, kind, vocabulary, chance), kind) for row in chosen.tolist()]  # type: ignore[arg-type]
            steering += [e.doc_id for e in found if e.steers]
            usable = {e.whole: e for e in found if not e.steers and e.text.strip() and e.whole not in seen}
            seen |= usable.keys()
            parts.append(list(usable.values()))
        return parts[0], parts[1]

    def _by_nearness(self, active: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """`rows`, the nearest to the active documents first: by their vectors, else by the concepts they share."""
        some = active[:: max(1, len(active) // 200)]
        if (vectors := self.m.vectors) is not None and np.any(centre := vectors[some].astype(np.float32).mean(axis=0)):
            nearness = vectors[rows].astype(np.float32) @ centre
        else:
            profile = np.asarray(self.m.X[some].mean(axis=0)).ravel()
            length = np.sqrt(np.asarray(self.m.X[rows].power(2).sum(axis=1)).ravel())
            nearness = (self.m.X[rows] @ profile) / np.maximum(length, 1e-12)
        return np.asarray(rows[np.argsort(-nearness, kind="stable")])

    def _pick(self, row: int, kind: str, vocabulary: set[str], chance: np.random.Generator) -> int:
        """A unit of a document: of a near one that which shares most of its words with the evidence."""
        first, last = int(self.units.ptr[row]), int(self.units.ptr[row + 1])
        if kind == "random" or last - first == 1 or self.reads_tokens:
            return int(chance.integers(first, last))
        text = self._texts[row]
        shares = []
        for unit in range(first, min(last, first + 50)):
            words = set(text[self.units.start[unit] : self.units.end[unit]].casefold().split())
            shares.append(len(words & vocabulary) / (len(words) + 2))
        return first + int(np.argmax(shares))

    def _marked(
        self, latent: int, judged: Sequence[Excerpt], held: Sequence[Excerpt], chance: np.random.Generator
    ) -> tuple[tuple[Excerpt, bool], ...]:
        """Half of the judged documents with the right unit marked, and as many with a unit that is surely silent.

        Which units of a document are silent is known where its mean is that of the maximum alone; where there are too
        few such documents, units of documents without the latent are marked.
        """
        column = column_of(self.m, latent)
        wrong: list[tuple[int, Excerpt]] = []
        order = chance.permutation(len(judged)).tolist()
        half = len(judged) // 2
        for at in order:
            if len(wrong) < half and (silent := self._silent_unit(judged[at].row, column, chance)) is not None:
                wrong.append((at, self._excerpt(judged[at].row, silent, "active", judged[at].activation)))
        taken = {at for at, _ in wrong}
        right = [judged[at] for at in order if at not in taken][: len(judged) - half]
        others = [e for _, e in wrong if not e.steers]
        others += list(held)[: max(0, len(right) - len(others))]
        return (*((e, True) for e in right), *((e, False) for e in others[: len(right)]))

    def _silent_unit(self, row: int, column: int, chance: np.random.Generator) -> int | None:
        assert self.m.evidence is not None
        at, first, last = self._position(row, column), int(self.units.ptr[row]), int(self.units.ptr[row + 1])
        top = float(self.m.X.data[at])
        if last - first < 2 or float(self.m.evidence.mean[at]) * (last - first) > top * (1 + _ROUNDING):
            return None
        unit = int(chance.integers(first, last - 1))
        return unit + (unit >= first + self._unit(at))


def _halves(items: Sequence[Excerpt], chance: np.random.Generator) -> tuple[list[Excerpt], list[Excerpt]]:
    """Two parts, of every two neighbours one each."""
    swap = chance.integers(0, 2, (len(items) + 1) // 2)
    side = [(at % 2) ^ int(swap[at // 2]) for at in range(len(items))]
    return [e for e, s in zip(items, side, strict=True) if not s], [e for e, s in zip(items, side, strict=True) if s]


def _mixed(near: Sequence[Excerpt], other: Sequence[Excerpt], n: int) -> list[Excerpt]:
    """`n` excerpts, half of either kind as far as there are."""
    n_near = min(len(near), max(-(-n // 2), n - len(other)))
    return [*near[:n_near], *other[: n - n_near]]


def _spread(items: Sequence[Excerpt], n: int, chance: np.random.Generator) -> list[Excerpt]:
    """`n` of the items, which are in order of activation: one out of each of `n` equal parts of the order."""
    if len(items) <= n:
        return list(items)
    edges = np.linspace(0, len(items), n + 1).astype(np.int64)
    return [items[int(chance.integers(low, high))] for low, high in pairwise(edges)]
