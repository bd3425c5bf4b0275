"""An index of embeddings, for sets so large that going through all of them takes too long; needs FAISS.

Up to a size it is a plain list, exact; above, a graph of neighbours (HNSW: Malkov and Yashunin 2018, IEEE TPAMI
42:824-836), which misses a few. Both keep float16, which is what a store holds, so nothing is lost.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from saelens_data.errors import InputError, MissingExtraError
from saelens_data.matrix import Keeper

#: Documents up to which the index is a list.
LIST_UP_TO = 2_000_000
#: Neighbours of each document in the graph, and documents looked at to find them.
_NEIGHBOURS, _EFFORT = 32, 100
#: Documents added at a time, as float32.
_BLOCK = 65_536
#: File that keeps the index of a store's vectors.
DENSE = "dense.faiss"
#: Packages that install the same module, for one processor and for the other.
_CPU, _GPU = ("faiss-cpu",), ("faiss-gpu", "faiss-gpu-cu11", "faiss-gpu-cu12")


@dataclass(frozen=True, eq=False)
class DenseIndex:
    """Finds the documents whose embeddings lie nearest to a vector."""

    index: Any

    @staticmethod
    def build(vectors: np.ndarray, *, list_up_to: int = LIST_UP_TO) -> DenseIndex:
        """Index embeddings [documents, dim] of length 1 or 0. A graph of a million takes minutes.

        Raises MissingExtraError without FAISS.
        """
        faiss = _faiss()
        kept, by = faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
        n, dim = vectors.shape
        if n <= list_up_to:
            index = faiss.IndexScalarQuantizer(dim, kept, by)
        else:
            index = faiss.IndexHNSWSQ(dim, kept, _NEIGHBOURS, by)
            index.hnsw.efConstruction = _EFFORT
        index.train(np.zeros((1, dim), np.float32))  # float16 has nothing to learn
        for at in range(0, n, _BLOCK):
            index.add(vectors[at : at + _BLOCK].astype(np.float32))
        return DenseIndex(index)

    @staticmethod
    def load(path: str | os.PathLike[str]) -> DenseIndex:
        """Map what `save` wrote into memory. Raises InputError for a file that is no index."""
        faiss = _faiss()
        try:
            return DenseIndex(faiss.read_index(os.fspath(path), faiss.IO_FLAG_MMAP_IFC))
        except RuntimeError as error:
            raise InputError(f"'{path}' holds no index of embeddings: make it again") from error

    @staticmethod
    def kept(vectors: np.ndarray, keeper: Keeper) -> DenseIndex | None:
        """The index of all vectors of a store, kept there; None without FAISS or where it cannot be kept.

        Raises InputError if two packages of FAISS are installed.
        """
        if find_spec("faiss") is None:
            return None

        def write(file: Path) -> None:
            DenseIndex.build(vectors, list_up_to=LIST_UP_TO).save(file)

        def read(file: Path) -> DenseIndex | None:
            try:
                found = DenseIndex.load(file)
            except InputError:
                return None
            return found if (len(found), found.index.d) == vectors.shape else None

        return keeper.file(DENSE, _key(len(vectors)), write, read)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the index. Raises OSError; a file that is not whole may be left then."""
        try:
            _faiss().write_index(self.index, os.fspath(path))
        except RuntimeError as error:  # what FAISS makes of a full disk
            raise OSError(f"the index could not be written: {error}") from error

    def __len__(self) -> int:
        return int(self.index.ntotal)

    def nearest(self, query: np.ndarray, n: int) -> np.ndarray:
        """Rows of the `n` documents of the highest cosine with `query` [dim], highest first."""
        if hasattr(self.index, "hnsw"):
            self.index.hnsw.efSearch = max(n, _EFFORT)
        _, rows = self.index.search(query[None].astype(np.float32), min(n, len(self)))
        return np.asarray(rows[0][rows[0] >= 0])


def _key(n: int) -> dict[str, str]:
    """What an index of `n` documents is made with."""
    kind = "list" if n <= LIST_UP_TO else f"graph of {_NEIGHBOURS} neighbours, {_EFFORT} looked at"
    return {"faiss": str(_faiss().__version__), "kind": f"{kind}, float16, inner product"}


def _faiss() -> Any:
    if find_spec("faiss") is None:
        raise MissingExtraError("an index of embeddings", "faiss")
    cpu, gpu = ([name for name in names if _installed(name)] for names in (_CPU, _GPU))
    if cpu and gpu:
        raise InputError(
            f"{cpu[0]} and {gpu[0]} are both installed and overwrite each other's files: pip uninstall both, then "
            "install the one that is wanted"
        )
    import faiss  # noqa: PLC0415

    return faiss


def _installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True
