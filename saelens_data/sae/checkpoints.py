"""Our own SAEs on disk: SAELens's current layout, `cfg.json` + `sae_weights.safetensors`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from saelens_data.errors import EncoderError
from saelens_data.sae.formats import saelens
from saelens_data.sae.formats.files import Options, one_sentence
from saelens_data.sae.formats.saelens import CONFIG, WEIGHTS
from saelens_data.sae.model import AS_IT_IS, SAE

_ARCHITECTURES: Mapping[str, Any] = {"standard": "relu", "jumprelu": "jumprelu", "topk": "topk"}


def save_saelens(sae: SAE, folder: Path, *, dtype: torch.dtype = torch.float32, **metadata: Any) -> None:
    """Write an SAE so that sae-lens loads it with the same activations.

    Raises EncoderError where SAELens's layout cannot say what this SAE does.
    """
    if sae.in_scale != 1.0 or not torch.equal(sae.in_center, sae.b_dec):
        raise EncoderError("SAELens's layout wants an unscaled input centred by the decoder bias: fold them in first")
    if sae.activation not in _ARCHITECTURES.values() or sae.norm != AS_IT_IS or sae.out_scale is not None:
        raise EncoderError(
            f"an SAE with the activation {sae.activation} and its scales cannot be written: keep its own file"
        )
    if sae.W_dec is None:
        raise EncoderError("the SAE was read without its decoder: read it with the decoder")
    d_in, d_sae = sae.W_enc.shape
    config = {
        "architecture": next(name for name, act in _ARCHITECTURES.items() if act == sae.activation),
        "d_in": d_in,
        "d_sae": d_sae,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": {**sae.metadata, **metadata},
    }
    tensors = {"W_enc": sae.W_enc, "b_enc": sae.b_enc, "W_dec": sae.W_dec, "b_dec": sae.b_dec}
    if sae.threshold is not None:
        tensors["threshold"] = sae.threshold
    if sae.activation == "topk":
        config |= {"k": sae.k, "rescale_acts_by_decoder_norm": False}
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.to(dtype).contiguous() for name, tensor in tensors.items()}, folder / WEIGHTS)
    (folder / CONFIG).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


def load_saelens(folder: Path) -> SAE:
    """Read a SAELens folder into the internal form, weights in float32.

    Raises EncoderError, naming it, for anything whose meaning is not known.
    """
    with one_sentence(folder):
        return saelens.read(folder, Options())
