"""How two sets of documents differ: each latent's density in both, tested and with an interval.

`docs/statistics.md` says what is counted and why these tests.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from saelens_data import stats
from saelens_data.errors import InputError
from saelens_data.matrix import ConceptMatrix
from saelens_data.pairing import align
from saelens_data.results import Result
from saelens_data.wording import count

#: Ratio of mean lengths from which a note warns of it.
_LONGER = 1.1


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class DiffResult(Result):
    """The outcome of `diff`. `frame` holds one row for each tested latent, findings first.

    Columns: `rank` (from 1), `latent`, `label`, `density_a`, `density_b`, `difference` (a - b) with its 95% interval
    `ci_low` and `ci_high`, `p_value`, `q_value`, the documents in which the latent is active `n_a` and `n_b`,
    `favours` (name of the set with the higher density, null if equal), `finding` (q_value < alpha), and for pairs
    `n_pairs` and the pairs where it is active in one alone, `only_a` and `only_b` (null without pairing).
    """

    kind: str = "diff"
    #: The two sets as compared: without failed documents; if paired, row i of one is the partner of row i of the other.
    a: ConceptMatrix
    b: ConceptMatrix
    #: What to call the sets.
    names: tuple[str, str]
    #: Column whose equal values make a pair; None compares independent sets.
    pair_on: str | None
    #: Latents tested: the number that q is corrected for.
    n_tested: int
    #: Latents that no outcome could have made a finding, left out of the count.
    n_untestable: int
    #: A latent is a finding where q is below it.
    alpha: float

    @property
    def findings(self) -> pl.DataFrame:
        """The rows with q_value < alpha, largest difference first."""
        return self.frame.filter(pl.col("finding"))

    def summary(self) -> str:
        """Sets, sizes, pairs, tests and findings in two sentences."""
        (name_a, name_b), found = self.names, self.findings
        in_a, in_b = ((found["favours"] == name).sum() for name in self.names)
        sizes = f"{name_a} ({count(self.a.n_docs, 'document')}) against {name_b} ({count(self.b.n_docs, 'document')})"
        pairs = "" if self.pair_on is None else f", paired on '{self.pair_on}'"
        return (
            f"{sizes}{pairs}: {self.n_tested:,} of {self.a.n_concepts:,} concepts tested. "
            f"{count(found.height, 'finding')} at q < {self.alpha:g}: "
            f"{in_a:,} more frequent in {name_a}, {in_b:,} in {name_b}."
        )


@dataclass(frozen=True, eq=False)
class Counts:
    """Documents in which each latent is active, [..., latents] int64; `both` counts pairs, None without pairing."""

    a: np.ndarray
    b: np.ndarray
    n_a: int
    n_b: int
    both: np.ndarray | None = None

    def take(self, latents: np.ndarray) -> Counts:
        """The counts of these latents."""
        both = None if self.both is None else self.both[latents]
        return Counts(self.a[latents], self.b[latents], self.n_a, self.n_b, both)

    def least_p(self) -> np.ndarray:
        """The smallest p that the margins of each latent allow."""
        if self.both is None:
            return stats.fisher_least_p(self.a + self.b, self.n_a, self.n_b)
        return stats.mcnemar_least_p(self.a + self.b - 2 * self.both)

    def p_value(self) -> np.ndarray:
        """Fisher's exact test, McNemar's for pairs."""
        if self.both is None:
            return stats.fisher_exact(self.a, self.b, self.n_a, self.n_b)
        return stats.mcnemar_exact(self.a - self.both, self.b - self.both)

    def interval(self) -> tuple[np.ndarray, np.ndarray]:
        """Newcombe's interval of the difference: (low, high)."""
        if self.both is None:
            return stats.newcombe_unpaired(self.a, self.b, self.n_a, self.n_b)
        return stats.newcombe_paired(self.both, self.a - self.both, self.b - self.both, self.n_a)


def diff(
    a: ConceptMatrix,
    b: ConceptMatrix,
    *,
    pair_on: str | None = None,
    alpha: float = 0.05,
    names: tuple[str, str] = ("A", "B"),
) -> DiffResult:
    """Compare the density of every latent in two sets of documents.

    Independent sets are compared by Fisher's exact test; with `pair_on`, a column of both, documents with the same
    value there are compared as pairs by McNemar's exact test. Documents that failed to encode, and those
    without a partner, are left out and counted in `notes`; documents in which nothing is active stay.

    Raises InputError if the sets come from different encoders, an option is out of range, a set is empty, `pair_on`
    is missing, repeats within a set or has no value in both.
    """
    _check(a, b, alpha, names)
    notes: list[str] = []
    a, b = (_without_failed(m, name, notes) for m, name in zip((a, b), names, strict=True))
    if _same_documents(a, b):
        notes.append(f"{names[0]} and {names[1]} hold the very same documents: no difference is to be expected.")
    both = None
    if pair_on is not None:
        a, b = align(a, b, pair_on, names, notes)
        both = stats.count_both(a.X, b.X)
    count_a, count_b = (stats.count_active(m.X.indices, m.n_concepts) for m in (a, b))
    counts = Counts(count_a, count_b, a.n_docs, b.n_docs, both)
    tested = np.flatnonzero(counts.least_p() < alpha)
    notes += _note_untested(counts, len(tested), alpha) + _note_length(a, b, names)
    frame = _table(a.concepts, tested, counts.take(tested), alpha, names)
    return DiffResult(
        frame=_ranked(frame),
        parameters=_parameters(a.source.encoder, counts, len(tested), pair_on, alpha, names),
        notes=tuple(notes),
        a=a,
        b=b,
        names=names,
        pair_on=pair_on,
        n_tested=len(tested),
        n_untestable=a.n_concepts - len(tested),
        alpha=alpha,
    )


