"""`diff` against a single pass over the arrays, and against the dense way.

    python tests/benchmarks/diff.py [--documents 100000] [--latents 16384] [--active 100]

Half of the documents against the other half: unpaired, paired, in clusters; presence, strength, groups and lengths. The dense way (a 0/1 array of documents x latents
and column sums) is timed on --dense documents, since at full size it would not fit in memory, and scaled up.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable

import numpy as np
import polars as pl
from scipy.sparse import csr_array

from saelens_data.diff.two import diff
from saelens_data.matrix import ConceptMatrix, Evidence, Source, Units

#: Units of a document.
UNITS = 10


def synthetic(n: int, latents: int, active: int, seed: int) -> ConceptMatrix:
    """n documents of ten units, with about `active` active latents of different strengths, more of the low ones."""
    rng = np.random.default_rng(seed)
    drawn = np.sort((latents * rng.random((n, active)) ** 2).astype(np.int32), axis=1)
    keep = np.diff(drawn, axis=1, prepend=-1) > 0
    indptr = np.concatenate([[0], np.cumsum(keep.sum(axis=1))])
    strength = rng.lognormal(size=indptr[-1]).astype(np.float32)
    X = csr_array((strength, drawn[keep], indptr), shape=(n, latents))
    start = np.tile(np.arange(0, 100 * UNITS, 100, dtype=np.int32), n)
    units = Units(np.arange(0, UNITS * n + 1, UNITS), start, start + 100)
    evidence = Evidence(strength / 2, rng.integers(0, UNITS, indptr[-1]).astype(np.int32), units)
    ids = rng.permutation(n)
    errors = pl.Series([None] * n, dtype=pl.String)
    names = {"doc_id": [f"{seed}-{i}" for i in ids], "key": ids}
    docs = pl.DataFrame({**names, "n_units": rng.integers(5, 15, n), "error": errors})
    concepts = pl.DataFrame({"latent": np.arange(latents, dtype=np.int32)}).with_columns(label=pl.lit(None, pl.String))
    return ConceptMatrix(X, docs, concepts, Source("synthetic", "none", "0", "none", "0", "none"), evidence)


def best(run: Callable[[], object], repeat: int = 3) -> float:
    """Shortest of a few runs, in seconds."""
    times = []
    for _ in range(repeat):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--latents", type=int, default=16_384)
    parser.add_argument("--active", type=int, default=210)
    parser.add_argument("--dense", type=int, default=2_000)
    options = parser.parse_args()
    a, b = (synthetic(options.documents // 2, options.latents, options.active, seed) for seed in (0, 1))
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    part = a.take_docs(np.arange(options.dense))
    scale = options.documents / options.dense
    seconds = {
        "memory_pass": best(lambda: [m.X.indices.sum() + m.X.data.sum() for m in (a, b)]),
        "unpaired": best(lambda: diff(a, b)),
        "paired": best(lambda: diff(a, b, pair_on="key")),
        "clustered": best(lambda: diff(a, b, cluster_on="key"), repeat=1),
        "dense_counts": scale * best(lambda: (part.X.toarray() > 0).sum(axis=0)),
    }
    ratios = {f"{name}/memory_pass": round(s / seconds["memory_pass"], 1) for name, s in seconds.items()}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20 - held
    print(
        json.dumps(
            {"nonzeros": a.X.nnz + b.X.nnz, "GiB_above_data": round(peak, 2)}
            | {k: round(v, 3) for k, v in seconds.items()}
            | ratios,
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
