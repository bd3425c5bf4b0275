"""Part of a text around the words that count, cut between words and marked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

#: A cut moves this many characters at most to fall between two words.
_SLACK = 24


@dataclass(frozen=True)
class Stretch:
    """Part of a text: `kind` is "mark" for evidence, "cut" where something is left out, else empty."""

    text: str
    kind: str = ""
    #: What these words are evidence of.
    title: str = ""


#: Words that count: where they begin and end in the text, and what they are evidence of.
Marked = tuple[int, int, str]


def stretches(text: str, spans: Sequence[Marked], chars: int, *, places: int = 3) -> Iterator[Stretch]:
    """About `chars` characters of a text in up to `places` places, its spans marked; the weightiest span first."""
    end = 0
    for low, high in _places(text, [(first, last) for first, last, _ in spans][:places], chars):
        if low > end:
            yield Stretch(" … " if end else "… ", "cut")
        yield from _marked(text, low, high, sorted(spans))
        end = high
    if end < len(text):
        yield Stretch(" …", "cut")


def between_words(text: str, low: int, high: int, start: int, end: int) -> tuple[int, int]:
    """Move the cuts `low` <= start and `high` >= end inwards by some characters at most, to white space."""
    if low > 0 and (space := _first_space(text[low : min(low + _SLACK, start)])) >= 0:
        low += space + 1
    if high < len(text) and (space := _first_space(text[max(high - _SLACK, end) : high][::-1])) >= 0:
        high -= space + 1
    return low, high


def short(text: str, most: int) -> str:
    """The beginning of a text, with an ellipsis where it goes on."""
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def _first_space(text: str) -> int:
    return next((i for i, character in enumerate(text) if character.isspace()), -1)


def _marked(text: str, low: int, high: int, spans: Sequence[Marked]) -> Iterator[Stretch]:
    at = low
    for start, end, title in spans:
        first, last = max(start, at), min(end, high)
        if first < last:
            yield Stretch(text[at:first])
            yield Stretch(text[first:last], "mark", title)
            at = last
    yield Stretch(text[at:high])


def _places(text: str, spans: Sequence[tuple[int, int]], chars: int) -> list[tuple[int, int]]:
    """Where to cut a text: one place that holds the weightiest span and, if they lie too far apart, one for others."""
    if len(text) <= chars:
        return [(0, len(text))]
    if not spans:
        return [_around(text, 0, 0, chars)]
    for n in range(1, len(spans) + 1):
        places = _chosen(text, spans, n, chars // n)
        if all(_holds(places, start) for start, _ in spans):
            break
    return _joined(places)


def _chosen(text: str, spans: Sequence[tuple[int, int]], n: int, chars: int) -> list[tuple[int, int]]:
    """Up to `n` places of `chars` characters each, around the spans that no place before them holds."""
    places: list[tuple[int, int]] = []
    for start, end in spans:
        if len(places) < n and not _holds(places, start):
            places.append(_around(text, start, end, chars))
    return places


def _holds(places: Sequence[tuple[int, int]], at: int) -> bool:
    return any(low <= at < high for low, high in places)


def _around(text: str, start: int, end: int, chars: int) -> tuple[int, int]:
    """About `chars` characters with as much before [start, end) as after it; a longer one is cut."""
    whole, end = end <= start + chars, min(end, start + chars)
    low = max(0, min(start - (chars - (end - start)) // 2, len(text) - chars))
    return between_words(text, low, min(len(text), low + chars), start, end if whole else start)


def _joined(places: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """In the order of the text; those that meet are one."""
    joined: list[tuple[int, int]] = []
    for low, high in sorted(places):
        if joined and low <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(high, joined[-1][1])
        else:
            joined.append((low, high))
    return joined
