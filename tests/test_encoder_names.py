"""Published encoders by short names: the table, what is here, what fetches the rest, and loading by name."""

from __future__ import annotations

import json
import math
import re
import shlex
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType

import polars as pl
import pytest
from click.testing import CliRunner, Result

from saelens_data import published
from saelens_data.cli.main import cli
from saelens_data.encoders import Address, check_encoder, find_encoder, load_encoder
from saelens_data.encoders.names import address_of, pair_of, pair_of_address
from saelens_data.errors import EncoderError, EncoderWarning
from saelens_data.labels.places import neuronpedia_of
from saelens_data.published import Pair

PAIRS = published.pairs()
#: What is fetched of a reader.
FILES = "--include '*.safetensors' --include '*.json' --include '*.txt' --include '*.model'"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub, and no network."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def put(hub: Path, repo: str, name: str, content: bytes = b"x") -> Path:
    """A file of a repository in the hub's cache, as a download leaves it."""
    folder = hub / f"models--{repo.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True, exist_ok=True)
    (folder / "refs" / "main").write_text("abc")
    file = folder / "snapshots" / "abc" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file


# the table


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)
def test_each_row_says_what_is_needed_and_nothing_impossible(pair: Pair) -> None:
    assert re.fullmatch(r"[a-z0-9.-]+", pair.name)
    assert pair.reader.count("/") == pair.repo_id.count("/") == 1
    assert pair.hook in ("resid_post", "resid_pre", "mlp_out", "attn_out")
    assert pair.d_sae > 1000
    assert pair.layer >= 0
    assert (pair.release is None) == (pair.sae_id is None)
    assert pair.l0 is None or 1 < pair.l0 < 1000
    assert pair.neuronpedia is None or re.match(rf"[a-z0-9.-]+/{pair.layer}-", pair.neuronpedia)
    size = re.search(r"(\d+(?:\.\d+)?)(b|m)\b", pair.reader.lower())
    if size:  # the number in the model's name, rounded as names are
        assert math.isclose(pair.reader_billions, float(size[1]) / {"b": 1, "m": 1000}[size[2]], rel_tol=0.35)


def test_names_are_distinct_and_no_name_is_a_bundled_one() -> None:
    names = published.names()
    assert len(set(names)) == len(names) > 10
    assert all(pair_of(name) is not None for name in names)
    assert pair_of("minilm-8k") is None


@pytest.mark.skipif(not find_spec("sae_lens"), reason="SAELens's catalogue comes with the extra saelens")
@pytest.mark.parametrize("pair", [pair for pair in PAIRS if pair.release], ids=lambda pair: pair.name)
def test_the_table_agrees_with_saelens_catalogue(pair: Pair) -> None:
    from saelens_data.sae.formats.releases import catalogue

    about = catalogue()[str(pair.release)]
    sae = next(sae for sae in about["saes"] if sae["id"] == pair.sae_id)
    assert about["repo_id"] == pair.repo_id
    assert (sae["path"], about.get("conversion_func")) == (pair.path, pair.conversion)
    assert sae.get("neuronpedia") == pair.neuronpedia
    assert sae.get("norm_scaling_factor") == pair.norm_scaling_factor
    assert sae.get("l0") in (pair.l0, None)


def test_a_release_of_the_table_needs_no_catalogue() -> None:
    from saelens_data.sae.formats.releases import find_entry

    entry = find_entry("goodfire-llama-3.1-8b-instruct", "layer_19")
    assert (entry.repo_id, entry.path) == (
        "Goodfire/Llama-3.1-8B-Instruct-SAE-l19",
        "Llama-3.1-8B-Instruct-SAE-l19.pth",
    )
    assert (entry.conversion, entry.expected_l0) == ("goodfire", 91)


def test_sizes_follow_from_the_shapes() -> None:
    pair = published.find("llama-3.1-8b-goodfire")
    assert pair is not None
    assert pair.sae_gb == pytest.approx(4 * (2 * 4096 * 65536 + 4096 + 65536) / 1e9)
    assert published.find("gemma-3-4b-it-scope").sae_gb is None  # type: ignore[union-attr]


# what is here


