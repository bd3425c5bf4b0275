"""Every published layout, written here to the letter, against its formula written out; and what is refused."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
import sae_files as files
import torch
from sae_files import D_IN, D_SAE, vectors

from saelens_data.errors import EncoderError
from saelens_data.sae.formats import read_sae

TIGHT = {"rtol": 1e-5, "atol": 1e-5}


def dense(sae, x) -> torch.Tensor:
    """Activations [n, d_sae]."""
    active = sae.encode(x)
    assert bool((active.value > 0).all())
    found = torch.zeros(len(x), sae.d_sae)
    found[active.row, active.latent] = active.value
    return found


def signed(sae, x) -> torch.Tensor:
    """Activations with signs [n, directions] of an SAE whose directions are two latents each."""
    both = dense(sae, x)
    return both[:, :D_SAE] - both[:, D_SAE:]


def check(path, want, **options):
    """Reads as `want` says, latent by latent; what is elementwise also by its dense parts."""
    x, sae = vectors(), read_sae(path, **options)
    assert 0.02 < float((want != 0).float().mean()) < 0.9  # the case can tell right from wrong
    torch.testing.assert_close(dense(sae, x), want, **TIGHT)
    if sae.elementwise:
        torch.testing.assert_close(sae.activate(sae.pre_activations(x)), want, **TIGHT)
    return sae


def top(h, k=5):
    best = h.topk(k, dim=-1)
    return torch.zeros_like(h).scatter(-1, best.indices, best.values.relu())


def over(h, bar):
    return torch.where(h > bar, h, 0).relu()


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("architecture", ["standard", "topk", "jumprelu", "gated"])
@pytest.mark.parametrize("write", [files.saelens_6, files.saelens_3])
def test_saelens(tmp_path, write, architecture, centred):
    w = write(tmp_path, architecture, apply_b_dec_to_input=centred)
    x = vectors() - w["b_dec"] * centred
    u = x @ w["W_enc"]
    want = {
        "standard": (u + w["b_enc"]).relu,
        "topk": lambda: top(u + w["b_enc"]),
        "jumprelu": lambda: over(u + w["b_enc"], w["threshold"]),
        "gated": lambda: (u + w["b_gate"] > 0) * (x @ (w["W_enc"] * w["r_mag"].exp()) + w["b_mag"]).relu(),
    }[architecture]()
    sae = check(tmp_path, want)
    assert sae.metadata["hook_name"].startswith("blocks.5.hook_resid_p")
    rebuilt = sae.decode(sae.encode(vectors()), 60)
    torch.testing.assert_close(rebuilt, want @ w["W_dec"] + w["b_dec"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("norm", ["constant_norm_rescale", "layer_norm", "expected_average_only_in"])
def test_saelens_normalises_the_input(tmp_path, norm):
    w = files.saelens_6(tmp_path, "jumprelu", normalize_activations=norm)
    x = vectors()
    if norm == "constant_norm_rescale":
        x = x * (D_IN**0.5 / x.norm(dim=-1, keepdim=True))
    elif norm == "layer_norm":
        x = x - x.mean(dim=-1, keepdim=True)
        x = x / (((x**2).sum(dim=-1, keepdim=True) / (D_IN - 1)).sqrt() + 1e-5)
    else:
        x = x * 0.3
        with pytest.raises(EncoderError, match=r"expected_average_only_in.*give in_scale"):
            read_sae(tmp_path)
    want = over((x - w["b_dec"]) @ w["W_enc"] + w["b_enc"], w["threshold"])
    check(tmp_path, want, **({"in_scale": 0.3} if norm == "expected_average_only_in" else {}))


@pytest.mark.parametrize("rescaled", [True, False])
def test_saelens_top_k_may_rank_by_what_a_latent_writes(tmp_path, rescaled):
    w = files.saelens_6(tmp_path, "topk", rescale_acts_by_decoder_norm=rescaled)
    h = (vectors() - w["b_dec"]) @ w["W_enc"] + w["b_enc"]
    norms = w["W_dec"].norm(dim=1)
    want = top(h * norms) if rescaled else top(h)
    sae = check(tmp_path, want)
    rebuilt = (want / norms if rescaled else want) @ w["W_dec"] + w["b_dec"]
    torch.testing.assert_close(sae.decode(sae.encode(vectors()), 60), rebuilt, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("rescaled", [True, False])
def test_saelens_abs_top_k_has_two_concepts_a_direction(tmp_path, rescaled):
    w = files.saelens_6(tmp_path, "abstopk", rescale_acts_by_decoder_norm=rescaled)
    h = (vectors() - w["b_dec"]) @ w["W_enc"] + w["b_enc"]
    norms = w["W_dec"].norm(dim=1)
    h = h * norms if rescaled else h
    largest = h.abs().topk(5, dim=1).indices
    want = torch.zeros_like(h).scatter(1, largest, h.gather(1, largest))
    sae = read_sae(tmp_path)
    assert sae.d_sae == 2 * D_SAE
    assert "latent 40 + j where it is negative" in sae.notes[0]
    assert not sae.elementwise
    torch.testing.assert_close(signed(sae, vectors()), want, **TIGHT)
    rebuilt = (want / norms if rescaled else want) @ w["W_dec"] + w["b_dec"]
    torch.testing.assert_close(sae.decode(sae.encode(vectors()), 60), rebuilt, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("stop", "steps"), [(True, 9), (False, 4), (True, None)])
def test_saelens_matching_pursuit(tmp_path, stop, steps):
    given = {"stop_on_duplicate_support": stop, "max_iterations": steps, "residual_threshold": 0.5}
    w = files.saelens_6(tmp_path, "matching_pursuit", **given)
    atoms = torch.nn.functional.normalize(w["W_dec"], dim=1)
    want = torch.zeros(60, D_SAE)
    for i, x in enumerate(vectors() - w["b_dec"]):
        left = x
        for _ in range(steps or D_IN):
            products = atoms @ left
            best = int(products.relu().argmax())
            before = set(want[i].nonzero()[:, 0].tolist())
            want[i, best] += products[best].relu()
            left = left - products[best].relu() * atoms[best]
            same = set(want[i].nonzero()[:, 0].tolist()) == before
            if (stop and same) or left.norm() < 0.5:
                break
    check(tmp_path, want)


def test_saelens_transcoders_are_read_for_their_activations_alone(tmp_path):
    w = files.saelens_6(tmp_path, "jumprelu_transcoder", apply_b_dec_to_input=False)
    sae = check(tmp_path, over(vectors() @ w["W_enc"] + w["b_enc"], w["threshold"]))
    assert "transcoder" in sae.notes[0]
    with pytest.raises(EncoderError, match="without its decoder"):
        sae.decode(sae.encode(vectors()), 60)


def test_a_model_with_centred_writing_weights_is_made_up_for(tmp_path):
    w = files.saelens_3(tmp_path, model_from_pretrained_kwargs={"center_writing_weights": True})
    x = vectors() - vectors().mean(dim=1, keepdim=True)
    sae = check(tmp_path, ((x - w["b_dec"]) @ w["W_enc"] + w["b_enc"]).relu())
    assert "mean is subtracted" in sae.notes[0]


def test_a_finetuned_decoder_changes_reconstructions_alone(tmp_path):
    w = files.saelens_3(tmp_path, finetuning_scaling_factor=True)
    scale = torch.rand(D_SAE) + 0.5
    kept = {name: w[name] for name in files.SAELENS_KEYS["standard"]} | {"scaling_factor": scale}
    files.write_safetensors(tmp_path / "sae_weights.safetensors", kept)
    want = ((vectors() - w["b_dec"]) @ w["W_enc"] + w["b_enc"]).relu()
    sae = check(tmp_path, want)
    rebuilt = (want * scale) @ w["W_dec"] + w["b_dec"]
    torch.testing.assert_close(sae.decode(sae.encode(vectors()), 60), rebuilt, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("given", ["file", "folder"])
def test_gemma_scope(tmp_path, given):
    w = files.gemma_scope(tmp_path)
    path = w["path"] if given == "file" else w["path"].parent
    sae = check(path, over(vectors() @ w["W_enc"] + w["b_enc"], w["threshold"]))
    assert sae.metadata["layer"] == 20


@pytest.mark.parametrize(("config", "skip"), [(True, False), (False, False), (True, True)])
def test_gemma_scope_2(tmp_path, config, skip):
    w = files.gemma_scope_2(tmp_path, config=config, skip=skip)
    sae = check(w["path"], over(vectors() @ w["W_enc"] + w["b_enc"], w["threshold"]))
    assert sae.metadata["layer"] == 12
    assert len(sae.notes) == 2 * skip  # that it is a transcoder, and that its skip connection is left out


def test_goodfire(tmp_path):
    w = files.weights()
    names = files.linear_names(w, "encoder_linear", "decoder_linear")
    path = files.torch_file(tmp_path / "Llama-3.1-8B-Instruct-SAE-l19.pth", names)
    sae = check(path, (vectors() @ w["W_enc"] + w["b_enc"]).relu())
    assert sae.metadata["layer"] == 19
    check(tmp_path, (vectors() @ w["W_enc"] + w["b_enc"]).relu())  # the folder of one file, too
    want = (vectors() @ w["W_enc"] + w["b_enc"]).relu() * w["W_dec"].norm(dim=1)
    torch.testing.assert_close(dense(sae.scaled_by_decoder(), vectors()), want, **TIGHT)


def test_deepseek_r1(tmp_path):
    w = files.weights()
    path = files.torch_file(tmp_path / "DeepSeek-R1-Distill-Llama-8B-SAE-l19.pt", files.linear_names(w))
    check(path, (vectors() @ w["W_enc"] + w["b_enc"]).relu())
    other = files.torch_file(tmp_path / "mine.pt", files.linear_names(w))
    with pytest.raises(EncoderError, match="not a known SAE by itself"):
        read_sae(other)


def test_qwen_scope_takes_k_from_the_repository_or_the_caller(tmp_path):
    w = files.weights()
    found = {"W_enc": w["W_enc"].t(), "W_dec": w["W_dec"].t(), "b_enc": w["b_enc"], "b_dec": w["b_dec"]}
    want = top(vectors() @ w["W_enc"] + w["b_enc"])
    named = files.torch_file(tmp_path / "SAE-Res-Qwen3-8B-Base-W64K-L0_5/layer7.sae.pt", found)
    assert check(named, want).metadata["layer"] == 7
    alone = files.torch_file(tmp_path / "else/layer7.sae.pt", found)
    check(alone, want, k=5)
    with pytest.raises(EncoderError, match="does not hold k"):
        read_sae(alone)


def llama_scope_1_reference(w, x, s_in, s_out, threshold):
    """The reference's loading, step by step: scale of the data into the weights, norms into the encoder, threshold."""
    bias, W_dec = w["b_enc"] / s_in, w["W_dec"] * s_in / s_out
    norms = W_dec.norm(dim=1)
    h = x @ (w["W_enc"] * norms) + bias * norms
    f = torch.where(h > threshold, h, 0)
    return f, f @ (W_dec / norms[:, None]) + w["b_dec"] / s_out


