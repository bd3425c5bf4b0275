"""Token readers against whole models, read text by text with a hook of the test's own."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest
import tiny_models as tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from saelens_data.errors import EncoderError
from saelens_data.readers import packed
from saelens_data.readers.ahead import ahead
from saelens_data.readers.hooks import Hook
from saelens_data.readers.tokens import TokenReader
from saelens_data.readers.weights import hash_of, sha256_of
from saelens_data.readers.windows import cut

LAYER = 2


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folder of each kind of tiny model, made when first asked for."""
    base, made = tmp_path_factory.mktemp("models"), {}

    def folder(kind: str, **settings: Any):
        key = kind + "".join(f"-{k}-{v}" for k, v in settings.items() if k != "template")
        if key not in made:
            made[key] = str(tiny.save(base / key, kind, **settings))
        return made[key]

    return folder


def load(folder: str, hook: str = f"layer.{LAYER}", **settings: Any) -> TokenReader:
    return TokenReader.load(folder, Hook.parse(hook), dtype="float32", device="cpu", **settings)


def vectors(reader: TokenReader, texts: list[str]) -> list[np.ndarray]:
    """Of each text its units' vectors, in the order of the text."""
    reading = reader.split(texts)
    x = np.full((len(reading.units.start), reader.d_in), np.nan, np.float32)
    for units, found in reader.read(reading):
        x[units] = found.numpy()
    return np.split(x, reading.units.ptr[1:-1])


def whole_model(folder: str) -> tuple[Any, Any]:
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    config = AutoConfig.from_pretrained(folder)
    eager = {"attn_implementation": "eager"} if getattr(config, "attn_logit_softcapping", None) else {}
    return AutoModel.from_pretrained(folder, dtype=torch.float32, **eager).eval(), AutoTokenizer.from_pretrained(folder)


def states(model: Any, ids: list[int], layer: int = LAYER) -> np.ndarray:
    """Output of a layer of the whole model for one text by itself."""
    kept = []
    stack = getattr(model, "layers", None) or getattr(model, "h", None) or model.encoder.layer
    handle = stack[layer].register_forward_hook(
        lambda _m, _i, out: kept.append(out[0] if isinstance(out, tuple) else out)
    )
    with torch.no_grad():
        model(torch.tensor([ids]))
    handle.remove()
    return kept[0][0].numpy()


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_states_are_those_of_the_whole_model(models, kind):
    reader = load(models(kind))
    assert reader.how == ("padded" if kind in ("roberta", "mamba") else "packed")
    assert reader.causal == (kind not in ("bert", "roberta"))
    model, tokenizer = whole_model(models(kind))
    assert len(list(reader.transformer.parameters())) < len(list(model.parameters()))
    for text, found in zip(tiny.TEXTS, vectors(reader, tiny.TEXTS), strict=True):
        ids = tokenizer(text)["input_ids"]
        own = [i for i, id_ in enumerate(ids) if id_ not in tokenizer.all_special_ids]
        np.testing.assert_allclose(found, states(model, ids)[own], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gemma2", "gemma3_text", "gpt_neox", "qwen3"])
def test_the_parts_of_a_layer_add_up(models, kind):
    """What attention and MLP write, on top of what goes in, is what comes out: so each hook is where it says."""
    found = {
        place: vectors(load(models(kind), f"layer.{LAYER}.{place}"), tiny.TEXTS)
        for place in ("resid_pre", "attn_out", "mlp_out", "resid_post")
    }
    for before, attention, mlp, after in zip(*found.values(), strict=True):
        np.testing.assert_allclose(before + attention + mlp, after, rtol=1e-4, atol=1e-4)
        assert min(np.abs(attention).mean(), np.abs(mlp).mean()) > 1e-2
    pre = vectors(load(models(kind), "layer.0.resid_pre"), tiny.TEXTS[:1])[0]
    model, tokenizer = whole_model(models(kind))
    if kind == "llama":
        ids = torch.tensor(tokenizer(tiny.TEXTS[0])["input_ids"][1:])
        np.testing.assert_allclose(pre, model.get_input_embeddings()(ids).detach().numpy(), atol=1e-6)


def test_the_language_model_of_a_wrapper_is_read(tmp_path):
    """Its layers are found beside a vision tower that has as many as are left of them."""
    from transformers import AutoModel, Gemma3Config

    vision = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}
    text = tiny.config("gemma3_text").to_dict()
    config = Gemma3Config(
        text_config=text, vision_config={**vision, "num_hidden_layers": LAYER + 1}, mm_tokens_per_image=4
    )
    torch.manual_seed(0)
    wrapper = AutoModel.from_config(config).eval()
    wrapper.save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    (found,) = vectors(load(str(tmp_path)), tiny.TEXTS[:1])
    want = states(wrapper.language_model, tiny.tokenizer()(tiny.TEXTS[0])["input_ids"])
    np.testing.assert_allclose(found, want[1:], rtol=1e-4, atol=1e-4)


