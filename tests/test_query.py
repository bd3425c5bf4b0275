"""The concept query language: what parses to what, what the errors say, and scores against formulas by hand."""

from __future__ import annotations

import time
from datetime import date, datetime

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saelens_data.errors import InputError
from saelens_data.query import (
    And,
    Column,
    Latent,
    Not,
    Or,
    Percentile,
    Phrase,
    Threshold,
    Weighted,
    concepts_of,
    evaluate,
    mask,
    parse,
    phrase_note,
    unparse,
)

A, B, C = Phrase("a"), Phrase("b"), Phrase("c")


# ---- reading


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("refuses politely", Phrase("refuses politely")),
        ("  cats and dogs ", Phrase("cats and dogs")),
        ("don't refuse; it's (only) 5/10 & C#!", Phrase("don't refuse; it's (only) 5/10 & C#!")),
        ("2 dogs", Phrase("2 dogs")),
        ("what is love in 1999", Phrase("what is love in 1999")),
        ("отказ 拒绝 🎉", Phrase("отказ 拒绝 🎉")),
        ('"refuses politely"', Phrase("refuses politely")),
        ("“a” or “b”", Or((A, B))),
        ('"say ""yes"" or no"', Phrase('say "yes" or no')),
        ("4217", Latent(4217)),
        (" #4217 ", Latent(4217)),
        ("4217 and not (12 or 5)", And((Latent(4217), Not(Or((Latent(12), Latent(5))))))),
        ('"a" AND Not "b" oR "c"', Or((And((A, Not(B))), C))),
        ('"a" and ("b" or "c")', And((A, Or((B, C))))),
        ('"a" and ("b" and "c")', And((A, B, C))),
        ('((("a")))', A),
        ('not not "a"', Not(Not(A))),
        ('2 * "a" or 0.5 * 7', Or((Weighted(2, A), Weighted(0.5, Latent(7))))),
        ('.5*("a" or "b") and "c"', And((Weighted(0.5, Or((A, B))), C))),
        ('not 1e-1 * "a"', Not(Weighted(0.1, A))),
        ('"a" > p90', Threshold(A, ">", Percentile(90))),
        ("7 <= P99.5", Threshold(Latent(7), "<=", Percentile(99.5))),
        ("#7 >= 0.5", Threshold(Latent(7), ">=", 0.5)),
        ("model = 'A'", Column("model", "=", "A")),
        ("model == 'it''s'", Column("model", "=", "it's")),
        ("length <> 200", Column("length", "!=", 200)),
        ("t > -1.5e3", Column("t", ">", -1500.0)),
        ("done = True", Column("done", "=", True)),
        ("date >= '2024-01-01'", Column("date", ">=", "2024-01-01")),
        ("lang in ('en', 'de')", Column("lang", "in", ("en", "de"))),
        ("n NOT IN (1)", Column("n", "not in", (1,))),
        ("title is null", Column("title", "is null")),
        ("title is not null", Column("title", "is not null")),
        ("`my col` = 1 and `a``b` is null", And((Column("my col", "=", 1), Column("a`b", "is null")))),
        ("p90 = 3", Column("p90", "=", 3)),
        ("größe > 3", Column("größe", ">", 3)),
        (
            '"refusal" and not "medical advice"\n and model = \'A\'',
            And((Phrase("refusal"), Not(Phrase("medical advice")), Column("model", "=", "A"))),
        ),
    ],
)
def test_what_is_read(text, query):
    assert parse(text) == query


