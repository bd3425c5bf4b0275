"""`saelens-data info`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from saelens_data.cli.options import verb
from saelens_data.wording import count

if TYPE_CHECKING:
    from saelens_data.matrix import ConceptMatrix


@verb("info", "info answers.sae")
@click.argument("store")
def info_command(store: str) -> None:
    """Say what a store holds and how it was made."""
    from saelens_data.encoders.check import concerns
    from saelens_data.store import open_store

    m = open_store(store)
    errors = m.docs["error"].is_not_null().sum()
    lines = {
        "documents": f"{m.n_docs:,}" + (f" ({errors:,} not encoded)" if errors else ""),
        **({"spans": f"{m.docs['n_units'].sum():,}"} if m.source.unit == "span" else {}),
        "tokens": f"{m.docs['n_tokens'].sum():,}",
        "concepts": f"{m.n_concepts:,}, {int((m.density() > 0).sum()):,} of them active here",
        "active a document": f"{m.X.nnz / max(m.n_docs, 1):.0f}",
        "columns": ", ".join(m.docs.columns),
        **{f"field {name}": _amount(m.field(name)) for name in m.fields if len(m.fields) > 1},
    }
    for key, value in (lines | asdict(m.source)).items():
        shown = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
        if shown != "":
            click.echo(f"{key.replace('_', ' '):18} {shown}")
    for concern in concerns(m.source.checks):
        click.echo(f"{'note':18} {concern}")


def _amount(m: ConceptMatrix) -> str:
    """How much a field holds."""
    said, errors = int((m.docs["n_units"] > 0).sum()), int(m.docs["error"].is_not_null().sum())
    parts = [count(said, "document"), count(int(m.docs["n_tokens"].sum()), "token"), count(m.X.nnz, "activation")]
    return ", ".join(parts) + (f" ({errors:,} not encoded)" if errors else "")