@pytest.mark.parametrize("out", [9.5, 7.0])
def test_llama_scope_gates_on_what_a_latent_writes(tmp_path, out):
    w = files.llama_scope_1(tmp_path, dataset_average_activation_norm={"in": 9.5, "out": out})
    want, rebuilt = llama_scope_1_reference(w, vectors(), D_IN**0.5 / 9.5, D_IN**0.5 / out, 0.75390625)
    sae = check(tmp_path, want)
    torch.testing.assert_close(sae.decode(sae.encode(vectors()), 60), rebuilt, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(dense(sae.scaled_by_decoder(), vectors()), want, **TIGHT)  # it does so already


def test_llama_scope_without_its_decoder_norm_and_with_top_k(tmp_path):
    w = files.llama_scope_1(tmp_path / "a", sparsity_include_decoder_norm=False)
    h = vectors() @ w["W_enc"] + w["b_enc"] / (D_IN**0.5 / 9.5)
    check(tmp_path / "a", over(h, 0.75390625))
    files.llama_scope_1(tmp_path / "b", act_fn="topk", jump_relu_threshold=0.0)
    check(tmp_path / "b", top(h * w["W_dec"].norm(dim=1)))
    files.llama_scope_1(tmp_path / "c", act_fn="topk")  # with a threshold it is one for inference
    check(tmp_path / "c", over(h * w["W_dec"].norm(dim=1), 0.75390625))


@pytest.mark.parametrize("include", [True, False])
@pytest.mark.parametrize("centred", [True, False])
def test_llama_scope_r1(tmp_path, include, centred):
    given = {"sparsity_include_decoder_norm": include, "apply_decoder_bias_to_pre_encoder": centred}
    w = files.llama_scope_2(tmp_path, **given)
    h = (vectors() * (D_IN**0.5 / 9.5) - w["b_dec"] * centred) @ w["W_enc"] + w["b_enc"]
    gate = h * w["W_dec"].norm(dim=1) if include else h
    check(tmp_path, torch.where(gate > w["threshold"], h, 0))


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
@pytest.mark.parametrize("act", ["relu", "jumprelu", "topk"])
@pytest.mark.parametrize("include", [True, False])
def test_llamascopium(tmp_path, suffix, act, include):
    w = files.llama_scope_3(tmp_path, suffix=suffix, act_fn=act, sparsity_include_decoder_norm=include)
    norms = w["W_dec"].norm(dim=1) if include else torch.ones(D_SAE)
    h = (vectors() * (D_IN**0.5 / 9.5)) @ w["W_enc"] + w["b_enc"]
    f = {"relu": (h * norms).relu(), "jumprelu": over(h * norms, w["threshold"]), "topk": top(h * norms)}[act] / norms
    sae = check(tmp_path, f)
    torch.testing.assert_close(sae.decode(sae.encode(vectors()), 60), f @ w["W_dec"] + w["b_dec"], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(dense(sae.scaled_by_decoder(), vectors()), f * w["W_dec"].norm(dim=1), **TIGHT)


def test_llama_scope_r1_with_the_mean_norm_in_its_configuration(tmp_path):
    w = files.llama_scope_2(tmp_path, dataset_average_activation_norm={"in": 9.5})
    kept = files.linear_names(w) | {"log_jumprelu_threshold": w["threshold"].log()}
    files.write_safetensors(tmp_path / "sae_weights.safetensors", kept)
    h = (vectors() * (D_IN**0.5 / 9.5)) @ w["W_enc"] + w["b_enc"]
    check(tmp_path, torch.where(h * w["W_dec"].norm(dim=1) > w["threshold"], h, 0))


def test_llamascopium_by_token(tmp_path):
    w = files.llama_scope_3(tmp_path, act_fn="relu", norm_activation="token-wise")
    x = vectors() * (D_IN**0.5 / vectors().norm(dim=1, keepdim=True))
    check(tmp_path, (x @ w["W_enc"] + w["b_enc"]).relu())


def test_sparsify_may_state_its_width_as_a_factor(tmp_path):
    w = files.sparsify(tmp_path, num_latents=0, expansion_factor=3)
    with pytest.raises(EncoderError, match=r"40 latents of 12 inputs, cfg\.json says 36"):
        read_sae(w["path"])
    found = {"encoder.weight": w["W_enc"].t()[:36], "encoder.bias": w["b_enc"][:36], "W_dec": w["W_dec"][:36]}
    files.write_safetensors(w["path"] / "sae.safetensors", found | {"b_dec": w["b_dec"]})
    check(w["path"], top(((vectors() - w["b_dec"]) @ w["W_enc"][:, :36] + w["b_enc"][:36]).relu()))


@pytest.mark.parametrize("config", [{}, {"transcode": True}])
@pytest.mark.parametrize("activation", ["topk", "groupmax"])
def test_sparsify(tmp_path, activation, config):
    w = files.sparsify(tmp_path, activation=activation, skip_connection=bool(config.get("transcode")), **config)
    x = vectors() if config.get("transcode") else vectors() - w["b_dec"]
    h = (x @ w["W_enc"] + w["b_enc"]).relu()
    groups, at = h.view(60, 5, -1).max(dim=-1)
    grouped = torch.zeros_like(h).scatter(1, at + torch.arange(0, D_SAE, D_SAE // 5), groups)
    sae = check(w["path"], top(h) if activation == "topk" else grouped)
    assert sae.metadata["layer"] == 3
    assert len(sae.notes) == 2 * bool(config.get("transcode"))


@pytest.mark.parametrize(
    "name",
    [
        "AutoEncoder",
        "AutoEncoderNew",
        "GatedAutoEncoder",
        "JumpReluAutoEncoder",
        "AutoEncoderTopK",
        "BatchTopKSAE",
        "MatryoshkaBatchTopKSAE",
    ],
)
def test_dictionary_learning(tmp_path, name):
    w = files.dictionary_learning(tmp_path, name)
    norms = w["W_dec"].norm(dim=1)
    x = vectors() if name in ("AutoEncoderNew", "JumpReluAutoEncoder") else vectors() - w["b_dec"]
    u = x @ w["W_enc"]
    h = u + w["b_enc"]
    want = {
        "AutoEncoder": h.relu(),
        "AutoEncoderNew": h.relu(),
        "GatedAutoEncoder": (u + w["b_gate"] > 0) * (w["r_mag"].exp() * u + w["b_mag"]).relu() * norms,
        "JumpReluAutoEncoder": (h * (h > w["threshold"])).relu() * norms,
        "AutoEncoderTopK": top(h),
        "BatchTopKSAE": h.relu() * (h.relu() > 1.5),
        "MatryoshkaBatchTopKSAE": h.relu() * (h.relu() > 1.5),
    }[name]
    sae = check(tmp_path, want)
    f = want / norms if name in ("GatedAutoEncoder", "JumpReluAutoEncoder") else want
    torch.testing.assert_close(sae.decode(sae.encode(vectors()), 60), f @ w["W_dec"] + w["b_dec"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("activation", ["TopK", "ReLU"])
def test_openai(tmp_path, activation):
    w = files.openai(tmp_path / "6.pt", activation)
    x = vectors()
    if activation == "TopK":
        x = x - x.mean(dim=-1, keepdim=True)
        x = x / (x.std(dim=-1, keepdim=True) + 1e-5)
    h = (x - w["b_dec"]) @ w["W_enc"] + w["b_enc"]
    assert check(tmp_path / "6.pt", top(h) if activation == "TopK" else h.relu()).metadata["layer"] == 6


def test_itda(tmp_path):
    atoms = files.itda(tmp_path)
    left, want = vectors().clone(), torch.zeros(60, D_SAE)
    for _ in range(6):
        products = left @ atoms.t()
        best = products.abs().argmax(dim=1)
        value = products[torch.arange(60), best]
        want[torch.arange(60), best] += value
        left = left - value[:, None] * atoms[best]
    sae = read_sae(tmp_path)
    torch.testing.assert_close(signed(sae, vectors()), want, **TIGHT)
    torch.testing.assert_close(sae.decode(sae.encode(vectors()), 60), vectors() - left, rtol=1e-4, atol=1e-4)


def change(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "temporal"}, "'temporal' is not read: it reads a whole context"),
        ({"architecture": "batchtopk"}, "training checkpoint: save it for inference"),
        ({"architecture": "crosscoder"}, "architecture 'crosscoder' is not known; did you mean 'transcoder'"),
        (
            {"normalize_activations": "covariance_whitening"},
            "normalize_activations 'covariance_whitening' is not known",
        ),
        ({"activation_fn": "tanh-relu"}, "activation_fn 'tanh-relu' is not known"),
        ({"reshape_activations": "hook_q"}, "reshape_activations 'hook_q' is not known"),
        ({"architecture": "jumprelu"}, "lacks threshold; it has"),
        ({"architecture": "matching_pursuit"}, "has W_enc, b_enc, whose meaning is not known"),
    ],
)
def test_saelens_refusals(tmp_path, changes, message):
    files.saelens_6(tmp_path, "standard")
    change(tmp_path / "cfg.json", **changes)
    with pytest.raises(EncoderError, match=message):
        read_sae(tmp_path)


@pytest.mark.parametrize(
    ("write", "changes", "message"),
    [
        (files.llama_scope_1, {"norm_activation": "batch-wise"}, "norm_activation 'batch-wise' is not known"),
        (files.llama_scope_1, {"act_fn": "gelu"}, "act_fn 'gelu' is not known"),
        (files.llama_scope_3, {"sae_type": "crosscoder"}, "sae_type 'crosscoder' is not known"),
        (files.llama_scope_3, {"use_glu_encoder": True}, "use_glu_encoder is not read"),
        (files.llama_scope_3, {"act_fn": "batchtopk"}, "depends on what else is in the batch"),
        (files.llama_scope_3, {"hook_point_in": "blocks.2.hook_resid_post"}, "give in_scale"),
    ],
)
def test_llama_scope_refusals(tmp_path, write, changes, message):
    write(tmp_path)
    for name in ("hyperparams.json", "config.json"):
        if (tmp_path / name).exists():
            change(tmp_path / name, **changes)
    with pytest.raises(EncoderError, match=message):
        read_sae(tmp_path)


def test_other_refusals(tmp_path):
    files.dictionary_learning(tmp_path / "a", "AutoEncoder", dict_class="CrossCoder")
    with pytest.raises(EncoderError, match="dict_class 'CrossCoder' is not known"):
        read_sae(tmp_path / "a")
    files.sparsify(tmp_path / "b", activation="maxout")
    with pytest.raises(EncoderError, match="activation 'maxout' is not known"):
        read_sae(tmp_path / "b/layers.3.mlp")
    with pytest.raises(EncoderError, match=r"holds folders of SAEs; give one of them, such as .*layers\.3\.mlp"):
        read_sae(tmp_path / "b")
    files.openai(tmp_path / "c.pt", "Tanh")
    with pytest.raises(EncoderError, match="activation 'Tanh' is not known"):
        read_sae(tmp_path / "c.pt")
    files.itda(tmp_path / "d", k=None)
    with pytest.raises(EncoderError, match="does not say k"):
        read_sae(tmp_path / "d")
    (tmp_path / "e").mkdir()
    with pytest.raises(EncoderError, match=r"it is empty\. Known are SAELens"):
        read_sae(tmp_path / "e")
    with pytest.raises(EncoderError, match="no SAE at"):
        read_sae(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"k": "many"}, "cannot be read .*do not fit together"),
        ({"k": 41}, "k is 41 with 40 latents"),
        ({"k": None}, "topk needs k"),
        ({"metadata": 3}, "cannot be read .*do not fit together"),
        ({"norm_scaling_factor": "x", "normalize_activations": "expected_average_only_in"}, "cannot be read"),
    ],
)
def test_configurations_of_the_wrong_types_are_one_sentence(tmp_path, changes, message):
    files.saelens_6(tmp_path, "topk")
    change(tmp_path / "cfg.json", **changes)
    with pytest.raises(EncoderError, match=message):
        read_sae(tmp_path)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("W_enc", torch.zeros(3), r"cannot be read|has shape"),
        ("b_enc", torch.zeros(3), r"the SAE in .* does not fit together: b_enc has shape \[3\].*; fetch it again"),
        ("b_dec", torch.full((D_IN,), float("nan")), "b_dec with numbers that are none"),
    ],
)
def test_damaged_weights_are_one_sentence(tmp_path, name, value, message):
    w = files.saelens_6(tmp_path, "standard")
    kept = {key: w[key] for key in files.SAELENS_KEYS["standard"]} | {name: value}
    files.write_safetensors(tmp_path / "sae_weights.safetensors", kept)
    with pytest.raises(EncoderError, match=message):
        read_sae(tmp_path)


