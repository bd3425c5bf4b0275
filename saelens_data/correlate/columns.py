"""Concepts with a column of the data: labels, sources, scores, dates. For biases and leaks."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl
from polars import selectors as cs
from scipy.stats import rankdata

from saelens_data.correlate.ordered import OrderedResult, correlate_ordered
from saelens_data.correlate.pairs import MEMORY, Options, concluded, sound, strata
from saelens_data.correlate.result import CorrelateResult
from saelens_data.correlate.scan import LEAST_DOCUMENTS, Problem
from saelens_data.correlate.sides import Side
from saelens_data.errors import InputError, choices
from saelens_data.matrix import ConceptMatrix
from saelens_data.stats.testable import testable
from saelens_data.wording import count

Kind = Literal["auto", "categories", "ordered"]
#: Values that a column of categories may have.
MOST_VALUES = 500
#: Share of values that are no numbers up to which a column of text is told to be one of numbers.
_FEW_ODD = 0.1


@dataclass(frozen=True)
class _Column:
    values: pl.Series
    ordered: bool


def correlate_with(
    m: ConceptMatrix,
    column: str,
    *,
    as_: Kind = "auto",
    alpha: float = 0.05,
    without: Collection[str] = (),
    min_documents: int = LEAST_DOCUMENTS,
    memory: int = MEMORY,
) -> CorrelateResult | OrderedResult:
    """Find concepts that go with a column of the documents: with a value of it, or with high or low values.

    Numbers, dates and times are ordered, and so are Polars' enumerations; text, booleans and categories are values;
    `as_` says otherwise. A column of values gives a CorrelateResult whose `label_b` is the value (`latent_b` null), an
    ordered one an OrderedResult. Filters are those of `correlate` that make sense here: "few", "everywhere", "length",
    "third".

    Documents without a value are left out and counted in `notes`. Raises InputError for a column that is not there,
    holds lists, has one value only or too many, and as `correlate` does.
    """
    options = Options(alpha, without, memory, min_documents)
    filters = options.filters()
    m = sound(m, options.notes)
    m, found = _read(m, column, as_, options)
    about = {"encoder": m.source.encoder, "column": column}
    stratum = strata([m], filters, options.notes)
    if found.ordered:
        return correlate_ordered(m, column, found.values, stratum, options, about)
    left, right = Side.of_concepts(m), Side.of_values(found.values)
    tests = testable(left.support, right.support, m.n_docs, alpha)
    left, right = left.pruned(tests.partners_a > 0), right.pruned(tests.partners_b > 0)
    kept = filters - {"similar", "spans", "usual"}
    problem = Problem(left, right, stratum, tests, kept, alpha, min_documents=min_documents)
    return concluded(problem, ("concepts", column), m.docs, options, about)


def _read(m: ConceptMatrix, column: str, as_: Kind, options: Options) -> tuple[ConceptMatrix, _Column]:
    """The documents with a value, and these. Raises InputError for a column that cannot be used."""
    if column not in m.docs.columns:
        raise InputError(f"there is no column '{column}'; {choices(column, m.docs.columns)}")
    values = m.docs[column]
    if values.dtype.is_nested() or values.dtype == pl.Binary:
        raise InputError(f"'{column}' holds {values.dtype}: give a column of plain values")
    if values.dtype.is_float():
        values = values.fill_nan(None)
    empty = values.null_count()
    if empty:
        rows = np.flatnonzero(values.is_not_null().to_numpy())
        m, values = m.take_docs(rows), values.gather(rows)
        options.notes.append(f"Left out: {count(empty, 'document')} with no value in '{column}'.")
    n_values = values.n_unique()
    if n_values < 2:
        raise InputError(f"'{column}' has {count(n_values, 'value')}: nothing can go with a column that does not vary")
    if as_ == "auto" and (said := _nearly_numbers(values)):
        options.notes.append(said)
    by_type = bool(values.to_frame().select(cs.numeric() | cs.temporal() | cs.by_dtype(pl.Enum)).width)
    ordered = by_type if as_ == "auto" else as_ == "ordered"
    if not ordered and n_values > MOST_VALUES:
        raise InputError(
            f"'{column}' has {n_values:,} values, of {m.n_docs:,} documents: too many for categories; "
            "take one that groups documents, or say that its values are ordered (as_='ordered', --as ordered)"
        )
    return m, _Column(_numbers(values) if ordered else values, ordered)


def _nearly_numbers(values: pl.Series) -> str | None:
    """What to say of a column of text that is a column of numbers but for a few values."""
    if values.dtype != pl.String:
        return None
    odd = values.filter(values.cast(pl.Float64, strict=False).is_null())
    if not 0 < len(odd) <= _FEW_ODD * len(values):
        return None
    return (
        f"'{values.name}' holds numbers, and {count(len(odd), 'value')} that {'is' if len(odd) == 1 else 'are'} none "
        f"({odd[0]!r}), so that its values are taken as categories: leave those empty to have it ordered."
    )


def _numbers(values: pl.Series) -> pl.Series:
    """Values as numbers in their order."""
    if values.dtype.is_numeric():
        return values.cast(pl.Float64)
    if values.dtype.is_temporal():
        return values.to_physical().cast(pl.Float64)
    ranks: Any = rankdata(
        values.to_physical().to_numpy() if values.dtype == pl.Enum else values.cast(pl.String), "dense"
    )
    return pl.Series(values.name, ranks, dtype=pl.Float64)
