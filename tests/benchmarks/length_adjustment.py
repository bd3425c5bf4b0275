"""Which adjustment for length, and which rule to call a finding explained by it? The tables of docs/statistics.md.

    python tests/benchmarks/length_adjustment.py [--runs 10]

A document of L units shows latent j with probability 1 - exp(-q_ij L); q_ij varies between documents and, for pairs,
between prompts (gamma). Four worlds: B twice as long as A and nothing else different ("length alone"); B made longer
by uniting each document with an unrelated one, which also makes it more varied ("united"); B twice as long and some
latents twice as frequent in each unit ("both"); and those latents at equal lengths ("frequency alone"). Findings are
those of the exact tests (q < 0.05); in the last two worlds only latents that differ are counted.

First table, for each way to adjust: under length alone the mean bias of the adjusted difference and how often its 95%
interval holds 0 (wanted: 0, 95%); then the share of the findings that keep an interval without 0 (wanted: 0, 0, 100,
100%). Second table, for each rule, the share of findings it calls explained by length. Last, the same on the bundled
answers, united with unrelated ones: encoded by the bundled encoder, which is cached after the first time.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.sparse import csr_array

import saelens_data as sd
from saelens_data import stats
from saelens_data.diff.adjust import Adjusted, adjusted, adjusted_pairs, bent_line

Columns = Callable[[np.ndarray], np.ndarray]
LATENTS = 300
#: The first latents are those that differ in the worlds where some do.
DIFFERENT = 60
LOGISTIC = "logistic, bent line"
USED = "line bent at the quartiles"
HABITS = Path(__file__).parents[2] / "datasets" / "habits"
WORLDS = ("length alone", "united", "both", "frequency alone")


def strata(k: int) -> Columns:
    """k parts with as many documents each."""

    def columns(x: np.ndarray) -> np.ndarray:
        cuts = np.unique(np.quantile(x, np.arange(1, k) / k))
        return np.asarray(np.searchsorted(cuts, x, side="left")[:, None] == np.arange(len(cuts) + 1), dtype=float)

    return columns


def logistic(active: np.ndarray, length: np.ndarray) -> Adjusted:
    """Set and log length in a logistic regression of each latent; the set's odds ratio as a difference of averages.

    Newton steps with a little ridge, since separated latents have no maximum; delta-method interval.
    """
    n = active.shape[1]
    x = np.log1p(length.reshape(-1))
    W = np.column_stack([np.repeat([1.0, 0.0], n), np.ones(2 * n), bent_line(x)])
    found = [_logit_difference(W, y) for y in active.reshape(2 * n, -1).T.astype(float)]
    estimate, half = np.array(found).T
    return Adjusted(estimate, estimate - half, estimate + half, *np.full((2, LATENTS), np.nan))


def _logit_difference(W: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    beta, ridge = np.zeros(W.shape[1]), np.eye(W.shape[1]) * 1e-3
    for _ in range(25):
        p = 1 / (1 + np.exp(-np.clip(W @ beta, -30, 30)))
        information = W.T @ (W * (p * (1 - p))[:, None]) + ridge
        beta = beta + np.linalg.solve(information, W.T @ (y - p) - ridge @ beta)
    one, other = W.copy(), W.copy()
    one[:, 0], other[:, 0] = 1, 0
    p, q = (1 / (1 + np.exp(-np.clip(V @ beta, -30, 30))) for V in (one, other))
    slope = ((p * (1 - p))[:, None] * one - (q * (1 - q))[:, None] * other).mean(axis=0)
    return float((p - q).mean()), float(1.96 * np.sqrt(slope @ np.linalg.solve(information, slope)))


WAYS: dict[str, Columns] = {
    "5 strata": strata(5),
    "10 strata": strata(10),
    "20 strata": strata(20),
    "line": lambda x: (x - x.mean())[:, None],
    USED: bent_line,
    "bent line and units": lambda x: np.column_stack([bent_line(x), np.expm1(x) - np.expm1(x).mean()]),
}


def world(n: int, rng: np.random.Generator, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Presence [2, n, latents] and length [2, n] of two answers to each of n prompts."""
    rate = np.exp(rng.uniform(np.log(0.003), np.log(0.4), LATENTS))
    per_unit = rate * rng.gamma(2, 0.5, (n, LATENTS)) * rng.gamma(2, 0.5, (2, n, LATENTS))
    length = np.maximum(1, np.round(np.exp(rng.normal(2.3, 0.5, n) + rng.normal(0, 0.25, (2, n))))).astype(int)
    if kind in ("length alone", "both"):
        length[1] *= 2
    if kind in ("frequency alone", "both"):
        per_unit[1, :, :DIFFERENT] *= 2
    active = rng.random(per_unit.shape) < 1 - np.exp(-per_unit * length[:, :, None])
    if kind == "united":
        other = np.roll(np.arange(n), 1)
        active[1], length[1] = active[1] | active[1][other], length[1] + length[1][other]
    return active, length


