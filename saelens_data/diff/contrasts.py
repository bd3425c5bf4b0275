"""One of several comparisons whose tests are corrected together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from saelens_data import stats
from saelens_data.diff.comparison import Comparison, Sets, compare
from saelens_data.diff.findings import findings_table, latent_table, order
from saelens_data.diff.grouping import Groups
from saelens_data.diff.partition import Partition
from saelens_data.diff.two import DiffResult, Options, concluded, ready
from saelens_data.matrix import ConceptMatrix
from saelens_data.wording import count, share, share_up

#: Comparisons that a summary names.
NAMED = 6


@dataclass(frozen=True, eq=False)
class Contrast:
    """One comparison: set number `one` against set number `other` (None: the rest)."""

    one: int
    other: int | None
    options: Options
    c: Comparison
    latents: pl.DataFrame
    #: Findings first, by the q of all comparisons.
    frame: pl.DataFrame

    @property
    def key(self) -> tuple[str, str]:
        """What the set is called, and what it is compared with."""
        return self.options.names

    def concluded(self, p: Partition, n_tests: int) -> DiffResult:
        """The comparison as `diff` shows it; with no tests at all, nothing is said of its power."""
        sides = ready(*_sides(p, self.one, self.other), replace(self.options, notes=[]))  # its notes are written
        return concluded(sides, self.c, self.latents, self.frame, self.options, n_tests=n_tests)

    def result(self, p: Partition, n_tests: int) -> DiffResult:
        """The same among the tests of all comparisons."""
        result = self.concluded(p, n_tests)
        note = f"q is corrected for {count(n_tests, 'test')}, those of all comparisons by '{p.by}' together."
        return replace(result, notes=(*result.notes, note))


def compared(p: Partition, one: int, other: int | None, asked: Options, groups: Groups) -> Contrast:
    """Two sets of `p` compared, with q of this comparison alone."""
    names = p.names[one], _rest(p.names) if other is None else p.names[other]
    options = replace(asked, names=names, notes=[])
    a, b, cluster = ready(*_sides(p, one, other), options)
    c = compare(Sets(a.X, b.X, options.pair_on is not None, cluster), groups, options.alpha)
    latents = latent_table(a.concepts, c, names)
    return Contrast(one, other, options, c, latents, findings_table(latents, c, options.alpha))


def corrected(contrasts: Sequence[Contrast], alpha: float) -> list[Contrast]:
    """The comparisons with q over all of their tests together."""
    q = stats.benjamini_hochberg(np.concatenate([contrast.frame["p_value"].to_numpy() for contrast in contrasts]))
    ends = np.cumsum([contrast.frame.height for contrast in contrasts])
    parts = np.split(q, ends[:-1])
    return [replace(one, frame=_ranked(one.frame, q, alpha)) for one, q in zip(contrasts, parts, strict=True)]


def _ranked(frame: pl.DataFrame, q: np.ndarray, alpha: float) -> pl.DataFrame:
    """The rows with these q, in the order of `diff`."""
    frame = frame.drop("rank").with_columns(q_value=pl.Series(q), finding=pl.Series(q < alpha))
    return frame.sort(order()).with_row_index("rank", offset=1)


def _sides(p: Partition, one: int, other: int | None) -> tuple[ConceptMatrix, ConceptMatrix]:
    rest = np.flatnonzero(p.code != one) if other is None else p.rows(other)
    return p.m.take_docs(p.rows(one)), p.m.take_docs(rest)


def _rest(names: Sequence[str]) -> str:
    return next(name for name in ("the rest", "all others", "(the rest)") if name not in names)


def notes_on_power(contrasts: Sequence[Contrast], n_tests: int) -> list[str]:
    """What could have been found in the smallest comparisons. Not for clusters, whose sizes decide that."""
    if not n_tests or contrasts[0].options.cluster_on is not None:
        return []
    too_small = []
    for contrast in sorted(contrasts, key=lambda contrast: min(contrast.c.counts.n_a, contrast.c.counts.n_b)):
        k, name = contrast.c.counts, " against ".join(contrast.key)
        phi = None if k.both is None else stats.pair_correlation(k.both, k.a, k.b, k.n_a)
        found = stats.detectable(k.n_a, k.n_b, contrast.options.alpha / (2 * n_tests), phi=phi)
        parts = [f"from {share(at)} of documents to {share_up(at + d, at)}" for at, d in found if np.isfinite(d)]
        if parts:
            break
        too_small.append(f"{name} ({min(k.n_a, k.n_b):,})")
    notes = []
    if too_small:
        notes = [f"Too few documents for a difference in presence to be found with 80% power: {listed(too_small)}."]
    if parts:
        other = "other " if too_small else ""
        notes.append(
            f"With 80% power, the first difference in presence would have been found {', '.join(parts)} in the "
            f"smallest {other}comparison, {name}."
        )
    return notes


def notes_on_explained(found: pl.DataFrame) -> list[str]:
    """How many of the findings are, or may be, explained by what was adjusted for."""
    undecided = int(found["undecided"].sum())
    explained = found["explained_by"].count() - undecided
    of, are = f"Of {count(found.height, 'finding')},", "is" if explained == 1 else "are"
    notes = []
    if explained:
        notes.append(f"{of} {explained:,} {are} explained by length or another column (column explained_by).")
    if undecided:
        notes.append(f"{of} {undecided:,} may or may not be explained by what was adjusted for (column undecided).")
    return notes


def listed(names: Sequence[str]) -> str:
    """The first few of the names, and how many more."""
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
