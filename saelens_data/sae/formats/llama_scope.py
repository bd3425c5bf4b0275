"""OpenMOSS's SAEs, three generations of one code base (lm-saes, now llamascopium).

In all of them a latent is active if h |W_dec| exceeds its threshold (`sparsity_include_decoder_norm`), which other
loaders of them leave out.

1  Llama Scope (arXiv 2410.20526), hyperparams.json + checkpoints/final.safetensors. The reference folds the scale of
   the data into the weights when it loads them, then |W_dec| into the encoder, then applies one threshold: with
   s_in = sqrt(d) / (mean norm of inputs), h = x W + b / s_in, and h |W_dec| is gated and returned.
2  config.json + sae_weights.safetensors with encoder.weight and log_jumprelu_threshold: x is scaled by s_in, h |W_dec|
   is gated and h returned.
3  the same file names with W_E, b_E, W_D, b_D: as 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from saelens_data.errors import EncoderError
from saelens_data.sae.formats.files import (
    TRANSCODER,
    Options,
    described,
    known,
    numbers_of,
    read_json,
    read_tensors,
    take,
)
from saelens_data.sae.model import AS_IT_IS, SAE, TOKEN_NORM, Activation

HYPERPARAMS, CONFIG = "hyperparams.json", "config.json"
GEN_1_WEIGHTS = ("checkpoints/final.safetensors", "checkpoints/pruned.safetensors")
WEIGHTS = ("sae_weights.safetensors", "sae_weights.pt")
_NORMS = ("token-wise", "dataset-wise", "inference")
_THRESHOLD, _AVERAGE = "log_jumprelu_threshold", "dataset_average_activation_norm."
_GEN_2 = {"encoder.weight": "W_E", "encoder.bias": "b_E", "decoder.weight": "W_D", "decoder.bias": "b_D"}


def read_gen_1(folder: Path, options: Options) -> SAE:  # noqa: ARG001
    """Read a Llama Scope folder of the first generation."""
    config = read_json(folder / HYPERPARAMS)
    weights = next((folder / name for name in GEN_1_WEIGHTS if (folder / name).is_file()), folder / GEN_1_WEIGHTS[0])
    parts = take(read_tensors(weights), _GEN_2, weights, what="Llama Scope SAE")
    kind, k, threshold = _activation_gen_1(config, folder)
    d_in, norm = len(parts["decoder.bias"]), _norm(config.get("norm_activation"), folder)
    s_in = s_out = 1.0
    if norm == "dataset-wise":
        mean = config.get("dataset_average_activation_norm") or {}
        if not {"in", "out"} <= set(mean):
            raise EncoderError(f"{folder / HYPERPARAMS} lacks dataset_average_activation_norm: fetch the folder again")
        s_in, s_out = d_in**0.5 / float(mean["in"]), d_in**0.5 / float(mean["out"])
    b_enc, b_dec = parts["encoder.bias"] / s_in, parts["decoder.bias"] / s_out
    W_dec = parts["decoder.weight"].t() * (s_in / s_out)
    W_enc, norms, out_scale = parts["encoder.weight"].t(), None, None
    if config.get("sparsity_include_decoder_norm", True):
        norms = W_dec.norm(dim=1)
        if kind == "topk":
            W_enc, b_enc, W_dec = W_enc * norms, b_enc * norms, W_dec / norms.clamp(min=1e-30).unsqueeze(1)
        else:
            out_scale = norms
    sae = SAE(
        W_enc=W_enc,
        b_enc=b_enc,
        in_center=b_dec if config.get("apply_decoder_bias_to_pre_encoder", True) else torch.zeros(d_in),
        W_dec=W_dec,
        b_dec=b_dec,
        activation=kind,
        threshold=None if threshold is None else torch.full((len(b_enc),), threshold) / (1 if norms is None else norms),
        k=k,
        norm=TOKEN_NORM if norm == "token-wise" else AS_IT_IS,
        out_scale=out_scale,
        metadata=_metadata(config, "Llama Scope"),
        notes=_notes(config),
    )
    return sae.without_decoder() if sae.notes else sae


def _activation_gen_1(config: Mapping[str, Any], folder: Path) -> tuple[Activation, int | None, float | None]:
    threshold = float(config.get("jump_relu_threshold") or 0.0)
    act = str(config.get("act_fn", "jumprelu" if threshold > 0 else "relu")).lower()
    known(act, ("relu", "jumprelu", "topk"), folder, "act_fn")
    if act == "relu":
        return "relu", None, None
    if act == "topk" and not threshold > 0:
        return "topk", int(config["top_k"]), None
    return "jumprelu", None, threshold  # a top-k SAE whose threshold is known is one for inference


def read_later(folder: Path, options: Options) -> SAE:
    """Read a folder of the second or third generation."""
    config = read_json(folder / CONFIG)
    known(config.get("sae_type", "sae"), ("sae",), folder, "sae_type")
    weights = next((folder / name for name in WEIGHTS if (folder / name).is_file()), folder / WEIGHTS[0])
    tensors = read_tensors(weights)
    if weights.suffix == ".pt":
        tensors = dict(tensors.get("sae", tensors))
    second = "encoder.weight" in tensors
    tensors = {_GEN_2.get(name, name).removeprefix("activation_function."): value for name, value in tensors.items()}
    averages = {name.removeprefix(_AVERAGE): tensors.pop(name) for name in list(tensors) if name.startswith(_AVERAGE)}
    if "W_E_glu" in tensors or "encoder_glu.weight" in tensors or config.get("use_glu_encoder"):
        raise EncoderError(
            f"SAE in {folder}: use_glu_encoder is not read: its activations are products of two encoders"
        )
    bias = ("b_D",) if config.get("use_decoder_bias", True) else ()
    act = str(config.get("act_fn", "relu")).lower()
    wanted = ("W_E", "b_E", "W_D", *bias, *((_THRESHOLD,) if act == "jumprelu" else ()))
    parts = take(tensors, wanted, weights, optional=(_THRESHOLD,), what="lm-saes SAE")
    if second:
        parts["W_E"], parts["W_D"] = parts["W_E"].t(), parts["W_D"].t()
    d_in = len(parts["W_E"])
    b_dec = parts.get("b_D", torch.zeros(d_in))
    center = second and bool(bias) and config.get("apply_decoder_bias_to_pre_encoder", True)
    norm = _norm(config.get("norm_activation", "dataset-wise"), folder)
    sae = SAE(
        in_center=b_dec if center else torch.zeros(d_in),
        b_dec=b_dec,
        in_scale=_in_scale(config, averages, d_in, folder, options) if norm == "dataset-wise" else 1.0,
        norm=TOKEN_NORM if norm == "token-wise" else AS_IT_IS,
        metadata=_metadata(config, "Llama Scope R1" if second else "llamascopium"),
        notes=_notes(config),
        **_gate(config, parts, act, folder),
    )
    return sae.without_decoder() if sae.notes else sae


def _gate(config: Mapping[str, Any], parts: dict[str, torch.Tensor], act: str, folder: Path) -> dict[str, Any]:
    """Encoder, decoder and activation: h |W_dec| decides, h is the value."""
    if act == "batchtopk":
        raise EncoderError(
            f"SAE in {folder}: act_fn 'batchtopk' depends on what else is in the batch: convert it to jumprelu with "
            "the code that trained it"
        )
    known(act, ("relu", "jumprelu", "topk"), folder, "act_fn")
    found: dict[str, Any] = {"W_enc": parts["W_E"], "b_enc": parts["b_E"], "W_dec": parts["W_D"], "activation": act}
    norms = parts["W_D"].norm(dim=1) if config.get("sparsity_include_decoder_norm", True) else None
    if act == "jumprelu":
        threshold = parts[_THRESHOLD].exp()
        found["threshold"] = threshold if norms is None else threshold / norms
    if act == "topk":
        found["k"] = int(config["top_k"])
        if norms is not None:
            safe = norms.clamp(min=1e-30)
            found |= {"W_enc": parts["W_E"] * norms, "b_enc": parts["b_E"] * norms, "out_scale": 1 / safe}
            found["W_dec"] = parts["W_D"] / safe.unsqueeze(1)
    return found


def _in_scale(
    config: Mapping[str, Any], averages: Mapping[str, Any], d_in: int, folder: Path, options: Options
) -> float:
    if options.in_scale is not None:
        return options.in_scale
    said = config.get("dataset_average_activation_norm")
    averages = {**(said if isinstance(said, dict) else {}), **averages}
    mean = averages.get(str(config.get("hook_point_in")), averages.get("in"))
    if mean is None or not float(mean) > 0:
        raise EncoderError(
            f"SAE in {folder}: norm_activation 'dataset-wise' needs the norm of {config.get('hook_point_in')}, which "
            f"the weights lack (they have {', '.join(averages) or 'none'}): put it into {CONFIG} as "
            "dataset_average_activation_norm (or give in_scale, the root of d_in over it)"
        )
    return float(d_in**0.5 / float(mean))


def _norm(norm: Any, folder: Path) -> str:
    known(norm, _NORMS, folder, "norm_activation")
    return str(norm)


def _metadata(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    hook = config.get("hook_point_in")
    layer = numbers_of(Path(str(hook)), r"blocks\.(\d+)\.")
    return described(format=name, hook_name=hook, layer=layer)


def _notes(config: Mapping[str, Any]) -> tuple[str, ...]:
    out = config.get("hook_point_out")
    return (TRANSCODER,) if out not in (None, config.get("hook_point_in")) else ()
