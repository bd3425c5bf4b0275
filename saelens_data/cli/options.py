"""Options and output that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    import polars as pl

    from saelens_data.matrix import ConceptMatrix
    from saelens_data.results import Result

F = TypeVar("F", bound=Callable[..., Any])
FORMATS = ("table", "csv", "jsonl", "parquet")


def _stack(*options: Callable[[F], F]) -> Callable[[F], F]:
    def apply(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return apply


def corpus_options(function: F) -> F:
    """--text, --id and --limit: how to read a file of texts."""
    return _stack(
        click.option("--text", metavar="COL", help="Column that holds the text; found by itself for known layouts."),
        click.option("--id", "id_", metavar="COL", help="Column that identifies a document."),
        click.option("--limit", type=click.IntRange(min=1), help="Read this many documents only."),
    )(function)


def encoder_options(function: F) -> F:
    """--encoder and --dtype: who reads."""
    return _stack(
        click.option("--encoder", default="minilm-8k", show_default=True, help="A bundled encoder, or a folder."),
        click.option(
            "--dtype",
            type=click.Choice(["auto", "bfloat16", "float32"]),
            default="auto",
            help="Arithmetic of the reader; auto: bfloat16 where the CPU computes it natively.",
        ),
    )(function)


def output_options(function: F) -> F:
    """-f, -o and -n: what comes out."""
    return _stack(
        click.option("-f", "--format", "format_", type=click.Choice(FORMATS), default="table", show_default=True),
        click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Write to this file."),
        click.option("-n", "--rows", type=click.IntRange(min=0), help="Show at most this many rows."),
    )(function)


def say(message: str) -> None:
    """A message for the person, on one line; data alone goes to stdout."""
    click.echo(plain(message), err=True)


@contextmanager
def progress_bar(label: str) -> Iterator[Callable[[int, int], None]]:
    """Yield an update (done, total) that draws a bar on stderr; silent where stderr is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(label, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=max(total, 1))


def open_or_encode(source: str, *, encoder: str, dtype: str, **reading: Any) -> ConceptMatrix:
    """Open a store, or encode a file of texts into the cache; a store keeps the encoder it was made with."""
    from saelens_data.store import is_store, open_store

    if is_store(source):
        if given := [f"--{option}" for option, value in reading.items() if value is not None]:
            say(f"{source} is a store, already encoded: {' and '.join(given)} can change nothing in it")
        return open_store(source)
    from saelens_data.corpus import read_corpus
    from saelens_data.encode import encode

    corpus = read_corpus(source, **reading)
    for note in corpus.notes:
        say(f"{source}: {note}")
    with progress_bar(f"encoding {Path(source).name}") as progress:
        return encode(corpus, encoder=encoder, dtype=dtype, progress=progress)


def emit(
    result: Result,
    format_: str,
    output: Path | None,
    rows: int | None,
    *,
    view: Callable[[pl.DataFrame], pl.DataFrame] | None = None,
    right: Collection[str] = (),
) -> None:
    """Print a result's rows, or save them by suffix or by --format.

    A table on the terminal shows `view` of the rows, with its columns in `right` flush right as numbers are.
    """
    frame = result.to_frame() if rows is None else result.to_frame().head(rows)
    if output is not None:
        from dataclasses import replace

        suffixed = output if format_ == "table" or output.suffix else output.with_suffix(f".{format_}")
        replace(result, frame=frame).save(suffixed)
        say(f"wrote {suffixed}")
    elif format_ == "table":
        _print_table(view(frame) if view else frame, right)
    elif format_ == "csv":
        click.echo(frame.write_csv(), nl=False)
    elif format_ == "jsonl":
        click.echo(frame.write_ndjson(), nl=False)
    else:
        raise click.UsageError("parquet is not text: name a file with -o FILE.parquet")


def _print_table(frame: pl.DataFrame, right: Collection[str]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    if not console.is_terminal:
        console = Console(width=140)
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name, dtype in frame.schema.items():
        # Text objects, because names and texts may hold what looks like rich's markup or terminal codes.
        flush = dtype.is_numeric() or name in right
        table.add_column(Text(plain(name)), justify="right" if flush else "left", overflow="fold")
    for row in frame.iter_rows():
        table.add_row(*(Text(plain(value)) for value in row))
    console.print(table)


def plain(value: Any) -> str:
    """A table's cell: numbers short, text on one line and without control characters."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 0.001 and value else f"{value:.3f}"
    if isinstance(value, int):
        return f"{value:,}" if not isinstance(value, bool) else ("yes" if value else "no")
    return "".join(c if c.isprintable() else " " for c in str(value))
