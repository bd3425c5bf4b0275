"""Texts to encoder: read spans or tokens, train an SAE on their vectors, measure it on held-out documents, name its
latents.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from scipy.sparse import csr_array

from saelens_data.encoders import (
    CONCEPTS_FILE,
    ENCODER_FILE,
    EXAMPLES_FILE,
    METRICS_FILE,
    Encoder,
    load_encoder,
)
from saelens_data.encoders.meaning import write_meanings
from saelens_data.encoders.usual import LEAST_DOCUMENTS, USUAL_FILE, Usual
from saelens_data.errors import EncoderError, InputError
from saelens_data.labels.offline import label_latents, top_spans
from saelens_data.progress import Stages, ToldStages, stages
from saelens_data.readers.hooks import Hook
from saelens_data.readers.sample import sample_tokens
from saelens_data.readers.spans import Part, SpanReader
from saelens_data.readers.tokens import TokenReader
from saelens_data.readers.weights import MINILM
from saelens_data.sae.checkpoints import load_saelens, save_saelens
from saelens_data.sae.evaluate import active_per_document, evaluate
from saelens_data.sae.model import SAE
from saelens_data.sae.train import TrainConfig, Trainer

#: The parts of a span's vector; docs/encoders.md has the measurements behind the choice.
DEFAULT_PARTS = ("final", "layer.3")
#: One document in this many is held out from training, for the figures of the card.
HOLD_OUT = 50
#: Documents read at once, by spans and by tokens.
_READ_DOCS, _READ_TOKEN_DOCS = 2_000, 500
#: Spans from which labels and examples are drawn.
_LABEL_SPANS = 400_000
#: Documents from which it is known what goes together.
_USUAL_DOCS = 10_000
#: Tokens drawn from each text where tokens are read.
TOKENS_PER_TEXT = 32
#: Of a token, the words that stand for it: those that end in its own, so many characters back at most.
_TOKEN_WORDS = re.compile(r"(?:\S{1,24}\s+){0,2}\S{0,24}$")
#: Characters before and behind a token that make it another wording, and that its example shows.
_TOKEN_CONTEXT = 60
#: Longest example kept, in characters, and how many for each latent.
_EXAMPLE_CHARS, _EXAMPLES = 160, 6
_CHECKPOINT_STEPS = 500


@dataclass(frozen=True, eq=False)
class SpanSet:
    """Units of a corpus: vectors [n, d_in] float16, memory-mapped; wording [n]; doc [n], the number of the document.

    Of tokens, `context` [n] is what they stand in, which makes one wording differ from another.
    """

    vectors: np.ndarray
    wording: pl.Series
    doc: np.ndarray
    context: pl.Series | None = None

    def rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows to train on and rows held out: each wording once, and none of the held-out ones in the other.

        Corpora repeat themselves (templates, headers, licences). Repetitions would win latents for themselves, and
        flatter every figure taken on held-out documents.
        """
        plain = (self.wording if self.context is None else self.context).str.to_lowercase().str.replace_all(r"\s+", " ")
        held = self.doc % HOLD_OUT == HOLD_OUT - 1
        # Training documents first, so that a wording of both counts as theirs.
        order = np.argsort(held, kind="stable")
        first = np.zeros(len(held), dtype=bool)
        first[order] = plain[order].is_first_distinct().to_numpy()
        return np.flatnonzero(first & ~held), np.flatnonzero(first & held)


