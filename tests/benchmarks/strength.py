"""What the tests and intervals of strength are worth: exact rejection rates, coverage, cost.

    python tests/benchmarks/strength.py calibration ties whole coverage pairs speed

`calibration` and `ties` add up the probabilities of all outcomes under the null and print the rate of rejection divided
by the threshold (1 is exact, above 1 too many). `whole` splits documents at random and counts the comparisons with any
finding. `coverage` and `pairs` simulate the 95% intervals. `speed` times 20
million activations. Each table is Markdown.
"""

from __future__ import annotations

import argparse
import time
import tracemalloc
from collections.abc import Callable, Iterable, Sequence
from math import comb

import numpy as np
from scipy.sparse import csr_array
from scipy.special import ndtr, ndtri
from scipy.stats import mannwhitneyu, rankdata

from saelens_data.stats import benjamini_hochberg, count_chosen, wilson
from saelens_data.stats.strength import (
    auc_interval,
    paired_auc_interval,
    pooled_ranks,
    rank_sum,
    rank_sum_least_p,
    rank_sum_p,
    signed_rank,
    signed_rank_least_p,
    signed_rank_p,
    signed_ranks,
)

THRESHOLDS = np.array([1e-2, 1e-3, 1e-4, 1e-5])
SIZES = [(4, 4), (5, 5), (8, 8), (12, 12), (20, 20), (50, 50), (100, 100), (200, 200)]
SIZES += [(3, 50), (3, 500), (5, 200), (10, 100), (20, 200), (50, 200)]
REPEATS = 4_000


def row(*cells: object) -> None:
    print("| " + " | ".join(f"{c:.2f}" if isinstance(c, float) else str(c) for c in cells) + " |")


def head(*cells: object) -> None:
    print()
    row(*cells)
    print("|" + "---|" * len(cells))


# --- exact distributions under the null


def rank_sum_distribution(groups: Sequence[int], n_a: int) -> tuple[np.ndarray, np.ndarray]:
    """All sums of the ranks of n_a documents drawn from groups of equal values (weakest first), and their probabilities."""
    ends = np.cumsum(groups)
    doubled = 2 * ends - np.array(groups) + 1
    step = 1 if (doubled % 2).any() else 2  # without half ranks, half the table
    ranks = doubled // step
    top = int(np.sort(np.repeat(ranks, groups))[-n_a:].sum())
    ways = np.zeros((n_a + 1, top + 1))
    ways[0, 0] = 1
    for group, rank in zip(groups, ranks.tolist(), strict=True):
        before = ways if group == 1 else ways.copy()
        for taken in range(1, min(group, n_a) + 1):
            if taken * rank <= top:
                ways[taken:, taken * rank :] += comb(group, taken) * before[: n_a + 1 - taken, : top + 1 - taken * rank]
    return np.arange(top + 1) * step / 2, ways[n_a] / comb(int(ends[-1]), n_a)


