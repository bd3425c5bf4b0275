"""The table of a comparison: one line for each group of latents that was tested, findings first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from scipy.sparse import csr_array

from saelens_data import stats
from saelens_data.diff.adjust import Adjusted, adjusted, adjusted_active, adjusted_active_pairs, adjusted_pairs, explain
from saelens_data.diff.comparison import Comparison, Sets

Names = tuple[str, str]


def latent_table(concepts: pl.DataFrame, c: Comparison, names: Names) -> pl.DataFrame:
    """One row for each latent of the groups tested, in their order: its group, and what it shows by itself."""
    shown = c.shown()
    label = concepts["label"][shown] if "label" in concepts.columns else pl.Series([None] * len(shown))
    return pl.DataFrame(
        {
            "group": c.groups.of[shown],
            "latent": concepts["latent"][shown],
            "label": label.cast(pl.String),
            **_columns(c, shown, names),
            "p_value": c.p[shown],
        }
    )


def findings_table(latents: pl.DataFrame, c: Comparison, alpha: float) -> pl.DataFrame:
    """One row for each tested group, findings first: its leading latent's numbers, the joint p and q, all members."""
    groups = np.flatnonzero(~np.isnan(c.group_p))
    lead = c.leads()[groups]
    at = np.searchsorted(c.shown(), lead)
    q = stats.benjamini_hochberg(c.group_p[groups])
    frame = (
        latents[at]
        .drop("group", "p_value")
        .with_columns(
            p_value=pl.Series(c.group_p[groups]),
            q_value=pl.Series(q),
            finding=pl.Series(q < alpha),
            members=_members(latents, groups),
            **_any_member(c, groups, lead),
        )
    )
    frame = frame.with_columns(group=pl.Series(groups)).sort(order()).with_row_index("rank", offset=1)
    return frame.select(*_ORDER, pl.col("group"))


_ORDER = (
    "rank",
    "latent",
    "label",
    "members",
    "density_a",
    "density_b",
    "difference",
    "ci_low",
    "ci_high",
    "auc",
    "auc_low",
    "auc_high",
    "delta",
    "p_presence",
    "p_rank",
    "p_strength",
    "p_value",
    "q_value",
    "n_a",
    "n_b",
    "any_a",
    "any_b",
    "favours",
    "finding",
    "n_pairs",
    "only_a",
    "only_b",
)


def _columns(c: Comparison, latents: np.ndarray, names: Names) -> dict[str, Any]:
    """Effects and tests of these latents."""
    k, s, delta = c.counts.take(latents), c.strength, c.delta[latents].round(12)
    a, b = k.a / k.n_a, k.b / k.n_b
    named: Mapping[float, str | None] = {1.0: names[0], 0.0: None, -1.0: names[1]}
    return {
        "density_a": a,
        "density_b": b,
        "difference": a - b,
        "ci_low": c.low[latents],
        "ci_high": c.high[latents],
        "auc": pl.Series(s.auc[latents]).fill_nan(None),
        "auc_low": pl.Series(s.low[latents]).fill_nan(None),
        "auc_high": pl.Series(s.high[latents]).fill_nan(None),
        "delta": delta,
        "p_presence": c.looks.presence[latents],
        "p_rank": c.looks.by_rank[latents],
        "p_strength": s.p_value[latents],
        "n_a": k.a,
        "n_b": k.b,
        "favours": pl.Series(np.sign(delta)).replace_strict(named, return_dtype=pl.String),
        **_pairs(c, latents),
    }


def _pairs(c: Comparison, latents: np.ndarray) -> dict[str, pl.Series]:
    """The same columns in every result, null where there are no pairs."""
    k = c.counts.take(latents)
    empty = np.full(len(latents), None)
    values = [empty] * 3 if k.both is None else [np.full(len(latents), k.n_a), k.a - k.both, k.b - k.both]
    names = ("n_pairs", "only_a", "only_b")
    return {name: pl.Series(name, value, dtype=pl.Int64) for name, value in zip(names, values, strict=True)}


def _members(latents: pl.DataFrame, groups: np.ndarray) -> pl.Series:
    """The latents of each group, the one with the smallest p first."""
    members = latents.sort("p_value", "latent").group_by("group", maintain_order=True).agg("latent")
    wanted = pl.DataFrame({"group": pl.Series(groups, dtype=members["group"].dtype)})
    return wanted.join(members, on="group", how="left", maintain_order="left")["latent"]


