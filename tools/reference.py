"""Write docs/reference.md from the code: every command's help and every public name's docstring.

Usage: python tools/reference.py [--check]
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Any

import click

import saelens_data
from saelens_data.cli.main import COMMANDS, cli

PAGE = Path(__file__).parents[1] / "docs" / "reference.md"
_HEAD = """# Reference

Written by `python tools/reference.py` from the code; a test compares.
"""


def commands() -> str:
    """The help of each command, as it is printed 100 columns wide."""
    parts = ["## Command line\n"]
    settings = cli.context_settings | {"terminal_width": 100, "max_content_width": 100}
    with click.Context(cli, info_name="saelens-data", **settings) as top:
        parts.append(f"```text\n{cli.get_help(top)}\n```\n")
        for name in COMMANDS:
            command = cli.get_command(top, name)
            assert command is not None
            context = click.Context(command, info_name=name, parent=top, terminal_width=100, max_content_width=100)
            parts.append(f"### saelens-data {name}\n\n```text\n{command.get_help(context)}\n```\n")
    return "\n".join(parts)


def names() -> str:
    """Signature and docstring of each public name."""
    parts = ["## Python\n\n```python\nimport saelens_data as sd\n```\n"]
    for name in saelens_data.__all__:
        value = getattr(saelens_data, name)
        if inspect.ismodule(value):
            parts.append(f"### sd.{name}\n\n{inspect.getdoc(value)}\n")
            parts += [entry(f"{name}.{public}", getattr(value, public)) for public in value.__all__]
        else:
            parts.append(entry(name, value))
    return "\n".join(parts)


def entry(name: str, value: Any) -> str:
    """One public name."""
    is_error = inspect.isclass(value) and issubclass(value, Exception)
    signature = "" if is_error else str(inspect.signature(value)).replace("saelens_data.", "")
    parts = [f"### sd.{name}\n\n```python\n{name}{signature}\n```\n\n{inspect.getdoc(value)}\n"]
    if inspect.isclass(value):
        parts += [
            f"- `.{method}`: {(inspect.getdoc(member) or '').splitlines()[0]}\n"
            for method, member in vars(value).items()
            if not method.startswith("_") and (callable(member) or isinstance(member, (property, staticmethod)))
            and inspect.getdoc(member)
        ]  # fmt: skip
    return "\n".join(parts)


def page() -> str:
    """The whole page."""
    return f"{_HEAD}\n{commands()}\n{names()}"


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(
            0 if PAGE.read_text(encoding="utf-8") == page() else "docs/reference.md is old: run tools/reference.py"
        )
    PAGE.write_text(page(), encoding="utf-8")
