"""When a call that failed is sent again."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from threading import Event, Lock
from time import monotonic

#: Longest pause by our own choice, in seconds.
LONGEST = 60.0
#: An endpoint that asks for a longer pause than this is not waited for.
PATIENCE = 600.0


class CallError(Exception):
    """A call without an answer.

    `again`: whether to send it again. `billed`: whether it may have been billed all the same. `after`: seconds that the
    endpoint asks to wait. `how`: it was refused for the way it was asked, which has been changed by now. `absent`:
    there may be no endpoint at all where it was looked for.
    """

    def __init__(
        self,
        reason: str,
        *,
        again: bool = True,
        billed: bool = False,
        after: float | None = None,
        how: bool = False,
        absent: bool = False,
    ) -> None:
        super().__init__(reason)
        self.again, self.billed, self.after, self.how, self.absent = again, billed, after, how, absent


def retry_after(value: str | None, now: datetime | None = None) -> float | None:
    """Seconds that a Retry-After header asks for, a number or a date; None if it says nothing that can be read."""
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        when = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return max(0.0, (when - (now or datetime.now(UTC))).total_seconds())


def backoff(tries: int, base: float, chance: random.Random) -> float:
    """Seconds before try number `tries` (from 1): a random share of `base` doubled each time, at most LONGEST.

    "Full jitter": calls that failed together are not sent together again.
    """
    return chance.uniform(0, min(LONGEST, base * 2 ** (tries - 1)))


class Gate:
    """Lets calls pass, except while the endpoint has asked for a pause; `stop` ends all waiting."""

    def __init__(self) -> None:
        self._until, self._lock = 0.0, Lock()
        self.stop = Event()

    def close_for(self, seconds: float) -> None:
        """Hold all calls for so long."""
        with self._lock:
            self._until = max(self._until, monotonic() + seconds)

    def wait(self, seconds: float = 0.0) -> bool:
        """Wait so long, and until the gate is open; False if it was stopped."""
        until = monotonic() + seconds
        while not self.stop.is_set():
            with self._lock:
                left = max(until, self._until) - monotonic()
            if left <= 0:
                return True
            self.stop.wait(left)
        return False
