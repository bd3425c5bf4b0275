"""The tree in which clusters merge: from the clusters found, two at a time, to one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl


@dataclass(frozen=True, eq=False)
class MergeTree:
    """Ward's merges of clusters. `merges` [clusters - 1, 4] float64 is a linkage as scipy.cluster.hierarchy has it.

    Rows are (one, other, height, documents): the nodes 0 to k - 1 are the clusters, node k + i is what row i makes. The
    height is the root of twice the sum of squares that the merge adds: for single documents it is their distance.
    """

    merges: np.ndarray

    @property
    def k(self) -> int:
        """Number of clusters at the leaves."""
        return len(self.merges) + 1

    def cut(self, k: int) -> np.ndarray:
        """The coarser cluster, from 0, of each of the clusters when the tree is cut into `k`; the largest come first.

        Raises ValueError unless 1 <= k <= the number of clusters.
        """
        if not 1 <= k <= self.k:
            raise ValueError(f"a tree of {self.k} clusters cannot be cut into {k}")
        parent = np.arange(2 * self.k - 1)
        for i, (one, other, _, _) in enumerate(self.merges[: self.k - k]):
            parent[[int(one), int(other)]] = self.k + i
        top = parent[: self.k]
        while (parent[top] != top).any():
            top = parent[top]
        _, first, code = np.unique(top, return_index=True, return_inverse=True)
        return np.asarray(np.argsort(np.argsort(first))[code], dtype=np.int64)

    def table(self) -> pl.DataFrame:
        """One row for each merge: node, one, other, height, documents."""
        schema = {"node": pl.Int32, "one": pl.Int32, "other": pl.Int32, "height": pl.Float64, "documents": pl.Int64}
        nodes = np.arange(self.k, 2 * self.k - 1)[:, None]
        return pl.DataFrame(np.hstack([nodes, self.merges]), schema=list(schema), orient="row").cast(schema)  # type: ignore[arg-type]

    def order(self) -> np.ndarray:
        """The clusters so that those which merge early stand together, as a dendrogram draws them, [clusters]."""
        leaves: dict[int, list[int]] = {i: [i] for i in range(self.k)}
        for i, (one, other, _, _) in enumerate(self.merges):
            leaves[self.k + i] = leaves.pop(int(one)) + leaves.pop(int(other))
        return np.array(leaves[2 * self.k - 2], dtype=np.int64)


def merge_tree(centres: np.ndarray, sizes: np.ndarray) -> MergeTree:
    """Merge clusters with these `centres` [k, r] and `sizes` [k] so that the sum of squares grows least (Ward 1963).

    By the recurrence of Lance & Williams with the sizes at the leaves, which scipy's linkage takes as 1 each:
    a merge of clusters of n and m documents adds n m / (n + m) times the squared distance of their centres.
    """
    k, at = len(centres), centres.astype(np.float64)
    size, node = sizes.astype(np.float64), np.arange(k)
    alive, merges = np.ones(k, dtype=bool), np.empty((k - 1, 4))
    cost = np.array([_costs(at, size, i) for i in range(k)])
    for i in range(k - 1):
        open_ = np.where(alive[:, None] & alive[None, :] & ~np.eye(k, dtype=bool), cost, np.inf)
        one, other = sorted(divmod(int(open_.argmin()), k), key=lambda place: node[place])
        n = size[one] + size[other]
        merges[i] = node[one], node[other], np.sqrt(2 * cost[one, other]), n
        at[one], size[one], node[one] = (size[one] * at[one] + size[other] * at[other]) / n, n, k + i
        alive[other] = False
        cost[one] = cost[:, one] = _costs(at, size, one)
    return MergeTree(merges)


def _costs(at: np.ndarray, size: np.ndarray, i: int) -> np.ndarray:
    """What merging cluster i with each adds to the sum of squares, [clusters]."""
    return np.asarray(size * size[i] / (size + size[i]) * ((at - at[i]) ** 2).sum(axis=1))
