"""Published SAEs, each in the layout it was published in, read into the one internal form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from saelens_data.errors import EncoderError
from saelens_data.sae.formats import (
    dictionary_learning,
    gemma,
    itda,
    llama_scope,
    saelens,
    single_files,
    sparsify,
)
from saelens_data.sae.formats.files import Options, one_sentence, read_tensors
from saelens_data.sae.model import SAE


@dataclass(frozen=True)
class Layout:
    """A folder that holds these files, all of them, is of this layout."""

    name: str
    files: tuple[str, ...]
    read: Callable[[Path, Options], SAE]


#: Every layout that is a folder; no two share all their files.
LAYOUTS = (
    Layout("SAELens", (saelens.CONFIG, saelens.WEIGHTS), saelens.read),
    Layout("sparsify", (sparsify.CONFIG, sparsify.WEIGHTS), sparsify.read),
    *(
        Layout("Llama Scope", (llama_scope.HYPERPARAMS, name), llama_scope.read_gen_1)
        for name in llama_scope.GEN_1_WEIGHTS
    ),
    *(Layout("llamascopium", (llama_scope.CONFIG, name), llama_scope.read_later) for name in llama_scope.WEIGHTS),
    Layout("dictionary_learning", (dictionary_learning.CONFIG, dictionary_learning.WEIGHTS), dictionary_learning.read),
    Layout("Gemma Scope", (gemma.NPZ,), gemma.read_1),
    Layout("Gemma Scope 2", (gemma.SAFETENSORS,), gemma.read_2),
    Layout("ITDA", (itda.ATOMS, itda.METADATA), itda.read),
)
_SINGLE = (".pt", ".pth")


def read_sae(path: str | Path, *, k: int | None = None, in_scale: float | None = None, decoder: bool = True) -> SAE:
    """Read a published SAE, whatever its layout, into the internal form, weights in float32.

    `path` is a folder as it was published, one of its files, or a single file of torch. `k` and `in_scale` are for
    files that do not hold them (the refusal says so). Without `decoder` the decoder is dropped once its norms are
    known, and half the memory with it. Nothing in a file is executed. `metadata` and `notes` of the result say what
    the file said and what a user should know.

    Raises EncoderError for a path that holds no SAE, for damage, and, by name, for any architecture, activation,
    normalisation or tensor whose meaning is not known: nothing is guessed.
    """
    path, options = Path(path), Options(k, in_scale)
    with one_sentence(path):
        sae = _read(path, options)
    return sae if decoder else sae.without_decoder()


def _read(path: Path, options: Options) -> SAE:
    if path.is_file():
        folder = layout_of(path.parent) if path.suffix not in _SINGLE or path.name in _NAMES else None
        if folder and path.name in folder.files:
            return folder.read(path.parent, options)
        if path.suffix == ".npz":
            return gemma.read_npz(path, options)
        if path.suffix in _SINGLE:
            return single_files.read(read_tensors(path), path, options)
        raise EncoderError(f"{path} is not a known SAE by itself: give the folder it was published in")
    if not path.is_dir():
        raise EncoderError(f"no SAE at {path}: give the folder or the file of a published SAE")
    if layout := layout_of(path):
        return layout.read(path, options)
    files = sorted(child.name for child in path.iterdir())
    single = [name for name in files if name.endswith(_SINGLE)]
    if len(single) == 1:
        return _read(path / single[0], options)
    raise EncoderError(f"{path} is no known SAE: {_nearest(path, single)}{_seen(files)}. Known are {_known()}")


_NAMES = frozenset(name for layout in LAYOUTS for name in layout.files)


def layout_of(folder: Path) -> Layout | None:
    """The layout whose files are all in the folder, or None."""
    found = (layout for layout in LAYOUTS if all((folder / name).is_file() for name in layout.files))
    return next(found, None)


def _nearest(path: Path, single: list[str]) -> str:
    if single:
        return f"it holds {len(single)} files of SAEs; give one of them, such as {path / single[0]}. "
    below = (child for depth in ("*", "*/*", "*/*/*") for child in sorted(path.glob(depth)) if child.is_dir())
    inner = next((child for child in below if layout_of(child)), None)
    return f"it holds folders of SAEs; give one of them, such as {inner}. " if inner else ""


def _seen(files: list[str]) -> str:
    shown = ", ".join(files[:8]) + (f" and {len(files) - 8} more" if len(files) > 8 else "")
    return f"it has {shown}" if files else "it is empty"


def _known() -> str:
    return "; ".join(f"{layout.name} ({' + '.join(layout.files)})" for layout in LAYOUTS)
