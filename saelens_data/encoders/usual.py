"""What goes together in ordinary text: counted in a reference once, so that a pair must exceed it to surprise.

"shell script" goes with "directory" wherever either occurs. No count of one data set can tell that from an artefact,
which goes together in this set alone; another set can.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.sparse import coo_array, csr_array, triu

from saelens_data.encoders.folders import folder_with
from saelens_data.errors import EncoderError, InputError
from saelens_data.matrix import Source
from saelens_data.stats.strata import strata_of
from saelens_data.store.files import atomic_write_bytes

#: File of an encoder's folder: pairs of latents and how often they meet in ordinary text.
USUAL_FILE = "usual.parquet"
#: Documents from which on something is known.
LEAST_DOCUMENTS = 100
#: Meetings that are added to those counted and to those expected: the lift of a pair seen little stays near 1.
_PRIOR = 1.0
#: Steps in which log2 of a lift is kept, to a factor of 2, and the least that is kept: twice or half as often.
STEPS, _LEAST = 2, 2
#: Bytes of a cell while a block is counted.
_CELL = 24


@dataclass(frozen=True, eq=False)
class Usual:
    """How much more often than by chance at equal length two latents meet in a reference.

    `name` says what the reference is, of `n_docs` documents. `steps` [d_sae, d_sae] csr of int8, symmetric, has log2 of
    their lift in halves; those that are not stored meet about as often as by chance.
    """

    name: str
    n_docs: int
    steps: csr_array

    def between(self, one: np.ndarray, other: np.ndarray) -> csr_array:
        """The steps of latents `one` with latents `other`, [one, other] csr of int8."""
        d_sae = self.steps.shape[0]
        if max(one.max(initial=0), other.max(initial=0)) >= d_sae:
            raise InputError(f"{self.name} has {d_sae:,} latents, and the documents have more: encode both alike")
        return csr_array(self.steps[one][:, other])

    @classmethod
    def of(
        cls,
        X: csr_array,
        latent: np.ndarray,
        length: np.ndarray | None,
        name: str = "the reference",
        memory: int = 1 << 29,
    ) -> Usual:
        """Count the pairs of a reference, block by block in about `memory` bytes.

        `X` [documents, columns] is positive where a document holds a concept, `latent` [columns] the latent of each
        column, `length` [documents] the units of each, None to leave length aside. The lift of a pair that meets in k
        documents and would by chance at equal length in E is (k + 1) / (E + 1).

        Raises InputError for a reference of fewer than 100 documents.
        """
        if X.shape[0] < LEAST_DOCUMENTS:
            raise InputError(
                f"{name} has {X.shape[0]:,} documents: what is usual takes at least {LEAST_DOCUMENTS} to be known"
            )
        order = np.argsort(latent, kind="stable")
        latent, places = latent[order], np.arange(len(order))
        a, b, steps = [latent[:0]], [latent[:0]], [np.empty(0, np.int8)]
        for start, lift in _lifts(csr_array(X[:, order]), length, memory):
            found = np.round(STEPS * np.log2(lift)).clip(-127, 127).astype(np.int8)
            found[places[None, :] <= places[start : start + len(lift), None]] = 0
            row, column = np.nonzero(np.abs(found) >= _LEAST)
            a.append(latent[row + start])
            b.append(latent[column])
            steps.append(found[row, column])
        d_sae = int(latent.max(initial=0)) + 1
        return cls(name, X.shape[0], _symmetric(np.concatenate(a), np.concatenate(b), np.concatenate(steps), d_sae))

    def save(self, path: Path) -> None:
        """Write it as Parquet: a row for each pair."""
        upper = triu(self.steps, 1, format="coo")
        table = pa.table({"a": upper.row, "b": upper.col, "steps": upper.data})
        about = json.dumps({"name": self.name, "n_docs": self.n_docs, "d_sae": self.steps.shape[0]})
        buffer = io.BytesIO()
        pq.write_table(
            table.replace_schema_metadata({"usual": about}),
            buffer,
            compression="zstd",
            compression_level=19,
            use_dictionary=["a", "steps"],
            column_encoding={"b": "DELTA_BINARY_PACKED"},
            write_statistics=False,
        )
        atomic_write_bytes(path, buffer.getvalue())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Usual:
        """Read what `save` wrote."""
        table = pq.read_table(path)
        about = json.loads(table.schema.metadata[b"usual"])
        a, b, steps = (table[name].to_numpy() for name in ("a", "b", "steps"))
        return cls(about["name"], about["n_docs"], _symmetric(a, b, steps, about["d_sae"]))


def _symmetric(a: np.ndarray, b: np.ndarray, steps: np.ndarray, d_sae: int) -> csr_array:
    upper = coo_array((steps, (a, b)), shape=(d_sae, d_sae)).tocsr()
    return csr_array(upper + upper.T)


def _lifts(X: csr_array, length: np.ndarray | None, memory: int) -> Iterator[tuple[int, np.ndarray]]:
    """Lifts of some columns with all, [block, columns], with the place of the first."""
    held = csr_array((np.ones(X.nnz, np.int32), X.indices, X.indptr), shape=X.shape)
    stratum = np.zeros(X.shape[0], dtype=np.int64) if length is None else strata_of(length)
    sizes = np.bincount(stratum)
    member = csr_array(
        (np.ones(len(stratum), np.int32), (stratum, np.arange(len(stratum)))), (len(sizes), len(stratum))
    )
    within = (member @ held).toarray().astype(np.float64)
    by_column, most = csr_array(held.T), max(1, int(memory // (_CELL * max(X.shape[1], 1))))
    for start in range(0, X.shape[1], most):
        both = (by_column[start : start + most] @ held).toarray()
        expected = (within[:, start : start + most] / sizes[:, None]).T @ within
        yield start, (both + _PRIOR) / (expected + _PRIOR)


def usual(source: Source) -> Usual | None:
    """What is usual for an encoder, as its folder says; None if that is not at hand."""
    try:
        return _read(source.encoder, source.sae_sha256)
    except (EncoderError, OSError, ValueError, KeyError, TypeError):
        return None


@lru_cache(maxsize=2)
def _read(encoder: str, sae_sha256: str) -> Usual:
    return Usual.load(folder_with(encoder, sae_sha256) / USUAL_FILE)
