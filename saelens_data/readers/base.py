"""What every reader offers to the rest of the package."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from saelens_data.matrix import Units


@dataclass(frozen=True, eq=False)
class Reading:
    """Documents cut into units, ready for the model: `units` and the token ids of each unit."""

    units: Units
    ids: list[list[int]]

    @property
    def n_tokens(self) -> np.ndarray:
        """Tokens in each unit, special tokens not counted, [n_units] int64."""
        return np.fromiter(map(len, self.ids), dtype=np.int64, count=len(self.ids))


class Reader(Protocol):
    """A model that reads. Vectors depend on the text alone, up to the rounding of `dtype`."""

    #: What a unit is: "span" or "token".
    unit: str
    #: Name that finds the model again.
    name: str
    #: SHA-256 of the weights.
    sha256: str
    #: Which states make up a unit's vector, as "final+layer.3".
    hook: str
    #: Length of a unit's vector.
    d_in: int
    #: Arithmetic of the forward pass.
    dtype: torch.dtype
    #: Limits that change the numbers.
    limits: dict[str, int]
    #: Which numbers of a unit's vector are, up to a factor, the model's own embedding of the unit; None if it has none.
    embedding: slice | None

    def split(self, texts: Sequence[str]) -> Reading:
        """Cut documents into units. Offsets count characters; units lie in the order of the text."""
        ...

    def read(self, reading: Reading) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
        """Yield batches: unit numbers [n] int64 and their vectors [n, d_in] float32, in any order."""
        ...
