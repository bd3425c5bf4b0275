"""Pooling against the dense way, and its independence of the order of units."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saelens_data.encoders import pool

D_SAE = 7


@st.composite
def unit_activations(draw):
    counts = draw(st.lists(st.integers(0, 4), max_size=6))
    dense = np.array(
        draw(st.lists(st.lists(st.sampled_from([0, 0, 0.5, 1.25, 3]), min_size=D_SAE, max_size=D_SAE), min_size=sum(counts), max_size=sum(counts))),
        dtype=np.float32,
    ).reshape(sum(counts), D_SAE)  # fmt: skip
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), dense


@settings(deadline=None, max_examples=200)
@given(unit_activations(), st.randoms(use_true_random=False))
def test_pool_equals_the_dense_way_in_any_order(case, random):
    ptr, dense = case
    row, latent = np.nonzero(dense)
    order = list(range(len(row)))
    random.shuffle(order)
    pooled = pool(row[order], latent[order], dense[row, latent][order], ptr=ptr, d_sae=D_SAE)
    for doc in range(len(ptr) - 1):
        units = dense[ptr[doc] : ptr[doc + 1]]
        cells = slice(pooled["indptr"][doc], pooled["indptr"][doc + 1])
        active = np.flatnonzero(units.max(axis=0, initial=0))
        np.testing.assert_array_equal(pooled["latents"][cells], active)
        if len(units):
            np.testing.assert_array_equal(pooled["maxima"][cells], units[:, active].max(axis=0))
            np.testing.assert_array_equal(pooled["unit"][cells], units[:, active].argmax(axis=0))
            np.testing.assert_allclose(pooled["means"][cells], units[:, active].mean(axis=0), rtol=1e-6)


def test_values_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="not finite"):
        pool(np.array([0]), np.array([1]), np.array([np.nan]), ptr=np.array([0, 1]), d_sae=D_SAE)
