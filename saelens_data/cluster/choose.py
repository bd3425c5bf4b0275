"""Choose the concepts of an axis by words, by a query or by a table, and what is to be left out of it.

A known axis (style, tone, language and so on) takes the latents that tell its values apart in contrast texts; the topic
takes what style and language leave. Listed values take the latents that point towards one value and away from the
others; any other phrase those that are near to it at all. Each choice can refuse: an encoder that does not see an axis,
or documents that do not differ along it, are not cut up all the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import polars as pl
from scipy.sparse import csr_array

from saelens_data.cluster.axis import Axis, axis_table
from saelens_data.cluster.contrasts import MOST, Contrast, axis_names, contrast, strongest
from saelens_data.cluster.parts import Part, evenly, of_table, spanned, whole_decoder
from saelens_data.cluster.phrases import TOPIC, Asked, understand
from saelens_data.cluster.subtract import Unwanted, share_of
from saelens_data.concepts import cosines, find_concepts, read_phrase
from saelens_data.concepts.space import Space as WordSpace
from saelens_data.concepts.space import space_of
from saelens_data.errors import InputError, SaelensDataError
from saelens_data.matrix import ConceptMatrix
from saelens_data.query import Latent, Phrase, concepts_of, parse
from saelens_data.wording import count, share

#: Documents in which a latent must be active to be chosen: what two documents share is no cluster.
LEAST_DOCS = 3
#: From this F on a latent belongs to an unwanted axis and is dropped, unless it says more of the wanted one.
DROPPED_F = 5.0
#: What the topic is not: left out of it where documents differ in it. Languages are left out of other axes, too.
FORM = ("style", "language")
#: Documents differ in an axis that makes up this share of the variance of what their concepts write. Measured: style
#: has 0.26 to 0.52 of it in sets of many styles and 0.11 to 0.15 in news, bills and customers' questions; language 0.54
#: to 0.60 in sets of three languages and 0.02 to 0.05 in English ones.
MATTERS = 0.17
#: Documents that are looked at to see how much an axis matters among them, and what share may have one value.
LOOKED_AT, ONE_VALUE = 5_000, 0.95
#: Concepts that a phrase must find at least, and those that each of listed values takes.
LEAST_CONCEPTS, FOR_VALUE = 3, 40
#: Axes that are looked at along the directions of their values: few of them outweigh all else where languages differ,
#: and would be drowned among two hundred concepts of equal variance.
_BY_DIRECTIONS = ("language",)
#: Directions that the concepts of a phrase are summed up in, where it is to be left out.
_SPANNED = 3


def choose_axis(
    m: ConceptMatrix,
    *,
    by: Sequence[str] = (),
    concepts: str | None = None,
    without: Sequence[str] = (),
    latents: pl.DataFrame | None = None,
    keep_languages: bool = False,
) -> Axis:
    """The concepts for phrases `by`, a concept query, or a table `latents`, without what `without` says.

    With `without` alone, all concepts but those. Languages are left out unasked where the documents are in several and
    an axis is asked for by words, unless `keep_languages`. Its `before` is the axis with nothing left out. Raises
    InputError, with the evidence, where the encoder does not see the axis or the documents do not differ along it; for
    an empty phrase; and where the encoder is not at hand.
    """
    if latents is not None and (by or concepts is not None):
        raise InputError("the concepts are given twice, by a table and by words: leave one out")
    chooser = _Chooser(m)
    weights: np.ndarray | None = None
    if latents is not None:
        part, weights = of_table(m, latents)
        parts = [part]
    else:
        parts = [chooser.wanted(phrase) for phrase in by]
        if concepts is not None:
            more, unwanted_phrases = chooser.of_query(concepts)
            parts, without = [*parts, *more], (*without, *unwanted_phrases)
    if not parts:
        parts = [Part(chooser.active, "all concepts", None)]
    unwanted, notes = chooser.unwanted(parts, without)
    if (by or without) and not keep_languages and (extra := chooser.languages(parts, without)):
        unwanted.append(extra[0])
        notes.append(extra[1])
    axis = _joined(m, chooser, parts, weights, unwanted, notes)
    if not unwanted:
        return axis
    # Of the topic, whose concepts are what is left, all were there before.
    whole = [Part(chooser.active, "all concepts", None) if part.axis == TOPIC else part for part in parts]
    return replace(axis, before=_joined(m, _Chooser(m), whole, weights, [], []))


def _joined(
    m: ConceptMatrix,
    chooser: _Chooser,
    parts: list[Part],
    weights: np.ndarray | None,
    unwanted: list[Unwanted],
    notes: list[str],
) -> Axis:
    """One axis of several parts; a concept of two counts once, and is there for the first."""
    why = np.full(m.n_concepts, None, dtype=object)
    for part in reversed(parts):
        why[part.columns] = part.why
    kept = np.array([one is not None for one in why]) & chooser.kept
    columns = np.flatnonzero(kept)
    if len(columns) < LEAST_CONCEPTS:
        raise InputError(
            f"{count(len(columns), 'concept')} would be left of those chosen, too few to group by: leave less out, or "
            "choose more"
        )
    counted = np.ones(m.n_concepts, np.float32)
    if weights is not None:
        counted[parts[0].columns] = weights
    spaces = {part.space for part in parts}
    table = axis_table(m, columns, counted[columns], why[columns].tolist(), chooser.density)
    return Axis(
        columns,
        counted[columns],
        table.sort("density", descending=True, maintain_order=True),
        tuple(unwanted),
        spaces.pop() if len(spaces) == 1 else None,
        parts[0].within if len(parts) == 1 else None,
        *_nearest(m, parts),
        tuple(dict.fromkeys((*(note for part in parts for note in part.notes), *notes))),
    )


def _nearest(m: ConceptMatrix, parts: list[Part]) -> tuple[tuple[str, ...], np.ndarray | None]:
    """The values of the one known axis that was asked for, and which each document is nearest to."""
    found = parts[0].contrast if len(parts) == 1 else None
    if found is None:
        return (), None
    X = m.pooled("mean").X if m.evidence is not None else m.X
    return found.values, found.nearest(X, m.concepts["latent"].to_numpy())


class _Chooser:
    """Chooses for one matrix; keeps what several phrases need."""

    def __init__(self, m: ConceptMatrix) -> None:
        self.m = m
        self.density = m.density()
        self.active = np.flatnonzero(self.density > 0)
        support = np.rint(self.density * m.n_docs)
        #: Concepts that may be chosen, and those that nothing has dropped, [concepts] bool.
        self.allowed = support >= min(LEAST_DOCS, max(1, m.n_docs // 10))
        self.kept = np.ones(m.n_concepts, dtype=bool)
        self.latents = m.concepts["latent"].to_numpy()
        self._space: WordSpace | None = None
        self._differing: dict[str, float] = {}

    # What is wanted.

    def wanted(self, phrase: str) -> Part:
        """The concepts of a phrase. Raises InputError where there are none to speak of."""
        asked = self._understood(phrase)
        if asked.axis == TOPIC:
            return self._topic(asked.phrase)
        if asked.axis is not None:
            return self._known(asked)
        return self._of_values(asked) if asked.values else self._of_phrase(asked.phrase)

    def of_query(self, query: str) -> tuple[list[Part], list[str]]:
        """The concepts of a query, and phrases under `not`, which are to be left out."""
        found = concepts_of(parse(query))
        if not found:
            raise InputError(
                "the query names no concept to group by: give phrases or latents without a level, such as "
                '"refusal" or #14'
            )
        parts, without = [], []
        for concept, _, sign in found:
            if isinstance(concept, Phrase):
                if sign > 0:
                    parts.append(self._of_phrase(concept.text))
                else:
                    without.append(concept.text)
            elif isinstance(concept, Latent):
                column = self._column(concept.number)
                if sign > 0:
                    parts.append(Part(np.array([column]), f"latent {concept.number} of the query", "svd"))
                else:
                    self.kept[column] = False
        return parts, without

    def _understood(self, phrase: str) -> Asked:
        line, _ = read_phrase(phrase)
        return understand(line, self._words(needed=False))

    def _words(self, *, needed: bool) -> WordSpace | None:
        if self._space is None:
            try:
                self._space = space_of(self.m)
            except SaelensDataError:
                if needed:
                    raise
        return self._space

    def _contrast(self, name: str, values: tuple[str, ...] = ()) -> Contrast:
        return contrast(self.m.source, name, values)

    def _strength(self, found: Contrast) -> np.ndarray:
        return np.asarray(found.F[self.latents])

    def _known(self, asked: Asked) -> Part:
        """An axis with contrast texts: refused where the encoder, or these documents, do not vary along it."""
        assert asked.axis is not None
        found = self._contrast(asked.axis, asked.values)
        score = f"{found.right} of {found.n} contrast texts, where {share(found.chance)} is chance"
        if not found.seen:
            raise InputError(
                f"this encoder does not see '{asked.axis}': by its concepts the value is right for {score}; train or "
                "choose another encoder, or another axis"
            )
        F = self._strength(found)
        columns = np.sort(strongest(np.where(self.allowed, F, 0.0)))
        if len(columns) < LEAST_CONCEPTS:
            raise InputError(
                f"the documents use {count(len(columns), 'concept')} of '{asked.axis}', too few to group by: choose "
                "another axis, or more documents"
            )
        shares = self._shares(found)
        first = int(shares.argmax())
        if shares[first] >= ONE_VALUE:
            raise InputError(
                f"the documents do not differ in '{asked.axis}': {share(shares[first])} of them are nearest to "
                f"'{found.values[first]}' of {count(len(found.values), 'value')}; choose another axis"
            )
        common = ", ".join(f"{found.values[i]} {share(shares[i])}" for i in np.argsort(-shares, kind="stable")[:4])
        note = (
            f"'{asked.phrase}' is read as the axis {asked.axis}: {count(len(columns), 'concept')} that tell its "
            f"{count(len(found.values), 'value')} apart in contrast texts (held out: right for {score}). "
            f"Nearest values here: {common}."
        )
        why = f"{asked.axis}: varies with its values"
        if asked.axis in _BY_DIRECTIONS:
            within = self._span(found).astype(np.float32)
            return Part(columns, why, "reconstruction", F, (note,), asked.axis, within, found)
        return Part(columns, why, "svd", F, (note,), asked.axis, None, found)

    def _topic(self, phrase: str) -> Part:
        """All that the documents' form does not say; all concepts, where the form is much the same."""
        form = [name for name in FORM if self.matters(name)]
        if not form:
            note = (
                f"'{phrase}' is taken to be what style and language leave; these documents hardly differ in either, so "
                "all concepts count."
            )
            return Part(self.active, "all concepts", None, None, (note,), TOPIC)
        note = f"'{phrase}' is taken to be what {' and '.join(form)} {'leave' if len(form) > 1 else 'leaves'}."
        F = np.full(self.m.n_concepts, DROPPED_F)
        why = f"{TOPIC}: does not vary with {' or '.join(form)}"
        return Part(np.flatnonzero(self.allowed), why, "reconstruction", F, (note,), TOPIC)

    def _of_values(self, asked: Asked) -> Part:
        """Latents that point towards one of the values and away from what they share."""
        words = self._words(needed=True)
        assert words is not None
        vectors = words.embed(list(asked.values))
        apart = vectors - vectors.mean(axis=0)
        near = cosines(words, apart)
        per = max(LEAST_CONCEPTS, min(FOR_VALUE, MOST // len(asked.values)))
        best = [self._first(row, per) for row in near]
        columns = np.unique(np.concatenate(best))
        listed = ", ".join(f"{value} {len(one)}" for value, one in zip(asked.values, best, strict=True))
        note = f"{count(len(columns), 'concept')} point towards one of these values and away from the others: {listed}."
        return Part(columns, "points towards one of the values", "reconstruction", None, (note,))

    def _first(self, near: np.ndarray, n: int) -> np.ndarray:
        order = np.argsort(np.where(self.allowed, -near, np.inf), kind="stable")[:n]
        return np.asarray(order[(near[order] > 0) & self.allowed[order]])

    def _of_phrase(self, phrase: str) -> Part:
        """Concepts near enough to a phrase to mean anything; refused where there are too few."""
        found = find_concepts(self.m, phrase, n=MOST)
        fitting = found.frame.filter("fits")["latent"].to_numpy()
        columns = np.sort(np.flatnonzero(np.isin(self.latents, fitting) & self.allowed))
        if len(columns) < LEAST_CONCEPTS:
            axes = ", ".join((TOPIC, *axis_names()))
            raise InputError(
                f"the encoder has too little on '{phrase}' to group by: {count(len(columns), 'concept')} of these "
                f'documents fit it ({found.summary().split(";")[0]}). List its values ("poem, rap, screenplay"), or '
                f"take an axis that has contrast texts: {axes}"
            )
        note = f"{count(len(columns), 'concept')} fit '{phrase}'; they say whether it is there, not which kinds of it."
        return Part(columns, f"fits '{phrase}'", "svd", None, (note,))

    def _column(self, latent: int) -> int:
        at = np.flatnonzero(self.latents == latent)
        if not len(at):
            raise InputError(
                f"there is no latent {latent} in this matrix: it has {count(self.m.n_concepts, 'concept')}"
            )
        return int(at[0])

    # What is left out.

    def unwanted(self, parts: list[Part], without: Sequence[str]) -> tuple[list[Unwanted], list[str]]:
        """What `without` and the parts ask to leave out, its latents dropped, and notes on it."""
        found, notes = [], []
        phrases = list(dict.fromkeys(without))
        if any(part.axis == TOPIC for part in parts):
            phrases += [name for name in FORM if name not in phrases and self.matters(name)]
        for phrase in phrases:
            asked = self._understood(phrase)
            if any(part.axis is not None and part.axis == asked.axis for part in parts):
                raise InputError(f"'{phrase}' is both what to group by and what to leave out: ask for one of the two")
            one, dropped = self._leave_out(asked, parts)
            found.append(one)
            if phrase in without:
                notes.append(f"Left out: {one.name}" + (f" ({count(dropped, 'concept')} dropped)." if dropped else "."))
        return found, notes

    def _leave_out(self, asked: Asked, parts: list[Part]) -> tuple[Unwanted, int]:
        if asked.axis == TOPIC:
            return self._without_topic(), 0
        W = self._decoder()
        if asked.axis is not None:
            found = self._contrast(asked.axis, asked.values)
            directions = self._span(found)
            dropped = (self._strength(found) >= DROPPED_F) & (self._strength(found) > self._wanted_strength(parts))
            name = asked.axis
        else:
            columns = self._of_phrase(asked.phrase).columns if not asked.values else self._of_values(asked).columns
            directions = spanned(W[columns], _SPANNED)
            dropped = np.zeros(self.m.n_concepts, dtype=bool)
            dropped[columns] = True
            name = asked.phrase
        self.kept &= ~dropped
        return Unwanted(name, (W @ directions.T).astype(np.float32), directions.astype(np.float32)), int(dropped.sum())

    def _wanted_strength(self, parts: list[Part]) -> np.ndarray:
        """What each concept says of the wanted axes; 0 where nothing is known."""
        known = [part.F for part in parts if part.F is not None and part.axis != TOPIC]
        return np.max(known, axis=0) if known else np.zeros(self.m.n_concepts)

    def _without_topic(self) -> Unwanted:
        """Documents' scores along what style and language leave, in a few components."""
        from saelens_data.cluster.coordinates import coordinates  # noqa: PLC0415

        inner = choose_axis(self.m, by=(TOPIC,))
        placed = coordinates(self.m, inner, space="reconstruction", dimensions=_SPANNED)
        along = np.zeros((self.m.n_concepts, placed.transform.basis.shape[1]), np.float32)
        along[np.searchsorted(self.latents, placed.transform.latents)] = placed.transform.basis
        return Unwanted(TOPIC, along)

    def languages(self, parts: list[Part], without: Sequence[str]) -> tuple[Unwanted, str] | None:
        """Languages as something unwanted, and a note, where they are not asked for and tell documents apart."""
        left_out = {self._understood(phrase).axis for phrase in without}
        wanted = {part.axis for part in parts}
        if "language" in left_out | wanted or TOPIC in wanted:  # the topic leaves languages out by itself
            return None
        if not self.matters("language"):
            return None
        part = self.differing("language")
        one, dropped = self._leave_out(Asked("language", "language"), parts)
        note = (
            f"The documents are in several languages ({share(part)} of what distinguishes them), so language is left "
            f"out as well ({count(dropped, 'concept')} dropped); keep_languages (--keep-languages) keeps it in."
        )
        return one, note

    def matters(self, name: str) -> bool:
        """Whether documents differ in an axis of form: of what languages leave, where these are several."""
        languages = self.differing("language") if name != "language" and self.matters("language") else 0.0
        if self.differing(name) / max(1 - languages, 0.05) < MATTERS:
            return False
        found = self._contrast(name)
        return bool(self._shares(found).max() < ONE_VALUE)

    def _shares(self, found: Contrast) -> np.ndarray:
        """The share of documents that are nearest to each value of an axis."""
        nearest = found.nearest(self._looked_at(), self.latents)
        return np.asarray(np.bincount(nearest, minlength=len(found.values)) / max(len(nearest), 1))

    def differing(self, name: str) -> float:
        """How much of the variance of what documents' concepts write lies along an axis, 0 to 1; 0 if unknown."""
        if name not in self._differing:
            try:
                W, found = self._decoder(), self._contrast(name)
            except SaelensDataError:
                return 0.0
            directions = self._span(found)
            self._differing[name] = share_of(self._looked_at(), (W @ directions.T).astype(np.float32), W)
        return float(self._differing[name])

    def _span(self, found: Contrast) -> np.ndarray:
        """Orthonormal directions in which the values of an axis differ, [values - 1 at most, dim] float64."""
        return spanned(found.effects @ whole_decoder(self.m), len(found.values))

    def _decoder(self) -> np.ndarray:
        """What each concept of the matrix writes, [concepts, dim]."""
        return np.asarray(whole_decoder(self.m)[self.latents])

    def _looked_at(self) -> csr_array:
        """Mean activations of some of the documents, evenly chosen."""
        m = self.m if self.m.n_docs <= LOOKED_AT else self.m.take_docs(evenly(self.m.n_docs, LOOKED_AT))
        return m.pooled("mean").X if m.evidence is not None else m.X
