"""Published pairs of a reader and an SAE, by short names; and whether their weights are here.

The table is a file of the package. A fact that was not checked is absent from it, and None here. Nothing in this module
touches a network: weights are looked for in the hub's cache alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from saelens_data.errors import EncoderError

_FILE = Path(__file__).parent / "assets" / "encoders.json"
#: Where a model's weights are, whole or in parts that an index lists.
_WHOLE, _INDEX = "model.safetensors", "model.safetensors.index.json"


#: Of a model's repository, what transformers reads: no copies of the weights in other formats.
_READER_FILES = "--include '*.safetensors' --include '*.json' --include '*.txt' --include '*.model'"


@dataclass(frozen=True)
class Pair:
    """A reader and an SAE that was trained on its states."""

    name: str
    #: The model's name on the hub.
    reader: str
    #: Where in it the SAE reads: the layer, counted from 0, and the place in it.
    layer: int
    hook: str
    #: Repository of the SAE on the hub, and its folder or file there.
    repo_id: str
    path: str
    #: Latents of the SAE.
    d_sae: int
    #: Whether the hub gives the reader to those alone who accepted its licence.
    gated: bool
    #: The reader's parameters in thousands of millions, as published or as its name says.
    reader_billions: float
    #: Files in the SAE's folder; none if `path` is the file.
    files: tuple[str, ...] = ()
    #: Name in SAELens's catalogue, and how it says the file is read.
    release: str | None = None
    sae_id: str | None = None
    conversion: str | None = None
    norm_scaling_factor: float | None = None
    #: What the catalogue sets over the file's own configuration.
    overrides: Mapping[str, Any] = field(default_factory=dict)
    #: Numbers in a state of the reader.
    d_in: int | None = None
    #: Published number of active latents a token.
    l0: float | None = None
    #: Its labels at Neuronpedia, as MODEL/SOURCE.
    neuronpedia: str | None = None
    licence: str | None = None
    reader_licence: str | None = None
    #: What the reader reads.
    language: str | None = None
    note: str | None = None

    @property
    def hook_name(self) -> str:
        """As an encoder's address has it: "layer.19.resid_post"."""
        return f"layer.{self.layer}.{self.hook}"

    @property
    def sae_files(self) -> tuple[str, ...]:
        """Path in the repository of each file of the SAE."""
        return tuple(f"{self.path}/{name}" for name in self.files) or (self.path,)

    @property
    def reader_gb(self) -> float:
        """About how large the whole reader is in bfloat16, in GB; no more than the needed layers are kept in memory."""
        return 2 * self.reader_billions

    @property
    def sae_gb(self) -> float | None:
        """How large the SAE is in float32, encoder and decoder, in GB; None where `d_in` is not known."""
        if self.d_in is None:
            return None
        return 4 * (2 * self.d_in * self.d_sae + self.d_in + self.d_sae) / 1e9

    def sae_here(self) -> Path | None:
        """The SAE's folder or file in the hub's cache; None if a file of it is missing."""
        found = [_cached(self.repo_id, name) for name in self.sae_files]
        whole = [path for path in found if path is not None]
        if len(whole) < len(found):
            return None
        # The folder of a file two levels down, such as checkpoints/final.safetensors, is its parent's parent.
        return whole[0].parents[self.files[0].count("/")] if self.files else whole[0]

    def reader_here(self) -> bool:
        """Whether the reader's configuration and all of its weights are in the hub's cache."""
        if _cached(self.reader, "config.json") is None:
            return False
        if _cached(self.reader, _WHOLE) is not None:
            return True
        index = _cached(self.reader, _INDEX)
        if index is None:
            return False
        try:
            parts = set(json.loads(index.read_bytes())["weight_map"].values())
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return False
        return all(_cached(self.reader, str(part)) is not None for part in parts)

    def commands(self) -> str:
        """What fetches all that is not here yet, as one line of a shell; empty if everything is here."""
        wanted = []
        if not self.reader_here():
            wanted += ["hf auth login"] * self.gated
            wanted.append(f"hf download {self.reader} {_READER_FILES}")
        if self.sae_here() is None:
            wanted.append(f"hf download {self.repo_id} {' '.join(self.sae_files)}")
        return " && ".join(wanted)

    def require_here(self) -> None:
        """Raise EncoderError, with the commands that fetch what is missing, unless reader and SAE are here.

        Weights of many GB are fetched by the user's own command, never by surprise.
        """
        if not (commands := self.commands()):
            return
        lacks_reader, lacks_sae = not self.reader_here(), self.sae_here() is None
        what = " and ".join(["the reader"] * lacks_reader + ["the SAE"] * lacks_sae)
        size = f" (the reader has about {self.reader_gb:.2g} GB)" if lacks_reader else ""
        licence = f"accept its licence on the page of {self.reader}, then: " if lacks_reader and self.gated else ""
        raise EncoderError(f"encoder '{self.name}': {what} must be fetched{size}: {licence}{commands}")


def pairs() -> tuple[Pair, ...]:
    """All published pairs that have a name."""
    return tuple(_table().values())


def names() -> list[str]:
    """Their names."""
    return list(_table())


def find(name: str) -> Pair | None:
    """The pair of this name, None if there is none."""
    return _table().get(name)


def by_release(release: str, sae_id: str) -> Pair | None:
    """The pair whose SAE SAELens's catalogue has under this release and id, None if there is none here."""
    return next((pair for pair in pairs() if (pair.release, pair.sae_id) == (release, sae_id)), None)


@cache
def _table() -> Mapping[str, Pair]:
    rows: list[dict[str, Any]] = json.loads(_FILE.read_text(encoding="utf-8"))["pairs"]
    found = [Pair(**{**row, "files": tuple(row.get("files", ()))}) for row in rows]
    return {pair.name: pair for pair in found}


def _cached(repo_id: str, name: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache  # noqa: PLC0415

    found = try_to_load_from_cache(repo_id, name)
    return Path(found) if isinstance(found, str) else None
