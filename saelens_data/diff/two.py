"""How two sets of documents differ: presence and strength of each concept, tested once and with intervals.

`docs/statistics.md` says what is counted and why these tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from saelens_data import stats
from saelens_data.diff.adjust import covariates
from saelens_data.diff.comparison import Comparison, Sets, compare
from saelens_data.diff.findings import findings_table, latent_table, with_adjustment
from saelens_data.diff.grouping import Groups, alone, group_latents
from saelens_data.diff.holdout import UNCONFIRMED, split, with_confirmation
from saelens_data.diff.pairing import align, clusters
from saelens_data.display.table import Shown
from saelens_data.errors import InputError
from saelens_data.matrix import ConceptMatrix
from saelens_data.results import Result
from saelens_data.wording import count, share, share_up

#: Clusters in a set below which a note warns.
FEW_CLUSTERS = 40


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class DiffResult(Result):
    """The outcome of `diff`. `frame` holds one row for each group of near-duplicate latents tested.

    Findings come first, by how large their difference is at least (the end of its interval nearest to 0).

    Of the group: `members` (its latents, the leading one first), `p_value` (joint), `q_value`, `finding`
    (q_value < alpha), `any_a` and `any_b` (share of the documents in which any member is active).
    Of the leading latent, which has the smallest p: `latent`, `label`, its densities `density_a` and `density_b`,
    `difference` (a - b) with its 95% interval `ci_low`, `ci_high`; `auc`, `auc_low`, `auc_high`: the chance that of two
    documents in which it is active (for pairs: of such partners) it is stronger in A's; `delta`: presence and
    strength in one effect, the chance that A's is stronger less that B's is; `p_presence`, `p_strength`; documents
    in which it is active, `n_a` and `n_b`; `favours` (the set that delta favours, or null); for pairs `n_pairs` and
    those where it is active in one alone, `only_a` and `only_b`.
    Of findings alone: `adjusted_difference`, `adjusted_low`, `adjusted_high` (at equal length, and equal `adjust`
    columns), `explained_by` (that at whose equal values it vanishes, or null), `undecided` (whether it may vanish for
    want of documents). With `holdout`: `confirmed`, and `confirm_difference`, `confirm_low`, `confirm_high`,
    `confirm_q` in what was held out.
    """

    kind: str = "diff"
    #: The two sets as compared: without failed documents; if paired, row i of one is the partner of row i of the other.
    a: ConceptMatrix
    b: ConceptMatrix
    #: One row for each latent of the groups tested: `group`, and the columns that `frame` has of the leading one.
    latents: pl.DataFrame
    #: What to call the sets.
    names: tuple[str, str]
    #: Column whose equal values make a pair; None compares independent sets.
    pair_on: str | None
    #: Column whose equal values make a cluster; None takes documents (or pairs) as independent.
    cluster_on: str | None = None
    #: Number of each document's cluster, [documents of A, then of B].
    cluster: np.ndarray | None = None
    #: The partition of the latents.
    groups: Groups
    #: Groups tested: the number that q is corrected for.
    n_tested: int
    #: Latents that no outcome could have made a finding, left out of the count.
    n_untestable: int
    #: A group is a finding where q is below it.
    alpha: float

    @property
    def findings(self) -> pl.DataFrame:
        """The rows with q_value < alpha, the largest at least first."""
        return self.frame.filter(pl.col("finding"))

    def sets(self) -> Sets:
        """The activations that were compared."""
        return Sets(self.a.X, self.b.X, self.pair_on is not None, self.cluster)

    def summary(self) -> str:
        """Sets, sizes, pairs, tests and findings in two sentences."""
        (name_a, name_b), found = self.names, self.findings
        in_a, in_b = ((found["favours"] == name).sum() for name in self.names)
        sizes = f"{name_a} ({count(self.a.n_docs, 'document')}) against {name_b} ({count(self.b.n_docs, 'document')})"
        pairs = "" if self.pair_on is None else f", paired on '{self.pair_on}'"
        pairs += "" if self.cluster_on is None else f", clustered on '{self.cluster_on}'"
        n_latents = self.a.n_concepts - self.n_untestable
        return (
            f"{sizes}{pairs}: {n_latents:,} of {self.a.n_concepts:,} concepts tested, "
            f"in {count(self.n_tested, 'group')}. {count(found.height, 'finding')} at q < {self.alpha:g}: "
            f"{in_a:,} more in {name_a}, {in_b:,} more in {name_b}."
        )

    def _shown(self) -> Shown:
        from saelens_data.diff.shown import of_diff  # noqa: PLC0415

        return of_diff(self)

    def plot(self, n: int = 20) -> Any:
        """The differences of the first `n` findings with their intervals, as an Altair chart.

        Raises MissingExtraError without Altair, InputError without rows.
        """
        from saelens_data.diff.shown import diff_chart  # noqa: PLC0415

        return diff_chart(self, n)


#: Two sets as they are compared, and the number of each document's cluster, or None.
Ready = tuple[ConceptMatrix, ConceptMatrix, np.ndarray | None]


@dataclass(frozen=True)
class Options:
    """What `diff` was asked for."""

    pair_on: str | None
    cluster_on: str | None
    adjust: Sequence[str]
    group: bool
    alpha: float
    names: tuple[str, str]
    holdout: float
    seed: int
    notes: list[str] = field(default_factory=list)


def diff(
    a: ConceptMatrix,
    b: ConceptMatrix,
    *,
    pair_on: str | None = None,
    cluster_on: str | None = None,
    adjust: Sequence[str] = (),
    group: bool = True,
    holdout: float = 0.0,
    alpha: float = 0.05,
    names: tuple[str, str] = ("A", "B"),
    seed: int = 0,
) -> DiffResult:
    """Compare every concept in two sets of documents: in how many it is active, and how strongly.

    Presence is tested exactly (Fisher's test; with `pair_on`, a column whose equal values make a pair, McNemar's),
    strength by ranks among active documents; both make one p for each latent. Near-duplicate latents are one finding,
    tested jointly, unless `group` is False. With `cluster_on`, documents with an equal value there may depend on each
    other. Each finding carries its difference at equal length, and at equal values of the columns `adjust`. With
    `holdout`, a share of the documents (of pairs, of clusters) is drawn by `seed` and kept back to confirm findings.

    Documents that failed to encode, and those without a partner, are left out and counted in `notes`; documents in
    which nothing is active stay. Raises InputError if the sets come from different encoders, an option is out of range
    or does not go with another, a set is empty, a column is missing, or `pair_on` repeats or has no value in both.
    """
    options = Options(pair_on, cluster_on, adjust, group, alpha, names, holdout, seed)
    a, b, cluster = ready(a, b, options)
    if not holdout:
        return _found(a, b, cluster, options)
    kept, held = split(a.n_docs, b.n_docs, cluster, paired=pair_on is not None, share=holdout, seed=seed)
    result = _found(*kept.of(a, b, cluster), options)
    again, other, numbers = held.of(a, b, cluster)
    return with_confirmation(result, Sets(again.X, other.X, pair_on is not None, numbers))


def ready(a: ConceptMatrix, b: ConceptMatrix, options: Options) -> Ready:
    """The sets as they are compared; `options.notes` gains what was left out. Raises InputError as `diff` does."""
    names = options.names
    _check(a, b, options)
    a, b = (_without_failed(m, name, options.notes) for m, name in zip((a, b), names, strict=True))
    if _same_documents(a, b):
        options.notes.append(
            f"{names[0]} and {names[1]} hold the very same documents: no difference is to be expected."
        )
    if options.pair_on is not None:
        a, b = align(a, b, options.pair_on, names, options.notes)
    return a, b, None if options.cluster_on is None else clusters(a, b, options.cluster_on, names)


def _found(a: ConceptMatrix, b: ConceptMatrix, cluster: np.ndarray | None, options: Options) -> DiffResult:
    """The comparison of two sets that are ready for it."""
    groups = group_latents((a, b)) if options.group else alone(a.n_concepts)
    c = compare(Sets(a.X, b.X, options.pair_on is not None, cluster), groups, options.alpha)
    latents = latent_table(a.concepts, c, options.names)
    frame = findings_table(latents, c, options.alpha)
    return concluded((a, b, cluster), c, latents, frame, options, n_tests=frame.height)


def concluded(
    sides: Ready, c: Comparison, latents: pl.DataFrame, frame: pl.DataFrame, options: Options, *, n_tests: int
) -> DiffResult:
    """The result of a comparison whose `frame` says what is a finding; q is corrected for `n_tests` tests."""
    (a, b, cluster), alpha, names = sides, options.alpha, options.names
    sets = Sets(a.X, b.X, options.pair_on is not None, cluster)
    notes = [*options.notes, *_note_clusters(a, cluster, options), *_note_untested(c, options)]
    terms = covariates(a, b, options.adjust, names, notes)
    columns = c.leads()[frame["group"].to_numpy()]
    frame = with_adjustment(frame, sets, columns, terms)
    notes += _note_explained(frame, list(terms)) + _note_detectable(c, options, n_tests)
    return DiffResult(
        frame=frame.drop("group").with_columns(UNCONFIRMED),
        latents=latents,
        parameters=_parameters(a.source.encoder, c, list(terms), options),
        notes=tuple(notes),
        a=a,
        b=b,
        names=names,
        pair_on=options.pair_on,
        cluster_on=options.cluster_on,
        cluster=cluster,
        groups=c.groups,
        n_tested=frame.height,
        n_untestable=a.n_concepts - int(c.looks.tested[: a.n_concepts].sum()),
        alpha=alpha,
    )


def _check(a: ConceptMatrix, b: ConceptMatrix, options: Options) -> None:
    alpha, names = options.alpha, options.names
    if options.pair_on is not None and options.cluster_on is not None:
        raise InputError(
            f"both pairs ('{options.pair_on}') and clusters ('{options.cluster_on}') asked for: give one; clusters may "
            "hold several documents of each set, and are then compared within"
        )
    if not 0 <= options.holdout < 1:
        raise InputError(f"holdout is {options.holdout:g}: give the share of documents to confirm with, 0.5 say")
    if not 0 < alpha < 1:
        raise InputError(f"alpha is {alpha:g}: give the share of false findings to accept, between 0 and 1")
    if names[0] == names[1]:
        raise InputError(f"both sets are called '{names[0]}': give them different names")
    a.source.require_same(b.source)
    if not a.concepts["latent"].equals(b.concepts["latent"]):
        raise InputError(
            f"{names[0]} has {a.n_concepts:,} concepts and {names[1]} {b.n_concepts:,}, and they are not the same: "
            "filter the concepts of both alike"
        )


def _without_failed(m: ConceptMatrix, name: str, notes: list[str]) -> ConceptMatrix:
    """The documents without an error. Raises InputError if none is left."""
    n = m.n_docs
    if "error" in m.docs.columns and (failed := n - m.docs["error"].null_count()):
        m = m.filter_docs(pl.col("error").is_null())
        notes.append(f"Left out of {name}: {count(failed, 'document')} that could not be encoded.")
    if m.n_docs == 0:
        why = f"all {n:,} could not be encoded" if n else "it is empty"
        raise InputError(f"{name} has no documents to compare: {why}; choose another file, store or condition")
    return m


def _same_documents(a: ConceptMatrix, b: ConceptMatrix) -> bool:
    if a.n_docs != b.n_docs or not all("text" in m.docs.columns for m in (a, b)):
        return False
    one, other = (m.docs.select("doc_id", "text").sort("doc_id") for m in (a, b))
    return one.equals(other, null_equal=False)  # ids alone prove little: two files may both count from 0


def _note_clusters(a: ConceptMatrix, cluster: np.ndarray | None, options: Options) -> list[str]:
    """How many clusters there are, and a warning where they are few: the t interval leans on many."""
    if cluster is None:
        return []
    sides = [len(np.unique(side)) for side in (cluster[: a.n_docs], cluster[a.n_docs :])]
    few = f"; with fewer than {FEW_CLUSTERS} the intervals may be too narrow, and little can be found"
    name_a, name_b = options.names
    numbers = f"{sides[0]:,} in {name_a}, {sides[1]:,} in {name_b}"
    return [f"Clusters of '{options.cluster_on}': {numbers}{few if min(sides) < FEW_CLUSTERS else ''}."]


def _note_untested(c: Comparison, options: Options) -> list[str]:
    n = c.groups.n_latents
    silent = int(((c.counts.a + c.counts.b)[:n] == 0).sum())
    rare = n - int(c.looks.tested[:n].sum()) - silent
    parts = [f"{count(silent, 'concept')} active in no document"] if silent else []
    where = "differing in too few pairs" if options.pair_on else "active in too few documents, or in all alike,"
    parts += [f"{count(rare, 'concept')} {where} for any outcome to reach p < {options.alpha:g}"] if rare else []
    return [f"Not tested, and not counted among the tests: {' and '.join(parts)}."] if parts else []


def _note_explained(frame: pl.DataFrame, terms: list[str]) -> list[str]:
    """Sentences on the findings that adjusting takes away, and on those that it may take away."""
    found, what = int(frame["finding"].sum()), " and ".join(terms)
    vanishing, undecided = frame["explained_by"].count(), int(frame["undecided"].sum())
    explained = vanishing - undecided
    notes = []
    if explained:
        are = "is" if explained == 1 else "are"
        notes.append(
            f"Of {count(found, 'finding')}, {explained:,} {are} explained by {what}: documents of equal {what} "
            "need not differ, and what they do is less than half (column explained_by)."
        )
    if undecided:
        notes.append(
            f"Of {count(found, 'finding')}, {undecided:,} may or may not be explained by {what}: there are too few "
            "documents to tell (columns explained_by and undecided)."
        )
    return notes


def _note_detectable(c: Comparison, options: Options, n_tests: int) -> list[str]:
    """What could have been found, so that "no finding" has a meaning. Not for clusters, whose sizes decide that."""
    k = c.counts
    if not n_tests or options.cluster_on is not None:
        return []
    threshold = options.alpha / (2 * n_tests)  # the first finding's, halved as for presence beside strength
    phi = None if k.both is None else stats.pair_correlation(k.both, k.a, k.b, k.n_a)
    found = [(at, d) for at, d in stats.detectable(k.n_a, k.n_b, threshold, phi=phi) if np.isfinite(d)]
    if not found:
        return ["With so few documents no difference in presence would have been found with 80% power."]
    parts = ", ".join(f"from {share(at)} of documents to {share_up(at + d, at)}" for at, d in found)
    return [f"With 80% power, the first difference in presence would have been found {parts}."]


def _parameters(encoder: str, c: Comparison, terms: list[str], options: Options) -> dict[str, Any]:
    k, n = c.counts, c.groups.n_latents
    paired, clustered = k.both is not None, options.cluster_on is not None
    presence = "exchange of clusters" if clustered else "McNemar exact" if paired else "Fisher exact"
    by_rank = "Wilcoxon signed-rank over all pairs" if paired else "exchange of rank shares over all documents"
    interval = "cluster-robust (CR1)" if clustered else "Newcombe hybrid score (method 10)"
    return {
        "encoder": encoder,
        "names": list(options.names),
        "documents": [k.n_a, k.n_b],
        "pair_on": options.pair_on,
        "cluster_on": options.cluster_on,
        "alpha": options.alpha,
        "test_of_presence": f"{presence}, two-sided",
        "test_by_rank": f"{by_rank}, two-sided",
        "interval": f"{interval}, {stats.LEVEL:.0%}",
        "joint_test": "Simes",
        "correction": "Benjamini-Hochberg",
        "adjusted_for": terms,
        "concepts": n,
        "tested": int(c.looks.tested[:n].sum()),
        "untestable": n - int(c.looks.tested[:n].sum()),
        "grouped": options.group,
        "groups": int((~np.isnan(c.group_p)).sum()),
        "holdout": options.holdout,
        "seed": options.seed,
    }
