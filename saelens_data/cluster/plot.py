"""A small map of clusters for notebooks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from saelens_data.display import plots
from saelens_data.errors import InputError, choices

if TYPE_CHECKING:
    from saelens_data.cluster.result import ClusterResult

#: Documents drawn, and characters of a text shown beside a point.
_MOST, _CHARS = 5_000, 160


def points(result: ClusterResult, colour: str | None = None) -> pl.DataFrame:
    """What the map shows: `x`, `y`, `doc_id`, `colour` and `text` of at most 5,000 assigned documents."""
    m, placed = result.m, result.coordinates
    if colour is not None and colour not in m.docs.columns:
        raise InputError(f"there is no column '{colour}' to colour by; {choices(colour, m.docs.columns)}")
    part = np.arange(placed.n)
    if placed.n > _MOST:
        part = np.sort(np.random.default_rng(0).choice(placed.n, _MOST, replace=False))
    rows, P = placed.rows[part], placed.P[part]
    names = [*result.names, "unassigned"]
    by = [names[label] for label in result.clusters.labels[part]] if colour is None else m.docs[colour][rows]
    frame = pl.DataFrame({"x": P[:, 0], "y": P[:, min(1, P.shape[1] - 1)], "doc_id": m.docs["doc_id"][rows]})
    frame = frame.with_columns(pl.Series("colour", by).cast(pl.String))
    text = m.docs["text"][rows].str.head(_CHARS) if "text" in m.docs.columns else pl.lit(None, pl.String)
    return frame.with_columns(text=text)


def scatter(result: ClusterResult, colour: str | None = None) -> Any:
    """The map as an Altair chart. Raises MissingExtraError without Altair."""
    titles = ("first component", "second component")
    return plots.scatter(points(result, colour), x="x", y="y", colour=("colour", colour or "cluster"), titles=titles)
