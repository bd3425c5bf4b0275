"""`saelens-data assign`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from saelens_data.cli.options import (
    check_output,
    corpus_options,
    emit,
    encoder_options,
    open_or_encode,
    output_options,
    say,
)

#: Rows shown by default.
_TOP = 20


@click.command("assign")
@click.argument("clusters", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("store")
@corpus_options
@encoder_options
@output_options
def assign_command(
    clusters: Path, store: str, format_: str, output: Path | None, rows: int | None, id_: str | None, **reading: Any
) -> None:
    """Put the documents of STORE into CLUSTERS that `cluster --save` kept.

    A document goes to the cluster with the nearest centre; beyond says that it lies farther out than every document
    that the cluster was made of.

    \b
    saelens-data cluster january.jsonl -k 8 --save clusters.safetensors
    saelens-data assign clusters.safetensors february.jsonl -o february.csv
    """
    from saelens_data.cluster.saved import assign, read_clusters

    output, saved = check_output(format_, output), read_clusters(clusters)
    (m,) = open_or_encode(store, id=id_, **reading)
    result = assign(saved, m)
    if rows is None and format_ == "table" and output is None and result.frame.height > _TOP:
        rows = _TOP
        say(f"The first {_TOP} of {result.frame.height:,} documents; -n shows more, -o FILE.csv keeps them.")
    emit(result, format_, output, rows)
    for line in (result.summary(), *result.notes):
        say(line)
