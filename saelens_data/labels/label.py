"""Label latents by a language model, prove each label on documents that the model never saw, and keep what holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

import numpy as np
import polars as pl

from saelens_data.evidence import column_of
from saelens_data.labels.ask import Asker
from saelens_data.labels.budget import PICO, Budget, BudgetSpentError, Limits, Spent, dollars
from saelens_data.labels.client import Complete
from saelens_data.labels.journal import call_key
from saelens_data.labels.plan import CountingAsker, LabelPlan
from saelens_data.labels.result import LabelResult, frames_of, row_of, verdict_frame
from saelens_data.labels.sample import Sample, Sampler
from saelens_data.labels.score import Embed, Score, embedder_of, embedding_scores
from saelens_data.labels.settings import Endpoint, LabelSettings
from saelens_data.labels.work import Worked, work_on
from saelens_data.matrix import ConceptMatrix
from saelens_data.progress import Stages, ToldStages, stages
from saelens_data.wording import count

#: Latents worked on before their labels are embedded: what is held of them at a time.
_BLOCK = 256
#: Seconds after which an interruption is heard at the latest.
_HEARD = 0.2
#: Origins of labels that a language model made here.
_OWN = "llm:"


def label(
    m: ConceptMatrix,
    latents: Sequence[int] | None = None,
    *,
    model: str | None = None,
    complete: Complete | None = None,
    base_url: str | None = None,
    max_cost: str | float | None = None,
    max_calls: int | None = None,
    max_tokens: int | None = None,
    settings: LabelSettings | None = None,
    embed: Embed | None = None,
    seed: int = 0,
    progress: ToldStages = None,
) -> LabelResult:
    """Label latents (all that are active, if None) from the documents of `m`, and score each label.

    `model` is asked at `base_url` (an OpenAI-compatible endpoint; None: $OPENAI_BASE_URL, else OpenAI's) with the key
    in $OPENAI_API_KEY; or `complete`, any function from messages to text, is asked. With neither, the labels that
    there are get their embedding scores, and nothing is sent. `max_cost` (US dollars), `max_calls` and `max_tokens`
    hold over all runs of the same work, interrupted ones too; what they leave undone says so. `embed` takes texts to
    vectors of length 1 for the embedding score; None: the encoder's own reader.

    `progress` is told (what is being done, latents done, of how many, cost and calls so far); None shows it to whoever
    is watching, in a terminal or a notebook, and False shows nothing.
    Nothing is written but answers, so that none is paid twice: `add_labels(store, result.labels)` keeps the labels.
    Raises InputError for latents that are not there, documents without texts or evidence, an endpoint that refuses,
    and limits of cost without prices; MissingExtraError without the extra `llm`.
    """
    settings, chosen = settings or LabelSettings(), chosen_latents(m, latents)
    sampler = Sampler(m, chosen, sizes=settings.sizes, seed=seed)
    run = _Run(m, sampler, chosen, _before(m, chosen), embed, seed, stages(progress))
    if model is None and complete is None:
        return run.result(run.embedded_only(), "", Spent(), None)
    limits = Limits.of(max_cost, max_calls, max_tokens)
    endpoint = Endpoint.of(model, complete, base_url, settings)
    with endpoint.journal(settings) as journal:
        job = job_of(m, chosen, endpoint, settings, seed)
        earlier = journal.spent(job)
        budget = Budget(limits, endpoint.price, earlier)
        asker = Asker(endpoint.client, budget, journal, job, settings.patience, seed, settings.thinking)
        done = run.with_model(asker, settings.concurrency)
        return run.result(done, endpoint.model, budget.spent - earlier, budget.cost(budget.spent - earlier))


def plan_labels(
    m: ConceptMatrix,
    latents: Sequence[int] | None = None,
    *,
    model: str | None = None,
    complete: Complete | None = None,
    base_url: str | None = None,
    settings: LabelSettings | None = None,
    seed: int = 0,
) -> LabelPlan:
    """What `label` with the same arguments would send: calls, tokens, cost and time. Nothing is sent.

    Raises as `label` does.
    """
    settings, chosen = settings or LabelSettings(), chosen_latents(m, latents)
    sampler = Sampler(m, chosen, sizes=settings.sizes, seed=seed)
    before = _before(m, chosen)
    endpoint = Endpoint.of(model, complete, base_url, settings, sends=False)
    with endpoint.journal(settings) as journal:
        counting = CountingAsker(endpoint.identity, journal, settings.thinking)
        lacking = 0
        for latent in chosen:
            sample = sampler.sample(latent)
            lacking += sample.lacking is not None
            work_on(sample, before[latent], counting, seed)
        spent = journal.spent(job_of(m, chosen, endpoint, settings, seed))
        return counting.plan(len(chosen), lacking, endpoint, settings.concurrency, spent)


def chosen_latents(m: ConceptMatrix, latents: Sequence[int] | None) -> list[int]:
    """The latents to work on, each once. Raises InputError for one that the matrix does not hold."""
    if latents is None:
        columns = np.unique(m.X.indices)
        return [int(latent) for latent in m.concepts["latent"].to_numpy()[columns]]
    chosen = list(dict.fromkeys(int(latent) for latent in latents))
    for latent in chosen:
        column_of(m, latent)
    return chosen


def job_of(m: ConceptMatrix, latents: Sequence[int], endpoint: Endpoint, settings: LabelSettings, seed: int) -> str:
    """A name for one piece of work: what is spent on it adds up over all of its runs."""
    sizes = settings.sizes
    about = {
        **endpoint.identity,
        "sae": m.source.sae_sha256,
        "latents": list(latents),
        "documents": [m.n_docs, int(m.X.nnz)],
        "sizes": [sizes.shown, sizes.judged, sizes.chars],
        "seed": seed,
    }
    return call_key(about)[:32]


def _before(m: ConceptMatrix, latents: Sequence[int]) -> dict[int, str | None]:
    """The label of each latent that a new one must beat: the preferred one that no language model made here."""
    table = m.labels.of_latents(latents)
    theirs = replace(table, rows=table.rows.filter(~pl.col("origin").str.starts_with(_OWN)))
    shown = dict(theirs.preferred().select("latent", "label").iter_rows())
    return {latent: shown.get(latent) for latent in latents}


@dataclass(eq=False)
class _Done:
    """What is kept of latents that are done: rows of the frame, and their verdicts as tables."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    verdicts: list[pl.DataFrame] = field(default_factory=list)


@dataclass(eq=False)
class _Run:
    """The latents of one call of `label`, worked on block by block."""

    m: ConceptMatrix
    sampler: Sampler
    latents: list[int]
    before: dict[int, str | None]
    embed: Embed | None
    seed: int
    progress: Stages

    def with_model(self, asker: Asker, concurrency: int) -> _Done:
        """Ask for every latent; several at once."""
        done = _Done()
        pool = ThreadPoolExecutor(concurrency, thread_name_prefix="label")
        try:
            for block in self._blocks():
                futures = {pool.submit(self._work, latent, asker): latent for latent in block}
                found = dict(self._collected(futures, asker, len(done.rows)))
                asker.check_answered()
                self._keep(done, [found[latent] for latent in block])
        except BaseException:
            asker.gate.stop.set()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
        return done

    def embedded_only(self) -> _Done:
        """The scores that need no language model, of the labels that there are."""
        done = _Done()
        for block in self._blocks():
            samples = [self.sampler.sample(latent) for latent in block]
            why = [s.lacking or (None if self.before[s.latent] else "it has no label to score") for s in samples]
            self._keep(done, [(Worked(s.latent, why=w), s) for s, w in zip(samples, why, strict=True)])
            self.progress("scoring", len(done.rows), len(self.latents), "")
        return done

    def result(self, done: _Done, model: str, spent: Spent, cost: int | None) -> LabelResult:
        """Everything as one result."""
        frame, labels = frames_of(done.rows, model)
        verdicts = pl.concat([verdict_frame([]), *done.verdicts])
        source = self.m.source
        sizes = self.sampler.sizes
        return LabelResult(
            frame=frame,
            parameters={
                "encoder": source.encoder,
                "model": model or None,
                "latents": len(self.latents),
                "shown": sizes.shown,
                "judged": sizes.judged,
                "chars": sizes.chars,
                "seed": self.seed,
            },
            notes=tuple(_notes(frame, verdicts, model)),
            labels=labels,
            verdicts=verdicts,
            calls=spent.calls,
            read=spent.read,
            written=spent.written,
            cost=None if cost is None else float(Decimal(cost) / PICO),
        )

    def _blocks(self) -> Iterator[list[int]]:
        for first in range(0, len(self.latents), _BLOCK):
            yield self.latents[first : first + _BLOCK]

    def _work(self, latent: int, asker: Asker) -> tuple[Worked, Sample]:
        sample = self.sampler.sample(latent)
        try:
            return work_on(sample, self.before[latent], asker, self.seed), sample
        except BudgetSpentError as spent:
            return Worked(latent, why=f"not done: {spent}"), sample

    def _collected(
        self, futures: dict[Future[tuple[Worked, Sample]], int], asker: Asker, before: int
    ) -> Iterator[tuple[int, tuple[Worked, Sample]]]:
        left, number = set(futures), before
        while left:
            # A wait without end does not hear an interruption on every system.
            ended, left = wait(left, timeout=_HEARD, return_when=FIRST_COMPLETED)
            for future in ended:
                yield futures[future], future.result()
                number += 1
                spent = asker.budget.spent
                cost = asker.budget.cost(spent)
                money = "" if cost is None else f"{dollars(cost)}, "
                self.progress("labelling", number, len(self.latents), f"{money}{count(spent.calls, 'call')}")

    def _keep(self, done: _Done, found: Sequence[tuple[Worked, Sample]]) -> None:
        """Add rows of the frame, with the embedding scores of new and old labels, and the verdicts."""
        samples = {sample.latent: sample for _, sample in found}
        asked = [(w.latent, w.label) for w, s in found if w.label and s.held]
        old = [(w.latent, before) for w, s in found if (before := self.before[w.latent]) and s.held]
        scores = self._embedded(asked + old, samples)
        own = dict(zip((latent for latent, _ in asked), scores, strict=False))
        theirs = dict(zip((latent for latent, _ in old), scores[len(asked) :], strict=True))
        for worked, sample in found:
            before, density = self.before[worked.latent], sample.n_active / max(self.m.n_docs, 1)
            embedded = own.get(worked.latent), theirs.get(worked.latent)
            done.rows.append(row_of(worked, sample, before, density, embedded))
        done.verdicts.append(verdict_frame([worked for worked, _ in found]))

    def _embedded(self, labels: list[tuple[int, str]], samples: dict[int, Sample]) -> list[Score]:
        if labels and self.embed is None:
            self.embed = embedder_of(self.m)
        return embedding_scores(labels, samples, self.embed, token=self.sampler.reads_tokens) if self.embed else []


def _notes(frame: pl.DataFrame, verdicts: pl.DataFrame, model: str) -> Iterator[str]:
    """What the reader must know: labels not used, verdicts that are missing, documents that speak to the model."""
    if model and (kept := frame.filter(pl.col("label").is_not_null() & ~pl.col("used")).height):
        yield f"{count(kept, 'label')} not shown to be better than what was there: not used, column why."
    if model and (without := frame.filter(pl.col("label").is_null()).height):
        reasons = frame.filter(pl.col("label").is_null())["why"].value_counts(sort=True).rows()
        told = "; ".join(f"{n:,} {why}" for why, n in reasons[:4])
        yield f"{count(without, 'latent')} without a label: {told}."
    if lost := int(verdicts["said"].is_null().sum()):
        of = f"{lost:,} of {verdicts.height:,} verdicts"
        yield f"{of} are missing: the judge failed, refused or could not tell. None of them counts as a no."
    named = frame["steering"].explode().drop_nulls()
    if len(named):
        documents = list(dict.fromkeys(named))
        listed = ", ".join(str(name) for name in documents[:5]) + (", …" if len(documents) > 5 else "")
        yield (
            f"{count(len(documents), 'document')} with words that speak to a model ({listed}): left out of the "
            "evidence, except where most of a latent's documents are like that."
        )
