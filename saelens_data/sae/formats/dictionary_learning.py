"""The classes of dictionary_learning: `ae.pt` + `config.json`, as its trainers write them.

`encode` as in `dictionary_learning/dictionary.py` and its trainers. Two classes return activations times |W_dec|.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from saelens_data.errors import EncoderError
from saelens_data.sae.formats.files import Options, described, in_layer, known, read_json, read_tensors, take
from saelens_data.sae.formats.saelens import gated
from saelens_data.sae.formats.single_files import linear
from saelens_data.sae.model import SAE

CONFIG, WEIGHTS = "config.json", "ae.pt"
_Parts = Mapping[str, torch.Tensor]

_LINEAR = ("encoder.weight", "encoder.bias", "decoder.weight")
_TOP = (*_LINEAR, "b_dec", "k", "threshold")
_PLAIN = ("W_enc", "b_enc", "W_dec", "b_dec")
#: The tensors of each class; a group's sizes do not change its activations.
_TENSORS: Mapping[str, tuple[str, ...]] = {
    "AutoEncoder": (*_LINEAR, "bias"),
    "AutoEncoderNew": (*_LINEAR, "decoder.bias"),
    "GatedAutoEncoder": ("encoder.weight", "r_mag", "gate_bias", "mag_bias", "decoder.weight", "decoder_bias"),
    "JumpReluAutoEncoder": (*_PLAIN, "threshold"),
    "AutoEncoderTopK": _TOP,
    "BatchTopKSAE": _TOP,
    "MatryoshkaBatchTopKSAE": (*_PLAIN, "k", "threshold", "group_sizes"),
}


def read(folder: Path, options: Options) -> SAE:
    """Read a trainer's folder; which class it is stands in its config.json alone."""
    config = read_json(folder / CONFIG)
    trainer = config.get("trainer")
    if not isinstance(trainer, dict):
        raise EncoderError(f"{folder / CONFIG} has no trainer: give a folder that dictionary_learning wrote")
    name = str(trainer.get("dict_class"))
    known(name, _TENSORS, folder, "dict_class")
    optional = ("threshold",) if name == "AutoEncoderTopK" else ()
    wanted = [part for part in _TENSORS[name] if part not in optional]
    parts = take(read_tensors(folder / WEIGHTS), wanted, folder, optional=optional, what=name)
    stated = trainer.get("k")
    if "k" in parts and stated is not None and int(parts["k"]) != stated and name == "AutoEncoderTopK":
        raise EncoderError(
            f"{folder}: {WEIGHTS} says k = {int(parts['k'])}, {CONFIG} {stated}: the files do not belong together"
        )
    layer, model = trainer.get("layer"), trainer.get("lm_name")
    where = str(trainer.get("submodule_name") or options.origin or folder)
    sae = _BUILD[name](parts)
    k = options.k if options.k and sae.activation == "topk" else sae.k
    return replace(
        sae,
        k=k,
        metadata=described(
            format="dictionary_learning",
            architecture=name,
            layer=layer,
            model_name=model,
            hook_name=in_layer(layer, "resid_post") if "resid_post" in where else None,
        ),
    )


def _transposed(parts: _Parts, bias: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    return parts["encoder.weight"].t(), parts["encoder.bias"], parts["decoder.weight"].t(), parts[bias]


def _upright(parts: _Parts) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    return parts["W_enc"], parts["b_enc"], parts["W_dec"], parts["b_dec"]


def _gated(parts: _Parts) -> SAE:
    W_dec = parts["decoder.weight"].t()
    W_enc, b_enc, threshold = gated(parts["encoder.weight"].t(), parts["r_mag"], parts["gate_bias"], parts["mag_bias"])
    more: dict[str, Any] = {"threshold": threshold, "out_scale": W_dec.norm(dim=1)}
    return linear(W_enc, b_enc, W_dec, parts["decoder_bias"], centred=True, activation="jumprelu", **more)


def _jumprelu(parts: _Parts) -> SAE:
    """Its input is not centred."""
    more: dict[str, Any] = {"threshold": parts["threshold"], "out_scale": parts["W_dec"].norm(dim=1)}
    return linear(*_upright(parts), activation="jumprelu", **more)


def _top_k(parts: _Parts) -> SAE:
    """Its threshold is not used by `encode`."""
    return linear(*_transposed(parts, "b_dec"), centred=True, activation="topk", k=int(parts["k"]))


def _one_threshold(parts: _Parts, place: tuple[torch.Tensor, ...]) -> SAE:
    """BatchTopK (arXiv 2412.06410) outside training: every latent has the one threshold."""
    threshold = parts["threshold"].expand(len(place[1])).clone()
    if not bool((threshold >= 0).all()):
        raise EncoderError(
            f"the threshold is {float(threshold[0])}: training had not set it yet, take a later checkpoint"
        )
    W_enc, b_enc, W_dec, b_dec = place
    return linear(W_enc, b_enc, W_dec, b_dec, centred=True, activation="jumprelu", threshold=threshold)


_BUILD: Mapping[str, Callable[[_Parts], SAE]] = {
    "AutoEncoder": lambda parts: linear(*_transposed(parts, "bias"), centred=True),
    "AutoEncoderNew": lambda parts: linear(*_transposed(parts, "decoder.bias")),
    "GatedAutoEncoder": _gated,
    "JumpReluAutoEncoder": _jumprelu,
    "AutoEncoderTopK": _top_k,
    "BatchTopKSAE": lambda parts: _one_threshold(parts, _transposed(parts, "b_dec")),
    "MatryoshkaBatchTopKSAE": lambda parts: _one_threshold(parts, _upright(parts)),
}
