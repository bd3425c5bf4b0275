"""What `cluster` returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from saelens_data.cluster.axis import Axis
from saelens_data.cluster.coordinates import Coordinates
from saelens_data.cluster.hierarchy import MergeTree
from saelens_data.cluster.methods import Clusters
from saelens_data.matrix import ConceptMatrix
from saelens_data.results import Result
from saelens_data.wording import count, share


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ClusterResult(Result):
    """The outcome of `cluster`. `frame` holds one row for each cluster, the largest first.

    Columns: `cluster` (from 0), `name`, `size` (documents), `share` (of those assigned), `stability` (Jaccard index
    with the cluster most like it when documents are drawn again), `membership` (its mean), `concepts` (labels of the
    first that set it apart), `latents` (these), `apart` (how many of those listed pass the test), and `central` (the
    document nearest to its centre).
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

    def cut(self, k: int) -> pl.DataFrame:
        """`assignments` with the clusters merged to `k`. Raises ValueError for a k below 1 or above the clusters."""
        merged = self.tree.cut(k)
        code = self.assignments["cluster"]
        known = code.is_not_null().to_numpy()
        coarse = np.where(known, merged[code.fill_null(0).to_numpy()], -1)
        series = pl.Series("cluster", coarse, dtype=pl.Int32)
        return self.assignments.with_columns(cluster=pl.when(series >= 0).then(series))

    def quality_in_words(self) -> list[str]:
        """Sentences on what the clusters agree with, and what they give away."""
        said = [f"Silhouette in concept space {self.quality['silhouette']:.2f} (1 well apart, 0 touching)."]
        if truth := self.quality.get("truth"):
            said.append(
                f"Agreement with '{self.parameters['truth']}' ({truth.values} values): accuracy {truth.accuracy:.3f} "
                f"(clusters and values matched one to one), NMI {truth.nmi:.3f}, ARI {truth.ari:.3f}."
            )
        return said
