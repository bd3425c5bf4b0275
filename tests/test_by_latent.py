"""What a store keeps in derived/: the activations by latent, against SciPy, and other files; built there under faults."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import random_matrix, write
from test_store_faults import SCRIPT, Crash, CrashingSystem, tree

from saelens_data.matrix import ConceptMatrix, by_latent
from saelens_data.matrix.by_latent import ByLatent, Columns
from saelens_data.store import by_latent as stored
from saelens_data.store import kept, open_store, verify_store
from saelens_data.store.arrays import index_bytes
from saelens_data.store.manifest import read_manifest

FILES = {"by_latent.json", "column_ptr.npy", "rows.npy", "column_max.npy", "column_mean.npy"}


def assert_by_latent(found: ByLatent, m: ConceptMatrix) -> None:
    expected = m.X.tocsc()
    np.testing.assert_array_equal(found.ptr, expected.indptr)
    np.testing.assert_array_equal(found.rows, expected.indices)
    np.testing.assert_array_equal(found.maximum, expected.data)
    assert (found.ptr.dtype, found.rows.dtype, found.maximum.dtype) == (np.int64, np.int32, np.float32)
    if m.evidence is None:
        assert found.mean is None
    else:
        expected = m.X.copy()
        expected.data = m.evidence.mean.copy()
        np.testing.assert_array_equal(found.mean, expected.tocsc().data)
        assert found.mean is not None
        assert found.mean.dtype == np.float32
    assert not any(a.flags.writeable for a in (found.ptr, found.rows, found.maximum, found.mean) if a is not None)


def is_mapped(found: ByLatent) -> bool:
    def owner(array: Any) -> Any:
        while isinstance(array.base, np.ndarray) and not isinstance(array, np.memmap):
            array = array.base
        return array

    return all(isinstance(owner(a), np.memmap) for a in (found.ptr, found.rows, found.maximum, found.mean))


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 9), st.integers(0, 7), st.integers(1, 12), st.integers(1, 12))
def test_some_columns_at_a_time_give_what_scipy_gives(seed: int, n: int, d: int, entries: int, block: int) -> None:
    m = random_matrix(seed, n, d)
    assert_by_latent(m.by_latent, m)
    arrays = {"indices": m.X.indices, "max": m.X.data, "mean": m.evidence.mean}
    columns = Columns(m.X.indptr, lambda name, start, stop: arrays[name][start:stop], d, entries)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(by_latent, "_BLOCK", block)
        assert_by_latent(by_latent.in_memory(columns, ("max", "mean")), m)
        ptr = columns.pointers()
        sizes = [len(piece["rows"]) for piece in columns.pieces(ptr, ("max",))]
    assert sum(sizes) == m.X.nnz
    assert all(size <= max(entries, np.diff(ptr).max(initial=0)) for size in sizes)


def test_of_matrices_that_are_no_store() -> None:
    m = random_matrix(1, 9, 6)
    for part in (m.filter_docs("model = 'A'"), m.filter_concepts("latent > 2"), ConceptMatrix.concat([m])):
        assert_by_latent(part.by_latent, part)
    assert_by_latent(m.pooled("mean").by_latent, m.pooled("mean"))
    bare = replace(m, evidence=None)
    assert_by_latent(bare.by_latent, bare)
    assert m.by_latent is m.by_latent


def test_parts_of_other_lengths_are_refused() -> None:
    ptr, rows, values = np.array([0, 2]), np.zeros(2, np.int32), np.ones(2, np.float32)
    with pytest.raises(ValueError, match="1 rows, 2 expected by ptr"):
        ByLatent(ptr, rows[:1], values, None)
    with pytest.raises(ValueError, match="1 mean, 2 expected by ptr"):
        ByLatent(ptr, rows, values, values[:1])


def test_a_store_builds_it_when_asked_and_maps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    m, path = random_matrix(3, 20, 6), tmp_path / "s.sae"
    write(path, m)
    found = open_store(path)
    assert not (path / "derived" / "by_latent").exists()
    assert_by_latent(found.by_latent, m)
    assert is_mapped(found.by_latent)
    assert {file.name for file in (path / "derived" / "by_latent").iterdir()} == FILES
    assert verify_store(path) == []
    before = tree(path)
    monkeypatch.setattr(stored, "build", lambda *_: pytest.fail("built twice"))
    labels = pl.DataFrame({"latent": [1], "label": ["one"]})
    same = (open_store(path), found.with_labels(labels), found.with_docs(found.docs[["doc_id"]]))
    assert all(is_mapped(other.by_latent) for other in same)
    for other in (found.filter_docs("true"), found.filter_concepts("true"), found.pooled("mean"), replace(found)):
        assert not is_mapped(other.by_latent)
        assert_by_latent(other.by_latent, other)
    monkeypatch.chdir(tmp_path)
    relative = open_store("s.sae")
    monkeypatch.chdir("/")
    assert is_mapped(relative.by_latent)
    assert tree(path) == before


def test_damaged_and_outdated_arrays_are_built_again(tmp_path: Path) -> None:
    m, path = random_matrix(3, 20, 6), tmp_path / "s.sae"
    write(path, m)
    assert is_mapped(open_store(path).by_latent)
    before = tree(path)
    folder = path / "derived" / "by_latent"
    for name in sorted(FILES):
        (folder / name).write_bytes(b"short")
        assert any("by_latent is damaged" in problem for problem in verify_store(path))
        assert_by_latent(open_store(path).by_latent, m)
        assert tree(path) == before
    shutil.rmtree(folder)
    write(tmp_path / "other.sae", random_matrix(4, 20, 6))
    assert open_store(tmp_path / "other.sae").by_latent
    shutil.copytree(tmp_path / "other.sae" / "derived" / "by_latent", folder)
    assert any("by_latent is damaged or of another state" in problem for problem in verify_store(path))
    assert_by_latent(open_store(path).by_latent, m)
    assert tree(path) == before


@pytest.mark.parametrize("name", sorted(FILES - {"by_latent.json"}))
def test_verify_compares_values(tmp_path: Path, name: str) -> None:
    path = tmp_path / "s.sae"
    write(path, random_matrix(3, 20, 6))
    assert open_store(path).by_latent
    manifest, folder = read_manifest(path), path / "derived" / "by_latent"
    with (folder / name).open("r+b") as file:
        file.seek(-4, os.SEEK_END)
        file.write(b"\1\0\0\0")
    (folder / "by_latent.json").write_bytes(index_bytes(manifest, folder, stored.names(manifest), stored.LAYOUT))
    (problem,) = verify_store(path)
    assert problem == f"{folder / name} does not hold what the shards say: delete derived/"


def test_a_store_that_was_replaced_is_not_touched(tmp_path: Path) -> None:
    m, other, path = random_matrix(3, 20, 6), random_matrix(4, 15, 6), tmp_path / "s.sae"
    write(path, m)
    opened = open_store(path)
    write(path, other, digest="other", overwrite=True)
    before = tree(path)
    assert_by_latent(opened.by_latent, m)
    assert not is_mapped(opened.by_latent)
    assert tree(path) == before
    assert_by_latent(open_store(path).by_latent, other)


def test_where_nothing_can_be_written_it_is_made_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    m, path = random_matrix(3, 20, 6), tmp_path / "s.sae"
    write(path, m)
    before = tree(path)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for owner, name in ((os, "fsync"), (Path, "mkdir"), (stored, "locked")):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, full)
            found = open_store(path).by_latent
        assert not is_mapped(found)
        assert_by_latent(found, m)
        assert tree(path) == before
    assert is_mapped(open_store(path).by_latent)


def test_a_crash_before_any_single_change_of_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    m, path = random_matrix(3, 20, 6), tmp_path / "s.sae"
    write(path, m)
    assert open_store(path).by_latent
    expected = tree(path)
    system = CrashingSystem(monkeypatch)
    for damaged in (False, True):
        for step in range(100):
            system.left = -1
            if damaged:
                (path / "derived" / "by_latent" / "rows.npy").write_bytes(b"")
            else:
                shutil.rmtree(path / "derived" / "by_latent", ignore_errors=True)
            system.left = step
            try:
                open_store(path).by_latent  # noqa: B018
            except Crash:
                system.left = -1
                assert_by_latent(open_store(path).by_latent, m)
                assert {k: v for k, v in tree(path).items() if not k.startswith(".tmp-")} == expected
            else:
                break
        assert step > 8
    system.left = -1
    assert tree(path) == expected
    assert verify_store(path) == []


LENGTHS, KEY = np.array([0.5, 2.0, 0.0, 7.25] * 5, np.float32), {"sae": "bb"}


def never() -> np.ndarray:
    pytest.fail("computed again")


def lengths(m: ConceptMatrix, build: Any = never, key: dict[str, str] = KEY) -> np.ndarray:
    assert m.keeper is not None
    found = m.keeper.array("lengths.npy", (20,), key, build)
    assert found.dtype == np.float32
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write(tmp_path / "s.sae", random_matrix(3, 20, 6))
    return tmp_path / "s.sae"


def test_an_array_is_kept_for_its_key(path: Path) -> None:
    assert lengths(open_store(path), LENGTHS.copy).tolist() == LENGTHS.tolist()
    found = lengths(open_store(path))
    assert found.tolist() == LENGTHS.tolist()
    assert not found.flags.writeable
    assert {file.name for file in (path / "derived" / "lengths").iterdir()} == {"lengths.npy", "lengths.json"}
    other = lengths(open_store(path), lambda: LENGTHS + 1, {"sae": "cc"})
    assert other.tolist() == (LENGTHS + 1).tolist()
    assert found.tolist() == LENGTHS.tolist()  # the file that is mapped stays
    assert lengths(open_store(path), LENGTHS.copy).tolist() == LENGTHS.tolist()


def test_only_a_whole_store_has_a_keeper(path: Path) -> None:
    m = open_store(path)
    labels = pl.DataFrame({"latent": [1], "label": ["one"]})
    assert all(same.keeper is m.keeper for same in (m.with_labels(labels), m.with_docs(m.docs[["doc_id"]])))
    for part in (m.filter_docs("true"), m.filter_concepts("true"), m.take_docs([1]), m.pooled("mean"), replace(m)):
        assert part.keeper is None


def test_a_flipped_bit_of_what_is_kept_costs_another_computation(path: Path) -> None:
    lengths(open_store(path), LENGTHS.copy)
    before = tree(path)
    for name in ("lengths.npy", "lengths.json"):
        file = path / "derived" / "lengths" / name
        whole = file.read_bytes()
        for damage in (b"", whole[:-1], whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:], b"x" * len(whole)):
            file.write_bytes(damage)
            assert kept.damaged(path, read_manifest(path)) == [file.parent]
            assert lengths(open_store(path), LENGTHS.copy).tolist() == LENGTHS.tolist()
            assert tree(path) == before
        file.unlink()
        assert lengths(open_store(path), LENGTHS.copy).tolist() == LENGTHS.tolist()
    assert tree(path) == before
    assert kept.damaged(path, read_manifest(path)) == []
    assert {name for name in before if "lengths" in name} < kept.names()


def test_verify_knows_what_is_kept(path: Path) -> None:
    lengths(open_store(path), LENGTHS.copy)
    assert verify_store(path) == []
    for name in ("lengths.npy", "lengths.json"):
        file = path / "derived" / "lengths" / name
        whole = file.read_bytes()
        file.write_bytes(whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:])
        assert verify_store(path) == [
            f"{file.parent} is damaged or of another state of the store: delete it, it is built again"
        ]
        file.write_bytes(whole)
    (path / "derived" / "lengths" / "x").write_text("x")
    assert len(verify_store(path)) == 1


def test_an_array_of_another_shape_is_not_believed(path: Path) -> None:
    m = open_store(path)
    assert m.keeper is not None
    m.keeper.array("lengths.npy", (3,), KEY, lambda: np.ones(3, np.float32))
    assert lengths(m, LENGTHS.copy).tolist() == LENGTHS.tolist()


def test_what_cannot_be_kept_is_computed_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, calls = tree(path), []

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def build() -> np.ndarray:
        calls.append(1)
        return LENGTHS

    for owner, name in ((os, "fsync"), (Path, "mkdir"), (kept, "locked"), (np, "save")):
        calls.clear()
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, full)
            assert lengths(open_store(path), build).tolist() == LENGTHS.tolist()
        assert len(calls) == 1
        assert tree(path) == before


def test_what_is_kept_of_a_store_that_was_replaced(path: Path) -> None:
    opened = open_store(path)
    lengths(opened, LENGTHS.copy)
    write(path, random_matrix(4, 20, 6), digest="other", overwrite=True)
    before = tree(path)
    assert lengths(opened, LENGTHS.copy).tolist() == LENGTHS.tolist()
    assert tree(path) == before
    assert lengths(open_store(path), lambda: LENGTHS + 1).tolist() == (LENGTHS + 1).tolist()


def test_an_error_of_who_computes_is_theirs(path: Path) -> None:
    before = tree(path)
    with pytest.raises(ZeroDivisionError):
        lengths(open_store(path), lambda: LENGTHS / (1 // 0))
    assert tree(path) == before
    assert lengths(open_store(path), LENGTHS.copy).tolist() == LENGTHS.tolist()  # the lock is free


def test_a_crash_while_something_is_kept(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lengths(open_store(path), LENGTHS.copy)
    expected = tree(path)
    system = CrashingSystem(monkeypatch)
    for damaged in (False, True):
        for step in range(100):
            system.left = -1
            if damaged:
                (path / "derived" / "lengths" / "lengths.npy").write_bytes(b"")
            else:
                shutil.rmtree(path / "derived" / "lengths", ignore_errors=True)
            system.left = step
            try:
                lengths(open_store(path), LENGTHS.copy)
            except Crash:
                system.left = -1
                assert lengths(open_store(path), LENGTHS.copy).tolist() == LENGTHS.tolist()
                assert {k: v for k, v in tree(path).items() if not k.startswith(".tmp-")} == expected
            else:
                break
        assert step > 5


KEEPING = """
import sys, time
import numpy as np
from saelens_data.store import open_store
def build():
    print("built", flush=True)
    time.sleep(float(sys.argv[2]))
    return np.arange(20, dtype=np.float32)
