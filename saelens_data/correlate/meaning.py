"""What concepts are about, as their encoder's examples say: the mean of what its reader makes of them.

Directions of an SAE say little of it: where many documents have two things, it gives each a direction of its own.
`tools/meanings.py` makes the file for an encoder's folder.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from saelens_data.encoders import WEIGHTS_FILE, find_encoder, sha256_of_file
from saelens_data.errors import EncoderError
from saelens_data.matrix import Source

#: File of an encoder's folder: [latents, dim] int8, the mean embedding of each one's examples less the mean of all.
MEANINGS_FILE = "meanings.npy"


def meanings(source: Source) -> np.ndarray | None:
    """What each latent is about, [d_sae, dim] float32 rows of length 1 (0 without examples); None if not at hand."""
    try:
        return _read(source.encoder, source.sae_sha256)
    except (EncoderError, OSError, ValueError):
        return None


@lru_cache(maxsize=2)
def _read(encoder: str, sae_sha256: str) -> np.ndarray:
    folder = find_encoder(encoder)
    if sha256_of_file(folder / WEIGHTS_FILE) != sae_sha256:
        raise EncoderError(f"encoder '{encoder}' has other weights by now: encode the documents again")
    found = np.load(folder / MEANINGS_FILE, allow_pickle=False).astype(np.float32)
    return np.asarray(found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12))


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
