"""The documents of a pair's four cells as a page shows them, the words of both concepts marked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from saelens_data.correlate import CorrelateResult, OrderedResult
from saelens_data.correlate.sides import Side
from saelens_data.display.stretches import between_words

#: Characters shown of a text.
_CHARS = 600
#: Cells with what their title says of the two.
_CELLS = {"both": "both", "only_a": "the first alone", "only_b": "the second alone", "neither": "neither"}

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Stretch:
    """Part of a text: `kind` is "a", "b" or "both" for words of the concepts, "cut" for text left out, or empty."""

    text: str
    kind: str = ""


@dataclass(frozen=True)
class Passage:
    """The text of one field, cut around what is marked."""

    #: Name of the field, where there are two.
    field: str
    stretches: tuple[Stretch, ...]


@dataclass(frozen=True)
class Exhibit:
    """One document."""

    doc_id: str
    about: str
    passages: tuple[Passage, ...]


@dataclass(frozen=True)
class Cell:
    """Documents of one of the four cells."""

    name: str
    title: str
    bears_out: bool
    exhibits: tuple[Exhibit, ...]


def cells_of(result: CorrelateResult, row: Row, most: int) -> tuple[Cell, ...]:
    """The four cells; most documents are of those that bear the pair out. Empty where none are asked for."""
    if most == 0:
        return ()
    return tuple(_cells(result, row, most))


def _cells(result: CorrelateResult, row: Row, most: int) -> Iterator[Cell]:
    apart = row["direction"] == "apart"
    one, other = result.places[row["rank"] - 1].tolist()
    for name, words in _CELLS.items():
        rows = result.rows(row["rank"], name)
        bears_out = name in (("only_a", "only_b") if apart else ("both",))
        n = most if bears_out else max(1, most // 2)
        if name == "neither":
            n = 1
        chosen = _strongest(result, (one, other), rows, n)
        exhibits = tuple(_exhibit(result, (one, other), r) for r in chosen)
        of = f"{len(rows):,} documents with {words}" if len(rows) != 1 else f"1 document with {words}"
        yield Cell(name, of + (f"; {len(chosen)} of them" if len(chosen) < len(rows) else ""), bears_out, exhibits)


def _strongest(result: CorrelateResult, pair: tuple[int, int], rows: np.ndarray, n: int) -> list[int]:
    """Those in which the weaker of the concepts that are there is strongest; of neither, the middle ones."""
    values = [
        _values(side, place, rows)
        for side, place in zip((result.problem.left, result.problem.right), pair, strict=True)
        if side.m is not None
    ]
    there = [v for v in values if v is not None and (v > 0).any()]
    if not there:
        return [int(r) for r in rows[len(rows) // 2 :][:n]]
    weaker = np.min(np.stack(there), axis=0)
    return [int(r) for r in rows[np.lexsort((rows, -weaker))][:n]]


def _values(side: Side, place: int, rows: np.ndarray) -> np.ndarray:
    """Activations over the largest one, [rows]; 0 where it is not active."""
    assert side.m is not None
    X, column = side.m.X, int(side.columns[place])
    found = np.zeros(len(rows))
    for i, row in enumerate(rows.tolist()):
        at = _position(side, column, row)
        found[i] = 0.0 if at < 0 else float(X.data[at])
    return np.asarray(found / max(found.max(initial=0.0), 1e-12))


def _position(side: Side, column: int, row: int) -> int:
    assert side.m is not None
    X = side.m.X
    first, last = int(X.indptr[row]), int(X.indptr[row + 1])
    at = first + int(np.searchsorted(X.indices[first:last], column))
    return at if at < last and X.indices[at] == column else -1


def _span(side: Side, place: int, row: int) -> tuple[int, int] | None:
    """Where the words of a concept stand in a document, if it is active there and that was kept."""
    if side.m is None or (evidence := side.m.evidence) is None:
        return None
    at = _position(side, int(side.columns[place]), row)
    if at < 0:
        return None
    unit = int(evidence.units.ptr[row]) + int(evidence.unit[at])
    return int(evidence.units.start[unit]), int(evidence.units.end[unit])


def _exhibit(result: CorrelateResult, pair: tuple[int, int], row: int) -> Exhibit:
    problem, docs = result.problem, result.docs
    doc_id = str(docs["doc_id"][row])
    if problem.right.m is not None and not problem.same and "between" in result.parameters:
        passages = tuple(
            Passage(name, tuple(_marked(str(docs[name][row] or ""), _kinds({kind: _span(side, place, row)}))))
            for name, kind, side, place in zip(result.names, "ab", (problem.left, problem.right), pair, strict=True)
            if name in docs.columns
        )
        return Exhibit(doc_id, "", passages)
    about = ""
    if problem.right.m is None:
        column = result.parameters["column"]
        about = f"{column}: {docs[column][row]}"
    if "text" not in docs.columns or docs["text"][row] is None:
        return Exhibit(doc_id, about, ())
    spans = {"a": _span(problem.left, pair[0], row), "b": _span(problem.right, pair[1], row)}
    return Exhibit(doc_id, about, (Passage("", tuple(_marked(docs["text"][row], _kinds(spans)))),))


def _kinds(spans: Mapping[str, tuple[int, int] | None]) -> list[tuple[int, int, str]]:
    """The spans in order; one that both concepts fire on is "both"."""
    found = {kind: span for kind, span in spans.items() if span is not None}
    if len(set(found.values())) == 1 and len(found) > 1:
        return [(*next(iter(found.values())), "both")]
    return sorted((*span, kind) for kind, span in found.items())


def _marked(text: str, spans: Sequence[tuple[int, int, str]]) -> Iterator[Stretch]:
    """About `_CHARS` characters of a text in as many places as there are spans."""
    room = _CHARS // max(len(spans), 1)
    places: list[tuple[int, int]] = []
    for start, end, _ in spans or [(0, 0, "")]:
        stop = min(end, start + room)
        low = max(0, min(start - (room - (stop - start)) // 2, len(text) - room))
        low, high = between_words(text, low, min(len(text), low + room), start, stop)
        if places and low <= places[-1][1]:
            places[-1] = places[-1][0], max(high, places[-1][1])
        else:
            places.append((low, high))
    end = 0
    for low, high in places:
        if low > end:
            yield Stretch(" … " if end else "… ", "cut")
        at = low
        for start, stop, kind in spans:
            first, last = max(start, at), min(stop, high)
            if first < last:
                yield Stretch(text[at:first])
                yield Stretch(text[first:last], kind)
                at = last
        yield Stretch(text[at:high])
        end = high
    if end < len(text):
        yield Stretch(" …", "cut")


def ordered_exhibits(result: OrderedResult, row: Row, most: int) -> tuple[tuple[str, tuple[Exhibit, ...]], ...]:
    """Documents with the concept: those with the values that it goes with, and the one furthest from them."""
    if most == 0 or "text" not in result.docs.columns:
        return ()
    rows = result.rows(row["rank"])
    place = int(result.places[row["rank"] - 1])
    last = [r for r in rows[-max(1, most // 2) :].tolist() if r not in rows[:most].tolist()]
    parts = (
        (f"With the {'highest' if row['direction'] == 'higher' else 'lowest'} values", rows[:most].tolist()),
        ("Counter-examples, at the other end", last),
    )
    return tuple((title, tuple(_of_ordered(result, place, r) for r in chosen)) for title, chosen in parts if chosen)


def _of_ordered(result: OrderedResult, place: int, row: int) -> Exhibit:
    docs = result.docs
    about = f"{result.column}: {docs[result.column][row]}"
    if docs["text"][row] is None:
        return Exhibit(str(docs["doc_id"][row]), about, ())
    spans = _kinds({"a": _span(result.side, place, row)})
    return Exhibit(str(docs["doc_id"][row]), about, (Passage("", tuple(_marked(docs["text"][row], spans))),))
