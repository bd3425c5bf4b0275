"""How well an SAE says what its reader saw."""

from __future__ import annotations

import numpy as np
import torch

from saelens_data.sae.model import SAE


def evaluate(sae: SAE, x: torch.Tensor) -> dict[str, float]:
    """Figures on the vectors x [n, d_in] of held-out units.

    explained_variance: 1 - sum |x - x'|^2 / sum |x - mean|^2. active_per_unit: mean number of active latents.
    silent: share of latents that no unit activates.
    """
    mean = (x * sae.in_scale).mean(dim=0)
    error = total = 0.0
    uses = torch.zeros(sae.d_sae)
    for scaled, rebuilt, active in sae.blocks(x):
        error += float((scaled - rebuilt).square().sum())
        total += float((scaled - mean).square().sum())
        uses += torch.bincount(active.latent, minlength=sae.d_sae)
    return {
        "held_out_units": len(x),
        "explained_variance": 1 - error / total,
        "active_per_unit": float(uses.sum()) / len(x),
        "silent": float((uses == 0).float().mean()),
    }


def active_per_document(sae: SAE, x: torch.Tensor, doc: np.ndarray) -> float:
    """Mean number of distinct latents that the units x [n, d_in] of a document activate; `doc` [n] is its number."""
    active = sae.encode(x)
    cells = doc[active.row.numpy()].astype(np.int64) * sae.d_sae + active.latent.numpy()
    return len(np.unique(cells)) / max(1, len(np.unique(doc)))
