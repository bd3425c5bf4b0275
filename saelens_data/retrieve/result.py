"""What `retrieve` shows of each document: what made its score, and the words that did."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from saelens_data.matrix import ConceptMatrix
from saelens_data.results import Result

#: Latents shown of each document, spans shown, and latents whose spans are looked at.
SHOWN, SPANS = 8, 3
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

    def summary(self) -> str:
        """What was looked for, how, and in how many documents."""
        like = "".join(f"{side} {', '.join(ids)} " for side in ("like", "unlike") if (ids := self.parameters.get(side)))
        named = f"{like.strip()}; as a query: {self.query}" if like else self.query
        return f"{named}: the first {self.frame.height:,} of {self.n_docs:,} documents by {self.mode}"


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
