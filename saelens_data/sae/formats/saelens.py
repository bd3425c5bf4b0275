"""SAELens: `cfg.json` + `sae_weights.safetensors`, versions 3 to 6, every architecture it saves for inference.

Formulas as in sae-lens 6.54 (`sae_lens/saes/`): x is normalised, b_dec is subtracted if apply_b_dec_to_input, then
the architecture's own step. Two things that its `load_from_disk` passes over in silence are refused here: a scale of
the input that the folder does not hold, and an activation function other than ReLU.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from saelens_data.errors import EncoderError
from saelens_data.sae.formats.files import (
    SKIP,
    TRANSCODER,
    Options,
    described,
    known,
    of_signed,
    read_json,
    read_tensors,
    take,
)
from saelens_data.sae.model import AS_IT_IS, LAYER_NORM, SAE, TOKEN_NORM, Activation, InputNorm, Pursuit

CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"

NORMS: Mapping[str, InputNorm] = {
    "none": AS_IT_IS,
    "expected_average_only_in": AS_IT_IS,
    "constant_norm_rescale": TOKEN_NORM,
    "layer_norm": LAYER_NORM,
}
_DENSE = ("W_enc", "b_enc", "W_dec", "b_dec")
#: The tensors of each architecture.
TENSORS: Mapping[str, tuple[str, ...]] = {
    "standard": _DENSE,
    "jumprelu": (*_DENSE, "threshold"),
    "topk": _DENSE,
    "abstopk": _DENSE,
    "gated": ("W_enc", "b_gate", "b_mag", "r_mag", "W_dec", "b_dec"),
    "matching_pursuit": ("W_dec", "b_dec"),
    "transcoder": _DENSE,
    "skip_transcoder": (*_DENSE, "W_skip"),
    "jumprelu_transcoder": (*_DENSE, "threshold"),
    "jumprelu_skip_transcoder": (*_DENSE, "threshold", "W_skip"),
}
_REFUSED = {
    "temporal": "it reads a whole context through attention, not vector by vector",
    "batchtopk": "it is a training checkpoint: save it for inference, as jumprelu",
    "matryoshka_batchtopk": "it is a training checkpoint: save it for inference, as jumprelu",
}
#: Where a model writes into its residual stream; there `center_writing_weights` has taken the mean away.
_WRITTEN = ("hook_resid_pre", "hook_resid_mid", "hook_resid_post", "hook_mlp_out", "hook_attn_out")
_OLD_NAMES = {"hook_point": "hook_name", "activation_fn_str": "activation_fn", "hook_point_layer": "hook_layer"}


def read(folder: Path, options: Options) -> SAE:
    """Read a SAELens folder. Raises EncoderError, naming it, for anything whose meaning is not known."""
    config = read_json(folder / CONFIG)
    return build(config, read_tensors(folder / WEIGHTS), folder, options)


def build(config: Mapping[str, Any], tensors: dict[str, Any], where: Path, options: Options) -> SAE:
    """The internal form of a SAELens configuration and its tensors; the bridge from a loaded SAE uses it too."""
    config = _as_version_6({**config, **options.config})
    architecture = str(config["architecture"])
    if reason := _REFUSED.get(architecture):
        raise EncoderError(f"SAE in {where}: architecture '{architecture}' is not read: {reason}")
    known(architecture, TENSORS, where, "architecture")
    known(config["normalize_activations"], NORMS, where, "normalize_activations")
    known(config["reshape_activations"], ("none", "hook_z"), where, "reshape_activations")
    known(config["activation_fn"], ("relu", "topk"), where, "activation_fn")
    if "transcoder" in architecture and config["apply_b_dec_to_input"]:
        raise EncoderError(
            f"SAE in {where}: apply_b_dec_to_input is not known for a transcoder, whose b_dec is its output's"
        )
    if "log_threshold" in tensors:
        tensors = {**tensors, "threshold": tensors["log_threshold"].float().exp()}
        del tensors["log_threshold"]
    old = ("scaling_factor", "finetuning_scaling_factor")
    parts = take(tensors, TENSORS[architecture], where, optional=old, what=f"{architecture} SAE")
    for name in old:
        if name in parts:  # of the decoder alone: reconstructions were found too small
            parts["W_dec"] = parts["W_dec"] * parts[name].unsqueeze(1)
    sae = _BUILD[architecture](config, parts)
    norm, notes = NORMS[config["normalize_activations"]], list(sae.notes)
    if _wants_centred(config):
        norm = replace(norm, center=True)
        notes.append("trained on a model with centred writing weights: each vector's mean is subtracted")
    return replace(
        sae,
        norm=norm,
        in_scale=_scale(config, where, options),
        in_center=parts["b_dec"] if config["apply_b_dec_to_input"] else torch.zeros(sae.d_in),
        metadata=described(format="SAELens", architecture=architecture) | config["metadata"],
        notes=tuple(notes),
    )


def _as_version_6(config: Mapping[str, Any]) -> dict[str, Any]:
    """Versions 3 to 5 keep what the SAE is and what it was trained on in one flat table."""
    found = {_OLD_NAMES.get(name, name): value for name, value in config.items()}
    if "metadata" not in found:
        sizes = ("W_enc", "d_in", "d_sae", "dtype", "device")
        plain = (str, int, float, bool, dict)
        found["metadata"] = {n: v for n, v in found.items() if isinstance(v, plain) and n not in sizes}
    found.setdefault("architecture", "standard")
    found["activation_fn"] = found.get("activation_fn") or "relu"
    if found["activation_fn"] == "topk":
        found["architecture"] = "topk"
        found.setdefault("k", (found.get("activation_fn_kwargs") or {}).get("k"))
    old = found.get("normalize_activations")
    if old is None or isinstance(old, bool):
        found["normalize_activations"] = "expected_average_only_in" if old else "none"
    z = "hook_z" if "hook_z" in str(found["metadata"].get("hook_name", "")) else "none"
    found["reshape_activations"] = found.get("reshape_activations") or z
    found.setdefault("apply_b_dec_to_input", "transcoder" not in found["architecture"])
    return found


def _scale(config: Mapping[str, Any], where: Path, options: Options) -> float:
    if config["normalize_activations"] != "expected_average_only_in":
        return 1.0
    given = options.in_scale or config.get("norm_scaling_factor") or config["metadata"].get("norm_scaling_factor")
    if given is None:
        raise EncoderError(
            f"SAE in {where}: normalize_activations 'expected_average_only_in' needs a factor that the folder does not "
            f"hold: put norm_scaling_factor into its {CONFIG} (or give in_scale), the root of d_in over the mean "
            "length of the vectors it was trained on"
        )
    return float(given)


def _wants_centred(config: Mapping[str, Any]) -> bool:
    made = config.get("model_from_pretrained_kwargs") or config["metadata"].get("model_from_pretrained_kwargs") or {}
    hook = str(config["metadata"].get("hook_name", ""))
    return bool(made.get("center_writing_weights")) and hook.endswith(_WRITTEN)


def _plain(config: Mapping[str, Any], parts: dict[str, torch.Tensor], activation: Activation, **more: Any) -> SAE:
    """An SAE with a linear encoder; centre, scale and norm are set by the caller."""
    d_in = len(parts["W_enc"])
    transcoder = "transcoder" in config["architecture"]
    notes = ((TRANSCODER,) if transcoder else ()) + ((SKIP,) if "W_skip" in parts else ())
    return SAE(
        W_enc=parts["W_enc"],
        b_enc=parts["b_enc"],
        in_center=torch.zeros(d_in),
        W_dec=None if transcoder else parts["W_dec"],
        b_dec=torch.zeros(d_in) if transcoder else parts["b_dec"],
        activation=activation,
        notes=notes,
        **more,
    )


def _relu(config: Mapping[str, Any], parts: dict[str, torch.Tensor]) -> SAE:
    return _plain(config, parts, "relu")


def _jumprelu(config: Mapping[str, Any], parts: dict[str, torch.Tensor]) -> SAE:
    return _plain(config, parts, "jumprelu", threshold=parts["threshold"])


def _top(config: Mapping[str, Any], parts: dict[str, torch.Tensor]) -> SAE:
    if config.get("rescale_acts_by_decoder_norm"):  # the k largest of h |W_dec|, and the values stay so
        norms = parts["W_dec"].norm(dim=1)
        parts["W_enc"], parts["b_enc"] = parts["W_enc"] * norms, parts["b_enc"] * norms
        parts["W_dec"] = parts["W_dec"] / norms.clamp(min=1e-30).unsqueeze(1)
    if config["architecture"] == "topk":
        return _plain(config, parts, "topk", k=config.get("k"))
    sae = _plain(config, parts, "abstopk", k=config.get("k"))
    return replace(sae, notes=(of_signed(sae.n_directions),))


def _gated(config: Mapping[str, Any], parts: dict[str, torch.Tensor]) -> SAE:
    W_enc, b_enc, threshold = gated(parts["W_enc"], parts["r_mag"], parts["b_gate"], parts["b_mag"])
    return _plain(config, {**parts, "W_enc": W_enc, "b_enc": b_enc}, "jumprelu", threshold=threshold)


def gated(
    W: torch.Tensor, r_mag: torch.Tensor, b_gate: torch.Tensor, b_mag: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A gated encoder as W_enc, b_enc and threshold of a jumprelu one: the same function.

    With u = x W the magnitude is h = exp(r_mag) u + b_mag, and the gate u + b_gate > 0 is h > b_mag - exp(r_mag)
    b_gate, since both rise with u (Rajamanoharan et al. 2024, arXiv 2404.16014, section 3.2).
    """
    scale = r_mag.exp()
    return W * scale, b_mag, b_mag - scale * b_gate


def _pursuit(config: Mapping[str, Any], parts: dict[str, torch.Tensor]) -> SAE:
    n, d_in = parts["W_dec"].shape
    repeat, tolerance = config.get("stop_on_duplicate_support", True), config.get("residual_threshold", 1e-2)
    return SAE(
        W_enc=parts["W_dec"].t(),
        b_enc=torch.zeros(n),
        in_center=torch.zeros(d_in),
        W_dec=parts["W_dec"],
        b_dec=parts["b_dec"] if config["apply_b_dec_to_input"] else torch.zeros(d_in),
        activation="pursuit",
        k=config.get("max_iterations") or d_in,
        pursuit=Pursuit(signed=False, stop_on_repeat=bool(repeat), tolerance=float(tolerance)),
    )


_BUILD = {
    "standard": _relu,
    "transcoder": _relu,
    "skip_transcoder": _relu,
    "jumprelu": _jumprelu,
    "jumprelu_transcoder": _jumprelu,
    "jumprelu_skip_transcoder": _jumprelu,
    "topk": _top,
    "abstopk": _top,
    "gated": _gated,
    "matching_pursuit": _pursuit,
}
