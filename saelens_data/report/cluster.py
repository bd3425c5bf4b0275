"""The report of clusters: one HTML file with a map to explore, what sets each apart, and how far to trust them."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from saelens_data.cluster.result import ClusterResult
from saelens_data.report.cluster_charts import Curve, Tree, curve_of, tree_of
from saelens_data.report.cluster_map import draw_map, short
from saelens_data.report.cluster_trust import Measure, measures
from saelens_data.report.page import render, write_page
from saelens_data.report.parameters import in_words, parameters_in_words
from saelens_data.wording import count, p_in_words, share

#: Characters of a name, a label or an id, and of either side of an example; concepts of the axis that are listed.
_CHARS, _PASSAGE_CHARS, _LISTED = 120, 600, 500
#: Colours that clusters have before they begin again with another sign.
COLOURS = 12
#: Stability of one cluster in words: Hennig (2007) takes 0.75 and above as a stable one, below 0.5 as dissolved.
_AGAIN = (
    (0.85, "comes again"),
    (0.75, "mostly comes again"),
    (0.5, "partly comes again"),
    (-1.0, "does not come again"),
)
#: How `cluster` groups, in words.
_METHODS = {
    "kmeans": "k-means",
    "hdbscan": "HDBSCAN, which looks for dense places",
    "spectral": "spectral clustering by shared concepts",
}

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Concept:
    """A concept that is more frequent in a cluster than elsewhere; places in percent of a bar's width."""

    name: str
    latent: int
    here: float
    there: float
    in_words: str
    q: str
    #: Whether it passes the test, and whether the clusters were made of it.
    apart: bool
    chosen: bool


@dataclass(frozen=True)
class Example:
    """A document that shows what a cluster is, or where it ends."""

    doc_id: str
    about: str
    #: None where texts were not kept.
    text: tuple[str, str, str] | None


@dataclass(frozen=True)
class Card:
    """A cluster as the page shows it."""

    cluster: int
    name: str
    size: str
    again: str
    tone: str
    #: The value of a known axis that most documents are nearest to, or "".
    nearest: str
    stability: str
    membership: str
    concepts: tuple[Concept, ...]
    central: tuple[Example, ...]
    border: tuple[Example, ...]

    @property
    def colour(self) -> int:
        """The number of its colour."""
        return self.cluster % COLOURS


def write_cluster_report(result: ClusterResult, path: str | os.PathLike[str]) -> Path:
    """Write `result` as one HTML file that needs nothing else; the same result gives the same bytes.

    The map draws at most 20,000 documents, of more a sample that is stratified by cluster. Where the package
    umap-learn is installed it places them, else t-SNE does; the page says which. Raises InputError for a path that
    cannot be written.
    """
    return write_page(path, cluster_html(result))


def cluster_html(result: ClusterResult) -> str:
    """The page that `write_cluster_report` writes."""
    asked = result.parameters
    tree: Tree | None = tree_of(result.tree, [short(name, _CHARS) for name in result.names])
    curve: Curve | None = None if result.curve is None else curve_of(result.curve, result.k)
    trust: tuple[Measure, ...] = measures(result)
    return render(
        "cluster",
        like="diff",
        script_of="cluster",
        result=replace(result, notes=tuple(note for note in result.notes if note not in result.axis.notes)),
        n=result.assignments.height,
        by=_phrases(asked.get("by")),
        without=_phrases(asked.get("without")),
        method=_METHODS.get(str(asked.get("method")), str(asked.get("method"))),
        axis_notes=result.axis.notes,
        axis=list(_axis(result)),
        trust=trust,
        map=draw_map(result),
        cards=[_card(result, row) for row in result.frame.iter_rows(named=True)],
        tree=tree,
        curve=curve,
        in_words=in_words,
        parameters=parameters_in_words(asked),
    )


def _phrases(asked: Any) -> list[str]:
    phrases = [asked] if isinstance(asked, str) else list(asked or ())
    return [short(str(phrase), _CHARS) for phrase in phrases]


def _axis(result: ClusterResult) -> Iterator[dict[str, Any]]:
    """The chosen concepts that count most, as a table."""
    table = result.axis.table.sort("weight", descending=True, maintain_order=True).head(_LISTED)
    for row in table.iter_rows(named=True):
        yield {
            "latent": row["latent"],
            "label": _label(row),
            "weight": f"{row['weight']:.2f}",
            "density": share(row["density"]),
            "why": short(row["why"] or "", _CHARS),
        }


# A cluster


def _card(result: ClusterResult, row: Row) -> Card:
    own = pl.col("cluster") == row["cluster"]
    examples = result.examples.filter(own)
    stability = row["stability"]
    known = stability is not None and not math.isnan(stability)
    words, tone = _again(stability) if known else ("", "")
    return Card(
        cluster=row["cluster"],
        name=short(row["name"], _CHARS),
        size=f"{count(row['size'], 'document')}, {share(row['share'])}",
        again=words,
        nearest=f"nearest to '{row['nearest']}': {share(row['nearest_share'])}" if "nearest" in row else "",
        tone=tone,
        stability=f"{stability:.2f}" if known else "unknown",
        membership=f"{row['membership']:.2f}",
        concepts=tuple(_concept(one) for one in result.concepts.filter(own).iter_rows(named=True)),
        central=tuple(_examples(examples, "central", result)),
        border=tuple(_examples(examples, "border", result)),
    )


def _again(stability: float) -> tuple[str, str]:
    words = next(words for least, words in _AGAIN if stability >= least)
    return words, "good" if stability >= _AGAIN[1][0] else "doubt"


def _concept(row: Row) -> Concept:
    q = row["q_value"]
    return Concept(
        name=_label(row),
        latent=row["latent"],
        here=100 * row["here"],
        there=100 * row["there"],
        in_words=f"{share(row['here'])} here, {share(row['there'])} elsewhere",
        q="not tested" if q is None else p_in_words(q),
        apart=row["apart"],
        chosen=row["chosen"],
    )


def _label(row: Row) -> str:
    return short(row["label"], _CHARS) if row["label"] else f"latent {row['latent']}"


def _examples(examples: pl.DataFrame, kind: str, result: ClusterResult) -> Iterator[Example]:
    labels = dict(zip(result.concepts["latent"], result.concepts["label"], strict=True))
    for row in examples.filter(pl.col("kind") == kind).iter_rows(named=True):
        about = [f"membership {row['membership']:.2f}"]
        if kind == "border" and row["next"] is not None:
            about.append(f"next to {row['next']} {short(result.names[row['next']], _CHARS)}")
        if row["latent"] is not None:
            about.append(f"marked: {short(labels.get(row['latent']) or '', _CHARS) or 'latent ' + str(row['latent'])}")
        parts = (row["before"], row["evidence"], row["after"])
        yield Example(
            doc_id=short(row["doc_id"], _CHARS),
            about=" · ".join(about),
            text=None if all(part is None for part in parts) else _cut(*(part or "" for part in parts)),
        )


def _cut(before: str, evidence: str, after: str) -> tuple[str, str, str]:
    """The three parts, no longer than a page can bear."""
    most = _PASSAGE_CHARS
    before = before if len(before) <= most else "…" + before[-most:]
    evidence, after = (part if len(part) <= most else part[:most] + "…" for part in (evidence, after))
    return before, evidence, after
