"""Two sets compared, latent by latent: one p-value from presence and strength, then one for each group of latents."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import csr_array, vstack

from saelens_data import stats
from saelens_data.grouping import Groups


@dataclass(frozen=True, eq=False)
class Sets:
    """Activations of A and B, [documents, latents] each; if `paired`, rows of the same number are partners.

    `cluster` [documents of A, then of B] int: documents with the same number may depend on each other.
    """

    x: csr_array
    y: csr_array
    paired: bool = False
    cluster: np.ndarray | None = None

    def stacked(self) -> csr_array:
        """A's documents, then B's."""
        return csr_array(vstack([self.x, self.y], format="csr"))

    def extended(self, groups: Groups) -> Sets:
        """With the groups' own columns after the latents."""
        if not groups.n_several:
            return self
        total = sum(np.bincount(m.indices, m.data, minlength=m.shape[1]) for m in (self.x, self.y))
        n = sum(stats.count_active(m.indices, m.shape[1]) for m in (self.x, self.y))
        mean = np.where(n > 0, total / np.maximum(n, 1), 1.0)
        return replace(self, x=groups.extended(self.x, mean), y=groups.extended(self.y, mean))

    def in_a(self) -> np.ndarray:
        """Which documents of `stacked` are A's."""
        return np.asarray(np.arange(self.x.shape[0] + self.y.shape[0]) < self.x.shape[0])


@dataclass(frozen=True, eq=False)
class Counts:
    """Documents in which each latent is active, [..., latents] int64; `both` counts pairs, None without pairing."""

    a: np.ndarray
    b: np.ndarray
    n_a: int
    n_b: int
    both: np.ndarray | None = None

    @classmethod
    def of(cls, sets: Sets) -> Counts:
        """Counted in one pass over the activations."""
        a, b = (stats.count_active(m.indices, m.shape[1]) for m in (sets.x, sets.y))
        both = stats.count_both(sets.x, sets.y) if sets.paired else None
        return cls(a, b, sets.x.shape[0], sets.y.shape[0], both)

    def take(self, latents: np.ndarray) -> Counts:
        """The counts of these latents."""
        both = None if self.both is None else self.both[..., latents]
        return Counts(self.a[..., latents], self.b[..., latents], self.n_a, self.n_b, both)

    def least_p(self) -> np.ndarray:
        """The smallest p of presence that the margins of each latent allow."""
        if self.both is None:
            return stats.fisher_least_p(self.a + self.b, self.n_a, self.n_b)
        return stats.mcnemar_least_p(self.a + self.b - 2 * self.both)

    def strength_least_p(self) -> np.ndarray:
        """The smallest p of strength that the margins allow."""
        if self.both is None:
            return stats.rank_sum_least_p(self.a + self.b, self.n_a, self.n_b)
        return stats.signed_rank_least_p(self.both)

    def p_value(self) -> np.ndarray:
        """Fisher's exact test of presence, McNemar's for pairs."""
        if self.both is None:
            return stats.fisher_exact(self.a, self.b, self.n_a, self.n_b)
        return stats.mcnemar_exact(self.a - self.both, self.b - self.both)

    def tails(self) -> tuple[np.ndarray, np.ndarray]:
        """The same one-sided: (A has as many or more, as many or fewer)."""
        if self.both is None:
            return stats.fisher_tails(self.a, self.b, self.n_a, self.n_b)
        return stats.mcnemar_tails(self.a - self.both, self.b - self.both)

    def weight(self) -> np.ndarray:
        """Of the pairs (for independent sets: of all that could be made) that tell the sets apart, those by strength.

        A pair tells by presence where one alone is active, by strength where both are.
        """
        if self.both is None:
            density = (self.a + self.b) / (self.n_a + self.n_b)
            return np.asarray(density / (2 - density))
        return np.asarray(self.both / np.maximum(self.a + self.b - self.both, 1))

    def interval(self) -> tuple[np.ndarray, np.ndarray]:
        """Newcombe's interval of the difference: (low, high)."""
        if self.both is None:
            return stats.newcombe_unpaired(self.a, self.b, self.n_a, self.n_b)
        return stats.newcombe_paired(self.both, self.a - self.both, self.b - self.both, self.n_a)


@dataclass(frozen=True, eq=False)
class Tests:
    """p-values of presence and of strength, [..., columns], and the side (-1, 0, 1) that strength favours, `up`."""

    presence: np.ndarray
    strength: np.ndarray
    up: np.ndarray


@dataclass(frozen=True, eq=False)
class Testable:
    """Which columns could reach p < alpha at all, whatever the outcome; from the margins alone (Tarone 1990)."""

    presence: np.ndarray
    strength: np.ndarray

    @property
    def either(self) -> np.ndarray:
        """By one of the two or both."""
        return np.asarray(self.presence | self.strength)

    def take(self, columns: np.ndarray) -> Testable:
        """Those of these columns."""
        return Testable(self.presence[columns], self.strength[columns])


