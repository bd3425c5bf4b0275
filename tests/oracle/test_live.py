"""The oracle libraries themselves, asked live: `make oracle` runs this in an environment of its own."""

from __future__ import annotations

import pytest
import torch
from oracle.cases import CASES, N, load, oracle
from oracle.record import RECORDED
from sae_files import D_IN, D_SAE, vectors
from safetensors.torch import load_file
from test_sae_oracle import ours

from saelens_data.errors import EncoderError
from saelens_data.sae.checkpoints import save_saelens
from saelens_data.sae.formats import read_sae
from saelens_data.sae.formats.releases import catalogue, find_entry, from_saelens
from saelens_data.sae.model import SAE

sae_lens = pytest.importorskip("sae_lens", reason="the oracle libraries have an environment of their own: make oracle")
TIGHT = {"rtol": 1e-5, "atol": 1e-5}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_ours_and_what_was_recorded_are_what_the_library_gives(tmp_path, case):
    case.write(tmp_path)
    want = oracle(case, tmp_path)
    torch.testing.assert_close(load_file(RECORDED)[case.name], want, **TIGHT)
    torch.testing.assert_close(ours(read_sae(tmp_path / case.path, **case.options), vectors(N)), want, **TIGHT)


@pytest.mark.parametrize("case", [c for c in CASES if c.loader is None], ids=lambda case: case.name)
def test_an_sae_that_sae_lens_has_loaded(tmp_path, case):
    case.write(tmp_path)
    theirs = load(case, tmp_path)
    torch.testing.assert_close(ours(from_saelens(theirs), vectors(N)), theirs.encode(vectors(N)).detach(), **TIGHT)


def test_an_sae_without_its_scale_is_refused(tmp_path):
    case = next(case for case in CASES if case.name == "saelens6.standard")
    case.write(tmp_path)
    theirs = load(case, tmp_path)
    theirs.cfg.normalize_activations = "expected_average_only_in"
    with pytest.raises(EncoderError, match="give in_scale"):
        from_saelens(theirs)
    theirs.fold_activation_norm_scaling_factor(0.3)
    torch.testing.assert_close(ours(from_saelens(theirs), vectors(N)), theirs.encode(vectors(N)).detach(), **TIGHT)


@pytest.mark.parametrize("activation", ["relu", "jumprelu", "topk"])
def test_sae_lens_loads_what_we_save(tmp_path, activation):
    rng = torch.Generator().manual_seed(0)
    center = torch.randn(D_IN, generator=rng)
    sae = SAE(
        torch.randn(D_IN, D_SAE, generator=rng),
        torch.randn(D_SAE, generator=rng),
        center,
        torch.randn(D_SAE, D_IN, generator=rng),
        center,
        activation,
        threshold=torch.rand(D_SAE, generator=rng) * 2 if activation == "jumprelu" else None,
        k=5 if activation == "topk" else None,
    )
    save_saelens(sae, tmp_path)
    theirs = sae_lens.SAE.load_from_disk(str(tmp_path), device="cpu")
    x = vectors(N)
    want = theirs.encode(x).detach()
    torch.testing.assert_close(ours(sae, x), want, **TIGHT)
    torch.testing.assert_close(sae.decode(sae.encode(x), N), theirs.decode(want).detach(), rtol=1e-4, atol=1e-4)


def test_the_whole_catalogue_is_understood():
    for release, about in catalogue().items():
        for sae in about["saes"][:2]:
            entry = find_entry(release, str(sae["id"]))
            assert entry.repo_id.count("/") == 1
            assert entry.model_name
