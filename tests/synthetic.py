"""Seeded matrices and stores for tests; as a script, a writer that tests kill, starve and block.

Built by plain loops over documents, so that what is compared with it is another computation.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
from scipy.sparse import csr_array

from saelens_data.matrix import CONCEPT_SCHEMA, ConceptMatrix, Evidence, Source, Units
from saelens_data.store import Shard, StoreWriter, shard_plan
from saelens_data.store.manifest import field_path

SOURCE = Source("tiny", "reader", "aa", "sae", "bb", "final", limits={"span": 9, "batch": 3}, versions={"numpy": "2"})


def concepts(latents: Sequence[int]) -> pl.DataFrame:
    labels = [f"label {latent}" for latent in latents]
    columns = {"latent": list(latents), "label": labels, "explanation": None, "score": 0.5, "origin": "test"}
    return pl.DataFrame(
        {k: v if isinstance(v, list) else [v] * len(latents) for k, v in columns.items()}, schema=CONCEPT_SCHEMA
    )


def random_matrix(seed: int, n: int, d: int, *, ids: Sequence[str] | None = None) -> ConceptMatrix:
    """A matrix of n documents and d latents with empty documents, documents without units, and errors."""
    rng = np.random.default_rng(seed)
    n_units = rng.integers(0, 4, n)
    dense = rng.random((n, d), dtype=np.float32) * (rng.random((n, d)) < 0.4) * (n_units > 0)[:, None]
    X = csr_array(dense.astype(np.float32))
    rows = np.repeat(np.arange(n), np.diff(X.indptr))
    ptr = np.concatenate([[0], np.cumsum(n_units)]).astype(np.int64)
    start = rng.integers(0, 50, ptr[-1]).astype(np.int32)
    unit = (rng.random(X.nnz) * n_units[rows]).astype(np.int32)
    evidence = Evidence((X.data * np.float32(0.5)), unit, Units(ptr, start, start + 3))
    docs = pl.DataFrame(
        {
            "doc_id": pl.Series(list(ids) if ids is not None else [f"doc {i}" for i in range(n)], dtype=pl.String),
            "text": pl.Series([None if i % 7 == 6 else f"text {i} é\u2028" for i in range(n)], dtype=pl.String),
            "model": pl.Series([["A", "B", None][i % 3] for i in range(n)], dtype=pl.String),
            "n_units": pl.Series(n_units, dtype=pl.Int32),
            "n_tokens": pl.Series(rng.integers(0, 99, n), dtype=pl.Int32),
            "error": pl.Series(["too odd" if i % 5 == 4 else None for i in range(n)], dtype=pl.String),
        }
    )
    return ConceptMatrix(X, docs, concepts(range(d)), SOURCE, evidence, random_vectors(seed, n_units))


def random_vectors(seed: int, n_units: np.ndarray, dim: int = 5) -> np.ndarray:
    """Of length 1, zeros for documents without units."""
    found = np.random.default_rng([seed, 1]).normal(size=(len(n_units), dim))
    found *= (n_units > 0)[:, None] / np.linalg.norm(found, axis=1, keepdims=True)
    return found.astype(np.float16)


def shard_of(m: ConceptMatrix, start: int, stop: int) -> Shard:
    ev = m.evidence
    assert ev is not None
    latents, maxima, means, unit, starts, ends, indptr, ptr = [], [], [], [], [], [], [0], [0]
    for row in range(start, stop):
        for k in range(m.X.indptr[row], m.X.indptr[row + 1]):
            latents.append(m.concepts["latent"][int(m.X.indices[k])])
            maxima.append(m.X.data[k])
            means.append(ev.mean[k])
            unit.append(ev.unit[k])
        for u in range(ev.units.ptr[row], ev.units.ptr[row + 1]):
            starts.append(ev.units.start[u])
            ends.append(ev.units.end[u])
        indptr.append(len(latents))
        ptr.append(len(starts))
    return Shard(
        np.array(indptr, np.int64),
        np.array(latents, np.int32),
        np.array(maxima, np.float32),
        np.array(means, np.float32),
        np.array(unit, np.int32),
        Units(np.array(ptr, np.int64), np.array(starts, np.int32), np.array(ends, np.int32)),
        m.docs["n_tokens"][start:stop].to_numpy().astype(np.int64),
        m.docs["error"][start:stop].to_list(),
        None if m.vectors is None else m.vectors[start:stop],
    )


def writer(path: Path, m: ConceptMatrix, docs_per_shard: int = 3, **changes: object) -> StoreWriter:
    settings: dict[str, object] = {
        "docs": m.docs.drop("n_units", "n_tokens", "error"),
        "concepts": m.concepts,
        "source": m.source,
        "plan": shard_plan(m.n_docs, docs_per_shard),
        "digest": "digest",
        "vector_dim": None if m.vectors is None else m.vectors.shape[1],
    }
    return StoreWriter(path, **{**settings, **changes})  # type: ignore[arg-type]


def write(path: Path, m: ConceptMatrix, docs_per_shard: int = 3, order: int | None = None, **changes: object) -> None:
    """Write what is missing, in the plan's order or shuffled by the seed `order`."""
    with writer(path, m, docs_per_shard, **changes) as store:
        numbers = list(store.missing)
        if order is not None:
            random.Random(order).shuffle(numbers)
        for number in numbers:
            start = number * docs_per_shard
            store.write_shard(number, shard_of(m, start, min(start + docs_per_shard, m.n_docs)))
        store.finish()


def write_fields(path: Path, fields: Mapping[str, ConceptMatrix], docs_per_shard: int = 3, **changes: object) -> None:
    """A store of several fields: the first is its own, and of the others the texts alone are kept."""
    (own, m), *beside = fields.items()
    digests = {name: f"{changes.get('digest', 'digest')} of {name}" for name, _ in beside}
    source = replace(m.source, field=own)
    with writer(path, m, docs_per_shard, source=source, fields=digests, **changes) as store:
        _fill(store, m, docs_per_shard)
        for name, other in beside:
            docs, source = other.docs.select("doc_id", "text"), replace(other.source, field=name)
            options = {"docs": docs, "source": source, "digest": digests[name]}
            with writer(field_path(path, name), other, docs_per_shard, **options) as further:
                _fill(further, other, docs_per_shard)
                further.finish()
        store.finish()


def _fill(store: StoreWriter, m: ConceptMatrix, docs_per_shard: int) -> None:
    for number in store.missing:
        start = number * docs_per_shard
        store.write_shard(number, shard_of(m, start, min(start + docs_per_shard, m.n_docs)))


def main() -> None:
    """`synthetic.py PATH write ORDER`: write a store in shuffled order. `synthetic.py PATH hold`: lock it and wait.
    `synthetic.py PATH fields`: write a store of three fields.

    Says "begun" before it writes, then "synced" whenever something has reached the disk.
    """
    path, what = Path(sys.argv[1]), sys.argv[2]
    m = random_matrix(3, 6, 20) if what == "fields" else random_matrix(3, 120, 20)
    print("begun", flush=True)
    sync = os.fsync

    def tell(descriptor: int) -> None:
        sync(descriptor)
        print("synced", flush=True)

    os.fsync = tell
    if what == "hold":
        with writer(path, m):
            print("held", flush=True)
            sys.stdin.read()
    elif what == "fields":
        write_fields(path, {"response": m, "prompt": random_matrix(4, 6, 20), "all": random_matrix(5, 6, 20)})
    else:
        write(path, m, order=int(sys.argv[3]))


if __name__ == "__main__":
    main()