def one_p(counts: Counts, tests: Tests, can: Testable, *, clustered: bool) -> np.ndarray:
    """One p for each column: of the test that could find something, or of both where both could."""
    if clustered:  # the two need not be independent: twice the smaller holds without that
        p = np.minimum(2 * np.minimum(tests.presence, tests.strength), 1.0)
    else:
        p = stats.combine(tests.presence, *counts.tails(), tests.strength, tests.up, counts.weight())
    return np.asarray(np.where(~can.strength, tests.presence, np.where(~can.presence, tests.strength, p)))


def joint_p(p: np.ndarray, groups: Groups, tested: np.ndarray) -> np.ndarray:
    """One p for each group, [..., groups]: Simes' over its tested members and its own column; NaN where none is tested.

    `p` [..., columns].
    """
    out = np.full((*p.shape[:-1], groups.n), np.nan)
    columns = np.flatnonzero(tested)
    columns = columns[np.argsort(groups.of[columns], kind="stable")]
    group, first, size = np.unique(groups.of[columns], return_index=True, return_counts=True)
    for width in np.unique(size):
        at = np.flatnonzero(size == width)
        members = columns[first[at][:, None] + np.arange(width)]
        out[..., group[at]] = stats.simes(p[..., members])
    return out


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two sets compared. Arrays over columns, which are latents and then groups of several, or over groups."""

    counts: Counts
    low: np.ndarray
    high: np.ndarray
    strength: stats.Strength
    tests: Tests
    #: One p of each column, and whether it is tested.
    p: np.ndarray
    tested: np.ndarray
    groups: Groups
    #: One p of each group; NaN where no column of it is tested.
    group_p: np.ndarray

    @property
    def delta(self) -> np.ndarray:
        """Chance that A shows the column more strongly than B, less that of the reverse (Cliff 1993), [columns].

        Documents at random, or partners; in one where the column is not active it has strength 0.
        """
        c = self.counts
        both = c.a / c.n_a * (c.b / c.n_b) if c.both is None else c.both / c.n_a
        return np.asarray(c.a / c.n_a - c.b / c.n_b + both * (2 * np.nan_to_num(self.strength.auc, nan=0.5) - 1))

    def shown(self) -> np.ndarray:
        """The latents of the groups that were tested, ascending."""
        return np.flatnonzero(~np.isnan(self.group_p)[self.groups.of[: self.groups.n_latents]])

    def leads(self) -> np.ndarray:
        """The latent with the smallest p in each group, [groups]."""
        p = self.p[: self.groups.n_latents]
        order = np.lexsort((np.arange(len(p)), p))[::-1]
        lead = np.zeros(self.groups.n, dtype=np.int64)
        lead[self.groups.of[order]] = order  # the last to be written, the smallest, stays
        return lead


def compare(sets: Sets, groups: Groups, alpha: float) -> Comparison:
    """Test presence and strength of every latent and group, once each."""
    sets = sets.extended(groups)
    counts = Counts.of(sets)
    low, high = counts.interval()
    strength = stats.signed_rank(sets.x, sets.y) if sets.paired else stats.rank_sum(sets.x, sets.y)
    up = np.sign(np.nan_to_num(strength.auc, nan=0.5) - 0.5)
    tests = Tests(counts.p_value(), strength.p_value, up)
    can = Testable(counts.least_p() < alpha, counts.strength_least_p() < alpha)
    if sets.cluster is not None:
        presence, by_rank = _clustered(sets)
        low, high = np.maximum(presence.low, -1.0), np.minimum(presence.high, 1.0)
        tests = Tests(presence.p_value, by_rank.p_value, up)
        can = Testable(presence.least_p < alpha, by_rank.least_p < alpha)
    p = one_p(counts, tests, can, clustered=sets.cluster is not None)
    return Comparison(counts, low, high, strength, tests, p, can.either, groups, joint_p(p, groups, can.either))


def _clustered(sets: Sets) -> tuple[stats.ClusterTest, stats.ClusterTest]:
    assert sets.cluster is not None
    both, in_a = sets.stacked(), sets.in_a()
    pattern = csr_array((np.ones(both.nnz), both.indices, both.indptr), shape=both.shape)
    ranks = rank_scores(both)
    return stats.cluster_test(pattern, in_a, sets.cluster), stats.cluster_test(ranks, in_a, sets.cluster)


def rank_scores(X: csr_array) -> csr_array:
    """Where each active document stands among those active in the same column: -1/2 to 1/2, 0 on average."""
    ranks, _ = stats.pooled_ranks(X)
    active = stats.count_active(X.indices, X.shape[1])[X.indices]
    return csr_array(((ranks.data - (active + 1) / 2) / active, X.indices, X.indptr), shape=X.shape)
