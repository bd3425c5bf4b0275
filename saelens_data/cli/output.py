"""What commands print, draw and write: data on stdout or in files, all else on stderr."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from saelens_data.errors import EncoderWarning, InputError

if TYPE_CHECKING:
    import polars as pl

    from saelens_data.results import Result

FORMATS = ("table", "csv", "jsonl", "parquet")
#: Suffixes of the files that a result is saved as.
SUFFIXES = (".csv", ".json", ".jsonl", ".parquet")


@dataclass(frozen=True)
class Output:
    """What -f, -o and -n ask for: `path` is None for stdout, `rows` None where nothing was said."""

    format: str
    path: Path | None
    rows: int | None

    @classmethod
    def asked(cls, format_: str, path: Path | None, rows: int | None) -> Output:
        """Raises InputError, before any work, for a file that could not be written after it."""
        return cls(format_, _check_output(format_, path), rows)

    @property
    def is_table(self) -> bool:
        """Whether a person looks at it: a table on the terminal, and no data."""
        return self.format == "table" and self.path is None

    @property
    def n(self) -> int:
        """The value of an -n that has a default."""
        assert self.rows is not None
        return self.rows

    def first(self, rows: int) -> Output:
        """As many rows of a table on the terminal, unless -n says otherwise."""
        return replace(self, rows=rows) if self.is_table and self.rows is None else self

    def emit(
        self,
        result: Result,
        *,
        view: Callable[[pl.DataFrame], pl.DataFrame] | None = None,
        right: Collection[str] = (),
    ) -> None:
        """Print a result's rows, or save them.

        A table on the terminal shows `view` of the rows, with its columns in `right` flush right as numbers are.
        """
        frame = result.to_frame()
        if self.rows is not None:
            frame = frame.head(min(self.rows, frame.height))
        if self.path is not None:
            replace(result, frame=frame).save(self.path)
            say(f"wrote {self.path}")
        elif self.format == "table":
            if frame.height:
                _print_table(view(frame) if view else frame, right)
        else:
            click.echo(replace(result, frame=frame).to_bytes(f".{self.format}"), nl=False)


def say(message: str) -> None:
    """A message for the person, on one line; data alone goes to stdout."""
    click.echo(plain(message), err=True)


def say_result(result: Result) -> None:
    """What a result says of itself, and its notes."""
    for line in (result.summary(), *result.notes):
        say(line)


@contextmanager
def progress_bar(label: str) -> Iterator[Callable[[int, int], None]]:
    """Yield an update (done, total) that draws a bar on stderr; silent where stderr is no terminal."""
    with stage_bars(quiet=True) as report, _warnings_said():
        report(label, 0, 1, "")  # something to look at while the model loads
        yield lambda done, total: report(label, done, total, "")


@contextmanager
def _warnings_said() -> Iterator[None]:
    """Say what warns of an encoder as everything else is said."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", EncoderWarning)
        others = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            if issubclass(category, EncoderWarning):
                say(f"note: {message}")
            else:
                others(message, category, *where, **more)

        warnings.showwarning = cast("Any", show)
        yield


@contextmanager
def stage_bars(*, quiet: bool = False) -> Iterator[Callable[[str, int, int, str], None]]:
    """Yield an update (stage, done, total, detail) that draws a bar for each stage on stderr.

    Where stderr is no terminal it prints a line for each tenth of a stage instead, or nothing if `quiet`.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    shown: dict[str, Any] = {}

    def print_tenths(stage: str, done: int, total: int, detail: str) -> None:
        tenth = 10 * done // max(total, 1)
        if not quiet and shown.get(stage) != tenth:
            shown[stage] = tenth
            say(f"{stage} {10 * tenth}% {detail}".rstrip())

    if not console.is_terminal:
        yield print_tenths
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[detail]}"), console=console, transient=quiet) as progress:

        def draw(stage: str, done: int, total: int, detail: str) -> None:
            if stage not in shown:
                shown[stage] = progress.add_task(stage, total=None, detail=detail)
            progress.update(shown[stage], completed=done, total=max(total, 1), detail=detail)

        yield draw


def _check_output(format_: str, output: Path | None) -> Path | None:
    """The file that --format and --output ask for, refused before any work if it could not be written after it."""
    if output is None:
        if format_ == "parquet":
            raise InputError("parquet is not text: name a file with -o FILE.parquet")
        return None
    if format_ != "table" and not output.suffix:
        output = output.with_suffix(f".{format_}")
    if format_ != "table" and output.suffix.lower() != f".{format_}":
        raise InputError(f"-f {format_} and -o {output} ask for different formats: leave one out")
    check_target(output, SUFFIXES)
    return output


def check_target(path: Path, suffixes: Collection[str]) -> None:
    """Raise InputError for a file of another suffix, or in a folder that is not there or cannot be written."""
    if path.suffix.lower() not in suffixes:
        raise InputError(f"cannot write '{path}': its name must end in {' or '.join(suffixes)}")
    if not path.parent.is_dir():
        raise InputError(f"cannot write '{path}': there is no folder '{path.parent}'; create it first")
    if not os.access(path.parent, os.W_OK):
        raise InputError(f"cannot write '{path}': the folder '{path.parent}' is read-only; choose another place")


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
