"""Texts of documents inside a prompt: fenced as data, and checked for words that speak to the model.

The fence is a word that no text can hold: a hash of all of them. So a document cannot close it, and the same evidence
makes the same prompt.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from saelens_data.labels.journal import hash_of

#: How the evidence within a text is marked; a text that holds such marks gets others in their place.
OPEN, CLOSE = "<<", ">>"
_LOOKALIKE = str.maketrans({"<": "‹", ">": "›"})
_MARKS = re.compile(r"<{2,}|>{2,}")
#: What speaks to a model rather than to a reader. Wide on purpose: a flag costs one of many examples.
_MODEL = r"(?:ai|llm|language\s+model|model|labell?er|judge|grader|annotator)"
_REFERRED = "instructions?|prompts?|rules|directions|guidelines|examples|above|previous|prior|preceding"
_STEERING = re.compile(
    "|".join(
        (
            r"\b(?:ignore|disregard|forget|override|bypass)\b[^.!?\n]{0,50}\b(?:" + _REFERRED + r")\b",
            r"\b(?:answer|respond|reply|output|label|say)\b[\s:]*(?:(?:only|exactly|just|this|it|with|as)\b[\s:]*)*[\"'“‘]",
            r"\b(?:new|updated|real|actual|hidden|secret)\s+(?:system\s+)?(?:instructions?|prompt|task)\b",
            r"\b(?:system|developer)\s+(?:prompt|message|instructions?)\b",
            r"\byou\s+(?:are|must|will|should)\s+(?:now|instead|hereby|no\s+longer)\b",
            rf"\b(?:note|message|instructions?|attention|dear|hey)\s+(?:(?:to|for)\s+)?(?:the\s+|any\s+|all\s+)?{_MODEL}s?\b",
            r"<\|?\s*/?\s*(?:im_start|im_end|system|endofprompt|start_header_id|eot_id)\b|\[/?INST\]|<</?SYS>>",
            r"^\s*(?:#+\s*)?(?:system|developer)\s*:",
        )
    ),
    re.IGNORECASE | re.MULTILINE,
)


def steers(text: str) -> bool:
    """Whether a text holds words that look like instructions to a model. It may do so for good reasons."""
    return _STEERING.search(text) is not None


def fence_of(texts: Sequence[str]) -> str:
    """A word that occurs in none of the texts, and that the writer of one could not have known."""
    return f"DATA-{hash_of(texts)[:16]}"


def tame(text: str) -> str:
    """A text without marks of ours and without control characters, which a terminal or a template might obey."""
    shown = _MARKS.sub(lambda found: found.group().translate(_LOOKALIKE), text)
    return "".join(c if c.isprintable() or c in "\n\t" else " " for c in shown)
