"""Name latents without a language model: the phrases that set their top-activating spans apart from the rest.

Candidates are the words and phrases that recur in a latent's strongest spans. Each is judged on all spans: how many of
those that hold it activate the latent (precision), and how much of the latent's activation lies on them (recall).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy.sparse import csr_array

from saelens_data.matrix import CONCEPT_SCHEMA

#: Spans from which a latent's phrases are drawn: so many of its strongest, and as many over the rest of its range.
TOP_SPANS = 60
#: Phrases in a label.
PHRASES = 3
#: Longest phrase, in words.
LONGEST = 4
#: Precision counts this much more than recall (van Rijsbergen's F): a narrow name misleads less than a broad one.
BETA = 0.5
#: Spans that are added to a phrase's count as if the latent were silent there.
PRIOR = 5
#: A further phrase must be worth at least this share of the best one.
LEAST = 0.25
#: Active spans on which a phrase is judged, evenly drawn where there are more.
_JUDGED = 4_000
#: What counts as a word.
_WORD = r"(?u)[^\W\d_]+(?:'[^\W\d_]+)*|\d+|[?!$%=]"
#: Words that are no label by themselves; a phrase of nothing else needs to be much more frequent than by chance.
_FUNCTION_WORDS = frozenset(
    """a about after again all also am an and any are as at be because been before being both but by can could did do
    does down each even ever every few for from had has have having he her here hers him his how i if in into is it
    its just let many may me might more most much must my never no nor not now of off on one only onto or other our
    out over own quite rather really same shall she should since so some still such than that the their them then
    there these they this those through to too two under until up upon us use used uses using very was we well were
    what when where whether which while who whom whose why will with within without would yes you your
    s t d ll re ve m unk user system assistant human""".split()
)
#: No phrase of several words ends in these: it would be a fragment.
_DANGLING = frozenset(
    "a an and as at but by for from if in into is its of on or that the their this to with your".split()
)
#: Marks that count as words; how a label says them.
_MARKS = {"?": "question mark", "!": "exclamation mark", "$": "dollar sign", "%": "percent sign", "=": "equals sign"}


def label_latents(spans: Sequence[str], activations: csr_array) -> pl.DataFrame:
    """Label each latent by contrastive phrases.

    `activations` [n_spans, d_sae]. Returns latent, label, explanation and score, the share of the spans looked at
    (TOP_SPANS) in which one of the phrases occurs; a latent for which none is found gets null.
    """
    tops = top_spans(spans, activations, TOP_SPANS)
    counts = _count_phrases(spans)
    columns = activations.tocsc()
    found = []
    for latent, top in enumerate(tops):
        low, high = columns.indptr[latent], columns.indptr[latent + 1]
        rows, activation = columns.indices[low:high], columns.data[low:high]
        shown = np.concatenate([top, np.setdiff1d(_spread(rows, activation, TOP_SPANS), top)])
        found.append(_label_one(counts, shown, rows, activation))
    labels = [" · ".join(_MARKS.get(phrase, phrase) for phrase in phrases) or None for phrases, _ in found]
    return pl.DataFrame(
        {
            "latent": np.arange(len(tops), dtype=np.int32),
            "label": labels,
            "explanation": [None] * len(tops),
            "score": [score if label else None for label, (_, score) in zip(labels, found, strict=True)],
            "origin": [label and "offline phrases" for label in labels],
        },
        schema=CONCEPT_SCHEMA,
    )


def top_spans(spans: Sequence[str], activations: csr_array, n: int) -> list[np.ndarray]:
    """Row numbers of each latent's `n` most activating spans, strongest first, no wording twice."""
    columns = activations.tocsc()
    result = []
    for latent in range(columns.shape[1]):
        low, high = columns.indptr[latent], columns.indptr[latent + 1]
        order = low + np.argsort(-columns.data[low:high], kind="stable")
        seen: dict[str, int] = {}
        for row in columns.indices[order]:
            seen.setdefault(spans[row].casefold(), int(row))
            if len(seen) == n:
                break
        result.append(np.fromiter(seen.values(), dtype=np.int64, count=len(seen)))
    return result


def _spread(rows: np.ndarray, activation: np.ndarray, n: int) -> np.ndarray:
    """`n` of the active spans at equal steps of the summed activation: where the latent mostly fires."""
    order = np.argsort(-activation, kind="stable")
    summed = np.cumsum(activation[order])
    steps = (np.arange(n) + 0.5) / n * summed[-1:].sum()
    at = np.unique(np.searchsorted(summed, steps)) if len(summed) else np.empty(0, np.int64)
    found: np.ndarray = rows[order[np.minimum(at, len(order) - 1)]].astype(np.int64)
    return found


