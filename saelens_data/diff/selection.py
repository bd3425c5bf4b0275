"""Sets of documents chosen by a concept query, and what a comparison of such sets must not test.

Who splits documents by a concept and then tests that concept finds what the split has made. So the latents that a
query asks for, those that fit its phrases, and the near-duplicates of both have no part in the comparison.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl

from saelens_data.concepts import find_concepts
from saelens_data.diff.grouping import group_latents
from saelens_data.errors import InputError
from saelens_data.evidence import column_of
from saelens_data.matrix import ConceptMatrix
from saelens_data.query import Concept, Latent, Phrase, Query, Threshold, concepts_of, mask, parse, unparse
from saelens_data.query.syntax import And, Not, Or, Weighted, shown, wrong
from saelens_data.retrieve import document_scores
from saelens_data.wording import count

#: Latents and characters of a label that a note lists.
_LISTED, _CHARS = 12, 40
_OF_PHRASES = (
    "A phrase chooses by all that points towards it, so the findings describe which documents were chosen: that they "
    "differ at all is no discovery."
)


def select(m: ConceptMatrix, query: str) -> ConceptMatrix:
    """The documents for which a concept query holds, such as '"refusal" > p90 and model = \\'A\\''.

    Concepts are scored as `retrieve` scores them in a query, over the documents of `m`; percentiles are of these.
    A comparison of sets that were chosen so must leave out what they were chosen by: `split_by_concepts` does.

    Raises InputError for what is no query, for a concept without a level (it would hold for every document), a column
    or latent that is not there, and an encoder that is not at hand.
    """
    return m.take_docs(np.flatnonzero(mask(read_conditions(query), m.docs, document_scores(m, []))))


def split_by_concepts(m: ConceptMatrix, where: str, versus: str) -> tuple[ConceptMatrix, ConceptMatrix, list[str]]:
    """The documents for which each of two queries holds, without the concepts they were chosen by, and notes.

    Raises InputError as `select` does.
    """
    queries = [read_conditions(text) for text in (where, versus)]
    notes: list[str] = []
    of_phrases: list[str] = []
    score = document_scores(m, of_phrases)
    chosen = [np.flatnonzero(mask(query, m.docs, score)) for query in queries]
    concepts = list(dict.fromkeys(concept for query in queries for concept in _concepts(query)))
    asked = _asked(m, concepts, notes)
    if asked.any():
        notes.append(_note(m, asked))
    if any(isinstance(concept, Phrase) for concept in concepts):
        notes += [_OF_PHRASES, *dict.fromkeys(of_phrases)]
    kept = m.concepts["latent"].filter(pl.Series(~asked))
    tested = m.filter_concepts(pl.col("latent").is_in(kept.implode())) if asked.any() else m
    first, second = (tested.take_docs(rows) for rows in chosen)
    return first, second, notes


def read_conditions(text: str) -> Query:
    """A query that holds for a document or does not. Raises InputError where a concept counts by degree."""
    query = parse(text)
    if by_degree := concepts_of(query):
        concept = by_degree[0][0]
        raise wrong(
            f"{shown(unparse(concept))} holds for every document by some degree, so it cannot choose documents; add a "
            "level after it, such as > p90",
            concept.at,
        )
    return query


def concepts_in(text: str) -> list[Concept]:
    """The concepts that a query asks for, in its order; none for what is no query."""
    try:
        return list(_concepts(parse(text)))
    except InputError:
        return []


def _concepts(node: Query) -> Iterator[Concept]:
    match node:
        case Phrase() | Latent():
            yield node
        case Threshold(concept):
            yield concept
        case Not(part) | Weighted(_, part):
            yield from _concepts(part)
        case And(parts) | Or(parts):
            for part in parts:
                yield from _concepts(part)


def _asked(m: ConceptMatrix, concepts: list[Concept], notes: list[str]) -> np.ndarray:
    """The latents that `concepts` are, that fit them, and the near-duplicates of both, [latents] bool."""
    asked = np.zeros(m.n_concepts, dtype=bool)
    for concept in concepts:
        if isinstance(concept, Latent):
            asked[column_of(m, concept.number)] = True
            continue
        found = find_concepts(m, concept.text, n=m.n_concepts)
        if not found.fits:
            notes.append(f"No concept fits {shown(unparse(concept))}: its level may say little of these documents.")
        fitting = found.frame.filter("fits")["latent"].implode()
        asked |= m.concepts.select(pl.col("latent").is_in(fitting)).to_series().to_numpy()
    if asked.any():
        group = group_latents((m,)).of[: m.n_concepts]
        asked = np.isin(group, group[asked])
    return asked


def _note(m: ConceptMatrix, asked: np.ndarray) -> str:
    """Which concepts have no part in the comparison, the most frequent first."""
    columns = np.flatnonzero(asked)
    columns = columns[np.argsort(-m.density()[columns], kind="stable")]
    latents = m.concepts["latent"]
    labels = m.concepts["label"] if "label" in m.concepts.columns else pl.Series([None] * m.n_concepts)
    named = [
        f"{latents[i]} ({labels[i][:_CHARS]})" if labels[i] else str(latents[i]) for i in columns[:_LISTED].tolist()
    ]
    more = f" and {len(columns) - _LISTED:,} more" if len(columns) > _LISTED else ""
    left_out = count(len(columns), "concept")
    return (
        f"The sets were chosen by concepts, so {left_out} that the queries ask for, or that are near-duplicates of "
        f"these, have no part in the tests: {', '.join(named)}{more}."
    )
