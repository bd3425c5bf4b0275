"""Near-duplicate latents: those that read the same words are one finding, tested once.

Groups are made from the documents of both sets together, before and without knowing which set a document is in, so that
looking for them cannot bend a test. `docs/statistics.md` says how the thresholds were chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np
import polars as pl
from scipy.sparse import csr_array, hstack, vstack

from saelens_data.encoders import decoder_of
from saelens_data.matrix import ConceptMatrix

#: Correlation of evidence from which two latents are one, and from which a like direction makes them one.
SAME, ALIKE = 0.35, 0.2
#: Cosine of two decoder directions that counts as like.
LIKE_DIRECTION = 0.3
#: Documents in which a latent must be active before anything is said of what it shares.
_LEAST_SUPPORT = 6
#: Activations that similarities are computed from; of more, a part of the documents is taken.
_MOST_ACTIVATIONS = 1_500_000


@dataclass(frozen=True, eq=False)
class Groups:
    """A partition of latents. Beside the latents, every group of several has a column of its own: any member active.

    `of` [latents + groups of several] the group, 0 to n - 1, of each latent and then of each such column.
    """

    of: np.ndarray
    n: int
    n_latents: int

    @property
    def n_several(self) -> int:
        """Groups of more than one latent."""
        return len(self.of) - self.n_latents

    def extended(self, X: csr_array, scale: np.ndarray) -> csr_array:
        """`X` [documents, latents] with the groups' columns beside it: sums of the members' values over `scale`."""
        if not self.n_several:
            return X
        column = np.full(self.n, -1)
        column[self.of[self.n_latents :]] = np.arange(self.n_several)
        member = column[self.of[: self.n_latents]]
        latents = np.flatnonzero(member >= 0)
        into = csr_array(
            ((1 / scale[latents]).astype(np.float32), (latents, member[latents])), shape=(X.shape[1], self.n_several)
        )
        any_member = csr_array(X @ into)
        any_member.sort_indices()
        return csr_array(hstack([X, any_member], format="csr"))

    def members(self) -> list[np.ndarray]:
        """The latents' columns of each group, ascending."""
        order = np.argsort(self.of[: self.n_latents], kind="stable")
        return np.split(order, np.cumsum(np.bincount(self.of[: self.n_latents], minlength=self.n))[:-1])


def alone(n_latents: int) -> Groups:
    """Each latent a group of its own."""
    return Groups(np.arange(n_latents), n_latents, n_latents)


def group_latents(sets: Sequence[ConceptMatrix], decoder: np.ndarray | None = None) -> Groups:
    """Group the latents whose evidence is the same words: the maxima of both lie in the same units.

    How similar two latents are is the correlation (phi) over all units of holding the one's maximum and the other's:
    what meets by chance counts nothing, however frequent. From the most frequent latent on, each joins the group
    whose leader is most similar, from `SAME` on, or from `ALIKE` on if their rows of `decoder` [latents, dimensions]
    point the same way (the encoder's own unless given); otherwise it leads a group. Without evidence every latent is
    alone.
    """
    n_latents = sets[0].n_concepts
    if any(m.evidence is None for m in sets):
        return alone(n_latents)
    share = max(1.0, sum(m.X.nnz for m in sets) / _MOST_ACTIVATIONS)
    units = csr_array(vstack([_units(m, share) for m in sets], format="csr"))
    support = np.bincount(units.indices, minlength=n_latents)
    first, second, similarity = _similar(units, support)
    decoder = decoder_of(sets[0]) if decoder is None else decoder
    if decoder is not None:
        alike = np.einsum("ij,ij->i", decoder[first], decoder[second]) >= LIKE_DIRECTION
    else:
        alike = np.zeros(len(first), dtype=bool)
    keep = (similarity >= SAME) | alike
    leader = _leaders(first[keep], second[keep], similarity[keep], support)
    return _partition(leader)


def _units(m: ConceptMatrix, share: float) -> csr_array:
    """Which latents have their maximum in each unit, [units, latents] of 1; of one document in `share`."""
    assert m.evidence is not None
    part = m if share == 1 else m.take_docs(_spread(m.docs["doc_id"], share))
    evidence = part.evidence
    assert evidence is not None
    row = np.repeat(np.arange(part.n_docs), np.diff(part.X.indptr))
    unit = evidence.units.ptr[row] + evidence.unit
    return csr_array(
        (np.ones(len(unit), dtype=np.int32), (unit, part.X.indices)), shape=(len(evidence.units.start), m.n_concepts)
    )


def _spread(doc_id: pl.Series, share: float) -> np.ndarray:
    """One document in `share`, chosen by its id: whichever set it is in, and wherever it stands there."""
    most = int(2**32 / share)
    return np.flatnonzero([crc32(name.encode()) < most for name in doc_id])


def _similar(units: csr_array, support: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of latents (the first is the more frequent) that are similar from `ALIKE` on, and how much."""
    latents = np.flatnonzero(support >= _LEAST_SUPPORT)
    kept = csr_array(units[:, latents])
    common = csr_array(kept.T @ kept)
    # One unit in common, of six or more each, may be chance, and is below every threshold.
    several = np.flatnonzero(common.data > 1)
    row, column = np.searchsorted(common.indptr, several, side="right") - 1, common.indices[several]
    several, row, column = (x[row < column] for x in (several, row, column))
    first, second = latents[row], latents[column]
    n, s, t = float(units.shape[0]), support[first].astype(np.float64), support[second].astype(np.float64)
    similarity = (common.data[several] * n - s * t) / np.sqrt(np.maximum(s * (n - s), 1) * np.maximum(t * (n - t), 1))
    keep = similarity >= ALIKE
    first, second, similarity = first[keep], second[keep], similarity[keep]
    swap = support[first] < support[second]
    return np.where(swap, second, first), np.where(swap, first, second), similarity


def _leaders(first: np.ndarray, second: np.ndarray, similarity: np.ndarray, support: np.ndarray) -> np.ndarray:
    """The latent that leads each latent's group, [latents]."""
    leader = np.arange(len(support))
    nearest: dict[int, list[tuple[float, int]]] = {}
    for one, other, value in zip(first.tolist(), second.tolist(), similarity.tolist(), strict=True):
        nearest.setdefault(other, []).append((-value, one))
    for latent in sorted(nearest, key=lambda latent: (-support[latent], latent)):
        for _, one in sorted(nearest[latent]):
            if leader[one] == one:
                leader[latent] = one
                break
    return leader


def _partition(leader: np.ndarray) -> Groups:
    _, group, size = np.unique(leader, return_inverse=True, return_counts=True)
    return Groups(np.concatenate([group, np.flatnonzero(size > 1)]), len(size), len(leader))
