"""Documents of two sets brought together by a column: partners, with notes on what has none, and clusters."""

from __future__ import annotations

import numpy as np
import polars as pl

from saelens_data.errors import InputError, choices
from saelens_data.matrix import ConceptMatrix
from saelens_data.wording import count


def align(
    a: ConceptMatrix, b: ConceptMatrix, pair_on: str, names: tuple[str, str], notes: list[str]
) -> tuple[ConceptMatrix, ConceptMatrix]:
    """The documents with a partner, row i of one the partner of row i of the other, in the order of `a`."""
    keys = as_one_type([_keys(m, pair_on, name, "pair") for m, name in zip((a, b), names, strict=True)])
    sides = []
    for key, row, name in zip(keys, ("row_a", "row_b"), names, strict=True):
        _require_unique(key.drop_nulls(), pair_on, name)
        sides.append(key.to_frame().with_row_index(row).drop_nulls("key"))
    pairs = sides[0].join(sides[1], on="key", maintain_order="left")
    if pairs.height == 0:
        raise InputError(
            f"cannot pair on '{pair_on}': no value is in both {names[0]} ({count(sides[0].height, 'value')}) and "
            f"{names[1]} ({count(sides[1].height, 'value')}); pair on another column, or compare without pairing"
        )
    notes += _note_unpaired(keys, pairs.height, pair_on, names)
    return _take(a, pairs["row_a"].to_numpy()), _take(b, pairs["row_b"].to_numpy())


def clusters(a: ConceptMatrix, b: ConceptMatrix, cluster_on: str, names: tuple[str, str]) -> np.ndarray:
    """The number of each document's cluster, [documents of A, then of B] int64; one without a value is its own.

    Raises InputError for a column that a set lacks, or that holds lists.
    """
    keys = as_one_type([_keys(m, cluster_on, name, "cluster") for m, name in zip((a, b), names, strict=True)])
    key = pl.concat(keys)
    codes = key.rank("dense").fill_null(0).to_numpy().astype(np.int64)
    without = codes == 0
    codes[without] = codes.max(initial=0) + np.arange(1, without.sum() + 1)
    return np.asarray(codes - 1)


def _keys(m: ConceptMatrix, column: str, name: str, what: str) -> pl.Series:
    if column not in m.docs.columns:
        raise InputError(f"cannot {what} on '{column}': {name} has no such column; {choices(column, m.docs.columns)}")
    if (key := m.docs[column]).dtype.is_nested():
        raise InputError(f"cannot {what} on '{column}': it holds {key.dtype} in {name}; give a column of plain values")
    return key.alias("key")


def as_one_type(keys: list[pl.Series]) -> list[pl.Series]:
    """Two columns of keys made comparable: 3 and 3.0 as numbers, else as text (7 in one file, "7" in the other)."""
    types = [key.dtype for key in keys]
    if types[0] == types[1]:
        return keys
    as_numbers = all(t.is_numeric() for t in types) and any(t.is_float() for t in types)
    return [key.cast(pl.Float64 if as_numbers else pl.String) for key in keys]


def _require_unique(key: pl.Series, pair_on: str, name: str) -> None:
    counts = key.value_counts(name="n").filter(pl.col("n") > 1)
    if counts.height:
        value, times = counts.sort("n", "key", descending=[True, False]).row(0)
        shown = str(value) if len(str(value)) <= 40 else str(value)[:39] + "…"
        others = f" ({count(counts.height - 1, 'more such value')})" if counts.height > 1 else ""
        raise InputError(
            f"cannot pair on '{pair_on}': in {name} '{shown}' stands in {times:,} documents{others}; pair on a column "
            "that is unique in each set, keep one document for each value, or compare without pairing"
        )


def _take(m: ConceptMatrix, rows: np.ndarray) -> ConceptMatrix:
    in_place = len(rows) == m.n_docs and bool((np.diff(rows.astype(np.int64)) == 1).all())
    return m if in_place else m.take_docs(rows)


def _note_unpaired(keys: list[pl.Series], n_pairs: int, pair_on: str, names: tuple[str, str]) -> list[str]:
    notes = []
    for key, name in zip(keys, names, strict=True):
        empty = key.null_count()
        alone = len(key) - empty - n_pairs
        parts = [f"{count(alone, 'document')} without a partner"] if alone else []
        parts += [f"{count(empty, 'document')} with no value"] if empty else []
        if parts:
            notes.append(f"Left out of {name} when pairing on '{pair_on}': {' and '.join(parts)}.")
    return notes
