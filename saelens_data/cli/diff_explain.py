"""`saelens-data diff --explain`: the findings in a few hypotheses, checked by a judge."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from saelens_data.cli.options import ASKING, asking_options, new_file, option, stack
from saelens_data.cli.output import SUFFIXES, plain, say
from saelens_data.errors import InputError

if TYPE_CHECKING:
    from saelens_data.diff.two import DiffResult

#: Options that `explain_options` adds.
_NAMES = ("explain", "model", "base_url", "price", "max_cost", "max_calls", "max_tokens", "hypotheses")

explain_options = stack(
    option("--explain", is_flag=True, section=ASKING, help="Say the findings in a few hypotheses, each checked."),
    asking_options,
    new_file("--hypotheses", suffixes=SUFFIXES, section=ASKING, help="Write the hypotheses to this file."),
)


def take_explain(options: dict[str, Any]) -> dict[str, Any] | None:
    """The options of --explain, taken out of `options`; None without it. Raises InputError where they do not fit."""
    asked = {name: options.pop(name) for name in _NAMES}
    if not asked.pop("explain"):
        if given := [name for name, value in asked.items() if value is not None]:
            raise InputError(f"--{given[0].replace('_', '-')} is for --explain: say that too, or leave it out")
        return None
    if not asked["model"]:
        raise InputError("--explain asks a language model: name it with --model")
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
