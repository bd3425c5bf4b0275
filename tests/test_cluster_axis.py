"""Choosing an axis: contrast texts, phrases, what is left out, refusals; by value, and with the bundled encoder."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import statsmodels.api as sm
import statsmodels.formula.api as smf
from planted import planted
from scipy.sparse import csr_array

import saelens_data as sd
from saelens_data.cluster.axis import all_concepts
from saelens_data.cluster.choose import FORM, MATTERS, choose_axis
from saelens_data.cluster.contrasts import axis_names, contrast, held_out, two_way, values_of
from saelens_data.cluster.coordinates import coordinates
from saelens_data.cluster.methods import kmeans
from saelens_data.cluster.phrases import Asked, listed, matched, named, understand
from saelens_data.cluster.quality import agreement
from saelens_data.cluster.subtract import Unwanted, scores, share_of
from saelens_data.errors import InputError

ROOT = Path(__file__).parents[1]
CROSSED = ROOT / "datasets" / "crossed"


# Contrast texts.


def texts():
    path = ROOT / "saelens_data" / "assets" / "axes" / "contrasts.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_each_subject_is_told_in_each_value_once():
    rows = texts()
    cells = Counter((row["axis"], row["value"], row["subject"]) for row in rows)
    assert set(cells.values()) == {1}
    for axis in axis_names():
        own = [row for row in rows if row["axis"] == axis]
        subjects = {row["subject"] for row in own}
        assert len(own) == len(values_of(axis)) * len(subjects)
        assert len(subjects) >= 5
    assert len({row["text"] for row in rows}) == len(rows) == 470


def test_no_contrast_text_shares_six_words_with_the_crossed_set():
    def runs(text):
        words = text.lower().split()
        return {tuple(words[i : i + 6]) for i in range(len(words) - 5)}

    crossed = [json.loads(line) for file in sorted(CROSSED.glob("*.jsonl")) for line in file.open(encoding="utf-8")]
    mine = set().union(*(runs(row["text"]) for row in texts()))
    assert not mine & set().union(*(runs(row["text"]) for row in crossed))


def layout(V, S, latents, seed=0):
    """A random table of V values x S subjects, its rows shuffled, with some zeros; value 0 stands out in latent 0."""
    rng = np.random.default_rng(seed)
    value, subject = (part.ravel() for part in np.meshgrid(np.arange(V), np.arange(S), indexing="ij"))
    order = rng.permutation(V * S)
    value, subject = value[order], subject[order]
    X = rng.random((V * S, latents)) * (rng.random((V * S, latents)) < 0.7)
    X[:, 0] += 2.0 * (value == 0)
    return X.astype(np.float32), value, subject


def test_F_is_that_of_statsmodels():
    X, value, subject = layout(4, 6, 5)
    F, effects = two_way(csr_array(X), value, subject)
    for j in range(5):
        frame = pl.DataFrame({"y": X[:, j].astype(float), "v": value, "s": subject}).to_pandas()
        table = sm.stats.anova_lm(smf.ols("y ~ C(v) + C(s)", frame).fit())
        assert F[j] == pytest.approx(table.loc["C(v)", "F"], rel=1e-6)
        expected = [X[value == v, j].mean() - X[:, j].mean() for v in range(4)]
        np.testing.assert_allclose(effects[:, j], expected, atol=1e-6)
    assert F[0] > F[1:].max()


def test_a_latent_of_one_or_two_texts_belongs_to_no_axis():
    X, value, subject = layout(3, 5, 4)
    X[:, 1] = 0
    X[:2, 1] = 9
    assert two_way(csr_array(X), value, subject)[0][1] == 0


def test_a_table_with_a_hole_is_refused():
    X, value, subject = layout(3, 4, 4)
    with pytest.raises(ValueError, match="3 values x 4 subjects need one text each, there are 11"):
        two_way(csr_array(X[:-1]), value[:-1], subject[:-1])


def test_held_out_finds_values_that_recur_and_none_in_noise():
    rng = np.random.default_rng(0)
    _, value, subject = layout(4, 6, 1)
    signal = np.eye(4)[value] @ (rng.random((4, 60)) < 0.3) + 0.05 * rng.random((24, 60))
    assert held_out(csr_array(signal.astype(np.float32)), value, subject) == 24
    right = [held_out(csr_array(rng.random((24, 60)).astype(np.float32)), value, subject) for _ in range(40)]
    assert np.mean(right) / 24 < 0.32  # chance is 0.25


# Phrases.


@pytest.mark.parametrize(
    ("phrase", "axis"),
    [
        ("writing style", "style"),
        ("the literary genre", "style"),
        ("tone of voice", "tone"),
        ("Topic", "topic"),
        ("what it is about", "topic"),
        ("how formal it is", "formality"),
        ("positive or negative sentiment", "sentiment"),
        ("reasoning strategy", "reasoning strategy"),
        ("point of view", "point of view"),
        ("language", "language"),
        ("football tactics", None),
        ("the style of play", None),
        ("of the", None),
    ],
)
def test_names_of_axes(phrase, axis):
    assert named(phrase) == axis


@pytest.mark.parametrize(
    ("phrase", "values"),
    [
        ("poem, rap, screenplay, tweet", ("poem", "rap", "screenplay", "tweet")),
        ("angry vs calm", ("angry", "calm")),
        ("poems, dialogues and diaries", ("poems", "dialogues", "diaries")),
        ("poems, dialogues, and diaries", ("poems", "dialogues", "diaries")),
        ("world news, sports, science and technology", ("world news", "sports", "science and technology")),
        ("science and technology", ()),
        ("refuses politely", ()),
        ("one, " + "a long clause that lists nothing at all", ()),
    ],
)
def test_lists_of_values(phrase, values):
    assert listed(phrase) == values


def test_values_of_an_axis_are_known_by_their_words_without_a_reader():
    assert matched(("poems", "diary"), "style", None) == ("poem", "diary")
    assert matched(("French", "German", "English"), "language", None) == ("English", "French", "German")
    assert matched(("poem", "beekeeping"), "style", None) is None
    assert understand("tone: angry, cheerful", None) == Asked("tone: angry, cheerful", "tone", ("cheerful", "angry"))
    assert understand("topic: sports, politics", None).axis is None


# What is left out.


def test_scores_are_decorrelated_and_follow_new_documents():
    m = planted(1, n=120, k=3, own=8, others=10)
    X = m.pooled("mean").X
    rng = np.random.default_rng(0)
    unwanted = [
        Unwanted(name, rng.normal(size=(m.n_concepts, r)).astype(np.float32)) for name, r in (("a", 2), ("b", 1))
    ]
    found = scores(X, unwanted)
    n, q = found.S.shape
    np.testing.assert_allclose(found.S.T @ found.S / n, np.eye(q), atol=1e-8)
    np.testing.assert_allclose(X @ found.along - found.mean, found.S, atol=1e-6)
    y = rng.normal(size=(n, 4))
    expected = np.linalg.lstsq(found.S, y, rcond=None)[0]
    np.testing.assert_allclose(found.slopes(y), expected, atol=1e-8)
    assert scores(X, []) is None
    assert 0 < share_of(X, np.eye(m.n_concepts)[:, :3], np.eye(m.n_concepts)) < 1


@pytest.mark.parametrize("space", ["svd", "graph"])
def test_what_is_left_out_cannot_be_predicted_from_the_coordinates(space):
    m = planted(1, n=120, k=3, own=8, others=10)
    along = np.zeros((m.n_concepts, 1), np.float32)
    along[:8] = 1  # the first group's own concepts
    axis = replace(all_concepts(m), unwanted=(Unwanted("first group", along),))
    with_it, without = (coordinates(m, one, space=space, dimensions=6) for one in (all_concepts(m), axis))
    S = (m.pooled("mean").X @ along).ravel()

    def correlation(placed):
        P = placed.P - placed.P.mean(axis=0)
        return np.abs(P.T @ (S[placed.rows] - S[placed.rows].mean())).max() / (np.linalg.norm(P) * np.linalg.norm(S))

    assert correlation(with_it) > 0.05
    assert correlation(without) < 1e-4
    placed, rows = without.transform.place(m)
    np.testing.assert_allclose(placed, without.Z, atol=1e-6)
    np.testing.assert_array_equal(rows, without.rows)


def test_documents_with_unwanted_concepts_alone_stay_unassigned():
    m = planted(1, n=120, k=3, own=8, others=10)
    along = np.zeros((m.n_concepts, 1), np.float32)
    along[:8] = 1
    axis = all_concepts(m)
    kept = axis.columns >= 8
    part = replace(axis, columns=axis.columns[kept], weights=axis.weights[kept], unwanted=(Unwanted("first", along),))
    placed = coordinates(m, part, space="svd", dimensions=4)
    X = m.X.toarray()
    np.testing.assert_array_equal(placed.rows, np.flatnonzero((X[:, 8:] > 0).any(axis=1)))


# With the bundled encoder.


@pytest.fixture(scope="module")
def english():
    return sd.encode(CROSSED / "texts.jsonl", text="text", id="id")


@pytest.fixture(scope="module")
def three_languages(english):
    """Four texts of each topic, style and language."""
    others = sd.encode(CROSSED / "texts_fr_de.jsonl", text="text", id="id")
    some = english.filter_docs(pl.col("doc_id").str.slice(-2).is_in(["01", "04", "08", "12"]))
    return sd.ConceptMatrix.concat([some, others])


def accuracies(m, axis, columns, k):
    placed = coordinates(m, axis, dimensions=2 * k)
    found = [kmeans(placed.Z, k, seed=seed).labels for seed in range(3)]
    codes = {name: (m.docs[name].rank("dense") - 1).to_numpy().astype(int)[placed.rows] for name in columns}
    return {
        name: (
            np.mean([agreement(one, code).accuracy for one in found]),
            np.mean([agreement(one, code).gain for one in found]),
        )
        for name, code in codes.items()
    }


@pytest.mark.parametrize(("by", "other", "least"), [("style", "topic", 0.88), ("topic", "style", 0.75)])
def test_words_choose_either_axis_of_crossed_texts(english, by, other, least):
    found = accuracies(english, choose_axis(english, by=(by,)), ("style", "topic"), 4)
    assert found[by][0] > least
    assert found[other][1] < 0.12


@pytest.mark.parametrize(("by", "least"), [("style", 0.62), ("topic", 0.5), ("language", 0.98)])
def test_words_choose_any_axis_of_texts_in_three_languages(three_languages, by, least):
    m = three_languages
    k = m.docs[by].n_unique()
    axis = choose_axis(m, by=(by,))
    found = accuracies(m, axis, ("style", "topic", "language"), k)
    assert found[by][0] > least
    assert all(gain < 0.15 for name, (_, gain) in found.items() if name != by)
    assert [one.name for one in axis.unwanted] == {"style": ["language"], "topic": list(FORM), "language": []}[by]


def test_languages_are_left_out_unless_they_are_to_stay(english, three_languages):
    axis = choose_axis(three_languages, by=("style",))
    assert any("several languages" in note for note in axis.notes)
    assert not choose_axis(three_languages, by=("style",), keep_languages=True).unwanted
    assert not choose_axis(english, by=("style",)).unwanted
    assert MATTERS < 0.2


def test_the_table_says_why_and_can_be_given_back(english):
    axis = choose_axis(english, by=("writing style",))
    assert axis.n == 200
    assert set(axis.table["why"]) == {"style: varies with its values"}
    latents = english.concepts["latent"].to_numpy()[axis.columns]
    assert set(axis.table["latent"]) == set(latents.tolist())
    given = choose_axis(english, latents=axis.table.head(150))
    assert set(given.table["latent"]) == set(axis.table["latent"].head(150))
    F = contrast(english.source, "style").F[latents]
    assert F.min() >= 3


def test_the_listed_values_narrow_an_axis(english):
    some = contrast(english.source, "style", ("poem", "diary"))
    assert some.values == ("poem", "diary")
    assert some.n == 12
    narrow, whole = (choose_axis(english, by=(words,)) for words in ("poems, diaries, news reports", "style"))
    assert not np.array_equal(narrow.columns, whole.columns)
    assert "3 values" in narrow.notes[0]


def test_without_drops_concepts_and_directions(english):
    axis = choose_axis(english, without=("style",))
    F = contrast(english.source, "style").F[english.concepts["latent"].to_numpy()]
    assert not (F[axis.columns] >= 5).any()
    assert axis.removed.shape[0] <= len(values_of("style"))
    np.testing.assert_allclose(axis.removed @ axis.removed.T, np.eye(len(axis.removed)), atol=1e-5)
    assert any(note.startswith("Left out: style (") for note in axis.notes)


def test_queries_choose_concepts_and_not_leaves_them_out(english):
    axis = choose_axis(english, concepts="#442 or #312 or 14")
    assert axis.table["latent"].sort().to_list() == [14, 312, 442]
    with pytest.raises(InputError, match="names no concept to group by"):
        choose_axis(english, concepts="topic = 'money'")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"by": ("language",)}, "do not differ in 'language': .* nearest to 'English'"),
        ({"by": ("a penguin colony in Antarctica",)}, "has too little on 'a penguin colony in Antarctica'"),
        ({"by": ("style",), "without": ("genre",)}, "both what to group by and what to leave out"),
        ({"by": ("  ",)}, "the phrase is empty"),
        ({"by": ("style",), "latents": pl.DataFrame({"latent": [1]})}, "given twice"),
        ({"latents": pl.DataFrame({"number": [1]})}, "needs a column 'latent'; it has number"),
        ({"latents": pl.DataFrame({"latent": [1, 1, 2]})}, "names latent 1 more than once"),
        ({"latents": pl.DataFrame({"latent": [1, 99999, 2]})}, "there is no latent 99999"),
        (
            {"latents": pl.DataFrame({"latent": [1, 2], "weight": [1.0, -1.0]})},
            "a weight that is no number of 0 or more",
        ),
        ({"latents": pl.DataFrame({"latent": [1, 2], "weight": [0.0, 0.0]})}, "chooses no concept"),
    ],
)
def test_what_cannot_be_grouped_by_is_refused_with_the_evidence(english, asked, message):
    with pytest.raises(InputError, match=message):
        choose_axis(english, **asked)


def test_every_known_axis_is_seen_by_the_bundled_encoder(english):
    for name in axis_names():
        found = contrast(english.source, name)
        assert found.seen
        assert found.right / found.n > 2 * found.chance or found.right / found.n > 0.8
