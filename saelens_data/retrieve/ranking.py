"""Scores of documents for a query vector: by the whole text's embedding, by its concepts, and by both.

Concepts score by the cosine between the query and what the decoder makes of a document's mean activations, with the
latents that hardly point towards or away from the query left out:

    g = directions @ query,   w_j = sign(g_j) max(|g_j| - t sd(g), 0)
    score_d = sum_j mean_dj w_j / |sum_j mean_dj direction_j|

so every latent's contribution is known, and they add up. Both arms take pseudo-relevance feedback (Rocchio 1971, in The
SMART Retrieval System): the query moves towards the documents that come first, and away from what all documents share.
Every constant below was chosen on four labelled sets.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Protocol
from weakref import WeakKeyDictionary

import numpy as np
from scipy.sparse import csc_array, csr_array

from saelens_data.matrix import ConceptMatrix, Keeper, canonical_csr
from saelens_data.matrix.by_latent import ByLatent
from saelens_data.matrix.sparse import gather
from saelens_data.retrieve.dense_index import DenseIndex

#: Latents that point towards the query by less than this many standard deviations (over latents) count for nothing.
SHRINK = 0.5
#: Documents that the query moves towards, how far, as a multiple of its own length, and how much of the mean of all
#: documents is taken from theirs.
FEEDBACK, PULL, APART = 12, 2.0, 0.8
#: A document counts e times less for each of so many standard deviations by which its score is below the first: where
#: only a few have what is looked for, these alone pull.
TRUST = 1.0
#: At most one document in this many pulls, so that in a small set the first are not most of it.
_OF = 20
#: Standard deviations of concepts beside one of the embedding: when looking for those documents, and at last.
WEIGHT_FIRST, WEIGHT = 1.0, 0.25
#: Above this many documents, those worth scoring are looked for by the heaviest latents and the nearest embeddings.
EXACT = 200_000
#: Documents from which their lengths are kept in the store: of fewer they are worked out in 0.2 s.
KEPT_FROM = 20_000
#: File that keeps the lengths.
LENGTHS = "lengths.npy"
#: How many of both are looked for there, and by how many latents.
CANDIDATES, HEAVIEST = 2_000, 64
#: Documents that the spread of scores, and what all share, are estimated from.
_SURVEY = 16_384
#: Rows that are scored at a time: blocks of this many vectors stay in the processor's cache.
_BLOCK = 16_384
_TINY = 1e-12


class Arm(Protocol):
    """One way to score documents for vectors in the reader's space."""

    def scores(self, queries: np.ndarray, rows: np.ndarray | None = None) -> np.ndarray:
        """Cosines [documents or rows, queries] float32 for `queries` [queries, dim] of length 1."""

    def towards(self, rows: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
        """Direction [dim] from what all documents share to the mean of `rows`, weighted or plain, of length 1."""

    def survey(self, queries: np.ndarray) -> np.ndarray:
        """Cosines of some documents, evenly chosen: what `scores` says of `evenly` many rows."""

    def candidates(self, query: np.ndarray, n: int) -> np.ndarray:
        """Rows of at least `n` documents (if there are) that are likely to score highest for `query` [dim]."""


@dataclass(frozen=True, eq=False)
class DenseArm:
    """Scores by embeddings [documents, dim], mapped from disk and read in blocks; exact."""

    vectors: np.ndarray
    #: Finds candidates; without one, all vectors are gone through.
    index: DenseIndex | None = None
    #: Keeps the index of many vectors, which is looked for, and made, when candidates are first asked for.
    keeper: Keeper | None = None

    @staticmethod
    def of(m: ConceptMatrix, index: DenseIndex | None = None) -> DenseArm | None:
        """The arm of a matrix, kept while it lives unless an index is given; None for one without vectors."""
        if m.vectors is None or index is not None:
            return None if m.vectors is None else DenseArm(m.vectors, index)
        if m not in _DENSE:
            _DENSE[m] = DenseArm(m.vectors, keeper=m.keeper)
        return _DENSE[m]

    def scores(self, queries: np.ndarray, rows: np.ndarray | None = None) -> np.ndarray:
        """Cosines of the embeddings with `queries`."""
        vectors = self.vectors if rows is None else self.vectors[rows]
        found = np.empty((len(vectors), len(queries)), np.float32)
        across = np.ascontiguousarray(queries.T, dtype=np.float32)
        for at in range(0, len(vectors), _BLOCK):
            found[at : at + _BLOCK] = vectors[at : at + _BLOCK].astype(np.float32, copy=False) @ across
        return found

    def towards(self, rows: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
        """From the mean embedding of all to that of the documents `rows`."""
        return unit(self._mean(rows, weights) - APART * self._shared)

    def survey(self, queries: np.ndarray) -> np.ndarray:
        """Cosines of some embeddings, which are kept in memory."""
        return self._some.scores(queries)

    @cached_property
    def _some(self) -> DenseArm:
        return DenseArm(self.vectors[evenly(len(self.vectors))].astype(np.float32))

    @cached_property
    def _shared(self) -> np.ndarray:
        return np.asarray(self._some.vectors.mean(axis=0))

    def _mean(self, rows: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
        return np.asarray(portions(rows, weights) @ self.vectors[rows].astype(np.float32))

    def candidates(self, query: np.ndarray, n: int) -> np.ndarray:
        """The nearest: exactly, or as the index finds them."""
        index = self._kept_index if self.index is None else self.index
        return best(self.scores(query[None])[:, 0], n) if index is None else index.nearest(query, n)

    @cached_property
    def _kept_index(self) -> DenseIndex | None:
        many = len(self.vectors) > EXACT
        return DenseIndex.kept(self.vectors, self.keeper) if many and self.keeper is not None else None


@dataclass(frozen=True, eq=False)
class ConceptArm:
    """Scores by concepts: `mean` [documents, latents], `directions` [latents, dim], `lengths` [documents]."""

    mean: csr_array
    directions: np.ndarray
    lengths: np.ndarray
    #: The same activations by latent, where there are too many to go through them all.
    by_latent: ByLatent | None = None

    @staticmethod
    def of(m: ConceptMatrix, directions: np.ndarray) -> ConceptArm:
        """The arm of a matrix, kept while it lives; lengths of documents are kept in the store if they are many."""
        arm, many = _CONCEPTS.get(m), m.n_docs > EXACT
        if arm is None or (arm.by_latent is not None) != many or not np.array_equal(arm.directions, directions):
            mean = m.pooled("mean").X
            columns = m.by_latent if many else None
            kept = columns if columns and columns.mean is not None else None
            arm = _CONCEPTS[m] = ConceptArm(mean, directions, lengths_of(m, directions), kept)
        return arm

    def weights(self, queries: np.ndarray) -> np.ndarray:
        """What an activation of 1 counts for each of `queries`, [latents, queries] float32."""
        return shrink(self.directions @ queries.T)

    def scores(self, queries: np.ndarray, rows: np.ndarray | None = None) -> np.ndarray:
        """Cosines, but for the latents that are left out; 0 for a document without concepts."""
        return self.weighed(self.weights(queries), rows)

    def weighed(self, weights: np.ndarray, rows: np.ndarray | None = None) -> np.ndarray:
        """Scores by `weights` [latents, queries] of the latents, [documents or rows, queries] float32."""
        mean = self.mean if rows is None else take_rows(self.mean, rows)
        lengths = self.lengths if rows is None else self.lengths[rows]
        found = np.asarray(mean @ weights)
        return np.asarray(np.divide(found, lengths[:, None], out=np.zeros_like(found), where=lengths[:, None] > 0))

    def shares(self, weights: np.ndarray, row: int) -> tuple[np.ndarray, np.ndarray]:
        """Columns of the latents that give something to a document's score by `weights` [latents], and how much."""
        part = slice(int(self.mean.indptr[row]), int(self.mean.indptr[row + 1]))
        columns = self.mean.indices[part]
        given = self.mean.data[part].astype(np.float64) * weights[columns] / max(float(self.lengths[row]), _TINY)
        return columns[given != 0], given[given != 0]

    def towards(self, rows: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
        """From the mean of what the decoder makes of all, each at length 1, to that of the documents `rows`."""
        return unit(self._mean(rows, weights) - APART * self._shared)

    def survey(self, queries: np.ndarray) -> np.ndarray:
        """Cosines of some documents, whose activations are kept in memory."""
        return self._some.scores(queries)

    @cached_property
    def _some(self) -> ConceptArm:
        rows = evenly(len(self.lengths))
        return ConceptArm(take_rows(self.mean, rows), self.directions, self.lengths[rows])

    @cached_property
    def _shared(self) -> np.ndarray:
        return self._mean(evenly(len(self.lengths)))

    def _mean(self, rows: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
        shares, lengths = portions(rows, weights), self.lengths[rows]
        each = np.divide(shares, lengths, out=np.zeros_like(shares), where=lengths > 0)
        return np.asarray((each @ take_rows(self.mean, rows)) @ self.directions)

    def candidates(self, query: np.ndarray, n: int) -> np.ndarray:
        """Those that score highest by the `HEAVIEST` latents alone."""
        weights = self.weights(query[None])[:, 0]
        if self.by_latent is None:
            return best(self.scores(query[None])[:, 0], n)
        lengths = self.lengths
        heaviest = np.argsort(-np.abs(weights), kind="stable")[:HEAVIEST]
        total = sum_by_latent(self.by_latent, heaviest, weights[heaviest], len(lengths))
        return best(np.divide(total, lengths, out=np.zeros_like(total), where=lengths > 0), n)


#: The arms of each matrix that lives; they hold its arrays and not the matrix.
_DENSE: WeakKeyDictionary[ConceptMatrix, DenseArm] = WeakKeyDictionary()
_CONCEPTS: WeakKeyDictionary[ConceptMatrix, ConceptArm] = WeakKeyDictionary()


@dataclass(frozen=True, eq=False)
class Ranking:
    """Scores of documents for queries, and what they are made of: score = dense + factor * concepts.

    `score`, `dense`, `concepts` [documents or rows, queries]; `factor` [queries]; `spread` [queries] is the standard
    deviation of the score over all documents; `queries` [queries, dim], after feedback. An arm without a say is None.
    """

    queries: np.ndarray
    score: np.ndarray
    factor: np.ndarray
    spread: np.ndarray
    dense: np.ndarray | None = None
    concepts: np.ndarray | None = None
    #: The documents scored, if not all.
    rows: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Ranker:
    """Ranks by one arm or both. `fit` [documents] bool are those that can be found at all."""

    fit: np.ndarray
    dense: DenseArm | None = None
    concepts: ConceptArm | None = None
    feedback: int = FEEDBACK

    @cached_property
    def arms(self) -> list[Arm]:
        """The arms that have a say."""
        return [arm for arm in (self.dense, self.concepts) if arm is not None]

    def rank(self, queries: np.ndarray) -> Ranking:
        """Score every document for `queries` [queries, dim] of length 1, all at once."""
        return self._moved(queries, None)

    def rank_one(self, query: np.ndarray) -> Ranking:
        """Score those documents for `query` [dim] that may come first: all, or candidates where there are many."""
        rows = self._candidates(query) if len(self.fit) > EXACT else None
        found = self._moved(query[None], rows)
        if rows is None or not self.feedback:
            return found
        rows = np.union1d(rows, self._candidates(found.queries[0]))
        return self._score(found.queries, rows, WEIGHT)

    def _moved(self, queries: np.ndarray, rows: np.ndarray | None) -> Ranking:
        pulling = min(self.feedback, -(-int(self.fit.sum()) // _OF))
        if not pulling:
            return self._score(queries, rows, WEIGHT)
        first = self._score(queries, rows, WEIGHT_FIRST)
        moved = np.empty_like(queries)
        for i, query in enumerate(queries):
            scores = np.where(self.fit if rows is None else self.fit[rows], first.score[:, i], -np.inf)
            top = best(scores, pulling)
            below = (scores[top[:1]] - scores[top]) / max(float(first.spread[i]), _TINY)
            pull = self.arms[0].towards(top if rows is None else rows[top], np.exp(-below / TRUST))
            moved[i] = unit(query + PULL * pull)
        return self._score(moved, rows, WEIGHT)

    def _score(self, queries: np.ndarray, rows: np.ndarray | None, weight: float) -> Ranking:
        dense, concepts = (None if arm is None else arm.scores(queries, rows) for arm in (self.dense, self.concepts))
        surveyed = dense, concepts
        if rows is not None or len(self.fit) > _SURVEY:
            surveyed = (
                None if self.dense is None else self.dense.survey(queries),
                None if self.concepts is None else self.concepts.survey(queries),
            )
        return joined(queries, dense, concepts, surveyed, weight=weight, rows=rows)

    def _candidates(self, query: np.ndarray) -> np.ndarray:
        found: np.ndarray = np.unique(np.concatenate([arm.candidates(query, CANDIDATES) for arm in self.arms]))
        return found


def joined(
    queries: np.ndarray,
    dense: np.ndarray | None,
    concepts: np.ndarray | None,
    surveyed: tuple[np.ndarray | None, np.ndarray | None],
    *,
    weight: float,
    rows: np.ndarray | None = None,
) -> Ranking:
    """Scores of one arm or the sum of both: concepts count as if they spread `weight` times as embeddings do.

    `surveyed` are the scores of both over a sample of the documents, which tells how they spread.
    """
    spreads = [None if part is None else part.std(axis=0) for part in surveyed]
    if dense is None:
        assert concepts is not None
        assert spreads[1] is not None
        return Ranking(queries, concepts, np.ones_like(spreads[1]), spreads[1], None, concepts, rows)
    assert spreads[0] is not None
    if concepts is None or surveyed[1] is None or spreads[1] is None:
        return Ranking(queries, dense, np.zeros_like(spreads[0]), spreads[0], dense, None, rows)
    factor = np.divide(weight * spreads[0], spreads[1], out=np.zeros_like(spreads[0]), where=spreads[1] > 0)
    spread = (surveyed[0] + factor * surveyed[1]).std(axis=0)
    return Ranking(queries, dense + factor * concepts, factor, spread, dense, concepts, rows)


def portions(rows: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """Weights of `rows` that add up to 1, float32; all the same if None."""
    weights = np.ones(len(rows)) if weights is None else weights
    return np.asarray(weights / max(weights.sum(), _TINY), np.float32)


def shrink(towards: np.ndarray, by: float = SHRINK) -> np.ndarray:
    """Soft threshold of `towards` [latents, queries]: all move to 0 by `by` standard deviations over the latents."""
    limit = by * towards.std(axis=0)
    return np.asarray(np.sign(towards) * np.maximum(np.abs(towards) - limit, 0), np.float32)


def lengths_of(m: ConceptMatrix, directions: np.ndarray) -> np.ndarray:
    """Lengths of the documents of a matrix, [documents] float32; of a whole store of many, kept there.

    They go with the SAE and the very directions [latents, dim] that they were worked out from.
    """

    def build() -> np.ndarray:
        return reading_lengths(m.pooled("mean").X, directions)

    if m.keeper is None or m.n_docs < KEPT_FROM:
        return build()
    used = np.ascontiguousarray(directions, np.float32)
    key = {"sae_sha256": m.source.sae_sha256, "directions": f"{used.shape} {sha256(used.data).hexdigest()}"}
    return m.keeper.array(LENGTHS, (m.n_docs,), key, build)


def reading_lengths(mean: csr_array, directions: np.ndarray) -> np.ndarray:
    """Length of what the decoder makes of each document, |sum_j mean_dj direction_j|, [documents] float32."""
    n = mean.shape[0]
    found = np.empty(n, np.float32)
    for at in range(0, n, _BLOCK):
        rows = np.arange(at, min(at + _BLOCK, n))
        found[rows] = np.linalg.norm(take_rows(mean, rows) @ directions, axis=1)
    return found


def take_rows(X: csr_array, rows: np.ndarray) -> csr_array:
    """Some rows of X; unlike X[rows], it reads no other row of a mapped matrix."""
    indptr, index = gather(X.indptr, rows)
    return canonical_csr(X.data[index], X.indices[index], indptr, (len(rows), X.shape[1]))


def sum_by_latent(columns: ByLatent, latents: np.ndarray, weights: np.ndarray, n_docs: int) -> np.ndarray:
    """Weighted sum of the means of a few latents, [n_docs] float32; nothing of other latents is read."""
    assert columns.mean is not None
    parts = [slice(int(columns.ptr[j]), int(columns.ptr[j + 1])) for j in latents]
    ptr = np.concatenate([[0], np.cumsum([part.stop - part.start for part in parts])])
    rows, mean = (np.concatenate([array[part] for part in parts]) for array in (columns.rows, columns.mean))
    chosen = csc_array((mean, rows, ptr.astype(rows.dtype)), shape=(n_docs, len(parts)))
    return np.asarray(chosen @ weights.astype(np.float32))


def best(scores: np.ndarray, n: int) -> np.ndarray:
    """Rows of the `n` highest finite scores, highest first, ties in row order."""
    if n < len(scores):
        cut = np.partition(scores, len(scores) - n)[len(scores) - n]
        rows = np.flatnonzero(scores >= cut)
    else:
        rows = np.arange(len(scores))
    rows = rows[np.isfinite(scores[rows])]
    return np.asarray(rows[np.argsort(-scores[rows], kind="stable")][:n])


def evenly(n: int) -> np.ndarray:
    """Rows spread evenly over n documents: all of them, unless they are many."""
    return np.arange(n) if n <= _SURVEY else np.linspace(0, n - 1, _SURVEY).astype(np.int64)


def unit(vector: np.ndarray) -> np.ndarray:
    """The vector at length 1; zeros stay."""
    return np.asarray(vector / max(float(np.linalg.norm(vector)), _TINY), np.float32)
