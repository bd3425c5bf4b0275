"""Level and power of the trend test, where it can be added up exactly and by simulation. Prints Markdown.

    python tests/benchmarks/trend.py {presence,strength,clusters,power} [--latents 200000]

`presence` adds up the probabilities of all outcomes: the share of latents of a given support that is rejected, over the
threshold, where nothing differs. 1.0 is what is promised. `strength` and `clusters` draw latents instead. `power` prints
the share found at 0.0001 where the density rises.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import csr_array
from scipy.special import gammaln, ndtr

from saelens_data import stats
from saelens_data.stats.trend import trend_law

THRESHOLDS = (1e-2, 1e-3, 1e-4)
#: Where nothing is drawn, there is no noise.
FAR = (*THRESHOLDS, 1e-5, 1e-6)
SUPPORTS = (5, 8, 12, 20, 40, 100)
#: Documents at each step.
DESIGNS = {
    "3 x 50": (50,) * 3,
    "6 x 50": (50,) * 6,
    "12 x 16": (16,) * 12,
    "12 x 30": (30,) * 12,
    "300, 100, 30": (300, 100, 30),
    "20, 50, 100, 200, 400": (20, 50, 100, 200, 400),
    "400, 200, 100, 50, 20, 10": (400, 200, 100, 50, 20, 10),
}
#: Latents drawn at once.
BLOCK = 20_000


@dataclass(frozen=True)
class Design:
    """Documents at steps and in clusters."""

    name: str
    score: np.ndarray
    cluster: np.ndarray | None = None


def law_of_sum(sizes: tuple[int, ...], support: int) -> np.ndarray:
    """P(sum of the steps of the active documents = 0, 1, ...), given their number: all tables added up."""
    share = support / sum(sizes)
    table = np.zeros((support + 1, support * (len(sizes) - 1) + 1))
    table[0, 0] = 1.0
    for step, n in enumerate(sizes):
        a = np.arange(min(n, support) + 1)
        log = gammaln(n + 1) - gammaln(a + 1) - gammaln(n - a + 1)
        weight = np.exp(log + a * np.log(share) + (n - a) * np.log1p(-share))
        after = weight[0] * table
        for k in a[1:]:
            after[k:, step * k :] += weight[k] * table[: len(table) - k, : table.shape[1] - step * k]
        table = after
    return table[support] / table[support].sum()


def p_of_sum(sizes: tuple[int, ...], support: int, n_sums: int) -> tuple[np.ndarray, np.ndarray]:
    """p of each sum by this package, and by the normal tail without a correction (Cochran and Armitage)."""
    score = np.repeat(np.arange(len(sizes)), sizes)
    y = csr_array((np.arange(len(score)) < support).astype(np.float64)[:, None])
    law = trend_law(y, score)
    observed = np.arange(n_sums) - support * score.mean()
    column = replace(
        law, **{f: np.full(n_sums, getattr(law, f)[0]) for f in ("variance", "above", "below", "floor", "turning")}
    )
    normal = 2 * ndtr(-np.abs(observed) / np.sqrt(law.variance[0]))
    return replace(column, observed=observed).p_value(1.0), normal


def presence(options: argparse.Namespace) -> None:
    """Rejections over the threshold, added up: the worst of the supports."""
    header(["documents at each step", "threshold", "normal tail: worst", "this test: worst", "this test: mean"], "")
    for name, sizes in DESIGNS.items():
        found = {"normal": [], "this": []}
        for support in [k for k in SUPPORTS if 2 * k <= sum(sizes)]:
            chance = law_of_sum(sizes, support)
            for key, p in zip(("this", "normal"), p_of_sum(sizes, support, len(chance)), strict=True):
                found[key].append([chance[p <= t].sum() / t for t in FAR])
        this, normal = np.array(found["this"]), np.array(found["normal"])
        for i, t in enumerate(FAR):
            row([name, f"{t:g}", f"{normal[:, i].max():.2f}", f"{this[:, i].max():.2f}", f"{this[:, i].mean():.2f}"])


def drawn(design: Design, density: float, n: int, rng: np.random.Generator, *, icc: float = 0.0) -> csr_array:
    """Activations [documents, n]; each cluster has a beta chance of this mean and intracluster correlation."""
    if design.cluster is None or icc == 0:
        y = rng.random((len(design.score), n)) < density
        level = 0.0
    else:
        k = int(design.cluster.max()) + 1
        chance = rng.beta(density * (1 - icc) / icc, (1 - density) * (1 - icc) / icc, (k, n))
        y = rng.random((len(design.score), n)) < chance[design.cluster]
        level = rng.random((k, n))[design.cluster]
    return csr_array((y * (rng.random(y.shape) + level)).astype(np.float32))


def judged(X: csr_array, design: Design) -> dict[str, np.ndarray]:
    """p of presence, of ranks, and of both as `trend` takes them."""
    pattern = csr_array((np.ones(X.nnz), X.indices, X.indptr), shape=X.shape)
    ranks = stats.rank_scores(stats.pooled_ranks(X)[0])
    one = trend_law(pattern, design.score, design.cluster).p_value(1.0)
    other = trend_law(ranks, design.score, design.cluster).p_value(0.0)
    return {"presence": one, "ranks": other, "both": np.minimum(2 * np.minimum(one, other), 1)}


def rejected(
    design: Design, density: float, options: argparse.Namespace, *, icc: float = 0.0, naive: bool = False
) -> dict[str, np.ndarray]:
    """Share of latents rejected at each threshold."""
    rng, count, done = np.random.default_rng(options.seed), {}, 0
    while done < options.latents:
        X = drawn(design, density, BLOCK // 10 if len(design.score) > 500 else BLOCK, rng, icc=icc)
        found = judged(X, design)
        if naive:
            found = {"as if independent": judged(X, replace(design, cluster=None))["both"], **found}
        for name, p in found.items():
            count[name] = count.get(name, 0) + np.array([(p <= t).sum() for t in THRESHOLDS])
        done += X.shape[1]
    return {name: c / done for name, c in count.items()}


def strength(options: argparse.Namespace) -> None:
    """Rejections over the threshold, drawn."""
    header(
        ["documents at each step", "density", "presence", "ranks", "both"], "multiples of the threshold at " + stated()
    )
    for name, sizes in DESIGNS.items():
        design = Design(name, np.repeat(np.arange(len(sizes)), sizes))
        for density in (0.03, 0.2, 0.97):
            share = rejected(design, density, options)
            row([name, f"{density:g}", *(multiples(s) for s in share.values())])


def clusters(options: argparse.Namespace) -> None:
    """The same for answers to one prompt at each step, and for texts of several chunks, which lie in one step."""
    rng = np.random.default_rng(1)
    texts = np.minimum(np.ceil(rng.lognormal(1.0, 1.0, 150)), 20).astype(int)
    designs = [
        Design("30 prompts x 6 steps", np.tile(np.arange(6), 30), np.repeat(np.arange(30), 6)),
        Design(
            "20 prompts x 4 steps x 3 answers", np.tile(np.repeat(np.arange(4), 3), 20), np.repeat(np.arange(20), 12)
        ),
        Design(
            "150 texts of 1 to 20 chunks, 5 steps",
            np.repeat(np.arange(150) % 5, texts),
            np.repeat(np.arange(150), texts),
        ),
    ]
    names = ["documents", "density", "as if independent", "presence", "ranks", "both"]
    header(names, "correlation 0.3; multiples of the threshold at " + stated())
    for design in designs:
        for density in (0.05, 0.3):
            share = rejected(design, density, options, icc=0.3, naive=True)
            row([design.name, f"{density:g}", *(multiples(s) for s in share.values())])


def power(options: argparse.Namespace) -> None:
    """Share found at 0.0001 where the density rises by a straight line."""
    rng, n = np.random.default_rng(options.seed), 4_000
    header(["documents at each step", "first to last", "trend", "first against last (Fisher)"], "")
    for name, k, size in (("6 x 50", 6, 50), ("12 x 30", 12, 30), ("3 x 50", 3, 50)):
        score = np.repeat(np.arange(k), size)
        for low, high in ((0.02, 0.2), (0.1, 0.4), (0.3, 0.6)):
            y = rng.random((len(score), n)) < (low + (high - low) * score / (k - 1))[:, None]
            found = judged(csr_array((y * rng.random(y.shape)).astype(np.float32)), Design(name, score))["both"]
            ends = stats.fisher_exact(y[score == k - 1].sum(axis=0), y[score == 0].sum(axis=0), size, size)
            row([name, f"{low:g} to {high:g}", f"{(found <= 1e-4).mean():.2f}", f"{(ends <= 1e-4).mean():.2f}"])


def stated() -> str:
    return " / ".join(f"{t:g}" for t in THRESHOLDS)


def multiples(share: np.ndarray) -> str:
    return " / ".join(f"{x / t:.2f}" for x, t in zip(share, THRESHOLDS, strict=True))


def header(names: list[str], what: str) -> None:
    print(f"\n{what}\n")
    row(names)
    row(["---"] * len(names))


def row(cells: list[str]) -> None:
    print(f"| {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = {"presence": presence, "strength": strength, "clusters": clusters, "power": power}
    parser.add_argument("part", choices=parts)
    parser.add_argument("--latents", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    parts[options.part](options)


if __name__ == "__main__":
    main()
