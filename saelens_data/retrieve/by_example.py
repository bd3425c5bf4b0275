"""From examples to weights of concepts: documents that others should be like, and such as they should not.

The prior is the direction from what all documents share to the examples (as feedback takes it), which serves from one
example up. A logistic regression, examples against others, departs from it where the examples ask for that: its
departures are sparse and small by an elastic net (Zou and Hastie 2005), whose say falls as examples are added, and
are found by accelerated proximal gradients (Beck and Teboulle 2009, FISTA).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from scipy.special import expit

from saelens_data.errors import InputError, choices
from saelens_data.matrix import ConceptMatrix
from saelens_data.query import And, Latent, Not, Or, Query, Weighted
from saelens_data.retrieve.ranking import Arm, ConceptArm, DenseArm, evenly, take_rows, unit

#: Documents drawn to tell the examples from, and how far the direction moves away from those that are unwanted.
BACKGROUND, AWAY = 100, 0.5
#: Elastic net on departures from the prior, whose scores have a standard deviation of 1 in logits; steps.
_L1, _L2, _STEPS = 0.02, 0.1, 150
#: Logit of a document as likely as most: few documents are like the examples.
_MOST = -3.0
#: Latents that a query for the examples names: wanted, and unwanted.
_WANTED, _UNWANTED = 8, 3


@dataclass(frozen=True, eq=False)
class Example:
    """What examples say: `weights` [latents] of activations, `vector` [dim] the direction of their embeddings."""

    weights: np.ndarray
    #: None where there are no embeddings.
    vector: np.ndarray | None
    #: What each latent gives to the scores of the examples, and to those of the unwanted, on average, [latents].
    given: np.ndarray
    taken: np.ndarray

    def query(self, m: ConceptMatrix) -> Query:
        """The concepts that say most of it, as a query to save and edit; it ranks much the same, not exactly so."""
        wanted = np.argsort(-self.given, kind="stable")[:_WANTED]
        wanted = wanted[self.given[wanted] > 0]
        if not len(wanted):
            raise InputError("the examples have no concept that sets them apart: choose others")
        numbers = m.concepts["latent"].to_list()
        shares = np.maximum(np.round(self.given[wanted] / self.given[wanted[0]], 2), 0.01).tolist()
        named = [Latent(numbers[j]) for j in wanted.tolist()]
        weighted: list[Query] = [
            name if share == 1 else Weighted(share, name) for share, name in zip(shares, named, strict=True)
        ]
        query: Query = Or(tuple(weighted)) if len(weighted) > 1 else weighted[0]
        unwanted = np.argsort(self.taken, kind="stable")[:_UNWANTED]
        excluded = [Not(Latent(numbers[j])) for j in unwanted[self.taken[unwanted] < 0].tolist()]
        return And((query, *excluded)) if excluded else query


def rows_of(m: ConceptMatrix, ids: Sequence[str]) -> np.ndarray:
    """Rows of documents by their ids, each once. Raises InputError for one that is not there."""
    position = {doc_id: row for row, doc_id in enumerate(m.docs["doc_id"].to_list())}
    for doc_id in ids:
        if str(doc_id) not in position:
            raise InputError(f"there is no document '{doc_id}'; {choices(str(doc_id), position)}")
    return np.array([position[doc_id] for doc_id in dict.fromkeys(map(str, ids))], dtype=np.int64)


def from_examples(
    arm: ConceptArm, vectors: np.ndarray | None, like: np.ndarray, unlike: np.ndarray, *, fit: np.ndarray, seed: int
) -> Example:
    """Weights of concepts and the direction of embeddings for examples, rows `like` and `unlike`.

    Documents drawn by `seed` from those that are `fit` [documents] bool stand for all others, beside `unlike`.
    Raises InputError if a document is on both sides, or if no example has a concept.
    """
    if len(np.intersect1d(like, unlike)):
        raise InputError("a document is given as like and as unlike: leave it out of one")
    if not fit[like].any():
        raise InputError("the examples have no concepts, as empty documents have none: choose others")
    prior = arm.weights(_direction(arm, like, unlike)[None])[:, 0].astype(np.float64)
    others = np.setdiff1d(np.flatnonzero(fit), np.concatenate([like, unlike]))
    drawn = np.sort(np.random.default_rng(seed).choice(others, min(BACKGROUND, len(others)), replace=False))
    weights = _learn(arm, prior, like, unlike, drawn).astype(np.float32)
    vector = None if vectors is None else _direction(DenseArm(vectors), like, unlike)
    return Example(weights, vector, _shared(arm, weights, like), _shared(arm, weights, unlike))


def _direction(arm: Arm, like: np.ndarray, unlike: np.ndarray) -> np.ndarray:
    towards = arm.towards(like)
    return unit(towards - AWAY * arm.towards(unlike)) if len(unlike) else towards


def _learn(arm: ConceptArm, prior: np.ndarray, like: np.ndarray, unlike: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """The prior, scaled to logits, and the departures from it. Both sides weigh as much as there are examples."""
    survey = arm.weighed(prior[:, None].astype(np.float32), evenly(len(arm.lengths)))[:, 0]
    if not (spread := float(survey.std())):
        return prior
    rows = np.concatenate([like, unlike, drawn])
    A = _relative(arm, rows)
    offset = _MOST + (A @ prior - survey.mean()) / spread
    sides = [(like, 1.0), (unlike, 0.5 if len(drawn) else 1.0), (drawn, 0.5 if len(unlike) else 1.0)]
    weight = np.concatenate([np.full(len(side), share * len(like) / max(len(side), 1)) for side, share in sides])
    scale = _scale(A)
    B = csr_array((A.data * scale[A.indices], A.indices, A.indptr), shape=A.shape)
    departures = sparse_logistic(B, np.arange(len(rows)) < len(like), weight, offset)
    return np.asarray(prior / spread + departures * scale)


def _relative(arm: ConceptArm, rows: np.ndarray) -> csr_array:
    """Mean activations of some documents over their lengths: what weights count, [rows, latents] float64."""
    A = take_rows(arm.mean, rows)
    length = np.repeat(np.maximum(arm.lengths[rows].astype(np.float64), 1e-12), np.diff(A.indptr))
    return csr_array((A.data / length, A.indices, A.indptr), shape=A.shape)


def _scale(A: csr_array) -> np.ndarray:
    """Brings strong latents nearer to weak ones, by the root of their strength, and rows to a mean length of 1."""
    strength = np.sqrt(np.bincount(A.indices, A.data**2, A.shape[1]) / max(A.shape[0], 1))
    scale = np.where(strength > 0, 1 / np.sqrt(strength + 1e-4), 0)
    length = np.sqrt(np.sum((A.data * scale[A.indices]) ** 2) / max(A.shape[0], 1))
    return np.asarray(scale / max(length, 1e-12))


def sparse_logistic(
    A: csr_array,
    wanted: np.ndarray,
    weight: np.ndarray,
    offset: np.ndarray,
    *,
    l1: float = _L1,
    l2: float = _L2,
    steps: int = _STEPS,
) -> np.ndarray:
    """Coefficients w [columns] that minimise, with an intercept b that is not penalised,

        sum_i weight_i log(1 + exp(-y_i (offset_i + b + A_i w))) + l1 |w|_1 + l2 |w|^2 / 2

    with y = 1 where `wanted`, else -1.
    """
    rows = np.diff(A.indptr)
    squares = np.bincount(np.repeat(np.arange(len(rows)), rows), A.data**2, len(rows))
    step = 1 / (0.25 * float(weight @ (squares + 1)) + l2)
    w, b = np.zeros(A.shape[1]), 0.0
    ahead_w, ahead_b, momentum = w, b, 1.0
    for _ in range(steps):
        slope = weight * (expit(offset + ahead_b + A @ ahead_w) - wanted)
        moved = ahead_w - step * (A.T @ slope + l2 * ahead_w)
        new_w = np.sign(moved) * np.maximum(np.abs(moved) - step * l1, 0)
        new_b = ahead_b - step * float(slope.sum())
        following = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        on = (momentum - 1) / following
        ahead_w, ahead_b = new_w + on * (new_w - w), new_b + on * (new_b - b)
        w, b, momentum = new_w, new_b, following
    return w


def _shared(arm: ConceptArm, weights: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """What each latent gives to the scores of some documents, on average, [latents]."""
    A = _relative(arm, rows)
    return np.bincount(A.indices, A.data * weights[A.indices], len(weights)) / max(len(rows), 1)
