"""`saelens-data encoders`."""

from __future__ import annotations

import json
from typing import Any

import click


@click.command("encoders")
@click.argument("folders", nargs=-1)
def encoders_command(folders: tuple[str, ...]) -> None:
    """List the bundled encoders, and those in FOLDERS, with their measured figures.

    \b
    Example: saelens-data encoders
    """
    from saelens_data.encoders import METRICS_FILE, bundled_encoders, find_encoder, read_spec

    found = {name: find_encoder(name) for name in (*bundled_encoders(), *folders)}
    for name, folder in found.items():
        spec = read_spec(folder)
        reader = spec["reader"]
        click.echo(f"{name}: {reader['name']}, {' + '.join(part['name'] for part in reader['parts'])}")
        if (folder / METRICS_FILE).is_file():
            _show(json.loads((folder / METRICS_FILE).read_text(encoding="utf-8")))


def _show(metrics: dict[str, Any]) -> None:
    """A line for each figure and for each source of the training texts."""
    numbers = {key.replace("_", " "): value for key, value in metrics.items() if isinstance(value, int | float)}
    for name, value in numbers.items():
        click.echo(f"  {name:26} {value:,.3f}" if isinstance(value, float) else f"  {name:26} {value:,}")
    for source in metrics.get("sources", []):
        named = [source[key] for key in ("source", "licence") if source.get(key)]
        click.echo(f"  {'trained on':26} {', '.join(named)}")
