"""Documents that show what a cluster is: the most central ones, and those on the border with another."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from saelens_data.cluster.methods import Clusters, distances
from saelens_data.evidence import Span, evidence_for, passage
from saelens_data.matrix import ConceptMatrix

#: Documents of either kind for each cluster, and characters shown of a text.
SHOWN, CHARS = 3, 300


def example_documents(
    m: ConceptMatrix, Z: np.ndarray, rows: np.ndarray, clusters: Clusters, concepts: pl.DataFrame, *, n: int = SHOWN
) -> pl.DataFrame:
    """Of each cluster the `n` documents nearest to its centre, and the `n` with the least membership.

    `Z`, `rows` and `clusters` are of the same documents. Columns: `cluster`, `kind` ("central" or "border"), `doc_id`,
    `membership`, `next` (the other cluster that is nearest), and of the text around the first of the cluster's concepts
    that is active there `before`, `evidence`, `after`, with the offsets `start` and `end` and its `latent`.
    """
    far = distances(Z, clusters.centres)
    picked = []
    for cluster in range(clusters.k):
        own = np.flatnonzero(clusters.labels == cluster)
        central = own[np.argsort(far[own, cluster], kind="stable")[:n]]
        rest = np.setdiff1d(own, central)
        border = rest[np.argsort(clusters.membership[rest], kind="stable")[:n]]
        picked += [(cluster, "central", at) for at in central] + [(cluster, "border", at) for at in border]
    shown = {
        cluster: concepts.filter(pl.col("cluster") == cluster)["latent"].to_list() for cluster in range(clusters.k)
    }
    lines = []
    for cluster, kind, at in picked:
        others = far[at].copy()
        others[cluster] = np.inf
        row = int(rows[at])
        lines.append(
            {
                "cluster": cluster,
                "kind": kind,
                "doc_id": m.docs["doc_id"][row],
                "membership": float(clusters.membership[at]),
                "next": int(others.argmin()) if clusters.k > 1 else None,
                **_words(m, row, shown[cluster]),
            }
        )
    return pl.DataFrame(lines, schema=SCHEMA)


SCHEMA = {
    "cluster": pl.Int32,
    "kind": pl.String,
    "doc_id": pl.String,
    "membership": pl.Float32,
    "next": pl.Int32,
    "latent": pl.Int32,
    "start": pl.Int32,
    "end": pl.Int32,
    "before": pl.String,
    "evidence": pl.String,
    "after": pl.String,
}


def _words(m: ConceptMatrix, row: int, latents: list[int]) -> dict[str, Any]:
    """The text of a document around the first of `latents` that is active in it; its beginning where none is."""
    text = m.docs["text"][row] if "text" in m.docs.columns else None
    span, found = None, None
    if m.evidence is not None:
        for latent in latents:
            if spans := evidence_for(m, latent, [row]):
                span, found = spans[0], latent
                break
    place: dict[str, Any] = {"latent": found, "start": span.start, "end": span.end} if isinstance(span, Span) else {}
    if text is None:
        return place
    part = passage(text, span, chars=CHARS)
    return {**place, "before": part.before, "evidence": part.evidence, "after": part.after}
