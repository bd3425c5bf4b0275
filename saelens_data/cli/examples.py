"""`saelens-data examples`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from saelens_data.cli.options import LATENT, output_options, reading_options, verb
from saelens_data.cli.output import Output, plain, say_result
from saelens_data.cli.source import open_or_encode

if TYPE_CHECKING:
    from saelens_data.results import Result


@verb("examples", "examples answers.sae 4217 -n 5")
@click.argument("store")
@click.argument("latent", type=LATENT)
@reading_options
@output_options(10)
def examples_command(store: str, latent: int, out: Output) -> None:
    """Show the documents in which a latent is strongest.

    The evidence is marked.
    """
    from saelens_data.evidence import examples

    (m,) = open_or_encode(store)
    result = examples(m, latent, n=out.n)
    say_result(result)
    if out.is_table:
        _print(result)
    else:
        out.emit(result)


def _print(result: Result) -> None:
    """A line on each document, and its evidence in colour; between asterisks where the output has none."""
    from rich.console import Console
    from rich.text import Text

    console = Console()
    coloured = console.color_system is not None and not console.no_color
    mark, style = ("", "black on yellow") if coloured else ("**", "")
    for row in result.frame.iter_rows(named=True):
        # Text objects alone: what a document holds is never read as markup.
        head = (f"{row['rank']}. ", "dim"), (plain(row["doc_id"]), "bold"), f"  activation {row['activation']:.2f}"
        words = plain(row["before"]), (f"{mark}{plain(row['text'])}{mark}", style), plain(row["after"])
        for line in (Text.assemble(*head), Text.assemble(*words), Text()):
            console.print(line, soft_wrap=not console.is_terminal)
