"""The store under kills, crashes, flipped bits, full disks, read-only folders and other processes."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from synthetic import random_matrix, write, writer

from saelens_data.errors import StoreError
from saelens_data.store import atomic_write_bytes, open_store, verify_store
from saelens_data.store.manifest import read_manifest, read_part

SCRIPT = Path(__file__).with_name("synthetic.py")
UNPRIVILEGED = 65534
KILLS = 20


def tree(path: Path) -> dict[str, str]:
    """SHA-256 of every file of a store, the lock apart."""
    files = (file for file in sorted(path.rglob("*")) if file.is_file() and file.name != ".lock")
    return {file.relative_to(path).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def child(*arguments: object, **options: Any) -> subprocess.Popen[str]:
    """Start the synthetic writer and return when it is about to write."""
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    pipe = subprocess.PIPE
    env = {**os.environ, "OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=env, **options)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    return process


def test_sigkill_at_any_moment_changes_nothing(tmp_path: Path) -> None:
    write(tmp_path / "whole.sae", random_matrix(3, 120, 20))
    expected = tree(tmp_path / "whole.sae")
    assert len(expected) == 40 + 3 + 11  # shards, manifest and tables, derived arrays
    dice, kills, path, progress = random.Random(1), 0, tmp_path / "killed.sae", set()
    while kills < KILLS or path.exists():
        with child(path, "write", dice.randrange(99)) as process:
            assert process.stdout is not None
            for _ in range(dice.randrange(24) if kills < KILLS else 1000):
                process.stdout.readline()
            if kills < KILLS:
                time.sleep(dice.uniform(0, 0.01))
            process.kill()
            ended = process.wait()
        if ended != 0:
            assert ended == -signal.SIGKILL
            kills += 1
            progress.add(done_so_far(path))
        else:
            assert tree(path) == expected
            assert verify_store(path) == []
            shutil.rmtree(path)
    assert kills >= KILLS
    assert len(progress) > 12  # the kills did fall into the writing


def done_so_far(path: Path) -> int:
    """Number of whole parts of a store after a kill; every part that the manifest names is whole."""
    if not (path / "manifest.json").exists():
        return -1
    manifest = read_manifest(path)
    assert all(read_part(path, manifest, name) for name in manifest.parts)
    return len(manifest.parts)


class Crash(BaseException):
    """Stands for the end of the process."""


class CrashingSystem:
    """From the k-th change of the disk on, every change raises Crash instead of happening."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = -1
        for owner, name in (
            (os, "fsync"),
            (Path, "replace"),
            (Path, "mkdir"),
            (Path, "unlink"),
            (shutil, "rmtree"),
        ):
            monkeypatch.setattr(owner, name, self.guarded(getattr(owner, name)))

    def guarded(self, function: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            if self.left == 0:
                raise Crash
            self.left -= 1
            return function(*args, **kwargs)

        return call


def test_a_crash_before_any_single_change_of_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    m, old = random_matrix(3, 6, 4), random_matrix(4, 9, 4)
    write(tmp_path / "whole.sae", m)
    expected = tree(tmp_path / "whole.sae")
    system = CrashingSystem(monkeypatch)
    for step in range(1000):
        path = tmp_path / f"{step}.sae"
        if step % 2:
            system.left = -1
            write(path, old, digest="old")  # half of them overwrite a store of other input
        system.left = step
        try:
            write(path, m, overwrite=bool(step % 2))
        except Crash:
            system.left = -1
            write(path, m, overwrite=bool(step % 2))
            assert tree(path) == expected
        else:
            break
        finally:
            system.left = -1
    assert step > 40
    assert verify_store(path) == []


def test_every_flipped_bit_is_found(tmp_path: Path) -> None:
    path, dice = tmp_path / "s.sae", random.Random(1)
    write(path, random_matrix(3, 9, 4))
    assert open_store(path).by_latent
    assert verify_store(path) == []
    for file in sorted(path.rglob("*")):
        if file.is_dir() or file.name == ".lock":
            continue
        whole = file.read_bytes()
        places = [0, len(whole) - 1, *(dice.randrange(len(whole)) for _ in range(6))]
        for place in places:
            damaged = bytearray(whole)
            damaged[place] ^= 1 << dice.randrange(8)
            file.write_bytes(damaged)
            problems = verify_store(path)
            assert problems, f"{file.name}, byte {place}"
            assert all("\n" not in problem for problem in problems)
        file.write_bytes(whole)
    assert verify_store(path) == []


def test_every_bit_of_the_manifest_counts(tmp_path: Path) -> None:
    path = tmp_path / "s.sae"
    write(path, random_matrix(3, 2, 1))
    whole = (path / "manifest.json").read_bytes()
    for bit in range(0, 8 * len(whole), 5):  # 5 and 8 have no common factor: every bit position comes up
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        (path / "manifest.json").write_bytes(damaged)
        assert verify_store(path), f"bit {bit}"


def test_missing_and_unknown_files_are_reported(tmp_path: Path) -> None:
    whole, path = tmp_path / "whole.sae", tmp_path / "s.sae"
    write(whole, random_matrix(3, 9, 4))
    assert open_store(whole).by_latent
    assert len(tree(whole)) == 3 + 3 + 11 + 5
    for name in tree(whole):
        shutil.copytree(whole, path)
        (path / name).unlink()
        if name == "manifest.json":
            with pytest.raises(StoreError, match="not a store, because it has no manifest"):
                verify_store(path)
        else:
            assert any(name in problem for problem in verify_store(path)), name
        shutil.rmtree(path)
    for name in (
        "notes.txt",
        "shards/00099.parquet",
        "derived/extra.npy",
        "derived/by_latent/x",
        ".tmp-docs.parquet.77",
    ):
        (whole / name).write_text("x")
        assert verify_store(whole) == [f"{whole / name} is not part of the store: delete it"]
        (whole / name).unlink()
    shutil.rmtree(whole / "derived")
    assert verify_store(whole) == []


def test_a_full_disk_keeps_what_is_done(tmp_path: Path) -> None:
    m, path = random_matrix(3, 120, 20), tmp_path / "s.sae"
    write(tmp_path / "whole.sae", m)
    (tmp_path / "parent").mkdir()

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))

    with child(path, "write", 1, preexec_fn=limit) as process:
        _, errors = process.communicate()
    last = errors.strip().splitlines()[-1]
    manifest = read_manifest(path)
    assert 0 < len(manifest.missing) < 40
    assert last == (
        f"saelens_data.errors.StoreError: {path}: the disk is full (File too large); {manifest.progress} are kept; "
        "free some space and run the same command again"
    )
    assert not list(path.rglob(".tmp-*"))
    write(path, m)
    assert tree(path) == tree(tmp_path / "whole.sae")


