"""Which states of a model an SAE reads: names of places, and the modules that hold them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from saelens_data.errors import EncoderError, choices

#: Places in a layer. resid_post and resid_pre: the residual stream behind and before the layer; mlp_out and attn_out:
#: what its MLP and its attention add to the stream, behind a norm of their own where the model has one; attn_z: the
#: heads' outputs, one after the other, before they are mixed.
PLACES = ("resid_post", "resid_pre", "mlp_out", "attn_out", "attn_z")
_MLP, _ATTENTION = ("mlp", "feed_forward"), ("self_attn", "attn", "attention", "self_attention")
_MIX = ("o_proj", "c_proj", "dense", "out_proj", "wo")
_NAMES = (
    (re.compile(r"layer\.(\d+)(?:\.(\w+))?"), None),
    (re.compile(r"blocks\.(\d+)\.(?:attn\.)?hook_(\w+)"), None),
    (re.compile(r"(?:model\.|language_model\.|transformer\.)*(?:layers|h)\.(\d+)(?:\.output)?"), "resid_post"),
)


@dataclass(frozen=True)
class Hook:
    """A place in a model: `layer` counted from 0, `place` one of PLACES. Raises EncoderError for any other."""

    layer: int
    place: str = "resid_post"

    def __post_init__(self) -> None:
        if self.place not in PLACES:
            raise EncoderError(f"no hook '{self.place}'; {choices(self.place, PLACES)}")
        if self.layer < 0:
            raise EncoderError(f"layer {self.layer} does not exist: layers are counted from 0")

    def __str__(self) -> str:
        return f"layer.{self.layer}.{self.place}"

    @property
    def layers(self) -> int:
        """How many layers a model must keep so that the place is there."""
        return max(1, self.layer) if self.place == "resid_pre" else self.layer + 1

    @staticmethod
    def parse(name: str) -> Hook:
        """The place of "layer.4", "layer.4.mlp_out", or of SAELens's names. Raises EncoderError for anything else."""
        for pattern, place in _NAMES:
            if found := pattern.fullmatch(name):
                said = place or found[2] or "resid_post"
                return Hook(int(found[1]), "attn_z" if said == "z" else said)
        raise EncoderError(f"no hook '{name}': say layer.N, or layer.N.PLACE with PLACE one of {', '.join(PLACES)}")


def layers_of(model: torch.nn.Module, n: int) -> torch.nn.ModuleList:
    """The model's stack of `n` layers: of the lists of that length the one with most weights."""
    found = [m for m in model.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == n]
    if not found:
        raise EncoderError("the model's transformer layers cannot be found: use another reader")
    return max(found, key=lambda m: sum(p.numel() for p in m.parameters()))


def attach(layers: torch.nn.ModuleList, hook: Hook, keep: Callable[[torch.Tensor], None]) -> None:
    """Have `keep` told the states of a place whenever the model runs. Raises EncoderError if the layer has no such."""

    def output(_module: object, _inputs: object, found: Any) -> None:
        keep(found[0] if isinstance(found, tuple) else found)

    def first_input(_module: object, inputs: Any, kwargs: Any) -> None:
        keep(inputs[0] if inputs else kwargs["hidden_states"])

    if hook.place == "resid_pre" and hook.layer:
        layers[hook.layer - 1].register_forward_hook(output)
    elif hook.place == "resid_pre":
        layers[0].register_forward_pre_hook(first_input, with_kwargs=True)
    elif hook.place == "resid_post":
        layers[hook.layer].register_forward_hook(output)
    elif hook.place == "attn_z":
        _child(_child(layers[hook.layer], _ATTENTION, hook), _MIX, hook).register_forward_pre_hook(
            first_input, with_kwargs=True
        )
    else:
        _writer(layers[hook.layer], hook).register_forward_hook(output)


def _writer(layer: torch.nn.Module, hook: Hook) -> torch.nn.Module:
    """The module whose output is added to the residual stream."""
    # Layers with a norm behind each block add the norm's output; there, `post_attention_layernorm` is what it says,
    # while in all others that name is the norm before the MLP.
    if hasattr(layer, "post_feedforward_layernorm"):
        name = "post_feedforward_layernorm" if hook.place == "mlp_out" else "post_attention_layernorm"
        return _child(layer, (name,), hook)
    return _child(layer, _MLP if hook.place == "mlp_out" else _ATTENTION, hook)


def _child(module: torch.nn.Module, names: tuple[str, ...], hook: Hook) -> torch.nn.Module:
    for name in names:
        if isinstance(found := getattr(module, name, None), torch.nn.Module):
            return found
    # BERT and its kin add to the stream and normalise in one module: there is nothing to hook in between.
    raise EncoderError(f"this reader has no {hook.place}: use layer.{hook.layer}.resid_post, which all have")
