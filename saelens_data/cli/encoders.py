"""`saelens-data encoders`."""

from __future__ import annotations

import json

import click


@click.command("encoders")
@click.argument("folders", nargs=-1, type=click.Path(exists=True, file_okay=False))
def encoders_command(folders: tuple[str, ...]) -> None:
    """List the bundled encoders, and those in FOLDERS, with their measured figures.

    \b
    Example: saelens-data encoders
    """
    from saelens_data.encoders import METRICS_FILE, bundled_encoders, find_encoder, read_spec

    for name in (*bundled_encoders(), *folders):
        folder = find_encoder(name)
        spec = read_spec(folder)
        reader = spec["reader"]
        click.echo(f"{name}: {reader['name']}, {' + '.join(part['name'] for part in reader['parts'])}")
        if (folder / METRICS_FILE).is_file():
            metrics = json.loads((folder / METRICS_FILE).read_text(encoding="utf-8"))
            for key, value in metrics.items():
                shown = f"{value:,.3f}" if isinstance(value, float) else f"{value:,}"
                click.echo(f"  {key.replace('_', ' '):26} {shown}")
