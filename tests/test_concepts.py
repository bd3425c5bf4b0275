"""Words find latents by direction; a phrase that none of them is near to is told so."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from keywords import SOURCE, keyword_matrix

from saelens_data.cli import main as cli
from saelens_data.concepts import find as concepts
from saelens_data.concepts.find import (
    LEVEL,
    RANDOM,
    Calibration,
    calibrate,
    cosines,
    find_concepts,
    ordinary_phrases,
    read_phrase,
    word_starts,
)
from saelens_data.concepts.space import Space
from saelens_data.encoders import DEFAULT_ENCODER, EXAMPLES_FILE, find_encoder, load_encoder, read_concepts
from saelens_data.errors import InputError, SaelensDataError
from saelens_data.matrix import ConceptMatrix
from saelens_data.retrieve import retrieve
from saelens_data.store import write_store

TEXTS = [
    "Preheat the oven and bake the bread for an hour.",
    "I am so sorry, I apologise for the delay.",
    "The ticket costs 40 dollars, and the bag is $12.",
    "The team won the match by two goals.",
    "def add(a, b):\n    return a + b",
]


class WordReader:
    """Embeds a text as the mean of its words' vectors: those given, or one drawn from the word's letters."""

    def __init__(self, given: dict[str, list[float]]) -> None:
        self.given = given
        self.asked: list[str] = []

    def embed(self, texts):
        self.asked += texts
        return np.array([np.mean([self._word(word) for word in text.split()], axis=0) for text in texts], np.float32)

    def _word(self, word):
        drawn = np.random.default_rng(list(word.encode())).standard_normal(4)
        return self.given.get(word, drawn)


GIVEN = {"tea": [1.0, 0.0, 0.0, 0.0], "milk": [0.0, 1.0, 0.0, 0.0], "nowhere": [0.0, 0.0, 0.0, 1.0]}
DIRECTIONS = np.array([[2, 0, 0, 0], [1, 1, 0, 0], [0, 0.5, 0, 0], [0, 0, 0, 0]], np.float32)
EXAMPLES = pl.Series(
    "text",
    ["cocoa", *(f"{a} {b} with {c}" for a, b, c in permutations(["tea", "milk", "sugar", "bread", "cream"], 3))],
)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> ConceptMatrix:
    """Four latents in a space of four dimensions; the last is silent and points nowhere."""
    m = keyword_matrix(["some tea", "tea and milk", "milk", "water"], {2: "tea", 5: "and", 7: "milk", 9: "wine"})
    monkeypatch.setattr(concepts, "space_of", lambda _: Space(DIRECTIONS, WordReader(GIVEN)))
    monkeypatch.setattr(concepts, "_examples", lambda _: EXAMPLES)
    return replace(m, source=replace(SOURCE, encoder=request.node.name))  # nothing is kept from another test


def brute_nearest(vectors: np.ndarray) -> np.ndarray:
    found = []
    for v in vectors:
        lengths = [np.linalg.norm(d) * np.linalg.norm(v) for d in DIRECTIONS]
        found.append(max(d @ v / length if length else 0.0 for d, length in zip(DIRECTIONS, lengths, strict=True)))
    return np.array(found)


def test_cosines_by_hand():
    found = cosines(Space(DIRECTIONS, WordReader({})), np.array([[3.0, 4.0, 0, 0], [0, 0, -1.0, 0]], np.float32))
    np.testing.assert_allclose(found, [[0.6, 7 / (5 * np.sqrt(2)), 0.8, 0], [0, 0, 0, 0]], atol=1e-6)


def test_calibration_is_that_of_brute_force():
    space, phrases = Space(DIRECTIONS, WordReader(GIVEN)), ["tea", "green tea", "milk", "cold water", "sugar"]
    found = calibrate(space, phrases, seed=3)
    vectors = space.embed(phrases).astype(np.float64)
    np.testing.assert_allclose(found.ordinary, np.sort(brute_nearest(vectors)), atol=1e-6)
    centre = vectors.mean(axis=0)
    weights = np.random.default_rng(3).standard_normal((RANDOM, 5)) / 2
    np.testing.assert_allclose(
        found.chance, np.quantile(brute_nearest(centre + weights @ (vectors - centre)), LEVEL), atol=1e-5
    )


def test_random_directions_have_the_mean_and_covariance_of_the_phrases(monkeypatch: pytest.MonkeyPatch):
    seen = []
    monkeypatch.setattr(concepts, "_nearest", lambda _, vectors: seen.append(vectors) or np.zeros(len(vectors)))
    monkeypatch.setattr(concepts, "RANDOM", 200_000)
    calibrate(Space(DIRECTIONS, WordReader({})), ["one", "two", "three", "four", "five", "six", "seven"], seed=0)
    phrases, random = seen
    np.testing.assert_allclose(random.mean(axis=0), phrases.mean(axis=0), atol=0.01)
    np.testing.assert_allclose(np.cov(random.T), np.cov(phrases.T), atol=0.01)


def test_calibration_depends_on_the_seed_alone():
    space, phrases = Space(DIRECTIONS, WordReader({})), ["tea", "milk", "cold water", "sugar"]
    first, again, other = (calibrate(space, phrases, seed) for seed in (0, 0, 1))
    assert first.chance == again.chance
    assert first.chance != other.chance
    np.testing.assert_array_equal(first.ordinary, other.ordinary)


def test_share_below_counts_what_is_smaller():
    calibration = Calibration(np.array([0.1, 0.2, 0.2, 0.4]), 0.3)
    assert calibration.share_below(np.array([0.05, 0.2, 0.21, 0.4, 0.9])).tolist() == [0, 0.25, 0.75, 0.75, 1]


def test_ordinary_phrases_are_runs_of_words_with_long_ends():
    texts = pl.Series(["The quick brown fox, jumps over a lazy dog 12 times.", "of it", "Once upon a time"] * 30)
    found = ordinary_phrases(texts, 20, seed=1)
    assert len(found) == 20
    assert found == ordinary_phrases(texts, 20, seed=1)
    assert found != ordinary_phrases(texts, 20, seed=2)
    said = ["The quick brown fox jumps over lazy dog times", "Once upon time"]
    assert all(any(f" {phrase} " in f" {text} " for text in said) for phrase in found)
    assert all(len(phrase.split()) <= 4 for phrase in found)
    assert all(len(phrase.split()[end]) >= 4 for phrase in found for end in (0, -1))
    assert len(ordinary_phrases(texts, 1_000, seed=1)) < 90


def test_words_are_known_by_their_first_letters_once_a_text():
    texts = pl.Series(["Apologise! apologies", "APOLOGY", "apologetic cats", "cats cats cats", "a cats-eye 7"])
    assert word_starts(texts) == {"apolo", "cats"}


def test_the_nearest_first_with_what_their_cosine_is_worth(small: ConceptMatrix):
    found = find_concepts(small, "tea", n=3)
    assert found.frame["latent"].to_list() == [2, 5, 7]
    assert found.frame["rank"].to_list() == [1, 2, 3]
    assert found.frame["label"].to_list() == ["tea", "and", "milk"]
    np.testing.assert_allclose(found.frame["cosine"], [1, np.sqrt(0.5), 0], atol=1e-6)
    assert found.frame["density"].to_list() == [0.5, 0.25, 0.5]
    space = Space(DIRECTIONS, WordReader(GIVEN))
    drawn = calibrate(space, ordinary_phrases(EXAMPLES, 500, 0), 0)
    assert found.parameters["chance"] == drawn.chance
    assert found.frame["fits"].to_list() == [c > drawn.chance for c in found.frame["cosine"]]
    assert found.frame["score"].to_list() == drawn.share_below(found.frame["cosine"].to_numpy()).tolist()
    assert found.better_than == found.frame["score"][0]
    assert found.fits
    assert found.n_fitting == found.frame["fits"].sum()
    assert "fits 'tea'" in found.summary() or "fit 'tea'" in found.summary()


def test_a_filtered_matrix_is_calibrated_on_its_own_latents(small: ConceptMatrix, monkeypatch: pytest.MonkeyPatch):
    whole = find_concepts(small, "milk")
    monkeypatch.setattr(concepts, "space_of", lambda _: Space(DIRECTIONS[2:], WordReader(GIVEN)))
    part = find_concepts(small.filter_concepts("latent > 5"), "milk")
    assert part.frame["latent"].to_list() == [7, 9]
    assert part.parameters["chance"] < whole.parameters["chance"]


def test_calibration_is_made_once(small: ConceptMatrix, monkeypatch: pytest.MonkeyPatch):
    first = find_concepts(small, "tea")
    reader = WordReader(GIVEN)
    monkeypatch.setattr(concepts, "space_of", lambda _: Space(DIRECTIONS, reader))
    assert find_concepts(small.filter_docs("doc_id = 'd0'"), "tea").frame["cosine"].equals(first.frame["cosine"])
    assert reader.asked == ["tea"]


def test_what_no_direction_is_near_to_fits_nothing(small: ConceptMatrix, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(concepts, "KNOWN_SHARE", 0.0)
    monkeypatch.setattr(concepts, "_examples", lambda _: pl.Series([*EXAMPLES, *["nowhere to go"] * 3]))
    found = find_concepts(small, "nowhere")
    assert not found.fits
    assert not found.frame["fits"].any()
    assert found.frame.height == 4
    assert found.summary() == (
        f"Nothing here fits 'nowhere': its nearest concept is no nearer than chance brings one "
        f"(nearer than that of {found.better_than:.0%} of ordinary phrases); the nearest concepts are shown all the same"
    )


def test_words_that_the_examples_do_not_know_fit_nothing(small: ConceptMatrix):
    found = find_concepts(small, "cocoa wine cocoa")  # cocoa is in one example only
    assert (found.fits, found.unknown, found.unfamiliar) == (False, ("cocoa", "wine"), True)
    assert found.summary().startswith(
        "Nothing here fits 'cocoa wine cocoa': the encoder's examples do not know its words (cocoa, wine);"
    )
    assert find_concepts(small, "x 42").summary().startswith("Nothing here fits 'x 42': it holds no word of two")


def test_half_of_the_words_is_enough_and_the_others_are_named(small: ConceptMatrix):
    found = find_concepts(small, "tea wines", n=1)
    assert (found.unknown, found.unfamiliar) == (("wines",), False)
    assert find_concepts(small, "tea wines beers").unfamiliar


def test_words_beside_those_that_fit_are_noted(small: ConceptMatrix, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(concepts, "space_of", lambda _: Space(DIRECTIONS, WordReader(GIVEN | {"wines": [0, 0, 0, 0]})))
    found = find_concepts(small, "tea wines", n=1)
    assert found.fits
    assert found.notes == ("The encoder's examples do not know: wines. What fits may rest on the other words.",)


def test_too_few_examples_are_refused(small: ConceptMatrix, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(concepts, "_examples", lambda _: EXAMPLES[:5])
    with pytest.raises(InputError, match="phrases to compare with, where 20 are needed"):
        find_concepts(small, "tea")


def test_silent_concepts_are_noted(small: ConceptMatrix):
    nothing = small.filter_docs("doc_id = 'd3'")
    found = find_concepts(nothing, "tea", n=1)
    assert found.frame["density"].to_list() == [0.0]
    assert found.notes == ("Of the concepts shown that fit, 1 are active in none of these documents.",)


# With the bundled encoder.


@pytest.fixture(scope="module")
def m() -> ConceptMatrix:
    """All latents of the encoder, each active where the first phrase of its label is written."""
    table = read_concepts(find_encoder(DEFAULT_ENCODER), 8192)
    words = [(label or "?").split(" · ")[0] for label in table["label"]]
    return replace(
        keyword_matrix(TEXTS, dict(enumerate(words))), concepts=table, source=load_encoder(DEFAULT_ENCODER).source()
    )


@pytest.fixture(scope="module")
def store(m: ConceptMatrix, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("concepts") / "texts.sae"
    write_store(path, m)
    return path


@pytest.mark.parametrize(
    ("phrase", "label"),
    [
        ("cooking", "cook"),
        ("apologises", "sorry"),
        ("price in dollars", "dollar sign"),
        ("offers more help", "assistance"),
        ("football match", "game"),
        ("computer code", "code"),
    ],
)
def test_ordinary_phrases_find_their_concepts(m: ConceptMatrix, phrase: str, label: str):
    found = find_concepts(m, phrase, n=3)
    assert found.fits
    assert label in " ".join(found.frame["label"].drop_nulls())
    assert found.frame["score"].is_between(0.05, 1).any()


@pytest.mark.parametrize(
    "phrase", ["iambic pentameter", "Oulipo lipogram", "zxqv blorf", "q", "これは日本語です", "καλημέρα", "1984"]
)
def test_what_the_encoder_has_no_concept_for_is_said_to_be_absent(m: ConceptMatrix, phrase: str):
    found = find_concepts(m, phrase)
    assert not found.fits
    assert not found.frame["fits"].any()
    assert found.frame.height == 10
    assert found.summary().startswith(f"Nothing here fits '{phrase}': ")


def test_the_same_phrase_gives_the_same_bytes(m: ConceptMatrix, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(concepts, "ORDINARY", 40)
    saved = []
    for phrase, seed in (
        (" statement \n about oneself ", 7),
        ("statement about oneself", 7),
        ("statement about oneself", 8),
    ):
        concepts._calibrated.cache_clear()
        saved.append(find_concepts(m, phrase, seed=seed).to_bytes(".json"))
    concepts._calibrated.cache_clear()
    assert saved[0] == saved[1]
    chances = [json.loads(part)["parameters"]["chance"] for part in saved]
    assert chances[0] != chances[2]


def test_the_bundled_examples_are_enough_to_compare_with():
    texts = pl.read_parquet(find_encoder(DEFAULT_ENCODER) / EXAMPLES_FILE)["text"]
    assert len(ordinary_phrases(texts, concepts.ORDINARY, 0)) == concepts.ORDINARY
    assert {"cooki", "apolo", "dolla", "quest"} <= concepts.known_words(DEFAULT_ENCODER, "")


def test_a_long_text_is_cut_with_a_note(m: ConceptMatrix):
    found = find_concepts(m, "baking bread " * 5_000, n=1)
    assert found.notes[0] == "The phrase is long (10,000 words): only the first 150 are read."
    assert found.phrase.count("baking") == 75
    one_word = "a" * 5_000
    assert len(read_phrase(one_word)[0]) == concepts.LONGEST_CHARACTERS


@pytest.mark.parametrize(
    ("phrase", "problem"),
    [
        ("", "the phrase is empty: say in words what to look for"),
        (" \t\n ", "the phrase is empty: say in words what to look for"),
        ("?!... --", "the phrase '?!... --' holds no letter or digit: say in words what to look for"),
        ("🙂", "the phrase '🙂' holds no letter or digit: say in words what to look for"),
        ("ring\x07 me", "the phrase holds the control character U+0007: leave it out"),
        ("half \ud83d", "the phrase holds the control character U+D83D: leave it out"),
    ],
)
def test_a_phrase_without_words_is_refused(m: ConceptMatrix, phrase: str, problem: str):
    with pytest.raises(InputError) as caught:
        find_concepts(m, phrase)
    assert str(caught.value) == problem


def test_other_bad_input(m: ConceptMatrix):
    with pytest.raises(InputError, match="0 concepts asked for: give 1 or more"):
        find_concepts(m, "tea", n=0)
    with pytest.raises(InputError, match="holds no concepts"):
        find_concepts(m.filter_concepts("latent < 0"), "tea")
    with pytest.raises(SaelensDataError, match="no encoder 'gone'"):
        find_concepts(replace(m, source=replace(m.source, encoder="gone")), "tea")
    with pytest.raises(InputError, match="has changed since"):
        find_concepts(replace(m, source=replace(m.source, sae_sha256="0")), "tea")


@pytest.mark.parametrize("content", [None, b"no table"])
def test_an_encoder_without_examples_is_refused(m, tmp_path, monkeypatch, content):
    if content is not None:
        (tmp_path / EXAMPLES_FILE).write_bytes(content)
    monkeypatch.setattr(concepts, "find_encoder", lambda _: tmp_path)
    concepts._calibrated.cache_clear()
    with pytest.raises(InputError, match=r"its examples\.parquet cannot be read"):
        find_concepts(m, "tea")


def ran(capsys, monkeypatch, *arguments: object) -> tuple[int, str, str]:
    monkeypatch.setattr(cli, "COMMANDS", tuple({*cli.COMMANDS, "concepts"}))
    monkeypatch.setattr(sys, "argv", ["saelens-data", "concepts", *map(str, arguments)])
    try:
        cli.main()
        code = 0
    except SystemExit as ended:
        code = int(ended.code or 0)
    return code, *capsys.readouterr()


def test_the_command_prints_a_table(store, capsys, monkeypatch):
    code, out, err = ran(capsys, monkeypatch, store, "offers more help", "-n", 3)
    assert code == 0
    assert out.split()[:7] == ["rank", "latent", "label", "score", "cosine", "density", "fits"]
    assert len(out.splitlines()) == 4
    assert "yes" in out
    assert "fit 'offers more help'; the nearest is nearer than that of" in err


def test_the_command_says_that_nothing_fits_and_succeeds(store, capsys, monkeypatch):
    code, out, err = ran(capsys, monkeypatch, store, "iambic pentameter", "-f", "jsonl")
    assert code == 0
    assert [json.loads(line)["fits"] for line in out.splitlines()] == [False] * 10
    assert err.startswith("Nothing here fits 'iambic pentameter': ")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [((" ",), "the phrase is empty"), (("...",), "no letter or digit"), (("tea", "-n", 0), "0 concepts asked for")],
)
def test_the_command_refuses_with_one_line(store, capsys, monkeypatch, arguments, problem):
    code, out, err = ran(capsys, monkeypatch, store, *arguments)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert problem in err


def test_a_bad_phrase_is_refused_before_a_file_is_encoded(tmp_path, capsys, monkeypatch):
    code, _, err = ran(capsys, monkeypatch, tmp_path / "not_there.jsonl", "??")
    assert (code, "no letter or digit" in err) == (2, True)


def test_a_phrase_that_nothing_fits_is_told_of(m: ConceptMatrix, monkeypatch: pytest.MonkeyPatch) -> None:
    assert concepts.notes_on_fit(m, ["price in dollars", "zxqv blorf"]) == [
        "No concept of this encoder fits 'zxqv blorf': what is found may not have it."
    ]
    notes = retrieve(m, '"zxqv blorf" or "price in dollars"', mode="concepts", n=1).notes
    assert [note for note in notes if "fits" in note] == concepts.notes_on_fit(m, ["zxqv blorf"])
    monkeypatch.setattr(concepts, "find_concepts", refuse)
    assert concepts.notes_on_fit(m, ["zxqv blorf"]) == []


def refuse(*_: object, **__: object) -> None:
    raise InputError("no examples")
