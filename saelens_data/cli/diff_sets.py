"""The two sets that `saelens-data diff` compares, and what to call them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from saelens_data.cli.options import open_or_encode
from saelens_data.errors import InputError, choices
from saelens_data.wording import count

if TYPE_CHECKING:
    import polars as pl

    from saelens_data.matrix import ConceptMatrix

#: Values of a column that a message lists, and the characters of each.
_LISTED, _CHARS = 8, 40
#: What a name of a set need not say.
_SUFFIXES = {".sae", ".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".txt", ".gz", ".zst"}

Sets = tuple["ConceptMatrix", "ConceptMatrix", tuple[str, str], list[str]]


def two_sets(
    a: str, b: str | None, split: tuple[str | None, str | None], by: str | None, reading: dict[str, Any]
) -> Sets:
    """The sets to compare, what to call them, and notes on what was left out."""
    where, versus = split
    if (where is None) != (versus is None):
        raise InputError("--where and --versus go together: one expression for each set")
    if where is not None and by is not None:
        raise InputError("both --where and --by split the documents: give one of them")
    if (b is None) == (where is None and by is None):
        ways = "name a second store or file, or split the one with --by COLUMN or with --where and --versus"
        raise InputError(f"diff compares two sets: {ways}" + ("" if b is None else ", not both"))
    if b is not None:
        first, second = open_or_encode(a, b, **reading)
        return first, second, _file_names(a, b), []
    (m,) = open_or_encode(a, **reading)
    return _split_by(m, by) if by is not None else _split_where(m, str(where), str(versus))


def _split_where(m: ConceptMatrix, where: str, versus: str) -> Sets:
    first, second = m.filter_docs(where), m.filter_docs(versus)
    if both := first.docs.join(second.docs, on="doc_id", how="semi").height:
        raise InputError(
            f'{both:,} of the documents match both --where "{where}" and --versus "{versus}": exclude them from one'
        )
    rest = m.n_docs - first.n_docs - second.n_docs
    notes = [f"Left out: {count(rest, 'document')} that match neither expression."] if rest else []
    return first, second, (where, versus), notes


def _split_by(m: ConceptMatrix, by: str) -> Sets:
    import polars as pl

    if by not in m.docs.columns:
        raise InputError(f"cannot split by '{by}': there is no such column; {choices(by, m.docs.columns)}")
    if (column := m.docs[by]).dtype.is_nested():
        raise InputError(f"cannot split by '{by}': it holds {column.dtype}; give a column of plain values")
    values = column.drop_nulls().unique().sort().to_list()
    if len(values) != 2:  # more are compared each with the rest
        raise InputError(f"--by compares the sets of a column, and '{by}' has {_listed(column)}: give another column")
    first, second = (m.filter_docs(pl.col(by) == pl.lit(value)) for value in values)
    empty = column.null_count()
    notes = [f"Left out: {count(empty, 'document')} with no value in '{by}'."] if empty else []
    name_a, name_b = (str(value) or "(empty)" for value in values)
    return first, second, (name_a, name_b), notes


def _listed(column: pl.Series) -> str:
    """'3 values (x: 12, y: 8, z: 1)', the most frequent first."""
    counts = column.alias("value").drop_nulls().value_counts(name="n").sort("n", "value", descending=[True, False])
    shown = ", ".join(f"{str(value)[:_CHARS]}: {n:,}" for value, n in counts.head(_LISTED).iter_rows())
    more = ", …" if counts.height > _LISTED else ""
    return count(counts.height, "value") + (f" ({shown}{more})" if shown else "")


def _file_names(a: str, b: str) -> tuple[str, str]:
    """The files' names without what is known of their kind; with their folders, or numbered, where these are equal."""
    first, second = _bare(Path(a)), _bare(Path(b))
    if first.name != second.name:
        return first.name, second.name
    if first != second:
        return str(first), str(second)
    return f"{first.name} (1)", f"{second.name} (2)"


def _bare(path: Path) -> Path:
    while path.suffix.lower() in _SUFFIXES:
        path = path.with_suffix("")
    return path
