"""What the clusters still say of an axis that was to be left out, and what they would say without leaving it out."""

from __future__ import annotations

from typing import Any

import numpy as np

from saelens_data.cluster.quality import explained
from saelens_data.encoders import decoder_directions
from saelens_data.matrix import ConceptMatrix


def removed_scores(m: ConceptMatrix, removed: np.ndarray) -> np.ndarray | None:
    """Where each document lies along removed directions [r, dim]: all of its concepts' means, [documents, r] float64.

    None where the decoder is not at hand.
    """
    W = decoder_directions(m.source)
    if W is None:
        return None
    along = W[m.concepts["latent"].to_numpy()][:, : removed.shape[1]] @ removed.T
    mean = m if m.evidence is None else m.pooled("mean")
    return np.asarray(mean.X @ along.astype(np.float64))


def left_out(m: ConceptMatrix, removed: np.ndarray, labels: np.ndarray, before: np.ndarray) -> dict[str, Any] | None:
    """Share of the variance along the removed directions that lies between clusters, beyond chance: now, and before.

    `labels` and `before` [documents] are the clusters with the axis left out and without that. See `quality.explained`.
    """
    scores = removed_scores(m, removed)
    if scores is None:
        return None
    return {
        "directions": len(removed),
        "explained": explained(scores, labels),
        "explained_before": explained(scores, before),
    }
