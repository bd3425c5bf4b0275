"""`saelens-data concepts`."""

from __future__ import annotations

import click

from saelens_data.cli.options import output_options, reading_options, seed_option, verb
from saelens_data.cli.output import Output, say_result
from saelens_data.cli.source import check_order, open_or_encode


@verb("concepts", 'concepts answers.sae "offers more help" -n 5')
@click.argument("store")
@click.argument("phrase")
@seed_option
@reading_options
@output_options(10)
def concepts_command(store: str, phrase: str, seed: int, out: Output) -> None:
    """Find the concepts nearest to a phrase, and whether any fits."""
    from saelens_data.concepts import find_concepts, read_phrase

    check_order("concepts", store, phrase)
    read_phrase(phrase)  # refused before a file is encoded for minutes
    (m,) = open_or_encode(store)
    result = find_concepts(m, phrase, n=out.n, seed=seed)
    say_result(result)
    out.emit(result)
