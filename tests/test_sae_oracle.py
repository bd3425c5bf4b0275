"""Our activations against what sae-lens and eai-sparsify gave for the same files; `make oracle` asks them anew."""

from __future__ import annotations

import pytest
import torch
from oracle.cases import CASES, N
from oracle.record import RECORDED
from sae_files import vectors
from safetensors.torch import load_file

from saelens_data.sae.formats import read_sae


def ours(sae, x: torch.Tensor) -> torch.Tensor:
    """Activations [n, directions], signed where directions are."""
    active = sae.encode(x)
    found = torch.zeros(len(x), sae.d_sae)
    found[active.row, active.latent] = active.value
    return found[:, : sae.n_directions] - found[:, sae.n_directions :] if sae.signed else found


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_recorded(tmp_path, case):
    case.write(tmp_path)
    want = load_file(RECORDED)[case.name]
    assert 0 < int((want != 0).sum()) < want.numel()
    found = ours(read_sae(tmp_path / case.path, **case.options), vectors(N))
    torch.testing.assert_close(found, want, rtol=1e-5, atol=1e-5)


def test_every_recorded_case_is_compared():
    assert set(load_file(RECORDED)) == {case.name for case in CASES}
