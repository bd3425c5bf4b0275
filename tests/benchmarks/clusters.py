"""Level, power and coverage of the tests of clustered documents, by simulation. Prints Markdown.

    python tests/benchmarks/clusters.py {level,tail,interaction,power,coverage} [--latents 20000]

`level`, `tail` and `interaction` print the share of latents rejected over the threshold, where nothing differs: 1.0 is what
is promised. `power` prints the share rejected where A has more, `coverage` that of the 95% interval.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from scipy.special import stdtr, stdtrit

from saelens_data import stats
from saelens_data.stats.clusters import cluster_test

THRESHOLDS = (1e-2, 1e-3, 1e-4)
#: Latents drawn at once.
BLOCK = 5_000


@dataclass(frozen=True)
class Design:
    """Documents in clusters: which set and which cluster each is of."""

    name: str
    in_a: np.ndarray
    cluster: np.ndarray


def nested(a: int, b: int, rng: np.random.Generator, most: int = 20, longer: int = 1) -> Design:
    """`a` and `b` texts of 1 to `most` chunks, skewed; those of A `longer` times as many."""
    size = np.minimum(np.ceil(rng.lognormal(1.0, 1.0, a + b)), most).astype(int)
    size[:a] *= longer
    name = f"texts {a} v {b}, 1 to {most} chunks" + (f", A {longer} x" if longer > 1 else "")
    return Design(name, np.repeat(np.arange(a + b) < a, size), np.repeat(np.arange(a + b), size))


def crossed(prompts: int, a: int = 4, b: int = 4) -> Design:
    """`a` answers of A and `b` of B to each prompt."""
    side = np.tile(np.arange(a + b) < a, prompts)
    return Design(f"{prompts} prompts, {a} + {b} answers", side, np.repeat(np.arange(prompts), a + b))


def mixture(prompts: int, texts: int, rng: np.random.Generator) -> Design:
    """Prompts answered by both, and texts of one set."""
    one, other = crossed(prompts), nested(texts, texts, rng)
    in_a, cluster = (np.concatenate(x) for x in ((one.in_a, other.in_a), (one.cluster, prompts + other.cluster)))
    return Design(f"{prompts} prompts, {texts} v {texts} texts", in_a, cluster)


def activity(
    design: Design, density: float, icc: float, n: int, rng: np.random.Generator, *, own: float = 0, effect: float = 0
) -> np.ndarray:
    """0/1 [documents, n]: each cluster has a beta chance of mean `density` and intracluster correlation `icc`.

    With chance `own` a set has a chance of its own in a cluster (a difference of no preferred direction). `effect`
    is the share of documents of A made active.
    """
    side = 2 * design.cluster + design.in_a
    shape = (2 * (design.cluster.max() + 1), n)
    if icc == 0:
        chance = np.full(shape, density)
    else:
        scale = (1 - icc) / icc
        chance = rng.beta(density * scale, (1 - density) * scale, shape)
    shared = rng.random((shape[0] // 2, n)) >= own
    chance[1::2] = np.where(shared, chance[::2], chance[1::2])
    y = rng.random((len(side), n)) < chance[side]
    return y | (design.in_a[:, None] & (rng.random(y.shape) < effect))


def fisher(y: np.ndarray, design: Design) -> np.ndarray:
    """Fisher's exact test, as if documents were independent."""
    a, b = (y[side].sum(axis=0) for side in (design.in_a, ~design.in_a))
    return stats.fisher_exact(a, b, int(design.in_a.sum()), int((~design.in_a).sum()))


def first_only(y: np.ndarray, design: Design) -> np.ndarray:
    """One document for each cluster and set: McNemar's test where clusters have both, else Fisher's."""
    keep = np.unique(2 * design.cluster + design.in_a, return_index=True)[1]
    y, kept = y[keep], Design("", design.in_a[keep], design.cluster[keep])
    if 2 * len(np.unique(kept.cluster)) > len(keep):
        return fisher(y, kept)
    a, b = y[kept.in_a], y[~kept.in_a]
    return stats.mcnemar_exact((a & ~b).sum(axis=0), (b & ~a).sum(axis=0))


def robust_t(y: csr_array, design: Design) -> np.ndarray:
    """Two-sided p of the difference over its CR1 error, Student's t with clusters - 1 degrees of freedom."""
    free = len(np.unique(design.cluster)) - 1
    found = cluster_test(y, design.in_a, design.cluster)
    half = (found.high - found.low) / 2
    t = np.divide(found.difference, half, out=np.zeros_like(half), where=half > 0) * stdtrit(free, 0.975)
    return np.where(half > 0, 2 * stdtr(free, -np.abs(t)), np.where(found.difference == 0, 1.0, 0.0))


def effective(y: np.ndarray, design: Design) -> np.ndarray:
    """Counts over the design effect (Rao & Scott 1992), rounded, into Fisher's exact test."""
    deflated = []
    for side in (design.in_a, ~design.in_a):
        member = np.eye(design.cluster.max() + 1, dtype=bool)[design.cluster[side]]
        size, total = member.sum(axis=0), member.T.astype(float) @ y[side]
        n, m = size.sum(), (size > 0).sum()
        share = total.sum(axis=0) / n
        variance = m / (m - 1) * ((total - size[:, None] * share) ** 2).sum(axis=0) / n**2
        simple = share * (1 - share) / n
        factor = np.maximum(np.divide(variance, simple, out=np.ones(len(share)), where=simple > 0), 1.0)
        deflated.append((np.round(total.sum(axis=0) / factor), np.round(n / factor)))
    (a, n_a), (b, n_b) = deflated
    p = np.empty(y.shape[1])
    for key in np.unique(np.stack([n_a, n_b]), axis=1).T:
        at = (n_a == key[0]) & (n_b == key[1])
        p[at] = stats.fisher_exact(a[at], b[at], int(key[0]), int(key[1]))
    return p


