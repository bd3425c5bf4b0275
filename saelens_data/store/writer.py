"""Write a store shard by shard. A kill at any instant loses at most the shard that was being written."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Self

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import Timeout

from saelens_data.errors import InputError, StoreError, choices
from saelens_data.matrix import ConceptMatrix, Source, Units
from saelens_data.store import derived
from saelens_data.store import labels as labels_beside
from saelens_data.store.arrays import remove
from saelens_data.store.beside import are_whole, not_the_field, remove_strangers
from saelens_data.store.files import LOCK, TEMPORARY, atomic_write_bytes, explained, locked
from saelens_data.store.manifest import (
    CONCEPTS,
    DOCS,
    FIELDS,
    SHARDS,
    Manifest,
    check_fields,
    field_path,
    is_store,
    lost_parts,
    read_manifest,
    shard_name,
    write_manifest,
)
from saelens_data.store.shard import Shard, encode_shard

#: Documents in each shard of a store written from a matrix in memory.
DOCS_PER_SHARD = 4096


class StoreWriter:
    """Context manager that creates the store `path`, or goes on where an interrupted run stopped.

    `docs` one row a document: `doc_id` String, unique; not the columns `n_units`, `n_tokens`, `error`, which the
    shards bring. `concepts` one row for each latent that may occur, `latent` Int32 ascending. `plan` gives the
    documents [start, stop) of each shard, in order, without gaps. `digest` stands for everything that decides the
    numbers: an unfinished store of the same digest, plan and source is resumed, a complete one of the same digest
    is left as it is (`missing` is empty), anything else is refused, or begun anew with `overwrite`. `vector_dim` is
    the length of the vectors that every shard brings, None if none does. `fields` are further fields of the same
    documents by name, and the digests of their stores, which the caller writes with writers of their own in the folders
    `field_path(path, name)` before it calls `finish`. A complete store of the same digest with fewer fields gets the
    new ones; one that has more keeps them.

    Raises StoreError for a folder that is not a store, a store of other input, one that another process writes, a
    full disk and a folder that cannot be written; InputError for documents that cannot be stored.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        docs: pl.DataFrame,
        concepts: pl.DataFrame,
        source: Source,
        plan: Sequence[tuple[int, int]],
        digest: str,
        vector_dim: int | None = None,
        fields: Mapping[str, str] = MappingProxyType({}),
        overwrite: bool = False,
    ) -> None:
        self.path = Path(path)
        _check_docs(docs)
        _check_concepts(concepts)
        _check_plan(plan, docs.height)
        self._docs, self._concepts, self._overwrite = docs, concepts, overwrite
        self._latents = concepts["latent"].to_numpy()
        self._manifest = Manifest(
            digest,
            source,
            docs.height,
            concepts.height,
            tuple((a, b) for a, b in plan),
            vector_dim=vector_dim,
            fields=dict(fields),
        )
        check_fields(self._manifest)
        self._held = ExitStack()

    def __enter__(self) -> Self:
        with self._held, self._explained():
            _refuse_foreign(self.path)
            if found := self._finished():
                self._manifest = found
                return self
            self.path.mkdir(parents=True, exist_ok=True)
            try:
                self._held.enter_context(locked(self.path))
            except Timeout:
                raise StoreError(
                    f"{self.path} is being written by another process: wait for it to end or choose another name"
                ) from None
            self._prepare()
            self._held = self._held.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held.close()

    @property
    def missing(self) -> tuple[int, ...]:
        """Numbers of the shards that are still to be written."""
        return self._manifest.missing

    def write_shard(self, number: int, shard: Shard) -> None:
        """Write one of the missing shards, in any order; when this returns it is kept, whatever happens."""
        if number not in self.missing:
            raise ValueError(f"shard {number} is not one of the missing: {self.missing}")
        start, stop = self._manifest.plan[number]
        if len(shard.n_tokens) != stop - start:
            raise ValueError(f"shard {number}: {len(shard.n_tokens)} documents, the plan has {start} to {stop}")
        if shard.vector_dim != self._manifest.vector_dim:
            raise ValueError(f"shard {number}: vectors of {shard.vector_dim}, {self._manifest.vector_dim} planned")
        if (unknown := shard.latents[~np.isin(shard.latents, self._latents)]).size:
            raise ValueError(f"shard {number}: latent {unknown[0]} is not in the concept table")
        self._add(shard_name(number), encode_shard(start, shard), **shard.counts)

    def finish(self) -> None:
        """Mark the store complete and build its derived arrays. Raises ValueError if a shard or a field is missing."""
        if self.missing:
            raise ValueError(f"{len(self.missing)} shards are missing, the first is {self.missing[0]}")
        for name in () if self._manifest.complete else self._manifest.fields:
            if problem := not_the_field(self.path, self._manifest, name):
                raise ValueError(problem)
        with self._explained():
            if not self._manifest.complete:
                self._manifest = write_manifest(self.path, replace(self._manifest, complete=True))
            if derived.load(self.path, self._manifest) is None:
                derived.build(self.path, self._manifest)

    def _finished(self) -> Manifest | None:
        """The manifest of a complete store of the same input, which needs no lock: nothing will be written."""
        if self._overwrite or not is_store(self.path):
            return None
        found = read_manifest(self.path)
        whole = found.complete and found.digest == self._manifest.digest and not lost_parts(self.path, found)
        has = self._manifest.fields.items() <= found.fields.items() and are_whole(self.path, found)
        return found if whole and has and derived.load(self.path, found) else None

    def _prepare(self) -> None:
        """Bring the folder to a state in which only shards are missing."""
        if found := self._resumed():
            fields = {**found.fields, **self._manifest.fields}
            more = fields != found.fields
            self._manifest = write_manifest(self.path, replace(found, fields=fields, complete=False)) if more else found
        else:
            labels_beside.store_labels(self.path, self._manifest)  # other than activations, they may have cost money
            self._manifest = write_manifest(self.path, self._manifest)
            remove(self.path / FIELDS)
        if lost := lost_parts(self.path, self._manifest):
            self._manifest = write_manifest(self.path, self._manifest.without(lost))
        _remove_leftovers(self.path, self._manifest)
        (self.path / SHARDS).mkdir(exist_ok=True)
        for name, table in ((CONCEPTS, self._concepts), (DOCS, self._docs)):
            if name not in self._manifest.parts:
                self._add(name, parquet_bytes(table))

    def _resumed(self) -> Manifest | None:
        """The manifest to go on with; None to begin anew."""
        if not is_store(self.path):
            return None
        try:
            found = read_manifest(self.path)
        except StoreError:
            if self._overwrite:
                return None
            raise
        differences = _differences(found, self._manifest)
        if self._overwrite:
            return None if differences or found.complete else found
        if differences and not self._extends(found):
            state = "a complete" if found.complete else f"an unfinished ({found.progress})"
            raise StoreError(
                f"{self.path} is {state} store of other input ({'; '.join(differences)}): "
                "choose another name, or replace it with --overwrite (overwrite=True)"
            )
        return found

    def _extends(self, found: Manifest) -> bool:
        """Whether a store is whole as it is, or but for further fields."""
        wanted = self._manifest
        same = found.complete and found.digest == wanted.digest and not lost_parts(self.path, found)
        return same and all(found.fields.get(name, digest) == digest for name, digest in wanted.fields.items())

    def _add(self, name: str, data: bytes, **counts: int) -> None:
        with self._explained():
            atomic_write_bytes(self.path / name, data)
            self._manifest = write_manifest(self.path, self._manifest.with_part(name, data, **counts))

    @contextmanager
    def _explained(self) -> Iterator[None]:
        with explained(self.path, self._kept):
            yield

    def _kept(self) -> str:
        try:
            return f"{read_manifest(self.path).progress} are kept"
        except StoreError:
            return ""