OPERAND = 'expected a "phrase", a latent\'s number, a column, not, or ('
CONDITION = "and a column a comparison, such as = 'en'"
JOINT = "expected and, or, a comparison such as >, or the end"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "nothing to look for; write some words, as in: refuses politely"),
        (" \n", "nothing to look for; write some words, as in: refuses politely"),
        ('"refusal" adn "hedging"', f"at character 11, `adn`: {JOINT}; did you mean `and`?"),
        ('"a" and nott "b"', "at character 9, `nott`: did you mean `not`?"),
        ('"a" and and "b"', f"at character 9, `and`: {OPERAND}"),
        ('"a" and', f"at the end: {OPERAND}"),
        ("not", f"at the end: {OPERAND}"),
        ('("a" and "b"', "at the end: expected )"),
        ('"a")', "at character 4, `)`: expected the end"),
        ("()", f"at character 2, `)`: {OPERAND}"),
        ('"a" "b"', f'at character 5, `"b"`: {JOINT}'),
        ('"a" and "b', "at character 9: this double quote has no partner; close it"),
        ("model = 'A", "at character 9: this single quote has no partner; close it"),
        ("`model = 'A'", "at character 1: this backtick has no partner; close it"),
        ('""', "at character 1: an empty phrase; write some words between the double quotes"),
        ('"a" and "  "', "at character 9: an empty phrase; write some words between the double quotes"),
        (
            'refuses politely and "hedging"',
            f'at character 1, `refuses politely`: a phrase needs double quotes, `"refuses politely"`, {CONDITION}',
        ),
        (
            '"hedging" and refusal',
            f'at character 15, `refusal`: a phrase needs double quotes, `"refusal"`, {CONDITION}',
        ),
        (
            "'refusal' and 'hedging'",
            f"at character 1, `'refusal'`: {OPERAND}; did you mean `\"refusal\"`?",
        ),
        ("2 *", 'at the end: expected a "phrase", a latent\'s number, or ('),
        (
            "2 * hedging",
            'at character 5, `hedging`: expected a "phrase", a latent\'s number, or (; did you mean `"hedging"`?',
        ),
        ('2 "a"', f'at character 3, `"a"`: {JOINT.replace("expected", "expected *,")}; did you mean `2 * "a"`?'),
        ('"a" * 2', f'at character 5, `*`: {JOINT}; a weight comes first, as in 2 * "hedging"'),
        ('-1 * "a"', 'at character 1: a weight is above 0, not -1; for the opposite write not "..."'),
        ('"b" or 0 * "a"', 'at character 8: a weight is above 0, not 0; for the opposite write not "..."'),
        ('1e999 * "a"', "at character 1: a weight lies between 0.000001 and 1,000,000"),
        ('2 * (not 3 * "a")', "at character 1: a weight of a weight; write their product"),
        ("4.5", 'at character 1, `4.5`: neither a latent nor a weight, as in 0.5 * "hedging"'),
        ('"a" & "b"', "at character 5, `&`: no sign of the language; did you mean `and`?"),
        (
            '"a" @ "b"',
            'at character 5, `@`: no sign of the language; quote phrases with " and odd names with `',
        ),
        ('"a" > p190', "at character 7: p190 is no percentile; they run from p0 to p100"),
        ('"a" > 90', "at character 5: 90 is no score; they run from 0 to 1; for a percentile write p90"),
        ('"a" >', "at the end: expected a number from 0 to 1 or a percentile such as p90"),
        ("7 = 0.5", "at character 3: a concept has no exact score to compare with =; use one of <, <=, >, >="),
        ('model = "A"', "at character 9, `\"A\"`: expected a value such as 'en', 200, or true; did you mean `'A'`?"),
        ("model = A", "at character 9, `A`: expected a value such as 'en', 200, or true; did you mean `'A'`?"),
        (
            "length > p90",
            "at character 10, `p90`: expected a value such as 'en', 200, or true; percentiles are for concepts",
        ),
        ("lang in 'en'", "at character 9, `'en'`: expected ("),
        ("lang in ()", "at character 10, `)`: expected a value such as 'en', 200, or true"),
        ("lang in ('en' 'de')", "at character 15, `'de'`: expected a comma or )"),
        ('title is nul and "a"', "at character 10, `nul`: expected not or null; did you mean `null`?"),
        ("99999999999999999999", "at character 1: no latent has this number; latents count from 0"),
        ("9" * 5000, "at character 1: no latent has this number; latents count from 0"),
        ("x = " + "9" * 5000, "at character 1: this number is too large to compare a column with"),
        ("x = 1e999", "at character 1: this number is too large to compare a column with"),
        ("a\x00b", "at character 2: `<U+0000>`: a character that is no text; take it out"),
        ('"\x1b[31m"', "at character 2: `<U+001B>`: a character that is no text; take it out"),
        ("\ud800", "at character 1: `<U+D800>`: a character that is no text; take it out"),
        (
            '"a" \u202e',
            'at character 5, `<U+202E>`: no sign of the language; quote phrases with " and odd names with `',
        ),
        (
            "(cats or dogs) and birds",
            "at character 2, `cats`: a phrase needs double quotes, `\"cats\"`, and a column a comparison, such as = 'en'",
        ),
    ],
)
def test_what_errors_say(text, message):
    with pytest.raises(InputError) as caught:
        parse(text)
    assert str(caught.value) == f"query: {message}"


