"""`saelens-data concept`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from saelens_data.cli.options import LATENT, output_options, reading_options, seed_option, verb
from saelens_data.cli.output import Output, plain, say_result
from saelens_data.cli.source import open_or_encode

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


@verb("concept", "concept answers.sae 4217")
@click.argument("store")
@click.argument("latent", type=LATENT)
@seed_option
@reading_options
@output_options()
def concept_command(store: str, latent: int, seed: int, out: Output) -> None:
    """Show whether a concept's label can be believed: its trust card.

    The card holds all that is known of the concept without a language model.
    """
    from saelens_data.labels.card import concept_card

    (m,) = open_or_encode(store)
    card = concept_card(m, latent, seed=seed)
    say_result(card)
    if out.is_table:
        _print(card, out.rows)
    else:
        out.emit(card)


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
