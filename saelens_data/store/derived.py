"""derived/: arrays built once from the shards so that opening maps them into memory instead of reading.

Not part of what a store promises: it may be deleted at any time and is built again. `derived.json` names the
manifest that the arrays were built from, and the size and SHA-256 of each file.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import polars as pl
import pyarrow as pa

from saelens_data.errors import StoreError
from saelens_data.store import arrays as files_of
from saelens_data.store.files import locked
from saelens_data.store.manifest import CONCEPTS, DOCS, Manifest, read_part
from saelens_data.store.shard import Shard, decode_shard

FOLDER = "derived"
INDEX = "derived.json"
DOCS_ARROW = "docs.arrow"
#: Changes when the files below do; derived arrays of another layout are built anew.
LAYOUT = 1
#: How long opening waits for another process that is building the arrays before it builds its own in memory.
WAIT_SECONDS = 60.0

#: Columns of documents that come from the shards.
SHARD_COLUMNS = {"n_units": pl.Int32, "n_tokens": pl.Int32, "error": pl.String}


@dataclass(frozen=True)
class Derived:
    """The arrays by name, as `shapes` has them, and the table of documents."""

    arrays: dict[str, np.ndarray]
    docs: pl.DataFrame


def shapes(manifest: Manifest) -> files_of.Shapes:
    """Shape and dtype of each derived array. Rows are documents, columns the rows of concepts.parquet."""
    nnz, n_units, n_docs = manifest.total("activations"), manifest.total("units"), manifest.n_docs
    index = np.dtype("<i8" if nnz > np.iinfo(np.int32).max else "<i4")
    vectors = {} if manifest.vector_dim is None else {"vectors": ((n_docs, manifest.vector_dim), np.dtype("<f2"))}
    return {
        "indptr": ((n_docs + 1,), index),
        "indices": ((nnz,), index),
        "max": ((nnz,), np.dtype("<f4")),
        "mean": ((nnz,), np.dtype("<f4")),
        "unit": ((nnz,), np.dtype("<i4")),
        "unit_ptr": ((n_docs + 1,), np.dtype("<i8")),
        "unit_start": ((n_units,), np.dtype("<i4")),
        "unit_end": ((n_units,), np.dtype("<i4")),
        **vectors,
    }


def names(manifest: Manifest) -> list[str]:
    """The files that the index lists."""
    return [*(f"{name}.npy" for name in shapes(manifest)), DOCS_ARROW]


def pieces(path: Path, manifest: Manifest) -> Iterator[Derived]:
    """What each shard adds to the derived arrays, in order. Raises StoreError for a damaged part."""
    latents = read_concepts(path, manifest)["latent"].to_numpy()
    dtypes = {name: dtype for name, (_, dtype) in shapes(manifest).items()}
    nnz = n_units = 0
    for name, (start, stop) in zip(manifest.shard_names, manifest.plan, strict=True):
        shard = _read_shard(path, manifest, name, (start, stop))
        arrays = {
            "indptr": shard.indptr[:-1] + nnz,
            "indices": _positions(latents, shard.latents, path / name),
            "max": shard.maxima,
            "mean": shard.means,
            "unit": shard.unit,
            "unit_ptr": shard.units.ptr[:-1] + n_units,
            "unit_start": shard.units.start,
            "unit_end": shard.units.end,
        }
        if shard.vectors is not None:
            arrays["vectors"] = shard.vectors
        yield Derived({k: v.astype(dtypes[k], copy=False) for k, v in arrays.items()}, _doc_columns(shard))
        nnz, n_units = nnz + len(shard.latents), n_units + len(shard.units.start)
    last = {"indptr": np.array([nnz], dtypes["indptr"]), "unit_ptr": np.array([n_units], dtypes["unit_ptr"])}
    yield Derived(last, pl.DataFrame(schema=SHARD_COLUMNS))


def read_concepts(path: Path, manifest: Manifest) -> pl.DataFrame:
    """concepts.parquet. Raises StoreError if it is missing or damaged."""
    return pl.read_parquet(io.BytesIO(read_part(path, manifest, CONCEPTS)))


def docs_table(path: Path, manifest: Manifest, from_shards: list[pl.DataFrame]) -> pl.DataFrame:
    """docs.parquet and beside it the columns that the shards hold."""
    docs = pl.read_parquet(io.BytesIO(read_part(path, manifest, DOCS)))
    added = pl.concat(from_shards)
    if not docs.height == added.height == manifest.n_docs:
        raise StoreError(
            f"{path}: {docs.height} documents in {DOCS}, {added.height} in shards, {manifest.n_docs} planned"
        )
    return docs.hstack(added)


def derive(path: Path, manifest: Manifest) -> Derived:
    """The arrays mapped from derived/, built there first if need be, or in memory where it cannot be written."""
    if found := load(path, manifest):
        return found
    try:
        with locked(path, wait=WAIT_SECONDS):
            if not (found := load(path, manifest)):
                build(path, manifest)
    except OSError:  # a read-only folder, a full disk, a lock that stays held
        return in_memory(path, manifest)
    return found or load(path, manifest) or in_memory(path, manifest)


def load(path: Path, manifest: Manifest) -> Derived | None:
    """Map derived/ into memory; None if it is absent, incomplete or built from another manifest.

    Sizes, types and lengths are checked, the content is not read.
    """
    arrays = files_of.mapped(path / FOLDER, INDEX, manifest, shapes(manifest), LAYOUT)
    if arrays is None:
        return None
    try:
        docs = _map_arrow(path / FOLDER / DOCS_ARROW)
    except (OSError, ValueError, TypeError, AttributeError):
        return None
    return Derived(arrays, docs) if docs.height == manifest.n_docs else None


def in_memory(path: Path, manifest: Manifest) -> Derived:
    """The same arrays without touching the disk."""
    found = list(pieces(path, manifest))
    empty = {name: np.empty((0, *shape[1:]), dtype) for name, (shape, dtype) in shapes(manifest).items()}
    arrays = {
        name: np.concatenate([none, *(piece.arrays[name] for piece in found if name in piece.arrays)])
        for name, none in empty.items()
    }
    for array in arrays.values():
        array.flags.writeable = False
    return Derived(arrays, docs_table(path, manifest, [piece.docs for piece in found]))


def build(path: Path, manifest: Manifest) -> None:
    """Write derived/ in a temporary folder and rename it. The caller holds the lock. Raises OSError."""
    with files_of.replaced(path, FOLDER) as folder:
        from_shards = []
        with files_of.array_files(folder, shapes(manifest)) as files:
            for piece in pieces(path, manifest):
                for name, array in piece.arrays.items():
                    files[name].write(np.ascontiguousarray(array).data)
                from_shards.append(piece.docs)
        with (folder / DOCS_ARROW).open("wb") as file:
            _write_arrow(docs_table(path, manifest, from_shards), file)
            files_of.sync(file)
        index = files_of.index_bytes(manifest, folder, names(manifest), LAYOUT)
        files_of.write_index(folder, INDEX, index)


def _write_arrow(table: pl.DataFrame, file: IO[bytes]) -> None:
    """One batch in Polars' own memory layout, so that mapping it needs no conversion."""
    arrow = table.rechunk().to_arrow(compat_level=pl.CompatLevel.newest())
    with pa.ipc.new_file(file, arrow.schema) as writer:
        writer.write_table(arrow)


