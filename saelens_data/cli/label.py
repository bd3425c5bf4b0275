"""`saelens-data label`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from saelens_data.cli.options import (
    ASKING,
    asking_options,
    new_file,
    number,
    option,
    output_options,
    reading_options,
    seed_option,
    stack,
    verb,
)
from saelens_data.cli.output import SUFFIXES, Output, plain, say, say_result, stage_bars
from saelens_data.cli.source import open_or_encode
from saelens_data.errors import InputError

if TYPE_CHECKING:
    import polars as pl

    from saelens_data.labels.settings import LabelSettings
    from saelens_data.matrix import ConceptMatrix

_WHICH = stack(
    option(
        "--for",
        "for_",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        metavar="FILE",
        help="Label the latents in a saved result: of `diff` its findings, else the column latent.",
    ),
    option("--latents", metavar="LIST", help="Label these latents: numbers with commas."),
    option("--query", metavar="QUERY", help="Label the concepts that fit the phrases of a query."),
    option("--all", "all_", is_flag=True, help="Label every latent that is active in these documents."),
)
_HOW = stack(
    number("--shown", least=4, default=16, help="Documents that the labeller sees."),
    number("--judged", least=4, default=16, help="Documents for the judge, with the concept and as many without."),
    seed_option,
    option("--no-keep", is_flag=True, help="Do not keep the labels beside the store."),
)
_CALLS = stack(
    asking_options,
    option("--dry-run", is_flag=True, section=ASKING, help="Show calls, tokens, cost and time, and send nothing."),
    option(
        "--temperature",
        type=click.FloatRange(min=0),
        metavar="NUMBER",
        default=0.0,
        section=ASKING,
        help="How freely the model words it.",
    ),
    number("--thinking", least=0, default=0, section=ASKING, help="Tokens to think for."),
    number("--concurrency", least=1, default=8, section=ASKING, help="Calls at once."),
    option(
        "--timeout",
        type=click.FloatRange(min=0, min_open=True),
        metavar="SECONDS",
        default=120.0,
        section=ASKING,
        help="How long an answer may take.",
    ),
    number("--retries", least=0, default=6, section=ASKING, help="Times that a failed call is repeated."),
    option(
        "--journal",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        section=ASKING,
        help="Keep the answers in this file, not in the cache.",
    ),
)


#: Options that say nothing without a model.
_OF_A_MODEL = ("base_url", "max_cost", "max_calls", "max_tokens")


@verb(
    "label",
    "label answers.sae --for diff.json --model gpt-4.1-mini --dry-run",
    "label answers.sae --for diff.json --model gpt-4.1-mini --max-cost 1.50",
    "label answers.sae --latents 12,407 --model NAME --base-url http://localhost:8000/v1",
)
@click.argument("store")
@_WHICH
@_HOW
@_CALLS
@reading_options
@output_options()
@new_file("--verdicts", suffixes=SUFFIXES, help="Write every verdict to this file.")
def label_command(
    store: str,
    for_: Path | None,
    latents: str | None,
    query: str | None,
    all_: bool,
    dry_run: bool,
    no_keep: bool,
    verdicts: Path | None,
    out: Output,
    **options: Any,
) -> None:
    """Label concepts by a language model, and prove each label.

    A label is proved on documents that the model did not see, and used if it is shown to beat the one there is. Without
    a model, the labels there are are scored. The key is read from OPENAI_API_KEY and written nowhere. The same command
    goes on where it was interrupted, and pays nothing twice.
    """
    settings = _settings(options)
    if sum((for_ is not None, latents is not None, query is not None, all_)) != 1:
        raise InputError("which latents? give one of --for FILE, --latents LIST, --query QUERY and --all")
    if not options["model"] and (given := [n for n in _OF_A_MODEL if options[n] is not None] + ["dry_run"] * dry_run):
        raise InputError(f"--{given[0].replace('_', '-')} is for asking a model: name it with --model")
    (m,) = open_or_encode(store)
    wanted = _wanted(m, for_, latents, query)
    asked = {name: options[name] for name in ("model", "base_url", "seed")}
    if dry_run:
        from saelens_data.labels.label import plan_labels

        plan = plan_labels(m, wanted, settings=settings, **asked)
        say_result(plan)
        out.emit(plan)
        return
    _label(m, store, wanted, settings, {**asked, **_limits(options)}, no_keep, verdicts, out)


def _label(
    m: ConceptMatrix,
    store: str,
    wanted: list[int] | None,
    settings: LabelSettings,
    asked: dict[str, Any],
    no_keep: bool,
    verdicts: Path | None,
    out: Output,
) -> None:
    from saelens_data.labels.label import label
    from saelens_data.labels.places import add_labels
    from saelens_data.results import Result

    with stage_bars() as progress:
        result = label(m, wanted, settings=settings, progress=progress, **asked)
    say_result(result)
    out.emit(result, view=_view, right=("score", "before", "fuzzing", "embedding"))
    if verdicts is not None:
        Result(result.verdicts, result.parameters, kind="verdicts").save(verdicts)
        say(f"wrote {verdicts}")
    if result.labels.height and not no_keep:
        place = _place(m, store)
        add_labels(place, result.labels)
        say(f"kept beside {place}")


def _place(m: ConceptMatrix, store: str) -> Path:
    """The folder of the store, in the cache if a file of texts was given; labels are of all of its fields."""
    from saelens_data.store import is_store
    from saelens_data.store.manifest import FIELDS

    if is_store(store):
        return Path(store)
    path = Path(getattr(m.keeper, "path", store))
    return path.parents[1] if path.parent.name == FIELDS else path


def _settings(options: dict[str, Any]) -> LabelSettings:
    from saelens_data.labels.ask import Patience
    from saelens_data.labels.sample import Sizes
    from saelens_data.labels.settings import LabelSettings

    return LabelSettings(
        sizes=Sizes(options.pop("shown"), options.pop("judged")),
        patience=Patience(retries=options.pop("retries")),
        concurrency=options.pop("concurrency"),
        timeout=options.pop("timeout"),
        temperature=options.pop("temperature"),
        thinking=options.pop("thinking"),
        price=options.pop("price"),
        journal=options.pop("journal"),
    )


def _limits(options: dict[str, Any]) -> dict[str, Any]:
    return {name: options[name] for name in ("max_cost", "max_calls", "max_tokens")}


def _wanted(m: ConceptMatrix, for_: Path | None, latents: str | None, query: str | None) -> list[int] | None:
    """The latents asked for; None for all that are active."""
    if for_ is not None:
        return _latents_in(for_)
    if latents is not None:
        return _numbers(latents)
    return None if query is None else _fitting(m, query)


def _numbers(said: str) -> list[int]:
    try:
        return [int(part) for part in said.replace(",", " ").split()]
    except ValueError as error:
        raise InputError(f"'{said}' is no list of latents: give numbers with commas, such as 12,407") from error


def _latents_in(path: Path) -> list[int]:
    """The latents of a saved result, in its order; of a comparison those of its findings.

    Raises InputError for a file that has none.
    """
    import polars as pl

    readers = {".csv": pl.read_csv, ".jsonl": pl.read_ndjson, ".parquet": pl.read_parquet}
    try:
        if path.suffix.lower() == ".json":
            rows: Sequence[Mapping[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["rows"]
        elif path.suffix.lower() in readers:
            rows = readers[path.suffix.lower()](path).to_dicts()  # type: ignore[operator]
        else:
            raise InputError(f"{path}: a saved result ends in .json, .jsonl, .csv or .parquet")
        # A comparison lists all that it tested, in what may be thousands of rows.
        kept = [row for row in rows if row.get("finding", True)]
        found = [int(row["latent"]) for row in kept if row["latent"] is not None]
    except (pl.exceptions.PolarsError, OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} has no latents: give a saved result that has a column 'latent'") from error
    if not found:
        raise InputError(f"{path} has no finding, so there is nothing to label: choose with --latents or --query")
    return found


def _fitting(m: ConceptMatrix, query: str) -> list[int]:
    """The latents that a query names, and those that fit its phrases. Raises InputError if there are none."""
    from saelens_data.concepts import find_concepts
    from saelens_data.diff.selection import concepts_in
    from saelens_data.query import Latent, Phrase

    found: list[int] = []
    for concept in concepts_in(query) or [Phrase(text=query)]:
        if isinstance(concept, Latent):
            found.append(concept.number)
        else:
            fitting = find_concepts(m, concept.text, n=m.n_concepts).frame.filter("fits")
            found += fitting["latent"].to_list()
    if not found:
        raise InputError(
            f"no concept fits '{query}': `saelens-data concepts` shows the nearest, --latents takes numbers"
        )
    return found


def _view(frame: pl.DataFrame) -> pl.DataFrame:
    """Rows for a reader."""
    import polars as pl

    lines = [
        {
            "latent": str(row["latent"]),
            "label": plain(row["label"]),
            "used": "yes" if row["used"] else "no",
            "score": _with_interval(row, "score"),
            "before": "" if row["before_score"] is None else f"{row['before_score']:.2f}",
            "fuzzing": _with_interval(row, "fuzzing"),
            "embedding": _with_interval(row, "embedding")
            if row["embedding"] is not None
            else ("" if row["before_embedding"] is None else f"({row['before_embedding']:.2f})"),
            "label before": plain(row["before"]),
            "why not": plain(row["why"]),
        }
        for row in frame.iter_rows(named=True)
    ]
    return pl.DataFrame(lines)


def _with_interval(row: dict[str, Any], name: str) -> str:
    if row[name] is None:
        return ""
    return f"{row[name]:.2f} [{row[f'{name}_low']:.2f}, {row[f'{name}_high']:.2f}]"
