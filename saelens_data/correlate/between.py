"""Concepts of one field with concepts of another: what a prompt says with what its answer says."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import polars as pl

from saelens_data.correlate.pairs import MEMORY, Options, about_usual, concluded, ordinary_text, strata, with_usual
from saelens_data.correlate.result import CorrelateResult
from saelens_data.correlate.scan import LEAST_DOCUMENTS, Problem
from saelens_data.correlate.sides import Side
from saelens_data.errors import InputError
from saelens_data.matrix import ConceptMatrix
from saelens_data.stats.testable import testable
from saelens_data.wording import count


def correlate_between(
    m: ConceptMatrix,
    a: str,
    b: str,
    *,
    alpha: float = 0.05,
    without: Collection[str] = (),
    min_documents: int = LEAST_DOCUMENTS,
    memory: int = MEMORY,
    reference: ConceptMatrix | None = None,
) -> CorrelateResult:
    """Find concepts of field `a` and concepts of field `b` that go together more often, or less, than they should.

    `a` and `b` name fields kept in the store of `m`, such as "prompt" and "response"; otherwise as `correlate`. What is
    usual is known of concepts within documents. "spans" does not apply: the two are different texts. "length" compares
    documents that are alike in the length of both. `latent_a` is of field `a`, `latent_b` of field `b`, so a concept
    may be paired with itself.

    Raises InputError, listing the fields there are, for one that is not there, and as `correlate` does.
    """
    if a == b:
        raise InputError(f"both fields are '{a}': give two, or leave them out to pair concepts within documents")
    return between_matrices(m.field(a), m.field(b), (a, b), Options(alpha, without, memory, min_documents, reference))


def between_matrices(
    one: ConceptMatrix, other: ConceptMatrix, names: tuple[str, str], options: Options
) -> CorrelateResult:
    """The same of two matrices whose rows are the same documents. Raises InputError if they are not."""
    filters = options.filters()
    if not one.docs["doc_id"].equals(other.docs["doc_id"]):
        raise InputError(f"'{names[0]}' and '{names[1]}' do not hold the same documents in the same order")
    rows = _whole(one, other, names, options)
    if len(rows) < one.n_docs:
        one, other = one.take_docs(rows), other.take_docs(rows)
    left, right = Side.of_concepts(one), Side.of_concepts(other)
    stratum = strata([one, other], filters, options.notes)
    tests = testable(left.support, right.support, one.n_docs, options.alpha)
    left, right = left.pruned(tests.partners_a > 0), right.pruned(tests.partners_b > 0)
    ordinary = ordinary_text(one, options)
    problem = Problem(left, right, stratum, tests, filters, options.alpha, min_documents=options.min_documents)
    problem = with_usual(problem, ordinary)
    about = {"encoder": one.source.encoder, "between": list(names), **about_usual(ordinary)}
    return concluded(problem, names, _docs(one, other, names), options, about)


def _whole(one: ConceptMatrix, other: ConceptMatrix, names: tuple[str, str], options: Options) -> np.ndarray:
    """Rows where both fields say something and were encoded; `options.notes` counts the rest."""
    fine = np.ones(one.n_docs, dtype=bool)
    for m, name in ((one, names[0]), (other, names[1])):
        sound = np.ones(m.n_docs, dtype=bool)
        if "error" in m.docs.columns:
            sound &= m.docs["error"].is_null().to_numpy()
        if "text" in m.docs.columns:
            sound &= m.docs["text"].is_not_null().to_numpy()
        if n := int((fine & ~sound).sum()):
            options.notes.append(f"Left out: {count(n, 'document')} without a '{name}' that could be encoded.")
        fine &= sound
    if fine.sum() < 2:
        raise InputError(
            f"correlations need several documents with '{names[0]}' and '{names[1]}': {fine.sum()} have both"
        )
    return np.flatnonzero(fine)


def _docs(one: ConceptMatrix, other: ConceptMatrix, names: tuple[str, str]) -> pl.DataFrame:
    """The documents with the text of each field under its name."""
    docs = one.docs
    if "text" not in docs.columns or "text" not in other.docs.columns:
        return docs
    kept = docs.drop([name for name in ("text", "n_units", "n_tokens", "error", *names) if name in docs.columns])
    return kept.with_columns(one.docs["text"].alias(names[0]), other.docs["text"].alias(names[1]))
