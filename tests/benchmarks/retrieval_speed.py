"""Time and memory of one query over a million documents whose activations are mapped from disk.

    python tests/benchmarks/retrieval_speed.py [--documents 1000000] [--active 100] [--latents 8192] [--folder FOLDER]
    python tests/benchmarks/retrieval_speed.py --end-to-end [--documents 210000] [--active 100] [--folder FOLDER]

Made here: activations by latent (compressed sparse columns) and lengths of documents, as files that are mapped; about
8 bytes for each activation. A query weighs 64 latents, drawn by how often they are active; the time is from its
weights to the numbers of its first 1,000 documents. The children that measure start anew, so that memory is their own.
Anonymous memory is what is held beside the pages mapped from files.

With --end-to-end a whole store is made for the encoder that ships, with activations drawn as above and vectors around
those that latents point to. What is timed is `retrieve` on it, phrase in, result out, the phrases being labels: how long
opening takes, the first query (what the store keeps is made by the first of all, then only mapped) and later ones.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from scipy.sparse import csc_array

from saelens_data.concepts.space import Space, space_of
from saelens_data.matrix import ConceptMatrix, Evidence, Units
from saelens_data.matrix.by_latent import ByLatent
from saelens_data.retrieve import Mode, dense_index, retrieve
from saelens_data.retrieve.ranking import FEEDBACK, HEAVIEST, best, sum_by_latent
from saelens_data.store import open_store, write_store

#: Documents made at a time, queries timed, and documents found by each.
BLOCK, QUERIES, FOUND = 50_000, 200, 1_000


def make(folder: Path, n: int, latents: int, active: int) -> None:
    """Write the files. Densities of latents fall as those of real stores do, over about three orders of magnitude."""
    rng = np.random.default_rng(0)
    density = np.minimum(1 / (np.arange(latents) + 20.0), 0.3)
    counts = np.maximum((density / density.sum() * n * active).astype(np.int64), 1)
    counts = np.minimum(counts, n // 2)
    ptr = np.concatenate([[0], np.cumsum(counts)])
    np.save(folder / "ptr.npy", ptr)
    rows = np.lib.format.open_memmap(folder / "rows.npy", "w+", np.int32, (int(ptr[-1]),))
    mean = np.lib.format.open_memmap(folder / "mean.npy", "w+", np.float32, (int(ptr[-1]),))
    for j, count in enumerate(counts.tolist()):
        # Ascending and distinct: steps of at least 1 that fill the range.
        steps = rng.random(count)
        free = n - count
        rows[ptr[j] : ptr[j + 1]] = (np.cumsum(steps) / (steps.sum() + 1) * free).astype(np.int32) + np.arange(count)
        mean[ptr[j] : ptr[j + 1]] = rng.random(count, dtype=np.float32)
    rows.flush()
    mean.flush()
    np.save(folder / "lengths.npy", 1 + rng.random(n, dtype=np.float32))


def mapped(folder: Path) -> tuple[ByLatent, np.ndarray]:
    """The files, mapped as a store's are."""
    parts = {
        name: np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r")) for name in ("ptr", "rows", "mean", "lengths")
    }
    return ByLatent(parts["ptr"], parts["rows"], parts["mean"], parts["mean"]), parts["lengths"]


