"""Sparse products for training: codes with k active latents a row never meet a dense units x latents array."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch.nn import functional


@dataclass(frozen=True, eq=False)
class Codes:
    """Sparse codes of n units: `ptr` [n + 1], `latent` [nnz] sorted by row, `value` [nnz]."""

    ptr: torch.Tensor
    latent: torch.Tensor
    value: torch.Tensor

    @property
    def n(self) -> int:
        """Number of units."""
        return len(self.ptr) - 1

    def with_value(self, value: torch.Tensor) -> Codes:
        """The same pattern with other values."""
        return Codes(self.ptr, self.latent, value)

    def rows(self) -> torch.Tensor:
        """Row of each entry, [nnz] int64."""
        return torch.repeat_interleave(torch.arange(self.n), self.ptr.diff())

    def where(self, keep: torch.Tensor) -> Codes:
        """Only the entries where `keep` [nnz] is true."""
        counts = torch.zeros(self.n + 1, dtype=torch.int64)
        counts[1:] = torch.bincount(self.rows()[keep], minlength=self.n).cumsum(0)
        return Codes(counts, self.latent[keep], self.value[keep])


def from_mask(h: torch.Tensor, active: torch.Tensor) -> Codes:
    """Codes of dense pre-activations h [n, m] where `active` [n, m] is true."""
    flat = active.view(-1).nonzero()[:, 0]
    ptr = torch.zeros(len(h) + 1, dtype=torch.int64)
    ptr[1:] = active.sum(dim=1).cumsum(0)
    return Codes(ptr, flat % h.shape[1], h.reshape(-1)[flat].float())


def times(codes: Codes, W: torch.Tensor) -> torch.Tensor:
    """Codes [n, d_sae] times W [d_sae, d], the sum of the active rows of W for each unit."""
    return functional.embedding_bag(codes.latent, W, codes.ptr[:-1], per_sample_weights=codes.value, mode="sum")


def transposed_times(codes: Codes, x: torch.Tensor, d_sae: int) -> torch.Tensor:
    """Codes' transpose [d_sae, n] times x [n, d]."""
    # NumPy's stable sort of 16-bit keys is a radix sort, hundreds of times faster than a 64-bit argsort here.
    key = codes.latent.numpy().astype(np.uint16 if d_sae <= 1 << 16 else np.int64)
    order = torch.from_numpy(np.argsort(key, kind="stable"))
    ptr = torch.zeros(d_sae + 1, dtype=torch.int64)
    ptr[1:] = torch.bincount(codes.latent, minlength=d_sae).cumsum(0)
    return times(Codes(ptr, codes.rows()[order], codes.value[order]), x)


def dots(codes: Codes, x: torch.Tensor, W: torch.Tensor) -> torch.Tensor:
    """x[row] . W[latent] for each entry, [nnz], with x [n, d] and W [d_sae, d]."""
    _spend_warning()
    pattern = torch.sparse_csr_tensor(
        codes.ptr, codes.latent, torch.zeros_like(codes.value), (codes.n, len(W)), check_invariants=False
    )
    found: torch.Tensor = torch.sparse.sampled_addmm(pattern, x, W.t(), beta=0.0).values()
    return found


@cache
def _spend_warning() -> None:
    """Have torch say here, unheard, what it says once in a process: that this layout of sparse arrays is in beta."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta", UserWarning)
        torch.sparse_csr_tensor([0, 0], [], torch.empty(0), (1, 1), check_invariants=False)