def judge(y: np.ndarray, design: Design, tests: tuple[str, ...]) -> dict[str, np.ndarray]:
    """p-values by each of the named tests."""
    Y = csr_array(y.astype(np.float64))
    by = {
        "Fisher": lambda: fisher(y, design),
        "CR1 t": lambda: robust_t(Y, design),
        "Rao-Scott": lambda: effective(y, design),
        "this test": lambda: cluster_test(Y, design.in_a, design.cluster).p_value,
        "one of each": lambda: first_only(y, design),
    }
    return {name: by[name]() for name in tests}


def rejected(
    design: Design, density: float, icc: float, options: argparse.Namespace, tests: tuple[str, ...], **law: float
) -> dict[str, np.ndarray]:
    """Share of latents that each test rejects at each threshold."""
    rng, count, done = np.random.default_rng(options.seed), {name: np.zeros(len(THRESHOLDS)) for name in tests}, 0
    while done < options.latents:
        y = activity(design, density, icc, BLOCK, rng, **law)
        for name, p in judge(y, design, tests).items():
            count[name] += [(p <= t).sum() for t in THRESHOLDS]
        done += BLOCK
    return {name: c / done for name, c in count.items()}


def nested_designs() -> list[Design]:
    rng = np.random.default_rng(1)
    return [
        nested(10, 10, rng),
        nested(25, 25, rng),
        nested(150, 150, rng),
        nested(20, 180, rng),
        nested(180, 20, rng),
        nested(50, 50, rng, most=10, longer=3),
        nested(20, 180, rng, most=10, longer=3),
    ]


def mixed() -> Design:
    return mixture(50, 50, np.random.default_rng(2))


def level(options: argparse.Namespace) -> None:
    """Rejections over the threshold where nothing differs."""
    designs = [*nested_designs(), crossed(20), crossed(100), crossed(100, 1, 4), mixed()]
    cases = ((0.0, 0.2), (0.1, 0.05), (0.1, 0.3), (0.5, 0.05), (0.5, 0.3))
    multiples(designs, cases, ("Fisher", "CR1 t", "Rao-Scott", "this test"), options)


def tail(options: argparse.Namespace) -> None:
    """The same for this test alone, which more latents can be drawn for."""
    designs = [*nested_designs()[1:], crossed(100), crossed(100, 1, 4), mixed()]
    multiples(designs, ((0.1, 0.1), (0.5, 0.3)), ("this test",), options)


def interaction(options: argparse.Namespace) -> None:
    """The same, where each set has a chance of its own in every fourth prompt or in each, in no preferred direction."""
    cases = ((0.5, 0.05), (0.5, 0.2), (0.5, 0.5))
    for own in (0.25, 1.0):
        print(f"\na set has a chance of its own in a share {own:g} of the prompts")
        multiples([crossed(20), crossed(100)], cases, ("Fisher", "CR1 t", "this test"), options, own=own)


def multiples(
    designs: list[Design],
    cases: tuple[tuple[float, float], ...],
    tests: tuple[str, ...],
    options: argparse.Namespace,
    **law: float,
) -> None:
    header(["documents", "correlation", "density", *tests], "multiples of the threshold at 0.01 / 0.001 / 0.0001")
    for design in designs:
        for icc, density in cases:
            share = rejected(design, density, icc, options, tests, **law)
            cells = [" / ".join(f"{x / t:.2f}" for x, t in zip(s, THRESHOLDS, strict=True)) for s in share.values()]
            row([design.name, f"{icc:g}", f"{density:g}", *cells])


def power(options: argparse.Namespace) -> None:
    """Share rejected at 0.0001 where A has more."""
    tests = ("one of each", "CR1 t", "Rao-Scott", "this test")
    rng = np.random.default_rng(1)
    header(["documents", "correlation", "density", "effect", *tests], "share rejected at 0.0001")
    for design in (nested(150, 150, rng), nested(25, 25, rng), crossed(20), crossed(100)):
        for icc in (0.1, 0.5):
            for density, effect in ((0.02, 0.1), (0.2, 0.2)):
                share = rejected(design, density, icc, options, tests, effect=effect)
                row([design.name, f"{icc:g}", f"{density:g}", f"{effect:g}", *(f"{s[2]:.2f}" for s in share.values())])


def coverage(options: argparse.Namespace) -> None:
    """Share of latents whose interval holds the true difference, 0, and its mean width."""
    rng, icc = np.random.default_rng(options.seed), 0.3
    header(["documents", "density", "covered", "mean width"], "CR1 interval, correlation 0.3")
    for design in [*nested_designs(), crossed(10), crossed(20), crossed(100)]:
        for density in (0.01, 0.05, 0.2, 0.5):
            y = activity(design, density, icc, BLOCK, rng)
            found = cluster_test(csr_array(y.astype(np.float64)), design.in_a, design.cluster)
            covered = ((found.low <= 0) & (found.high >= 0)).mean()
            row([design.name, f"{density:g}", f"{covered:.3f}", f"{(found.high - found.low).mean():.3f}"])


def header(names: list[str], what: str) -> None:
    print(f"\n{what}\n")
    row(names)
    row(["---"] * len(names))


def row(cells: list[str]) -> None:
    print(f"| {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = {"level": level, "tail": tail, "interaction": interaction, "power": power, "coverage": coverage}
    parser.add_argument("part", choices=parts)
    parser.add_argument("--latents", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    parts[options.part](options)


if __name__ == "__main__":
    main()
