"""How many of the planted habits `diff` finds, and what else it shows. The table of docs/statistics.md.

    python tests/benchmarks/habits.py [--show]

A finding is about a habit where its leading latent marks the answers with that habit among those of the assistant that has
it: the area under the ROC curve of its activation. From 0.7 on it is that habit's; a finding that is no habit's is not
thereby false (the assistants may differ in more than what was planted): its best habit and area are printed with --show.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import mannwhitneyu

import saelens_data as sd
from saelens_data.matrix import ConceptMatrix

HABITS = Path(__file__).parents[2] / "datasets" / "habits"
#: Area from which a finding is a habit's.
CLEAR = 0.7


def areas(m: ConceptMatrix, habit: Mapping[str, Any], latents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How well each latent marks the answers with a habit among those of its assistant: (area, p of the rank-sum test)."""
    shows = m.docs["id"].is_in(habit["ids"]).to_numpy()
    test = mannwhitneyu(
        m.X[np.flatnonzero(shows)][:, latents].toarray(), m.X[np.flatnonzero(~shows)][:, latents].toarray()
    )
    return test.statistic / (shows.sum() * (~shows).sum()), np.nan_to_num(test.pvalue, nan=1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--show", action="store_true", help="print every finding")
    show = parser.parse_args().show
    truth = json.loads((HABITS / "truth.json").read_text(encoding="utf-8"))["habits"]
    a, b = (sd.encode(HABITS / f"answers_{side}.jsonl") for side in "ab")
    results = {
        "pairs": sd.diff(a, b, pair_on="prompt"),
        "pairs, ungrouped": sd.diff(a, b, pair_on="prompt", group=False),
        "independent": sd.diff(a, b),
    }
    sides = {"A": a, "B": b}
    every = np.arange(a.n_concepts)
    ceiling = [float(areas(sides[habit["answerer"]], habit, every)[0].max()) for habit in truth]
    found = {}
    for name, result in results.items():
        latents = result.findings["latent"].to_numpy()
        found[name] = [areas(sides[habit["answerer"]], habit, latents) for habit in truth]
    columns = " | ".join(f"{name}: rank, area" for name in results)
    print(f"| habit | answers | best of all concepts | {columns} |\n|{'---|' * (3 + len(results))}")
    for j, habit in enumerate(truth):
        cells = []
        for name, result in results.items():
            right = (result.findings["favours"] == habit["answerer"]).to_numpy()
            area = np.where(right, found[name][j][0], 0)
            own = area == np.max([one for one, _ in found[name]], axis=0)
            clear = np.flatnonzero((area >= CLEAR) & own)
            cells.append(f"{clear[0] + 1}, {area[clear[0]]:.2f}" if len(clear) else f"none ({area.max(initial=0):.2f})")
        print(f"| {habit['name']} | {len(habit['ids'])} | {ceiling[j]:.2f} | {' | '.join(cells)} |")
    for name, result in results.items():
        area, p = (np.array([one[k] for one in found[name]]) for k in (0, 1))
        related = (np.where(area > 0.5, p, 1).min(axis=0) < 0.05 / len(truth)).sum()
        clear = (area.max(axis=0) >= CLEAR).sum()
        print(
            f"{name}: {area.shape[1]} findings, {clear} clearly of a habit, {related} marking one at p < 0.05 / {len(truth)}"
        )
        for row, best in zip(result.findings.iter_rows(named=True), area.T if show else [], strict=show):
            line = f"{row['rank']:3d} {row['delta']:+.2f} p {row['p_value']:.1e} {truth[int(best.argmax())]['name']}"
            print(f"  {line} {best.max():.2f} {row['label']} {row['members']}")


if __name__ == "__main__":
    main()
