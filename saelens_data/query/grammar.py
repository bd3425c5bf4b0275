"""The grammar of concept queries (LALR) and the tree that each of its rules makes."""

from __future__ import annotations

from functools import cache
from typing import Any

from lark import Lark, Token, Transformer, v_args

from saelens_data.query.syntax import (
    And,
    Column,
    Latent,
    Not,
    Or,
    Percentile,
    Phrase,
    Query,
    Scalar,
    Threshold,
    Weighted,
)

GRAMMAR = r"""
?start: disjunction
?disjunction: conjunction (_OR conjunction)*
?conjunction: factor (_AND factor)*
?factor: operand | NOT factor -> negation | weight STAR operand -> weighted | condition
?operand: concept | _LEFT disjunction _RIGHT
?concept: PHRASE -> phrase | (INTEGER | LATENT) -> latent
?condition: concept OPERATOR (INTEGER | NUMBER) -> threshold
    | concept OPERATOR PERCENTILE -> threshold_percentile
    | column OPERATOR value -> comparison
    | column [NOT] _IN _LEFT value (_COMMA value)* _RIGHT -> membership
    | column _IS [NOT] _NULL -> null_test
?weight: INTEGER | NUMBER
column: NAME | BACKTICKED | PERCENTILE
value: TEXT | INTEGER | NUMBER | TRUE | FALSE

_AND.3: /and\b/i
_OR.3: /or\b/i
NOT.3: /not\b/i
_IN.3: /in\b/i
_IS.3: /is\b/i
_NULL.3: /null\b/i
TRUE.3: /true\b/i
FALSE.3: /false\b/i
PERCENTILE.2: /p([0-9]+(\.[0-9]*)?|\.[0-9]+)(e[+-]?[0-9]+)?(?![\w.])/i
NAME.1: /[^\W\d]\w*/
BACKTICKED: /`(?:[^`]|``)+`/
PHRASE: /"(?:[^"]|"")*"/ | /“[^“”]*”/
TEXT: /'(?:[^']|'')*'/
LATENT: /#[0-9]+(?![\w.])/
INTEGER.2: /[0-9]+(?![\w.])/
NUMBER.1: /[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)(e[+-]?[0-9]+)?(?![\w.])/i
OPERATOR: /<=|>=|<>|!=|==|=|<|>/
STAR: "*"
_LEFT: "("
_RIGHT: ")"
_COMMA: ","
%ignore /\s+/
"""

#: Other spellings of a comparison.
_SAME = {"==": "=", "<>": "!="}


@v_args(inline=True)
class _Builder(Transformer[Token, Query]):
    """Nodes of the tree, made while parsing; a node that cannot be raises its own InputError."""

    def disjunction(self, *parts: Query) -> Query:
        return Or(parts, at=parts[0].at)

    def conjunction(self, *parts: Query) -> Query:
        return And(parts, at=parts[0].at)

    def negation(self, sign: Token, part: Query) -> Query:
        return Not(part, at=sign.start_pos)

    def weighted(self, weight: Token, _: Token, part: Query) -> Query:
        return Weighted(float(weight), part, at=weight.start_pos)

    def phrase(self, token: Token) -> Query:
        return Phrase(_unquoted(token), at=token.start_pos)

    def latent(self, token: Token) -> Query:
        return Latent(_whole(token.removeprefix("#")), at=token.start_pos)

    def threshold(self, concept: Phrase | Latent, operator: Token, value: Token) -> Query:
        return Threshold(concept, _operator(operator), float(value), at=operator.start_pos)

    def threshold_percentile(self, concept: Phrase | Latent, operator: Token, value: Token) -> Query:
        level = Percentile(float(value[1:]), at=value.start_pos)
        return Threshold(concept, _operator(operator), level, at=operator.start_pos)

    def column(self, token: Token) -> Token:
        return token.update(value=_unquoted(token)) if token.type == "BACKTICKED" else token

    def comparison(self, column: Token, operator: Token, value: Scalar) -> Query:
        return Column(str(column), _operator(operator), value, at=column.start_pos)

    def membership(self, column: Token, sign: Token | None, *values: Scalar) -> Query:
        return Column(str(column), "not in" if sign else "in", values, at=column.start_pos)

    def null_test(self, column: Token, sign: Token | None) -> Query:
        return Column(str(column), "is not null" if sign else "is null", at=column.start_pos)

    def value(self, token: Token) -> Scalar:
        match token.type:
            case "TEXT":
                return _unquoted(token)
            case "INTEGER":
                return _whole(token)
            case "NUMBER":
                return _signed(token)
        return token.lower() == "true"


@cache
def parser() -> Lark:
    """The parser, built once; it makes the tree directly, so that depth costs no recursion."""
    options: dict[str, Any] = {"parser": "lalr", "lexer": "basic", "maybe_placeholders": True}
    return Lark(GRAMMAR, transformer=_Builder(), **options)


def _operator(token: Token) -> str:
    return _SAME.get(token, str(token))


def _unquoted(token: str) -> str:
    """The text between quotes of any kind; a quote inside was doubled."""
    return token[1:-1].replace(2 * token[0], token[0])


def _whole(digits: str) -> int:
    """The number, or one that every node refuses: Python reads no more than 4,300 digits."""
    return int(digits) if len(digits) < 100 else 10**100


def _signed(number: str) -> int | float:
    return _whole(number) if number.lstrip("+-").isdecimal() else float(number)