m = open_store(sys.argv[1])
print("open", flush=True)
sys.stdin.readline()
print(*m.keeper.array("lengths.npy", (20,), {}, build).astype(int))
"""


def keeping(path: Path, seconds: float) -> subprocess.Popen[str]:
    pipe, env = subprocess.PIPE, {**os.environ, "PYTHONPATH": str(SCRIPT.parent), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", KEEPING, str(path), str(seconds)]
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=env)
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    return process


def test_of_two_processes_at_once_one_computes(path: Path) -> None:
    processes = [keeping(path, 0.3) for _ in range(2)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate()[0].splitlines() for process in processes]
    numbers = " ".join(map(str, range(20)))
    assert sorted(said, key=len) == [[numbers], ["built", numbers]]


def test_a_kill_at_any_moment_leaves_no_half_file(path: Path) -> None:
    dice = random.Random(0)
    for _ in range(5):
        shutil.rmtree(path / "derived" / "lengths", ignore_errors=True)
        with keeping(path, 0.0) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("go\n")
            process.stdin.flush()
            process.stdout.readline()
            time.sleep(dice.uniform(0, 0.004))
            process.send_signal(signal.SIGKILL)
        expected = np.arange(20, dtype=np.float32)
        found = open_store(path).keeper.array("lengths.npy", (20,), {}, expected.copy)  # type: ignore[union-attr]
        assert found.tolist() == expected.tolist()
        assert kept.damaged(path, read_manifest(path)) == []