def write_store(path: str | Path, m: ConceptMatrix, *, overwrite: bool = False) -> None:
    """Save a matrix, such as a filtered one, as a new store, with all of its fields and labels.

    `open_store` gives it back.
    The columns `n_units`, `n_tokens` and `error` of `docs` come last in what is opened. Raises InputError for a
    matrix of means or without evidence, StoreError as `StoreWriter` does.
    """
    if m.source.pooling != "max" or m.evidence is None:
        raise InputError("a store keeps maxima with their units: save the matrix that the means were taken from")
    if absent := [name for name in ("n_tokens", "error") if name not in m.docs.columns]:
        raise InputError(f"the column '{absent[0]}' of the documents is missing; {choices(absent[0], m.docs.columns)}")
    beside = {name: _narrow(m.field(name)) for name in m.fields[1:]}
    digests = {name: _content_digest(other) for name, other in beside.items()}
    with _writer(Path(path), m, fields=digests, overwrite=overwrite) as writer:
        _write_rows(writer, m)
        for name, other in beside.items():
            with _writer(field_path(Path(path), name), other) as further:
                _write_rows(further, other)
                further.finish()
        writer.finish()
    if m.label_table is not None:
        with explained(Path(path)), locked(Path(path), wait=derived.WAIT_SECONDS):
            labels_beside.write_labels(Path(path), m.labels)


