"""How much of the speed of a language model and an SAE's product is left in encoding by tokens, in one run.

    python tests/benchmarks/tokens.py                      # CPU, float32, a small model and a small SAE
    python tests/benchmarks/tokens.py --shape 8b --layers 2 --tokens 3000      # CPU, the widths of Llama-3.1-8B
    python tests/benchmarks/tokens.py --device cuda        # 20 layers of Llama-3.1-8B's shape, 65,536 latents, bfloat16

Weights are random; texts are made of random words, their lengths log-normal with a median of 181 tokens. Tokens a
second, best of --repeat, taken in turn:
  bare      the reader's forward pass over prepared batches
  floor     the same, and the SAE's product for every token, thrown away
  relu      everything from texts to pooled documents, for an SAE whose latents do not compare (91 active a token)
  topk      the same for the 64 largest
On a GPU also with torch.compile, the share of the card's peak, what holds it (torch.profiler), and a small model's
results there in float32 and bfloat16 against the CPU's in float32.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from saelens_data.readers.ahead import ahead
from saelens_data.readers.hooks import Hook
from saelens_data.readers.tokens import TokenReader
from saelens_data.sae.model import SAE
from saelens_data.sae.pooling import Pooler, peak_bytes

#: hidden, intermediate, heads, key-value heads, latents.
SHAPES = {"8b": (4096, 14336, 32, 8, 65536), "small": (1024, 3584, 16, 4, 16384), "tiny": (256, 512, 8, 2, 4096)}
#: Dense bfloat16 operations a second of cards, by part of their names.
PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "L4": 121e12}
VOCABULARY, ACTIVE, K, SHARD = 32_000, 91, 64, 500


def words(n: int, rng: np.random.Generator) -> list[str]:
    parts = [a + b for a in "b c d f g h k l m n p r s t v w z st tr pl".split() for b in "a e i o u ai ou".split()]
    return ["".join(rng.choice(parts, rng.integers(1, 4))) for _ in range(n)]


def make_texts(tokens: int, rng: np.random.Generator) -> list[str]:
    vocabulary, texts, n = np.array(words(4000, rng)), [], 0
    while n < tokens:
        length = int(np.clip(rng.lognormal(np.log(181), 0.8), 8, 1800))
        texts.append(" ".join(vocabulary[rng.zipf(1.3, length) % len(vocabulary)]))
        n += length
    return texts


def make_tokenizer(texts: Sequence[str]) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    own = Tokenizer(models.BPE())
    own.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(vocab_size=8000, special_tokens=["<begin>"], show_progress=False)
    own.train_from_iterator(texts[:300], trainer)
    own.post_processor = processors.TemplateProcessing(single="<begin> $A", special_tokens=[("<begin>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=own, bos_token="<begin>")


def make_model(shape: str, layers: int, device: str, dtype: torch.dtype) -> Any:
    from transformers import AutoModel, LlamaConfig

    hidden, inner, heads, key_heads, _ = SHAPES[shape]
    config = LlamaConfig(
        hidden_size=hidden,
        intermediate_size=inner,
        num_attention_heads=heads,
        num_key_value_heads=key_heads,
        num_hidden_layers=layers,
        vocab_size=VOCABULARY,
        max_position_embeddings=8192,
        use_cache=False,
        bos_token_id=0,
        eos_token_id=1,
    )
    torch.manual_seed(0)
    with torch.device(device):
        return AutoModel.from_config(config, dtype=dtype).to(dtype)


def make_reader(model: Any, tokenizer: Any, layers: int, **settings: Any) -> TokenReader:
    return TokenReader(model, tokenizer, name="random", sha256="", hook=Hook(layers - 1), **settings)


def make_sae(reader: TokenReader, texts: Sequence[str], latents: int) -> SAE:
    """A random SAE whose biases let ACTIVE latents of a token be active on average."""
    rng = torch.Generator(device=reader.device).manual_seed(1)
    W = torch.randn((reader.d_in, latents), generator=rng, device=reader.device) / reader.d_in**0.5
    x = torch.cat([x for _, x in reader.read(reader.split(texts[:12]))])[:2048].float()
    centre = x.mean(dim=0)
    top = max(1, round(len(x) * ACTIVE / latents))
    # Halfway between two values, so that none lies on the edge.
    levels = [((x - centre) @ part).topk(top + 1, dim=0).values[-2:].mean(dim=0) for part in W.split(4096, dim=1)]
    dtype = reader.dtype
    return SAE(
        W_enc=W.to(dtype),
        b_enc=-torch.cat(levels),
        in_center=centre,
        W_dec=None,
        b_dec=torch.zeros_like(centre),
        activation="relu",
    )


def encode(reader: TokenReader, sae: SAE, texts: Sequence[str]) -> dict[str, np.ndarray]:
    """What an encoder does between texts and the shards that are written, of SHARD texts each."""
    finishing = []
    with ThreadPoolExecutor(max_workers=1) as behind:
        for reading in ahead(reader.split, [texts[i : i + SHARD] for i in range(0, len(texts), SHARD)]):
            pooler = Pooler(sae, reading.units.ptr)
            for units, x in reader.read(reading):
                pooler.add(units, x)
            finishing.append(behind.submit(pooler.finish))
    found = [part.result() for part in finishing]
    joined = {name: np.concatenate([part[name] for part in found]) for name in ("latents", "maxima", "means", "unit")}
    counts = np.concatenate([np.diff(part["indptr"]) for part in found])
    return {"indptr": np.concatenate([[0], np.cumsum(counts)]), **joined}


def runs(reader: TokenReader, sae: SAE, texts: Sequence[str]) -> dict[str, Callable[[], Any]]:
    batches = list(reader.batches(reader.split(texts)))
    top = replace(sae, activation="topk", k=K)

    def bare() -> None:
        for batch in batches:
            reader.states(batch)

    @torch.inference_mode()
    def floor() -> None:
        for batch in batches:
            states, _ = reader.states(batch)
            for rows in sae.inputs(states).split(sae.block_units):
                for block in sae.latent_blocks():
                    sae.product(rows, block)

    whole = {"relu": lambda: encode(reader, sae, texts), "topk": lambda: encode(reader, top, texts)}
    return {"bare": bare, "floor": floor, **whole}


def seconds(run: Callable[[], Any], device: torch.device) -> float:
    """Of the wall clock on a GPU; of the processor on a CPU, where others may be at work too."""
    if device.type != "cuda":
        began = time.process_time()
        run()
        return time.process_time() - began
    torch.cuda.synchronize()
    began = time.perf_counter()
    run()
    torch.cuda.synchronize()
    return time.perf_counter() - began


def measure(reader: TokenReader, sae: SAE, texts: Sequence[str], repeat: int) -> dict[str, float]:
    """Seconds of each run, best of `repeat`."""
    todo = runs(reader, sae, texts)
    best = dict.fromkeys(todo, float("inf"))
    for _ in range(repeat):
        for name, run in todo.items():
            best[name] = min(best[name], seconds(run, reader.device))
    return best


def arithmetic(reader: TokenReader, latents: int) -> float:
    """Operations a token: two for each weight of the layers and of the SAE's encoder; attention itself left out."""
    layers = sum(p.numel() for name, p in reader.transformer.named_parameters() if "embed" not in name)
    return 2.0 * (layers + reader.d_in * latents)


