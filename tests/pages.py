"""Pages as a parser reads them, and comparisons of a few words to make pages of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser

import polars as pl
from keywords import keyword_matrix

from saelens_data.diff.two import DiffResult, diff

VOID = {"meta", "link", "input", "rect", "line", "circle"}
PROMPTS = [f"What of number {i}?" for i in range(20)]
WORDS = {5: "tea", 9: "coffee", 12: "milk"}
#: "cup" is only ever said with "tea".
GROUPED = {5: "tea", 6: "cup", 9: "coffee"}


def answers(words: Sequence[str], filler: str = "Some more words stand here.") -> list[str]:
    """Documents of two sentences, the second with one of the words."""
    return [f"{filler} Here is number {i}: {word} comes last." for i, word in enumerate(words)]


def stronger(more: str, fewer: str, pair_on: str | None = None) -> DiffResult:
    """All documents name tea; 18 of 20 of the set `old` more often."""
    old = keyword_matrix(answers([more] * 18 + [fewer] * 2), {5: "tea"}, prompt=PROMPTS)
    new = keyword_matrix(answers([fewer] * 18 + [more] * 2), {5: "tea"}, prompt=PROMPTS)
    return diff(old, new, pair_on=pair_on, names=("old", "new"))


def with_(result: DiffResult, **columns: object) -> DiffResult:
    """The same with these values in all rows."""
    types = {"explained_by": pl.String, "undecided": pl.Boolean, "confirmed": pl.Boolean, "label": pl.String}
    values = [pl.lit(value, types.get(name, pl.Float64)).alias(name) for name, value in columns.items()]
    return replace(result, frame=result.frame.with_columns(values))


def of_groups() -> DiffResult:
    """A finding of two latents and one of one."""
    a = keyword_matrix(answers(["tea and a cup"] * 15 + ["milk"] * 5), GROUPED, prompt=PROMPTS)
    b = keyword_matrix(answers(["coffee"] * 12 + ["milk"] * 6 + ["tea"] * 2), GROUPED, prompt=PROMPTS)
    return diff(a, b, pair_on="prompt", names=("old", "new"))


class Page(HTMLParser):
    """Elements of a page, checked to be balanced: (tag, attributes, the text inside)."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None], list[str]]] = []
        self._open: list[int] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs), []))
        if tag not in VOID:
            self._open.append(len(self.elements) - 1)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs), []))

    def handle_endtag(self, tag: str) -> None:
        assert self.elements[self._open.pop()][0] == tag
        if tag in ("td", "th"):
            self.handle_data(" ")

    def handle_data(self, data: str) -> None:
        for index in self._open:
            self.elements[index][2].append(data)

    def texts(self, tag: str, class_: str | None = None) -> list[str]:
        return [
            " ".join("".join(text).split())
            for name, attributes, text in self.elements
            if name == tag and (class_ is None or class_ in (attributes.get("class") or "").split())
        ]
