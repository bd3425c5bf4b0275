"""`saelens-data VERB STORE ...`: finds the command, and turns a user's error into one line and exit status 2."""

from __future__ import annotations

import os
import sys
from importlib import import_module

import click

from saelens_data.errors import SaelensDataError, choices

#: Commands in the order of the help; each lives in the file of its name, and is imported when it is asked for.
COMMANDS = ("encode", "info", "verify", "diff", "examples", "train", "encoders")


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
            ctx.fail(f"no command '{args[0]}': {choices(args[0], COMMANDS)}")
        return super().resolve_command(ctx, args)


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="saelens_data", prog_name="saelens-data")
def cli() -> None:
    """Turn texts into concepts, and ask how two sets of texts differ.

    Wherever a STORE is expected, a text file (jsonl, csv, tsv, parquet), a folder of texts or a saved Hugging Face
    dataset serves too: it is encoded once, into a cache.
    """


def main() -> None:
    """Entry point: exit status 0 for success, 2 for a user's error, 130 for an interruption."""
    try:
        cli(prog_name="saelens-data", standalone_mode=False)
    except click.Abort:
        sys.exit(130)
    except KeyboardInterrupt:
        click.echo("Interrupted: what was finished is kept; run the same command again to go on.", err=True)
        sys.exit(130)
    except click.UsageError as error:
        click.echo(f"Error: {error.format_message()}", err=True)
        if error.ctx:
            click.echo(f"Try '{error.ctx.command_path} --help'.", err=True)
        sys.exit(2)
    except click.ClickException as error:
        click.echo(f"Error: {error.format_message()}", err=True)
        sys.exit(2)
    except SaelensDataError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(2)
    except BrokenPipeError:
        # The reader of our output (head, less) has left; nothing more can be said to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