class Harmful:
    """What a malicious pickle would hold."""

    def __reduce__(self):
        return print, ("executed",)


def test_pickles_are_never_executed(tmp_path, capsys):
    files.torch_file(tmp_path / "1.pt", {"encoder_linear.weight": Harmful()})
    (tmp_path / "2.pt").write_bytes(pickle.dumps(Harmful(), protocol=2))
    (tmp_path / "4.pt").write_bytes(pickle.dumps(Harmful(), protocol=4))
    for name in ("1.pt", "2.pt", "4.pt"):
        with pytest.raises(EncoderError, match=r"holds more than weights.* and is not opened, for safety"):
            read_sae(tmp_path / name)
    assert "executed" not in capsys.readouterr().out
    np.savez(tmp_path / "params.npz", W_enc=np.array([Harmful()], dtype=object))
    with pytest.raises(EncoderError, match="cannot be read"):
        read_sae(tmp_path / "params.npz")
    assert "executed" not in capsys.readouterr().out
    (tmp_path / "3.pt").write_bytes(b"nonsense")
    with pytest.raises(EncoderError, match=r"cannot be read|more than weights"):
        read_sae(tmp_path / "3.pt")


def test_without_the_decoder_the_activations_are_the_same(tmp_path):
    files.llama_scope_1(tmp_path)
    whole, half = read_sae(tmp_path), read_sae(tmp_path, decoder=False)
    assert half.W_dec is None
    torch.testing.assert_close(dense(half, vectors()), dense(whole, vectors()))
