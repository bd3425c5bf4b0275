"""`saelens-data concept`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

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

#: What the parts of the card are called.
_TITLES = {
    "label": "Labels",
    "score": "How well the label tells, without a language model",
    "density": "Density",
    "keyword": "Is it a word?",
    "length": "Length",
    "nearest": "Nearest concepts",
    "example": "Examples",
    "failure": "Where label and concept part",
}
#: Parts whose numbers are shares.
_SHARES = {"density"}


@click.command("concept")
@click.argument("store")
@click.argument("latent", type=int)
@corpus_options
@encoder_options
@output_options
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Draws the documents.")
def concept_command(
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
    seed: int,
) -> None:
    """Show what is known of a concept, and of whether its label can be believed: its trust card.

    \b
    Example: saelens-data concept answers.sae 4217
    """
    from saelens_data.labels.card import concept_card

    output = check_output(format_, output)
    (m,) = open_or_encode(store, text=text, id=id_, limit=limit, encoder=encoder, dtype=dtype)
    card = concept_card(m, latent, seed=seed)
    say(card.summary())
    for note in card.notes:
        say(note)
    if format_ == "table" and output is None:
        _print(card, rows)
    else:
        emit(card, format_, output, rows)


def _print(card: Result, rows: int | None) -> None:
    """The parts of the card one below the other; what a document holds is never read as markup."""
    from rich.console import Console
    from rich.text import Text

    console = Console()
    frame = card.frame if rows is None else card.frame.head(rows)
    for part in frame["part"].unique(maintain_order=True):
        console.print(Text(_TITLES[part], style="bold"))
        for row in frame.filter(part=part).iter_rows(named=True):
            console.print(Text(f"  {_line(row)}"), soft_wrap=not console.is_terminal)


def _line(row: dict[str, Any]) -> str:
    """A row in words: what, the number with its interval, whose it is, and the text."""
    from saelens_data.wording import share

    shares = row["part"] in _SHARES or "hold it" in row["what"]

    def number(value: float) -> str:
        return share(value) if shares else f"{value:.2f}"

    said = [plain(row["what"])]
    if row["value"] is not None:
        interval = "" if row["low"] is None else f" [{number(row['low'])}, {number(row['high'])}]"
        said.append(number(row["value"]) + interval)
    if row["n"] is not None:
        said.append(f"n {row['n']:,}")
    if row["latent"] is not None:
        said.append(f"latent {row['latent']}")
    if row["doc_id"] is not None:
        said.append(plain(row["doc_id"]))
    if row["text"] is not None:
        said.append(plain(row["text"]))
    return " · ".join(said)
