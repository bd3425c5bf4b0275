"""What labelling gives: labels with their scores, the verdicts behind them, and what it took."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from saelens_data.display import table
from saelens_data.display.bars import Scale
from saelens_data.display.table import Column, Shown
from saelens_data.errors import InputError
from saelens_data.labels.budget import dollars
from saelens_data.labels.sample import Sample
from saelens_data.labels.score import Score
from saelens_data.labels.work import Judged, Worked
from saelens_data.matrix.label_table import LABEL_SCHEMA
from saelens_data.results import Result
from saelens_data.wording import count

#: What the main score is, in a table of labels.
SCORE_KIND = "detection"
#: Balanced accuracy by chance: what a label must beat where there is none to replace.
CHANCE = 0.5
_SCHEMA: dict[str, Any] = {
    "latent": pl.Int32,
    "label": pl.String,
    "used": pl.Boolean,
    "why": pl.String,
    "score": pl.Float64,
    "score_low": pl.Float64,
    "score_high": pl.Float64,
    "f1": pl.Float64,
    "before": pl.String,
    "before_score": pl.Float64,
    "fuzzing": pl.Float64,
    "fuzzing_low": pl.Float64,
    "fuzzing_high": pl.Float64,
    "embedding": pl.Float64,
    "embedding_low": pl.Float64,
    "embedding_high": pl.Float64,
    "before_embedding": pl.Float64,
    "judged": pl.Int32,
    "missing": pl.Int32,
    "properties": pl.String,
    "explanation": pl.String,
    "density": pl.Float64,
    "steering": pl.List(pl.String),
}
_VERDICTS = {
    "latent": pl.Int32,
    "kind": pl.String,
    "label": pl.String,
    "doc_id": pl.String,
    "text": pl.String,
    "truth": pl.Boolean,
    "said": pl.Boolean,
}


def _from_chance(_: Sequence[float]) -> Scale:
    """From 0 to 1, bars from chance."""
    return Scale(0.0, 1.0, CHANCE)


def _scored(title: str, name: str) -> Column:
    """A score with its interval."""
    low, high = f"{name}_low", f"{name}_high"
    return Column(title, name, table.two_places, low=low, high=high, scale=_from_chance)


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class LabelResult(Result):
    """The outcome of `label`. `frame` has a row for each latent asked for, in that order.

    Columns: `latent`; `label`, the new one, null if there is none; `used`, whether it beats the one before and its
    interval lies above chance, and `why` not; `score` (detection: balanced accuracy on documents that the labeller
    never saw, 0.5 is chance) with its interval, and `f1`; `before`, the label there was, and `before_score`, its
    detection on the same documents by the same judge; `fuzzing` and its interval; `embedding` (AUC of the cosine with
    the label, no language model) and its interval, and `before_embedding`; `judged` verdicts, `missing` ones;
    `properties` ("one" or "several"); `explanation`; `density` here; `steering`, documents that look like instructions
    to a model.
    """

    kind: str = "labels"
    #: Rows as a table of labels takes them (LABEL_SCHEMA): labels that are used, and labels that are beaten.
    labels: pl.DataFrame
    #: A row for each text judged: latent, kind (detection, baseline, fuzzing), label, doc_id, text, truth, said.
    verdicts: pl.DataFrame
    #: Calls sent, tokens read and written, and US dollars (None where prices are not known).
    calls: int
    read: int
    written: int
    cost: float | None

    def summary(self) -> str:
        """How many labels there are and what they took, in a sentence or two."""
        named, used = self.frame["label"].is_not_null().sum(), int(self.frame["used"].sum())
        took = f"{count(self.calls, 'call')}, {self.read + self.written:,} tokens"
        money = "" if self.cost is None else f", {dollars(round(self.cost * 10**12))}"
        scored = f"embedding scores of {count(self.frame.height, 'latent')}"
        if not named and not self.calls:
            return scored if self.frame["why"].is_null().all() else f"no label of {count(self.frame.height, 'latent')}"
        return f"{named:,} of {count(self.frame.height, 'latent')} labelled, {count(used, 'label')} used; {took}{money}"

    def _shown(self) -> Shown:
        return Shown.of(
            self.frame,
            Column("latent", "latent", right=True),
            Column("label", "label"),
            Column("used", lambda row: None if row["label"] is None else row["used"], table.yes),
            Column("why not", "why"),
            _scored("detection", "score"),
            Column("label before", "before"),
            Column("its detection", "before_score", table.two_places, right=True),
            _scored("fuzzing", "fuzzing"),
            _scored("embedding", "embedding"),
            Column("its embedding", "before_embedding", table.two_places, scale=_from_chance),
            noun="latent",
        )

    def plot(self) -> Any:
        """The scores of the labels with their intervals, as an Altair chart: detection, or embedding where none is.

        Raises MissingExtraError without Altair, InputError where no label has a score.
        """
        from saelens_data.display import plots  # noqa: PLC0415

        score = next((name for name in ("score", "embedding", "before_embedding") if self.frame[name].count()), None)
        if score is None:
            raise InputError("there is nothing to draw: no label has a score")
        named = plots.named("label" if score != "before_embedding" else "before")
        ends = (score, score) if score == "before_embedding" else (f"{score}_low", f"{score}_high")
        said = "detection (balanced accuracy)" if score == "score" else "AUC of the cosine of label and text"
        frame = self.frame.drop_nulls(score)
        frame = frame.select(
            plots.numbered(frame, named),
            "latent",
            score=score,
            low=ends[0],
            high=ends[1],
            used=pl.when("used").then(pl.lit("used")).otherwise(pl.lit("not used")),
        )
        return plots.dots(
            frame,
            y="name",
            x="score",
            low="low",
            high="high",
            title=f"{said}; {CHANCE:g} is chance",
            tooltip={"name": "label", "latent": "latent", "score": "score", "low": "interval from", "high": "to"},
            colour=("used", "label"),
            order=[word for word in ("used", "not used") if word in frame["used"]],
            zero=CHANCE,
        )


def row_of(
    worked: Worked, sample: Sample, before: str | None, density: float, embedded: tuple[Score | None, Score | None]
) -> dict[str, Any]:
    """A row of the frame."""
    detection, baseline = _on_the_same(worked.detection, worked.baseline)
    fuzzing = worked.fuzzing.score
    own, old = embedded
    bar = _bar(before, baseline)
    used = worked.label is not None and _beats(detection, bar) and _proved(detection)
    return {
        "latent": worked.latent,
        "label": worked.label,
        "used": used,
        "why": None if used else _why(worked, detection, bar, before),
        "score": detection.value,
        "score_low": detection.low,
        "score_high": detection.high,
        "f1": detection.f1,
        "before": before,
        "before_score": baseline.value,
        "fuzzing": fuzzing.value,
        "fuzzing_low": fuzzing.low,
        "fuzzing_high": fuzzing.high,
        "embedding": own.value if own else None,
        "embedding_low": own.low if own else None,
        "embedding_high": own.high if own else None,
        "before_embedding": old.value if old else None,
        "judged": detection.n,
        "missing": detection.missing + fuzzing.missing,
        "properties": worked.properties,
        "explanation": worked.explanation,
        "density": density,
        "steering": list(sample.steering),
    }


def _on_the_same(detection: Judged, baseline: Judged) -> tuple[Score, Score]:
    """Both scores on the texts that have a verdict under either label, so that they compare."""
    if not baseline.said:
        return detection.score, baseline.score
    both = [None not in pair for pair in zip(detection.said, baseline.said, strict=True)]
    kept = (tuple(said if ok else None for said, ok in zip(j.said, both, strict=True)) for j in (detection, baseline))
    first, second = (Judged(j.texts, j.truth, said) for j, said in zip((detection, baseline), kept, strict=True))
    return first.score, second.score


def _beats(detection: Score, bar: float | None) -> bool:
    return detection.value is not None and bar is not None and detection.value > bar


def _proved(detection: Score) -> bool:
    """Whether the label is shown to be better than chance, and not by luck with a few documents."""
    return detection.low is not None and detection.low > CHANCE


def _bar(before: str | None, baseline: Score) -> float | None:
    """What a label must beat: chance, and the label before it; None where that could not be judged."""
    if before is None:
        return CHANCE
    return None if baseline.value is None else max(CHANCE, baseline.value)


def _why(worked: Worked, detection: Score, bar: float | None, before: str | None) -> str | None:
    if worked.label is None:
        return worked.why
    if detection.value is None or bar is None:
        return "too few verdicts to judge it"
    if _beats(detection, bar):
        return f"not shown to be better than chance ({detection.value:.2f} [{detection.low:.2f}, {detection.high:.2f}])"
    than = "chance" if before is None or bar == CHANCE else "the label before"
    return f"no better than {than} ({detection.value:.2f} against {bar:.2f})"


def frames_of(rows: Sequence[Mapping[str, Any]], model: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The frame, and the rows for a table of labels."""
    frame = pl.DataFrame(list(rows), schema=_SCHEMA)
    scored = [_table_row(row, model) for row in rows if row["used"] or _beaten(row)]
    return frame, pl.DataFrame(scored, schema=_TABLE)


