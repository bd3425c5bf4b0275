"""Opening does not read: a store of many documents against the size of its arrays.

    python tests/benchmarks/store.py [--documents 1000000] [--active 20] [--dim 384]

Writes a synthetic store, opens it in a new process and prints seconds, memory above an empty process, and the bytes
that the arrays have; then what one filter over a column costs, what building the arrays by latent costs and how much
memory that process had at most, and what mapping them costs when they are there.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl
from scipy.sparse import csr_array

from saelens_data.matrix import ConceptMatrix, Evidence, Source, Units
from saelens_data.store import write_store

LATENTS = 8_192

OPEN = """
import json, resource, sys, time
from pathlib import Path
from saelens_data.store import open_store
def memory():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
before, began = memory(), time.perf_counter()
m = open_store(sys.argv[1])
opened, after = time.perf_counter() - began, memory()
began = time.perf_counter()
half = m.docs.select((m.docs["group"] == 1).sum()).item()
print(json.dumps({"open_s": round(opened, 4), "memory_mb": round((after - before) / 1e6, 1),
                  "count_a_column_s": round(time.perf_counter() - began, 4), "documents": m.n_docs, "half": half}))
"""

BY_LATENT = """
import json, sys, time
from pathlib import Path
from saelens_data.store import open_store
def peak_mb():  # of this program alone; getrusage counts what the parent had before it
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e6
m = open_store(sys.argv[1])
before, began = peak_mb(), time.perf_counter()
found = m.by_latent
seconds = time.perf_counter() - began
peak = peak_mb() - before
began = time.perf_counter()
open_store(sys.argv[1]).by_latent
print(json.dumps({"activations": len(found.rows), "by_latent_build_s": round(seconds, 2),
                  "by_latent_peak_mb": round(peak), "open_and_map_s": round(time.perf_counter() - began, 4)}))
"""


def vectors(n: int, dim: int, seed: int = 0) -> np.ndarray:
    """Of length 1, made some at a time."""
    rng, found = np.random.default_rng(seed), np.empty((n, dim), np.float16)
    for start in range(0, n, 10_000):
        block = rng.standard_normal((min(10_000, n - start), dim), dtype=np.float32)
        found[start : start + len(block)] = block / np.linalg.norm(block, axis=1, keepdims=True)
    return found


def synthetic(n: int, active: int, dim: int, seed: int = 0) -> ConceptMatrix:
    """n documents of two units with `active` latents and a vector of `dim` numbers each."""
    rng = np.random.default_rng(seed)
    step = LATENTS // active
    latents = (np.arange(active) * step + rng.integers(0, step, (n, active))).astype(np.int32).ravel()
    values = rng.random(n * active, dtype=np.float32) + 0.01
    X = csr_array((values, latents, np.arange(0, n * active + 1, active)), shape=(n, LATENTS))
    units = Units(np.arange(0, 2 * n + 1, 2), np.tile(np.int32([0, 10]), n), np.tile(np.int32([9, 19]), n))
    number = pl.int_range(n, eager=True)
    docs = pl.DataFrame(
        {"doc_id": number.cast(pl.String), "text": "some words " + number.cast(pl.String)}
    ).with_columns(
        group=number % 2,
        n_units=pl.lit(2, pl.Int32),
        n_tokens=pl.lit(4, pl.Int32),
        error=pl.lit(None, pl.String),
    )
    concepts = pl.DataFrame({"latent": np.arange(LATENTS, dtype=np.int32)}).with_columns(label=pl.lit(None, pl.String))
    source = Source("synthetic", "none", "0" * 64, "none", "0" * 64, "none")
    evidence = Evidence(values, np.zeros(len(values), np.int32), units)
    return ConceptMatrix(X, docs, concepts, source, evidence, vectors(n, dim) if dim else None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=1_000_000)
    parser.add_argument("--active", type=int, default=20)
    parser.add_argument("--dim", type=int, default=384, help="0 for a store without vectors")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "synthetic.sae"
        began = time.perf_counter()
        write_store(store, synthetic(options.documents, options.active, options.dim))
        found = {"write_s": round(time.perf_counter() - began, 2)}
        found["shards_mb"], found["derived_mb"] = megabytes(store / "shards"), megabytes(store / "derived")
        for script in (OPEN, BY_LATENT):
            run = subprocess.run([sys.executable, "-c", script, str(store)], capture_output=True, text=True, check=True)
            found |= json.loads(run.stdout)
        found["by_latent_mb"] = megabytes(store / "derived" / "by_latent")
        print(json.dumps(found, indent=1))


def megabytes(folder: Path) -> int:
    return round(sum(file.stat().st_size for file in folder.rglob("*")) / 1e6)


if __name__ == "__main__":
    main()
