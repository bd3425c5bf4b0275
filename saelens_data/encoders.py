"""Encoders: reader + SAE + pooling, found by name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from scipy.sparse import csr_array

from saelens_data.errors import EncoderError, choices
from saelens_data.matrix import CONCEPT_SCHEMA, Source
from saelens_data.store import Shard

if TYPE_CHECKING:
    import torch

    from saelens_data.readers.base import Reader, Reading
    from saelens_data.sae.model import SAE

#: The encoder that ships with the package.
DEFAULT_ENCODER = "minilm-8k"
ENCODER_FILE, CONCEPTS_FILE, EXAMPLES_FILE, METRICS_FILE = (
    "encoder.json",
    "concepts.parquet",
    "examples.parquet",
    "metrics.json",
)
CONFIG_FILE, WEIGHTS_FILE = "cfg.json", "sae_weights.safetensors"
_ASSETS = Path(__file__).parent / "assets"
#: Vectors gathered before the SAE sees them: few enough to stay in the cache, enough for one good product.
_GATHER_UNITS = 512


@dataclass(frozen=True, eq=False)
class Encoder:
    """Texts in, pooled concept activations out."""

    name: str
    reader: Reader
    sae: SAE
    #: One row a latent, see CONCEPT_SCHEMA.
    concepts: pl.DataFrame
    sae_sha256: str
    #: Changes with anything that changes the numbers, as `identity_of`.
    identity: str = ""

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
        )

    def encode_texts(self, texts: Sequence[str | None]) -> Shard:
        """Pooled activations of documents; null counts as empty. Raises ValueError if one is not finite."""
        reading = self.reader.split([text or "" for text in texts])
        rows, latents, values = [], [], []
        vectors = _Vectors(reading, self.reader.embedding) if self.reader.embedding else None
        for units, x in self._gathered(reading):
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

    def _gathered(self, reading: Reading) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
        import torch  # noqa: PLC0415

        units: list[np.ndarray] = []
        vectors: list[torch.Tensor] = []
        waiting = 0
        for batch, x in self.reader.read(reading):
            units.append(batch)
            vectors.append(x)
            waiting += len(batch)
            if waiting >= _GATHER_UNITS:
                yield np.concatenate(units), torch.cat(vectors)
                units, vectors, waiting = [], [], 0
        if units:
            yield np.concatenate(units), torch.cat(vectors)


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


def load_encoder(name: str | Path = DEFAULT_ENCODER, *, dtype: str = "auto") -> Encoder:
    """Load an encoder by the name of a bundled one or the path of a folder that `train` wrote.

    Raises EncoderError, listing what there is, for an unknown name or a folder that is not an encoder.
    """
    from saelens_data.readers.spans import Part, SpanReader  # noqa: PLC0415
    from saelens_data.sae.checkpoints import load_saelens  # noqa: PLC0415

    folder = find_encoder(name)
    spec = read_spec(folder)
    reader_spec = spec["reader"]
    reader = SpanReader(
        reader_spec["name"],
        [Part(part["name"], part["scale"]) for part in reader_spec["parts"]],
        dtype=dtype,
        max_tokens=reader_spec["max_tokens"],
    )
    if reader.sha256 != reader_spec["sha256"]:
        raise EncoderError(
            f"encoder {spec['name']} was trained on other weights of {reader.name} (sha256 "
            f"{reader_spec['sha256'][:12]}…, found {reader.sha256[:12]}…): install those, or train an encoder on these"
        )
    sae = load_saelens(folder).to(reader.dtype)
    return Encoder(
        spec["name"],
        reader,
        sae,
        read_concepts(folder, sae.d_sae),
        sha256_of_file(folder / WEIGHTS_FILE),
        identity_of(folder),
    )


def decoder_directions(source: Source) -> np.ndarray | None:
    """What each latent writes, [d_sae, d_in] float32 rows of length 1; None if the very encoder is not at hand."""
    from safetensors import SafetensorError  # noqa: PLC0415

    try:
        return _directions(source.encoder, source.sae_sha256)
    except (EncoderError, OSError, KeyError, SafetensorError):
        return None


@lru_cache(maxsize=2)
def _directions(encoder: str, sae_sha256: str) -> np.ndarray:
    from safetensors.numpy import load_file  # noqa: PLC0415

    weights = find_encoder(encoder) / WEIGHTS_FILE
    if sha256_of_file(weights) != sae_sha256:
        raise EncoderError(f"encoder '{encoder}' has other weights by now: encode the documents again")
    directions = load_file(weights)["W_dec"].astype(np.float32)
    return np.asarray(directions / np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), 1e-12))


def identity_of(folder: Path) -> str:
    """A hash that changes with anything in an encoder's folder that changes what it gives: numbers or labels."""
    files = (ENCODER_FILE, CONFIG_FILE, WEIGHTS_FILE, CONCEPTS_FILE)
    return hashlib.sha256("".join(sha256_of_file(folder / name) for name in files).encode()).hexdigest()


def sha256_of_file(path: Path) -> str:
    """SHA-256 of a file, hex; of nothing if there is no such file."""
    digest = hashlib.sha256()
    if path.is_file():
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def find_encoder(name: str | Path) -> Path:
    """The folder of an encoder. Raises EncoderError for a name that is neither bundled nor a folder."""
    for folder in (_ASSETS / str(name), Path(name)):
        if (folder / ENCODER_FILE).is_file():
            return folder
    raise EncoderError(
        f"no encoder '{name}': give a bundled name ({choices(str(name), bundled_encoders())}) or a folder that "
        "`saelens-data train` wrote"
    )


def bundled_encoders() -> list[str]:
    """Names of the encoders that ship with the package."""
    return sorted(path.parent.name for path in _ASSETS.glob(f"*/{ENCODER_FILE}"))


def read_spec(folder: Path) -> Mapping[str, Any]:
    """Read `encoder.json`. Raises EncoderError if it is not one of ours."""
    try:
        spec = json.loads((folder / ENCODER_FILE).read_text(encoding="utf-8"))
        if spec["format"] != 1 or spec["reader"]["kind"] != "spans":
            raise EncoderError(f"the encoder in {folder} was made by a newer version: upgrade saelens_data")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EncoderError(
            f"{folder / ENCODER_FILE} is not an encoder's description ({error}): train it again"
        ) from error
    found: Mapping[str, Any] = spec
    return found


def read_concepts(folder: Path, d_sae: int) -> pl.DataFrame:
    """The concept table of an encoder folder, or an unlabelled one."""
    path = folder / CONCEPTS_FILE
    if not path.is_file():
        latents = pl.DataFrame({"latent": np.arange(d_sae, dtype=np.int32)})
        return latents.with_columns(
            pl.lit(None, dtype).alias(c) for c, dtype in CONCEPT_SCHEMA.items() if c != "latent"
        )
    try:
        concepts = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise EncoderError(
            f"{path} is damaged ({str(error).splitlines()[0]}): copy or train the encoder again"
        ) from error
    if concepts.height != d_sae:
        raise EncoderError(f"{path} describes {concepts.height} concepts, the SAE has {d_sae}: the folder is damaged")
    return concepts
