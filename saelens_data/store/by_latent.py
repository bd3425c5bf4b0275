"""derived/by_latent/: the activations by latent, built when they are first asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from saelens_data.matrix.by_latent import ByLatent, Columns
from saelens_data.store import derived
from saelens_data.store.arrays import Shapes, array_files, index_bytes, map_array, mapped, replaced, write_index
from saelens_data.store.files import locked
from saelens_data.store.manifest import Manifest

FOLDER = f"{derived.FOLDER}/by_latent"
INDEX = "by_latent.json"
#: Changes when the files do.
LAYOUT = 1

_PTR, _ROWS, _MAX, _MEAN = "column_ptr", "rows", "column_max", "column_mean"
#: Derived file of each value by document, and the file of the same by latent.
_VALUES = {"max": _MAX, "mean": _MEAN}


def shapes(manifest: Manifest) -> Shapes:
    """Shape and dtype of each array."""
    nnz = (manifest.total("activations"),)
    return {
        _PTR: ((manifest.n_latents + 1,), np.dtype("<i8")),
        _ROWS: (nnz, np.dtype("<i4")),
        _MAX: (nnz, np.dtype("<f4")),
        _MEAN: (nnz, np.dtype("<f4")),
    }


def names(manifest: Manifest) -> list[str]:
    """The files that the index lists."""
    return [f"{name}.npy" for name in shapes(manifest)]


def stored_by_latent(path: Path, manifest: Manifest) -> ByLatent | None:
    """The arrays mapped from disk, built there first if need be; None where they cannot be written."""
    if found := load(path, manifest):
        return found
    try:
        with locked(path, wait=derived.WAIT_SECONDS):
            # Under the lock: the folder may hold another store by now, whose derived arrays are not to be touched.
            if derived.load(path, manifest) and not (found := load(path, manifest)):
                build(path, manifest)
    except OSError:  # a read-only folder, a full disk, a lock that stays held
        return None
    return found or load(path, manifest)


def load(path: Path, manifest: Manifest) -> ByLatent | None:
    """Map the arrays; None if they are absent, incomplete or built from another manifest."""
    arrays = _mapped(path, manifest)
    try:
        return ByLatent(arrays[_PTR], arrays[_ROWS], arrays[_MAX], arrays[_MEAN]) if arrays else None
    except ValueError:
        return None


def _mapped(path: Path, manifest: Manifest) -> dict[str, np.ndarray] | None:
    return mapped(path / FOLDER, INDEX, manifest, shapes(manifest), LAYOUT)


def build(path: Path, manifest: Manifest) -> None:
    """Write the folder from the derived arrays by document. The caller holds the lock. Raises OSError."""
    columns = columns_of(path, manifest)
    with replaced(path, FOLDER) as folder:
        with array_files(folder, shapes(manifest)) as files:
            ptr = columns.pointers()
            files[_PTR].write(ptr.data)
            for piece in columns.pieces(ptr, tuple(_VALUES)):
                for name, array in piece.items():
                    files[_VALUES.get(name, name)].write(np.ascontiguousarray(array).data)
        write_index(folder, INDEX, index_bytes(manifest, folder, names(manifest), LAYOUT))


def columns_of(path: Path, manifest: Manifest) -> Columns:
    """Reads the derived arrays by document, each block from a map of its own, so that no page of it stays."""
    folder = path / derived.FOLDER

    def read(name: str, start: int, stop: int) -> np.ndarray:
        return np.array(map_array(folder / f"{name}.npy")[start:stop])

    return Columns(np.array(map_array(folder / "indptr.npy")), read, manifest.n_latents)


def wrong_values(path: Path, manifest: Manifest) -> list[str]:
    """Files that do not hold what the derived arrays by document say, which have been checked."""
    if not (found := _mapped(path, manifest)):
        return [INDEX]
    columns = columns_of(path, manifest)
    ptr, at = columns.pointers(), 0
    wrong = set() if np.array_equal(found[_PTR], ptr) else {_PTR}
    for piece in columns.pieces(ptr, tuple(_VALUES)):
        stop = at + len(piece[_ROWS])
        for name, array in piece.items():
            if not np.array_equal(found[_VALUES.get(name, name)][at:stop], array):
                wrong.add(_VALUES.get(name, name))
        at = stop
    return sorted(f"{name}.npy" for name in wrong)
