"""Options and output that several commands share."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from saelens_data.errors import EncoderWarning, InputError

if TYPE_CHECKING:
    import polars as pl

    from saelens_data.corpus import Corpus
    from saelens_data.matrix import ConceptMatrix
    from saelens_data.results import Result

F = TypeVar("F", bound=Callable[..., Any])
FORMATS = ("table", "csv", "jsonl", "parquet")
#: Suffixes of the files that a result is saved as.
SUFFIXES = (".csv", ".json", ".jsonl", ".parquet")


def stack(*options: Callable[[F], F]) -> Callable[[F], F]:
    """Several options as one decorator, shown in this order."""

    def apply(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return apply


#: Where `corpus_options` leaves the value of --field for `open_or_encode`.
_FIELD = "saelens_data.field"


def corpus_options(function: F) -> F:
    """--text, --id, --limit and --field: how to read a file of texts, and which field of a store.

    The command itself has no use for --field, so its function is not called with it.
    """

    def keep(ctx: click.Context, _: click.Parameter, value: str | None) -> None:
        ctx.meta[_FIELD] = value

    read = "Read this of conversations, or this field of a store: response, prompt, system or all."
    return stack(text_options, click.option("--field", metavar="NAME", expose_value=False, callback=keep, help=read))(
        function
    )


def text_options(function: F) -> F:
    """--text, --id and --limit: how to read a file of texts."""
    return stack(
        click.option("--text", metavar="COL", help="Column that holds the text; found by itself for known layouts."),
        click.option("--id", "id_", metavar="COL", help="Column that identifies a document."),
        click.option("--limit", type=click.IntRange(min=1), help="Read this many documents only."),
    )(function)


def encoder_options(function: F) -> F:
    """--encoder and --dtype: who reads."""
    return stack(
        click.option("--encoder", default="minilm-8k", show_default=True, help="A bundled encoder, or a folder."),
        click.option(
            "--dtype",
            type=click.Choice(["auto", "bfloat16", "float32"]),
            default="auto",
            help="Arithmetic of the reader; auto: bfloat16 where the CPU computes it natively.",
        ),
    )(function)


def reader_options(function: F) -> F:
    """--reader and its kin: a reader and an SAE in place of an encoder."""
    return stack(
        click.option(
            "--reader", metavar="MODEL", help="Read tokens with this model: its name on the hub, or a folder."
        ),
        click.option("--layer", type=click.IntRange(min=0), help="Layer whose states the SAE reads, counted from 0."),
        click.option("--hook", metavar="PLACE", help="resid_post, resid_pre, mlp_out, attn_out or attn_z."),
        click.option("--sae", metavar="PATH", help="The SAE: its folder or file."),
        click.option("--release", metavar="NAME", help="Or its release in SAELens's catalogue,"),
        click.option("--sae-id", metavar="ID", help="and its name there."),
        click.option("--device", metavar="NAME", help="cpu, cuda, cuda:1 ...  [default: a GPU if there is one]"),
    )(function)


def output_options(function: F) -> F:
    """-f, -o and -n: what comes out."""
    return stack(
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


def open_or_encode(
    *sources: str, encoder: str, dtype: str, fields: Sequence[str] = (), **reading: Any
) -> list[ConceptMatrix]:
    """Open stores, or encode files of texts into the cache; a store keeps the encoder it was made with.

    Each is given in the first of `fields`, from which the others are opened, or in that of --field.

    All are read before the first is encoded, so that a wrong name is found at once and not after minutes.
    """
    from saelens_data.corpus import Corpus
    from saelens_data.encode import encode
    from saelens_data.encoders import check_encoder

    check_encoder(encoder)
    context = click.get_current_context(silent=True)
    if (field := context.meta.get(_FIELD) if context else None) and not fields:
        fields = (field,)
    found = []
    for part, source in [(_open_or_read(source, fields, reading), source) for source in sources]:
        if isinstance(part, Corpus):
            with progress_bar(f"encoding {Path(source).name}") as progress:
                found.append(encode(part, encoder=encoder, dtype=dtype, fields=fields, progress=progress))
        else:
            found.append(part)
    return found


def _open_or_read(source: str, fields: Sequence[str], reading: dict[str, Any]) -> ConceptMatrix | Corpus:
    from saelens_data.store import is_store, open_store

    if is_store(source):
        if given := [f"--{option}" for option, value in reading.items() if value is not None]:
            say(f"{source} is a store, already encoded: {' and '.join(given)} can change nothing in it")
        m = open_store(source)
        opened = [m.field(name) for name in fields]
        return opened[0] if opened else m
    from saelens_data.corpus import read_corpus

    corpus = read_corpus(source, **reading)
    for name in reversed(fields):  # all are looked for; the notes are those of the first
        corpus = corpus.field(name)
    for note in corpus.notes:
        say(f"{source}: {note}")
    return corpus


def check_output(format_: str, output: Path | None) -> Path | None:
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


def emit(
    result: Result,
    format_: str,
    output: Path | None,
    rows: int | None,
    *,
    view: Callable[[pl.DataFrame], pl.DataFrame] | None = None,
    right: Collection[str] = (),
) -> None:
    """Print a result's rows, or save them to what `check_output` returned.

    A table on the terminal shows `view` of the rows, with its columns in `right` flush right as numbers are.
    """
    frame = result.to_frame()
    if rows is not None:
        frame = frame.head(min(rows, frame.height))
    if output is not None:
        replace(result, frame=frame).save(output)
        say(f"wrote {output}")
    elif format_ == "table":
        if frame.height:
            _print_table(view(frame) if view else frame, right)
    else:
        click.echo(replace(result, frame=frame).to_bytes(f".{format_}"), nl=False)


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
