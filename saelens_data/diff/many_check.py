"""Do `diff_many` and `trend` find anything where nothing is? Their own rules on the column in other places."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import polars as pl

from saelens_data import stats
from saelens_data.diff.contrasts import compared
from saelens_data.diff.many import ManyResult
from saelens_data.diff.pairing import clusters
from saelens_data.diff.trend import TrendResult, tested
from saelens_data.errors import InputError
from saelens_data.progress import Told, one_stage
from saelens_data.results import Result
from saelens_data.stats.trend import exchanged


def aa_check_many(
    result: ManyResult | TrendResult, *, splits: int = 200, seed: int = 0, progress: Told = None
) -> Result:
    """How often the same comparisons would find something if the sets, or steps, were dealt out at random.

    Each split gives the values of the column to other documents: as many to each set as before, within equal values of
    `pair_on` or `cluster_on` where these lie in several sets, and else to whole clusters. It is judged as the result
    was: the same comparisons, tests, groups, correction over all and alpha. `frame` holds one row: `set`, `splits`,
    `with_findings`, their `share` with its 95% interval `ci_low` and `ci_high` (Wilson), and `tested`, the tests in a
    split (on average). The share is expected to be at most alpha; `notes` says so in a sentence. `progress` is told
    (splits done, of how many); None shows a line to whoever is watching, and False shows nothing.

    Raises InputError for fewer than one split.
    """
    if splits < 1:
        raise InputError(f"{splits} splits asked for: the A/A check needs at least one")
    rng, p = np.random.default_rng(seed), result.documents
    cluster, judge = _of_trend(result) if isinstance(result, TrendResult) else _of_many(result)
    tell, found = one_stage("A/A check", progress), []
    for split in range(splits):
        found.append(judge(exchanged(p.code, cluster, rng)))
        tell(split + 1, splits)
    hits = sum(bool((stats.benjamini_hochberg(tests) < result.alpha).any()) for tests in found)
    low, high = stats.wilson(np.array([hits]), splits)
    frame = pl.DataFrame(
        {
            "set": [f"all by {p.by}"],
            "splits": splits,
            "with_findings": hits,
            "share": hits / splits,
            "ci_low": low,
            "ci_high": high,
            "tested": sum(map(len, found)) // splits,
        }
    )
    note = (
        f"A/A check: {hits:,} of {splits:,} runs with '{p.by}' dealt out at random show a finding at q < "
        f"{result.alpha:g}: {hits / splits:.1%}, 95% interval {low[0]:.1%} to {high[0]:.1%}. Where nothing differs, at "
        f"most {100 * result.alpha:g}% is expected."
    )
    parameters = {"splits": splits, "seed": seed, "alpha": result.alpha, "by": p.by}
    return Result(frame=frame, parameters=parameters, notes=(note,), kind="aa_check")


_Judge = Callable[[np.ndarray], np.ndarray]


def _of_trend(result: TrendResult) -> tuple[np.ndarray | None, _Judge]:
    def judge(code: np.ndarray) -> np.ndarray:
        p = tested(result.documents.with_code(code), result.groups, result.cluster, result.alpha).group_p
        return np.asarray(p[~np.isnan(p)])

    return result.cluster, judge


def _of_many(result: ManyResult) -> tuple[np.ndarray | None, _Judge]:
    options, p = result.options, result.documents
    column = options.pair_on or options.cluster_on
    cluster = None if column is None else clusters(p.m, p.m.take_docs([]), column, ("the documents", ""))
    kept = [name for name in ("doc_id", column) if name is not None]
    bare = replace(p, m=replace(p.m, docs=p.m.docs.select(kept), evidence=None))  # all that a comparison reads

    def judge(code: np.ndarray) -> np.ndarray:
        now = bare.with_code(code)
        frames = [compared(now, *pair, options, result.groups).frame for pair in result.comparisons]
        return np.concatenate([frame["p_value"].to_numpy() for frame in frames])

    return cluster, judge
