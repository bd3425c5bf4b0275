"""`cluster` as a scikit-learn estimator, for people's pipelines and searches over parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Self

import numpy as np
import polars as pl
from sklearn.base import BaseEstimator, ClusterMixin

from saelens_data.cluster.methods import Method
from saelens_data.cluster.run import cluster
from saelens_data.cluster.saved import assign
from saelens_data.matrix import ConceptMatrix


class ConceptClusterer(ClusterMixin, BaseEstimator):  # type: ignore[misc]
    """Groups documents by the concepts of an axis. Parameters are those of `cluster`; X is a ConceptMatrix.

    After `fit`: `labels_` [documents] int64, -1 for unassigned; `cluster_centers_` [clusters, r]; `n_clusters_`; and
    `result_`, the ClusterResult.
    """

    def __init__(
        self,
        k: int | Literal["auto"] | None = 8,
        *,
        by: str | Sequence[str] | None = None,
        concepts: str | None = None,
        without: str | Sequence[str] | None = None,
        latents: pl.DataFrame | None = None,
        keep_languages: bool = False,
        method: Method = "kmeans",
        least: int | None = None,
        pooling: Literal["mean", "max"] = "mean",
        seed: int = 0,
    ) -> None:
        self.k = k
        self.by = by
        self.concepts = concepts
        self.without = without
        self.latents = latents
        self.keep_languages = keep_languages
        self.method = method
        self.least = least
        self.pooling = pooling
        self.seed = seed

    def fit(self, X: ConceptMatrix, y: Any = None) -> Self:  # noqa: ARG002
        """Group the documents of a matrix. Raises InputError for what `cluster` refuses."""
        self.result_ = cluster(X, **self.get_params(deep=False))
        self.labels_ = _labels(self.result_.assignments)
        self.cluster_centers_ = self.result_.clusters.centres
        self.n_clusters_ = self.result_.k
        return self

    def predict(self, X: ConceptMatrix) -> np.ndarray:
        """The cluster of each document of another matrix of the same encoder, [documents] int64, -1 for unassigned."""
        from sklearn.utils.validation import check_is_fitted  # noqa: PLC0415

        check_is_fitted(self, "result_")
        return _labels(assign(self.result_, X).frame)


def _labels(frame: pl.DataFrame) -> np.ndarray:
    return frame["cluster"].fill_null(-1).to_numpy().astype(np.int64)
