"""Check a store to the last bit: sizes, SHA-256, format, counts, and the derived arrays against the shards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

from saelens_data.errors import StoreError
from saelens_data.store import by_latent, derived, kept
from saelens_data.store import labels as labels_beside
from saelens_data.store.arrays import index_bytes
from saelens_data.store.beside import not_the_field
from saelens_data.store.files import LOCK
from saelens_data.store.manifest import (
    CONCEPTS,
    DOCS,
    FIELDS,
    MANIFEST,
    SHARDS,
    Manifest,
    field_path,
    read_manifest,
    read_part,
)


def verify_store(path: str | Path) -> list[str]:
    """Read everything and return what is wrong, one sentence each; an empty list means the store is sound.

    Raises StoreError only where there is no store to look at.
    """
    path = Path(path)
    if not (path / MANIFEST).is_file():
        read_manifest(path)  # says why
    try:
        manifest = read_manifest(path)
    except StoreError as error:
        return [str(error)]
    problems = [*_unfinished(path, manifest), *_strangers(path, manifest), *_damaged_parts(path, manifest)]
    if not problems:
        problems += _broken_format(path, manifest)
    problems += _derived_files(path, manifest)
    problems += [] if problems else _derived_values(path, manifest)
    return [*problems, *_labels(path, manifest), *_fields(path, manifest)]


def _unfinished(path: Path, manifest: Manifest) -> Iterator[str]:
    if not manifest.complete or manifest.missing:
        yield f"{path} is unfinished ({manifest.progress}): run the encode command again to finish it"


def _strangers(path: Path, manifest: Manifest) -> Iterator[str]:
    known = {MANIFEST, LOCK, SHARDS, derived.FOLDER, by_latent.FOLDER, *kept.names(), *manifest.parts}
    known.add(labels_beside.FILE)
    for kind in (derived, by_latent):
        known |= {f"{kind.FOLDER}/{name}" for name in (kind.INDEX, *kind.names(manifest))}
    fields = {field_path(path, name) for name in manifest.fields}
    known |= {FIELDS} if fields else set()
    for file in sorted(path.rglob("*")):
        if not fields.isdisjoint((file, *file.parents)):
            continue
        if (name := file.relative_to(path).as_posix()) not in known:
            yield f"{file} is not part of the store: delete it"
        if name == LOCK and file.stat().st_size:
            yield f"{file} is not empty: delete it"


def _damaged_parts(path: Path, manifest: Manifest) -> Iterator[str]:
    for name in manifest.parts:
        try:
            read_part(path, manifest, name)
        except StoreError as error:
            yield str(error)


def _broken_format(path: Path, manifest: Manifest) -> Iterator[str]:
    """Files that are as they were written and yet not what the format says."""
    try:
        docs = derived.docs_table(path, manifest, [piece.docs for piece in derived.pieces(path, manifest)])
        latents = derived.read_concepts(path, manifest)["latent"]
    except StoreError as error:
        yield str(error)
        return
    if docs["doc_id"].null_count() or docs["doc_id"].is_duplicated().any():
        yield f"{path / DOCS} does not follow the format: doc_id is null or not unique"
    if len(latents) != manifest.n_latents or (latents.diff() <= 0).any():
        yield f"{path / CONCEPTS} does not follow the format: latents are not {manifest.n_latents} ascending numbers"


def _derived_files(path: Path, manifest: Manifest) -> Iterator[str]:
    for kind in (derived, by_latent):
        folder = path / kind.FOLDER
        if not folder.exists():
            continue
        try:
            found = (folder / kind.INDEX).read_bytes()
            if found != index_bytes(manifest, folder, kind.names(manifest), kind.LAYOUT):
                yield f"{folder} is damaged or of another state of the store: delete it, it is built again"
        except OSError as error:
            yield f"{folder} is incomplete ({error}): delete it, it is built again"
    for folder in kept.damaged(path, manifest):
        yield f"{folder} is damaged or of another state of the store: delete it, it is built again"


def _derived_values(path: Path, manifest: Manifest) -> Iterator[str]:
    """Compare what is mapped with what the shards say; bytes that are whole may still be wrong."""
    if not (path / derived.FOLDER).exists():
        return
    if not (mapped := derived.load(path, manifest)):
        yield f"{path / derived.FOLDER} cannot be mapped: delete it, it is built again"
        return
    position = dict.fromkeys(mapped.arrays, 0)
    wrong, docs = set(), []
    for piece in derived.pieces(path, manifest):
        for name, values in piece.arrays.items():
            start, position[name] = position[name], position[name] + len(values)
            if not np.array_equal(mapped.arrays[name][start : position[name]], values):
                wrong.add(f"{name}.npy")
        docs.append(piece.docs)
    expected = derived.docs_table(path, manifest, docs)
    if expected.schema != mapped.docs.schema or not expected.equals(mapped.docs):
        wrong.add(derived.DOCS_ARROW)
    if not wrong and (path / by_latent.FOLDER).exists():
        wrong |= {f"by_latent/{name}" for name in by_latent.wrong_values(path, manifest)}
    for name in sorted(wrong):
        yield f"{path / derived.FOLDER / name} does not hold what the shards say: delete {derived.FOLDER}/"


def _labels(path: Path, manifest: Manifest) -> Iterator[str]:
    try:
        labels_beside.store_labels(path, manifest)
    except StoreError as error:
        yield str(error)


def _fields(path: Path, manifest: Manifest) -> Iterator[str]:
    """What is wrong with further fields, or with their place beside this one."""
    for name in sorted(manifest.fields):
        folder = field_path(path, name)
        problems = verify_store(folder) if (folder / MANIFEST).is_file() else []
        if not problems and (problem := not_the_field(path, manifest, name)):
            problems = [problem]
        yield from problems
        if not problems and not _ids(folder).equals(_ids(path)):
            yield f"{folder} does not follow the format: its documents are not those of {path}"


def _ids(path: Path) -> pl.Series:
    return pl.read_parquet(path / DOCS, columns=["doc_id"])["doc_id"]
