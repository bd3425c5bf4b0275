"""`saelens-data verify`."""

from __future__ import annotations

import click

from saelens_data.cli.options import verb
from saelens_data.errors import StoreError
from saelens_data.wording import count


@verb("verify", "verify answers.sae")
@click.argument("store")
def verify_command(store: str) -> None:
    """Check every byte of a store against its manifest."""
    from saelens_data.store import verify_store

    problems = verify_store(store)
    for problem in problems:
        click.echo(problem)
    if problems:
        raise StoreError(f"{store} is not sound: {count(len(problems), 'problem')}, listed with what to do")
    click.echo(f"{store}: sound")
