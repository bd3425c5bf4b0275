"""Attention over a row of several texts without padding: each text attends to itself alone.

The row is what the model reads at once, [1, tokens]: all its products run over it without a wasted token, and only
attention, which is a few per cent of the arithmetic, is told where one text ends. On a GPU that is one kernel for
sequences of many lengths (`torch.nn.attention.varlen`), elsewhere one call for each length that occurs.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from typing import Any, NamedTuple, cast

import torch
from torch.nn import functional

#: The name under which transformers finds it.
PACKED = "saelens_data_packed"
#: Arguments of an attention that change nothing here, or are dealt with below; any other is refused.
_KNOWN = {
    "softcap", "sliding_window", "is_causal", "scaling", "dropout", "position_ids", "use_cache", "output_attentions",
    "cache_position", "cache", "past_key_values", "output_hidden_states", "return_dict",
}  # fmt: skip
#: Longest head that the GPU's kernel for many lengths takes.
_LONGEST_HEAD = 256


@dataclass(frozen=True, eq=False)
class Layout:
    """Where the texts of a row lie: their `lengths`, one after the other from the first token on."""

    lengths: tuple[int, ...]
    #: Ends and starts of the texts, [texts + 1] int32, on the device of the model.
    bounds: torch.Tensor

    @staticmethod
    def of(lengths: list[int], device: torch.device) -> Layout:
        """The layout of texts of these lengths."""
        bounds = torch.zeros(len(lengths) + 1, dtype=torch.int32)
        bounds[1:] = torch.tensor(lengths).cumsum(0)
        return Layout(tuple(lengths), bounds.to(device, non_blocking=True))

    def runs(self) -> Iterator[tuple[int, int, int]]:
        """Start, number and length of each run of texts of one length."""
        at = 0
        for length, group in groupby(self.lengths):
            n = sum(1 for _ in group)
            yield at, n, length
            at += n * length


class _Current(threading.local):
    """The row that a thread reads; attention is called deep inside a model, which cannot pass it on."""

    layout: Layout | None = None
    uses: int = 0


_current = _Current()
#: The attention as an operator; made once, before anything is compiled.
_operator: list[Callable[..., torch.Tensor]] = []


def uses() -> int:
    """How often it has been used, which tells whether a model uses it."""
    return _current.uses


@contextmanager
def reading(layout: Layout) -> Iterator[None]:
    """Within it the model reads a row of this layout."""
    before, _current.layout = _current.layout, layout
    try:
        yield
    finally:
        _current.layout = before


def register() -> None:
    """Make transformers know the attention, which needs no mask. Doing it again changes nothing."""
    from transformers import AttentionInterface  # noqa: PLC0415

    if not _operator:
        _operator.append(_as_operator())
    AttentionInterface.register(PACKED, packed_attention)


def packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """As transformers calls it: query [1, heads, tokens, d], result [1, tokens, heads, d].

    Raises ValueError for a kind of attention that it does not know.
    """
    unknown = sorted(name for name, given in kwargs.items() if given is not None and name not in _KNOWN)
    if unknown or attention_mask is not None or len(query) != 1:
        raise ValueError(f"attention with {', '.join(unknown) or 'a mask or several rows'} cannot be packed")
    causal = kwargs.get("is_causal")
    causal = bool(getattr(module, "is_causal", True) if causal is None else causal)
    scale = query.shape[-1] ** -0.5 if scaling is None else float(scaling)
    window, softcap = int(kwargs.get("sliding_window") or 0), float(kwargs.get("softcap") or 0.0)
    kind = _Kind(scale, causal, window, softcap)
    if torch.compiler.is_compiling():
        return _operator[0](query, key, value, *kind), None
    return _attend(query, key, value, kind), None


class _Kind(NamedTuple):
    """How scores are scaled, whether tokens look back only, how far they look, and the cap on scores; 0 is none."""

    scale: float
    causal: bool
    window: int
    softcap: float


def _attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, kind: _Kind) -> torch.Tensor:
    layout = _current.layout
    if layout is None or int(sum(layout.lengths)) != query.shape[2]:
        raise ValueError("the layout of the row is not that of what is read")
    _current.uses += 1
    if _in_one_kernel(query, key, value, kind):
        q, k, v = (states[0].transpose(0, 1) for states in (query, key, value))
        row: torch.Tensor = _varlen()(q, k, v, layout, kind)
        return row.unsqueeze(0)
    out = torch.empty((1, query.shape[2], query.shape[1], value.shape[3]), dtype=query.dtype, device=query.device)
    if (groups := query.shape[1] // key.shape[1]) > 1:
        key, value = (states.repeat_interleave(groups, dim=1) for states in (key, value))
    for at, n, length in layout.runs():
        part = slice(at, at + n * length)
        q, k, v = (x[0, :, part].reshape(x.shape[1], n, length, -1).transpose(0, 1) for x in (query, key, value))
        masked = kind.softcap or 0 < kind.window < length
        mask = _mask(length, kind, query.device) if masked else None
        if kind.softcap:
            found = _softcapped(q, k, v, kind, mask)
        else:
            plain = kind.causal and mask is None and length > 1
            found = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=plain, scale=kind.scale)
        out[0, part].view(n, length, *out.shape[2:]).copy_(found.transpose(1, 2))
    return out


def _mask(length: int, kind: _Kind, device: torch.device) -> torch.Tensor:
    """Which tokens each token sees, [length, length] bool: those before it, and none `window` or more away."""
    place = torch.arange(length, device=device)
    behind = place[:, None] - place[None, :]
    seen = behind >= 0 if kind.causal else torch.ones_like(behind, dtype=torch.bool)
    return seen & (behind.abs() < kind.window) if kind.window else seen


def _softcapped(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, kind: _Kind, mask: torch.Tensor | None
) -> torch.Tensor:
    scores = kind.softcap * torch.tanh(q @ k.transpose(-1, -2) * kind.scale / kind.softcap)
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return scores.softmax(dim=-1, dtype=torch.float32).to(v.dtype) @ v


def _in_one_kernel(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, kind: _Kind) -> bool:
    return (
        query.is_cuda
        and not kind.softcap
        and query.dtype in (torch.bfloat16, torch.float16)
        and query.shape[3] == key.shape[3] == value.shape[3] <= _LONGEST_HEAD
        and query.shape[3] % 8 == 0
        and _varlen() is not None
    )


@cache
def _varlen() -> Any:
    """(q, k, v [tokens, heads, d], layout, kind) -> [tokens, heads, d], or None where torch has no such kernel."""
    try:
        from torch.nn.attention.varlen import varlen_attn  # noqa: PLC0415
    except ImportError:
        return None
    takes = inspect.signature(varlen_attn).parameters

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, layout: Layout, kind: _Kind) -> torch.Tensor:
        how: dict[str, Any] = {}
        if "scale" in takes:
            how["scale"] = kind.scale
        elif abs(kind.scale * q.shape[2] ** 0.5 - 1) > 1e-3:
            raise ValueError("this version of torch packs no attention with a scale of its own")
        if "enable_gqa" in takes:
            how["enable_gqa"] = q.shape[1] != k.shape[1]
        elif q.shape[1] != k.shape[1]:
            k, v = (states.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for states in (k, v))
        longest = max(layout.lengths)
        if "window_size" in takes:
            left = kind.window - 1 if 0 < kind.window < longest else -1
            how["window_size"] = (left, 0 if kind.causal else left)
        elif 0 < kind.window < longest:
            raise ValueError("this version of torch packs no attention with a sliding window")
        else:
            how["is_causal"] = kind.causal
        bounds = layout.bounds.to(q.device)  # a model may be spread over several
        found: Any = varlen_attn(q, k, v, bounds, bounds, longest, longest, **how)
        return cast("torch.Tensor", found)

    return attend


def _as_operator() -> Callable[..., torch.Tensor]:
    """The same as one opaque operator, so that torch.compile does not look into what depends on the row."""

    def attend(  # noqa: PLR0917 - an operator takes plain numbers
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scale: float,
        causal: bool,  # noqa: FBT001
        window: int,
        softcap: float,
    ) -> torch.Tensor:
        return _attend(query, key, value, _Kind(scale, causal, window, softcap))

    operator = torch.library.custom_op("saelens_data::packed_attention", attend, mutates_args=())

    @operator.register_fake
    def _(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *_: object) -> torch.Tensor:  # noqa: ARG001
        return query.new_empty((1, query.shape[2], query.shape[1], value.shape[3]))

    found: Callable[..., torch.Tensor] = operator
    return found
