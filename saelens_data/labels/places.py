"""Labels kept on disk: beside a store, or in the folder of an encoder, from which the stores it makes get them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from saelens_data.encoders import (
    CONFIG_FILE,
    ENCODER_FILE,
    WEIGHTS_FILE,
    Address,
    Encoder,
    find_encoder,
    read_concepts,
    sha256_of_file,
)
from saelens_data.encoders.names import pair_of, pair_of_address
from saelens_data.errors import EncoderError, InputError, choices
from saelens_data.labels.files import LabelFile
from saelens_data.labels.importers import read_labels as read_label_file
from saelens_data.matrix import ConceptMatrix
from saelens_data.matrix.label_table import LabelTable
from saelens_data.store import is_store, open_store
from saelens_data.store.derived import read_concepts as store_concepts
from saelens_data.store.files import explained, locked
from saelens_data.store.labels import read_labels, to_bytes, write_labels
from saelens_data.store.manifest import read_manifest

#: How long a change waits for another process that is changing the same labels.
WAIT_SECONDS = 60.0


@dataclass(frozen=True, eq=False)
class LabelPlace:
    """A folder in which labels are kept, and what must be known of its SAE."""

    folder: Path
    sae_sha256: str
    #: Latents of the SAE; None where only a selection of them is described.
    d_sae: int | None
    #: The concepts as they came with the encoder.
    concepts: pl.DataFrame
    #: Name of the SAE's labels at Neuronpedia, MODEL/SOURCE; None if it is not known.
    published: str | None = None

    @property
    def shipped(self) -> LabelTable:
        """The labels that came with the encoder."""
        return LabelTable.of_concepts(self.concepts, self.sae_sha256)

    def all(self) -> LabelTable:
        """All labels of the SAE here. Raises StoreError for a file that is damaged."""
        kept = read_labels(self.folder)
        return self.shipped if kept is None else self.shipped.adding(kept)


def place_of(where: str | Path) -> LabelPlace:
    """The place that a store's or an encoder's folder is. Raises StoreError, or EncoderError, for anything else."""
    path = Path(where)
    if (path / ENCODER_FILE).is_file():
        return _encoder_place(path)
    manifest = read_manifest(path)
    concepts = store_concepts(path, manifest)
    source = manifest.source
    return LabelPlace(path, source.sae_sha256, d_sae_of(concepts), concepts, neuronpedia_of(source.encoder))


def d_sae_of(concepts: pl.DataFrame) -> int | None:
    """Latents of the SAE that all concepts of are given; None for a selection, which does not say."""
    latents = concepts["latent"]
    return concepts.height if concepts.height and latents[-1] == concepts.height - 1 else None


def add_labels(
    where: str | Path, labels: pl.DataFrame | LabelTable, *, origin: str | None = None, prefer: tuple[str, ...] = ()
) -> LabelTable:
    """Keep labels beside the store, or in the encoder's folder, `where`, and return all that are there now.

    A table has the columns of LABEL_SCHEMA, at least `latent` and `label`; `origin` is that of rows without one. What
    the same origin said of the same latents before is replaced, all else stays. `prefer` as in `prefer_labels`.
    Adding the same labels twice gives the same bytes. Raises InputError for labels that cannot be this SAE's, and
    StoreError where they cannot be written; then nothing is.
    """
    place = place_of(where)
    if isinstance(labels, pl.DataFrame):
        labels = LabelTable.of(labels, sae_sha256=place.sae_sha256, d_sae=place.d_sae, origin=origin)
    labels.require_sae(place.sae_sha256)
    labels.require_within(place.d_sae)
    newer = labels

    def add(kept: LabelTable) -> LabelTable:
        return _preferring(place, kept.adding(newer), prefer or newer.prefer or kept.prefer)

    return _change(place, add)


def import_labels(
    where: str | Path,
    path: str | Path,
    *,
    origin: str | None = None,
    source: str | None = None,
    prefer: tuple[str, ...] = (),
) -> LabelFile:
    """Read labels that others made (`read_labels`) and keep them as `add_labels` does; returns what was read.

    Raises InputError too for labels that say they are of another SAE than the one here is known to be.
    """
    found = read_label_file(path, origin=origin, source=source)
    place = place_of(where)
    if place.published and found.source and "/" in found.source and found.source != place.published:
        raise InputError(
            f"the labels in '{path}' are of {found.source}, and the SAE here is {place.published}: "
            "a latent's number means something else there"
        )
    add_labels(where, found.rows, prefer=prefer)
    return found


def prefer_labels(where: str | Path, *origins: str) -> LabelTable:
    """Put the labels of these origins before all others, the first first; none: back to the default order.

    "neuronpedia" stands for all origins that begin with "neuronpedia:". Raises as `add_labels`, and InputError for an
    origin of which there are no labels here.
    """
    place = place_of(where)
    return _change(place, lambda kept: _preferring(place, kept, origins))


def remove_labels(where: str | Path, origin: str) -> LabelTable:
    """Remove an origin's labels. Raises as `add_labels`, and InputError for labels that came with the encoder."""
    place = place_of(where)

    def remove(kept: LabelTable) -> LabelTable:
        if origin in place.shipped.origins and origin not in kept.origins:
            raise InputError(
                f"the labels of origin '{origin}' came with the encoder and stay: prefer others "
                f"({choices(origin, kept.origins)})"
            )
        left = kept.without(origin)
        return replace(left, prefer=place.shipped.adding(left).known(kept.prefer))

    return _change(place, remove)


