"""The charts of clusters: the tree in which they merge, and the curve by which their number was chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from saelens_data.cluster.hierarchy import MergeTree
from saelens_data.wording import count

#: Width of the charts in their own units, and what a leaf takes of the tree's height.
_WIDTH, _LEAF, _MARGIN = 720, 26, 8
#: Where the tree begins: left of it stand the leaves' names.
_NAMES = 300
#: Height of the curve, and the room for its numbers.
_HEIGHT, _LEFT, _BOTTOM, _TOP = 240, 40, 34, 10


@dataclass(frozen=True)
class Tree:
    """Merges as lines. `leaves`: (cluster, name, y); `lines`: (x1, y1, x2, y2); `nodes`: (x, y, words)."""

    width: int
    height: int
    start: float
    leaves: tuple[tuple[int, str, float], ...]
    lines: tuple[tuple[float, float, float, float], ...]
    nodes: tuple[tuple[float, float, str], ...]
    #: What merges, in words, the first merge first.
    steps: tuple[str, ...]


def tree_of(tree: MergeTree, names: Sequence[str]) -> Tree | None:
    """The tree lying on its side: leaves at the left, merges at their heights; None for a single cluster."""
    if tree.k < 2:
        return None
    y = {int(leaf): _MARGIN + _LEAF * (i + 0.5) for i, leaf in enumerate(tree.order())}
    leaves = tuple((leaf, names[leaf], at) for leaf, at in y.items())
    top = float(tree.merges[:, 2].max()) or 1.0
    x = dict.fromkeys(y, float(_NAMES))
    held = {leaf: [leaf] for leaf in y}
    lines, nodes, steps = [], [], []
    for i, (one, other, height, n) in enumerate(tree.merges.tolist()):
        a, b, node = int(one), int(other), tree.k + i
        at = _NAMES + (_WIDTH - _NAMES - 2 * _MARGIN) * height / top
        lines += [(x[a], y[a], at, y[a]), (x[b], y[b], at, y[b]), (at, y[a], at, y[b])]
        x[node], y[node], held[node] = at, (y[a] + y[b]) / 2, held[a] + held[b]
        words = f"{_list(held[a])} with {_list(held[b])}, {count(int(n), 'document')}, at {height:.2f}"
        nodes.append((at, y[node], words))
        steps.append(f"{words}: {count(tree.k - 1 - i, 'cluster')} left")
    return Tree(_WIDTH, 2 * _MARGIN + _LEAF * tree.k, _NAMES, leaves, tuple(lines), tuple(nodes), tuple(steps))


def _list(clusters: Sequence[int]) -> str:
    *first, last = map(str, sorted(clusters))
    return f"{', '.join(first)} and {last}" if first else last


@dataclass(frozen=True)
class Curve:
    """Stability for each number of clusters tried, in the documents and in data without clusters.

    `points` and `null`: (k, x, y, y of one standard error above and below); `ticks`: (words, y); `rows`: as a table.
    """

    width: int
    height: int
    left: int
    bottom: float
    points: tuple[tuple[int, float, float, float, float], ...]
    null: tuple[tuple[int, float, float, float, float], ...]
    ticks: tuple[tuple[str, float], ...]
    chosen: float
    rows: tuple[tuple[str, ...], ...]

    @staticmethod
    def path(points: Sequence[tuple[int, float, float, float, float]]) -> str:
        """The points as SVG joins them."""
        return " ".join(f"{x:.1f},{y:.1f}" for _, x, y, _, _ in points)


def curve_of(curve: pl.DataFrame, k: int) -> Curve:
    """The curve of `choose_k`, every number tried at the same distance."""
    n = curve.height
    low = min(0.0, float(curve["stability"].min()), float(curve["null"].min()))  # type: ignore[arg-type]
    room = _HEIGHT - _TOP - _BOTTOM

    def at(value: float) -> float:
        return _TOP + room * (1 - (min(max(value, low), 1.0) - low) / (1 - low))

    def place(i: int) -> float:
        return _LEFT + (_WIDTH - _LEFT - _MARGIN) * (i + 0.5) / n

    def line(value: str, error: str) -> tuple[tuple[int, float, float, float, float], ...]:
        rows = enumerate(curve.select("k", value, error).iter_rows())
        return tuple((tried, place(i), at(v), at(v + e), at(v - e)) for i, (tried, v, e) in rows)

    rows = tuple(
        (str(row["k"]), f"{row['stability']:.2f}", f"{row['null']:.2f}", f"{row['excess']:+.2f}")
        for row in curve.iter_rows(named=True)
    )
    ticks = tuple((f"{value:.1f}", at(value)) for value in (0.0, 0.5, 1.0))
    points = line("stability", "error")
    chosen = next((x for tried, x, *_ in points if tried == k), -1.0)
    return Curve(_WIDTH, _HEIGHT, _LEFT, at(low), points, line("null", "null_error"), ticks, chosen, rows)
