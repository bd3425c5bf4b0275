"""What the clusters still say of an axis that was to be left out, and what they would say without leaving it out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from saelens_data.cluster.quality import explained
from saelens_data.cluster.subtract import Unwanted
from saelens_data.matrix import ConceptMatrix


def unwanted_scores(m: ConceptMatrix, unwanted: Unwanted) -> np.ndarray:
    """Where each document lies along an axis, by the means of all its concepts, [documents, r] float64."""
    mean = m if m.evidence is None else m.pooled("mean")
    return np.asarray(mean.X @ unwanted.along.astype(np.float64))


def left_out(
    m: ConceptMatrix, unwanted: Sequence[Unwanted], labels: np.ndarray, before: np.ndarray
) -> dict[str, dict[str, float]]:
    """Of each unwanted axis the share of its scores' variance that lies between clusters, beyond chance.

    `explained` with the clusters `labels` [documents], and `explained_before` with those, `before` [documents], that
    come about when nothing is left out. See `quality.explained`.
    """
    found = {}
    for one in unwanted:
        scores = unwanted_scores(m, one)
        found[one.name] = {"explained": explained(scores, labels), "explained_before": explained(scores, before)}
    return found
