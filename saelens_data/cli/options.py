"""How a command is declared: its options, in sections that all commands share, and its examples."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from functools import partial, wraps
from pathlib import Path
from typing import Any, TypeVar

import click

from saelens_data.cli.output import FORMATS, Output, check_target

F = TypeVar("F", bound=Callable[..., Any])
#: Headings of the help, below a command's own options.
READING, READER, ASKING, OUTPUT = "Reading texts", "Reading tokens", "Asking a language model", "Output"
#: Where `reading_options` leave what was given, for `open_or_encode`.
GIVEN = "saelens_data.reading"


class _Option(click.Option):
    """An option under a heading. Its help says no range: what is out of range is refused with it."""

    def __init__(self, *args: Any, section: str = "Options", **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.section = section

    def get_help_extra(self, ctx: click.Context) -> Any:
        found = super().get_help_extra(ctx)
        found.pop("range", None)
        return found


class _Latent(click.types.IntParamType):
    """The number of a latent, also as tables show it: 1,409."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if not re.fullmatch(r"\d+|\d{1,3}(,\d{3})+", str(value)):
            self.fail(f"'{value}' is no latent: saelens-data concepts STORE \"PHRASE\" finds one", param, ctx)
        return int(str(value).replace(",", ""))


LATENT = _Latent()


class _Verb(click.Command):
    """A command whose help has its options by heading, and its examples at the end, a line each."""

    def __init__(self, *args: Any, examples: Sequence[str] = (), **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.examples = examples

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {"Options": []}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if isinstance(param, click.Option) and record is not None:
                sections.setdefault(getattr(param, "section", "Options"), []).append(record)
        wide = max(len(names) for records in sections.values() for names, _ in records)
        last = [name for name in (READING, OUTPUT) if name in sections]
        for name in [*(name for name in sections if name not in last), *last]:
            with formatter.section(name):
                formatter.write_dl([(f"{names:{wide}}", said) for names, said in sections[name]])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Examples"):
            for example in self.examples:
                formatter.write(f"{'':{formatter.current_indent}}saelens-data {example}\n")


def verb(name: str, *examples: str) -> Callable[[Callable[..., Any]], _Verb]:
    """Declare the command `name`; examples are written as they are typed, behind `saelens-data`."""
    return click.command(name, cls=_Verb, examples=examples)


option = partial(click.option, cls=_Option)


def stack(*options: Callable[[F], F]) -> Callable[[F], F]:
    """Several options as one decorator, shown in this order."""

    def apply(function: F) -> F:
        for one in reversed(options):
            function = one(function)
        return function

    return apply


def number(*names: str, least: int | None = None, **settings: Any) -> Callable[[F], F]:
    """An option that takes a whole number from `least` on."""
    return option(*names, type=click.IntRange(min=least), metavar="N", **settings)


def new_file(*names: str, suffixes: Collection[str], section: str = OUTPUT, **settings: Any) -> Callable[[F], F]:
    """An option that names a file to write, refused before any work if it could not be written after it."""

    def check(_ctx: click.Context, _param: click.Parameter, path: Path | None) -> Path | None:
        if path is not None:
            check_target(path, suffixes)
        return path

    kind = click.Path(dir_okay=False, path_type=Path)
    return option(*names, type=kind, metavar="FILE", callback=check, section=section, **settings)


text_options = stack(
    option("--text", metavar="COL", section=READING, help="The column that holds the text, where it is not found."),
    option("--id", "id_", metavar="COL", section=READING, help="The column that identifies a document."),
    number("--limit", least=1, section=READING, help="Read this many documents only."),
)
encoder_options = stack(
    option("--encoder", metavar="NAME", default="minilm-8k", section=READING, help="A bundled encoder, or a folder."),
    option(
        "--dtype",
        type=click.Choice(["auto", "bfloat16", "float32"]),
        metavar="TYPE",
        default="auto",
        section=READING,
        help="Arithmetic of the reader: auto, bfloat16 or float32.",
    ),
)

reader_options = stack(
    option("--reader", metavar="MODEL", section=READER, help="The model that reads: its name on the hub, or a folder."),
    number("--layer", least=0, section=READER, help="The layer whose states the SAE reads, counted from 0."),
    option("--hook", metavar="PLACE", section=READER, help="resid_post, resid_pre, mlp_out, attn_out or attn_z."),
    option("--sae", metavar="PATH", section=READER, help="The SAE: its folder or file,"),
    option("--release", metavar="NAME", section=READER, help="or its release in SAELens's catalogue"),
    option("--sae-id", metavar="ID", section=READER, help="and its name there."),
    option("--device", metavar="NAME", section=READER, help="cpu, cuda, cuda:1, ...  [default: a GPU if there is one]"),
)


def reading_options(function: F) -> F:
    """How to read a file of texts where a store is expected; `open_or_encode` takes what was given from here."""

    def keep(ctx: click.Context, param: click.Parameter, value: Any) -> None:
        ctx.meta.setdefault(GIVEN, {})[str(param.name).rstrip("_")] = value

    field = "The field to read of conversations or a store: response, prompt, system or all."
    declared = stack(text_options, option("--field", metavar="NAME", section=READING, help=field), encoder_options)
    # The command itself has no use for them, so its function is not called with them.
    before = len(getattr(function, "__click_params__", []))
    function = declared(function)
    for param in function.__click_params__[before:]:  # type: ignore[attr-defined]
        param.callback, param.expose_value = keep, False
    return function


def output_options(rows: int | None = None) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """-f, -o and -n, which reach the function as `out`; `rows` is the default of -n."""

    def declare(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def with_output(*, format_: str, output: Path | None, rows: int | None, **others: Any) -> Any:
            return function(out=Output.asked(format_, output, rows), **others)

        return declared(with_output)

    declared = stack(
        option(
            "-f",
            "--format",
            "format_",
            type=click.Choice(FORMATS),
            metavar="FORMAT",
            default="table",
            section=OUTPUT,
            help="table, csv, jsonl or parquet.",
        ),
        option(
            "-o",
            "--output",
            type=click.Path(dir_okay=False, path_type=Path),
            metavar="FILE",
            section=OUTPUT,
            help="Write to this file: csv, json, jsonl or parquet.",
        ),
        number("-n", "--rows", least=0, default=rows, section=OUTPUT, help="At most this many rows."),
    )
    return declare


report_option = new_file("--report", suffixes=(".html", ".htm"), help="Write a report to this HTML file.")
seed_option = number("--seed", least=0, default=0, help="Seed of what is drawn.")
alpha_option = option("--alpha", type=float, metavar="SHARE", default=0.05, help="Share of false findings to accept.")
asking_options = stack(
    option("--model", metavar="NAME", section=ASKING, help="The model to ask."),
    option(
        "--base-url",
        metavar="URL",
        section=ASKING,
        help="An OpenAI-compatible endpoint.  [default: $OPENAI_BASE_URL, OpenAI]",
    ),
    option(
        "--price",
        nargs=2,
        metavar="IN OUT",
        section=ASKING,
        help="US dollars per million tokens, where the model is not known.",
    ),
    option("--max-cost", metavar="USD", section=ASKING, help="Spend no more than this, all repetitions included."),
    number("--max-calls", least=0, section=ASKING, help="Send no more calls than this."),
    number("--max-tokens", least=0, section=ASKING, help="Use no more tokens than this, read and written."),
)
