"""Ranking by the words themselves: BM25 (Robertson and Zaragoza 2009, The Probabilistic Relevance Framework).

No stop words and no stems, so that no language is preferred: a word that is everywhere has a small weight anyway.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from saelens_data.matrix import ConceptMatrix
from saelens_data.progress import import_bars

_WORD = re.compile(r"\w+")


@dataclass(frozen=True, eq=False)
class LexicalIndex:
    """Texts by their words. `index` is None where no text has a word."""

    index: Any
    n_docs: int

    @staticmethod
    def of(m: ConceptMatrix) -> LexicalIndex:
        """The index of a matrix' texts, made when first asked for and kept while the matrix lives."""
        if m not in _KNOWN:
            _KNOWN[m] = LexicalIndex.build(m.docs["text"].fill_null("").to_list())
        return _KNOWN[m]

    @staticmethod
    def build(texts: Sequence[str]) -> LexicalIndex:
        """Index texts; memory follows the number of different words in each."""
        import_bars()
        import bm25s  # noqa: PLC0415

        tokens = bm25s.tokenize(list(texts), token_pattern=_WORD.pattern, stopwords=[], show_progress=False)
        if not tokens.vocab:
            return LexicalIndex(None, len(texts))
        index = bm25s.BM25(method="lucene", k1=1.5, b=0.75)
        index.index(tokens, show_progress=False)
        return LexicalIndex(index, len(texts))

    def scores(self, words: Sequence[str]) -> np.ndarray:
        """BM25 of each document for `words`, each of which counts as often as it is there, [documents] float32."""
        known = [word for word in words if self.index is not None and word and word in self.index.vocab_dict]
        return self.index.get_scores(known) if known else np.zeros(self.n_docs, np.float32)

    def parts(self, words: Sequence[str], rows: np.ndarray) -> dict[str, np.ndarray]:
        """What each different word gives to the scores of `rows`; together they are the scores."""
        return {word: words.count(word) * self.scores([word])[rows] for word in dict.fromkeys(words)}


def words_of(text: str) -> list[str]:
    """The words of a text in lower case, in its order."""
    return _WORD.findall(text.lower())


def places(text: str, words: Sequence[str]) -> Iterator[tuple[int, int, str]]:
    """Where `words` (lower case) stand in a text: start, end, and the word."""
    wanted = set(words)
    for found in _WORD.finditer(text):
        if (word := found.group().lower()) in wanted:
            yield found.start(), found.end(), word


_KNOWN: WeakKeyDictionary[ConceptMatrix, LexicalIndex] = WeakKeyDictionary()
