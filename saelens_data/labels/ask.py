"""Ask and be answered: from the journal if it was asked before, else within the budget, again where a call fails."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock
from time import monotonic
from typing import Any

from saelens_data.errors import InputError
from saelens_data.labels.budget import Budget, Spent, believed
from saelens_data.labels.client import Client, Message, Question, RawAnswer
from saelens_data.labels.journal import Answer, Journal, call_key
from saelens_data.labels.retry import CallError, Gate, backoff
from saelens_data.labels.shapes import read_answer, schema_of

#: Tokens that a server's template may add to a request, and to each message.
_TEMPLATE, _PER_MESSAGE = 256, 16
#: Tokens of a plausible answer beyond one for each of its bytes.
_SLACK = 64
#: Calls in a row that fail, with all their repetitions, before the endpoint is given up.
_HOPELESS = 5
#: Repetitions of a call where nothing has answered so far and there may be no endpoint at all.
_ABSENT = 2
#: Times that a question is asked whose answer cannot be read.
ATTEMPTS = 3
#: What is said after an answer that could not be read.
_ONCE_MORE = "Your last answer could not be read. Answer with one JSON object of the form asked for, and nothing else."


@dataclass(frozen=True)
class Reply:
    """An answer in its shape, or why there is none."""

    value: Any = None
    missing: str | None = None


@dataclass(frozen=True)
class Patience:
    """How often a call is repeated."""

    #: Times that a call is sent again which had no answer: limits of rate, errors of the server, lost connections.
    retries: int = 6
    #: Times that a question is asked whose answer cannot be read.
    attempts: int = ATTEMPTS
    #: Seconds of the first pause, at most; doubled each time.
    pause: float = 1.0

    def __post_init__(self) -> None:
        if self.retries < 0 or self.attempts < 1 or self.pause < 0:
            raise InputError("give 0 or more retries, 1 or more attempts, and a pause of 0 seconds or more")


@dataclass(eq=False)
class Asker:
    """Asks a client, from several threads. `job` names what the spending is counted for."""

    client: Client
    budget: Budget
    journal: Journal
    job: str
    patience: Patience = field(default_factory=Patience)
    seed: int = 0
    #: Tokens that a model may think for, beyond those of its answer.
    thinking: int = 0
    gate: Gate = field(default_factory=Gate)

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed)  # noqa: S311
        self._lock = Lock()
        self._asked: dict[str, Lock] = {}
        self._failed = 0
        #: Whether the endpoint has answered by now, whether an answer was known, and why the last call had none.
        self._answered = self._known = False
        self._last: CallError | None = None

    def ask(
        self,
        messages: Sequence[Message],
        shape: type[Any],
        *,
        most_written: int,
        good: Callable[[Any], bool] = lambda _: True,
    ) -> Reply:
        """The answer in this shape; asked again if it cannot be read or is not `good`, which the last one need not be.

        Raises BudgetSpentError where a call would pass a limit, InputError where the endpoint will not answer.
        """
        name, schema, value = shape.__name__.lower(), schema_of(shape), None
        why = "no answer"
        for attempt, said in enumerate(asked(messages, self.patience.attempts)):
            try:
                answer = self._answer(Question(said, name, schema, most_written + self.thinking), attempt)
            except CallError as error:
                return Reply(missing=f"the call failed: {error}")
            if answer.refusal or answer.finish == "content_filter":
                return Reply(missing="refused")
            found = read_answer(shape, answer.text or "")
            if found is not None and good(found):
                return Reply(found)
            value = found or value
            why = _unread(answer)
        return Reply(value) if value is not None else Reply(missing=why)

    def _answer(self, question: Question, attempt: int) -> Answer:
        key = question_key(self.client.identity, question, attempt)
        with self._once(key):
            if known := self.journal.answer(key):
                self._known = True
                return known
            return self._send(question, key)

    @contextmanager
    def _once(self, key: str) -> Iterator[None]:
        """One thread at a time asks one question, so that the second finds the answer of the first."""
        with self._lock:
            lock = self._asked.setdefault(key, Lock())
        with lock:
            yield

    def _send(self, question: Question, key: str) -> Answer:
        """Send until there is an answer. Raises CallError when that was tried often enough."""
        tries = 0
        while True:
            if not self.gate.wait():
                raise CallError("stopped", again=False)
            try:
                answer = self._send_once(question, key)
            except CallError as error:
                if error.how:
                    continue
                tries += 1
                if not error.again or tries > self._retries(error):
                    self._note_failure(error)
                    raise
                self._pause(error, tries)
                continue
            self._failed, self._answered = 0, True
            return answer

    def _send_once(self, question: Question, key: str) -> Answer:
        most = (most_read(question), question.most_written)
        reserved, used = self.budget.reserve(*most), Spent()
        try:
            if self.gate.stop.is_set():
                raise CallError("stopped", again=False)
            number, used = self.journal.begin(self.job, key, reserved), reserved
            began = monotonic()
            try:
                raw = self.client.complete(question)
            except (CallError, InputError) as error:
                used = reserved if isinstance(error, CallError) and error.billed else Spent(1)
                self.journal.failed(number, used)
                raise
            answer = _settled(raw, question, most, monotonic() - began)
            used = Spent(1, answer.read, answer.written)
            self.journal.answered(number, key, answer)
        finally:
            # Whatever happens: what stays reserved would let other calls wait for ever.
            self.budget.settle(reserved, used)
        return answer

    def _pause(self, error: CallError, tries: int) -> None:
        if error.after is not None:
            self.gate.close_for(error.after)
        with self._lock:
            pause = backoff(tries, self.patience.pause, self._chance)
        self.gate.wait(pause)

    def _retries(self, error: CallError) -> int:
        """How often to repeat; seldom where nothing may be there, so that a wrong URL is soon told."""
        most = self.patience.retries
        return min(most, _ABSENT) if error.absent and not self._answered else most

    def _note_failure(self, error: CallError) -> None:
        """Give up where call after call fails, or nothing is there. Raises InputError then."""
        if self.gate.stop.is_set():
            return
        with self._lock:
            self._last = error
            counted = error.again or not self._answered
            self._failed += counted
            hopeless, nothing = counted and self._failed >= _HOPELESS, error.absent and not self._answered
        if nothing:
            raise InputError(f"no endpoint answers there: {error}; is the server running, and --base-url right?")
        if hopeless:
            raise InputError(
                f"the endpoint fails again and again ({error}): what was answered is kept; run this again later"
            ) from error

    def check_answered(self) -> None:
        """Raise InputError if calls were sent, none had an answer, and none was known from before."""
        if self._last is not None and not self._answered and not self._known:
            raise InputError(f"no call was answered ({self._last}): check model and endpoint, and run this again")


def _unread(answer: Answer) -> str:
    """Why an answer is of no use."""
    if answer.finish == "length":
        return "cut off at its limit of tokens (a model that thinks needs --thinking)"
    return "unreadable" if (answer.text or "").strip() else "empty"


def asked(messages: Sequence[Message], attempts: int) -> Iterator[tuple[Message, ...]]:
    """The messages of each attempt: after one whose answer cannot be read the model is told so."""
    for attempt in range(attempts):
        yield (*messages, *([{"role": "user", "content": _ONCE_MORE}] if attempt else ()))


def most_read(question: Question) -> int:
    """The most tokens that a question can take to read."""
    return question.n_bytes + _TEMPLATE + _PER_MESSAGE * len(question.messages)


def question_key(identity: Mapping[str, Any], question: Question, attempt: int) -> str:
    """What a call is known by: everything that its answer depends on, and how often it was asked before."""
    return call_key(
        {
            **identity,
            "messages": [dict(message) for message in question.messages],
            "schema": question.schema,
            "most": question.most_written,
            "attempt": attempt,
        }
    )


def _settled(raw: RawAnswer, question: Question, most: tuple[int, int], seconds: float) -> Answer:
    """The answer with counts of tokens that can be true."""
    text = raw.text or raw.refusal or ""
    n_bytes = len(text.encode("utf-8", "surrogatepass"))
    read = believed(raw.read, question.n_bytes, most[0])
    written, reported = believed(raw.written, n_bytes, most[1]), raw.written
    if isinstance(reported, int) and reported > most[1]:
        # More than was allowed is true only if the text, or thoughts that are not shown, can hold it.
        thoughts = raw.reasoning if isinstance(raw.reasoning, int) else 0
        if reported <= n_bytes + thoughts + _SLACK:
            written = reported
    return Answer(raw.text, raw.refusal, raw.finish, read, written, round(seconds, 3))
