"""Encoders: reader + SAE + pooling from units to documents."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING, cast

import numpy as np
import polars as pl
from scipy.sparse import csr_array

from saelens_data.corpus.fields import Conversation
from saelens_data.errors import EncoderError
from saelens_data.matrix import Source
from saelens_data.progress import Progress
from saelens_data.store import Shard

if TYPE_CHECKING:
    import torch

    from saelens_data.readers.base import Reader, Reading
    from saelens_data.readers.chats import Rendered
    from saelens_data.readers.tokens import TokenReader, TokenReading
    from saelens_data.sae.model import SAE

    #: Numbers of units, and their vectors.
    _Block = tuple[np.ndarray, torch.Tensor]

#: Vectors gathered before the SAE sees them: few enough to stay in the cache, enough for one good product.
_GATHER_UNITS = 512


@dataclass(frozen=True, eq=False)
class Encoder:
    """Texts in, pooled concept activations out."""

    name: str
    reader: Reader | TokenReader
    sae: SAE
    #: One row a latent, see CONCEPT_SCHEMA.
    concepts: pl.DataFrame
    sae_sha256: str
    #: Changes with anything that changes the numbers, as `identity_of`.
    identity: str = ""
    #: Figures of a token reader and its SAE on some bundled texts, as `encoders.check` has them.
    checks: Mapping[str, float] = field(default_factory=dict)
    #: Told (units read, of how many) while documents are read.
    tell: Progress | None = None

    def __post_init__(self) -> None:
        if self.reader.d_in != self.sae.d_in:
            raise EncoderError(
                f"encoder {self.name}: the reader gives {self.reader.d_in} numbers, the SAE reads {self.sae.d_in}"
            )

    def source(self) -> Source:
        """What a store records of this encoder."""
        libraries = ("saelens_data", "torch", "transformers", "sentence-transformers")
        return Source(
            encoder=self.name,
            reader=self.reader.name,
            reader_sha256=self.reader.sha256,
            sae=self.name,
            sae_sha256=self.sae_sha256,
            hook=self.reader.hook,
            limits=dict(self.reader.limits),
            dtype=str(self.reader.dtype).removeprefix("torch."),
            versions={name: version(name) for name in libraries},
            checks=dict(self.checks),
        )

    @property
    def in_context(self) -> bool:
        """Whether a document of a conversation is read within it, and not by itself."""
        return self.reader.unit == "token"

    def encode_texts(self, texts: Sequence[str | None]) -> Shard:
        """Pooled activations of documents; null counts as empty. Raises ValueError if one is not finite."""
        if self.in_context:
            return self.encode_prepared(self.prepare(texts))()
        return self._encode_spans([text or "" for text in texts])

    def encode_conversations(self, documents: Sequence[Conversation]) -> Shard:
        """Pooled activations of documents: all turns of each are read, and those that are its text are pooled.

        Raises ValueError if the encoder does not read `in_context`, if its reader's chat template refuses the roles
        of a conversation, and if an activation is not finite.
        """
        return self.encode_prepared(self.prepare(documents))()

    def prepare(self, documents: Sequence[str | None] | Sequence[Conversation]) -> TokenReading:
        """The part of encoding that needs no model: chat templates and the tokenizer. Raises as encoding does."""
        if not self.in_context:
            raise ValueError(f"encoder {self.name} reads texts by themselves, not within a conversation")
        reader = cast("TokenReader", self.reader)
        return reader.split_rendered([_rendered(reader, document) for document in documents])

    def encode_prepared(self, reading: TokenReading) -> Callable[[], Shard]:
        """Read what `prepare` made ready; what is returned gives the pooled activations and needs no model any more.

        Where a GPU's memory is too small, fewer tokens are read at once from then on, which changes no result.
        Raises EncoderError if it is too small for one window, and ValueError if an activation is not finite.
        """
        import torch  # noqa: PLC0415

        reader = cast("TokenReader", self.reader)
        while True:
            try:
                return self._encode_tokens(reader, reading)
            except torch.OutOfMemoryError as error:
                if not reader.read_less():
                    raise EncoderError(
                        f"the memory of {reader.device} is too small for {reader.name}: choose another device, "
                        "a smaller reader or SAE, or dtype bfloat16"
                    ) from error
            torch.cuda.empty_cache()

    def _encode_tokens(self, reader: TokenReader, reading: TokenReading) -> Callable[[], Shard]:
        from saelens_data.sae.pooling import Pooler  # noqa: PLC0415

        units = reading.units
        pooler = Pooler(self.sae, units.ptr)
        for numbers, x in self._told(reader.read(reading), int(units.ptr[-1])):
            pooler.add(numbers, x)

        def shard() -> Shard:
            n_tokens = np.diff(units.ptr)
            return Shard(**pooler.finish(), units=units, n_tokens=n_tokens, errors=[None] * len(n_tokens))

        return shard

    def _encode_spans(self, texts: Sequence[str]) -> Shard:
        reader = cast("Reader", self.reader)
        reading = reader.split(texts)
        rows, latents, values = [], [], []
        vectors = _Vectors(reading, reader.embedding) if reader.embedding else None
        for units, x in self._told(self._gathered(reader, reading), int(reading.units.ptr[-1])):
            active = self.sae.encode(x)
            rows.append(units[active.row.numpy()])
            latents.append(active.latent.numpy())
            values.append(active.value.float().numpy())
            if vectors:
                vectors.add(units, x)
        joined = [np.concatenate(part) if part else np.empty(0) for part in (rows, latents, values)]
        n_tokens = np.add.reduceat(np.append(reading.n_tokens, 0), reading.units.ptr[:-1])
        n_tokens[np.diff(reading.units.ptr) == 0] = 0
        pooled = pool(*joined, ptr=reading.units.ptr, d_sae=self.sae.d_sae)
        return Shard(
            **pooled,
            units=reading.units,
            n_tokens=n_tokens,
            errors=[None] * len(texts),
            vectors=vectors.means() if vectors else None,
        )

    @property
    def vector_dim(self) -> int | None:
        """Numbers in a document's vector; None if the reader gives no embedding."""
        return self.reader.embedding.stop - self.reader.embedding.start if self.reader.embedding else None

    def _told(self, blocks: Iterator[_Block], n_units: int) -> Iterator[_Block]:
        """The blocks, each told when it has been worked on."""
        read = 0
        for units, x in blocks:
            yield units, x
            read += len(units)
            if self.tell:
                self.tell(read, n_units)

    @staticmethod
    def _gathered(reader: Reader, reading: Reading) -> Iterator[_Block]:
        import torch  # noqa: PLC0415

        units: list[np.ndarray] = []
        vectors: list[torch.Tensor] = []
        waiting = 0
        for batch, x in reader.read(reading):
            units.append(batch)
            vectors.append(x)
            waiting += len(batch)
            if waiting >= _GATHER_UNITS:
                yield np.concatenate(units), torch.cat(vectors)
                units, vectors, waiting = [], [], 0
        if units:
            yield np.concatenate(units), torch.cat(vectors)


