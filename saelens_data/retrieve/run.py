"""Ranks documents for words, for a concept query or for examples, and says what each was found by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import numpy as np

from saelens_data.concepts import notes_on_fit
from saelens_data.concepts.space import Space, space_of
from saelens_data.errors import InputError, choices
from saelens_data.evidence import column_of
from saelens_data.matrix import ConceptMatrix
from saelens_data.query import Concept, Latent, Leaf, Phrase, Query, concepts_of, evaluate, parse, phrase_note, unparse
from saelens_data.retrieve.by_example import Example, from_examples, rows_of
from saelens_data.retrieve.dense_index import DenseIndex
from saelens_data.retrieve.lexical import LexicalIndex, places, words_of
from saelens_data.retrieve.ranking import FEEDBACK, ConceptArm, DenseArm, Ranker, Ranking, best, evenly, joined
from saelens_data.retrieve.result import EMBEDDING, Hit, RetrieveResult, hit_table

Mode = Literal["hybrid", "concepts", "dense", "lexical"]
MODES: tuple[str, ...] = get_args(Mode)
#: A phrase is half found in a document this many standard deviations above the mean of all, and by how steep a curve.
_HALF, _STEEP = 2.0, 2.0
#: Finds the latents that stand for a part of a query in a document: (part, its share, row) -> columns and shares.
_Witnesses = Callable[[Leaf, float, int], list[tuple[int, float]]]
#: Documents below which no feedback is taken, unless it is asked for.
_FEW = 500
#: Characters of a phrase that a result repeats.
_REPEATED = 200
#: Scores, documents x queries, that are held at a time where several queries are asked.
_TOGETHER = 2**24


def retrieve(
    m: ConceptMatrix,
    query: str | None = None,
    *,
    like: Sequence[str] = (),
    unlike: Sequence[str] = (),
    n: int = 20,
    mode: Mode = "hybrid",
    feedback: int | None = None,
    seed: int = 0,
    index: DenseIndex | None = None,
) -> RetrieveResult:
    """Rank documents for a phrase, for a query of the concept language, or for documents they should (not) be like.

    `mode`: "concepts" scores by concepts that point towards the phrase, "dense" by the reader's embedding, "hybrid"
    by both, "lexical" by the words themselves (BM25). `feedback` documents that come first pull the phrase towards
    them; 0 for none, the default below 500 documents (12 from there on). In a query of several parts, a phrase counts
    by a degree from 0 to 1: 1 / (1 + exp(4 - 2 z)), z being its score in standard deviations above the mean document;
    a latent by its maximum over the largest.
    `seed` draws the documents that examples are told apart from. `index` is one of the matrix' vectors; it serves
    where documents are too many to go through for a phrase. Without one, that of the store is used, and made there the
    first time, if FAISS is installed.

    Raises InputError for an empty phrase, a query that cannot be read, an unknown mode, id or latent, n < 1, a
    matrix without what the mode needs, and an encoder that is not at hand.
    """
    like, unlike = _ids(like), _ids(unlike)
    feedback = _feedback(m, feedback)
    _check(query, like, unlike, n, mode, feedback)
    parts = _Parts(m, mode, feedback, index)
    if query is None:
        return _by_example(parts, like, unlike, n, seed)
    return _by_words(parts, query, parse(query), n)


def retrieve_many(
    m: ConceptMatrix, queries: Sequence[str], *, n: int = 20, mode: Mode = "hybrid", feedback: int | None = None
) -> list[RetrieveResult]:
    """`retrieve` for each of several queries, in their order; documents are scored for all of their phrases at once.

    The results are those of single calls, to rounding. Every document is scored for every phrase, where a single call
    in a very large set scores candidates. Raises InputError for what `retrieve` refuses in any of the queries.
    """
    if isinstance(queries, str):
        raise InputError(f"'{queries[:40]}' is one text: give a list of queries")
    feedback, asked = _feedback(m, feedback), []
    for query in queries:
        _check(query, [], [], n, mode, feedback)
        asked.append((query, parse(query)))
    shared, found = _Parts(m, mode, feedback), []
    together = max(1, _TOGETHER // max(m.n_docs, 1))
    for at in range(0, len(asked), together):
        block = asked[at : at + together]
        for parts, (query, parsed) in zip(_ranked(shared, [parsed for _, parsed in block]), block, strict=True):
            found.append(_by_words(parts, query, parsed, n))
    return found


def _ranked(shared: _Parts, queries: Sequence[Query]) -> list[_Parts]:
    """The parts of each query, with the rankings of its phrases, all made together."""
    wanted = [dict.fromkeys(c for c, _, _ in concepts_of(query) if isinstance(c, Phrase)) for query in queries]
    serves = shared.mode != "lexical" and any(wanted)
    _, ranker = (shared.space, shared.ranker) if serves else (None, None)  # made once, for all
    own = [replace(shared, notes=list(shared.notes), known={}, ranked={}) for _ in queries]
    if ranker is not None:
        phrases = [(parts, phrase) for parts, part in zip(own, wanted, strict=True) for phrase in part]
        found = ranker.rank(np.stack([parts.vector(phrase) for parts, phrase in phrases]))
        for i, (parts, phrase) in enumerate(phrases):
            parts.ranked[phrase] = _one(found, i)
    return own


def _one(found: Ranking, i: int) -> Ranking:
    """The ranking of one query out of several."""
    dense, concepts = (None if part is None else part[:, i : i + 1] for part in (found.dense, found.concepts))
    at = slice(i, i + 1)
    return Ranking(found.queries[at], found.score[:, at], found.factor[at], found.spread[at], dense, concepts)


def _by_words(parts: _Parts, query: str, parsed: Query, n: int) -> RetrieveResult:
    if isinstance(parsed, Phrase):
        hits, fit = _by_phrase(parts, parsed, n), parts.fit
    else:
        hits, fit = _by_query(parts, parsed, n)
    notes = [note for note in (phrase_note(query),) if note] + parts.notes
    if parts.mode in {"concepts", "hybrid"}:
        notes += notes_on_fit(parts.m, [node.text for node, _, _ in concepts_of(parsed) if isinstance(node, Phrase)])
    return _result(parts, hits, n, fit, query=unparse(parsed), notes=notes)


def _ids(given: Sequence[str]) -> list[str]:
    if isinstance(given, str):
        raise InputError(f"'{given[:40]}' is one text: give a list of document ids")
    return [str(doc_id) for doc_id in given]


def _feedback(m: ConceptMatrix, feedback: int | None) -> int:
    """What was asked for, or what measurement favours: in a few hundred documents the first are too often wrong."""
    return (FEEDBACK if m.n_docs >= _FEW else 0) if feedback is None else feedback


def _check(query: str | None, like: list[str], unlike: list[str], n: int, mode: str, feedback: int) -> None:
    if mode not in MODES:
        raise InputError(f"there is no mode '{mode}'; {choices(mode, MODES)}")
    if n < 1:
        raise InputError(f"{n} documents asked for: give 1 or more")
    if feedback < 0:
        raise InputError(f"feedback from {feedback} documents: give 0 or more")
    if query is None and unlike and not like:
        raise InputError("examples of what is not wanted alone say too little: give some of what is")
    if query is None and not like:
        raise InputError("nothing is asked for: give words, or documents that others should be like (--like)")
    if query is not None and (like or unlike):
        raise InputError("give either words to look for or documents that others should be like, and not both")
    if query is not None and not query.strip():
        raise InputError("the phrase is empty: write some words, as in: refuses politely")


@dataclass(eq=False)
class _Parts:
    """What scores need, each made when first asked for."""

    m: ConceptMatrix
    mode: str
    feedback: int
    index: DenseIndex | None = None
    notes: list[str] = field(default_factory=list)
    #: The rankings of the phrases that were asked for by degree.
    known: dict[Concept, Ranking] = field(default_factory=dict)
    #: Rankings made beforehand, with those of other queries.
    ranked: dict[Phrase, Ranking] = field(default_factory=dict)
    _space: Space | None = None
    _ranker: Ranker | None = None

    def __post_init__(self) -> None:
        if self.mode in ("dense", "hybrid") and self.m.vectors is None:
            if self.mode == "dense":
                raise InputError("this store holds no embeddings of its documents: encode them again, or use concepts")
            self.mode = "concepts"
            self.notes.append(
                "The store holds no embeddings of its documents, so concepts alone ranked them: encode them again for "
                "the better hybrid."
            )
        if self.index is not None and len(self.index) != self.m.n_docs:
            raise InputError(f"the index holds {len(self.index):,} documents, the set {self.m.n_docs:,}: make it again")
        if self.mode == "lexical" and "text" not in self.m.docs.columns:
            raise InputError("the texts were not kept with this set, so their words cannot be looked up")
        #: Documents that can be found: those with anything to be found by, [documents] bool.
        self.fit: np.ndarray = np.diff(self.m.X.indptr) > 0

    @property
    def space(self) -> Space:
        self._space = self._space or space_of(self.m)
        return self._space

    @property
    def ranker(self) -> Ranker:
        if self._ranker is None:
            concepts = None if self.mode == "dense" else ConceptArm.of(self.m, self.space.directions)
            dense = None if self.mode == "concepts" else DenseArm.of(self.m, self.index)
            self._ranker = Ranker(self.fit, dense, concepts, self.feedback)
        return self._ranker

    def vector(self, phrase: Phrase) -> np.ndarray:
        """The embedding of a phrase, [dim]; a note if the reader does not read to its end."""
        reader = self.space.reader
        limit = reader.limits["max_tokens"]
        tokens = int(reader.split([phrase.text]).n_tokens.sum())
        if tokens > limit:
            self.notes.append(f"The phrase has {tokens:,} tokens: the first {limit} were read, the others left out.")
        return np.asarray(self.space.embed([phrase.text])[0])

    def degrees(self, concept: Concept) -> np.ndarray:
        """How far each document has a concept, [documents] from 0 to 1."""
        if isinstance(concept, Latent):
            return _latent_degrees(self.m, concept.number)
        if self.mode == "lexical":
            scores = LexicalIndex.of(self.m).scores(words_of(concept.text))
            return np.asarray(scores / max(float(scores.max(initial=0)), 1e-12))
        self.known[concept] = self.ranked.get(concept) or self.ranker.rank(self.vector(concept)[None])
        return degree(self.known[concept].score[:, 0], self.fit)


def document_scores(m: ConceptMatrix, notes: list[str]) -> Callable[[Concept], np.ndarray]:
    """Scores a phrase or latent by a degree from 0 to 1 for each document, as `retrieve` does in a query.

    `notes` gains what to know of them. What is returned raises InputError for a latent that is not there and an
    encoder that is not at hand.
    """
    return _Parts(m, "hybrid", _feedback(m, None), notes=notes).degrees


def _by_phrase(parts: _Parts, phrase: Phrase, n: int) -> list[Hit]:
    if parts.mode == "lexical":
        return _lexical(parts, words_of(phrase.text), n)
    found = parts.ranked.get(phrase) or parts.ranker.rank_one(parts.vector(phrase))
    rows = np.arange(len(parts.fit)) if found.rows is None else found.rows
    order = best(np.where(parts.fit[rows], found.score[:, 0], -np.inf), n)
    arm = parts.ranker.concepts
    weights = _weights(arm, found)
    return [_hit(arm, found, weights, at, int(rows[at])) for at in order.tolist()]


def _hit(arm: ConceptArm | None, found: Ranking, weights: np.ndarray | None, at: int, row: int) -> Hit:
    """Why document `row`, entry `at` of the ranking of one query, scores as it does by `weights` of the latents."""
    named = [] if found.dense is None else [(EMBEDDING, float(found.dense[at, 0]))]
    latents = _shares(arm, found, weights, row)
    return Hit(row, sum(s for _, s in latents) + sum(s for _, s in named), latents, named)


def _shares(arm: ConceptArm | None, found: Ranking, weights: np.ndarray | None, row: int) -> list[tuple[int, float]]:
    if arm is None or weights is None or found.concepts is None:
        return []
    columns, shares = arm.shares(float(found.factor[0]) * weights, row)
    return list(zip(columns.tolist(), shares.tolist(), strict=True))


def _weights(arm: ConceptArm | None, found: Ranking) -> np.ndarray | None:
    return None if arm is None else arm.weights(found.queries)[:, 0]


def _lexical(parts: _Parts, words: list[str], n: int) -> list[Hit]:
    index, texts = LexicalIndex.of(parts.m), parts.m.docs["text"]
    scores = index.scores(words)
    rows = best(np.where(parts.fit & (scores > 0), scores, -np.inf), n)
    given = index.parts(words, rows)
    hits = []
    for i, row in enumerate(rows.tolist()):
        named = [(f"word '{word}'", float(share[i])) for word, share in given.items() if share[i]]
        where = [(start, end) for start, end, _ in places(texts[row] or "", words)]
        hits.append(Hit(row, sum(share for _, share in named), parts=named, places=where))
    return hits


def _by_query(parts: _Parts, query: Query, n: int) -> tuple[list[Hit], np.ndarray]:
    scored = evaluate(query, parts.m.docs, parts.degrees)
    fit = scored.mask & parts.fit
    rows = best(np.where(fit, scored.score, -np.inf), n)
    leaves = scored.explain(rows)
    known = parts.known
    arm = parts.ranker.concepts if known else None
    weights = {concept: _weights(arm, found) for concept, found in known.items()}

    def witnesses(leaf: Leaf, share: float, row: int) -> list[tuple[int, float]]:
        """Columns of the latents whose words show that a wanted part was found, and what each gave."""
        if leaf.sign < 0 or not share:
            return []
        if isinstance(leaf.node, Latent):
            return [(column_of(parts.m, leaf.node.number), share)]
        if not isinstance(leaf.node, Phrase) or leaf.node not in known:
            return []
        given = [(c, s) for c, s in _shares(arm, known[leaf.node], weights[leaf.node], row) if s > 0]
        total = sum(s for _, s in given)
        return [(column, share * s / total) for column, s in given]

    return [_query_hit(leaves, witnesses, at, row) for at, row in enumerate(rows.tolist())], fit


def _query_hit(leaves: list[Leaf], witnesses: _Witnesses, at: int, row: int) -> Hit:
    """A document found by a query: what each of its parts gave, and the words of those that are wanted."""
    named, shown = [], []
    for leaf in leaves:
        share = float(leaf.share[at])
        named.append((("not " if leaf.sign < 0 else "") + unparse(leaf.node), share))
        shown += witnesses(leaf, share, row)
    return Hit(row, sum(share for _, share in named), parts=named, witnesses=shown)


def degree(scores: np.ndarray, fit: np.ndarray) -> np.ndarray:
    """Scores [documents] as degrees from 0 to 1: half at two standard deviations above the mean; 0 where not `fit`."""
    kept = scores[fit]
    if not kept.size or not kept.std():
        return np.zeros(len(scores))
    z = (scores.astype(np.float64) - kept.mean()) / kept.std()
    return np.where(fit, 1 / (1 + np.exp(-_STEEP * (z - _HALF))), 0.0)


def _latent_degrees(m: ConceptMatrix, latent: int) -> np.ndarray:
    column, by = column_of(m, latent), m.by_latent
    part = slice(int(by.ptr[column]), int(by.ptr[column + 1]))
    found = np.zeros(m.n_docs)
    if part.stop > part.start:
        found[by.rows[part]] = by.maximum[part] / by.maximum[part].max()
    return found


def _by_example(parts: _Parts, like: Sequence[str], unlike: Sequence[str], n: int, seed: int) -> RetrieveResult:
    if parts.mode == "lexical":
        raise InputError("documents are like others by their concepts or embeddings: choose another mode than lexical")
    m, arm, dense = parts.m, ConceptArm.of(parts.m, parts.space.directions), parts.ranker.dense
    wanted, unwanted = rows_of(m, like), rows_of(m, unlike)
    vectors = None if dense is None else dense.vectors
    example = from_examples(arm, vectors, wanted, unwanted, fit=parts.fit, seed=seed)
    found = _example_ranking(parts.ranker, arm, example)
    fit = parts.fit.copy()
    fit[np.concatenate([wanted, unwanted])] = False
    rows = best(np.where(fit, found.score[:, 0], -np.inf), n).tolist()
    hits = [_hit(arm, found, example.weights, row, row) for row in rows]
    asked = {"like": list(like), "unlike": list(unlike), "seed": seed}
    return _result(parts, hits, n, fit, query=unparse(example.query(m)), notes=parts.notes, **asked)


def _example_ranking(ranker: Ranker, arm: ConceptArm, example: Example) -> Ranking:
    """Scores of all documents by the weights of concepts, the direction of the embeddings, or both alike."""
    concepts = None if ranker.concepts is None else arm.weighed(example.weights[:, None])
    vector = np.zeros(arm.directions.shape[1]) if example.vector is None else example.vector
    dense = None if ranker.dense is None else ranker.dense.scores(vector[None])
    survey = evenly(len(ranker.fit))
    surveyed = (None if dense is None else dense[survey], None if concepts is None else concepts[survey])
    return joined(vector[None], dense, concepts, surveyed, weight=1.0)


def _result(
    parts: _Parts, hits: list[Hit], n: int, fit: np.ndarray, *, query: str, notes: Sequence[str], **asked: object
) -> RetrieveResult:
    m, shown = parts.m, query if len(query) <= _REPEATED else query[: _REPEATED - 1] + "…"
    if not hits:
        notes = [*notes, "No document has any of what was asked for."]
    made = {"encoder": m.source.encoder, **asked}
    return RetrieveResult(
        frame=hit_table(m, hits),
        parameters={"query": shown, "mode": parts.mode, "n": n, "feedback": parts.feedback, **made},
        notes=tuple(notes),
        query=shown,
        mode=parts.mode,
        n_docs=int(fit.sum()),
        prompts=_prompts(m, hits),
        docs=m.docs[[hit.row for hit in hits]],
    )


def _prompts(m: ConceptMatrix, hits: Sequence[Hit]) -> dict[str, str]:
    if "prompt" not in m.docs.columns:
        return {}
    ids, prompts = m.docs["doc_id"], m.docs["prompt"]
    return {ids[hit.row]: str(prompts[hit.row]) for hit in hits if prompts[hit.row] is not None}
