"""From the words of a user to a query, or to one sentence that says at which character they stop making sense."""

from __future__ import annotations

import re
import unicodedata
from difflib import get_close_matches

from lark import Token
from lark.exceptions import UnexpectedCharacters, UnexpectedToken

from saelens_data.errors import InputError
from saelens_data.query.grammar import parser
from saelens_data.query.syntax import Phrase, Query, quoted, shown, wrong

#: What no plain words hold: a double quote or backtick, a comparison or `*`, a single quote that opens, #4217,
#: `is null` and `in (`.
_MARKS = re.compile(r"""["“”`*<>=]|(?<![^\s(,])'|(?<!\w)#[0-9]|\bis\s+(?:not\s+)?null\b|\bin\s*\(""", re.IGNORECASE)
_PARENTHESIS = re.compile(r"[()]")
_JOINTS = re.compile(r"\b(?:and\s+not|or\s+not|and|or|not)\b", re.IGNORECASE)
#: Nothing but numbers, joints and parentheses: latents.
_NUMBERS = re.compile(r"(?:(?:\b(?:and|or|not)\b|[+-]?[0-9][0-9.]*(?!\w)|[()])\s*)+", re.IGNORECASE)
#: Words that stand where only a column could.
_BARE_WORDS = re.compile(r"""(?:(?!(?:and|or|not|in|is)\b)[^\s"“”'`()*<>=,#]+\s*)+""", re.IGNORECASE)

_QUOTES = {'"': "double quote", "“": "double quote", "”": "double quote", "'": "single quote", "`": "backtick"}
#: Signs of other languages.
_FOREIGN = {"&": "and", "|": "or", "!": "not", "≥": ">=", "≤": "<=", "≠": "!=", "[": "(", "]": ")", "‘": "'", "’": "'"}
#: What the terminals of the grammar are called, in the order of a message.
_NAMES = {
    "STAR": "*",
    "_AND": "and",
    "_OR": "or",
    "NOT": "not",
    "_IN": "in",
    "_IS": "is",
    "_NULL": "null",
    "OPERATOR": "a comparison such as >",
    "_COMMA": "a comma",
    "_LEFT": "(",
    "_RIGHT": ")",
    "$END": "the end",
}


def parse(text: str) -> Query:
    """The query that `text` says, in the language of `docs/query.md`.

    Text without any sign of that language is one phrase: `refuses politely` says `"refuses politely"`. Text of
    whole numbers, with `and`, `or`, `not` and parentheses, names latents.

    Raises InputError, one sentence with the character (counted from 1), for everything else that is no query.
    """
    _check_characters(text)
    if not text.strip():
        raise wrong("nothing to look for; write some words, as in: refuses politely")
    if not _is_structured(text):
        return Phrase(text.strip(), at=len(text) - len(text.lstrip()))
    try:
        # The tree is made by the callbacks of the grammar.
        return parser().parse(text)  # type: ignore[return-value]
    except UnexpectedToken as error:
        at, reason = _unexpected_token(text, error)
    except UnexpectedCharacters as error:
        at = int(error.pos_in_stream or 0)
        reason = _unexpected_character(text[at])
    where = f"at character {at + 1}" if at < len(text.rstrip()) else "at the end"
    raise InputError(f"query: {where}{reason}")


def phrase_note(text: str) -> str | None:
    """What to tell somebody whose plain words hold `and`, `or` or `not` and were read as one phrase; None if nothing.

    Text that is no query has no note.
    """
    if _is_structured(text) or not _JOINTS.search(text):
        return None
    words = [part.strip() for part in _JOINTS.split(text)]
    joints = [" ".join(joint.lower().split()) for joint in _JOINTS.findall(text)]
    parts = [quoted(word, '"') if word else "" for word in words]
    apart = parts[0] + "".join(f" {joint} {part}" for joint, part in zip(joints, parts[1:], strict=True))
    return f"read as one phrase, {shown(text)}; to join several, put each in double quotes: {shown(apart, 80)}"


