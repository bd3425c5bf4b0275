"""Train a sparse autoencoder: BatchTopK (Bussmann et al. 2024, arXiv 2412.06410) with nested prefixes of latents
(Matryoshka, Bussmann et al. 2025, arXiv 2503.17547) and the auxiliary loss that revives dead latents
(Gao et al. 2024, arXiv 2406.04093). Gradients are written out by hand, because every one of them is sparse.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from saelens_data.errors import EncoderError
from saelens_data.sae.model import SAE
from saelens_data.sae.sparse_ops import Codes, dots, from_mask, times, transposed_times

#: Length of an encoder's direction at the start: with more, the sum of k overlapping ones overshoots at first, and
#: training ends at 0.76 explained variance where it reaches 0.83.
_START = 0.2


@dataclass(frozen=True)
class TrainConfig:
    """How to train; the defaults made the bundled encoder."""

    #: Number of latents, d_sae.
    latents: int = 8192
    #: Mean number of active latents per unit.
    k: int = 64
    #: Nested groups, as shares of the latents; each prefix must reconstruct by itself. The last is 1.
    groups: tuple[float, ...] = (1 / 16, 1 / 4, 1.0)
    #: Weight of each group's reconstruction in the loss; they are divided by their sum.
    group_weights: tuple[float, ...] = (1.0, 1.0, 2.0)
    #: Passes over the units.
    epochs: int = 14
    #: Units in a step.
    batch: int = 1024
    #: Adam's peak learning rate; warmed up over 2% of the steps, then falling linearly to 0 from `decay_from`.
    lr: float = 1e-3
    #: Share of the steps after which the learning rate falls.
    decay_from: float = 0.3
    #: Weight of the auxiliary loss on dead latents.
    aux: float = 1.0
    #: Dead latents that explain what the living leave over of a unit. Few, so that each grows strong enough to live.
    aux_k: int = 8
    #: A latent is dead if no unit of this many activated it.
    dead_after: int = 20_000
    #: Steps between restarts of the dead latents that the auxiliary loss has not revived.
    restart_every: int = 100
    #: Share of the steps after which none is restarted: a late one would have no time to learn.
    restart_until: float = 0.7
    #: Seed of the start and of the order of the units.
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse settings that cannot train."""
        if not 0 < self.k < self.latents:
            raise EncoderError(f"k is {self.k} with {self.latents} latents: it must lie between 1 and the latents")
        if len(self.groups) != len(self.group_weights) or list(self.groups) != sorted(self.groups):
            raise EncoderError("groups must rise to 1.0 and have one weight each")
        if self.groups[-1] != 1.0:
            raise EncoderError(f"the last group is {self.groups[-1]} of the latents: it must be 1.0")

    @property
    def prefixes(self) -> list[int]:
        """Number of latents in each nested group."""
        return [round(share * self.latents) for share in self.groups]


