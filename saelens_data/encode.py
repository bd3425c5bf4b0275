"""Corpus to store: read the text, encode it shard by shard, resume where an earlier run stopped."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from saelens_data.corpus import Corpus, read_corpus
from saelens_data.encoders import DEFAULT_ENCODER, Encoder, find_encoder, identity_of, load_encoder
from saelens_data.matrix import ConceptMatrix, Units
from saelens_data.store import Shard, StoreWriter, is_store, open_store
from saelens_data.store.files import explained
from saelens_data.store.manifest import read_manifest

#: A shard closes at either of these; some twenty seconds of work is the most that a kill can lose.
SHARD_DOCS = 2_000
SHARD_CHARS = 2_000_000

#: What a cached store holds beside activations; a store of another kind has another name, so none is taken for it.
_CACHED = "vectors"

#: Told (characters done, characters in all).
Progress = Callable[[int, int], None]


def encode(
    source: Any,
    *,
    store: str | Path | None = None,
    encoder: str | Path | Encoder = DEFAULT_ENCODER,
    text: str | None = None,
    id: str | None = None,  # noqa: A002
    limit: int | None = None,
    dtype: str = "auto",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ConceptMatrix:
    """Encode a corpus and open the result, a ConceptMatrix.

    `source` is anything that `read_corpus` takes, or its Corpus. `store` is the folder to write; without it the
    store lies in a cache, keyed by the content of the corpus and by the encoder. An unfinished store is completed.
    Raises InputError, EncoderError or StoreError.
    """
    corpus = source if isinstance(source, Corpus) else read_corpus(source, text=text, id=id, limit=limit)
    if store is None:
        store = cache_path(corpus, encoder, dtype)
        if is_store(store) and read_manifest(store).complete:
            return open_store(store)
        with explained(store.parent):
            store.parent.mkdir(parents=True, exist_ok=True)
    loaded = encoder if isinstance(encoder, Encoder) else load_encoder(encoder, dtype=dtype)
    write_corpus(corpus, Path(store), loaded, overwrite=overwrite, progress=progress)
    return open_store(store)


def write_corpus(
    corpus: Corpus, store: Path, encoder: Encoder, *, overwrite: bool = False, progress: Progress | None = None
) -> None:
    """Encode what `store` still lacks of a corpus. Raises StoreError if it holds another corpus or is in use."""
    texts = corpus.docs["text"]
    lengths = texts.str.len_chars().fill_null(0).to_numpy().astype(np.int64)
    plan = plan_shards(lengths)
    done, total = 0, int(lengths.sum())
    with StoreWriter(
        store,
        docs=corpus.docs,
        concepts=encoder.concepts,
        source=encoder.source(),
        plan=plan,
        digest=_digest(corpus, encoder),
        vector_dim=encoder.vector_dim,
        overwrite=overwrite,
    ) as writer:
        missing = set(writer.missing)
        for number, (start, end) in enumerate(plan):
            if number in missing:
                writer.write_shard(number, encode_robustly(encoder, texts[start:end].to_list()))
            done += int(lengths[start:end].sum())
            if progress:
                progress(done, total)
        writer.finish()


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


def encode_robustly(encoder: Encoder, texts: Sequence[str | None]) -> Shard:
    """Encode documents; one that cannot be encoded becomes an empty row that says why, found by bisection."""
    try:
        return encoder.encode_texts(texts)
    except (RuntimeError, ValueError, TypeError, IndexError, OverflowError) as error:
        if len(texts) > 1:
            middle = len(texts) // 2
            return join_shards([encode_robustly(encoder, texts[:middle]), encode_robustly(encoder, texts[middle:])])
        return _failed(f"{type(error).__name__}: {error}".splitlines()[0], encoder.vector_dim)


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
    return hashlib.sha256(f"{corpus.digest}\n{encoder.identity}\n{encoder.reader.dtype}{kept}".encode()).hexdigest()


def cache_folder() -> Path:
    """Where stores of plain files are kept: $SAELENS_DATA_CACHE, else the user's cache folder."""
    if chosen := os.environ.get("SAELENS_DATA_CACHE"):
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "saelens_data"


def cache_path(corpus: Corpus, encoder: str | Path | Encoder, dtype: str) -> Path:
    """The cached store of a corpus: its name holds everything that the numbers depend on."""
    identity = encoder.identity if isinstance(encoder, Encoder) else identity_of(find_encoder(encoder))
    key = hashlib.sha256(f"{corpus.digest}\n{identity}\n{dtype}\n{_CACHED}".encode()).hexdigest()
    return cache_folder() / f"{key[:32]}.sae"
