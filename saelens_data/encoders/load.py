"""Encoders by name: a bundled one, a folder, or a reader and an SAE."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saelens_data.encoders.address import Address
from saelens_data.encoders.check import check, concerns
from saelens_data.encoders.encoder import Encoder
from saelens_data.encoders.folders import (
    DEFAULT_ENCODER,
    WEIGHTS_FILE,
    find_encoder,
    identity_of,
    read_concepts,
    read_spec,
    sha256_of_file,
)
from saelens_data.encoders.names import address_of
from saelens_data.errors import EncoderError, EncoderWarning

if TYPE_CHECKING:
    from saelens_data.readers.base import Reader
    from saelens_data.readers.tokens import TokenReader
    from saelens_data.sae.model import SAE

#: Files that are hashed to tell whether a folder has changed; larger ones by size and time of change.
_HASHED = 1 << 28


def load_encoder(
    name: str | Path | Address = DEFAULT_ENCODER,
    *,
    dtype: str = "auto",
    device: str | None = None,
    device_map: str | Mapping[str, Any] | None = None,
    compiled: bool = False,
) -> Encoder:
    """Load a bundled or a published encoder by name, the folder that `train` wrote, or reader and SAE by an `Address`.

    `device` ("cpu", "cuda", ...; None: a GPU if there is one), `device_map` (transformers' way to spread a model over
    several) and `compiled` (torch.compile) are for token readers; span readers run on the CPU.
    Raises EncoderError, listing what there is, for an unknown name or a folder that is not an encoder.
    """
    address = address_of(name)
    how = {"dtype": dtype, "device": device, "device_map": device_map, "compiled": compiled}
    if address is not None:
        return _of_parts(address, how)
    folder = find_encoder(str(name))
    spec = read_spec(folder)
    if device not in (None, "cpu") and spec["reader"]["kind"] == "spans":
        said = f"encoder {spec['name']} reads spans, which it does on the CPU: the device '{device}' is not used"
        warnings.warn(said, EncoderWarning, stacklevel=2)
    reader: Reader | TokenReader
    reader = _token_reader(spec["reader"], how) if spec["reader"]["kind"] == "tokens" else _span_reader(spec, dtype)
    if reader.sha256 != (wanted := spec["reader"]["sha256"]):
        raise EncoderError(
            f"encoder {spec['name']} was trained on other weights of {reader.name} (sha256 "
            f"{wanted[:12]}…, found {reader.sha256[:12]}…): install those, or train an encoder on these"
        )
    sae, checks = _placed(_read_sae(folder), reader, spec["name"])
    return Encoder(
        spec["name"],
        reader,
        sae,
        read_concepts(folder, sae.d_sae),
        sha256_of_file(folder / WEIGHTS_FILE),
        identity_of(folder),
        checks,
    )


def encoder_identity(name: str | Path | Address) -> str:
    """A hash that changes with anything that changes an encoder's numbers, found without loading it.

    Raises EncoderError for an unknown name.
    """
    address = address_of(name)
    if address is None:
        return identity_of(find_encoder(str(name)))
    parts = [str(address)]
    for part in (address.reader, address.sae):
        path = Path(part)
        files = [path] if path.is_file() else sorted(path.rglob("*")) if path.is_dir() else []
        for file in files:
            if file.is_file():
                state = file.stat()
                large = state.st_size > _HASHED
                parts.append(f"{file} {state.st_size} {state.st_mtime_ns if large else sha256_of_file(file)}")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def check_encoder(name: str | Path) -> None:
    """Raise EncoderError at once for a name that loading would refuse, without loading anything large."""
    address = address_of(name)
    if address is None:
        find_encoder(name)
    elif address.release is None and not Path(address.sae).exists():
        raise EncoderError(f"there is no SAE at '{address.sae}': give the path of its folder or file")


def _of_parts(address: Address, how: Mapping[str, Any]) -> Encoder:
    from saelens_data.readers.hooks import Hook  # noqa: PLC0415
    from saelens_data.readers.tokens import TokenReader  # noqa: PLC0415

    check_encoder(str(address))
    sae = _read_sae(address)
    said = sae.metadata
    name = address.reader or str(said.get("model_name") or "")
    where = address.hook or str(said.get("hook_name") or "")
    if not name or not where:
        lacks = " and ".join(part for part, given in (("its reader", name), ("its hook", where)) if not given)
        raise EncoderError(f"the SAE {address.sae} does not say {lacks}: name it (reader=, layer=, hook=)")
    hook = Hook.parse(where)
    reader = TokenReader.load(name, hook, **how)
    whole = Address(name, str(hook), address.sae)
    placed, checks = _placed(sae, reader, str(whole))
    concepts = read_concepts(None, sae.d_sae)
    return Encoder(str(whole), reader, placed, concepts, _hash_of(sae), encoder_identity(whole), checks)


def _token_reader(spec: Mapping[str, Any], how: Mapping[str, Any]) -> TokenReader:
    from saelens_data.readers.hooks import Hook  # noqa: PLC0415
    from saelens_data.readers.tokens import TokenReader  # noqa: PLC0415

    return TokenReader.load(spec["name"], Hook.parse(spec["hook"]), max_tokens=spec["max_tokens"], **how)


def _span_reader(spec: Mapping[str, Any], dtype: str) -> Reader:
    from saelens_data.readers.spans import Part, SpanReader  # noqa: PLC0415

    reader = spec["reader"]
    parts = [Part(part["name"], part["scale"]) for part in reader["parts"]]
    return SpanReader(reader["name"], parts, dtype=dtype, max_tokens=reader["max_tokens"])


def _read_sae(where: Path | Address) -> SAE:
    from saelens_data.sae.checkpoints import load_saelens  # noqa: PLC0415
    from saelens_data.sae.formats import read_sae  # noqa: PLC0415

    if isinstance(where, Path):
        return load_saelens(where)
    if where.release is None:
        return read_sae(where.sae)
    from saelens_data.sae.formats.releases import read_release  # noqa: PLC0415

    return read_release(*where.release)


def _placed(sae: SAE, reader: Reader | TokenReader, name: str) -> tuple[SAE, dict[str, float]]:
    """The SAE where the reader is and in its dtype, and, of a token reader, whether they fit each other."""
    from saelens_data.readers.tokens import TokenReader  # noqa: PLC0415

    if reader.d_in != sae.d_in:
        raise EncoderError(
            f"encoder {name}: the reader gives {reader.d_in} numbers, the SAE reads {sae.d_in}: "
            "choose the reader and the place that the SAE was trained on"
        )
    if not isinstance(reader, TokenReader):
        return sae.to(reader.dtype), {}
    placed = sae.to(reader.dtype, reader.device)
    checks = check(reader, placed)
    for concern in (*sae.notes, *concerns(checks)):
        warnings.warn(f"encoder {name}: {concern}", EncoderWarning, stacklevel=3)
    # The decoder has done its part, and is as large as the encoder.
    return placed.without_decoder(), checks


def _hash_of(sae: SAE) -> str:
    """SHA-256 of all that an SAE's activations follow from, hex: its numbers, and what is done with them."""
    how = (sae.activation, sae.k, sae.in_scale, sae.norm, sae.pursuit)
    digest = hashlib.sha256(repr(how).encode())
    for part in (sae.W_enc, sae.b_enc, sae.in_center, sae.threshold, sae.W_dec, sae.b_dec, sae.out_scale):
        if part is not None:
            digest.update(part.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
