"""Opening does not read: a store of many documents against the size of its arrays.

    python tests/benchmarks/store.py [--documents 1000000] [--active 20]

Writes a synthetic store, opens it in a new process and prints seconds, memory above an empty process, and the bytes
that the arrays have; then what one filter over a column costs.
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

CHILD = """
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


def synthetic(n: int, active: int, seed: int = 0) -> ConceptMatrix:
    """n documents of two units with `active` latents each."""
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
    return ConceptMatrix(X, docs, concepts, source, Evidence(values, np.zeros(len(values), np.int32), units))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=1_000_000)
    parser.add_argument("--active", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "synthetic.sae"
        began = time.perf_counter()
        write_store(store, synthetic(options.documents, options.active))
        found = {"write_s": round(time.perf_counter() - began, 2)}
        found["derived_mb"] = round(sum(f.stat().st_size for f in (store / "derived").rglob("*")) / 1e6)
        run = subprocess.run([sys.executable, "-c", CHILD, str(store)], capture_output=True, text=True, check=True)
        print(json.dumps(found | json.loads(run.stdout), indent=1))


if __name__ == "__main__":
    main()