def _check(a: ConceptMatrix, b: ConceptMatrix, alpha: float, names: tuple[str, str]) -> None:
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


def _note_untested(counts: Counts, n_tested: int, alpha: float) -> list[str]:
    silent = int(((counts.a + counts.b) == 0).sum())
    rare = len(counts.a) - n_tested - silent
    parts = [f"{count(silent, 'concept')} active in no document"] if silent else []
    where = "active in too few documents or all but too few" if counts.both is None else "differing in too few pairs"
    parts += [f"{count(rare, 'concept')} {where} for any outcome to reach p < {alpha:g}"] if rare else []
    return [f"Not tested, and not counted among the tests: {' and '.join(parts)}."] if parts else []


def _note_length(a: ConceptMatrix, b: ConceptMatrix, names: tuple[str, str]) -> list[str]:
    if not all("n_units" in m.docs.columns for m in (a, b)):
        return []
    means: list[Any] = [m.docs["n_units"].mean() or 0.0 for m in (a, b)]
    longer = int(means[1] > means[0])
    if means[longer] < _LONGER * means[1 - longer] or means[longer] == 0:
        return []
    lengths = f"{means[longer]:.1f} units on average against {means[1 - longer]:.1f}"
    effect = "A longer document activates more concepts, and nothing here is adjusted for length"
    return [f"Documents of {names[longer]} are longer: {lengths}. {effect}."]


def _table(concepts: pl.DataFrame, tested: np.ndarray, c: Counts, alpha: float, names: tuple[str, str]) -> pl.DataFrame:
    density_a, density_b, p = c.a / c.n_a, c.b / c.n_b, c.p_value()
    difference, q, (low, high) = density_a - density_b, stats.benjamini_hochberg(p), c.interval()
    label = concepts["label"][tested] if "label" in concepts.columns else pl.Series([None] * len(tested))
    favours = np.sign(c.a * c.n_b - c.b * c.n_a)
    return pl.DataFrame(
        {
            "latent": concepts["latent"][tested],
            "label": label.cast(pl.String),
            "density_a": density_a,
            "density_b": density_b,
            "difference": difference,
            "ci_low": low,
            "ci_high": high,
            "p_value": p,
            "q_value": q,
            "n_a": c.a,
            "n_b": c.b,
            "favours": pl.Series(favours).replace_strict({1: names[0], 0: None, -1: names[1]}, return_dtype=pl.String),
            "finding": q < alpha,
            **_pair_columns(c),
        }
    )


def _pair_columns(c: Counts) -> dict[str, pl.Series]:
    """The same columns in every result, null where there are no pairs."""
    empty = np.full(len(c.a), None)
    values = [empty] * 3 if c.both is None else [np.full(len(c.a), c.n_a), c.a - c.both, c.b - c.both]
    names = ("n_pairs", "only_a", "only_b")
    return {name: pl.Series(name, value, dtype=pl.Int64) for name, value in zip(names, values, strict=True)}


def _ranked(frame: pl.DataFrame) -> pl.DataFrame:
    """Findings by size, then the rest by p; ties by the other of the two, then by latent."""
    p, finding = frame["p_value"].to_numpy(), frame["finding"].to_numpy()
    size = -np.abs(frame["difference"].to_numpy()).round(12)  # equal counts must tie, whatever their shares' rounding
    order = np.lexsort((frame["latent"], np.where(finding, p, size), np.where(finding, size, p), ~finding))
    return frame[order].with_row_index("rank", offset=1)


def _parameters(
    encoder: str, c: Counts, n_tested: int, pair_on: str | None, alpha: float, names: tuple[str, str]
) -> dict[str, Any]:
    return {
        "encoder": encoder,
        "names": list(names),
        "documents": [c.n_a, c.n_b],
        "pair_on": pair_on,
        "alpha": alpha,
        "test": "Fisher exact, two-sided" if c.both is None else "McNemar exact, two-sided",
        "interval": f"Newcombe hybrid score (method 10), {stats.LEVEL:.0%}",
        "correction": "Benjamini-Hochberg",
        "concepts": len(c.a),
        "tested": n_tested,
        "untestable": len(c.a) - n_tested,
    }
