"""Corpus to store: read the text, encode it shard by shard, resume where an earlier run stopped."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from saelens_data.corpus import Corpus, read_corpus
from saelens_data.corpus.fields import Conversation
from saelens_data.encoders import DEFAULT_ENCODER, Address, Encoder, Parts, encoder_identity, load_encoder
from saelens_data.errors import InputError
from saelens_data.labels.places import inherit_labels
from saelens_data.matrix import ConceptMatrix, Units
from saelens_data.progress import Progress, Told, one_stage
from saelens_data.store import Shard, StoreWriter, is_store, open_store
from saelens_data.store.files import cache_folder, explained
from saelens_data.store.manifest import field_path, read_manifest
from saelens_data.wording import count

if TYPE_CHECKING:
    from saelens_data.readers.tokens import TokenReading

#: A shard closes at either of these; some twenty seconds of work is the most that a kill can lose.
SHARD_DOCS = 2_000
SHARD_CHARS = 2_000_000

#: What a cached store holds beside activations; a store of another kind has another name, so none is taken for it.
_CACHED = "vectors"

#: Texts, or conversations for an encoder that reads in context.
Documents = Sequence[str | None] | Sequence[Conversation]
#: What encoding raises for a document that it cannot encode.
_OF_A_DOCUMENT = (RuntimeError, ValueError, TypeError, IndexError, OverflowError)


def encode(
    source: Any,
    *,
    store: str | Path | None = None,
    encoder: str | Path | Encoder = DEFAULT_ENCODER,
    text: str | None = None,
    id: str | None = None,  # noqa: A002
    limit: int | None = None,
    field: str | None = None,
    fields: Sequence[str] = (),
    dtype: str = "auto",
    device: str | None = None,
    overwrite: bool = False,
    progress: Told = None,
    **parts: Unpack[Parts],
) -> ConceptMatrix:
    """Encode a corpus and open the result, a ConceptMatrix.

    `source` is anything that `read_corpus` takes, or its Corpus. `store` is the folder to write; without it the
    store lies in a cache, keyed by the content of the corpus and by the encoder. An unfinished store is completed.
    `field` names what is read of conversations: "response", "prompt", "system" or "all". Of several `fields` the first
    is the matrix that is returned, and the others, kept in the same store, are what its method `field` gives.
    Instead of an encoder a reader and an SAE may be given: `reader`, `layer`, `hook`, and `sae` (a path) or `release`
    and `sae_id`. `device` is where a token reader runs. `progress` is told (characters done, in all); None shows a line
    to whoever is watching, in a terminal or a notebook, and False shows nothing.

    Raises InputError, EncoderError or StoreError.
    """
    if given := {name: part for name, part in parts.items() if part is not None}:
        if encoder != DEFAULT_ENCODER:
            raise InputError(f"an encoder and {', '.join(given)} are both given: leave one out")
        encoder = str(Address.of(**parts))
    corpus = source if isinstance(source, Corpus) else read_corpus(source, text=text, id=id, limit=limit)
    corpus, *beside = _fields(corpus, field, fields)
    if store is None:
        store = cache_path(corpus, encoder, dtype, [other.field_name for other in beside])
        if is_store(store) and read_manifest(store).complete:
            return _labelled(store, encoder)
        with explained(store.parent):
            store.parent.mkdir(parents=True, exist_ok=True)
    tell = one_stage(f"encoding {count(corpus.docs.height, 'document')}", progress)
    loaded = encoder if isinstance(encoder, Encoder) else load_encoder(encoder, dtype=dtype, device=device)
    write_corpus(corpus, Path(store), loaded, beside=beside, overwrite=overwrite, progress=tell)
    return _labelled(Path(store), loaded)


def _labelled(store: Path, encoder: str | Path | Encoder) -> ConceptMatrix:
    inherit_labels(store, encoder)
    return open_store(store)


def _fields(corpus: Corpus, field: str | None, fields: Sequence[str]) -> list[Corpus]:
    """The corpus of each field asked for, or the corpus as it is. Raises InputError for a field it has not."""
    if field is not None and fields:
        raise InputError(f"field '{field}' and fields {', '.join(fields)} are both given: name all of them in fields")
    names = dict.fromkeys(fields if field is None else [field])
    return [corpus.field(name) for name in names] or [corpus]


def write_corpus(
    corpus: Corpus,
    store: Path,
    encoder: Encoder,
    *,
    beside: Sequence[Corpus] = (),
    overwrite: bool = False,
    progress: Progress | None = None,
) -> None:
    """Encode what `store` still lacks of a corpus, and of the same documents in other fields, kept `beside` it.

    Raises StoreError if the store holds another corpus or is in use.
    """
    # The columns of the documents are kept once, with the store's own field.
    others = [replace(other, docs=other.docs.select("doc_id", "text")) for other in beside]
    digests = {other.field_name: _digest(other, encoder) for other in others}
    counts = [int(_lengths(part, encoder).sum()) for part in (corpus, *others)]
    starts = [0, *accumulate(counts)]

    def told(part: int) -> Progress | None:
        return (lambda done, _: progress(starts[part] + done, starts[-1])) if progress else None

    with _writer(store, corpus, encoder, fields=digests, overwrite=overwrite) as writer:
        _write_missing(writer, corpus, encoder, told(0))
        for number, other in enumerate(others, start=1):
            with _writer(field_path(store, other.field_name), other, encoder) as further:
                _write_missing(further, other, encoder, told(number))
                further.finish()
        writer.finish()


def _writer(store: Path, corpus: Corpus, encoder: Encoder, **options: Any) -> StoreWriter:
    return StoreWriter(
        store,
        docs=corpus.docs,
        concepts=encoder.concepts,
        source=replace(encoder.source(), field=corpus.field_name),
        plan=plan_shards(_lengths(corpus, encoder)),
        digest=_digest(corpus, encoder),
        vector_dim=encoder.vector_dim,
        **options,
    )


def _lengths(corpus: Corpus, encoder: Encoder) -> np.ndarray:
    """Characters that the encoder reads for each document, [documents] int64."""
    if corpus.turns is not None and encoder.in_context:
        return corpus.turns.lengths
    return corpus.docs["text"].str.len_chars().fill_null(0).to_numpy().astype(np.int64)


def _write_missing(writer: StoreWriter, corpus: Corpus, encoder: Encoder, progress: Progress | None) -> None:
    lengths, missing, done, size = _lengths(corpus, encoder), set(writer.missing), 0, 0
    plan, total = plan_shards(lengths), int(lengths.sum())
    if progress:
        tell = progress
        # A shard takes a minute, and few documents are one shard: how far it has come is told, too.
        encoder = replace(encoder, tell=lambda read, units: tell(done + size * read // max(units, 1), total))
    todo = ((number, _documents(corpus, encoder, *plan[number])) for number in sorted(missing))
    shards = _encoded_ahead(encoder, todo) if encoder.in_context else _encoded_in_turn(encoder, todo)
    with ThreadPoolExecutor(max_workers=1) as pool:
        written: Future[None] | None = None
        for number, (start, end) in enumerate(plan):
            size = int(lengths[start:end].sum())
            if number in missing:
                finish = next(shards)
                if written:
                    written.result()
                written = pool.submit(_write, writer, number, finish)
                if not encoder.in_context:
                    written.result()
            done, size = done + size, 0
            if progress:
                progress(done, total)
        if written:
            written.result()


def _write(writer: StoreWriter, number: int, finish: Callable[[], Shard]) -> None:
    writer.write_shard(number, finish())


def _encoded_in_turn(encoder: Encoder, todo: Iterable[tuple[int, Documents]]) -> Iterator[Callable[[], Shard]]:
    for _, documents in todo:
        yield _made(encode_robustly(encoder, documents))


def _made(shard: Shard) -> Callable[[], Shard]:
    return lambda: shard


def _encoded_ahead(encoder: Encoder, todo: Iterable[tuple[int, Documents]]) -> Iterator[Callable[[], Shard]]:
    """The same for a reader of tokens: while it reads, the next documents are tokenised, and the last put together."""
    from saelens_data.readers.ahead import ahead  # noqa: PLC0415

    def prepared(item: tuple[int, Documents]) -> tuple[Documents, TokenReading | None]:
        try:
            return item[1], encoder.prepare(item[1])
        except _OF_A_DOCUMENT:
            return item[1], None  # one of them will say why

    for documents, reading in ahead(prepared, todo):
        try:
            finish = None if reading is None else encoder.encode_prepared(reading)
        except _OF_A_DOCUMENT:
            finish = None
        yield finish or _made(encode_robustly(encoder, documents))


def _documents(corpus: Corpus, encoder: Encoder, start: int, end: int) -> Documents:
    """Texts, or with their conversations where the encoder reads a turn after those before it."""
    if corpus.turns is not None and encoder.in_context:
        return corpus.conversations(start, end)
    texts: list[str | None] = corpus.docs["text"][start:end].to_list()
    return texts


def plan_shards(lengths: np.ndarray) -> list[tuple[int, int]]:
    """Cut documents into runs (start, end) of at most SHARD_DOCS documents and about SHARD_CHARS characters."""
    plan, start, size = [], 0, 0
    for i, length in enumerate(lengths.tolist()):
        if i > start and (i - start >= SHARD_DOCS or size + length > SHARD_CHARS):
            plan.append((start, i))
            start, size = i, 0
        size += length
    if start < len(lengths):
        plan.append((start, len(lengths)))
    return plan


def encode_robustly(encoder: Encoder, texts: Documents) -> Shard:
    """Encode documents; one that cannot be encoded becomes an empty row that says why, found by bisection."""
    try:
        return _encoded(encoder, texts)
    except _OF_A_DOCUMENT as error:
        if len(texts) > 1:
            middle = len(texts) // 2
            return join_shards([encode_robustly(encoder, texts[:middle]), encode_robustly(encoder, texts[middle:])])
        return _failed(f"{type(error).__name__}: {error}".splitlines()[0], encoder.vector_dim)


def _encoded(encoder: Encoder, documents: Documents) -> Shard:
    talks = [document for document in documents if isinstance(document, Conversation)]
    if talks:
        return encoder.encode_conversations(talks)
    return encoder.encode_texts([document for document in documents if not isinstance(document, Conversation)])


def _failed(reason: str, vector_dim: int | None) -> Shard:
    none, whole = np.empty(0, np.float32), np.empty(0, np.int32)
    units = Units(np.zeros(2, np.int64), whole, whole)
    vectors = None if vector_dim is None else np.zeros((1, vector_dim), np.float16)
    return Shard(np.zeros(2, np.int64), whole, none, none, whole, units, np.zeros(1, np.int64), [reason], vectors)


def join_shards(shards: Sequence[Shard]) -> Shard:
    """One shard of the documents of several, in order."""

    def stack(name: str) -> np.ndarray:
        return np.concatenate([getattr(shard, name) for shard in shards])

    def join(pointers: Iterator[np.ndarray]) -> np.ndarray:
        return np.concatenate([[0], np.cumsum(np.concatenate([np.diff(ptr) for ptr in pointers]))])

    units = Units(
        join(shard.units.ptr for shard in shards),
        np.concatenate([shard.units.start for shard in shards]),
        np.concatenate([shard.units.end for shard in shards]),
    )
    return Shard(
        join(shard.indptr for shard in shards),
        stack("latents"),
        stack("maxima"),
        stack("means"),
        stack("unit"),
        units,
        stack("n_tokens"),
        [error for shard in shards for error in shard.errors],
        None if shards[0].vectors is None else stack("vectors"),
    )


def _digest(corpus: Corpus, encoder: Encoder) -> str:
    """Stands for everything that the numbers of a store depend on."""
    kept = "" if encoder.vector_dim is None else f"\nvectors {encoder.vector_dim}"
    if corpus.turns is not None and encoder.in_context:
        kept += f"\nturns {corpus.turns.digest}"
    return hashlib.sha256(f"{corpus.digest}\n{encoder.identity}\n{encoder.reader.dtype}{kept}".encode()).hexdigest()


def cache_path(corpus: Corpus, encoder: str | Path | Encoder, dtype: str, beside: Sequence[str] = ()) -> Path:
    """The cached store of a corpus, with the fields `beside` it: its name holds all that the numbers depend on."""
    identity = encoder.identity if isinstance(encoder, Encoder) else encoder_identity(encoder)
    kind = "\n".join([_CACHED, *sorted(beside)])
    if corpus.turns is not None and not corpus.turns.are_columns:
        kind += f"\nturns {corpus.turns.digest}"
    key = hashlib.sha256(f"{corpus.digest}\n{identity}\n{dtype}\n{kind}".encode()).hexdigest()
    return cache_folder() / f"{key[:32]}.sae"
