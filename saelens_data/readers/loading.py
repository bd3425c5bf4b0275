"""What all readers need of transformers: a dtype, special tokens, quiet loading."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from saelens_data.errors import EncoderError


def choose_dtype(name: str, device: torch.device | None = None) -> torch.dtype:
    """Return the dtype for "auto", "bfloat16" or "float32"; auto is bfloat16 where `device` computes it natively."""
    if name == "auto":
        return torch.bfloat16 if _has_bfloat16(device) else torch.float32
    if name not in ("bfloat16", "float32"):
        raise EncoderError(f"dtype '{name}' is not known: use auto, bfloat16 or float32")
    return torch.bfloat16 if name == "bfloat16" else torch.float32


def _has_bfloat16(device: torch.device | None) -> bool:
    if device is not None and device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device is not None and device.type != "cpu":
        return False
    able = torch.cpu.get_capabilities()
    return any(able.get(flag) for flag in ("avx512_bf16", "amx_bf16", "bf16"))


def choose_device(name: str | None) -> torch.device:
    """The device of a name ("cpu", "cuda", "cuda:1", ...); None takes a GPU if there is one.

    Raises EncoderError for one that is not here.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    try:
        place = torch.device(name or ("cuda" if gpus else "cpu"))
        torch.empty(1, device=place).tolist()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        here = f"GPUs 0 to {gpus - 1}" if gpus > 1 else "one GPU, cuda" if gpus else "no GPU"
        raise EncoderError(
            f"device '{name}' cannot be had: torch finds {here} here; use {'cuda or ' * (gpus > 0)}cpu"
        ) from error
    return place


@contextmanager
def quietly() -> Iterator[None]:
    """Keep transformers from drawing a bar for weights that load in a moment, and from listing those left out.

    What was set before is set again.
    """
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars  # noqa: PLC0415
    from transformers.utils import logging  # noqa: PLC0415

    said: Any = logging  # without types
    verbosity, bars = said.get_verbosity(), said.is_progress_bar_enabled()
    hub_has_none = are_progress_bars_disabled()
    said.set_verbosity_error()
    if bars:
        said.disable_progress_bar()
    try:
        yield
    finally:
        said.set_verbosity(verbosity)
        if bars:
            said.enable_progress_bar()  # those of the hub, too
            if hub_has_none:
                disable_progress_bars()


def special_ids(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The ids that the tokenizer puts before and after a text, read off one example."""
    inner = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a")["input_ids"]
    at = next(i for i in range(len(whole)) if whole[i : i + len(inner)] == inner)
    return whole[:at], whole[at + len(inner) :]


def special_table(tokenizer: Any, more: Sequence[int]) -> np.ndarray:
    """Which token ids are special, [ids] bool."""
    special = [*tokenizer.all_special_ids, *more]
    special += [id_ for id_, token in tokenizer.added_tokens_decoder.items() if token.special]
    table = np.zeros(max([len(tokenizer) - 1, *tokenizer.get_vocab().values(), *special]) + 1, np.bool_)
    table[special] = True
    if tokenizer.unk_token_id is not None:
        table[tokenizer.unk_token_id] = False  # it stands for words of the text
    return table
