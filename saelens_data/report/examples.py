"""The documents that a report shows for each finding: what bears it out, and what speaks against it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import csc_array

from saelens_data.diff.two import DiffResult
from saelens_data.evidence import Passage, Span, column_of, evidence_for, passage
from saelens_data.matrix import ConceptMatrix
from saelens_data.wording import count

#: Characters of a document and of a prompt that an example shows.
_PASSAGE_CHARS, _PROMPT_CHARS = 520, 280
#: p below which one look at one latent (presence, strength, a member by itself) is taken to show something.
SURE = 0.05
#: What a group of examples is there for.
FOR, AGAINST = "evidence", "counter-examples"


@dataclass(frozen=True)
class Document:
    """One document as an example."""

    side: str
    name: str
    doc_id: str
    #: Whether the leading latent is active, and how strongly.
    state: str
    passage: Passage
    #: Whether the words marked are those of another latent of the finding.
    by_member: bool = False


@dataclass(frozen=True)
class Exhibit:
    """What was asked, if known, and what was answered: one document, or those of a pair side by side."""

    prompt: str | None
    documents: tuple[Document, ...]


@dataclass(frozen=True)
class Group:
    """Exhibits of one kind, and the sentence that says which."""

    side: str
    role: str
    title: str
    exhibits: tuple[Exhibit, ...]


@dataclass(frozen=True, eq=False)
class _Set:
    """One of the two sets compared."""

    side: str
    name: str
    m: ConceptMatrix
    #: Activations of the leading latents, [documents, leading latents].
    X: csc_array

    def active(self, column: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows in which a leading latent is active and its activations there, strongest first, ties in row order."""
        rows, values = self.by_row(column)
        order = np.lexsort((rows, -values))
        return rows[order], values[order]

    def by_row(self, column: int) -> tuple[np.ndarray, np.ndarray]:
        """The same in the order of rows."""
        found = slice(self.X.indptr[column], self.X.indptr[column + 1])
        return self.X.indices[found], self.X.data[found]


@dataclass(frozen=True, eq=False)
class _Case:
    """One finding and the sets that it is shown by: `first` is the set that it favours."""

    latent: int
    column: int
    members: Sequence[int]
    first: _Set
    second: _Set
    by_strength: bool
    strength_is_clear: bool

    def pair(self, row: int, at: _Set, pair_on: str) -> Exhibit:
        """Both documents of a pair, A's on the left; the one without evidence is cut where that of `at` is."""
        shown = self.document(at, row)
        beside = self.document(self.second if at is self.first else self.first, row, at=shown.passage.at)
        prompt = _prompt(at.m, row) or f"{pair_on}: {at.m.docs[pair_on][row]}"
        return Exhibit(prompt, (shown, beside) if at.side == "a" else (beside, shown))

    def alone(self, row: int, of: _Set) -> Exhibit:
        """One document."""
        return Exhibit(_prompt(of.m, row), (self.document(of, row),))

    def document(self, s: _Set, row: int, *, at: float = 0.0) -> Document:
        """One document with the words that made the leading latent active; failing that, those of another member."""
        state, span, by_member = "not active", None, False
        if lead := evidence_for(s.m, self.latent, [row]):
            state, span = f"activation {lead[0].activation:.2f}", lead[0]
        elif other := self._member(s.m, row):
            latent, span = other
            state, by_member = f"not active, but latent {latent} is: {span.activation:.2f}", True
        text = s.m.docs["text"][row] if "text" in s.m.docs.columns else None
        cut = passage(text or "", span if text else None, chars=_PASSAGE_CHARS, at=at)
        return Document(s.side, s.name, s.m.docs["doc_id"][row], state, cut, by_member)

    def _member(self, m: ConceptMatrix, row: int) -> tuple[int, Span] | None:
        """The other latent of the finding that is strongest in a document."""
        found = [(latent, span) for latent in self.members for span in evidence_for(m, latent, [row])]
        return max(found, key=lambda one: (one[1].activation, -one[0]), default=None)


def examples_of(result: DiffResult, rows: Sequence[Mapping[str, Any]], most: int) -> Iterator[tuple[Group, ...]]:
    """Examples of each of `rows`, up to `most` of the kind that bears it out and half as many of any other.

    None where none are asked for, or the words behind activations were not kept.
    """
    if most == 0 or result.a.evidence is None or result.b.evidence is None:
        yield from ((),) * len(rows)
        return
    columns = [column_of(result.a, row["latent"]) for row in rows]
    sides = zip("ab", result.names, (result.a, result.b), strict=True)
    a, b = (_Set(side, name, m, _columns(m, columns)) for side, name, m in sides)
    for column, row in enumerate(rows):
        first, second = (b, a) if row["favours"] == b.name else (a, b)
        case = _Case(
            row["latent"],
            column,
            row["members"][1:],
            first,
            second,
            by_strength(row),
            row["auc"] is not None and row["p_strength"] < SURE,
        )
        yield tuple(_of_pairs(case, result.pair_on, most) if result.pair_on is not None else _of_sets(case, most))