def _any_member(c: Comparison, groups: np.ndarray, lead: np.ndarray) -> dict[str, pl.Series]:
    """Share of each set's documents in which any member is active: that of the group's own column, if it has one."""
    column = np.full(c.groups.n, -1)
    several = np.arange(c.groups.n_latents, len(c.groups.of))
    column[c.groups.of[several]] = several
    k = c.counts.take(np.where(column[groups] >= 0, column[groups], lead))
    return {"any_a": pl.Series(k.a / k.n_a), "any_b": pl.Series(k.b / k.n_b)}


def order(low: str = "ci_low", high: str = "ci_high") -> list[pl.Expr]:
    """Findings by how large they are at least, then the rest by p; ties by the other of the two, then by latent.

    At least: the end of the interval that is nearest to 0, below 0 where the interval holds it.
    """
    p, finding = pl.col("p_value"), pl.col("finding")
    least = -pl.max_horizontal(pl.col(low), -pl.col(high)).round(12)  # equal counts must tie, whatever the rounding
    first, second = pl.when(finding).then(least).otherwise(p), pl.when(finding).then(p).otherwise(least)
    return [~finding, first, second, pl.col("latent")]


def with_adjustment(
    frame: pl.DataFrame, sets: Sets, columns: np.ndarray, terms: Mapping[str, np.ndarray]
) -> pl.DataFrame:
    """`frame` with what is left of each finding's difference at equal `terms`, null where it is no finding.

    `columns` [rows of frame] are the columns of `sets` that its rows stand for. `explained_by` names the terms that
    account for what made the row a finding, presence or strength; `undecided` says that they may or may not.
    """
    found = np.flatnonzero(frame["finding"].to_numpy())
    chosen = Sets(sets.x[:, columns[found]], sets.y[:, columns[found]], sets.paired, sets.cluster)
    rows, all_found = frame[found], np.ones(len(found), dtype=bool)
    presence = explain(_presence(chosen), _fit(chosen), rows["difference"].to_numpy(), all_found, terms)
    auc = rows["auc"].fill_null(0.5).to_numpy() - 0.5
    strength = explain(chosen.stacked(), _fit_strength(chosen), auc, all_found, terms)
    by_strength = (rows["p_strength"] < rows["p_presence"]).to_numpy()
    reasons = np.where(by_strength, np.array(strength.explained_by), np.array(presence.explained_by))
    left = presence.left
    values = {
        "adjusted_difference": left.difference,
        "adjusted_low": left.low,
        "adjusted_high": left.high,
        "explained_by": reasons,
        "undecided": np.where(by_strength, strength.undecided, presence.undecided),
    }
    return frame.with_columns(_spread(name, value, found, frame.height) for name, value in values.items())


def _presence(sets: Sets) -> csr_array:
    """1 where active, A's documents above B's; for pairs that of A less that of B."""
    one, other = (
        csr_array((np.ones(m.nnz, dtype=np.float64), m.indices, m.indptr), shape=m.shape) for m in (sets.x, sets.y)
    )
    return csr_array(one - other) if sets.paired else Sets(one, other).stacked()


def _fit(sets: Sets) -> Callable[[csr_array, Sequence[np.ndarray]], Adjusted]:
    if sets.paired:
        return lambda Y, terms: adjusted_pairs(Y, sets.x.shape[0], terms)
    return lambda Y, terms: adjusted(Y, sets.in_a(), terms, clusters=sets.cluster)


def _fit_strength(sets: Sets) -> Callable[[csr_array, Sequence[np.ndarray]], Adjusted]:
    if sets.paired:
        return lambda Y, terms: adjusted_active_pairs(Y, sets.x.shape[0], terms)
    return lambda Y, terms: adjusted_active(Y, sets.in_a(), terms, clusters=sets.cluster)


def _spread(name: str, values: np.ndarray, rows: np.ndarray, height: int) -> pl.Series:
    """Values of some rows as a column of all, null elsewhere and where they are NaN."""
    types = {"explained_by": pl.String, "undecided": pl.Boolean}
    whole = np.full(height, None)
    whole[rows] = values
    column = pl.Series(name, whole.tolist(), dtype=types.get(name, pl.Float64))
    return column if name in types else column.fill_nan(None)
