"""What is left of a difference at equal length, and at equal values of other columns.

`docs/statistics.md` says why by regression, and what it cannot do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise

import numpy as np
import polars as pl
from scipy.sparse import csc_array, csr_array

from saelens_data.errors import InputError, choices
from saelens_data.matrix import ConceptMatrix
from saelens_data.stats.regression import regression
from saelens_data.wording import count

#: Name of the covariate that is made of `n_units`.
LENGTH = "length"
#: Where the line may bend: quantiles of the values of both sets.
_KNOTS = (0.25, 0.5, 0.75)
#: Groups that a column of text may have.
_MOST_GROUPS = 50
#: Quantiles of each set between which the two must overlap to be compared at equal values.
_CORE = (0.05, 0.95)
#: Level of an interval whose one end is a test at 5%.
_ONE_SIDED = 0.9
#: Rows that strength must have beyond the columns of its regression.
_SPARE_ROWS = 2


@dataclass(frozen=True, eq=False)
class Adjusted:
    """Differences A - B that are left, with 95% intervals; [latents], NaN where nothing can be said."""

    difference: np.ndarray
    low: np.ndarray
    high: np.ndarray
    #: 90% interval of what is left less what the terms account for: of `difference` - (raw - `difference`).
    excess_low: np.ndarray
    excess_high: np.ndarray

    def explains(self, raw: np.ndarray) -> np.ndarray:
        """Where nothing need be left of the raw difference and the terms account for more of it than is left.

        The 95% interval does not lie on the side of `raw`, and the one-sided 5% test says that less than half is left.
        """
        return np.asarray(self.vanishes(raw) & (np.where(raw > 0, self.excess_high, -self.excess_low) < 0))

    def undecided(self, raw: np.ndarray) -> np.ndarray:
        """Where nothing need be left, but that the terms account for the difference is not shown either."""
        return np.asarray(self.vanishes(raw) & ~self.explains(raw))

    def vanishes(self, raw: np.ndarray) -> np.ndarray:
        """Where nothing need be left of the raw difference: the 95% interval does not lie on its side of 0."""
        return np.asarray(np.where(raw > 0, self.low, -self.high) <= 0)


@dataclass(frozen=True, eq=False)
class Explanation:
    """What adjusting does to each latent of a comparison, [latents]."""

    #: What is left with all covariates at once.
    left: Adjusted
    #: The covariates at equal values of which a finding vanishes: each by itself ("length, topic"), or only together
    #: ("length + topic").
    explained_by: list[str | None]
    #: Findings that vanish, but of which it is not shown that the covariates account for more than half.
    undecided: np.ndarray


def covariates(
    a: ConceptMatrix, b: ConceptMatrix, columns: Sequence[str], names: tuple[str, str], notes: list[str]
) -> dict[str, np.ndarray]:
    """What to adjust for, by name: [documents of A, then of B; terms]. Length, where it is known, and `columns`.

    Where the lengths of the sets hardly overlap, length is left out and `notes` gains a sentence. Raises InputError
    for a column that is missing in a set, cannot be adjusted for or shares no value between the sets.
    """
    found = {}
    units = [m.docs["n_units"] for m in (a, b) if "n_units" in m.docs.columns]
    if len(units) == 2 and not any(side.null_count() for side in units):
        length = np.log1p(np.concatenate([side.cast(pl.Float64).to_numpy() for side in units]))
        if _overlap(length[: a.n_docs], length[a.n_docs :]):
            found[LENGTH] = bent_line(length)
        else:
            notes.append(
                f"Not adjusted for length: hardly a document of {names[0]} is as long as one of {names[1]}, so that "
                "nothing tells a difference between the sets from one in length."
            )
    for column in columns:
        sides = [_column(m, column, name) for m, name in zip((a, b), names, strict=True)]
        terms = _terms(sides, column, names)
        found[f"column {column}" if column == LENGTH else column] = terms
    return found


def bent_line(x: np.ndarray) -> np.ndarray:
    """Terms of a line that bends at the quartiles of `x` [rows], centred: [rows, 1 to 4]."""
    knots = np.unique(np.quantile(x, _KNOTS))
    terms = np.column_stack([x, np.maximum(x[:, None] - knots, 0)])
    return np.asarray(terms - terms.mean(axis=0))


def _overlap(a: np.ndarray, b: np.ndarray) -> bool:
    if not (len(a) and len(b)):
        return False
    (low_a, high_a), (low_b, high_b) = (np.quantile(x, _CORE) for x in (a, b))
    return bool(max(low_a, low_b) <= min(high_a, high_b))


def _column(m: ConceptMatrix, column: str, name: str) -> pl.Series:
    if column not in m.docs.columns:
        raise InputError(f"cannot adjust for '{column}': {name} has no such column; {choices(column, m.docs.columns)}")
    if (values := m.docs[column]).dtype.is_nested():
        raise InputError(f"cannot adjust for '{column}': it holds {values.dtype} in {name}; give plain values")
    return values


def _terms(sides: list[pl.Series], column: str, names: tuple[str, str]) -> np.ndarray:
    """A bent line for numbers and times, one term for each group otherwise; no value is a group of its own."""
    n_a, types = len(sides[0]), [side.dtype for side in sides]
    if all(t.is_numeric() for t in types) or (types[0] == types[1] and types[0].is_temporal()):
        x = np.concatenate([side.to_physical().cast(pl.Float64).fill_null(np.nan).to_numpy() for side in sides])
        known, in_a = np.isfinite(x), np.arange(len(x)) < n_a
        comparable = _overlap(x[known & in_a], x[known & ~in_a])
        terms = np.column_stack([bent_line(np.where(known, x, np.median(x[known]) if known.any() else 0.0)), ~known])
    else:
        terms = _groups(pl.concat([side.cast(pl.String) for side in sides]), column)
        comparable = bool((terms[:n_a].any(axis=0) & terms[n_a:].any(axis=0)).any())
    if not comparable:
        raise InputError(
            f"cannot adjust for '{column}': {names[0]} and {names[1]} share hardly a value of it, so no documents are "
            "alike in it; leave it out"
        )
    return terms


def _groups(values: pl.Series, column: str) -> np.ndarray:
    groups = values.unique(maintain_order=True)
    if len(groups) > _MOST_GROUPS:
        raise InputError(
            f"cannot adjust for '{column}': it has {count(len(groups), 'value')}, and at most {_MOST_GROUPS} groups "
            "can be told apart; give a coarser column, or pair on this one"
        )
    return np.column_stack([values.eq_missing(group).to_numpy() for group in groups]).astype(np.float64)


def adjusted(
    Y: csr_array, in_a: np.ndarray, terms: Sequence[np.ndarray], *, clusters: np.ndarray | None = None
) -> Adjusted:
    """The difference A - B in `Y` [documents, latents] that is left at equal `terms` [documents, ...].

    Each latent is regressed on the set (`in_a` [documents] bool) and the terms. `clusters` [documents] int: documents
    that belong together. For 0/1 values and groups this is the Mantel-Haenszel risk difference.
    """
    return _fit(Y, _sides(in_a), np.column_stack(terms), clusters)


def adjusted_pairs(
    Y: csr_array, n: int, terms: Sequence[np.ndarray], *, clusters: np.ndarray | None = None
) -> Adjusted:
    """The same for `n` pairs: `Y` [pairs, latents] is A less B, `terms` [2 n, ...] those of A above those of B.

    The difference within a pair is regressed on that of the terms, so that its level is the difference between
    equal partners; what both partners share falls out. `clusters` [pairs] int.
    """
    return _fit(Y, np.ones((n, 1)), _within(n, terms), clusters)


def _sides(in_a: np.ndarray) -> np.ndarray:
    return np.column_stack([in_a, np.ones(len(in_a))])


def _within(n: int, terms: Sequence[np.ndarray]) -> np.ndarray:
    return np.column_stack([term[:n] - term[n:] for term in terms])


def _fit(Y: csr_array, base: np.ndarray, terms: np.ndarray, clusters: np.ndarray | None) -> Adjusted:
    """`base` are the columns of the raw comparison, of which the first has the difference as its coefficient.

    raw = left + gap'slopes, where `gap` is the raw difference in the terms. Adding gap x (first column) to the terms
    turns the coefficient of the first column into left - gap'slopes, and so gives an interval of that.
    """
    gap = np.linalg.lstsq(base, terms, rcond=None)[0][0]
    W, shifted = np.column_stack([base, terms]), np.column_stack([base, terms + base[:, :1] * gap])
    left = regression(Y, W, clusters=clusters)
    _, low, high = regression(Y, shifted, clusters=clusters, level=_ONE_SIDED)
    return Adjusted(*left, low, high)


def adjusted_active(
    values: csr_array, in_a: np.ndarray, terms: Sequence[np.ndarray], *, clusters: np.ndarray | None = None
) -> Adjusted:
    """The difference A - B in strength, among the documents where a latent is active, that is left at equal `terms`.

    `values` [documents, latents] holds a few latents, looped over. The outcome is the rank of the activation among
    them, scaled to between 0 and 1: without terms the difference is P(a > b) + P(a = b) / 2 - 1/2, the area under the
    ROC curve less a half. NaN where hardly more documents are active than the regression has columns.
    """
    base, columns = _sides(in_a), np.column_stack(terms)
    return _stacked([_of_one(_rank_score(x), rows, base, columns, clusters) for rows, x in _active(values)])


def adjusted_active_pairs(
    values: csr_array, n: int, terms: Sequence[np.ndarray], *, clusters: np.ndarray | None = None
) -> Adjusted:
    """The same for `n` pairs, over those where a latent is active in both partners.

    `values` [2 n, latents] and `terms` [2 n, ...]: those of A above those of B; `clusters` [pairs] int.
    """
    base, columns = np.ones((n, 1)), _within(n, terms)
    found = []
    for rows, x in _active(values):
        n_in_a = int(np.searchsorted(rows, n))
        pairs, one, other = np.intersect1d(rows[:n_in_a], rows[n_in_a:] - n, assume_unique=True, return_indices=True)
        score_a, score_b = np.split(_rank_score(np.concatenate([x[one], x[n_in_a + other]])), 2)
        found.append(_of_one(score_a - score_b, pairs, base, columns, clusters))
    return _stacked(found)


def _active(values: csr_array) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each latent the rows where it is active, in order, and its activations there."""
    by_latent = csc_array(values)
    by_latent.sort_indices()
    return [(by_latent.indices[start:stop], by_latent.data[start:stop]) for start, stop in pairwise(by_latent.indptr)]


