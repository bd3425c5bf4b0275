"""A transformer that is cut off behind a layer: token ids -> the states at the hook.

Texts are read one after the other in a row without padding, each for itself, if the model gives the same states so;
otherwise rows are padded at the right. Which of both is tried, not known by the model's name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from saelens_data.errors import EncoderError
from saelens_data.progress import import_bars
from saelens_data.readers.hooks import Hook, attach, layers_of
from saelens_data.readers.packed import PACKED, Layout, reading, register, uses

#: Largest relative difference by which states read in a row may differ from those read alone: rounding.
_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.05, torch.float16: 0.02}


class CutModel:
    """Reads rows of token ids with `transformer`. Raises EncoderError for a hook that it does not have."""

    def __init__(self, transformer: Any, hook: Hook, *, name: str) -> None:
        self.name, self.transformer = name, transformer
        self.config = transformer.config.get_text_config()
        self.dtype: torch.dtype = transformer.dtype
        self.device: torch.device = next(transformer.parameters()).device
        #: Whether no token sees those behind it; `probe` finds out.
        self.causal = False
        self._hook, self._layers = hook, layers_of(transformer, self.config.num_hidden_layers)
        self._state: torch.Tensor | None = None
        attach(self._layers, hook, self._keep)
        self._native = self._native_attention()

    def packed(self, rows: Sequence[np.ndarray]) -> torch.Tensor:
        """States of rows of token ids, one after the other, [tokens, d_in]; each row is read for itself."""
        lengths = [len(ids) for ids in rows]
        place = np.concatenate([np.arange(n) for n in lengths])
        ids, position = (torch.from_numpy(x)[None].to(self.device) for x in (np.concatenate(rows), place))
        with reading(Layout.of(lengths, self.device)):
            return self._run(input_ids=ids, position_ids=position)[0]

    def padded(self, rows: Sequence[np.ndarray], width: int) -> torch.Tensor:
        """States of rows of token ids, each padded at the right to `width`, [rows x width, d_in]."""
        ids = np.zeros((len(rows), width), np.int64)
        mask = np.zeros((len(rows), width), np.int64)
        for i, row in enumerate(rows):
            ids[i, : len(row)], mask[i, : len(row)] = row, 1
        # A causal model never looks to the right, where the padding is, and is faster without a mask.
        masked = {} if self.causal or mask.all() else {"attention_mask": torch.from_numpy(mask).to(self.device)}
        return self._run(input_ids=torch.from_numpy(ids).to(self.device), **masked).flatten(0, 1)

    def _run(self, **inputs: torch.Tensor) -> torch.Tensor:
        self.transformer(**inputs)
        states, self._state = self._state, None
        assert states is not None
        # A model that is spread over several devices has them on the one that holds the hook's layer.
        return states.to(self.device)

    def _keep(self, states: torch.Tensor) -> None:
        self._state = states

    @torch.inference_mode()
    def probe(self, trial: Callable[[int], np.ndarray], longest: int, how: str | None) -> tuple[bool, int, str]:
        """Whether each token sees only what comes before, the length of its states, and how it may be read.

        Found by a look at three short texts, of which `trial` gives as many ids as asked for, up to `longest`.
        """
        window = int(getattr(self.config, "sliding_window", None) or 0)
        long = window + 5 if 0 < window < longest - 8 else 13
        ids = [trial(n) for n in (long, 8)]
        try:
            alone = [self.padded([x], len(x)) for x in ids]
        except (AttributeError, IndexError, TypeError, ValueError) as error:
            raise EncoderError(
                f"{self.name} is a {self.config.model_type}, which does not read its tokens by themselves: use a "
                "causal language model, or an encoder such as BERT"
            ) from error
        first = self.padded([ids[1][:4]], 4)
        self.causal = _difference(alone[1][:4], first) < _TOLERANCE[self.dtype]
        if how != "padded" and self._can_pack(ids, torch.cat(alone)):
            return self.causal, int(first.shape[1]), "packed"
        if how == "packed":
            raise EncoderError(f"{self.name} does not give the same states for texts in one row: leave `how` out")
        return self.causal, int(first.shape[1]), "padded"

    def _native_attention(self) -> str:
        """The attention that the model came with; set again if another reader has changed it."""
        found: str = self.config._attn_implementation  # noqa: SLF001 - transformers has no other name for it
        if found == PACKED:
            found = "eager" if getattr(self.config, "attn_logit_softcapping", None) else "sdpa"
            self.transformer.set_attn_implementation(found)
        return found

    def _can_pack(self, ids: list[np.ndarray], alone: torch.Tensor) -> bool:
        register()
        self.transformer.set_attn_implementation(PACKED)
        try:
            before = uses()
            found = self.packed(ids)
            if uses() > before and _difference(alone, found) < _TOLERANCE[self.dtype]:
                return True
        except (ValueError, TypeError, RuntimeError, KeyError, NotImplementedError):
            pass  # a kind of model that cannot be read so; it is read with padding
        self.transformer.set_attn_implementation(self._native)
        return False

    def compile(self) -> None:
        """Have torch compile the layers."""
        # Layer by layer: they share one compiled graph, and the states at a layer's end stay within reach.
        inside = self._hook.place not in ("resid_post", "resid_pre")
        for number, layer in enumerate(self._layers):
            if not (inside and number == self._hook.layer):
                layer.forward = torch.compile(layer.forward)


def load_model(
    folder: Path, name: str, hook: Hook, dtype: torch.dtype, device_map: str | Mapping[str, Any] | None = None
) -> tuple[Any, Any]:
    """A model without the layers behind the hook and without a head, and its tokenizer.

    Raises EncoderError if there is no such layer, or no such model.
    """
    import_bars()
    from transformers import AutoConfig, AutoModel, AutoTokenizer  # noqa: PLC0415

    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        text = config.get_text_config()
        if hook.layer >= text.num_hidden_layers:
            raise EncoderError(f"{name} has no layer {hook.layer}: its layers are 0 to {text.num_hidden_layers - 1}")
        shorten(text, hook.layers)
        softcap = getattr(text, "attn_logit_softcapping", None)
        model = AutoModel.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            local_files_only=True,
            # Scaled dot products know no cap on scores, and would leave it out or refuse.
            **({"attn_implementation": "eager"} if softcap else {}),
            **({"device_map": device_map} if device_map is not None else {}),
        )
        return model, AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, ImportError, AttributeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise EncoderError(f"{name} cannot be loaded as a reader: {reason}") from error


def shorten(config: Any, layers: int) -> None:
    """Have a model's configuration ask for its first layers alone; lists with an entry a layer are cut too."""
    n = config.num_hidden_layers
    for key, value in list(vars(config).items()):
        if isinstance(value, list) and len(value) == n:
            setattr(config, key, value[:layers])
    config.num_hidden_layers = layers
    config.use_cache = False


def _difference(a: torch.Tensor, b: torch.Tensor) -> float:
    """Mean over tokens of |a - b| / |a|; infinite if a number is not finite."""
    a, b = a.float(), b.float()
    found = ((a - b).norm(dim=1) / a.norm(dim=1).clamp(min=1e-6)).mean()
    return float(found) if bool(torch.isfinite(found)) else float("inf")
