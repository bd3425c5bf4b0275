"""Evidence: the documents in which a latent is active, and the words that made it so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from saelens_data.display import table
from saelens_data.display.stretches import Stretch, between_words, stretches
from saelens_data.display.table import Column, Shown
from saelens_data.errors import InputError
from saelens_data.matrix import ConceptMatrix
from saelens_data.results import Result

#: Characters shown on each side of the evidence.
CONTEXT = 160
#: Documents among which `strongest` looks.
_SEARCHED = 20_000


class Span(NamedTuple):
    """The unit that holds a document's maximum: its row, the activation there, its character offsets in the text."""

    row: int
    activation: float
    start: int
    end: int


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ExamplesResult(Result):
    """The outcome of `examples`. `frame` holds one row for each document, the strongest first.

    Columns: `rank` (from 1), `doc_id`, `activation`, `text` (the unit that holds the maximum), its character
    offsets `start` and `end` in the document, and the text around it, `before` and `after`.
    """

    kind: str = "examples"
    latent: int
    label: str | None
    #: Who says so.
    origin: str | None = None
    #: Documents in which the latent is active, and documents in all.
    n_active: int
    n_docs: int

    def summary(self) -> str:
        """The concept and its support, in a sentence."""
        by = f"; label: {self.origin}" if self.origin else ""
        name = f"latent {self.latent}" + (f" ({self.label}{by})" if self.label else "")
        shown = f"; the strongest {self.frame.height:,}" if self.frame.height < self.n_active else ""
        return f"{name}: active in {self.n_active:,} of {self.n_docs:,} documents{shown}"

    def _shown(self) -> Shown:
        return Shown.of(
            self.frame,
            Column("#", "rank", right=True),
            Column("document", "doc_id"),
            Column("activation", "activation", table.number, scale=table.from_zero),
            Column("where it is strongest", lambda row: around(row, "text")),
            noun="document",
        )

    def plot(self) -> Any:
        """The activations by rank, as an Altair chart. Raises MissingExtraError without Altair."""
        from saelens_data.display import plots  # noqa: PLC0415

        names = plots.numbered(self.frame, pl.col("doc_id"), number="rank")
        return plots.bars(
            self.frame.select(names, "activation", "text"),
            y="name",
            x="activation",
            title="activation",
            tooltip={"name": "document", "activation": "activation", "text": "words"},
            heading=plots.short(f"latent {self.latent}" + (f": {self.label}" if self.label else "")),
        )


def examples(m: ConceptMatrix, latent: int, *, n: int = 10) -> ExamplesResult:
    """Show the `n` documents in which a latent is strongest, with the words of its maximum; ties in row order.

    Raises InputError for a latent that the matrix does not hold, for n < 1, and for a matrix without evidence.
    """
    if n < 1:
        raise InputError(f"{n} examples asked for: give 1 or more")
    column = column_of(m, latent)
    rows = active_rows(m, [latent])[latent]
    spans = evidence_for(m, latent, rows[:n])
    label, origin = (m.concepts[name][column] if name in m.concepts.columns else None for name in ("label", "origin"))
    return ExamplesResult(
        frame=_table(m.docs, spans),
        parameters={"encoder": m.source.encoder, "latent": latent, "label": label, "origin": origin, "n": n},
        notes=() if len(rows) else (f"Latent {latent} is active in none of the {m.n_docs:,} documents.",),
        latent=latent,
        label=label,
        origin=origin,
        n_active=len(rows),
        n_docs=m.n_docs,
    )


def active_rows(m: ConceptMatrix, latents: Sequence[int]) -> dict[int, np.ndarray]:
    """Rows of the documents in which each of `latents` is active, [n_active] int64, strongest first, ties in row order.

    One pass over the activations serves them all. Raises InputError for a latent that the matrix does not hold.
    """
    columns = {latent: column_of(m, latent) for latent in latents}
    wanted = np.zeros(m.n_concepts, dtype=bool)
    wanted[list(columns.values())] = True
    position = np.flatnonzero(wanted[m.X.indices])
    row = np.searchsorted(m.X.indptr, position, side="right") - 1
    column = m.X.indices[position]
    order = np.lexsort((row, -m.X.data[position], column))
    column, row = column[order], row[order].astype(np.int64)
    return {latent: row[slice(*np.searchsorted(column, (at, at + 1)))] for latent, at in columns.items()}


def evidence_for(m: ConceptMatrix, latent: int, rows: Sequence[int] | np.ndarray) -> list[Span]:
    """For each of `rows` in which a latent is active, in that order, the unit that holds its maximum.

    Rows in which it is not active are left out. Raises InputError for a latent that the matrix does not hold and
    for a matrix without evidence.
    """
    column = column_of(m, latent)
    if (evidence := m.evidence) is None:
        raise InputError("this matrix does not say which words made an activation: open the store it came from")
    spans, units = [], evidence.units
    for row in np.asarray(rows, dtype=np.int64).tolist():
        first, last = int(m.X.indptr[row]), int(m.X.indptr[row + 1])
        at = first + int(np.searchsorted(m.X.indices[first:last], column))
        if at < last and m.X.indices[at] == column:
            unit = int(units.ptr[row]) + int(evidence.unit[at])
            spans.append(Span(row, float(m.X.data[at]), int(units.start[unit]), int(units.end[unit])))
    return spans


