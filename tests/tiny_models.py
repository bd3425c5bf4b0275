"""Tiny language models with random weights, saved as a hub would have them, and a tokenizer trained on the spot."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch

SPECIAL = ["<|begin|>", "<|end|>", "<|head|>", "<|tail|>", "<|pad|>"]
TEXTS = [
    "The quick brown fox jumps over the lazy dog. It was a bright cold day in April, and the clocks were striking.",
    "Sorry, I cannot help with that! Here is what I can do instead: 1. explain, 2. summarise, 3. translate.",
    "Grüße aus Köln — naïve café, 東京 und 😀 emoji.\n\n\tdef f(x):\n        return x ** 2  # squared",
]
#: Head, role, blank line, words without white space at their ends, tail: as Llama 3 has it.
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|head|>{{ m['role'] }}\n\n{{ m['content'] | trim }}<|tail|>{% endfor %}"
)
KINDS = ("llama", "gpt2", "gemma2", "gemma3_text", "mistral", "gpt_neox", "qwen3", "bert", "roberta", "mamba")
_SIZE = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4,
    "max_position_embeddings": 128, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 4,
}  # fmt: skip


@cache
def backend() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS * 3, trainer)
    return tokenizer


def tokenizer(*, bos: bool = True, template: str | None = TEMPLATE) -> Any:
    """One that puts a special token before each text if `bos`, and has a chat template unless that is None."""
    from tokenizers import Tokenizer, processors
    from transformers import PreTrainedTokenizerFast

    own = Tokenizer.from_str(backend().to_str())
    if bos:
        own.post_processor = processors.TemplateProcessing(single="<|begin|> $A", special_tokens=[("<|begin|>", 0)])
    return PreTrainedTokenizerFast(
        tokenizer_object=own,
        bos_token="<|begin|>",
        eos_token="<|end|>",
        pad_token="<|pad|>",
        additional_special_tokens=["<|head|>", "<|tail|>"],
        chat_template=template,
    )


def config(kind: str, **changes: Any) -> Any:
    from transformers import AutoConfig

    more: dict[str, Any] = {
        "llama": {"num_key_value_heads": 2},
        "gemma2": {"num_key_value_heads": 2, "head_dim": 8, "sliding_window": 16, "attn_logit_softcapping": 5.0},
        "gemma3_text": {"num_key_value_heads": 2, "head_dim": 8, "sliding_window": 16, "sliding_window_pattern": 2},
        "mistral": {"num_key_value_heads": 2, "sliding_window": 16},
        "qwen3": {"num_key_value_heads": 2, "head_dim": 8},
        "mamba": {"state_size": 4},
    }.get(kind, {})
    return AutoConfig.for_model(kind, **{**_SIZE, "vocab_size": backend().get_vocab_size(), **more, **changes})


def save(folder: Path, kind: str, *, bos: bool = True, template: str | None = TEMPLATE, **changes: Any) -> Path:
    """A model of a kind, with its tokenizer, in a folder."""
    from transformers import AutoModel

    torch.manual_seed(0)
    model = AutoModel.from_config(config(kind, **changes)).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # far from the start, so that norms and biases matter
            parameter.add_(torch.randn_like(parameter) * 0.2)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer(bos=bos, template=template).save_pretrained(folder)
    return folder
