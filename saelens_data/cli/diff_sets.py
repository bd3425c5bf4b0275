"""The two sets that `saelens-data diff` compares, and what to call them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from saelens_data.cli.options import option, stack
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


split_options = stack(
    option("--where", metavar="SQL", help="The documents of one set, as in \"model = 'A'\"; needs --versus."),
    option("--versus", metavar="SQL", help="The documents of the other set."),
    option("--where-concepts", metavar="QUERY", help="One set by a concept query, as in '\"refusal\" > p90'."),
    option("--versus-concepts", metavar="QUERY", help="The other set by a concept query."),
)


def check_split(b: str | None, split: Mapping[str, str | None], by: str | None) -> bool:
    """Refuse, before any work, sets that are chosen in no way or in two; whether a column is to make them.

    `split` has the options by name.
    """
    from saelens_data.diff.selection import read_conditions

    given = _given(split)
    if given and by is not None:
        raise InputError(f"both {given[0]} and --by split the documents: give one of them")
    if (b is None) == (not given and by is None):
        ways = "name a second store or file, or split the one with --by COLUMN or with --where and --versus"
        raise InputError(f"diff compares two sets: {ways}" + ("" if b is None else ", not both"))
    for query in (split["where_concepts"], split["versus_concepts"]):
        if query is not None:
            read_conditions(query)
    return by is not None


def two_sets(
    opened: Sequence[ConceptMatrix], a: str, b: str | None, split: Mapping[str, str | None], by: str | None
) -> Sets:
    """The sets to compare, what to call them, and notes on what was left out, of what was opened from `a` and `b`."""
    if b is not None:
        return opened[0], opened[1], _file_names(a, b), []
    if by is not None:
        return _split_by(opened[0], by)
    if split["where"] is None:
        return _split_by_concepts(opened[0], str(split["where_concepts"]), str(split["versus_concepts"]))
    return _split_where(opened[0], split["where"], str(split["versus"]))


def _given(split: Mapping[str, str | None]) -> list[str]:
    """The options of `split` that were given: two that belong together, or none."""
    given = [f"--{name.replace('_', '-')}" for name, value in split.items() if value is not None]
    for kind, what in (("", "expression"), ("-concepts", "query")):
        one, other = f"--where{kind}", f"--versus{kind}"
        if (one in given) != (other in given):
            raise InputError(f"{one} and {other} go together: one {what} for each set")
    if len(given) > 2:
        raise InputError(
            "--where takes SQL and --where-concepts a concept query, which may ask for columns too: give one"
        )
    return given


def _split_where(m: ConceptMatrix, where: str, versus: str) -> Sets:
    first, second = _by_sql(m, "--where", where), _by_sql(m, "--versus", versus)
    left_out = _left_out(m, first, second, (f'--where "{where}"', f'--versus "{versus}"'))
    return first, second, (where, versus), left_out


def _by_sql(m: ConceptMatrix, option: str, text: str) -> ConceptMatrix:
    """The documents by SQL. A concept query is an error here, and not what else it might say as SQL."""
    from saelens_data.diff.selection import concepts_in
    from saelens_data.query import Latent

    asked, hint = concepts_in(text), f"a concept query goes with {option}-concepts"
    if any(isinstance(concept, Latent) for concept in asked):
        raise InputError(f"{option} takes SQL, where {text} compares numbers with numbers: {hint}")
    try:
        return m.filter_docs(text)
    except InputError as error:
        if not asked:
            raise
        raise InputError(f"{error}; {hint}") from error


def _split_by_concepts(m: ConceptMatrix, where: str, versus: str) -> Sets:
    from saelens_data.diff.selection import split_by_concepts

    first, second, notes = split_by_concepts(m, where, versus)
    left_out = _left_out(m, first, second, (f"--where-concepts {where}", f"--versus-concepts {versus}"))
    return first, second, (where, versus), [*left_out, *notes]


def _left_out(m: ConceptMatrix, first: ConceptMatrix, second: ConceptMatrix, asked: tuple[str, str]) -> list[str]:
    """A note on the documents in neither set. Raises InputError for documents in both."""
    if both := first.docs.join(second.docs, on="doc_id", how="semi").height:
        raise InputError(f"{both:,} of the documents match both {asked[0]} and {asked[1]}: exclude them from one")
    rest = m.n_docs - first.n_docs - second.n_docs
    return [f"Left out: {count(rest, 'document')} that match neither expression."] if rest else []


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
