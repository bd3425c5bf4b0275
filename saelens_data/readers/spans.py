"""Span reader: a sentence-transformers model; a unit is a sentence-sized span of the document."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch

from saelens_data.errors import EncoderError
from saelens_data.matrix import Units
from saelens_data.progress import import_bars
from saelens_data.readers.base import Reading
from saelens_data.readers.loading import choose_dtype, quietly, special_ids
from saelens_data.readers.split import split_spans
from saelens_data.readers.weights import find_weights, sha256_of

#: Tokens in one forward pass, padding included. Larger batches leave the processor's cache.
BATCH_TOKENS = 2048


@dataclass(frozen=True)
class Part:
    """One part of a span's vector: `name` is "final" (the model's embedding) or "layer.N" (mean token state)."""

    #: "final", or "layer.N" for the mean over the span's tokens of the output of layer N, counted from 0.
    name: str
    #: Factor that gives the parts comparable variance; fixed when the SAE is trained.
    scale: float = 1.0


class SpanReader:
    """Reads spans with a sentence-transformers model.

    A span's vector is the concatenation of its parts, each times its scale. The model's own special tokens are
    left out of the mean of a layer. Raises EncoderError for a model, layer or dtype that cannot be had.
    """

    unit = "span"

    def __init__(
        self,
        name: str,
        parts: Sequence[Part] = (Part("final"),),
        *,
        dtype: str = "auto",
        batch_tokens: int = BATCH_TOKENS,
        max_tokens: int = 256,
    ) -> None:
        import_bars()
        from sentence_transformers import SentenceTransformer  # noqa: PLC0415

        folder = find_weights(name)
        self.name = name
        self.parts = tuple(parts)
        self.hook = "+".join(part.name for part in self.parts)
        self.dtype = choose_dtype(dtype)
        self.sha256 = sha256_of(folder)
        self._batch_tokens = batch_tokens
        with quietly():
            self._model = SentenceTransformer(
                str(folder), device="cpu", local_files_only=True, model_kwargs={"dtype": self.dtype}
            ).eval()
        self.transformer: Any = self._model[0].model
        self._tokenizer: Any = self._model.tokenizer
        self._prefix, self._suffix = special_ids(self._tokenizer)
        longest = min(max_tokens, int(self._model.max_seq_length or max_tokens))
        self.limits: dict[str, int] = {"max_tokens": longest}
        self._longest = longest - len(self._prefix) - len(self._suffix)
        self._states: dict[str, torch.Tensor] = {}
        #: Length of each part, in order.
        self.widths = [self._attach(part) for part in self.parts]
        self.d_in = sum(self.widths)
        self.embedding = self._embedding()

    def _embedding(self) -> slice | None:
        """Where the part "final" lies in a vector."""
        names = [part.name for part in self.parts if part.scale > 0]
        if "final" not in names:
            return None
        at = [part.name for part in self.parts].index("final")
        return slice(sum(self.widths[:at]), sum(self.widths[: at + 1]))

    def _attach(self, part: Part) -> int:
        if part.name == "final":
            return int(self._model.get_embedding_dimension() or 0)
        layers = _layers(self._model)
        found = re.fullmatch(r"layer\.(\d+)", part.name)
        if not found or int(found[1]) >= len(layers):
            raise EncoderError(f"{self.name} has no '{part.name}': use final or layer.0 to layer.{len(layers) - 1}")

        def keep(_module: object, _inputs: object, output: Any) -> None:
            self._states[part.name] = output[0] if isinstance(output, tuple) else output

        layers[int(found[1])].register_forward_hook(keep)
        return int(self.transformer.config.hidden_size)

    def split(self, texts: Sequence[str]) -> Reading:
        """Cut documents into sentence-sized spans, none longer than the model reads."""
        spans = [split_spans(text) for text in texts]
        pieces = [text[start:end] for text, cuts in zip(texts, spans, strict=True) for start, end in cuts]
        encoded = self._tokenize(pieces)
        ptr, starts, ends, ids = [0], [], [], []
        number = 0
        for cuts in spans:
            for start, end in cuts:
                for first, last, tokens in self._fit(encoded[number], end - start):
                    starts.append(start + first)
                    ends.append(start + last)
                    ids.append(tokens)
                number += 1
            ptr.append(len(ids))
        units = Units(np.array(ptr, np.int64), np.array(starts, np.int32), np.array(ends, np.int32))
        return Reading(units, ids)

    def _tokenize(self, pieces: list[str]) -> list[Any]:
        backend = self._tokenizer.backend_tokenizer
        backend.no_truncation()
        backend.no_padding()
        encoded: list[Any] = backend.encode_batch(pieces, add_special_tokens=False)
        return encoded

    def _fit(self, encoding: Any, length: int) -> Iterator[tuple[int, int, list[int]]]:
        """Cut a tokenised span into pieces of at most `_longest` tokens, at word boundaries where there is one."""
        ids = encoding.ids
        if len(ids) <= self._longest:
            yield 0, length, ids
            return
        offsets, at, first = encoding.offsets, 0, 0
        while len(ids) - at > self._longest:
            cut = at + self._longest
            gaps = (i for i in range(cut, at + self._longest // 2, -1) if offsets[i][0] > offsets[i - 1][1])
            cut = next(gaps, cut)
            yield first, offsets[cut - 1][1], ids[at:cut]
            at, first = cut, offsets[cut][0]
        yield first, length, ids[at:]

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """The model's own embedding of whole texts, each cut where the model stops reading, [n, d] float32."""
        found: np.ndarray = self._model.encode(list(texts), batch_size=64, show_progress_bar=False)
        return found.astype(np.float32)

    def batches(self, reading: Reading) -> Iterator[tuple[np.ndarray, int]]:
        """Unit numbers of each batch and its width in tokens: longest first, so that little is padded."""
        lengths = reading.n_tokens
        order = np.argsort(-lengths, kind="stable")
        at = 0
        while at < len(order):
            width = int(lengths[order[at]]) + len(self._prefix) + len(self._suffix)
            batch = order[at : at + max(1, self._batch_tokens // width)]
            yield batch, width
            at += len(batch)

    def prepare(self, ids: Sequence[list[int]], width: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Token ids, attention mask, and which tokens are the text's own, each [n, width]."""
        tokens = np.full((len(ids), width), self._tokenizer.pad_token_id or 0, np.int64)
        lengths = np.fromiter(map(len, ids), np.int64, len(ids))
        before, after = len(self._prefix), len(self._suffix)
        place = np.arange(width)
        own = (place >= before) & (place < before + lengths[:, None])
        attended = place < before + lengths[:, None] + after
        tokens[own] = np.fromiter(chain.from_iterable(ids), np.int64, int(lengths.sum()))
        tokens[:, :before] = self._prefix
        for i, special in enumerate(self._suffix):
            tokens[np.arange(len(ids)), before + lengths + i] = special
        return torch.from_numpy(tokens), torch.from_numpy(attended.astype(np.int64)), torch.from_numpy(own)

    @torch.inference_mode()
    def read(self, reading: Reading) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
        """Yield unit numbers [n] and vectors [n, d_in] float32, longest spans first."""
        for batch, width in self.batches(reading):
            tokens, attended, own = self.prepare([reading.ids[i] for i in batch], width)
            output = self._model.forward({"input_ids": tokens, "attention_mask": attended})
            parts = [self._vector(part, output, own) * part.scale for part in self.parts]
            yield batch, torch.cat(parts, dim=1)

    def _vector(self, part: Part, output: dict[str, torch.Tensor], own: torch.Tensor) -> torch.Tensor:
        if part.name == "final":
            return output["sentence_embedding"].float()
        # A batched product sums over the tokens without a copy of the states in float32.
        total = torch.bmm(own.to(self.dtype).unsqueeze(1), self._states.pop(part.name)).squeeze(1).float()
        return total / own.sum(dim=1, keepdim=True).clamp(min=1)


def _layers(model: Any) -> torch.nn.ModuleList:
    wanted = model[0].model.config.num_hidden_layers
    for module in model.modules():
        if isinstance(module, torch.nn.ModuleList) and len(module) == wanted:
            return module
    raise EncoderError("the reader's transformer layers cannot be found: use the part 'final' alone")
