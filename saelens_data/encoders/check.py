"""Does this SAE fit this reader? A look at some bundled texts when an encoder is loaded.

A wrong layer, a missing factor or another normalisation raises no error; it shows in how many latents a token
activates and in how much of a token's state they explain.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from saelens_data.readers.tokens import TokenReader
    from saelens_data.sae.model import SAE

#: Excerpts of up to 160 characters that the bundled encoder keeps, of all kinds; so many of them are read.
_TEXTS, N_TEXTS = Path(__file__).parents[1] / "assets" / "minilm-8k" / "examples.parquet", 48
#: Beyond this factor from what was published, either way, something is wrong.
FACTOR = 2.0
#: A first token this many times as long as others' median is an outlier that would win every maximum.
OUTLIER = 10.0


def check(reader: TokenReader, sae: SAE) -> dict[str, float]:
    """Figures on N_TEXTS bundled texts, rounded to 4 digits.

    active_per_token: mean number of active latents. explained_variance: 1 - sum |x - x'|^2 / sum |x - mean|^2, where
    the SAE has a decoder. first_token_norm: mean length of the state of a text's first token over the median of all.
    published_active_per_token and published_explained_variance: what the SAE's catalogue says, where it does.
    """
    import torch  # noqa: PLC0415

    reading = reader.split(_texts())
    first = torch.zeros(len(reading.units.start), dtype=torch.bool)
    first[reading.units.ptr[:-1][reading.units.ptr[1:] > reading.units.ptr[:-1]]] = True
    x, is_first = [], []
    for units, states in reader.read(reading):
        x.append(states)
        is_first.append(first[units])
    states, at = torch.cat(x), torch.cat(is_first)
    norms = states.float().norm(dim=1).cpu()
    found = {"first_token_norm": float(norms[at].mean() / norms.median())}
    found |= _fit(sae, states)
    for key, said in (("active_per_token", "expected_l0"), ("explained_variance", "variance_explained")):
        if isinstance(published := sae.metadata.get(said), int | float):
            found[f"published_{key}"] = float(published)
    return {key: float(f"{value:.4g}") for key, value in found.items()}


def _fit(sae: SAE, states: object) -> dict[str, float]:
    import torch  # noqa: PLC0415

    assert isinstance(states, torch.Tensor)
    if sae.W_dec is None:
        return {"active_per_token": len(sae.encode(states).row) / max(1, len(states))}
    mean = sae.normalised(states).mean(dim=0)
    error = total = active = 0.0
    for scaled, rebuilt, found in sae.blocks(states):
        error += float((scaled - rebuilt).square().sum())
        total += float((scaled - mean).square().sum())
        active += len(found.row)
    reads_what_it_writes = rebuilt.shape == scaled.shape and not sae.metadata.get("transcoder")
    fit = {"explained_variance": 1 - error / total} if total and reads_what_it_writes else {}
    return {"active_per_token": active / max(1, len(states)), **fit}


def concerns(checks: Mapping[str, float]) -> list[str]:
    """What a user should know of these figures, a sentence each; nothing if all is as it should be."""
    found = []
    active, published = checks.get("active_per_token"), checks.get("published_active_per_token")
    if active is not None and published and not published / FACTOR <= active <= published * FACTOR:
        found.append(
            f"{active:.0f} latents are active a token, {published:.0f} were published: "
            "the reader, its layer or the SAE is not the one that belongs to the other"
        )
    explained = checks.get("explained_variance")
    if explained is not None and explained < 0:
        found.append(
            f"the SAE explains less of the reader's states than their mean does ({explained:.2f}): "
            "it was trained on other states"
        )
    if checks.get("first_token_norm", 1.0) > OUTLIER:
        found.append(
            f"the state of a text's first token is {checks['first_token_norm']:.0f} times as long as others: "
            "it will hold many maxima; use a reader whose texts begin with a special token"
        )
    return found


def _texts() -> list[str]:
    texts = pl.read_parquet(_TEXTS, columns=["text"])["text"]
    return texts.gather_every(max(1, len(texts) // N_TEXTS))[:N_TEXTS].to_list()
