"""The map of clusters: where documents lie in two dimensions, and what a page needs to draw them and tell of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from saelens_data.cluster.result import ClusterResult
from saelens_data.wording import count

if TYPE_CHECKING:
    from markupsafe import Markup

#: Documents drawn, and those that t-SNE moves itself; the others are put between the nearest of these.
MOST, _LANDMARKS = 20_000, 2_500
#: Characters of all texts together, and of one: at most, and at least unless it is shorter.
_ALL_CHARS, _CHARS, _FEWEST_CHARS = 2_000_000, 200, 80
#: Characters of an id and of a value of a column; values that have a colour of their own, and that are told at all;
#: columns offered.
_NAME_CHARS, _COLOURS, _VALUES, _COLUMNS = 60, 12, 400, 24
#: Where positions end: both are whole numbers from 0 to here.
_ENDS, _LEAST_HEIGHT = 4_095, 0.7
#: Nearest landmarks that place a document, and documents placed at a time.
_NEAR, _BLOCK = 4, 2_048
#: Columns that are shown by themselves, or say nothing of a document.
_NOT_COLOURED = ("doc_id", "text", "error")


@dataclass(frozen=True, eq=False)
class Map:
    """What the page draws. `data`: JSON that can stand in a script element whatever the documents hold."""

    data: Markup
    #: Documents drawn, and those that have a place.
    shown: int
    placed: int
    #: How positions came about, in a sentence.
    way: str
    #: Characters of a text that are kept.
    chars: int
    #: Columns that can be coloured by, and those that cannot, as too few documents share a value.
    columns: tuple[str, ...]
    left_out: tuple[str, ...]


def draw_map(result: ClusterResult) -> Map:
    """Documents of `result` that have a place, a sample of clusters' own shares where there are more than `MOST`."""
    placed, labels = result.coordinates, result.clusters.labels
    seed = int(result.parameters.get("seed") or 0)
    part = sample(labels, MOST, seed)
    rows = placed.rows[part]
    points, way = positions(placed.Z[part], seed)
    docs = result.m.docs[rows]
    columns, left_out = _columns(docs)
    chars = max(_FEWEST_CHARS, min(_CHARS, _ALL_CHARS // max(len(part), 1)))
    data = {
        "names": [short(name, _NAME_CHARS) for name in result.names],
        "ends": _ENDS,
        "x": points[:, 0].tolist(),
        "y": points[:, 1].tolist(),
        "cluster": labels[part].tolist(),
        "membership": _hundredths(result.clusters.membership[part]),
        "ids": [short(doc_id, _NAME_CHARS) for doc_id in docs["doc_id"]],
        "texts": [short(text or "", chars) for text in docs["text"]] if "text" in docs.columns else None,
        "columns": columns,
    }
    names = tuple(column["name"] for column in columns)
    return Map(embedded(data), len(part), placed.n, way, chars, names, left_out)


def sample(labels: np.ndarray, most: int, seed: int) -> np.ndarray:
    """Positions of `most` of the documents, ascending, of each cluster the same share (and one at least)."""
    n = len(labels)
    if n <= most:
        return np.arange(n)
    rng = np.random.default_rng(seed)
    present, size = np.unique(labels, return_counts=True)
    exact = size * (most / n)
    take = np.maximum(np.floor(exact).astype(np.int64), 1)
    for at in np.argsort(take - exact, kind="stable")[: max(0, most - int(take.sum()))]:
        take[at] += 1
    chosen = [
        rng.choice(np.flatnonzero(labels == label), int(wanted), replace=False)
        for label, wanted in zip(present, take, strict=True)
    ]
    return np.sort(np.concatenate(chosen))


# Where documents lie


def positions(Z: np.ndarray, seed: int) -> tuple[np.ndarray, str]:
    """Whole numbers [documents, 2] from 0 to `_ENDS`, and how they came about.

    UMAP (McInnes et al. 2018) where umap-learn is installed; else t-SNE (van der Maaten & Hinton 2008), of many
    documents on a part of them, between which the others are placed; the first two components of a handful.
    """
    from threadpoolctl import threadpool_limits  # noqa: PLC0415

    with threadpool_limits(1):  # several threads add up in no fixed order
        points, way = _placed(np.ascontiguousarray(Z, dtype=np.float32), seed)
        return _on_grid(points), way


def _placed(Z: np.ndarray, seed: int) -> tuple[np.ndarray, str]:
    n = len(Z)
    if n < 10:
        return _two(Z), "the first two components of the chosen concepts"
    if find_spec("umap") is not None:
        return _umap(Z, seed), "UMAP of the documents' coordinates by the chosen concepts"
    if n <= _LANDMARKS:
        return _tsne(Z, seed), "t-SNE of the documents' coordinates by the chosen concepts"
    part = np.sort(np.random.default_rng(seed).choice(n, _LANDMARKS, replace=False))
    way = (
        f"t-SNE of {count(_LANDMARKS, 'document')} by the chosen concepts; the others lie between those most like them"
    )
    return _between(Z, part, _tsne(Z[part], seed), seed), way


def _two(Z: np.ndarray) -> np.ndarray:
    """The first two components [documents, 2], zeros where there are fewer."""
    padded: np.ndarray = np.zeros((len(Z), 2))
    padded[:, : min(2, Z.shape[1])] = Z[:, :2]
    return padded


def _tsne(Z: np.ndarray, seed: int) -> np.ndarray:
    from sklearn.manifold import TSNE  # noqa: PLC0415

    first = _two(Z)
    start = 1e-4 * first / max(float(first.std()), 1e-9)
    perplexity = min(30.0, (len(Z) - 1) / 3)
    model = TSNE(2, perplexity=perplexity, init=start.astype(np.float32), random_state=seed, max_iter=750, n_jobs=1)
    return np.asarray(model.fit_transform(Z), dtype=np.float64)


def _umap(Z: np.ndarray, seed: int) -> np.ndarray:
    import umap  # noqa: PLC0415

    model = umap.UMAP(n_components=2, n_neighbors=min(15, len(Z) - 1), random_state=seed, n_jobs=1)
    return np.asarray(model.fit_transform(Z), dtype=np.float64)


def _between(Z: np.ndarray, part: np.ndarray, placed: np.ndarray, seed: int) -> np.ndarray:
    """Places [documents, 2] of all, from those of the landmarks at `part`.

    A document comes near the landmark most like it: as far out as landmarks there lie apart, towards the next ones.
    """
    from sklearn.neighbors import NearestNeighbors  # noqa: PLC0415

    out = np.empty((len(Z), 2))
    out[part] = placed
    rest = np.setdiff1d(np.arange(len(Z)), part)
    near, gaps = NearestNeighbors(n_neighbors=_NEAR).fit(Z[part]), NearestNeighbors(n_neighbors=2).fit(placed)
    gap = float(np.median(gaps.kneighbors(placed)[0][:, 1]))
    rng = np.random.default_rng(seed)
    for at in range(0, len(rest), _BLOCK):
        some = rest[at : at + _BLOCK]
        far, which = near.kneighbors(Z[some])
        weight = 1 / np.maximum(far, 1e-6) ** 2
        weight /= weight.sum(axis=1, keepdims=True)
        # Landmarks that lie elsewhere on the map would draw a document into the empty space between.
        close = np.linalg.norm(placed[which] - placed[which[:, :1]], axis=2) < 8 * gap
        weight = np.where(close, weight, 0.0)
        weight /= weight.sum(axis=1, keepdims=True)
        out[some] = (placed[which] * weight[:, :, None]).sum(axis=1) + rng.normal(scale=gap, size=(len(some), 2))
    return out


def _on_grid(points: np.ndarray) -> np.ndarray:
    """Turned so that the longer side lies flat, in the middle of the square of whole numbers.

    Both axes have one scale, but that a flat map is stretched to `_LEAST_HEIGHT` of its width.
    """
    if not len(points):
        return np.zeros((0, 2), dtype=np.int64)
    points = points - points.mean(axis=0)
    _, vectors = np.linalg.eigh(points.T @ points)
    turned = points @ vectors[:, ::-1]
    turned = turned * np.where(turned[np.abs(turned).argmax(axis=0), [0, 1]] < 0, -1.0, 1.0)
    low, high = turned.min(axis=0), turned.max(axis=0)
    width = max(float((high - low).max()), 1e-12)
    reach = np.array([width, np.clip(high[1] - low[1], 1e-12 * width, width) / _LEAST_HEIGHT]).clip(None, width)
    placed: np.ndarray = np.rint((turned - (low + high) / 2) * (_ENDS / reach) + _ENDS / 2)
    return placed.clip(0, _ENDS).astype(np.int64)


# What the page knows of a document


def _columns(docs: pl.DataFrame) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """Columns to colour by, and the names of those that cannot be."""
    found: list[dict[str, Any]] = []
    left_out: list[str] = []
    for series in docs.iter_columns():
        if series.name in _NOT_COLOURED or series.null_count() == len(series):
            continue
        column = _column(series) if len(found) < _COLUMNS else None
        if column is None:
            left_out.append(short(series.name, _NAME_CHARS))
        else:
            found.append(column)
    return found, tuple(left_out)


def _column(series: pl.Series) -> dict[str, Any] | None:
    """A column as the page has it: numbers, or codes of values, the most frequent first.

    Null is -1; a value that is not told has the code after the last. `more` counts values without their own colour.
    """
    name, dtype = short(series.name, _NAME_CHARS), series.dtype
    if dtype.is_numeric() and series.n_unique() > _COLOURS:
        values = [None if x is None else float(f"{float(x):.4g}") for x in series.to_list()]
        values = [None if x is None or not np.isfinite(x) else int(x) if x == int(x) else x for x in values]
        return {"name": name, "numbers": values} if any(x is not None for x in values) else None
    words = [None if x is None else _as_text(x) for x in series.to_list()]
    sizes: dict[str, int] = {}
    for word in words:
        if word is not None:
            sizes[word] = sizes.get(word, 0) + 1
    order = sorted(sizes, key=lambda word: (-sizes[word], word))
    if dtype.is_numeric():
        order.sort(key=float)
    largest = sum(sizes[word] for word in order[:_COLOURS])
    if len(order) > _COLOURS and (len(order) > len(words) / 2 or largest < len(words) / 20):
        return None
    shown = order[:_VALUES]
    code = {word: i for i, word in enumerate(shown)}
    codes = [-1 if word is None else code.get(word, len(shown)) for word in words]
    more = len(order) - _COLOURS if len(order) > _COLOURS else 0
    return {"name": name, "values": shown, "more": more, "codes": codes}


def _as_text(value: Any) -> str:
    """A value in words: yes and no, lists and structures as JSON."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, pl.Series):
        value = value.to_list()
    text = json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, dict | list) else str(value)
    return short(text, _NAME_CHARS)


def short(text: str, most: int) -> str:
    """The beginning of a text with its hidden characters made visible."""
    from saelens_data.display.markup import visible  # noqa: PLC0415

    seen: str = visible(text[: 4 * most]).strip()
    return seen if len(seen) <= most else seen[: most - 1].rstrip() + "…"


def _hundredths(values: np.ndarray) -> list[int]:
    return np.rint(100 * np.nan_to_num(values)).astype(np.int64).tolist()  # type: ignore[no-any-return]


def embedded(data: Any) -> Markup:
    """JSON in which nothing can end the element that holds it or begin another."""
    from markupsafe import Markup  # noqa: PLC0415

    return Markup("".join(_escaped(data)))  # noqa: S704


def _escaped(data: Any) -> Iterator[str]:
    for part in json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).iterencode(data):
        yield part.translate(_OUTSIDE)


#: What HTML would read, and line ends that JavaScript's older grammar did not allow, as JSON's own escapes.
_OUTSIDE = {ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&\u2028\u2029"}
