"""`saelens-data diff --explain`: the findings in a few hypotheses, checked by a judge."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from saelens_data.cli.options import SUFFIXES, F, check_target, plain, say, stack
from saelens_data.errors import InputError

if TYPE_CHECKING:
    from saelens_data.diff.two import DiffResult

#: Options that `explain_options` adds.
_NAMES = ("explain", "model", "base_url", "price", "max_cost", "max_calls", "max_tokens", "hypotheses")


def explain_options(function: F) -> F:
    """--explain and whom to ask, for how much."""
    file = click.Path(dir_okay=False, path_type=Path)
    return stack(
        click.option("--explain", is_flag=True, help="Say the findings in a few plain hypotheses, each checked."),
        click.option("--model", metavar="NAME", help="With --explain: the model to ask, as `label` does."),
        click.option("--base-url", metavar="URL", help="Its endpoint.  [default: $OPENAI_BASE_URL, OpenAI's]"),
        click.option("--price", nargs=2, metavar="IN OUT", help="US dollars per million tokens, in and out."),
        click.option("--max-cost", metavar="USD", help="Spend no more than this on --explain."),
        click.option("--max-calls", type=click.IntRange(min=0), help="Send no more calls than this."),
        click.option("--max-tokens", type=click.IntRange(min=0), help="Use no more tokens than this."),
        click.option("--hypotheses", type=file, metavar="FILE", help="Write the hypotheses to this file."),
    )(function)


def take_explain(options: dict[str, Any]) -> dict[str, Any] | None:
    """The options of --explain, taken out of `options`; None without it. Raises InputError where they do not fit."""
    asked = {name: options.pop(name) for name in _NAMES}
    if not asked.pop("explain"):
        if given := [name for name, value in asked.items() if value is not None]:
            raise InputError(f"--{given[0].replace('_', '-')} is for --explain: say that too, or leave it out")
        return None
    if not asked["model"]:
        raise InputError("--explain asks a language model: name it with --model")
    if asked["hypotheses"] is not None:
        check_target(asked["hypotheses"], SUFFIXES)
    return asked


def say_explanation(result: DiffResult, asked: Mapping[str, Any], seed: int) -> None:
    """Ask, check, and say what holds."""
    from saelens_data.diff.explain import explain
    from saelens_data.labels.settings import LabelSettings

    if not result.findings.height:
        say("No finding, so there is nothing to explain.")
        return
    asked = dict(asked)
    file, price = asked.pop("hypotheses"), asked.pop("price")
    found = explain(result, settings=LabelSettings(price=price), seed=seed, **asked)
    for line in (found.summary(), *found.in_words(), *found.notes):
        say(plain(line))
    if file is not None:
        say(f"wrote {found.save(file)}")
