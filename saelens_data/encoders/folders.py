"""Folders of encoders: where they are, what is in them, and what changes when they do."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from saelens_data import published
from saelens_data.errors import EncoderError, choices
from saelens_data.matrix import CONCEPT_SCHEMA, ConceptMatrix, Source

#: The encoder that ships with the package.
DEFAULT_ENCODER = "minilm-8k"
ENCODER_FILE, CONCEPTS_FILE, EXAMPLES_FILE, METRICS_FILE = (
    "encoder.json",
    "concepts.parquet",
    "examples.parquet",
    "metrics.json",
)
CONFIG_FILE, WEIGHTS_FILE = "cfg.json", "sae_weights.safetensors"
#: Names folders whose own folders are encoders.
ROOTS = "SAELENS_DATA_ENCODERS"
_ASSETS = Path(__file__).parents[1] / "assets"


def decoder_directions(source: Source) -> np.ndarray | None:
    """What each latent writes, [d_sae, d_in] float32 rows of length 1; None if the very encoder is not at hand."""
    from safetensors import SafetensorError  # noqa: PLC0415

    try:
        return _directions(source.encoder, source.sae_sha256)
    except (EncoderError, OSError, KeyError, SafetensorError):
        return None


def decoder_of(m: ConceptMatrix) -> np.ndarray | None:
    """What each latent of a matrix writes: its rows of `decoder_directions`, or None."""
    directions = decoder_directions(m.source)
    if directions is None:
        return None
    latents = m.concepts["latent"].to_numpy()
    return directions[latents] if len(latents) == 0 or latents.max() < len(directions) else None


@lru_cache(maxsize=2)
def _directions(encoder: str, sae_sha256: str) -> np.ndarray:
    from safetensors.numpy import load_file  # noqa: PLC0415

    weights = find_encoder(encoder) / WEIGHTS_FILE
    if sha256_of_file(weights) != sae_sha256:
        raise EncoderError(f"encoder '{encoder}' has other weights by now: encode the documents again")
    directions = load_file(weights)["W_dec"].astype(np.float32)
    return np.asarray(directions / np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), 1e-12))


def identity_of(folder: Path) -> str:
    """A hash that changes with anything in an encoder's folder that changes what it gives: numbers or labels."""
    files = (ENCODER_FILE, CONFIG_FILE, WEIGHTS_FILE, CONCEPTS_FILE)
    return hashlib.sha256("".join(sha256_of_file(folder / name) for name in files).encode()).hexdigest()


def folder_with(encoder: str, sae_sha256: str) -> Path:
    """The folder of an encoder by name. Raises EncoderError if it is not there or has other weights by now."""
    folder = find_encoder(encoder)
    if sha256_of_file(folder / WEIGHTS_FILE) != sae_sha256:
        raise EncoderError(f"encoder '{encoder}' has other weights by now: encode the documents again")
    return folder


def sha256_of_file(path: Path) -> str:
    """SHA-256 of a file, hex; of nothing if there is no such file."""
    digest = hashlib.sha256()
    if path.is_file():
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def encoder_roots() -> list[Path]:
    """The folders that $SAELENS_DATA_ENCODERS lists, separated as those of $PATH are; encoders lie in them."""
    return [Path(root) for root in os.environ.get(ROOTS, "").split(os.pathsep) if root]


def find_encoder(name: str | Path) -> Path:
    """The folder of an encoder: a bundled one, a path, or one by its name in a folder of $SAELENS_DATA_ENCODERS.

    Raises EncoderError for a name that is none of these.
    """
    for folder in (_ASSETS / str(name), Path(name), *(root / name for root in encoder_roots())):
        if (folder / ENCODER_FILE).is_file():
            return folder
    known = [*bundled_encoders(), *published.names()]
    raise EncoderError(
        f"no encoder '{name}': give a name that `saelens-data encoders` lists ({choices(str(name), known, most=3)}) or "
        "a folder that `saelens-data train` wrote"
    )


def bundled_encoders() -> list[str]:
    """Names of the encoders that ship with the package."""
    return sorted(path.parent.name for path in _ASSETS.glob(f"*/{ENCODER_FILE}"))


def read_spec(folder: Path) -> Mapping[str, Any]:
    """Read `encoder.json`. Raises EncoderError if it is not one of ours."""
    try:
        spec = json.loads((folder / ENCODER_FILE).read_text(encoding="utf-8"))
        if spec["format"] != 1 or spec["reader"]["kind"] not in ("spans", "tokens"):
            raise EncoderError(f"the encoder in {folder} was made by a newer version: upgrade saelens_data")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EncoderError(
            f"{folder / ENCODER_FILE} is not an encoder's description ({error}): train it again"
        ) from error
    found: Mapping[str, Any] = spec
    return found


def read_concepts(folder: Path | None, d_sae: int) -> pl.DataFrame:
    """The concept table of an encoder folder, or an unlabelled one."""
    path = None if folder is None else folder / CONCEPTS_FILE
    if path is None or not path.is_file():
        latents = pl.DataFrame({"latent": np.arange(d_sae, dtype=np.int32)})
        return latents.with_columns(
            pl.lit(None, dtype).alias(c) for c, dtype in CONCEPT_SCHEMA.items() if c != "latent"
        )
    try:
        concepts = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise EncoderError(
            f"{path} is damaged ({str(error).splitlines()[0]}): copy or train the encoder again"
        ) from error
    if concepts.height != d_sae:
        raise EncoderError(f"{path} describes {concepts.height} concepts, the SAE has {d_sae}: the folder is damaged")
    return concepts