def raw(active: np.ndarray, paired: bool) -> tuple[np.ndarray, np.ndarray]:
    """Difference and whether it is a finding, as `diff` has them."""
    n, (a, b) = active.shape[1], active.sum(axis=1)
    if paired:
        only_a, only_b = (active[0] & ~active[1]).sum(axis=0), (active[1] & ~active[0]).sum(axis=0)
        p, least = stats.mcnemar_exact(only_a, only_b), stats.mcnemar_least_p(only_a + only_b)
    else:
        p, least = stats.fisher_exact(a, b, n, n), stats.fisher_least_p(a + b, n, n)
    q = np.ones(active.shape[2])
    q[least < 0.05] = stats.benjamini_hochberg(p[least < 0.05])
    return (a - b) / n, q < 0.05


def left(active: np.ndarray, terms: list[np.ndarray], paired: bool) -> Adjusted:
    """What is left of the difference of each latent at equal terms."""
    n = active.shape[1]
    if paired:
        return adjusted_pairs(csr_array(active[0].astype(float) - active[1]), n, terms)
    return adjusted(csr_array(active.reshape(2 * n, -1).astype(float)), np.arange(2 * n) < n, terms)


def way(active: np.ndarray, length: np.ndarray, paired: bool, name: str) -> Adjusted:
    """One of the ways to adjust, by its name."""
    if name == LOGISTIC:
        return logistic(active, length)
    return left(active, [WAYS[name](np.log1p(length.reshape(-1)))], paired)


def rules(a: Adjusted, difference: np.ndarray) -> dict[str, np.ndarray]:
    """Which differences keep an interval on their own side of 0, and which each rule calls explained."""
    sign, size = np.sign(difference), np.abs(difference)
    near, far = np.minimum(sign * a.low, sign * a.high), np.maximum(sign * a.low, sign * a.high)
    return {
        "stands: interval without 0": near > 0,
        "interval reaches 0; less than half is left": (near <= 0) & (sign * a.difference < size / 2),
        "interval reaches 0, not the raw difference": (near <= 0) & (far < size),
        "interval reaches 0, not half the raw difference": (near <= 0) & (far < size / 2),
        "interval reaches 0; less than half is left, tested (in use)": a.explains(difference),
    }


