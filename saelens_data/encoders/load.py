"""Encoders by name: a bundled one, a folder, or a reader and an SAE."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saelens_data.encoders.address import Address
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
from saelens_data.errors import EncoderError

if TYPE_CHECKING:
    from saelens_data.readers.base import Reader
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
    """Load a bundled encoder by name, the folder that `train` wrote, or a reader and an SAE by their `Address`.

    `device` ("cpu", "cuda", ...; None: a GPU if there is one), `device_map` (transformers' way to spread a model over
    several) and `compiled` (torch.compile) are for token readers; span readers run on the CPU.
    Raises EncoderError, listing what there is, for an unknown name or a folder that is not an encoder.
    """
    address = name if isinstance(name, Address) else Address.parse(name)
    how = {"dtype": dtype, "device": device, "device_map": device_map, "compiled": compiled}
    if address is not None:
        return _of_parts(address, how)
    folder = find_encoder(name)
    spec = read_spec(folder)
    reader = _token_reader(spec["reader"], how) if spec["reader"]["kind"] == "tokens" else _span_reader(spec, dtype)
    if reader.sha256 != (wanted := spec["reader"]["sha256"]):
        raise EncoderError(
            f"encoder {spec['name']} was trained on other weights of {reader.name} (sha256 "
            f"{wanted[:12]}…, found {reader.sha256[:12]}…): install those, or train an encoder on these"
        )
    sae = _placed(_read_sae(folder), reader)
    return Encoder(
        spec["name"],
        reader,
        sae,
        read_concepts(folder, sae.d_sae),
        sha256_of_file(folder / WEIGHTS_FILE),
        identity_of(folder),
    )


def encoder_identity(name: str | Path | Address) -> str:
    """A hash that changes with anything that changes an encoder's numbers, found without loading it.

    Raises EncoderError for an unknown name.
    """
    address = name if isinstance(name, Address) else Address.parse(name)
    if address is None:
        return identity_of(find_encoder(name))
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
    address = Address.parse(name)
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
    placed = _placed(sae, reader, str(whole))
    return Encoder(str(whole), reader, placed, read_concepts(None, sae.d_sae), _hash_of(sae), encoder_identity(whole))


def _token_reader(spec: Mapping[str, Any], how: Mapping[str, Any]) -> Reader:
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

    return load_saelens(where if isinstance(where, Path) else Path(where.sae))


def _placed(sae: SAE, reader: Reader, name: str = "") -> SAE:
    if reader.d_in != sae.d_in:
        raise EncoderError(f"encoder {name}: the reader gives {reader.d_in} numbers, the SAE reads {sae.d_in}")
    return sae.to(reader.dtype, getattr(reader, "device", None))


def _hash_of(sae: SAE) -> str:
    """SHA-256 of an SAE's numbers, hex."""
    digest = hashlib.sha256()
    for part in (sae.W_enc, sae.b_enc, sae.in_center, sae.threshold, sae.W_dec, sae.b_dec):
        if part is not None:
            digest.update(part.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