def test_long_text_is_cut_in_messages():
    with pytest.raises(InputError, match="…") as caught:
        parse('"a" ' + "x" * 10_000 + " = 3")
    assert len(str(caught.value)) < 200


def test_plain_words_with_joints_get_a_note():
    assert phrase_note("cats and dogs") == (
        'read as one phrase, `cats and dogs`; to join several, put each in double quotes: `"cats" and "dogs"`'
    )
    assert phrase_note("politics AND not  sports").endswith('`"politics" and not "sports"`')
    assert phrase_note("not refusing").endswith('`not "refusing"`')
    assert phrase_note("refuses politely") is phrase_note('"a" and "b"') is phrase_note("android") is None


# ---- what nobody should type


def test_ten_thousand_words():
    words = " ".join(["word"] * 10_000)
    assert parse(words) == parse(f'"{words}"') == Phrase(words)
    many = parse(" and ".join(['"a"'] * 10_000))
    assert len(many.parts) == 10_000
    assert parse(unparse(many)) == many
    assert parse("lang in (" + ", ".join(map(str, range(10_000))) + ")").value == tuple(range(10_000))


def test_deep_nesting_is_no_recursion_error():
    assert parse("(" * 1_000 + '"a"' + ")" * 1_000) == A
    assert parse("not " * 100 + '"a"').depth == 100
    deep = '("a" or ("b" and ' * 40 + '"c"' + "))" * 40
    assert parse(unparse(parse(deep))) == parse(deep)
    for text in [
        "not " * 101 + '"a"',
        "not (" * 10_000 + '"a"' + ")" * 10_000,
        '("a" or ("b" and ' * 60 + '"c"' + "))" * 60,
    ]:
        with pytest.raises(
            InputError, match=r"^query: at character [0-9]+: nested more than 100 levels deep; take out"
        ):
            parse(text)
    deepest = parse("not " * 100 + '"a"')
    scored = evaluate(deepest, pl.DataFrame({"text": ["x"]}), lambda _: np.array([0.25]))
    assert scored.score.tolist() == [0.25]
    assert hash(deepest) == hash(parse(unparse(deepest)))


def test_hostile_text_takes_no_time():
    hostile = [
        '"' * 50_001,
        "1.1." * 20_000,
        "(" * 50_000,
        "not " * 50_000,
        "`" * 50_001,
        "a " * 50_000 + '"',
        "'" * 50_001,
    ]
    start = time.perf_counter()
    for text in hostile:
        with pytest.raises(InputError, match=r"^query: "):
            parse(text)
    assert time.perf_counter() - start < 5


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet=st.sampled_from("ab 1.'\"`()*<>=!#,-_&p9é🎉\u202e\x00\n") | st.characters(), max_size=30))
def test_any_text_is_a_query_or_one_clear_line(text):
    query = error = None
    try:
        query = parse(text)
    except InputError as caught:
        error = str(caught)
    if error is None:
        assert parse(unparse(query)) == query
    else:
        assert error.startswith("query: ")
        assert error.isprintable()


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from('"a" 7 2 * not and or ( ) > p90 0.5 = model \'A\' in , is null true "b"'.split()), max_size=9
    )
)
def test_any_words_of_the_language_too(words):
    test_any_text_is_a_query_or_one_clear_line.hypothesis.inner_test(" ".join(words))


# ---- writing

texts = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=12)
words = texts.filter(lambda text: bool(text.strip()))
concepts = st.builds(Phrase, words) | st.builds(Latent, st.integers(0, 10**12))
levels = st.floats(0, 1) | st.builds(Percentile, st.floats(0, 100))
numbers = st.integers(-(10**20), 10**20) | st.floats(-1e20, 1e20)
scalars = texts | numbers | st.booleans()
names = words | st.sampled_from(["and", "Is", "NULL", "p90", "title", "a`b", "lang_2"])
columns = (
    st.builds(Column, names, st.sampled_from(["=", "!=", "<", "<=", ">", ">="]), scalars)
    | st.builds(Column, names, st.sampled_from(["in", "not in"]), st.lists(scalars, min_size=1, max_size=3).map(tuple))
    | st.builds(Column, names, st.sampled_from(["is null", "is not null"]))
)
leaves = concepts | columns | st.builds(Threshold, concepts, st.sampled_from(["<", "<=", ">", ">="]), levels)


