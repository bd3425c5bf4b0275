"""`cluster` at 10,000 and 100,000 documents: seconds, growth and memory; and what comparing all pairs would take.

    python tests/benchmarks/cluster_scale.py [--documents 100000] [--concepts 2000] [--active 60] [-k 20]

Documents of planted groups, each with about `active` of the chosen concepts. The whole call is timed: coordinates,
k-means, stability, names and examples. The decoder is a random one of the bundled encoder's size. Memory is the peak
above that of the opened matrix, each size in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import time

import numpy as np
import polars as pl
from scipy.sparse import csr_array

from saelens_data.cluster import cluster
from saelens_data.cluster.coordinates import coordinates
from saelens_data.cluster.methods import MOST_BYTES
from saelens_data.cluster.quality import agreement
from saelens_data.cluster.run import find_axis
from saelens_data.matrix import CONCEPT_SCHEMA, ConceptMatrix, Evidence, Source, Units

#: Units of a document, and numbers in a decoder direction.
UNITS, DIM = 6, 768


def synthetic(n: int, concepts: int, active: int, k: int) -> ConceptMatrix:
    """n documents in k groups; half of a document's concepts are drawn from its group's tenth, half from all."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, k, n)
    own = np.stack([rng.choice(concepts, concepts // 10, replace=False) for _ in range(k)])
    drawn = (concepts * rng.random((n, active)) ** 2).astype(np.int32)
    half = active // 2
    drawn[:, :half] = np.take_along_axis(own[truth], rng.integers(0, own.shape[1], (n, half)), axis=1)
    drawn.sort(axis=1)
    keep = np.diff(drawn, axis=1, prepend=-1) > 0
    indptr = np.concatenate([[0], np.cumsum(keep.sum(axis=1))])
    strength = rng.lognormal(sigma=0.5, size=indptr[-1]).astype(np.float32)
    X = csr_array((strength, drawn[keep], indptr), shape=(n, concepts))
    start = np.tile(np.arange(0, 20 * UNITS, 20, dtype=np.int32), n)
    units = Units(np.arange(0, UNITS * n + 1, UNITS), start, start + 20)
    evidence = Evidence(strength / 2, rng.integers(0, UNITS, indptr[-1]).astype(np.int32), units)
    docs = pl.DataFrame({"doc_id": [str(i) for i in range(n)], "truth": truth, "text": ["some words " * 12] * n})
    table = pl.DataFrame({"latent": np.arange(concepts, dtype=np.int32)}).with_columns(
        pl.lit(None, dtype).alias(name) for name, dtype in CONCEPT_SCHEMA.items() if name != "latent"
    )
    return ConceptMatrix(X, docs, table, Source("synthetic", "none", "0", "none", "0", "none"), evidence)


def with_decoder(concepts: int) -> None:
    """Let the reconstruction find a decoder for the synthetic encoder."""
    from importlib import import_module

    W = np.random.default_rng(1).normal(size=(concepts, DIM)).astype(np.float32) / np.sqrt(DIM)
    import_module("saelens_data.cluster.coordinates").decoder_directions = lambda source: W  # type: ignore[attr-defined]


def measured(n: int, options: argparse.Namespace) -> dict[str, float]:
    m = synthetic(n, options.concepts, options.active, options.k)
    with_decoder(options.concepts)
    cluster(m.take_docs(np.arange(500)), k=2)  # imports
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    began = time.process_time()
    coordinates(m, find_axis(m), dimensions=2 * options.k)
    placed = time.process_time() - began
    began = time.perf_counter()
    worked = time.process_time()
    result = cluster(m, k=options.k)
    seconds, worked = time.perf_counter() - began, time.process_time() - worked
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    found = agreement(result.assignments["cluster"].fill_null(-1).to_numpy(), m.docs["truth"].to_numpy())
    return {
        "documents": n,
        "nonzeros": m.X.nnz,
        "seconds": round(seconds, 2),
        "processor_seconds": round(worked, 2),
        "processor_seconds_of_coordinates": round(placed, 2),
        "GiB": round(peak, 2),
        "GiB_above_matrix": round(peak - held, 2),
        "accuracy": round(found.accuracy, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--concepts", type=int, default=2_000)
    parser.add_argument("--active", type=int, default=60)
    parser.add_argument("-k", type=int, default=20)
    options = parser.parse_args()
    sizes = (options.documents // 10, options.documents)
    context = multiprocessing.get_context("spawn")
    with context.Pool(1, maxtasksperchild=1) as pool:
        small, large = (pool.apply(measured, (n, options)) for n in sizes)
    growth = {
        name: round(large[name] / small[name], 1)
        for name in ("seconds", "processor_seconds", "processor_seconds_of_coordinates")
    }
    pairs = {
        "GiB_of_all_pairs": round(8 * options.documents**2 / 2**30, 1),
        "documents_at_most": int((MOST_BYTES / 8) ** 0.5),
    }
    print(json.dumps({"small": small, "large": large, "growth_for_ten_times": growth, "spectral": pairs}, indent=1))


if __name__ == "__main__":
    main()
