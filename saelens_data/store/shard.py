"""One shard: pooled activations of a run of documents, and the Parquet file that holds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from saelens_data.matrix import Units

_INT_LIST = pa.list_(pa.int32())
_FLOAT_LIST = pa.list_(pa.float32())
SCHEMA = pa.schema(
    {
        "doc": pa.int64(),
        "n_units": pa.int32(),
        "n_tokens": pa.int32(),
        "error": pa.string(),
        "latents": _INT_LIST,
        "maxima": _FLOAT_LIST,
        "means": _FLOAT_LIST,
        "units": _INT_LIST,
        "unit_start": _INT_LIST,
        "unit_end": _INT_LIST,
    }
)
#: Column of the documents' vectors; a store has it in all shards or in none.
VECTOR = "vector"
_MAX_INT32 = np.iinfo(np.int32).max
#: How far from 1 the length of a vector may be: rounding to float16 moves it by less.
_LENGTH_TOLERANCE = 2e-3


@dataclass(frozen=True, eq=False)
class Shard:
    """Pooled activations of `n` documents that follow each other; checked whole at construction.

    `indptr` [n + 1] int64 delimits the activations of each document in the four arrays [nnz]:
    `latents` int32, ascending in each document; `maxima` float32 > 0 and `means` float32 >= 0 over the document's
    units; `unit` int32, number within the document of the unit that holds the maximum.
    `units` are the documents' units, `n_tokens` [n] int64, `errors` [n] why a document has no activations, or None.
    `vectors` [n, dim] float16, each of length 1 or, for a document without units, all zeros; None if not kept.
    Raises ValueError for parts that do not fit together and for values that no encoder may give (NaN, infinity).
    """

    indptr: np.ndarray
    latents: np.ndarray
    maxima: np.ndarray
    means: np.ndarray
    unit: np.ndarray
    units: Units
    n_tokens: np.ndarray
    errors: Sequence[str | None]
    vectors: np.ndarray | None = None

    def __post_init__(self) -> None:
        _check_types(self)
        _check_lengths(self)
        _check_activations(self)
        _check_units(self)
        if self.vectors is not None:
            _check_vectors(self.vectors, np.diff(self.units.ptr))

    @property
    def vector_dim(self) -> int | None:
        """Numbers in each document's vector; None without vectors."""
        return None if self.vectors is None else int(self.vectors.shape[1])

    @property
    def counts(self) -> dict[str, int]:
        """What the manifest records of a shard."""
        return {
            "activations": len(self.latents),
            "units": len(self.units.start),
            "tokens": int(self.n_tokens.sum()),
            "errors": sum(error is not None for error in self.errors),
        }


def encode_shard(first_doc: int, shard: Shard) -> bytes:
    """The Parquet file of a shard whose first document has row number `first_doc`; same shard, same bytes."""
    entries = _offsets(shard.indptr)
    spans = _offsets(shard.units.ptr)
    n = len(shard.n_tokens)
    columns = {
        "doc": np.arange(first_doc, first_doc + n, dtype=np.int64),
        "n_units": np.diff(spans),
        "n_tokens": shard.n_tokens.astype(np.int32),
        "error": pa.array(shard.errors, pa.string()),
        "latents": _lists(entries, shard.latents),
        "maxima": _lists(entries, shard.maxima),
        "means": _lists(entries, shard.means),
        "units": _lists(entries, shard.unit),
        "unit_start": _lists(spans, shard.units.start.astype(np.int32, copy=False)),
        "unit_end": _lists(spans, shard.units.end.astype(np.int32, copy=False)),
    }
    table = pa.table(columns, schema=SCHEMA)
    encodings = dict(_ENCODINGS)
    if shard.vectors is not None:
        table = table.append_column(VECTOR, _fixed_lists(shard.vectors))
        encodings[f"{VECTOR}.list.element"] = "BYTE_STREAM_SPLIT"
    sink = pa.BufferOutputStream()
    pq.write_table(
        table, sink, compression="zstd", compression_level=3, use_dictionary=False, column_encoding=encodings
    )
    data: bytes = sink.getvalue().to_pybytes()
    return data


def decode_shard(data: bytes) -> tuple[int, Shard]:
    """First document and content of a shard file. Raises ValueError for anything but a sound one."""
    found = pq.read_table(pa.BufferReader(data), use_threads=False)
    table = found.select(SCHEMA.names).cast(SCHEMA).combine_chunks()
    columns = {name: table.column(name).combine_chunks() for name in SCHEMA.names}
    doc = columns["doc"].to_numpy()
    if len(doc) and (np.diff(doc) != 1).any():
        raise ValueError("documents do not follow each other")
    indptr, latents, maxima, means, unit = _same_lists(columns, ("latents", "maxima", "means", "units"))
    ptr, start, end = _same_lists(columns, ("unit_start", "unit_end"))
    if (columns["n_units"].to_numpy() != np.diff(ptr)).any():
        raise ValueError("n_units is not the number of units")
    n_tokens = columns["n_tokens"].to_numpy().astype(np.int64)
    errors = columns["error"].to_pylist()
    vectors = _vectors(found.column(VECTOR).combine_chunks()) if VECTOR in found.column_names else None
    shard = Shard(indptr, latents, maxima, means, unit, Units(ptr, start, end), n_tokens, errors, vectors)
    return int(doc[0]) if len(doc) else 0, shard


def _encoding(kind: pa.DataType) -> str:
    return "BYTE_STREAM_SPLIT" if pa.types.is_floating(kind) else "DELTA_BINARY_PACKED"