def weighted(part, weight):
    """The part with a weight, unless it has one."""
    inner = part
    while isinstance(inner, Not):
        inner = inner.part
    return part if isinstance(inner, Weighted) else Weighted(weight, part)


def trees(leaf):
    def grow(part):
        several = st.lists(part, min_size=2, max_size=3).map(tuple)
        weights = st.floats(1e-6, 1e6)
        return (
            st.builds(Not, part) | st.builds(And, several) | st.builds(Or, several) | st.builds(weighted, part, weights)
        )

    return st.recursive(leaf, grow, max_leaves=8)


@settings(max_examples=300, deadline=None)
@given(trees(leaves))
def test_what_is_written_reads_the_same(query):
    text = unparse(query)
    assert parse(text) == query
    assert unparse(parse(text)) == text


def test_no_more_parentheses_than_needed():
    for text in [
        '"a" and not ("b" or 2 * 7) or lang = \'en\'',
        '2 * (not "a") and (3 or 4)',
        'not "a" > p90 or 2 * (n > 3)',
    ]:
        assert unparse(parse(text)) == text
    assert unparse(parse("refuses politely")) == '"refuses politely"'
    assert unparse(parse('(("a" and "b") and ("c"))')) == '"a" and "b" and "c"'


def test_nodes_made_by_hand_are_checked():
    for make in [
        lambda: Phrase(" "),
        lambda: Latent(-1),
        lambda: Percentile(101),
        lambda: Threshold(A, "=", 0.5),
        lambda: Threshold(A, ">", float("nan")),
        lambda: Column("x", "~", 3),
        lambda: Column("x", "in", ()),
        lambda: Column("x", "=", None),
        lambda: Column("x", "=", float("nan")),
        lambda: Weighted(0, A),
        lambda: Weighted(float("nan"), A),
        lambda: And((A,)),
    ]:
        with pytest.raises(InputError, match=r"^query: (?!at)"):
            make()


# ---- scores

SCORES = {
    A: np.array([0.0, 0.2, 0.5, 0.9, 1.0, 1.0]),
    B: np.array([0.0, 0.8, 0.5, 0.1, 0.0, 1.0]),
    C: np.array([0.3, 0.0, 0.0, 0.6, 0.0, 1.0]),
    Latent(7): np.array([0.0, 0.0, 0.0, 0.4, 0.6, 0.8]),
}
DOCS = pl.DataFrame(
    {
        "text": ["", "aa", "bbb", "dddd", "ééééé", "ffffff"],
        "model": ["A", "A", "B", "B", None, "A"],
        "n": [1, 2, 3, None, 5, 6],
        "f": pl.Series([0.1, 0.2, float("nan"), None, 0.5, 0.6], dtype=pl.Float32),
        "done": [True, False, None, True, False, True],
        "day": [date(2024, 1, d) if d else None for d in (1, 2, 3, 0, 5, 6)],
        "at": [datetime(2024, 1, d, 12) if d else None for d in (1, 2, 3, 0, 5, 6)],
        "kind": pl.Series(["x", "y", "x", None, "z", "x"], dtype=pl.Categorical),
        "tags": [["a"], [], None, ["b"], ["c"], ["d"]],
        "nothing": [None] * 6,
        "^n.*$": [0, 0, 0, 0, 0, 1],
        "u": pl.Series([2**64 - 1, 0, 1, 2, 3, None], dtype=pl.UInt64),
    }
)


def score_of(text):
    return evaluate(parse(text) if isinstance(text, str) else text, DOCS, SCORES.__getitem__)


