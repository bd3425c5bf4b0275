"""Encoders that read tokens, as a user meets them: a reader and an SAE, stores of texts and chats, training, checks."""

from __future__ import annotations

import json
import re
import warnings
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import tiny_models as tiny
import torch
from click.testing import CliRunner

import saelens_data as sd
from saelens_data.cli.main import cli
from saelens_data.encoders import Address, encoder_identity, load_encoder
from saelens_data.encoders.check import concerns
from saelens_data.encoders.load import _hash_of
from saelens_data.errors import EncoderError, EncoderWarning, InputError
from saelens_data.readers.hooks import Hook
from saelens_data.readers.weights import MINILM
from saelens_data.sae.checkpoints import save_saelens
from saelens_data.sae.model import SAE, TOKEN_NORM
from saelens_data.sae.pooling import Pooler
from saelens_data.sae.train import TrainConfig

D_SAE = 128
CHATS = [
    [("user", "What is the quick brown fox?"), ("assistant", "It jumps over the lazy dog.")],
    [("system", "Be brief."), ("user", "Hello?"), ("assistant", "Hi!"), ("user", "a"), ("assistant", "It jumps.")],
    [("user", "Only a question?")],
]


def make_sae(d_in: int, **metadata: object) -> SAE:
    rng = torch.Generator().manual_seed(0)
    W = torch.randn((d_in, D_SAE), generator=rng) / d_in**0.5
    zeros = torch.zeros(d_in)
    return SAE(
        W_enc=W,
        b_enc=torch.full((D_SAE,), -2.0),
        in_center=zeros,
        W_dec=W.t().contiguous(),
        b_dec=zeros,
        activation="relu",
        metadata=metadata,
    )


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """A tiny model's folder and that of an SAE for it, which says to whom it belongs."""
    base = tmp_path_factory.mktemp("parts")
    model = tiny.save(base / "model", "llama")
    save_saelens(make_sae(32, model_name=str(model), hook_name="blocks.2.hook_resid_post"), base / "sae")
    return {"reader": str(model), "layer": 2, "sae": str(base / "sae")}