@pytest.mark.parametrize("step", [0, 3, 9, 17, 21])
def test_no_space_at_any_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    m, path = random_matrix(3, 6, 4), tmp_path / "s.sae"
    calls, real = [], os.fsync

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) > step:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StoreError, match=r"the disk is full .*run the same command again"):
            write(path, m)
    assert not list(path.rglob(".tmp-*"))
    write(path, m)
    assert verify_store(path) == []


def test_opening_without_space_for_derived_arrays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    m, path = random_matrix(3, 6, 4), tmp_path / "s.sae"
    write(path, m)
    shutil.rmtree(path / "derived")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    found = open_store(path)
    assert found.docs.equals(m.docs)
    assert (found.X != m.X).nnz == 0
    assert not found.X.data.flags.writeable
    assert not (path / "derived").exists()


READ_ONLY = """
import os, sys
import saelens_data.errors, saelens_data.store as store, synthetic
os.chdir(sys.argv[1])
if os.geteuid() == 0:
    os.setegid({user})
    os.seteuid({user})
m = synthetic.random_matrix(3, 6, 4)
found = store.open_store("s.sae")
print(found.docs.equals(m.docs), (found.X != m.X).nnz)
for name, digest in (("s.sae", "digest"), ("half.sae", "digest"), ("new.sae", "digest")):
    try:
        synthetic.write(store.manifest.Path(name), m, digest=digest)
    except saelens_data.errors.StoreError as error:
        print(error)
"""


def test_a_read_only_folder(tmp_path: Path) -> None:
    m, folder = random_matrix(3, 6, 4), tmp_path / "folder"
    write(folder / "s.sae", m)
    shutil.rmtree(folder / "s.sae" / "derived")
    with writer(folder / "half.sae", m):
        pass
    for place in (folder, folder / "s.sae", folder / "half.sae"):
        place.chmod(0o555)
    script = READ_ONLY.format(user=UNPRIVILEGED)
    try:
        done = subprocess.run(
            [sys.executable, "-c", script, str(folder)],
            env={**os.environ, "PYTHONPATH": str(SCRIPT.parent)},
            capture_output=True,
            text=True,
            check=True,
        )
    finally:
        for place in (folder, folder / "s.sae", folder / "half.sae"):
            place.chmod(0o755)
    advice = "make the folder writable or choose another place"
    assert done.stdout.splitlines() == [
        "True 0",
        f"s.sae cannot be written (Permission denied); 2 of 2 shards are kept; {advice}",
        f"half.sae cannot be written (Permission denied); 0 of 2 shards are kept; {advice}",
        f"new.sae cannot be written (Permission denied); {advice}",
    ]


def test_two_processes(tmp_path: Path) -> None:
    path, m = tmp_path / "s.sae", random_matrix(3, 120, 20)
    with child(path, "hold") as process:
        assert process.stdout is not None
        assert "held\n" in process.stdout
        with pytest.raises(StoreError, match=r"s\.sae is being written by another process: wait"):
            write(path, m)
        process.kill()  # the lock goes with the process
    write(path, m)
    assert verify_store(path) == []


def test_atomic_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "f"
    atomic_write_bytes(file, b"old")
    assert file.stat().st_mode & 0o777 == 0o666 & ~_umask()

    def broken(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="Input/output"):
        atomic_write_bytes(file, b"new")
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
