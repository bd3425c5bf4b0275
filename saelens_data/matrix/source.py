"""Where activations come from: what two matrices must share before their numbers are compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from saelens_data.errors import InputError
from saelens_data.matrix.fields import DEFAULT_FIELD


@dataclass(frozen=True)
class Source:
    """Where the activations come from. Two matrices combine only if their sources agree."""

    #: Name of the encoder, as `load_encoder` takes it.
    encoder: str
    #: Name of the model that read the text.
    reader: str
    #: SHA-256 of the reader's weights.
    reader_sha256: str
    #: Name of the SAE.
    sae: str
    #: SHA-256 of the SAE's weights.
    sae_sha256: str
    #: Which of the reader's states the SAE reads.
    hook: str
    #: Units to document: "max", or "mean" for what `pooled("mean")` returns.
    pooling: str = "max"
    #: Limits that change the numbers, such as the longest span in tokens.
    limits: Mapping[str, int] = field(default_factory=dict)
    #: Arithmetic of the reader; changes the numbers by rounding only.
    dtype: str = "float32"
    #: Versions of the libraries that made the numbers.
    versions: Mapping[str, str] = field(default_factory=dict)
    #: What a look at some texts said of reader and SAE when they were loaded; says nothing of these documents.
    checks: Mapping[str, float] = field(default_factory=dict)
    #: Which field of conversations was read; plain texts are "response" too.
    field: str = DEFAULT_FIELD

    @property
    def unit(self) -> str:
        """What the units of a document are: "token", or "span"."""
        return "token" if "overlap" in self.limits else "span"

    def differences(self, other: Source) -> list[str]:
        """Name the fields in which two sources disagree; dtype and versions only round, checks are none."""
        keys = (f.name for f in fields(self) if f.name not in ("dtype", "versions", "checks"))
        return [key for key in keys if getattr(self, key) != getattr(other, key)]

    def require_same(self, other: Source) -> None:
        """Raise InputError, naming each difference, unless the two sources agree."""
        if (keys := self.differences(other)) == ["field"]:
            raise InputError(
                f"the two sets are of different fields ('{self.field}' and '{other.field}'): take one field of both"
            )
        if keys:
            parts = "; ".join(f"{key}: {getattr(self, key)!r} and {getattr(other, key)!r}" for key in keys)
            raise InputError(f"the two sets were encoded differently ({parts}): encode both with one encoder")