def signed_distribution(groups: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """All sums of signed ranks for groups of equally large differences (smallest first), and their probabilities."""
    doubled = np.repeat(2 * np.cumsum(groups) - np.array(groups) + 1, groups)
    top = int(doubled.sum())
    p = np.zeros(2 * top + 1)
    p[top] = 1
    for rank in doubled:
        p = (np.roll(p, rank) + np.roll(p, -rank)) / 2
    return np.arange(-top, top + 1) / 2, p


def tie_term(groups: Iterable[int]) -> float:
    return float(sum(t**3 - t for t in groups))


def excess(p: np.ndarray, probability: np.ndarray) -> list[float]:
    """Rate of rejection over the threshold, for each threshold."""
    return [float(probability[p <= t].sum() / t) for t in THRESHOLDS]


def rank_sum_excess(groups: Sequence[int], n_a: int, test: Callable[..., np.ndarray] = rank_sum_p) -> list[float]:
    sums, probability = rank_sum_distribution(groups, n_a)
    return excess(test(sums, n_a, sum(groups) - n_a, tie_term(groups)), probability)


def signed_excess(groups: Sequence[int], test: Callable[..., np.ndarray] = signed_rank_p) -> list[float]:
    sums, probability = signed_distribution(groups)
    return excess(test(sums, sum(groups), tie_term(groups)), probability)


def plain_rank_sum_p(total: np.ndarray, n_a: int, n_b: int, ties: float) -> np.ndarray:
    """As rank_sum_p with the usual correction of 1/2 whatever the ties, and no limit to them: SciPy's asymptotic."""
    n = n_a + n_b
    sd = np.sqrt(n_a * n_b / 12 * (n + 1 - ties / (n * (n - 1))))
    return 2 * ndtr(-np.maximum(np.abs(total - n_a * (n + 1) / 2) - 0.5, 0) / sd)


def plain_signed_rank_p(total: np.ndarray, n: int, ties: float) -> np.ndarray:
    """As signed_rank_p with the usual correction whatever the ties: SciPy's asymptotic."""
    return 2 * ndtr(-np.maximum(np.abs(total) - 1, 0) / np.sqrt(n * (n + 1) * (2 * n + 1) / 6 - ties / 12))


def calibration() -> None:
    """No ties."""
    head("active in A", "in B", *(f"{t:g}" for t in THRESHOLDS))
    for n_a, n_b in SIZES:
        row(n_a, n_b, *rank_sum_excess([1] * (n_a + n_b), n_a))
    head("pairs", *(f"{t:g}" for t in THRESHOLDS))
    for n in (5, 8, 12, 20, 30, 50, 100, 200):
        row(n, *signed_excess([1] * n))


def patterns(n: int) -> Iterable[list[int]]:
    """Ways in which n values can be tied: equal groups, or one group among others (single, or 2 to 4 groups)."""
    for g in range(1, 8):
        if n // g:
            yield [n // g] * (g - 1) + [n - (g - 1) * (n // g)]
    for k in sorted({round(f * n) for f in np.arange(0.1, 1, 0.05)} - {0, n}):
        rest = n - k
        for below in {0, rest // 4, rest // 2, rest}:
            yield [1] * below + [k] + [1] * (rest - below)
        for q in range(1, min(4, rest) + 1):
            others = [rest // q] * (q - 1) + [rest - (q - 1) * (rest // q)]
            for place in {0, 1, q}:
                yield others[:place] + [k] + others[place:]


def worst(found: Iterable[list[float]]) -> list[float]:
    return np.max([[0.0] * len(THRESHOLDS), *found], axis=0).tolist()


def ties() -> None:
    """Worst case over hundreds of patterns of ties."""
    head("active in A", "in B", "test", *(f"{t:g}" for t in THRESHOLDS))
    for n_a, n_b in [(4, 4), (6, 6), (10, 10), (20, 20), (50, 50), (3, 60), (3, 200), (6, 30), (10, 100), (20, 80)]:
        every = list(patterns(n_a + n_b))
        row(n_a, n_b, "plain", *worst(rank_sum_excess(g, n_a, plain_rank_sum_p) for g in every if len(g) > 1))
        row(n_a, n_b, "ours", *worst(rank_sum_excess(g, n_a) for g in every))
    head("pairs", "test", *(f"{t:g}" for t in THRESHOLDS))
    for n in (5, 8, 12, 15, 20, 50, 100):
        every = list(patterns(n))
        row(n, "plain", *worst(signed_excess(g, plain_signed_rank_p) for g in every))
        row(n, "ours", *worst(signed_excess(g) for g in every))


# --- whole comparisons


def any_finding(p: np.ndarray, least: np.ndarray) -> float:
    """Share of rows of p [splits, latents] with any q < 0.05 among the latents whose least p is below 0.05."""
    return float(np.mean([benjamini_hochberg(r[least < 0.05]).min() < 0.05 for r in p]))


def whole() -> None:
    """3,000 latents with densities of 0.003 to 0.6, split at random (pairs: each turned at random) 1,000 times."""
    head("documents", "values", "any finding at q < 0.05")
    rng = np.random.default_rng(0)
    density = np.geomspace(0.003, 0.6, 3_000)
    for n_a, n_b in [(150, 150), (500, 500), (100, 900), (50, 1_950)]:
        for name, levels in (("distinct", 0), ("8 levels", 8)):
            X = levelled(n_a + n_b, density, levels, rng)
            ranks, tied = pooled_ranks(X)
            side = np.argsort(rng.random((1_000, n_a + n_b)), axis=1) < n_a
            support, in_a = np.diff(X.tocsc().indptr), count_chosen(X, side)
            p = rank_sum_p((ranks.T @ side.T.astype(float)).T, in_a, support - in_a, tied)
            row(f"{n_a} against {n_b}", name, f"{any_finding(p, rank_sum_least_p(support, n_a, n_b, tied)):.3f}")
    for n in (150, 500):
        for name, levels in (("distinct", 0), ("8 levels", 8)):
            ranks, tied = signed_ranks(*(levelled(n, density, levels, rng) for _ in range(2)))
            differing = np.diff(ranks.tocsc().indptr)
            total = (ranks.T @ rng.choice([-1.0, 1.0], (n, 1_000))).T
            found = any_finding(signed_rank_p(total, differing, tied), signed_rank_least_p(differing, tied))
            row(f"{n} pairs", name, f"{found:.3f}")


def levelled(n: int, density: np.ndarray, levels: int, rng: np.random.Generator) -> csr_array:
    """Random activations [n, latents]; of `levels` distinct values where it is not 0."""
    values = rng.random((n, len(density)), dtype=np.float32) + np.float32(1e-3)
    values = np.ceil(values * levels).astype(np.float32) if levels else values
    return csr_array(values * (rng.random(values.shape) < density))


# --- intervals


def true_auc(shift: float, spread: float, cell: float) -> float:
    """AUC of N(shift, spread) against N(0, 1), both rounded to multiples of `cell` where it is not 0."""
    if not cell:
        return float(ndtr(shift / np.hypot(1, spread)))
    edges = (np.arange(-200, 201) + 0.5) * cell
    a, b = np.diff(ndtr((edges - shift) / spread)), np.diff(ndtr(edges))
    return float(a @ (np.cumsum(b) - b / 2))


def placements(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """AUC and its variance after DeLong, DeLong & Clarke-Pearson (1988), for each row of x and y."""
    n_a, n_b = x.shape[1], y.shape[1]
    pooled = rankdata(np.concatenate([x, y], axis=1), axis=1)
    v = (pooled[:, :n_a] - rankdata(x, axis=1)) / n_b
    w = (pooled[:, n_a:] - rankdata(y, axis=1)) / n_a
    return v.mean(axis=1), v.var(axis=1, ddof=1) / n_a + w.var(axis=1, ddof=1) / n_b


def delong_logit(auc: np.ndarray, variance: np.ndarray, n_a: int, n_b: int) -> tuple[np.ndarray, np.ndarray]:
    """DeLong's variance on the logit scale; at 0 and 1 half a pair is moved and the variance is that of one pair in all."""
    edge = 1 / (2 * n_a * n_b)
    auc = np.clip(auc, edge, 1 - edge)
    variance = np.maximum(variance, auc * (1 - auc) / (n_a * n_b))
    logit, half = np.log(auc / (1 - auc)), ndtri(0.975) * np.sqrt(variance) / (auc * (1 - auc))
    return 1 / (1 + np.exp(half - logit)), 1 / (1 + np.exp(-half - logit))


def covered(bounds: tuple[np.ndarray, np.ndarray], truth: float) -> float:
    return float(((bounds[0] <= truth + 1e-12) & (truth - 1e-12 <= bounds[1])).mean())


def coverage() -> None:
    """Mean and least coverage over AUC 0.50 to 0.98, both ways round."""
    head("active in A", "in B", "shapes", "Newcombe 5: mean", "least", "DeLong, logit: mean", "least")
    rng = np.random.default_rng(0)
    kinds = (("equal", 1.0, 0.0), ("equal, many ties", 1.0, 1.0), ("A twice as wide", 2.0, 0.0))
    for n_a, n_b in [
        (5, 5),
        (10, 10),
        (20, 20),
        (50, 50),
        (200, 200),
        (5, 20),
        (5, 200),
        (200, 5),
        (20, 200),
        (200, 20),
    ]:
        for name, spread, cell in kinds:
            found = []
            for shift in np.array([0, 0.5, 1, 2, 3]) * np.hypot(1, spread) / np.sqrt(2):
                x, y = shift + spread * rng.normal(size=(REPEATS, n_a)), rng.normal(size=(REPEATS, n_b))
                x, y = (np.round(v / cell) if cell else v for v in (x, y))
                auc, variance = placements(x, y)
                truth = true_auc(shift, spread, cell)
                ours = auc_interval(auc, np.full(REPEATS, n_a), np.full(REPEATS, n_b))
                found.append((covered(ours, truth), covered(delong_logit(auc, variance, n_a, n_b), truth)))
            (mean, mean_d), (least, least_d) = np.mean(found, axis=0), np.min(found, axis=0)
            row(n_a, n_b, name, *(f"{v:.3f}" for v in (mean, least, mean_d, least_d)))


def pairs() -> None:
    """Coverage and width of the interval of paired AUC, with a share of pairs equal; mean over AUC of the others."""
    head("pairs", "of them equal", "ours: mean", "least", "width", "Wilson: mean", "least", "width")
    rng = np.random.default_rng(0)
    for n in (5, 10, 20, 50, 200):
        for equal in (0.0, 0.2, 0.5, 0.9):
            found = []
            for win in (0.5, 0.6, 0.7, 0.8, 0.9, 0.97):
                shares = [win * (1 - equal), equal, (1 - win) * (1 - equal)]
                wins, same, _ = rng.multinomial(n, shares, size=REPEATS).T
                for low, high in (paired_auc_interval(wins, same, np.full(REPEATS, n)), wilson(wins + same / 2, n)):
                    found.append((covered((low, high), shares[0] + equal / 2), (high - low).mean()))
            both = np.array(found).reshape(-1, 2, 2)
            cells = [f(both[:, k, q]) for k in (0, 1) for f, q in ((np.mean, 0), (np.min, 0), (np.mean, 1))]
            row(n, f"{equal:.0%}", *(f"{v:.3f}" for v in cells))


# --- cost


def activations(n_docs: int, n_latents: int, nnz: int, seed: int, shared: float) -> csr_array:
    """Random activations of unequal densities; `shared` of the pattern is the same for every seed."""
    density = np.random.default_rng(9).lognormal(0, 1.2, n_latents)
    density = np.minimum(density / density.sum() * nnz / n_docs, 0.9)
    same, own = np.random.default_rng(1), np.random.default_rng([2, seed])
    rows = []
    for _ in range(n_docs):
        take = own.random(n_latents, dtype=np.float32) < shared
        u, v = same.random(n_latents, dtype=np.float32), own.random(n_latents, dtype=np.float32)
        rows.append(np.flatnonzero(np.where(take, u, v) < density).astype(np.int32))
    indices = np.concatenate(rows)
    indptr = np.concatenate([[0], np.cumsum([len(r) for r in rows])]).astype(np.int32)
    data = own.gamma(2, 1, len(indices)).astype(np.float32) + np.float32(1e-3)
    return csr_array((data, indices, indptr), shape=(n_docs, n_latents))


def speed() -> None:
    head("kernel", "activations", "seconds", "peak above them, MB")
    X, Y = (activations(50_000, 16_384, 10_000_000, seed, shared=0.8) for seed in (1, 2))
    for kernel in (rank_sum, signed_rank):
        start = time.perf_counter()
        kernel(X, Y)
        seconds = time.perf_counter() - start
        tracemalloc.start()
        kernel(X, Y)
        row(kernel.__name__, X.nnz + Y.nnz, seconds, round(tracemalloc.get_traced_memory()[1] / 1e6))
        tracemalloc.stop()
    x, y = X[:, :100].tocsc(), Y[:, :100].tocsc()
    start = time.perf_counter()
    for j in range(100):
        mannwhitneyu(*(m.data[m.indptr[j] : m.indptr[j + 1]] for m in (x, y)), method="asymptotic")
    row("scipy, a loop over latents (100 timed, scaled)", X.nnz + Y.nnz, (time.perf_counter() - start) * 163.84, "")


TABLES = {f.__name__: f for f in (calibration, ties, whole, coverage, pairs, speed)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="+", choices=TABLES, metavar="TABLE")
    for name in parser.parse_args().tables:
        TABLES[name]()


if __name__ == "__main__":
    main()