def _narrow(m: ConceptMatrix) -> ConceptMatrix:
    """A field as it is kept beside another, which has the columns of the documents."""
    return replace(m, docs=m.docs.select("doc_id", "text", *derived.SHARD_COLUMNS))


def _writer(path: Path, m: ConceptMatrix, **options: Any) -> StoreWriter:
    return StoreWriter(
        path,
        docs=m.docs.drop(derived.SHARD_COLUMNS, strict=False),
        concepts=m.concepts,
        source=m.source,
        plan=shard_plan(m.n_docs, DOCS_PER_SHARD),
        digest=_content_digest(m),
        vector_dim=None if m.vectors is None else m.vectors.shape[1],
        **options,
    )


def _write_rows(writer: StoreWriter, m: ConceptMatrix) -> None:
    for number in writer.missing:
        start = number * DOCS_PER_SHARD
        writer.write_shard(number, _rows(m, np.arange(start, min(start + DOCS_PER_SHARD, m.n_docs))))


def shard_plan(n_docs: int, docs_per_shard: int) -> list[tuple[int, int]]:
    """Cut `n_docs` documents into runs of `docs_per_shard`; the last may be shorter."""
    return [(start, min(start + docs_per_shard, n_docs)) for start in range(0, n_docs, docs_per_shard)]


def parquet_bytes(table: pl.DataFrame) -> bytes:
    """A table as Parquet; the bytes depend on its values alone. Raises InputError for a column of unusable type."""
    sink = io.BytesIO()
    try:
        if pl.Object in table.dtypes:  # Polars would hand out the addresses of the objects
            raise pa.ArrowInvalid("Python objects")
        # Not Polars' writer: its bytes depend on the chunks of the table.
        arrow = table.rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())
        pq.write_table(arrow, sink, compression="zstd", compression_level=3)
    except (pa.ArrowException, pl.exceptions.PolarsError) as error:
        if table.width > 1:
            for name in table.columns:
                parquet_bytes(table.select(name))
        raise InputError(
            f"column '{table.columns[0]}' of type {table.dtypes[0]} cannot be stored: cast it to String or drop it"
        ) from error
    return sink.getvalue()


def _rows(m: ConceptMatrix, rows: np.ndarray) -> Shard:
    part = m.take_docs(rows)
    assert part.evidence is not None
    units = part.evidence.units
    return Shard(
        indptr=part.X.indptr.astype(np.int64),
        latents=part.concepts["latent"].to_numpy()[part.X.indices].astype(np.int32),
        maxima=part.X.data,
        means=part.evidence.mean,
        unit=part.evidence.unit,
        units=Units(units.ptr.astype(np.int64), units.start, units.end),
        n_tokens=part.docs["n_tokens"].to_numpy().astype(np.int64),
        errors=part.docs["error"].to_list(),
        vectors=part.vectors,
    )


