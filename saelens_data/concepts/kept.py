"""Arrays that take seconds to make and are the same in every run, kept in the cache folder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress

import numpy as np

from saelens_data.store.files import atomic_file, cache_folder


def kept(name: str, parts: tuple[object, ...], n: int, make: Callable[[], np.ndarray]) -> np.ndarray:
    """What `make` gives, `n` rows of numbers, read from the cache where it was made before of the same `parts`.

    What cannot be read there, or is of another kind, is made anew; where nothing can be written, nothing is kept.
    """
    said = "\0".join(part.hex() if isinstance(part, bytes) else str(part) for part in parts)
    key = hashlib.sha256(said.encode("utf-8", "surrogatepass")).hexdigest()
    path = cache_folder() / f"{name}-{key[:32]}.npy"
    with suppress(OSError, ValueError, EOFError, TypeError):
        found: np.ndarray = np.load(path, allow_pickle=False)
        if len(found) == n and found.dtype.kind == "f":
            return found
    made = make()
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as file:
            np.save(file, made, allow_pickle=False)
    return made
