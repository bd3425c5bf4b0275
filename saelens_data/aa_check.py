"""Does `diff` find anything where nothing is? Its own rule on random splits of the documents that it compared."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl
from scipy.sparse import csr_array

from saelens_data import stats
from saelens_data.diff import Counts, DiffResult
from saelens_data.errors import InputError
from saelens_data.results import Result

#: Numbers of a [splits, latents] array that are computed at once.
_CELLS = 1 << 23


def aa_check(result: DiffResult, *, splits: int = 200, seed: int = 0) -> Result:
    """How often `diff` would find something where there is nothing: in random splits of the sets it compared.

    Each split halves one set at random, for A and for B; for pairs it lets each pair change sides with probability 1/2.
    Every split is judged as `diff` judges: the same tests, the same latents left out,
    the same alpha. `frame` holds a row for each set (one row for pairs): `set`, `splits`, `with_findings`, their
    `share` with its 95% interval `ci_low` and `ci_high` (Wilson), and `tested`, the latents tested in a split. The
    share is expected to be at most alpha; `notes` says so in a sentence for each row.

    Raises InputError for fewer than one split.
    """
    if splits < 1:
        raise InputError(f"{splits} splits asked for: the A/A check needs at least one")
    rng = np.random.default_rng(seed)
    if result.pair_on is not None:
        found = {" and ".join(result.names): _turned(result, splits, rng)}
    else:
        found = {
            name: _halved(m.X, result.alpha, splits, rng)
            for m, name in zip((result.a, result.b), result.names, strict=True)
        }
    hits = np.array([hits for hits, _ in found.values()])
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


def _halved(X: csr_array, alpha: float, splits: int, rng: np.random.Generator) -> tuple[int, int]:
    """Splits of one set into halves with a finding, and the latents tested in each."""
    n = X.shape[0]
    n_a = n // 2
    if n_a == 0:
        return 0, 0
    total = stats.count_active(X.indices, X.shape[1])
    tested = np.flatnonzero(stats.fisher_least_p(total, n_a, n - n_a) < alpha)
    hits = 0
    for size in _blocks(splits, X.shape[1]):
        in_a = rng.permuted(np.tile(np.arange(n) < n_a, (size, 1)), axis=1)
        a = stats.count_chosen(X, in_a)[:, tested]
        hits += _with_findings(Counts(a, total[tested] - a, n_a, n - n_a), alpha)
    return hits, len(tested)


def _turned(result: DiffResult, splits: int, rng: np.random.Generator) -> tuple[int, int]:
    """Random turns of pairs with a finding, and the latents tested in each."""
    X, Y, n = result.a.X, result.b.X, result.a.n_docs
    both = stats.count_both(X, Y)
    count_a, count_b = (stats.count_active(m.indices, m.shape[1]) for m in (X, Y))
    tested = np.flatnonzero(Counts(count_a, count_b, n, n, both).least_p() < result.alpha)
    hits = 0
    for size in _blocks(splits, X.shape[1]):
        turned = rng.integers(0, 2, (size, n))
        moved = (stats.count_chosen(Y, turned) - stats.count_chosen(X, turned))[:, tested]
        a, b = count_a[tested] + moved, count_b[tested] - moved
        hits += _with_findings(Counts(a, b, n, n, both[tested]), result.alpha)
    return hits, len(tested)


def _blocks(splits: int, n_latents: int) -> Iterator[int]:
    """Sizes of the blocks that the splits are counted in."""
    most = max(1, _CELLS // max(n_latents, 1))
    for start in range(0, splits, most):
        yield min(most, splits - start)


def _with_findings(counts: Counts, alpha: float) -> int:
    """Rows of `counts` [splits, latents] in which some latent is a finding."""
    p = counts.p_value()
    return sum(bool((stats.benjamini_hochberg(row) < alpha).any()) for row in p)


def _in_words(row: dict[str, Any], result: DiffResult) -> str:
    how = "splits of {} into halves" if result.pair_on is None else "exchanges of {} within pairs"
    return (
        f"A/A check: {row['with_findings']:,} of {row['splits']:,} random {how.format(row['set'])} show a finding at "
        f"q < {result.alpha:g}: {row['share']:.1%}, 95% interval {row['ci_low']:.1%} to {row['ci_high']:.1%}. "
        f"Where nothing differs, at most {100 * result.alpha:g}% is expected."
    )
