"""Find in one part of the documents, confirm in the other."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from saelens_data import stats
from saelens_data.diff.comparison import Sets, compare
from saelens_data.errors import InputError
from saelens_data.matrix import ConceptMatrix
from saelens_data.wording import count

if TYPE_CHECKING:
    from saelens_data.diff.two import DiffResult

#: The columns that `with_confirmation` fills.
UNCONFIRMED = [
    pl.lit(None, pl.Boolean if name == "confirmed" else pl.Float64).alias(name)
    for name in ("confirmed", "confirm_difference", "confirm_low", "confirm_high", "confirm_q")
]


@dataclass(frozen=True, eq=False)
class Part:
    """Rows of A and of B, ascending."""

    rows_a: np.ndarray
    rows_b: np.ndarray

    def of(
        self, a: ConceptMatrix, b: ConceptMatrix, cluster: np.ndarray | None
    ) -> tuple[ConceptMatrix, ConceptMatrix, np.ndarray | None]:
        """These documents of A and of B, and their clusters."""
        rows = np.concatenate([self.rows_a, a.n_docs + self.rows_b])
        return a.take_docs(self.rows_a), b.take_docs(self.rows_b), None if cluster is None else cluster[rows]


def split(
    n_a: int, n_b: int, cluster: np.ndarray | None, *, paired: bool, share: float, seed: int
) -> tuple[Part, Part]:
    """Documents to find in and a `share` to confirm with, at random; pairs and clusters stay together.

    Raises InputError where a part would have no document of a set.
    """
    rng = np.random.default_rng(seed)
    if cluster is not None:
        held = _draw(int(cluster.max()) + 1, share, rng)[cluster]
        held_a, held_b = held[:n_a], held[n_a:]
    else:
        held_a = _draw(n_a, share, rng)
        held_b = held_a if paired else _draw(n_b, share, rng)
    kept, held_out = (Part(np.flatnonzero(held_a == of), np.flatnonzero(held_b == of)) for of in (False, True))
    if not all(len(rows) for part in (kept, held_out) for rows in (part.rows_a, part.rows_b)):
        raise InputError(
            f"a holdout of {share:g} leaves a part without documents of one set: there are {n_a:,} and {n_b:,}; "
            "hold out another share, or draw with another seed"
        )
    return kept, held_out


def _draw(n: int, share: float, rng: np.random.Generator) -> np.ndarray:
    held = np.zeros(n, dtype=bool)
    held[rng.permutation(n)[: round(n * share)]] = True
    return held


def with_confirmation(result: DiffResult, held: Sets) -> DiffResult:
    """`result` with each finding tested again, by itself, in documents that had no part in finding it.

    A finding is `confirmed` if its group differs there too at q < alpha, corrected for the number of findings, and its
    leading latent favours the same set.
    """
    c = compare(held, result.groups, result.alpha)
    found = result.findings
    position = {latent: i for i, latent in enumerate(result.a.concepts["latent"].to_list())}
    lead = np.array([position[latent] for latent in found["latent"]], dtype=np.int64)
    p = np.nan_to_num(c.group_p[result.groups.of[lead]], nan=1.0)
    q = stats.benjamini_hochberg(p)
    counts = c.counts.take(lead)
    again = pl.DataFrame(
        {
            "rank": found["rank"],
            "confirmed": (q < result.alpha) & (np.sign(c.delta[lead]) == np.sign(found["delta"].to_numpy())),
            "confirm_difference": counts.a / counts.n_a - counts.b / counts.n_b,
            "confirm_low": c.low[lead],
            "confirm_high": c.high[lead],
            "confirm_q": q,
        }
    )
    sizes = [held.x.shape[0], held.y.shape[0]]
    confirmed = f"{int(again['confirmed'].sum()):,} of {count(found.height, 'finding')}"
    where = f"{count(sizes[0], 'document')} of {result.names[0]} and {sizes[1]:,} of {result.names[1]} held out"
    note = f"Confirmed in {where}: {confirmed} (column confirmed)."
    return replace(
        result,
        frame=result.frame.drop(again.columns[1:]).join(again, on="rank", how="left", maintain_order="left"),
        parameters={**result.parameters, "held_out": sizes},
        notes=(*result.notes, note),
    )
