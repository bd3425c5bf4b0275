"""ITDA (Leask et al. 2025, arXiv 2505.17769): `atoms.pt` + `metadata.yaml`, a dictionary without an encoder.

k steps of matching pursuit with coefficients of both signs; every atom is two latents, see `SAE`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from saelens_data.errors import EncoderError
from saelens_data.sae.formats.files import Options, described, of_signed, read_tensors
from saelens_data.sae.model import SAE, Pursuit

ATOMS, METADATA = "atoms.pt", "metadata.yaml"


def read(folder: Path, options: Options) -> SAE:
    """Read the atoms of a run. Raises EncoderError if they are not rows of length 1, which the steps rely on."""
    found, about = read_tensors(folder / ATOMS), _metadata(folder / METADATA)
    if set(found) != {""} or found[""].dim() != 2:
        raise EncoderError(
            f"{folder / ATOMS} holds {', '.join(found) or 'a tensor'} of another shape than atoms x inputs"
        )
    atoms = found[""].float()
    if not bool(((atoms.norm(dim=1) - 1).abs() < 1e-2).all()):
        raise EncoderError(f"the atoms in {folder / ATOMS} are not of length 1: normalise them as ITDA does")
    k = options.k or about.get("k") or about.get("l0") or about.get("target_l0")
    if k is None:
        raise EncoderError(f"{folder / METADATA} does not say k (it has {', '.join(about) or 'nothing'}): add k to it")
    n, d_in = atoms.shape
    return SAE(
        W_enc=atoms.t(),
        b_enc=torch.zeros(n),
        in_center=torch.zeros(d_in),
        W_dec=atoms,
        b_dec=torch.zeros(d_in),
        activation="pursuit",
        k=int(k),
        pursuit=Pursuit(signed=True),
        metadata=described(
            format="ITDA", layer=about.get("layer"), model_name=about.get("lm_name") or about.get("model")
        ),
        notes=(of_signed(n),),
    )


def _metadata(path: Path) -> dict[str, Any]:
    import yaml  # noqa: PLC0415

    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise EncoderError(f"no readable {METADATA} in {path.parent} ({str(error).splitlines()[0]})") from error
    return found if isinstance(found, dict) else {}
