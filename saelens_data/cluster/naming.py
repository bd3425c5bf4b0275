"""What sets each cluster apart, and what to call it.

Clusters are made of the concepts that would describe them, so that a test of these on the clusters is circular: a
cluster of documents drawn at random also "differs" in what it was made by, in new documents too, since these are placed
by the same concepts. So the chosen concepts are dealt into two halves, near-duplicates together; each concept is tested
on clusters that were made without its half, and the question becomes whether it goes together with the rest. Concepts
that had no part in the clusters are tested on the clusters themselves. The tests are those of `diff`, each cluster
against the rest, and q is corrected over all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_array

from saelens_data import stats
from saelens_data.cluster.quality import crossed
from saelens_data.diff.comparison import Counts, Looks, rank_law
from saelens_data.diff.grouping import group_latents
from saelens_data.matrix import ConceptMatrix

#: Documents that concepts are tested on, at most, and in how many of them one must be active to be tested.
_TESTED, _SUPPORT = 5_000, 5
#: Concepts listed for each cluster, and how many make its name.
LISTED, NAMED = 10, 3
#: Groups the documents by some of the chosen concepts, [chosen] bool -> labels [documents], -1 for none.
Regroup = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class Naming:
    """`names` [clusters], and `concepts`, a row for each concept listed of a cluster; see `ClusterResult.concepts`."""

    names: list[str]
    concepts: pl.DataFrame
    #: Tests that q is corrected for, and documents they were made on.
    n_tests: int
    n_docs: int


@dataclass(frozen=True, eq=False)
class Tests:
    """One cluster against the rest for each concept, [clusters, concepts] each; `p` NaN where not tested."""

    p: np.ndarray
    #: Where the concept is the more frequent or the stronger one in the cluster.
    above: np.ndarray


def name_clusters(
    m: ConceptMatrix,
    labels: np.ndarray,
    columns: np.ndarray,
    regroup: Regroup,
    *,
    alpha: float = 0.05,
    seed: int = 0,
) -> Naming:
    """Name the clusters of `labels` [documents of m], -1 for none, made of the concepts at `columns`."""
    k = int(labels.max()) + 1
    rng = np.random.default_rng(seed)
    rows = np.flatnonzero(labels >= 0)
    tested_on = rows if len(rows) <= _TESTED else np.sort(rng.choice(rows, _TESTED, replace=False))
    part = m.take_docs(tested_on)
    candidates = np.flatnonzero(np.bincount(part.X.indices, minlength=m.n_concepts) >= _SUPPORT)
    family = group_latents((part,)).of[: m.n_concepts]
    p = np.full((k, m.n_concepts), np.nan)
    above = np.zeros((k, m.n_concepts), dtype=bool)
    for tested, made in _rounds(labels, columns, family, regroup, candidates, rng):
        rows_here = tested_on[made[tested_on] >= 0]
        found = one_against_rest(csr_array(m.X[rows_here][:, tested]), made[rows_here], k)
        p[:, tested], above[:, tested] = found.p, found.above
    q = np.full_like(p, np.nan)
    known = ~np.isnan(p)
    if known.any():
        q[known] = stats.benjamini_hochberg(p[known])
    here, there = _densities(m, labels, k)
    table = _listed(m, columns, family, (here, there), (q, above & (q < alpha)), np.bincount(labels[rows], minlength=k))
    return Naming(short_names(table, k), table, int(known.sum()), len(tested_on))


def one_against_rest(X: csr_array, labels: np.ndarray, k: int, alpha: float = 0.05) -> Tests:
    """Test each column of `X` [documents, columns]: documents of each cluster against all others, as `diff` does.

    Presence by Fisher's exact test, strength by ranks over all documents; twice the smaller p of the two.
    """
    n = X.shape[0]
    scores = stats.rank_scores(stats.pooled_ranks(X)[0])
    p = np.full((k, X.shape[1]), np.nan)
    above = np.zeros((k, X.shape[1]), dtype=bool)
    total = stats.count_active(X.indices, X.shape[1])
    for cluster in range(k):
        inside = labels == cluster
        n_a = int(inside.sum())
        if not 0 < n_a < n:
            continue
        a = stats.count_active(X[inside].indices, X.shape[1])
        counts = Counts(a, total - a, n_a, n - n_a)
        law = rank_law(scores, inside, None)
        looks = Looks.of(counts.p_value(), law.p_value(0.0), (counts.least_p(), law.least_p()), alpha)
        p[cluster] = np.where(looks.tested, looks.p_value(), np.nan)
        above[cluster] = law.observed > 0
    return Tests(p, above)


def _rounds(
    labels: np.ndarray,
    columns: np.ndarray,
    family: np.ndarray,
    regroup: Regroup,
    candidates: np.ndarray,
    rng: np.random.Generator,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """(concepts to test, the clusters to test them on): those of no part in the clusters, and the two halves.

    `family` [latents] is the group of near-duplicates of each, all of which are on one side.
    """
    side = rng.permutation(int(family.max()) + 1) % 2 == 0
    half = side[family]
    part = np.zeros(len(family), dtype=bool)
    part[columns] = True
    part = np.isin(family, family[part])  # a near-duplicate of a chosen concept is as circular as that one
    rounds = [(others, labels)] if len(others := candidates[~part[candidates]]) else []
    for tested in (half, ~half):
        own = candidates[(part & tested)[candidates]]
        kept = ~tested[columns]
        if len(own) and kept.any():
            rounds.append((own, matched(labels, regroup(kept))))
    return rounds


def matched(labels: np.ndarray, other: np.ndarray) -> np.ndarray:
    """`other` with its clusters numbered as those of `labels` that they share most documents with."""
    k, many = int(labels.max()) + 1, int(other.max()) + 1
    if many == 0:
        return other
    one, two = linear_sum_assignment(-crossed(labels, other, k, many))
    number = np.full(many, -1, dtype=np.int64)
    number[two] = one
    return np.where(other >= 0, number[other], -1)


def _densities(m: ConceptMatrix, labels: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Share of documents in which each latent is active, [clusters, latents]: of each cluster, and of all others."""
    rows = np.flatnonzero(labels >= 0)
    pattern = csr_array((np.ones(m.X.nnz), m.X.indices, m.X.indptr), shape=m.X.shape)
    member = csr_array((np.ones(len(rows)), (labels[rows], rows)), shape=(k, m.n_docs))
    active = np.asarray((member @ pattern).toarray())
    size = np.bincount(labels[rows], minlength=k)[:, None]
    return active / np.maximum(size, 1), (active.sum(axis=0) - active) / np.maximum(len(rows) - size, 1)


