"""Where a reader embeds no sentences, words find concepts by their labels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from keywords import SOURCE, keyword_matrix

from saelens_data.concepts import find_concepts
from saelens_data.concepts import label_space as module
from saelens_data.concepts.kept import kept
from saelens_data.concepts.label_space import embed, label_space
from saelens_data.concepts.space import bundled_reader
from saelens_data.errors import InputError
from saelens_data.matrix import ConceptMatrix

LABELS = ["refuses to answer", None, "cooking and recipes", "kubernetes clusters"]


def by_tokens(labels: list[str | None]) -> ConceptMatrix:
    """Four latents of an encoder that reads tokens."""
    m = keyword_matrix(["some tea", "tea and milk", "milk"], {2: "tea", 5: "and", 7: "milk", 9: "wine"})
    source = replace(SOURCE, limits={"max_tokens": 64, "overlap": 16, "first_is_special": 1})
    return replace(m, source=source, concepts=m.concepts.with_columns(pl.Series("label", labels, dtype=pl.String)))


def test_short_texts_are_embedded_as_the_model_does():
    reader = bundled_reader()
    texts = [
        "refuses to answer",
        "cooking and recipes",
        "a",
        "One sentence that is long enough. And another one is too.",
    ]
    wanted = reader.embed(texts)
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    cosine = (embed(reader, texts) * wanted).sum(axis=1)
    assert (cosine[:3] > 0.999).all()
    assert 0.7 < cosine[3] < 0.99  # the mean of two


def test_a_label_is_where_its_words_are_and_a_latent_without_one_nowhere():
    space = label_space(by_tokens(LABELS))
    assert not space.directions[1].any()
    np.testing.assert_allclose(np.linalg.norm(space.directions[[0, 2, 3]], axis=1), 1, atol=1e-3)
    assert np.argmax(space.directions @ space.embed(["declining a request"])[0]) == 0


def test_concepts_are_found_by_their_labels():
    m = by_tokens(LABELS)
    found = find_concepts(m, "declining a request", n=2)
    assert found.frame["label"][0] == "refuses to answer"
    assert found.frame["latent"][0] == m.concepts["latent"][0]
    assert any("by their labels, which 3 of 4 concepts have" in note for note in found.notes)
    assert find_concepts(m, "kubernetes clusters").frame["fits"][0]  # words of labels are known
    nonsense = find_concepts(m, "zxqv blorf")
    assert not nonsense.fits
    assert nonsense.unknown == ("zxqv", "blorf")
    other = find_concepts(by_tokens(["kubernetes clusters", None, None, "refuses to answer"]), "declining a request")
    assert other.frame["label"][0] == "refuses to answer"


def test_without_labels_it_is_said_how_to_get_some(monkeypatch):
    monkeypatch.setattr(module, "bundled_reader", lambda: pytest.fail("loaded"))
    with pytest.raises(InputError, match=r"no concept has a label; import labels"):
        find_concepts(by_tokens([None, None, "", None]), "tea")


def test_embeddings_of_many_labels_are_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("SAELENS_DATA_CACHE", str(tmp_path))
    monkeypatch.setattr(module, "_KEPT", 2)
    asked = []
    monkeypatch.setattr(module, "embed", lambda reader, texts: asked.append(list(texts)) or embed(reader, texts))
    first, second = (label_space(by_tokens(LABELS)).directions for _ in range(2))
    assert asked == [["cooking and recipes", "kubernetes clusters", "refuses to answer"]]
    np.testing.assert_array_equal(first, second)
    (kept,) = tmp_path.iterdir()
    kept.write_bytes(b"damaged")
    np.testing.assert_array_equal(label_space(by_tokens(LABELS)).directions, first)
    assert len(asked) == 2


def test_what_is_kept_is_made_once_and_anew_where_it_cannot_be_read(tmp_path, monkeypatch):
    monkeypatch.setenv("SAELENS_DATA_CACHE", str(tmp_path / "cache"))
    made = []

    def make() -> np.ndarray:
        made.append(1)
        return np.arange(4.0)

    for _ in range(2):
        np.testing.assert_array_equal(kept("x", ("a", b"b", 3), 4, make), np.arange(4.0))
    assert len(made) == 1
    kept("x", ("a", b"b", 4), 4, make)
    assert len(made) == 2
    (file, _) = sorted((tmp_path / "cache").iterdir(), key=lambda path: path.stat().st_mtime)
    for broken in (b"", b"nothing", b"\x93NUMPY"):
        file.write_bytes(broken)
        np.testing.assert_array_equal(kept("x", ("a", b"b", 3), 4, make), np.arange(4.0))
    np.save(file, np.arange(5.0))
    np.testing.assert_array_equal(kept("x", ("a", b"b", 3), 4, make), np.arange(4.0))
    assert len(made) == 6
    monkeypatch.setenv("SAELENS_DATA_CACHE", str(file / "no folder"))
    np.testing.assert_array_equal(kept("x", ("a", b"b", 3), 4, make), np.arange(4.0))
    assert len(made) == 7
