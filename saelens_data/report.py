"""The report of a comparison: one HTML file that needs nothing else, for readers who were not there.

Here a result becomes what its page shows; how that looks is in `templates/`. `page` keeps the texts of documents, which
are never trusted, from acting on it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from saelens_data.diff import DiffResult
from saelens_data.errors import InputError
from saelens_data.evidence import Passage, Span, active_rows, column_of, evidence_for, passage
from saelens_data.matrix import ConceptMatrix
from saelens_data.results import write_whole
from saelens_data.wording import count, difference_in_words, p_in_words, share, short_names

#: Shown, and marked as such, where nothing is a finding.
NEAREST = 10
#: Characters of a document and of a prompt that an example shows.
_PASSAGE_CHARS, _PROMPT_CHARS = 520, 280
#: Upper ends that the scale of a chart may have, as shares; few for densities, whose bars are read against the whole.
_DENSITIES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
_DIFFERENCES = (*_DENSITIES[:5], 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
#: Words for keys of the parameters that do not speak for themselves.
_TERMS = {
    "pair_on": "paired on",
    "concepts": "concepts in all",
    "tested": "concepts tested (what q is corrected for)",
    "untestable": "concepts not tested",
    "reader_sha256": "reader's weights (SHA-256)",
    "sae": "SAE",
    "sae_sha256": "SAE's weights (SHA-256)",
    "dtype": "arithmetic",
}


@dataclass(frozen=True)
class Bar:
    """The density in one set."""

    side: str
    name: str
    #: End of the bar in percent of the chart's width.
    width: float
    value: str


@dataclass(frozen=True)
class Whisker:
    """The difference and its interval, in percent of the chart's width; 50 is no difference, A lies to the right."""

    low: float
    high: float
    at: float


@dataclass(frozen=True)
class Document:
    """One document as an example."""

    side: str
    name: str
    doc_id: str
    #: None where the concept is not active.
    activation: float | None
    passage: Passage


@dataclass(frozen=True)
class Exhibit:
    """What was asked, if known, and what was answered: one document, or those of a pair side by side."""

    prompt: str | None
    documents: tuple[Document, ...]


@dataclass(frozen=True)
class Group:
    """Exhibits of one kind, and the sentence that says which."""

    side: str
    title: str
    exhibits: tuple[Exhibit, ...]


@dataclass(frozen=True)
class Finding:
    """One concept as the page shows it."""

    rank: int
    latent: int
    label: str | None
    explanation: str | None
    #: "a" or "b": the set with the higher density; "" if equal.
    side: str
    is_finding: bool
    bars: tuple[Bar, ...]
    whisker: Whisker
    difference: tuple[str, str]
    facts: tuple[tuple[str, str], ...]
    groups: tuple[Group, ...]


def write_diff_report(
    result: DiffResult, path: str | os.PathLike[str], *, findings: int = 50, examples: int = 4
) -> Path:
    """Write `result` as one HTML file; the same result gives the same bytes.

    The `findings` largest are shown, each with up to `examples` documents of each set, or if paired up to as many pairs
    in which the set that has more alone has it, and half as many the other way round. Without any finding, the
    ten nearest non-findings are shown and marked.
    Raises InputError for a path that cannot be written and for counts out of range.
    """
    path = Path(path)
    html = diff_html(result, findings=findings, examples=examples)
    write_whole(path, html.encode("utf-8", errors="replace"))
    return path


def diff_html(result: DiffResult, *, findings: int = 50, examples: int = 4) -> str:
    """The page that `write_diff_report` writes."""
    if findings < 1 or examples < 0:
        raise InputError(f"{findings} findings and {examples} examples asked for: give 1 and 0 or more")
    from saelens_data.page import render  # noqa: PLC0415

    found = result.findings
    shown = found.head(findings) if found.height else result.frame.head(NEAREST)
    rows = list(shown.iter_rows(named=True))
    scales = (
        _scale(_DENSITIES, (max(r["density_a"], r["density_b"]) for r in rows)),
        _scale(_DIFFERENCES, (_reach(r) for r in rows)),
    )
    return render(
        "diff",
        result=result,
        names=dict(zip("ab", result.names, strict=True)),
        short=dict(zip("ab", short_names(result.names), strict=True)),
        n_docs={"a": result.a.n_docs, "b": result.b.n_docs},
        n_found=found.height,
        favours={side: (found["favours"] == name).sum() for side, name in zip("ab", result.names, strict=True)},
        findings=[
            _finding(result, row, scales, groups)
            for row, groups in zip(rows, _groups(result, rows, examples), strict=True)
        ],
        scales=[share(scale) for scale in scales],
        parameters=_parameters(result),
    )


def _reach(row: Mapping[str, Any]) -> float:
    return float(max(abs(row["ci_low"]), abs(row["ci_high"])))


def _scale(ends: Sequence[float], values: Iterator[float]) -> float:
    """The least of `ends` that reaches all values."""
    reach = max(values, default=1.0)
    return next(end for end in ends if end >= min(reach, 1.0))


def _finding(
    result: DiffResult, row: Mapping[str, Any], scales: tuple[float, float], groups: tuple[Group, ...]
) -> Finding:
    concept = result.a.concepts.row(column_of(result.a, row["latent"]), named=True)
    sides = {result.names[0]: "a", result.names[1]: "b", None: ""}
    density, reach = scales
    return Finding(
        rank=row["rank"],
        latent=row["latent"],
        label=row["label"] or None,
        explanation=concept.get("explanation"),
        side=sides[row["favours"]],
        is_finding=row["finding"],
        bars=tuple(
            Bar(side, name, 100 * row[f"density_{side}"] / density, share(row[f"density_{side}"]))
            for side, name in zip("ab", short_names(result.names), strict=True)
        ),
        whisker=Whisker(*(50 + 50 * row[key] / reach for key in ("ci_low", "ci_high", "difference"))),
        difference=difference_in_words(row, result.names),
        facts=tuple(_facts(result, row)),
        groups=groups,
    )


