"""Two sets compared, latent by latent: one p-value from presence and strength, then one for each group of latents."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import csr_array, vstack

from saelens_data import stats
from saelens_data.diff.grouping import Groups


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

    def p_value(self) -> np.ndarray:
        """Fisher's exact test of presence, McNemar's for pairs."""
        if self.both is None:
            return stats.fisher_exact(self.a, self.b, self.n_a, self.n_b)
        return stats.mcnemar_exact(self.a - self.both, self.b - self.both)

    def interval(self) -> tuple[np.ndarray, np.ndarray]:
        """Newcombe's interval of the difference: (low, high)."""
        if self.both is None:
            return stats.newcombe_unpaired(self.a, self.b, self.n_a, self.n_b)
        return stats.newcombe_paired(self.both, self.a - self.both, self.b - self.both, self.n_a)


@dataclass(frozen=True, eq=False)
class Looks:
    """Two looks at each column, [..., columns]: is it there, and how strongly, where a document without it counts as 0.

    Of each the two-sided p, and whether it is taken: where it could reach p < alpha at all (Tarone 1990).
    """

    presence: np.ndarray
    by_rank: np.ndarray
    take_presence: np.ndarray
    take_rank: np.ndarray

    @classmethod
    def of(cls, presence: np.ndarray, by_rank: np.ndarray, least: tuple[np.ndarray, np.ndarray], alpha: float) -> Looks:
        """`least` are the least p of presence and of rank that the margins allow, which alone say what is taken."""
        take = [bound < alpha for bound in least]
        first = least[0] <= least[1]
        alone = take[0] & take[1] & (2 * np.minimum(*least) >= alpha)  # for one look there is room, not for two
        return cls(presence, by_rank, take[0] & ~(alone & ~first), take[1] & ~(alone & first))

    @property
    def tested(self) -> np.ndarray:
        """Which columns could be found."""
        return np.asarray(self.take_presence | self.take_rank)

    def p_value(self) -> np.ndarray:
        """One p for each column: that of the look taken, twice the smaller where both are.

        The two depend on each other; twice the smaller (Bonferroni) holds however they do.
        """
        both = np.minimum(2 * np.minimum(self.presence, self.by_rank), 1.0)
        return np.asarray(np.where(~self.take_rank, self.presence, np.where(~self.take_presence, self.by_rank, both)))


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
    looks: Looks
    #: One p of each column.
    p: np.ndarray
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
    if sets.cluster is None:
        (low, high), presence, least = counts.interval(), counts.p_value(), counts.least_p()
    else:
        test = stats.cluster_test(stats.pattern(sets.stacked(), np.float32), sets.in_a(), sets.cluster)
        low, high = np.maximum(test.low, -1.0), np.minimum(test.high, 1.0)
        presence, least = test.p_value, test.least_p
    strength, by_rank, least_by_rank = _strength(sets)
    looks = Looks.of(presence, by_rank, (least, least_by_rank), alpha)
    p = looks.p_value()
    return Comparison(counts, low, high, strength, looks, p, groups, joint_p(p, groups, looks.tested))


def _strength(sets: Sets) -> tuple[stats.Strength, np.ndarray, np.ndarray]:
    """Strength where active; and over all documents, 0 where a latent is not: p, and the least that margins allow."""
    if sets.paired:
        ranks, ties = stats.all_signed_ranks(sets.x, sets.y)
        total, differing = signed_sums(ranks)
        p, least = stats.signed_rank_p(total, differing, ties), stats.signed_rank_least_p(differing, ties)
        return stats.signed_rank(sets.x, sets.y), p, least
    ranks, ties = stats.pooled_ranks(sets.stacked())
    law = rank_law(stats.rank_scores(ranks), sets.in_a(), sets.cluster)
    strength = stats.rank_sum_of(ranks, ties, sets.x.shape[0])
    if sets.cluster is not None:
        centred = rank_law(stats.rank_scores(ranks, centred=True), sets.in_a(), sets.cluster)
        strength = replace(strength, p_value=centred.p_value(0.0))
    return strength, law.p_value(0.0), law.least_p()


def signed_sums(ranks: csr_array) -> tuple[np.ndarray, np.ndarray]:
    """Sum and number of the stored values of each column."""
    n = ranks.shape[1]
    return np.bincount(ranks.indices, ranks.data, minlength=n), stats.count_active(ranks.indices, n)


def rank_law(scores: csr_array, in_a: np.ndarray, cluster: np.ndarray | None) -> stats.Permutation:
    """How A's sum of `scores` [documents, columns] varies when documents, or clusters, change sides."""
    return stats.permutation(scores, in_a, np.arange(len(in_a)) if cluster is None else cluster)