@pytest.mark.parametrize(
    ("text", "formula"),
    [
        ('"a"', lambda a, b, c: a),
        ('7 * "a"', lambda a, b, c: a),
        ('not "a"', lambda a, b, c: 1 - a),
        ('"a" or "b"', lambda a, b, c: np.sqrt((a**2 + b**2) / 2)),
        ('"a" and "b"', lambda a, b, c: 1 - np.sqrt(((1 - a) ** 2 + (1 - b) ** 2) / 2)),
        ('2 * "a" or 0.5 * "b"', lambda a, b, c: np.sqrt((4 * a**2 + 0.25 * b**2) / 4.25)),
        ('2 * "a" and "b" and "c"', lambda a, b, c: 1 - np.sqrt((4 * (1 - a) ** 2 + (1 - b) ** 2 + (1 - c) ** 2) / 6)),
        ('"a" and not "b"', lambda a, b, c: 1 - np.sqrt(((1 - a) ** 2 + b**2) / 2)),
        ('"a" and not 3 * "b"', lambda a, b, c: 1 - np.sqrt(((1 - a) ** 2 + 9 * b**2) / 10)),
        (
            '"a" and 2 * ("b" or "c")',
            lambda a, b, c: 1 - np.sqrt(((1 - a) ** 2 + 4 * (1 - np.sqrt((b**2 + c**2) / 2)) ** 2) / 5),
        ),
    ],
)
def test_the_p_norm_by_hand(text, formula):
    found = score_of(text)
    np.testing.assert_allclose(found.score, formula(SCORES[A], SCORES[B], SCORES[C]), atol=1e-15)
    assert found.mask.all()


def test_groups_of_one_kind_are_one_group_however_they_are_written():
    for one, other in [
        ('"a" or not ("b" and "c")', '"a" or not "b" or not "c"'),
        ('("a" and "b") and not ("c" or 7)', '"a" and "b" and not "c" and not 7'),
        ('1 * ("a" or "b") or "c"', '"a" or "b" or "c"'),
        ('"a" or not (n > 2 and n < 5)', '"a" or not n > 2 or not n < 5'),
    ]:
        np.testing.assert_array_equal(score_of(one).score, score_of(other).score)
    assert score_of('2 * ("a" or "b") or "c"').score[3] != score_of('2 * "a" or 2 * "b" or "c"').score[3]


def test_one_concept_scores_what_it_is():
    assert (score_of('"a" and n >= 1').score[[0, 1, 2, 4, 5]] == SCORES[A][[0, 1, 2, 4, 5]]).all()
    assert (score_of('3 * "c"').score == SCORES[C]).all()
    assert score_of('0.1 * "a" and 0.3 * "b"').score[[0, 5]].tolist() == [0, 1]


def pushed(node, negated=False):
    """The tree with `not` at its leaves alone, groups of one kind taken apart as they are made."""
    match node:
        case Not(part):
            return pushed(part, not negated)
        case Weighted(weight, part):
            return pushed(part, negated) if weight == 1 else Weighted(weight, pushed(part, negated))
        case And(parts) | Or(parts):
            parts = tuple(pushed(part, negated) for part in parts)
            return And(parts) if isinstance(node, And) != negated else Or(parts)
    return Not(node) if negated else node


def by_formula(node, scores):
    """The formulas read off a tree of concepts."""
    match node:
        case Phrase() | Latent():
            return scores[node]
        case Not(part):
            return 1 - by_formula(part, scores)
        case Weighted(_, part):
            return by_formula(part, scores)
    x = np.array([by_formula(part, scores) for part in node.parts])
    w = np.array([weight_of(part) for part in node.parts])[:, None]
    if isinstance(node, Or):
        return np.sqrt((w**2 * x**2).sum(axis=0) / (w**2).sum())
    return 1 - np.sqrt((w**2 * (1 - x) ** 2).sum(axis=0) / (w**2).sum())


def weight_of(node):
    return node.weight if isinstance(node, Weighted) else 1.0


soft = trees(st.sampled_from([A, B, C, Latent(7)]))
degrees = st.lists(st.floats(0, 1), min_size=4, max_size=4)


