"""Draw the pictures of docs/explained.md from the bundled answers and the bundled encoder.

Usage: python tools/pictures.py    (writes docs/images/explained-*.svg, and prints the figures that the page names)
"""

from __future__ import annotations

import json
import os
from html import escape
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import polars as pl
from scipy.sparse import csr_array

import saelens_data as sd
from saelens_data.matrix import ConceptMatrix
from saelens_data.stats.intervals import newcombe_paired

ROOT = Path(__file__).parents[1]
HABITS = ROOT / "datasets" / "habits"
#: The answer of the first picture, and the concept that marks memories told in the first person.
DOCUMENT, MEMORY = "p094", 1579
BLUE, RED, GREY = "#3b5bdb", "#d9480f", "#868e96"


def svg(name: str, width: int, height: int, parts: list[str]) -> None:
    """Write one picture on a white ground, so that it is read on a dark page too."""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">'
    ground = f'<rect width="{width}" height="{height}" fill="#fff"/>'
    (ROOT / "docs" / "images" / f"explained-{name}.svg").write_text("\n".join([head, ground, *parts, "</svg>\n"]))


def text(x: float, y: float, words: str, *, end: bool = False, colour: str = "#333") -> str:
    """A line of text that begins (or ends) at x."""
    anchor = "end" if end else "start"
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" text-anchor="{anchor}">{escape(words)}</text>'


def bar(x: float, y: float, width: float, height: float, colour: str) -> str:
    """A filled rectangle."""
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour}"/>'


def dot(x: float, y: float, radius: float, colour: str, opacity: float = 1) -> str:
    """A filled circle."""
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" fill="{colour}" fill-opacity="{opacity}"/>'


def shortened(words: str, most: int) -> str:
    """Words on one line of at most `most` characters."""
    words = " ".join(words.split())
    return words if len(words) <= most else words[: most - 1].rstrip() + "…"


def embedding(b: ConceptMatrix) -> csr_array:
    """One document: its sentences, their strongest concepts, and the row of maxima that stands for it."""
    row = int(np.flatnonzero((b.docs["doc_id"] == DOCUMENT).to_numpy())[0])
    whole = b.docs["text"][row]
    begin, end = b.evidence.units.ptr[row : row + 2]
    units = b.evidence.units
    spans = [whole[s:e] for s, e in zip(units.start[begin:end], units.end[begin:end], strict=True)]
    read = sd.encode(pl.DataFrame({"text": spans}), dtype="float32").X
    maxima = read.max(axis=0).toarray().ravel()
    shown = np.sort(np.argsort(-maxima)[:14])
    x0, y0, step = 372, 34, 22
    parts = [text(8, 20, f"Answer {DOCUMENT}, sentence by sentence", colour=GREY)]
    for i, words in enumerate([*spans, ""]):
        y = y0 + i * step
        last = i == len(spans)
        if last:
            parts.append(f'<path d="M8 {y - 2}H{x0 + 14 * step}" stroke="{GREY}"/>')
        parts.append(text(8, y + 15, "the document: the maximum of each column" if last else shortened(words, 58)))
        values = maxima if last else read[[i]].toarray().ravel()
        for j, latent in enumerate(shown):
            if values[latent] > 0:
                radius = 2 + 8 * float(values[latent] / maxima[shown].max())
                parts.append(dot(x0 + (j + 0.5) * step, y + 11, radius, RED if last else BLUE))
    foot = y0 + (len(spans) + 1) * step + 10
    labels = b.concepts["label"]
    for j, latent in enumerate(shown):
        x = x0 + (j + 0.5) * step + 3
        parts.append(
            f'<g transform="rotate(-55 {x} {foot + 4})">{text(x, foot + 4, shortened(labels[int(latent)], 24), end=True, colour=GREY)}</g>'
        )
    svg("embedding", x0 + 14 * step + 12, foot + 132, parts)
    per_span = np.diff(read.indptr)
    print(
        f"embedding: {len(spans)} sentences, {per_span.mean():.0f} concepts each, {int((maxima > 0).sum())} in the document"
    )
    return read


def maximum(read: csr_array) -> None:
    """One concept in one document: its maximum and its mean over the sentences, as they are read one by one."""
    values = read[:, [MEMORY]].toarray().ravel()
    numbers = np.arange(1, len(values) + 1)
    curves = {
        "maximum": (np.maximum.accumulate(values), RED),
        "mean": (np.cumsum(values) / numbers, BLUE),
    }
    top = float(values.max())
    parts = ['<path d="M56 12V190H500" fill="none" stroke="#333"/>']
    parts += [text(50, 194 - 160 * v / top, f"{v:.1f}", end=True) for v in (0.0, 0.1, 0.2) if v <= top]
    parts += [text(50 + 32 * int(i), 208, str(i)) for i in numbers]
    parts += [
        bar(50 + 32 * int(i), 190 - 160 * v / top, 9, 160 * v / top, "#ced4da")
        for i, v in zip(numbers, values, strict=True)
    ]
    for name, (curve, colour) in curves.items():
        line = " ".join(
            f"{54.5 + 32 * int(i):.1f},{190 - 160 * v / top:.1f}" for i, v in zip(numbers, curve, strict=True)
        )
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(text(62 + 32 * len(values), 194 - 160 * float(curve[-1]) / top, name, colour=colour))
    parts.append(text(500, 226, "sentences read", end=True, colour=GREY))
    svg("maximum", 590, 234, parts)
    print(
        f"maximum: {curves['maximum'][0][-1]:.3f}, mean {curves['mean'][0][-1]:.3f}, sentence {int(values.argmax()) + 1}"
    )


