"""Does `diff` find anything where nothing is? Its own rule on random splits of the documents that it compared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

import numpy as np
import polars as pl
from scipy.sparse import csr_array

from saelens_data import stats
from saelens_data.diff.comparison import Counts, Looks, Sets, compare, joint_p, rank_law, signed_sums
from saelens_data.diff.grouping import Groups, alone, group_latents
from saelens_data.diff.two import DiffResult
from saelens_data.errors import InputError
from saelens_data.matrix import ConceptMatrix
from saelens_data.progress import Progress, Told, one_stage
from saelens_data.results import Result

#: Numbers of a [splits, columns] array that are computed at once.
_CELLS = 1 << 22


def aa_check(result: DiffResult, *, splits: int = 200, seed: int = 0, progress: Told = None) -> Result:
    """How often `diff` would find something where there is nothing: in random splits of the sets it compared.

    Each split halves one set at random, for A and for B; for pairs it lets each pair change sides with probability 1/2;
    for clusters it moves them as `stats.relabel` does. Every split is judged as `diff` judges: the same tests, latents
    left out, groups, correction and alpha. `frame` holds a row for each set (one row for pairs and clusters):
    `set`, `splits`, `with_findings`, their `share` with its 95% interval `ci_low` and `ci_high` (Wilson), and
    `tested`, the groups tested in a split (on average). The share is expected to be at most alpha; `notes` says so in
    a sentence for each row.

    `progress` is told (splits done, of how many); None shows a line to whoever is watching, and False shows nothing.

    Raises InputError for fewer than one split.
    """
    found = least_q(result, splits=splits, seed=seed, progress=progress)
    hits = np.array([int((q < result.alpha).sum()) for q, _ in found.values()])
    low, high = stats.wilson(hits, splits)
    frame = pl.DataFrame(
        {
            "set": list(found),
            "splits": splits,
            "with_findings": hits,
            "share": hits / splits,
            "ci_low": low,
            "ci_high": high,
            "tested": [tested for _, tested in found.values()],
        }
    )
    return Result(
        frame=frame,
        parameters={"splits": splits, "seed": seed, "alpha": result.alpha, "pair_on": result.pair_on},
        notes=tuple(_in_words(row, result) for row in frame.iter_rows(named=True)),
        kind="aa_check",
    )


def least_q(result: DiffResult, *, splits: int, seed: int, progress: Told = False) -> dict[str, tuple[np.ndarray, int]]:
    """The smallest q of each split, [splits], and the groups tested in one (on average); by set, as in `aa_check`."""
    if splits < 1:
        raise InputError(f"{splits} splits asked for: the A/A check needs at least one")
    rng = np.random.default_rng(seed)
    together = " and ".join(result.names)
    if result.cluster is not None:
        return {together: _relabelled(result, splits, rng, one_stage("A/A check", progress))}
    if result.pair_on is not None:
        return {together: _turned(result, splits, rng, one_stage("A/A check", progress))}
    return {
        name: _halved(m, result, splits, rng, one_stage(f"A/A check of {name}", progress))
        for m, name in zip((result.a, result.b), result.names, strict=True)
    }


def _halved(
    m: ConceptMatrix, result: DiffResult, splits: int, rng: np.random.Generator, tell: Progress
) -> tuple[np.ndarray, int]:
    """One set split into halves."""
    n, alpha = m.n_docs, result.alpha
    n_a = n // 2
    if n_a == 0:
        return np.ones(splits), 0
    groups = group_latents((m,)) if result.parameters["grouped"] else alone(m.n_concepts)
    X = Sets(m.X[:0], m.X).extended(groups).y
    total = stats.count_active(X.indices, X.shape[1])
    scores = stats.rank_scores(stats.pooled_ranks(X)[0])
    law = rank_law(scores, np.arange(n) < n_a, None)
    presence = Counts(total, np.zeros_like(total), n_a, n - n_a).least_p()
    can = Looks.of(presence, presence, (presence, law.least_p()), alpha)
    chosen = np.flatnonzero(can.tested)
    part, scores = csr_array(X[:, chosen]), csr_array(scores[:, chosen])
    expected = scores.sum(axis=0, dtype=np.float64) * n_a / n
    least = []
    for size in _blocks(splits, X.shape[1], tell):
        in_a = rng.permuted(np.tile(np.arange(n) < n_a, (size, 1)), axis=1)
        a = stats.count_chosen(part, in_a)
        observed = np.asarray((scores.T @ in_a.T.astype(np.float64)).T) - expected
        by_rank = _at(law, chosen, observed).p_value(0.0)
        p = _p(Counts(a, total[chosen] - a, n_a, n - n_a), by_rank, can, chosen)
        least.append(_judged(p, chosen, groups))
    return np.concatenate(least), len(np.unique(groups.of[chosen]))


def _turned(result: DiffResult, splits: int, rng: np.random.Generator, tell: Progress) -> tuple[np.ndarray, int]:
    """Pairs turned at random."""
    sets, n, alpha = result.sets().extended(result.groups), result.a.n_docs, result.alpha
    counts = Counts.of(sets)
    ranks, ties = stats.all_signed_ranks(sets.x, sets.y)
    total, differing = signed_sums(ranks)
    presence, by_rank = counts.least_p(), stats.signed_rank_least_p(differing, ties)
    can = Looks.of(presence, by_rank, (presence, by_rank), alpha)
    chosen = np.flatnonzero(can.tested)
    X, Y, ranks = (csr_array(m[:, chosen]) for m in (sets.x, sets.y, ranks))
    counts = counts.take(chosen)
    least = []
    for size in _blocks(splits, len(result.groups.of), tell):
        turned = rng.integers(0, 2, (size, n))
        moved = stats.count_chosen(Y, turned) - stats.count_chosen(X, turned)
        sums = total[chosen] - 2 * np.asarray((ranks.T @ turned.T.astype(np.float64)).T)
        now = replace(counts, a=counts.a + moved, b=counts.b - moved)
        p = _p(now, stats.signed_rank_p(sums, differing[chosen], ties[chosen]), can, chosen)
        least.append(_judged(p, chosen, result.groups))
    return np.concatenate(least), len(np.unique(result.groups.of[chosen]))


def _at(law: stats.Permutation, chosen: np.ndarray, observed: np.ndarray) -> stats.Permutation:
    """The law of the chosen columns, with what was observed in each split."""
    return replace(law, **{**{f.name: getattr(law, f.name)[chosen] for f in fields(law)}, "observed": observed})


def _p(counts: Counts, by_rank: np.ndarray, can: Looks, chosen: np.ndarray) -> np.ndarray:
    """One p for each split and chosen column."""
    return Looks(counts.p_value(), by_rank, can.take_presence[chosen], can.take_rank[chosen]).p_value()


def _relabelled(result: DiffResult, splits: int, rng: np.random.Generator, tell: Progress) -> tuple[np.ndarray, int]:
    """Clusters relabelled at random."""
    both = result.sets().stacked()
    cluster, in_a = result.cluster, result.sets().in_a()
    assert cluster is not None
    least, tested = np.ones(splits), 0
    for split in range(splits):
        to_a = stats.relabel(cluster, in_a, rng)
        order = np.concatenate([np.flatnonzero(to_a), np.flatnonzero(~to_a)])
        n_a = int(to_a.sum())
        sets = Sets(both[order[:n_a]], both[order[n_a:]], cluster=cluster[order])
        c = compare(sets, result.groups, result.alpha)
        p = c.group_p[~np.isnan(c.group_p)]
        tested += len(p)
        least[split] = stats.benjamini_hochberg(p).min(initial=1.0)
        tell(split + 1, splits)
    return least, tested // splits


def _judged(p: np.ndarray, chosen: np.ndarray, groups: Groups) -> np.ndarray:
    """The smallest q of each row of `p` [splits, chosen columns]."""
    whole = np.ones((len(p), len(groups.of)))
    whole[:, chosen] = p
    by_group = joint_p(whole, groups, np.isin(np.arange(len(groups.of)), chosen))
    by_group = by_group[:, ~np.isnan(by_group).any(axis=0)]
    return np.array([stats.benjamini_hochberg(row).min(initial=1.0) for row in by_group])


def _blocks(splits: int, n_columns: int, tell: Progress) -> Iterator[int]:
    """Sizes of the blocks that the splits are counted in; each is told when it has been."""
    most = max(1, _CELLS // max(n_columns, 1))
    for start in range(0, splits, most):
        size = min(most, splits - start)
        yield size
        tell(start + size, splits)


def _in_words(row: dict[str, Any], result: DiffResult) -> str:
    how = "splits of {} into halves"
    if result.cluster is not None:
        how = "exchanges of clusters between {}"
    elif result.pair_on is not None:
        how = "exchanges of {} within pairs"
    return (
        f"A/A check: {row['with_findings']:,} of {row['splits']:,} random {how.format(row['set'])} show a finding at "
        f"q < {result.alpha:g}: {row['share']:.1%}, 95% interval {row['ci_low']:.1%} to {row['ci_high']:.1%}. "
        f"Where nothing differs, at most {100 * result.alpha:g}% is expected."
    )
