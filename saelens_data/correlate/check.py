"""Does `correlate` find anything where nothing is? Its own rule on the user's documents, one side shuffled."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from saelens_data import stats
from saelens_data.correlate.ordered import OrderedResult, tests_of
from saelens_data.correlate.result import CorrelateResult
from saelens_data.correlate.scan import Problem, scan
from saelens_data.correlate.sides import Side
from saelens_data.errors import InputError
from saelens_data.progress import Told, one_stage
from saelens_data.results import Result
from saelens_data.stats.testable import testable

#: Share of alpha up to which p is looked at: a larger one is a finding only if more than a fiftieth of all pairs are.
_LOOKED_AT = 0.02


def permutation_check(
    result: CorrelateResult | OrderedResult,
    *,
    runs: int = 20,
    seed: int = 0,
    memory: int = 1 << 30,
    progress: Told = None,
) -> Result:
    """How often `correlate` would find a pair where there is none: with the documents of one side shuffled.

    Documents change places within strata of like length, so that margins, lengths, and all that goes together on either
    side stay as they are. For concepts within documents each run deals the concepts into two halves and shuffles the
    documents of one; pairs across the halves are judged. Of an ordered column the values change places. The rule is
    that of `correlate`: the same tests, pairs left out, correction and alpha, and "length" if it was on; filters that
    only take away are left out. `frame` has one row: `runs`, `with_findings`, their `share` with its 95% interval
    `ci_low`, `ci_high` (Wilson), and `tested`, the pairs tested in a run on average; `notes` says it in a sentence.
    `progress` is told (runs done, of how many); None shows a line to whoever is watching, and False shows nothing.

    Raises InputError for fewer than one run.
    """
    if runs < 1:
        raise InputError(f"{runs} runs asked for: the permutation check needs at least one")
    rng = np.random.default_rng(seed)
    hits, tested = 0, 0
    tell = one_stage("permutation check", progress)
    for run in range(runs):
        if isinstance(result, OrderedResult):
            found, n_tests = _ordered(result, rng)
        else:
            found, n_tests = _pairs(result, rng, memory)
        hits, tested = hits + found, tested + n_tests
        tell(run + 1, runs)
    low, high = stats.wilson(np.array([hits]), runs)
    row: dict[str, Any] = {
        "runs": runs,
        "with_findings": hits,
        "share": hits / runs,
        "ci_low": float(low[0]),
        "ci_high": float(high[0]),
        "tested": tested // runs,
    }
    note = (
        f"Permutation check: {hits:,} of {runs:,} runs with shuffled documents show a finding at q < {result.alpha:g}: "
        f"{row['share']:.1%}, 95% interval {row['ci_low']:.1%} to {row['ci_high']:.1%}. "
        f"Where nothing goes together, at most {100 * result.alpha:g}% is expected."
    )
    parameters = {"runs": runs, "seed": seed, "alpha": result.alpha}
    return Result(frame=pl.DataFrame([row]), parameters=parameters, notes=(note,), kind="permutation_check")


def _pairs(result: CorrelateResult, rng: np.random.Generator, memory: int) -> tuple[bool, int]:
    """Whether any pair is found in shuffled documents, and of how many tested."""
    problem = _shuffled(result.problem, rng)
    n_tests = problem.testable.n_tests
    return bool(scan(problem, memory=memory, keep=1).by_length.n_below(result.alpha, n_tests)), n_tests


def _ordered(result: OrderedResult, rng: np.random.Generator) -> tuple[bool, int]:
    """The same of a column's values."""
    values = result.values[shuffle_within(result.stratum, rng)]
    tests = tests_of(result.side, values, result.stratum, result.alpha)
    found = (tests.q < result.alpha) & (tests.q_length < result.alpha)
    return bool(found.any()), int(tests.tested.sum())


def _shuffled(problem: Problem, rng: np.random.Generator) -> Problem:
    left, right = problem.left, problem.right
    if problem.same:
        first = rng.permutation(len(left)) < len(left) // 2
        left, right = left.pruned(first), left.pruned(~first)
    moved = Side.taken(right, shuffle_within(problem.stratum, rng))
    tests = testable(left.support, moved.support, problem.n, problem.alpha)
    left, moved = left.pruned(tests.partners_a > 0), moved.pruned(tests.partners_b > 0)
    return replace(
        problem,
        left=left,
        right=moved,
        testable=tests,
        filters=problem.filters & {"length"},
        places=False,
        usual=None,
        most_p=_LOOKED_AT * problem.alpha,
    )


def shuffle_within(stratum: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Another document of the same stratum for each, each once, [documents]."""
    order = np.argsort(stratum, kind="stable")
    shuffled = np.lexsort((rng.random(len(stratum)), stratum))
    moved = np.empty(len(stratum), dtype=np.int64)
    moved[order] = shuffled
    return moved
