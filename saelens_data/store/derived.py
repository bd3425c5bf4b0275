"""derived/: arrays built once from the shards so that opening maps them into memory instead of reading.

Not part of what a store promises: it may be deleted at any time and is built again. `derived.json` names the
manifest that the arrays were built from, and the size and SHA-256 of each file.
"""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from saelens_data.errors import StoreError
from saelens_data.store.files import TEMPORARY, locked, sync_folder
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
_UNFINISHED = TEMPORARY + FOLDER
_REPLACED = TEMPORARY + FOLDER + "-old"


@dataclass(frozen=True)
class Derived:
    """The arrays by name, as `shapes` has them, and the table of documents."""

    arrays: dict[str, np.ndarray]
    docs: pl.DataFrame


def shapes(manifest: Manifest) -> dict[str, tuple[int, np.dtype[Any]]]:
    """Length and dtype of each derived array. Rows are documents, columns the rows of concepts.parquet."""
    nnz, n_units, n_docs = manifest.total("activations"), manifest.total("units"), manifest.n_docs
    index = np.dtype("<i8" if nnz > np.iinfo(np.int32).max else "<i4")
    return {
        "indptr": (n_docs + 1, index),
        "indices": (nnz, index),
        "max": (nnz, np.dtype("<f4")),
        "mean": (nnz, np.dtype("<f4")),
        "unit": (nnz, np.dtype("<i4")),
        "unit_ptr": (n_docs + 1, np.dtype("<i8")),
        "unit_start": (n_units, np.dtype("<i4")),
        "unit_end": (n_units, np.dtype("<i4")),
    }


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
        yield Derived({k: v.astype(dtypes[k], copy=False) for k, v in arrays.items()}, _doc_columns(shard))
        nnz, n_units = nnz + len(shard.latents), n_units + len(shard.units.start)
    ends = {"indptr": nnz, "unit_ptr": n_units}
    last = {name: np.array([ends[name]] if name in ends else [], dtype) for name, dtype in dtypes.items()}
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
    folder = path / FOLDER
    try:
        index = json.loads((folder / INDEX).read_bytes())
        if index["manifest"] != manifest.checksum or index["layout"] != LAYOUT:
            return None
        if any((folder / name).stat().st_size != entry["bytes"] for name, entry in index["files"].items()):
            return None
        arrays = {name: _map_array(folder / f"{name}.npy") for name in shapes(manifest)}
        docs = _map_arrow(folder / DOCS_ARROW)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    right = all(arrays[name].shape == (n,) and arrays[name].dtype == d for name, (n, d) in shapes(manifest).items())
    return Derived(arrays, docs) if right and docs.height == manifest.n_docs else None


def in_memory(path: Path, manifest: Manifest) -> Derived:
    """The same arrays without touching the disk."""
    found = list(pieces(path, manifest))
    arrays = {name: np.concatenate([piece.arrays[name] for piece in found]) for name in shapes(manifest)}
    for array in arrays.values():
        array.flags.writeable = False
    return Derived(arrays, docs_table(path, manifest, [piece.docs for piece in found]))


def build(path: Path, manifest: Manifest) -> None:
    """Write derived/ in a temporary folder and rename it. The caller holds the lock. Raises OSError."""
    temporary, final, old = path / _UNFINISHED, path / FOLDER, path / _REPLACED
    remove(temporary)
    remove(old)
    try:
        temporary.mkdir()
        _write_files(path, manifest, temporary)
        if final.exists():
            final.replace(old)
        temporary.replace(final)
    except BaseException:
        with suppress(OSError):
            remove(temporary)
        raise
    remove(old)
    sync_folder(path)


def index_bytes(manifest: Manifest, folder: Path) -> bytes:
    """derived.json for the files in `folder`."""
    names = [*(f"{name}.npy" for name in shapes(manifest)), DOCS_ARROW]
    files = {}
    for name in names:
        with (folder / name).open("rb") as file:
            entry = {"bytes": os.fstat(file.fileno()).st_size, "sha256": file_digest(file, "sha256").hexdigest()}
        files[name] = entry
    return json.dumps({"layout": LAYOUT, "manifest": manifest.checksum, "files": files}, indent=1).encode() + b"\n"


def _write_files(path: Path, manifest: Manifest, folder: Path) -> None:
    from_shards = []
    with ExitStack() as stack:
        files = {name: stack.enter_context((folder / f"{name}.npy").open("wb")) for name in shapes(manifest)}
        for name, (length, dtype) in shapes(manifest).items():
            header = {"descr": dtype.str, "fortran_order": False, "shape": (length,)}
            np.lib.format.write_array_header_1_0(files[name], header)
        # Plain writes, not a writable map: on a full disk a map kills the process, a write raises OSError.
        for piece in pieces(path, manifest):
            for name, array in piece.arrays.items():
                files[name].write(array.data)
            from_shards.append(piece.docs)
        for file in files.values():
            _sync(file)
    with (folder / DOCS_ARROW).open("wb") as file:
        _write_arrow(docs_table(path, manifest, from_shards), file)
        _sync(file)
    with (folder / INDEX).open("wb") as file:
        file.write(index_bytes(manifest, folder))
        _sync(file)
    sync_folder(folder)


def _sync(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())


def _write_arrow(table: pl.DataFrame, file: Any) -> None:
    """One batch in Polars' own memory layout, so that mapping it needs no conversion."""
    arrow = table.rechunk().to_arrow(compat_level=pl.CompatLevel.newest())
    with pa.ipc.new_file(file, arrow.schema) as writer:
        writer.write_table(arrow)


def _map_array(file: Path) -> np.ndarray:
    """A plain array over the mapped file: the memmap class costs time at every slice."""
    return np.asarray(np.lib.format.open_memmap(file, mode="r"))


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


def remove(path: Path) -> None:
    """Remove a file or a folder if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
