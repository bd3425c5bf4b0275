"""Matrices for tests in which a latent is a word: active where it occurs, as strong as it is frequent in a unit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from saelens_data.matrix import CONCEPT_SCHEMA, ConceptMatrix, Evidence, Source, Units, canonical_csr
from saelens_data.readers.split import split_spans

SOURCE = Source("words", "reader", "aa", "sae", "bb", "final", limits={"max_tokens": 9}, versions={"numpy": "2"})


def keyword_matrix(
    texts: Sequence[str],
    words: Mapping[int, str],
    labels: Sequence[str | None] | None = None,
    **columns: Sequence[object],
) -> ConceptMatrix:
    """Documents "d0", "d1", ...; `words` maps latents (ascending) to what they look for, `columns` go into docs."""
    ptr, starts, ends, indptr, found = [0], [], [], [0], []
    for text in texts:
        spans = split_spans(text)
        counts = [[text[start:end].count(word) for start, end in spans] for word in words.values()]
        found += [(j, max(c), sum(c) / len(c), c.index(max(c))) for j, c in enumerate(counts) if any(c)]
        starts += [start for start, _ in spans]
        ends += [end for _, end in spans]
        ptr.append(len(starts))
        indptr.append(len(found))
    column, data, mean, unit = (np.array(part) for part in (zip(*found, strict=True) if found else [[]] * 4))
    shape = (len(texts), len(words))
    X = canonical_csr(data.astype(np.float32), column.astype(np.int32), np.array(indptr), shape)
    units = Units(np.array(ptr, np.int64), np.array(starts, np.int32), np.array(ends, np.int32))
    evidence = Evidence(mean.astype(np.float32), unit.astype(np.int32), units)
    docs = pl.DataFrame(
        {
            "doc_id": pl.Series([f"d{i}" for i in range(len(texts))], dtype=pl.String),
            "text": pl.Series(list(texts), dtype=pl.String),
            **columns,
            "n_units": pl.Series(np.diff(ptr), dtype=pl.Int32),
            "n_tokens": pl.Series([len(text.split()) for text in texts], dtype=pl.Int32),
            "error": pl.Series([None] * len(texts), dtype=pl.String),
        }
    )
    concepts = {"latent": list(words), "label": list(labels or words.values())}
    return ConceptMatrix(X, docs, pl.DataFrame(concepts).select(_concept_columns()), SOURCE, evidence)


def _concept_columns() -> list[pl.Expr]:
    return [
        (pl.col(name) if name in ("latent", "label") else pl.lit(None)).cast(dtype).alias(name)
        for name, dtype in CONCEPT_SCHEMA.items()
    ]