def test_nothing_is_here_in_an_empty_cache(hub: Path) -> None:
    pair = published.find("llama-3.1-8b-goodfire")
    assert pair is not None
    assert (pair.sae_here(), pair.reader_here()) == (None, False)
    assert pair.commands().split(" && ") == [
        "hf auth login",
        f"hf download meta-llama/Llama-3.1-8B-Instruct {FILES}",
        "hf download Goodfire/Llama-3.1-8B-Instruct-SAE-l19 Llama-3.1-8B-Instruct-SAE-l19.pth",
    ]


def test_a_reader_is_here_when_each_of_its_parts_is(hub: Path) -> None:
    pair = published.find("qwen3-8b-scope")
    assert pair is not None
    put(hub, pair.reader, "config.json")
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors", "c": "model-1.safetensors"}}
    put(hub, pair.reader, "model.safetensors.index.json", json.dumps(index).encode())
    put(hub, pair.reader, "model-1.safetensors")
    assert not pair.reader_here()
    put(hub, pair.reader, "model-2.safetensors")
    assert pair.reader_here()
    assert pair.commands() == f"hf download {pair.repo_id} layer18.sae.pt"
    file = put(hub, pair.repo_id, "layer18.sae.pt")
    assert pair.sae_here() == file
    assert pair.commands() == ""
    pair.require_here()


def test_an_sae_is_here_as_the_folder_that_holds_all_its_files(hub: Path) -> None:
    pair = published.find("llama-3.1-8b-llamascope")
    assert pair is not None
    put(hub, pair.repo_id, f"{pair.path}/checkpoints/final.safetensors")
    assert pair.sae_here() is None
    file = put(hub, pair.repo_id, f"{pair.path}/hyperparams.json")
    assert pair.sae_here() == file.parent


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)
def test_every_command_is_one_line_that_a_shell_reads(pair: Pair, hub: Path) -> None:
    parts = pair.commands().split(" && ")
    assert [shlex.split(part)[:2] for part in parts] == [["hf", "auth"]] * pair.gated + [["hf", "download"]] * 2
    assert shlex.split(parts[-1])[2:] == [pair.repo_id, *pair.sae_files]


@pytest.mark.parametrize("ask", [load_encoder, check_encoder, address_of])
def test_absent_weights_are_one_sentence_with_the_commands(ask: object, hub: Path) -> None:
    with pytest.raises(EncoderError) as caught:
        ask("gemma-2-2b-scope")  # type: ignore[operator]
    assert str(caught.value) == (
        "encoder 'gemma-2-2b-scope': the reader and the SAE must be fetched (the reader has about 5.2 GB): accept its "
        "licence on the page of google/gemma-2-2b, then: hf auth login && hf download google/gemma-2-2b "
        f"{FILES} && hf download google/gemma-scope-2b-pt-res layer_12/width_16k/average_l0_82/params.npz"
    )


def test_a_name_near_a_published_one_is_suggested() -> None:
    with pytest.raises(EncoderError, match="did you mean 'gemma-2-2b-scope'"):
        load_encoder("gemma-2-2b-scop")


def test_a_folder_of_the_name_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gpt2-jb").mkdir()
    (tmp_path / "gpt2-jb" / "encoder.json").write_text("{}")
    assert pair_of("gpt2-jb") is None
    assert address_of("gpt2-jb") is None


def test_an_address_by_release_is_known_as_the_pair() -> None:
    address = "meta-llama/Llama-3.1-8B-Instruct@layer.19.resid_post@release:goodfire-llama-3.1-8b-instruct:layer_19"
    parsed = Address.parse(address)
    assert parsed is not None
    assert pair_of_address(parsed) == published.find("llama-3.1-8b-goodfire")
    assert neuronpedia_of(address) == neuronpedia_of("llama-3.1-8b-goodfire") == "llama3.1-8b-it/19-resid-post-gf"
    assert neuronpedia_of("minilm-8k") is None
    assert neuronpedia_of("reader@layer.1.resid_post@path/to/sae") is None


# by name, from the cache to activations


