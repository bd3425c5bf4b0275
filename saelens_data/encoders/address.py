"""A reader and an SAE named together, as one string: READER@HOOK@SAE."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from saelens_data.errors import EncoderError

#: Stands before RELEASE:SAE_ID of an SAE that SAELens's catalogue names; any other SAE is a path.
RELEASE = "release:"


class Parts(TypedDict, total=False):
    """A reader and an SAE, given one by one; see `Address.of`."""

    #: Name or folder of the model that reads; left out, the one that the SAE's file names.
    reader: str | Path | None
    #: Layer whose states the SAE reads, counted from 0.
    layer: int | None
    #: resid_post if nothing is said, resid_pre, mlp_out, attn_out, attn_z; or with its layer: "layer.19.mlp_out".
    hook: str | None
    #: Path of the SAE.
    sae: str | Path | None
    #: Name of its release, and its name there, in SAELens's catalogue, instead of a path.
    release: str | None
    sae_id: str | None


@dataclass(frozen=True)
class Address:
    """Where the parts of an encoder are that no folder holds together. Empty parts are what the SAE's file says.

    As text: `meta-llama/Llama-3.1-8B-Instruct@layer.19.resid_post@path/to/sae`, or `release:RELEASE:SAE_ID` for the
    path; `@@path/to/sae` leaves reader and hook to the SAE.
    """

    #: Name or folder of the model that reads.
    reader: str
    #: Place in it, as "layer.19.resid_post".
    hook: str
    #: Path of the SAE, or "release:RELEASE:SAE_ID".
    sae: str

    def __str__(self) -> str:
        return f"{self.reader}@{self.hook}@{self.sae}"

    @property
    def release(self) -> tuple[str, str] | None:
        """Release and id of the SAE in SAELens's catalogue; None for a path."""
        if not self.sae.startswith(RELEASE):
            return None
        release, _, sae_id = self.sae.removeprefix(RELEASE).partition(":")
        return release, sae_id

    @staticmethod
    def parse(name: str | Path) -> Address | None:
        """The address that a string is; None for the name or the folder of an encoder."""
        parts = str(name).split("@")
        return Address(*parts) if len(parts) == 3 else None

    @staticmethod
    def of(
        *,
        reader: str | Path | None = None,
        layer: int | None = None,
        hook: str | None = None,
        sae: str | Path | None = None,
        release: str | None = None,
        sae_id: str | None = None,
    ) -> Address:
        """The address of parts given one by one; `hook` is a place in `layer`, or names both ("layer.19.mlp_out").

        Raises EncoderError unless there is exactly one SAE, and for a place without its layer.
        """
        if (sae is None) == (release is None) or (release is None) != (sae_id is None):
            raise EncoderError("name one SAE: its path (sae), or its release and its sae_id")
        found = str(sae) if release is None else f"{RELEASE}{release}:{sae_id}"
        where = hook or ""
        if layer is not None:
            if "." in where:
                raise EncoderError(f"layer {layer} and hook '{where}' both name a layer: leave one out")
            where = f"layer.{layer}.{where or 'resid_post'}"
        elif where and "." not in where:
            raise EncoderError(f"the hook '{where}' needs a layer: give its number too")
        for part in (str(reader or ""), found):
            if "@" in part:
                raise EncoderError(f"'{part}' holds an @, which separates reader, hook and SAE: rename or link it")
        return Address(str(reader or ""), where, found)