def _beaten(row: Mapping[str, Any]) -> bool:
    """Whether a label was judged and is no better than its bar: it is kept, and never shown before that."""
    bar = max(CHANCE, row["before_score"] or 0.0)
    return row["label"] is not None and row["score"] is not None and bool(row["score"] <= bar)


def verdict_frame(done: Sequence[Worked]) -> pl.DataFrame:
    """The verdicts, a row each."""
    return pl.DataFrame([line for worked in done for line in _verdict_lines(worked)], schema=_VERDICTS)


_TABLE = {name: dtype for name, dtype in LABEL_SCHEMA.items() if name != "created"}
_EXTRA = (
    "f1",
    "fuzzing",
    "fuzzing_low",
    "fuzzing_high",
    "embedding",
    "before",
    "before_embedding",
    "missing",
    "properties",
)


def _table_row(row: Mapping[str, Any], model: str) -> dict[str, Any]:
    extra = {name: row[name] for name in _EXTRA if row[name] is not None}
    return {
        **{name: row[name] for name in ("latent", "label", "explanation", "score", "score_low", "score_high")},
        "origin": f"llm:{model}",
        "method": "contrasted excerpts, held-out detection",
        "score_kind": SCORE_KIND,
        "baseline": max(CHANCE, row["before_score"] or 0.0),
        "n": row["judged"],
        "extra": json.dumps(extra, ensure_ascii=False, sort_keys=True),
    }


def _verdict_lines(worked: Worked) -> list[dict[str, Any]]:
    kinds = (("detection", worked.detection), ("baseline", worked.baseline), ("fuzzing", worked.fuzzing))
    return [
        {
            "latent": worked.latent,
            "kind": kind,
            "label": worked.label,
            "doc_id": e.doc_id,
            "text": e.whole if kind != "fuzzing" else e.text,
            "truth": truth,
            "said": said,
        }
        for kind, judged in kinds
        for e, truth, said in zip(judged.texts, judged.truth, judged.said, strict=True)
    ]
