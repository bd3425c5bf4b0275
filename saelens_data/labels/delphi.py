"""Labels in the folders that EleutherAI's delphi writes: explanations/*.txt and scores/SCORER/*.txt, JSON both."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from saelens_data.errors import InputError, choices
from saelens_data.labels.files import LabelFile
from saelens_data.matrix.label_table import LABEL_SCHEMA

#: layers.19_latent42.txt; a "/" of the module's name is written as "--".
_NAME = re.compile(r"(?P<module>.+)_latent(?P<latent>[0-9]{1,11})\.txt")
#: Scorers whose files are judgements of examples, the one that a label's score is taken from first.
_SCORERS = ("detection", "fuzz")


def is_delphi(folder: Path) -> bool:
    """Whether a folder holds explanations as delphi writes them, or is that folder itself."""
    return any(_NAME.fullmatch(file.name) for file in _explanations(folder))


def read_delphi(folder: Path, module: str | None) -> LabelFile:
    """The labels of one module (the hook of an SAE), with their scores.

    A score is the balanced accuracy of the judge's answers to the examples of a scorer; an example without an answer
    counts for neither side. Raises InputError for a file that is not as delphi writes it, and for several modules.
    """
    by_module: dict[str, dict[int, Path]] = {}
    for file in sorted(_explanations(folder)):
        if found := _NAME.fullmatch(file.name):
            by_module.setdefault(found["module"].replace("--", "/"), {})[int(found["latent"])] = file
    chosen = _module(by_module, module, folder)
    root = folder if (folder / "explanations").is_dir() else folder.parent
    scorers = sorted(path for path in root.glob("scores/*") if path.is_dir())
    scorers.sort(key=lambda path: _SCORERS.index(path.name) if path.name in _SCORERS else len(_SCORERS))
    unread: set[str] = set()
    rows = [_row(latent, file, scorers, unread) for latent, file in sorted(by_module[chosen].items())]
    labelled = [row for row in rows if row["label"].strip()]
    notes = [f"{len(rows) - len(labelled):,} latents without an explanation are left out."] * (
        len(labelled) < len(rows)
    )
    if unread:
        notes.append(f"Scores of a kind that is not known here are not read: {', '.join(sorted(unread))}.")
    return LabelFile(pl.DataFrame(labelled, schema=LABEL_SCHEMA), "delphi folder", chosen, tuple(notes))


def _explanations(folder: Path) -> list[Path]:
    inner = folder / "explanations"
    return [file for file in (inner if inner.is_dir() else folder).glob("*_latent*.txt") if file.is_file()]


def _module(found: Mapping[str, Any], asked: str | None, folder: Path) -> str:
    if asked is not None:
        if asked in found:
            return asked
        raise InputError(f"'{folder}' holds no labels of '{asked}': {choices(asked, found)}")
    if len(found) > 1:
        raise InputError(
            f"'{folder}' holds labels of {len(found)} modules: choose one with --source (source=): {choices('', found)}"
        )
    return next(iter(found))


def _row(latent: int, file: Path, scorers: list[Path], unread: set[str]) -> dict[str, Any]:
    label = _json(file)
    if not isinstance(label, str):
        raise InputError(f"'{file}' is not an explanation as delphi writes it, which is a JSON string")
    scores: dict[str, tuple[float, int]] = {}
    for scorer in scorers:
        if (scored := scorer / file.name).is_file():
            found = _balanced_accuracy(_json(scored))
            if found is None:
                unread.add(scorer.name)
            else:
                scores[scorer.name] = found
    row: dict[str, Any] = {**dict.fromkeys(LABEL_SCHEMA), "latent": latent, "label": label, "origin": "delphi"}
    if scores:
        name, (score, n) = next(iter(scores.items()))
        row |= {"score": score, "score_kind": f"{name} balanced accuracy", "n": n}
        if len(scores) > 1:
            row["extra"] = json.dumps({"scores": {key: value for key, (value, _) in scores.items()}}, sort_keys=True)
    return row


def _balanced_accuracy(examples: Any) -> tuple[float, int] | None:
    """Mean of the shares judged right of the activating and of the other examples, and how many were judged."""
    if not isinstance(examples, list) or not all(isinstance(example, Mapping) for example in examples):
        return None
    right: dict[bool, list[bool]] = {True: [], False: []}
    for example in examples:
        activating, prediction = example.get("activating"), example.get("prediction")
        if not isinstance(activating, bool) or not isinstance(prediction, bool | None):
            return None
        if prediction is not None:
            right[activating].append(prediction == activating)
    if not all(right.values()):
        return None
    shares = [sum(judged) / len(judged) for judged in right.values()]
    return sum(shares) / 2, sum(len(judged) for judged in right.values())


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise InputError(f"'{file}' is not JSON, as delphi writes it in spite of its name") from error
