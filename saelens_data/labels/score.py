"""How well a label says where its latent is active, on documents that the labeller never saw.

Detection and fuzzing are those of Paulo, Mallen, Juang and Belrose (2024), Automatically Interpreting Millions of
Features in Large Language Models, arXiv 2410.13928; the labeller's view of graded activations is that of Bills et al.
(2023), Language models can explain neurons in language models. Embedding scoring asks no language model: it is the AUC
of the cosine between label and text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from saelens_data.labels.sample import Excerpt, Sample
from saelens_data.stats import newcombe_unpaired
from saelens_data.stats.strength import auc_interval

if TYPE_CHECKING:
    from saelens_data.matrix import ConceptMatrix

#: Texts to vectors of length 1, [n, dim].
Embed = Callable[[Sequence[str]], np.ndarray]
#: Characters beside a token that are embedded with it.
_BESIDE = 60


@dataclass(frozen=True)
class Score:
    """Agreement of verdicts with the truth.

    `value`: balanced accuracy, the mean of `hits` (share found of what is there) and of the share rightly passed over;
    0.5 is chance. `low`, `high`: its interval, that of the difference of two independent shares (Newcombe 1998, method
    10), moved and halved. `f1`: of what is there, at the share of it among these documents. `n` verdicts; `missing` as
    many texts have none, and count neither way. None of the numbers is known where either side has no verdict.
    """

    value: float | None
    low: float | None
    high: float | None
    f1: float | None
    n: int
    missing: int


def agreement(truth: Sequence[bool], said: Sequence[bool | None]) -> Score:
    """Score verdicts, None where there is none. Raises ValueError where the two differ in length."""
    pairs = [(there, told) for there, told in zip(truth, said, strict=True) if told is not None]
    missing = len(truth) - len(pairs)
    yes, no = sum(there for there, _ in pairs), sum(not there for there, _ in pairs)
    if not yes or not no:
        return Score(None, None, None, None, len(pairs), missing)
    found = sum(there and bool(told) for there, told in pairs)
    false = sum(not there and bool(told) for there, told in pairs)
    low, high = newcombe_unpaired(np.array(found), np.array(false), yes, no)
    value = (found / yes + 1 - false / no) / 2
    f1 = 2 * found / (yes + found + false)
    return Score(value, (1 + float(low)) / 2, (1 + float(high)) / 2, f1, len(pairs), missing)


def embedding_score(label: np.ndarray, texts: np.ndarray, truth: Sequence[bool]) -> Score:
    """AUC of the cosine of `label` [dim] and `texts` [n, dim], all of length 1; interval after Newcombe (2006)."""
    there = np.asarray(truth, dtype=bool)
    return _with_intervals([_area(label, texts, there)], [there])[0]


def _area(label: np.ndarray, texts: np.ndarray, there: np.ndarray) -> float:
    if there.all() or not there.any():
        return float("nan")
    return auc_of(np.round(np.asarray(texts, dtype=np.float64) @ np.asarray(label, dtype=np.float64), 6), there)


def _with_intervals(areas: Sequence[float], truth: Sequence[np.ndarray]) -> list[Score]:
    """Scores of areas, NaN where there is none, with their intervals."""
    yes, n = np.array([t.sum() for t in truth]), np.array([len(t) for t in truth])
    low, high = auc_interval(np.array(areas), yes, n - yes)
    numbers = zip(areas, low.tolist(), high.tolist(), n.tolist(), strict=True)
    return [
        Score(None, None, None, None, m, 0) if np.isnan(v) else Score(v, a, b, None, m, 0) for v, a, b, m in numbers
    ]


def auc_of(values: np.ndarray, there: np.ndarray) -> float:
    """P(value where it is > value where it is not) + P(equal) / 2."""
    above = values[there][:, None] - values[~there]  # at most a few hundred of each
    return float(((above > 0) + (above == 0) / 2).mean())


def embedded_text(e: Excerpt, *, token: bool) -> str:
    """What of an excerpt is embedded: its unit, and of a token the words beside it too."""
    text = e.before[-_BESIDE:] + e.text + e.after[:_BESIDE] if token else e.text
    return " ".join(text.split()) or "."


def embedding_scores(
    labels: Sequence[tuple[int, str]], samples: dict[int, Sample], embed: Embed, *, token: bool = False
) -> list[Score]:
    """The embedding score of each (latent, label) on the judge's documents; texts that recur are embedded once."""
    texts = {latent: [embedded_text(e, token=token) for e in samples[latent].held] for latent, _ in labels}
    wanted = dict.fromkeys([label for _, label in labels] + [text for part in texts.values() for text in part])
    if not wanted:
        return []
    vectors = embed(list(wanted))
    at = {text: number for number, text in enumerate(wanted)}
    areas, truth = [], []
    for latent, label in labels:
        truth.append(np.array([e.active for e in samples[latent].held], dtype=bool))
        areas.append(_area(vectors[at[label]], vectors[[at[text] for text in texts[latent]]], truth[-1]))
    return _with_intervals(areas, truth)


def embedder_of(m: ConceptMatrix) -> Embed:
    """The embedding that labels and texts are compared by: the encoder's own reader if it has one, else MiniLM's."""
    from saelens_data.concepts.space import space_of  # noqa: PLC0415
    from saelens_data.errors import SaelensDataError  # noqa: PLC0415
    from saelens_data.readers.spans import Part, SpanReader  # noqa: PLC0415
    from saelens_data.readers.weights import MINILM  # noqa: PLC0415

    try:
        if _reads_spans(m.source.encoder):
            return space_of(m).embed
    except SaelensDataError:  # the encoder is not at hand, or another by now
        pass
    reader = SpanReader(MINILM, [Part("final")])

    def embed(texts: Sequence[str]) -> np.ndarray:
        found = reader.embed(texts)
        return np.asarray(found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12))

    return embed


def _reads_spans(encoder: str) -> bool:
    """Whether an encoder's reader embeds sentences, found without loading what may be a large model."""
    from saelens_data.encoders import Address, find_encoder, read_spec  # noqa: PLC0415

    return Address.parse(encoder) is None and read_spec(find_encoder(encoder))["reader"]["kind"] == "spans"
