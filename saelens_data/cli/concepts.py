"""`saelens-data concepts`."""

from __future__ import annotations

from pathlib import Path

import click

from saelens_data.cli.options import (
    check_output,
    corpus_options,
    emit,
    encoder_options,
    open_or_encode,
    output_options,
    say,
)

#: How many concepts are shown by default.
_TOP = 10


@click.command("concepts")
@click.argument("store")
@click.argument("words")
@corpus_options
@encoder_options
@output_options
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Draws what is compared with.")
def concepts_command(
    store: str,
    words: str,
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
    """Find the concepts for a phrase, ten unless -n says otherwise, and whether any of them fits.

    \b
    Example: saelens-data concepts answers.sae "offers more help" -n 5
    """
    from saelens_data.concepts import find_concepts, read_phrase

    output = check_output(format_, output)
    read_phrase(words)  # refused before a file is encoded for minutes
    (m,) = open_or_encode(store, text=text, id=id_, limit=limit, encoder=encoder, dtype=dtype)
    result = find_concepts(m, words, n=_TOP if rows is None else rows, seed=seed)
    say(result.summary())
    for note in result.notes:
        say(note)
    emit(result, format_, output, None)
