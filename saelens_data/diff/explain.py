"""A comparison in a few plain hypotheses, each checked by a judge on documents that it was not written from.

A language model sees the leading findings with evidence from one half of the documents, and says in plain words what
may lie behind them. Each statement is then checked, text by text and without telling whose text it is, on documents of
the other half. What does not hold there is marked, and what could not be judged counts neither way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import polars as pl

from saelens_data import stats
from saelens_data.diff.holdout import Part, split
from saelens_data.diff.two import DiffResult
from saelens_data.display.table import Shown
from saelens_data.errors import InputError
from saelens_data.evidence import active_rows
from saelens_data.labels.ask import Asker
from saelens_data.labels.budget import PICO, Budget, BudgetSpentError, Limits, dollars
from saelens_data.labels.client import Complete
from saelens_data.labels.journal import call_key
from saelens_data.labels.prompting import checking, hypothesising
from saelens_data.labels.sample import Excerpt, Sampler
from saelens_data.labels.settings import Endpoint, LabelSettings
from saelens_data.labels.shapes import hypotheses_shape
from saelens_data.labels.work import judge_texts
from saelens_data.results import Result
from saelens_data.wording import count, one_line

#: Findings that are explained, excerpts of each, and hypotheses asked for.
FINDINGS, EXCERPTS, HYPOTHESES = 12, 4, 5
#: Documents of each set that a hypothesis is checked on; characters of each, of which the end makes a third.
CHECKED, _CHARS = 48, 1_500
#: The most tokens of the hypotheses.
_TOKENS = 1_200
#: Chance of any false "verified" that is accepted, over all hypotheses.
_ALPHA = 0.05


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ExplainResult(Result):
    """The outcome of `explain`. `frame` has a row for each hypothesis, as the model ordered them.

    Columns: `hypothesis`; `favours`, the set in which it is said to hold more often; `findings`, the ranks of the
    findings that it is to explain; `verified`, whether the judge finds it so on documents that it was not written from;
    `share_a`, `share_b`, the shares of checked documents in which the judge finds it; `difference` (a - b) and its
    interval `low` to `high`, simultaneous over the hypotheses; `n_a`, `n_b` documents judged (or pairs); `missing`.
    """

    kind: str = "explanation"
    names: tuple[str, str]
    calls: int
    #: US dollars; None where prices are not known.
    cost: float | None

    def summary(self) -> str:
        """How many hypotheses hold, in a sentence."""
        money = "" if self.cost is None else f", {dollars(round(self.cost * PICO))}"
        held = int(self.frame["verified"].sum())
        said = (
            f"1 hypothesis, {held} verified"
            if self.frame.height == 1
            else f"{self.frame.height} hypotheses, {held} verified"
        )
        return f"{said}; {count(self.calls, 'call')}{money}"

    def in_words(self) -> list[str]:
        """A line for each hypothesis."""
        return [_line(number, row, self.names) for number, row in enumerate(self.frame.iter_rows(named=True), start=1)]

    def _shown(self) -> Shown:
        from saelens_data.diff.shown import of_explanation  # noqa: PLC0415

        return of_explanation(self)

    def plot(self) -> Any:
        """The difference that the judge found for each hypothesis, with its interval, as an Altair chart.

        Raises MissingExtraError without Altair, InputError without rows.
        """
        from saelens_data.diff.shown import explanation_chart  # noqa: PLC0415

        return explanation_chart(self)


def explain(
    result: DiffResult,
    *,
    model: str | None = None,
    complete: Complete | None = None,
    base_url: str | None = None,
    max_cost: str | float | None = None,
    max_calls: int | None = None,
    max_tokens: int | None = None,
    settings: LabelSettings | None = None,
    seed: int = 0,
) -> ExplainResult:
    """Explain the leading findings of a comparison in plain hypotheses, and check each on other documents.

    Arguments as of `label`. Raises InputError for a comparison without findings, for documents without texts or
    evidence, and as `label` does.
    """
    settings = settings or LabelSettings()
    if not result.findings.height:
        raise InputError("there is no finding to explain: these sets do not differ by more than chance")
    limits, endpoint = Limits.of(max_cost, max_calls, max_tokens), Endpoint.of(model, complete, base_url, settings)
    written, held = split(
        result.a.n_docs, result.b.n_docs, result.cluster, paired=result.pair_on is not None, share=0.5, seed=seed
    )
    shown = _evidence(result, written, settings, seed)
    about = {**endpoint.identity, "sae": result.a.source.sae_sha256, "explain": [f[1] for f in shown], "seed": seed}
    with endpoint.journal(settings) as journal:
        job = call_key(about)[:32]
        earlier = journal.spent(job)
        budget = Budget(limits, endpoint.price, earlier)
        asker = Asker(endpoint.client, budget, journal, job, settings.patience, seed, settings.thinking)
        rows, notes = _asked(result, shown, held, asker, seed)
        asker.check_answered()
        spent = budget.spent - earlier
    cost = budget.cost(spent)
    return ExplainResult(
        frame=pl.DataFrame(rows, schema=_SCHEMA),
        parameters={"model": endpoint.model, "findings": len(shown), "checked": CHECKED, "seed": seed},
        notes=tuple(notes),
        names=result.names,
        calls=spent.calls,
        cost=None if cost is None else float(Decimal(cost) / PICO),
    )


#: A finding as the model sees it: the set it favours, its label, excerpts.
_Finding = tuple[str, str, Sequence[Excerpt]]


def _evidence(result: DiffResult, part: Part, settings: LabelSettings, seed: int) -> list[_Finding]:
    """The leading findings with excerpts of the set that each favours, out of one part of the documents."""
    rows = result.findings.head(FINDINGS).to_dicts()
    latents = [row["latent"] for row in rows]
    sides = (result.a.take_docs(part.rows_a), result.b.take_docs(part.rows_b))
    samplers = [Sampler(m, latents, sizes=settings.sizes, seed=seed) for m in sides]
    active = [active_rows(m, latents) for m in sides]
    found: list[_Finding] = []
    for row in rows:
        side = int(row["favours"] == result.names[1])
        excerpts = samplers[side].excerpts(row["latent"], active[side][row["latent"]], EXCERPTS)
        found.append((row["favours"] or result.names[0], row["label"] or "unlabelled", excerpts))
    return found


def _asked(
    result: DiffResult, shown: list[_Finding], held: Part, asker: Asker, seed: int
) -> tuple[list[dict[str, Any]], list[str]]:
    """The hypotheses, checked as far as the limits allow, and notes."""
    notes: list[str] = []
    try:
        reply = asker.ask(
            hypothesising(shown, result.names, HYPOTHESES),
            hypotheses_shape(),
            most_written=_TOKENS,
            good=lambda value: bool(value.hypotheses),
        )
    except BudgetSpentError as spent:
        return [], [f"No hypotheses: {spent}."]
    if reply.value is None or not reply.value.hypotheses:
        return [], [f"No hypotheses: {reply.missing or 'the model gave none'}."]
    said = reply.value.hypotheses[:HYPOTHESES]
    level = 1 - _ALPHA / len(said)
    rows = []
    for number, one in enumerate(said):
        row = {
            "hypothesis": one_line(one.statement),
            "favours": result.names[one.set == "second"],
            "findings": sorted({n for n in one.findings if 1 <= n <= len(shown)}),
        }
        try:
            row |= _checked(result, held, one, asker, level, np.random.default_rng([seed, number]))
        except BudgetSpentError as spent:
            notes.append(f"Hypothesis {number + 1} is not checked: {spent}.")
        rows.append({"verified": False, **row})
    return rows, notes


def _checked(
    result: DiffResult, held: Part, one: Any, asker: Asker, level: float, chance: np.random.Generator
) -> dict[str, Any]:
    """How often the statement is true in either set, by a judge who does not know which set a text is of."""
    paired = result.pair_on is not None
    at_a = chance.permutation(len(held.rows_a))[:CHECKED]
    at_b = at_a if paired else chance.permutation(len(held.rows_b))[:CHECKED]
    texts = [
        _whole(m.docs["text"][int(row)])
        for m, rows in ((result.a, held.rows_a[at_a]), (result.b, held.rows_b[at_b]))
        for row in rows
    ]
    order = chance.permutation(len(texts))
    told, _ = judge_texts(asker, checking, one_line(one.statement), [texts[at] for at in order])
    said: list[bool | None] = [None] * len(texts)
    for at, verdict in zip(order.tolist(), told, strict=True):
        said[at] = verdict
    first, second = said[: len(at_a)], said[len(at_a) :]
    if paired:  # a pair counts if both have a verdict
        both = [None not in pair for pair in zip(first, second, strict=True)]
        first, second = ([x for x, ok in zip(part, both, strict=True) if ok] for part in (first, second))
    a, b = (np.array([x for x in part if x is not None], dtype=bool) for part in (first, second))
    found: dict[str, Any] = {"n_a": len(a), "n_b": len(b), "missing": len(texts) - len(a) - len(b)}
    if not len(a) or not len(b):
        return found
    if paired:
        low, high = stats.newcombe_paired((a & b).sum(), (a & ~b).sum(), (~a & b).sum(), len(a), level)
    else:
        low, high = stats.newcombe_unpaired(a.sum(), b.sum(), len(a), len(b), level)
    holds = float(high) < 0 if one.set == "second" else float(low) > 0
    shares = {"share_a": float(a.mean()), "share_b": float(b.mean())}
    difference = shares["share_a"] - shares["share_b"]
    return {**found, **shares, "difference": difference, "low": float(low), "high": float(high), "verified": holds}


def _whole(text: str | None) -> str:
    """A text, of a long one its beginning and its end."""
    text = text or ""
    end = _CHARS // 3
    return text if len(text) <= _CHARS else f"{text[: _CHARS - end]} […] {text[-end:]}"


def _line(number: int, row: dict[str, Any], names: tuple[str, str]) -> str:
    """A hypothesis in words: whether it holds, where, by how much, and what it explains."""
    of = ", ".join(map(str, row["findings"])) or "none"
    if row["difference"] is None:
        return f"{number}. not checked: {row['hypothesis']} (more in {row['favours']}; findings {of})"
    told = "verified" if row["verified"] else "NOT verified"
    shares = f"{names[0]} {row['share_a']:.0%}, {names[1]} {row['share_b']:.0%}"
    interval = f"{100 * row['difference']:+.0f} points [{100 * row['low']:.0f}, {100 * row['high']:.0f}]"
    return f"{number}. {told}: {row['hypothesis']} (more in {row['favours']}: {shares}, {interval}; findings {of})"


_SCHEMA: dict[str, Any] = {
    "hypothesis": pl.String,
    "favours": pl.String,
    "findings": pl.List(pl.Int64),
    "verified": pl.Boolean,
    "share_a": pl.Float64,
    "share_b": pl.Float64,
    "difference": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "n_a": pl.Int32,
    "n_b": pl.Int32,
    "missing": pl.Int32,
}
