"""A few tokens of each text at random, with their states: what an SAE on token states is trained on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from saelens_data.readers.tokens import TokenReader

#: Of each text as many characters are read as a window holds tokens, times this.
_CHARS_A_TOKEN = 6


def sample_tokens(
    reader: TokenReader, texts: Sequence[str], *, per_text: int, first: int = 0, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Vectors [n, d_in] float16 of up to `per_text` random tokens of the beginning of each text, and where they are.

    Where: [3, n] int32, number of the text counted from `first`, start and end in it. The same tokens are drawn
    whatever texts are read together.
    """
    cut = [text[: _CHARS_A_TOKEN * reader.limits["max_tokens"]] for text in texts]
    reading = reader.split(cut)
    kept = np.concatenate([*_drawn(reading.units.ptr, per_text, first, seed), np.empty(0, np.int64)])
    row = np.full(len(reading.units.start), -1, np.int64)
    row[kept] = np.arange(len(kept))
    vectors = np.empty((len(kept), reader.d_in), np.float16)
    for units, x in reader.read(reading):
        own = np.flatnonzero(row[units] >= 0)
        vectors[row[units[own]]] = x[own].float().cpu().numpy()
    owner = np.searchsorted(reading.units.ptr, kept, side="right") - 1 + first
    return vectors, np.stack([owner, reading.units.start[kept], reading.units.end[kept]]).astype(np.int32)


def _drawn(ptr: np.ndarray, per_text: int, first: int, seed: int) -> Iterator[np.ndarray]:
    for i, (start, stop) in enumerate(pairwise(ptr)):
        rng = np.random.default_rng([seed, first + i])
        yield start + np.sort(rng.choice(stop - start, min(per_text, stop - start), replace=False))
