"""Name latents without a language model: the phrases that set their top-activating spans apart from the rest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from scipy.sparse import csr_array

#: Spans from which a latent's phrases are drawn: its strongest, so that a label describes what the latent means when it is sure.
TOP_SPANS = 60
#: Phrases in a label.
PHRASES = 3
#: Longest phrase, in words.
LONGEST = 4
#: Prior count of a phrase, spread as in the background: what keeps a rare phrase from winning on one coincidence.
PRIOR = 2.0
_TOKEN = r"(?u)[^\W\d_]+(?:['’][^\W\d_]+)*|\d+|[?!$%=]"
#: Words that carry no meaning at either end of a phrase; alone they are no label.
_FUNCTION_WORDS = frozenset(
    "a an the of to in on at by for from with and or but nor so as if than then that this these those there it its is are was were be been "
    "being am do does did has have had which who whom whose what s t d ll re ve m o into onto upon over about also "
    "such some any each both all most more very can could will would shall should may might must he she they them "
    "his her their our your my we i you me him us not no 0 one two".split()
)
#: What may stand inside or at the end of a phrase but is no label alone.
_MARKS = frozenset("?!$%=")


def label_latents(spans: Sequence[str], activations: csr_array) -> pl.DataFrame:
    """Label each latent by contrastive phrases.

    `activations` [n_spans, d_sae]. Returns latent, label, explanation and score, the share of the top spans (of
    distinct wording) in which one of the phrases occurs; a latent without spans gets null.
    """
    tops = top_spans(spans, activations, TOP_SPANS)
    phrases, counts = _count_phrases(spans)
    background = (np.asarray(counts.sum(axis=0)).ravel() + 1.0) / (counts.shape[0] + 1.0)
    worth = np.array([_worth(phrase) for phrase in phrases])
    rows = [_label_one(counts[rows], background, phrases, worth) for rows in tops]
    return pl.DataFrame(
        {
            "latent": np.arange(len(tops), dtype=np.int32),
            "label": [row[0] for row in rows],
            "explanation": [None] * len(rows),
            "score": [row[1] for row in rows],
            "origin": ["offline phrases" if row[0] else None for row in rows],
        },
        schema={
            "latent": pl.Int32,
            "label": pl.String,
            "explanation": pl.String,
            "score": pl.Float64,
            "origin": pl.String,
        },
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


def _count_phrases(spans: Sequence[str]) -> tuple[np.ndarray, csr_array]:
    from sklearn.feature_extraction.text import CountVectorizer  # noqa: PLC0415

    vectorizer = CountVectorizer(
        ngram_range=(1, LONGEST), token_pattern=_TOKEN, binary=True, min_df=5, dtype=np.float32, max_features=400_000
    )
    counts = csr_array(vectorizer.fit_transform(spans))
    return vectorizer.get_feature_names_out(), counts


def _worth(phrase: str) -> float:
    """0 for what can be no label, else a factor that prefers whole phrases over single words a little."""
    words = phrase.split(" ")
    content = [word for word in words if word not in _FUNCTION_WORDS and word not in _MARKS and len(word) > 1]
    if words[0] in _MARKS - {"$"} or any(mark in words[:-1] for mark in "?!"):
        return 0.0
    if len(words) == 1:
        return 1.0 if content and not phrase.isdigit() else 0.0
    if words[-1] in ("a", "an", "the", "of", "to", "and", "or", "in", "on", "is", "as", "that", "for", "with", "by"):
        return 0.0
    return 1.15 if content else 0.7


def _label_one(
    counts: csr_array, background: np.ndarray, phrases: np.ndarray, worth: np.ndarray
) -> tuple[str | None, float | None]:
    n = counts.shape[0]
    if n == 0:
        return None, None
    columns, hits = np.unique(counts.indices, return_counts=True)
    keep = (worth[columns] > 0) & (hits >= max(2, 0.05 * n))
    columns, hits = columns[keep], hits[keep]
    if not len(columns):
        return None, None
    uncovered = np.ones(n)
    chosen: list[str] = []
    inside = counts[:, columns].toarray() > 0  # at most TOP_SPANS x a few hundred phrases
    for _ in range(PHRASES):
        covered = uncovered @ inside
        rate = (covered + PRIOR * background[columns]) / (n + PRIOR)
        # Each phrase's part of the divergence between the top spans and the background (Kullback and Leibler 1951).
        gain = rate * np.log(rate / background[columns]) * worth[columns]
        gain[[_overlaps(phrases[c], chosen) for c in columns]] = 0.0
        best = int(np.argmax(gain))
        if gain[best] <= 0.05 or covered[best] < 2:
            break
        chosen.append(str(phrases[columns[best]]))
        uncovered = uncovered * (1 - 0.8 * inside[:, best])
    if not chosen:
        return None, None
    share = np.isin(phrases[columns], chosen)
    return " · ".join(chosen), float(inside[:, share].any(axis=1).mean())


def _overlaps(phrase: str, chosen: Sequence[str]) -> bool:
    words = set(phrase.split(" ")) - _FUNCTION_WORDS
    return any(words & (set(other.split(" ")) - _FUNCTION_WORDS) or phrase in other for other in chosen)
