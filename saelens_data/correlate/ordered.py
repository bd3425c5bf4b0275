"""Concepts with an ordered column: whether documents that hold them have higher or lower values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

import numpy as np
import polars as pl
from scipy.sparse import csr_array
from scipy.stats import rankdata

from saelens_data import stats
from saelens_data.correlate.groups import group_sets
from saelens_data.correlate.pairs import Options
from saelens_data.correlate.scan import EVERYWHERE
from saelens_data.correlate.sides import Side
from saelens_data.display import table
from saelens_data.display.table import Column, Shown
from saelens_data.errors import InputError
from saelens_data.matrix import ConceptMatrix
from saelens_data.results import Result
from saelens_data.stats.strength import auc_interval
from saelens_data.stats.trend import trend_law
from saelens_data.wording import count, p_in_words


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class OrderedResult(Result):
    """The outcome of `correlate_with` for an ordered column. `frame` holds one row for each finding.

    `rank`, `latent`, `label`, `n` (documents that hold it), `auc` (chance that of a document with the concept and one
    without the first has the higher value, ties half) with its 95% interval `auc_low`, `auc_high`; `mean_with`,
    `mean_without` (null for dates); `p_value`, `q_value`; `p_length`, `q_length` (at equal length); `group`,
    `direction` ("higher" or "lower"). Groups are of concepts that are found in the same documents; the strongest, by
    the end of the interval nearest to one half, comes first.
    """

    kind: str = "correlate_with"
    column: str
    side: Side
    docs: pl.DataFrame
    #: Values in their order, [documents] float64.
    values: np.ndarray
    #: Documents of like length have one number, [documents]; zeros where length is not to matter.
    stratum: np.ndarray
    n_tested: int
    n_significant: int
    removed: Mapping[str, int]
    alpha: float
    places: np.ndarray

    @property
    def n_groups(self) -> int:
        """Groups of findings."""
        return int(self.frame["group"].n_unique())

    def summary(self) -> str:
        """Documents, tests and findings in two sentences."""
        found = f"{count(self.frame.height, 'concept')} in {count(self.n_groups, 'group')}"
        return (
            f"{count(self.docs.height, 'document')}: {self.n_tested:,} concepts could reach significance with "
            f"'{self.column}' and were tested; {self.n_significant:,} have q < {self.alpha:g}. "
            f"After the filters: {found}."
        )

    def _shown(self) -> Shown:
        return Shown.of(
            self.frame,
            Column("#", "rank", right=True),
            Column("concept", table.concept()),
            Column("documents", "n", table.number, right=True),
            Column(
                f"chance of the higher '{self.column}'",
                "auc",
                table.two_places,
                low="auc_low",
                high="auc_high",
                scale=table.about(0.5),
                colour=lambda row: int(row["auc"] < 0.5),
            ),
            Column("mean with it", "mean_with", table.number, right=True),
            Column("without", "mean_without", table.number, right=True),
            Column("q", "q_value", p_in_words, right=True),
            Column("group", "group", right=True),
            noun="concept",
        )

    def plot(self, n: int = 30) -> Any:
        """The chance that a document with the concept has the higher value, of the first `n`; an Altair chart.

        Raises MissingExtraError without Altair, InputError without rows.
        """
        from saelens_data.display import plots  # noqa: PLC0415

        rows = self.frame.head(n)
        shown = {"auc_low": "95% interval from", "auc_high": "to", "n": "documents", "q_value": "q"}
        frame = rows.select(plots.numbered(rows, plots.named(), number="rank"), "latent", "auc", *shown, "direction")
        return plots.dots(
            frame,
            y="name",
            x="auc",
            low="auc_low",
            high="auc_high",
            title=f"chance that '{self.column}' is higher in a document with the concept",
            tooltip={"name": "concept", "latent": "latent", "auc": "chance", **shown},
            colour=("direction", f"'{self.column}'"),
            order=[way for way in ("higher", "lower") if way in frame["direction"]],
            zero=0.5,
            heading=f"the first {rows.height:,} of {count(self.frame.height, 'concept')}",
        )

    def rows(self, rank: int) -> np.ndarray:
        """The documents that hold the concept at `rank`, the values that it goes with first. Raises InputError."""
        if not 1 <= rank <= self.frame.height:
            raise InputError(f"there is no finding {rank}: choose one from 1 to {self.frame.height:,}")
        rows = self.side.rows(int(self.places[rank - 1]))
        sign = -1 if self.frame["direction"][rank - 1] == "higher" else 1
        return np.asarray(rows[np.argsort(sign * self.values[rows], kind="stable")])

    def documents(self, *, groups: int = 10) -> pl.DataFrame:
        """The documents that hold the concepts of the first `groups` groups, with all columns of the source."""
        parts = []
        first = self.frame.filter(pl.col("group") <= groups).unique("group", keep="first", maintain_order=True)
        for row in first.iter_rows(named=True):
            rows = self.rows(row["rank"])
            about = {key: row[key] for key in ("group", "rank", "latent", "label", "direction")}
            head = pl.DataFrame([about] * len(rows), schema={key: self.frame.schema[key] for key in about})
            docs = self.docs.rename({name: f"document_{name}" for name in self.docs.columns if name in about})
            parts.append(head.hstack(docs[rows]))
        return pl.concat(parts) if parts else self.docs.clear()


@dataclass(frozen=True, eq=False)
class Tests:
    """Each concept against an ordered column, [concepts]: over all documents, and at equal length."""

    tested: np.ndarray
    p: np.ndarray
    p_within: np.ndarray
    #: Whether the sign is the same at equal length.
    same: np.ndarray

    @property
    def p_length(self) -> np.ndarray:
        """The larger of the two; 1 where the sign turns."""
        return np.asarray(np.where(self.same, np.maximum(self.p_within, self.p), 1.0))

    @property
    def q(self) -> np.ndarray:
        """Corrected for all that could be found."""
        return _q(self.p, self.tested)

    @property
    def q_length(self) -> np.ndarray:
        """The same at equal length."""
        return _q(self.p_length, self.tested)


def tests_of(side: Side, values: np.ndarray, stratum: np.ndarray, alpha: float) -> Tests:
    """Test every concept against the ranks of the values: Wilcoxon's rank sum, its p from `stats.Permutation`.

    At equal length documents change places within strata: the sums of the strata are independent, and their laws add.
    """
    held = side.held.astype(np.float32)
    law = trend_law(held, rankdata(values))
    within = _within(held, values, stratum) if stratum.any() else law
    same = np.sign(within.observed) == np.sign(law.observed)
    return Tests(law.least_p() < alpha, law.p_value(0.0), within.p_value(0.0), same)


def correlate_ordered(
    m: ConceptMatrix,
    column: str,
    values: pl.Series,
    stratum: np.ndarray,
    options: Options,
    about: Mapping[str, Any],
) -> OrderedResult:
    """Test every concept against the ranks of the values, and sift."""
    filters = options.filters()
    side, number = Side.of_concepts(m), values.to_numpy().astype(np.float64)
    tests = tests_of(side, number, stratum, options.alpha)
    q, q_length, tested = tests.q, tests.q_length, tests.tested
    keep, removed = q < options.alpha, {}
    drops = {
        "few": side.support < options.min_documents,
        "everywhere": side.support > EVERYWHERE * m.n_docs,
        "length": q_length >= options.alpha,
    }
    n_significant = int(keep.sum())
    turned = int((keep & ~tests.same & (tests.p_within < options.alpha / max(int(tested.sum()), 1))).sum())
    for name, drop in drops.items():
        if name in filters:
            removed[name], keep = int((keep & drop).sum()), keep & ~drop
    if turned:
        options.notes.append(
            f"Simpson's paradox: {count(turned, 'concept')} turn their sign in documents of equal length; left out."
        )
    places, frame = _table(side, rankdata(number), number, values, np.flatnonzero(keep))
    numbers = {"p_value": tests.p, "q_value": q, "p_length": tests.p_length, "q_length": q_length}
    frame = frame.with_columns(pl.Series(name, x[places]) for name, x in numbers.items())
    return OrderedResult(
        frame=frame.select(*_ORDER),
        parameters={
            **about,
            "documents": m.n_docs,
            "tests": int(tested.sum()),
            "filters": [name for name in drops if name in filters],
            "alpha": options.alpha,
        },
        notes=tuple(options.notes),
        column=column,
        side=side,
        docs=m.docs,
        values=number,
        stratum=stratum,
        n_tested=int(tested.sum()),
        n_significant=n_significant,
        removed=removed,
        alpha=options.alpha,
        places=places,
    )


_ORDER = (
    *("rank", "latent", "label", "n", "auc", "auc_low", "auc_high", "mean_with", "mean_without"),
    *("p_value", "q_value", "group", "direction", "p_length", "q_length"),
)


def _within(held: csr_array, number: np.ndarray, stratum: np.ndarray) -> stats.Permutation:
    parts = [np.flatnonzero(stratum == s) for s in range(int(stratum.max()) + 1)]
    return reduce(add, (trend_law(csr_array(held[rows]), rankdata(number[rows])) for rows in parts))


def _q(p: np.ndarray, tested: np.ndarray) -> np.ndarray:
    q = np.ones(len(p))
    q[tested] = stats.benjamini_hochberg(p[tested])
    return q


def _table(
    side: Side, rank: np.ndarray, number: np.ndarray, values: pl.Series, places: np.ndarray
) -> tuple[np.ndarray, pl.DataFrame]:
    n_docs, n = len(rank), side.support[places]
    sums = np.array([rank[side.rows(k)].sum() for k in places.tolist()])
    auc = (sums - n * (n + 1) / 2) / np.maximum(n * (n_docs - n), 1)
    low, high = auc_interval(auc, n, n_docs - n)
    least = np.where(auc > 0.5, low - 0.5, 0.5 - high)
    order = np.lexsort((places, -least))
    group = group_sets([side.rows(k) for k in places[order].tolist()], n_docs, (auc > 0.5)[order])
    order = order[np.lexsort((np.arange(len(order)), group))]
    group = np.sort(group)
    places, auc, low, high, n = (x[order] for x in (places, auc, low, high, n))
    total = np.array([number[side.rows(k)].sum() for k in places.tolist()])
    m = side.m
    assert m is not None
    dates = pl.Series([None] * len(places), dtype=pl.Float64)
    return (
        places,
        pl.DataFrame(
            {
                "rank": np.arange(1, len(places) + 1, dtype=np.uint32),
                "latent": m.concepts["latent"].gather(side.columns[places]),
                "label": side.names.gather(places),
                "n": n,
                "auc": auc,
                "auc_low": low,
                "auc_high": high,
                "mean_with": total / np.maximum(n, 1) if values.dtype == pl.Float64 else dates,
                "mean_without": (number.sum() - total) / np.maximum(n_docs - n, 1),
                "group": (group + 1).astype(np.uint32),
                "direction": np.where(auc > 0.5, "higher", "lower"),
            }
        ),
    )
