"""The SAE against dense formulas, its gradients against autograd, and its files against themselves and sae-lens."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from saelens_data.errors import EncoderError
from saelens_data.sae.checkpoints import load_saelens, save_saelens
from saelens_data.sae.evaluate import active_per_document, evaluate
from saelens_data.sae.model import BLOCK_UNITS, SAE
from saelens_data.sae.sparse_ops import dots, from_mask, times, transposed_times
from saelens_data.sae.train import TrainConfig, Trainer

D_IN, D_SAE = 12, 40


def make_sae(activation="jumprelu", seed=0, **parts) -> SAE:
    rng = torch.Generator().manual_seed(seed)
    center = torch.randn(D_IN, generator=rng)
    given = {
        "W_enc": torch.randn(D_IN, D_SAE, generator=rng),
        "b_enc": torch.randn(D_SAE, generator=rng),
        "in_center": center,
        "W_dec": torch.randn(D_SAE, D_IN, generator=rng),
        "b_dec": center,
        "activation": activation,
        "threshold": torch.rand(D_SAE, generator=rng) * 2 if activation == "jumprelu" else None,
        "k": 5 if activation == "topk" else None,
    }
    return SAE(**(given | parts))


def dense_codes(sae: SAE, x: torch.Tensor) -> torch.Tensor:
    h = (x * sae.in_scale - sae.in_center) @ sae.W_enc + sae.b_enc
    if sae.activation == "jumprelu":
        return torch.where(h > sae.threshold, h, 0).clamp(min=0)
    if sae.activation == "topk":
        top = h.topk(sae.k, dim=1)
        return torch.zeros_like(h).scatter(1, top.indices, top.values.clamp(min=0))
    return h.clamp(min=0)


@pytest.mark.parametrize("activation", ["relu", "jumprelu", "topk"])
@pytest.mark.parametrize("n", [0, 1, 7, BLOCK_UNITS + 3])
def test_encode_and_decode_equal_the_dense_formula(activation, n):
    sae = make_sae(activation, in_scale=0.7)
    x = torch.randn(n, D_IN, generator=torch.Generator().manual_seed(1))
    active, want = sae.encode(x), dense_codes(sae, x)
    found = torch.zeros(n, D_SAE)
    found[active.row, active.latent] = active.value
    torch.testing.assert_close(found, want)
    torch.testing.assert_close(sae.decode(active, n), want @ sae.W_dec + sae.b_dec)
    assert torch.equal(active.row, active.row.sort().values)


def test_parts_that_do_not_fit_are_named():
    with pytest.raises(EncoderError, match=r"b_enc has shape \[3\].*wants \[40\]"):
        make_sae(b_enc=torch.zeros(3))
    with pytest.raises(EncoderError, match="threshold has shape None"):
        make_sae(threshold=None)
    with pytest.raises(EncoderError, match="topk needs k"):
        make_sae("topk", k=None)


def test_sparse_products_equal_dense_ones():
    rng = torch.Generator().manual_seed(2)
    h = torch.randn(9, D_SAE, generator=rng)
    W, x = torch.randn(D_SAE, D_IN, generator=rng), torch.randn(9, D_IN, generator=rng)
    codes = from_mask(h, h > 0.5)
    dense = torch.where(h > 0.5, h, 0)
    torch.testing.assert_close(times(codes, W), dense @ W)
    torch.testing.assert_close(transposed_times(codes, x, D_SAE), dense.t() @ x)
    torch.testing.assert_close(dots(codes, x, W), (x @ W.t())[codes.rows(), codes.latent])


def planted(n=6000, seed=0) -> np.ndarray:
    """Sums of few of 24 directions in 16 dimensions."""
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=(24, 16))
    codes = rng.random((n, 24)) * (rng.random((n, 24)) < 0.1)
    return (codes @ directions + 0.3).astype(np.float16)


def make_trainer(config=None, x=None) -> Trainer:
    x = planted() if x is None else x
    config = config or TrainConfig(latents=48, k=3, groups=(0.25, 1.0), group_weights=(1, 1), batch=64, epochs=2)
    return Trainer(x, np.arange(len(x)), config, scale=np.ones(x.shape[1]))


def test_gradients_equal_autograd():
    trainer = make_trainer()
    x = trainer._take(np.arange(64)) - trainer.center
    codes = trainer._select(trainer._pre_activations(x).float())
    loss, residual = trainer._accumulate(x, codes)
    p = {name: value.clone().requires_grad_() for name, value in trainer.parameters.items()}
    mask = torch.zeros(64, 48)
    mask[codes.rows(), codes.latent] = 1
    values = torch.zeros(64, 48)
    values[codes.rows(), codes.latent] = codes.value
    h = (x @ p["W_enc"].t() + p["b_enc"]) * mask
    h = h + (values - h).detach()  # the trainer rounds values to bfloat16; the gradient goes straight through
    want = 0.0
    for prefix in (12, 48):
        rebuilt = h[:, :prefix] @ p["W_dec"][:prefix] + p["b_dec"]
        want = want + 0.5 * (rebuilt - x).square().sum(dim=1).mean() / trainer.variance
    want.backward()
    assert loss == pytest.approx(float(want), rel=1e-5)
    torch.testing.assert_close(residual, (rebuilt - x).detach())
    for name, value in trainer.parameters.items():
        torch.testing.assert_close(value.grad, p[name].grad, msg=name, rtol=1e-4, atol=1e-6)


def test_training_explains_planted_directions_with_k_active():
    x = planted()
    sae = make_trainer(TrainConfig(latents=48, k=3, batch=128, epochs=40, lr=3e-3, dead_after=5_000), x).run()
    held = torch.from_numpy(planted(seed=0)[:2000].astype(np.float32))
    figures = evaluate(sae, held)
    assert figures["explained_variance"] > 0.85
    assert figures["active_per_unit"] == pytest.approx(3, rel=0.1)
    torch.testing.assert_close(sae.W_dec.norm(dim=1), torch.ones(48))


def test_evaluate_by_hand():
    eye = torch.eye(2)
    sae = SAE(eye, torch.zeros(2), torch.zeros(2), eye, torch.zeros(2), "relu")
    x = torch.tensor([[1.0, 0.0], [2.0, -1.0], [0.0, 0.0]])
    figures = evaluate(sae, x)
    # Only the -1 is lost: an error of 1 against a scatter of 2 + 2/3.
    assert figures["explained_variance"] == pytest.approx(1 - 1 / (2 + 2 / 3))
    assert figures["active_per_unit"] == pytest.approx(2 / 3)
    assert figures["silent"] == 0.5
    assert active_per_document(sae, x, np.array([0, 0, 1])) == 0.5
    assert active_per_document(sae, torch.tensor([[1.0, 0.0], [0.0, 1.0], [3.0, 0.0]]), np.array([7, 7, 9])) == 1.5


def test_a_run_from_a_checkpoint_ends_like_one_that_never_stopped(tmp_path):
    straight = make_trainer().run()
    first = make_trainer()

    def stop(step, steps, loss, dead):
        if step == steps // 2:
            first.save_checkpoint(tmp_path / "c.safetensors")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        first.run(stop)
    second = make_trainer()
    second.load_checkpoint(tmp_path / "c.safetensors")
    resumed = second.run()
    assert torch.equal(straight.W_enc, resumed.W_enc)
    assert torch.equal(straight.W_dec, resumed.W_dec)
    assert torch.equal(straight.threshold, resumed.threshold)


@pytest.mark.parametrize("way", [{"aux": 1.0, "restart_every": 10_000}, {"aux": 0.0, "restart_every": 10}])
def test_dead_latents_come_back(way):
    trainer = make_trainer(TrainConfig(latents=48, k=3, batch=64, epochs=6, dead_after=1_000, **way))
    trainer.parameters["b_enc"][:24] = -1.0  # too low to be chosen against the others
    trainer.idle[:24] = 1_000
    dead = []
    trainer.run(lambda step, steps, loss, n: dead.append(n))
    assert dead[0] >= 20
    assert dead[-1] < dead[0] / 2


def test_settings_that_cannot_train_are_refused():
    with pytest.raises(EncoderError, match="k is 64 with 10 latents"):
        TrainConfig(latents=10)
    with pytest.raises(EncoderError, match="last group"):
        TrainConfig(groups=(0.5, 0.9), group_weights=(1, 1))
    with pytest.raises(EncoderError, match="too few"):
        make_trainer(x=planted(100))


@pytest.mark.parametrize("activation", ["relu", "jumprelu", "topk"])
def test_files_round_trip(tmp_path, activation):
    sae = make_sae(activation)
    save_saelens(sae, tmp_path)
    back = load_saelens(tmp_path)
    x = torch.randn(20, D_IN)
    for name in ("row", "latent", "value"):
        assert torch.equal(getattr(sae.encode(x), name), getattr(back.encode(x), name))


def test_damaged_files_are_one_sentence(tmp_path):
    with pytest.raises(EncoderError, match=r"no readable cfg\.json"):
        load_saelens(tmp_path)
    save_saelens(make_sae(), tmp_path)
    (tmp_path / "sae_weights.safetensors").write_bytes(b"nonsense")
    with pytest.raises(EncoderError, match="cannot be read"):
        load_saelens(tmp_path)