@settings(max_examples=200, deadline=None)
@given(soft, degrees)
def test_scores_follow_the_formulas_and_shares_add_up(query, values):
    scores = {concept: np.array([value, 1 - value]) for concept, value in zip(SCORES, values, strict=True)}
    found = evaluate(query, DOCS[:2], scores.__getitem__)
    np.testing.assert_allclose(found.score, by_formula(pushed(query), scores), atol=1e-7)
    assert ((found.score >= 0) & (found.score <= 1)).all()
    shares = np.array([leaf.share for leaf in found.leaves])
    assert (shares >= 0).all()
    np.testing.assert_allclose(shares.sum(axis=0), found.score, atol=1e-12)
    assert [(leaf.node, leaf.weight, leaf.sign) for leaf in found.leaves] == concepts_of(query)
    assert all((leaf.score == scores[leaf.node]).all() for leaf in found.leaves)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        trees(leaves_here := st.sampled_from([A, B, parse("7 > p50"), parse("model = 'A'"), parse("n > 2")])),
        min_size=2,
        max_size=4,
    ),
    st.randoms(),
)
def test_order_and_double_negation_and_de_morgan(parts, random):
    shuffled = random.sample(parts, len(parts))
    negated = tuple(Not(part) for part in parts)
    for one, other in [
        (And(tuple(parts)), And(tuple(shuffled))),
        (Or(tuple(parts)), Or(tuple(shuffled))),
        (parts[0], Not(Not(parts[0]))),
        (Not(And(tuple(parts))), Or(negated)),
        (Not(Or(tuple(parts))), And(negated)),
    ]:
        first, second = score_of(one), score_of(other)
        assert (first.mask == second.mask).all()
        np.testing.assert_allclose(first.score, second.score, atol=1e-7)


@settings(max_examples=100, deadline=None)
@given(trees(leaves_here))
def test_mixed_queries_add_up_too_and_the_mask_needs_no_scores(query):
    found = score_of(query)
    np.testing.assert_allclose(np.sum([leaf.share for leaf in found.leaves], axis=0), found.score, atol=1e-12)
    assert not found.score[~found.mask].any()
    thresholds_only = {Latent(7): SCORES[Latent(7)]}
    assert (mask(query, DOCS, thresholds_only.__getitem__) == found.mask).all()


# ---- filters


def test_filters_in_an_and_only_keep_or_drop():
    found = score_of('"a" and model = \'A\' and not "b"')
    assert found.mask.tolist() == [True, True, False, False, False, True]
    np.testing.assert_array_equal(found.score, np.where(found.mask, score_of('"a" and not "b"').score, 0))


def test_filters_in_an_or_count_as_zero_or_one():
    found = score_of("\"a\" or 2 * (model = 'A')")
    held = np.array([1, 1, 0, 0, 0, 1])
    assert found.mask.all()
    np.testing.assert_allclose(found.score, np.sqrt((SCORES[A] ** 2 + 4 * held) / 5), atol=1e-15)
    concept, filtered = found.leaves
    assert (concept.node, filtered.node, filtered.weight) == (A, Column("model", "=", "A"), 2)
    np.testing.assert_allclose(filtered.share, 4 * held / 5 / np.where(found.score > 0, found.score, 1), atol=1e-15)


def test_alternatives_with_their_own_filters():
    found = score_of("(\"a\" and model = 'A') or (\"b\" and model = 'B')")
    assert found.mask.tolist() == [True, True, True, True, False, True]
    expected = np.where(DOCS["model"] == "A", SCORES[A], np.where(DOCS["model"] == "B", SCORES[B], 0)) / np.sqrt(2)
    np.testing.assert_allclose(found.score, np.where(found.mask, expected, 0), atol=1e-15)


def test_filters_alone_score_one_where_they_hold():
    found = score_of("model = 'A' and not (n = 2 or 7 > 0.7)")
    assert found.mask.tolist() == [True, False, False, False, False, False]
    assert found.score.tolist() == [1, 0, 0, 0, 0, 0]
    model, second, strong = found.leaves
    assert (model.node, second.node, strong.node) == (parse("model = 'A'"), parse("n = 2"), parse("7 > 0.7"))
    assert [leaf.share.tolist() for leaf in found.leaves] == [[pytest.approx(1 / 3), 0, 0, 0, 0, 0]] * 3
    assert [leaf.sign for leaf in found.leaves] == [1, -1, -1]
    assert strong.score.tolist() == [0, 0, 0, 0, 0, 1]
    assert score_of("not (\"a\" or model = 'A')").mask.tolist() == [False, False, True, True, True, False]