def compare(device: str) -> dict[str, Any]:
    """A small model's pooled activations on `device` against the CPU's in float32."""
    texts = make_texts(6000, np.random.default_rng(3))
    tokenizer = make_tokenizer(texts)
    model = make_model("tiny", 3, "cpu", torch.float32)
    reader = make_reader(model, tokenizer, 3)
    sae = make_sae(reader, texts, SHAPES["tiny"][4])
    cases = {"relu": sae, "topk": replace(sae, activation="topk", k=K)}
    want = {name: encode(reader, s, texts) for name, s in cases.items()}
    out: dict[str, Any] = {}
    for dtype in (torch.float32, torch.bfloat16):
        for compiled in (False, True)[: 1 if dtype == torch.float32 else 2]:
            there = make_reader(model.to(device=device, dtype=dtype), tokenizer, 3, compiled=compiled)
            for name, s in cases.items():
                found = encode(there, s.to(dtype, device), texts)
                key = f"{name} {str(dtype)[6:]}{' compiled' if compiled else ''}, {there.how}"
                out[key] = agreement(want[name], found, sae.d_sae)
            model = make_model("tiny", 3, "cpu", torch.float32)
    return out


def agreement(want: dict[str, np.ndarray], found: dict[str, np.ndarray], d_sae: int) -> dict[str, float]:
    """Of two sets of pooled activations: shared share of active cells, and differences where both are active."""
    a, b = (
        np.repeat(np.arange(len(p["indptr"]) - 1), np.diff(p["indptr"])) * d_sae + p["latents"] for p in (want, found)
    )
    both, i, j = np.intersect1d(a, b, return_indices=True)
    near = np.abs(want["maxima"][i] - found["maxima"][j]) / want["maxima"].mean()
    means = np.abs(want["means"][i] - found["means"][j]) / want["means"].mean()
    return {
        "jaccard": len(both) / max(1, len(a) + len(b) - len(both)),
        "maxima_differ_at_most": float(near.max()),
        "maxima_differ_on_average": float(near.mean()),
        "means_differ_on_average": float(means.mean()),
        "same_unit": float((want["unit"][i] == found["unit"][j]).mean()),
    }


