"""Read and write SAE checkpoints: SAELens's current layout, `cfg.json` + `sae_weights.safetensors`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from saelens_data.errors import EncoderError, choices
from saelens_data.sae.model import AS_IT_IS, SAE

CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"
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
    config = _read_config(folder)
    try:
        weights = {name: tensor.float() for name, tensor in load_file(folder / WEIGHTS).items()}
    except (OSError, SafetensorError) as error:
        raise EncoderError(
            f"the SAE weights in {folder} cannot be read ({error}): fetch or train them again"
        ) from error
    architecture = str(config.get("architecture", "standard"))
    if architecture not in _ARCHITECTURES:
        raise EncoderError(f"SAE architecture '{architecture}' is not known; {choices(architecture, _ARCHITECTURES)}")
    for key, known in (("normalize_activations", "none"), ("reshape_activations", "none")):
        if config.get(key, known) != known:
            raise EncoderError(f"SAE in {folder}: {key} '{config[key]}' is not supported, only '{known}'")
    if config.get("rescale_acts_by_decoder_norm"):
        raise EncoderError(f"SAE in {folder}: rescale_acts_by_decoder_norm is not supported")
    if missing := {"W_enc", "b_enc", "W_dec", "b_dec"} - set(weights):
        raise EncoderError(f"the SAE in {folder} lacks {', '.join(sorted(missing))}; it has {', '.join(weights)}")
    center = weights["b_dec"] if config.get("apply_b_dec_to_input", True) else torch.zeros_like(weights["b_dec"])
    return SAE(
        W_enc=weights["W_enc"],
        b_enc=weights["b_enc"],
        in_center=center,
        W_dec=weights["W_dec"],
        b_dec=weights["b_dec"],
        activation=_ARCHITECTURES[architecture],
        threshold=weights.get("threshold"),
        k=config.get("k"),
        metadata=config.get("metadata") or {},
    )


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EncoderError(f"no readable {CONFIG} in {folder} ({error}): give a folder in SAELens's layout") from error
    if not isinstance(config, dict):
        raise EncoderError(f"{path} is not a JSON object: give a folder in SAELens's layout")
    return config
