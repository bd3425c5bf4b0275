"""What sae-lens and eai-sparsify make of our tiny files: activations [N, latents] of each case, by name.

Llama Scope is left out, since sae-lens gates it on other numbers than the code that trained it; so are sparsify's
files through sae-lens, which cannot load them. Both have formulas in `test_sae_formats.py`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import sae_files as files
import torch
from sae_files import D_IN, D_SAE, vectors

#: Vectors that are encoded.
N = 24
#: What an oracle's loader is told instead of looking it up: the sizes of the real SAEs.
SIZES = {"d_in": D_IN, "d_sae": D_SAE}


@dataclass(frozen=True)
class Case:
    """How the files are written, and how the oracle and we read them."""

    name: str
    write: Callable[[Path], Any]
    #: Path of the SAE in the folder that was written.
    path: str = "."
    #: sae-lens's loader for files of the hub and the name of the repository, or its own for a folder.
    loader: str | None = None
    repo_id: str = ""
    #: The file or folder that the loader is asked for.
    asked: str = ""
    options: dict[str, Any] = field(default_factory=dict)


def _saelens(architecture: str, write: Callable[..., Any] = files.saelens_6, name: str = "", **config: Any) -> Case:
    version = "3" if write is files.saelens_3 else "6"
    return Case(f"saelens{version}.{name or architecture}", lambda folder: write(folder, architecture, **config))


def _torch_file(name: str, tensors: Callable[[], dict[str, torch.Tensor]]) -> Callable[[Path], Any]:
    return lambda folder: files.torch_file(folder / name, tensors())


def _qwen() -> dict[str, torch.Tensor]:
    w = files.weights()
    return {"W_enc": w["W_enc"].t(), "W_dec": w["W_dec"].t(), "b_enc": w["b_enc"], "b_dec": w["b_dec"]}


_CLASSES = ("AutoEncoder", "GatedAutoEncoder", "JumpReluAutoEncoder", "AutoEncoderTopK", "BatchTopKSAE")
_GOODFIRE, _R1 = "Llama-3.1-8B-Instruct-SAE-l19.pth", "DeepSeek-R1-Distill-Llama-8B-SAE-l19.pt"
_GEMMA, _GEMMA_2 = "layer_20/width_16k/average_l0_71", "resid_post/layer_12_width_16k_l0_small"

CASES = [
    *(_saelens(name) for name in ("standard", "topk", "abstopk", "jumprelu", "gated")),
    *(_saelens(name, files.saelens_3) for name in ("standard", "topk", "jumprelu", "gated")),
    _saelens("standard", name="not_centred", apply_b_dec_to_input=False),
    _saelens("topk", name="topk_rescaled", rescale_acts_by_decoder_norm=True),
    _saelens("abstopk", name="abstopk_rescaled", rescale_acts_by_decoder_norm=True),
    _saelens("jumprelu", name="layer_norm", normalize_activations="layer_norm"),
    _saelens("jumprelu", name="token_norm", normalize_activations="constant_norm_rescale"),
    _saelens("transcoder", apply_b_dec_to_input=False),
    _saelens("jumprelu_transcoder", apply_b_dec_to_input=False),
    _saelens("matching_pursuit"),
    _saelens("matching_pursuit", name="pursuit_repeats", stop_on_duplicate_support=False, max_iterations=4),
    _saelens("matching_pursuit", name="pursuit_to_the_end", max_iterations=None, residual_threshold=0.05),
    Case("gemma_scope", files.gemma_scope, _GEMMA, "gemma_2", "google/gemma-scope-2b-pt-res", _GEMMA),
    Case("gemma_scope_2", files.gemma_scope_2, _GEMMA_2, "gemma_3", "google/gemma-scope-2-4b-it", _GEMMA_2),
    Case(
        "goodfire",
        _torch_file(_GOODFIRE, lambda: files.linear_names(files.weights(), "encoder_linear", "decoder_linear")),
        _GOODFIRE,
        "goodfire",
        "Goodfire/Llama-3.1-8B-Instruct-SAE-l19",
        _GOODFIRE,
    ),
    Case("r1", _torch_file(_R1, lambda: files.linear_names(files.weights())), _R1, "deepseek_r1", "qresearch/R1", _R1),
    Case(
        "qwen_scope",
        _torch_file("layer7.sae.pt", _qwen),
        "layer7.sae.pt",
        "qwen_scope",
        "Qwen/SAE-Res-Qwen3-8B-Base-W64K-L0_5",
        "layer7.sae.pt",
        {"k": 5},
    ),
    *(
        Case(
            f"dictionary_learning.{name}",
            partial(files.dictionary_learning, name=name, unit=True),
            ".",
            "dictionary_learning_1",
            "canrager/lm_sae",
            ".",
        )
        for name in (*_CLASSES, "MatryoshkaBatchTopKSAE")
    ),
    *(
        Case(f"sparsify.{name}", partial(files.sparsify, **config), "layers.3.mlp", "sparsify itself")
        for name, config in {
            "topk": {},
            "groupmax": {"activation": "groupmax"},
            "transcoder": {"transcode": True, "skip_connection": True},
        }.items()
    ),
]


def oracle(case: Case, folder: Path) -> torch.Tensor:
    """Activations of the oracle library for the files that the case wrote to the folder."""
    with torch.no_grad():
        if case.loader == "sparsify itself":
            return _sparsify(folder / case.path)
        return load(case, folder).encode(vectors(N)).detach()


def load(case: Case, folder: Path) -> Any:
    """The SAE as sae-lens has it, whatever it has to be told."""
    from sae_lens import SAE
    from sae_lens.registry import get_sae_class

    def convert(path: str, device: str, cfg_overrides: Any) -> Any:
        from sae_lens.loading import pretrained_sae_loaders as loaders

        if case.loader is None:
            found = loaders.sae_lens_disk_loader(path, device, cfg_overrides)
        else:
            with _local_hub(loaders, folder):
                load_files = loaders.NAMED_PRETRAINED_SAE_LOADERS[case.loader]
                sizes = SIZES | {"dtype": "float32", "device": "cpu"}
                found = load_files(case.repo_id, case.asked, device, False, sizes)[:2]
        return found

    architecture = _architecture(case, folder)
    base = SAE if "transcoder" not in architecture else get_sae_class(architecture)[0]
    return base.load_from_disk(folder, converter=convert)


def _architecture(case: Case, folder: Path) -> str:
    """Only a transcoder must be loaded by a class of its own."""
    path = folder / "cfg.json"
    return str(json.loads(path.read_text()).get("architecture", "")) if case.loader is None else ""


@contextmanager
def _local_hub(loaders: Any, folder: Path) -> Iterator[None]:
    """Have sae-lens's loaders find in the folder what they would download."""
    from safetensors import safe_open

    def download(repo_id: str, filename: str, subfolder: str = "", **_: Any) -> str:
        return str(folder / subfolder / filename)

    def shapes(repo_id: str, filename: str) -> dict[str, list[int]]:
        with safe_open(folder / filename, "pt") as file:
            return {name: list(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118

    before = loaders.hf_hub_download, loaders.get_safetensors_tensor_shapes
    loaders.hf_hub_download, loaders.get_safetensors_tensor_shapes = download, shapes
    try:
        yield
    finally:
        loaders.hf_hub_download, loaders.get_safetensors_tensor_shapes = before


def _sparsify(folder: Path) -> torch.Tensor:
    from sparsify import SparseCoder

    values, latents, _ = SparseCoder.load_from_disk(folder).encode(vectors(N))
    return torch.zeros(len(values), D_SAE).scatter(1, latents, values).detach()
