"""How much of the reader's speed is left in `encode`, in one run.

    python tests/benchmarks/throughput.py [FILE ...]

Three figures in tokens a second over the same documents, best of --repeat, taken in turn so that a slow moment of
the machine meets all three:
  bare     the reader's forward pass alone, on prepared batches: the floor
  encode   all of it: file, spans, tokens, reader, SAE, pooling, writing, opening
  plain    a float32 loop over the spans in the order of the file, eight at a time, nothing else
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from saelens_data.corpus import read_corpus
from saelens_data.encode import encode
from saelens_data.encoders import Encoder, load_encoder
from saelens_data.readers.base import Reading

ROOT = Path(__file__).parents[2]
BUNDLED = [ROOT / "datasets/habits/answers_a.jsonl", ROOT / "datasets/habits/answers_b.jsonl"]


def bare(encoder: Encoder, reading: Reading) -> Callable[[], None]:
    """The forward pass over the batches that `encode` makes, prepared beforehand."""
    reader = encoder.reader
    batches = [reader.prepare([reading.ids[i] for i in rows], width) for rows, width in reader.batches(reading)]

    def run() -> None:
        with torch.inference_mode():
            for tokens, attended, _ in batches:
                reader.transformer(input_ids=tokens, attention_mask=attended)

    return run


def plain(name: str, reading: Reading) -> Callable[[], None]:
    """What a first script does."""
    from saelens_data.readers.spans import SpanReader

    reader = SpanReader(name, dtype="float32")

    def run() -> None:
        with torch.inference_mode():
            for at in range(0, len(reading.ids), 8):
                ids = reading.ids[at : at + 8]
                tokens, attended, _ = reader.prepare(ids, max(map(len, ids)) + 2)
                reader.transformer(input_ids=tokens, attention_mask=attended)

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", default=BUNDLED, type=Path)
    parser.add_argument("--encoder", default="minilm-8k")
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    encoder = load_encoder(options.encoder)
    texts = [text for path in options.files for text in read_corpus(path).docs["text"].fill_null("")]
    reading = encoder.reader.split(texts)
    n_tokens = int(reading.n_tokens.sum())

    def whole() -> None:
        with tempfile.TemporaryDirectory() as folder:
            for number, path in enumerate(options.files):
                encode(path, store=Path(folder) / f"{number}.sae", encoder=encoder)

    runs = {"bare": bare(encoder, reading), "encode": whole, "plain": plain(encoder.reader.name, reading)}
    best = dict.fromkeys(runs, float("inf"))
    for _ in range(options.repeat):
        for name, run in runs.items():
            began = time.perf_counter()
            run()
            best[name] = min(best[name], time.perf_counter() - began)
    speed = {name: round(n_tokens / seconds) for name, seconds in best.items()}
    ratios = {"encode/bare": best["bare"] / best["encode"], "encode/plain": best["plain"] / best["encode"]}
    print(json.dumps({"tokens": n_tokens, "spans": len(reading.ids), "tokens_per_second": speed} | ratios, indent=1))


if __name__ == "__main__":
    main()