def _rendered(reader: TokenReader, document: Conversation | str | None) -> Rendered:
    from saelens_data.readers.chats import Rendered  # noqa: PLC0415

    if not isinstance(document, Conversation):
        return Rendered.plain(document or "")
    if not document.turns:
        return Rendered.plain(document.text or "")
    return reader.chats.render(document.turns, {place.turn: place.start for place in document.places})


class _Vectors:
    """Means over the units of each document of the reader's embedding, gathered as the units come.

    A unit counts as often as it has tokens, so that a heading does not outweigh a paragraph.
    """

    def __init__(self, reading: Reading, embedding: slice) -> None:
        ptr = reading.units.ptr
        self._embedding, self._weight = embedding, np.maximum(reading.n_tokens, 1).astype(np.float64)
        self._doc = np.repeat(np.arange(len(ptr) - 1), np.diff(ptr))
        # In float64 the order in which units come, which depends on the batches, is far below what float16 keeps.
        self._sums = np.zeros((len(ptr) - 1, embedding.stop - embedding.start))

    def add(self, units: np.ndarray, x: torch.Tensor) -> None:
        """Take in the units of these numbers [n], whose vectors are x [n, d_in]."""
        found = x[:, self._embedding].double().numpy()
        lengths = np.linalg.norm(found, axis=1)
        scale = self._weight[units] / np.where(lengths > 0, lengths, 1)
        docs, position = np.unique(self._doc[units], return_inverse=True)
        by_doc = csr_array((scale, (position, np.arange(len(units)))), shape=(len(docs), len(units)))
        self._sums[docs] += by_doc @ found

    def means(self) -> np.ndarray:
        """Of length 1, [documents, dim] float16; zeros for a document without units."""
        lengths = np.linalg.norm(self._sums, axis=1, keepdims=True)
        return (self._sums / np.where(lengths > 0, lengths, 1)).astype(np.float16)


def pool(
    row: np.ndarray, latent: np.ndarray, value: np.ndarray, *, ptr: np.ndarray, d_sae: int
) -> dict[str, np.ndarray]:
    """Pool unit activations into documents: maximum, its first unit, and mean over all units of the document.

    `row` [nnz] unit number, `latent` [nnz], `value` [nnz], in any order; `ptr` [n_docs + 1] delimits the units of
    each document. Returns indptr [n_docs + 1], latents, maxima, means and unit, each [pooled nnz].
    Raises ValueError if a value is not finite. Sums run in the order of the units, so batches cannot change them.
    """
    if not np.isfinite(value).all():
        raise ValueError("activations are not finite")
    n_docs, n_units = len(ptr) - 1, int(ptr[-1])
    doc = np.searchsorted(ptr, row, side="right") - 1
    key = (doc * d_sae + latent.astype(np.int64)) * n_units + row.astype(np.int64)
    order = np.argsort(key)
    cell, row, value = key[order] // max(n_units, 1), row[order].astype(np.int64), value[order]
    first = np.flatnonzero(np.diff(cell, prepend=-1))
    doc_of, latent_of = np.divmod(cell[first], d_sae)
    indptr = np.zeros(n_docs + 1, np.int64)
    np.cumsum(np.bincount(doc_of, minlength=n_docs), out=indptr[1:])
    if not len(first):
        none = np.empty(0, np.float32)
        return {
            "indptr": indptr,
            "latents": none.astype(np.int32),
            "maxima": none,
            "means": none,
            "unit": none.astype(np.int32),
        }
    maxima = np.maximum.reduceat(value, first)
    runs = np.diff(np.append(first, len(cell)))
    at_maximum = np.where(value == np.repeat(maxima, runs), row, n_units)
    sums = np.add.reduceat(value.astype(np.float64), first)
    return {
        "indptr": indptr,
        "latents": latent_of.astype(np.int32),
        "maxima": maxima.astype(np.float32),
        "means": (sums / np.diff(ptr)[doc_of]).astype(np.float32),
        "unit": (np.minimum.reduceat(at_maximum, first) - ptr[doc_of]).astype(np.int32),
    }
