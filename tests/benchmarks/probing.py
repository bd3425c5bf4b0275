"""What the concepts keep of what the reader knows: probes on labelled texts.

    python tests/benchmarks/probing.py --encoder NAME banking77.csv:intent ag_news_test.csv:topic

For each FILE:COLUMN, 3-fold accuracy of logistic regression (strength chosen by inner folds) on: the reader's own
document embedding, the pooled concepts (maximum and mean), and the concepts of an SAE of random weights that is as
dense. The ratio is to the document embedding. `--out` adds the table to an encoder's metrics.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import torch
from scipy.sparse import csr_array
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, StandardScaler

from saelens_data.corpus import read_corpus
from saelens_data.encode import encode_robustly, plan_shards
from saelens_data.encoders import Encoder, find_encoder, load_encoder
from saelens_data.sae.model import SAE

STRENGTHS = [0.3, 3.0, 30.0]


def accuracy(X: np.ndarray | csr_array, y: np.ndarray) -> float:
    """Mean accuracy over three outer folds; C by three inner folds within each."""
    scores = []
    for train, test in StratifiedKFold(3, shuffle=True, random_state=0).split(np.zeros(len(y)), y):
        scale = StandardScaler() if isinstance(X, np.ndarray) else MaxAbsScaler()
        probe = make_pipeline(scale, LogisticRegression(max_iter=300))
        grid = {"logisticregression__C": STRENGTHS if not isinstance(X, np.ndarray) else [c / 100 for c in STRENGTHS]}
        search = GridSearchCV(probe, grid, cv=3, n_jobs=2).fit(X[train], y[train])
        scores.append(search.score(X[test], y[test]))
    return float(np.mean(scores))


def pooled(encoder: Encoder, texts: list[str]) -> tuple[csr_array, csr_array]:
    """Maxima and means [documents, latents]."""
    shards = [encode_robustly(encoder, texts[s:e]) for s, e in plan_shards(np.array([len(t) for t in texts]))]
    indptr = np.concatenate([[0], np.cumsum(np.concatenate([np.diff(s.indptr) for s in shards]))])
    latents = np.concatenate([s.latents for s in shards])
    shape = (len(texts), encoder.sae.d_sae)
    values = [np.concatenate([getattr(s, name) for s in shards]) for name in ("maxima", "means")]
    return csr_array((values[0], latents, indptr), shape=shape), csr_array((values[1], latents, indptr), shape=shape)


def document_embedding(encoder: Encoder, texts: list[str]) -> np.ndarray:
    """The reader's own embedding of each whole text (cut where the model stops reading), [documents, d] float32."""
    return np.asarray(encoder.reader.embed(texts))


def randomised(encoder: Encoder, texts: list[str], seed: int = 0) -> Encoder:
    """The same encoder with random directions, thresholds set so that each latent is as dense as the one it replaces."""
    sae, rng = encoder.sae, torch.Generator().manual_seed(seed)
    W = torch.randn(sae.d_in, sae.d_sae, generator=rng)
    W = W / W.norm(dim=0)
    reading = encoder.reader.split(texts)
    x = torch.cat([vectors for _, vectors in encoder.reader.read(reading)])[:20_000]
    density = torch.bincount(sae.encode(x).latent, minlength=sae.d_sae) / len(x)
    h = torch.cat([(part - sae.in_center) @ W for part in x.split(1024)])
    ranks = (len(x) - 1 - (density * len(x)).long()).clamp(0, len(x) - 1)
    cut = h.sort(dim=0).values.gather(0, ranks.unsqueeze(0)).squeeze(0)
    # b_enc = -cut and threshold 0: the excess above the cut, as a trained encoder's bias has it.
    random = SAE(W, -cut, sae.in_center, W.t().contiguous(), sae.b_dec, "jumprelu", torch.zeros(sae.d_sae))
    return replace(encoder, sae=random.to(encoder.reader.dtype))


def probe_file(encoder: Encoder, spec: str, limit: int) -> Iterator[dict[str, object]]:
    """The rows of the table for one FILE:COLUMN."""
    path, column = spec.rsplit(":", 1)
    docs = read_corpus(path).docs.filter(pl.col(column).is_not_null())
    docs = docs.sample(min(limit, docs.height), seed=0)
    texts, y = docs["text"].fill_null("").to_list(), docs[column].cast(pl.String).to_numpy()
    dense = accuracy(document_embedding(encoder, texts), y)
    maxima, means = pooled(encoder, texts)
    chance = pooled(randomised(encoder, texts), texts)[0]
    for name, X in (("concepts, maximum", maxima), ("concepts, mean", means), ("random SAE, maximum", chance)):
        found = accuracy(X, y)
        yield {
            "set": Path(path).stem,
            "features": name,
            "active_per_document": round(X.nnz / X.shape[0], 1),
            "accuracy": round(found, 4),
            "document_embedding": round(dense, 4),
            "ratio": round(found / dense, 4),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", metavar="FILE:COLUMN")
    parser.add_argument("--encoder", default="minilm-8k")
    parser.add_argument("--limit", type=int, default=5_000, help="documents of each file, drawn with a fixed seed")
    parser.add_argument("--out", action="store_true", help="add the table to the encoder's metrics.json")
    options = parser.parse_args()
    encoder = load_encoder(options.encoder)
    rows = []
    for spec in options.files:
        for row in probe_file(encoder, spec, options.limit):
            rows.append(row)
            print(json.dumps(row), flush=True)
    if options.out:
        path = find_encoder(options.encoder) / "metrics.json"
        metrics = json.loads(path.read_text(encoding="utf-8")) | {"probing": rows}
        path.write_text(json.dumps(metrics, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