def _rank_score(x: np.ndarray) -> np.ndarray:
    """(rank - 1/2) / n, ties at their middle rank."""
    ordered = np.sort(x)
    ranks = np.searchsorted(ordered, x, side="left") + np.searchsorted(ordered, x, side="right")
    return np.asarray(ranks / max(2 * len(x), 1))


def _of_one(
    score: np.ndarray, rows: np.ndarray, base: np.ndarray, terms: np.ndarray, clusters: np.ndarray | None
) -> Adjusted:
    if len(rows) <= base.shape[1] + terms.shape[1] + _SPARE_ROWS:
        return Adjusted(*np.full((5, 1), np.nan))
    return _fit(csr_array(score[:, None]), base[rows], terms[rows], None if clusters is None else clusters[rows])


def _stacked(found: Sequence[Adjusted]) -> Adjusted:
    """One of several latents, from those of one latent each."""
    names = [field.name for field in fields(Adjusted)]
    return Adjusted(*(np.array([getattr(one, name)[0] for one in found], dtype=np.float64) for name in names))


def explain(
    Y: csr_array,
    fit: Callable[[csr_array, Sequence[np.ndarray]], Adjusted],
    raw: np.ndarray,
    finding: np.ndarray,
    terms: Mapping[str, np.ndarray],
) -> Explanation:
    """What is left of each latent's difference `raw`, and which of the `terms` (from `covariates`) explain findings.

    `fit` is one of the four functions above as a function of `Y` [rows, latents] and terms; `finding` [latents] bool.
    """
    nothing = np.full(len(raw), np.nan)
    left = fit(Y, list(terms.values())) if terms and len(raw) else Adjusted(*(nothing,) * 5)
    explained_by: list[str | None] = [None] * len(raw)
    chosen = np.flatnonzero(finding)
    each = {name: fit(csr_array(Y[:, chosen]), [term]) for name, term in terms.items()} if len(terms) > 1 else {}
    shown = {name: one.explains(raw[chosen]) for name, one in each.items()}
    vanishing = {name: one.vanishes(raw[chosen]) for name, one in each.items()}
    together, all_terms, undecided = left.explains(raw), " + ".join(terms), left.undecided(raw) & finding
    for i, latent in enumerate(chosen):
        explained_by[latent] = _named(shown, i) or (all_terms if together[latent] else None)
        if explained_by[latent]:
            undecided[latent] = False
        elif undecided[latent]:
            explained_by[latent] = _named(vanishing, i) or all_terms
    return Explanation(left, explained_by, undecided)


def _named(found: Mapping[str, np.ndarray], i: int) -> str:
    return ", ".join(name for name, holds in found.items() if holds[i])