def habit(b: ConceptMatrix) -> None:
    """How well maximum and mean of the concept tell answers with a memory from those without."""
    truth = json.loads((HABITS / "truth.json").read_text(encoding="utf-8"))
    ids = next(one["ids"] for one in truth["habits"] if one["name"] == "personal_anecdote")
    has = b.docs["doc_id"].is_in(ids).to_numpy()
    for how in ("max", "mean"):
        values = b.pooled(how).X[:, [MEMORY]].toarray().ravel()
        above = values[has][:, None] - values[~has][None, :]
        area = np.mean(above > 0) + 0.5 * np.mean(above == 0)
        print(
            f"habit: area of the {how} {area:.3f}; silent in {np.mean(values[has] == 0):.0%} of the answers with a memory"
        )


def length(b: ConceptMatrix) -> None:
    """Concepts active in a document, against its sentences."""
    units = np.diff(b.evidence.units.ptr)
    active = np.diff(b.X.indptr)
    keep = units <= 20
    parts = ['<path d="M56 12V260H560" fill="none" stroke="#333"/>']
    parts += [text(50, 264 - 0.36 * v, str(v), end=True) for v in (0, 200, 400, 600)]
    parts += [text(56 + 25 * v - 6, 278, str(v)) for v in (5, 10, 15, 20)]
    parts += [
        text(560, 296, "sentences of the answer", end=True, colour=GREY),
        text(64, 22, "active concepts", colour=GREY),
    ]
    parts += [dot(56 + 25 * u, 260 - 0.36 * a, 3, BLUE, 0.4) for u, a in zip(units[keep], active[keep], strict=True)]
    svg("length", 580, 304, parts)
    for low, high in ((1, 5), (6, 8), (9, 12), (13, 99)):
        some = (units >= low) & (units <= high)
        print(f"length: {low} to {high} sentences: {some.sum()} answers, {active[some].mean():.0f} concepts")
    print(f"length: correlation of active concepts and sentences {np.corrcoef(units, active)[0, 1]:.2f}")


def finding(a: ConceptMatrix, b: ConceptMatrix) -> None:
    """The pairs of answers behind the first line of the demo, and what follows from them."""
    in_a, in_b = (m.X[:, [MEMORY]].toarray().ravel() > 0 for m in (a, b))
    assert a.docs["doc_id"].equals(b.docs["doc_id"])
    cells = {"both": in_a & in_b, "only A's": in_a & ~in_b, "only B's": ~in_a & in_b, "neither": ~in_a & ~in_b}
    n = len(in_a)
    parts, x = [text(8, 20, f"{n} prompts; in whose answer is the concept active?", colour=GREY)], 8.0
    for name, colour in zip(cells, ("#ced4da", BLUE, RED, "#e9ecef"), strict=True):
        count = int(cells[name].sum())
        width = 560 * count / n
        parts += [bar(x, 32, width - 1, 34, colour), text(x + 2, 98 if name == "only A's" else 82, f"{name} {count}")]
        x += width
    both, only_a, only_b, _ = (np.array([cell.sum()]) for cell in cells.values())
    low, high = (float(end[0]) for end in newcombe_paired(both, only_a, only_b, n))
    share = float(in_a.mean() - in_b.mean())
    zero, scale = 500.0, 1000.0
    parts += [
        f'<path d="M{zero} 102V146" stroke="#333" stroke-dasharray="4 3"/>',
        text(zero - 4, 160, "0: no difference"),
        f'<path d="M{zero + scale * low:.1f} 124H{zero + scale * high:.1f}" stroke="{RED}" stroke-width="3"/>',
        dot(zero + scale * share, 124, 5, RED),
        text(
            zero + scale * low,
            112,
            f"difference {100 * share:+.0f} points, 95% interval {100 * low:.0f} to {100 * high:.0f}",
        ),
    ]
    svg("finding", 590, 172, parts)
    print(f"finding: {[(k, int(v.sum())) for k, v in cells.items()]} {share:.3f} [{low:.3f}, {high:.3f}]")


def main() -> None:
    """Draw all four."""
    a, b = (sd.encode(HABITS / f"answers_{side}.jsonl", dtype="float32") for side in "ab")
    maximum(embedding(b))
    habit(b)
    length(b)
    finding(a, b)


if __name__ == "__main__":
    main()