def query(columns: ByLatent, lengths: np.ndarray, latents: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """What a ranker does to find candidates by concepts."""
    return best(sum_by_latent(columns, latents, weights, len(lengths)) / lengths, FOUND)


def drawn(columns: ByLatent, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Latents and weights of a query: latents that are active more often are asked for more often."""
    rng = np.random.default_rng(seed)
    share = np.sqrt(np.diff(columns.ptr))
    return rng.choice(len(share), HEAVIEST, replace=False, p=share / share.sum()), rng.normal(size=HEAVIEST).astype(
        np.float32
    )


def memory() -> tuple[float, float]:
    """Memory of this process in MB: anonymous, and pages of files."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    anonymous, files = (float(status[key].split()[0]) / 1024 for key in ("RssAnon", "RssFile"))
    return anonymous, files


def measure(folder: Path) -> None:
    """Child: open, and answer queries one by one."""
    before, _ = memory()
    began = time.perf_counter()
    columns, lengths = mapped(folder)
    opening = time.perf_counter() - began
    times, touched = [], []
    for seed in range(QUERIES):
        latents, weights = drawn(columns, seed)
        began = time.perf_counter()
        query(columns, lengths, latents, weights)
        times.append(time.perf_counter() - began)
        touched.append(int(np.diff(columns.ptr)[latents].sum()))
    after, files = memory()
    found = {
        "opening": opening, "first": times[0], "p50": np.percentile(times, 50), "p99": np.percentile(times, 99),
        "touched": np.mean(touched), "anonymous": after - before, "files": files,
    }  # fmt: skip
    print(json.dumps({key: float(value) for key, value in found.items()}))


def compare(folder: Path) -> None:
    """Child: the same query by SciPy over all columns, by SciPy over its columns, and a pass over the memory it reads."""
    columns, lengths = mapped(folder)
    n, d = len(lengths), len(columns.ptr) - 1
    assert columns.mean is not None
    X = csc_array((columns.mean, columns.rows, columns.ptr), shape=(n, d))
    latents, weights = drawn(columns, 0)
    w = np.zeros(d, np.float32)
    w[latents] = weights
    query(columns, lengths, latents, weights)
    spent = {"query": [], "scipy": [], "pass": []}
    parts = [slice(int(columns.ptr[j]), int(columns.ptr[j + 1])) for j in latents]
    for _ in range(5):
        for name, run in (
            ("query", lambda: query(columns, lengths, latents, weights)),
            ("scipy", lambda: X @ w),
            ("pass", lambda: [(columns.rows[part].sum(), columns.mean[part].sum()) for part in parts]),
        ):
            began = time.perf_counter()
            run()
            spent[name].append(time.perf_counter() - began)
    right = best((X @ w) / lengths, FOUND)
    same = len(np.intersect1d(right, query(columns, lengths, latents, weights))) / FOUND
    print(json.dumps({**{name: min(times) for name, times in spent.items()}, "same": same}))


def make_store(folder: Path, n: int, active: int) -> None:
    """Write a store of n documents of one unit each, in blocks that keep their vectors near one of 2,000 latents."""
    from saelens_data.encoders import load_encoder

    encoder = load_encoder("minilm-8k")
    make(folder, n, encoder.concepts.height, active)
    columns, _ = mapped(folder)
    X = csc_array((columns.maximum, columns.rows, columns.ptr), shape=(n, encoder.concepts.height)).tocsr()
    X.data += np.float32(0.01)  # no stored zeros
    ones, zeros = np.ones(n, np.int32), np.zeros(n, np.int32)
    evidence = Evidence(X.data / 2, np.zeros(X.nnz, np.int32), Units(np.arange(n + 1), zeros, 3 * ones))
    docs = pl.DataFrame({"doc_id": np.arange(n).astype(str), "text": np.full(n, "one text")}).with_columns(
        n_units=pl.lit(1, pl.Int32), n_tokens=pl.lit(2, pl.Int32), error=pl.lit(None, pl.String)
    )
    bare = ConceptMatrix(X, docs, encoder.concepts, encoder.source(), evidence)
    m = ConceptMatrix(X, docs, encoder.concepts, encoder.source(), evidence, vectors(space_of(bare), n))
    write_store(folder / "s.sae", m)


def vectors(space: Space, n: int) -> np.ndarray:
    """Of length 1, [n, dim] float16: each the direction of some latent and as much noise."""
    rng = np.random.default_rng(1)
    middles = space.directions[rng.choice(len(space.directions), 2_000, replace=False)]
    middles /= np.linalg.norm(middles, axis=1, keepdims=True)
    found = np.empty((n, middles.shape[1]), np.float16)
    for at in range(0, n, BLOCK):
        rows = min(BLOCK, n - at)
        noise = rng.normal(size=(rows, middles.shape[1])).astype(np.float32) / np.sqrt(middles.shape[1])
        near = middles[rng.integers(0, len(middles), rows)] + noise
        found[at : at + rows] = near / np.linalg.norm(near, axis=1, keepdims=True)
    return found


#: What is asked in turn: its name, the mode, documents of feedback, and whether FAISS is there.
ASKED: tuple[tuple[str, Mode, int, bool], ...] = (
    ("concepts, feedback 0, nothing kept yet", "concepts", 0, True),
    ("concepts, feedback 0", "concepts", 0, True),
    ("concepts", "concepts", FEEDBACK, True),
    ("hybrid, no FAISS", "hybrid", FEEDBACK, False),
    ("hybrid, FAISS, no index kept yet", "hybrid", FEEDBACK, True),
    ("hybrid, FAISS", "hybrid", FEEDBACK, True),
)


def end_to_end(folder: Path) -> None:
    """Child: phrases through `retrieve`, each way on a store that is opened anew."""
    m = open_store(folder / "s.sae")
    space = space_of(m)  # the encoder is loaded before anything is timed
    labels = np.random.default_rng(2).permutation(m.concepts["label"].drop_nulls().to_numpy())
    phrases = [label.replace('"', "").replace("·", ",") for label in labels[: QUERIES // 2]]
    embedding = timed([partial(space.embed, [phrase]) for phrase in phrases])
    found, find_spec = [("the phrase's embedding alone", [0.0, *embedding])], dense_index.find_spec
    for name, mode, feedback, faiss in ASKED:
        dense_index.find_spec = find_spec if faiss else lambda name: None
        some = phrases if faiss else phrases[: QUERIES // 8]
        began = time.perf_counter()
        m = open_store(folder / "s.sae")
        opening = time.perf_counter() - began
        asked = [partial(retrieve, m, f'"{phrase}"', mode=mode, feedback=feedback) for phrase in some]
        found.append((name, [opening, *timed(asked)]))
    print(json.dumps(found))


def timed(calls: list[Callable[[], object]]) -> list[float]:
    """Seconds of each call."""
    spent = []
    for call in calls:
        began = time.perf_counter()
        call()
        spent.append(time.perf_counter() - began)
    return spent


def show_end_to_end(documents: int, active: int, folder: Path) -> None:
    """Make the store, ask, and print a line for each way."""
    began = time.perf_counter()
    make_store(folder, documents, active)
    print(f"made a store of {documents:,} documents in {time.perf_counter() - began:.0f} s")
    print(f"{'milliseconds':40} {'opening':>8} {'first':>10} {'p50':>8} {'p99':>8}")
    for name, (opening, first, *later) in child("retrieve", folder):
        shown = (opening, first, np.percentile(later, 50), np.percentile(later, 99))
        print(f"{name:40} {1000 * shown[0]:8.1f} {1000 * shown[1]:10.1f} {1000 * shown[2]:8.1f} {1000 * shown[3]:8.1f}")
    for kept in sorted((folder / "s.sae" / "derived").rglob("*.*")):
        if kept.suffix in (".npy", ".faiss") and kept.parent.name != "derived":
            print(f"  {kept.parent.name}/{kept.name} {kept.stat().st_size / 1e6:.0f} MB")


def child(what: str, folder: Path) -> Any:
    done = subprocess.run(
        [sys.executable, __file__, "--child", what, "--folder", str(folder)], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


CHILDREN = {"measure": measure, "compare": compare, "retrieve": end_to_end}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int)
    parser.add_argument("--end-to-end", action="store_true")
    parser.add_argument("--active", type=int, default=100)
    parser.add_argument("--latents", type=int, default=8_192)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--child", choices=[*CHILDREN], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        CHILDREN[options.child](options.folder)
        return
    options.documents = options.documents or (210_000 if options.end_to_end else 1_000_000)
    with tempfile.TemporaryDirectory(dir=options.folder) as made:
        folder, began = Path(made), time.perf_counter()
        if options.end_to_end:
            show_end_to_end(options.documents, options.active, folder)
            return
        make(folder, options.documents, options.latents, options.active)
        size = sum(file.stat().st_size for file in folder.iterdir()) / 1e9
        print(f"made {options.documents:,} documents, {size:.2f} GB, in {time.perf_counter() - began:.0f} s")
        found, ratios = child("measure", folder), child("compare", folder)
    print(f"opening {1000 * found['opening']:.1f} ms; first query {1000 * found['first']:.1f} ms")
    print(f"{QUERIES} queries of {HEAVIEST} latents ({found['touched']:,.0f} activations each on average):")
    print(f"  p50 {1000 * found['p50']:.1f} ms, p99 {1000 * found['p99']:.1f} ms")
    print(f"  anonymous memory above the start {found['anonymous']:.0f} MB; pages of files {found['files']:.0f} MB")
    print(f"one query {1000 * ratios['query']:.1f} ms: {ratios['query'] / ratios['scipy']:.3f} of scipy X @ w, "
          f"{ratios['query'] / ratios['pass']:.2f} of a pass over what it reads; {ratios['same']:.0%} of the same documents")  # fmt: skip


if __name__ == "__main__":
    main()
