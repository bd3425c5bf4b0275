"""The axis that documents are grouped along: which concepts count, how much, and what is taken out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import polars as pl

from saelens_data.cluster.subtract import Unwanted
from saelens_data.errors import InputError
from saelens_data.matrix import ConceptMatrix

#: Where documents are placed: by what the chosen concepts make of the reader's space, by the concepts themselves, or by
#: the graph of documents and concepts.
Space = Literal["reconstruction", "svd", "graph"]


@dataclass(frozen=True, eq=False)
class Axis:
    """Chosen concepts of a matrix.

    `columns` [n] int64, their positions in the matrix' concepts, ascending; `weights` [n] float32 > 0, how much each
    counts beside what its variance says. `table` has a row for each: latent, label, weight, density, why.
    `unwanted`: what is taken out; `space`: where these concepts are best looked at, None for no opinion. `within` [r,
    dim] float32: orthonormal directions, along which alone a reconstruction looks; None for all.
    `values` of a known axis, and `nearest` [documents] int64, the one each document is nearest to; None for other axes.
    `notes`: how the choice came about, in sentences. `before`: the same axis with nothing left out; None for itself.
    """

    columns: np.ndarray
    weights: np.ndarray
    table: pl.DataFrame
    unwanted: tuple[Unwanted, ...] = ()
    space: Space | None = None
    within: np.ndarray | None = None
    values: tuple[str, ...] = ()
    nearest: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    before: Axis | None = None

    @property
    def n(self) -> int:
        """Number of chosen concepts."""
        return len(self.columns)

    @cached_property
    def removed(self) -> np.ndarray | None:
        """Orthonormal directions [r, dim] float32 that are projected out of what the chosen concepts write."""
        spans = [one.directions for one in self.unwanted if one.directions is not None and len(one.directions)]
        if not spans:
            return None
        _, lengths, directions = np.linalg.svd(np.concatenate(spans), full_matrices=False)
        return np.asarray(directions[lengths > 1e-3 * lengths[0]], dtype=np.float32)


def all_concepts(m: ConceptMatrix) -> Axis:
    """Every concept that is active in some of the documents, each counting alike."""
    density = m.density()
    columns = np.flatnonzero(density > 0)
    if not len(columns):
        raise InputError("no concept is active in these documents: encode other documents, or filter them less")
    weights = np.ones(len(columns), np.float32)
    return Axis(columns, weights, axis_table(m, columns, weights, ["all concepts"] * len(columns), density))


def axis_table(
    m: ConceptMatrix, columns: np.ndarray, weights: np.ndarray, why: list[str], density: np.ndarray
) -> pl.DataFrame:
    """A row for each chosen concept; `density` [concepts] is that of the matrix."""
    shown = m.concepts[columns]
    return pl.DataFrame(
        {
            "latent": shown["latent"],
            "label": shown["label"],
            "weight": weights.astype(np.float32),
            "density": density[columns],
            "why": pl.Series(why, dtype=pl.String),
        }
    )
