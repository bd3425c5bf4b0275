"""Gemma Scope (arXiv 2408.05147): `params.npz`, and Gemma Scope 2: `params.safetensors` with names in lower case.

Both are jumprelu SAEs with a threshold for each latent, and b_dec is not subtracted from the input.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from saelens_data.errors import EncoderError
from saelens_data.sae.formats.files import (
    SKIP,
    TRANSCODER,
    Options,
    Tensors,
    described,
    in_layer,
    known,
    numbers_of,
    read_json,
    read_tensors,
    take,
)
from saelens_data.sae.model import SAE

NPZ, SAFETENSORS = "params.npz", "params.safetensors"
_SKIP_NAME = "affine_skip_connection"
#: Places by the name of the repository, or of the folder; those of attention are before the heads are mixed.
_PLACES = {"-res": "resid_post", "-mlp": "mlp_out", "-att": "attn_z"}
_PLACES_2 = {"resid_post": "resid_post", "mlp_out": "mlp_out", "attn_out": "attn_z"}


def read_1(folder: Path, options: Options) -> SAE:
    """Read a folder of Gemma Scope, which holds an npz."""
    return read_npz(folder / NPZ, options)


def read_2(folder: Path, options: Options) -> SAE:
    """Read a folder of Gemma Scope 2, which holds safetensors."""
    return read_safetensors(folder / SAFETENSORS, options)


def read_npz(path: Path, options: Options) -> SAE:
    """Read the npz of a Gemma Scope folder, such as layer_20/width_16k/average_l0_71/params.npz."""
    if "embedding" in _folders(path):
        raise EncoderError(
            f"{path} is an SAE of the embeddings, which no reader here gives: take one of a layer's output"
        )
    origin = options.origin or next((part for part in reversed(path.parts) if "gemma-scope" in part), "")
    layer = numbers_of(path, r"layer_(\d+)")
    place = next((place for sign, place in _PLACES.items() if origin.endswith(sign)), None)
    about = described(layer=layer, hook_name=in_layer(layer, place))
    return _jumprelu(read_tensors(path), path, "Gemma Scope", transcoder="transcoder" in origin, about=about)


def read_safetensors(path: Path, options: Options) -> SAE:  # noqa: ARG001
    """Read the weights of a Gemma Scope 2 folder; its config.json may be missing."""
    config = read_json(path.parent / "config.json") if (path.parent / "config.json").is_file() else {}
    known(config.get("architecture", "jump_relu"), ("jump_relu",), path, "architecture")
    tensors = read_tensors(path)
    out = config.get("hf_hook_point_out")
    transcoder = (
        "transcoder" in _folders(path) or _SKIP_NAME in tensors or out not in (None, config.get("hf_hook_point_in"))
    )
    layer = numbers_of(path, r"layer_(\d+)")
    place = next((place for sign, place in _PLACES_2.items() if sign in _folders(path)), None)
    about = described(layer=layer, model_name=config.get("model_name"), hook_name=in_layer(layer, place))
    return _jumprelu(tensors, path, "Gemma Scope 2", transcoder=transcoder, about=about)


def _folders(path: Path) -> str:
    """The nearest folders, which are the repository's own."""
    return "/".join(path.parts[-4:-1])


def _jumprelu(tensors: Tensors, path: Path, name: str, *, transcoder: bool, about: Mapping[str, Any]) -> SAE:
    tensors = {"W" + key[1:] if key.startswith("w_") else key: value for key, value in tensors.items()}
    wanted = ("W_enc", "b_enc", "W_dec", "b_dec", "threshold")
    parts = take(tensors, wanted, path, optional=(_SKIP_NAME,), what=f"{name} SAE")
    if parts["W_dec"].dim() != 2:
        raise EncoderError(f"{path} is a cross-layer transcoder, which is not read: take an SAE of one layer")
    d_in = len(parts["W_enc"])
    return SAE(
        W_enc=parts["W_enc"],
        b_enc=parts["b_enc"],
        in_center=torch.zeros(d_in),
        W_dec=None if transcoder else parts["W_dec"],
        b_dec=torch.zeros(d_in) if transcoder else parts["b_dec"],
        activation="jumprelu",
        threshold=parts["threshold"],
        metadata={"format": name, **about},
        notes=((TRANSCODER,) if transcoder else ()) + ((SKIP,) if _SKIP_NAME in parts else ()),
    )
