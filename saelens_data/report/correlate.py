"""The report of correlations: one HTML file with each group's graph, table of four cells and documents."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saelens_data.correlate import CorrelateResult, OrderedResult
from saelens_data.display.stretches import short
from saelens_data.errors import InputError
from saelens_data.report.correlate_cells import Cell, Exhibit, cells_of, ordered_exhibits
from saelens_data.report.page import encoded, render, write_page
from saelens_data.report.parameters import parameters_in_words
from saelens_data.wording import p_in_words, share

#: Bytes of the page.
_ROOM = 1_900_000
#: Pairs of a group in its table, concepts in its graph, and characters of a label and of one in the graph.
_PAIRS, _NODES, _LABEL_CHARS, _NODE_CHARS = 25, 10, 100, 30
#: Width, least height, and radius of the circle that a graph's concepts lie on, in pixels.
_WIDTH, _HEIGHT, _RADIUS = 620, 120, 26

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Node:
    """A concept in a graph: where it is, and how its name lies."""

    name: str
    title: str
    side: str
    x: float
    y: float
    anchor: str
    text_x: float


@dataclass(frozen=True)
class Edge:
    """A pair in a graph."""

    x1: float
    y1: float
    x2: float
    y2: float
    width: float
    apart: bool
    title: str


@dataclass(frozen=True)
class Graph:
    """The pairs of a group as a drawing."""

    height: int
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    #: Concepts that did not fit.
    more: int


@dataclass(frozen=True)
class PairLine:
    """A pair in the table of its group."""

    rank: int
    a: str
    b: str
    n: tuple[str, str, str]
    npmi: str
    lift: str
    q: str
    similarity: str


@dataclass(frozen=True)
class Group:
    """One group as the page shows it."""

    id: str
    number: int
    a: str
    b: str
    ids: tuple[str, str]
    apart: bool
    said: str
    npmi: str
    #: Share of the one that have the other, and of all documents: width in percent, words.
    bars: tuple[tuple[str, float, float, float, str], ...]
    facts: tuple[tuple[str, str], ...]
    caveats: tuple[str, ...]
    table: tuple[tuple[str, str, str], ...]
    cells: tuple[Cell, ...]
    graph: Graph | None
    pairs: tuple[PairLine, ...]
    n_pairs: int
    q: float


@dataclass(frozen=True)
class Ordered:
    """One group of concepts with an ordered column."""

    id: str
    number: int
    name: str
    latent: int
    higher: bool
    auc: str
    interval: str
    at: float
    low: float
    high: float
    said: str
    facts: tuple[tuple[str, str], ...]
    members: tuple[tuple[str, str, str, str], ...]
    exhibits: tuple[tuple[str, tuple[Exhibit, ...]], ...]
    q: float


def write_correlate_report(
    result: CorrelateResult | OrderedResult, path: str | os.PathLike[str], *, groups: int = 30, examples: int = 4
) -> Path:
    """Write `result` as one HTML file below 2 MB; the same result gives the same bytes.

    The first `groups` groups are shown, each by its best pair: its table of four cells, up to `examples` documents of
    the cell that bears it out and half as many of each other, and the graph and table of all its pairs. Where it would
    grow too large there are fewer documents. Raises InputError for a path that cannot be written, counts out of range.
    """
    return write_page(path, correlate_html(result, groups=groups, examples=examples))


def correlate_html(result: CorrelateResult | OrderedResult, *, groups: int = 30, examples: int = 4) -> str:
    """The page that `write_correlate_report` writes."""
    if groups < 1 or examples < 0:
        raise InputError(f"{groups} groups and {examples} examples asked for: give 1 and 0 or more")
    html = _page(result, groups, examples)
    while examples and len(encoded(html)) > _ROOM:
        examples //= 2
        html = _page(result, groups, examples)
    return html


def _page(result: CorrelateResult | OrderedResult, groups: int, examples: int) -> str:
    shown = (
        tuple(_groups(result, groups, examples))
        if isinstance(result, CorrelateResult)
        else tuple(_ordered(result, groups, examples))
    )
    return render(
        "correlate",
        like="diff",
        result=result,
        shown=shown,
        ordered=isinstance(result, OrderedResult),
        title=_title(result),
        n_docs=result.docs.height,
        removed=[(name, _FILTERS[name], n) for name, n in result.removed.items()],
        parameters=parameters_in_words(result.parameters),
    )


#: What each filter takes away.
_FILTERS = {
    "few": "fewer documents hold both than were asked for",
    "everywhere": "one of the two is in more than half of the documents",
    "similar": "their labels, decoder directions or meanings are alike",
    "spans": "both fire on the same or neighbouring spans of a text",
    "length": "documents of equal length do not show it",
    "usual": "ordinary text has it as well",
    "third": "a third concept accounts for most of it",
}


def _title(result: CorrelateResult | OrderedResult) -> str:
    if isinstance(result, OrderedResult):
        return f"Concepts and {result.column}"
    if "between" in result.parameters:
        return " and ".join(result.parameters["between"])
    if "column" in result.parameters:
        return f"Concepts and {result.parameters['column']}"
    return "Concepts within documents"


def _groups(result: CorrelateResult, most: int, examples: int) -> Iterator[Group]:
    rows_of: dict[int, list[Row]] = {}
    for row in result.frame.iter_rows(named=True):
        rows_of.setdefault(row["group"], []).append(row)
    for number, rows in list(rows_of.items())[:most]:
        best, n = rows[0], result.docs.height
        a, b = name_of(best, "a"), name_of(best, "b")
        yield Group(
            id=f"group-{number}",
            number=number,
            a=a,
            b=b,
            ids=(_id(best, "a"), _id(best, "b")),
            apart=best["direction"] == "apart",
            said=_said(best, n),
            npmi=_signed(best["npmi"]),
            bars=_bars(best, n),
            facts=tuple(_facts(best)),
            caveats=tuple(_caveats(best)),
            table=_four(best, n),
            cells=cells_of(result, best, examples),
            graph=_graph(rows) if len(rows) > 1 else None,
            pairs=tuple(_line(row) for row in rows[:_PAIRS]) if len(rows) > 1 else (),
            n_pairs=len(rows),
            q=best["q_value"],
        )


def name_of(row: Row, side: str) -> str:
    """The label, or the number of a latent without one."""
    label = row[f"label_{side}"]
    return short(label, _LABEL_CHARS) if label else f"latent {row[f'latent_{side}']}"


def _id(row: Row, side: str) -> str:
    latent = row[f"latent_{side}"]
    return "" if latent is None else f"latent {latent}"


def _said(row: Row, n: int) -> str:
    """The pair in words."""
    times = f"{row['lift']:.1f}" if row["lift"] < 100 else f"{row['lift']:.0f}"
    if row["direction"] == "together":
        return f"{_hold(row)}, {times} times as many as by chance"
    if row["n_both"] == 0:
        return f"never together; by chance {row['n_a'] * row['n_b'] / n:.1f} documents would hold both"
    return f"{_hold(row)}, by chance {row['n_a'] * row['n_b'] / n:.1f} would"


def _bars(row: Row, n: int) -> tuple[tuple[str, float, float, float, str], ...]:
    """Densities of the second among documents with the first and among all, as bars."""
    given, all_ = row["b_given_a"], row["n_b"] / n
    return (
        ("with it", 100 * given, 100 * row["b_given_a_low"], 100 * row["b_given_a_high"], share(given)),
        ("of all", 100 * all_, 100 * all_, 100 * all_, share(all_)),
    )


def _facts(row: Row) -> Iterator[tuple[str, str]]:
    ends = ("low", "high")
    for one, other in (("b", "a"), ("a", "b")):
        key = f"{one}_given_{other}"
        interval = " to ".join(share(row[f"{key}_{end}"]) for end in ends)
        yield f"share of {other.upper()} with {one.upper()}", f"{share(row[key])} ({interval})"
    yield "NPMI", f"{_signed(row['npmi'])}, at least {_signed(row['npmi_low'])}"
    yield "p", p_in_words(row["p_value"])
    yield "q", p_in_words(row["q_value"])
    yield "q at equal length", p_in_words(row["q_length"])
    if row["similarity"] is not None:
        yield "similarity", f"{row['similarity']:.2f}"


def _hold(row: Row) -> str:
    return "1 document holds both" if row["n_both"] == 1 else f"{row['n_both']:,} documents hold both"


def _caveats(row: Row) -> Iterator[str]:
    yield f"In documents of equal length {row['expected']:.1f} would hold both by chance."
    if row["usual"] is not None and abs(row["usual"] - row["expected"]) >= 0.05:
        yield f"Going by ordinary text, {row['usual']:.1f} would."
    if row["near"] is not None and row["near"] > 0:
        yield (
            "Both fire on the same or neighbouring spans in "
            f"{share(min(row['near'], 1.0))} of the documents with both, beyond chance."
        )
    if row["third"] is not None and row["third_left"] is not None:
        yield (
            f"Where {short(row['third'], _LABEL_CHARS)} is equal, {share(max(min(row['third_left'], 1.0), 0.0))} of "
            "it is left."
        )


def _four(row: Row, n: int) -> tuple[tuple[str, str, str], ...]:
    """The 2 x 2 table, with its margins."""
    a, b, both = row["n_a"], row["n_b"], row["n_both"]
    cells = ((both, a - both, a), (b - both, n - a - b + both, n - a), (b, n - b, n))
    return tuple(tuple(f"{x:,}" for x in line) for line in cells)  # type: ignore[misc]


def _line(row: Row) -> PairLine:
    return PairLine(
        row["rank"],
        name_of(row, "a"),
        name_of(row, "b"),
        (f"{row['n_a']:,}", f"{row['n_b']:,}", f"{row['n_both']:,}"),
        _signed(row["npmi"]),
        f"{row['lift']:.1f}",
        p_in_words(row["q_value"]),
        "" if row["similarity"] is None else f"{row['similarity']:.2f}",
    )


Key = tuple[str, str]


def _graph(rows: Sequence[Row]) -> Graph:
    """The first concepts of a group in two columns, each opposite to what it is first paired with."""
    columns: dict[str, list[Key]] = {"a": [], "b": []}
    column_of: dict[Key, str] = {}
    for row in rows:
        ends = {side: (_id(row, side), name_of(row, side)) for side in "ab"}
        for side, opposite in ("ab", "ba"):
            if (key := ends[side]) not in column_of:
                other = column_of.get(ends[opposite])
                column_of[key] = {"a": "b", "b": "a"}[other] if other else side
                columns[column_of[key]].append(key)
    height = max(_HEIGHT, max(min(len(keys), _NODES // 2) for keys in columns.values()) * _RADIUS + 20)
    at: dict[Key, tuple[float, float]] = {}
    for side, x in (("a", _WIDTH * 0.38), ("b", _WIDTH * 0.62)):
        shown = columns[side][: _NODES // 2]
        at.update({key: (x, height * (i + 0.5) / len(shown)) for i, key in enumerate(shown)})
    nodes = tuple(_node(key, column_of[key], *place) for key, place in at.items())
    return Graph(height, nodes, tuple(_edges(rows, at)), len(column_of) - len(at))


def _node(key: Key, side: str, x: float, y: float) -> Node:
    name, title = short(key[1], _NODE_CHARS), f"{key[0]} {key[1]}".strip()
    return Node(name, title, side, x, y, "end" if side == "a" else "start", x + (-10 if side == "a" else 10))


def _edges(rows: Sequence[Row], at: Mapping[Key, tuple[float, float]]) -> Iterator[Edge]:
    for row in rows:
        one, other = ((_id(row, side), name_of(row, side)) for side in "ab")
        if one in at and other in at:
            title = f"{one[1]} and {other[1]}: NPMI {_signed(row['npmi'])}, {row['n_both']:,} documents"
            width = 1 + 4 * min(abs(row["npmi"]), 1.0)
            yield Edge(*at[one], *at[other], width, row["direction"] == "apart", title)


def _ordered(result: OrderedResult, most: int, examples: int) -> Iterator[Ordered]:
    rows_of: dict[int, list[Row]] = {}
    for line in result.frame.iter_rows(named=True):
        rows_of.setdefault(line["group"], []).append(line)
    for number, rows in list(rows_of.items())[:most]:
        row: Row = rows[0]
        mean = ""
        if row["mean_with"] is not None:
            mean = f", {row['mean_with']:.3g} on average against {row['mean_without']:.3g}"
        yield Ordered(
            id=f"group-{number}",
            number=number,
            name=short(row["label"], _LABEL_CHARS) if row["label"] else f"latent {row['latent']}",
            latent=row["latent"],
            higher=row["direction"] == "higher",
            auc=f"{row['auc']:.2f}",
            interval=f"{row['auc_low']:.2f} to {row['auc_high']:.2f}",
            at=100 * row["auc"],
            low=100 * row["auc_low"],
            high=100 * row["auc_high"],
            said=f"{row['n']:,} documents with it have {row['direction']} values{mean}",
            facts=(
                ("p", p_in_words(row["p_value"])),
                ("q", p_in_words(row["q_value"])),
                ("q at equal length", p_in_words(row["q_length"])),
            ),
            members=tuple(
                (str(m["latent"]), short(m["label"] or "unlabelled", _LABEL_CHARS), f"{m['auc']:.2f}", f"{m['n']:,}")
                for m in rows[:_PAIRS]
            )
            if len(rows) > 1
            else (),
            exhibits=ordered_exhibits(result, row, examples),
            q=row["q_value"],
        )


def _signed(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")
