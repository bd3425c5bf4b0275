"""The trust card of a concept: what is known of whether its label can be believed, on one page."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from saelens_data.display import table
from saelens_data.display.stretches import Stretch
from saelens_data.display.table import Column, Row, Shown
from saelens_data.encoders import decoder_directions
from saelens_data.evidence import active_rows, column_of, evidence_for, passage
from saelens_data.labels.sample import LEAST, Excerpt, Sampler, Sizes
from saelens_data.labels.score import Embed, embedded_text, embedder_of, embedding_score
from saelens_data.matrix import ConceptMatrix
from saelens_data.results import Result
from saelens_data.stats import newcombe_unpaired, wilson
from saelens_data.wording import share

#: Units on which keywords are sought and tried, of either kind, at most; held-out texts for the embedding score.
_UNITS, _HELD = 2_000, 48
#: Concepts, examples of each kind, failures of each kind that are shown; characters of each.
_NEAREST, _EXAMPLES, _FAILURES, _CHARS = 5, 2, 3, 240
#: Rows shown in a notebook, and parts of which the value belongs to a text.
_ROWS, _SHOWN_BY_TEXT = 40, ("example", "failure")
#: A correlation, or a keyword's AUC, from which the card says so.
_NOTABLE_LENGTH, _NOTABLE_WORD = 0.3, 0.9
_SCHEMA = {
    "part": pl.String,
    "what": pl.String,
    "value": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "n": pl.Int64,
    "latent": pl.Int32,
    "doc_id": pl.String,
    "text": pl.String,
}


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ConceptCard(Result):
    """The outcome of `concept_card`. `frame` has a row for each thing that is known.

    `part`: label (all there are, the shown one first, with their scores), score (AUC of the cosine of the shown label
    and held-out texts), density, keyword, length, nearest, example, failure; `what` says which; `value` with the
    interval `low` to `high` where there is one; `n` it rests on; `latent`, `doc_id` and `text` where they apply.
    """

    kind: str = "concept"
    latent: int
    label: str | None

    def summary(self) -> str:
        """The concept in a sentence."""
        name = f"latent {self.latent}" + (f" ({self.label})" if self.label else ", without a label")
        there = self.frame.filter((pl.col("part") == "density") & (pl.col("what") == "documents here"))
        return f"{name}: active in {share(there['value'][0])} of the documents"

    def _shown(self) -> Shown:
        return Shown.of(
            self.frame,
            Column("", "part"),
            Column("what", "what"),
            Column(
                "value",
                lambda row: None if row["part"] in _SHOWN_BY_TEXT else row["value"],
                table.two_places,
                low="low",
                high="high",
                scale=table.shares,
                colour=lambda row: int(row["value"] < 0),
            ),
            Column("of", "n", table.number, right=True),
            Column("latent", "latent", right=True),
            Column("document", "doc_id"),
            Column(
                "activation or cosine",
                lambda row: row["value"] if row["part"] in _SHOWN_BY_TEXT else None,
                table.number,
                right=True,
            ),
            Column("text", _marked),
            most=_ROWS,
        )

    def of(self, part: str) -> pl.DataFrame:
        """The rows of a part."""
        return self.frame.filter(part=part)


def concept_card(m: ConceptMatrix, latent: int, *, embed: Embed | None = None, seed: int = 0) -> ConceptCard:
    """What is known of one concept, and of its label, by these documents; no language model is asked.

    `embed` takes texts to vectors of length 1; None: the encoder's own reader. Raises InputError for a latent that the
    matrix does not hold, and for documents without texts or evidence.
    """
    column = column_of(m, latent)
    sampler = Sampler(m, [latent], sizes=Sizes(shown=4, judged=_HELD, chars=_CHARS), seed=seed)
    rows = active_rows(m, [latent])[latent]
    label = m.concepts["label"][column] if "label" in m.concepts.columns else None
    lines = [
        *_labels(m, latent),
        *_density(m, column, len(rows)),
        *_keyword(m, latent, rows, seed),
        *_length(m, column, rows),
        *_nearest(m, latent, column, rows),
        *_examples(m, latent, rows),
    ]
    notes: list[str] = []
    if label is None:
        notes.append("The concept has no label: `saelens-data label` gives it one.")
    else:
        lines += _scored(m, sampler, latent, label, embed, notes)
    frame = pl.DataFrame(lines, schema=_SCHEMA)
    order = {part: at for at, part in enumerate(_PARTS)}
    frame = frame.sort(pl.col("part").replace_strict(order, return_dtype=pl.Int32), maintain_order=True)
    parameters = {"encoder": m.source.encoder, "latent": latent, "label": label, "seed": seed}
    notes += _warnings(frame)
    return ConceptCard(frame=frame, parameters=parameters, notes=tuple(notes), latent=latent, label=label)


def _marked(row: Row) -> tuple[Stretch, ...] | None:
    """The text of a row, with what stands between << and >> marked."""
    if row["text"] is None:
        return None
    before, _, rest = row["text"].partition("<<")
    words, closed, after = rest.partition(">>")
    if not closed:
        return (Stretch(row["text"]),)
    return Stretch(before), Stretch(words, "mark"), Stretch(after)


_PARTS = ("label", "score", "density", "keyword", "length", "nearest", "example", "failure")


def _labels(m: ConceptMatrix, latent: int) -> Iterator[dict[str, Any]]:
    table = m.labels.of_latents([latent])
    shown = table.preferred()["label"].to_list()[:1]
    rows = sorted(table.rows.iter_rows(named=True), key=lambda row: row["label"] not in shown)
    for row in rows:
        kind = f": {row['score_kind']}" if row["score_kind"] else ""
        numbers = {"value": row["score"], "low": row["score_low"], "high": row["score_high"], "n": row["n"]}
        yield {"part": "label", "what": f"{row['origin']}{kind}", **numbers, "text": row["label"]}
        if row["explanation"]:
            yield {"part": "label", "what": f"{row['origin']}: explanation", "text": row["explanation"]}
        for name, value in _further(row["extra"]):
            yield {"part": "label", "what": f"{row['origin']}: {name}", "value": value}


def _further(extra: str | None) -> Iterator[tuple[str, float]]:
    """Further scores that a label table's row keeps."""
    try:
        found = json.loads(extra or "{}")
    except ValueError:
        return
    for name in ("f1", "fuzzing", "embedding"):
        if isinstance(found, dict) and isinstance(found.get(name), int | float):
            yield name, float(found[name])


