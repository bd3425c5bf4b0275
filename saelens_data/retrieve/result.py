"""What `retrieve` shows of each document: what made its score, and the words that did."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from saelens_data.display import table
from saelens_data.display.stretches import Stretch, short, stretches
from saelens_data.display.table import Column, Row, Shown
from saelens_data.errors import InputError, choices
from saelens_data.matrix import ConceptMatrix
from saelens_data.results import Result

#: Latents shown of each document, spans shown, and latents whose spans are looked at.
SHOWN, SPANS = 8, 3
#: Parts of a score that are named in a table and in a chart, and characters of a text in a table.
_NAMED, _DRAWN, _CHARS = 2, 6, 320
#: Name of the part of a score that the embedding of the document gave.
EMBEDDING = "embedding of the text"

HIT_SCHEMA: dict[str, Any] = {
    "rank": pl.UInt32,
    "doc_id": pl.String,
    "score": pl.Float64,
    "text": pl.String,
    "concepts": pl.List(pl.Struct({"latent": pl.Int32, "label": pl.String, "share": pl.Float64})),
    "evidence": pl.List(
        pl.Struct({"start": pl.Int32, "end": pl.Int32, "text": pl.String, "latents": pl.List(pl.Int32)})
    ),
}


@dataclass(frozen=True)
class Hit:
    """A document that was found, and why."""

    row: int
    score: float
    #: Columns of latents and what each gave to the score.
    latents: list[tuple[int, float]] = field(default_factory=list)
    #: Other parts of the score by name, such as the embedding's; with `latents` they add up to it.
    parts: list[tuple[str, float]] = field(default_factory=list)
    #: Columns of latents whose words are the evidence, weightiest first; those of `latents` if None.
    witnesses: list[tuple[int, float]] | None = None
    #: Where the words of a lexical query stand, instead.
    places: list[tuple[int, int]] = field(default_factory=list)


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class RetrieveResult(Result):
    """The outcome of `retrieve`. `frame` holds one row for each document, the best first.

    Columns: `rank` (from 1), `doc_id`, `score`, `text`, `concepts` (what gave the score: `latent`, `label` and `share`
    of each; the shares add up to the score; parts that are no latent, such as the embedding, have a label alone), and
    `evidence` (the spans that hold the strongest of these concepts: `start`, `end`, `text`, `latents`).
    """

    kind: str = "retrieve"
    #: What was looked for, as a concept query; for examples, the query that stands for them.
    query: str
    mode: str
    #: Documents that could be found.
    n_docs: int
    #: What the documents of `frame` answer, by `doc_id`, where the set has a column `prompt`.
    prompts: Mapping[str, str] = field(default_factory=dict)
    #: The documents of `frame` with all columns of the set, row for row.
    docs: pl.DataFrame = field(default_factory=pl.DataFrame)

    def summary(self) -> str:
        """What was looked for, how, and in how many documents."""
        like = "".join(f"{side} {', '.join(ids)} " for side in ("like", "unlike") if (ids := self.parameters.get(side)))
        named = f"{like.strip()}; as a query: {self.query}" if like else self.query
        return f"{named}: the first {self.frame.height:,} of {self.n_docs:,} documents by {self.mode}"

    def _shown(self) -> Shown:
        return Shown.of(
            self.frame,
            Column("#", "rank", right=True),
            Column("document", "doc_id"),
            Column("asked", lambda row: short(self.prompts.get(row["doc_id"], ""), table.CHARS)),
            Column("score", "score", table.number, scale=table.from_zero),
            Column("by", _strongest),
            Column("words", _words),
            noun="document",
        )

    def plot(self, colour: str | None = None) -> Any:
        """The scores by rank, as an Altair chart; coloured by what made them, or by a column of the documents.

        Raises MissingExtraError without Altair, InputError for an unknown column and without rows.
        """
        from saelens_data.display import plots  # noqa: PLC0415

        if colour is not None and colour not in self.docs.columns:
            raise InputError(f"there is no column '{colour}' to colour by; {choices(colour, self.docs.columns)}")
        frame = self.frame.with_columns(plots.numbered(self.frame, pl.col("doc_id"), number="rank"))
        own = None if colour is None else self.docs[colour].cast(pl.String)
        frame = _parts(frame) if own is None else frame.select("name", "score", by=own)
        return plots.bars(
            frame,
            y="name",
            x="score",
            title="score",
            tooltip={"name": "document", "by": colour or "part of the score", "score": "score"},
            colour=("by", colour or "part of the score"),
            heading=plots.short(self.query),
        )


def hit_table(m: ConceptMatrix, hits: Sequence[Hit]) -> pl.DataFrame:
    """A row for each hit, in the columns of `HIT_SCHEMA`."""
    texts = m.docs["text"] if "text" in m.docs.columns else None
    lines = []
    for rank, hit in enumerate(hits, start=1):
        text = None if texts is None else texts[hit.row]
        about = {"rank": rank, "doc_id": m.docs["doc_id"][hit.row], "score": hit.score, "text": text}
        lines.append({**about, "concepts": _concepts(m, hit), "evidence": _evidence(m, hit, text)})
    return pl.DataFrame(lines, schema=HIT_SCHEMA)


def _concepts(m: ConceptMatrix, hit: Hit) -> list[dict[str, Any]]:
    """Parts by name, the latents that gave most, and the sum of all others: together the score."""
    latents = sorted(hit.latents, key=lambda entry: (-abs(entry[1]), entry[0]))
    labels = m.concepts["label"] if "label" in m.concepts.columns else None
    shown = [
        {
            "latent": int(m.concepts["latent"][column]),
            "label": None if labels is None else labels[column],
            "share": share,
        }
        for column, share in latents[:SHOWN]
    ]
    named = [{"latent": None, "label": name, "share": share} for name, share in hit.parts]
    if others := latents[SHOWN:]:
        rest = sum(share for _, share in others)
        named.append({"latent": None, "label": f"{len(others)} other concepts", "share": rest})
    return shown + named


def _evidence(m: ConceptMatrix, hit: Hit, text: str | None) -> list[dict[str, Any]]:
    if hit.places:
        return [_span(start, end, text, []) for start, end in hit.places]
    if (evidence := m.evidence) is None:
        return []
    witnesses = hit.latents if hit.witnesses is None else hit.witnesses
    strongest = sorted((w for w in witnesses if w[1] > 0), key=lambda entry: (-entry[1], entry[0]))[:SHOWN]
    weight: dict[int, float] = defaultdict(float)
    latents: dict[int, list[int]] = defaultdict(list)
    first, last = int(m.X.indptr[hit.row]), int(m.X.indptr[hit.row + 1])
    for column, share in strongest:
        at = first + int(np.searchsorted(m.X.indices[first:last], column))
        if at < last and m.X.indices[at] == column:
            unit = int(evidence.units.ptr[hit.row]) + int(evidence.unit[at])
            weight[unit] += share
            latents[unit].append(int(m.concepts["latent"][column]))
    units = sorted(weight, key=lambda unit: (-weight[unit], unit))[:SPANS]
    starts, ends = evidence.units.start, evidence.units.end
    return [_span(int(starts[unit]), int(ends[unit]), text, latents[unit]) for unit in units]


def _span(start: int, end: int, text: str | None, latents: list[int]) -> dict[str, Any]:
    return {"start": start, "end": end, "text": None if text is None else text[start:end], "latents": latents}


def _strongest(row: Row) -> str:
    """What gave most to the score."""
    names = [part["label"] or f"latent {part['latent']}" for part in row["concepts"] if part["share"] > 0]
    return short("; ".join(names[:_NAMED]), table.CHARS)


def _words(row: Row) -> tuple[Stretch, ...] | None:
    """The text around the words that count."""
    if row["text"] is None:
        return None
    names = {part["latent"]: part["label"] or f"latent {part['latent']}" for part in row["concepts"]}
    spans = [
        (span["start"], span["end"], "; ".join(names.get(latent, f"latent {latent}") for latent in span["latents"]))
        for span in row["evidence"]
    ]
    return tuple(stretches(row["text"], spans, _CHARS, places=2))


def _parts(frame: pl.DataFrame) -> pl.DataFrame:
    """Of each document (`name`) what made its score, with the parts that gave most to all, and all others as one."""
    named = pl.coalesce("label", pl.format("latent {}", "latent"))
    parts = frame.select("name", "concepts").explode("concepts").unnest("concepts").with_columns(by=named)
    given = parts.group_by("by").agg(pl.col("share").abs().sum()).sort("share", "by", descending=[True, False])
    leading = given["by"].head(_DRAWN).to_list()
    by = pl.when(pl.col("by").is_in(leading)).then("by").otherwise(pl.lit("all else"))
    return parts.group_by("name", by, maintain_order=True).agg(score=pl.col("share").sum())