def _map_arrow(file: Path) -> pl.DataFrame:
    with pa.memory_map(str(file)) as mapped:
        table = pa.ipc.open_file(mapped).read_all()
    frame = pl.from_arrow(table, rechunk=False)
    assert isinstance(frame, pl.DataFrame)
    return frame


def _read_shard(path: Path, manifest: Manifest, name: str, rows: tuple[int, int]) -> Shard:
    try:
        first, shard = decode_shard(read_part(path, manifest, name))
    except (ValueError, KeyError) as error:  # pyarrow's errors are among them
        raise StoreError(f"{path / name} does not follow the format: {error}") from error
    n = rows[1] - rows[0]
    if len(shard.n_tokens) != n or (n and first != rows[0]) or shard.counts != _recorded(manifest, name):
        raise StoreError(f"{path / name} does not hold the documents that the manifest says")
    if shard.vector_dim != manifest.vector_dim:
        raise StoreError(
            f"{path / name} does not follow the format: {shard.vector_dim or 'no'} numbers in a document's vector, "
            f"the manifest says {manifest.vector_dim or 'none'}"
        )
    return shard


def _recorded(manifest: Manifest, name: str) -> dict[str, int]:
    return {key: value for key, value in manifest.parts[name].items() if key not in ("bytes", "sha256")}


def _positions(latents: np.ndarray, found: np.ndarray, shard: Path) -> np.ndarray:
    """Row in concepts.parquet of each latent."""
    position = np.searchsorted(latents, found)
    if len(found) and (position.max() >= len(latents) or (latents[position] != found).any()):
        raise StoreError(f"{shard} does not follow the format: a latent is not in {CONCEPTS}")
    return position


def _doc_columns(shard: Shard) -> pl.DataFrame:
    columns = {"n_units": np.diff(shard.units.ptr), "n_tokens": shard.n_tokens, "error": list(shard.errors)}
    return pl.DataFrame(columns, schema=SHARD_COLUMNS)
