"""What a notebook shows of a ConceptMatrix (its first documents and what is most active in them) and of labels."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from saelens_data.display import table
from saelens_data.display.table import Column, Shown

if TYPE_CHECKING:
    from saelens_data.matrix.concept_matrix import ConceptMatrix

#: Documents shown, and columns of the source.
_ROWS, _COLUMNS = 5, 4
#: Columns that are not the source's.
_OWN = ("doc_id", "text", "n_units", "n_tokens", "error")


def of_matrix(m: ConceptMatrix) -> Shown:
    """The first documents with the source's first columns, how many concepts are active, and the strongest."""
    n = min(_ROWS, m.n_docs)
    ends = m.X.indptr[: n + 1].astype(np.int64)
    source = [name for name in m.docs.columns if name not in _OWN][:_COLUMNS]
    frame = m.docs.head(n).select("doc_id", *(["text"] if "text" in m.docs.columns else []), *source)
    strongest = [_strongest(m, first, last) for first, last in pairwise(ends.tolist())]
    frame = frame.with_columns(
        pl.Series("active concepts", np.diff(ends), pl.Int64), pl.Series("strongest", strongest, pl.String)
    )
    words = [name for name in ("doc_id", "text") if name in frame.columns]
    return Shown(
        frame,
        (
            *(Column(name, name) for name in (*words, *source)),
            Column("active concepts", "active concepts", table.number, scale=table.from_zero),
            Column("the strongest", "strongest"),
        ),
        m.n_docs,
        "document",
    )


def of_labels(rows: pl.DataFrame) -> Shown:
    """The first labels with who says so and their scores."""
    return Shown.of(
        rows,
        Column("latent", "latent", right=True),
        Column("label", "label"),
        Column("origin", "origin"),
        Column("score", "score", table.two_places, low="score_low", high="score_high", scale=table.shares),
        Column("of what", "score_kind"),
        noun="label",
    )


def _strongest(m: ConceptMatrix, first: int, last: int) -> str | None:
    if first == last:
        return None
    column = int(m.X.indices[first + int(m.X.data[first:last].argmax())])
    row = m.concepts.row(column, named=True)
    return table.concept()({"label": None, **row})
