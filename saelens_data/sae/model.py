"""The one internal form of a sparse autoencoder, whatever file it came from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch

from saelens_data.errors import EncoderError
from saelens_data.sae.sparse_ops import Codes, times

Activation = Literal["relu", "jumprelu", "topk"]

#: Units encoded at once: 1024 x 8192 float32 pre-activations are 32 MB.
BLOCK_UNITS = 1024


@dataclass(frozen=True, eq=False)
class Activations:
    """Active latents of n units: `row` [nnz] int64 (ascending), `latent` [nnz] int64, `value` [nnz] float32 > 0."""

    row: torch.Tensor
    latent: torch.Tensor
    value: torch.Tensor


@dataclass(frozen=True, eq=False)
class SAE:
    """Encoder: f = act((in_scale * x - in_center) W_enc + b_enc); decoder: f W_dec + b_dec, in the scaled space.

    Shapes: W_enc [d_in, d_sae], b_enc [d_sae], in_center [d_in], W_dec [d_sae, d_in], b_dec [d_in],
    threshold [d_sae] for jumprelu (h is kept where h > threshold). Raises EncoderError for parts that do not fit.
    """

    W_enc: torch.Tensor
    b_enc: torch.Tensor
    in_center: torch.Tensor
    W_dec: torch.Tensor
    b_dec: torch.Tensor
    activation: Activation
    threshold: torch.Tensor | None = None
    k: int | None = None
    in_scale: float = 1.0
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        d_in, d_sae = self.W_enc.shape
        want = {"b_enc": (d_sae,), "in_center": (d_in,), "W_dec": (d_sae, d_in), "b_dec": (d_in,)}
        if self.activation == "jumprelu":
            want["threshold"] = (d_sae,)
        for name, shape in want.items():
            part = getattr(self, name)
            if part is None or tuple(part.shape) != shape:
                found = None if part is None else list(part.shape)
                raise EncoderError(f"SAE: {name} has shape {found}, W_enc {[d_in, d_sae]} wants {list(shape)}")
        if self.activation == "topk" and not self.k:
            raise EncoderError("SAE: the activation topk needs k")

    @property
    def d_in(self) -> int:
        """Length of the vectors it reads."""
        return int(self.W_enc.shape[0])

    @property
    def d_sae(self) -> int:
        """Number of latents."""
        return int(self.W_enc.shape[1])

    def to(self, dtype: torch.dtype) -> SAE:
        """The same SAE with its encoder product in `dtype`; centring, decoder and thresholds stay float32."""
        return replace(self, W_enc=self.W_enc.to(dtype), b_enc=self.b_enc.to(dtype))

    def encode(self, x: torch.Tensor) -> Activations:
        """Active latents of the vectors x [n, d_in], block by block: never n x d_sae at once."""
        blocks = [self._encode_block(block) for block in torch.split(x, BLOCK_UNITS)]
        rows = [block.row + i * BLOCK_UNITS for i, block in enumerate(blocks)]
        if not blocks:
            empty = torch.empty(0, dtype=torch.int64)
            return Activations(empty, empty, torch.empty(0))
        return Activations(torch.cat(rows), torch.cat([b.latent for b in blocks]), torch.cat([b.value for b in blocks]))

    def pre_activations(self, x: torch.Tensor) -> torch.Tensor:
        """Dense h [n, d_sae] for a small block of vectors x [n, d_in]."""
        centred = x * self.in_scale - self.in_center
        return torch.addmm(self.b_enc, centred.to(self.W_enc.dtype), self.W_enc)

    @torch.inference_mode()
    def _encode_block(self, x: torch.Tensor) -> Activations:
        h = self.pre_activations(x)
        if self.activation == "topk":
            values, latents = h.topk(int(self.k or 0), dim=1)
            latents, order = latents.sort(dim=1)
            keep = (values := values.gather(1, order)) > 0
            rows = torch.arange(len(x)).unsqueeze(1).expand_as(latents)
            return Activations(rows[keep], latents[keep], values[keep].float())
        active = h > (self.threshold.clamp(min=0) if self.threshold is not None else 0)
        row, latent = active.nonzero(as_tuple=True)
        return Activations(row, latent, h[row, latent].float())

    def decode(self, active: Activations, n: int) -> torch.Tensor:
        """Reconstructions [n, d_in] in the scaled space of in_scale * x."""
        ptr = torch.zeros(n + 1, dtype=torch.int64)
        ptr[1:] = torch.bincount(active.row, minlength=n).cumsum(0)
        return times(Codes(ptr, active.latent, active.value), self.W_dec) + self.b_dec

    def blocks(self, x: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor, Activations]]:
        """Yield (in_scale * x, reconstruction, activations) for each block of x, for evaluation."""
        for block in torch.split(x, BLOCK_UNITS):
            active = self._encode_block(block)
            yield block * self.in_scale, self.decode(active, len(block)), active
