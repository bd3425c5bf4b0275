"""What labelling would take: the same work with every call counted instead of sent."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import polars as pl

from saelens_data.display import table
from saelens_data.display.table import Column, Shown
from saelens_data.labels.ask import ATTEMPTS, Reply, asked, most_read, question_key
from saelens_data.labels.budget import Spent, dollars, prices_date
from saelens_data.labels.client import Message, Question
from saelens_data.labels.journal import Journal
from saelens_data.labels.settings import Endpoint
from saelens_data.labels.shapes import LONGEST_LABEL, naming_shape, read_answer, schema_of
from saelens_data.results import Result
from saelens_data.wording import count

#: Bytes of a token, tokens of a label with its explanation and of a verdict, seconds of an answer: rules of thumb.
_BYTES, _NAMING, _VERDICT, _SECONDS = 4, 110, 14, 1.5
#: Stands for a label that is not known yet.
_LABEL = "a property that is described in a few words"


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class LabelPlan(Result):
    """What `label` would send. `frame` has a row for labels, verdicts and all together.

    Columns: `what`, `calls`, `answered` (of further calls the answer is known: they cost nothing), `read` and
    `written` (tokens expected), `cost` (US dollars expected), `most` (US dollars that could be reserved for them if
    each took all it may), `seconds` (expected).
    """

    kind: str = "plan"
    latents: int
    lacking: int
    priced: str | None

    def summary(self) -> str:
        """The plan in a sentence or two."""
        total = self.frame.row(-1, named=True)
        cost = "cost unknown (give --price IN OUT)" if total["cost"] is None else f"about {_money(total['cost'])}"
        most = "" if total["most"] is None else f" and never more than {_money(total['most'])} without repetitions"
        prices = f" at prices of {self.priced}" if self.priced else ""
        few = f"; {count(self.lacking, 'latent')} with too few documents" if self.lacking else ""
        return (
            f"{count(self.latents, 'latent')}{few}: {count(total['calls'], 'call')} to send, {total['answered']:,} "
            f"answered before; about {total['read']:,} tokens in and {total['written']:,} out; {cost}{prices}{most}; "
            f"about {total['seconds']:,.0f} s"
        )

    def _shown(self) -> Shown:
        return Shown.of(
            self.frame,
            Column("", "what"),
            Column("calls to send", "calls", table.number, scale=table.from_zero),
            Column("answered before", "answered", table.number, right=True),
            Column("tokens in", "read", table.number, right=True),
            Column("tokens out", "written", table.number, right=True),
            Column("cost", "cost", _money, right=True),
            Column("at most", "most", _money, right=True),
            Column("seconds", "seconds", lambda value: f"{value:,.0f}", right=True),
        )


class CountingAsker:
    """Stands for an asker: answers from the journal, and counts what would be sent."""

    def __init__(self, identity: Mapping[str, Any], journal: Journal, thinking: int = 0) -> None:
        self._identity, self._journal, self._thinking = identity, journal, thinking
        self._planned: dict[str, list[tuple[int, int, int, int]]] = {}
        self._answered: dict[str, int] = {}
        self._seen: set[str] = set()

    def ask(
        self,
        messages: Sequence[Message],
        shape: type[Any],
        *,
        most_written: int,
        good: Callable[[Any], bool] = lambda _: True,
    ) -> Reply:
        """The answer if it is known, else one that stands for it."""
        what = "labels" if shape is naming_shape() else "verdicts"
        for attempt, said in enumerate(asked(messages, ATTEMPTS)):
            question = Question(said, shape.__name__.lower(), schema_of(shape), most_written + self._thinking)
            key = question_key(self._identity, question, attempt)
            if (answer := self._journal.answer(key)) is None:
                if key not in self._seen:
                    self._seen.add(key)
                    self._count(what, question)
                break
            self._answered[what] = self._answered.get(what, 0) + 1
            found = read_answer(shape, answer.text or "")
            if found is not None and good(found):
                return Reply(found)
            if answer.refusal or answer.finish == "content_filter":
                break
        return self._stand_in(what, shape)

    def _count(self, what: str, question: Question) -> None:
        texts = question.messages[1]["content"].count("\nText ")
        written = _NAMING if what == "labels" else _VERDICT * texts
        # A label that is not known yet may be longer than what stands for it.
        longer = 4 * LONGEST_LABEL if what == "verdicts" and _LABEL in question.messages[1]["content"] else 0
        line = (question.n_bytes // _BYTES, written, most_read(question) + longer, question.most_written)
        self._planned.setdefault(what, []).append(line)

    def plan(self, latents: int, lacking: int, endpoint: Endpoint, concurrency: int, spent: Spent) -> LabelPlan:
        """What was counted."""
        seconds = self._journal.seconds()
        each = (median(seconds) if seconds else _SECONDS) / concurrency
        rows = [self._row(what, self._planned.get(what, []), endpoint, each) for what in ("labels", "verdicts")]
        total: dict[str, Any] = {"what": "all"}
        for name in _SCHEMA:
            if name != "what":
                values = [row[name] for row in rows]
                total[name] = None if None in values else sum(values)
        priced = prices_date() if endpoint.listed else None
        earlier = (f"Earlier runs of this work sent {count(spent.calls, 'call')}: limits count them too.",)
        return LabelPlan(
            frame=pl.DataFrame([*rows, total], schema=_SCHEMA),
            parameters={"model": endpoint.model, "latents": latents, "calls at once": concurrency},
            notes=earlier if spent.calls else (),
            latents=latents,
            lacking=lacking,
            priced=priced,
        )

    def _row(
        self, what: str, lines: Sequence[tuple[int, int, int, int]], endpoint: Endpoint, each: float
    ) -> dict[str, Any]:
        read, written, most_in, most_out = (sum(line[at] for line in lines) for at in range(4))
        price = endpoint.price
        return {
            "what": what,
            "calls": len(lines),
            "answered": self._answered.get(what, 0),
            "read": read,
            "written": written,
            "cost": None if price is None else price.cost(read, written) / 10**12,
            "most": None if price is None else price.cost(most_in, most_out) / 10**12,
            "seconds": len(lines) * each,
        }

    @staticmethod
    def _stand_in(what: str, shape: type[Any]) -> Reply:
        if what == "labels":
            return Reply(shape(explanation=_LABEL, properties="one", label=_LABEL))
        return Reply(shape(answers=[]))


_SCHEMA = {
    "what": pl.String,
    "calls": pl.Int64,
    "answered": pl.Int64,
    "read": pl.Int64,
    "written": pl.Int64,
    "cost": pl.Float64,
    "most": pl.Float64,
    "seconds": pl.Float64,
}


def _money(value: float) -> str:
    return dollars(round(value * 10**12))
