"""`saelens-data info`."""

from __future__ import annotations

from dataclasses import asdict

import click


@click.command("info")
@click.argument("store")
def info_command(store: str) -> None:
    """Say what a store holds and how it was made.

    \b
    Example: saelens-data info answers.sae
    """
    from saelens_data.store import open_store

    m = open_store(store)
    errors = m.docs["error"].is_not_null().sum()
    lines = {
        "documents": f"{m.n_docs:,}" + (f" ({errors:,} not encoded)" if errors else ""),
        "spans": f"{m.docs['n_units'].sum():,}",
        "tokens": f"{m.docs['n_tokens'].sum():,}",
        "concepts": f"{m.n_concepts:,}, {int((m.density() > 0).sum()):,} of them active here",
        "active a document": f"{m.X.nnz / max(m.n_docs, 1):.0f}",
        "columns": ", ".join(m.docs.columns),
    }
    for key, value in (lines | asdict(m.source)).items():
        shown = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
        click.echo(f"{key.replace('_', ' '):18} {shown}")
