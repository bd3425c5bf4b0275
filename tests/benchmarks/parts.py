"""Which of the reader's states a span's vector should hold: probes on labelled texts, no SAE.

    python tests/benchmarks/parts.py banking77.csv:intent ag_news_test.csv:topic ...

Documents are the mean of their spans' vectors, each part centred and scaled to equal weight. Prints 3-fold accuracy
of logistic regression for the final embedding alone and with the mean token state of one layer beside it.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import polars as pl
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from saelens_data.corpus import read_corpus
from saelens_data.readers.spans import Part, SpanReader
from saelens_data.readers.weights import MINILM

LAYERS = range(6)


def document_means(reader: SpanReader, texts: list[str]) -> np.ndarray:
    """Mean vector of each document's spans, [documents, d_in]."""
    reading = reader.split(texts)
    x = np.zeros((len(reading.ids), reader.d_in), np.float32)
    for rows, vectors in reader.read(reading):
        x[rows] = vectors.numpy()
    counts = np.diff(reading.units.ptr)
    owner = np.repeat(np.arange(len(texts)), counts)
    sums = np.zeros((len(texts), reader.d_in), np.float32)
    np.add.at(sums, owner, x)
    return sums / np.maximum(counts, 1)[:, None]


def accuracy(x: np.ndarray, y: np.ndarray) -> float:
    """3-fold accuracy; every number scaled to unit variance, then each part to equal weight."""
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.03, max_iter=300))
    return float(cross_val_score(probe, x, y, cv=StratifiedKFold(3, shuffle=True, random_state=0)).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", metavar="FILE:COLUMN")
    parser.add_argument("--limit", type=int, default=2_000)
    options = parser.parse_args()
    reader = SpanReader(MINILM, [Part("final"), *(Part(f"layer.{i}") for i in LAYERS)])
    for spec in options.files:
        path, column = spec.rsplit(":", 1)
        docs = read_corpus(path).docs.drop_nulls(column)
        docs = docs.sample(min(options.limit, docs.height), seed=0)
        y = docs[column].cast(pl.String).to_numpy()
        x = np.split(document_means(reader, docs["text"].fill_null("").to_list()), len(reader.widths), axis=1)
        found = {"final": accuracy(x[0], y)}
        found |= {f"final + layer.{i}": accuracy(np.hstack([x[0], x[i + 1]]), y) for i in LAYERS}
        print(
            json.dumps({"set": Path(path).stem, "column": column} | {k: round(v, 4) for k, v in found.items()}),
            flush=True,
        )


if __name__ == "__main__":
    main()