def bundled() -> None:
    """The bundled answers against answers united with an unrelated one each: nothing differs in their units.

    Last rows: A against B united, where only latents count that favour B among the answers as they are (a few of B's
    planted habits), so that something does differ.
    """
    sets = [sd.encode(HABITS / f"answers_{side}.jsonl") for side in "ab"]
    active = np.concatenate([m.X.toarray() > 0 for m in sets])
    units, tokens = (np.concatenate([m.docs[name].to_numpy() for m in sets]) for name in ("n_units", "n_tokens"))
    rng, n = np.random.default_rng(0), sets[0].n_docs
    same, mixed = rng.permutation(n), rng.permutation(len(active))
    half, rest = np.split(mixed, 2)
    habit, finding = raw(np.stack([active[:n], active[n:]]), paired=True)
    anything, habits = np.ones(active.shape[1], dtype=bool), finding & (habit < 0)
    print("\n| answers | length by | findings | stand | explained | undecided |\n|---|---|---|---|---|---|")
    cases: list[tuple[str, bool, np.ndarray, np.ndarray, np.ndarray]] = [
        ("160 of A, paired with themselves united", True, same, same, anything),
        ("the same, not paired", False, same, same, anything),
        ("160 of both assistants against 160 others united", False, half, rest, anything),
        ("A and B united, paired, habits of B", True, same, same + n, habits),
        ("the same, not paired", False, same, same + n, habits),
    ]
    for name, paired, one, other, which in cases:
        unrelated = np.roll(other, 1)
        sides = np.stack([active[one], active[other] | active[unrelated]])
        difference, finding = raw(sides, paired)
        chosen = finding & which
        for measure, sizes in {"units": [units], "tokens": [tokens], "both": [units, tokens]}.items():
            terms = [bent_line(np.log1p(np.concatenate([x[one], x[other] + x[unrelated]]))) for x in sizes]
            a, d = left(sides[:, :, chosen], terms, paired), difference[chosen]
            shares = ((np.sign(d) * np.where(d > 0, a.low, a.high) > 0), a.explains(d), a.undecided(d))
            print(f"| {name} | {measure} | {len(d)} | {' | '.join(f'{x.mean():.0%}' for x in shares)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10)
    runs = parser.parse_args().runs
    for n, paired in ((150, False), (1000, False), (150, True), (1000, True)):
        ways = dict.fromkeys([*WAYS, *([LOGISTIC] if not paired and n < 1000 else [])])
        tally = {name: np.zeros((5, 2)) for name in ways}
        called: dict[str, np.ndarray] = {}
        unadjusted = 0.0
        for seed in range(runs):
            for i, kind in enumerate(WORLDS):
                active, length = world(n, np.random.default_rng([seed, n, i]), kind)
                difference, finding = raw(active, paired)
                unadjusted += difference.mean() / runs if kind == "length alone" else 0
                finding[DIFFERENT if kind in ("both", "frequency alone") else LATENTS :] = False
                for name in ways:
                    a = way(active, length, paired, name)
                    if kind == "length alone":
                        tally[name][0] += [np.nanmean(a.difference), np.mean((a.low <= 0) & (a.high >= 0))]
                    by_rule = {rule: (yes & finding).sum() for rule, yes in rules(a, difference).items()}
                    tally[name][i + 1] += [by_rule["stands: interval without 0"], finding.sum()]
                    if name == USED:
                        for rule, yes in by_rule.items():
                            called.setdefault(rule, np.zeros((4, 2)))[i] += [yes, finding.sum()]
        size = f"{n} {'pairs' if paired else 'against ' + str(n)}"
        _print(f"{size}; length alone makes a difference of {unadjusted:+.4f}", tally, called, runs)
    bundled()


def _print(title: str, tally: dict[str, np.ndarray], called: dict[str, np.ndarray], runs: int) -> None:
    worlds = " | ".join(WORLDS)
    print(f"\n{title}\n\n| way | bias | holds 0 | {worlds} |\n|{'---|' * 7}")
    for name, (first, *rest) in tally.items():
        shares = " | ".join(f"{c / f:.0%}" for c, f in rest)
        print(f"| {name} | {first[0] / runs:+.4f} | {first[1] / runs:.1%} | {shares} |")
    print(f"\n| rule | {worlds} |\n|{'---|' * 5}")
    for rule, counts in called.items():
        print(f"| {rule} | {' | '.join(f'{c / f:.0%}' for c, f in counts)} |", flush=True)


if __name__ == "__main__":
    main()