def train(
    docs: pl.DataFrame,
    out: str | Path,
    *,
    config: TrainConfig | None = None,
    reader: str = MINILM,
    parts: Sequence[str] = DEFAULT_PARTS,
    hook: str | None = None,
    tokens_per_text: int = TOKENS_PER_TEXT,
    dtype: str = "auto",
    device: str | None = None,
    overwrite: bool = False,
    progress: ToldStages = None,
) -> Encoder:
    """Train an encoder on the texts of `docs` (columns doc_id, text; source and licence are kept with the examples).

    With a `hook`, such as "layer.4", it reads tokens: the SAE learns the states there of up to `tokens_per_text`
    random tokens of the beginning of each text, of any transformer. Without one it reads spans, whose vectors are
    the `parts` of a sentence-transformers model.
    Writes the folder `out`, usable as an encoder's name. An interrupted run goes on from its last checkpoint when the
    same command is run again. Raises InputError for an `out` that holds an encoder, EncoderError for too little text.
    """
    config = config or TrainConfig()
    folder, work = Path(out), Path(f"{out}.training")
    if (folder / ENCODER_FILE).exists() and not overwrite:
        raise InputError(f"{folder} holds an encoder already: choose another folder or say --overwrite")
    report = stages(progress)
    chosen: SpanReader | TokenReader
    if hook is None:
        chosen = SpanReader(reader, [Part(name) for name in parts], dtype=dtype)
    else:
        chosen = TokenReader.load(reader, Hook.parse(hook), dtype=dtype, device=device)
    work.mkdir(parents=True, exist_ok=True)
    if isinstance(chosen, TokenReader):
        spans, widths = _read_tokens(docs, chosen, tokens_per_text, config.seed, work, report), [chosen.d_in]
    else:
        spans, widths = _read_spans(docs, chosen, work, report), chosen.widths
    try:
        scales = part_scales(spans.vectors, widths)
        sae = _fit(spans, np.repeat(scales, widths), config, work, report)
    except EncoderError:  # no text to train on: nothing here would serve another run
        shutil.rmtree(work)
        raise
    spec: dict[str, Any] = {"name": reader, "sha256": chosen.sha256, "max_tokens": chosen.limits["max_tokens"]}
    if isinstance(chosen, TokenReader):
        # The states are read as they are, so the scale goes into the SAE.
        sae, scales = _unscaled(sae, float(scales[0])), np.ones(1)
        spec |= {"kind": "tokens", "hook": chosen.hook}
    else:
        found = [{"name": part, "scale": float(scale)} for part, scale in zip(parts, scales, strict=True)]
        spec |= {"kind": "spans", "parts": found}
    folder.mkdir(parents=True, exist_ok=True)
    save_saelens(sae, folder, dtype=torch.float16, training=asdict(config), reader=reader, hook=chosen.hook)
    # What ships is measured, not what was trained: the file has float16 weights.
    shipped = load_saelens(folder)
    _describe(docs, spans, np.repeat(scales, widths), folder, shipped, report)
    if isinstance(chosen, SpanReader):
        report("comparing", 0, 1, "")
        write_meanings(folder, chosen.embed, sae.d_sae)
        _usual(spans, np.repeat(scales, widths), folder, shipped)
    written = {"format": 1, "name": folder.name, "reader": dict(sorted(spec.items(), key=lambda kv: kv[0] != "kind"))}
    (folder / ENCODER_FILE).write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
    shutil.rmtree(work)
    return load_encoder(folder, dtype=dtype)


def _unscaled(sae: SAE, scale: float) -> SAE:
    """The SAE for x of one that was trained on scale * x; its activations are the same."""
    assert sae.W_dec is not None
    return replace(
        sae, W_enc=sae.W_enc * scale, in_center=sae.in_center / scale, W_dec=sae.W_dec / scale, b_dec=sae.b_dec / scale
    )


def _read_spans(docs: pl.DataFrame, reader: SpanReader, work: Path, report: Stages) -> SpanSet:
    """Read every document once; vectors go to disk, and are found there again by an interrupted run."""
    content = docs.select("doc_id", "text").hash_rows(seed=1).implode().hash(2)[0]
    key = f"{content} {reader.hook} {reader.dtype} {reader.sha256}"
    done = work / "spans.json"
    if not (done.is_file() and done.read_text(encoding="utf-8") == key):
        for old in work.iterdir():
            old.unlink()
        where, texts = [], docs["text"].fill_null("")
        with (work / "vectors.f16").open("wb") as stream:
            for first in range(0, docs.height, _READ_DOCS):
                reading = reader.split(texts[first : first + _READ_DOCS].to_list())
                block = np.empty((len(reading.ids), reader.d_in), np.float16)
                for rows, vectors in reader.read(reading):
                    block[rows] = vectors.numpy()
                stream.write(block.tobytes())
                owner = first + np.repeat(np.arange(len(reading.units.ptr) - 1), np.diff(reading.units.ptr))
                where.append(np.stack([owner, reading.units.start, reading.units.end]).astype(np.int32))
                report("reading", min(first + _READ_DOCS, docs.height), docs.height, f"{stream.tell() >> 20} MB")
        np.save(work / "where.npy", np.concatenate(where, axis=1))
        done.write_text(key, encoding="utf-8")
    owner, start, end = np.load(work / "where.npy")
    mapped = np.memmap(work / "vectors.f16", np.float16, mode="r").reshape(len(owner), reader.d_in)
    whole = docs["text"].fill_null("").to_list()
    wording = [whole[doc][first:last] for doc, first, last in zip(owner, start, end, strict=True)]
    return SpanSet(mapped, pl.Series(wording, dtype=pl.String), owner)


