"""Time and memory of counting and testing all pairs of concepts, against the dense way.

    python tests/benchmarks/correlate.py [--documents 50000] [--latents 16384] [--active 200] [--memory 1.0]

Activations are drawn here: densities of latents fall as those of real stores do, up to 30% of the documents. Timed is
the scan, from the sides and a drawn table of what is usual to the best pairs; peak memory is that of the process. The dense way multiplies 0/1 matrices in
float32 by BLAS; some blocks of it are timed and the rest is counted from them. Increments are what the sparse way does:
for each document its pairs of active latents.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np
import polars as pl
from scipy.sparse import csr_array

from saelens_data.correlate.scan import FILTERS, Problem, scan
from saelens_data.correlate.sides import Side
from saelens_data.stats.testable import testable


def usual(latents: int) -> csr_array:
    """As many pairs as the bundled encoder's file has, a quarter of all, at places drawn here."""
    rng = np.random.default_rng(1)
    rows = [np.flatnonzero(rng.random(latents, dtype=np.float32) < 0.25).astype(np.int32) for _ in range(latents)]
    indptr = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    steps = rng.integers(-4, 5, indptr[-1], dtype=np.int8)
    return csr_array((steps, np.concatenate(rows), indptr), shape=(latents, latents))


def drawn(n: int, latents: int, active: int) -> Side:
    """A side without a matrix behind it."""
    rng = np.random.default_rng(0)
    density = 1 / (np.arange(latents) + 200.0)
    for _ in range(20):
        density = np.minimum(density * active / density.sum(), 0.3)
    counts = rng.binomial(n, density)
    rows = np.concatenate([rng.choice(n, c, replace=False) for c in counts.tolist()]).astype(np.int32)
    columns = np.repeat(np.arange(latents, dtype=np.int32), counts)
    held = csr_array((np.ones(len(rows), dtype=np.int8), (rows, columns)), shape=(n, latents))
    held.sort_indices()
    order = np.argsort(-counts, kind="stable")
    held = csr_array(held[:, order])
    held.sort_indices()
    return Side(held, order, pl.Series([None] * latents, dtype=pl.String))


def main() -> None:
    """Print one measurement in a line each."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--documents", type=int, default=50_000)
    parser.add_argument("--latents", type=int, default=16_384)
    parser.add_argument("--active", type=int, default=200)
    parser.add_argument("--memory", type=float, default=1.0)
    options = parser.parse_args()
    n, latents = options.documents, options.latents
    side = drawn(n, latents, options.active)
    per_document = np.diff(side.held.indptr).astype(np.float64)
    increments = float((per_document * (per_document - 1) / 2).sum())
    ordinary = usual(options.latents)
    start, cpu = time.perf_counter(), time.process_time()
    tests = testable(side.support, None, n, 0.05)
    pruned = side.pruned(tests.partners_a > 0)
    stratum = np.arange(n) * 16 // n
    aligned = csr_array(ordinary[pruned.columns][:, pruned.columns])
    problem = Problem(pruned, pruned, stratum, tests, frozenset(FILTERS), 0.05, usual=aligned)
    found = scan(problem, memory=int(options.memory * (1 << 30)))
    took, used = time.perf_counter() - start, time.process_time() - cpu
    print(
        f"{n:,} documents, {len(side):,} latents, {per_document.mean():.0f} a document; {tests.n_tests:,} pairs tested"
    )
    print(f"sparse: {took:.1f} s ({used:.1f} s of CPU), {increments:.3g} increments, "
          f"{int(found.tested.counts.sum()):,} pairs with p < 0.05")  # fmt: skip
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB")
    block = 1_024
    dense = np.asarray(side.held[:, :4096].toarray(), dtype=np.float32)
    start = time.perf_counter()
    dense[:, :block].T @ dense
    flops = 2.0 * n * block * dense.shape[1]
    rate = flops / (time.perf_counter() - start)
    whole = float(n) * latents * latents
    print(
        f"dense: {whole:.3g} flops for the half that is needed, {whole / rate:.0f} s of products alone at {rate:.3g} a second"
    )


if __name__ == "__main__":
    main()
