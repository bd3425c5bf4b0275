"""Which concepts become more or less frequent, or strong, along an ordered column: versions, dates, sizes.

`docs/statistics.md` says what is tested.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import polars as pl
from scipy.sparse import csr_array

from saelens_data import stats
from saelens_data.diff.adjust import adjusted, covariates, explain
from saelens_data.diff.comparison import Looks, Sets, joint_p
from saelens_data.diff.contrasts import notes_on_explained
from saelens_data.diff.findings import order as findings_first
from saelens_data.diff.grouping import Groups, alone, group_latents
from saelens_data.diff.pairing import clusters
from saelens_data.diff.partition import Partition, in_order, partition
from saelens_data.display.table import Shown
from saelens_data.errors import InputError
from saelens_data.matrix import ConceptMatrix
from saelens_data.results import Result
from saelens_data.stats.power import DENSITIES
from saelens_data.stats.trend import TrendTest, detectable_rise, trend_law, trend_test
from saelens_data.wording import count, share, share_up

#: Steps that a trend needs.
_LEAST_STEPS = 3


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class TrendResult(Result):
    """The outcome of `trend`. `frame` holds one row for each group of near-duplicate latents tested, findings first.

    Of the group: `members` (its latents, the leading one first), `p_value` (joint), `q_value`, `finding`
    (q_value < alpha). Of the leading latent, which has the smallest p: `latent`, `label`, its density at each of
    `steps`, `densities`, and at the first and the last, `first` and `last`; `slope`, the change of its density from
    step to step by a straight line, with its 95% interval `slope_low`, `slope_high`; `delta`: presence and strength in
    one effect, by a straight line the chance that of documents one step apart the later is stronger, less that it is
    weaker; `p_presence` and `p_rank`; documents in which it is active, `n`; `favours`: "rising", "falling" or null.
    Of findings alone: `adjusted_slope`, `adjusted_low`, `adjusted_high` (at equal length, and equal `adjust` columns),
    `explained_by` (that at whose equal values it vanishes, or null), `undecided` (whether that is for want of
    documents).
    """

    kind: str = "trend"
    #: The documents, and the step of each.
    documents: Partition
    #: The partition of the latents.
    groups: Groups
    #: Column whose equal values make a cluster; None takes documents as independent.
    cluster_on: str | None
    #: Number of each document's cluster.
    cluster: np.ndarray | None
    #: Groups tested: the number that q is corrected for.
    n_tested: int
    #: Latents that no outcome could have made a finding, left out of the count.
    n_untestable: int
    #: A group is a finding where q is below it.
    alpha: float

    @property
    def steps(self) -> tuple[str, ...]:
        """The values of the column, from first to last."""
        return self.documents.names

    @property
    def findings(self) -> pl.DataFrame:
        """The rows with q_value < alpha, the steepest at least first."""
        return self.frame.filter(pl.col("finding"))

    def summary(self) -> str:
        """Steps, sizes, tests and findings in two sentences."""
        p, found = self.documents, self.findings
        rising, falling = ((found["favours"] == way).sum() for way in ("rising", "falling"))
        clustered = "" if self.cluster_on is None else f", clustered on '{self.cluster_on}'"
        return (
            f"{count(p.m.n_docs, 'document')} in {len(p.names)} steps of '{p.by}', {p.names[0]} to {p.names[-1]}"
            f"{clustered}: {p.m.n_concepts - self.n_untestable:,} of {p.m.n_concepts:,} concepts tested, in "
            f"{count(self.n_tested, 'group')}. {count(found.height, 'finding')} at q < {self.alpha:g}: {rising:,} "
            f"rising, {falling:,} falling."
        )

    def _shown(self) -> Shown:
        from saelens_data.diff.shown import of_trend  # noqa: PLC0415

        return of_trend(self)

    def plot(self, n: int = 6) -> Any:
        """The share of documents at each step, of the first `n` findings, as an Altair chart.

        Raises MissingExtraError without Altair, InputError without rows.
        """
        from saelens_data.diff.shown import trend_chart  # noqa: PLC0415

        return trend_chart(self, n)


@dataclass(frozen=True, eq=False)
class Tested:
    """All columns tested for a trend: latents, then groups of several."""

    presence: TrendTest
    #: Slope of the ranks as shares, 0 where a latent is not active.
    by_rank: np.ndarray
    looks: Looks
    p: np.ndarray
    group_p: np.ndarray


def trend(
    m: ConceptMatrix,
    by: str,
    *,
    order: Sequence[Any] | None = None,
    cluster_on: str | None = None,
    adjust: Sequence[str] = (),
    group: bool = True,
    alpha: float = 0.05,
) -> TrendResult:
    """Test every concept for a trend along the values of the column `by`: does it become more frequent, or stronger?

    The distinct values are equal steps. Presence is tested by the Cochran-Armitage statistic, strength by ranks over
    all documents; twice the smaller p counts. Both are read from what the statistic can be when the steps change
    places among the documents; with `cluster_on`, within its equal values where these lie in several steps (answers to
    one prompt), as a whole where they do not (chunks of one text). The slope comes with a 95% interval (HC3; with
    clusters CR1).

    `order` gives the values from first to last; without it numbers and dates go by value, and text by the numbers in
    it, if all else is equal. Documents that failed to encode, and those without a value, are left out and counted in
    `notes`. Raises InputError for a column that is missing, holds lists, has fewer than 3 or more than 50 values or no
    clear order, and for an option out of range.
    """
    if not 0 < alpha < 1:
        raise InputError(f"alpha is {alpha:g}: give the share of false findings to accept, between 0 and 1")
    if by == cluster_on:
        raise InputError(f"'{by}' makes the steps, so that it cannot make the clusters too: cluster on another column")
    notes: list[str] = []
    p = in_order(partition(m, by, notes, least=_LEAST_STEPS), order, notes)
    cluster = None if cluster_on is None else clusters(p.m, p.m.take_docs([]), cluster_on, ("the documents", ""))
    groups = group_latents((p.m,)) if group else alone(p.m.n_concepts)
    found = tested(p, groups, cluster, alpha)
    frame = _table(p, groups, found, alpha)
    terms = _terms(p, adjust, notes)
    frame = _with_adjustment(p, frame, terms, cluster)
    if untested := int((~found.looks.tested[: groups.n_latents]).sum()):
        notes.append(f"Not tested: {count(untested, 'concept')} active in too few documents, or in none.")
    notes += notes_on_explained(frame.filter("finding")) + (
        [] if cluster_on else _note_detectable(p, frame.height, alpha)
    )
    return TrendResult(
        frame=frame,
        parameters={
            **_parameters(p, cluster_on, list(terms)),
            "alpha": alpha,
            "grouped": group,
            "tests": frame.height,
        },
        notes=tuple(notes),
        documents=p,
        groups=groups,
        cluster_on=cluster_on,
        cluster=cluster,
        n_tested=frame.height,
        n_untestable=untested,
        alpha=alpha,
    )


def _note_detectable(p: Partition, n_tests: int, alpha: float) -> list[str]:
    """What could have been found. Not for clusters, whose sizes decide that."""
    if not n_tests:
        return []
    rises = [(at, detectable_rise(p.code, at, alpha / (2 * n_tests))) for at in DENSITIES]
    parts = [f"from {share(at)} of documents to {share_up(at + rise, at)}" for at, rise in rises if np.isfinite(rise)]
    if not parts:
        return ["With so few documents no straight rise would have been found with about 80% power."]
    return [f"With about 80% power, the first straight rise would have been found {', '.join(parts)}."]


def _parameters(p: Partition, cluster_on: str | None, terms: list[str]) -> dict[str, Any]:
    return {
        "encoder": p.m.source.encoder,
        "by": p.by,
        "steps": list(p.names),
        "documents": p.sizes.tolist(),
        "cluster_on": cluster_on,
        "test_of_presence": "Cochran-Armitage, by exchange of steps, two-sided",
        "test_of_strength": "ranks over all documents, by exchange of steps, two-sided",
        "interval": f"{'HC3' if cluster_on is None else 'cluster-robust (CR1)'}, {stats.LEVEL:.0%}",
        "joint_test": "Simes",
        "correction": "Benjamini-Hochberg",
        "adjusted_for": terms,
        "concepts": p.m.n_concepts,
    }


def tested(p: Partition, groups: Groups, cluster: np.ndarray | None, alpha: float) -> Tested:
    """Every latent and group tested for a trend over the sets of `p` in their order."""
    X = Sets(p.m.X, p.m.X[:0]).extended(groups).x
    ranks = _rank_shares(X)
    presence = trend_test(stats.pattern(X, np.float32), p.code, cluster)
    law = trend_law(ranks, p.code, cluster)
    looks = Looks.of(presence.p_value, law.p_value(0.0), (presence.least_p, law.least_p()), alpha)
    score = p.code - p.code.mean()
    slope = ranks.T @ (score / (score**2).sum())
    pooled = looks.p_value()
    return Tested(presence, np.asarray(slope), looks, pooled, joint_p(pooled, groups, looks.tested))


def _rank_shares(X: csr_array) -> csr_array:
    """Ranks among the active documents of a latent, as shares of them: above 0 to 1 for the strongest."""
    return stats.rank_scores(stats.pooled_ranks(X)[0])


def _table(p: Partition, groups: Groups, found: Tested, alpha: float) -> pl.DataFrame:
    """One row for each group tested, findings first."""
    chosen = np.flatnonzero(~np.isnan(found.group_p))
    groups_of, latents = groups.of[: groups.n_latents], p.m.concepts["latent"]
    order = np.lexsort((np.arange(len(groups_of)), found.p[: groups.n_latents], groups_of))
    columns = {"group": groups_of[order], "latent": latents[order], "column": order}
    members = pl.DataFrame(columns).group_by("group", maintain_order=True).agg("latent", pl.col("column").first())
    members = members[chosen]
    lead = members["column"].to_numpy()
    active, q = p.sums(), stats.benjamini_hochberg(found.group_p[chosen])
    densities, delta = (active / p.sizes[:, None])[:, lead], _delta(p, found, active.sum(axis=0))[lead].round(12)
    label = p.m.concepts["label"][lead] if "label" in p.m.concepts.columns else pl.Series([None] * len(lead))
    ways = {1.0: "rising", 0.0: None, -1.0: "falling"}
    frame = pl.DataFrame(
        {
            "latent": latents[lead],
            "label": label.cast(pl.String),
            "members": members["latent"],
            "first": densities[0],
            "last": densities[-1],
            "slope": found.presence.slope[lead].round(12),
            "slope_low": found.presence.low[lead].round(12),
            "slope_high": found.presence.high[lead].round(12),
            "densities": pl.Series(densities.T.tolist(), dtype=pl.List(pl.Float64)),
            "delta": delta,
            "p_presence": found.looks.presence[lead],
            "p_rank": found.looks.by_rank[lead],
            "p_value": found.group_p[chosen],
            "q_value": q,
            "n": active.sum(axis=0)[lead].astype(np.int64),
            "favours": pl.Series(np.sign(delta)).replace_strict(ways, return_dtype=pl.String),
            "finding": q < alpha,
        }
    )
    return frame.sort(findings_first("slope_low", "slope_high")).with_row_index("rank", offset=1)


def _delta(p: Partition, found: Tested, active: np.ndarray) -> np.ndarray:
    """Twice the slope of the ridits, [latents]: the mid-ranks over all documents as shares of them (Bross 1958).

    A document without the latent is below all with it. Between two steps this is Cliff's delta.
    """
    n, k = p.m.n_docs, len(active)
    return np.asarray(((n - active - 1) * found.presence.slope[:k] + 2 * active * found.by_rank[:k]) / n)


def _terms(p: Partition, adjust: Sequence[str], notes: list[str]) -> dict[str, np.ndarray]:
    """What to adjust for, in the order of the documents; early and late documents must be alike in it."""
    late = p.code >= np.median(np.unique(p.code))
    rows = np.concatenate([np.flatnonzero(~late), np.flatnonzero(late)])
    sides = p.m.take_docs(rows[: int((~late).sum())]), p.m.take_docs(rows[int((~late).sum()) :])
    terms = covariates(*sides, adjust, ("the early documents", "the late ones"), notes)
    back = np.argsort(rows)
    return {name: term[back] for name, term in terms.items()}


def _with_adjustment(
    p: Partition, frame: pl.DataFrame, terms: dict[str, np.ndarray], cluster: np.ndarray | None
) -> pl.DataFrame:
    """`frame` with what is left of the findings' slopes at equal `terms`, null where a row is no finding."""
    rows = frame.filter("finding")
    position = {latent: i for i, latent in enumerate(p.m.concepts["latent"].to_list())}
    X = csr_array(p.m.X[:, [position[latent] for latent in rows["latent"]]])
    fit = partial(_fit, score=p.code.astype(np.float64), cluster=cluster)
    all_found, centred = np.ones(rows.height, dtype=bool), p.code - p.code.mean()
    ranks = _rank_shares(X)
    raw = ranks.T @ (centred / (centred**2).sum())
    presence = explain(stats.pattern(X, np.float32), fit, rows["slope"].to_numpy(), all_found, terms)
    strength = explain(ranks, fit, np.asarray(raw), all_found, terms)
    by_rank = (rows["p_rank"] < rows["p_presence"]).to_numpy()
    reasons = [strength.explained_by[i] if ranked else presence.explained_by[i] for i, ranked in enumerate(by_rank)]
    added = pl.DataFrame(
        {
            "rank": rows["rank"],
            "adjusted_slope": pl.Series(presence.left.difference, dtype=pl.Float64).fill_nan(None),
            "adjusted_low": pl.Series(presence.left.low, dtype=pl.Float64).fill_nan(None),
            "adjusted_high": pl.Series(presence.left.high, dtype=pl.Float64).fill_nan(None),
            "explained_by": pl.Series(reasons, dtype=pl.String),
            "undecided": pl.Series(np.where(by_rank, strength.undecided, presence.undecided), dtype=pl.Boolean),
        }
    )
    return frame.join(added, on="rank", how="left", maintain_order="left")


def _fit(Y: csr_array, terms: Sequence[np.ndarray], *, score: np.ndarray, cluster: np.ndarray | None) -> Any:
    return adjusted(Y, score, terms, clusters=cluster)
