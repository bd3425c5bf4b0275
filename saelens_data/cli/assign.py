"""`saelens-data assign`."""

from __future__ import annotations

from pathlib import Path

import click

from saelens_data.cli.options import output_options, reading_options, verb
from saelens_data.cli.output import Output, say, say_result
from saelens_data.cli.source import open_or_encode

#: Rows shown by default.
_TOP = 20


@verb(
    "assign",
    "cluster january.jsonl -k 8 --save clusters.safetensors",
    "assign clusters.safetensors february.jsonl -o february.csv",
)
@click.argument("clusters", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("store")
@reading_options
@output_options()
def assign_command(clusters: Path, store: str, out: Output) -> None:
    """Put documents into the clusters that `cluster --save` kept.

    A document goes to the cluster with the nearest centre; beyond says that it lies farther out than every document
    that the cluster was made of.
    """
    from saelens_data.cluster.saved import assign, read_clusters

    saved = read_clusters(clusters)
    (m,) = open_or_encode(store)
    result = assign(saved, m)
    if (shown := out.first(_TOP)) != out and result.frame.height > _TOP:
        say(f"The first {_TOP} of {result.frame.height:,} documents; -n shows more, -o FILE.csv keeps them.")
    shown.emit(result)
    say_result(result)
