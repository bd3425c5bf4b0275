"""SAEs by the names of SAELens's catalogue: found, fetched once, and read by our own readers."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import huggingface_hub
import pytest
import sae_files as files
import torch
from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError
from sae_files import D_IN, D_SAE, vectors

from saelens_data.errors import EncoderError, MissingExtraError
from saelens_data.sae.formats import releases

CATALOGUE = {
    "gpt2-small-res-jb": {
        "repo_id": "jbloom/GPT2-Small-SAEs-Reformatted",
        "model": "gpt2-small",
        "conversion_func": None,
        "config_overrides": {"model_from_pretrained_kwargs": {"center_writing_weights": True}},
        "saes": [
            {"id": "blocks.5.hook_resid_pre", "path": "blocks.5", "l0": 63.0, "neuronpedia": "gpt2-small/5-res-jb"}
        ],
    },
    "llama_scope_lxr_8x": {
        "repo_id": "fnlp/Llama3_1-8B-Base-LXR-8x",
        "model": "meta-llama/Llama-3.1-8B",
        "conversion_func": "llama_scope",
        "saes": [{"id": "l15r_8x", "path": "L15R-8x", "l0": 50.0, "norm_scaling_factor": 0.36}],
    },
    "gemma-scope-2b-pt-res": {
        "repo_id": "google/gemma-scope-2b-pt-res",
        "model": "gemma-2-2b",
        "conversion_func": "gemma_2",
        "saes": [{"id": "layer_20/width_16k/average_l0_71", "path": "layer_20/width_16k/average_l0_71", "l0": 71}],
    },
    "qwen-scope": {
        "repo_id": "Qwen/SAE-Res-Qwen3-8B-Base-W64K-L0_5",
        "model": "Qwen/Qwen3-8B-Base",
        "conversion_func": "qwen_scope",
        "saes": [{"id": "layer7", "path": "layer7.sae.pt"}],
    },
    "gemma-scope-2": {
        "repo_id": "google/gemma-scope-2-4b-it",
        "model": "google/gemma-3-4b-it",
        "conversion_func": "gemma_3",
        "saes": [{"id": "l12", "path": "resid_post/layer_12_width_16k_l0_small"}],
    },
    "temporal": {
        "repo_id": "canrager/temporalSAEs",
        "model": "gemma-2-2b",
        "conversion_func": "temporal",
        "saes": [{"id": "t", "path": "t"}],
    },
}


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub that is a folder, and a list of what was fetched."""
    fetched = []

    def download(repo_id, filename):
        fetched.append(f"{repo_id}/{filename}")
        if not (tmp_path / filename).is_file():
            raise LocalEntryNotFoundError("not found")
        return str(tmp_path / filename)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.setattr(releases, "catalogue", lambda: CATALOGUE)
    return tmp_path, fetched


def dense(sae, x):
    active = sae.encode(x)
    found = torch.zeros(len(x), sae.d_sae)
    found[active.row, active.latent] = active.value
    return found


def test_saelens_with_what_the_catalogue_sets_over_its_configuration(hub):
    folder, fetched = hub
    w = files.saelens_3(folder / "blocks.5")
    sae = releases.read_release("gpt2-small-res-jb", "blocks.5.hook_resid_pre")
    x = vectors() - vectors().mean(dim=1, keepdim=True)
    want = ((x - w["b_dec"]) @ w["W_enc"] + w["b_enc"]).relu()
    torch.testing.assert_close(dense(sae, vectors()), want, rtol=1e-5, atol=1e-5)
    assert fetched == [
        f"jbloom/GPT2-Small-SAEs-Reformatted/blocks.5/{n}" for n in ("cfg.json", "sae_weights.safetensors")
    ]
    assert sae.metadata["model_name"] == "openai-community/gpt2"
    assert (sae.metadata["expected_l0"], sae.metadata["neuronpedia_id"]) == (63.0, "gpt2-small/5-res-jb")
    assert (sae.metadata["release"], sae.metadata["sae_id"]) == ("gpt2-small-res-jb", "blocks.5.hook_resid_pre")


def test_llama_scope_is_gated_as_its_authors_do(hub):
    folder, _ = hub
    w = files.llama_scope_1(folder / "L15R-8x")
    norms = w["W_dec"].norm(dim=1)
    h = (vectors() @ w["W_enc"] + w["b_enc"] / (D_IN**0.5 / 9.5)) * norms
    sae = releases.read_release("llama_scope_lxr_8x", "l15r_8x")
    torch.testing.assert_close(dense(sae, vectors()), torch.where(h > 0.75390625, h, 0), rtol=1e-5, atol=1e-5)