def _read_tokens(
    docs: pl.DataFrame, reader: TokenReader, per_text: int, seed: int, work: Path, report: Stages
) -> SpanSet:
    """Read the beginning of every document once and keep some tokens of it, as `_read_spans` keeps spans."""
    content = docs.select("doc_id", "text").hash_rows(seed=1).implode().hash(2)[0]
    key = f"{content} {reader.hook} {reader.dtype} {reader.sha256} {per_text} {seed}"
    done, texts = work / "spans.json", docs["text"].fill_null("")
    if not (done.is_file() and done.read_text(encoding="utf-8") == key):
        for old in work.iterdir():
            old.unlink()
        places = []
        with (work / "vectors.f16").open("wb") as stream:
            for first in range(0, docs.height, _READ_TOKEN_DOCS):
                some = texts[first : first + _READ_TOKEN_DOCS].to_list()
                block, where = sample_tokens(reader, some, per_text=per_text, first=first, seed=seed)
                stream.write(block.tobytes())
                places.append(where)
                report("reading", min(first + _READ_TOKEN_DOCS, docs.height), docs.height, f"{stream.tell() >> 20} MB")
        np.save(work / "where.npy", np.concatenate(places, axis=1))
        done.write_text(key, encoding="utf-8")
    owner, start, end = np.load(work / "where.npy")
    mapped = np.memmap(work / "vectors.f16", np.float16, mode="r").reshape(len(owner), reader.d_in)
    whole = texts.to_list()
    shown = [_token_in_context(whole[doc], first, last) for doc, first, last in zip(owner, start, end, strict=True)]
    words, contexts = zip(*shown, strict=True) if shown else ((), ())
    return SpanSet(mapped, pl.Series(words, dtype=pl.String), owner, pl.Series(contexts, dtype=pl.String))


def _token_in_context(text: str, start: int, end: int) -> tuple[str, str]:
    """The words that end with a token's own, and the token, in brackets, with what stands around it."""
    rest = re.match(r"\S{0,24}", text[end : end + 24])
    before = _TOKEN_WORDS.search(text[max(0, start - 80) : start])
    words = (before[0] if before else "") + text[start:end] + (rest[0] if rest else "")
    low, high = max(0, start - _TOKEN_CONTEXT), end + _TOKEN_CONTEXT
    return words, f"{text[low:start]}[{text[start:end]}]{text[end:high]}"


