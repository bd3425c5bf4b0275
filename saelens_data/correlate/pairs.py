"""Concepts that go together, or never do, within documents; between fields; and with the values of a column."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import polars as pl

from saelens_data import stats
from saelens_data.correlate.groups import group_pairs, ranked_groups
from saelens_data.correlate.result import CorrelateResult
from saelens_data.correlate.scan import FILTERS, LEAST_DOCUMENTS, PLAIN_FILTERS, Found, Pairs, Problem, scan, unlike
from saelens_data.correlate.sides import Side, length_of
from saelens_data.correlate.third import Third, third_concepts
from saelens_data.encoders.usual import STEPS, Usual, usual
from saelens_data.errors import InputError, choices
from saelens_data.matrix import ConceptMatrix
from saelens_data.stats.pairs import discount, npmi
from saelens_data.stats.strata import strata_of
from saelens_data.stats.testable import testable
from saelens_data.wording import count

#: Every filter by name; the last looks at pairs beside each other.
ALL_FILTERS = (*FILTERS, "third")
#: Bytes that counts of pairs may take.
MEMORY = 1 << 30


@dataclass(frozen=True)
class Options:
    """What was asked for; see `correlate`."""

    alpha: float = 0.05
    without: Collection[str] = ()
    memory: int = MEMORY
    min_documents: int = LEAST_DOCUMENTS
    #: Documents to know from what is usual; None for those that the encoder brings.
    reference: ConceptMatrix | None = None
    notes: list[str] = field(default_factory=list)

    def filters(self) -> frozenset[str]:
        """The filters that are on. Raises InputError for options out of range, or a filter that is not there."""
        if not 0 < self.alpha < 1:
            raise InputError(f"alpha is {self.alpha:g}: give the share of false findings to accept, between 0 and 1")
        if self.memory < 1 << 24:
            raise InputError(f"{self.memory:,} bytes of memory are too few: give at least 16 MB")
        for name in self.without:
            if name not in ALL_FILTERS:
                raise InputError(f"there is no filter '{name}'; {choices(name, ALL_FILTERS)}")
        return frozenset(ALL_FILTERS) - frozenset(self.without)


def correlate(
    m: ConceptMatrix,
    *,
    alpha: float = 0.05,
    without: Collection[str] = (),
    min_documents: int = LEAST_DOCUMENTS,
    memory: int = MEMORY,
    reference: ConceptMatrix | None = None,
) -> CorrelateResult:
    """Find pairs of concepts that occur in the same documents more often, or less, than chance and length explain.

    Every pair whose margins allow significance is counted and tested exactly, block by block in about `memory` bytes.
    What is trivial is left out by named filters, of which `without` switches some off: "few" (fewer than
    `min_documents` documents hold both), "everywhere" (one is in more than half of the documents), "similar" (labels,
    decoder directions or meanings are), "spans" (they fire on the same or neighbouring spans), "length" (documents of
    equal length show nothing), "usual" (ordinary text has it as well), "third" (a third concept accounts for most of
    it). Pairs that meet in the same documents are a group.

    What ordinary text has is known from `reference`, documents encoded alike, or else from the file that comes with the
    encoder; what goes together in the documents counts as far as it exceeds that.

    Documents that failed to encode are left out. Raises InputError for options out of range and without documents.
    """
    options = Options(alpha, without, memory, min_documents, reference)
    filters = options.filters()
    m = sound(m, options.notes)
    ordinary = ordinary_text(m, options)
    side = Side.of_concepts(m)
    stratum = strata([m], filters, options.notes)
    tests = testable(side.support, None, m.n_docs, alpha)
    side = side.pruned(tests.partners_a > 0)
    problem = Problem(side, side, stratum, tests, filters, alpha, places=True, min_documents=min_documents)
    problem = with_usual(problem, ordinary)
    about = {"encoder": m.source.encoder, **about_usual(ordinary)}
    return concluded(problem, ("concepts", "concepts"), m.docs, options, about)


def sound(m: ConceptMatrix, notes: list[str]) -> ConceptMatrix:
    """The documents without an error. Raises InputError if none is left."""
    n = m.n_docs
    if "error" in m.docs.columns and (failed := n - m.docs["error"].null_count()):
        m = m.filter_docs(pl.col("error").is_null())
        notes.append(f"Left out: {count(failed, 'document')} that could not be encoded.")
    if m.n_docs < 2:
        raise InputError(f"correlations need several documents, and there are {m.n_docs}: choose another source")
    return m


def ordinary_text(m: ConceptMatrix, options: Options) -> Usual | None:
    """What is usual, of the reference or else of the encoder; None without the filter, or where neither is at hand.

    Raises InputError for a reference that was encoded otherwise.
    """
    if "usual" in options.without:
        return None
    if (other := options.reference) is None:
        found = usual(m.source)
        if found is None:
            options.notes.append(
                f"What is usual in ordinary text is not known of '{m.source.encoder}', so that much of this may be: "
                "a reference (--reference STORE, reference=) of ordinary documents tells."
            )
        return found
    m.source.require_same(replace(other.source, field=m.source.field))
    other = sound(other, [])
    return Usual.of(other.X, other.concepts["latent"].to_numpy(), length_of(other), memory=options.memory)


def with_usual(problem: Problem, ordinary: Usual | None) -> Problem:
    """The problem with what is usual for its pairs of concepts; without the filter if that is not known."""
    if ordinary is None:
        return replace(problem, filters=problem.filters - {"usual"})
    sides = [(side.m, side.columns) for side in (problem.left, problem.right)]
    one, other = (m.concepts["latent"].to_numpy()[columns] for m, columns in sides if m is not None)
    return replace(problem, usual=ordinary.between(one, other))


def about_usual(ordinary: Usual | None) -> dict[str, Any]:
    """The parameters that say what is usual."""
    return {} if ordinary is None else {"reference": ordinary.name, "reference_documents": ordinary.n_docs}


def strata(sets: Sequence[ConceptMatrix], filters: frozenset[str], notes: list[str]) -> np.ndarray:
    """Documents alike in the length of each field share a number, [documents]; all 0 if length is not to matter."""
    n = sets[0].n_docs
    lengths = [length_of(m) for m in sets]
    known = [length for length in lengths if length is not None]
    if "length" in filters and len(known) == len(lengths):
        return strata_of(*known)
    if "length" in filters:
        notes.append("Not compared at equal length: the lengths of documents are not known.")
    return np.zeros(n, dtype=np.int64)


def concluded(
    problem: Problem, names: tuple[str, str], docs: pl.DataFrame, options: Options, about: Mapping[str, Any]
) -> CorrelateResult:
    """Scan, look for third concepts, group, and put it into a table."""
    found = scan(problem, memory=options.memory)
    n_tests, alpha = problem.testable.n_tests, options.alpha
    pairs = _significant(found, n_tests, alpha)
    removed = _removed(found, n_tests, problem)
    n_passing = found.by_length.n_below(alpha, n_tests) - removed.get("usual", 0)
    third = third_concepts(problem, pairs) if "third" in problem.filters else Third.none(len(pairs))
    if "third" in problem.filters:
        removed["third"] = int(third.explains.sum())
    keep = np.flatnonzero(~third.explains)
    notes = [*options.notes, *_notes(problem, found, third, n_passing, len(pairs))]
    pairs, third = pairs.take(keep), third.take(keep)
    group = ranked_groups(group_pairs(problem, pairs), pairs.score)
    order = np.lexsort((np.arange(len(pairs)), group))
    pairs, third, group = pairs.take(order), third.take(order), group[order]
    frame = _table(problem, pairs, third, group, found)
    return CorrelateResult(
        frame=frame,
        parameters={
            **about,
            "documents": problem.n,
            "pairs": problem.testable.n_pairs,
            "tests": n_tests,
            "filters": [name for name in ALL_FILTERS if name in problem.filters],
            "min_documents": problem.min_documents,
            "strata_of_length": int(problem.stratum.max()) + 1,
            "alpha": alpha,
        },
        notes=tuple(notes),
        problem=problem,
        names=names,
        docs=docs,
        n_tested=n_tests,
        n_pairs=problem.testable.n_pairs,
        n_significant=found.tested.n_below(alpha, n_tests),
        removed=removed,
        alpha=alpha,
        places=np.stack([pairs.left, pairs.right], axis=1),
    )


def _significant(found: Found, n_tests: int, alpha: float) -> Pairs:
    pairs = found.pairs if found.pairs is not None else Pairs.none()
    log_q = found.by_length.log_q(pairs.log_p_length, n_tests)
    return pairs.take(np.flatnonzero(log_q < np.log(alpha)))


def _removed(found: Found, n_tests: int, problem: Problem) -> dict[str, int]:
    """How many of the significant pairs each filter took, in order."""
    threshold = found.tested.log_threshold(problem.alpha, n_tests)
    before, removed = found.tested.n_up_to(threshold), {}
    for name in PLAIN_FILTERS:
        after = found.left[name].n_up_to(threshold)
        if name in problem.filters:
            removed[name] = before - after
        before = after
    if "length" in problem.filters:
        removed["length"] = before - found.by_length.n_below(problem.alpha, n_tests)
    if "usual" in problem.filters:
        threshold = found.by_length.log_threshold(problem.alpha, n_tests)
        removed["usual"] = found.by_length.n_up_to(threshold) - found.unusual.n_up_to(threshold)
    return removed


def _notes(problem: Problem, found: Found, third: Third, n_passing: int, kept: int) -> list[str]:
    notes = []
    if n_passing > kept:
        notes.append(f"Of {n_passing:,} pairs that pass, the {kept:,} with the largest association are looked at.")
    if found.turned:
        named = "; ".join(f"{_name(problem.left, i)} and {_name(problem.right, j)}" for _, i, j in found.examples[:2])
        notes.append(
            f"Simpson's paradox: {count(found.turned, 'pair')} that look associated are so the other way round in "
            f"documents of equal length ({named}); they are left out."
        )
    if n := int(third.turned.sum()):
        notes.append(
            f"Simpson's paradox: {count(n, 'pair')} turn their sign where a third concept is equal; they are left out."
        )
    return notes


def _name(side: Side, place: int) -> str:
    label = side.names[int(place)]
    if side.m is None:
        return f"'{label}'"
    latent = int(side.m.concepts["latent"][int(side.columns[place])])
    return f"{latent} ({label})" if label else str(latent)


def _table(problem: Problem, pairs: Pairs, third: Third, group: np.ndarray, found: Found) -> pl.DataFrame:
    n, n_tests = problem.n, problem.testable.n_tests
    a, b = problem.left.support[pairs.left], problem.right.support[pairs.right]
    chance = a * b / n
    low_b, high_b = stats.wilson(pairs.both, np.maximum(a, 1))
    low_a, high_a = stats.wilson(pairs.both, np.maximum(b, 1))
    more = pairs.both > chance
    sign = np.where(more, 1.0, -1.0)
    raw = npmi(pairs.both, chance, n) * discount(pairs.both, a, b, chance)
    latent_a, label_a = _named(problem.left, pairs.left)
    latent_b, label_b = _named(problem.right, pairs.right)
    return pl.DataFrame(
        {
            "rank": np.arange(1, len(pairs) + 1, dtype=np.uint32),
            "latent_a": latent_a,
            "label_a": label_a,
            "latent_b": latent_b,
            "label_b": label_b,
            "n_a": a,
            "n_b": b,
            "n_both": pairs.both,
            "npmi": raw,
            "lift": pairs.both / chance,
            "p_value": np.exp(pairs.log_p),
            "q_value": np.exp(found.tested.log_q(pairs.log_p, n_tests)),
            "similarity": pl.Series(pairs.similarity.astype(np.float64)).fill_nan(None),
            "group": (group + 1).astype(np.uint32),
            "direction": np.where(more, "together", "apart"),
            "expected": pairs.expected,
            "usual": pairs.expected * np.exp2(pairs.steps / STEPS) if problem.usual is not None else None,
            "npmi_low": sign * pairs.score / unlike(pairs.similarity),
            "score": pairs.score,
            "p_length": np.exp(pairs.log_p_length),
            "q_length": np.exp(found.by_length.log_q(pairs.log_p_length, n_tests)),
            "b_given_a": pairs.both / np.maximum(a, 1),
            "b_given_a_low": low_b,
            "b_given_a_high": high_b,
            "a_given_b": pairs.both / np.maximum(b, 1),
            "a_given_b_low": low_a,
            "a_given_b_high": high_a,
            "near": pl.Series(pairs.near.astype(np.float64)).fill_nan(None),
            "third": _third_named(problem, third),
            "third_left": pl.Series(np.where(third.concept >= 0, third.left, np.nan)).fill_nan(None),
        }
    )


def _named(side: Side, places: np.ndarray) -> tuple[pl.Series, pl.Series]:
    labels = side.names.gather(places) if len(places) else side.names.clear()
    if side.m is None:
        return pl.Series([None] * len(places), dtype=pl.Int32), labels
    return side.m.concepts["latent"].gather(side.columns[places]), labels


def _third_named(problem: Problem, third: Third) -> pl.Series:
    shift = 0 if problem.same else len(problem.left)
    names = []
    for place in third.concept.tolist():
        side, at = (problem.right, place - shift) if place >= shift else (problem.left, place)
        names.append(None if place < 0 else _name(side, at))
    return pl.Series(names, dtype=pl.String)