def _facts(result: DiffResult, row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Terms and values that a sceptic asks for."""
    for side, name, m in zip("ab", result.names, (result.a, result.b), strict=True):
        yield f"density in {name}", f"{share(row[f'density_{side}'])} ({row[f'n_{side}']:,} of {m.n_docs:,})"
    points, interval = difference_in_words(row, result.names)
    where = f" in {row['favours']}" if row["favours"] else ""
    yield "difference", f"{points}{where}, 95% interval {interval}"
    if row["n_pairs"] is not None:
        both = row["n_a"] - row["only_a"]
        neither = row["n_pairs"] - both - row["only_a"] - row["only_b"]
        only = ", ".join(f"only {name} in {row[f'only_{s}']:,}" for s, name in zip("ab", result.names, strict=True))
        yield "pairs", f"{only}, both in {both:,}, neither in {neither:,}"
    yield "p", p_in_words(row["p_value"])
    yield "q", p_in_words(row["q_value"])
    yield "latent", str(row["latent"])


# Examples


@dataclass(frozen=True, eq=False)
class _Set:
    """One of the two sets compared."""

    side: str
    name: str
    m: ConceptMatrix
    #: Rows in which each latent that is shown is active, strongest first.
    active: Mapping[int, np.ndarray]


def _groups(result: DiffResult, rows: Sequence[Mapping[str, Any]], examples: int) -> Iterator[tuple[Group, ...]]:
    """Examples of each of `rows`: none where none are asked for, or the words behind activations were not kept."""
    if examples == 0 or result.a.evidence is None or result.b.evidence is None:
        yield from ((),) * len(rows)
        return
    latents = [row["latent"] for row in rows]
    a = _Set("a", result.names[0], result.a, active_rows(result.a, latents))
    b = _Set("b", result.names[1], result.b, active_rows(result.b, latents))
    for row in rows:
        if result.pair_on is None:
            yield tuple(_of_each(s, row["latent"], examples) for s in (a, b))
        else:
            first, second = (b, a) if row["favours"] == b.name else (a, b)
            yield (
                _of_pairs(first, second, result.pair_on, row["latent"], examples),
                _of_pairs(second, first, result.pair_on, row["latent"], max(1, examples // 2)),
            )


def _of_each(s: _Set, latent: int, most: int) -> Group:
    """Documents of one set."""
    rows = s.active[latent]
    exhibits = (
        Exhibit(_prompt(s.m, span.row), (_document(s, span.row, span),))
        for span in evidence_for(s.m, latent, rows[:most])
    )
    return Group(s.side, _title(f"In {s.name}", len(rows), s.m.n_docs, "document", most), tuple(exhibits))


def _of_pairs(shown: _Set, partner: _Set, pair_on: str, latent: int, most: int) -> Group:
    """Pairs in which one set alone has the concept; the partner lies in the same row of the other set."""
    rows = shown.active[latent]
    alone = rows[~np.isin(rows, partner.active[latent])]
    exhibits = []
    for span in evidence_for(shown.m, latent, alone[:most]):
        document = _document(shown, span.row, span)
        beside = _document(partner, span.row, None, at=document.passage.at)
        prompt = _prompt(shown.m, span.row) or f"{pair_on}: {shown.m.docs[pair_on][span.row]}"
        exhibits.append(Exhibit(prompt, (document, beside) if shown.side == "a" else (beside, document)))
    return Group(shown.side, _title(f"Only in {shown.name}", len(alone), shown.m.n_docs, "pair", most), tuple(exhibits))


def _title(where: str, found: int, n: int, noun: str, most: int) -> str:
    if not found:
        return f"{where}: none of {count(n, noun)}"
    strongest = "" if found <= most else f"; the {most} strongest" if most > 1 else "; the strongest"
    return f"{where}: {found:,} of {count(n, noun)}{strongest}"


def _document(s: _Set, row: int, span: Span | None, *, at: float = 0.0) -> Document:
    text = s.m.docs["text"][row] if "text" in s.m.docs.columns else None
    cut = passage(text or "", span if text else None, chars=_PASSAGE_CHARS, at=at)
    return Document(s.side, s.name, s.m.docs["doc_id"][row], span.activation if span else None, cut)


def _prompt(m: ConceptMatrix, row: int) -> str | None:
    prompt = m.docs["prompt"][row] if "prompt" in m.docs.columns else None
    text = str(prompt or "").strip()
    return text if len(text) <= _PROMPT_CHARS else text[:_PROMPT_CHARS].rstrip() + "…"


# Parameters


def _parameters(result: DiffResult) -> list[tuple[str, str]]:
    """How the comparison was made, then how the activations were; both values where the two sets' differ."""
    lines = dict(result.parameters)
    first, second = asdict(result.a.source), asdict(result.b.source)
    for key, value in first.items():
        lines[key] = value if value == second[key] else f"{_plain(value)} / {_plain(second[key])}"
    return [(_TERMS.get(key, key.replace("_", " ")), _plain(value)) for key, value in lines.items()]


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key.replace('_', ' ')} {item}" for key, item in value.items()) or "none"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(_plain(item) for item in value)
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return "none" if value is None else str(value)
