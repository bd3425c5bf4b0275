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
from scipy.sparse import csr_array, diags_array
from scipy.sparse.linalg import LinearOperator, svds

from saelens_data.cluster.axis import Axis
from saelens_data.encoders import decoder_directions
from saelens_data.errors import InputError, choices
from saelens_data.matrix import ConceptMatrix, Source, canonical_csr

Space = Literal["reconstruction", "svd", "graph"]
SPACES: tuple[str, ...] = get_args(Space)
Pooling = Literal["mean", "max"]
#: Components kept for each cluster; and where the number of clusters is not known.
FOR_EACH, DIMENSIONS = 2, 20
#: How much the reader's other states count in a reconstruction beside its embedding.
BESIDE = 0.6
#: Power of its standard deviation that a component is divided by.
_EVEN = 0.5
#: Documents whose reconstructions are held at a time.
_BLOCK = 16_384
#: Below this a document's vector has no direction.
_TINY = 1e-9


@dataclass(frozen=True, eq=False)
class Transform:
    """How documents are placed: a row of `basis` [n, r] float32 for each of `latents` [n] int32; `offset` [r] float32."""

    latents: np.ndarray
    basis: np.ndarray
    offset: np.ndarray
    pooling: Pooling

    def place(self, m: ConceptMatrix) -> tuple[np.ndarray, np.ndarray]:
        """Coordinates [assigned, r] float32 of length 1 and the rows they belong to, [assigned] int64 ascending.

        A document in which none of the latents is active has no row. Raises InputError where the matrix lacks latents.
        """
        P, rows = self.raw(chosen(m, self._columns(m), self.pooling))
        return unit(P), rows

    def raw(self, X: csr_array) -> tuple[np.ndarray, np.ndarray]:
        """Coordinates before they are brought to length 1, and their rows, of activations [documents, n]."""
        rows = np.flatnonzero(np.diff(X.indptr))
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

    `space` None takes the reconstruction where the encoder is at hand, and else the svd. What `axis.removed` spans is
    taken out: in the reconstruction as directions, in the svd and graph by least squares on the documents' values along
    them. Raises InputError for an unknown space, for documents none of which has a chosen concept, and for a
    reconstruction or a removal without the encoder.
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
    space = space or ("svd" if W is None else "reconstruction")
    used = X[np.flatnonzero(np.diff(X.indptr))]
    if space == "reconstruction":
        assert W is not None
        basis, offset = _reconstruction(used, _counted(m, axis, W), dimensions)
    else:
        make = _svd if space == "svd" else _graph
        basis, offset = make(used, axis.weights.astype(np.float64), dimensions, seed)
        if axis.removed is not None:
            assert W is not None
            basis, offset = _residual(used, basis, offset, W @ axis.removed.T)
    latents = m.concepts["latent"].to_numpy()[axis.columns].astype(np.int32)
    even = 1.0 if space == "graph" else _deviation(used, basis, offset) ** -_EVEN
    transform = Transform(latents, (basis * even).astype(np.float32), (offset * even).astype(np.float32), pooling)
    return Coordinates(*transform.raw(X), transform, space)


def unit(P: np.ndarray) -> np.ndarray:
    """Rows brought to length 1; a row of zeros stays."""
    return np.asarray(P / np.maximum(np.linalg.norm(P, axis=1, keepdims=True), 1e-12))


def chosen(m: ConceptMatrix, columns: np.ndarray, pooling: Pooling) -> csr_array:
    """Activations of the concepts at `columns`, in that order, [documents, columns]; one pass over the non-zeros."""
    source = m if pooling == m.source.pooling else m.pooled(pooling)
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


