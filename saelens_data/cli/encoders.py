"""`saelens-data encoders`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from saelens_data.cli.options import output_options, verb
from saelens_data.cli.output import Output, say
from saelens_data.errors import EncoderError

if TYPE_CHECKING:
    import polars as pl

#: Columns of the table of published pairs on a terminal.
_VIEW = ("name", "hook", "d_sae", "l0", "language", "reader_gb", "sae_gb", "licence", "reader_licence", "here")

_SIZES = ("reader_gb", "sae_gb")


@verb("encoders", "encoders")
@click.argument("folders", nargs=-1)
@output_options()
def encoders_command(folders: tuple[str, ...], out: Output) -> None:
    """List the encoders that --encoder takes.

    They are bundled ones, folders, and published pairs of a reader and an SAE. Folders are those named, and those in
    the folders that $SAELENS_DATA_ENCODERS lists (else in the current one). Of published pairs it says whether the
    weights are here; nothing is fetched.
    """
    from saelens_data.encoders import METRICS_FILE, bundled_encoders, find_encoder, read_spec
    from saelens_data.results import Result

    found = {name: find_encoder(name) for name in (*bundled_encoders(), *folders, *local_encoders(folders))}
    specs = {name: read_spec(folder) for name, folder in found.items()}
    pairs = published_frame()
    if not out.is_table:
        out.emit(Result(_all(found, specs, pairs), kind="encoders"))
        return
    for name, folder in found.items():
        click.echo(f"{name}: {specs[name]['reader']['name']}, {_states(specs[name])}")
        if (folder / METRICS_FILE).is_file():
            _show(_read(folder / METRICS_FILE))
    click.echo("\nPublished pairs, by name. Sizes in GB, of the reader in bfloat16 and of the SAE in float32:")
    out.emit(Result(pairs, kind="encoders"), view=_view, right=_SIZES)
    if not pairs["here"].all():
        say("Of a pair that is not here, --encoder NAME says which command fetches it.")


def _view(pairs: pl.DataFrame) -> pl.DataFrame:
    import polars as pl

    texts = {name: [None if size is None else f"{size:.3g}" for size in pairs[name]] for name in _SIZES}
    return pairs.select(_VIEW).with_columns(pl.Series(name, values, pl.String) for name, values in texts.items())


def local_encoders(named: tuple[str, ...] = ()) -> list[str]:
    """Folders of encoders in the folders of $SAELENS_DATA_ENCODERS, else in the current one; not those `named`."""
    from saelens_data.encoders import ENCODER_FILE, encoder_roots

    roots = encoder_roots() or [Path()]
    known = {Path(name).resolve() for name in named}
    files = [file for root in roots if root.is_dir() for file in sorted(root.glob(f"*/{ENCODER_FILE}"))]
    return [str(file.parent) for file in files if file.parent.resolve() not in known]


def published_frame() -> pl.DataFrame:
    """The published pairs, one row each."""
    import polars as pl

    from saelens_data import published

    rows = [
        {
            "name": pair.name,
            "kind": "published",
            "reader": pair.reader,
            "hook": pair.hook_name,
            "release": pair.release,
            "sae_id": pair.sae_id,
            "repo_id": pair.repo_id,
            "d_sae": pair.d_sae,
            "l0": pair.l0,
            "language": pair.language,
            "reader_gb": pair.reader_gb,
            "sae_gb": pair.sae_gb,
            "licence": pair.licence or "unknown",
            "reader_licence": (pair.reader_licence or "unknown") + (", on request" if pair.gated else ""),
            "neuronpedia": pair.neuronpedia,
            "note": pair.note,
            "here": not (commands := pair.commands()),
            "commands": commands,
        }
        for pair in published.pairs()
    ]
    return pl.DataFrame(rows, infer_schema_length=None).with_columns(
        pl.col(_SIZES).round(2), pl.col("l0").cast(pl.Int32), pl.col("language").fill_null("unknown")
    )


def _all(found: Mapping[str, Path], specs: Mapping[str, Mapping[str, Any]], pairs: pl.DataFrame) -> pl.DataFrame:
    import polars as pl

    from saelens_data.encoders import bundled_encoders

    bundled = bundled_encoders()
    rows = [
        {
            "name": name,
            "kind": "bundled" if name in bundled else "folder",
            "reader": spec["reader"]["name"],
            "hook": _states(spec),
            "d_sae": _d_sae(found[name]),
            "here": True,
        }
        for name, spec in specs.items()
    ]
    return pl.concat([pl.DataFrame(rows, schema_overrides=pairs.schema), pairs], how="diagonal_relaxed").select(
        pairs.columns
    )


def _d_sae(folder: Path) -> int | None:
    from saelens_data.encoders import CONFIG_FILE

    try:
        return int(json.loads((folder / CONFIG_FILE).read_bytes())["d_sae"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _states(spec: Mapping[str, Any]) -> str:
    reader = spec["reader"]
    return " + ".join(part["name"] for part in reader["parts"]) if "parts" in reader else str(reader["hook"])


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
