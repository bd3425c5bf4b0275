"""Tiny SAEs with random weights, written in the exact layouts in which SAEs are published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from safetensors.torch import save_file

D_IN, D_SAE = 12, 40


class Random:
    """Numbers that are the same with every version of every library, so that recorded results stay true."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.RandomState(seed)  # its stream is frozen, that of the new ones is not

    def normal(self, *shape: int) -> torch.Tensor:
        return torch.from_numpy(self._rng.standard_normal(shape).astype(np.float32))

    def uniform(self, *shape: int) -> torch.Tensor:
        return torch.from_numpy(self._rng.random_sample(shape).astype(np.float32))


def vectors(n: int = 60, seed: int = 7) -> torch.Tensor:
    """Vectors with an uneven mean, some of them long."""
    random = Random(seed)
    return (random.normal(n, D_IN) + torch.linspace(-1, 1, D_IN)) * (1 + 2 * random.uniform(n, 1))


def weights(seed: int = 0) -> dict[str, torch.Tensor]:
    """Our orientation. Decoder rows between 0.5 and 2 long, so that a convention about their length shows."""
    random = Random(seed)
    W_dec = torch.nn.functional.normalize(random.normal(D_SAE, D_IN), dim=1)
    return {
        "W_enc": random.normal(D_IN, D_SAE),
        "b_enc": random.normal(D_SAE),
        "W_dec": W_dec * (0.5 + 1.5 * random.uniform(D_SAE, 1)),
        "b_dec": random.normal(D_IN),
        "threshold": random.uniform(D_SAE) * 2,
        "b_gate": random.normal(D_SAE),
        "b_mag": random.normal(D_SAE),
        "r_mag": 0.5 * random.normal(D_SAE),
    }


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def write_safetensors(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in tensors.items()}, path)


SAELENS_KEYS = {
    "standard": ("W_enc", "b_enc", "W_dec", "b_dec"),
    "topk": ("W_enc", "b_enc", "W_dec", "b_dec"),
    "abstopk": ("W_enc", "b_enc", "W_dec", "b_dec"),
    "jumprelu": ("W_enc", "b_enc", "W_dec", "b_dec", "threshold"),
    "gated": ("W_enc", "W_dec", "b_dec", "b_gate", "b_mag", "r_mag"),
    "matching_pursuit": ("W_dec", "b_dec"),
    "transcoder": ("W_enc", "b_enc", "W_dec", "b_dec"),
    "jumprelu_transcoder": ("W_enc", "b_enc", "W_dec", "b_dec", "threshold"),
}


def saelens_6(folder: Path, architecture: str, *, seed: int = 0, **config: Any) -> dict[str, torch.Tensor]:
    """SAELens 6: what the SAE is at the top, what it was trained on under metadata."""
    w = weights(seed)
    if architecture == "matching_pursuit":
        w["W_dec"] = torch.nn.functional.normalize(w["W_dec"], dim=1)
    base = {
        "d_in": D_IN,
        "d_sae": D_SAE,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": {
            "sae_lens_version": "6.54.12",
            "model_name": "gpt2-small",
            "hook_name": "blocks.5.hook_resid_post",
        },
        "architecture": architecture,
    }
    more = {
        "topk": {"k": 5, "rescale_acts_by_decoder_norm": False},
        "abstopk": {"k": 5, "rescale_acts_by_decoder_norm": False},
        "matching_pursuit": {"residual_threshold": 0.5, "max_iterations": 9, "stop_on_duplicate_support": True},
        "transcoder": {"d_out": D_IN},
        "jumprelu_transcoder": {"d_out": D_IN},
    }
    write_json(folder / "cfg.json", base | more.get(architecture, {}) | config)
    write_safetensors(folder / "sae_weights.safetensors", {name: w[name] for name in SAELENS_KEYS[architecture]})
    return w


def saelens_3(folder: Path, architecture: str = "standard", *, seed: int = 0, **config: Any) -> dict[str, torch.Tensor]:
    """SAELens 3 to 5: one flat table; top-k is an activation function of the standard architecture."""
    w = weights(seed)
    base = {
        "architecture": "standard" if architecture == "topk" else architecture,
        "d_in": D_IN,
        "d_sae": D_SAE,
        "activation_fn_str": "topk" if architecture == "topk" else "relu",
        "activation_fn_kwargs": {"k": 5} if architecture == "topk" else {},
        "apply_b_dec_to_input": True,
        "finetuning_scaling_factor": False,
        "context_size": 128,
        "model_name": "gpt2-small",
        "hook_name": "blocks.5.hook_resid_pre",
        "hook_layer": 5,
        "hook_head_index": None,
        "prepend_bos": True,
        "dataset_path": "Skylion007/openwebtext",
        "dataset_trust_remote_code": True,
        "normalize_activations": "none",
        "dtype": "torch.float32",
        "device": "cpu",
        "sae_lens_training_version": "4.1.0",
    }
    write_json(folder / "cfg.json", base | config)
    write_safetensors(folder / "sae_weights.safetensors", {name: w[name] for name in SAELENS_KEYS[architecture]})
    return w