@pytest.fixture(scope="module")
def encoder(parts):
    return load_encoder(Address.of(**parts), dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def chats(tmp_path_factory):
    path = tmp_path_factory.mktemp("chats") / "chats.jsonl"
    lines = [{"messages": [{"role": role, "content": said} for role, said in chat]} for chat in CHATS]
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def pooled(encoder, x: torch.Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Active latents of a document, their maxima and means, from the vectors of its tokens."""
    sae = encoder.sae
    f = np.maximum((x @ sae.W_enc + sae.b_enc).numpy(), 0)
    active = np.flatnonzero(f.max(axis=0))
    return active, f.max(axis=0)[active], f.mean(axis=0)[active]


def test_a_store_holds_what_the_vectors_give(tmp_path, parts, encoder):
    m = sd.encode(
        pl.DataFrame({"text": [*tiny.TEXTS, "", None]}),
        store=tmp_path / "s.sae",
        dtype="float32",
        device="cpu",
        **parts,
    )
    assert m.docs["error"].null_count() == 5
    assert m.vectors is None
    assert m.source.unit == "token"
    for row, text in enumerate(tiny.TEXTS):
        reading = encoder.reader.split([text])
        ((units, x),) = encoder.reader.read(reading)
        latents, maxima, means = pooled(encoder, x)
        cells = slice(m.X.indptr[row], m.X.indptr[row + 1])
        np.testing.assert_array_equal(m.X.indices[cells], latents)
        np.testing.assert_allclose(m.X.data[cells], maxima, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(m.evidence.mean[cells], means, rtol=1e-4, atol=1e-6)
        assert (m.docs["n_tokens"][row], m.docs["n_units"][row]) == (len(units), len(units))
    assert m.X[3:].nnz == 0
    latent = int(m.X[:3].max(axis=0).toarray().argmax())
    strongest = sd.examples(m, latent, n=1).to_frame().row(0, named=True)
    whole = m.docs["text"][m.docs["doc_id"].to_list().index(strongest["doc_id"])]
    assert strongest["before"] + strongest["text"] + strongest["after"] in whole
    assert 0 < len(strongest["text"]) < 15


def test_a_source_says_all_and_finds_the_encoder_again(parts, encoder):
    source = encoder.source()
    assert source.encoder == f"{parts['reader']}@layer.2.resid_post@{parts['sae']}"
    assert (source.reader, source.hook) == (parts["reader"], "layer.2.resid_post")
    assert source.limits == {"max_tokens": 128, "overlap": 32, "first_is_special": 1}
    assert source.checks == encoder.checks
    # The SAE's own file says reader and hook, so either may be left out.
    by_sae = load_encoder(f"@@{parts['sae']}", dtype="float32", device="cpu")
    assert by_sae.source() == source
    assert by_sae.identity == encoder.identity == encoder_identity(source.encoder)


def test_another_sae_or_reader_is_another_identity(tmp_path, parts):
    before = encoder_identity(Address.of(**parts))
    other = tmp_path / "sae"
    save_saelens(replace(make_sae(32), b_enc=torch.full((D_SAE,), -1.0)), other)
    assert encoder_identity(Address.of(**{**parts, "sae": other})) != before
    assert encoder_identity(Address.of(**{**parts, "layer": 1})) != before
    first = encoder_identity(Address.of(**{**parts, "sae": other}))
    save_saelens(replace(make_sae(32), b_enc=torch.full((D_SAE,), -1.5)), other)
    assert encoder_identity(Address.of(**{**parts, "sae": other})) != first


def test_what_is_done_with_the_same_weights_is_part_of_an_saes_hash():
    sae = make_sae(32)
    others = [replace(sae, in_scale=2.0), replace(sae, norm=TOKEN_NORM), replace(sae, out_scale=torch.ones(D_SAE))]
    others += [replace(sae, activation="topk", k=k) for k in (3, 4)]
    assert len({_hash_of(one) for one in (sae, *others)}) == 6
    assert _hash_of(make_sae(32)) == _hash_of(sae)


def keeping(kept: list[torch.Tensor]):
    return lambda _module, _inputs, output: kept.append(output)


@pytest.mark.parametrize("field", ["response", "prompt", "system", "all"])
def test_a_field_is_read_within_its_conversation(tmp_path, chats, encoder, field):
    m = sd.encode(chats, store=tmp_path / "s.sae", encoder=encoder, field=field)
    roles = {"response": {"assistant"}, "prompt": {"user"}, "system": {"system"}}.get(
        field, {"user", "assistant", "system"}
    )
    for row, chat in enumerate(CHATS):
        rendered, own = "<|begin|>", np.zeros(0, bool)
        for role, said in chat:
            rendered += f"<|head|>{role}\n\n"
            own = np.append(own, np.zeros(len(rendered) - len(own), bool))
            rendered += said
            own = np.append(own, np.full(len(said), role in roles))
            rendered += "<|tail|>"
        own = np.append(own, np.zeros(len(rendered) - len(own), bool))
        found = encoder.reader._tokenizer(rendered, add_special_tokens=False, return_offsets_mapping=True)
        with torch.inference_mode():
            encoder.reader.transformer.set_attn_implementation("sdpa")
            kept = []
            handle = encoder.reader.transformer.layers[2].register_forward_hook(keeping(kept))
            encoder.reader.transformer(torch.tensor([found["input_ids"]]))
            handle.remove()
            encoder.reader.transformer.set_attn_implementation("saelens_data_packed")
        # A token counts if all its marks are the field's; white space before it may be the template's.
        inside = [
            all(own[i] or rendered[i].isspace() for i in range(a, b)) and own[a:b].any()
            for a, b in found["offset_mapping"]
        ]
        cells = slice(m.X.indptr[row], m.X.indptr[row + 1])
        assert m.docs["n_units"][row] == sum(inside)
        if any(inside):
            latents, maxima, _ = pooled(encoder, kept[0][0][inside])
            np.testing.assert_array_equal(m.X.indices[cells], latents)
            np.testing.assert_allclose(m.X.data[cells], maxima, rtol=1e-4, atol=1e-4)
            units = m.evidence.units
            text = m.docs["text"][row]
            spans = zip(
                units.start[units.ptr[row] : units.ptr[row + 1]],
                units.end[units.ptr[row] : units.ptr[row + 1]],
                strict=True,
            )
            said = "".join(part for role, part in chat if role in roles)
            assert "".join(text[a:b] for a, b in spans).replace(" ", "") == said.replace(" ", "")
        else:
            assert cells.start == cells.stop


def test_a_conversation_that_the_template_refuses_is_listed(tmp_path, chats, encoder, monkeypatch):
    strict = "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}{{ m['content'] }}{% endfor %}"
    refusing = strict.replace(
        "{{ m['content'] }}",
        "{% if loop.index > 3 %}{{ raise_exception('too many turns') }}{% endif %}{{ m['content'] }}",
    )
    chats_of = type(encoder.reader.chats)
    monkeypatch.setattr(encoder.reader, "chats", chats_of(tiny.tokenizer(template=refusing)))
    m = sd.encode(chats, store=tmp_path / "s.sae", encoder=encoder)
    assert m.docs["error"].is_not_null().to_list() == [False, True, False]
    assert "refuses system, user, assistant, user, assistant" in m.docs["error"][1]


def test_the_order_of_documents_changes_only_rounding(encoder):
    texts = [*tiny.TEXTS, " ".join(tiny.TEXTS), "Short.", "a"]
    whole = encoder.encode_texts(texts)
    order = np.random.default_rng(0).permutation(len(texts))
    again = encoder.encode_texts([texts[i] for i in order])
    for at, row in enumerate(order):
        a, b = slice(whole.indptr[row], whole.indptr[row + 1]), slice(again.indptr[at], again.indptr[at + 1])
        np.testing.assert_array_equal(whole.latents[a], again.latents[b])
        np.testing.assert_allclose(whole.maxima[a], again.maxima[b], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(whole.means[a], again.means[b], rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(whole.unit[a], again.unit[b])


def test_an_interrupted_run_goes_on_and_gives_the_same_bytes(tmp_path, encoder, monkeypatch):
    monkeypatch.setattr(import_module("saelens_data.encode"), "SHARD_DOCS", 2)
    frame = pl.DataFrame({"text": [*tiny.TEXTS, "", "Short.", "One more.", None]})
    sd.encode(frame, store=tmp_path / "whole.sae", encoder=encoder)

    def interrupt(done: int, _total: int) -> None:
        if done > sum(map(len, tiny.TEXTS[:2])):  # behind the first shard
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sd.encode(frame, store=tmp_path / "cut.sae", encoder=encoder, progress=interrupt)
    pooled_again = []
    add = Pooler.add
    monkeypatch.setattr(Pooler, "add", lambda self, units, x: (pooled_again.append(len(units)), add(self, units, x)))
    sd.encode(frame, store=tmp_path / "cut.sae", encoder=encoder)
    assert 0 < sum(pooled_again) < int(sd.open(tmp_path / "whole.sae").docs["n_units"].sum())
    for part in sorted((tmp_path / "whole.sae").rglob("*")):
        if part.is_file() and "derived" not in part.parts and part.suffix != ".lock":
            assert part.read_bytes() == (tmp_path / "cut.sae" / part.relative_to(tmp_path / "whole.sae")).read_bytes()


def test_words_are_refused_before_the_model_is_loaded(tmp_path, encoder, monkeypatch):
    m = sd.encode(pl.DataFrame({"text": tiny.TEXTS}), store=tmp_path / "s.sae", encoder=encoder)
    monkeypatch.setattr("saelens_data.concepts.space.load_encoder", lambda *_: pytest.fail("loaded"))
    with pytest.raises(InputError, match="no embedding of sentences"):
        sd.find_concepts(m, "refusal")


def test_with_too_little_memory_less_is_read_at_once(encoder, monkeypatch):
    whole, pool, tried = encoder.encode_texts(tiny.TEXTS), Pooler.add, []

    def add(self, units, x):
        tried.append(encoder.reader.batch_tokens)
        if encoder.reader.batch_tokens > 500:
            raise torch.OutOfMemoryError
        pool(self, units, x)

    monkeypatch.setattr(Pooler, "add", add)
    again = encoder.encode_texts(tiny.TEXTS)
    assert sorted(set(tried), reverse=True) == [2048, 1024, 512, 256][: len(set(tried))]
    assert encoder.reader.batch_tokens == 256
    np.testing.assert_allclose(again.maxima, whole.maxima, rtol=1e-4, atol=1e-5)
    monkeypatch.setattr(Pooler, "add", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError()))
    with pytest.raises(EncoderError, match="the memory of cpu is too small"):
        encoder.encode_texts(tiny.TEXTS)
    monkeypatch.setattr(encoder.reader, "batch_tokens", 2048)


def test_checks_are_measured_on_the_bundled_texts(parts, encoder):
    from saelens_data.encoders.check import N_TEXTS, _texts

    texts = _texts()
    assert (len(texts), len(set(texts))) == (N_TEXTS, N_TEXTS)
    reading = encoder.reader.split(texts)
    x = np.zeros((len(reading.units.start), 32), np.float32)
    for units, found in encoder.reader.read(reading):
        x[units] = found.numpy()
    sae = make_sae(32)
    f = np.maximum(x @ sae.W_enc.numpy() - 2, 0)
    norms = np.linalg.norm(x, axis=1)
    error = np.square(x - f @ sae.W_dec.numpy()).sum() / np.square(x - x.mean(axis=0)).sum()
    assert encoder.checks == {
        "first_token_norm": pytest.approx(norms[reading.units.ptr[:-1]].mean() / np.median(norms), rel=1e-3),
        "active_per_token": pytest.approx((f > 0).sum() / len(f), rel=1e-3),
        "explained_variance": pytest.approx(1 - error, rel=1e-3),
    }


@pytest.mark.parametrize(
    ("checks", "said"),
    [
        (
            {
                "active_per_token": 91,
                "published_active_per_token": 60,
                "explained_variance": 0.7,
                "first_token_norm": 1,
            },
            None,
        ),
        (
            {"active_per_token": 250, "published_active_per_token": 91},
            "250 latents are active a token, 91 were published",
        ),
        (
            {"active_per_token": 40, "published_active_per_token": 91},
            "40 latents are active a token, 91 were published",
        ),
        ({"explained_variance": -3.5}, r"less of the reader's states than their mean does \(-3.50\)"),
        ({"first_token_norm": 80}, "first token is 80 times as long"),
        ({}, None),
    ],
)
def test_concerns(checks, said):
    found = concerns(checks)
    assert bool(found) == bool(said)
    assert said is None or re.search(said, found[0])


def test_a_published_number_far_off_warns(tmp_path, parts):
    save_saelens(make_sae(32, expected_l0=500), tmp_path / "sae")
    with pytest.warns(EncoderWarning, match="500 were published"):
        load_encoder(Address.of(**{**parts, "sae": tmp_path / "sae"}), dtype="float32", device="cpu")


def run(*arguments: object) -> object:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return CliRunner().invoke(cli, [str(a) for a in arguments], catch_exceptions=True)


def test_the_command_takes_a_reader_and_an_sae(tmp_path, parts, chats):
    store = tmp_path / "s.sae"
    done = run(
        "encode",
        chats,
        "-o",
        store,
        "--reader",
        parts["reader"],
        "--layer",
        2,
        "--sae",
        parts["sae"],
        "--device",
        "cpu",
    )
    assert done.exit_code == 0, done.output
    m = sd.open(store)
    assert m.source.encoder == f"{parts['reader']}@layer.2.resid_post@{parts['sae']}"
    said = run("info", store).output
    assert f"hook               {m.source.hook}" in said
    assert f"active_per_token {m.source.checks['active_per_token']}" in said
    assert "spans" not in said


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"layer": 2, "reader": "x"}, "name one SAE"),
        ({"sae": "a", "release": "b", "sae_id": "c"}, "name one SAE"),
        ({"release": "b"}, "name one SAE"),
        ({"sae": "a", "hook": "mlp_out"}, "needs a layer"),
        ({"sae": "a", "hook": "layer.3.mlp_out", "layer": 3}, "both name a layer"),
        ({"sae": "a@b"}, "holds an @"),
    ],
)
def test_parts_that_do_not_make_an_encoder(given, said):
    with pytest.raises(EncoderError, match=said):
        Address.of(**given)


def test_refusals(tmp_path, parts):
    with pytest.raises(InputError, match="both given"):
        sd.encode(pl.DataFrame({"text": ["a"]}), encoder="other", **parts)
    with pytest.raises(EncoderError, match="there is no SAE at"):
        sd.encode(pl.DataFrame({"text": ["a"]}), reader=parts["reader"], layer=2, sae=tmp_path / "none")
    save_saelens(make_sae(16), tmp_path / "narrow")
    with pytest.raises(EncoderError, match="the reader gives 32 numbers, the SAE reads 16"):
        load_encoder(Address.of(**{**parts, "sae": tmp_path / "narrow"}), device="cpu")
    with pytest.raises(EncoderError, match="does not say its reader and its hook"):
        load_encoder(Address.of(sae=tmp_path / "narrow"))


def test_training_on_token_states(tmp_path):
    """The whole way with the real reader: a folder that encodes, reads what it was trained on and names its latents."""
    habits = Path(__file__).parents[1] / "datasets" / "habits" / "answers_a.jsonl"
    docs = pl.read_ndjson(habits).select(text="response").with_row_index("doc_id").cast({"doc_id": pl.String})
    config = TrainConfig(latents=64, k=8, epochs=25, batch=128)
    encoder = sd.train(
        docs.head(60),
        tmp_path / "enc",
        config=config,
        hook="layer.1",
        tokens_per_text=16,
        dtype="float32",
        device="cpu",
    )
    spec = json.loads((tmp_path / "enc" / "encoder.json").read_text())["reader"]
    assert (spec["kind"], spec["name"], spec["hook"]) == ("tokens", MINILM, str(Hook(1)))
    metrics = json.loads((tmp_path / "enc" / "metrics.json").read_text())
    assert 700 < metrics["units"] <= 60 * 16
    assert metrics["explained_variance"] > 0.1
    again = load_encoder(tmp_path / "enc", dtype="float32", device="cpu")
    a, b = (e.encode_texts(docs["text"][:3].to_list()) for e in (encoder, again))
    np.testing.assert_array_equal(a.maxima, b.maxima)
    # The SAE was trained on scaled states and reads them as they are; what it explains, it explains of these.
    assert again.checks["explained_variance"] == pytest.approx(metrics["explained_variance"], abs=0.25)
    assert again.concepts["label"].is_not_null().any()
    shown = pl.read_parquet(tmp_path / "enc" / "examples.parquet")["text"]
    assert shown.str.contains(r"\[[^\]]+\]").all()
