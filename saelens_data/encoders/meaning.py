"""What concepts are about, as their encoder's examples say: the mean of what its reader makes of them.

Directions of an SAE say little of it: where many documents have two things, it gives each a direction of its own.
Training writes the file of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import polars as pl

from saelens_data.encoders.folders import EXAMPLES_FILE, folder_with
from saelens_data.errors import EncoderError
from saelens_data.matrix import Source

#: File of an encoder's folder: [latents, dim] int8, the mean embedding of each one's examples less the mean of all.
MEANINGS_FILE = "meanings.npy"
#: Texts embedded at once.
_BATCH = 256


def meanings(source: Source) -> np.ndarray | None:
    """What each latent is about, [d_sae, dim] float32 rows of length 1 (0 without examples); None if not at hand."""
    try:
        return _read(source.encoder, source.sae_sha256)
    except (EncoderError, OSError, ValueError):
        return None


@lru_cache(maxsize=2)
def _read(encoder: str, sae_sha256: str) -> np.ndarray:
    found = np.load(folder_with(encoder, sae_sha256) / MEANINGS_FILE, allow_pickle=False).astype(np.float32)
    return np.asarray(found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12))


def write_meanings(folder: Path, embed: Callable[[Sequence[str]], np.ndarray], n_latents: int) -> None:
    """Embed an encoder's examples, shorter ones first, and write the file."""
    examples = pl.read_parquet(folder / EXAMPLES_FILE).with_columns(n=pl.col("text").str.len_chars()).sort("n")
    texts, parts = examples["text"].to_list(), [np.zeros((0, 1), np.float32)]
    for start in range(0, len(texts), _BATCH):
        found = np.asarray(embed(texts[start : start + _BATCH]))
        parts.append(found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12))
    embeddings = np.concatenate(parts[1:] or parts)
    np.save(folder / MEANINGS_FILE, packed(embeddings, examples["latent"].to_numpy(), n_latents), allow_pickle=False)


def packed(embeddings: np.ndarray, latent: np.ndarray, n_latents: int) -> np.ndarray:
    """The content of `MEANINGS_FILE`, [n_latents, dim] int8.

    `embeddings` [examples, dim] of length 1, `latent` [examples] the latent that each exemplifies.
    """
    total, number = np.zeros((n_latents, embeddings.shape[1])), np.bincount(latent, minlength=n_latents)
    np.add.at(total, latent, embeddings)
    there = number > 0
    mean = total / np.maximum(number, 1)[:, None]
    mean[there] -= mean[there].mean(axis=0)
    length = np.linalg.norm(mean, axis=1, keepdims=True)
    unit = mean / np.where(length > 0, length, 1)
    return np.round(unit * (127 / max(float(np.abs(unit).max()), 1e-12))).astype(np.int8)
