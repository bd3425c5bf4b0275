"""What `cluster` returns."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from saelens_data.cluster.axis import Axis
from saelens_data.cluster.coordinates import Coordinates
from saelens_data.cluster.hierarchy import MergeTree
from saelens_data.cluster.methods import Clusters
from saelens_data.cluster.saved import SavedClusters
from saelens_data.display import table
from saelens_data.display.table import Column, Shown
from saelens_data.evidence import around
from saelens_data.matrix import ConceptMatrix
from saelens_data.results import Result
from saelens_data.wording import count, share

#: Clusters that a notebook shows, and concepts of each.
_ROWS, _NAMED = 30, 4


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ClusterResult(Result):
    """The outcome of `cluster`. `frame` holds one row for each cluster, the largest first.

    Columns: `cluster` (from 0), `name`, `size` (documents), `share` (of those assigned), `stability` (Jaccard index
    with the cluster most like it when documents are drawn again), `membership` (its mean), `concepts` and `latents`
    (the first, ten at most, that set it apart; null where none passes the test), `apart` (how many these are), and
    `central` (the document nearest to its centre). Of a known axis also `nearest` and `nearest_share`: the value that
    most of its documents are nearest to, by contrast texts, and how many these are.
    """

    kind: str = "cluster"
    m: ConceptMatrix
    #: Which concepts were chosen, and what was taken out.
    axis: Axis
    coordinates: Coordinates
    #: Labels, membership and centres over `coordinates.rows`.
    clusters: Clusters
    #: One row for each document: `doc_id`, `cluster` and `membership`; cluster null and membership 0 for unassigned.
    assignments: pl.DataFrame
    #: One row for each concept listed of a cluster, see `docs/cluster.md`.
    concepts: pl.DataFrame
    #: Central and border documents with the words that count.
    examples: pl.DataFrame
    #: stability, silhouette, agreement and leakage; see `docs/cluster.md`.
    quality: Mapping[str, Any]
    tree: MergeTree
    #: For k = "auto": a row for each k that was tried.
    curve: pl.DataFrame | None = None

    @property
    def k(self) -> int:
        """Number of clusters."""
        return self.clusters.k

    @property
    def names(self) -> list[str]:
        """The clusters' names."""
        return list(self.frame["name"])

    @property
    def unassigned(self) -> int:
        """Documents in no cluster."""
        return int(self.assignments["cluster"].null_count())

    def summary(self) -> str:
        """Documents, clusters, how they were made and how far they come again, in two sentences."""
        n, out = self.assignments.height, self.unassigned
        left = f"; {count(out, 'document')} ({share(out / n)}) unassigned" if out else ""
        again = self.quality["stability"]
        return (
            f"{count(n - out, 'document')} in {count(self.k, 'cluster')} by {self.axis.n:,} concepts "
            f"({self.parameters['method']}){left}. Made again of {share(self.parameters['drawn'])} of them, the "
            f"clusters agree at {again:.2f} (ARI; 1 is the same, 0 chance)."
        )

    def _shown(self) -> Shown:
        central = self.examples.filter(kind="central").unique("cluster", keep="first", maintain_order=True)
        texts = {row["cluster"]: around(row, "evidence") for row in central.iter_rows(named=True)}
        return Shown.of(
            self.frame,
            Column("", "cluster", right=True),
            Column("name", "name"),
            Column("documents", "share", said=lambda row: f"{row['size']:,}", scale=table.from_zero),
            Column("comes again", "stability", table.two_places, scale=table.shares),
            Column("set apart by", lambda row: "; ".join((row["concepts"] or [])[:_NAMED]) or None),
            Column(
                "nearest to",
                lambda row: f"{row['nearest']} ({share(row['nearest_share'])})" if row.get("nearest") else None,
            ),
            Column("central document", lambda row: texts.get(row["cluster"])),
            most=_ROWS,
            noun="cluster",
        )

    def cut(self, k: int) -> pl.DataFrame:
        """`assignments` with the clusters merged to `k`. Raises ValueError for a k below 1 or above the clusters."""
        merged = self.tree.cut(k)
        code = self.assignments["cluster"]
        known = code.is_not_null().to_numpy()
        coarse = np.where(known, merged[code.fill_null(0).to_numpy()], -1)
        series = pl.Series("cluster", coarse, dtype=pl.Int32)
        return self.assignments.with_columns(cluster=pl.when(series >= 0).then(series))

    def save_clusters(self, path: str | os.PathLike[str]) -> Path:
        """Keep the clusters in a .safetensors file, for `assign`. Raises InputError where it cannot be written."""
        return SavedClusters.of(self).save(Path(path))

    def plot(self, colour: str | None = None) -> Any:
        """A map of the documents by their first two components, as an Altair chart; coloured by cluster or a column.

        At most 5,000 documents are drawn. Raises MissingExtraError without Altair, InputError for an unknown column.
        """
        from saelens_data.cluster.plot import scatter  # noqa: PLC0415

        return scatter(self, colour)

    def quality_in_words(self) -> list[str]:
        """Sentences on how far apart the clusters are, what they agree with, and what they give away."""
        q, asked = self.quality, self.parameters
        said = []
        if at := q.get("halves"):
            tried = [] if self.curve is None else self.curve["k"].to_list()
            how = f"{self.k} clusters were chosen of {tried[0]} to {tried[-1]}: made" if tried else "Made"
            said.append(
                f"{how} of two halves they agree at {at['stability']:.2f} (ARI), in data without clusters at "
                f"{at['null']:.2f}."
            )
        if not math.isnan(q["silhouette"]):  # as it is where every document is a cluster by itself
            said += [f"Silhouette in concept space {q['silhouette']:.2f} (1 well apart, 0 touching)."]
        if truth := q.get("truth"):
            said.append(
                f"Agreement with '{asked['truth']}' ({count(truth.values, 'value')}): accuracy {truth.accuracy:.3f} "
                f"(clusters and values matched one to one), NMI {truth.nmi:.3f}, ARI {truth.ari:.3f}."
            )
        if leak := q.get("leakage"):
            before = q.get("leakage_before")
            was = f"; with nothing left out {before.gain:.3f} (NMI {before.nmi:.3f})" if before else ""
            said.append(
                f"Leakage of '{asked['leakage']}': {leak.gain:.3f} (0 none, 1 all; NMI {leak.nmi:.3f}){was}. The most "
                f"frequent value of each cluster is right for {share(leak.predicted)} of documents, that of all for "
                f"{share(leak.majority)}."
            )
        for name, left in q.get("left_out", {}).items():
            said.append(
                f"Of '{name}', which was left out, {_part(left['explained'])} of the variance still lies between "
                f"clusters; with nothing left out {_part(left['explained_before'])}."
            )
        return said


def _part(value: float) -> str:
    return "none" if np.isnan(value) else share(value)
