"""How a result was made, in the words of its page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Words for keys that do not speak for themselves.
_TERMS = {
    "by": "sets by",
    "against": "each against",
    "pair_on": "paired on",
    "cluster_on": "clustered on",
    "adjust": "adjusted for, besides length",
    "concepts": "concepts in all",
    "tested": "concepts tested",
    "untestable": "concepts not tested",
    "tests": "tests (what q is corrected for)",
    "grouped": "near-duplicates grouped",
    "groups": "groups tested (what q is corrected for)",
    "held_out": "documents held out",
    "reader_sha256": "reader's weights (SHA-256)",
    "sae": "SAE",
    "sae_sha256": "SAE's weights (SHA-256)",
    "dtype": "arithmetic",
    "n": "documents asked for",
    "feedback": "first documents that pull the phrase",
    "unlike": "and unlike",
}


def parameters_in_words(parameters: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Terms and values, in their order."""
    return [(_TERMS.get(key, key.replace("_", " ")), in_words(value)) for key, value in parameters.items()]


def in_words(value: Any) -> str:
    """A value as a reader takes it: 1,000, yes, none, a list with commas."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key.replace('_', ' ')} {item}" for key, item in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(in_words, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return "none" if value is None else str(value)
