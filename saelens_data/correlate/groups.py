"""Pairs of one cause: those that meet in the same documents are shown as one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.sparse import csc_array, csr_array

from saelens_data.correlate.scan import Pairs, Problem

#: Best pairs of a group by which it is ranked; those that it lacks count 0.
RANKED_BY = 3
#: Share of the documents of either pair that both must hold (Jaccard) to have one cause.
SAME_DOCUMENTS = 0.3


def group_pairs(problem: Problem, pairs: Pairs) -> np.ndarray:
    """The group of each pair, [pairs] from 0 on; the pairs are ranked, best first, and so are the groups.

    From the best on, a pair joins the first group whose best pair shares documents with it (`SAME_DOCUMENTS`);
    otherwise it begins one. So every pair of a group shows what its best one shows, and groups do not grow by chains.
    The documents of two that meet too often are those that hold both; of two that meet too rarely, those that hold
    either, and only pairs of one kind share a group.
    """
    a, b = problem.left.support[pairs.left], problem.right.support[pairs.right]
    together = pairs.both * problem.n > a * b
    sets = []
    for one, other, often in zip(pairs.left.tolist(), pairs.right.tolist(), together.tolist(), strict=True):
        join = np.intersect1d if often else np.union1d
        sets.append(join(problem.left.rows(one), problem.right.rows(other)))
    return group_sets(sets, problem.n, together)


def group_sets(sets: Sequence[np.ndarray], n_docs: int, kind: np.ndarray) -> np.ndarray:
    """The group of each set of documents, [sets] from 0 on, joined by the rule of `group_pairs` within a `kind`."""
    indptr = np.concatenate([[0], np.cumsum([len(rows) for rows in sets])]).astype(np.int64)
    flat = np.concatenate(sets) if sets else np.empty(0, np.int64)
    columns = csr_array((np.ones(len(flat), dtype=np.int8), flat, indptr), shape=(len(sets), n_docs)).tocsc()
    size, group, leaders = np.diff(indptr), np.full(len(sets), -1), 0
    for k, documents in enumerate(sets):
        if group[k] >= 0:
            continue
        shared = np.bincount(_gathered(columns, documents), minlength=len(sets))
        jaccard = shared / np.maximum(size + size[k] - shared, 1)
        group[(group < 0) & (jaccard >= SAME_DOCUMENTS) & (kind == kind[k])] = leaders
        group[k] = leaders
        leaders += 1
    return group


def ranked_groups(group: np.ndarray, score: np.ndarray) -> np.ndarray:
    """The groups numbered anew by the mean score of their three best pairs, [pairs] from 0 on; ties stay as they were.

    A cause makes several pairs, of the concepts that each of its two sides has; one pair alone is sooner a fluke.
    """
    if not len(group):
        return group
    order = np.lexsort((-score, group))
    first = np.flatnonzero(np.diff(group[order], prepend=-1))
    within = np.arange(len(order)) - np.repeat(first, np.diff(first, append=len(order)))
    best = np.add.reduceat(np.where(within < RANKED_BY, score[order], 0.0), first)
    place = np.empty(len(first), dtype=np.int64)
    place[np.argsort(-best, kind="stable")] = np.arange(len(first))
    return np.asarray(place[group])


def _gathered(columns: csc_array, documents: np.ndarray) -> np.ndarray:
    """The sets that hold each of these documents, one after the other."""
    ptr = columns.indptr
    parts = [columns.indices[ptr[d] : ptr[d + 1]] for d in documents.tolist()]
    return np.concatenate(parts) if parts else np.empty(0, np.int64)