def memory(reader: TokenReader, sae: SAE, texts: Sequence[str]) -> dict[str, float]:
    """Gigabytes of the card: weights, and what is held above them at most by the reader alone, pooling and all of it."""
    batches = list(reader.batches(reader.split(texts)))
    units = int(max(sum((window.unit >= 0).sum() for window in batch) for batch in batches))
    held = torch.cuda.memory_allocated()
    docs = max(map(len, batches))
    state_bytes = torch.finfo(reader.dtype).bits // 8

    def peak(run: Callable[[], Any], held: int = held) -> float:
        torch.cuda.reset_peak_memory_stats()
        run()
        return (torch.cuda.max_memory_allocated() - held) / 1e9

    found = {"weights": held / 1e9, "reader": peak(lambda: [reader.states(batch) for batch in batches])}
    found["all"] = peak(lambda: encode(reader, sae, texts))
    shared = np.linspace(0, units, docs + 1).astype(np.int64)
    x = torch.cat([x for _, x in reader.read(reader.split(texts[:250]))])[:units].clone()
    before = torch.cuda.memory_allocated() - x.numel() * x.element_size()
    found["pooling"] = peak(lambda: Pooler(sae, shared).add(np.arange(len(x)), x), before)
    found["pooling_by_formula"] = peak_bytes(sae, tokens=units, docs=docs, active=ACTIVE, state_bytes=state_bytes) / 1e9
    return {f"gb_{name}": round(value, 2) for name, value in found.items()}


def busiest(events: Any) -> list[dict[str, Any]]:
    """The kernels that take most of the card's time."""
    kernels = sorted(events, key=lambda event: -event.self_device_time_total)[:14]
    return [{"ms": round(e.self_device_time_total / 1e3, 1), "calls": e.count, "what": e.key[:90]} for e in kernels]


