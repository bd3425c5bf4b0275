"""SAEs by the names of SAELens's catalogue, and SAEs that sae-lens has loaded.

The catalogue is a file of the extra `[saelens]` and is read without importing sae-lens, which takes seconds. Weights
are fetched to the hub's cache and read by the readers here, since sae-lens's own converters of Llama Scope and
sparsify give other activations than the code that trained those; what has no reader here is loaded by sae-lens.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from saelens_data import published
from saelens_data.errors import EncoderError, MissingExtraError, choices
from saelens_data.published import Pair
from saelens_data.readers.weights import without_warnings_of_the_hub
from saelens_data.sae.formats import dictionary_learning, gemma, llama_scope, saelens, single_files, sparsify
from saelens_data.sae.formats.files import Options, one_sentence, read_tensors
from saelens_data.sae.model import SAE


@dataclass(frozen=True)
class Kind:
    """How the SAEs of one of the catalogue's conversions are stored: files in the SAE's folder, or the file itself."""

    read: Callable[[Path, Options], SAE]
    files: tuple[str, ...] = ()
    #: Files that may be missing.
    optional: tuple[str, ...] = ()


def _file(path: Path, options: Options) -> SAE:
    return single_files.read(read_tensors(path), path, options)


_KINDS: Mapping[str | None, Kind] = {
    None: Kind(saelens.read, (saelens.CONFIG, saelens.WEIGHTS)),
    "gemma_2": Kind(gemma.read_1, (gemma.NPZ,)),
    "gemma_2_transcoder": Kind(gemma.read_1, (gemma.NPZ,)),
    "gemma_3": Kind(gemma.read_2, (gemma.SAFETENSORS,), ("config.json",)),
    "goodfire": Kind(_file),
    "deepseek_r1": Kind(_file),
    "qwen_scope": Kind(_file),
    "llama_scope": Kind(llama_scope.read_gen_1, (llama_scope.HYPERPARAMS, llama_scope.GEN_1_WEIGHTS[0])),
    "llama_scope_r1_distill": Kind(llama_scope.read_later, (llama_scope.CONFIG, llama_scope.WEIGHTS[0])),
    "dictionary_learning_1": Kind(dictionary_learning.read, (dictionary_learning.CONFIG, dictionary_learning.WEIGHTS)),
    "sparsify": Kind(sparsify.read, (sparsify.CONFIG, sparsify.WEIGHTS)),
}
_REFUSED = {"temporal": "it reads a whole context through attention, not vector by vector"}
#: The catalogue's short names of models, as the hub has them.
_HUB_NAMES = {
    "gpt2-small": "openai-community/gpt2",
    "gemma-2b": "google/gemma-2b",
    "gemma-2b-it": "google/gemma-2b-it",
    "mistral-7b": "mistralai/Mistral-7B-v0.1",
    "qwen3-4b": "Qwen/Qwen3-4B",
    "qwen3-8b": "Qwen/Qwen3-8B",
}


@dataclass(frozen=True)
class Entry:
    """One SAE of the catalogue."""

    release: str
    sae_id: str
    repo_id: str
    #: Folder or file in the repository.
    path: str
    #: How it is stored, in the catalogue's words; None for SAELens's own layout.
    conversion: str | None
    #: Name of the model that reads, on the hub.
    model_name: str
    #: What the catalogue sets over the file's own configuration.
    overrides: Mapping[str, Any]
    #: What vectors are multiplied by, if it says so.
    norm_scaling_factor: float | None = None
    #: Published number of active latents a token, and share of variance explained.
    expected_l0: float | None = None
    variance_explained: float | None = None
    #: Where Neuronpedia has its labels, as MODEL/SOURCE.
    neuronpedia_id: str | None = None


@cache
def catalogue() -> Mapping[str, Mapping[str, Any]]:
    """Releases by name, as SAELens publishes them. Raises MissingExtraError without the extra `[saelens]`."""
    spec = find_spec("sae_lens")  # finds without importing
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError("naming an SAE by its release", "saelens")
    import yaml  # noqa: PLC0415

    path = Path(next(iter(spec.submodule_search_locations))) / "pretrained_saes.yaml"
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        found = yaml.load(path.read_text(encoding="utf-8"), Loader=loader)  # noqa: S506 - both loaders are safe ones
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise EncoderError(f"sae-lens's catalogue {path} cannot be read: reinstall sae-lens") from error
    releases: Mapping[str, Mapping[str, Any]] = found
    return releases


def find_entry(release: str, sae_id: str) -> Entry:
    """The catalogue's entry, or that of a published pair, which needs no catalogue.

    Raises EncoderError, with the nearest names, for a release or an id that it lacks.
    """
    if pair := published.by_release(release, sae_id):
        return _entry_of(pair)
    releases = catalogue()
    if release not in releases:
        raise EncoderError(f"no release '{release}' in SAELens's catalogue; {choices(release, releases)}")
    about = releases[release]
    saes = {str(sae["id"]): sae for sae in about["saes"]}
    if sae_id not in saes:
        raise EncoderError(f"release {release} has no SAE '{sae_id}'; {choices(sae_id, saes)}")
    sae, model = saes[sae_id], str(about["model"])
    return Entry(
        release=release,
        sae_id=sae_id,
        repo_id=str(about["repo_id"]),
        path=str(sae["path"]),
        conversion=about.get("conversion_func"),
        model_name=_hub_name(model),
        overrides=about.get("config_overrides") or {},
        norm_scaling_factor=sae.get("norm_scaling_factor"),
        expected_l0=sae.get("l0"),
        variance_explained=sae.get("variance_explained"),
        neuronpedia_id=sae.get("neuronpedia"),
    )


def _entry_of(pair: Pair) -> Entry:
    return Entry(
        release=str(pair.release),
        sae_id=str(pair.sae_id),
        repo_id=pair.repo_id,
        path=pair.path,
        conversion=pair.conversion,
        model_name=pair.reader,
        overrides=pair.overrides,
        norm_scaling_factor=pair.norm_scaling_factor,
        expected_l0=pair.l0,
        neuronpedia_id=pair.neuronpedia,
    )


def _hub_name(model: str) -> str:
    if "/" in model:
        return model
    owner = next((o for start, o in (("gemma", "google"), ("pythia", "EleutherAI")) if model.startswith(start)), None)
    return _HUB_NAMES.get(model, f"{owner}/{model}" if owner else model)


def read_release(release: str, sae_id: str, *, decoder: bool = True) -> SAE:
    """Read an SAE by its name in SAELens's catalogue; its weights are fetched once, to the hub's cache.

    `metadata` holds the entry: release, sae_id, repo_id, model_name, and expected_l0, variance_explained and
    neuronpedia_id where published. Raises MissingExtraError without the extra, and EncoderError for an unknown name,
    for weights that cannot be fetched (with the command that does), and for what `read_sae` refuses.
    """
    entry = find_entry(release, sae_id)
    if reason := _REFUSED.get(entry.conversion or ""):
        raise EncoderError(f"{release} is not read: {reason}")
    kind = _KINDS.get(entry.conversion)
    if kind is None:
        sae = _by_sae_lens(entry)
    else:
        options = Options(
            k=_k_of(entry), in_scale=entry.norm_scaling_factor, config=dict(entry.overrides), origin=entry.repo_id
        )
        where = _fetch(entry, kind)
        with one_sentence(where):
            sae = kind.read(where, options)
    facts = {name: value for name, value in vars(entry).items() if value is not None and name not in _NOT_FACTS}
    sae = replace(sae, metadata={**sae.metadata, **facts})
    return sae if decoder else sae.without_decoder()


_NOT_FACTS = ("path", "conversion", "overrides", "norm_scaling_factor")


def _k_of(entry: Entry) -> int | None:
    found = re.search(r"-L0_(\d+)$", entry.repo_id)
    return int(found[1]) if found and entry.conversion == "qwen_scope" else None


def _fetch(entry: Entry, kind: Kind) -> Path:
    """The local folder of the SAE, or its file if it is one."""
    names = [f"{entry.path}/{name}" for name in kind.files] or [entry.path]
    found = [_download(entry, name, names) for name in names]
    for name in kind.optional:
        try:
            _download(entry, f"{entry.path}/{name}", names)
        except EncoderError:
            continue
    return found[0].parent if kind.files else found[0]


def _download(entry: Entry, name: str, names: list[str]) -> Path:
    from huggingface_hub import hf_hub_download  # noqa: PLC0415
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError  # noqa: PLC0415

    command = f"hf download {entry.repo_id} {' '.join(names)}"
    try:
        with without_warnings_of_the_hub():
            return Path(hf_hub_download(entry.repo_id, name))
    except GatedRepoError as error:
        raise EncoderError(
            f"the weights of {entry.release} are given out on request: accept their licence on the page of "
            f"{entry.repo_id}, then: hf auth login && {command}"
        ) from error
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise EncoderError(
            f"the weights of {entry.release} {entry.sae_id} are not here and cannot be fetched "
            f"({type(error).__name__}); on a machine with a connection: {command}"
        ) from error


def _by_sae_lens(entry: Entry) -> SAE:
    try:
        import sae_lens  # noqa: PLC0415

        loaded = sae_lens.SAE.from_pretrained(entry.release, entry.sae_id, device="cpu", dtype="float32")
    except (ImportError, OSError, ValueError, KeyError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise EncoderError(
            f"sae-lens cannot load {entry.release} {entry.sae_id} ({reason}); on a machine with a connection: "
            f"hf download {entry.repo_id}"
        ) from error
    return from_saelens(loaded)


def from_saelens(sae: Any, *, in_scale: float | None = None) -> SAE:
    """The internal form of an SAE that sae-lens has loaded: the same activations.

    Raises EncoderError, naming it, for an architecture or a normalisation that is not known here. An SAE that still
    says `expected_average_only_in` was not given its factor when it was loaded, and needs `in_scale`.
    """
    config = dict(sae.cfg.to_dict())
    tensors = {name: value.detach().cpu() for name, value in sae.state_dict().items()}
    return saelens.build(config, tensors, Path(str(sae.get_name())), Options(in_scale=in_scale))
