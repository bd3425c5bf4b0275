"""Documents in few dimensions, by their chosen concepts: where k-means and HDBSCAN look for groups.

Every way here is affine in a document's activations, so that it is a small table that places new documents too:

    z = unit(sum_j x_j basis_j - offset)

`reconstruction`: basis_j = weight_j decoder direction_j, what the chosen concepts make of the reader's space, turned to
its principal components. `svd`: the components of the concepts themselves, each scaled to variance weight_j^2, centred
without ever being dense. `graph`: the singular vectors of the document-concept graph, degrees divided out (Dhillon
2001, Co-clustering documents and words using bipartite spectral graph partitioning). A component counts by the root of
its standard deviation: large ones would else decide alone, and scaled to equal variance the last would be noise. Twice
as many components as clusters are kept. Which is the default, and why, is measured in `docs/cluster.md`. All are linear
in the non-zeros.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, get_args

import numpy as np
from scipy.sparse import csr_array

from saelens_data.cluster import spaces
from saelens_data.cluster.axis import Axis, Space
from saelens_data.cluster.subtract import Scores, scores
from saelens_data.encoders import decoder_directions
from saelens_data.errors import InputError, choices
from saelens_data.matrix import ConceptMatrix, Source, canonical_csr

SPACES: tuple[str, ...] = get_args(Space)
Pooling = Literal["mean", "max"]
#: Components kept for each cluster; and where the number of clusters is not known.
FOR_EACH, DIMENSIONS = 2, 20
#: How much the reader's other states count in a reconstruction beside its embedding.
BESIDE = 0.6
#: Power of its standard deviation that a component is divided by where all concepts count: the largest would decide
#: alone. None where concepts were chosen, or something taken out: there the largest are what is asked for.
_EVEN = 0.5
#: Documents whose reconstructions are held at a time.
_BLOCK = 16_384
#: Below this a document's vector has no direction.
_TINY = 1e-9


@dataclass(frozen=True, eq=False)
class Transform:
    """How documents are placed: a row of `basis` [n, r] float32 for each of `latents` [n] int32; `offset` [r] float32.

    `chosen` [n] bool: which latents are of the axis. The others say what is taken out, and place no document alone.
    """

    latents: np.ndarray
    basis: np.ndarray
    offset: np.ndarray
    pooling: Pooling
    chosen: np.ndarray

    def place(self, m: ConceptMatrix) -> tuple[np.ndarray, np.ndarray]:
        """Coordinates [assigned, r] float32 of length 1 and the rows they belong to, [assigned] int64 ascending.

        A document in which none of the chosen latents is active has no row. Raises InputError for a matrix that lacks
        latents.
        """
        P, rows = self.raw(chosen(m, self._columns(m), self.pooling))
        return unit(P), rows

    def raw(self, X: csr_array) -> tuple[np.ndarray, np.ndarray]:
        """Coordinates before they are brought to length 1, and their rows, of activations [documents, n]."""
        rows = with_any(X, self.chosen)
        P = np.asarray(X[rows] @ self.basis - self.offset, dtype=np.float32)
        has = np.linalg.norm(P, axis=1) > _TINY
        return P[has], rows[has]

    def first(self, dimensions: int) -> Transform:
        """The same in its first dimensions."""
        return replace(self, basis=self.basis[:, :dimensions], offset=self.offset[:dimensions])

    def _columns(self, m: ConceptMatrix) -> np.ndarray:
        there = m.concepts["latent"].to_numpy()
        order = np.argsort(there)
        at = np.searchsorted(there, self.latents, sorter=order)
        found = at < len(there)
        columns = order[np.where(found, at, 0)]
        if missing := int((~found | (there[columns] != self.latents)).sum()):
            raise InputError(
                f"{missing:,} of the {len(self.latents):,} concepts that the clusters were made of are not in this "
                "matrix: take one with all concepts of the encoder"
            )
        return columns


@dataclass(frozen=True, eq=False)
class Coordinates:
    """The assigned documents of a matrix in few dimensions.

    `P` [assigned, r] float32, components with the largest first; `rows` [assigned] int64, the rows of these documents
    in the matrix, ascending: those in which at least one chosen concept is active.
    """

    P: np.ndarray
    rows: np.ndarray
    transform: Transform
    space: str

    @property
    def n(self) -> int:
        """Number of documents that can be grouped."""
        return len(self.rows)

    @cached_property
    def Z(self) -> np.ndarray:  # noqa: N802
        """The same, each document of length 1."""
        return unit(self.P)

    def first(self, dimensions: int) -> Coordinates:
        """The same documents by their first components."""
        return Coordinates(self.P[:, :dimensions], self.rows, self.transform.first(dimensions), self.space)

    def take(self, part: np.ndarray) -> Coordinates:
        """Some of the documents, by their positions."""
        return Coordinates(self.P[part], self.rows[part], self.transform, self.space)


def coordinates(
    m: ConceptMatrix,
    axis: Axis,
    *,
    space: Space | None = None,
    pooling: Pooling = "mean",
    dimensions: int = DIMENSIONS,
    seed: int = 0,
) -> Coordinates:
    """Place the documents of a matrix by the concepts of `axis`.

    `space` None takes the axis' own, else the reconstruction where the encoder is at hand, and else the svd. What is
    unwanted is taken out as `subtract` says: its directions out of the reconstruction, and in each space what the
    documents' scores along it explain by least squares. Raises InputError for an unknown space, for documents none of
    which has a chosen concept, and for a reconstruction or a removal without the encoder.
    """
    if space is not None and space not in SPACES:
        raise InputError(f"no coordinates '{space}'; {choices(space, SPACES)}")
    X = chosen(m, axis.columns, pooling)
    if not X.nnz:
        raise InputError(
            f"none of the {axis.n:,} chosen concepts is active in these documents: choose others, or more of them"
        )
    W = directions_of(m, axis)
    if W is None and (space == "reconstruction" or axis.removed is not None):
        what = "the reconstruction" if space == "reconstruction" else "what is to be left out"
        raise InputError(
            f"{what} needs the decoder of encoder '{m.source.encoder}', which is not at hand or has changed"
        )
    space = space or axis.space or "reconstruction"
    space = "svd" if W is None and space == "reconstruction" else space
    rows = with_any(X)
    used, everything = X[rows], pooled(m, pooling).X
    taken = scores(everything[rows], axis.unwanted) if axis.unwanted else None
    if space == "reconstruction":
        assert W is not None
        basis, offset, slopes = spaces.reconstruction(used, _counted(m, axis, W), taken, dimensions)
    else:
        make = spaces.svd if space == "svd" else spaces.graph
        basis, offset, slopes = make(used, axis.weights.astype(np.float64), taken, dimensions, seed)
    found = _transform(m, axis, basis, offset, (taken, slopes), pooling)
    if space != "graph" and axis.space is None and taken is None:
        even = _deviation(used, found.basis, found.offset) ** -_EVEN
        basis, offset = found.basis * even, found.offset * even
        found = replace(found, basis=basis.astype(np.float32), offset=offset.astype(np.float32))
    return Coordinates(*found.raw(X if taken is None else everything), found, space)


def _transform(
    m: ConceptMatrix,
    axis: Axis,
    basis: np.ndarray,
    offset: np.ndarray,
    less: tuple[Scores | None, np.ndarray | None],
    pooling: Pooling,
) -> Transform:
    """The map of the chosen concepts, less slopes times the scores of what is unwanted, which all concepts make up."""
    latents = m.concepts["latent"].to_numpy().astype(np.int32)
    taken, slopes = less
    if taken is None or slopes is None:
        own = np.ones(axis.n, dtype=bool)
        return Transform(latents[axis.columns], basis.astype(np.float32), offset.astype(np.float32), pooling, own)
    whole = -(taken.along @ slopes)
    whole[axis.columns] += basis
    own = np.zeros(m.n_concepts, dtype=bool)
    own[axis.columns] = True
    return Transform(latents, whole.astype(np.float32), (offset - taken.mean @ slopes).astype(np.float32), pooling, own)


def with_any(X: csr_array, among: np.ndarray | None = None) -> np.ndarray:
    """Rows of X [documents, n] with an activation of any column, or of any of those in `among` [n] bool; ascending."""
    if among is None or among.all():
        return np.flatnonzero(np.diff(X.indptr))
    count = np.concatenate([[0], np.cumsum(among[X.indices], dtype=np.int64)])[X.indptr]
    return np.flatnonzero(np.diff(count))


def unit(P: np.ndarray) -> np.ndarray:
    """Rows brought to length 1; a row of zeros stays."""
    return np.asarray(P / np.maximum(np.linalg.norm(P, axis=1, keepdims=True), 1e-12))


def pooled(m: ConceptMatrix, pooling: Pooling) -> ConceptMatrix:
    """The matrix with these values."""
    return m if pooling == m.source.pooling else m.pooled(pooling)


def chosen(m: ConceptMatrix, columns: np.ndarray, pooling: Pooling) -> csr_array:
    """Activations of the concepts at `columns`, in that order, [documents, columns]; one pass over the non-zeros."""
    source = pooled(m, pooling)
    position = np.full(m.n_concepts, -1, dtype=np.int32)
    position[columns] = np.arange(len(columns), dtype=np.int32)
    place = position[source.X.indices]
    kept = place >= 0
    indptr = np.concatenate([[0], np.cumsum(kept, dtype=np.int64)])[source.X.indptr]
    found = csr_array((source.X.data[kept], place[kept], indptr), shape=(m.n_docs, len(columns)))
    found.sort_indices()
    return canonical_csr(found.data, found.indices, found.indptr, found.shape)


def directions_of(m: ConceptMatrix, axis: Axis) -> np.ndarray | None:
    """What the chosen concepts write, [chosen, dim]; as many leading numbers as the removed directions have, if any."""
    W = decoder_directions(m.source)
    if W is None:
        return None
    latents = m.concepts["latent"].to_numpy()[axis.columns]
    if len(latents) and latents.max() >= len(W):
        return None
    return np.asarray(W[latents] if axis.removed is None else W[latents][:, : axis.removed.shape[1]])


def _counted(m: ConceptMatrix, axis: Axis, W: np.ndarray) -> np.ndarray:
    """Directions [chosen, dim] without what is removed, each times its weight, and the reader's parts by theirs."""
    if axis.removed is not None:
        W = W - (W @ axis.removed.T) @ axis.removed
    if axis.within is not None:
        return np.asarray(W @ axis.within.T * axis.weights[:, None], dtype=np.float32)
    scale = _parts(m.source)[: W.shape[1]]
    return np.asarray(W * scale * axis.weights[:, None], dtype=np.float32)


def _parts(source: Source) -> np.ndarray:
    """What each number of the reader's space counts, [dim]: its states beside the embedding less than that."""
    W, parts = decoder_directions(source), source.hook.split("+")
    dim = 0 if W is None else W.shape[1]
    if "final" not in parts or dim % len(parts):
        return np.ones(dim, dtype=np.float32)
    return np.repeat([1.0 if part == "final" else BESIDE for part in parts], dim // len(parts)).astype(np.float32)


def _deviation(X: csr_array, basis: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """Standard deviation of each component over the documents, never 0."""
    n, total, squares = X.shape[0], 0.0, 0.0
    for at in range(0, n, _BLOCK):
        part = X[at : at + _BLOCK] @ basis - offset
        total, squares = total + part.sum(axis=0), squares + (part**2).sum(axis=0)
    found = np.sqrt(np.maximum(squares / n - (total / n) ** 2, 0.0))
    return np.asarray(np.where(found > 0, found, 1.0))