def test_attention_before_it_is_mixed(models):
    reader = load(models("llama"), f"layer.{LAYER}.attn_z")
    mixed = load(models("llama"), f"layer.{LAYER}.attn_out")
    weight = reader.transformer.layers[LAYER].self_attn.o_proj.weight.detach().numpy()
    z, out = (vectors(r, tiny.TEXTS[:1])[0] for r in (reader, mixed))
    np.testing.assert_allclose(z @ weight.T, out, rtol=1e-4, atol=1e-4)


@settings(deadline=None, max_examples=15)
@given(
    kind=st.sampled_from(["llama", "gemma3_text", "bert"]),
    how=st.sampled_from(["packed", "padded"]),
    batch=st.sampled_from([128, 150, 400]),
    order=st.permutations(range(5)),
)
def test_results_do_not_depend_on_batches_order_or_padding(models, kind, how, batch, order):
    texts = [*tiny.TEXTS, "a", "Short one."]
    alone = [vectors(load_once(models, kind, "padded", 128), [text])[0] for text in texts]
    reader = load_once(models, kind, how, batch)
    assert reader.how == how
    for at, found in zip(order, vectors(reader, [texts[i] for i in order]), strict=True):
        np.testing.assert_allclose(found, alone[at], rtol=1e-4, atol=1e-4)


_LOADED: dict[tuple[str, str, int], TokenReader] = {}


def load_once(models: Any, kind: str, how: str, batch: int) -> TokenReader:
    key = (kind, how, batch)
    if key not in _LOADED:
        _LOADED[key] = load(models(kind), how=how, batch_tokens=batch)
    return _LOADED[key]


@settings(deadline=None)
@given(st.integers(0, 60), st.integers(2, 12), st.data(), st.booleans())
def test_every_token_is_taken_once_from_where_it_sees_most(n, size, data, causal):
    overlap = data.draw(st.integers(0, size - 1))
    windows = cut(n, size, overlap, causal=causal)
    assert [i for w in windows for i in range(w.first, w.last)] == list(range(n))

    def seen(window, i):
        before, after = i - window.start, window.stop - 1 - i
        if causal:
            return before
        # Nothing is lost at an end of the text.
        return min(before if window.start else n, after if window.stop < n else n)

    for w in windows:
        assert w.start <= w.first <= w.last <= w.stop <= w.start + size
        for i in range(w.first, w.last):
            assert seen(w, i) == max(seen(v, i) for v in windows if v.start <= i < v.stop)


@pytest.mark.parametrize("kind", ["llama", "bert"])
def test_long_texts_are_read_in_windows(models, kind):
    text = " ".join(tiny.TEXTS) * 3
    reader = load(models(kind), max_tokens=40)
    model, tokenizer = whole_model(models(kind))
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    (found,) = vectors(reader, [text])
    assert len(found) == len(ids)
    for window in cut(len(ids), 39, reader.limits["overlap"], causal=kind == "llama"):
        want = states(model, [tokenizer.bos_token_id, *ids[window.start : window.stop]])[1:]
        own = slice(window.first - window.start, window.last - window.start)
        np.testing.assert_allclose(found[window.first : window.last], want[own], rtol=1e-4, atol=1e-4)


def test_units_are_the_tokens_of_the_text_without_white_space(models):
    reader = load(models("llama"))
    texts = [*tiny.TEXTS, "", "  \n\n ", "<|begin|>word<|end|>"]
    reading = reader.split(texts)
    for i, text in enumerate(texts):
        own = slice(reading.units.ptr[i], reading.units.ptr[i + 1])
        spans = list(zip(reading.units.start[own].tolist(), reading.units.end[own].tolist(), strict=True))
        covered = {at for start, end in spans for at in range(start, end)}
        if text.startswith("<|"):  # a special token is one wherever it comes from
            assert {text[start:end] for start, end in spans} <= {"word", "wor", "wo", "w", "or", "o", "r", "d", "rd"}
        else:
            assert covered >= {at for at, c in enumerate(text) if not c.isspace()}
            assert all(text[a:b] == text[a:b].strip() or not text[a:b].strip() for a, b in spans)
    unit = np.concatenate([window.unit for window in reading.windows])
    ids = np.concatenate([window.ids for window in reading.windows])
    assert sorted(unit[unit >= 0]) == list(range(len(reading.units.start)))
    assert (unit[np.isin(ids, reader._tokenizer.all_special_ids)] == -1).all()
    assert len(reading.windows) == 5  # the empty text has none


def test_a_model_without_a_first_token_of_its_own_gets_one(models):
    folder = models("gpt2", bos=False)
    _, tokenizer = whole_model(folder)
    assert tokenizer("a")["input_ids"] == tokenizer("a", add_special_tokens=False)["input_ids"]
    window = load(folder).split(["a"]).windows[0]
    assert (window.ids[0], window.unit[0]) == (tokenizer.bos_token_id, -1)
    assert load(folder, bos=False).split(["a"]).windows[0].unit[0] == 0