def _density(m: ConceptMatrix, column: int, n_active: int) -> Iterator[dict[str, Any]]:
    n = max(m.n_docs, 1)
    low, high = wilson(np.array(n_active), n)
    interval = {"low": float(low), "high": float(high), "n": m.n_docs}
    yield {"part": "density", "what": "documents here", "value": n_active / n, **interval}
    at_source = m.concepts["span_density"][column] if "span_density" in m.concepts.columns else None
    if at_source is not None and m.evidence is not None:
        yield {"part": "density", "what": "spans at the source", "value": at_source}
        units = np.diff(m.evidence.units.ptr)
        expected = float(np.mean(1 - (1 - at_source) ** units)) if len(units) else 0.0
        yield {"part": "density", "what": "documents here, if its spans were as those at the source", "value": expected}


def _keyword(m: ConceptMatrix, latent: int, rows: np.ndarray, seed: int) -> Iterator[dict[str, Any]]:
    """The word that tells best whether the latent is active: found on one half of the units, tried on the other."""
    chance = np.random.default_rng([seed, latent, 3])
    silent = np.setdiff1d(np.flatnonzero(np.diff(m.evidence.units.ptr) > 0), rows) if m.evidence else rows[:0]
    some = rows[np.linspace(0, len(rows) - 1, min(len(rows), _UNITS)).astype(np.int64)]
    there = [m.docs["text"][span.row][span.start : span.end] for span in evidence_for(m, latent, some)]
    if there:
        commonest = pl.Series(there).str.to_lowercase().str.strip_chars().value_counts(sort=True)
        top = {"value": commonest["count"][0] / len(there), "n": len(there), "text": commonest.row(0)[0][:_CHARS]}
        yield {"part": "keyword", "what": "share of the commonest unit, word for word", **top}
    if len(there) < LEAST or len(silent) < LEAST:
        return
    absent = [_any_unit(m, int(row), chance) for row in chance.permutation(silent)[:_UNITS]]
    if (found := _best_word(there, absent, chance)) is None:
        return
    word, hits, false, n_yes, n_no = found
    low, high = newcombe_unpaired(np.array(hits), np.array(false), n_yes, n_no)
    area = (1 + hits / n_yes - false / n_no) / 2
    interval = {"low": (1 + float(low)) / 2, "high": (1 + float(high)) / 2, "n": n_yes + n_no}
    yield {"part": "keyword", "what": "best keyword, AUC", "value": area, **interval, "text": word}
    yield {"part": "keyword", "what": "active units that hold it", "value": hits / n_yes, "n": n_yes, "text": word}
    yield {"part": "keyword", "what": "other units that hold it", "value": false / n_no, "n": n_no, "text": word}


