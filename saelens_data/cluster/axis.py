"""The axis that documents are grouped along: which concepts count, how much, and what is taken out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from saelens_data.errors import InputError
from saelens_data.matrix import ConceptMatrix


@dataclass(frozen=True, eq=False)
class Axis:
    """Chosen concepts of a matrix.

    `columns` [n] int64, their positions in the matrix' concepts, ascending; `weights` [n] float32 > 0, how much each
    counts beside what its variance says; `removed` [r, dim] float32, orthonormal directions of the reader's space that
    are projected out of what the chosen concepts write, or None.
    `table` has a row for each: latent, label, weight, density, why.
    """

    columns: np.ndarray
    weights: np.ndarray
    table: pl.DataFrame
    removed: np.ndarray | None = None

    @property
    def n(self) -> int:
        """Number of chosen concepts."""
        return len(self.columns)


def all_concepts(m: ConceptMatrix) -> Axis:
    """Every concept that is active in some of the documents, each counting alike."""
    density = m.density()
    columns = np.flatnonzero(density > 0)
    if not len(columns):
        raise InputError("no concept is active in these documents: encode other documents, or filter them less")
    shown = m.concepts[columns]
    table = pl.DataFrame(
        {
            "latent": shown["latent"],
            "label": shown["label"],
            "weight": np.ones(len(columns), np.float32),
            "density": density[columns],
            "why": pl.Series(["all concepts"] * len(columns), dtype=pl.String),
        }
    )
    return Axis(columns, np.ones(len(columns), np.float32), table)
