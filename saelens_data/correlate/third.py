"""Pairs that a third concept accounts for: where it is held equal, little of the association is left, or it turns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from saelens_data.correlate.scan import Pairs, Problem
from saelens_data.correlate.sides import Side
from saelens_data.stats.pairs import nearest_to_chance, npmi

#: Share of what exceeds chance that must be left at equal values of a third concept.
LEAST_LEFT = 0.5
#: Standard deviations beyond which a turned sign is no chance among so many third concepts.
_SURE_Z = 6.0
#: Concepts among which a third one is looked for.
MOST_CONCEPTS = 6_000


@dataclass(frozen=True, eq=False)
class Third:
    """For each pair, [pairs]: the share of its association left at equal values of the concept that takes most of it.

    `concept` is that concept's place (left columns first, then right ones), -1 where no concept can explain the pair;
    `left` is 1 there. Below 0 the sign turns; `turned` says where it does so beyond chance.
    """

    concept: np.ndarray
    left: np.ndarray
    turned: np.ndarray

    @classmethod
    def none(cls, n: int) -> Third:
        """Where no third concept was looked for."""
        return cls(np.full(n, -1), np.ones(n), np.zeros(n, dtype=bool))

    def take(self, index: np.ndarray) -> Third:
        """These of them."""
        return Third(self.concept[index], self.left[index], self.turned[index])

    @property
    def explains(self) -> np.ndarray:
        """Where less than `LEAST_LEFT` is left."""
        return np.asarray(self.left < LEAST_LEFT)


def third_concepts(problem: Problem, pairs: Pairs) -> Third:
    """Look among the concepts of these pairs for one that explains each; the pairs are ranked, best first.

    Within the documents that hold a third concept, and within the rest, the pair is expected to meet by its margins
    there (Mantel & Haenszel 1959). A concept can explain a pair only if both its own pairs with the two are stronger:
    of three concepts that go together the weakest tie is the one that the others explain (Margolin et al. 2006, BMC
    Bioinformatics 7:S7), so that no two explain each other away.
    """
    table = _Table.of(problem, pairs)
    concept, left = np.full(len(pairs), -1), np.ones(len(pairs))
    turned = np.zeros(len(pairs), dtype=bool)
    for k, (a, b) in enumerate(zip(table.left.tolist(), table.right.tolist(), strict=True)):
        if a < 0 or b < 0:
            continue
        least = table.strength[a, b]
        stronger = (table.strength[a] > least) & (table.strength[b] > least)
        stronger[[a, b]] = False
        others = np.flatnonzero(stronger)
        if not len(others):
            continue
        share, z = table.left_over(a, b, others)
        best = int(np.argmin(share))
        concept[k], left[k] = table.number[others[best]], share[best]
        turned[k] = share[best] < 0 and abs(z[best]) > _SURE_Z
    return Third(concept, left, turned)


@dataclass(frozen=True, eq=False)
class _Table:
    """Everything about the concepts of some pairs, each with each."""

    #: Place of each concept, documents that hold it, documents that hold two, and how strongly two go together.
    number: np.ndarray
    support: np.ndarray
    both: np.ndarray
    strength: np.ndarray
    n: int
    #: Where the two of each pair stand here, [pairs]; -1 for those of pairs beyond the most that are looked at.
    left: np.ndarray
    right: np.ndarray

    @classmethod
    def of(cls, problem: Problem, pairs: Pairs) -> _Table:
        shift = 0 if problem.same else len(problem.left)
        ends = np.stack([pairs.left, pairs.right + shift], axis=1).ravel()
        _, first = np.unique(ends, return_index=True)
        number = ends[np.sort(first)[:MOST_CONCEPTS]]  # those of the best pairs
        held = _held(problem, number)
        both = (held.T @ held).toarray().astype(np.int64)
        support, n = np.diagonal(both).copy(), problem.n
        expected = np.outer(support, support) / n
        near = nearest_to_chance(both, support[:, None], support[None, :], expected)
        place = np.full(shift + len(problem.right), -1)
        place[number] = np.arange(len(number))
        strength = np.abs(npmi(near, expected, n)).astype(np.float32)
        return cls(number, support, both, strength, n, place[pairs.left], place[pairs.right + shift])

    def left_over(self, a: int, b: int, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Share of what exceeds chance that is left at equal values of each of `others`, and its z."""
        n_a, n_b, n_c, n = self.support[a], self.support[b], self.support[others], self.n
        with_a, with_b = self.both[a, others], self.both[b, others]
        rest = np.maximum(n - n_c, 1)
        inside, outside = with_a * with_b / n_c, (n_a - with_a) * (n_b - with_b) / rest
        observed, chance = self.both[a, b], n_a * n_b / n
        spread = inside * (1 - with_a / n_c) * (1 - with_b / n_c) + outside * (1 - (n_a - with_a) / rest) * (
            1 - (n_b - with_b) / rest
        )
        over = observed - inside - outside
        return over / (observed - chance), over / np.sqrt(np.maximum(spread, 1e-9))


def _held(problem: Problem, number: np.ndarray) -> csr_array:
    """Who holds each of these places, [documents, places] csr of int32."""
    left: Side = problem.left
    columns = left.by_column.astype(np.int32)
    if not problem.same:
        from scipy.sparse import hstack  # noqa: PLC0415

        columns = hstack([columns, problem.right.by_column.astype(np.int32)], format="csc")
    return csr_array(columns[:, number])
