"""fields/NAME/: further fields of the documents of a store, each a store of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from saelens_data.errors import StoreError
from saelens_data.matrix import ConceptMatrix
from saelens_data.store.arrays import remove
from saelens_data.store.manifest import FIELDS, Manifest, field_path, is_store, lost_parts, read_manifest


@dataclass(frozen=True)
class StoredFields:
    """The fields of the store `path` (absolute) while it has this manifest; a `fields.FieldSource`."""

    path: Path
    manifest: Manifest
    #: Opens the own field of a store.
    opened: Callable[[Path, Manifest], ConceptMatrix]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the fields, the store's own first."""
        return (self.manifest.source.field, *sorted(self.manifest.fields))

    @property
    def n_docs(self) -> int:
        """Number of documents of each."""
        return self.manifest.n_docs

    def open(self, name: str) -> ConceptMatrix:
        """All documents of a field. Raises StoreError for one that is not whole or not the one that was written."""
        if name == self.manifest.source.field:
            found = read_manifest(self.path)
            if found.digest != self.manifest.digest:
                raise StoreError(f"{self.path} holds something else by now: open it again")
            return self.opened(self.path, found)
        if problem := not_the_field(self.path, self.manifest, name):
            raise StoreError(problem)
        path = field_path(self.path, name)
        return self.opened(path, read_manifest(path))


def not_the_field(path: Path, manifest: Manifest, name: str) -> str | None:
    """Why a field that the manifest names cannot be used, if it cannot, by the manifests alone."""
    folder = field_path(path, name)
    if not folder.exists():
        return f"{folder} is missing: run the encode command again to restore it"
    try:
        found = read_manifest(folder)
    except StoreError as error:
        return str(error)
    if not found.complete:
        return f"{folder} is unfinished ({found.progress}): run the encode command again to finish it"
    belongs = found.digest == manifest.fields[name] and found.n_docs == manifest.n_docs and not found.fields
    if not belongs or found.source.field != name or found.source.differences(manifest.source) != ["field"]:
        return f"{folder} is not the field that {path} was written with: delete it and run the encode command again"
    return None


def are_whole(path: Path, manifest: Manifest) -> bool:
    """Whether nothing is to be written into the further fields."""
    for name in manifest.fields:
        folder = field_path(path, name)
        if not_the_field(path, manifest, name) or lost_parts(folder, read_manifest(folder)):
            return False
    return True


def remove_strangers(path: Path, manifest: Manifest) -> None:
    """Remove from fields/ what an interrupted or overwritten run left: what the manifest does not name."""
    for folder in path.glob(f"{FIELDS}/*"):
        # A folder without a manifest is one whose removal was interrupted.
        named = manifest.fields.get(folder.name)
        if named is None or not is_store(folder) or _digest(folder) not in (None, named):
            remove(folder)
    if not manifest.fields and (path / FIELDS).exists():
        remove(path / FIELDS)


def _digest(folder: Path) -> str | None:
    try:
        return read_manifest(folder).digest
    except StoreError:  # who writes into it says what is wrong
        return None
