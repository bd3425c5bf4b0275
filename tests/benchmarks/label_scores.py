"""How true an encoder's labels are by embedding scoring: the AUC of the cosine of label and text, without a language model.

    python tests/benchmarks/label_scores.py --encoder minilm-8k --out banking77.csv ag_news_test.csv bills_1000.jsonl

The texts are none that the encoder was trained on or its labels were made of. Documents of one span count, each wording
once: for these the stored vector is the span's embedding and the activation is the span's. A latent is scored if LEAST of them
activate it: the AUC compares all of them, whatever their strength, with all that do not. `before` is the same for labels
dealt to other latents of like density: what a label scores that has nothing to do with its latent. `--out` adds the
distribution to the encoder's metrics.
"""

from __future__ import annotations

import argparse
import json

import numpy as np
import polars as pl
from scipy.sparse import csc_array, vstack
from scipy.stats import rankdata, spearmanr

from saelens_data.concepts.space import space_of
from saelens_data.corpus import read_corpus
from saelens_data.encode import encode
from saelens_data.encoders import find_encoder, read_concepts
from saelens_data.matrix import ConceptMatrix
from saelens_data.stats.strength import auc_interval

#: Active spans that a latent is scored on at least.
LEAST = 10
_BLOCK = 128


def single_spans(m: ConceptMatrix) -> ConceptMatrix:
    """Documents of one span with a vector, each wording once."""
    plain = m.docs["text"].str.to_lowercase().str.replace_all(r"\s+", " ")
    keep = (m.docs["n_units"] == 1) & plain.is_first_distinct()
    return m.take_docs(np.flatnonzero(keep.to_numpy()))


def areas(vectors: np.ndarray, labels: np.ndarray, active: csc_array) -> np.ndarray:
    """AUC of each label [latents, dim] over all texts [n, dim] for its column of `active` [n, latents]."""
    found = np.full(len(labels), np.nan)
    for first in range(0, len(labels), _BLOCK):
        ranks = rankdata(vectors @ labels[first : first + _BLOCK].T, axis=0)
        for at in range(ranks.shape[1]):
            rows = active.indices[active.indptr[first + at] : active.indptr[first + at + 1]]
            n = len(rows)
            if 0 < n < len(vectors):
                found[first + at] = (ranks[rows, at].sum() - n * (n + 1) / 2) / (n * (len(vectors) - n))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+")
    parser.add_argument("--encoder", default="minilm-8k")
    parser.add_argument("--out", action="store_true")
    options = parser.parse_args()
    parts = [single_spans(encode(read_corpus(file), encoder=options.encoder)) for file in options.files]
    vectors = np.concatenate([part.vectors.astype(np.float32) for part in parts])
    active = csc_array(vstack([part.X for part in parts]))
    concepts = read_concepts(find_encoder(options.encoder), active.shape[1])
    support = np.diff(active.indptr)
    scored = np.flatnonzero((support >= LEAST) & concepts["label"].is_not_null().to_numpy())
    embedded = space_of(parts[0]).embed(concepts["label"].gather(scored).to_list())
    active = csc_array(active[:, scored])
    area = areas(vectors, embedded, active)
    # Dealt among neighbours in density, so that what is compared is as rare.
    order, dealt = np.argsort(support[scored], kind="stable"), np.empty(len(scored), np.int64)
    rng = np.random.default_rng(0)
    for part in np.array_split(order, max(1, len(order) // 50)):
        dealt[part] = np.roll(rng.permutation(part), 1)[np.argsort(rng.permutation(len(part)))]
    chance = areas(vectors, embedded[dealt], active)
    low, _ = auc_interval(area, support[scored], len(vectors) - support[scored])
    cover = concepts["score"].to_numpy()[scored]
    quantiles = (0.05, 0.25, 0.5, 0.75, 0.95)
    found = {
        "files": [file.rsplit("/", 1)[-1] for file in options.files],
        "spans": len(vectors),
        "least": LEAST,
        "latents": len(scored),
        "quantiles": dict(zip(map(str, quantiles), np.quantile(area, quantiles).round(3).tolist(), strict=True)),
        "mean": round(float(area.mean()), 3),
        "dealt": dict(zip(map(str, quantiles), np.quantile(chance, quantiles).round(3).tolist(), strict=True)),
        "above_chance": round(float((low > 0.5).mean()), 3),
        "below_half": round(float((area < 0.5).mean()), 3),
        "above_0.9": round(float((area > 0.9).mean()), 3),
        "spearman_with_cover": round(float(spearmanr(area, cover).statistic), 3),
    }
    print(json.dumps(found, indent=1))
    table = pl.DataFrame(
        {
            "latent": scored,
            "auc": area,
            "support": support[scored],
            "cover": cover,
            "label": concepts["label"].gather(scored),
        }
    )
    with pl.Config(tbl_rows=20, fmt_str_lengths=50):
        print(table.sort("auc").head(8), table.sort("auc").tail(8))
        print(
            table.group_by(pl.col("support").log(4).floor().alias("log4"))
            .agg(pl.len(), pl.col("auc").median(), pl.col("support").min())
            .sort("log4")
        )
    if options.out:
        path = find_encoder(options.encoder) / "metrics.json"
        metrics = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps({**metrics, "label_scores": found}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