@pytest.mark.filterwarnings("ignore::saelens_data.errors.EncoderWarning")  # random weights explain nothing
@pytest.mark.parametrize("release", ["tiny-release", None])
def test_a_pair_in_the_cache_loads_by_its_name(release: str | None, hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tiny_models
    import torch

    folder = tiny_models.save(put(hub, "tiny/reader", "config.json").parent, "llama")
    torch.manual_seed(1)
    names = ("encoder_linear.weight", "encoder_linear.bias", "decoder_linear.weight", "decoder_linear.bias")
    shapes = ((48, 32), (48,), (32, 48), (32,))
    tensors = {name: torch.randn(shape) for name, shape in zip(names, shapes, strict=True)}
    file = put(hub, "tiny/sae", "sae.pth")
    torch.save(tensors, file)
    pair = Pair(
        name="tiny",
        reader="tiny/reader",
        layer=2,
        hook="resid_post",
        repo_id="tiny/sae",
        path="sae.pth",
        d_sae=48,
        gated=False,
        reader_billions=1e-6,
        release=release,
        sae_id=release and "layer_2",
        conversion="goodfire",
    )
    monkeypatch.setattr(published, "_table", lambda: MappingProxyType({"tiny": pair}))
    check_encoder("tiny")
    encoder = load_encoder("tiny", dtype="float32", device="cpu")
    expected = load_encoder(Address.of(reader=folder, layer=2, sae=file), dtype="float32", device="cpu")
    sae = f"release:{release}:layer_2" if release else str(file)
    assert encoder.name == f"tiny/reader@layer.2.resid_post@{sae}"
    texts = ["The quick brown fox.", "Sorry, I cannot help with that!"]
    found, wanted = encoder.encode_texts(texts), expected.encode_texts(texts)
    assert len(found.latents) > 10
    assert found.latents.tolist() == wanted.latents.tolist()
    assert found.maxima.tolist() == wanted.maxima.tolist()
    again = load_encoder(encoder.name, dtype="float32", device="cpu")
    assert again.source() == encoder.source()
    assert again.identity == encoder.identity


# the command


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments], catch_exceptions=False)


def test_the_command_lists_all_kinds(hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = {"format": 1, "name": "mine", "reader": {"kind": "tokens", "name": "some/model", "hook": "layer.3.mlp_out"}}
    for name in ("one", "two"):
        (tmp_path / "all" / name).mkdir(parents=True)
        (tmp_path / "all" / name / "encoder.json").write_text(json.dumps(spec))
    (tmp_path / "all" / "one" / "cfg.json").write_text('{"d_sae": 77}')
    (tmp_path / "all" / "no_encoder").mkdir()
    monkeypatch.setenv("SAELENS_DATA_ENCODERS", str(tmp_path / "all"))
    put(hub, "Qwen/Qwen3-8B-Base", "config.json")
    put(hub, "Qwen/Qwen3-8B-Base", "model.safetensors")
    put(hub, "Qwen/SAE-Res-Qwen3-8B-Base-W64K-L0_50", "layer18.sae.pt")
    ended = run("encoders", tmp_path / "all" / "two", "-f", "jsonl")
    frame = pl.DataFrame([json.loads(line) for line in ended.stdout.splitlines()], infer_schema_length=None)
    assert ended.exit_code == 0
    local = frame.filter(pl.col("kind") != "published").select("name", "kind", "reader", "hook", "d_sae").rows()
    assert local[1:] == [
        (str(tmp_path / "all" / "two"), "folder", "some/model", "layer.3.mlp_out", None),
        (str(tmp_path / "all" / "one"), "folder", "some/model", "layer.3.mlp_out", 77),
    ]
    assert local[0][:2] == ("minilm-8k", "bundled")
    by_name = frame.filter(pl.col("kind") == "published")
    assert by_name["name"].to_list() == published.names()
    assert by_name.filter("here")["name"].to_list() == ["qwen3-8b-scope"]
    assert find_encoder("one") == tmp_path / "all" / "one"
    shown = run("encoders").stdout
    assert f"{tmp_path / 'all' / 'one'}: some/model, layer.3.mlp_out" in shown
    assert all(name in shown for name in published.names())


def test_the_command_encodes_by_name_or_says_what_to_fetch(hub: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("A text.")
    with pytest.raises(EncoderError, match=r"must be fetched .*hf download EleutherAI/pythia-70m-deduped"):
        run("encode", tmp_path / "a.txt", "--encoder", "pythia-70m-sm")
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "hub") == ["a.txt"]


def test_a_device_that_a_span_reader_does_not_use_is_said():
    with pytest.warns(EncoderWarning, match="minilm-8k reads spans, which it does on the CPU: the device 'cuda'"):
        assert load_encoder("minilm-8k", device="cuda").reader.unit == "span"