def part_scales(vectors: np.ndarray, widths: Sequence[int], sample: int = 50_000) -> np.ndarray:
    """One factor for each part, after which every part has the variance 1, so that all count alike."""
    step = max(1, len(vectors) // sample)
    x = vectors[::step].astype(np.float64)
    squares = np.square(x - x.mean(axis=0)).mean(axis=0)
    variances = [part.sum() for part in np.split(squares, np.cumsum(widths)[:-1])]
    if min(variances) <= 0:
        raise EncoderError("the texts all read the same: give more varied text to train on")
    return np.round(1 / np.sqrt(variances), 6)


def _fit(spans: SpanSet, scale: np.ndarray, config: TrainConfig, work: Path, report: Stages) -> SAE:
    checkpoint, key = work / "checkpoint.safetensors", work / "checkpoint.json"
    trainer = Trainer(spans.vectors, spans.rows()[0], config, scale=scale)
    said = json.dumps(asdict(config))
    if checkpoint.is_file() and key.is_file() and key.read_text(encoding="utf-8") == said:
        trainer.load_checkpoint(checkpoint)

    def tell(step: int, steps: int, loss: float, dead: int) -> None:
        report("training", step, steps, f"loss {loss:.3f}, {dead} dead")
        if step % _CHECKPOINT_STEPS == 0 or step == steps:
            trainer.save_checkpoint(checkpoint)
            key.write_text(said, encoding="utf-8")

    return trainer.run(tell)


def _describe(docs: pl.DataFrame, spans: SpanSet, scale: np.ndarray, folder: Path, sae: SAE, report: Stages) -> None:
    """Write metrics.json, concepts.parquet and examples.parquet."""
    report("measuring", 0, 1, "")
    rows, held = spans.rows()
    metrics: dict[str, Any] = {"training_units": len(rows), "units": len(spans.doc), "documents": docs.height}
    if len(held) > 1:  # a corpus of fewer than HOLD_OUT documents has none, and of one nothing varies
        metrics |= evaluate(sae, _scaled(spans, held, scale))
        if spans.context is None:  # of tokens, not all of a document are here
            whole = np.flatnonzero(np.isin(spans.doc, spans.doc[held]))
            metrics["active_per_document"] = active_per_document(sae, _scaled(spans, whole, scale), spans.doc[whole])
    rows = np.sort(np.random.default_rng(0).permutation(rows)[:_LABEL_SPANS])
    activations = _activations(sae, spans, rows, scale)
    uses = np.bincount(activations.indices, minlength=sae.d_sae)
    metrics |= {"units_for_labels": len(rows), "unused": float((uses == 0).mean())}
    wording = spans.wording[rows].to_list()
    report("naming", 0, 1, "")
    concepts = label_latents(wording, activations).with_columns(
        span_density=pl.Series(uses / len(rows)), max_activation=pl.Series(activations.max(axis=0).toarray().ravel())
    )
    concepts.write_parquet(folder / CONCEPTS_FILE, compression="zstd")
    shown = wording if spans.context is None else spans.context[rows].to_list()
    _examples(docs, wording, shown, activations, spans.doc[rows]).write_parquet(
        folder / EXAMPLES_FILE, compression="zstd"
    )
    metrics["sources"] = _sources(docs)
    metrics["labelled"] = concepts["label"].is_not_null().sum() / concepts.height
    (folder / METRICS_FILE).write_text(json.dumps(metrics, indent=1) + "\n", encoding="utf-8")


def _usual(spans: SpanSet, scale: np.ndarray, folder: Path, sae: SAE) -> None:
    """Write what goes together in some of the documents; nothing of fewer than tell it."""
    numbers = np.unique(spans.doc)
    (folder / USUAL_FILE).unlink(missing_ok=True)
    if len(numbers) < LEAST_DOCUMENTS:
        return
    some = np.sort(np.random.default_rng(0).permutation(numbers)[:_USUAL_DOCS])
    rows = np.flatnonzero(np.isin(spans.doc, some))
    place = np.searchsorted(some, spans.doc[rows])
    member = csr_array((np.ones(len(rows), np.float32), (place, np.arange(len(rows)))), shape=(len(some), len(rows)))
    held = csr_array(member @ _activations(sae, spans, rows, scale))
    name = f"{len(some):,} documents of the encoder's training text"
    Usual.of(held, np.arange(sae.d_sae), np.bincount(place), name).save(folder / USUAL_FILE)


def _scaled(spans: SpanSet, rows: np.ndarray, scale: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(spans.vectors[rows].astype(np.float32) * scale.astype(np.float32))


def _activations(sae: SAE, spans: SpanSet, rows: np.ndarray, scale: np.ndarray) -> csr_array:
    parts = []
    for chunk in np.array_split(rows, max(1, len(rows) // 8192)):
        active = sae.encode(_scaled(spans, chunk, scale))
        index = (active.value.numpy(), (active.row.numpy(), active.latent.numpy()))
        parts.append(csr_array(index, shape=(len(chunk), sae.d_sae)))
    from scipy.sparse import vstack  # noqa: PLC0415

    return csr_array(vstack(parts, format="csr"))


def _examples(
    docs: pl.DataFrame, wording: Sequence[str], shown: Sequence[str], activations: csr_array, doc: np.ndarray
) -> pl.DataFrame:
    """A latent's strongest spans, cut short, with the source and licence of each where the corpus names them."""
    tops = top_spans(wording, activations, _EXAMPLES)
    rows = np.concatenate(tops)
    latents = np.repeat(np.arange(len(tops), dtype=np.int32), [len(top) for top in tops])
    frame = pl.DataFrame({"latent": latents, "text": [shown[r][:_EXAMPLE_CHARS] for r in rows]})
    origin = docs[doc[rows]].select(pl.col("^source$|^licence$"))
    return frame.hstack(origin.get_columns())


def _sources(docs: pl.DataFrame) -> list[dict[str, object]]:
    """Documents of each source and licence, where the corpus names them."""
    named = [column for column in ("source", "licence") if column in docs.columns]
    if not named:
        return []
    counts = docs.group_by(named).agg(documents=pl.len(), characters=pl.col("text").str.len_chars().sum())
    return counts.sort(named).to_dicts()
