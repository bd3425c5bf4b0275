"""Matrices of documents in which groups were planted, and ones in which nothing was."""

from __future__ import annotations

import numpy as np
import polars as pl
from scipy.sparse import csr_array
from synthetic import SOURCE, concepts

from saelens_data.matrix import ConceptMatrix, Evidence, Units


def planted(
    seed: int, *, k: int = 4, n: int = 240, own: int = 12, others: int = 30, rate: float = 0.7, base: float = 0.08
) -> ConceptMatrix:
    """n documents in k groups: a group's `own` concepts are active with chance `rate`, those of others with `base`.

    `others` concepts say nothing of the groups. Column `truth` holds the group, `noise` a coin.
    """
    rng = np.random.default_rng(seed)
    truth = rng.permutation(np.arange(n) % k)
    chance = np.full((n, k * own + others), 0.3)
    chance[:, : k * own] = np.where(truth[:, None] == np.arange(k * own) // own, rate, base)
    return matrix_of(rng, chance, truth)


def noise(seed: int, *, n: int = 240, d: int = 60, rate: float = 0.3) -> ConceptMatrix:
    """Documents in which every concept is active by a coin of its own."""
    rng = np.random.default_rng(seed)
    return matrix_of(rng, np.full((n, d), rate), rng.integers(0, 4, n))


def matrix_of(rng: np.random.Generator, chance: np.ndarray, truth: np.ndarray) -> ConceptMatrix:
    n, d = chance.shape
    X = csr_array((rng.lognormal(sigma=0.4, size=(n, d)) * (rng.random((n, d)) < chance)).astype(np.float32))
    ptr = 3 * np.arange(n + 1, dtype=np.int64)
    start = np.tile(np.array([0, 6, 12], np.int32), n)
    evidence = Evidence(
        X.data * np.float32(0.5), rng.integers(0, 3, X.nnz).astype(np.int32), Units(ptr, start, start + 5)
    )
    docs = pl.DataFrame(
        {
            "doc_id": [f"doc {i}" for i in range(n)],
            "text": ["first secon third"] * n,
            "truth": [f"group {c}" for c in truth],
            "noise": rng.integers(0, 2, n),
            "error": pl.Series([None] * n, dtype=pl.String),
        }
    )
    return ConceptMatrix(X, docs, concepts(range(d)), SOURCE, evidence)
