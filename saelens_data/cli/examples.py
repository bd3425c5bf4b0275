"""`saelens-data examples`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from saelens_data.cli.options import (
    check_output,
    corpus_options,
    emit,
    encoder_options,
    open_or_encode,
    output_options,
    plain,
    say,
)

if TYPE_CHECKING:
    from saelens_data.results import Result

#: How many documents are shown by default.
_TOP = 10


@click.command("examples")
@click.argument("store")
@click.argument("latent", type=int)
@corpus_options
@encoder_options
@output_options
def examples_command(
    store: str,
    latent: int,
    text: str | None,
    id_: str | None,
    limit: int | None,
    encoder: str,
    dtype: str,
    format_: str,
    output: Path | None,
    rows: int | None,
) -> None:
    """Show the documents in which a latent is strongest, ten unless -n says otherwise, with its evidence marked.

    \b
    Example: saelens-data examples answers.sae 4217 -n 5
    """
    from saelens_data.evidence import examples

    output = check_output(format_, output)
    (m,) = open_or_encode(store, text=text, id=id_, limit=limit, encoder=encoder, dtype=dtype)
    result = examples(m, latent, n=_TOP if rows is None else rows)
    say(result.summary())
    if format_ == "table" and output is None:
        _print(result)
    else:
        emit(result, format_, output, None)


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
