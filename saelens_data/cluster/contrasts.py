"""Axes that the package knows, and what an encoder's latents say of them, learned from contrast texts.

The contrast texts tell the same subjects in each value of an axis: six subjects in eighteen styles, five in ten
languages, and so on. What differs between the values, subject for subject, is the axis; what differs between subjects
is not. So a latent belongs to an axis as far as its activation varies with the value beyond what subjects and their
interplay explain: the F statistic of the value in a two-way layout with one text a cell (Fisher 1925), with V - 1 and
(V - 1)(S - 1) degrees of freedom. No name of a value takes part: a poem is known by poems, not by the word.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

import numpy as np
import polars as pl
from scipy.sparse import csr_array
from scipy.stats import binomtest

from saelens_data.encode import encode
from saelens_data.errors import InputError
from saelens_data.matrix import ConceptMatrix, Source

#: A latent belongs to an axis from this F on, and so many of them at most are taken for it.
LEAST_F, MOST = 3.0, 200
#: Below this share of the texts of one value, a latent's F rests on a text or two.
_LEAST_TEXTS = 3
_TINY = 1e-12


@dataclass(frozen=True, eq=False)
class Contrast:
    """One axis as an encoder sees it.

    `values` its V values; `F` [d_sae] float64, 0 for latents active in fewer than three texts; `effects` [V, d_sae]
    float32, mean activation in texts of a value less the mean over all values.
    `right` of `n` contrast texts are given their value by the latents of the axis when their subject is held out; with
    nothing to go by it would be one in V.
    """

    name: str
    values: tuple[str, ...]
    F: np.ndarray
    effects: np.ndarray
    right: int
    n: int
    _mean: np.ndarray
    _spread: np.ndarray

    @property
    def chance(self) -> float:
        """Share that would be right with nothing to go by."""
        return 1 / len(self.values)

    @property
    def seen(self) -> bool:
        """Whether the encoder tells the values apart beyond chance, at 1 in 100 (exact binomial test)."""
        return bool(binomtest(self.right, self.n, self.chance, alternative="greater").pvalue < 0.01)

    def nearest(self, X: csr_array, latents: np.ndarray) -> np.ndarray:
        """The value each document is nearest to, [documents] codes, by X [documents, latents], mean activations."""
        kept = strongest(self.F[latents])
        part = csr_array(X[:, kept])
        own = latents[kept]
        centres = _unit(self.effects[:, own] / self._spread[own])
        # Linear in the activations: what the mean text scores is taken off.
        scored = part @ (centres / self._spread[own]).T - (self._mean[own] / self._spread[own]) @ centres.T
        return np.asarray(scored.argmax(axis=1))


def axis_names() -> tuple[str, ...]:
    """Names of the axes that have contrast texts, in their order."""
    return tuple(_texts()["axis"].unique(maintain_order=True))


def values_of(name: str) -> tuple[str, ...]:
    """Values of an axis, in their order."""
    return tuple(_texts().filter(pl.col("axis") == name)["value"].unique(maintain_order=True))


def contrast(source: Source, name: str, values: tuple[str, ...] = ()) -> Contrast:
    """What the encoder of `source` sees of the axis `name`, or of some of its values, two or more.

    The texts are encoded once, into the cache. Raises InputError if the encoder has changed since, EncoderError if it
    cannot be found.
    """
    return _contrast(source.encoder, source.sae_sha256, source.reader_sha256, name, values or values_of(name))


@lru_cache(maxsize=64)
def _contrast(encoder: str, sae_sha256: str, reader_sha256: str, name: str, values: tuple[str, ...]) -> Contrast:
    m = _encoded(encoder)
    if (m.source.sae_sha256, m.source.reader_sha256) != (sae_sha256, reader_sha256):
        raise InputError(
            f"encoder '{encoder}' has changed since these documents were encoded, so its axes are not theirs: encode "
            "them again"
        )
    part = m.filter_docs((pl.col("axis") == name) & pl.col("value").is_in(values)).pooled("mean")
    value = np.array([values.index(one) for one in part.docs["value"]])
    subject = part.docs["subject"].rank("dense").to_numpy().astype(np.int64) - 1
    F, effects = two_way(part.X, value, subject)
    right = held_out(part.X, value, subject)
    return Contrast(name, values, F, effects.astype(np.float32), right, part.n_docs, *_moments(part.X))


def two_way(X: csr_array, value: np.ndarray, subject: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """F of the value for each latent, and its effects, of texts [V x S] with each value once for each subject.

    `X` [texts, latents]; `value`, `subject` [texts] codes from 0. Returns F [latents] and effects [V, latents] float64.
    F = [SS_value / (V - 1)] / [SS_rest / ((V - 1)(S - 1))], the rest being what value and subject leave.
    """
    V, S = int(value.max()) + 1, int(subject.max()) + 1
    if len(value) != V * S or len(np.unique(value * S + subject)) != V * S:
        raise ValueError(f"{V} values x {S} subjects need one text each, there are {len(value)}")
    X = X.astype(np.float64)
    mean = np.asarray(X.sum(axis=0)).ravel() / len(value)
    by_value = _means(X, value, V) - mean
    by_subject = _means(X, subject, S) - mean
    squares = np.asarray(X.power(2).sum(axis=0)).ravel() - len(value) * mean**2
    of_value, of_subject = S * (by_value**2).sum(axis=0), V * (by_subject**2).sum(axis=0)
    # Rounding must not make a latent that value and subject explain in full look infinitely clear.
    rest = np.maximum(squares - of_value - of_subject, 1e-3 * squares)
    F = (of_value / (V - 1)) / np.maximum(rest / ((V - 1) * (S - 1)), _TINY)
    F[np.bincount(X.indices, minlength=X.shape[1]) < _LEAST_TEXTS] = 0.0
    return F, by_value


def held_out(X: csr_array, value: np.ndarray, subject: np.ndarray) -> int:
    """Texts whose nearest value, by the latents of the axis, is theirs, all of it learned without their subject.

    Nearest by the cosine with the effects of each value, latents scaled to equal variance.
    """
    right = 0
    for one in range(int(subject.max()) + 1):
        train, test = subject != one, np.flatnonzero(subject == one)
        rest = np.unique(subject[train], return_inverse=True)[1]
        seen = csr_array(X[np.flatnonzero(train)].astype(np.float64))
        F, effects = two_way(seen, value[train], rest)
        kept = strongest(F)
        mean, spread = (part[kept] for part in _moments(seen))
        centres = _unit(effects[:, kept] / spread)
        held = (X[test][:, kept].toarray() - mean) / spread  # one subject's texts, a few dozen at most
        right += int(((held @ centres.T).argmax(axis=1) == value[test]).sum()) if len(kept) else 0
    return right


def strongest(F: np.ndarray) -> np.ndarray:
    """The latents that belong to an axis by their F, the clearest first, `MOST` at most."""
    first = np.argsort(-F, kind="stable")[:MOST]
    return first[F[first] >= LEAST_F]


def _moments(X: csr_array) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each latent over the texts, the latter never 0."""
    n = X.shape[0]
    mean = np.asarray(X.sum(axis=0)).ravel() / n
    squares = np.asarray(X.astype(np.float64).power(2).sum(axis=0)).ravel() / n
    return mean, np.sqrt(np.maximum(squares - mean**2, _TINY))


def _unit(rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), _TINY))


def _means(X: csr_array, code: np.ndarray, n: int) -> np.ndarray:
    member = csr_array((np.ones(len(code)), (code, np.arange(len(code)))), shape=(n, len(code)))
    return np.asarray((member @ X).toarray() / np.bincount(code, minlength=n)[:, None])


@lru_cache(maxsize=1)
def _texts() -> pl.DataFrame:
    lines = files("saelens_data").joinpath("assets/axes/contrasts.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    return pl.DataFrame(rows).with_row_index("doc_id").with_columns(pl.col("doc_id").cast(pl.String))


@lru_cache(maxsize=2)
def _encoded(encoder: str) -> ConceptMatrix:
    return encode(_texts(), encoder=encoder, text="text", id="doc_id")
