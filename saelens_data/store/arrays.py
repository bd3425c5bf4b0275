"""Folders of arrays that are made from a store, mapped into memory, and may be deleted at any time.

The index of such a folder names the manifest that its files were made from, and the size and SHA-256 of each.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from hashlib import file_digest
from pathlib import Path
from typing import IO, Any

import numpy as np

from saelens_data.store.files import TEMPORARY, sync_folder
from saelens_data.store.manifest import Manifest

#: Shape and dtype of arrays by name.
Shapes = Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]]


@contextmanager
def replaced(path: Path, name: str) -> Iterator[Path]:
    """A folder to fill, which takes the place of the folder `name` of the store when the block ends without error.

    The caller holds the store's lock.
    """
    flat = name.replace("/", "-")
    temporary, old, final = path / f"{TEMPORARY}{flat}", path / f"{TEMPORARY}{flat}-old", path / name
    remove(temporary)
    remove(old)
    try:
        temporary.mkdir()
        yield temporary
        sync_folder(temporary)
        if final.exists():
            final.replace(old)
        temporary.replace(final)
    except BaseException:
        with suppress(OSError):
            remove(temporary)
        raise
    remove(old)
    sync_folder(final.parent)


@contextmanager
def array_files(folder: Path, shapes: Shapes) -> Iterator[Mapping[str, IO[bytes]]]:
    """A new .npy file for each array, open behind its header, and brought to the disk at the end.

    For plain writes: on a full disk a writable map kills the process, a write raises OSError.
    """
    with ExitStack() as stack:
        files = {name: stack.enter_context((folder / f"{name}.npy").open("wb")) for name in shapes}
        for name, (shape, dtype) in shapes.items():
            header = {"descr": dtype.str, "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(files[name], header)
        yield files
        for file in files.values():
            sync(file)


def write_index(folder: Path, index: str, data: bytes) -> None:
    """Write the index, last of all."""
    with (folder / index).open("wb") as file:
        file.write(data)
        sync(file)


def index_bytes(
    manifest: Manifest, folder: Path, names: Iterable[str], layout: int, key: Mapping[str, str] | None = None
) -> bytes:
    """The index of the files `names` of `folder`, made from this manifest and from what else `key` names."""
    files = {}
    for name in names:
        with (folder / name).open("rb") as file:
            entry = {"bytes": os.fstat(file.fileno()).st_size, "sha256": file_digest(file, "sha256").hexdigest()}
        files[name] = entry
    also = {} if key is None else {"key": dict(key)}
    content = {"layout": layout, "manifest": manifest.checksum, **also, "files": files}
    return json.dumps(content, indent=1).encode() + b"\n"


def mapped(folder: Path, index: str, manifest: Manifest, shapes: Shapes, layout: int) -> dict[str, np.ndarray] | None:
    """The arrays of a folder, mapped; None if they are absent, incomplete or made from another manifest.

    Sizes, types and shapes are checked, the content is not read.
    """
    try:
        found = json.loads((folder / index).read_bytes())
        if found["manifest"] != manifest.checksum or found["layout"] != layout:
            return None
        if any((folder / name).stat().st_size != entry["bytes"] for name, entry in found["files"].items()):
            return None
        arrays = {name: map_array(folder / f"{name}.npy") for name in shapes}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    right = all(arrays[name].shape == shape and arrays[name].dtype == dtype for name, (shape, dtype) in shapes.items())
    return arrays if right else None


def map_array(file: Path) -> np.ndarray:
    """A plain array over the mapped file: the memmap class costs time at every slice."""
    return np.asarray(np.lib.format.open_memmap(file, mode="r"))


def sync(file: IO[bytes]) -> None:
    """Bring what was written to the disk."""
    file.flush()
    os.fsync(file.fileno())


def remove(path: Path) -> None:
    """Remove a file or a folder if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
