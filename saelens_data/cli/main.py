"""`saelens-data VERB STORE ...`: finds the command, and turns a user's error into one line and exit status 2."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from io import TextIOWrapper
from typing import NoReturn

import click

from saelens_data.cli.output import say
from saelens_data.errors import SaelensDataError, choices

#: Commands in the order of the help; each lives in the file of its name, and is imported when it is asked for.
COMMANDS = (
    *("encode", "info", "verify", "diff", "correlate", "cluster"),
    *("assign", "retrieve", "concepts", "concept", "examples", "label", "labels", "train", "encoders"),
)


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"saelens_data.cli.{cmd_name}"), f"{cmd_name}_command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            ctx.fail(f"no command '{args[0]}': {choices(args[0], COMMANDS, most=len(COMMANDS))}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> None:
        """Run the command, and write out here what it printed: who reads it may have left (head, less)."""
        status = 0
        try:
            try:
                super().invoke(ctx)
            except click.exceptions.Exit as ended:
                status = ended.exit_code
            if sys.stdout is not None:  # as it is where it was closed (>&-)
                sys.stdout.flush()
        except BrokenPipeError:
            # Nothing more can be said to that reader, and Python would try once more at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if status:
            ctx.exit(status)


@click.command(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110, "show_default": True},
)
@click.version_option(package_name="saelens_data", prog_name="saelens-data")
def cli() -> None:
    """Turn texts into concepts, and ask how sets differ, what goes together, how they group, and which have a property.

    Wherever a STORE is expected, a text file (jsonl, csv, tsv, parquet), a folder of texts or a saved Hugging Face
    dataset serves too: it is encoded once, into a cache.
    """


def main() -> None:
    """Entry point: exit status 0 for success, 1 where a gate fails, 2 for a user's error, 130 for an interruption."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # for a terminal or a pipe that is not UTF-8
    try:
        status = cli(prog_name="saelens-data", standalone_mode=False)
    except (click.Abort, KeyboardInterrupt):
        say("Interrupted: what was finished is kept; run the same command again to go on.")
        sys.exit(130)
    except click.UsageError as error:
        help_ = f" (see '{error.ctx.command_path} --help')" if error.ctx else ""
        _fail(error.format_message().rstrip(".") + help_)
    except click.ClickException as error:
        _fail(error.format_message())
    except SaelensDataError as error:
        _fail(str(error))
    except OSError as error:
        # A full disk, a folder without permission: no layer below has said what to do about it.
        where = f" '{error.filename}'" if error.filename else ""
        _fail(f"the system refuses to read or write{where} ({error.strerror or error}): mend that and run this again")
    if status:
        sys.exit(status)


def _fail(message: str) -> NoReturn:
    say(f"Error: {message}")
    sys.exit(2)
