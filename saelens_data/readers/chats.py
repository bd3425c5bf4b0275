"""Conversations as the model reads them: its own chat template, and where in it each turn's words stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from itertools import count
from typing import Any, NamedTuple, Protocol

#: Stands for the date of the day that some templates print: the same texts must give the same numbers tomorrow.
FIXED_DATE = datetime(2024, 7, 26)
#: What a template can ask `strftime_now` for. It is a function, which takes the place of transformers' own only as a
#: macro at the head of the template: variables must be plain data.
_DATE_CODES = ("-d", "-m", "d", "m", "Y", "y", "B", "b", "A", "a", "H", "I", "M", "S", "p", "j", "e", "Z", "z", "F")
_STRFTIME = (
    "{% macro strftime_now(format) %}{{ format"
    + "".join(f"|replace('%{code}', '{FIXED_DATE.strftime('%' + code)}')" for code in _DATE_CODES)
    + " }}{% endmacro %}\n"
)
#: Between the turns of a conversation where the model has no template; each begins with its role: "User: ...".
PLAIN_BETWEEN = "\n\n"
#: Shapes of conversations remembered: roles in their order.
_SHAPES = 1024


class Said(Protocol):
    """A turn: who says what."""

    @property
    def role(self) -> str:
        """Who says it."""
        ...

    @property
    def content(self) -> str:
        """What is said."""
        ...


class Piece(NamedTuple):
    """Characters [start, end) of what the model reads are those of the document from `at` on."""

    start: int
    end: int
    at: int


@dataclass(frozen=True)
class Rendered:
    """What the model reads of a document, and which parts of it are the document's own text, in order."""

    text: str
    pieces: tuple[Piece, ...]
    #: Whether a template wrote it, so that the tokenizer must add nothing of its own.
    templated: bool = False

    @staticmethod
    def plain(text: str) -> Rendered:
        """A text as it is."""
        return Rendered(text, (Piece(0, len(text), 0),))


class _Slot(NamedTuple):
    """A turn's place in a skeleton: the text before it, which turn, and at which ends the template strips it."""

    before: str
    turn: int
    strips_left: bool = False
    strips_right: bool = False

    def lead(self, said: str) -> int:
        """Characters that the template drops from the beginning of what is said."""
        return len(said) - len(said.lstrip()) if self.strips_left else 0

    def kept(self, said: str) -> str:
        """What the template leaves of what is said."""
        said = said.lstrip() if self.strips_left else said
        return said.rstrip() if self.strips_right else said


class ChatTemplate:
    """Renders conversations with a tokenizer's own template, or plainly where it has none.

    The template is rendered once for each order of roles, with marks in place of what is said; what is said is put
    in afterwards. So its place is known without looking for it, and cannot be mistaken for anything else. White space
    at the ends of a turn is dropped where the template drops it. A template that rewrites what is said (some leave out
    the reasoning in earlier answers) is not followed in that: all is read that was said.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.own = bool(getattr(tokenizer, "chat_template", None))
        self._skeleton = lru_cache(maxsize=_SHAPES)(self._find_skeleton)

    def render(self, turns: Sequence[Said], places: Mapping[int, int]) -> Rendered:
        """What the model reads of a conversation; `places` has, of each turn that the document holds,
        where in its text it begins.

        Raises ValueError if the template refuses the roles or their order.
        """
        slots, tail = self._skeleton(tuple(turn.role for turn in turns))
        parts, pieces, at = [], [], 0
        for slot in slots:
            said = turns[slot.turn].content
            kept = slot.kept(said)
            at += len(slot.before)
            if slot.turn in places:
                pieces.append(Piece(at, at + len(kept), places[slot.turn] + slot.lead(said)))
            parts += [slot.before, kept]
            at += len(kept)
        return Rendered("".join([*parts, tail]), tuple(pieces), templated=self.own)

    def _find_skeleton(self, roles: tuple[str, ...]) -> tuple[tuple[_Slot, ...], str]:
        if not self.own:
            names = (f"{role.capitalize()}: " for role in roles)
            return tuple(_Slot((PLAIN_BETWEEN if i else "") + name, i) for i, name in enumerate(names)), ""
        marks = _marks(len(roles), str(self._tokenizer.chat_template))
        # Tabs around the marks, which no template writes, tell whether it strips.
        messages = [{"role": role, "content": f"\t{mark}\t"} for role, mark in zip(roles, marks, strict=True)]
        text, refusal = "", None
        for way in (messages, _joined(messages), _without_system(messages), _joined(_without_system(messages))):
            try:
                text = self._apply(way)
                break
            except Exception as error:  # noqa: BLE001 - a template is a program and raises what it likes
                refusal = refusal or error
        else:
            said = str(refusal).splitlines()[0] if str(refusal) else type(refusal).__name__
            raise ValueError(f"the reader's chat template refuses {', '.join(roles) or 'no turns'}: {said}")
        slots: list[_Slot] = []
        at = 0
        for number, mark in enumerate(marks):
            found = text.find(mark, at)
            if found < 0 or text.count(mark) != 1:
                raise ValueError(f"the reader's chat template leaves out or repeats the {roles[number]}'s turn")
            end = found + len(mark)
            left, right = text[found - 1 : found] != "\t", text[end : end + 1] != "\t"
            slots.append(_Slot(text[at : found if left else found - 1], number, left, right))
            at = end if right else end + 1
        return tuple(slots), text[at:]

    def _apply(self, messages: list[dict[str, str]]) -> str:
        template = self._tokenizer.get_chat_template()
        text: str = self._tokenizer.apply_chat_template(
            messages,
            tokenize=False,
            add_generation_prompt=False,
            # Templates ask for the date in these two ways.
            date_string=f"{FIXED_DATE:%d %b %Y}",
            chat_template=_STRFTIME + template if "strftime_now" in template else template,
        )
        return text


def _marks(n: int, template: str) -> list[str]:
    """Strings without white space that occur neither in each other nor in the template."""
    for salt in count():
        marks = [f"@{salt}.{i}@" for i in range(n)]
        if not any(mark in template for mark in marks):
            return marks
    raise AssertionError


def _joined(messages: list[dict[str, str]]) -> list[dict[str, str]]:
    """Neighbours of one role as one turn, which some templates ask for."""
    joined: list[dict[str, str]] = []
    for message in messages:
        if joined and joined[-1]["role"] == message["role"]:
            joined[-1] = {**message, "content": joined[-1]["content"] + "\n\n" + message["content"]}
        else:
            joined.append(message)
    return joined


def _without_system(messages: list[dict[str, str]]) -> list[dict[str, str]]:
    """What the system says at the head of what the user says next, for models without a system turn."""
    return _joined([{**m, "role": "user"} if m["role"] == "system" else m for m in messages])
