"""What a phrase asks for: an axis that the package knows, the topic, a list of values, or just a phrase."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from saelens_data.cluster.contrasts import axis_names, values_of
from saelens_data.concepts.space import Space

#: What a text is about: no axis of form, so it has no contrast texts; it is what other axes leave.
TOPIC = "topic"
#: Words that each axis goes by. A phrase of these words, with or without those of `_PLAIN`, names the axis.
_WORDS = {
    TOPIC: "topic topics subject subjects theme themes matter content contents domain field about",
    "style": "style styles genre genres form forms format type types literary stylistic register kind kinds",
    "language": "language languages tongue linguistic",
    "tone": "tone tones voice mood moods emotion emotions emotional feeling feelings",
    "formality": "formality formal informal register formalness",
    "sentiment": "sentiment sentiments polarity valence opinion positive negative",
    "reasoning strategy": "reasoning strategy strategies argument argumentation logic proof approach",
    "purpose": "purpose purposes intent intents intention intentions goal goals function speech act acts",
    "audience": "audience audiences readership readers reader level difficulty",
    "point of view": "point view person perspective narrator grammatical viewpoint",
    "certainty": "certainty confidence hedging uncertainty confident hedged doubt",
    "politeness": "politeness polite rude rudeness courtesy civility",
    "time": "time tense tenses temporal past present future",
    "layout": "layout structure formatting format markdown",
}
#: Words beside those that change nothing; they name no axis alone.
_PLAIN = frozenset(
    "a an and or the of in by its it is are what how which they text texts document documents writing written write "
    "used use spoken main general overall writer author's writer's answers answer response responses".split()
)
_OWN = {name: frozenset(words.split()) for name, words in _WORDS.items()}
#: How near a phrase must be to the name of a value to stand for it (cosine of the reader's embeddings).
_NEAR = 0.55
_SEPARATORS = re.compile(r"\s*(?:,|;|/|\bversus\b|\bvs\.?(?=\s))\s*", re.IGNORECASE)
#: Words that one value of a list may have.
_VALUE_WORDS = 6


@dataclass(frozen=True)
class Asked:
    """A phrase as it was understood: `axis` is a known axis or TOPIC, or None; `values` what it lists, if anything."""

    phrase: str
    axis: str | None
    values: tuple[str, ...] = ()


def understand(phrase: str, space: Space | None) -> Asked:
    """Read a phrase. `space` compares listed values with those of the known axes; without it only their words do."""
    line = " ".join(phrase.split())
    if found := named(line):
        return Asked(line, found)
    head, colon, rest = line.partition(":")
    values = listed(rest if colon else line)
    if colon and values and (found := named(head)):
        own = matched(values, found, space)
        return Asked(line, found, own) if own else Asked(line, None, values)
    if not values:
        return Asked(line, None)
    for name in axis_names():
        known = matched(values, name, None)
        if known:
            return Asked(line, name, known)
    if space is not None and (best := _nearest_axis(values, space)):
        return Asked(line, *best)
    return Asked(line, None, values)


def named(phrase: str) -> str | None:
    """The axis that a phrase is a name of, or None. Every word must be one of the axis' or plain."""
    words = re.findall(r"[^\W\d_]+(?:'s)?", phrase.lower())
    telling = [word for word in words if word not in _PLAIN]
    if not telling:
        return None
    fitting = [name for name, own in _OWN.items() if own.issuperset(telling)]
    # A word that is the name of an axis decides before one that two axes share.
    direct = [name for name in fitting if set(telling) & set(name.split())]
    return next(iter(direct or fitting), None)


def listed(phrase: str) -> tuple[str, ...]:
    """The values that a phrase lists, such as "poem, rap, screenplay"; none if it is no list of short items."""
    items = [re.sub(r"^(?:and|or)\s+", "", item, flags=re.IGNORECASE) for item in _SEPARATORS.split(phrase) if item]
    if len(items) < 2 or any(len(item.split()) > _VALUE_WORDS for item in items):
        return ()
    # "A, b and c" has three items, "world news, sports, science and technology" has three, too.
    last = re.split(r"\s+(?:and|or)\s+", items[-1], flags=re.IGNORECASE)
    if len(last) == 2 and all(len(item.split()) == 1 for item in (*items[:-1], *last)):
        items[-1:] = last
    return tuple(dict.fromkeys(items))


def matched(values: Sequence[str], axis: str, space: Space | None) -> tuple[str, ...] | None:
    """The axis' own values that all of `values` stand for, two or more; None if some stand for none."""
    if axis == TOPIC:
        return None
    own = values_of(axis)
    by_word = {key: name for name in own for key in {_plain(name), *map(_plain, _parts(name))}}
    found = [by_word.get(_plain(value)) for value in values]
    if space is not None and None in found:
        near = space.embed(list(values)) @ space.embed(list(own)).T
        found = [
            name or (own[int(row.argmax())] if row.max() >= _NEAR else None)
            for name, row in zip(found, near, strict=True)
        ]
    if None in found or len(set(found)) < 2:
        return None
    return tuple(name for name in own if name in found)


def _nearest_axis(values: Sequence[str], space: Space) -> tuple[str, tuple[str, ...]] | None:
    """The axis whose values the listed ones are nearest to, if all of them are near to one."""
    mine, best, most = space.embed(list(values)), None, 0.0
    for name in axis_names():
        if found := matched(values, name, space):
            near = float(np.mean((mine @ space.embed(list(values_of(name))).T).max(axis=1)))
            if near > most:
                best, most = (name, found), near
    return best


def _plain(value: str) -> str:
    word = value.lower().strip()
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word


def _parts(name: str) -> list[str]:
    return re.split(r"\s+or\s+", name)
