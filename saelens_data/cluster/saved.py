"""Clusters kept in a file, and new documents put into them.

The file is a safetensors file: the map from activations to coordinates and the centres, and in its metadata, as JSON,
what they are called and which encoder they were made with. Nothing in it is ever executed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from saelens_data.cluster.coordinates import Transform
from saelens_data.cluster.methods import distances, membership
from saelens_data.display import table
from saelens_data.display.table import Column, Shown
from saelens_data.errors import InputError
from saelens_data.matrix import ConceptMatrix, Source
from saelens_data.results import Result, write_whole
from saelens_data.wording import count, share

if TYPE_CHECKING:
    from saelens_data.cluster.result import ClusterResult

SUFFIX = ".safetensors"
_FORMAT = 1
_TENSORS = {
    "latents": np.int32,
    "basis": np.float32,
    "offset": np.float32,
    "chosen": np.bool_,
    "centres": np.float32,
    "radius": np.float32,
}


@dataclass(frozen=True, eq=False)
class SavedClusters:
    """What is needed to put new documents into clusters.

    `transform` places documents, `centres` [clusters, r] and `radius` [clusters] are where the clusters lie and how far
    from its centre the farthest document of each was. `about`: names, method and parameters. `source`: the encoder.
    """

    transform: Transform
    centres: np.ndarray
    radius: np.ndarray
    source: Source
    about: Mapping[str, Any]

    @classmethod
    def of(cls, result: ClusterResult) -> SavedClusters:
        """What a result keeps of its clusters."""
        found, Z = result.clusters, result.coordinates.Z
        far = distances(Z, found.centres)
        radius = [float(far[found.labels == i, i].max()) for i in range(found.k)]
        there = found.labels >= 0
        again = float((far.argmin(axis=1)[there] == found.labels[there]).mean())
        about = {"names": result.names, "parameters": dict(result.parameters), "reproduces": again}
        return cls(result.coordinates.transform, found.centres, np.array(radius, np.float32), result.m.source, about)

    def save(self, path: str | Path) -> Path:
        """Write the file, whole or not at all; the same clusters give the same bytes. Raises InputError."""
        from safetensors.numpy import save  # noqa: PLC0415

        path = Path(path)
        if path.suffix != SUFFIX:
            raise InputError(f"cannot keep clusters as '{path.name}': its name must end in {SUFFIX}")
        t = self.transform
        values = (t.latents, t.basis, t.offset, t.chosen, self.centres, self.radius)
        arrays: dict[str, np.ndarray] = {
            name: np.ascontiguousarray(value, dtype=dtype)
            for (name, dtype), value in zip(_TENSORS.items(), values, strict=True)
        }
        source = {**asdict(self.source), "limits": dict(self.source.limits), "versions": {}}
        metadata = {"format": _FORMAT, "pooling": t.pooling, "source": source, "about": self.about}
        # One key, since safetensors writes several in no fixed order.
        write_whole(path, save(arrays, metadata={"saelens_data": json.dumps(metadata, sort_keys=True, default=str)}))
        return path


def read_clusters(path: str | Path) -> SavedClusters:
    """Open what `ClusterResult.save_clusters` wrote. Raises InputError for anything else."""
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415

    path = Path(path)
    try:
        with safe_open(path, framework="numpy") as file:
            about = json.loads((file.metadata() or {}).get("saelens_data", "{}"))
            arrays = {name: file.get_tensor(name) for name in _TENSORS if about}
    except (OSError, SafetensorError, ValueError) as error:
        raise InputError(f"'{path}' holds no clusters ({error}): give a file that `cluster --save` wrote") from error
    return _checked(path, about, arrays)


def _checked(path: Path, about: dict[str, Any], arrays: dict[str, np.ndarray]) -> SavedClusters:
    wrong = f"'{path}' holds no clusters that can be read"
    if not about:
        raise InputError(f"{wrong}: give a file that `cluster --save` wrote")
    if about.get("format") != _FORMAT:
        raise InputError(f"{wrong}: it was written by a newer version; upgrade saelens_data")
    n, r = arrays["basis"].shape if arrays["basis"].ndim == 2 else (-1, -1)
    k = len(arrays["radius"])
    if (
        arrays["latents"].shape != (n,)
        or arrays["chosen"].shape != (n,)
        or arrays["offset"].shape != (r,)
        or arrays["centres"].shape != (k, r)
    ):
        raise InputError(f"{wrong}: its tables do not fit each other; write it again")
    try:
        source = Source(**about["source"])
        transform = Transform(arrays["latents"], arrays["basis"], arrays["offset"], about["pooling"], arrays["chosen"])
        names = about["about"]["names"]
    except (KeyError, TypeError) as error:
        raise InputError(f"{wrong}: {error} is missing or unknown; write it again") from error
    if len(names) != k:
        raise InputError(f"{wrong}: it has {k} clusters and {len(names)} names; write it again")
    return SavedClusters(transform, arrays["centres"], arrays["radius"], source, about["about"])


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class AssignResult(Result):
    """The outcome of `assign`. `frame` holds one row for each document, in the order of the matrix.

    Columns: `doc_id`; `cluster` and its `name`, null for unassigned; `membership`, 0 on the border with another cluster
    to 1 at the centre; `beyond`, whether it lies farther from the centre than every document the cluster was made of.
    """

    kind: str = "assign"

    def summary(self) -> str:
        """How many documents, in how many clusters, and how many in none."""
        n, out = self.frame.height, self.frame["cluster"].null_count()
        return (
            f"{count(n - out, 'document')} put into {count(self.frame['cluster'].drop_nulls().n_unique(), 'cluster')}, "
            f"{out:,} unassigned"
        )

    def _shown(self) -> Shown:
        return Shown.of(
            self.frame,
            Column("document", "doc_id"),
            Column("cluster", "cluster", right=True),
            Column("name", lambda row: row["name"] or "unassigned"),
            Column("membership", "membership", table.two_places, scale=table.shares),
            Column("beyond its documents", "beyond", table.yes),
            noun="document",
        )

    def plot(self) -> Any:
        """How many documents came to each cluster, the most first; an Altair chart.

        Raises MissingExtraError without Altair, InputError without rows.
        """
        from saelens_data.display import plots  # noqa: PLC0415

        named = pl.format("{}: {}", "cluster", "name").fill_null("unassigned")
        counts = (
            self.frame.group_by(named.alias("name"))
            .len("documents")
            .sort("documents", "name", descending=[True, False])
        )
        return plots.bars(
            counts,
            y="name",
            x="documents",
            title="documents",
            tooltip={"name": "cluster", "documents": "documents"},
        )


def assign(clusters: ClusterResult | SavedClusters | str | Path, m: ConceptMatrix) -> AssignResult:
    """Put the documents of a matrix into clusters made before, of a result or a file.

    A document goes to the nearest centre. With HDBSCAN's clusters it stays unassigned beyond the farthest document that
    the cluster was made of; documents with none of the chosen concepts stay unassigned in any case. Raises InputError
    for a file without clusters and for a matrix of another encoder.
    """
    saved = clusters if isinstance(clusters, SavedClusters) else _saved(clusters)
    max_pooled(m).require_same(saved.source)
    Z, rows = saved.transform.place(m)
    far = distances(Z, saved.centres)
    label = far.argmin(axis=1)
    beyond = far[np.arange(len(label)), label] > saved.radius[label] * (1 + 1e-5)
    method = saved.about["parameters"]["method"]
    if method == "hdbscan":
        label = np.where(beyond, -1, label)
    whole = {
        "cluster": np.full(m.n_docs, -1, dtype=np.int32),
        "membership": np.zeros(m.n_docs, dtype=np.float32),
        "beyond": np.zeros(m.n_docs, dtype=bool),
    }
    for name, values in (("cluster", label), ("membership", membership(Z, label, saved.centres)), ("beyond", beyond)):
        whole[name][rows] = values
    names = dict(enumerate(saved.about["names"]))
    frame = pl.DataFrame({"doc_id": m.docs["doc_id"], **whole}).with_columns(
        cluster=pl.when(pl.col("cluster") >= 0).then("cluster")
    )
    frame = frame.with_columns(name=pl.col("cluster").replace_strict(names, default=None, return_dtype=pl.String))
    return AssignResult(
        frame=frame.select("doc_id", "cluster", "name", "membership", "beyond"),
        parameters={"encoder": m.source.encoder, "clusters": len(saved.centres), **_kept(saved)},
        notes=_notes(saved, frame, m.n_docs - len(rows)),
    )


def max_pooled(m: ConceptMatrix) -> Source:
    """The source of a matrix as its store has it."""
    return m.source if m.source.pooling == "max" else Source(**{**asdict(m.source), "pooling": "max"})


def _saved(clusters: ClusterResult | str | Path) -> SavedClusters:
    return read_clusters(clusters) if isinstance(clusters, str | Path) else SavedClusters.of(clusters)


def _kept(saved: SavedClusters) -> dict[str, Any]:
    return {key: saved.about["parameters"].get(key) for key in ("method", "by", "without", "space", "pooling", "seed")}


def _notes(saved: SavedClusters, frame: pl.DataFrame, empty: int) -> tuple[str, ...]:
    notes = []
    if empty:
        notes.append(f"Unassigned: {count(empty, 'document')} in which none of the chosen concepts is active.")
    if beyond := int(frame["beyond"].sum()):
        what = "stay unassigned, as they lie" if saved.about["parameters"]["method"] == "hdbscan" else "lie"
        notes.append(f"{count(beyond, 'document')} {what} farther out than every document the cluster was made of.")
    if (again := saved.about["reproduces"]) < 1:
        notes.append(
            f"By the nearest centre, {share(again)} of the documents that the clusters were made of come to their own."
        )
    return tuple(notes)
