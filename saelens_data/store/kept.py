"""derived/NAME/: what is worked out from a whole store with the help of more than the store, kept in a file each.

The index beside the file names the manifest, and as `key` whatever else the file was made from. Sizes and SHA-256 are
compared at every reading: another library reads some of these files, and a flipped bit could end the process.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar

import numpy as np

from saelens_data.matrix.by_latent import ByLatent
from saelens_data.store import derived
from saelens_data.store.arrays import index_bytes, map_array, replaced, sync, write_index
from saelens_data.store.by_latent import stored_by_latent
from saelens_data.store.files import locked
from saelens_data.store.manifest import Manifest

#: Files that may be kept, each in a folder of its own beside its index.
FILES = ("lengths.npy", "dense.faiss")
#: Changes when what an index says does.
LAYOUT = 1
#: Arrays are kept as this.
_FLOAT = np.dtype("<f4")

T = TypeVar("T")


def folder_of(name: str) -> str:
    """Folder of the kept file `name`, relative to the store: "derived/lengths" of "lengths.npy"."""
    return f"{derived.FOLDER}/{Path(name).stem}"


def index_of(name: str) -> str:
    """Name of the index beside the kept file `name`."""
    return f"{Path(name).stem}.json"


@dataclass(frozen=True)
class Kept:
    """What is kept beside the store `path` (absolute) while it has this manifest; a `matrix.Keeper`."""

    path: Path
    manifest: Manifest

    def by_latent(self) -> ByLatent | None:
        """The activations by latent; None where they cannot be written."""
        return stored_by_latent(self.path, self.manifest)

    def array(
        self, name: str, shape: tuple[int, ...], key: Mapping[str, str], build: Callable[[], np.ndarray]
    ) -> np.ndarray:
        """The float32 array `name` (*.npy) that `build` returned for this key, mapped, or new where nothing is kept."""
        values = cache(build)

        def write(file: Path) -> None:
            np.save(file, values().astype(_FLOAT, copy=False), allow_pickle=False)

        def read(file: Path) -> np.ndarray | None:
            array = map_array(file)
            return array if array.shape == shape and array.dtype == _FLOAT else None

        found = self.file(name, key, write, read)
        return values() if found is None else found

    def file(
        self, name: str, key: Mapping[str, str], write: Callable[[Path], None], read: Callable[[Path], T | None]
    ) -> T | None:
        """What `read` makes of `name`, one of FILES, which `write` wrote for this key; None where it cannot be kept.

        A file that is absent, damaged, of another key or that `read` has no use for (None, OSError or ValueError) is
        written again, by one process at a time; what `write` raises other than OSError goes on to the caller.
        """
        if (found := self._read(name, key, read)) is not None:
            return found
        try:
            with locked(self.path, wait=derived.WAIT_SECONDS):
                # Under the lock, as for the activations by latent: the folder may hold another store by now.
                if derived.load(self.path, self.manifest) and (found := self._read(name, key, read)) is None:
                    self._write(name, key, write)
        except OSError:  # a read-only folder, a full disk, a lock that stays held
            return None
        return self._read(name, key, read) if found is None else found

    def _read(self, name: str, key: Mapping[str, str], read: Callable[[Path], T | None]) -> T | None:
        folder = self.path / folder_of(name)
        try:
            if (folder / index_of(name)).read_bytes() != index_bytes(self.manifest, folder, [name], LAYOUT, key):
                return None
            return read(folder / name)
        except (OSError, ValueError):
            return None

    def _write(self, name: str, key: Mapping[str, str], write: Callable[[Path], None]) -> None:
        with replaced(self.path, folder_of(name)) as folder:
            write(folder / name)
            with (folder / name).open("r+b") as file:
                sync(file)
            write_index(folder, index_of(name), index_bytes(self.manifest, folder, [name], LAYOUT, key))


def names() -> set[str]:
    """All that may be there, relative to the store."""
    folders = {folder_of(name): name for name in FILES}
    return {*folders, *(f"{at}/{part}" for at, name in folders.items() for part in (name, index_of(name)))}


def damaged(path: Path, manifest: Manifest) -> list[Path]:
    """Folders that do not hold what their index says, or are of another manifest; what a file says is not computed."""
    there = [name for name in FILES if (path / folder_of(name)).exists()]
    return [path / folder_of(name) for name in there if not _sound(path, manifest, name)]


def _sound(path: Path, manifest: Manifest, name: str) -> bool:
    folder = path / folder_of(name)
    try:
        found = (folder / index_of(name)).read_bytes()
        return found == index_bytes(manifest, folder, [name], LAYOUT, json.loads(found)["key"])
    except (OSError, ValueError, KeyError, TypeError):
        return False
