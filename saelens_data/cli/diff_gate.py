"""`saelens-data diff` as a test: its rule, its watchlist, and the files for CI."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from saelens_data.cli.options import new_file, option, stack
from saelens_data.cli.output import say
from saelens_data.errors import InputError

if TYPE_CHECKING:
    from saelens_data.diff.gate import GateResult
    from saelens_data.diff.two import DiffResult

#: Heading of the options of a gate.
_SECTION = "A test for CI"

gate_options = stack(
    option(
        "--fail-on",
        metavar="SQL",
        section=_SECTION,
        help='End with status 1 if a finding matches, as "difference > 0.1".',
    ),
    option(
        "--watch",
        multiple=True,
        metavar="TERM",
        section=_SECTION,
        help="Only these can fail: words of a label, a latent, '\"a phrase\"', @FILE; repeatable.",
    ),
    new_file("--junit", suffixes=(".xml",), section=_SECTION, help="Write the verdict to this JUnit XML file."),
    new_file(
        "--markdown", suffixes=(".md",), section=_SECTION, help="Write summary and findings to this Markdown file."
    ),
)


def check_gate(fail_on: str | None, watch: tuple[str, ...], junit: Path | None) -> None:
    """Refuse before any work what could not be judged after it."""
    from saelens_data.diff.gate import check_rule, read_watchlist

    if fail_on is None and (watch or junit is not None):
        option = "--watch" if watch else "--junit"
        raise InputError(f'{option} goes with a rule that can fail: give one, as in --fail-on "difference > 0.1"')
    if fail_on is not None:
        check_rule(fail_on)
    read_watchlist(watch)


def judge(result: DiffResult, fail_on: str | None, watch: tuple[str, ...]) -> GateResult | None:
    """The verdict, before anything is shown or written: a rule that cannot be asked must leave nothing behind."""
    from saelens_data.diff.gate import gate

    return None if fail_on is None else gate(result, fail_on, watch)


def write_verdict(result: DiffResult, gated: GateResult | None, junit: Path | None, markdown: Path | None) -> None:
    """Write the files that were asked for, and say the verdict."""
    from saelens_data.diff.gate import to_junit, to_markdown
    from saelens_data.results import write_whole

    pages = [(markdown, to_markdown(result, gated))] if markdown is not None else []
    if gated is not None and junit is not None:
        pages.append((junit, to_junit(gated, result)))
    for path, page in pages:
        write_whole(path, page.encode())
        say(f"wrote {path}")
    if gated is not None:
        say(gated.summary())
