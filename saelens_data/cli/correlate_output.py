"""What `saelens-data correlate` prints and exports."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from saelens_data.cli.output import Output, say
from saelens_data.wording import count

if TYPE_CHECKING:
    import polars as pl

    from saelens_data.correlate import CorrelateResult, OrderedResult

#: Pairs of a group that the table shows.
_SHOWN = 3


def export(result: CorrelateResult | OrderedResult, path: Path, groups: int) -> None:
    """Write the documents behind the first groups."""
    from saelens_data.results import Result

    documents = result.documents(groups=groups)
    Result(frame=documents, parameters=result.parameters, kind="correlate_documents").save(path)
    say(f"wrote {path}: {count(documents.height, 'line')}, the documents behind {count(groups, 'group')} at most")


def show(result: CorrelateResult | OrderedResult, out: Output, groups: int) -> None:
    """Print the best pairs of the first groups, or save or print all rows as data."""
    if not out.is_table:
        out.emit(result)
        return
    import polars as pl

    frame = result.frame
    size = pl.len().over("group")
    place = pl.int_range(pl.len()).over("group")
    view = _pairs if "latent_a" in frame.columns else _concepts
    shown = frame.with_columns(of=size, at=place).filter((pl.col("group") <= groups) & (pl.col("at") < _SHOWN))
    out.emit(replace(result, frame=shown), view=view, right=("q", "p", "of"))
    if (more := result.n_groups - groups) > 0:
        say(f"{count(more, 'more group')}: --groups shows more, -o FILE holds all pairs.")


def _pairs(frame: pl.DataFrame) -> pl.DataFrame:
    import polars as pl

    columns = ["group", "latent_a", "label_a", "latent_b", "label_b", "n_a", "n_b", "n_both", "npmi"]
    lift = pl.col("lift").map_elements(lambda x: f"{x:.1f}" if x < 100 else f"{x:.0f}", return_dtype=pl.String)
    table = frame.select(*columns, lift, _short("q_value").alias("q"), "similarity", _of())
    if frame["latent_b"].null_count() == frame.height:
        table = table.drop("latent_b", "similarity").rename({"label_b": "value"})
    return table


def _concepts(frame: pl.DataFrame) -> pl.DataFrame:
    import polars as pl

    interval = pl.format(
        "{} [{}, {}]", *(pl.col(c).map_elements(lambda x: f"{x:.2f}", return_dtype=pl.String) for c in _AUC)
    )
    table = frame.select(
        "group", "latent", "label", "n", "direction", interval.alias("auc"), "mean_with", "mean_without",
        _short("q_value").alias("q"), _of(),
    )  # fmt: skip
    return table.drop([name for name in ("mean_with", "mean_without") if frame[name].null_count() == frame.height])


_AUC = ("auc", "auc_low", "auc_high")


def _short(name: str) -> pl.Expr:
    import polars as pl

    return pl.col(name).map_elements(lambda x: f"{x:.2g}", return_dtype=pl.String)


def _of() -> pl.Expr:
    """'1 of 12': which pair of its group a line is."""
    import polars as pl

    return pl.format("{} of {}", pl.col("at") + 1, pl.col("of")).alias("pair")