def by_strength(row: Mapping[str, Any]) -> bool:
    """Whether a row of `diff` is carried by strength rather than by presence."""
    return row["auc"] is not None and bool(row["p_strength"] < row["p_presence"])


def _columns(m: ConceptMatrix, columns: Sequence[int]) -> csc_array:
    chosen = csc_array(m.X[:, list(columns)])
    chosen.sort_indices()
    return chosen


def _of_pairs(case: _Case, pair_on: str, most: int) -> Iterator[Group]:
    """Pairs in which one set alone has the concept and, where strength tells, those in which one is far stronger."""
    few = max(1, most // 2)
    if case.by_strength:
        yield from _stronger(case, pair_on, most, few)
        yield from _only(case, pair_on, few, few)
    else:
        yield from _only(case, pair_on, most, few)
        if case.strength_is_clear:
            yield from _stronger(case, pair_on, few, few)


def _only(case: _Case, pair_on: str, most: int, few: int) -> Iterator[Group]:
    for s, partner, role, n in (
        (case.first, case.second, FOR, most),
        (case.second, case.first, AGAINST, few),
    ):
        rows, _ = s.active(case.column)
        rows = rows[~np.isin(rows, partner.by_row(case.column)[0])]
        title = _title(f"Only in {s.name}", len(rows), count(s.m.n_docs, "pair"), n)
        yield Group(s.side, role, title, tuple(case.pair(row, s, pair_on) for row in rows[:n].tolist()))


def _stronger(case: _Case, pair_on: str, most: int, few: int) -> Iterator[Group]:
    """Pairs in which both have the concept, the farthest apart first."""
    (rows, x), (others, y) = case.first.by_row(case.column), case.second.by_row(case.column)
    both, one, other = np.intersect1d(rows, others, assume_unique=True, return_indices=True)
    gap = x[one] - y[other]
    for s, ahead, role, n in ((case.first, gap, FOR, most), (case.second, -gap, AGAINST, few)):
        order = np.lexsort((both, -ahead))
        found = both[order][: int((ahead > 0).sum())]
        title = _title(
            f"Stronger in {s.name}", len(found), f"{count(len(both), 'pair')} where both have it", n, "farthest apart"
        )
        yield Group(s.side, role, title, tuple(case.pair(row, s, pair_on) for row in found[:n].tolist()))


def _of_sets(case: _Case, most: int) -> Iterator[Group]:
    """For either set documents with the concept and without; where strength tells, the middle one of the former."""
    sides = sorted((case.first, case.second), key=lambda s: s.side)
    few = max(1, most // 2)
    for s in sides:
        rows, _ = s.active(case.column)
        role, n = (FOR, most) if s is case.first else (AGAINST, few)
        title = _title(f"In {s.name}", len(rows), count(s.m.n_docs, "document"), n)
        yield _single(case, s, role, title, rows[:n])
    if case.strength_is_clear:
        for s in sides:
            rows, _ = s.active(case.column)
            title = f"Typical of {s.name}: the middle of {count(len(rows), 'document')} by activation"
            yield _single(case, s, FOR, title, rows[len(rows) // 2 :][:1])
    for s in sides:
        without = np.setdiff1d(np.arange(s.m.n_docs), s.by_row(case.column)[0])
        role = AGAINST if s is case.first else FOR
        title = _title(f"Not in {s.name}", len(without), count(s.m.n_docs, "document"), 1, "one of them")
        yield _single(case, s, role, title, without[len(without) // 2 :][:1])


def _single(case: _Case, s: _Set, role: str, title: str, rows: np.ndarray) -> Group:
    return Group(s.side, role, title, tuple(case.alone(row, s) for row in rows.tolist()))


def _title(where: str, found: int, whole: str, most: int, order: str = "strongest") -> str:
    if not found:
        return f"{where}: none of {whole}"
    which = order if order.startswith("one ") else f"the {order}" if most == 1 else f"the {most} {order}"
    return f"{where}: {found:,} of {whole}" + ("" if found <= most else f"; {which}")


def _prompt(m: ConceptMatrix, row: int) -> str | None:
    prompt = m.docs["prompt"][row] if "prompt" in m.docs.columns else None
    text = str(prompt or "").strip()
    return text if len(text) <= _PROMPT_CHARS else text[:_PROMPT_CHARS].rstrip() + "…"
