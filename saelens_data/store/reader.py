"""Open a store: the manifest and the concepts are read, everything of the size of the documents is mapped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from saelens_data.errors import StoreError
from saelens_data.matrix import ConceptMatrix, Evidence, Units, canonical_csr
from saelens_data.matrix.fields import Beside
from saelens_data.store import labels as labels_beside
from saelens_data.store.beside import StoredFields
from saelens_data.store.derived import derive, read_concepts
from saelens_data.store.kept import Kept
from saelens_data.store.manifest import Manifest, read_manifest


def open_store(path: str | Path) -> ConceptMatrix:
    """Open a store memory-mapped and read-only; the cost does not grow with the documents.

    `docs` has the columns of docs.parquet, then `n_units`, `n_tokens`, `error`. Arrays that are not built yet are
    built first, in the folder, or in memory where it cannot be written. Further fields are opened when `field` asks
    for them. Labels kept beside the store are in `labels`, and `concepts` shows the preferred ones.
    Raises StoreError for a path without a store, an unfinished or damaged one, and one of a newer format.
    """
    path = Path(path)
    manifest = read_manifest(path)
    m = open_own(path, manifest)
    if table := labels_beside.store_labels(path, manifest):
        m = m.with_labels(table)
    if not manifest.fields:
        return m
    return replace(m, beside=Beside((StoredFields(path.absolute(), manifest, open_own),))).backed(m.keeper)


def open_own(path: Path, manifest: Manifest) -> ConceptMatrix:
    """The store's own field. Raises StoreError."""
    if not manifest.complete:
        raise StoreError(f"{path} is unfinished ({manifest.progress}): run the encode command again to finish it")
    concepts = read_concepts(path, manifest)
    derived = derive(path, manifest)
    arrays = derived.arrays
    X = canonical_csr(arrays["max"], arrays["indices"], arrays["indptr"], (manifest.n_docs, manifest.n_latents))
    units = Units(arrays["unit_ptr"], arrays["unit_start"], arrays["unit_end"])
    evidence = Evidence(arrays["mean"], arrays["unit"], units)
    m = ConceptMatrix(X, derived.docs, concepts, manifest.source, evidence, arrays.get("vectors"))
    return m.backed(Kept(path.absolute(), manifest))
