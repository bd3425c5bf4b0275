"""Matrices for tests of labelling: each latent has a word, and is active in the units that hold it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from scipy.sparse import csr_array

from saelens_data.matrix import CONCEPT_SCHEMA, ConceptMatrix, Evidence, Source, Units

SOURCE = Source("tiny", "reader", "aa", "sae", "bb", "final")


def word(latent: int) -> str:
    """A word of its own for each latent, of letters alone."""
    letters = "bcdfghklmnprstvz"
    return "".join(letters[(latent >> shift) & 15] + "aeio"[(latent >> shift) & 3] for shift in (8, 4, 0)) + "x"


def worded_matrix(
    n_latents: int,
    n_docs: int,
    *,
    active: int = 12,
    labels: Sequence[str | None] | None = None,
    extra: dict[int, str] | None = None,
) -> ConceptMatrix:
    """`active` documents for each latent, in each of which one unit holds its word; activations from 1 to `active`.

    `extra` puts further words into the units of a document.
    """
    cells: list[dict[int, float]] = [{} for _ in range(n_docs)]
    for latent in range(n_latents):
        step = 1 + latent % (n_docs // active)
        for number in range(active):
            cells[(latent * 7 + number * step) % n_docs][latent] = 1.0 + number
    texts, ptr, start, end, unit, data, indices, indptr = [], [0], [], [], [], [], [], [0]
    for doc, cell in enumerate(cells):
        text = ""
        places = {}
        for latent in [None, *sorted(cell)]:
            said = f"Plain words number {doc}." if latent is None else f"Here {word(latent)} is {doc}."
            if extra and doc in extra:
                said += f" {extra[doc]}"
            text += " " if text else ""
            places[latent] = len(places)
            start.append(len(text))
            text += said
            end.append(len(text))
        texts.append(text)
        ptr.append(len(start))
        for latent in sorted(cell):
            indices.append(latent)
            data.append(cell[latent])
            unit.append(places[latent])
        indptr.append(len(indices))
    X = csr_array((np.array(data, np.float32), np.array(indices), np.array(indptr)), shape=(n_docs, n_latents))
    n_units = np.diff(ptr)
    means = X.data / np.repeat(n_units, np.diff(X.indptr))
    units = Units(np.array(ptr, np.int64), np.array(start, np.int32), np.array(end, np.int32))
    docs = pl.DataFrame(
        {
            "doc_id": [f"d{i}" for i in range(n_docs)],
            "text": texts,
            "n_units": pl.Series(n_units, dtype=pl.Int32),
            "n_tokens": pl.Series([len(text.split()) for text in texts], dtype=pl.Int32),
            "error": pl.Series([None] * n_docs, dtype=pl.String),
        }
    )
    shown = labels if labels is not None else [None] * n_latents
    concepts = pl.DataFrame(
        {
            "latent": range(n_latents),
            "label": shown,
            "explanation": None,
            "score": None,
            "origin": [label and "offline phrases" for label in shown],
        },
        schema=CONCEPT_SCHEMA,
    )
    return ConceptMatrix(X, docs, concepts, SOURCE, Evidence(means.astype(np.float32), np.array(unit, np.int32), units))


def letters(texts: Sequence[str]) -> np.ndarray:
    """An embedding that needs no model: counts of letter triples, hashed, of length 1."""
    found = np.zeros((len(texts), 512), np.float32)
    for row, text in enumerate(texts):
        padded = f" {text.casefold()} "
        for at in range(len(padded) - 2):
            found[row, sum(ord(c) * p for c, p in zip(padded[at : at + 3], (1, 31, 961), strict=True)) % 512] += 1
    return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)
