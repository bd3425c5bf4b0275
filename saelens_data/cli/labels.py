"""`saelens-data labels`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from saelens_data.cli.options import LATENT, option, output_options, stack, verb
from saelens_data.cli.output import Output, say
from saelens_data.errors import InputError
from saelens_data.wording import count

if TYPE_CHECKING:
    import polars as pl

    from saelens_data.matrix.label_table import LabelTable

#: How many labels are shown by default.
_TOP = 20
#: Columns of the table on a terminal.
_VIEW = ("latent", "label", "origin", "score", "score_kind", "baseline", "shown")

_CHANGES = stack(
    option(
        "--import",
        "import_",
        metavar="FILE",
        help="Add labels: a Neuronpedia export, a JSON object, a delphi folder or a table.",
    ),
    option("--origin", metavar="NAME", help="With --import: who says so. Alone: show this origin's labels only."),
    option("--source", metavar="NAME", help="With --import: which SAE's labels, where a file holds several."),
    option("--prefer", metavar="ORIGIN", multiple=True, help="Show this origin's label first; repeatable."),
    option("--default-order", is_flag=True, help="Forget what was preferred."),
    option("--remove", metavar="ORIGIN", help="Remove an origin's labels."),
)


@verb("labels", "labels answers.sae 4217", "labels answers.sae --import explanations/ --prefer neuronpedia")
@click.argument("store")
@click.argument("latents", nargs=-1, type=LATENT)
@_CHANGES
@output_options()
def labels_command(
    store: str,
    latents: tuple[int, ...],
    import_: str | None,
    origin: str | None,
    source: str | None,
    prefer: tuple[str, ...],
    default_order: bool,
    remove: str | None,
    out: Output,
) -> None:
    """List the labels of latents, or import, prefer and remove them.

    Those of LATENTS, else of all, of every origin; STORE may be the folder of an encoder.
    """
    from saelens_data.labels.places import labels_of, prefer_labels, remove_labels
    from saelens_data.results import Result

    if prefer and default_order:
        raise InputError("--prefer and --default-order ask for two orders: leave one out")
    if source and not import_:
        raise InputError("--source belongs to --import: name the file too")
    if import_:
        _import(store, import_, origin, source, prefer)
    elif prefer or default_order:
        prefer_labels(store, *prefer)
    if remove:
        remove_labels(store, remove)
    table = labels_of(store)
    say(summary(table))
    frame = listing(table, latents, None if import_ else origin)
    if (import_ or remove) and out.path is None and not latents:
        return
    shown = out if latents else out.first(_TOP)
    shown.emit(Result(frame, kind="labels"), view=lambda found: found.select(_VIEW))
    if shown.is_table and shown.rows is not None and shown.rows < frame.height:
        say(f"and {frame.height - shown.rows:,} more: -n {frame.height}, or -o FILE")


def _import(store: str, path: str, origin: str | None, source: str | None, prefer: tuple[str, ...]) -> None:
    from saelens_data.labels.places import import_labels

    found = import_labels(store, path, origin=origin, source=source, prefer=prefer)
    of = f" of {found.source}" if found.source else ""
    say(f"{path}: {found.layout}{of}, {count(found.rows.height, 'label')}")
    for note in found.notes:
        say(f"  {note}")


def listing(table: LabelTable, latents: tuple[int, ...] = (), origin: str | None = None) -> pl.DataFrame:
    """The rows of a table, and whether each is the label that is shown. Raises InputError for what is not there."""
    import polars as pl

    chosen = table.of_latents(latents) if latents else table
    if latents and (bare := set(latents) - set(chosen.rows["latent"])):
        raise InputError(f"latent {min(bare)} has no label here")
    key = ["latent", "label", "origin", "method"]
    shown = chosen.preferred().select(*key, shown=pl.lit(value=True))
    rows = chosen.rows.join(shown, on=key, how="left", nulls_equal=True, maintain_order="left")
    rows = rows.with_columns(pl.col("shown").fill_null(value=False))
    return rows if origin is None else rows.filter(pl.col("origin").is_in(table.named(origin)))


def summary(table: LabelTable) -> str:
    """How many labels there are, of whom, and what is preferred, in a sentence."""
    by = table.rows["origin"].value_counts()
    counts = dict(zip(by["origin"], by["count"], strict=True))
    named = count(table.rows["latent"].n_unique(), "latent")
    parts = [f"{origin} {counts.get(origin, 0):,}" for origin in table.origins]
    first = f"; preferred: {', '.join(table.prefer)}" if table.prefer else ""
    rejected = table.rejected().height
    lost = f"; {rejected:,} did not beat the label they would replace and are not used" if rejected else ""
    return f"{count(table.rows.height, 'label')} of {named}: {', '.join(parts) or 'none'}{first}{lost}"
