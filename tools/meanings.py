"""Write what the concepts of an encoder are about, which `correlate` compares them by.

    python tools/meanings.py [ENCODER]

Reads the encoder's examples with its own reader, and writes `meanings.npy` beside them: some minutes for the bundled one.
"""

from __future__ import annotations

import sys

import numpy as np
import polars as pl

from saelens_data.correlate.meaning import MEANINGS_FILE, packed
from saelens_data.encoders import EXAMPLES_FILE, find_encoder, load_encoder

_BATCH = 256


def main(name: str) -> None:
    """Embed the examples, shorter ones first, and write the file."""
    encoder, folder = load_encoder(name), find_encoder(name)
    examples = pl.read_parquet(folder / EXAMPLES_FILE).with_columns(n=pl.col("text").str.len_chars()).sort("n")
    texts, parts = examples["text"].to_list(), []
    for start in range(0, len(texts), _BATCH):
        found = np.asarray(encoder.reader.embed(texts[start : start + _BATCH]))
        parts.append(found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12))
    content = packed(np.concatenate(parts), examples["latent"].to_numpy(), encoder.concepts.height)
    np.save(folder / MEANINGS_FILE, content, allow_pickle=False)


if __name__ == "__main__":
    main(*(sys.argv[1:] or ["minilm-8k"]))
