"""The concept query language: one grammar for retrieve, cluster, diff and correlate. `docs/query.md` describes it."""

from saelens_data.query.evaluate import Leaf, Scored, concepts_of, evaluate, mask
from saelens_data.query.reading import parse, phrase_note
from saelens_data.query.syntax import (
    And,
    Column,
    Concept,
    Latent,
    Not,
    Or,
    Percentile,
    Phrase,
    Query,
    Scalar,
    Threshold,
    Weighted,
    unparse,
)

__all__ = [
    "And",
    "Column",
    "Concept",
    "Latent",
    "Leaf",
    "Not",
    "Or",
    "Percentile",
    "Phrase",
    "Query",
    "Scalar",
    "Scored",
    "Threshold",
    "Weighted",
    "concepts_of",
    "evaluate",
    "mask",
    "parse",
    "phrase_note",
    "unparse",
]