_ENCODINGS = {
    f"{f.name}.list.element" if pa.types.is_list(f.type) else f.name: _encoding(getattr(f.type, "value_type", f.type))
    for f in SCHEMA
    if f.type != pa.string()
}


def _offsets(ptr: np.ndarray) -> np.ndarray:
    if ptr[-1] > _MAX_INT32:
        raise ValueError(f"{ptr[-1]} entries are too many for one shard: plan fewer documents in each")
    return ptr.astype(np.int32)


def _lists(offsets: np.ndarray, values: np.ndarray) -> Any:
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values))


def _fixed_lists(vectors: np.ndarray) -> Any:
    kind = pa.list_(pa.field("element", pa.float16()), vectors.shape[1])
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(vectors).ravel()), type=kind)


def _vectors(column: Any) -> np.ndarray:
    """[n, dim]. Raises ValueError for lists of other lengths, other numbers and nulls."""
    kind, wrong = column.type, ValueError(f"{VECTOR}: lists of one length of float16 without nulls wanted")
    if not (fixed := pa.types.is_fixed_size_list(kind)) and not pa.types.is_list(kind):
        raise wrong
    lengths = {kind.list_size} if fixed else set(np.diff(column.offsets.to_numpy()).tolist())
    values = column.flatten()
    if len(lengths) != 1 or values.type != pa.float16() or column.null_count or values.null_count:
        raise wrong
    found: np.ndarray = values.to_numpy().reshape(len(column), lengths.pop())
    return found


def _same_lists(columns: Mapping[str, Any], names: Sequence[str]) -> list[np.ndarray]:
    """The offsets that these columns of lists share, from 0, then the values of each."""
    lists = [columns[name] for name in names]
    if any(column.null_count or column.flatten().null_count for column in lists):
        raise ValueError("a list or one of its values is null")
    offsets = [column.offsets.to_numpy().astype(np.int64) for column in lists]
    ptr = offsets[0] - offsets[0][0]
    if any(not np.array_equal(ptr, other - other[0]) for other in offsets[1:]):
        raise ValueError(f"{', '.join(names)} of one document differ in length")
    return [ptr, *(column.flatten().to_numpy() for column in lists)]


def _check_types(shard: Shard) -> None:
    for name, dtype in (
        ("indptr", np.int64),
        ("latents", np.int32),
        ("maxima", np.float32),
        ("means", np.float32),
        ("unit", np.int32),
    ):
        if (found := getattr(shard, name).dtype) != dtype:
            raise ValueError(f"{name}: {np.dtype(dtype).name} wanted, got {found}")


def _check_lengths(shard: Shard) -> None:
    n = len(shard.n_tokens)
    for name, ptr in (("indptr", shard.indptr), ("units", shard.units.ptr)):
        if len(ptr) != n + 1 or ptr[0] != 0 or (np.diff(ptr) < 0).any():
            raise ValueError(f"{name}: {n + 1} ascending offsets from 0 wanted, got {len(ptr)}")
    if len(shard.errors) != n:
        raise ValueError(f"errors: {len(shard.errors)} for {n} documents")
    for name in ("latents", "maxima", "means", "unit"):
        if len(getattr(shard, name)) != shard.indptr[-1]:
            raise ValueError(f"{name}: {len(getattr(shard, name))} values, {shard.indptr[-1]} expected by indptr")


def _check_activations(shard: Shard) -> None:
    rows = np.repeat(np.arange(len(shard.n_tokens)), np.diff(shard.indptr))
    if ((np.diff(shard.latents) <= 0) & (np.diff(rows) == 0)).any() or (shard.latents < 0).any():
        raise ValueError("latents: ascending, distinct and not negative in each document wanted")
    # Written so that NaN, which compares as false, fails too.
    if not ((shard.maxima > 0) & (shard.maxima < np.inf)).all():
        raise ValueError("maxima: finite and above 0 wanted (an inactive latent is left out)")
    if not ((shard.means >= 0) & (shard.means < np.inf)).all():
        raise ValueError("means: finite and not negative wanted")
    if ((shard.unit < 0) | (shard.unit >= np.diff(shard.units.ptr)[rows])).any():
        raise ValueError("unit: a number below that of the document's units wanted")


def _check_units(shard: Shard) -> None:
    start, end = shard.units.start, shard.units.end
    if len(start) and (start.min() < 0 or (start > end).any() or end.max() > _MAX_INT32):
        raise ValueError("units: 0 <= start <= end wanted")
    if len(shard.n_tokens) and (shard.n_tokens.min() < 0 or shard.n_tokens.max() > _MAX_INT32):
        raise ValueError("n_tokens: not negative and below 2**31 wanted")


def _check_vectors(vectors: np.ndarray, n_units: np.ndarray) -> None:
    n = len(n_units)
    if vectors.ndim != 2 or len(vectors) != n or not vectors.shape[1] or vectors.dtype != np.float16:
        raise ValueError(f"vectors: [{n}, dim] float16 wanted, got {list(vectors.shape)} {vectors.dtype}")
    lengths = np.linalg.norm(vectors.astype(np.float32), axis=1)
    # Written so that NaN fails too.
    if not ((np.abs(lengths - 1) < _LENGTH_TOLERANCE) | (lengths == 0)).all() or lengths[n_units == 0].any():
        raise ValueError("vectors: length 1 wanted, or all zeros, as for every document without units")