@pytest.mark.parametrize("op", ["<", "<=", ">", ">="])
@pytest.mark.parametrize("percent", [0, 10, 33.3, 50, 90, 100])
def test_percentiles_are_numpys_over_scores_above_zero(op, percent):
    rng = np.random.default_rng(0)
    scores = np.where(rng.random(200) < 0.3, rng.random(200), 0).astype(np.float32)
    found = mask(parse(f'"x" {op} p{percent}'), pl.DataFrame({"i": range(200)}), lambda _: scores)
    scores = scores.astype(np.float64)
    level = np.percentile(scores[scores > 0], percent)
    expected = {"<": scores < level, "<=": scores <= level, ">": scores > level, ">=": scores >= level}[op]
    assert (found == expected).all()
    assert percent != 0 or op != ">=" or (found == (scores > 0)).all()


def test_a_concept_that_is_nowhere_is_below_every_percentile():
    for text, expected in [('"x" > p10', False), ('"x" >= p0', False), ('"x" < p10', True), ('"x" <= p0', True)]:
        assert mask(parse(text), DOCS, lambda _: np.zeros(6)).tolist() == [expected] * 6


@pytest.mark.parametrize(
    ("text", "held"),
    [
        ("model = 'A'", [1, 1, 0, 0, 0, 1]),
        ("model != 'A'", [0, 0, 1, 1, 0, 0]),
        ("not model = 'A'", [0, 0, 1, 1, 1, 0]),
        ("model > 'A'", [0, 0, 1, 1, 0, 0]),
        ("model in ('B', 'C')", [0, 0, 1, 1, 0, 0]),
        ("model not in ('B', 'C')", [1, 1, 0, 0, 0, 1]),
        ("model is null", [0, 0, 0, 0, 1, 0]),
        ("model is not null", [1, 1, 1, 1, 0, 1]),
        ("kind in ('x')", [1, 0, 1, 0, 0, 1]),
        ("kind > 'x'", [0, 1, 0, 0, 1, 0]),
        ("n >= 3", [0, 0, 1, 0, 1, 1]),
        ("n < 2.5", [1, 1, 0, 0, 0, 0]),
        ("n in (1, 2.0, 7.5)", [1, 1, 0, 0, 0, 0]),
        ("n < 99999999999999999999", [1, 1, 1, 0, 1, 1]),
        ("u = 18446744073709551615", [1, 0, 0, 0, 0, 0]),
        ("u > -1", [1, 1, 1, 1, 1, 0]),
        ("f = 0.1", [1, 0, 0, 0, 0, 0]),
        ("f in (0.2, 0.5)", [0, 1, 0, 0, 1, 0]),
        ("f > 0", [1, 1, 0, 0, 1, 1]),
        ("f != 0.1", [0, 1, 0, 0, 1, 1]),
        ("f is null", [0, 0, 1, 1, 0, 0]),
        ("done = true", [1, 0, 0, 1, 0, 1]),
        ("done in (false)", [0, 1, 0, 0, 1, 0]),
        ("day >= '2024-01-03'", [0, 0, 1, 0, 1, 1]),
        ("day in ('2024-01-01', '2024-01-06')", [1, 0, 0, 0, 0, 1]),
        ("at = '2024-01-03'", [0, 0, 1, 0, 0, 0]),
        ("at <= '2024-01-03'", [1, 1, 1, 0, 0, 0]),
        ("at < '2024-01-03T12:00'", [1, 1, 0, 0, 0, 0]),
        ("at in ('2024-01-03 12:00', '2024-01-05')", [0, 0, 1, 0, 0, 0]),
        ("length > 4", [0, 0, 0, 0, 1, 1]),
        ("length = 5", [0, 0, 0, 0, 1, 0]),
        ("tags is null", [0, 0, 1, 0, 0, 0]),
        ("nothing = 3", [0, 0, 0, 0, 0, 0]),
        ("nothing is null", [1, 1, 1, 1, 1, 1]),
        ("`^n.*$` = 1", [0, 0, 0, 0, 0, 1]),
    ],
)
def test_conditions_on_columns(text, held):
    assert score_of(text).mask.tolist() == [bool(x) for x in held]
    assert evaluate(parse(text), DOCS.clear(), SCORES.__getitem__).score.shape == (0,)


def test_times_with_zones():
    noon = pl.Series("at", [datetime(2024, 7, 1, 22, 30), None]).dt.replace_time_zone("UTC")
    docs = pl.DataFrame({"at": noon.dt.convert_time_zone("Europe/Berlin")})
    for text, held in [
        ("at = '2024-07-02'", True),
        ("at = '2024-07-01'", False),
        ("at = '2024-07-02T00:30'", True),
        ("at = '2024-07-01T22:30+00:00'", True),
        ("at > '2024-07-02T00:00+02:00'", True),
    ]:
        assert mask(parse(text), docs, SCORES.__getitem__).tolist() == [held, False]