@pytest.mark.parametrize(
    ("name", "hook"),
    [
        ("layer.4", Hook(4)),
        ("layer.4.mlp_out", Hook(4, "mlp_out")),
        ("blocks.19.hook_resid_pre", Hook(19, "resid_pre")),
        ("blocks.7.attn.hook_z", Hook(7, "attn_z")),
        ("model.layers.20.output", Hook(20)),
        ("model.layers.20", Hook(20)),
        ("transformer.h.3", Hook(3)),
    ],
)
def test_names_of_hooks(name, hook):
    assert Hook.parse(name) == hook
    assert Hook.parse(str(hook)) == hook


def test_what_cannot_be_had_is_said(models):
    with pytest.raises(EncoderError, match=r"has no layer 9: its layers are 0 to 3"):
        load(models("llama"), "layer.9")
    with pytest.raises(EncoderError, match=r"no hook 'layer.x'"):
        Hook.parse("layer.x")
    with pytest.raises(EncoderError, match=r"no hook 'resid_mid'"):
        Hook.parse("layer.3.resid_mid")
    with pytest.raises(EncoderError, match=r"use layer.2.resid_post"):
        load(models("bert"), "layer.2.attn_z")
    with pytest.raises(EncoderError, match="reads 2 tokens at once"):
        load(models("llama"), max_tokens=2)
    with pytest.raises(EncoderError, match="same states"):
        load(models("mamba"), how="packed")
    with pytest.raises(EncoderError, match="device 'foo' cannot be had"):
        TokenReader.load(models("llama"), Hook(1), device="foo")


def test_a_model_that_needs_more_than_its_tokens_is_refused(tmp_path):
    from transformers import T5Config, T5Model

    T5Model(T5Config(d_model=32, num_layers=2, num_decoder_layers=2, d_ff=16, num_heads=2, d_kv=16)).save_pretrained(
        tmp_path
    )
    tiny.tokenizer().save_pretrained(tmp_path)
    with pytest.raises(EncoderError, match="is a t5, which does not read its tokens by themselves"):
        TokenReader.load(str(tmp_path), Hook(0), device="cpu")


def test_rows_on_a_gpu_are_described_as_its_kernel_wants(monkeypatch):
    """With a stand-in for the kernel: the same as one call for each length."""
    import torch.nn.attention.varlen as kernels

    def slowly(query, key, value, starts, same, longest, _longest, *, scale, window_size, enable_gqa):
        assert (starts is same, longest, _longest) == (True, 9, 9)
        out = torch.empty_like(query)
        for a, b in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
            q, k, v = (states[a:b].transpose(0, 1)[None] for states in (query, key, value))
            behind = torch.arange(b - a)[:, None] - torch.arange(b - a)
            seen = (behind >= 0) | (window_size[1] < 0)
            seen &= (behind <= window_size[0]) | (window_size[0] < 0)
            attended = torch.nn.functional.scaled_dot_product_attention(
                q, k, v, attn_mask=seen, scale=scale, enable_gqa=enable_gqa
            )
            out[a:b] = attended[0].transpose(0, 1)
        return out

    monkeypatch.setattr(kernels, "varlen_attn", slowly)
    packed._varlen.cache_clear()
    rng = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn((1, heads, 20, 16), generator=rng) for heads in (4, 2, 2))
    layout = packed.Layout.of([9, 9, 2], torch.device("cpu"))
    for kind in (packed._Kind(0.25, True, 0, 0.0), packed._Kind(0.25, False, 0, 0.0), packed._Kind(0.3, True, 4, 0.0)):
        with packed.reading(layout):
            want = packed._attend(q, k, v, kind)[0]
        found = packed._varlen()(*(states[0].transpose(0, 1) for states in (q, k, v)), layout, kind)
        np.testing.assert_allclose(found.numpy(), want.numpy(), atol=1e-6)
    packed._varlen.cache_clear()


def test_what_comes_next_is_made_ahead_in_order_and_errors_come_in_their_place():
    made = []

    def make(item):
        made.append(item)
        if item == 3:
            raise ValueError("three")
        return -item

    series = ahead(make, range(5))
    assert [next(series) for _ in range(3)] == [0, -1, -2]
    with pytest.raises(ValueError, match="three"):
        next(series)
    assert made == [0, 1, 2, 3]
    assert list(ahead(make, [])) == []


def test_a_hub_file_is_known_by_its_name_and_others_are_read(tmp_path):
    blob = tmp_path / ("ab" * 32)
    blob.write_bytes(b"weights")
    hub, plain = tmp_path / "hub", tmp_path / "plain"
    hub.mkdir()
    plain.mkdir()
    (hub / "model.safetensors").symlink_to(blob)
    (plain / "model.safetensors").write_bytes(b"weights")
    assert hash_of(hub) == "ab" * 32
    assert hash_of(plain) == hashlib.sha256(b"weights").hexdigest() == sha256_of(plain)
    (plain / "more.safetensors").write_bytes(b"")
    assert hash_of(plain) not in (hash_of(hub), sha256_of(plain))
    with pytest.raises(EncoderError, match=r"no \.safetensors weights"):
        hash_of(tmp_path / "none")
