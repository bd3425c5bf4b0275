"""Write what is usual in ordinary text for an encoder, which `correlate` measures pairs of concepts against.

    python tools/usual.py TEXTS.parquet [--encoder NAME] [--skip 5000] [--documents 10000]

Encodes documents of the training text (column `text`) and writes `usual.parquet` into the encoder's folder: minutes. The
first documents are passed over, because `tests/benchmarks/correlate_planted.py` plants its artefacts among them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import polars as pl

import saelens_data as sd
from saelens_data.encoders import find_encoder
from saelens_data.encoders.usual import USUAL_FILE, Usual


def main() -> None:
    """Encode, count and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("texts", type=Path)
    parser.add_argument("--encoder", default="minilm-8k")
    parser.add_argument("--skip", type=int, default=5_000)
    parser.add_argument("--documents", type=int, default=10_000)
    parser.add_argument("--store", type=Path, default=Path("build/usual.sae"))
    options = parser.parse_args()
    frame = pl.read_parquet(options.texts).slice(options.skip, options.documents)
    m = sd.encode(frame.select("text"), store=options.store, encoder=options.encoder, text="text")
    name = f"{m.n_docs:,} documents of the encoder's training text"
    lengths = m.docs["n_units"].to_numpy()
    Usual.of(m.X, m.concepts["latent"].to_numpy(), lengths, name).save(find_encoder(options.encoder) / USUAL_FILE)


if __name__ == "__main__":
    main()
