"""The largest k block by block, matching pursuit, and what holds of an SAE whatever its blocks and dtypes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sae_files import D_IN, D_SAE, Random, vectors, weights
from torch.utils._python_dispatch import TorchDispatchMode

from saelens_data.errors import EncoderError
from saelens_data.sae import model
from saelens_data.sae.model import AS_IT_IS, LAYER_NORM, SAE, TOKEN_NORM, InputNorm, Pursuit
from saelens_data.sae.select import pursue, top_k


def in_blocks(h: torch.Tensor, width: int):
    return ((start, h[:, start : start + width]) for start in range(0, h.shape[1], width))


@given(
    shape=st.tuples(st.integers(1, 6), st.integers(1, 40)),
    k=st.integers(1, 45),
    width=st.integers(1, 45),
    levels=st.sampled_from([1, 2, 5, 1000]),
    signed=st.booleans(),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=300, deadline=None)
def test_the_largest_k_do_not_depend_on_the_blocks(shape, k, width, levels, signed, seed):
    h = torch.randint(-levels, levels + 1, shape, generator=torch.Generator().manual_seed(seed)).float()
    values, at = top_k(in_blocks(h, width), k, signed=signed)
    # The rule, in the plainest words: by size, then by column; then in the order of the columns.
    for row, value, column in zip(h.tolist(), values.tolist(), at.tolist(), strict=True):
        size = [abs(v) if signed else v for v in row]
        want = sorted(sorted(range(shape[1]), key=lambda j: (-size[j], j))[:k])
        assert column == want
        assert value == [row[j] for j in want]


def make(activation: str, **parts) -> SAE:
    w = weights()
    given_parts = {"threshold": w["threshold"]} if activation == "jumprelu" else {}
    given_parts |= {"k": 5} if activation in ("topk", "abstopk", "groupmax", "pursuit") else {}
    given_parts |= {"pursuit": Pursuit(signed=True)} if activation == "pursuit" else {}
    if activation == "pursuit":
        atoms = torch.nn.functional.normalize(w["W_dec"], dim=1)
        w |= {"W_dec": atoms, "W_enc": atoms.t(), "b_enc": torch.zeros(D_SAE)}
    plain = (w["W_enc"], w["b_enc"], w["b_dec"], w["W_dec"], w["b_dec"], activation)
    return SAE(*plain, **(given_parts | parts))


ALL = ("relu", "jumprelu", "topk", "groupmax", "abstopk", "pursuit")


#: What a residual stream lacks whose writers were centred.
CENTERED = InputNorm(center=True)


@pytest.mark.parametrize("activation", ALL)
@pytest.mark.parametrize("blocks", [(7, 16), (1000, 9), (1, 40)])
def test_blocks_change_nothing(monkeypatch, activation, blocks):
    sae, x = make(activation), vectors()
    whole = sae.encode(x)
    monkeypatch.setattr(model, "BLOCK_UNITS", blocks[0])
    monkeypatch.setattr(model, "BLOCK_LATENTS", blocks[1])
    cut = sae.encode(x)
    assert torch.equal(cut.row, whole.row)
    assert torch.equal(cut.latent, whole.latent)
    torch.testing.assert_close(cut.value, whole.value, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(sae.decode(cut, 60), sae.decode(whole, 60), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("activation", ALL)
@pytest.mark.parametrize("norm", [AS_IT_IS, TOKEN_NORM, LAYER_NORM, CENTERED])
def test_no_vectors_and_vectors_of_zeros(activation, norm):
    sae = make(activation, norm=norm)
    none = sae.encode(torch.empty(0, D_IN))
    assert len(none.row) == len(none.latent) == len(none.value) == 0
    assert bool(torch.isfinite(sae.encode(torch.zeros(3, D_IN)).value).all())


@pytest.mark.parametrize("activation", ALL)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_is_refused_not_dropped(activation, bad):
    x = vectors()
    x[3, 2] = bad
    with pytest.raises(ValueError, match="not finite"):
        make(activation).encode(x)


@pytest.mark.parametrize("activation", ["relu", "jumprelu"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_maximum_over_units_can_be_taken_before_the_activation(activation, dtype):
    sae = make(activation, out_scale=Random(3).uniform(D_SAE) + 0.1).to(dtype)
    x = vectors()
    by_unit = sae.activate(sae.pre_activations(x)).amax(dim=0)
    assert torch.equal(sae.activate(sae.pre_activations(x).amax(dim=0)), by_unit)
    part = slice(8, 24)
    torch.testing.assert_close(sae.activate(sae.pre_activations(x, part), part).amax(dim=0), by_unit[part])


def test_only_elementwise_activations_have_a_dense_form():
    with pytest.raises(EncoderError, match="topk compares latents"):
        make("topk").activate(torch.zeros(1, D_SAE))


@pytest.mark.parametrize("given_dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_vectors_of_any_dtype(given_dtype):
    x = vectors().to(given_dtype)
    for activation in ALL:
        sae = make(activation)
        want, found = sae.encode(x.float()), sae.encode(x)
        assert torch.equal(found.latent, want.latent)
        assert found.value.dtype == torch.float32
        assert torch.equal(found.value, want.value)


def test_products_in_bfloat16_keep_the_rest_in_float32():
    sae = make("relu")
    half = sae.to(torch.bfloat16)
    assert half.W_enc.dtype == torch.bfloat16
    assert half.b_enc.dtype == half.in_center.dtype == torch.float32
    want, found = sae.pre_activations(vectors()), half.pre_activations(vectors()).float()
    assert float((want - found).norm() / want.norm()) < 0.01


def test_input_norms_by_hand():
    x = torch.tensor([[3.0, 0.0, 1.0, 0.0]])
    torch.testing.assert_close(CENTERED(x), torch.tensor([[2.0, -1.0, 0.0, -1.0]]))
    torch.testing.assert_close(TOKEN_NORM(x), x * (2 / 10**0.5))
    torch.testing.assert_close(LAYER_NORM(x), torch.tensor([[2.0, -1.0, 0.0, -1.0]]) / (2**0.5 + 1e-5))
    biased = InputNorm(center=True, scale="std", eps=0.5, unbiased=False)
    torch.testing.assert_close(biased(x), torch.tensor([[2.0, -1.0, 0.0, -1.0]]) / (1.5**0.5 + 0.5))


def test_a_latent_that_writes_nothing_is_never_active_where_values_are_what_it_writes():
    w = weights()
    w["W_dec"][4] = 0
    sae = SAE(w["W_enc"], w["b_enc"] + 100, w["b_dec"], w["W_dec"], w["b_dec"], "relu").scaled_by_decoder()
    active = sae.encode(vectors())
    assert 4 not in active.latent
    assert 5 in active.latent
    assert bool((sae.activate(sae.pre_activations(vectors()))[:, 4] == 0).all())


def test_pursuit_of_a_vector_that_is_one_atom():
    atoms = torch.eye(3)
    x = torch.tensor([[0.0, -2.0, 0.0], [1.0, 3.0, 0.0], [0.0, 0.0, 0.0]])

    def nearest(left):
        at = left.abs().argmax(dim=1)
        return left.gather(1, at[:, None])[:, 0], at

    row, atom, value = pursue(x, nearest, atoms, steps=3)
    assert row.tolist() == [0, 1, 1]
    assert atom.tolist() == [1, 0, 1]
    assert value.tolist() == [-2.0, 1.0, 3.0]


class Sizes(TorchDispatchMode):
    """The bytes of the largest array that is made."""

    def __init__(self):
        super().__init__()
        self.largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        for part in found if isinstance(found, (tuple, list)) else [found]:
            # A view of the weights is not made.
            if isinstance(part, torch.Tensor) and not func.is_view:
                self.largest = max(self.largest, part.numel() * part.element_size())
        return found


@pytest.mark.parametrize("activation", ["relu", "topk", "abstopk", "groupmax"])
def test_no_array_is_larger_than_a_block(monkeypatch, activation):
    monkeypatch.setattr(model, "BLOCK_UNITS", 16)
    monkeypatch.setattr(model, "BLOCK_LATENTS", 32)
    d_sae, random = 2000, Random(0)
    W, zero = random.normal(D_IN, d_sae), torch.zeros(D_IN)
    # So low that a few latents of each unit are active.
    b = torch.full((d_sae,), -20.0)
    sae = SAE(
        W, b, zero, W.t(), zero, activation, k=None if activation == "relu" else 4 if activation != "groupmax" else 100
    )
    with Sizes() as sizes:
        for block in vectors(64).split(16):
            sae.encode(block)
    n_active = len(sae.encode(vectors(64)).row) / 64
    assert n_active < 100
    assert sizes.largest <= max(16 * 32 * 4, 16 * 100 * 8)  # 16 units by 32 latents; for groups, by 100 groups
    assert sizes.largest <= sae.peak_bytes(n_active)


DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("activation", ALL)
def test_on_every_device_there_is(device, activation):
    sae, x = make(activation, norm=LAYER_NORM), vectors()
    moved = sae.to(device=device)
    want, found = sae.encode(x), moved.encode(x.to(device))
    assert found.row.device.type == found.value.device.type == device
    cells = torch.zeros(60, sae.d_sae).index_put((want.row, want.latent), want.value)
    other = torch.zeros(60, sae.d_sae).index_put((found.row.cpu(), found.latent.cpu()), found.value.cpu())
    torch.testing.assert_close(other, cells, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(moved.decode(found, 60).cpu(), sae.decode(want, 60), rtol=1e-4, atol=1e-4)
    half = sae.to(torch.bfloat16, device)
    h = half.pre_activations(x.to(device))
    assert h.dtype == (torch.bfloat16 if device == "cpu" else torch.float32)
    both = set(zip(want.row.tolist(), want.latent.tolist(), strict=True))
    rough = half.encode(x.to(device))
    near = set(zip(rough.row.tolist(), rough.latent.tolist(), strict=True))
    assert len(both & near) > 0.85 * len(both | near)
