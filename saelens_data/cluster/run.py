"""Group documents by chosen concepts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import polars as pl

from saelens_data.cluster.auto import TRIED, Auto, choose_k
from saelens_data.cluster.axis import Axis, all_concepts
from saelens_data.cluster.coordinates import DIMENSIONS, FOR_EACH, Coordinates, Pooling, chosen, coordinates
from saelens_data.cluster.examples import example_documents
from saelens_data.cluster.hierarchy import merge_tree
from saelens_data.cluster.leakage import left_out
from saelens_data.cluster.methods import METHODS, Clusters, Method, hdbscan, kmeans, spectral
from saelens_data.cluster.naming import Naming, Regroup, name_clusters
from saelens_data.cluster.quality import MOST, SHARE, Agreement, Grouping, agreement, crossed, silhouette, stability
from saelens_data.cluster.result import ClusterResult
from saelens_data.errors import InputError, choices
from saelens_data.matrix import ConceptMatrix
from saelens_data.wording import count, share

#: Documents that the spectral method, which compares all pairs, makes clusters of again.
_PAIRWISE = 1_000


@dataclass(frozen=True)
class Options:
    """How documents are grouped, as `cluster` takes it."""

    k: int | Literal["auto"] | None
    method: Method
    least: int | None
    pooling: Pooling
    seed: int


def cluster(  # noqa: PLR0913 - one question, and what it may be asked with
    m: ConceptMatrix,
    by: str | Sequence[str] | None = None,
    *,
    concepts: str | None = None,
    without: str | Sequence[str] | None = None,
    latents: pl.DataFrame | None = None,
    keep_languages: bool = False,
    k: int | Literal["auto"] | None = None,
    method: Method = "kmeans",
    least: int | None = None,
    pooling: Pooling = "mean",
    truth: str | None = None,
    leakage: str | None = None,
    seed: int = 0,
) -> ClusterResult:
    """Group the documents by the concepts of an axis, and say what sets each cluster apart and how far to trust it.

    The axis: phrases `by`, a query `concepts` of the concept language, or a table `latents` with a column "latent" (and
    "weight", if they count differently); all concepts without any. `without`: phrases for what is to be left out; where
    documents are in several languages and words choose the axis, language is, too, unless `keep_languages`.
    `method`: "kmeans" and "spectral" (the paper's; for small sets) make `k` clusters, "auto" being chosen by stability;
    "hdbscan" finds how many there are of at least `least` documents. `truth` and `leakage` name columns that the
    clusters are compared with: what they should follow, and what they should not.

    Documents in which none of the chosen concepts is active stay unassigned. Raises InputError for options that do not
    go together, for a column that is not there, and for fewer documents than clusters.
    """
    options = Options(k, method, least, pooling, seed)
    _check(m, options, truth, leakage)
    by, without = _phrases(by), _phrases(without)
    m, notes = _usable(m)
    axis = find_axis(m, by, concepts=concepts, without=without, latents=latents, keep_languages=keep_languages)
    most = DIMENSIONS if k is None else FOR_EACH * (max(TRIED) if k == "auto" else k)
    placed = coordinates(m, axis, pooling=pooling, dimensions=most, seed=seed)
    auto = choose_k(placed.P, seed=seed) if k == "auto" else None
    if auto and auto.k is None:
        best = auto.curve.sort("excess", descending=True).row(0, named=True)
        raise InputError(
            "these concepts do not separate the documents: no number of clusters comes again more surely than in data "
            f"without clusters (at best {best['k']}, agreement of two halves {best['stability']:.2f} against "
            f"{best['null']:.2f}); choose other concepts, or give a number with -k to cut them up all the same"
        )
    if auto:
        options, placed = replace(options, k=auto.k), placed.first(FOR_EACH * (auto.k or 0))
    found = group(m, axis, placed, options)
    whole = np.full(m.n_docs, -1, dtype=np.int64)
    whole[placed.rows] = found.labels
    naming = name_clusters(m, whole, axis.columns, _regroup(m, axis, found.k, options), seed=seed)
    quality = _quality(m, axis, placed, found, options)
    if method == "kmeans" and (curve := auto.curve if auto else _at(placed, found.k, seed)) is not None:
        quality["halves"] = curve.row(by_predicate=pl.col("k") == found.k, named=True)
    if truth is not None:
        quality["truth"] = agreement(whole, _codes(m, truth))
    if leakage is not None:
        quality["leakage"] = agreement(whole, _codes(m, leakage))
    if axis.before is not None:
        before = _before(m, axis.before, replace(options, k=found.k))
        quality["left_out"] = left_out(m, axis.unwanted, whole, before)
        if leakage is not None:
            quality["leakage_before"] = agreement(before, _codes(m, leakage))
    asked = {"by": by, "concepts": concepts, "without": without, "truth": truth, "leakage": leakage}
    return _told(m, axis, placed, found, naming, quality, options=options, auto=auto, notes=notes, asked=asked)


def group(m: ConceptMatrix, axis: Axis, placed: Coordinates, options: Options) -> Clusters:
    """Clusters of the documents that were placed, by the method asked for."""
    if options.method == "hdbscan":
        least = options.least or max(5, round(placed.n / 100))
        return hdbscan(placed.Z, least=least)
    assert isinstance(options.k, int)
    if options.method == "spectral":
        return spectral(chosen(m, axis.columns, "max")[placed.rows], placed.Z, options.k, seed=options.seed)
    return kmeans(placed.Z, options.k, seed=options.seed)


def _at(placed: Coordinates, k: int, seed: int) -> pl.DataFrame | None:
    """How stable k clusters are, and in data without clusters; None where documents are too few to say."""
    try:
        return choose_k(placed.P, tried=(k,), seed=seed).curve
    except InputError:
        return None


def _before(m: ConceptMatrix, axis: Axis, options: Options) -> np.ndarray:
    """The clusters [documents] as they would be with nothing left out, -1 for none; by k-means for hdbscan's k."""
    assert isinstance(options.k, int)
    placed = coordinates(m, axis, pooling=options.pooling, dimensions=FOR_EACH * options.k, seed=options.seed)
    method: Method = "kmeans" if options.method == "hdbscan" else options.method
    labels = np.full(m.n_docs, -1, dtype=np.int64)
    labels[placed.rows] = group(m, axis, placed, replace(options, method=method)).labels
    return labels


def _regroup(m: ConceptMatrix, axis: Axis, k: int, options: Options) -> Regroup:
    """Clusters by some of the chosen concepts: k-means whatever the method, which only serves to test the others."""

    def by_some(kept: np.ndarray) -> np.ndarray:
        labels = np.full(m.n_docs, -1, dtype=np.int64)
        part = replace(axis, columns=axis.columns[kept], weights=axis.weights[kept])
        try:
            placed = coordinates(m, part, pooling=options.pooling, dimensions=FOR_EACH * k, seed=options.seed)
            labels[placed.rows] = kmeans(placed.Z, k, seed=options.seed, starts=3).labels
        except InputError:  # too few concepts or documents are left: nothing can be tested so
            pass
        return labels

    return by_some


def _quality(m: ConceptMatrix, axis: Axis, placed: Coordinates, found: Clusters, options: Options) -> dict[str, Any]:
    most = _PAIRWISE if options.method == "spectral" else MOST
    again = stability(found.labels, _again(m, axis, placed, found, options), seed=options.seed, most=most)
    return {
        "stability": again.ari,
        "stability_by_cluster": again.by_cluster.tolist(),
        "silhouette": silhouette(placed.Z, found.labels, seed=options.seed),
    }


def _again(m: ConceptMatrix, axis: Axis, placed: Coordinates, found: Clusters, options: Options) -> Grouping:
    """The same method on some of the rows of `placed`."""

    def of(part: np.ndarray, seed: int) -> np.ndarray:
        some = placed.take(part)
        again = replace(options, k=found.k, seed=seed)
        try:
            if options.method == "kmeans":
                return kmeans(some.Z, found.k, seed=seed, starts=3).labels
            return group(m, axis, some, again).labels
        except InputError:
            return np.zeros(len(part), dtype=np.int64)

    return of


def find_axis(
    m: ConceptMatrix,
    by: str | Sequence[str] | None = None,
    *,
    concepts: str | None = None,
    without: str | Sequence[str] | None = None,
    latents: pl.DataFrame | None = None,
    keep_languages: bool = False,
) -> Axis:
    """The concepts that `cluster` takes for these arguments; its `table` can be edited and given as `latents`."""
    by, without = _phrases(by), _phrases(without)
    if not by and concepts is None and not without and latents is None:
        return all_concepts(m)
    from saelens_data.cluster.choose import choose_axis  # noqa: PLC0415

    return choose_axis(m, by=by, concepts=concepts, without=without, latents=latents, keep_languages=keep_languages)


def _usable(m: ConceptMatrix) -> tuple[ConceptMatrix, list[str]]:
    """The documents that were encoded, and a note on others."""
    if "error" not in m.docs.columns or not (failed := m.n_docs - m.docs["error"].null_count()):
        return m, []
    return m.filter_docs(pl.col("error").is_null()), [
        f"Left out: {count(failed, 'document')} that could not be encoded."
    ]


def _check(m: ConceptMatrix, options: Options, *columns: str | None) -> None:
    if options.method not in METHODS:
        raise InputError(f"no method '{options.method}'; {choices(options.method, METHODS)}")
    if options.method == "hdbscan" and options.k is not None:
        raise InputError(
            "hdbscan finds the number of clusters itself: leave k out, or take kmeans; least says how small one may be"
        )
    if options.method != "hdbscan" and options.least is not None:
        raise InputError(
            "the least number of documents in a cluster goes with hdbscan: leave it out, or take that method"
        )
    if options.method != "hdbscan" and options.k is None:
        raise InputError("how many clusters? Give a number, or 'auto' to have it chosen by stability")
    if isinstance(options.k, str) and options.k != "auto":
        raise InputError(f"k is '{options.k}': give a number, or 'auto'")
    for name in columns:
        if name is not None and name not in m.docs.columns:
            raise InputError(f"there is no column '{name}' to compare with; {choices(name, m.docs.columns)}")
        if name is not None and m.docs[name].dtype.is_nested():
            raise InputError(f"the column '{name}' holds {m.docs[name].dtype}: give one of plain values")


def _phrases(given: str | Sequence[str] | None) -> tuple[str, ...]:
    return () if given is None else (given,) if isinstance(given, str) else tuple(given)


def _codes(m: ConceptMatrix, column: str) -> np.ndarray:
    """The number of each document's value, -1 for none."""
    values = m.docs[column]
    code = (
        values.rank("dense").cast(pl.Int64) - 1
        if values.dtype != pl.String
        else values.cast(pl.Categorical).to_physical().cast(pl.Int64)
    )
    return code.fill_null(-1).to_numpy()


def _told(
    m: ConceptMatrix,
    axis: Axis,
    placed: Coordinates,
    found: Clusters,
    naming: Naming,
    quality: dict[str, Any],
    *,
    options: Options,
    auto: Auto | None,
    notes: list[str],
    asked: dict[str, Any],
) -> ClusterResult:
    examples = example_documents(m, placed.Z, placed.rows, found, naming.concepts)
    parameters = {
        "encoder": m.source.encoder,
        **asked,
        "concepts_chosen": axis.n,
        "k": found.k,
        "k_auto": auto is not None,
        "method": options.method,
        "least": options.least,
        "pooling": options.pooling,
        "space": placed.space,
        "seed": options.seed,
        "drawn": SHARE,
        "tests": naming.n_tests,
        "quality": {key: asdict(value) if isinstance(value, Agreement) else value for key, value in quality.items()},
    }
    return ClusterResult(
        frame=_frame(found, naming, quality, examples).with_columns(_nearest(axis, placed, found)),
        parameters=parameters,
        notes=(*notes, *axis.notes, *_notes(m, placed, found, naming, quality, options.k)),
        m=m,
        axis=axis,
        coordinates=placed,
        clusters=found,
        assignments=_assignments(m, placed, found),
        concepts=naming.concepts,
        examples=examples,
        quality=quality,
        tree=merge_tree(found.centres, found.sizes),
        curve=auto.curve if auto else None,
    )


def _nearest(axis: Axis, placed: Coordinates, found: Clusters) -> list[pl.Series]:
    """Of each cluster the value of a known axis that most documents are nearest to, and their share; none otherwise."""
    if axis.nearest is None:
        return []
    there = found.labels >= 0
    table = crossed(found.labels[there], axis.nearest[placed.rows][there], found.k, len(axis.values))
    most = table.argmax(axis=1)
    part = table.max(axis=1) / np.maximum(table.sum(axis=1), 1)
    return [pl.Series("nearest", [axis.values[i] for i in most]), pl.Series("nearest_share", part)]


def _assignments(m: ConceptMatrix, placed: Coordinates, found: Clusters) -> pl.DataFrame:
    labels, membership = np.full(m.n_docs, -1, dtype=np.int32), np.zeros(m.n_docs, dtype=np.float32)
    labels[placed.rows], membership[placed.rows] = found.labels, found.membership
    frame = pl.DataFrame({"doc_id": m.docs["doc_id"], "cluster": labels, "membership": membership})
    return frame.with_columns(cluster=pl.when(pl.col("cluster") >= 0).then("cluster"))


def _frame(found: Clusters, naming: Naming, quality: dict[str, Any], examples: pl.DataFrame) -> pl.DataFrame:
    listed = (
        naming.concepts.filter("apart")
        .group_by("cluster", maintain_order=True)
        .agg(
            pl.col("label").fill_null("unlabelled").alias("concepts"),
            pl.col("latent").alias("latents"),
            pl.len().alias("apart"),
        )
    )
    central = examples.filter(pl.col("kind") == "central").group_by("cluster", maintain_order=True).first()
    sizes = found.sizes
    member = [float(found.membership[found.labels == i].mean()) for i in range(found.k)]
    frame = pl.DataFrame(
        {
            "cluster": pl.Series(range(found.k), dtype=pl.Int32),
            "name": naming.names,
            "size": sizes,
            "share": sizes / len(found.labels),
            "stability": quality["stability_by_cluster"],
            "membership": member,
        }
    )
    for table in (listed, central.select("cluster", central=pl.col("doc_id"))):
        frame = frame.join(table, on="cluster", how="left", maintain_order="left")
    return frame


def _notes(
    m: ConceptMatrix,
    placed: Coordinates,
    found: Clusters,
    naming: Naming,
    quality: dict[str, Any],
    asked: int | str | None,
) -> list[str]:
    notes = []
    if (at := quality.get("halves")) and not at["beyond"]:
        notes.append(
            f"Doubtful: {found.k} clusters made of two halves of the documents agree hardly better than in data "
            f"without clusters ({at['stability']:.2f} and {at['null']:.2f}), so that they may be arbitrary cuts."
        )
    if isinstance(asked, int) and asked > found.k:
        notes.append(f"{asked} clusters were asked for, and there are {found.k}: the documents do not differ enough.")
    if none := m.n_docs - placed.n:
        notes.append(f"Unassigned: {count(none, 'document')} in which none of the chosen concepts is active.")
    if noise := int((found.labels < 0).sum()):
        notes.append(f"Unassigned: {count(noise, 'document')} ({share(noise / placed.n)}) that lie in no dense place.")
    notes.append(
        f"q is corrected for {count(naming.n_tests, 'test')} on {count(naming.n_docs, 'document')}; concepts that the "
        "clusters were made of are tested on clusters made without them (and without half of the others)."
    )
    return notes
