"""Reading the files of published SAEs: tensors without executing anything, configurations, and refusals by name."""

from __future__ import annotations

import json
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from saelens_data.errors import EncoderError, choices

Tensors = dict[str, Any]


@dataclass(frozen=True)
class Options:
    """What a caller knows and a file may not say."""

    #: Active latents a unit, for files that do not hold it.
    k: int | None = None
    #: What vectors are multiplied by, for files that say they want it and not how much.
    in_scale: float | None = None
    #: What is known better than the file's own configuration says it.
    config: Mapping[str, Any] = field(default_factory=dict)
    #: Name of the repository it comes from, which may say what no file does.
    origin: str = ""


def read_tensors(path: Path) -> Tensors:
    """The tensors of a .safetensors, .npz, .pt or .pth file, as they are stored; files of torch are mapped, not read.

    Nothing in a file is executed. Raises EncoderError for a file that is damaged or holds more than weights.
    """
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as data:
                return {name: torch.from_numpy(data[name]) for name in data.files}
        # Files from before 2020 are no archives and cannot be mapped.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of pickle's version
            found = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        held = re.search(r"GLOBAL ([\w.]+)", str(error))
        raise EncoderError(
            f"{path} holds more than weights{f' ({held[1]})' if held else ''} and is not opened, for safety: save its "
            "state_dict alone"
        ) from error
    except (OSError, SafetensorError, ValueError, RuntimeError, EOFError, KeyError) as error:
        raise EncoderError(
            f"the SAE weights in {path} cannot be read ({_line(error)}): fetch or train them again"
        ) from error
    if isinstance(found, torch.Tensor):
        return {"": found}
    if not isinstance(found, Mapping):
        raise EncoderError(f"{path} holds a {type(found).__name__}, not named tensors: give an SAE's weights")
    return {str(name): value for name, value in found.items()}


def _line(error: BaseException) -> str:
    """What an error says, in short; some say a number alone, and PyTorch's go on for a page."""
    said = (str(error).splitlines() or [""])[0].split(". ")[0].rstrip(".")
    return said[:160] if " " in said else f"{type(error).__name__} {said}".strip()


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises EncoderError if it is missing, damaged or something else."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EncoderError(
            f"no readable {path.name} in {path.parent} ({error}): give a folder with both files"
        ) from error
    if not isinstance(found, dict):
        raise EncoderError(f"{path} is not a JSON object: give an SAE's folder as it was published")
    return found


def take(
    tensors: Mapping[str, Any], wanted: Iterable[str], where: Path, *, optional: Iterable[str] = (), what: str
) -> dict[str, torch.Tensor]:
    """The tensors `wanted` and those of `optional` that are there, in float32.

    Raises EncoderError, naming them, for missing ones and for any that this kind of SAE is not known to have.
    """
    wanted, optional = list(wanted), list(optional)
    if missing := [name for name in wanted if name not in tensors]:
        raise EncoderError(f"the {what} in {where} lacks {', '.join(missing)}; it has {', '.join(tensors)}")
    if unknown := [name for name in tensors if name not in {*wanted, *optional}]:
        raise EncoderError(
            f"the {what} in {where} has {', '.join(unknown)}, whose meaning is not known here; "
            f"known are {', '.join(wanted + optional)}"
        )
    found = {name: tensors[name].float() for name in [*wanted, *optional] if name in tensors}
    if broken := [name for name, value in found.items() if bool(value.isnan().any())]:
        raise EncoderError(f"the {what} in {where} has {', '.join(broken)} with numbers that are none: fetch it again")
    return found


@contextmanager
def one_sentence(where: Path) -> Iterator[None]:
    """Turn what a configuration of the wrong types, or tensors of the wrong shapes, raise into an EncoderError."""
    try:
        yield
    except EncoderError as error:
        if not (said := str(error)).startswith("SAE: "):
            raise
        said = said.removeprefix("SAE: ")
        raise EncoderError(f"the SAE in {where} does not fit together: {said}; fetch it again") from error
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise EncoderError(
            f"the SAE in {where} cannot be read ({_line(error)}): its configuration and its "
            "weights do not fit together, fetch it again"
        ) from error


def known(value: Any, table: Iterable[str], where: Path, what: str) -> None:
    """Raise EncoderError, with the nearest known ones, if `value` is not in the table."""
    if value not in (names := list(table)):
        raise EncoderError(f"SAE in {where}: {what} '{value}' is not known; {choices(str(value), names)}")


def numbers_of(path: Path, pattern: str) -> int | None:
    """The last number that the pattern finds in the path, or None: layers stand in the names of folders and files."""
    found = re.findall(pattern, str(path))
    return int(found[-1]) if found else None


def described(**facts: Any) -> dict[str, Any]:
    """Metadata: the facts that are known."""
    return {name: value for name, value in facts.items() if value is not None}


def in_layer(layer: int | None, place: str | None) -> str | None:
    """The place as SAELens names it; None if either part is not known."""
    names = {"attn_z": "attn.hook_z"}
    return None if layer is None or place is None else f"blocks.{layer}.{names.get(place, f'hook_{place}')}"


def of_signed(n: int) -> str:
    """The note on an SAE whose n directions have signs."""
    return f"direction j is latent j where its activation is positive and latent {n} + j where it is negative"


TRANSCODER = "a transcoder: it reads the input of a module and predicts its output, so nothing is reconstructed"
SKIP = "its skip connection plays no part in the activations and is left out"