def profile(reader: TokenReader, sae: SAE, texts: Sequence[str]) -> None:
    """Print the kernels that take most time in a whole encode, and how much of the wall clock the card is busy."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiler

    with profiler(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
        took = seconds(lambda: encode(reader, sae, texts), reader.device)
    events = seen.key_averages()
    # An operator is counted with its kernels; these are listed by themselves too.
    kernels = [event for event in events if event.device_type == torch.autograd.DeviceType.CUDA]
    busy = sum(event.self_device_time_total for event in kernels) / 1e6
    print(f"profiled: {took:.2f} s, of which the card is busy {busy:.2f} s")
    for line in busiest(kernels):
        print(json.dumps(line))
    print(events.table(sort_by="self_cpu_time_total", row_limit=10, max_name_column_width=60))


def reached(n: int, times: dict[str, float], operations: float, peak: float | None) -> dict[str, Any]:
    found: dict[str, Any] = {"tokens_per_second": {name: round(n / t) for name, t in times.items()}}
    found["of_floor"] = {name: round(times["floor"] / times[name], 3) for name in ("relu", "topk")}
    if peak:
        found["of_peak"] = {name: round(n / t * operations / peak, 3) for name, t in times.items() if name != "bare"}
    return found


def product_speed(device: str) -> float:
    """Operations a second of one large product in bfloat16, which is what a card gives at best."""
    a = torch.randn(8192, 8192, device=device, dtype=torch.bfloat16)
    best = min(seconds(lambda: [a @ a for _ in range(10)], torch.device(device)) for _ in range(3))
    return 10 * 2 * 8192**3 / best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--shape", choices=list(SHAPES), help="8b on a GPU, else small")
    parser.add_argument("--layers", type=int, help="20 on a GPU, else 4")
    parser.add_argument("--tokens", type=int, help="200,000 on a GPU, else 10,000")
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--batch-tokens", type=int)
    options = parser.parse_args()
    gpu = options.device != "cpu"
    shape, layers = options.shape or ("8b" if gpu else "small"), options.layers or (20 if gpu else 4)
    dtype, began = torch.bfloat16 if gpu else torch.float32, time.perf_counter()

    def say(**what: Any) -> None:
        print(json.dumps({"at": round(time.perf_counter() - began), **what}), flush=True)

    texts = make_texts((options.tokens or (200_000 if gpu else 10_000)), np.random.default_rng(0))
    tokenizer = make_tokenizer(texts)
    model = make_model(shape, layers, options.device, dtype)
    reader = make_reader(model, tokenizer, layers, batch_tokens=options.batch_tokens)
    sae = make_sae(reader, texts, SHAPES[shape][4])
    n = int(reader.split(texts).units.ptr[-1])
    operations = arithmetic(reader, sae.d_sae)
    name = torch.cuda.get_device_name(options.device) if gpu else "cpu"
    peak = next((value for part, value in PEAKS.items() if part in name), None)
    say(device=name, torch=torch.__version__, texts=len(texts), tokens=n, how=reader.how, shape=shape, layers=layers)
    say(gflop_a_token=round(operations / 1e9, 3), floor_at_peak=round(peak / operations) if peak else None)
    if gpu:
        say(one_large_product=round(product_speed(options.device) / 1e12), unit="TFLOP/s")
        encode(reader, sae, texts[:100])
        say(**memory(reader, sae, texts))
    times = measure(reader, sae, texts, options.repeat)
    say(mode="eager", **reached(n, times, operations, peak))
    if gpu:
        say(split_seconds=round(seconds(lambda: reader.split(texts), reader.device), 3))
        profile(reader, sae, texts[:350])
        say(against_cpu=compare(options.device))
    if gpu and not options.no_compile:
        compiled = make_reader(model, tokenizer, layers, batch_tokens=options.batch_tokens, compiled=True)
        say(compiling_and_reading_once=round(seconds(lambda: encode(compiled, sae, texts[:100]), reader.device), 1))
        say(mode="compiled", **reached(n, measure(compiled, sae, texts, options.repeat), operations, peak))


if __name__ == "__main__":
    main()
