"""The store: round trips, opening, the errors of opening, and writing again over what is there."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import re
import shutil
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from synthetic import concepts, random_matrix, shard_of, write, writer

from saelens_data.errors import InputError, StoreError
from saelens_data.matrix import ConceptMatrix, Source, Units
from saelens_data.store import Shard, is_store, open_store, shard_plan, verify_store, write_store
from saelens_data.store.shard import decode_shard, encode_shard

VECTORS_MEMBER = b'"vectors": {"dim": 5, "of": "units by tokens"},\n '
V1 = Path(__file__).parent / "data" / "store_v1.sae"
V1_VECTORS = V1.with_name("store_v1_vectors.sae")


def arrays(m: ConceptMatrix) -> dict[str, np.ndarray]:
    ev = m.evidence
    assert ev is not None
    names = {"max": m.X.data, "latents": m.X.indices, "ptr": m.X.indptr, "mean": ev.mean, "unit": ev.unit}
    dense = {} if m.vectors is None else {"vectors": m.vectors}
    return {**names, "unit_ptr": ev.units.ptr, "start": ev.units.start, "end": ev.units.end, **dense}


def assert_same(found: ConceptMatrix, expected: ConceptMatrix) -> None:
    assert found.X.shape == expected.X.shape
    assert (found.vectors is None) == (expected.vectors is None)
    for name, values in arrays(expected).items():
        np.testing.assert_array_equal(arrays(found)[name], values, err_msg=name)
    last = ["n_units", "n_tokens", "error"]
    assert found.docs.columns[-3:] == last
    assert_frame_equal(found.docs, expected.docs, check_column_order=False)
    assert_frame_equal(found.concepts, expected.concepts)
    assert found.source == expected.source


def resealed(manifest: bytes, old: bytes, new: bytes) -> bytes:
    """The manifest with a change and a checksum that agrees with it."""
    changed = manifest.replace(json.loads(manifest)["checksum"].encode(), b"0" * 64).replace(old, new)
    assert changed != manifest
    return changed.replace(b"0" * 64, hashlib.sha256(changed).hexdigest().encode(), 1)


def owner(array: np.ndarray) -> object:
    while isinstance(array.base, np.ndarray) and not isinstance(array, np.memmap):
        array = array.base
    return array


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.text(), unique=True, max_size=9),
    st.integers(0, 6),
    st.integers(1, 4),
    st.integers(0, 99),
    st.booleans(),
)
def test_round_trip_in_shards(
    seed: int, ids: list[str], d: int, docs_per_shard: int, order: int, with_vectors: bool
) -> None:
    m = random_matrix(seed, len(ids), d, ids=ids)
    m = m if with_vectors else replace(m, vectors=None)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "é.sae"
        write(path, m, docs_per_shard, order)
        assert_same(open_store(path), m)
        assert verify_store(path) == []


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 9), st.integers(0, 6))
def test_round_trip_of_a_filtered_matrix(seed: int, n: int, d: int) -> None:
    m = random_matrix(seed, n, d).filter_docs("model = 'A' or model is null").filter_concepts("latent % 2 = 1")
    with TemporaryDirectory() as folder:
        write_store(Path(folder) / "s.sae", m)
        found = open_store(Path(folder) / "s.sae")
        assert_same(found, m)
        assert_same(found.filter_docs("n_units > 1"), m.filter_docs("n_units > 1"))


def test_shards_are_independent_of_the_cut_and_readable_by_others(tmp_path: Path) -> None:
    m = random_matrix(5, 10, 6)
    write(tmp_path / "a.sae", m, docs_per_shard=4, order=1)
    write(tmp_path / "b.sae", m, docs_per_shard=10)
    assert_same(open_store(tmp_path / "a.sae"), open_store(tmp_path / "b.sae"))
    table = pl.concat([pl.read_parquet(file) for file in sorted((tmp_path / "a.sae" / "shards").iterdir())])
    rows = [slice(a, b) for a, b in zip(m.X.indptr[:-1], m.X.indptr[1:], strict=True)]
    assert table["doc"].to_list() == list(range(10))
    assert table["latents"].to_list() == [m.X.indices[row].tolist() for row in rows]
    assert table["maxima"].to_list() == [m.X.data[row].tolist() for row in rows]
    assert table["error"].to_list() == m.docs["error"].to_list()
    np.testing.assert_array_equal(table["vector"].to_numpy(), m.vectors)
    group = pq.read_metadata(tmp_path / "b.sae" / "shards" / "00000.parquet").row_group(0)
    encodings = {group.column(i).path_in_schema: group.column(i).encodings for i in range(group.num_columns)}
    assert "DELTA_BINARY_PACKED" in encodings["latents.list.element"]
    assert "BYTE_STREAM_SPLIT" in encodings["maxima.list.element"]
    assert "BYTE_STREAM_SPLIT" in encodings["vector.list.element"]


def test_columns_of_every_type_come_back(tmp_path: Path) -> None:
    columns = {
        "category": pl.Series(["x", None], dtype=pl.Categorical),
        "grade": pl.Series(["x", "y"], dtype=pl.Enum(["y", "x", "z"])),
        "when": pl.Series([dt.datetime(2020, 1, 1, tzinfo=dt.UTC), None]),
        "day": pl.Series([dt.date(2020, 1, 1), None]),
        "money": pl.Series([Decimal("1.25"), None]),
        "big": pl.Series([2**64 - 1, 0], dtype=pl.UInt64),
        "odd": pl.Series([float("nan"), float("-inf")]),
        "nothing": pl.Series([None, None]),
        "bytes": pl.Series([b"\x00", None]),
        "turns": pl.Series([[{"role": "user", "content": "hi"}], []]),
        "pair": pl.Series([[1, 2], None], dtype=pl.Array(pl.Int8, 2)),
    }
    m = random_matrix(5, 2, 3).with_docs(pl.DataFrame({"doc_id": ["doc 0", "doc 1"], **columns}))
    write(tmp_path / "s.sae", m)
    assert_same(open_store(tmp_path / "s.sae"), m)
    assert verify_store(tmp_path / "s.sae") == []


@pytest.mark.parametrize("column", [[{}, {}], [object(), object()]])
def test_columns_that_cannot_be_stored_are_named(tmp_path: Path, column: list[object]) -> None:
    m = random_matrix(5, 2, 3)
    odd = pl.Series(column, dtype=pl.Object if not isinstance(column[0], dict) else pl.Struct([]))
    with pytest.raises(InputError, match="column 'odd' of type"):
        writer(tmp_path / "s.sae", m, docs=pl.DataFrame({"doc_id": ["a", "b"], "odd": odd})).__enter__()


def test_format_1_opens() -> None:
    with TemporaryDirectory() as folder:
        path = Path(shutil.copytree(V1, Path(folder) / "old.sae"))
        m = open_store(path)
        assert verify_store(path) == []
    assert m.vectors is None
    assert m.X.toarray().tolist() == [[1.5, 0, 0.25], [0, 0, 0], [0, 0, 0], [2.0, 3.5, 0]]
    assert m.pooled("mean").X.toarray().tolist() == [[1.0, 0, 0.125], [0, 0, 0], [0, 0, 0], [2.0, 3.5, 0]]
    found = arrays(m)
    assert found["unit"].tolist() == [1, 0, 0, 0]
    assert found["unit_ptr"].tolist() == [0, 2, 2, 2, 3]
    assert (found["start"].tolist(), found["end"].tolist()) == ([0, 5, 0], [4, 9, 13])
    assert m.docs.to_dict(as_series=False) == {
        "doc_id": ["a", "β", "c/3", "d"],
        "text": ["One. Two.", "", None, "Three 🙂 four."],
        "model": ["A", "B", "A", None],
        "year": [1999, 2001, None, 2024],
        "n_units": [2, 0, 0, 1],
        "n_tokens": [4, 0, 0, 3],
        "error": [None, None, "there is no text", None],
    }
    assert m.concepts["latent"].to_list() == [2, 5, 7]
    assert m.concepts["label"].to_list() == ["numbers", "faces", None]
    assert m.concepts["score"].to_list() == [0.75, None, None]
    assert m.source == Source(
        encoder="tiny",
        reader="tiny-reader",
        reader_sha256="11" * 32,
        sae="tiny-sae",
        sae_sha256="22" * 32,
        hook="final",
        limits={"span_tokens": 8},
        dtype="bfloat16",
        versions={"numpy": "2.4.6"},
    )


def test_format_1_with_vectors_opens() -> None:
    with TemporaryDirectory() as folder:
        path = Path(shutil.copytree(V1_VECTORS, Path(folder) / "old.sae"))
        m = open_store(path)
        assert verify_store(path) == []
        assert m.by_latent.rows.tolist() == [0, 2, 2]
    assert m.vectors.dtype == np.float16
    assert m.vectors.tolist() == [np.float16([0.6, 0, -0.8]).tolist(), [0, 0, 0], [0, 1, 0]]
    assert m.X.toarray().tolist() == [[1.5, 0], [0, 0], [2.0, 3.5]]


@pytest.mark.parametrize("old", [V1, V1_VECTORS])
def test_the_specification_reads_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: Path) -> None:
    text = (Path(__file__).parents[1] / "docs" / "format.md").read_text(encoding="utf-8")
    shutil.copytree(old, tmp_path / "answers.sae")
    monkeypatch.chdir(tmp_path)
    names: dict[str, pl.DataFrame] = {}
    exec(text.split("```python\n")[1].split("```")[0], names)
    assert names["docs"]["latents"].to_list() == ([[2, 7], [], [], [2, 5]] if old == V1 else [[2], [], [2, 5]])
    manifest = json.loads((old / "manifest.json").read_bytes())
    members = {*manifest, *manifest["source"], *manifest["parts"]["shards/00000.parquet"], *manifest.get("vectors", ())}
    stored = {*members, *names["activations"].columns, *concepts([1]).columns}
    assert [name for name in stored if f"`{name}`" not in text] == []


def test_opening_maps_and_does_not_read(tmp_path: Path) -> None:
    read = []
    for n in (5_000, 100_000):
        path = tmp_path / f"{n}.sae"
        empty = np.zeros(n + 1, np.int64)
        indptr = np.arange(n + 1, dtype=np.int64)
        ones = np.ones(n, np.float32)
        units = Units(indptr, np.zeros(n, np.int32), np.ones(n, np.int32))
        zeros, none = empty[1:].astype(np.int32), [None] * n
        vectors = np.tile(np.float16([0.6, 0.8]), (n, 1))
        shard = Shard(indptr, zeros, ones, ones, zeros, units, indptr[1:], none, vectors)
        docs = pl.DataFrame({"doc_id": [f"doc {i}" for i in range(n)], "text": ["text"] * n})
        with writer(path, random_matrix(1, 2, 2), docs=docs, plan=[(0, n)], vector_dim=2) as store:
            store.write_shard(0, shard)
            store.finish()
        before = _bytes_read()
        m = open_store(path)
        read.append(_bytes_read() - before)
        assert all(isinstance(owner(array), np.memmap) for array in arrays(m).values())
        assert not any(array.flags.writeable for array in arrays(m).values())
        assert m.docs["doc_id"][n - 1] == f"doc {n - 1}"
        assert m.X.sum() == n
    assert abs(read[1] - read[0]) < 500


def _bytes_read() -> int:
    try:
        return int(Path("/proc/self/io").read_text().split()[1])
    except OSError:
        pytest.skip("this system does not count what a process reads")


def test_derived_arrays_are_rebuilt(tmp_path: Path) -> None:
    m, path = random_matrix(5, 10, 6), tmp_path / "s.sae"
    write(path, m)
    built = {file.name: file.read_bytes() for file in (path / "derived").iterdir()}
    shutil.rmtree(path / "derived")
    assert_same(open_store(path), m)
    assert {file.name: file.read_bytes() for file in (path / "derived").iterdir()} == built
    for name, damage in (("derived.json", b"{"), ("max.npy", b"short"), ("docs.arrow", b"")):
        (path / "derived" / name).write_bytes(damage)
        assert_same(open_store(path), m)
        assert verify_store(path) == []


def test_derived_arrays_of_another_store_are_not_used(tmp_path: Path) -> None:
    m = random_matrix(5, 10, 6)
    other = m.with_docs(pl.DataFrame({"doc_id": m.docs["doc_id"], "text": m.docs["text"].reverse()}))
    write(tmp_path / "a.sae", m)
    write(tmp_path / "b.sae", other)
    shutil.rmtree(tmp_path / "b.sae" / "derived")
    shutil.copytree(tmp_path / "a.sae" / "derived", tmp_path / "b.sae" / "derived")
    assert any("derived" in problem for problem in verify_store(tmp_path / "b.sae"))
    assert_same(open_store(tmp_path / "b.sae"), other)


def test_opening_says_what_is_wrong(tmp_path: Path) -> None:
    m = random_matrix(5, 10, 6)
    path = tmp_path / "s.sae"
    write(path, m)
    manifest = (path / "manifest.json").read_bytes()
    (tmp_path / "file.txt").write_text("x")
    (tmp_path / "folder").mkdir()

    def message(where: Path) -> str:
        with pytest.raises(StoreError) as caught:
            open_store(where)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert message(tmp_path / "no.sae") == (
        f"there is no store at {tmp_path / 'no.sae'}: give a folder that saelens-data encode wrote"
    )
    assert "is a file, not a store" in message(tmp_path / "file.txt")
    assert "it has no manifest.json" in message(tmp_path / "folder")
    for data, expected in (
        (manifest[: len(manifest) // 2], "is damaged"),
        (manifest.replace(b'"documents": 10', b'"documents": 11'), "is damaged"),
        (resealed(manifest, b'"docs.parquet"', b'"../docs.parquet"'), "is damaged"),
        (resealed(manifest, b'"activations"', b'"inactivations"'), "is damaged"),
        (resealed(manifest, b'"shards/00003.parquet": {', b'"more": {'), "is damaged"),
        (b"[]", "is damaged"),
        (b"\xff", "is damaged"),
        (manifest.replace(b'"version": 1', b'"version": 2'), "format 2 and this version of saelens_data reads up to 1"),
        (b'{"format": "web app"}', "of another kind"),
    ):
        (path / "manifest.json").write_bytes(data)
        assert expected in message(path)
    (path / "manifest.json").write_bytes(manifest)
    (path / "concepts.parquet").unlink()
    assert "concepts.parquet is missing: run the encode command again" in message(path)


def test_is_store(tmp_path: Path) -> None:
    write(tmp_path / "s.sae", random_matrix(5, 3, 2))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "manifest.json").write_text('{"name": "web app"}')
    found = [is_store(tmp_path / name) for name in ("s.sae", "other", "absent", "s.sae/manifest.json")]
    assert found == [True, False, False, False]


def test_an_unfinished_store_is_resumed(tmp_path: Path) -> None:
    m, path = random_matrix(5, 10, 6), tmp_path / "s.sae"
    with writer(path, m) as store:
        assert store.missing == (0, 1, 2, 3)
        store.write_shard(2, shard_of(m, 6, 9))
        with pytest.raises(ValueError, match="shard 2 is not one of the missing"):
            store.write_shard(2, shard_of(m, 6, 9))
        with pytest.raises(ValueError, match="3 shards are missing, the first is 0"):
            store.finish()
    with pytest.raises(StoreError, match=r"unfinished \(1 of 4 shards\): run the encode command again"):
        open_store(path)
    assert verify_store(path) == [f"{path} is unfinished (1 of 4 shards): run the encode command again to finish it"]
    stray = path / "shards" / "00003.parquet"
    stray.write_bytes(b"written, but not in the manifest")
    (path / "shards" / ".tmp-00001.parquet.1234").write_bytes(b"")
    with writer(path, m) as store:
        assert store.missing == (0, 1, 3)
        assert [file.name for file in (path / "shards").iterdir()] == ["00002.parquet"]
    write(path, m)
    assert_same(open_store(path), m)


def test_other_input_is_refused_and_overwritten_only_on_request(tmp_path: Path) -> None:
    m, other, path = random_matrix(5, 10, 6), random_matrix(6, 7, 6), tmp_path / "s.sae"
    with writer(path, m) as store:
        store.write_shard(0, shard_of(m, 0, 3))
    for changes, expected in (
        (
            {"digest": "x"},
            "unfinished (1 of 4 shards) store of other input (the texts, their columns or the encoder's labels are not the same)",
        ),
        ({"vector_dim": 7}, "numbers in a document's vector: 5 there, 7 now"),
        ({"source": replace(m.source, hook="h")}, "hook: 'final' there, 'h' now"),
        ({"source": replace(m.source, versions={})}, "versions: {'numpy': '2'} there, {} now"),
        ({"plan": shard_plan(10, 5)}, "shards: 4 there, 2 now"),
        ({"docs": other.docs[["doc_id"]], "plan": shard_plan(7, 3)}, "documents: 10 there, 7 now"),
    ):
        with pytest.raises(StoreError) as caught:
            writer(path, m, **changes).__enter__()
        assert expected in str(caught.value)
        assert str(caught.value).endswith("choose another name, or replace it with --overwrite (overwrite=True)")
    write(path, m)
    with pytest.raises(StoreError, match="is a complete store of other input"):
        writer(path, m, digest="x").__enter__()
    assert_same(open_store(path), m)
    write(path, other, digest="x", overwrite=True)
    assert_same(open_store(path), other)
    assert verify_store(path) == []


def test_overwriting_resumes_its_own_interrupted_run(tmp_path: Path) -> None:
    m, path = random_matrix(5, 10, 6), tmp_path / "s.sae"
    write(path, m)
    with writer(path, m, overwrite=True) as store:
        assert store.missing == (0, 1, 2, 3)
        assert not (path / "derived").exists()
        store.write_shard(0, shard_of(m, 0, 3))
    with writer(path, m, overwrite=True) as store:
        assert store.missing == (1, 2, 3)


def test_a_complete_store_is_left_as_it_is(tmp_path: Path) -> None:
    m, path = random_matrix(5, 10, 6), tmp_path / "s.sae"
    write(path, m)
    before = {file: file.stat().st_mtime_ns for file in path.rglob("*") if file.is_file()}
    with writer(path, m) as store:
        assert store.missing == ()
        store.finish()
        with writer(path, m) as second:  # nothing to write, so no lock either
            assert second.missing == ()
    assert {file: file.stat().st_mtime_ns for file in path.rglob("*") if file.is_file()} == before
    (path / "shards" / "00001.parquet").unlink()
    (path / "docs.parquet").write_bytes(b"")
    with pytest.raises(StoreError, match="shards: 4 there, 2 now"):
        writer(path, m, docs_per_shard=5).__enter__()
    write(path, m)
    assert verify_store(path) == []
    assert_same(open_store(path), m)


def test_what_is_not_a_store_is_never_touched(tmp_path: Path) -> None:
    m = random_matrix(5, 3, 2)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("precious")
    (tmp_path / "file").write_text("precious")
    for name, expected in (("thesis", "not a store .it holds chapter.tex."), ("file", "is a file")):
        for overwrite in (False, True):
            with pytest.raises(StoreError, match=expected):
                writer(tmp_path / name, m, overwrite=overwrite).__enter__()
    assert [file.name for file in (tmp_path / "thesis").iterdir()] == ["chapter.tex"]
    (tmp_path / "empty").mkdir()
    write(tmp_path / "empty", m)
    assert_same(open_store(tmp_path / "empty"), m)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"docs": pl.DataFrame({"id": ["a"]})}, InputError, "need a column 'doc_id' of text"),
        ({"docs": pl.DataFrame({"doc_id": ["a", None]})}, InputError, "doc_id has a null"),
        ({"docs": pl.DataFrame({"doc_id": ["a", "b", "a"]})}, InputError, "'a' more than once"),
        ({"docs": pl.DataFrame({"doc_id": ["a"], "error": ["x"]})}, InputError, "'error' is the store's own"),
        ({"plan": [(0, 2)]}, ValueError, "from 0 to 3"),
        ({"plan": [(0, 2), (1, 3)]}, ValueError, "from 0 to 3"),
        ({"concepts": concepts([1, 1])}, ValueError, "ascending"),
    ],
)
def test_unusable_input_is_refused(
    tmp_path: Path, changes: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        writer(tmp_path / "s.sae", random_matrix(5, 3, 2), **changes)
    assert not (tmp_path / "s.sae").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"maxima": np.array([1, np.nan, 1], np.float32)}, "maxima: finite and above 0"),
        ({"maxima": np.array([1, np.inf, 1], np.float32)}, "maxima: finite and above 0"),
        ({"maxima": np.array([1, 0, 1], np.float32)}, "maxima: finite and above 0"),
        ({"means": np.array([1, -1, 1], np.float32)}, "means: finite and not negative"),
        ({"means": np.array([1, np.nan, 1], np.float32)}, "means: finite and not negative"),
        ({"maxima": np.ones(3)}, "maxima: float32 wanted, got float64"),
        ({"maxima": np.ones(2, np.float32)}, "maxima: 2 values, 3 expected"),
        ({"latents": np.array([1, 1, 0], np.int32)}, "latents: ascending"),
        ({"latents": np.array([-1, 1, 0], np.int32)}, "latents: ascending"),
        ({"indptr": np.array([0, 3], np.int64)}, "indptr: 3 ascending offsets"),
        ({"indptr": np.array([0, 4, 3], np.int64)}, "indptr: 3 ascending offsets"),
        ({"unit": np.array([0, 2, 0], np.int32)}, "unit: a number below"),
        ({"units": Units(np.array([0, 2, 3]), np.array([5, 5, 5]), np.array([9, 4, 9]))}, "0 <= start <= end"),
        ({"n_tokens": np.array([1, -1])}, "n_tokens"),
        ({"errors": [None]}, "errors: 1 for 2 documents"),
        ({"vectors": np.zeros((3, 4), np.float16)}, r"vectors: \[2, dim\] float16 wanted, got \[3, 4\] float16"),
        ({"vectors": np.zeros((2, 4), np.float32)}, "wanted, got .* float32"),
        ({"vectors": np.zeros((2, 0), np.float16)}, r"got \[2, 0\]"),
        ({"vectors": np.float16([[0, 1], [0.9, 0]])}, "vectors: length 1 wanted, or all zeros"),
        ({"vectors": np.float16([[0, 1], [np.nan, 0]])}, "vectors: length 1 wanted, or all zeros"),
    ],
)
def test_a_shard_is_checked_at_construction(changes: dict[str, object], message: str) -> None:
    good = Shard(
        np.array([0, 2, 3], np.int64),
        np.array([0, 1, 0], np.int32),
        np.ones(3, np.float32),
        np.ones(3, np.float32),
        np.zeros(3, np.int32),
        Units(np.array([0, 2, 3]), np.zeros(3, np.int32), np.ones(3, np.int32)),
        np.array([2, 1], np.int64),
        [None, None],
    )
    with pytest.raises(ValueError, match=message):
        replace(good, **changes)


def test_a_document_without_units_has_no_vector() -> None:
    none, whole = np.empty(0, np.float32), np.empty(0, np.int32)
    units = Units(np.zeros(2, np.int64), whole, whole)
    shard = Shard(np.zeros(2, np.int64), whole, none, none, whole, units, np.zeros(1, np.int64), [None])
    assert replace(shard, vectors=np.zeros((1, 2), np.float16)).vector_dim == 2
    with pytest.raises(ValueError, match="for every document without units"):
        replace(shard, vectors=np.float16([[0, 1]]))


def test_a_shard_must_fit_its_store(tmp_path: Path) -> None:
    m = random_matrix(5, 10, 6)
    with writer(tmp_path / "s.sae", m, concepts=concepts(range(1))) as store:
        with pytest.raises(ValueError, match="2 documents, the plan has 0 to 3"):
            store.write_shard(0, shard_of(m, 0, 2))
        with pytest.raises(ValueError, match="vectors of None, 5 planned"):
            store.write_shard(0, replace(shard_of(m, 0, 3), vectors=None))
        with pytest.raises(ValueError, match="is not in the concept table"):
            store.write_shard(0, shard_of(m, 0, 3))


def test_a_shard_with_other_vectors_than_the_manifest_says_is_refused(tmp_path: Path) -> None:
    m = random_matrix(5, 6, 3)
    for name, matrix, old, new, said in (
        ("with", m, b'"dim": 5', b'"dim": 6', "5 numbers in a document's vector, the manifest says 6"),
        ("none", replace(m, vectors=None), b'"plan": [', VECTORS_MEMBER + b'"plan": [', "no numbers .* says 5"),
        ("odd", m, b'"units by tokens"', b'"first unit"', "manifest.json is damaged"),
    ):
        path = tmp_path / f"{name}.sae"
        write(path, matrix)
        shutil.rmtree(path / "derived")
        (path / "manifest.json").write_bytes(resealed((path / "manifest.json").read_bytes(), old, new))
        (problem,) = verify_store(path)
        assert re.search(said, problem)
        with pytest.raises(StoreError, match=said):
            open_store(path)


def test_a_vector_column_that_is_no_vector_is_refused(tmp_path: Path) -> None:
    data = encode_shard(0, shard_of(random_matrix(5, 3, 3), 0, 3))
    table = pq.read_table(pa.BufferReader(data))
    at, dense = table.column_names.index("vector"), table.column("vector").combine_chunks()
    lists = dense.cast(pa.list_(pa.float16()))

    def decoded(column: pa.Array) -> Shard:
        sink = pa.BufferOutputStream()
        pq.write_table(table.set_column(at, "vector", column), sink)
        return decode_shard(sink.getvalue().to_pybytes())[1]

    np.testing.assert_array_equal(decoded(lists).vectors, decode_shard(data)[1].vectors)  # another writer's lists
    ragged = pa.array([[1.0], [1.0, 0.0], [0.0]], pa.list_(pa.float16()))
    nulls = pa.array([[None, 1.0]] * 3, pa.list_(pa.float16()))
    for column in (ragged, nulls, dense.cast(pa.list_(pa.float32(), 5)), pa.array([1, 2, 3])):
        with pytest.raises(ValueError, match="vector: lists of one length of float16"):
            decoded(column)


def test_write_store_needs_maxima_and_units(tmp_path: Path) -> None:
    m = random_matrix(5, 10, 6)
    cases = (
        (m.pooled("mean"), "a store keeps maxima"),
        (replace(m, evidence=None), "a store keeps maxima"),
        (replace(m, docs=m.docs.drop("n_tokens")), "'n_tokens' of the documents is missing"),
    )
    for matrix, message in cases:
        with pytest.raises(InputError, match=message):
            write_store(tmp_path / "s.sae", matrix)
    write_store(tmp_path / "s.sae", m)
    write_store(tmp_path / "s.sae", m)  # the same content again: nothing to do
    with pytest.raises(StoreError, match="other input"):
        write_store(tmp_path / "s.sae", m.take_docs([0, 1]))


def test_the_plan_covers_everything() -> None:
    assert shard_plan(7, 3) == [(0, 3), (3, 6), (6, 7)]
    assert shard_plan(0, 3) == []
