"""From excerpts to messages: the templates in prompts/, with every text of a document fenced as data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saelens_data.labels.client import Message
from saelens_data.labels.fence import CLOSE, OPEN, fence_of, tame
from saelens_data.labels.sample import Excerpt

if TYPE_CHECKING:
    from jinja2 import Template

_FOLDER = Path(__file__).with_name("prompts")
#: Parts the instructions from the evidence in a template.
_BORDER = "=== user ===\n"


@dataclass(frozen=True)
class _Shown:
    """An excerpt as a template shows it."""

    level: int
    whole: str
    marked: str


def labelling(shown: Sequence[Excerpt]) -> tuple[Message, ...]:
    """Ask for the label of one latent."""
    parts = [_shown(e) for e in shown if e.active], [_shown(e) for e in shown if not e.active]
    fence = fence_of([e.marked for part in parts for e in part])
    return _messages("label", fence, active=parts[0], silent=parts[1])


def detecting(label: str, texts: Sequence[Excerpt]) -> tuple[Message, ...]:
    """Ask of which texts a label is true (detection: Paulo et al. 2024, arXiv 2410.13928, section 4)."""
    return _judging("detection", label, [tame(e.whole) for e in texts])


def fuzzing(label: str, texts: Sequence[Excerpt]) -> tuple[Message, ...]:
    """Ask in which texts the words marked are those that a label speaks of (fuzzing: the same paper)."""
    return _judging("fuzzing", label, [_shown(e).marked for e in texts])


def hypothesising(
    findings: Sequence[tuple[str, str, Sequence[Excerpt]]], names: tuple[str, str], most: int
) -> tuple[Message, ...]:
    """Ask what explains findings, each (the set it favours, its label, excerpts that show it)."""
    shown = [
        {"favours": tame(favours), "label": tame(label), "texts": [_shown(e).marked for e in excerpts]}
        for favours, label, excerpts in findings
    ]
    texts = [text for f in shown for text in (str(f["label"]), *f["texts"])]
    first, second = (tame(name) for name in names)
    return _messages("hypotheses", fence_of(texts), findings=shown, names=(first, second), most=most)


def checking(statement: str, texts: Sequence[str]) -> tuple[Message, ...]:
    """Ask of which whole texts a statement is true."""
    return _judging("detection", statement, [tame(text) for text in texts])


def _judging(name: str, label: str, texts: Sequence[str]) -> tuple[Message, ...]:
    said = tame(label)
    return _messages(name, fence_of([said, *texts]), label=said, texts=texts)


def _shown(e: Excerpt) -> _Shown:
    before, text, after = tame(e.before), tame(e.text), tame(e.after)
    return _Shown(e.level, before + text + after, f"{before}{OPEN}{text}{CLOSE}{after}")


def _messages(name: str, fence: str, **values: Any) -> tuple[Message, ...]:
    said = (part.render(fence=fence, open=OPEN, close=CLOSE, **values).strip() for part in _templates(name))
    return tuple({"role": role, "content": text} for role, text in zip(("system", "user"), said, strict=True))


@cache
def _templates(name: str) -> tuple[Template, ...]:
    from jinja2 import Environment, StrictUndefined  # noqa: PLC0415

    # Plain text for a model, in which nothing is escaped: what is rendered never becomes HTML.
    made = Environment(undefined=StrictUndefined, autoescape=False, keep_trailing_newline=True)  # noqa: S701
    source = (_FOLDER / f"{name}.j2").read_text(encoding="utf-8")
    return tuple(made.from_string(part) for part in source.split(_BORDER))