class Trainer:
    """The state of a training run over the rows `use` of unit vectors [n, d_in], which may be memory-mapped.

    Vectors are multiplied by `scale` [d_in] as they are taken. Raises EncoderError for too few units.
    """

    def __init__(self, vectors: np.ndarray, use: np.ndarray, config: TrainConfig, *, scale: np.ndarray) -> None:
        if len(use) < 2 * config.batch:
            raise EncoderError(
                f"{len(use)} units are too few to train on: give more text (at least {2 * config.batch} units)"
            )
        self.vectors, self.use, self.config = vectors, use, config
        self.scale = scale.astype(np.float32)
        self.step = 0
        self.steps = config.epochs * (len(use) // config.batch)
        rng = torch.Generator().manual_seed(config.seed)
        sample = self._take(torch.randperm(len(use), generator=rng)[:50_000].numpy())
        self.center = sample.mean(dim=0)
        self.variance = (sample - self.center).square().sum(dim=1).mean()
        # Directions of the data are a better start than random ones: hardly a latent dies.
        pick = torch.randint(len(sample), (config.latents,), generator=rng)
        start = (
            sample[pick]
            - self.center
            + 0.1 * sample.std() * torch.randn((config.latents, sample.shape[1]), generator=rng)
        )
        start = start / start.norm(dim=1, keepdim=True)
        d_in = sample.shape[1]
        self.parameters = {
            "W_dec": start.clone(),
            "W_enc": _START * start,  # transposed: [d_sae, d_in]
            "b_enc": -_level(sample - self.center, _START * start, config.k / config.latents),
            "b_dec": torch.zeros(d_in),
        }
        for parameter in self.parameters.values():
            parameter.grad = torch.zeros_like(parameter)
        self.adam = torch.optim.Adam(list(self.parameters.values()), lr=config.lr, betas=(0.9, 0.999), fused=True)
        self.idle = torch.zeros(config.latents, dtype=torch.int64)
        self.cut = 0.0

    def _take(self, index: np.ndarray) -> torch.Tensor:
        """Rows `index` of the used vectors, in the order of the file, which is faster to read."""
        return torch.from_numpy(self.vectors[np.sort(self.use[index])].astype(np.float32) * self.scale)

    def run(self, progress: Callable[[int, int, float, int], None] | None = None) -> SAE:
        """Train to the end and return the SAE with its threshold; `progress(step, steps, loss, dead)` each step."""
        for index in self._order():
            loss = self._one_step(self._take(index))
            if progress:
                progress(self.step, self.steps, loss, self.n_dead)
        return self.finish()

    def _order(self) -> Iterator[np.ndarray]:
        per_epoch = len(self.use) // self.config.batch
        while self.step < self.steps:
            epoch, at = divmod(self.step, per_epoch)
            order = np.random.default_rng([self.config.seed, epoch]).permutation(len(self.use))
            for i in range(at, per_epoch):
                yield order[i * self.config.batch : (i + 1) * self.config.batch]

    @property
    def n_dead(self) -> int:
        """Latents that no recent unit activated."""
        return int((self.idle >= self.config.dead_after).sum())

    @torch.no_grad()
    def _one_step(self, x: torch.Tensor) -> float:
        x = x - self.center
        h = self._pre_activations(x)
        codes = self._select(h)
        loss, residual = self._accumulate(x, codes)
        fired = torch.bincount(codes.latent, minlength=self.config.latents) > 0
        self.idle = torch.where(fired, 0, self.idle + len(x))
        if self.config.aux and self.n_dead:
            self._accumulate_aux(x, h, residual)
        self._update()
        self.step += 1
        if self.step % self.config.restart_every == 0 and self.step < self.config.restart_until * self.steps:
            self._restart_dead(x, residual)
        return loss

    def _pre_activations(self, x: torch.Tensor) -> torch.Tensor:
        W, b = self.parameters["W_enc"], self.parameters["b_enc"]
        # bfloat16 halves the one dense product of a step; the values are rounded, the gradients are not.
        return torch.addmm(b.bfloat16(), x.bfloat16(), W.bfloat16().t())

    def _select(self, h: torch.Tensor) -> Codes:
        """BatchTopK: the n * k largest positive pre-activations of the batch."""
        want = len(h) * self.config.k
        active = h > max(0.0, 0.8 * self.cut)
        values = h[active]
        if len(values) < want:
            active = h > 0
            values = h[active]
        if len(values) > want:
            self.cut = float(values.float().kthvalue(len(values) - want + 1).values)
            active &= h >= self.cut
        return from_mask(h, active)

    def _accumulate(self, x: torch.Tensor, codes: Codes) -> tuple[float, torch.Tensor]:
        """Add the gradients of the nested reconstruction loss; return it and the residual of all latents."""
        W_dec, grads = self.parameters["W_dec"], {name: p.grad for name, p in self.parameters.items()}
        bounds = [0, *self.config.prefixes]
        total = sum(self.config.group_weights)
        parts = [codes.where((codes.latent >= low) & (codes.latent < high)) for low, high in pairwise(bounds)]
        residual = self.parameters["b_dec"] - x
        pulls, loss = [], 0.0
        for part, weight in zip(parts, self.config.group_weights, strict=True):
            residual = residual + times(part, W_dec)
            share = weight / total
            loss += share * float(residual.square().sum(dim=1).mean() / self.variance)
            pulls.append(residual * (2 * share / (len(x) * self.variance)))
        pull = torch.zeros_like(x)
        for part, own in zip(reversed(parts), reversed(pulls), strict=True):
            pull = pull + own  # a latent of an inner group serves every larger prefix
            self._accumulate_part(x, part, pull)
        assert grads["b_dec"] is not None
        grads["b_dec"] += pull.sum(dim=0)
        return loss, residual

    def _accumulate_part(self, x: torch.Tensor, codes: Codes, pull: torch.Tensor) -> None:
        d_sae = self.config.latents
        grads = {name: p.grad for name, p in self.parameters.items()}
        d_value = codes.with_value(dots(codes, pull, self.parameters["W_dec"]))
        grads["W_dec"] += transposed_times(codes, pull, d_sae)
        grads["W_enc"] += transposed_times(d_value, x, d_sae)
        grads["b_enc"] += torch.zeros(d_sae).index_add_(0, d_value.latent, d_value.value)

    def _accumulate_aux(self, x: torch.Tensor, h: torch.Tensor, residual: torch.Tensor) -> None:
        """The dead latents nearest to firing are asked to explain what the living ones leave over."""
        dead = (self.idle >= self.config.dead_after).nonzero()[:, 0]
        k = min(len(dead), self.config.aux_k)
        top = h[:, dead].topk(k, dim=1)
        n = len(x)
        ptr = torch.arange(n + 1) * k
        codes = Codes(ptr, dead[top.indices].view(-1), top.values.float().clamp(min=0).view(-1))
        error = times(codes, self.parameters["W_dec"]) + residual
        self._accumulate_part(x, codes, error * (2 * self.config.aux / (n * self.variance)))

    def _restart_dead(self, x: torch.Tensor, residual: torch.Tensor) -> None:
        """Point each dead latent at what is left over of a badly explained unit (Bricken et al. 2023)."""
        dead = (self.idle >= self.config.dead_after).nonzero()[:, 0]
        loss = residual.square().sum(dim=1)
        rng = torch.Generator().manual_seed(self.config.seed * 1_000_003 + self.step)
        if not len(dead) or len(dead) == len(self.idle) or not bool(loss.sum() > 0):
            return
        unit = torch.multinomial(loss, len(dead), replacement=True, generator=rng)
        start = -residual[unit] + 0.1 * residual.std() * torch.randn(len(dead), x.shape[1], generator=rng)
        start /= start.norm(dim=1, keepdim=True)
        living = self.idle < self.config.dead_after
        encoder = start * self.parameters["W_enc"][living].norm(dim=1).mean()
        bias = self.cut - _level(x, encoder, self.config.k / self.config.latents)
        for name, value in (("W_enc", encoder), ("W_dec", start), ("b_enc", bias)):
            parameter = self.parameters[name]
            parameter[dead] = value
            for moment in ("exp_avg", "exp_avg_sq"):
                self.adam.state[parameter][moment][dead] = 0
        self.idle[dead] = 0

    def _update(self) -> None:
        config, done = self.config, self.step / self.steps
        warm = min(1.0, (self.step + 1) / max(1.0, 0.02 * self.steps))
        fall = min(1.0, (1 - done) / (1 - config.decay_from))
        for group in self.adam.param_groups:
            group["lr"] = config.lr * warm * fall
        W = self.parameters["W_dec"]
        grad = W.grad
        assert grad is not None
        # Norms are held at one, so a step along a direction's own length would only be undone.
        grad -= (grad * W).sum(dim=1, keepdim=True) * W
        self.adam.step()
        W /= W.norm(dim=1, keepdim=True)
        self.adam.zero_grad(set_to_none=False)

    @torch.no_grad()
    def finish(self, sample: int = 50_000) -> SAE:
        """Fold the centre in and set the threshold at which k latents are active on average."""
        rng = np.random.default_rng([self.config.seed, self.config.epochs])
        index = rng.permutation(len(self.use))[:sample]
        p = self.parameters
        values = []
        for chunk in np.array_split(index, max(1, len(index) // 1024)):
            h = torch.addmm(p["b_enc"], self._take(chunk) - self.center, p["W_enc"].t())
            values.append(h[h > 0.5 * self.cut])
        found = torch.cat(values)
        want = len(index) * self.config.k
        cut = float(found.kthvalue(max(1, len(found) - want + 1)).values)
        center = self.center + p["b_dec"]
        return SAE(
            W_enc=p["W_enc"].t().contiguous(),
            b_enc=p["b_enc"] + p["W_enc"] @ p["b_dec"],
            in_center=center,
            W_dec=p["W_dec"].clone(),
            b_dec=center,
            activation="jumprelu",
            threshold=torch.full((self.config.latents,), cut),
            metadata={"groups": self.config.prefixes, "k": self.config.k},
        )

    def save_checkpoint(self, path: Path) -> None:
        """Write the whole state of training to one safetensors file."""
        state = {f"p.{name}": value.detach() for name, value in self.parameters.items()}
        for name, value in self.parameters.items():
            moments = self.adam.state.get(value, {})
            state |= {f"m.{name}.{key}": moment for key, moment in moments.items()}
        state |= {"idle": self.idle, "step": torch.tensor(self.step), "cut": torch.tensor(self.cut)}
        temporary = path.with_suffix(".tmp")
        save_file({key: value.contiguous() for key, value in state.items()}, temporary)
        temporary.replace(path)

    def load_checkpoint(self, path: Path) -> None:
        """Go on from `save_checkpoint`'s file."""
        state = load_file(path)
        for name, value in self.parameters.items():
            value.copy_(state[f"p.{name}"])
            self.adam.state[value] = {
                key.rsplit(".", 1)[1]: moment for key, moment in state.items() if key.startswith(f"m.{name}.")
            }
        self.idle, self.step, self.cut = state["idle"], int(state["step"]), float(state["cut"])


def _level(x: torch.Tensor, directions: torch.Tensor, share: float, sample: int = 8192) -> torch.Tensor:
    """The level that x . direction exceeds in this share of the rows of x, [directions].

    With its negative as bias every latent starts equally often active, and none is dead from the start.
    """
    x = x[:sample]
    top = max(1, round(share * len(x)))
    return torch.cat([(x @ part.t()).topk(top, dim=0).values[-1] for part in torch.split(directions, 1024)])
