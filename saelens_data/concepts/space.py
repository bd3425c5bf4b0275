"""The space that words and concepts share: where a phrase lies, and where each latent points.

A span encoder reads a phrase as it reads a document's span, and the SAE's decoder says what each latent adds to that
reading. So a phrase finds latents by their directions, whether they are labelled or not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from saelens_data.encoders import DEFAULT_ENCODER, WEIGHTS_FILE, find_encoder, load_encoder
from saelens_data.errors import InputError
from saelens_data.matrix import ConceptMatrix, Source

if TYPE_CHECKING:
    from saelens_data.readers.spans import SpanReader


@dataclass(frozen=True, eq=False)
class Space:
    """The reader's sentence embeddings, [dim], and the directions of the matrix' latents in it."""

    #: What an activation of 1 adds to the embedding of a span, [latents of the matrix, dim] float32.
    directions: np.ndarray
    reader: SpanReader

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Embeddings of whole texts, [texts, dim] float32 of length 1."""
        found = self.reader.embed(texts)
        return np.asarray(found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12))

    def strongest(self, vector: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
        """The columns of the `n` latents that point most towards `vector` [dim], and how much, above 0; falling."""
        towards = self.directions @ vector
        columns = np.argsort(-towards, kind="stable")[:n]
        columns = columns[towards[columns] > 0]
        return columns, towards[columns]


def space_of(m: ConceptMatrix) -> Space:
    """The space of a matrix. Raises InputError if its encoder is not at hand, is another by now, or has none."""
    if m.source.unit == "token":  # said before a large model is loaded to find it out
        raise InputError(_no_embedding(m.source.encoder))
    reader, directions, source = _load(m.source.encoder)
    if (source.sae_sha256, source.reader_sha256) != (m.source.sae_sha256, m.source.reader_sha256):
        raise InputError(
            f"encoder '{m.source.encoder}' has changed since these documents were encoded, so words no longer lie in "
            "the same space: encode them again"
        )
    return Space(directions[m.concepts["latent"].to_numpy()], reader)


def bundled_reader() -> SpanReader:
    """The reader of the bundled encoder, which embeds sentences."""
    return _load(DEFAULT_ENCODER)[0]


@lru_cache(maxsize=2)
def _load(name: str) -> tuple[SpanReader, np.ndarray, Source]:
    from safetensors.numpy import load_file  # noqa: PLC0415

    from saelens_data.readers.spans import SpanReader  # noqa: PLC0415

    encoder, at = load_encoder(name), 0
    if isinstance(reader := encoder.reader, SpanReader):
        for part, width in zip(reader.parts, reader.widths, strict=True):
            if part.name == "final":
                decoder = load_file(find_encoder(name) / WEIGHTS_FILE)["W_dec"]
                return reader, decoder[:, at : at + width].astype(np.float32), encoder.source()
            at += width
    raise InputError(_no_embedding(name))


def _no_embedding(name: str) -> str:
    return (
        f"words cannot be looked up with encoder '{name}': its reader has no embedding of sentences; "
        "`saelens-data concepts` finds concepts by their labels, and with minilm-8k words find documents too"
    )