def _is_structured(text: str) -> bool:
    """Whether `text` is in the language, rightly or wrongly, and not plain words."""
    if _MARKS.search(text) or _NUMBERS.fullmatch(text.strip()):
        return True
    return bool(_PARENTHESIS.search(text) and _JOINTS.search(text))


def _check_characters(text: str) -> None:
    """Refuse what nobody types: control characters and halves of characters, which no encoder takes."""
    for at, character in enumerate(text):
        if unicodedata.category(character) in {"Cc", "Cs"} and character not in "\t\n\r":
            raise wrong(f"{shown(character)}: a character that is no text; take it out", at)


def _unexpected_character(character: str) -> str:
    if character in _QUOTES:
        return f": this {_QUOTES[character]} has no partner; close it"
    hint = (
        f"did you mean `{_FOREIGN[character]}`?"
        if character in _FOREIGN
        else 'quote phrases with " and odd names with `'
    )
    return f", {shown(character)}: no sign of the language; {hint}"


def _unexpected_token(text: str, error: UnexpectedToken) -> tuple[int, str]:
    """Where the query stops making sense, and the rest of the message."""
    token: Token = error.token
    stack = error.interactive_parser.parser_state.value_stack
    before = stack[-1] if stack and isinstance(stack[-1], Token) else None
    accepted = set(error.accepts or error.expected)
    if before is not None and accepted >= {"OPERATOR", "_IS"}:
        at = before.start_pos or 0
        return at, _bare_words(text[at:])
    if before is not None and accepted == {"STAR"}:
        return before.start_pos or 0, f', {shown(before)}: neither a latent nor a weight, as in 0.5 * "hedging"'
    ended = token.type == "$END"
    at = len(text) if ended else token.start_pos or 0
    found = "" if ended else f", {shown(token)}"
    return at, f"{found}: expected {_expected(accepted)}{_hint(token, before, accepted)}"


def _bare_words(rest: str) -> str:
    """The message for words without quotes: the name of no column, since nothing is compared with it."""
    words = (found.group() if (found := _BARE_WORDS.match(rest)) else rest).strip()
    if near := get_close_matches(words.lower(), ["and", "or", "not"], n=1, cutoff=0.75):
        return f", {shown(words)}: did you mean `{near[0]}`?"
    phrase = shown(quoted(words, '"'), 42)
    return f", {shown(words)}: a phrase needs double quotes, {phrase}, and a column a comparison, such as = 'en'"


def _expected(accepted: set[str]) -> str:
    """What could stand here, in words."""
    if "PHRASE" in accepted:
        words = ['a "phrase"', "a latent's number"] + ["a column", "not"] * ("NOT" in accepted) + ["("]
    elif "TEXT" in accepted:
        words = ["a value such as 'en'", "200", "true"]
    elif "PERCENTILE" in accepted:
        words = ["a number from 0 to 1", "a percentile such as p90"]
    else:
        words = [word for name, word in _NAMES.items() if name in accepted]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])}{',' * (len(words) > 2)} or {words[-1]}"


def _hint(token: Token, before: Token | None, accepted: set[str]) -> str:
    """What was probably meant, as the end of the message; empty if nothing comes to mind."""
    meant = None
    if "TEXT" in accepted and token.type in {"PHRASE", "NAME"}:
        meant = quoted(token[1:-1] if token.type == "PHRASE" else token, "'")
    elif "TEXT" in accepted and token.type == "PERCENTILE":
        return "; percentiles are for concepts"
    elif "PHRASE" in accepted and token.type == "TEXT":
        meant = quoted(token[1:-1], '"')
    elif "PHRASE" in accepted and token.type == "NAME":
        meant = quoted(token, '"')
    elif token.type == "STAR" and before is not None:
        return '; a weight comes first, as in 2 * "hedging"'
    elif token.type == "PHRASE" and before is not None and "STAR" in accepted:
        meant = f"{before} * {token}"
    elif token.type == "NAME":
        known = [word for name, word in _NAMES.items() if name in accepted]
        meant = next(iter(get_close_matches(token.lower(), known, n=1, cutoff=0.6)), None)
    return f"; did you mean {shown(meant)}?" if meant else ""
