"""`saelens-data retrieve`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from saelens_data.cli.options import number, option, output_options, reading_options, report_option, seed_option, verb
from saelens_data.cli.output import Output, plain, say, say_result
from saelens_data.cli.source import check_order, open_or_encode

if TYPE_CHECKING:
    from rich.text import Text

    from saelens_data.results import Result

#: Characters of a text shown, and concepts named.
_CHARS, _NAMED = 300, 3


@verb(
    "retrieve",
    'retrieve answers.sae "the assistant refuses politely" -n 5',
    """retrieve answers.sae '"refusal" and not "medical advice"'""",
    "retrieve answers.sae --like 17 --like 32 --unlike 5",
    'retrieve answers.sae "hedging" -n 50 --report hedging.html',
)
@click.argument("store")
@click.argument("query", required=False)
@option(
    "--mode",
    type=click.Choice(["hybrid", "concepts", "dense", "lexical"]),
    metavar="MODE",
    default="hybrid",
    help="What ranks: hybrid, concepts, dense (embeddings) or lexical (words).",
)
@option("--like", multiple=True, metavar="ID", help="Find documents like this one; repeatable.")
@option("--unlike", multiple=True, metavar="ID", help="And not like this one; repeatable.")
@number("--feedback", least=0, help="So many first hits pull the phrase; else 12, of few documents 0.")
@seed_option
@reading_options
@output_options(20)
@report_option
def retrieve_command(
    store: str,
    query: str | None,
    mode: Any,
    like: tuple[str, ...],
    unlike: tuple[str, ...],
    feedback: int | None,
    seed: int,
    report: Path | None,
    out: Output,
) -> None:
    """Find the documents that have a property, and say why.

    QUERY is a phrase, or a query of phrases, latents and columns.
    """
    from saelens_data.retrieve import retrieve

    check_order("retrieve", store, query)
    (m,) = open_or_encode(store)
    result = retrieve(m, query, like=like, unlike=unlike, n=out.n, mode=mode, feedback=feedback, seed=seed)
    say_result(result)
    if out.is_table:
        _print(result)
    else:
        out.emit(result)
    if report is not None:
        from saelens_data.report.retrieve import write_retrieve_report

        say(f"wrote {write_retrieve_report(result, report)}")


def _print(result: Result) -> None:
    """A few lines on each document: its score, what made it, and the text around its evidence."""
    from rich.console import Console
    from rich.text import Text

    console = Console()
    coloured = console.color_system is not None and not console.no_color
    for row in result.frame.iter_rows(named=True):
        # Text objects alone: what a document holds is never read as markup.
        head = (f"{row['rank']}. ", "dim"), (plain(row["doc_id"]), "bold"), f"  score {row['score']:.3f}"
        for line in (Text.assemble(*head), Text(_why(row), "dim"), _passage(row, coloured=coloured), Text()):
            console.print(line, soft_wrap=not console.is_terminal)


def _why(row: Mapping[str, Any]) -> str:
    """The parts of the score by name, and the latents that gave most."""
    latents = [part for part in row["concepts"] if part["latent"] is not None][:_NAMED]
    named = [part for part in row["concepts"] if part["latent"] is None]
    shown = (f"{_name(part)} {part['share']:+.3f}" for part in (*latents, *named))
    return "   " + "; ".join(shown)


def _name(part: Mapping[str, Any]) -> str:
    label = "" if part["label"] is None else plain(part["label"])
    if part["latent"] is None:
        return label
    return f"{part['latent']} ({label})" if label else f"latent {part['latent']}"


def _passage(row: Mapping[str, Any], *, coloured: bool) -> Text:
    """The text around the evidence, which is in colour, or between asterisks where the output has none."""
    from rich.text import Text

    from saelens_data.display.stretches import between_words

    text = row["text"]
    if text is None:
        return Text("")
    spans = sorted((span["start"], min(span["end"], span["start"] + _CHARS)) for span in row["evidence"])
    first, last = spans[0] if spans else (0, 0)
    low = max(0, min(first - max(0, _CHARS - (last - first)) // 2, len(text) - _CHARS))
    high = min(len(text), max(low + _CHARS, last))
    low, high = between_words(text, low, high, first if spans else low, last if spans else high)
    mark, style = ("", "black on yellow") if coloured else ("**", "")
    shown, at = Text("   " + ("… " if low else "")), low
    for start, end in spans:
        if at <= start and end <= high:
            shown.append(plain(text[at:start])).append(f"{mark}{plain(text[start:end])}{mark}", style)
            at = end
    return shown.append(plain(text[at:high]) + (" …" if high < len(text) else ""))
