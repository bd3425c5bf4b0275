"""What is asked of a model for one latent: a label, and verdicts on it and on the label it would replace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from saelens_data.labels.client import Message
from saelens_data.labels.prompting import detecting, fuzzing, labelling
from saelens_data.labels.sample import Excerpt, Sample
from saelens_data.labels.score import Score, agreement
from saelens_data.labels.shapes import naming_shape, verdicts_shape
from saelens_data.wording import one_line

#: Texts that one call judges.
BATCH = 8
#: The most tokens of an answer: a label with its explanation; verdicts, and for each text.
NAMING_TOKENS, VERDICT_TOKENS, PER_TEXT = 500, 100, 25


class Asks(Protocol):
    """Where answers come from: `ask.Asker`, or what counts calls instead."""

    def ask(self, messages: Sequence[Message], shape: type[Any], *, most_written: int, good: Any = ...) -> Any:
        """The answer in a shape, or why there is none."""


@dataclass(frozen=True)
class Judged:
    """Verdicts of one kind on one label: `said` is aligned with `texts` and `truth`; None where there is none."""

    texts: tuple[Excerpt, ...] = ()
    truth: tuple[bool, ...] = ()
    said: tuple[bool | None, ...] = ()
    #: Why verdicts are missing: the reasons, and for how many texts.
    reasons: dict[str, int] = field(default_factory=dict)

    @property
    def score(self) -> Score:
        """The verdicts against the truth."""
        return agreement(self.truth, self.said)


@dataclass(frozen=True)
class Worked:
    """All that was asked for one latent. `why`: why there is no label, if there is none."""

    latent: int
    label: str | None = None
    explanation: str | None = None
    properties: str | None = None
    why: str | None = None
    detection: Judged = field(default_factory=Judged)
    fuzzing: Judged = field(default_factory=Judged)
    baseline: Judged = field(default_factory=Judged)


def work_on(sample: Sample, baseline: str | None, asks: Asks, seed: int) -> Worked:
    """Label one latent and judge the label, and the one it would replace on the same documents.

    Nothing of another latent is in any of the calls, so that no document speaks to what it is no evidence of.
    """
    if sample.lacking:
        return Worked(sample.latent, why=sample.lacking)
    reply = asks.ask(labelling(sample.shown), naming_shape(), most_written=NAMING_TOKENS, good=_is_label)
    if reply.value is None or not _is_label(reply.value):
        return Worked(sample.latent, why=reply.missing or "the label is empty")
    named = reply.value
    label = one_line(named.label)
    held = tuple((e, e.active) for e in sample.held)
    chance = np.random.default_rng([seed, sample.latent, 1])
    detection = _judge(asks, detecting, label, _shuffled(held, chance))
    chance = np.random.default_rng(
        [seed, sample.latent, 1]
    )  # the baseline is judged in the same calls but for the label
    before = _judge(asks, detecting, baseline, _shuffled(held, chance)) if baseline else Judged()
    chance = np.random.default_rng([seed, sample.latent, 2])
    marks = _judge(asks, fuzzing, label, _shuffled(sample.marked, chance))
    explanation = one_line(named.explanation)
    return Worked(sample.latent, label, explanation, named.properties, None, detection, marks, before)


def _is_label(named: Any) -> bool:
    return any(c.isalnum() for c in named.label)


def _shuffled(items: Sequence[tuple[Excerpt, bool]], chance: np.random.Generator) -> tuple[tuple[Excerpt, bool], ...]:
    return tuple(items[at] for at in chance.permutation(len(items)).tolist())


def _judge(asks: Asks, prompt: Any, label: str, items: Sequence[tuple[Excerpt, bool]]) -> Judged:
    said, reasons = judge_texts(asks, prompt, label, [e for e, _ in items])
    return Judged(tuple(e for e, _ in items), tuple(there for _, there in items), tuple(said), reasons)


def judge_texts(asks: Asks, prompt: Any, label: str, texts: Sequence[Any]) -> tuple[list[bool | None], dict[str, int]]:
    """A verdict on each text, None where there is none, and why verdicts are missing: reasons, and how many each."""
    said: list[bool | None] = []
    reasons: dict[str, int] = {}
    for first in range(0, len(texts), BATCH):
        batch = texts[first : first + BATCH]
        n = len(batch)
        reply = asks.ask(
            prompt(label, batch),
            verdicts_shape(),
            most_written=VERDICT_TOKENS + PER_TEXT * n,
            good=lambda value, n=n: None not in verdicts(value, n, strict=True),
        )
        found = [None] * n if reply.value is None else verdicts(reply.value, n)
        if lost := found.count(None):
            why = reply.missing or "undecided"
            reasons[why] = reasons.get(why, 0) + lost
        said += found
    return said, reasons


def verdicts(value: Any, n: int, *, strict: bool = False) -> list[bool | None]:
    """Verdicts on texts 1 to n: None where a text has none, or two that differ.

    `strict`: a null of the judge's own is a verdict (False here) too, so that None means that the text was passed over.
    """
    found: list[bool | None] = [None] * n
    told: dict[int, set[bool | None]] = {}
    for one in value.answers:
        told.setdefault(one.text, set()).add(one.answer)
    for number, answers in told.items():
        if 1 <= number <= n and len(answers) == 1:
            (answer,) = answers
            found[number - 1] = bool(answer) if strict else answer
    return found
