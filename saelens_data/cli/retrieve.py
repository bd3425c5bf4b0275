"""`saelens-data retrieve`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from saelens_data.cli.options import (
    check_output,
    check_target,
    corpus_options,
    emit,
    encoder_options,
    open_or_encode,
    output_options,
    plain,
    say,
)

if TYPE_CHECKING:
    from rich.text import Text

    from saelens_data.results import Result

#: Documents shown by default, characters of a text shown, and concepts named.
_TOP, _CHARS, _NAMED = 20, 300, 3


@click.command("retrieve")
@click.argument("store")
@click.argument("query", required=False)
@click.option(
    "--mode",
    type=click.Choice(["hybrid", "concepts", "dense", "lexical"]),
    default="hybrid",
    show_default=True,
    help="What ranks: concepts, the reader's embedding (dense), both, or the words themselves.",
)
@click.option("--like", multiple=True, metavar="ID", help="Find documents like this one; may be repeated.")
@click.option("--unlike", multiple=True, metavar="ID", help="... and not like this one; may be repeated.")
@click.option(
    "--feedback",
    type=click.IntRange(min=0),
    help="Let so many documents found first pull the phrase towards them; 12 from 500 documents on, else none.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Draws what --like is told apart from.")
@click.option(
    "--report",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write a page to read: the documents, the words that count, and what made each score.",
)
@corpus_options
@encoder_options
@output_options
def retrieve_command(
    store: str,
    query: str | None,
    mode: Any,
    like: tuple[str, ...],
    unlike: tuple[str, ...],
    feedback: int | None,
    seed: int,
    report: Path | None,
    format_: str,
    output: Path | None,
    rows: int | None,
    **reading: Any,
) -> None:
    """Find the documents that have a property, twenty unless -n says otherwise, and say why each was found.

    QUERY is a phrase, or a query of several: '"refusal" and not "medical advice" and model = 'A''.

    \b
    Examples: saelens-data retrieve answers.sae "the assistant refuses politely" -n 5
              saelens-data retrieve answers.sae --like 17 --like 32 --unlike 5
              saelens-data retrieve answers.sae "hedging" -n 50 --report hedging.html
    """
    from saelens_data.retrieve import retrieve

    output = check_output(format_, output)
    if report is not None:
        check_target(report, (".html", ".htm"))
    (m,) = open_or_encode(store, id=reading.pop("id_"), **reading)
    n = _TOP if rows is None else rows
    result = retrieve(m, query, like=like, unlike=unlike, n=n, mode=mode, feedback=feedback, seed=seed)
    for note in (*result.notes, result.summary()):
        say(note)
    if format_ == "table" and output is None:
        _print(result)
    else:
        emit(result, format_, output, None)
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

    from saelens_data.evidence import between_words

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
