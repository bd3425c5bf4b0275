"""`saelens-data verify`."""

from __future__ import annotations

import click

from saelens_data.errors import StoreError


@click.command("verify")
@click.argument("store", type=click.Path(exists=True))
def verify_command(store: str) -> None:
    """Check every byte of a store against its manifest.

    \b
    Example: saelens-data verify answers.sae
    """
    from saelens_data.store import verify_store

    problems = verify_store(store)
    for problem in problems:
        click.echo(problem)
    if problems:
        raise StoreError(f"{store} is damaged ({len(problems)} problems): encode it again from its source")
    click.echo(f"{store}: sound")