def _content_digest(m: ConceptMatrix) -> str:
    assert m.evidence is not None
    units = m.evidence.units
    arrays = (m.X.indptr, m.X.indices, m.X.data, m.evidence.mean, m.evidence.unit, units.ptr, units.start, units.end)
    digest = sha256()
    for array in (*arrays, *([] if m.vectors is None else [m.vectors])):
        wide = array.astype(np.int64) if np.issubdtype(array.dtype, np.integer) else array
        digest.update(sha256(np.ascontiguousarray(wide).data).digest())
    for table in (m.docs, m.concepts):
        digest.update(sha256(parquet_bytes(table)).digest())
    return digest.hexdigest()


def _differences(found: Manifest, wanted: Manifest) -> list[str]:
    """What keeps a store from being resumed, in words."""
    pairs: list[tuple[str, Any, Any]] = [
        (name, getattr(found.source, name), getattr(wanted.source, name)) for name in Source.__dataclass_fields__
    ]
    pairs += [("documents", found.n_docs, wanted.n_docs), ("latents", found.n_latents, wanted.n_latents)]
    pairs.append(("numbers in a document's vector", found.vector_dim or 0, wanted.vector_dim or 0))
    different = [f"{name}: {there!r} there, {here!r} now" for name, there, here in pairs if there != here]
    if found.plan != wanted.plan and found.n_docs == wanted.n_docs:
        different.append(f"shards: {len(found.plan)} there, {len(wanted.plan)} now, or cut elsewhere")
    if not found.complete and (more := sorted(set(found.fields) - set(wanted.fields))):
        different.append(f"fields beside it: {', '.join(more)} there, not asked for now")
    if other := [name for name, digest in wanted.fields.items() if found.fields.get(name, digest) != digest]:
        different.append(f"field {other[0]}: the texts or the encoder's labels are not the same")
    if found.digest != wanted.digest and not different:
        different.append("the texts, their columns or the encoder's labels are not the same")
    return different


def _refuse_foreign(path: Path) -> None:
    if not path.exists() or is_store(path):
        return
    if not path.is_dir():
        raise StoreError(f"{path} is a file, not the folder of a store: choose another name")
    if others := sorted(e.name for e in path.iterdir() if e.name != LOCK and not e.name.startswith(TEMPORARY)):
        raise StoreError(f"{path} is not a store (it holds {others[0]}) and is left as it is: choose another name")


def _remove_leftovers(path: Path, manifest: Manifest) -> None:
    """Remove what an interrupted or overwritten run left: nothing that the format does not name."""
    remove_strangers(path, manifest)
    for file in [*path.iterdir(), *path.glob(f"{SHARDS}/*")]:
        name = file.relative_to(path).as_posix()
        shard = file.parent != path and file.suffix == ".parquet" and file.stem.isdecimal()
        if file.name.startswith(TEMPORARY) or (name == derived.FOLDER and not manifest.complete):
            remove(file)
        elif (shard or name in (CONCEPTS, DOCS)) and name not in manifest.parts:
            file.unlink()


def _check_docs(docs: pl.DataFrame) -> None:
    if docs.schema.get("doc_id") != pl.String:
        raise InputError(f"the documents need a column 'doc_id' of text; {choices('doc_id', docs.columns)}")
    if docs["doc_id"].null_count() or (twice := docs["doc_id"].is_duplicated()).any():
        which = "a null" if docs["doc_id"].null_count() else f"'{docs['doc_id'].filter(twice)[0]}' more than once"
        raise InputError(f"doc_id has {which}: give each document its own id")
    if taken := [name for name in docs.columns if name in derived.SHARD_COLUMNS]:
        raise InputError(f"the column name '{taken[0]}' is the store's own: rename that column of the documents")


def _check_concepts(concepts: pl.DataFrame) -> None:
    latents = concepts["latent"]
    if latents.dtype != pl.Int32 or latents.null_count() or (latents.diff() <= 0).any() or (latents < 0).any():
        raise ValueError("concepts: 'latent' must be Int32, not negative and ascending")


def _check_plan(plan: Sequence[tuple[int, int]], n_docs: int) -> None:
    bounds = [0, *(stop for _, stop in plan)]
    if [start for start, _ in plan] != bounds[:-1] or bounds != sorted(bounds) or bounds[-1] != n_docs:
        raise ValueError(f"plan: runs that follow each other from 0 to {n_docs} wanted, got {list(plan)[:3]} ...")
