"""Pooling of token activations: the dense way, in any order, in batches of any size."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from saelens_data.sae import model, pooling
from saelens_data.sae.model import SAE
from saelens_data.sae.pooling import Pooler, _above

D_IN = 6


def eighths(shape: tuple[int, ...], rng: torch.Generator) -> torch.Tensor:
    return (torch.randn(shape, generator=rng) * 8).round() / 8


def sae(activation: str, d_sae: int, seed: int = 0) -> SAE:
    """With weights of few binary digits, so that sums are exact in any order and ties occur."""
    rng = torch.Generator().manual_seed(seed)
    W = eighths((D_IN, d_sae), rng)
    threshold = eighths((d_sae,), rng).abs() if activation == "jumprelu" else None
    return SAE(
        W_enc=W,
        b_enc=-1 - eighths((d_sae,), rng).abs(),
        in_center=eighths((D_IN,), rng),
        W_dec=W.t().contiguous(),
        b_dec=torch.zeros(D_IN),
        activation=activation,
        threshold=threshold,
        k=3,
    )


def dense(s: SAE, x: torch.Tensor) -> np.ndarray:
    """Activations [n, d_sae] by one product and plain loops."""
    h = ((x - s.in_center) @ s.W_enc + s.b_enc).numpy()
    if s.activation == "topk":
        f = np.zeros_like(h)
        for row, out in zip(h, f, strict=True):
            best = np.argsort(-row, kind="stable")[: s.k]
            out[best] = np.maximum(row[best], 0)
        return f
    bound = np.zeros(s.d_sae) if s.threshold is None else s.threshold.numpy()
    return np.where(h > bound, h, 0)


@settings(deadline=None, max_examples=60)
@given(
    counts=st.lists(st.integers(0, 7), min_size=1, max_size=8),
    activation=st.sampled_from(["relu", "jumprelu", "topk"]),
    d_sae=st.sampled_from([10, 64, 192]),
    batch=st.integers(1, 20),
    order=st.randoms(use_true_random=False),
)
def test_the_dense_way_in_any_order_and_batch(counts, activation, d_sae, batch, order):
    s = sae(activation, d_sae)
    ptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    n = int(ptr[-1])
    x = eighths((n, D_IN), torch.Generator().manual_seed(n))
    units = list(range(n))
    order.shuffle(units)
    pooler = Pooler(s, ptr)
    for at in range(0, n, batch):
        taken = np.array(units[at : at + batch], np.int64)
        pooler.add(taken, x[taken])
    found = pooler.finish()
    f = dense(s, x)
    assert {k: v.dtype for k, v in found.items()} == {
        "indptr": np.int64, "latents": np.int32, "maxima": np.float32, "means": np.float32, "unit": np.int32,
    }  # fmt: skip
    for doc in range(len(counts)):
        own = f[ptr[doc] : ptr[doc + 1]]
        cells = slice(found["indptr"][doc], found["indptr"][doc + 1])
        active = np.flatnonzero(own.max(axis=0, initial=0))
        np.testing.assert_array_equal(found["latents"][cells], active)
        if len(own):
            np.testing.assert_array_equal(found["maxima"][cells], own[:, active].max(axis=0))
            np.testing.assert_allclose(found["means"][cells], own[:, active].mean(axis=0), rtol=1e-6)
            np.testing.assert_array_equal(found["unit"][cells], own[:, active].argmax(axis=0))


@pytest.mark.parametrize("activation", ["jumprelu", "topk"])
def test_blocks_of_any_size_give_the_same(activation, monkeypatch):
    s, ptr = sae(activation, 256), np.array([0, 30, 31, 31, 60])
    x = eighths((60, D_IN), torch.Generator().manual_seed(1))

    def pooled():
        pooler = Pooler(s, ptr)
        pooler.add(np.arange(60), x)
        return pooler.finish()

    whole = pooled()
    monkeypatch.setattr(model, "BLOCK_LATENTS", 64)
    monkeypatch.setattr(model, "BLOCK_UNITS", 7)
    monkeypatch.setattr(pooling, "CELLS", 300)
    for name, values in pooled().items():
        np.testing.assert_array_equal(values, whole[name], err_msg=name)


@pytest.mark.parametrize(("d_sae", "k", "group"), [(8192, 64, 64), (1024, 40, 16), (20_480, 5, 64), (640, 64, 0)])
def test_the_largest_are_those_of_the_sae_itself(d_sae, k, group):
    """Values of few digits have many equals; the lower latents are taken."""
    s = replace(sae("topk", d_sae), k=k)
    assert pooling._group_for(s) == group
    x = eighths((200, D_IN), torch.Generator().manual_seed(4))
    row, latent, value = pooling._active(s, x)
    want = s.encode(x)
    order = np.lexsort((latent.numpy(), row.numpy()))
    np.testing.assert_array_equal(row.numpy()[order], want.row)
    np.testing.assert_array_equal(latent.numpy()[order], want.latent)
    np.testing.assert_array_equal(value.numpy()[order], want.value)


@pytest.mark.parametrize("activation", ["jumprelu", "topk"])
def test_values_in_other_units(activation):
    scale = torch.arange(256.0) % 3  # of some latents 0: they are never active
    s, ptr, x = sae(activation, 256), np.array([0, 30]), eighths((30, D_IN), torch.Generator().manual_seed(5))
    pooler = Pooler(replace(s, out_scale=scale), ptr)
    pooler.add(np.arange(30), x)
    want = (dense(s, x) * scale.numpy()).max(axis=0)
    found = pooler.finish()
    np.testing.assert_array_equal(found["latents"], np.flatnonzero(want))
    np.testing.assert_array_equal(found["maxima"], want[want > 0])


def test_of_equal_maxima_the_first_unit_is_kept():
    s, ptr = sae("relu", 64), np.array([0, 4])
    x = eighths((1, D_IN), torch.Generator().manual_seed(3))
    pooler = Pooler(s, ptr)
    for unit in (3, 1, 0, 2):
        pooler.add(np.array([unit]), x)
    assert not pooler.finish()["unit"].any()


def test_cells_above_are_those_of_one_comparison():
    h = torch.randn((50, 256), generator=torch.Generator().manual_seed(2))
    bound = torch.rand(256) + 0.8
    row, column, value = _above(h, bound)
    order = np.lexsort((column.numpy(), row.numpy()))
    want = (h > bound).nonzero()
    np.testing.assert_array_equal(torch.stack([row, column], dim=1)[order], want)
    np.testing.assert_array_equal(value[order], h[want[:, 0], want[:, 1]])


def test_a_number_that_is_not_finite_is_refused():
    pooler = Pooler(sae("relu", 64), np.array([0, 1]))
    with pytest.raises(ValueError, match="not finite"):
        pooler.add(np.array([0]), torch.full((1, D_IN), float("nan")))
