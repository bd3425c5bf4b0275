"""What a name stands for: a bundled encoder, a folder, a published pair, or reader, hook and SAE in one string."""

from __future__ import annotations

from pathlib import Path

from saelens_data import published
from saelens_data.encoders.address import RELEASE, Address
from saelens_data.encoders.folders import ENCODER_FILE, bundled_encoders
from saelens_data.published import Pair


def address_of(name: str | Path | Address) -> Address | None:
    """Where the parts of an encoder are; None for the name of a bundled one or for a folder.

    Raises EncoderError, with the commands that fetch them, for a published pair whose weights are not here.
    """
    if isinstance(name, Address):
        return name
    if pair := pair_of(name):
        pair.require_here()
        return address_of_pair(pair)
    return Address.parse(name)


def pair_of(name: str | Path) -> Pair | None:
    """The published pair of this name; None for any other name, and where a folder of the name is an encoder."""
    if (Path(name) / ENCODER_FILE).is_file() or str(name) in bundled_encoders():
        return None
    return published.find(str(name))


def address_of_pair(pair: Pair) -> Address:
    """Reader, hook and SAE of a pair: by release where the catalogue has it, else as a path in the hub's cache."""
    if pair.release is not None:
        return Address(pair.reader, pair.hook_name, f"{RELEASE}{pair.release}:{pair.sae_id}")
    return Address(pair.reader, pair.hook_name, str(pair.sae_here() or pair.repo_id))


def pair_of_address(address: Address) -> Pair | None:
    """The published pair whose SAE an address names by its release."""
    return published.by_release(*address.release) if address.release else None