def strongest(m: ConceptMatrix, latents: Sequence[int]) -> dict[int, tuple[Stretch, ...]]:
    """The words of each of `latents` in the document in which it is strongest, for tables.

    Only the first 20,000 documents are looked at. Nothing for a matrix without texts or evidence.
    """
    if m.evidence is None or "text" not in m.docs.columns or not len(latents):
        return {}
    part = m if m.n_docs <= _SEARCHED else m.take_docs(np.arange(_SEARCHED))
    found = {}
    for latent, rows in active_rows(part, latents).items():
        for span in evidence_for(part, latent, rows[:1]):
            marks = [(span.start, span.end, "")]
            found[latent] = tuple(stretches(part.docs["text"][span.row] or "", marks, table.EXAMPLE_CHARS))
    return found


def around(row: Mapping[str, Any], evidence: str) -> tuple[Stretch, ...] | None:
    """The text of a row that holds the words of a concept as `evidence`, and what is around them, for tables.

    The row has `before`, `after` and the offset `start`; what was cut before and is not in it shows as an ellipsis.
    """
    if row[evidence] is None and row["before"] is None:
        return None
    before, words, after = (row[name] or "" for name in ("before", evidence, "after"))
    marks = [(len(before), len(before) + len(words), "")] if words else []
    found = tuple(stretches(before + words + after, marks, table.EXAMPLE_CHARS))
    cut = row["start"] is not None and row["start"] > len(before) and found[0].kind != "cut"
    return (Stretch("… ", "cut"), *found) if cut else found


def column_of(m: ConceptMatrix, latent: int) -> int:
    """Column of X that holds a latent. Raises InputError, saying which there are, if none does."""
    latents = m.concepts["latent"].to_numpy()
    if len(found := np.flatnonzero(latents == latent)):
        return int(found[0])
    if not len(latents):
        raise InputError(f"there is no latent {latent}: the matrix holds no concepts; filter them less")
    low, high = int(latents.min()), int(latents.max())
    if low <= latent <= high:
        nearest = int(latents[np.abs(latents.astype(np.int64) - latent).argmin()])
        raise InputError(
            f"latent {latent} is not among the {len(latents):,} kept here: the nearest is {nearest}; "
            "choose one of these, or filter concepts less"
        )
    raise InputError(f"there is no latent {latent}: choose one from {low} to {high}")


@dataclass(frozen=True)
class Passage:
    """Part of a document's text, around its evidence if it has any."""

    before: str
    evidence: str
    after: str
    #: Whether the document goes on beyond either end.
    cut_before: bool
    cut_after: bool
    #: Where in the document the evidence begins, from 0 (its start) to 1 (its end).
    at: float = 0.0


def passage(text: str, span: Span | None, *, chars: int, at: float = 0.0) -> Passage:
    """About `chars` characters of a text: around the evidence, or without any where a share `at` of the text is past.

    Evidence that is longer is cut too. White space at either end is left out.
    """
    if span is None:
        start = end = round(at * len(text))
        low, high = _fill(text, start, end, chars)
        return Passage("", "", text[low:high].strip(), low > 0, high < len(text), at)
    start, end = span.start, min(span.end, span.start + chars)
    low, high = _fill(text, start, end, chars) if end == span.end else (start, end)
    rest = max(1, len(text) - (end - start))
    return Passage(
        text[low:start].lstrip(), text[start:end], text[end:high].rstrip(), low > 0, high < len(text), start / rest
    )


def _fill(text: str, start: int, end: int, chars: int) -> tuple[int, int]:
    """A window of about `chars` characters that holds [start, end), with as much before it as after, if there is."""
    spare = max(0, chars - (end - start))
    low = max(0, min(start - spare // 2, len(text) - chars))
    high = min(len(text), max(end + spare // 2, low + chars))
    return between_words(text, low, high, start, end)


def _table(docs: pl.DataFrame, spans: Sequence[Span]) -> pl.DataFrame:
    lines = []
    for rank, span in enumerate(spans, start=1):
        place = {"activation": span.activation, "start": span.start, "end": span.end}
        text = docs["text"][span.row] if "text" in docs.columns else None
        lines.append({"rank": rank, "doc_id": docs["doc_id"][span.row], **place, **_around(text, span)})
    return pl.DataFrame(lines, schema=_SCHEMA)


def _around(text: str | None, span: Span) -> dict[str, str]:
    """The words of the evidence and beside it; nothing (null in the table) where texts were not kept."""
    if text is None:
        return {}
    low, high = max(0, span.start - CONTEXT), min(len(text), span.end + CONTEXT)
    low, high = between_words(text, low, high, span.start, span.end)
    return {
        "text": text[span.start : span.end],
        "before": text[low : span.start],
        "after": text[span.end : high],
    }


_SCHEMA = {
    "rank": pl.UInt32,
    "doc_id": pl.String,
    "activation": pl.Float32,
    "text": pl.String,
    "start": pl.Int32,
    "end": pl.Int32,
    "before": pl.String,
    "after": pl.String,
}
