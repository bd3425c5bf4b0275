"""What `correlate` returns: pairs, the groups they make, and the documents behind them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl

from saelens_data.correlate.scan import Problem
from saelens_data.display import table
from saelens_data.display.table import Column, Shown
from saelens_data.errors import InputError
from saelens_data.results import Result
from saelens_data.wording import count, p_in_words

#: The cells of a pair's table by name: the first of the two held, the second held.
CELLS: dict[str, tuple[bool, bool]] = {
    "both": (True, True),
    "only_a": (True, False),
    "only_b": (False, True),
    "neither": (False, False),
}


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class CorrelateResult(Result):
    """The outcome of `correlate`, `correlate_with` and `correlate_between`. `frame` holds one row for each finding.

    Ordered by `rank`: groups by their three best pairs, and within a group from the best on. Of the two: `latent_a`,
    `label_a`, `latent_b`, `label_b` (for values of a column `latent_b` is null and `label_b` the value), documents that
    hold each and both, `n_a`, `n_b`, `n_both`. `npmi` (-1 never meet, 1 always, shrunk where documents are few),
    `lift` (times as often as by chance), `p_value` (exact), `q_value` (for all pairs tested), `similarity` (cosine of
    labels, decoder directions or meanings, whichever is largest), `group`. Further `direction` ("together" or "apart"),
    `expected` (what `n_both` would be by chance at equal length), `usual` (what it would be if the two went together as
    they do in ordinary text; null where that is not known), `npmi_low` (NPMI, against what is usual, at the end nearest
    to that of the interval that all pairs have at once), `score` (what they are ranked by: its size, less the more
    similar the two are), `p_length`, `q_length` (at equal length), `b_given_a` and `a_given_b` with 95% intervals,
    `near` (share of meetings beyond chance in which both fire on the same or neighbouring spans), and `third` with
    `third_left`: the concept that takes most of the association, and the share left where it is equal.
    """

    kind: str = "correlate"
    #: The two sides as they were paired; one and the same for pairs of concepts within documents.
    problem: Problem
    #: What to call the sides.
    names: tuple[str, str]
    #: The documents: one row for each row of both sides.
    docs: pl.DataFrame
    #: Pairs tested: what q is corrected for. Pairs there are, and pairs with q < alpha before any filter.
    n_tested: int
    n_pairs: int
    n_significant: int
    #: Name of each filter that was on, in order, and how many it removed of those left.
    removed: Mapping[str, int]
    alpha: float
    #: Places of the two of each row of `frame` in the sides.
    places: np.ndarray

    @property
    def n_groups(self) -> int:
        """Groups of findings."""
        return int(self.frame["group"].n_unique())

    def summary(self) -> str:
        """Documents, pairs, tests and findings in two sentences."""
        found = f"{count(self.frame.height, 'pair')} in {count(self.n_groups, 'group')}"
        return (
            f"{count(self.docs.height, 'document')}: {self.n_tested:,} of {count(self.n_pairs, 'pair')} could reach "
            f"significance and were tested; {self.n_significant:,} have q < {self.alpha:g}. After the filters: {found}."
        )

    def _shown(self) -> Shown:
        one, other = self.names if len(set(self.names)) > 1 else ("concept", "with")
        return Shown.of(
            self.frame,
            Column("#", "rank", right=True),
            Column(one, table.concept("label_a", "latent_a")),
            Column("", "direction"),
            Column(other, table.concept("label_b", "latent_b")),
            Column("both", "n_both", table.number, right=True),
            Column("by chance", "expected", table.number, right=True),
            Column(
                "NPMI, and its end nearest to chance",
                "npmi",
                said=lambda row: f"{row['npmi']:.2f} to {row['npmi_low']:.2f}",
                low="npmi",
                high="npmi_low",
                scale=table.either_way,
                colour=lambda row: int(row["npmi"] < 0),
            ),
            Column("q", "q_value", p_in_words, right=True),
            Column("group", "group", right=True),
            Column("may come of", "third"),
            noun="pair",
        )

    def plot(self, n: int = 30) -> Any:
        """The NPMI of the first `n` pairs, to its end nearest to chance, coloured by group; an Altair chart.

        Raises MissingExtraError without Altair, InputError without rows.
        """
        from saelens_data.display import plots  # noqa: PLC0415

        rows = self.frame.head(n)
        one, other = (plots.named(f"label_{side}", f"latent_{side}") for side in "ab")
        shown = {"npmi_low": "end nearest to chance", "n_both": "documents with both", "expected": "by chance"}
        frame = rows.select(
            plots.numbered(rows, pl.format("{} + {}", one, other), number="rank"),
            "npmi",
            *shown,
            "q_value",
            group=pl.col("group").cast(pl.String),
        )
        return plots.dots(
            frame,
            y="name",
            x="npmi",
            low="npmi",
            high="npmi_low",
            title="NPMI: -1 never meet, 0 as by chance, 1 always",
            tooltip={"name": "pair", "npmi": "NPMI", **shown, "q_value": "q", "group": "group"},
            colour=("group", "group"),
            heading=f"the first {rows.height:,} of {count(self.frame.height, 'pair')}",
        )

    def rows(self, rank: int, cell: str = "both") -> np.ndarray:
        """Row numbers of one cell ("both", "only_a", "only_b", "neither") of the pair at `rank`, ascending.

        Raises InputError for a rank or a cell that is not there.
        """
        if cell not in CELLS:
            raise InputError(f"there is no cell '{cell}': choose one of {', '.join(CELLS)}")
        if not 1 <= rank <= self.frame.height:
            raise InputError(f"there is no pair {rank}: choose one from 1 to {self.frame.height:,}")
        one, other = self.places[rank - 1]
        mask = [np.zeros(self.problem.n, dtype=bool) for _ in range(2)]
        mask[0][self.problem.left.rows(one)] = True
        mask[1][self.problem.right.rows(other)] = True
        in_a, in_b = CELLS[cell]
        return np.flatnonzero((mask[0] == in_a) & (mask[1] == in_b))

    def documents(self, *, groups: int = 10, cell: Literal["both", "only_a", "only_b"] = "both") -> pl.DataFrame:
        """The documents behind the first `groups` groups: all columns of the source, one row for a group's document.

        First come `group`, `rank` (of the group's best pair that the document belongs to), `latent_a`, `label_a`,
        `latent_b`, `label_b` and `cell`.
        """
        parts = []
        taken: dict[int, set[int]] = {}
        chosen = self.frame.filter(pl.col("group") <= groups)
        for row in chosen.iter_rows(named=True):
            seen = taken.setdefault(row["group"], set())
            new = [r for r in self.rows(row["rank"], cell).tolist() if r not in seen]
            seen.update(new)
            about: dict[str, Any] = {key: row[key] for key in ("group", "rank", *_TWO)}
            head = pl.DataFrame([about] * len(new), schema={key: self.frame.schema[key] for key in about})
            parts.append(head.with_columns(cell=pl.lit(cell)).hstack(_renamed(self.docs, head)[new]))
        empty = chosen.clear().select("group", "rank", *_TWO).with_columns(cell=pl.lit(cell))
        return pl.concat(parts) if parts else empty.hstack(_renamed(self.docs, empty).clear())


_TWO = ("latent_a", "label_a", "latent_b", "label_b")


def _renamed(docs: pl.DataFrame, head: pl.DataFrame) -> pl.DataFrame:
    """The documents' columns, those that are called like one of the pair's with a prefix."""
    taken = {*head.columns, "cell"}
    return docs.rename({name: f"document_{name}" for name in docs.columns if name in taken})
