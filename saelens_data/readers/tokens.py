"""Token reader: a causal language model cut off behind a layer, or any other transformer; a unit is a token.

A token's vector is the state at the hook. The model's special tokens, and everything that a chat template writes, are
read and give no units.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch

from saelens_data.errors import EncoderError
from saelens_data.matrix import Units
from saelens_data.readers.chats import ChatTemplate, Piece, Rendered
from saelens_data.readers.cut_model import CutModel, load_model
from saelens_data.readers.hooks import Hook
from saelens_data.readers.loading import choose_device, choose_dtype, quietly, special_ids, special_table
from saelens_data.readers.weights import find_weights, hash_of
from saelens_data.readers.windows import cut

#: Tokens in one forward pass. On a CPU more would leave the cache; on a GPU fewer would leave it idle.
BATCH_TOKENS, GPU_BATCH_TOKENS = 2048, 16_384
#: Longest window read at once, if the model reads that far, and the share of it that two windows have in common.
MAX_TOKENS, OVERLAP = 2048, 1 / 4
_LEAST = 16
#: A tokenizer that knows no limit says a number beyond this.
_NO_LIMIT = 10_000_000


@dataclass(frozen=True, eq=False)
class TokenWindow:
    """What is read at once: token `ids` [n] int64 with special tokens; `unit` [n] int64, the unit of each, or -1."""

    ids: np.ndarray
    unit: np.ndarray


@dataclass(frozen=True, eq=False)
class TokenReading:
    """Documents cut into tokens: `units`, and the windows in which they are read."""

    units: Units
    windows: list[TokenWindow]

    @property
    def n_tokens(self) -> np.ndarray:
        """Tokens in each unit: one, [n_units] int64."""
        return np.ones(len(self.units.start), np.int64)


class TokenReader:
    """Reads tokens with a transformer that is already there; `load` gets one by name.

    `model` is cut behind the hook's layer. Texts are read one after the other in a row without padding, each for
    itself, if the model gives the same states so; that is tried at construction (`how`: "packed"), and otherwise
    rows are padded at the right ("padded"). Raises EncoderError for a hook that the model does not have.
    """

    unit = "token"

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        name: str,
        sha256: str,
        hook: Hook,
        max_tokens: int = MAX_TOKENS,
        batch_tokens: int | None = None,
        bos: bool = True,
        compiled: bool = False,
        how: str | None = None,
    ) -> None:
        self.name, self.sha256, self.hook = name, sha256, str(hook)
        self.chats = ChatTemplate(tokenizer)
        self._tokenizer = tokenizer
        if not getattr(tokenizer, "is_fast", False):
            raise EncoderError(f"the tokenizer of {name} does not say where tokens stand: use a reader with a fast one")
        self._prefix, self._suffix = special_ids(tokenizer)
        self._special = special_table(tokenizer, self._prefix + self._suffix)
        if bos and not self._prefix and tokenizer.bos_token_id is not None:
            self._prefix = [tokenizer.bos_token_id]
        self.transformer = getattr(model, "language_model", model).eval()
        self.config = self.transformer.config.get_text_config()
        longest = min(max_tokens, _reads_up_to(self.config, tokenizer))
        self._longest = longest - len(self._prefix) - len(self._suffix)
        if longest < _LEAST:
            raise EncoderError(f"{name} reads {longest} tokens at once: windows of {_LEAST} tokens at least are needed")
        overlap = int(longest * OVERLAP)
        self.limits: dict[str, int] = {"max_tokens": longest, "overlap": overlap, "first_is_special": len(self._prefix)}
        self.embedding: slice | None = None
        self._compiled = compiled
        self._model = CutModel(self.transformer, hook, name=name)
        self.dtype, self.device = self._model.dtype, self._model.device
        budget = batch_tokens or (GPU_BATCH_TOKENS if self.device.type == "cuda" else BATCH_TOKENS)
        self.batch_tokens = max(budget, longest)
        self.causal, self.d_in, self.how = self._model.probe(self._trial, longest, how)
        if compiled:
            self._model.compile()

    @classmethod
    def load(
        cls,
        name: str,
        hook: Hook,
        *,
        dtype: str = "auto",
        device: str | None = None,
        device_map: str | Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> TokenReader:
        """The reader of a model's name on the hub, or of its folder, without the layers behind the hook.

        `device` is "cpu", "cuda", "cuda:1", ...; None takes a GPU if there is one. `device_map` spreads a model over
        several, as transformers does (needs accelerate). Raises EncoderError with what to do.
        """
        folder = find_weights(name)
        place = choose_device(device)
        kind = choose_dtype(dtype, place)
        with quietly():
            model, tokenizer = load_model(folder, name, hook, kind, device_map)
        if device_map is None:
            model = model.to(place)
        return cls(model, tokenizer, name=name, sha256=hash_of(folder), hook=hook, **settings)

    def split(self, texts: Sequence[str]) -> TokenReading:
        """Cut documents into tokens. Offsets count characters, white space at a token's ends left out."""
        return self.split_rendered([Rendered.plain(text) for text in texts])

    def split_rendered(self, documents: Sequence[Rendered]) -> TokenReading:
        """Cut what the model reads into tokens; those that lie wholly in a document's own pieces are its units."""
        ptr, starts, ends = [0], [], []
        windows: list[TokenWindow] = []
        for document, encoding in zip(documents, self._tokenize([d.text for d in documents]), strict=True):
            ids = np.array(encoding.ids, np.int64)
            start, end, own = self._own(document, ids, np.array(encoding.offsets, np.int64).reshape(-1, 2))
            unit = np.full(len(ids), -1, np.int64)
            unit[own] = ptr[-1] + np.arange(int(own.sum()))
            windows += self._windows(ids, unit, templated=document.templated)
            starts.append(start[own])
            ends.append(end[own])
            ptr.append(ptr[-1] + len(starts[-1]))
        none = [np.empty(0, np.int64)]
        joined = (np.concatenate(starts or none).astype(np.int32), np.concatenate(ends or none).astype(np.int32))
        return TokenReading(Units(np.array(ptr, np.int64), *joined), windows)

    def _tokenize(self, texts: list[str]) -> list[Any]:
        backend = self._tokenizer.backend_tokenizer
        backend.no_truncation()
        backend.no_padding()
        encoded: list[Any] = backend.encode_batch(texts, add_special_tokens=False)
        return encoded

    def _own(
        self, document: Rendered, ids: np.ndarray, offsets: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Start and end of each token in the document's own text, and whether it is a unit."""
        start, end = _without_space(document.text, offsets[:, 0], offsets[:, 1])
        begins, stops, at = (
            np.array(column, np.int64) for column in zip(*(document.pieces or [Piece(0, 0, 0)]), strict=True)
        )
        piece = np.maximum(np.searchsorted(begins, start, side="right") - 1, 0)
        own = (start >= begins[piece]) & (end <= stops[piece]) & (end > start) & ~self._special[ids]
        shift = at[piece] - begins[piece]
        return start + shift, end + shift, own

    def _windows(self, ids: np.ndarray, unit: np.ndarray, *, templated: bool) -> Iterator[TokenWindow]:
        """The windows that hold units."""
        before, after = self._prefix, [] if templated else self._suffix
        if templated and before and list(ids[: len(before)]) == before:
            ids, unit = ids[len(before) :], unit[len(before) :]
        elif templated and len(ids) and self._special[ids[0]]:
            before = []
        for start, stop, first, last in cut(len(ids), self._longest, self.limits["overlap"], causal=self.causal):
            taken = np.full(len(before) + stop - start + len(after), -1, np.int64)
            taken[len(before) + first - start : len(before) + last - start] = unit[first:last]
            if (taken >= 0).any():
                yield TokenWindow(np.concatenate([before, ids[start:stop], after]).astype(np.int64), taken)

    def batches(self, reading: TokenReading) -> Iterator[list[TokenWindow]]:
        """Windows to read at once, longest first: within `batch_tokens`, padding included."""
        lengths = np.array([len(window.ids) for window in reading.windows], np.int64)
        batch: list[TokenWindow] = []
        tokens = 0
        for number in np.argsort(-lengths, kind="stable"):
            window = reading.windows[number]
            more = len(batch[0].ids) if batch and self.how == "padded" else len(window.ids)
            if batch and tokens + more > self.batch_tokens:
                yield batch
                batch, tokens = [], 0
                more = len(window.ids)
            batch.append(window)
            tokens += more
        if batch:
            yield batch

    def read_less(self) -> bool:
        """Read half as many tokens at once from now on; False if that would be less than a window."""
        if self._compiled or self.batch_tokens // 2 < self.limits["max_tokens"]:
            return False
        self.batch_tokens //= 2
        return True

    @torch.inference_mode()
    def read(self, reading: TokenReading) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
        """Yield unit numbers [n] and vectors [n, d_in] in the reader's dtype, on its device."""
        for batch in self.batches(reading):
            states, units = self.states(batch)
            own = np.flatnonzero(units >= 0)
            index = torch.from_numpy(own).to(states.device, non_blocking=True)
            yield units[own], states if len(own) == len(units) else states.index_select(0, index)

    @torch.inference_mode()
    def states(self, batch: Sequence[TokenWindow]) -> tuple[torch.Tensor, np.ndarray]:
        """States of all tokens of a batch [n, d_in], and the unit of each, or -1."""
        rows, units = [window.ids for window in batch], [window.unit for window in batch]
        if self.how == "padded":
            width = max(map(len, rows))
            unit = np.full((len(rows), width), -1, np.int64)
            for row, own in zip(unit, units, strict=True):
                row[: len(own)] = own
            return self._model.padded(rows, width), unit.ravel()
        if self._compiled and (short := self.batch_tokens - sum(map(len, rows))):
            # One shape for the compiler: idle texts fill the row.
            rows += [np.zeros(n, np.int64) for n in _fill(short, self.limits["max_tokens"])]
            units.append(np.full(short, -1, np.int64))
        return self._model.packed(rows), np.concatenate(units)

    def _trial(self, n: int) -> np.ndarray:
        ids = self._tokenizer("The quick brown fox jumps over the lazy dog.", add_special_tokens=False)["input_ids"]
        return np.array((self._prefix + list(ids) * n)[:n], np.int64)


def _reads_up_to(config: Any, tokenizer: Any) -> int:
    """The longest text that a model and its tokenizer take, special tokens included."""
    limits = [getattr(config, "max_position_embeddings", None), tokenizer.model_max_length]
    # RoBERTa and its kin count positions from behind the padding id.
    if config.model_type in ("roberta", "xlm-roberta", "camembert"):
        limits[0] -= config.pad_token_id + 1
    return min((int(n) for n in limits if n and n < _NO_LIMIT), default=MAX_TOKENS)


def _without_space(text: str, start: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Offsets without white space at the ends of each token; those of nothing but white space stay as they are."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    marks = np.flatnonzero(~_is_space()[np.minimum(codes, len(_is_space()) - 1)])
    # The first mark at or behind the start, and the one before the first at or behind the end.
    low, high = np.searchsorted(marks, start), np.searchsorted(marks, end)
    some = high > low
    if not len(marks):
        return start, end
    last = len(marks) - 1
    first_mark, last_mark = marks[np.minimum(low, last)], marks[np.maximum(high - 1, 0)] + 1
    return np.where(some, first_mark, start), np.where(some, last_mark, end)


@cache
def _is_space() -> np.ndarray:
    """Which characters are white space, [codes] bool; the last stands for all beyond."""
    return np.array([chr(code).isspace() for code in range(0x3002)])


def _fill(n: int, longest: int) -> Iterator[int]:
    while n > 0:
        yield min(n, longest)
        n -= longest
