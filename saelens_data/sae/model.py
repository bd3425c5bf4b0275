"""The one internal form of a sparse autoencoder, whatever file it came from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, get_args

import torch

from saelens_data.errors import EncoderError, choices
from saelens_data.sae.select import pursue, top_k
from saelens_data.sae.sparse_ops import Codes, times

Activation = Literal["relu", "jumprelu", "topk", "groupmax", "abstopk", "pursuit"]

#: Units and latents encoded at once on a CPU: 1024 x 8192 float32 pre-activations are 32 MB, most of a large cache.
BLOCK_UNITS, BLOCK_LATENTS = 1024, 8192
#: The same on a GPU, where larger products are faster: 8192 x 8192 float32 are 268 MB.
GPU_BLOCK_UNITS = 8192


@dataclass(frozen=True, eq=False)
class Activations:
    """Active latents of n units: `row` [nnz] int64 (ascending), `latent` [nnz] int64, `value` [nnz] float32 > 0."""

    row: torch.Tensor
    latent: torch.Tensor
    value: torch.Tensor


@dataclass(frozen=True)
class InputNorm:
    """What is done to each vector x [d_in] before anything else: (x - mean(x)) / s, every part of it optional."""

    #: Subtract the mean of the vector's own d_in numbers.
    center: bool = False
    #: s: "norm" is |x| / sqrt(d_in), so that the length becomes sqrt(d_in); "std" is the standard deviation plus eps.
    scale: Literal["none", "norm", "std"] = "none"
    #: Added to the standard deviation, not to the variance under the root.
    eps: float = 0.0
    #: Whether the standard deviation divides by d_in - 1.
    unbiased: bool = True

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """The normalised vectors of x [n, d_in]; a vector of zeros stays one."""
        if self.center:
            x = x - x.mean(dim=-1, keepdim=True)
        if self.scale == "norm":
            x = x * (x.shape[-1] ** 0.5 / x.norm(dim=-1, keepdim=True).clamp(min=1e-30))
        elif self.scale == "std":
            std: torch.Tensor = x.std(dim=-1, keepdim=True, correction=int(self.unbiased))
            x = x / (std + self.eps).clamp(min=1e-30)
        return x


#: No change; SAELens's `constant_norm_rescale` and lm-saes's `token-wise`; SAELens's and OpenAI's layer norm (torch's
#: own differs: it divides by d_in and has eps under the root).
AS_IT_IS = InputNorm()
TOKEN_NORM = InputNorm(scale="norm")
LAYER_NORM = InputNorm(center=True, scale="std", eps=1e-5)


@dataclass(frozen=True)
class Pursuit:
    """How matching pursuit runs; `k` of the SAE is the number of steps."""

    #: Whether an atom may be subtracted with a negative coefficient (ITDA) or not (SAELens).
    signed: bool
    #: Whether a unit ends with the first step that takes one of its atoms again.
    stop_on_repeat: bool = False
    #: A unit ends when what is left of it is shorter than this.
    tolerance: float = 0.0


@dataclass(frozen=True, eq=False)
class SAE:
    """Encoder f = out_scale * act((in_scale * norm(x) - in_center) W_enc + b_enc); decoder (f / out_scale) W_dec +
    b_dec, in the space of in_scale * norm(x).

    Shapes: W_enc [d_in, directions], b_enc [directions], in_center [d_in], W_dec [directions, d_in] or None, b_dec
    [d_in], threshold [directions] for jumprelu, out_scale [directions] >= 0 or None for 1. With h the argument of act:

    relu      h where h > 0
    jumprelu  h where h > max(threshold, 0). Gates on h times a decoder's norm, the one threshold of a batch-topk
              SAE and gated SAEs (Rajamanoharan et al. 2024, arXiv 2404.16014) are this, with other numbers
    topk      the k largest h that are positive (Gao et al. 2024, arXiv 2406.04093)
    groupmax  the largest h of each of k equal runs of latents, if positive
    abstopk   the k largest |h|, signed (arXiv 2510.00404)
    pursuit   matching pursuit with the atoms W_dec, see `Pursuit`

    Of equal h the lowest latent is taken. Signed directions are two concepts each: latent j is direction j with a
    positive sign, latent directions + j the same direction with a negative one; both have positive activations.

    Raises EncoderError for parts that do not fit.
    """

    W_enc: torch.Tensor
    b_enc: torch.Tensor
    in_center: torch.Tensor
    W_dec: torch.Tensor | None
    b_dec: torch.Tensor
    activation: Activation
    threshold: torch.Tensor | None = None
    k: int | None = None
    in_scale: float = 1.0
    norm: InputNorm = AS_IT_IS
    out_scale: torch.Tensor | None = None
    pursuit: Pursuit | None = None
    #: What the file said of itself: hook_name, layer, model_name and the like, as far as it did.
    metadata: Mapping[str, Any] = field(default_factory=dict)
    #: What a user should know of how it was read, one sentence each.
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.activation not in get_args(Activation):
            raise EncoderError(
                f"SAE: no activation '{self.activation}'; {choices(self.activation, get_args(Activation))}"
            )
        d_in, n = self.W_enc.shape
        want: dict[str, tuple[int, ...]] = {"b_enc": (n,), "in_center": (d_in,), "W_dec": (n, d_in), "b_dec": (d_in,)}
        want |= {"threshold": (n,), "out_scale": (n,)}
        needed = {"b_enc", "in_center", "b_dec"} | ({"threshold"} if self.activation == "jumprelu" else set())
        needed |= {"W_dec"} if self.activation == "pursuit" else set()
        for name, shape in want.items():
            part = getattr(self, name)
            if tuple(part.shape) != shape if part is not None else name in needed:
                found = None if part is None else list(part.shape)
                raise EncoderError(f"SAE: {name} has shape {found}, W_enc {[d_in, n]} wants {list(shape)}")
        if self.activation in ("topk", "groupmax", "abstopk", "pursuit") and (self.k or 0) < 1:
            raise EncoderError(f"SAE: the activation {self.activation} needs k")
        if self.activation != "pursuit" and (self.k or 0) > n:
            raise EncoderError(f"SAE: k is {self.k} with {n} latents")
        if self.activation == "groupmax" and n % (self.k or 1):
            raise EncoderError(f"SAE: {n} latents cannot be cut into {self.k} equal groups")
        if self.activation == "pursuit" and self.pursuit is None:
            raise EncoderError("SAE: the activation pursuit needs to be told how")

    @property
    def d_in(self) -> int:
        """Length of the vectors it reads."""
        return int(self.W_enc.shape[0])

    @property
    def n_directions(self) -> int:
        """Columns of W_enc: d_sae, or half of it where directions are signed."""
        return int(self.W_enc.shape[1])

    @property
    def signed(self) -> bool:
        """Whether each direction is two latents."""
        return self.activation == "abstopk" or (self.pursuit is not None and self.pursuit.signed)

    @property
    def d_sae(self) -> int:
        """Number of latents."""
        return self.n_directions * (2 if self.signed else 1)

    @property
    def elementwise(self) -> bool:
        """Whether f depends on h alone, latent by latent, and never falls as h rises.

        If so, the maximum of f over the units of a document is `activate` of the maximum of h: exactly, in any dtype.
        """
        return self.activation in ("relu", "jumprelu")

    @cached_property
    def bound(self) -> torch.Tensor:
        """What h must exceed for a latent to be active, [d_sae] float32; of an elementwise SAE."""
        zero = torch.zeros_like(self.b_enc, dtype=torch.float32)
        bound = zero if self.threshold is None else self.threshold.float().clamp(min=0)
        # A latent that writes nothing, where values are what it writes, is never active.
        return bound if self.out_scale is None else torch.where(self.out_scale > 0, bound, torch.inf)

    @cached_property
    def _has_center(self) -> bool:
        return bool(self.in_center.any())

    @property
    def device(self) -> torch.device:
        """Where it is; x must be there too."""
        return self.W_enc.device

    def to(self, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> SAE:
        """The same SAE with its encoder product in `dtype`, on `device`; all other parts stay as they are, float32."""
        moved = {
            name: part.to(device)
            for name in ("b_enc", "in_center", "W_dec", "b_dec", "threshold", "out_scale")
            if (part := getattr(self, name)) is not None
        }
        return replace(self, W_enc=self.W_enc.to(device, dtype), **moved)

    def without_decoder(self) -> SAE:
        """The same encoder without W_dec, which encoding does not need; matching pursuit, which does, is unchanged."""
        return self if self.activation == "pursuit" else replace(self, W_dec=None)

    def scaled_by_decoder(self) -> SAE:
        """The same SAE with each value the length of what its latent writes, act * |W_dec|, which makes values of
        different latents comparable where the decoder's rows are not of length 1. The same latents are active, and
        reconstructions stay; so does an SAE that does so already.
        """
        return replace(self, out_scale=self.decoder_norms())

    def decoder_norms(self) -> torch.Tensor:
        """Length of each row of W_dec, [directions] float32. Raises EncoderError if it was read without."""
        if self.W_dec is None:
            raise EncoderError("the SAE was read without its decoder: read it with the decoder")
        norms: torch.Tensor = self.W_dec.float().norm(dim=1)
        return norms

    def normalised(self, x: torch.Tensor) -> torch.Tensor:
        """in_scale * norm(x), float32 [n, d_in]: the space in which the decoder answers."""
        normed = self.norm(x.float())
        return normed if self.in_scale == 1.0 else normed * self.in_scale

    def inputs(self, x: torch.Tensor) -> torch.Tensor:
        """What the encoder's product reads: x [n, d_in] of any dtype normalised, scaled and centred in float32, then
        in the dtype of W_enc. x itself where there is nothing to do.
        """
        if self.norm != AS_IT_IS or self.in_scale != 1.0 or self._has_center:
            x = self.normalised(x) - self.in_center
        return x.to(self.W_enc.dtype)

    def pre_activations(self, x: torch.Tensor, latents: slice | None = None) -> torch.Tensor:
        """Dense h [n, width] of a block of vectors x [n, d_in], for all directions or the slice of them.

        float32 where W_enc is, and on a GPU; on a CPU with W_enc in bfloat16 the sums are float32 and h is rounded
        to bfloat16. To ask for many slices of one x, pass `inputs(x)` to `product` instead.
        """
        return self.product(self.inputs(x), latents)

    def product(self, z: torch.Tensor, latents: slice | None = None) -> torch.Tensor:
        """z W_enc + b_enc for z = `inputs(x)`, see `pre_activations`."""
        W, b = (self.W_enc, self.b_enc) if latents is None else (self.W_enc[:, latents], self.b_enc[latents])
        if z.is_cuda and W.dtype != torch.float32:
            h: torch.Tensor = torch.mm(z, W, out_dtype=torch.float32)
            return h.add_(b)
        return torch.addmm(b.to(W.dtype), z, W)

    def activate(self, h: torch.Tensor, latents: slice | None = None) -> torch.Tensor:
        """Dense f [n, width] float32 of h from `pre_activations`, of an elementwise SAE; zero is not active."""
        if not self.elementwise:
            raise EncoderError(f"the activation {self.activation} compares latents: encode the vectors instead")
        at = slice(None) if latents is None else latents
        f = torch.where(h > self.bound[at], h, 0).float()
        return f if self.out_scale is None else f * self.out_scale[at]

    def latent_blocks(self) -> list[slice]:
        """The slices of directions that `encode` takes one by one; groups of groupmax are never cut."""
        width, n = BLOCK_LATENTS, self.n_directions
        if self.activation == "groupmax":
            group = n // int(self.k or 1)
            width = max(1, width // group) * group
        return [slice(start, min(start + width, n)) for start in range(0, n, width)]

    @property
    def block_units(self) -> int:
        """Units that `encode` takes at once."""
        return GPU_BLOCK_UNITS if self.W_enc.is_cuda else BLOCK_UNITS

    def peak_bytes(self, n_active: float) -> int:
        """What encoding holds at most besides x, the weights and the result, for n_active latents a unit.

        One block of units u = `block_units` by latents l = min(d, BLOCK_LATENTS): 4 u l for h, the same again for |h|
        where directions are signed, u l for a mask; 8 u d_in for the centred input in two dtypes; and 64 u n_active
        for rows, latents and values with the copies that sort or merge them. It does not grow with the units or,
        beyond one block, with d_sae.
        """
        width = max(block.stop - block.start for block in self.latent_blocks())
        return int(self.block_units * ((9 if self.signed else 5) * width + 8 * self.d_in + 64 * n_active))

    def encode(self, x: torch.Tensor) -> Activations:
        """Active latents of the vectors x [n, d_in], block by block: never n x d_sae at once, see `peak_bytes`.

        Raises ValueError if a vector is not finite.
        """
        if not len(x):
            empty = torch.empty(0, dtype=torch.int64, device=x.device)
            return Activations(empty, empty, torch.empty(0, device=x.device))
        step = self.block_units
        blocks = [self._encode_block(block) for block in torch.split(x, step)]
        rows = [block.row + i * step for i, block in enumerate(blocks)]
        return Activations(torch.cat(rows), torch.cat([b.latent for b in blocks]), torch.cat([b.value for b in blocks]))

    @torch.inference_mode()
    def _encode_block(self, x: torch.Tensor) -> Activations:
        if not bool(torch.isfinite(x).all()):
            raise ValueError("vectors to encode are not finite")
        z = self.inputs(x)
        if self.elementwise:
            return self._above_bound(z)
        if self.activation == "pursuit":
            return self._pursue(z)
        if self.activation == "groupmax":
            value, direction = self._group_maxima(z)
        else:
            blocks = ((block.start, self.product(z, block)) for block in self.latent_blocks())
            value, direction = top_k(blocks, int(self.k or 0), signed=self.signed)
        rows = torch.arange(len(z), device=z.device).unsqueeze(1).expand_as(direction)
        keep = value != 0 if self.signed else value > 0
        return self._finish(rows[keep], direction[keep], value[keep])

    def _above_bound(self, z: torch.Tensor) -> Activations:
        rows, directions, values = [], [], []
        for block in self.latent_blocks():
            h = self.product(z, block)
            row, direction = (h > self.bound[block]).nonzero(as_tuple=True)
            rows.append(row)
            values.append(h[row, direction])
            directions.append(direction + block.start if block.start else direction)
            del h  # before the next block is made
        if len(rows) == 1:
            return self._finish(rows[0], directions[0], values[0])
        row, order = torch.cat(rows).sort(stable=True)
        return self._finish(row, torch.cat(directions)[order], torch.cat(values)[order])

    def _group_maxima(self, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        group = self.n_directions // int(self.k or 1)
        values, directions = [], []
        for block in self.latent_blocks():
            value, at = self.product(z, block).view(len(z), -1, group).max(dim=2)
            values.append(value)
            directions.append(at + torch.arange(block.start, block.stop, group, device=z.device))
        return torch.cat(values, dim=1), torch.cat(directions, dim=1)

    def _pursue(self, z: torch.Tensor) -> Activations:
        assert self.pursuit is not None
        assert self.W_dec is not None
        row, atom, value = pursue(
            z.float(),
            self._nearest_atom,
            self.W_dec,
            steps=int(self.k or 0),
            stop_on_repeat=self.pursuit.stop_on_repeat,
            tolerance=self.pursuit.tolerance,
        )
        keep = value != 0
        return self._finish(row[keep], atom[keep], value[keep])

    def _nearest_atom(self, left: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The coefficient and the number of the atom with the largest product with each row of what is left."""
        assert self.pursuit is not None
        left = left.to(self.W_enc.dtype)
        best = at = torch.empty(0)
        for block in self.latent_blocks():
            h = self.product(left, block)
            value, column = (h.abs() if self.pursuit.signed else h).max(dim=1)
            value = h.gather(1, column.unsqueeze(1))[:, 0].float()
            if not block.start:
                best, at = value, column
                continue
            better = value.abs() > best.abs() if self.pursuit.signed else value > best
            best, at = torch.where(better, value, best), torch.where(better, column + block.start, at)
        return (best if self.pursuit.signed else best.clamp(min=0)), at

    def _finish(self, row: torch.Tensor, direction: torch.Tensor, value: torch.Tensor) -> Activations:
        """Values in float32, scaled; a negative one is the other latent of its direction."""
        value = value.float()
        if self.out_scale is not None:
            value = value * self.out_scale[direction]
            if not bool((keep := value != 0).all()):  # of a latent that writes nothing
                row, direction, value = row[keep], direction[keep], value[keep]
        if not self.signed:
            return Activations(row, direction, value)
        return Activations(row, direction + self.n_directions * (value < 0), value.abs())

    def decode(self, active: Activations, n: int) -> torch.Tensor:
        """Reconstructions [n, d_in] in the space of `normalised(x)`. Raises EncoderError without a decoder."""
        if self.W_dec is None:
            raise EncoderError("the SAE was read without its decoder: read it with the decoder")
        ptr = torch.zeros(n + 1, dtype=torch.int64, device=active.row.device)
        ptr[1:] = torch.bincount(active.row, minlength=n).cumsum(0)
        direction, value = active.latent, active.value
        if self.signed:
            negative = direction >= self.n_directions
            direction, value = direction % self.n_directions, torch.where(negative, -value, value)
        if self.out_scale is not None:
            value = value / self.out_scale[direction].clamp(min=1e-30)
        return times(Codes(ptr, direction, value), self.W_dec) + self.b_dec

    def blocks(self, x: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor, Activations]]:
        """Yield (normalised(x), reconstruction, activations) for each block of x, for evaluation."""
        for block in torch.split(x, self.block_units):
            active = self._encode_block(block)
            yield self.normalised(block), self.decode(active, len(block)), active