def _any_unit(m: ConceptMatrix, row: int, chance: np.random.Generator) -> str:
    assert m.evidence is not None
    units = m.evidence.units
    unit = int(chance.integers(units.ptr[row], units.ptr[row + 1]))
    text = m.docs["text"][row] or ""
    return str(text[units.start[unit] : units.end[unit]])


def _best_word(
    there: Sequence[str], absent: Sequence[str], chance: np.random.Generator
) -> tuple[str, int, int, int, int] | None:
    """The word, and on the half that it was not chosen on: hits, false hits, and how many units there are of either."""
    from sklearn.feature_extraction.text import CountVectorizer  # noqa: PLC0415

    truth = np.r_[np.ones(len(there), bool), np.zeros(len(absent), bool)]
    half = np.zeros(len(truth), bool)
    for part in (np.flatnonzero(truth), np.flatnonzero(~truth)):
        half[chance.permutation(part)[: len(part) // 2]] = True
    try:
        vectorizer = CountVectorizer(token_pattern=r"(?u)[^\W_]+|[?!$%=]", binary=True)  # noqa: S106
        inside = vectorizer.fit_transform([*there, *absent]).tocsr()
    except ValueError:  # no words at all
        return None

    def held(where: np.ndarray) -> np.ndarray:
        return np.asarray(inside[where].sum(axis=0)).ravel()

    youden = held(half & truth) / (half & truth).sum() - held(half & ~truth) / (half & ~truth).sum()
    best = int(np.argmax(youden))
    yes, no = ~half & truth, ~half & ~truth
    word = str(vectorizer.get_feature_names_out()[best])
    return word, int(held(yes)[best]), int(held(no)[best]), int(yes.sum()), int(no.sum())


def _length(m: ConceptMatrix, column: int, rows: np.ndarray) -> Iterator[dict[str, Any]]:
    """Rank correlation of activation, 0 where not active, and length."""
    from scipy.stats import spearmanr  # noqa: PLC0415

    tokens = m.docs["n_tokens"] if "n_tokens" in m.docs.columns else None
    length = (tokens if tokens is not None else m.docs["text"].str.len_chars()).fill_null(0).to_numpy()
    values = m.X[:, [column]].toarray().ravel()  # one column
    if m.n_docs < 3 or not len(rows) or length.min() == length.max() or values.min() == values.max():
        return
    found = float(spearmanr(values, length).statistic)
    yield {"part": "length", "what": "rank correlation of activation and length", "value": found, "n": m.n_docs}


def _nearest(m: ConceptMatrix, latent: int, column: int, rows: np.ndarray) -> Iterator[dict[str, Any]]:
    """The concepts whose directions are nearest; without the encoder, those active in the same documents."""
    latents = m.concepts["latent"].to_numpy()
    if (directions := decoder_directions(m.source)) is not None:
        near, what = directions[latents] @ directions[latent], "cosine of the directions"
    else:
        support = np.bincount(m.X.indices, minlength=m.n_concepts)
        shared = np.bincount(m.X[rows].indices, minlength=m.n_concepts)
        near, what = shared / np.sqrt(np.maximum(support * len(rows), 1)), "cosine of the documents it is active in"
    near = np.array(near, dtype=np.float64)
    near[column] = -np.inf
    for at in np.argsort(-near, kind="stable")[: min(_NEAREST, m.n_concepts - 1)].tolist():
        label = m.concepts["label"][at] if "label" in m.concepts.columns else None
        yield {"part": "nearest", "what": what, "value": float(near[at]), "latent": int(latents[at]), "text": label}


def _examples(m: ConceptMatrix, latent: int, rows: np.ndarray) -> Iterator[dict[str, Any]]:
    """Documents from all of the range: the strongest, those in the middle, the weakest."""
    middle = rows[len(rows) // 2 :][:_EXAMPLES]
    seen: set[int] = set()
    for what, chosen in (("strongest", rows[:_EXAMPLES]), ("middle", middle), ("weakest", rows[-_EXAMPLES:])):
        for span in evidence_for(m, latent, [row for row in chosen.tolist() if row not in seen]):
            seen.add(span.row)
            shown = passage(m.docs["text"][span.row] or "", span, chars=_CHARS)
            text = f"{shown.before}<<{shown.evidence}>>{shown.after}"
            about = {"doc_id": m.docs["doc_id"][span.row], "text": " ".join(text.split())}
            yield {"part": "example", "what": what, "value": span.activation, **about}


def _scored(
    m: ConceptMatrix, sampler: Sampler, latent: int, label: str, embed: Embed | None, notes: list[str]
) -> list[dict[str, Any]]:
    """The embedding score of the label, and the documents that it gets most wrong."""
    sample = sampler.sample(latent)
    if sample.lacking:
        notes.append(f"The label cannot be scored here: the concept is {sample.lacking}.")
        return []
    embed = embed or embedder_of(m)
    texts = [embedded_text(e, token=sampler.reads_tokens) for e in sample.held]
    vectors = embed([label, *texts])
    truth = [e.active for e in sample.held]
    score = embedding_score(vectors[0], vectors[1:], truth)
    what = "AUC of the cosine of label and text, active documents against near and random others"
    found: list[dict[str, Any]] = [
        {"part": "score", "what": what, "value": score.value, "low": score.low, "high": score.high, "n": score.n}
    ]
    cosine = np.asarray(vectors[1:] @ vectors[0], dtype=np.float64)
    order = np.argsort(cosine, kind="stable").tolist()
    missed = [at for at in order if truth[at]][:_FAILURES]
    false = [at for at in order[::-1] if not truth[at]][:_FAILURES]
    for what, places in (("active, though unlike the label", missed), ("not active, though like the label", false)):
        found += [_failure(what, sample.held[at], float(cosine[at])) for at in places]
    return found


def _failure(what: str, e: Excerpt, cosine: float) -> dict[str, Any]:
    text = f"{e.before}<<{e.text}>>{e.after}" if e.active else e.whole
    return {"part": "failure", "what": what, "value": cosine, "doc_id": e.doc_id, "text": " ".join(text.split())}


def _warnings(frame: pl.DataFrame) -> Iterator[str]:
    """What a reader should not overlook."""
    for row in frame.filter(pl.col("part").is_in(["score", "keyword", "length"])).iter_rows(named=True):
        if row["part"] == "score" and row["low"] is not None and row["low"] <= 0.5:
            yield "By embedding the label is not shown to tell these documents from others: read the examples."
        if row["what"] == "best keyword, AUC" and row["value"] >= _NOTABLE_WORD:
            yield f"The concept is nearly the word '{row['text']}' here: searching for that finds the same."
        if row["part"] == "length" and abs(row["value"]) >= _NOTABLE_LENGTH:
            longer = "longer" if row["value"] > 0 else "shorter"
            yield f"The concept is stronger in {longer} documents (rank correlation {row['value']:.2f})."
