"""How often `diff` finds anything where nothing is, at every error rate. The picture of docs/statistics.md.

    python tests/benchmarks/aa_curve.py -o docs/images/aa.svg [--splits 1000]

The bundled answers are split at random so that nothing can differ; below the diagonal is within the stated rate.
"""

from __future__ import annotations

import argparse
from importlib import import_module
from pathlib import Path

import numpy as np

import saelens_data as sd
from saelens_data import stats

HABITS = Path(__file__).parents[2] / "datasets" / "habits"
RATES = np.linspace(0.005, 0.2, 40)
COLOURS = ("#2166b0", "#c2600f", "#3b7d4f", "#7a4fa3")
#: Side of the plot, and room for its axes.
SIDE, LEFT, BELOW, RIGHT = 300, 56, 44, 230


def curves(splits: int) -> dict[str, np.ndarray]:
    """The smallest q of each split, by what was split."""
    a, b = (sd.encode(HABITS / f"answers_{side}.jsonl") for side in "ab")
    least_q = import_module("saelens_data.diff.aa_check").least_q
    independent = least_q(sd.diff(a, b), splits=splits, seed=0)
    paired = least_q(sd.diff(a, b, pair_on="prompt"), splits=splits, seed=0)
    clustered = least_q(sd.diff(a, b, cluster_on="prompt"), splits=max(splits // 5, 1), seed=0)
    return {
        "halves of A's answers": independent["A"][0],
        "halves of B's answers": independent["B"][0],
        "exchanges within pairs": paired["A and B"][0],
        "exchanges of clusters": clustered["A and B"][0],
    }


def svg(found: dict[str, np.ndarray]) -> str:
    """Lines with 95% bands (Wilson) over the diagonal."""

    def x(rate: float) -> float:
        return LEFT + SIDE * rate / RATES[-1]

    def y(share: float) -> float:
        return 12 + SIDE * (1 - share / RATES[-1])

    width, height = LEFT + SIDE + RIGHT, SIDE + 12 + BELOW
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        f'<path d="M{x(0):.1f} {y(0):.1f}L{x(0.2):.1f} {y(0.2):.1f}" stroke="#999" stroke-dasharray="4 3"/>',
        f'<path d="M{x(0):.1f} {y(0.2):.1f}V{y(0):.1f}H{x(0.2):.1f}" fill="none" stroke="#333"/>',
    ]
    for tick in (0.05, 0.1, 0.15, 0.2):
        parts.append(f'<text x="{x(tick):.1f}" y="{y(0) + 16:.1f}" text-anchor="middle">{tick:.2f}</text>')
        parts.append(f'<text x="{LEFT - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:.0%}</text>')
    parts.append(f'<text x="{x(0.1):.1f}" y="{height - 8}" text-anchor="middle">alpha</text>')
    parts.append(f'<text x="{LEFT + SIDE + 8}" y="24" fill="#777">splits with a finding, 95% band;</text>')
    parts.append(f'<text x="{LEFT + SIDE + 8}" y="40" fill="#777">dashed: the stated rate</text>')
    for i, ((name, least), colour) in enumerate(zip(found.items(), COLOURS, strict=True)):
        hits = (least[:, None] < RATES).sum(axis=0)
        low, high = (np.minimum(bound, RATES[-1]) for bound in stats.wilson(hits, len(least)))
        band = [*zip(RATES, low, strict=True), *zip(RATES[::-1], high[::-1], strict=True)]
        line = "L".join(f"{x(r):.1f} {y(h / len(least)):.1f}" for r, h in zip(RATES, hits, strict=True))
        parts.append(
            f'<path d="M{"L".join(f"{x(r):.1f} {y(s):.1f}" for r, s in band)}Z" fill="{colour}" opacity="0.15"/>'
        )
        parts.append(f'<path d="M{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<text x="{LEFT + SIDE + 8}" y="{70 + 20 * i}" fill="{colour}">{name} ({len(least):,})</text>')
    return "\n".join([*parts, "</svg>\n"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--splits", type=int, default=1000)
    given = parser.parse_args()
    found = curves(given.splits)
    given.output.write_text(svg(found), encoding="utf-8")
    for name, least in found.items():
        print(f"{name}: {(least < 0.05).mean():.1%} of {len(least):,} with a finding at q < 0.05")


if __name__ == "__main__":
    main()
