"""Cut a text into sentence-sized spans with exact character offsets, in time linear in its length.

Every character that is not white space lies in exactly one span; spans never begin or end in white space.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

#: No span is longer, whatever the text; the reader may cut further to what its model reads.
MAX_CHARS = 1000
#: A sentence shorter than this joins what follows on its line ("1.", "Dr.", "Sure!").
MIN_SENTENCE = 8
#: A line shorter than this joins the next line of its paragraph (lists, verse).
MIN_LINE = 48
#: Lines of code, between fences or indented, join up to this length: one alone says little.
MIN_CODE = 160

# A run of stops, then closing marks, then white space; the look-behind starts each run once, which keeps this linear.
_STOP = re.compile(r"(?<![.!?…])[.!?…]++[\"'”’»)\]*_`]*+(?=\s|$)|(?<![。！？])[。！？]++[”’』」）]*+")
_ABBREVIATION = re.compile(
    r"(?:^|[\s(\"'“])(?:[A-Z]|[A-Za-z]\.[A-Za-z]|mr|mrs|ms|dr|prof|st|vs|etc|no|fig|jr|sr|inc|ltd|co|approx|cf|al|"
    r"gen|col|lt|sgt|capt|rev|hon|sen|rep|gov|u\.s|jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec)\.$"
    r"|(?:^|\n)[\s>*#-]*\d{1,3}\.$",
    re.IGNORECASE,
)


_NOT_SPACE = re.compile(r"\S")

#: How long an open span must be for a piece of this kind to close it.
_CLOSES_AT = {"sentence": MIN_SENTENCE, "line": MIN_LINE, "wrapped": MAX_CHARS, "code": MIN_CODE}


def split_spans(text: str) -> list[tuple[int, int]]:
    """Return (start, end) of each span of `text`, in order."""
    spans: list[tuple[int, int]] = []
    start = end = -1
    for piece_start, piece_end, kind in _pieces(text):
        if kind != "paragraph":
            start, end = (piece_start if start < 0 else start), piece_end
        if start >= 0 and (kind == "paragraph" or end - start >= _CLOSES_AT[kind]):
            spans.extend(_at_most(text, start, end))
            start = -1
    if start >= 0:
        spans.extend(_at_most(text, start, end))
    return spans


def _pieces(text: str) -> Iterator[tuple[int, int, str]]:
    """Yield pieces as (start, end, "sentence" | "line" | "wrapped" | "code"), and "paragraph" at a blank line."""
    position, length, fenced = 0, len(text), False
    while position < length:
        newline = text.find("\n", position)
        line_end = length if newline < 0 else newline
        start, end = _first_mark(text, position, line_end), position + len(text[position:line_end].rstrip())
        if start >= end:
            yield 0, 0, "paragraph"
        fence = text.startswith("```", start)
        if fence or fenced or text.startswith(("    ", "\t"), position):
            fenced ^= fence
            if start < end:
                yield start, end, "sentence" if fence and not fenced else "code"
        else:
            yield from _sentences(text, position, start, end)
        position = line_end + 1


def _sentences(text: str, line: int, start: int, end: int) -> Iterator[tuple[int, int, str]]:
    """The sentences of a line that begins at `line` and whose marks lie in [start, end)."""
    for stop in _STOP.finditer(text, start, max(start, end)):
        if stop.end() < end and _is_sentence_end(text, stop.start(), stop.end()):
            yield start, stop.end(), "sentence"
            start = _first_mark(text, stop.end(), end)
    if start < end:
        yield start, end, _kind_of_line(text, line, end)


def _kind_of_line(text: str, start: int, end: int) -> str:
    if text[end - 1] in ".!?…。！？:":
        return "sentence"
    hard_wrapped = end - start >= MIN_LINE and text[end : end + 2].strip()[:1].islower()
    return "wrapped" if hard_wrapped else "line"


def _is_sentence_end(text: str, stop: int, cut: int) -> bool:
    following = text[cut : cut + 2].lstrip()[:1]
    return not following.islower() and (
        text[stop] != "." or not _ABBREVIATION.search(text[max(0, stop - 8) : stop + 1])
    )


def _first_mark(text: str, start: int, end: int) -> int:
    """Position of the first character in [start, end) that is not white space, else `end`."""
    found = _NOT_SPACE.search(text, start, end)
    return found.start() if found else end


def _at_most(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Cut a long span at the last white space before MAX_CHARS characters, or hard where there is none."""
    while end - start > MAX_CHARS:
        head = text[start : start + MAX_CHARS]
        space = max(head.rfind(" "), head.rfind("\n"))
        size = len(head[:space].rstrip()) if space > 0 else MAX_CHARS
        yield start, start + size
        start = _first_mark(text, start + size, end)
    if start < end:
        yield start, end
