"""Files that are whole or absent: atomic writing, the lock, what a failed write says to the user; and the cache."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO
from uuid import uuid4

from filelock import FileLock

from saelens_data.errors import StoreError

#: Prefix of files and folders that are not whole yet; whatever has it may be deleted once no writer runs.
TEMPORARY = ".tmp-"
#: Empty file that a writer holds locked; the operating system releases it when the process ends, however it ends.
LOCK = ".lock"

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_DENIED = {errno.EACCES, errno.EROFS, errno.EPERM}
_NO_PLACE = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL}


@contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that appears as `path`, replacing what is there, only if the block ends without an error.

    The bytes reach the disk before the name does, so that neither a kill nor a power cut leaves half a file.
    """
    temporary = path.with_name(f"{TEMPORARY}{path.name}.{uuid4().hex[:8]}")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def atomic_write_bytes(path: Path, data: bytes) -> None:
    """Write `data` as the file `path`: afterwards the old file or the new one is there, never a part of one."""
    with atomic_file(path) as file:
        file.write(data)


def sync_folder(folder: Path) -> None:
    """Bring the names in `folder` to the disk, where the system can."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems have no such call
            raise
    finally:
        os.close(descriptor)


@contextmanager
def locked(folder: Path, *, wait: float = 0) -> Iterator[None]:
    """Hold the folder's lock. Raises `filelock.Timeout`, an OSError, if another process has it for `wait` seconds."""
    with FileLock(folder / LOCK, timeout=wait, thread_local=False):
        yield


@contextmanager
def explained(path: Path, kept: Callable[[], str] = str) -> Iterator[None]:
    """Turn an OSError of the block into a StoreError of one sentence; `kept` says what is safe ("" for nothing)."""
    try:
        yield
    except OSError as error:
        reason, safe = error.strerror or str(error), kept()
        middle = f"; {safe}; " if safe else "; "
        if error.errno in _FULL:
            advice = "free some space and run the same command again"
            raise StoreError(f"{path}: the disk is full ({reason}){middle}{advice}") from error
        if error.errno in _DENIED:
            advice = "make the folder writable or choose another place"
            raise StoreError(f"{path} cannot be written ({reason}){middle}{advice}") from error
        advice = "choose another place" if error.errno in _NO_PLACE else "run the same command again"
        raise StoreError(f"{path} cannot be written ({reason}){middle}{advice}") from error


def cache_folder() -> Path:
    """Where what can be made again is kept: $SAELENS_DATA_CACHE, else the user's cache folder."""
    if chosen := os.environ.get("SAELENS_DATA_CACHE"):
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "saelens_data"