def test_a_column_named_length_is_that_column():
    docs = pl.DataFrame({"text": ["aaaa", "b"], "length": [1, 9]})
    assert mask(parse("length > 5"), docs, SCORES.__getitem__).tolist() == [False, True]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "\"a\" and modle = 'A'",
            "at character 9: there is no column `modle`; did you mean 'model'? available: text, model, n",
        ),
        (
            "n = '3'",
            "at character 1: column `n` holds numbers, and `'3'` is none of them; write a number without quotes",
        ),
        (
            "n = true",
            "at character 1: column `n` holds numbers, and `true` is none of them; write a number without quotes",
        ),
        ("model = 3", "at character 1: column `model` holds text, and `3` is none of them; put it in single quotes"),
        (
            "model in ('A', 3)",
            "at character 1: column `model` holds text, and `3` is none of them; put it in single quotes",
        ),
        ("done = 1", "at character 1: column `done` holds true or false, and `1` is none of them; write true or false"),
        ("done > true", "at character 1: column `done` holds true or false, which > does not order"),
        (
            "day = 2024",
            "at character 1: column `day` holds dates, and `2024` is none of them; write it as '2024-01-31'",
        ),
        ("day > 'May'", "column `day` holds dates, and `May` is none; write it as '2024-01-31' or '2024-01-31T18:00'"),
        ("day > '2024-01-01T10:00'", "column `day` holds days, without a time of day; write them as '2024-01-31'"),
        (
            "at > '2024-01-01T10:00Z'",
            "column `at` holds times, which these cannot be compared with; leave out the offset",
        ),
        ("tags = 'a'", "column `tags` holds values of the type List(String), which only `is null` can ask about"),
    ],
)
def test_columns_that_cannot_be_compared(text, message):
    with pytest.raises(InputError) as caught:
        score_of(text)
    assert message in str(caught.value)


def test_scores_that_are_none_are_a_defect_of_the_scorer():
    for scores in [np.zeros(5), np.full(6, 1.1), np.full(6, np.nan), np.full(6, -0.1)]:
        with pytest.raises(ValueError, match="scores of Phrase"):
            evaluate(A, DOCS, lambda _, scores=scores: scores)
    assert evaluate(A, DOCS, lambda _: np.full(6, 1 + 1e-6)).score.tolist() == [1] * 6


# ---- explanation


def test_shares_by_hand():
    found = score_of('2 * "a" and "b" and not "c"')
    a, b, c = SCORES[A], SCORES[B], SCORES[C]
    portions = np.array([4 * (1 - (1 - a) ** 2), 1 - (1 - b) ** 2, 1 - c**2])
    for leaf, portion, sign in zip(found.leaves, portions, [1, 1, -1], strict=True):
        np.testing.assert_allclose(leaf.share, found.score * portion / portions.sum(axis=0), atol=1e-15)
        assert leaf.sign == sign
    full = score_of('"a" and "b"').explain(np.array([4]))  # a = 1, b = 0
    assert [leaf.share.tolist() for leaf in full] == [[pytest.approx(1 - np.sqrt(0.5))], [0.0]]


def test_some_documents_can_be_explained_alone():
    found = score_of('"a" or ("b" and not 2 * 7)')
    for some, every in zip(found.explain(np.array([5, 1])), found.leaves, strict=True):
        assert some.share.tolist() == every.share[[5, 1]].tolist()
        assert some.score.tolist() == every.score[[5, 1]].tolist()


def test_each_concept_is_scored_once():
    asked = []
    evaluate(parse('"a" and ("a" > p50 or 7 > 0.5) and not "a"'), DOCS, lambda c: (asked.append(c), SCORES[c])[1])
    assert asked == [A, Latent(7)]


def test_concepts_of_a_query():
    query = parse('2 * "a" and not (3 * 7 or not "b") and "c" > p90 and n > 3')
    assert concepts_of(query) == [(A, 2.0, 1), (Latent(7), 3.0, -1), (B, 1.0, 1)]
    assert concepts_of(parse("n > 3")) == []