def _listed(
    m: ConceptMatrix,
    columns: np.ndarray,
    family: np.ndarray,
    density: tuple[np.ndarray, np.ndarray],
    tested: tuple[np.ndarray, np.ndarray],
    sizes: np.ndarray,
) -> pl.DataFrame:
    """Of each cluster the concepts that occur more often in it, those that pass the test first, by least difference.

    Of near-duplicates the first stands for all.
    """
    (here, there), (q, passes) = density, tested
    is_chosen = np.zeros(m.n_concepts, dtype=bool)
    is_chosen[columns] = True
    lines, n = [], int(sizes.sum())
    for cluster, size in enumerate(sizes.tolist()):
        rest, passed = n - size, passes[cluster]
        inside, outside = (np.rint(of).astype(np.int64) for of in (here[cluster] * size, there[cluster] * rest))
        low, high = stats.newcombe_unpaired(inside, outside, max(size, 1), max(rest, 1))
        order = np.lexsort((np.arange(m.n_concepts), -low.round(12), ~passed))
        order = order[(here[cluster] > there[cluster])[order]]
        order = order[np.sort(np.unique(family[order], return_index=True)[1])][:LISTED]
        lines += [
            {
                "cluster": cluster,
                "rank": rank,
                "latent": int(m.concepts["latent"][int(at)]),
                "label": _label(m, int(at)),
                "here": float(here[cluster, at]),
                "there": float(there[cluster, at]),
                "difference": float(here[cluster, at] - there[cluster, at]),
                "ci_low": float(low[at]),
                "ci_high": float(high[at]),
                "q_value": None if np.isnan(q[cluster, at]) else float(q[cluster, at]),
                "apart": bool(passed[at]),
                "chosen": bool(is_chosen[at]),
            }
            for rank, at in enumerate(order, start=1)
        ]
    return pl.DataFrame(lines, schema=SCHEMA)


SCHEMA = {
    "cluster": pl.Int32,
    "rank": pl.UInt32,
    "latent": pl.Int32,
    "label": pl.String,
    "here": pl.Float64,
    "there": pl.Float64,
    "difference": pl.Float64,
    "ci_low": pl.Float64,
    "ci_high": pl.Float64,
    "q_value": pl.Float64,
    "apart": pl.Boolean,
    "chosen": pl.Boolean,
}


def _label(m: ConceptMatrix, column: int) -> str | None:
    label = m.concepts["label"][column] if "label" in m.concepts.columns else None
    return None if label is None else str(label)


def short_names(concepts: pl.DataFrame, k: int) -> list[str]:
    """A name for each cluster: up to three words of its concepts' labels, none of them used twice.

    A word counts for a cluster as its concepts are more frequent there than elsewhere, less what it counts for another,
    so that one which is listed for all names none. The words that count most are given out first. A concept without a
    label gives its number. Where none of a cluster's concepts passes the test, all that are listed count, and the name
    ends in a question mark; a cluster without concepts is called by its number.
    """
    weight: dict[str, np.ndarray] = {}
    sure = set(concepts.filter("apart")["cluster"].to_list())
    rows = concepts.filter(pl.col("apart") | ~pl.col("cluster").is_in(list(sure)))
    for cluster, rank, latent, label, difference in rows.select(
        "cluster", "rank", "latent", "label", "difference"
    ).iter_rows():
        parts = [part.strip() for part in label.split("·")] if label else [f"latent {latent}"]
        for at, word in enumerate(part for part in parts if part):
            # Labels of the bundled encoder join phrases by ' · ', the most telling first.
            weight.setdefault(word, np.zeros(k))[cluster] += difference / (1 + at) - 1e-9 * rank
    offers = []
    for word, counts in weight.items():
        cluster = int(counts.argmax())
        other = np.delete(counts, cluster).max() if k > 1 else 0.0
        offers.append((other - counts[cluster], cluster, word))
    names: list[list[str]] = [[] for _ in range(k)]
    for margin, cluster, word in sorted(offers):
        if len(names[cluster]) < NAMED and (margin < 0 or not names[cluster]):
            names[cluster].append(word)
    return [
        ", ".join(words) + ("" if cluster in sure else "?") if words else f"cluster {cluster}"
        for cluster, words in enumerate(names)
    ]
