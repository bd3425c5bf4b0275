"""The gate: what fails, what a watchlist covers, and outputs that hostile text cannot break."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keywords import keyword_matrix
from markdown_it import MarkdownIt

from saelens_data.concepts import find_concepts
from saelens_data.diff.gate import check_rule, gate, read_watchlist, to_junit, to_markdown
from saelens_data.diff.two import DiffResult, diff
from saelens_data.encode import encode
from saelens_data.errors import InputError

WORDS = {2: "sorry", 3: "cannot", 5: "cat", 7: "dog", 8: "rare", 9: "sun"}
LABELS = ["apologies", "refusing politely", "cats and kittens", None, "rare things", "weather, sun"]


def texts(seed: int, **share: int) -> list[str]:
    """100 documents; each word is in as many of them as told, whatever other words are there."""
    rng = np.random.default_rng(seed)
    has = {word: rng.permutation(100) < n for word, n in share.items()}
    return [" ".join(word for word in share if has[word][i]) or "nothing" for i in range(100)]


@pytest.fixture(scope="module")
def plain() -> DiffResult:
    """More 'sorry', 'cannot' and 'dog' in new, more 'cat' in old, 'sun' as often, 'rare' too rare to be tested."""
    a = keyword_matrix(texts(0, sorry=80, cannot=60, cat=10, dog=24, rare=1, sun=50), WORDS, LABELS)
    b = keyword_matrix(texts(1, sorry=20, cannot=25, cat=45, dog=6, sun=51), WORDS, LABELS)
    return diff(a, b, names=("new", "old"), group=False)


@pytest.fixture
def result(plain) -> DiffResult:
    """With the columns of a full comparison: 'cannot' is a member of the finding 'sorry'."""
    members = pl.Series(
        [[2, 3] if latent == 2 else [latent] for latent in plain.frame["latent"]], dtype=pl.List(pl.Int32)
    )
    frame = plain.frame.with_columns(
        members=members,
        explained_by=pl.when(pl.col("latent") == 7).then(pl.lit("length")),
        confirmed=pl.when(pl.col("finding")).then(pl.col("latent") != 7),
    )
    return replace(plain, frame=frame.filter(pl.col("latent") != 3), notes=("A note.",))


def latents(frame: pl.DataFrame) -> list[int]:
    return sorted(frame["latent"].to_list())


# --- the rule


@pytest.mark.parametrize(
    ("rule", "fails"),
    [
        ("difference > 0.1 and q_value < 0.01", [2, 3, 7]),
        ("difference > 0.3", [2, 3]),
        ("abs(difference) > 0.3", [2, 3, 5]),
        ("difference < -0.3", [5]),
        ("difference > 0.9", []),
        ("favours = 'old'", [5]),
        ("abs(difference) >= 0", [2, 3, 5, 7]),  # 'sun' differs by a point: no finding, so it never fails
        ("true", [2, 3, 5, 7]),
    ],
)
def test_the_findings_that_match_fail(plain, rule, fails):
    gated = gate(plain, rule)
    assert latents(gated.failed) == fails
    assert gated.ok == (not fails)
    assert gated.n_judged == 4
    assert gated.failed.equals(plain.findings.filter(pl.col("latent").is_in(fails)))
    assert gated.watched.is_empty()


def test_rules_read_every_column(result):
    assert latents(gate(result, "explained_by IS NULL AND confirmed").failed) == [2, 5]
    assert latents(gate(result, "explained_by = 'length' OR explained_by IS NULL").failed) == [2, 5, 7]
    assert latents(gate(result, "label LIKE '%cats%' AND label IS NOT NULL").failed) == [5]


def test_a_rule_that_cannot_say_is_an_error_and_no_pass(result):
    with pytest.raises(InputError, match="neither yes nor no of 2 findings, where a column it reads is null"):
        gate(result, "abs(difference) > 0.1 and explained_by != 'length'")
    frame = result.frame.with_columns(adjusted_difference=pl.lit(None, pl.Float64))
    with pytest.raises(InputError, match="neither yes nor no of 3 findings"):
        gate(replace(result, frame=frame), "adjusted_difference > 0.1")
    assert len(gate(replace(result, frame=frame), "COALESCE(adjusted_difference, difference) > 0.1").failed) == 2


@pytest.mark.parametrize("empty", [False, True])
def test_rules_that_are_no_rules(result, empty):
    result = replace(result, frame=result.frame.head(0)) if empty else result
    with pytest.raises(
        InputError, match=r"cannot evaluate differnce > 0.1: there is no column 'differnce'; did you mean 'difference'"
    ):
        gate(result, "differnce > 0.1")
    with pytest.raises(InputError, match="gives Float64, not true or false"):
        gate(result, "difference")
    assert empty == gate(result, "true").ok


def test_a_rule_is_refused_before_there_is_a_result():
    check_rule("abs(difference) > 0.1")
    with pytest.raises(InputError, match=r'the rule "difference >" is no SQL expression'):
        check_rule("difference >")


# --- the watchlist


def test_a_watchlist_restricts_what_can_fail(result):
    gated = gate(result, "abs(difference) > 0.1", ["cats"])
    assert latents(gated.failed) == [5]
    assert gated.n_judged == 1
    assert gated.summary() == "Failed: 1 of 1 finding on 1 watched concept matches abs(difference) > 0.1."
    gated = gate(result, "difference > 0.1", ["cats", "9"])
    assert gated.ok
    assert gated.summary() == "Passed: 0 of 1 finding on 2 watched concepts match difference > 0.1."


def test_a_member_of_a_finding_is_watched_through_it(result):
    gated = gate(result, "difference > 0.1", ["REFUS"])
    assert latents(gated.failed) == [2]
    assert gated.watched.rows() == [("REFUS", 3, "refusing politely", 1, "fails")]


def test_each_watched_concept_has_its_verdict(result):
    gated = gate(result, "difference > 0.3", ["apolog", "7", "sun", "rare", "s"])
    verdicts = dict(gated.watched.select("latent", "verdict").unique().rows())
    assert verdicts == {2: "fails", 3: "fails", 5: "finding", 7: "finding", 8: "not tested", 9: "no finding"}
    assert gated.watched.filter(pl.col("term") == "s")["latent"].to_list() == [2, 3, 5, 8, 9]  # 7 has no label
    assert gated.watched.filter(pl.col("latent") == 8)["rank"].to_list() == [None, None]


def test_terms_are_words_in_any_order_of_label_or_explanation(plain):
    concepts = plain.a.concepts.with_columns(
        explanation=pl.when(pl.col("latent") == 7).then(pl.lit("Animals that Bark (a dog)"))
    )
    result = replace(plain, a=replace(plain.a, concepts=concepts))

    def covered(*terms: str) -> list[int]:
        return gate(result, "true", terms).watched["latent"].to_list()

    assert covered("bark ANIMAL") == [7]
    assert covered("(a dog)") == [7]
    assert covered("sun weather") == [9]
    assert covered("009") == [9]
    with pytest.raises(InputError, match="covers nothing by 'bark kitten'"):
        covered("bark kitten")


def test_a_term_that_covers_nothing_is_an_error(result):
    with pytest.raises(
        InputError,
        match="covers nothing by 'refusal': a part of a word will do; the nearest labels are 'refusing politely'",
    ):
        gate(result, "true", ["cats", "refusal"])
    with pytest.raises(InputError, match="covers nothing by 'quantum': no label has words like it"):
        gate(result, "true", ["quantum"])
    for number in ("4", "9" * 30):
        with pytest.raises(InputError, match=f"covers nothing by '{number}': latents go from 2 to 9"):
            gate(result, "true", [number])
    bare = replace(result, a=replace(result.a, concepts=result.a.concepts.with_columns(label=pl.lit(None, pl.String))))
    with pytest.raises(InputError, match="no concept has a label"):
        gate(bare, "true", ["cat"])


def test_a_watchlist_file(tmp_path, result):
    path = tmp_path / "watch.txt"
    path.write_text("\ufeff# what must not start\n\nrefus\n  sun   weather \r\n7\nrefus\n", encoding="utf-8")
    assert read_watchlist(["cats", f"@{path}"]) == ("cats", "refus", "sun weather", "7")
    assert gate(result, "true", [f"@{path}"]).watch == ("refus", "sun weather", "7")
    path.write_text("# nothing\n", encoding="utf-8")
    with pytest.raises(InputError, match="names no concept"):
        read_watchlist([f"@{path}"])
    path.write_bytes(b"caf\xe9\n")
    with pytest.raises(InputError, match="it is not UTF-8 text"):
        read_watchlist([f"@{path}"])
    with pytest.raises(InputError, match=r"cannot read the watchlist '.*none': No such file"):
        read_watchlist([f"@{tmp_path / 'none'}"])


@pytest.mark.parametrize("term", ["", "  ", "*", "@", "—"])
def test_terms_without_a_word_are_refused(term):
    with pytest.raises(InputError, match="cannot"):
        read_watchlist([term])


# --- JUnit


def suite(text: str) -> ET.Element:
    root = ET.fromstring(text)
    assert root.tag == "testsuites"
    (found,) = root
    return found


def test_junit_of_a_rule(result):
    found = suite(to_junit(gate(result, "difference > 0.1"), result))
    assert found.attrib == {"name": "saelens-data diff", "tests": "1", "failures": "1", "skipped": "0", "errors": "0"}
    case = found.find("testcase")
    assert case.attrib == {"classname": "saelens-data diff", "name": "difference > 0.1"}
    failure = case.find("failure")
    assert failure.attrib == {"message": "2 findings matching difference > 0.1", "type": "finding"}
    first, second = failure.text.split("\n")
    assert re.fullmatch(
        r"apologies \(latent 2\): 80% in new, 20% in old, difference \+60 \[\d\d, \d\d\] points, q = .* × 10⁻¹.", first
    )
    assert second.startswith("unlabelled (latent 7): 24% in new, 6.0% in old, difference +18 [")
    assert found.findtext("system-out") == f"{result.summary()}\nA note."


def test_junit_of_a_watchlist_has_a_test_for_each_term(result):
    found = suite(to_junit(gate(result, "difference > 0.1", ["refus", "cats", "rare"]), result))
    assert found.attrib == {"name": "saelens-data diff", "tests": "3", "failures": "1", "skipped": "1", "errors": "0"}
    refus, cats, rare = found.findall("testcase")
    assert refus.get("name") == "refus: difference > 0.1"
    assert refus.find("failure").text.startswith("apologies (latent 2)")
    assert len(cats) == 0
    assert rare.find("skipped").get("message") == "too rare for any outcome to be a finding: 1 concept"


def test_junit_of_a_pass(result):
    found = suite(to_junit(gate(result, "difference > 0.9"), result))
    assert (found.get("tests"), found.get("failures")) == ("1", "0")
    assert len(found.find("testcase")) == 0


# --- Markdown


def test_markdown_by_value(result):
    page = to_markdown(result, gate(result, "difference > 0.1 AND explained_by IS NOT NULL", ["7", "sun"]))
    head, table, notes = page.split("\n\n| ")[0], page.split("\n\n")[-2], page.split("\n\n")[-1]
    assert head.startswith(f"## new against old\n\n> {result.summary()}\n\n**Failed:** 1 of 1 ")
    assert head.endswith("- watched: 7: 1 concept (1 fails)\n- watched: sun: 1 concept (1 no finding)")
    lines = table.split("\n")
    assert lines[:2] == ["| concept | in new | in old | difference [95%] | q | note |", "|---|---:|---:|---:|---:|---|"]
    assert lines[2].startswith("| unlabelled (7) | 24% | 6.0% | +18 [")  # what fails comes first
    assert lines[2].endswith("| fails; explained by length; not confirmed |")
    assert lines[3].startswith("| apologies (2) | 80% | 20% | +60 ")
    assert lines[3].endswith("| with 1 related concept; confirmed |")
    assert len(lines) == 5
    assert notes == "- A note.\n"


def test_markdown_without_gate_or_findings(result):
    page = to_markdown(result, rows=1)
    assert "Passed" not in page
    assert page.count("\n| ") == 2
    assert "2 more findings not shown." in page
    none = replace(result, frame=result.frame.with_columns(finding=pl.lit(value=False)), notes=())
    assert to_markdown(none) == f"## new against old\n\n> {none.summary()}\n"


HOSTILE = (
    "a | b\n\n# x `c` 1 < 2 & 3 > 2 a_b_c a__b__c <script>alert(1)</script> @someone [y](https://evil.example) ![z](http://e.example/p.png) "
    "www.evil.example #12 *b* _u_ ~~s~~ $m$ &lt; &#64;x &amp <!-- --> <a@b.c> \\| \x00\x07\ufffe\u202e ]]> \ud800 end"
)


def hostile(result: DiffResult, text: str) -> DiffResult:
    """The text wherever it may come from outside: names, labels, notes, reasons."""
    legal = text.encode("utf-8", "replace").decode()  # what a table can hold
    frame = result.frame.with_columns(label=pl.lit(legal), explained_by=pl.lit(legal))
    return replace(result, frame=frame, names=(legal, "old"), notes=(text,))


def test_hostile_text_stays_text_in_xml(result):
    bad = hostile(result, HOSTILE)
    found = suite(to_junit(gate(bad, "difference > 0.1 AND label != '<x> & \x01'"), bad))
    first = found.find("testcase/failure").text.split("\n")[0]
    assert "<script>alert(1)</script> @someone" in first
    assert found.find("testcase").get("name") == "difference > 0.1 AND label != '<x> & '"
    assert found.findtext("system-out").endswith("]]> end")


def shown(page: str) -> list[tuple[str, str]]:
    """(element it stands in, text) for each line that a reader of the page sees; fails for any markup but its own."""
    parsed = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(page)
    lines, element = [], ""
    for token in parsed:
        assert token.type not in {"html_block", "code_block", "fence", "hr"}
        if token.type == "inline":
            kinds = {part.type for part in token.children} - {"text", "text_special", "softbreak"}
            assert kinds <= ({"strong_open", "strong_close"} if "**Failed:**" in token.content else set())
            lines.append((element, "".join(part.content for part in token.children)))
        elif token.type.endswith("_open") and token.type != "paragraph_open":
            element = token.tag
    return lines


@pytest.mark.parametrize(
    "start", ["", "# ", "1. ", "12) ", "- ", "+ ", "> ", "=== ", "--- ", "/close ", "| ", "    ", "[x]: "]
)
def test_hostile_text_stays_text_in_markdown(result, start):
    bad = hostile(result, start + HOSTILE)
    page = to_markdown(bad, gate(bad, "difference > 0.1"))
    lines = shown(page)
    texts = [text.replace("\u200b", "") for _, text in lines]
    expected = " ".join("".join(c if c.isprintable() else " " for c in start + HOSTILE).split())
    assert [element for element, _ in lines] == ["h2", "blockquote", "blockquote", *["th"] * 6, *["td"] * 18, "li"]
    assert texts[-1] == expected
    assert texts[0].endswith("end against old")
    assert texts[9].startswith(expected[:80])
    assert not re.search(r"@\w|#\d|://|www\.", "".join(text for _, text in lines))


@settings(max_examples=60, deadline=None)
@given(text=st.text(st.characters(), min_size=1, max_size=40).filter(lambda t: t != "old"))
def test_any_text_gives_whole_xml_and_one_table_row_a_finding(plain, text):
    bad = hostile(plain, text)
    gated = gate(bad, "abs(difference) > 0.1")
    assert len(suite(to_junit(gated, bad)).find("testcase/failure").text.split("\n")) == 4
    page = to_markdown(bad, gated)
    rows = [line for line in page.split("\n") if line.startswith("| ")]
    assert [row.count("|") for row in rows] == [7] * 5
    shown(page)
    page.encode()


def test_long_labels_are_cut(result):
    long = replace(result, frame=result.frame.with_columns(label=pl.lit("word " * 100)))
    assert max(map(len, to_markdown(long).split("\n"))) < 300


def test_a_phrase_watches_the_concepts_that_fit_it():
    tea = ["I would like a cup of tea, please."] * 12
    a, b = (
        encode(pl.DataFrame({"id": range(12), "text": texts})) for texts in (tea, ["The train leaves at noon."] * 12)
    )
    result = diff(a, b)
    gated = gate(result, "difference > 0.5", ['"a drink of tea"'])
    fitting = find_concepts(a, "a drink of tea", n=20).frame.filter("fits")["latent"]
    assert sorted(gated.watched["latent"]) == sorted(fitting)
    assert not gated.ok
    assert set(gated.failed["latent"]) <= {latent for row in result.frame["members"].to_list() for latent in row}
    with pytest.raises(
        InputError, match="the watchlist covers nothing by '\"zxqv blorf\"': no concept of this encoder"
    ):
        gate(result, "difference > 0.5", ['"zxqv blorf"'])
