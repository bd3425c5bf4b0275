"""What calls may cost: limits that hold before a call is sent, in whole numbers of a trillionth of a dollar.

A call is reserved at the most it can cost, and settled at what it did cost. Where the endpoint does not say what that
was, or says what cannot be true, it is settled at the most.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal, InvalidOperation
from functools import cache
from pathlib import Path
from threading import Condition
from typing import Any

from saelens_data.errors import InputError

#: Trillionths of a dollar in a dollar.
PICO = 10**12
_PRICES = Path(__file__).with_name("prices.json")
#: A count of tokens below one for so many bytes is not believed.
_MOST_BYTES = 16


@dataclass(frozen=True)
class Price:
    """What a token costs, in trillionths of a dollar: US dollars per million tokens, times a million."""

    read: int
    written: int

    @staticmethod
    def of(read: str | float | Decimal, written: str | float | Decimal) -> Price:
        """From US dollars per million tokens. Raises InputError for what is no price."""
        try:
            values = [Decimal(str(value)) for value in (read, written)]
        except InvalidOperation as error:
            raise InputError(f"'{read}' and '{written}' are no prices: give dollars per million tokens") from error
        if not all(value.is_finite() and value >= 0 for value in values):
            raise InputError(f"prices of {read} and {written} dollars per million tokens: give numbers from 0 on")
        return Price(*(int((value * 1_000_000).to_integral_value(ROUND_CEILING)) for value in values))

    def cost(self, read: int, written: int) -> int:
        """Trillionths of a dollar for so many tokens."""
        return self.read * read + self.written * written


@cache
def _table() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_PRICES.read_text(encoding="utf-8"))
    return found


def prices_date() -> str:
    """The month of the table of prices, "2026-04"."""
    return str(_table()["as_of"])


def listed_price(model: str, host: str) -> Price | None:
    """The price of a model at the endpoint that the table is of; None for another model or endpoint.

    A dated version (gpt-4o-mini-2024-07-18) costs what its name costs.
    """
    if host != _table()["endpoint"]:
        return None
    found = _table()["models"].get(re.sub(r"-\d{4}-\d{2}-\d{2}$", "", model))
    return Price.of(*found) if found else None


@dataclass(frozen=True)
class Limits:
    """The most that may be spent; None is no limit. Raises InputError for a limit below 0."""

    #: US dollars.
    cost: Decimal | None = None
    #: Calls sent, those that fail and are repeated too.
    calls: int | None = None
    #: Tokens read and written.
    tokens: int | None = None

    @staticmethod
    def of(cost: str | float | None, calls: int | None, tokens: int | None) -> Limits:
        """From what a user gives."""
        try:
            return Limits(None if cost is None else Decimal(str(cost)), calls, tokens)
        except InvalidOperation as error:
            raise InputError(f"'{cost}' is no sum of money: give dollars, such as 1.50") from error

    def __post_init__(self) -> None:
        for name, value in (("cost", self.cost), ("calls", self.calls), ("tokens", self.tokens)):
            if value is not None and not (Decimal(value).is_finite() and value >= 0):
                raise InputError(f"a limit of {value} for {name}: give a number from 0 on")


@dataclass(frozen=True)
class Spent:
    """Calls sent, tokens read and written."""

    calls: int = 0
    read: int = 0
    written: int = 0

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.calls + other.calls, self.read + other.read, self.written + other.written)

    def __sub__(self, other: Spent) -> Spent:
        return Spent(self.calls - other.calls, self.read - other.read, self.written - other.written)


class BudgetSpentError(Exception):
    """A call would pass a limit, and was not sent; the message says which limit."""


class Budget:
    """Keeps calls from several threads within limits.

    `price` None: costs are not known, and a limit of cost raises InputError. `spent` is what earlier runs of the same
    work have spent.
    """

    def __init__(self, limits: Limits, price: Price | None = None, spent: Spent | None = None) -> None:
        if limits.cost is not None and price is None:
            raise InputError(
                "a limit of cost needs prices, and those of this model are not known: give them "
                "(--price IN OUT, in dollars per million tokens; 0 0 where it costs nothing)"
            )
        self.limits, self.price = limits, price
        self._spent, self._reserved = spent or Spent(), Spent()
        self._broken: str | None = None
        self._changed = Condition()

    @property
    def spent(self) -> Spent:
        """What was spent, with all calls that have ended."""
        with self._changed:
            return self._spent

    def cost(self, spent: Spent) -> int | None:
        """Trillionths of a dollar; None where prices are not known."""
        return None if self.price is None else self.price.cost(spent.read, spent.written)

    def reserve(self, read: int, written: int) -> Spent:
        """Set aside a call of at most so many tokens; waits for calls in flight if only they stand in its way.

        Raises BudgetSpentError if it would pass a limit.
        """
        need = Spent(1, read, written)
        with self._changed:
            while True:
                if self._broken:
                    raise BudgetSpentError(self._broken)
                over = self._over(self._spent + self._reserved + need)
                if over is None:
                    self._reserved += need
                    return need
                if not self._reserved.calls:
                    raise BudgetSpentError(over)
                self._changed.wait()

    def settle(self, reserved: Spent, used: Spent) -> None:
        """End a call that was reserved: it took `used`, which is more than reserved only if the endpoint says so."""
        with self._changed:
            self._reserved -= reserved
            self._spent += used
            limited = self.limits.cost is not None or self.limits.tokens is not None
            if limited and (used.read > reserved.read or used.written > reserved.written):
                self._broken = (
                    f"the endpoint wrote {used.written:,} tokens where {reserved.written:,} were allowed, so that no "
                    "limit can be kept with it"
                )
            self._changed.notify_all()

    def _over(self, spent: Spent) -> str | None:
        limits = self.limits
        if limits.calls is not None and spent.calls > limits.calls:
            return f"the limit of {limits.calls:,} calls is reached"
        if limits.tokens is not None and spent.read + spent.written > limits.tokens:
            return f"the limit of {limits.tokens:,} tokens leaves too few for another call"
        cost = self.cost(spent)
        if limits.cost is not None and cost is not None and cost > limits.cost * PICO:
            return f"the limit of ${limits.cost} leaves too little for another call"
        return None


def dollars(pico: int | None) -> str:
    """A cost in words: '$0.0123', '$1.50'; 'unknown' for None."""
    if pico is None:
        return "unknown"
    value = pico / PICO
    return f"${value:.2f}" if value >= 1 or not pico else f"${value:.4f}"


def believed(reported: object, n_bytes: int, most: int) -> int:
    """Tokens that a text of `n_bytes` took: what is reported, or `most` if that is missing or cannot be true.

    A token stands for a byte at least, and hardly ever for more than 16.
    """
    if not isinstance(reported, int) or isinstance(reported, bool):
        return most
    return reported if n_bytes // _MOST_BYTES <= reported <= most else most