@dataclass(frozen=True, eq=False)
class _Phrases:
    """Which span holds which phrase: `inside` [n_spans, n_phrases] 0/1, `total` spans of each, `worth` as a label."""

    text: np.ndarray
    inside: csr_array
    total: np.ndarray
    worth: np.ndarray


def _count_phrases(spans: Sequence[str]) -> _Phrases:
    from sklearn.feature_extraction.text import CountVectorizer  # noqa: PLC0415

    vectorizer = CountVectorizer(
        ngram_range=(1, LONGEST), token_pattern=_WORD, binary=True, min_df=3, dtype=np.float32, max_features=400_000
    )
    try:
        inside = csr_array(vectorizer.fit_transform([span.replace("’", "'") for span in spans]))
    except ValueError:  # no phrase recurs: there is nothing to name a latent by
        return _Phrases(np.empty(0, object), csr_array((len(spans), 0), dtype=np.float32), np.empty(0), np.empty(0))
    text = vectorizer.get_feature_names_out()
    total = np.bincount(inside.indices, minlength=len(text))
    return _Phrases(text, inside, total, np.array([_worth(phrase) for phrase in text]))


def _worth(phrase: str) -> float:
    """How much a phrase is worth as a label: 0 for fragments, less than 1 for a mark or a phrase without content."""
    words = phrase.split(" ")
    if phrase in _MARKS:
        return 0.9
    if words[-1] in _DANGLING or words[0] in _MARKS.keys() - {"$"} or _MARKS.keys() & words[1:-1]:
        return 0.0
    stutters = len(set(words)) < len(words)
    if stutters or any(len(word) == 1 and word.isalpha() and word not in "ia" for word in words):
        return 0.0
    content = [word for word in words if word not in _FUNCTION_WORDS | _MARKS.keys() and not word.isdigit()]
    if len(words) == 1:
        return 1.0 if content else 0.0
    numbers = any(word.isdigit() for word in words)
    # Of phrases that occur together the longest is the whole one.
    return (1.1 if content else 0.6) * (0.6 if numbers else 1.0) * (1 + 0.03 * len(words))


def _label_one(phrases: _Phrases, top: np.ndarray, rows: np.ndarray, activation: np.ndarray) -> tuple[list[str], float]:
    """The phrases of one latent, active on `rows`, drawn from the spans `top`; and the share of these that hold one."""
    candidates, hits = np.unique(phrases.inside[top].indices, return_counts=True)
    candidates = candidates[(phrases.worth[candidates] > 0) & (hits >= max(2, 0.03 * len(top)))]
    if not len(candidates):
        return [], 0.0
    value = _f_score(phrases, candidates, rows, activation) * phrases.worth[candidates]
    inside = phrases.inside[top][:, candidates].toarray() > 0  # at most TOP_SPANS x a few hundred phrases
    uncovered, best = np.ones(len(top)), 0.0
    chosen: list[int] = []
    for _ in range(PHRASES):
        gain = value * (uncovered @ inside) / inside.sum(axis=0)
        gain[[_overlaps(text, [phrases.text[candidates[c]] for c in chosen]) for text in phrases.text[candidates]]] = 0
        pick = int(np.argmax(gain))
        best = max(best, float(gain[pick]))
        if gain[pick] <= LEAST * best:
            break
        chosen.append(pick)
        uncovered = uncovered * (1 - 0.8 * inside[:, pick])
    return [str(phrases.text[candidates[c]]) for c in chosen], float(inside[:, chosen].any(axis=1).mean())


def _f_score(phrases: _Phrases, candidates: np.ndarray, rows: np.ndarray, activation: np.ndarray) -> np.ndarray:
    """F of each candidate as a test of whether the latent is active, [candidates]."""
    step = -(-len(rows) // _JUDGED)
    drawn, weight = phrases.inside[rows[::step]], activation[::step]
    n = len(phrases.text)
    active = step * np.bincount(drawn.indices, minlength=n)[candidates]
    mass = np.bincount(drawn.indices, np.repeat(weight, np.diff(drawn.indptr)), minlength=n)[candidates]
    # A phrase of a few spans has not shown that it means the latent.
    precision = np.minimum(active / (phrases.total[candidates] + PRIOR), 1)
    recall = mass / weight.sum()
    found: np.ndarray = (1 + BETA**2) * precision * recall / np.maximum(BETA**2 * precision + recall, 1e-12)
    return found


def _overlaps(phrase: str, chosen: Sequence[str]) -> bool:
    """Whether a phrase says again what a chosen one says: a content word, or its stem, in common."""
    words = _stems(phrase)
    return any(words & _stems(other) or phrase in other or other in phrase for other in chosen)


def _stems(phrase: str) -> set[str]:
    return {word[:5] for word in phrase.split(" ") if word not in _FUNCTION_WORDS}
