"""Parts of an axis: what one phrase or table chooses, and the directions and tables they are made with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from saelens_data.cluster.axis import Space
from saelens_data.cluster.contrasts import MOST, Contrast
from saelens_data.encoders import decoder_directions
from saelens_data.errors import InputError
from saelens_data.matrix import ConceptMatrix
from saelens_data.wording import count


@dataclass(frozen=True, eq=False)
class Part:
    """What one phrase chooses."""

    columns: np.ndarray
    why: str
    space: Space | None
    #: How much each says of the axis, [columns]; compared with the same of an unwanted axis. None for no axis.
    F: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    axis: str | None = None
    within: np.ndarray | None = None
    contrast: Contrast | None = None


def whole_decoder(m: ConceptMatrix) -> np.ndarray:
    """What each latent of the encoder writes, [d_sae, dim]. Raises InputError where it is not at hand."""
    W: np.ndarray | None = decoder_directions(m.source)
    if W is None:
        raise InputError(
            f"what is to be left out needs the decoder of encoder '{m.source.encoder}', which is not at hand or has "
            "changed: encode the documents again"
        )
    return W


def of_table(m: ConceptMatrix, table: pl.DataFrame) -> tuple[Part, np.ndarray]:
    """Concepts of a table with a column latent and perhaps weight. Raises InputError for anything else."""
    if "latent" not in table.columns:
        raise InputError(f"the table of concepts needs a column 'latent'; it has {', '.join(table.columns)}")
    try:
        wanted = table["latent"].cast(pl.Int64)
        weight = (table["weight"] if "weight" in table.columns else pl.repeat(1.0, table.height, eager=True)).cast(
            pl.Float64
        )
    except pl.exceptions.PolarsError as error:
        raise InputError(f"the table of concepts cannot be read: {str(error).splitlines()[0]}") from error
    if (
        wanted.null_count()
        or weight.null_count()
        or not bool((weight >= 0).all())
        or not bool(weight.is_finite().all())
    ):
        raise InputError("the table of concepts has an empty latent, or a weight that is no number of 0 or more")
    if (twice := wanted.is_duplicated()).any():
        raise InputError(f"the table names latent {wanted.filter(twice)[0]} more than once")
    missing = wanted.filter(~wanted.is_in(m.concepts["latent"].cast(pl.Int64).implode()))
    if missing.len():
        raise InputError(f"there is no latent {missing[0]} in this matrix, which has {count(m.n_concepts, 'concept')}")
    kept = weight.to_numpy() > 0
    latents, weights = wanted.to_numpy()[kept], weight.to_numpy()[kept]
    if not len(latents):
        raise InputError("the table chooses no concept: give at least one a weight above 0")
    column = {latent: i for i, latent in enumerate(m.concepts["latent"].to_list())}
    columns = np.array([column[latent] for latent in latents.tolist()])
    order = np.argsort(columns)
    space: Space | None = "svd" if len(columns) <= MOST else None
    return Part(columns[order], "given", space), weights[order].astype(np.float32)


def spanned(rows: np.ndarray, most: int) -> np.ndarray:
    """Orthonormal directions that `rows` span, at most `most`, the largest first."""
    _, lengths, directions = np.linalg.svd(np.asarray(rows, dtype=np.float64), full_matrices=False)
    return np.asarray(directions[:most][lengths[:most] > 1e-5 * max(lengths[0], 1e-30)])


def evenly(n: int, wanted: int) -> np.ndarray:
    """`wanted` row numbers, evenly spread over n."""
    return np.asarray(np.unique(np.linspace(0, n - 1, wanted).astype(np.int64)))
