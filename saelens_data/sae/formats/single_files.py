"""SAEs published as one file of torch, recognised by the names of their tensors: Goodfire, Qwen-Scope, OpenAI's for
GPT-2, and the plain one of DeepSeek-R1-Distill.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

from saelens_data.errors import EncoderError
from saelens_data.sae.formats.files import Options, Tensors, described, in_layer, known, numbers_of, take
from saelens_data.sae.model import AS_IT_IS, LAYER_NORM, SAE, Activation

_OPENAI_STATISTICS = ("stats_last_nonzero", "latents_activation_frequency", "latents_mean_square")

_OPENAI_PLACES = {"resid_post_mlp": "resid_post", "resid_delta_mlp": "mlp_out", "resid_delta_attn": "attn_out"}


def read(tensors: Tensors, path: Path, options: Options) -> SAE:
    """Read the tensors of one file. Raises EncoderError, with the names it has, if they are no known SAE's."""
    if "encoder_linear.weight" in tensors:
        return _goodfire(tensors, path)
    if "latent_bias" in tensors:
        return _openai(tensors, path)
    if {"W_enc", "W_dec", "b_enc", "b_dec"} == set(tensors):
        return _qwen_scope(tensors, path, options)
    if "decoder.bias" in tensors and re.search(r"SAE-l\d+\.pt$", path.name):
        return _linear(tensors, path, "DeepSeek-R1-Distill")
    raise EncoderError(
        f"{path} is not a known SAE by itself: it has {', '.join(list(tensors)[:12])}. If it belongs to a folder with "
        "a configuration, give the folder"
    )


def _goodfire(tensors: Tensors, path: Path) -> SAE:
    """relu(W x + b); b_dec is not subtracted."""
    renamed = {name.replace("_linear", ""): value for name, value in tensors.items()}
    return _linear(renamed, path, "Goodfire")


def _linear(tensors: Tensors, path: Path, name: str) -> SAE:
    parts = take(
        tensors, ("encoder.weight", "encoder.bias", "decoder.weight", "decoder.bias"), path, what=f"{name} SAE"
    )
    return linear(
        parts["encoder.weight"].t(),
        parts["encoder.bias"],
        parts["decoder.weight"].t(),
        parts["decoder.bias"],
        metadata=_metadata(name, path, r"l(\d+)\."),
    )


def _metadata(name: str, path: Path, pattern: str) -> dict[str, Any]:
    """These are all SAEs of a layer's output, whose number stands in the file's name."""
    layer = numbers_of(Path(path.name), pattern)
    return described(format=name, layer=layer, hook_name=in_layer(layer, "resid_post"))


def linear(
    W_enc: torch.Tensor,
    b_enc: torch.Tensor,
    W_dec: torch.Tensor,
    b_dec: torch.Tensor,
    *,
    centred: bool = False,
    activation: Activation = "relu",
    **more: Any,
) -> SAE:
    """An SAE with a linear encoder in our orientation, W_enc [d_in, d_sae]; b_dec is subtracted first if `centred`."""
    center = b_dec if centred else torch.zeros_like(b_dec)
    return SAE(W_enc, b_enc, center, W_dec, b_dec, activation, **more)


def _qwen_scope(tensors: Tensors, path: Path, options: Options) -> SAE:
    """The k largest of W x + b; b_dec is not subtracted; k stands in the name of the repository alone."""
    if not path.name.endswith(".sae.pt"):
        raise EncoderError(
            f"{path} has the tensors of a Qwen-Scope SAE and not its name, layerN.sae.pt: rename it if it is"
        )
    parts = take(tensors, ("W_enc", "b_enc", "W_dec", "b_dec"), path, what="Qwen-Scope SAE")
    k = options.k or numbers_of(path.resolve(), r"-L0_(\d+)")
    if k is None:
        raise EncoderError(
            f"{path} does not hold k: keep it in a folder named as its repository, which ends in k (…-L0_50), or give k"
        )
    return linear(
        parts["W_enc"].t(),
        parts["b_enc"],
        parts["W_dec"].t(),
        parts["b_dec"],
        activation="topk",
        k=k,
        metadata=_metadata("Qwen-Scope", path, r"layer(\d+)"),
    )


def _openai(tensors: Tensors, path: Path) -> SAE:
    """OpenAI's for GPT-2 small (Gao et al. 2024): layer norm, where the activation is TopK, then x - pre_bias."""
    activation, state = str(tensors.get("activation", "ReLU")), tensors.get("activation_state_dict") or {}
    known(activation, ("ReLU", "TopK"), path, "activation")
    weights = {name: value for name, value in tensors.items() if not name.startswith("activation")}
    wanted = ("pre_bias", "encoder.weight", "latent_bias", "decoder.weight")
    parts = take(weights, wanted, path, optional=_OPENAI_STATISTICS, what="OpenAI SAE")
    top = activation == "TopK"
    layer = int(path.stem) if path.stem.isdecimal() else None
    place = next((place for sign, place in _OPENAI_PLACES.items() if sign in str(path)), None)
    if top:
        known(state.get("postact_fn", "ReLU"), ("ReLU",), path, "postact_fn")
    return linear(
        parts["encoder.weight"].t(),
        parts["latent_bias"],
        parts["decoder.weight"].t(),
        parts["pre_bias"],
        centred=True,
        activation="topk" if top else "relu",
        k=int(state["k"]) if top and "k" in state else None,
        norm=LAYER_NORM if top else AS_IT_IS,
        metadata=described(format="OpenAI", layer=layer, hook_name=in_layer(layer, place)),
    )
