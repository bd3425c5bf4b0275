"""Words to concepts where a reader embeds no sentences: the labels take the place of directions.

A phrase is as near to a latent as the cosine between its embedding and that of the latent's label, both by the bundled
encoder's reader. What has no label, or a wrong one, is not found.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from saelens_data.concepts.kept import kept
from saelens_data.concepts.space import Space, bundled_reader
from saelens_data.errors import InputError
from saelens_data.matrix import ConceptMatrix

if TYPE_CHECKING:
    from saelens_data.readers.spans import SpanReader

#: So many labels are embedded in a second or two; the embeddings of more are kept in the cache.
_KEPT = 1_000


def label_space(m: ConceptMatrix) -> Space:
    """The embeddings of the labels of a matrix' concepts; a concept without one lies nowhere (zeros).

    Raises InputError if no concept has a label.
    """
    labels = labels_of(m)
    if not any(labels):
        raise InputError(
            f"words cannot be looked up with encoder '{m.source.encoder}': its reader has no embedding of sentences, "
            "and no concept has a label; import labels (saelens-data labels STORE --import FILE)"
        )
    reader = bundled_reader()
    different = sorted(set(filter(None, labels)))
    at = {label: number for number, label in enumerate(different)}
    embedded = _embedded(different, lambda texts: embed(reader, texts))
    directions = np.zeros((len(labels), embedded.shape[1]), np.float32)
    some = np.array([bool(label) for label in labels])
    directions[some] = embedded[[at[label] for label in labels if label]]
    return Space(directions, reader)


def labels_of(m: ConceptMatrix) -> list[str]:
    """The label of each concept of a matrix, "" where it has none."""
    return m.concepts["label"].fill_null("").to_list() if "label" in m.concepts.columns else [""] * m.n_concepts


def embed(reader: SpanReader, texts: Sequence[str]) -> np.ndarray:
    """Embeddings of short texts, [texts, dim] float32 of length 1: many in the reader's own batches and arithmetic.

    That is faster than `SpanReader.embed`, up to rounding the same for a text of one span, and the mean of the spans'
    embeddings for others.
    """
    assert reader.embedding is not None
    reading = reader.split(texts)
    owner = np.repeat(np.arange(len(texts)), np.diff(reading.units.ptr))
    found = np.zeros((len(texts), reader.embedding.stop - reader.embedding.start), np.float32)
    for units, x in reader.read(reading):
        np.add.at(found, owner[units], x[:, reader.embedding].float().numpy())
    return np.asarray(found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12))


def _embedded(labels: list[str], make: Callable[[Sequence[str]], np.ndarray]) -> np.ndarray:
    """Embeddings of the labels, [labels, dim] as float16 has them, from the cache if they are there."""
    if len(labels) < _KEPT:
        return make(labels).astype(np.float16).astype(np.float32)
    return kept("labels", tuple(labels), len(labels), lambda: make(labels).astype(np.float16)).astype(np.float32)
