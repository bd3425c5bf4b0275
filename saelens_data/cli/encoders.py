"""`saelens-data encoders`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from saelens_data.errors import EncoderError


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
        states = reader["hook"] if reader["kind"] == "tokens" else " + ".join(part["name"] for part in reader["parts"])
        click.echo(f"{name}: {reader['name']}, {states}")
        if (folder / METRICS_FILE).is_file():
            _show(_read(folder / METRICS_FILE))


def _read(file: Path) -> dict[str, Any]:
    try:
        metrics: dict[str, Any] = json.loads(file.read_bytes())
    except ValueError as error:
        raise EncoderError(f"{file} is damaged ({error}): copy or train the encoder again") from error
    return metrics


def _show(metrics: dict[str, Any]) -> None:
    """A line for each figure and for each source of the training texts."""
    numbers = {key.replace("_", " "): value for key, value in metrics.items() if isinstance(value, int | float)}
    for name, value in numbers.items():
        click.echo(f"  {name:26} {value:,.3f}" if isinstance(value, float) else f"  {name:26} {value:,}")
    for source in metrics.get("sources", []):
        named = [source[key] for key in ("source", "licence") if source.get(key)]
        click.echo(f"  {'trained on':26} {', '.join(named)}")