def test_gemma_scope_knows_its_place_by_the_repository(hub):
    folder, _ = hub
    files.gemma_scope(folder)
    sae = releases.read_release("gemma-scope-2b-pt-res", "layer_20/width_16k/average_l0_71", decoder=False)
    assert sae.metadata["hook_name"] == "blocks.20.hook_resid_post"
    assert sae.metadata["model_name"] == "google/gemma-2-2b"
    assert sae.W_dec is None


def test_gemma_scope_2_needs_no_configuration(hub):
    folder, _ = hub
    files.gemma_scope_2(folder, config=False)
    sae = releases.read_release("gemma-scope-2", "l12")
    assert sae.metadata["hook_name"] == "blocks.12.hook_resid_post"
    assert sae.d_sae == D_SAE


def test_qwen_scope_has_its_k_from_the_repository(hub):
    folder, _ = hub
    w = files.weights()
    found = {"W_enc": w["W_enc"].t(), "W_dec": w["W_dec"].t(), "b_enc": w["b_enc"], "b_dec": w["b_dec"]}
    files.torch_file(folder / "layer7.sae.pt", found)
    assert releases.read_release("qwen-scope", "layer7").k == 5


def test_absent_weights_are_one_sentence_with_the_command(hub):
    with pytest.raises(EncoderError, match=r"hf download fnlp/Llama3_1-8B-Base-LXR-8x L15R-8x/hyperparams\.json L15R"):
        releases.read_release("llama_scope_lxr_8x", "l15r_8x")


def test_gated_weights_are_one_sentence_with_the_command(hub, monkeypatch):
    def refuse(repo_id, filename):
        raise GatedRepoError("403", response=SimpleNamespace(headers={}, request=None))

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    with pytest.raises(EncoderError, match=r"accept their licence .* hf auth login && hf download google/gemma-scope"):
        releases.read_release("gemma-scope-2b-pt-res", "layer_20/width_16k/average_l0_71")


def test_unknown_names_come_with_the_nearest(hub):
    with pytest.raises(EncoderError, match="did you mean 'llama_scope_lxr_8x'"):
        releases.read_release("llama_scope_lxr_8", "l15r_8x")
    with pytest.raises(EncoderError, match="has no SAE 'l16r_8x'; did you mean 'l15r_8x'"):
        releases.read_release("llama_scope_lxr_8x", "l16r_8x")
    with pytest.raises(EncoderError, match="temporal is not read"):
        releases.read_release("temporal", "t")


def test_without_the_extra_the_pip_line(monkeypatch):
    releases.catalogue.cache_clear()
    monkeypatch.setattr(releases, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'saelens_data\[saelens\]'"):
        releases.read_release("gpt2-small-res-jb", "blocks.5.hook_resid_pre")


class Loaded:
    """What sae-lens returns, as far as it is looked at."""

    def __init__(self, w):
        self.w = w
        about = {"model_name": "gpt2-small", "hook_name": "blocks.0.attn.hook_z"}
        config = {"architecture": "standard", "apply_b_dec_to_input": True, "normalize_activations": "none"}
        self.cfg = SimpleNamespace(to_dict=lambda: config | {"reshape_activations": "hook_z", "metadata": about})

    def state_dict(self):
        return {name: self.w[name] for name in ("W_enc", "b_enc", "W_dec", "b_dec")}

    def get_name(self):
        return "sae_gpt2-small_blocks.0.attn.hook_z_40"


def test_what_has_no_reader_here_is_loaded_by_sae_lens(hub, monkeypatch):
    about = {
        "repo_id": "a/b",
        "model": "gpt2-small",
        "conversion_func": "connor_rob_hook_z",
        "saes": [{"id": "z", "path": "z.pt"}],
    }
    monkeypatch.setattr(releases, "catalogue", lambda: {"hook-z": about})
    w = files.weights()
    theirs = SimpleNamespace(SAE=SimpleNamespace(from_pretrained=lambda release, sae_id, **_: Loaded(w)))
    monkeypatch.setitem(sys.modules, "sae_lens", theirs)
    sae = releases.read_release("hook-z", "z")
    want = ((vectors() - w["b_dec"]) @ w["W_enc"] + w["b_enc"]).relu()
    torch.testing.assert_close(dense(sae, vectors()), want, rtol=1e-5, atol=1e-5)
    assert sae.metadata["hook_name"] == "blocks.0.attn.hook_z"

    def fail(release, sae_id, **_):
        raise OSError("no connection\nand more")

    theirs.SAE.from_pretrained = fail
    with pytest.raises(EncoderError, match=r"sae-lens cannot load hook-z z \(no connection\); .*hf download a/b"):
        releases.read_release("hook-z", "z")
