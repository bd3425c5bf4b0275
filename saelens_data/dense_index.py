"""An index of embeddings, for sets so large that going through all of them takes too long; needs FAISS.

Up to a size it is a plain list, exact; above, a graph of neighbours (HNSW: Malkov and Yashunin 2018, IEEE TPAMI
42:824-836), which misses a few. Both keep float16, which is what a store holds, so nothing is lost.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from saelens_data.errors import InputError, MissingExtraError

#: Documents up to which the index is a list.
LIST_UP_TO = 200_000
#: Neighbours of each document in the graph, and documents looked at to find them.
_NEIGHBOURS, _EFFORT = 32, 100
#: Documents added at a time, as float32.
_BLOCK = 65_536


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
        """Read what `save` wrote. Raises InputError for a file that is no index."""
        faiss = _faiss()
        try:
            return DenseIndex(faiss.read_index(os.fspath(path)))
        except RuntimeError as error:
            raise InputError(f"'{path}' holds no index of embeddings: make it again") from error

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the index so that the old file or the new one is there."""
        from saelens_data.results import write_whole  # noqa: PLC0415

        write_whole(Path(path), _faiss().serialize_index(self.index).tobytes())

    def __len__(self) -> int:
        return int(self.index.ntotal)

    def nearest(self, query: np.ndarray, n: int) -> np.ndarray:
        """Rows of the `n` documents of the highest cosine with `query` [dim], highest first."""
        if hasattr(self.index, "hnsw"):
            self.index.hnsw.efSearch = max(n, _EFFORT)
        _, rows = self.index.search(query[None].astype(np.float32), min(n, len(self)))
        return np.asarray(rows[0][rows[0] >= 0])


def _faiss() -> Any:
    if find_spec("faiss") is None:
        raise MissingExtraError("an index of embeddings", "faiss")
    import faiss  # noqa: PLC0415

    return faiss
