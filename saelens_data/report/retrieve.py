"""The report of a search: one HTML file with the documents found, the words that count, and what made each score."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saelens_data.display.stretches import Stretch, short, stretches
from saelens_data.report.page import encoded, render, write_page
from saelens_data.report.parameters import parameters_in_words
from saelens_data.retrieve import RetrieveResult
from saelens_data.retrieve.result import EMBEDDING, SPANS

#: Characters shown of a document, of a prompt, of a name or label, and of the examples in the title.
_CHARS, _PROMPT_CHARS, _NAME_CHARS, _EXAMPLES = 1_500, 280, 100, 4
#: Bytes of the page, documents that are tried to fit into it, and characters of each that are rather kept.
_ROOM, _MOST, _FEWEST_CHARS = 1_900_000, 1_000, 400
#: Concepts named in the line of a document.
_NAMED = 3
#: What made a score, in the order in which a bar stacks it.
_KINDS = {
    "concept": "a concept",
    "part": "a part of the query",
    "word": "a word",
    "rest": "all other concepts",
    "embedding": "the embedding of the text",
}
_WAYS = {
    "hybrid": "their concepts and the reader's embedding of their texts",
    "concepts": "their concepts",
    "dense": "the reader's embedding of their texts",
    "lexical": "the words themselves (BM25)",
}

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Part:
    """What a concept, a word or the embedding gave to a score; places in percent of the bar's width."""

    kind: str
    name: str
    latent: int | None
    share: str
    width: float
    #: Where it begins in the bar of the score, and where if it is drawn by itself.
    stacked: float
    alone: float


@dataclass(frozen=True)
class Found:
    """A document that was found, as the page shows it."""

    id: str
    rank: int
    doc_id: str
    score: str
    #: Where the score lies on the scale of the bars, in percent.
    at: float
    strongest: str
    parts: tuple[Part, ...]
    prompt: str | None
    #: None where texts were not kept.
    text: tuple[Stretch, ...] | None


@dataclass(frozen=True)
class Scale:
    """The scale that all bars of a page share; 0 is always on it."""

    low: float
    high: float

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Scale:
        """From the lowest to the highest end of any bar."""
        ends = [_ends(row["concepts"]) for row in rows]
        return cls(min((low for low, _ in ends), default=0.0), max((high for _, high in ends), default=0.0))

    def at(self, value: float) -> float:
        """The place of a score in percent of the width."""
        return 100 * (value - self.low) / ((self.high - self.low) or 1.0)


def write_retrieve_report(result: RetrieveResult, path: str | os.PathLike[str]) -> Path:
    """Write `result` as one HTML file below 2 MB; the same result gives the same bytes.

    Long texts are cut around the words that count. Where there are too many documents, less is shown of each, then
    fewer are. Raises InputError for a path that cannot be written.
    """
    return write_page(path, retrieve_html(result))


def retrieve_html(result: RetrieveResult) -> str:
    """The page that `write_retrieve_report` writes."""
    shown, chars = min(result.frame.height, _MOST), _CHARS
    html = _page(result, shown, chars)
    while len(encoded(html)) > _ROOM and shown > 1:
        if chars > _FEWEST_CHARS:
            chars = max(chars // 2, _FEWEST_CHARS)
        else:
            shown //= 2
        html = _page(result, shown, chars)
    return html


def _page(result: RetrieveResult, shown: int, chars: int) -> str:
    rows = result.frame.head(shown).rows(named=True)
    scale = Scale.of(rows)
    found = [_found(row, scale, result.prompts.get(row["doc_id"]), chars) for row in rows]
    kinds = {part.kind for one in found for part in one.parts}
    return render(
        "retrieve",
        like="diff",
        result=result,
        found=found,
        zero=scale.at(0.0),
        way=_WAYS[result.mode],
        like_these=_some(result.parameters.get("like", ())),
        unlike_these=_some(result.parameters.get("unlike", ())),
        kinds={kind: words for kind, words in _KINDS.items() if kind in kinds},
        parameters=parameters_in_words(result.parameters),
    )


def _found(row: Row, scale: Scale, prompt: str | None, chars: int) -> Found:
    names = {part["latent"]: _name(part) for part in row["concepts"] if part["latent"] is not None}
    parts = tuple(_parts(row["concepts"], scale))
    # In the order of the result: what gave most comes first.
    strongest = [_name(part) for part in row["concepts"] if _kind(part, row["concepts"]) not in ("rest", "embedding")]
    return Found(
        id=f"document-{row['rank']}",
        rank=row["rank"],
        doc_id=short(row["doc_id"], _NAME_CHARS),
        score=f"{row['score']:.3f}",
        at=scale.at(row["score"]),
        strongest="; ".join(strongest[:_NAMED]),
        parts=parts,
        prompt=None if prompt is None or not prompt.strip() else short(prompt.strip(), _PROMPT_CHARS),
        text=None if row["text"] is None else tuple(_stretches(row["text"], row["evidence"], names, chars)),
    )


# The score


def _parts(concepts: Sequence[Row], scale: Scale) -> Iterator[Part]:
    """The parts of a score as its bar stacks them: what adds to it right of 0, what takes from it left of 0."""
    order = list(_KINDS)
    kinds = [_kind(part, concepts) for part in concepts]
    low = high = 0.0
    for kind, part in sorted(zip(kinds, concepts, strict=True), key=lambda entry: order.index(entry[0])):
        share = part["share"]
        low, high = low + min(share, 0.0), high + max(share, 0.0)
        begin = low if share < 0 else high - share
        yield Part(
            kind=kind,
            name=_name(part),
            latent=part["latent"],
            share=f"{share:+.3f}",
            width=scale.at(abs(share)) - scale.at(0.0),
            stacked=scale.at(begin),
            alone=scale.at(min(share, 0.0)),
        )


def _ends(concepts: Sequence[Row]) -> tuple[float, float]:
    shares = [part["share"] for part in concepts]
    return sum(min(share, 0.0) for share in shares), sum(max(share, 0.0) for share in shares)


def _kind(part: Row, beside: Sequence[Row]) -> str:
    """What a part is, of the parts that `retrieve` names; only a phrase has latents beside what is summed up."""
    if part["latent"] is not None:
        return "concept"
    if part["label"] == EMBEDDING:
        return "embedding"
    if any(other["latent"] is not None for other in beside):
        return "rest"
    return "word" if part["label"].startswith("word '") else "part"


def _name(part: Row) -> str:
    return short(part["label"], _NAME_CHARS) if part["label"] else f"latent {part['latent']}"


# The text


def _stretches(text: str, evidence: Sequence[Row], names: Mapping[int, str], chars: int) -> Iterator[Stretch]:
    """About `chars` characters of a text, its evidence marked."""
    spans = [(span["start"], span["end"], _behind(span, names)) for span in evidence]
    return stretches(text, spans, chars, places=SPANS)


def _behind(span: Row, names: Mapping[int, str]) -> str:
    return "; ".join(names.get(latent, f"latent {latent}") for latent in span["latents"])


# Words


def _some(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - _EXAMPLES} more" if len(ids) > _EXAMPLES else ""
    return ", ".join(short(doc_id, _NAME_CHARS) for doc_id in ids[:_EXAMPLES]) + more
