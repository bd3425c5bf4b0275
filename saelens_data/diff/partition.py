"""Documents split into sets by the values of a column, and the order of these values."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from scipy.sparse import csr_array

from saelens_data.errors import InputError, choices
from saelens_data.matrix import ConceptMatrix
from saelens_data.wording import count

#: Sets that a column may make.
MOST_SETS = 50
#: Numbers of a version or a date, such as 1.10 or 2024-05.
_NUMBERS = re.compile(r"\d+")
#: A date that begins with its day or month.
_DAY_FIRST = re.compile(r"^\d{1,2}[./ -]\d{1,2}[./ -]\d{2,4}\b")


@dataclass(frozen=True, eq=False)
class Partition:
    """The documents of `m` in sets: `code` [documents] is the number of each one's, `names` [sets] what to call them.

    Set i holds the documents with the value `values[i]` in column `by`. Documents of `m` that failed to encode, or have
    no value, were left out.
    """

    m: ConceptMatrix
    by: str
    values: tuple[Any, ...]
    names: tuple[str, ...]
    code: np.ndarray

    def with_code(self, code: np.ndarray) -> Partition:
        """The same documents in other sets."""
        return replace(self, code=code)

    @property
    def sizes(self) -> np.ndarray:
        """Documents of each set."""
        return np.bincount(self.code, minlength=len(self.names))

    def rows(self, number: int) -> np.ndarray:
        """Documents of a set, ascending."""
        return np.flatnonzero(self.code == number)

    def sums(self, values: np.ndarray | None = None) -> np.ndarray:
        """Of each latent the documents in which it is active, or the sum of `values` [activations], [sets, latents]."""
        X = self.m.X
        data = np.ones(X.nnz) if values is None else values
        member = csr_array(
            (np.ones(X.shape[0]), (self.code, np.arange(X.shape[0]))), shape=(len(self.names), X.shape[0])
        )
        return np.asarray((member @ csr_array((data, X.indices, X.indptr), shape=X.shape)).toarray())


def partition(m: ConceptMatrix, by: str, notes: list[str], *, least: int = 2) -> Partition:
    """The sets that the values of the column `by` make, ascending; `notes` gains what was left out.

    Raises InputError for a column that is missing or holds lists, and for fewer than `least` or more than `MOST_SETS`
    values.
    """
    if by not in m.docs.columns:
        raise InputError(f"cannot split by '{by}': there is no such column; {choices(by, m.docs.columns)}")
    if (dtype := m.docs[by].dtype).is_nested():
        raise InputError(f"cannot split by '{by}': it holds {dtype}; give a column of plain values")
    m = _usable(m, by, notes)
    column = m.docs[by]
    values = column.unique().sort()
    if len(values) < least:
        raise InputError(
            f"cannot split by '{by}': it has {count(len(values), 'value')} in the documents that were encoded, and at "
            f"least {least} are wanted; give another column"
        )
    if len(values) > MOST_SETS:
        raise InputError(
            f"cannot split by '{by}': it has {len(values):,} values, and at most {MOST_SETS} sets are compared; give a "
            "coarser column, such as the month of a date"
        )
    names = tuple(str(value) or "(empty)" for value in values)
    numbered = values.to_frame(by).with_row_index("\0number")
    code = column.to_frame().join(numbered, on=by, how="left", maintain_order="left")["\0number"]
    return Partition(m, by, tuple(values.to_list()), names, code.to_numpy().astype(np.int64))


def _usable(m: ConceptMatrix, by: str, notes: list[str]) -> ConceptMatrix:
    """The documents that were encoded and have a value."""
    column = m.docs[by]
    empty = (column.fill_nan(None) if column.dtype.is_float() else column).is_null()
    failed = m.docs["error"].is_not_null() if "error" in m.docs.columns else empty & ~empty
    for left_out, why in ((failed, "that could not be encoded"), (empty & ~failed, f"with no value in '{by}'")):
        if n := int(left_out.sum()):
            notes.append(f"Left out: {count(n, 'document')} {why}.")
    keep = np.flatnonzero((~(failed | empty)).to_numpy())
    return m if len(keep) == m.n_docs else m.take_docs(keep)


def in_order(p: Partition, order: Sequence[Any] | None, notes: list[str]) -> Partition:
    """The same sets in the order of time or growth; `notes` gains the order.

    Numbers, dates and booleans go by value, an Enum by its own order. Text goes by the numbers in it where all else is
    equal ("v1.2" before "v1.10", "2024-05" before "2024-11"). Any other needs `order`, all values from first to last.
    Raises InputError without it, and where it does not name all values.
    """
    if order is not None:
        ranks = _given(p, order)
    elif isinstance(p.values[0], str) and p.m.docs[p.by].dtype != pl.Enum:
        ranks = _by_numbers(p)
    else:
        ranks = list(range(len(p.names)))
    first_to_last = np.argsort(ranks)
    names = tuple(p.names[i] for i in first_to_last)
    notes.append(f"The order of '{p.by}': {', '.join(names)}; the steps count as equal.")
    values = tuple(p.values[i] for i in first_to_last)
    return Partition(p.m, p.by, values, names, np.argsort(first_to_last)[p.code])


def _given(p: Partition, order: Sequence[Any]) -> list[int]:
    place = {str(value): i for i, value in enumerate(order)}
    if len(place) != len(order):
        raise InputError(f"the order of '{p.by}' names a value twice: give each once, from first to last")
    known = [str(value) for value in p.values]
    if unknown := [name for name in place if name not in known]:
        raise InputError(f"the order of '{p.by}' names '{unknown[0]}': {choices(unknown[0], known)}")
    if missing := [name for name in known if name not in place]:
        raise InputError(f"the order of '{p.by}' lacks '{missing[0]}': give all of its values, from first to last")
    return [place[name] for name in known]


def _by_numbers(p: Partition) -> list[int]:
    ask = "give its values in order, from first to last (order=, --order A,B,...)"
    texts = [str(value).strip() for value in p.values]
    if any(_DAY_FIRST.match(text) for text in texts):
        raise InputError(f"the order of '{p.by}' is not clear: dates such as '{texts[0]}' may mean two things; {ask}")
    keys = [tuple(map(int, _NUMBERS.findall(text))) for text in texts]
    around = {re.sub(r"#([._-]#)*", "#", _NUMBERS.sub("#", text.removeprefix("v"))) for text in texts}
    if len(around) > 1 or len(set(keys)) < len(keys) or not all(keys):
        raise InputError(
            f"the order of '{p.by}' is not clear from values such as '{texts[0]}' and '{texts[-1]}': {ask}"
        )
    by_key = sorted(range(len(keys)), key=keys.__getitem__)
    if all(re.fullmatch(r"\d+\.\d+", text) for text in texts) and by_key != sorted(
        by_key, key=lambda i: float(texts[i])
    ):
        raise InputError(f"the order of '{p.by}' is not clear: its values may be versions or decimal numbers; {ask}")
    ranks = [0] * len(keys)
    for rank, i in enumerate(by_key):
        ranks[i] = rank
    return ranks
