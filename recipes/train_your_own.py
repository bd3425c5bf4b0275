"""What concepts does your own kind of text have? An encoder trained on it, its figures, and what it sees.

Usage: python recipes/train_your_own.py [TEXTS] -o my-encoder [--latents 2048] [-k 32] [--epochs 14] [--batch 1024]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import polars as pl

import saelens_data as sd
from saelens_data.sae.train import TrainConfig


def bundled() -> pl.DataFrame:
    """All English texts that are bundled: enough to see how it is done, too few for a good encoder."""
    return pl.concat([sd.datasets.load(name).docs["doc_id", "text"] for name in ("habits", "crossed", "artefacts")])


def main(data: str | None, output: str, **settings: int) -> None:
    docs = sd.read_corpus(data).docs if data else bundled()
    encoder = sd.train(docs, output, config=TrainConfig(**settings))  # type: ignore[arg-type]
    figures = json.loads((Path(output) / "metrics.json").read_text(encoding="utf-8"))
    print(f"{figures['training_units']:,} spans to train on, {figures['held_out_units']:,} held out")
    print(f"variance explained on these: {figures['explained_variance']:.2f}; silent latents: {figures['silent']:.0%}")
    print(f"active concepts: {figures['active_per_unit']:.0f} a span, {figures['active_per_document']:.0f} a document")
    print("the concepts that say most, by how well their labels tell their spans from others:")
    # What is silent on the texts has no label, and what is on a handful of spans is labelled by chance.
    named = encoder.concepts.drop_nulls("score").filter(pl.col("span_density") >= 0.005)
    for row in named.sort("score", "latent", descending=[True, False]).head(8).iter_rows(named=True):
        print(f"  {row['latent']:>5}  {row['score']:.2f}  on {row['span_density']:.1%} of spans  {row['label']}")
    m = sd.encode(docs, encoder=output)
    print(f"{m.n_docs:,} documents encoded with it: saelens-data encode TEXTS --encoder {output}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", nargs="?", help="texts, the more the better; a few bundled ones without")
    parser.add_argument("-o", "--output", required=True, help="folder to write, from then on an encoder's name")
    parser.add_argument("--latents", type=int, default=2048)
    parser.add_argument("-k", type=int, default=32, help="active latents of a span, on average")
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("--batch", type=int, default=1024, help="spans in a step; smaller for few texts")
    parser.add_argument("--seed", type=int, default=0)
    try:
        main(**vars(parser.parse_args()))
    except sd.SaelensDataError as error:
        parser.error(str(error))
