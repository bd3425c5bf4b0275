"""manifest.json: what a store holds, how far it is written, and the size and SHA-256 of every part."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

from saelens_data.errors import StoreError
from saelens_data.matrix import Source
from saelens_data.matrix.fields import DEFAULT_FIELD
from saelens_data.store.files import atomic_write_bytes

FORMAT = "saelens_data store"
#: Raised when a reader of the previous version could misread a store.
VERSION = 1
MANIFEST = "manifest.json"
DOCS = "docs.parquet"
CONCEPTS = "concepts.parquet"
SHARDS = "shards"
#: Folder of further fields of the same documents, each a store.
FIELDS = "fields"
#: What is counted in each shard and summed over all.
SHARD_COUNTS = ("activations", "units", "tokens", "errors")
#: What a document's vector is: of the reader's embeddings of its units, each of length 1, the mean with the units'
#: tokens as weights, brought to length 1.
VECTORS_OF = "units by tokens"

#: Names of fields are names of folders, and a manifest may come from anywhere.
_FIELD_NAME = re.compile("[a-z][a-z0-9_-]{0,63}")
#: Stands for the checksum while it is computed: SHA-256 of the file with these 64 zeros in its place.
_NO_CHECKSUM = "0" * 64


@dataclass(frozen=True)
class Manifest:
    """The content of manifest.json. `checksum` is that of the file it was read from, "" if not read."""

    digest: str
    source: Source
    n_docs: int
    n_latents: int
    plan: tuple[tuple[int, int], ...]
    complete: bool = False
    parts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    checksum: str = ""
    #: Numbers in each document's vector; None in a store without vectors.
    vector_dim: int | None = None
    #: Digests of the stores of further fields, by name.
    fields: Mapping[str, str] = field(default_factory=dict)

    @property
    def shard_names(self) -> list[str]:
        """Path of each shard of the plan, written or not."""
        return [shard_name(number) for number in range(len(self.plan))]

    @property
    def missing(self) -> tuple[int, ...]:
        """Numbers of the shards that are not written."""
        return tuple(number for number, name in enumerate(self.shard_names) if name not in self.parts)

    @property
    def progress(self) -> str:
        """How far the store is, as "12 of 40 shards"."""
        return f"{len(self.plan) - len(self.missing)} of {len(self.plan)} shards"

    def total(self, count: str) -> int:
        """Sum of one of SHARD_COUNTS over the shards that are written."""
        return sum(int(self.parts[name][count]) for name in self.shard_names if name in self.parts)

    def with_part(self, name: str, data: bytes, **counts: int) -> Manifest:
        """The manifest with one part added."""
        entry = {"bytes": len(data), "sha256": sha256(data).hexdigest(), **counts}
        return replace(self, parts={**self.parts, name: entry})

    def without(self, names: Iterable[str]) -> Manifest:
        """The manifest of an unfinished store that lacks these parts."""
        gone = set(names)
        return replace(self, complete=False, parts={k: v for k, v in self.parts.items() if k not in gone})

    def to_bytes(self) -> bytes:
        """The file, its checksum filled in."""
        fields = {name: {"digest": self.fields[name]} for name in sorted(self.fields)}
        content = {
            "checksum": _NO_CHECKSUM,
            "format": FORMAT,
            "version": VERSION,
            "state": "complete" if self.complete else "encoding",
            "digest": self.digest,
            "source": _source_content(self.source),
            "documents": self.n_docs,
            "latents": self.n_latents,
            **{count: self.total(count) for count in SHARD_COUNTS},
            **({} if self.vector_dim is None else {"vectors": {"dim": self.vector_dim, "of": VECTORS_OF}}),
            **({"fields": fields} if fields else {}),
            "plan": [0, *(stop for _, stop in self.plan)],
            "parts": {name: self.parts[name] for name in (CONCEPTS, DOCS, *self.shard_names) if name in self.parts},
        }
        data = json.dumps(content, indent=1).encode() + b"\n"
        return data.replace(_NO_CHECKSUM.encode(), sha256(data).hexdigest().encode(), 1)


def shard_name(number: int) -> str:
    """Path of a shard in its store."""
    return f"{SHARDS}/{number:05d}.parquet"


def field_path(path: Path, name: str) -> Path:
    """Folder of a further field of the store `path`. Raises ValueError for a name that no folder may have."""
    if not _FIELD_NAME.fullmatch(name):
        raise ValueError(f"'{name}' cannot be the name of a field: lower-case letters, digits, _ and -")
    return path / FIELDS / name


def is_store(path: str | Path) -> bool:
    """Whether `path` is the folder of a store, sound or not, of this or a newer format."""
    try:
        with (Path(path) / MANIFEST).open("rb") as file:
            return FORMAT.encode() in file.read(400)
    except OSError:
        return False


def read_manifest(path: Path) -> Manifest:
    """Read and check the manifest of the store `path`. Raises StoreError for anything but a sound one."""
    try:
        data = (path / MANIFEST).read_bytes()
    except OSError as error:
        raise StoreError(_why_no_manifest(path, error)) from error
    try:
        content = json.loads(data)
        if content["format"] != FORMAT:
            raise StoreError(f"{path} is not a store: its {MANIFEST} is of another kind")
        if (version := int(content["version"])) > VERSION:
            raise StoreError(
                f"{path} has format {version} and this version of saelens_data reads up to {VERSION}: "
                "pip install -U saelens_data"
            )
        checksum = str(content["checksum"])
        if sha256(data.replace(checksum.encode(), _NO_CHECKSUM.encode(), 1)).hexdigest() != checksum:
            raise ValueError("wrong checksum")
        return _from_content(content)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(
            f"{path / MANIFEST} is damaged: restore it from a copy, or delete the folder and encode again"
        ) from error


def write_manifest(path: Path, manifest: Manifest) -> Manifest:
    """Write the manifest of the store `path` and return it as `read_manifest` would."""
    data = manifest.to_bytes()
    atomic_write_bytes(path / MANIFEST, data)
    return replace(manifest, checksum=json.loads(data)["checksum"])


def read_part(path: Path, manifest: Manifest, name: str) -> bytes:
    """The bytes of a part. Raises StoreError if they are not those that were written."""
    entry = manifest.parts[name]
    try:
        data = (path / name).read_bytes()
    except FileNotFoundError as error:
        raise StoreError(f"{path / name} is missing: run the encode command again to restore it") from error
    except OSError as error:
        raise StoreError(f"{path / name} cannot be read ({error.strerror})") from error
    if len(data) != entry["bytes"] or sha256(data).hexdigest() != entry["sha256"]:
        raise StoreError(
            f"{path / name} is damaged (size or SHA-256 differ from the manifest's): "
            "delete that file and run the encode command again"
        )
    return data


def lost_parts(path: Path, manifest: Manifest) -> list[str]:
    """Parts of the manifest whose file is not there in the size that was written."""
    return [name for name, entry in manifest.parts.items() if _size(path / name) != entry["bytes"]]


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return -1


def _from_content(content: Mapping[str, Any]) -> Manifest:
    known = {f.name for f in fields(Source)}
    bounds = [int(bound) for bound in content["plan"]]
    manifest = Manifest(
        digest=str(content["digest"]),
        source=Source(**{key: value for key, value in content["source"].items() if key in known}),
        n_docs=int(content["documents"]),
        n_latents=int(content["latents"]),
        plan=tuple(pairwise(bounds)),
        complete={"complete": True, "encoding": False}[content["state"]],
        parts=content["parts"],
        checksum=content["checksum"],
        vector_dim=_vector_dim(content),
        fields=_fields(content),
    )
    _check_parts(manifest)
    check_fields(manifest)
    return manifest


def _vector_dim(content: Mapping[str, Any]) -> int | None:
    if (vectors := content.get("vectors")) is None:
        return None
    if (dim := int(vectors["dim"])) < 1 or vectors["of"] != VECTORS_OF:
        raise ValueError("vectors of an unknown kind")
    return dim


def _fields(content: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(entry["digest"]) for name, entry in content.get("fields", {}).items()}


def check_fields(manifest: Manifest) -> None:
    """Raise ValueError for names that fields cannot have."""
    for name in manifest.fields:
        field_path(Path(), name)
    if (own := manifest.source.field) in manifest.fields:
        raise ValueError(f"'{own}' is the store's own field and cannot lie beside it")


def _check_parts(manifest: Manifest) -> None:
    """Raise ValueError or KeyError unless the parts are those of the plan, each with what a part has."""
    shards = set(manifest.shard_names)
    if unknown := set(manifest.parts) - shards - {CONCEPTS, DOCS}:
        raise ValueError(f"unknown parts: {unknown}")
    if manifest.complete and len(manifest.parts) != len(shards) + 2:
        raise ValueError("complete, but parts are missing")
    for name, entry in manifest.parts.items():
        for key in ("bytes", *(SHARD_COUNTS if name in shards else ())):
            int(entry[key])
        str(entry["sha256"])


def _source_content(source: Source) -> dict[str, Any]:
    values = {f.name: getattr(source, f.name) for f in fields(source)}
    if source.field == DEFAULT_FIELD:  # as in stores from before there were fields
        del values["field"]
    if not source.checks:
        del values["checks"]
    return {k: dict(sorted(v.items())) if isinstance(v, Mapping) else v for k, v in values.items()}


def _why_no_manifest(path: Path, error: OSError) -> str:
    if isinstance(error, NotADirectoryError):
        return f"{path} is a file, not a store: if it holds texts, make a store of them with saelens-data encode {path}"
    if isinstance(error, FileNotFoundError) and path.is_dir():
        return f"{path} is not a store, because it has no {MANIFEST}: give a folder that saelens-data encode wrote"
    if isinstance(error, FileNotFoundError):
        return f"there is no store at {path}: give a folder that saelens-data encode wrote"
    return f"{path / MANIFEST} cannot be read ({error.strerror})"
