"""`saelens-data cluster`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from saelens_data.cli.options import (
    new_file,
    number,
    option,
    output_options,
    reading_options,
    report_option,
    seed_option,
    stack,
    verb,
)
from saelens_data.cli.output import SUFFIXES, Output, plain, say
from saelens_data.cli.source import open_or_encode
from saelens_data.errors import InputError

if TYPE_CHECKING:
    import polars as pl

    from saelens_data.cluster import ClusterResult
    from saelens_data.matrix import ConceptMatrix

#: Concepts of a cluster that the table shows.
_SHOWN = 4


class _Clusters(click.ParamType[Any]):
    """A number of clusters, or "auto"."""

    name = "N|auto"

    def convert(self, value: Any, param: Any, ctx: Any) -> int | Literal["auto"]:
        if value == "auto" or isinstance(value, int):
            return value  # type: ignore[no-any-return]
        try:
            return int(value)
        except ValueError:
            self.fail(f"'{value}' is neither a number of clusters nor 'auto'", param, ctx)


_AXIS = stack(
    option("--by", multiple=True, metavar="PHRASE", help="What to group by, in words; repeatable."),
    option("--concepts", metavar="QUERY", help="Group by these concepts: a query, as `retrieve` takes it."),
    option("--without", multiple=True, metavar="PHRASE", help="What is to be left out; repeatable."),
    option(
        "--latents",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        metavar="FILE",
        help="Group by the concepts of this table: columns latent and perhaps weight.",
    ),
    option("--keep-languages", is_flag=True, help="Do not leave out what tells languages apart."),
    option("--show-axis", is_flag=True, help="Show the concepts that were chosen and why, and group nothing."),
)
_METHOD = stack(
    option("-k", "k", type=_Clusters(), metavar="N|auto", help="Number of clusters; auto: by stability."),
    option(
        "--method",
        type=click.Choice(["kmeans", "hdbscan", "spectral"]),
        metavar="METHOD",
        default="kmeans",
        help="kmeans, hdbscan (dense places) or spectral (small sets).",
    ),
    number("--least", least=2, help="With hdbscan: documents that a cluster has at least."),
    option(
        "--pooling",
        type=click.Choice(["mean", "max"]),
        metavar="HOW",
        default="mean",
        help="From spans to documents: mean or max.",
    ),
    seed_option,
)
_SAID = stack(
    option("--truth", metavar="COL", help="Say how far the clusters agree with this column."),
    option("--leakage", metavar="COL", help="Say how far they give away this column, which they should not."),
)
_WRITTEN = stack(
    new_file("--assignments", suffixes=SUFFIXES, help="Write doc_id, cluster and membership to this file."),
    new_file("--save", suffixes=(".safetensors",), help="Write the clusters to this file, for `assign`."),
    report_option,
)


@verb(
    "cluster",
    "cluster answers.jsonl -k 8",
    'cluster answers.jsonl --by "tone of voice" --without "topic" -k auto',
    'cluster answers.jsonl --by "writing style" --show-axis -o axis.csv',
    "cluster answers.jsonl --latents axis.csv -k 4 --truth style --leakage topic --report styles.html",
)
@click.argument("store")
@_AXIS
@_METHOD
@_SAID
@reading_options
@output_options()
@_WRITTEN
def cluster_command(
    store: str,
    assignments: Path | None,
    save: Path | None,
    report: Path | None,
    show_axis: bool,
    latents: Path | None,
    out: Output,
    **options: Any,
) -> None:
    """Group documents by all concepts, or by those of an axis."""
    axis = {name: options.pop(name) for name in ("by", "concepts", "without", "keep_languages")}
    if not show_axis and options["k"] is None and options["method"] != "hdbscan":
        raise InputError("how many clusters? Give -k with a number, or -k auto to have it chosen by stability")
    (m,) = open_or_encode(store, columns=(options["truth"], options["leakage"]))
    axis["latents"] = None if latents is None else _read_latents(latents)
    if show_axis:
        _show_axis(m, axis, out)
        return
    from saelens_data.cluster import cluster

    result = cluster(m, **axis, **options)
    out.emit(result, view=_view, right=("share", "stability"))
    _say(result)
    _write(result, assignments, save)
    if report is not None:
        from saelens_data.report.cluster import write_cluster_report

        say(f"wrote {write_cluster_report(result, report)}")


def _read_latents(path: Path) -> pl.DataFrame:
    """A table of latents, as --show-axis -o writes it. Raises InputError for one that cannot be read."""
    import polars as pl

    readers: dict[str, Any] = {".csv": pl.read_csv, ".parquet": pl.read_parquet, ".jsonl": pl.read_ndjson}
    if path.suffix.lower() not in readers:
        raise InputError(f"cannot read latents from '{path}': its name must end in {' or '.join(readers)}")
    try:
        table: pl.DataFrame = readers[path.suffix.lower()](path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputError(f"'{path}' cannot be read as a table of latents: {str(error).splitlines()[0]}") from error
    return table


def _show_axis(m: ConceptMatrix, asked: dict[str, Any], out: Output) -> None:
    from saelens_data.cluster.run import find_axis
    from saelens_data.results import Result

    axis = find_axis(m, **asked)
    out.emit(Result(axis.table, {}, kind="axis"))
    for line in axis.notes:
        say(line)
    say(f"{axis.n:,} concepts; edit the list (-o FILE.csv) and give it back with --latents FILE.csv")


def _write(result: ClusterResult, assignments: Path | None, save: Path | None) -> None:
    from saelens_data.results import Result

    if assignments is not None:
        Result(result.assignments, result.parameters, kind="assignments").save(assignments)
        say(f"wrote {assignments}")
    if save is not None:
        result.save_clusters(save)
        say(f"wrote {save}; put other documents into these clusters with: saelens-data assign {save} STORE")


def _view(frame: pl.DataFrame) -> pl.DataFrame:
    """Rows for a reader: what a cluster is called, how large and how stable it is, and what sets it apart."""
    import polars as pl

    from saelens_data.wording import share

    lines = [
        {
            "cluster": row["cluster"],
            "name": plain(row["name"]),
            "documents": row["size"],
            "share": share(row["share"]),
            "stability": f"{row['stability']:.2f}",
            **({"nearest": f"{plain(row['nearest'])} {share(row['nearest_share'])}"} if "nearest" in row else {}),
            "set apart by": plain("; ".join(row["concepts"][:_SHOWN]))
            if row["apart"]
            else "(no concept passes the test)",
        }
        for row in frame.iter_rows(named=True)
    ]
    return pl.DataFrame(lines)


def _say(result: ClusterResult) -> None:
    """What is known of the whole, after the table."""
    say(result.summary())
    for line in (*result.quality_in_words(), *result.notes):
        say(line)