def _reconstruction(X: csr_array, W: np.ndarray, dimensions: int) -> tuple[np.ndarray, np.ndarray]:
    """Basis and offset: the documents' sums of `W`, centred, along their first principal components."""
    n, dim = X.shape[0], W.shape[1]
    mean = np.asarray(X.sum(axis=0)).ravel() / n @ W
    spread = np.zeros((dim, dim))
    for at in range(0, n, _BLOCK):
        part = X[at : at + _BLOCK] @ W - mean
        spread += part.T @ part
    values, vectors = np.linalg.eigh(spread)
    kept = np.flatnonzero(values > values[-1] * 1e-9)[::-1][:dimensions]
    turn = _signed(vectors[:, kept])
    return W @ turn, mean @ turn


def _svd(X: csr_array, weights: np.ndarray, dimensions: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    n = X.shape[0]
    X = X.astype(np.float64)
    mean = np.asarray(X.sum(axis=0)).ravel() / n
    variance = np.asarray(X.power(2).sum(axis=0)).ravel() / n - mean**2
    scale = np.where(variance > 1e-12 * np.maximum(mean**2, 1e-30), weights / np.sqrt(np.maximum(variance, 1e-30)), 0.0)
    scaled = csr_array(X @ diags_array(scale))
    V = _components(scaled, mean * scale, dimensions, seed)
    basis = scale[:, None] * V
    return basis, mean @ basis


def _graph(X: csr_array, weights: np.ndarray, dimensions: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Of A = D1^-1/2 X D2^-1/2 the vectors after the first; documents are D1^-1/2 U = D1^-1 X D2^-1/2 V S^-1.

    The division by a document's degree changes its length alone, which `place` sets to 1; so the map stays affine.
    """
    X = csr_array(X.astype(np.float64) @ diags_array(weights))
    by_doc, by_concept = (np.asarray(X.sum(axis=axis)).ravel() for axis in (1, 0))
    across = np.where(by_concept > 0, 1 / np.sqrt(np.maximum(by_concept, 1e-30)), 0.0)
    A = csr_array(diags_array(1 / np.sqrt(by_doc)) @ X @ diags_array(across))
    V, S = _singular(A, np.zeros(X.shape[1]), dimensions + 1, seed)
    V, S = V[:, 1:], S[1:]
    return weights[:, None] * across[:, None] * V / np.maximum(S, 1e-12), np.zeros(V.shape[1])


def _components(X: csr_array, mean: np.ndarray, dimensions: int, seed: int) -> np.ndarray:
    return _singular(X, mean, dimensions, seed)[0]


def _singular(X: csr_array, mean: np.ndarray, dimensions: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Right singular vectors [columns, r] and values of X - mean, largest first, without making it dense."""
    r = min(dimensions, min(X.shape) - 1)
    if r < 1:  # one document or one concept
        dense = X.toarray() - mean
        return np.ones((X.shape[1], 1)) / np.sqrt(X.shape[1]), np.array([float(np.linalg.norm(dense))])
    centred = LinearOperator(
        X.shape,
        matvec=lambda v: X @ v - mean @ v,
        rmatvec=lambda u: X.T @ u - mean * u.sum(),
        matmat=lambda V: X @ V - mean @ V,
        rmatmat=lambda U: X.T @ U - np.outer(mean, U.sum(axis=0)),
        dtype=np.float64,
    )
    start = np.random.default_rng(seed).normal(size=min(X.shape))
    _, S, Vt = svds(centred, k=r, v0=start)
    order = np.argsort(-S, kind="stable")
    return _signed(Vt[order].T), S[order]


def _signed(vectors: np.ndarray) -> np.ndarray:
    """Each column with its largest number positive, so that a solver's choice of sign is not seen."""
    largest = np.argmax(np.abs(vectors), axis=0)
    return np.asarray(vectors * np.sign(vectors[largest, np.arange(vectors.shape[1])]))


def _residual(X: csr_array, basis: np.ndarray, offset: np.ndarray, along: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The map less what a document's values along the removed directions, `along` [chosen, r], say of it linearly."""
    scores, placed = X @ along, X @ basis - offset
    mean = scores.mean(axis=0)
    slope = np.linalg.lstsq(scores - mean, placed - placed.mean(axis=0), rcond=None)[0]
    return basis - along @ slope, offset - mean @ slope