def gemma_scope(folder: Path) -> dict[str, torch.Tensor]:
    w, path = weights(), folder / "layer_20/width_16k/average_l0_71/params.npz"
    path.parent.mkdir(parents=True)
    np.savez(path, **{name: w[name].numpy() for name in ("W_enc", "b_enc", "W_dec", "b_dec", "threshold")})
    return w | {"path": path}


def gemma_scope_2(folder: Path, *, config: bool = True, skip: bool = False) -> dict[str, torch.Tensor]:
    w, inner = weights(), folder / "resid_post/layer_12_width_16k_l0_small"
    found = {"w_enc": w["W_enc"], "w_dec": w["W_dec"], **{n: w[n] for n in ("b_enc", "b_dec", "threshold")}}
    if skip:
        found["affine_skip_connection"] = torch.eye(D_IN)
    write_safetensors(inner / "params.safetensors", found)
    if config:
        about = {
            "architecture": "jump_relu",
            "model_name": "gemma-3-4b-it",
            "hf_hook_point_in": "model.layers.12.output",
        }
        write_json(inner / "config.json", about)
    return w | {"path": inner}


def torch_file(path: Path, tensors: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(tensors, path)
    return path


def linear_names(
    w: dict[str, torch.Tensor], encoder: str = "encoder", decoder: str = "decoder"
) -> dict[str, torch.Tensor]:
    """The names and the orientation of two torch.nn.Linear."""
    return {
        f"{encoder}.weight": w["W_enc"].t().contiguous(),
        f"{encoder}.bias": w["b_enc"],
        f"{decoder}.weight": w["W_dec"].t().contiguous(),
        f"{decoder}.bias": w["b_dec"],
    }


def llama_scope_1(folder: Path, **config: Any) -> dict[str, torch.Tensor]:
    w = weights()
    base = {
        "hook_point_in": "blocks.15.hook_resid_post",
        "hook_point_out": "blocks.15.hook_resid_post",
        "use_decoder_bias": True,
        "apply_decoder_bias_to_pre_encoder": False,
        "expansion_factor": 8,
        "d_model": D_IN,
        "d_sae": D_SAE,
        "act_fn": "jumprelu",
        "jump_relu_threshold": 0.75390625,
        "norm_activation": "dataset-wise",
        "dataset_average_activation_norm": {"in": 9.5, "out": 9.5},
        "sparsity_include_decoder_norm": True,
        "use_glu_encoder": False,
        "top_k": 5,
    }
    write_json(folder / "hyperparams.json", base | config)
    write_safetensors(folder / "checkpoints/final.safetensors", linear_names(w))
    return w


def llama_scope_2(folder: Path, **config: Any) -> dict[str, torch.Tensor]:
    w, hook = weights(), "blocks.15.hook_resid_post"
    base = {
        "hook_point_in": hook,
        "hook_point_out": hook,
        "d_model": D_IN,
        "expansion_factor": 8,
        "use_decoder_bias": True,
        "apply_decoder_bias_to_pre_encoder": False,
        "act_fn": "jumprelu",
        "norm_activation": "dataset-wise",
        "sparsity_include_decoder_norm": True,
        "top_k": 5,
    }
    write_json(folder / "config.json", base | config)
    more = {
        "log_jumprelu_threshold": w["threshold"].log(),
        f"dataset_average_activation_norm.{hook}": torch.tensor(9.5),
    }
    write_safetensors(folder / "sae_weights.safetensors", linear_names(w) | more)
    return w


def llama_scope_3(folder: Path, *, suffix: str = "safetensors", **config: Any) -> dict[str, torch.Tensor]:
    w, hook = weights(), "blocks.15.hook_resid_post"
    base = {
        "sae_type": "sae",
        "hook_point_in": hook,
        "hook_point_out": hook,
        "d_model": D_IN,
        "expansion_factor": 4,
        "use_decoder_bias": True,
        "act_fn": "jumprelu",
        "norm_activation": "dataset-wise",
        "sparsity_include_decoder_norm": True,
        "top_k": 5,
    }
    config = base | config
    write_json(folder / "config.json", config)
    found = {"W_E": w["W_enc"], "b_E": w["b_enc"], "W_D": w["W_dec"], "b_D": w["b_dec"]}
    found[f"dataset_average_activation_norm.{hook}"] = torch.tensor(9.5)
    if config["act_fn"] == "jumprelu":
        found["activation_function.log_jumprelu_threshold"] = w["threshold"].log()
    if suffix == "pt":
        torch_file(folder / "sae_weights.pt", {"sae": found, "version": "2.0"})
    else:
        write_safetensors(folder / "sae_weights.safetensors", found)
    return w


def sparsify(folder: Path, **config: Any) -> dict[str, torch.Tensor]:
    w, inner = weights(), folder / "layers.3.mlp"
    base = {
        "activation": "topk",
        "expansion_factor": 32,
        "normalize_decoder": True,
        "num_latents": D_SAE,
        "k": 5,
        "multi_topk": False,
        "skip_connection": False,
        "transcode": False,
        "d_in": D_IN,
    }
    found = {"encoder.weight": w["W_enc"].t(), "encoder.bias": w["b_enc"], "W_dec": w["W_dec"], "b_dec": w["b_dec"]}
    if config.get("skip_connection"):
        found["W_skip"] = torch.eye(D_IN)
    write_json(inner / "cfg.json", base | config)
    write_safetensors(inner / "sae.safetensors", found)
    return w | {"path": inner}


def dictionary_learning(folder: Path, name: str, *, unit: bool = False, **trainer: Any) -> dict[str, torch.Tensor]:
    w = weights()
    if unit:
        w["W_dec"] = torch.nn.functional.normalize(w["W_dec"], dim=1)
    up = {key: w[key] for key in ("W_enc", "b_enc", "W_dec", "b_dec")}
    linear = linear_names(w)
    bias = linear.pop("decoder.bias")
    top = {"b_dec": bias, "k": torch.tensor(5, dtype=torch.int), "threshold": torch.tensor(1.5)}
    found = {
        "AutoEncoder": linear | {"bias": bias},
        "AutoEncoderNew": linear | {"decoder.bias": bias},
        "GatedAutoEncoder": {
            "encoder.weight": linear["encoder.weight"],
            "decoder.weight": linear["decoder.weight"],
            "decoder_bias": bias,
            "r_mag": w["r_mag"],
            "gate_bias": w["b_gate"],
            "mag_bias": w["b_mag"],
        },
        "JumpReluAutoEncoder": up | {"threshold": w["threshold"]},
        "AutoEncoderTopK": linear | top,
        "BatchTopKSAE": linear | top,
        "MatryoshkaBatchTopKSAE": up | {**top, "b_dec": bias, "group_sizes": torch.tensor([10, 30])},
    }[name]
    about = {
        "dict_class": name,
        "layer": 8,
        "lm_name": "EleutherAI/pythia-160m-deduped",
        "activation_dim": D_IN,
        "dict_size": D_SAE,
        "k": 5,
        "submodule_name": "resid_post_layer_8",
    }
    write_json(folder / "config.json", {"trainer": about | trainer, "buffer": {"ctx_len": 1024}})
    torch_file(folder / "ae.pt", found)
    return w


def openai(path: Path, activation: str = "TopK") -> dict[str, torch.Tensor]:
    w = weights()
    found = {
        "pre_bias": w["b_dec"],
        "encoder.weight": w["W_enc"].t().contiguous(),
        "latent_bias": w["b_enc"],
        "decoder.weight": w["W_dec"].t().contiguous(),
        "stats_last_nonzero": torch.zeros(D_SAE, dtype=torch.long),
        "latents_activation_frequency": torch.ones(D_SAE),
        "latents_mean_square": torch.zeros(D_SAE),
        "activation": activation,
    }
    if activation == "TopK":
        found["activation_state_dict"] = {"k": 5, "postact_fn": "ReLU"}
    torch_file(path, found)
    return w


def itda(folder: Path, **metadata: Any) -> torch.Tensor:
    atoms = torch.nn.functional.normalize(weights()["W_dec"], dim=1)
    torch_file(folder / "atoms.pt", atoms)
    torch_file(folder / "atom_indices.pt", torch.zeros(D_SAE, 2, dtype=torch.long))
    about = {"k": 6, "layer": 8, "lm_name": "gpt2"} | metadata
    (folder / "metadata.yaml").write_text(yaml.safe_dump(about), encoding="utf-8")
    return atoms