def inherit_labels(store: Path, encoder: str | Path | Encoder) -> None:
    """Give a store the labels in the folder of the encoder that made it; labels that the store has come first.

    An encoder that is no folder, or whose folder has no labels, changes nothing. Raises StoreError.
    """
    try:
        folder = find_encoder(encoder.name if isinstance(encoder, Encoder) else encoder)
    except EncoderError:
        return
    theirs = read_labels(folder)
    if theirs is None or theirs.sae_sha256 != read_manifest(store).source.sae_sha256:
        return
    _change(place_of(store), theirs.adding)


def labels_of(m: ConceptMatrix | str | Path) -> LabelTable:
    """All labels of a matrix, a store or an encoder's folder, whatever their origin."""
    if isinstance(m, ConceptMatrix):
        return m.labels
    return open_store(m).labels if is_store(m) else place_of(m).all()


def neuronpedia_of(encoder: str) -> str | None:
    """MODEL/SOURCE of an encoder's SAE at Neuronpedia, if it is one of the published pairs."""
    address = Address.parse(encoder)
    pair = pair_of(encoder) if address is None else pair_of_address(address)
    return pair.neuronpedia if pair else None


def _preferring(place: LabelPlace, kept: LabelTable, origins: tuple[str, ...]) -> LabelTable:
    """`kept` with a preference that may name what came with the encoder."""
    place.shipped.adding(kept).preferring(*origins)
    return replace(kept, prefer=tuple(dict.fromkeys(origins)))


def _change(place: LabelPlace, change: Callable[[LabelTable], LabelTable]) -> LabelTable:
    """Read, change and write the file under the folder's lock, so that no label added meanwhile is lost."""
    with explained(place.folder), locked(place.folder, wait=WAIT_SECONDS):
        found = read_labels(place.folder)
        kept = found if found is not None else LabelTable.of_concepts(place.concepts.clear(), place.sae_sha256)
        kept.require_sae(place.sae_sha256)
        changed = change(kept)
        if found is None or to_bytes(changed) != to_bytes(found):
            write_labels(place.folder, changed)
    return place.shipped.adding(changed)


def _encoder_place(folder: Path) -> LabelPlace:
    try:
        d_sae = int(json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))["d_sae"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EncoderError(f"{folder / CONFIG_FILE} does not say d_sae: copy or train the encoder again") from error
    return LabelPlace(folder, sha256_of_file(folder / WEIGHTS_FILE), d_sae, read_concepts(folder, d_sae))
