"""What encoding with a wide SAE costs over its matrix product, and how much memory it holds.

    python tests/benchmarks/sae_encode.py [--d-in 512] [--d-sae 65536] [--units 4096] [--active 64]
    python tests/benchmarks/sae_encode.py --device cuda --dtype bfloat16 --d-in 4096 --units 65536

For each activation, over the same random vectors, best of --repeat, taken in turn:
  product/encode  time of the bare product in the same blocks, over that of `encode`
  peak            bytes held at most besides vectors, weights and result, and what `SAE.peak_bytes` says
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch

from saelens_data.sae.model import SAE


def make(options: argparse.Namespace, activation: str) -> SAE:
    rng = torch.Generator().manual_seed(0)
    W = torch.randn(options.d_in, options.d_sae, generator=rng) / options.d_in**0.5
    zero = torch.zeros(options.d_in)
    # Pre-activations are standard normal: this level leaves the wanted number of latents active.
    level = float(torch.distributions.Normal(0, 1).icdf(torch.tensor(1 - options.active / options.d_sae)))
    sae = SAE(
        W,
        torch.zeros(options.d_sae),
        zero + 0.01,
        None,
        zero,
        activation,
        threshold=torch.full((options.d_sae,), level) if activation == "jumprelu" else None,
        k=options.active if activation != "jumprelu" else None,
    )
    return sae.to(getattr(torch, options.dtype), options.device)


def product(sae: SAE, x: torch.Tensor) -> None:
    with torch.inference_mode():
        for block in x.split(sae.block_units):
            z = sae.inputs(block)
            for latents in sae.latent_blocks():
                sae.product(z, latents)


def timed(run: Callable[[], object], device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    began = time.perf_counter()
    run()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def peak(run: Callable[[], object], device: str) -> int:
    """Bytes held at most while `run` runs, over those held before and by its result."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        kept = run()
        highest, after = torch.cuda.max_memory_allocated(), torch.cuda.memory_allocated()
        del kept
        return highest - before - (after - before)
    # Linux: writing 5 sets the high-water mark of the resident memory to what it is now.
    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    kept = run()
    held = sum(part.nbytes for part in vars(kept).values()) if kept is not None else 0
    return status("VmHWM") - before - held


def status(field: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--d-in", type=int, default=512)
    parser.add_argument("--d-sae", type=int, default=65_536)
    parser.add_argument("--units", type=int, default=4096)
    parser.add_argument("--active", type=int, default=64)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    x = torch.randn(options.units, options.d_in, generator=torch.Generator().manual_seed(1))
    x = x.to(getattr(torch, options.dtype)).to(options.device)
    found: dict[str, object] = vars(options) | {"torch": torch.__version__}
    for activation in ("jumprelu", "topk", "abstopk"):
        sae = make(options, activation)
        few = x[: sae.block_units]
        sae.encode(few)  # what torch sets up once
        n_active = len(sae.encode(few).row) / len(few)
        held = peak(lambda sae=sae: sae.encode(x), options.device)
        best = {"product": float("inf"), "encode": float("inf")}
        for _ in range(options.repeat):
            for name, run in (("product", product), ("encode", SAE.encode)):
                best[name] = min(best[name], timed(lambda sae=sae, run=run: run(sae, x), options.device))
        found[activation] = {
            "active": round(n_active, 1),
            "seconds": {name: round(seconds, 4) for name, seconds in best.items()},
            "product/encode": round(best["product"] / best["encode"], 3),
            "units_per_second": round(options.units / best["encode"]),
            "peak_MB": round(held / 1e6, 1),
            "peak_bytes_says_MB": round(sae.peak_bytes(n_active) / 1e6, 1),
        }
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
