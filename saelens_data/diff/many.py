"""How several sets of documents differ: each from the rest, each from one of them, or all pairs.

`docs/statistics.md` says what is corrected for and how the sets of one value are told from the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl
from scipy.sparse import csr_array

from saelens_data.diff.adjust import LENGTH
from saelens_data.diff.comparison import Sets, compare
from saelens_data.diff.contrasts import (
    NAMED,
    Contrast,
    compared,
    corrected,
    listed,
    notes_on_explained,
    notes_on_power,
)
from saelens_data.diff.findings import order
from saelens_data.diff.grouping import Groups, alone, group_latents
from saelens_data.diff.pairing import clusters
from saelens_data.diff.partition import Partition, partition
from saelens_data.diff.two import DiffResult, Options
from saelens_data.display.table import Shown
from saelens_data.errors import InputError, choices
from saelens_data.matrix import ConceptMatrix
from saelens_data.results import Result
from saelens_data.wording import count

#: Comparisons made at once: all pairs of 20 sets are 190.
_MOST_COMPARISONS = 200


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ManyResult(Result):
    """The outcome of `diff_many`. `frame` holds one row for each comparison and group of latents tested.

    The columns are those of a `DiffResult`, for the set `set` as A and `against` as B, but q_value is corrected over
    the tests of all comparisons together. `rank` counts all rows, `rank_in_set` those of one comparison. Of the
    leading latent: `densities`, its density in each of `sets`. Of comparisons with the rest, `others_low` and
    `others_high`, the least and the largest density among the other sets, and `nearest`, the one whose density is
    nearest, or lies farthest beyond; of findings among them `holds_against`, the number of other sets from which the
    set differs by itself (p < alpha, same direction), and `apart`: whether these are all.
    Findings come first: those that set one apart, then the others, each by how large the difference is at least; then
    the rest by p.
    """

    kind: str = "diff_many"
    #: The documents that were compared, and the set of each.
    documents: Partition
    #: "rest", "reference" or "pairs".
    against: str
    #: The numbers of the two sets of each comparison; None is the rest.
    comparisons: tuple[tuple[int, int | None], ...]
    #: What `diff` was asked for in each.
    options: Options
    #: What stands behind each comparison: (set, against) -> DiffResult with the same q; made when it is asked for.
    results: Mapping[tuple[str, str], DiffResult]
    #: The partition of the latents, made from all documents together.
    groups: Groups
    #: Tests of all comparisons: the number that q is corrected for.
    n_tested: int
    #: A group is a finding where q is below it.
    alpha: float

    @property
    def sets(self) -> tuple[str, ...]:
        """The names of the sets, in order of their values."""
        return self.documents.names

    @property
    def findings(self) -> pl.DataFrame:
        """The rows with q_value < alpha."""
        return self.frame.filter(pl.col("finding"))

    def summary(self) -> str:
        """Sets, sizes, comparisons, tests and findings in two sentences."""
        sizes, found = self.documents.sizes, self.findings
        low, high = f"{sizes.min():,}", count(int(sizes.max()), "document")
        each = f"{high} each" if sizes.min() == sizes.max() else f"{low} to {high} each"
        how = {"rest": "each against the rest", "pairs": "all pairs"}.get(self.against, "each against one")
        apart = int(found["apart"].sum())
        holding = f"{apart:,} hold{'s' if apart == 1 else ''}"
        unlike = f"; {holding} against each other set by itself" if found["apart"].count() else ""
        return (
            f"{len(sizes)} sets by '{self.documents.by}' ({each}), {how}: {count(self.n_tested, 'test')} in "
            f"{count(len(self.results), 'comparison')}. {count(found.height, 'finding')} at q < {self.alpha:g}"
            f"{_where(found)}{unlike}."
        )

    def _shown(self) -> Shown:
        from saelens_data.diff.shown import of_many  # noqa: PLC0415

        return of_many(self)

    def plot(self, n: int = 20) -> Any:
        """How frequent the concepts of the first findings, `n` at most, are in each set, as an Altair chart.

        Raises MissingExtraError without Altair, InputError without rows.
        """
        from saelens_data.diff.shown import many_chart  # noqa: PLC0415

        return many_chart(self, n)


def _where(found: pl.DataFrame) -> str:
    """': 9 of x against the rest, 4 of y against the rest', the most first."""
    counts = (
        found.group_by("set", "against", maintain_order=True).len().sort("len", descending=True, maintain_order=True)
    )
    parts = [f"{n:,} of {one} against {other}" for one, other, n in counts.head(NAMED).iter_rows()]
    if counts.height > NAMED:
        parts.append(f"{counts['len'][NAMED:].sum():,} in {count(counts.height - NAMED, 'other comparison')}")
    return (": " if parts else "") + ", ".join(parts)


class _Results(Mapping[tuple[str, str], DiffResult]):
    """The comparisons by name. Documents are taken from the matrix when a result is asked for, and not kept."""

    def __init__(self, documents: Partition, contrasts: Sequence[Contrast], n_tests: int) -> None:
        self._documents, self._n_tests = documents, n_tests
        self._contrasts = {contrast.key: contrast for contrast in contrasts}

    def __getitem__(self, key: tuple[str, str]) -> DiffResult:
        if key not in self._contrasts:
            raise KeyError(f"no comparison {key!r}; {choices(str(key), map(str, self._contrasts))}")
        return self._contrasts[key].result(self._documents, self._n_tests)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._contrasts)

    def __len__(self) -> int:
        return len(self._contrasts)


def diff_many(
    m: ConceptMatrix,
    by: str,
    *,
    reference: str | None = None,
    pairs: bool = False,
    pair_on: str | None = None,
    cluster_on: str | None = None,
    adjust: Sequence[str] = (),
    group: bool = True,
    alpha: float = 0.05,
) -> ManyResult:
    """Compare the sets of documents that the values of the column `by` make, each as `diff` compares two.

    Each set is compared with the rest; with `reference`, the name of a set, each other set with that one; with
    `pairs`, each set with each later one. Two sets are compared once. Near-duplicate latents are grouped once, from all
    documents together, and q is corrected over the tests of all comparisons. The other options are those of `diff`;
    against the rest, which holds several documents for a value of `pair_on`, that column makes clusters, not pairs.

    Documents that failed to encode, and those without a value in `by`, are left out and counted in `notes`. Raises
    InputError for a column that is missing, holds lists or has fewer than 2 or more than 50 values, for a reference
    that is none of them, for more than 200 comparisons, and for all that `diff` refuses.
    """
    notes: list[str] = []
    p = partition(m, by, notes)
    against = _against(p, reference, pairs=pairs)
    if by in (pair_on, cluster_on):
        raise InputError(f"'{by}' makes the sets, so that nothing in it is shared by two: pair or cluster on another")
    if against == "rest" and pair_on is not None and cluster_on is None:
        notes.append(
            f"Compared within equal values of '{pair_on}', as clusters: against one document of a set, the rest holds "
            "several, so that they are no pairs."
        )
        pair_on, cluster_on = None, pair_on
    asked = Options(pair_on, cluster_on, tuple(adjust), group, alpha, ("", ""), 0.0, 0)
    groups = group_latents((p.m,)) if group else alone(p.m.n_concepts)
    contrasts = corrected([compared(p, *pair, asked, groups) for pair in _plan(p, against, reference)], alpha)
    return _told(p, against, contrasts, asked, groups, notes)


def _against(p: Partition, reference: str | None, *, pairs: bool) -> str:
    if reference is not None and pairs:
        raise InputError("both a reference and all pairs asked for: give one of them")
    if reference is not None and reference not in p.names:
        raise InputError(f"no set is called '{reference}' in '{p.by}'; {choices(reference, p.names)}")
    k = len(p.names)
    if pairs and k * (k - 1) // 2 > _MOST_COMPARISONS:
        raise InputError(
            f"all pairs of the {k} sets by '{p.by}' are {k * (k - 1) // 2:,} comparisons, and at most "
            f"{_MOST_COMPARISONS} are made: compare each with the rest, or with a reference"
        )
    return "reference" if reference is not None else "pairs" if pairs or k == 2 else "rest"


def _plan(p: Partition, against: str, reference: str | None) -> list[tuple[int, int | None]]:
    """Numbers of the sets to compare; None is the rest."""
    numbers = range(len(p.names))
    if reference is not None:
        other = p.names.index(reference)
        return [(i, other) for i in numbers if i != other]
    return [(i, None) for i in numbers] if against == "rest" else list(combinations(numbers, 2))


def _told(
    p: Partition, against: str, contrasts: list[Contrast], asked: Options, groups: Groups, notes: list[str]
) -> ManyResult:
    n_tests = sum(contrast.frame.height for contrast in contrasts)
    results = _Results(p, contrasts, n_tests)
    densities = p.sums() / p.sizes[:, None]
    tables, terms = [], {}
    for contrast in contrasts:
        result = contrast.concluded(p, 0)
        terms[contrast.key] = result.parameters["adjusted_for"]
        tables.append(_table(p, contrast, result.frame, densities, against))
    frame = pl.concat(tables).sort(~pl.col("apart").fill_null(value=False), *order(), "set", "against")
    first = ["rank", "set", "against", "rank_in_set"]
    frame = frame.with_row_index("rank", offset=1).with_columns(
        rank_in_set=pl.int_range(1, pl.len() + 1, dtype=pl.UInt32).over("set", "against")
    )
    return ManyResult(
        frame=frame.select(*first, pl.exclude(first)),
        parameters=_parameters(p, against, asked, results, n_tests),
        notes=(*notes, *_notes(p, contrasts, frame, terms, n_tests)),
        documents=p,
        against=against,
        comparisons=tuple((contrast.one, contrast.other) for contrast in contrasts),
        options=asked,
        results=results,
        groups=groups,
        n_tested=n_tests,
        alpha=asked.alpha,
    )


def _table(p: Partition, contrast: Contrast, frame: pl.DataFrame, densities: np.ndarray, against: str) -> pl.DataFrame:
    """The rows of one comparison with what all sets show of their leading latents."""
    lead = contrast.c.leads()[contrast.frame["group"].to_numpy()]
    own, delta = densities[:, lead], frame["delta"].to_numpy()
    found = np.flatnonzero(frame["finding"].to_numpy()) if against == "rest" else np.empty(0, dtype=np.int64)
    holds = np.full(frame.height, None)
    holds[found] = _holds_against(p, contrast, lead[found], delta[found])
    others = _others(p, contrast.one, own, delta) if against == "rest" else [None] * 3
    return (
        frame.drop("rank")
        .with_columns(
            pl.Series("densities", own.T.tolist(), dtype=pl.List(pl.Float64)),
            *(
                pl.lit(value).cast(dtype).alias(name)
                for (name, dtype), value in zip(_OTHERS.items(), others, strict=True)
            ),
            pl.Series("holds_against", holds.tolist(), dtype=pl.Int64),
            set=pl.lit(contrast.key[0]),
            against=pl.lit(contrast.key[1]),
        )
        .with_columns(apart=pl.col("holds_against") == len(p.names) - 1)
    )


_OTHERS = {"others_low": pl.Float64, "others_high": pl.Float64, "nearest": pl.String}


def _others(p: Partition, one: int, densities: np.ndarray, delta: np.ndarray) -> list[pl.Series]:
    """Of the sets but `one`: the least and largest of `densities` [sets, rows], and the set most in the way."""
    others = np.delete(densities, one, axis=0)
    gap = densities[one] - others
    nearest = np.argmin(np.where(delta == 0, np.abs(gap), np.sign(delta) * gap), axis=0)
    names = np.delete(np.array(p.names, dtype=object), one)
    return [pl.Series(others.min(axis=0)), pl.Series(others.max(axis=0)), pl.Series(names[nearest], dtype=pl.String)]


def _holds_against(p: Partition, contrast: Contrast, latents: np.ndarray, delta: np.ndarray) -> np.ndarray:
    """From how many other sets the set differs by itself, as `delta` says, in each of these latents."""
    holds = np.zeros(len(latents), dtype=np.int64)
    if not len(latents):
        return holds
    X, options = csr_array(p.m.X[:, latents]), contrast.options
    cluster = None if options.cluster_on is None else clusters(p.m, p.m.take_docs([]), options.cluster_on, ("", ""))
    own = p.rows(contrast.one)
    for other in range(len(p.names)):
        if other != contrast.one:
            rows = p.rows(other)
            both = None if cluster is None else cluster[np.concatenate([own, rows])]
            c = compare(Sets(X[own], X[rows], cluster=both), alone(len(latents)), options.alpha)
            holds += (c.p < options.alpha) & (np.sign(c.delta) == np.sign(delta))
    return holds


def _parameters(p: Partition, against: str, asked: Options, results: _Results, n_tests: int) -> dict[str, Any]:
    return {
        "encoder": p.m.source.encoder,
        "by": p.by,
        "sets": list(p.names),
        "documents": p.sizes.tolist(),
        "against": against,
        "comparisons": len(results),
        "pair_on": asked.pair_on,
        "cluster_on": asked.cluster_on,
        "adjust": list(asked.adjust),
        "alpha": asked.alpha,
        "correction": "Benjamini-Hochberg over all comparisons",
        "grouped": asked.group,
        "concepts": p.m.n_concepts,
        "tests": n_tests,
    }


def _notes(
    p: Partition, contrasts: list[Contrast], frame: pl.DataFrame, terms: Mapping[Any, list[str]], n_tests: int
) -> list[str]:
    notes = [f"q is corrected for {count(n_tests, 'test')}, those of {count(len(contrasts), 'comparison')} together."]
    left_out = [note for contrast in contrasts for note in contrast.options.notes]
    if len(left_out) > NAMED:
        left_out = [f"{len(left_out)} sentences on documents left out are in the notes of the single comparisons."]
    notes += left_out
    notes += notes_on_power(contrasts, n_tests)
    plain = [" against ".join(key) for key, names in terms.items() if LENGTH not in names]
    if plain and "n_units" in p.m.docs.columns:
        why = "as their documents are hardly ever as long as each other"
        notes.append(f"Not adjusted for length, {why}: {listed(plain)}.")
    return notes + _notes_on_findings(frame)


def _notes_on_findings(frame: pl.DataFrame) -> list[str]:
    found = frame.filter("finding")
    of = f"Of {count(found.height, 'finding')},"
    notes = []
    if pooled := int((~found["apart"]).sum()):
        notes.append(
            f"{of} {pooled:,} may come of one other set in the rest: the column apart marks those that hold against "
            "each other set by itself."
        )
    return notes + notes_on_explained(found)
