"""The report says what the result says, shows the words behind it, and trusts no text."""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from keywords import keyword_matrix
from pages import GROUPED, PROMPTS, WORDS, Page, answers, of_groups, stronger, with_

from saelens_data import stats
from saelens_data.diff.two import DiffResult, diff
from saelens_data.display.markup import visible
from saelens_data.errors import InputError
from saelens_data.matrix import ConceptMatrix
from saelens_data.report.findings import shown_findings
from saelens_data.report.two import diff_html, write_diff_report
from saelens_data.wording import count, difference_in_points, p_in_words, points, share, short_names


def set_of(words: list[str], **columns: list[object]) -> ConceptMatrix:
    return keyword_matrix(answers(words), WORDS, ["hot tea", None, "milk"], prompt=PROMPTS[: len(words)], **columns)


A = set_of(["tea"] * 15 + ["milk"] * 5)
B = set_of(["coffee"] * 10 + ["milk"] * 8 + ["tea"] * 2)


@pytest.fixture(scope="module")
def grouped() -> DiffResult:
    return of_groups()


@pytest.fixture(scope="module")
def paired() -> DiffResult:
    return diff(A, B, pair_on="prompt", names=("old", "new"))


def test_the_summary_is_in_plain_words(paired: DiffResult) -> None:
    lead = Page(diff_html(paired)).texts("div", "lead")[0]
    assert lead.startswith("20 documents of old were each compared with the document of new that has the same prompt.")
    assert "each of 3 concepts occurs, and how strongly; the 3 in which a difference could be told from chance" in lead
    assert "2 findings: 1 more in old, 1 more in new, by more than chance explains." in lead
    assert "(q < 0.05), at most 5% are expected to be false." in lead
    assert "density is the share of a set's documents in which it occurs at least once" in lead


def test_groups_holdout_and_clusters_are_in_the_summary(grouped: DiffResult) -> None:
    lead = Page(diff_html(grouped)).texts("div", "lead")[0]
    assert (
        "the 3 in which a difference could be told from chance were tested, near-duplicates together, which makes 2 tests."
        in lead
    )
    held = replace(grouped, parameters={**grouped.parameters, "held_out": [7, 8]})
    assert "Further documents, 7 and 8, were held out to confirm" in Page(diff_html(held)).texts("div", "lead")[0]
    clustered = replace(grouped, pair_on=None, cluster_on="prompt")
    assert "those with the same prompt may depend on each other" in Page(diff_html(clustered)).texts("div", "lead")[0]
    assert "which takes the documents as independent" in Page(diff_html(clustered)).texts("p", "key")[0]


def test_findings_hold_the_numbers_of_the_result(paired: DiffResult) -> None:
    page = Page(diff_html(paired))
    assert page.texts("span", "label") == ["hot tea", "unlabelled concept"]
    assert page.texts("span", "latent") == ["latent 5", "latent 9"]
    assert page.texts("span", "value") == ["75%", "10%", "0%", "50%"]
    row = paired.frame.row(0, named=True)
    interval = f"{100 * row['ci_low']:.0f} to {100 * row['ci_high']:.0f}"
    left = f"{100 * row['adjusted_difference']:.0f}"
    left_interval = f"{100 * row['adjusted_low']:.0f} to {100 * row['adjusted_high']:.0f}"
    low, high = stats.wilson(np.array([15, 2]), 20)
    assert page.texts("table", "measures")[0] == (
        "Densities and differences of this finding, with their 95% intervals "
        f"density in old 75% ({100 * low[0]:.0f}% to {100 * high[0]:.0f}%; 15 of 20) "
        f"density in new 10% ({100 * low[1]:.1f}% to {100 * high[1]:.0f}%; 2 of 20) "
        f"difference 65 points more in old ({interval}) at equal length {left} points more in old ({left_interval})"
    )
    assert page.texts("dl", "facts")[0] == (
        f"pairs only old in 15, only new in 2, both in 0, neither in 3 p {p_in_words(row['p_value'])} "
        f"q {p_in_words(row['q_value'])} p of presence {p_in_words(row['p_presence'])} link to this finding"
    )
    assert page.texts("span", "words")[0] == f"65 points more in old ({interval})"
    assert "50 points more in new" in page.texts("table", "measures")[1]
    assert page.texts("p", "carried") == [
        "Presence carries it: more documents of old have it.",
        "Presence carries it: more documents of new have it.",
    ]


def test_charts_are_drawn_to_scale(paired: DiffResult) -> None:
    row = paired.frame.row(0, named=True)
    shown = shown_findings(paired, findings=50, examples=0)
    assert shown.scales == ("100%", "100%")
    low, high = stats.wilson(np.array([15, 2]), 20)
    first = shown.findings[0]
    assert [bar.width for bar in first.bars] == pytest.approx([75, 10])
    assert [(bar.low, bar.high) for bar in first.bars] == [
        pytest.approx((100 * least, 100 * most)) for least, most in zip(low, high, strict=True)
    ]
    raw, adjusted = first.effects
    keys = ("ci_low", "ci_high", "difference")
    assert (raw.low, raw.high, raw.at) == pytest.approx(tuple(50 + 50 * row[key] for key in keys))
    keys = ("adjusted_low", "adjusted_high", "adjusted_difference")
    assert (adjusted.low, adjusted.high, adjusted.at) == pytest.approx(tuple(50 + 50 * row[key] for key in keys))


def test_what_is_left_keeps_the_direction_of_the_raw_difference(paired: DiffResult) -> None:
    gone = with_(paired, adjusted_difference=0.02, adjusted_low=-0.05, adjusted_high=0.09)
    measures = Page(diff_html(gone)).texts("table", "measures")
    assert measures[0].endswith("at equal length 2.0 points more in old (−5.0 to 9.0)")
    assert measures[1].endswith("at equal length −2.0 points more in new (−9.0 to 5.0)")
    unknown = with_(paired, adjusted_difference=None, adjusted_low=None, adjusted_high=None)
    assert "at equal length" not in diff_html(unknown)


def test_strength_is_told_from_presence_and_shown_by_both_activations() -> None:
    result = stronger("tea tea tea", "tea", "prompt")
    row = result.frame.row(0, named=True)
    page = Page(diff_html(result, examples=1))
    assert page.texts("p", "carried") == ["Strength carries it: where both sets have it, it is stronger in old."]
    low, high = (f"{100 * row[key]:.0f}%" for key in ("auc_low", "auc_high"))
    assert (
        f"strength old’s is the stronger in 90% of pairs where both have it ({low} to {share(row['auc_high'])})"
        in page.texts("table", "measures")[0]
    ), high
    assert page.texts("span", "latent") == ["latent 5 · stronger in 90% of pairs"]
    assert page.texts("span", "flag")[0] == "strength only"
    assert "no difference" in page.texts("span", "words")[0]
    assert page.texts("h3")[1:] == [
        "evidence Stronger in old: 18 of 20 pairs where both have it; the farthest apart",
        "counter-examples Stronger in new: 2 of 20 pairs where both have it; the farthest apart",
        "evidence Only in old: none of 20 pairs",
        "counter-examples Only in new: none of 20 pairs",
    ]
    assert page.texts("figcaption")[:4] == [
        "old d0 activation 3.00", "new d0 activation 1.00", "old d18 activation 1.00", "new d18 activation 3.00",
    ]  # fmt: skip
    assert f"p of strength {p_in_words(row['p_strength'])}" in page.texts("dl", "facts")[0]


def test_strength_in_the_second_set_and_independent_sets() -> None:
    result = stronger("tea", "tea tea tea")
    page = Page(diff_html(result, examples=2))
    assert result.frame["auc"][0] < 0.5
    assert (
        f"new’s is the stronger in {share(1 - result.frame['auc'][0])} of comparisons of two documents"
        in page.texts("table", "measures")[0]
    )
    assert page.texts("span", "latent") == [
        f"latent 5 · stronger in {share(1 - result.frame['auc'][0])} of comparisons"
    ]
    assert page.texts("h3")[1:] == [
        "counter-examples In old: 20 of 20 documents; the strongest",
        "evidence Typical of old: the middle of 20 documents by activation",
        "evidence Not in old: none of 20 documents",
        "evidence In new: 20 of 20 documents; the 2 strongest",
        "evidence Typical of new: the middle of 20 documents by activation",
        "counter-examples Not in new: none of 20 documents",
    ]
    assert [caption.split()[-1] for caption in page.texts("figcaption")] == ["3.00", "1.00", "3.00", "3.00", "3.00"]


def test_pairs_stand_side_by_side_with_what_was_asked(paired: DiffResult) -> None:
    page = Page(diff_html(paired, examples=1))
    assert page.texts("h3")[1:3] == [
        "evidence Only in old: 15 of 20 pairs; the strongest",
        "counter-examples Only in new: 2 of 20 pairs; the strongest",
    ]
    assert page.texts("p", "prompt")[:2] == ["Asked What of number 0?", "Asked What of number 18?"]
    documents = page.texts("figure", "document")
    assert documents[:4] == [
        "old d0 activation 1.00 Some more words stand here. Here is number 0: tea comes last.",
        "new d0 not active Some more words stand here. Here is number 0: coffee comes last.",
        "old d18 not active Some more words stand here. Here is number 18: milk comes last.",
        "new d18 activation 1.00 Some more words stand here. Here is number 18: tea comes last.",
    ]
    assert page.texts("mark")[:2] == ["Here is number 0: tea comes last.", "Here is number 18: tea comes last."]


def test_independent_sets_show_examples_and_counter_examples_of_each() -> None:
    result = diff(A, B, names=("old", "new"))
    page = Page(diff_html(result, examples=2))
    assert page.texts("h3")[1:5] == [
        "evidence In old: 15 of 20 documents; the 2 strongest",
        "counter-examples Not in old: 5 of 20 documents; one of them",
        "counter-examples In new: 2 of 20 documents; the strongest",
        "evidence Not in new: 18 of 20 documents; one of them",
    ]
    assert [text.split()[:2] for text in page.texts("figure", "document")[:5]] == [
        ["old", "d0"], ["old", "d1"], ["old", "d17"], ["new", "d18"], ["new", "d9"],
    ]  # fmt: skip
    assert page.texts("div", "lead")[0].startswith("20 documents of old were compared with 20 documents of new.")
    assert "pairs" not in page.texts("dl", "facts")[0]


def test_the_pair_is_named_by_its_value_where_no_prompt_is_known() -> None:
    sets = (replace(m, docs=m.docs.drop("prompt").with_columns(key=pl.col("doc_id"))) for m in (A, B))
    page = Page(diff_html(diff(*sets, pair_on="key"), examples=1))
    assert page.texts("p", "prompt")[0] == "Asked key: d0"


# Groups of latents


def test_members_stand_in_a_table_with_their_own_numbers(grouped: DiffResult) -> None:
    row = grouped.frame.row(0, named=True)
    assert row["members"] == [6, 5]
    page = Page(diff_html(grouped))
    assert page.texts("span", "latent") == ["latent 6 and 1 like it", "latent 9"]
    table = page.texts("table", "members")
    own = {m["latent"]: m for m in grouped.latents.iter_rows(named=True)}
    cup, tea = (
        f"{100 * m['difference']:.0f} points more ({100 * m['ci_low']:.0f} to {100 * m['ci_high']:.0f}) {p_in_words(m['p_value'])}"
        for m in (own[6], own[5])
    )
    assert len(table) == 1
    assert table[0].endswith(f"6 cup 75% 0% {cup} 5 tea 75% 10% {tea}")
    assert "with any of its latents 75% of old, 10% of new" in page.texts("dl", "facts")[0]
    assert "with any" not in page.texts("dl", "facts")[1]


def test_many_members_and_long_labels_are_cut() -> None:
    words = {i: f"w{i:02d}" for i in range(15)}
    labels = [f"{word} " + "long " * 100 for word in words.values()]
    sets = (keyword_matrix(answers([say] * 20), words, labels) for say in (" ".join(words.values()), "x"))
    result = diff(*sets)
    assert result.frame["members"].list.len().to_list() == [15]
    page = Page(diff_html(result))
    assert page.texts("caption")[1] == "15 latents read nearly the same words; the 12 with the smallest p"
    assert page.texts("span", "latent")[0].startswith("latent 0 and 14 like it")
    assert len(page.texts("td", "labels")) == 12
    assert {len(label) for label in [*page.texts("td", "labels"), *page.texts("span", "label")]} <= {160, 161}


def test_a_document_with_another_member_says_so(grouped: DiffResult) -> None:
    page = Page(diff_html(grouped))
    captions = page.texts("figcaption")
    assert not any("latent 5" in caption for caption in captions)
    sets = (
        keyword_matrix(answers(words), GROUPED)
        for words in (["tea and a cup"] * 14 + ["milk"], ["milk"] * 7 + ["tea"] + ["milk"] * 7)
    )
    page = Page(diff_html(diff(*sets), examples=2))
    document = next(text for text in page.texts("figure", "document") if "latent 5" in text)
    assert document == (
        "B d7 not active, but latent 5 is: 1.00 Some more words stand here. Here is number 7: tea comes last."
    )
    marks = [(a, text) for tag, a, text in page.elements if tag == "mark" and a.get("class")]
    assert [("".join(text), a["class"]) for a, text in marks] == [("Here is number 7: tea comes last.", "member")]


# The whole page


def test_no_finding_is_said_and_the_nearest_are_marked() -> None:
    words = {i: f"word{i:02d}" for i in range(14)}
    rng = np.random.default_rng(0)
    texts = answers([" ".join(w for w in words.values() if rng.random() < 0.5) for _ in range(40)])
    m = keyword_matrix(texts, words)
    result = diff(m.take_docs(range(20)), m.take_docs(range(20, 40)), group=False)
    assert result.findings.height == 0
    assert result.n_tested > 10
    page = Page(diff_html(result))
    lead = page.texts("div", "lead")[0]
    assert f"No finding. None of the {result.n_tested} tests shows a difference by more than chance explains" in lead
    assert page.texts("h2")[-2] == "The nearest to a finding none of these 10 is one"
    assert all(text.endswith("· not a finding") for text in page.texts("span", "latent"))
    assert [text.split()[1] for text in page.texts("span", "latent")] == [
        str(n) for n in result.frame["latent"].head(10)
    ]
    assert page.texts("p", "carried") == []
    assert page.texts("figure", "ranks") == []


def test_nothing_to_test() -> None:
    m = keyword_matrix(["One of none.", "Two of none."], WORDS)
    page = Page(diff_html(diff(m.take_docs([0]), m.take_docs([1]))))
    assert "No finding. No concept occurs in enough documents" in page.texts("div", "lead")[0]
    assert page.texts("article") == []


def test_notes_and_parameters_are_shown(paired: DiffResult) -> None:
    page = Page(diff_html(replace(paired, notes=("First caveat.", "Second <b>caveat</b>."))))
    assert page.texts("li")[:2] == ["First caveat.", "Second <b>caveat</b>."]
    parameters = page.texts("section", "parameters")[0]
    for line in (
        "encoder words", "test of presence McNemar exact, two-sided", "groups tested (what q is corrected for) 3",
        "concepts not tested 0", "limits max tokens 9", "versions numpy 2", "documents 20, 20", "adjusted for length",
    ):  # fmt: skip
        assert line in parameters


def test_sources_that_differ_in_rounding_are_both_named(paired: DiffResult) -> None:
    b = replace(paired.b, source=replace(paired.b.source, dtype="bfloat16"))
    assert "arithmetic float32 / bfloat16" in Page(diff_html(replace(paired, b=b))).texts("section", "parameters")[0]


def test_only_the_largest_findings_are_shown(paired: DiffResult) -> None:
    page = Page(diff_html(paired, findings=1))
    assert page.texts("span", "label") == ["hot tea"]
    assert page.texts("h2")[1] == "Findings the 1 largest of 2"


def test_without_evidence_the_findings_remain(paired: DiffResult) -> None:
    bare = replace(paired, a=replace(paired.a, evidence=None))
    assert Page(diff_html(bare)).texts("span", "value") == ["75%", "10%", "0%", "50%"]
    assert Page(diff_html(bare)).texts("figure") == []
    assert Page(diff_html(paired, examples=0)).texts("figure") == []


def test_the_overview_marks_each_finding_in_rank_order() -> None:
    words = {i: f"word{i:02d}" for i in range(6)}
    a = keyword_matrix([" ".join(f"The {word} here." for word in words.values())] * 20, words)
    b = keyword_matrix(["Nothing of the kind."] * 20, words)
    result = with_(diff(a, b), undecided=True)
    shown = shown_findings(result, findings=5, examples=0)
    assert [place[0] for _, place in shown.overview.marks] == pytest.approx([10, 30, 50, 70, 90])
    assert [mark.id for mark, _ in shown.overview.marks] == [f"latent-{n}" for n in result.frame["latent"].head(5)]
    assert shown.overview.marks[0][0].title.startswith("1. word00: 100 points more in A (")
    assert [place[3] for _, place in shown.overview.marks] == pytest.approx([6] * 5)
    assert shown.overview.zero == pytest.approx(126)
    low = result.frame["ci_low"][0]
    assert shown.overview.marks[0][1][1] == pytest.approx(6 + 120 * (1 - low))
    assert all(mark.doubtful for mark, _ in shown.overview.marks)
    page = Page(diff_html(result))
    links = [a["href"] for tag, a, _ in page.elements if tag == "a" and a.get("class")]
    assert links == [f"#latent-{n}" for n in result.frame["latent"]]
    assert {a["id"] for tag, a, _ in page.elements if tag == "article"} == {link[1:] for link in links}
    assert shown_findings(result, findings=3, examples=0).overview is None
    assert shown_findings(result, findings=5, examples=0, prefix="x-").findings[0].id == "x-latent-0"


def test_filters_stand_only_where_they_can_choose(paired: DiffResult) -> None:
    def choices(result: DiffResult) -> list[str]:
        return Page(diff_html(result)).texts("option")

    always = ["either set", "old", "new", "difference", "q", "difference at equal length", "label"]
    assert choices(paired) == always
    confirmed = choices(
        with_(paired, confirmed=True, confirm_difference=0.1, confirm_low=0.0, confirm_high=0.2, confirm_q=0.01)
    )
    assert confirmed == [*always[:3], "all", "confirmed", "not confirmed", *always[3:]]
    assert choices(with_(paired, explained_by="length"))[3:5] == ["all", "unexplained"]
    assert choices(with_(paired, undecided=True))[3:5] == ["all", "surely unexplained"]


HOSTILE = [
    "<script>alert('tea')</script>",
    '"></div></details></article><img src=x onerror="alert(1)"> tea',
    "{{ 7 * 7 }} {% raw %} tea",
    "javascript:alert(1) [tea](javascript:alert(1)) tea",
    "\u202egnihton\u202c tea \u2066here\u2069 tea",
    "tea \x00\x07\x1b[31m tea \x7f",
    "</style></script><!-- tea --> ]]> &amp; &lt;tea&gt;",
    "tea" + "\u0301" * 50,
]


def test_hostile_texts_are_only_text(tmp_path: Path) -> None:
    texts = [HOSTILE[i % len(HOSTILE)] for i in range(24)]
    m = keyword_matrix(texts, WORDS, [HOSTILE[1], HOSTILE[0], "x"], prompt=[HOSTILE[(i + 1) % 8] for i in range(24)])
    other = keyword_matrix(["Nothing is here."] * 24, WORDS, [HOSTILE[1], HOSTILE[0], "x"], prompt=texts)
    result = diff(m, other, names=(HOSTILE[0], HOSTILE[1]))
    assert result.frame["members"].list.len().max() == 1
    result = with_(result, explained_by=HOSTILE[3])
    parameters = {**result.parameters, "adjusted_for": [HOSTILE[2]], "pair_on": HOSTILE[1]}
    result = replace(result, notes=(HOSTILE[6],), parameters=parameters)
    html = write_diff_report(result, tmp_path / "r.html", examples=24).read_bytes()
    assert not set(range(32)) - {10} & set(html)
    page = Page(html.decode())
    assert [tag for tag, _, _ in page.elements].count("script") == 1
    harmless = Page(diff_html(with_(diff(A, B), explained_by="length")))
    assert {tag for tag, _, _ in page.elements} == {tag for tag, _, _ in harmless.elements}
    allowed = r"class|id|for|href|rel|content|name|charset|http-equiv|lang|dir|role|type|hidden|value|placeholder"
    allowed += r"|autocomplete|spellcheck|focusable|data-[a-z]+|aria-[a-z]+|tabindex|x1|x2|y1|y2|cx|cy|r|rx|width|height|scope|y"
    for _, attributes, _ in page.elements:
        assert all(re.fullmatch(allowed, name) for name in attributes), attributes
    shown = " ".join(page.texts("blockquote"))
    for text in HOSTILE[:4]:
        assert text in shown
    assert "⟨U+202E⟩gnihton⟨U+202C⟩ tea ⟨U+2066⟩here⟨U+2069⟩ tea" in shown
    assert "tea ⟨U+0000⟩⟨U+0007⟩⟨U+001B⟩[31m tea ⟨U+007F⟩" in shown
    assert page.texts("li")[0] == HOSTILE[6]
    assert any(
        text.startswith(f"Explained by {HOSTILE[3]}: documents of equal {HOSTILE[2]}") for text in page.texts("li")
    )
    assert f"at equal {HOSTILE[2]}" in page.texts("table", "measures")[0]
    assert page.texts("title")[0] == f"{HOSTILE[0]} and {HOSTILE[1]}: what differs"


def test_hostile_labels_of_members_and_columns_of_pairs() -> None:
    labels = [HOSTILE[1], HOSTILE[4], HOSTILE[2]]
    column = HOSTILE[0]
    a = keyword_matrix(answers(["tea and a cup"] * 15 + ["milk"] * 5), GROUPED, labels, **{column: PROMPTS})
    b = keyword_matrix(answers(["coffee"] * 14 + ["milk"] * 6), GROUPED, labels, **{column: PROMPTS})
    page = Page(diff_html(diff(a, b, pair_on=column)))
    cells = page.texts("td", "labels")
    assert HOSTILE[1] in cells
    assert "⟨U+202E⟩gnihton⟨U+202C⟩ tea ⟨U+2066⟩here⟨U+2069⟩ tea" in cells
    assert page.texts("p", "prompt")[0] == f"Asked {column}: What of number 0?"
    assert f"that has the same {column}." in page.texts("div", "lead")[0]
    assert [tag for tag, _, _ in page.elements].count("script") == 1
    assert "img" not in {tag for tag, _, _ in page.elements}


def test_the_page_allows_its_own_style_and_script_alone(paired: DiffResult) -> None:
    html = diff_html(paired)
    policy = next(a["content"] for tag, a, _ in Page(html).elements if tag == "meta" and a.get("http-equiv"))
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for tag in ("style", "script"):
        content = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        assert len(content) == 1
        digest = base64.b64encode(hashlib.sha256(content[0].encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    links = [
        value
        for _, attributes, _ in Page(html).elements
        for name, value in attributes.items()
        if name in ("href", "src")
    ]
    assert links[0].startswith("data:image/svg+xml,")
    assert links[1:] == ["#latent-5", "#latent-9"]
    assert re.findall(r"url\(|@import|fetch\(|https?://(?!www\.w3\.org/2000/svg)", html) == []


def behind(m: ConceptMatrix, text: str) -> ConceptMatrix:
    """The same documents with `text` before each."""
    units = replace(m.evidence.units, start=m.evidence.units.start + len(text), end=m.evidence.units.end + len(text))
    docs = m.docs.with_columns(text=pl.lit(text) + pl.col("text"))
    return replace(m, docs=docs, evidence=replace(m.evidence, units=units))


def test_fifty_findings_over_documents_of_a_million_characters_stay_light(tmp_path: Path) -> None:
    words = {i: f"word{i:02d}" for i in range(50)}
    a = keyword_matrix([" ".join(f"The {word} <here>." for word in words.values())] * 12, words)
    b = keyword_matrix(["Nothing of the kind."] * 12, words)
    a, b = behind(a, "some text " * 100_000), behind(b, "and other " * 100_000)
    result = diff(a, b, pair_on="doc_id", group=False)
    assert result.findings.height == 50
    html = write_diff_report(result, tmp_path / "r.html").read_bytes()
    assert len(html) < 1_000_000
    page = Page(html.decode())
    assert len(page.texts("mark")) == 50 * 4
    assert set(page.texts("mark")) == {f"The {word} <here>." for word in words.values()}
    assert max(map(len, page.texts("blockquote"))) < 530


@pytest.mark.parametrize("text", ["長い文章はここにあります。", "<<<<<&&&&&", "\u202e\x00\x01\x02"])
def test_fifty_findings_of_160_pairs_stay_below_two_megabytes(text: str) -> None:
    words = {i: f"word{i:02d}" for i in range(50)}
    said = " ".join(f"The {word} here." for word in words.values())
    prompts = [f"{i} {text * 60}" for i in range(160)]
    a = keyword_matrix([said] * 160, words, prompt=prompts)
    b = keyword_matrix([said.replace("word", "x")] * 160, words, prompt=prompts)
    result = diff(behind(a, text * 500), behind(b, text * 500), pair_on="prompt", group=False)
    assert result.findings.height == 50
    html = diff_html(result)
    assert 200_000 < len(html.encode()) < 2_000_000
    assert html.count("<mark>") >= 50


def test_the_same_result_gives_the_same_bytes(tmp_path: Path, paired: DiffResult) -> None:
    first = write_diff_report(paired, tmp_path / "a.html").read_bytes()
    again = diff(A, B, pair_on="prompt", names=("old", "new"))
    assert write_diff_report(again, tmp_path / "b.html").read_bytes() == first
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.html", "b.html"]


def test_a_place_that_cannot_be_written(tmp_path: Path, paired: DiffResult) -> None:
    path = tmp_path / "none" / "r.html"
    with pytest.raises(InputError, match=r"cannot write '.*r.html': No such file or directory"):
        write_diff_report(paired, path)
    folder = tmp_path / "folder.html"
    folder.mkdir()
    with pytest.raises(InputError, match="Is a directory"):
        write_diff_report(paired, folder)
    assert [p.name for p in tmp_path.iterdir()] == ["folder.html"]
    with pytest.raises(InputError, match="0 findings and 4 examples asked for"):
        write_diff_report(paired, tmp_path / "r.html", findings=0)


# In a browser


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --enable-logging=stderr --v=0 --dump-dom"
).split()
#: Uses the page as a reader would and writes what is then seen into the title.
DRIVE = """
{
  const seen = () => [...document.querySelectorAll(".finding:not([hidden])")].map((f) => f.id.slice(7)).join(" ");
  const { side, tags, sort } = document.querySelector(".tools").elements;
  const words = document.querySelector(".tools input");
  const set = (control, value) => { control.value = value; control.dispatchEvent(new Event(control === words ? "input" : "change")); };
  const said = [seen()];
  for (const value of ["label", "adjusted", "q", "rank"]) { set(sort, value); said.push(seen()); }
  set(side, "b"); said.push(seen()); set(side, "");
  set(tags, "-explained"); said.push(seen()); set(tags, "");
  set(words, "number 18: MILK"); said.push(seen()); set(words, "");
  set(side, "b"); location.hash = "#latent-5"; dispatchEvent(new HashChangeEvent("hashchange")); said.push(seen());
  document.body.dispatchEvent(new KeyboardEvent("keydown", { key: "/", bubbles: true, cancelable: true }));
  said.push(document.activeElement === words);
  document.querySelector(".tools button").click();
  said.push(document.querySelectorAll("details[open]").length);
  document.title = said.join("|");
}
"""


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium to look with")
def test_the_page_works_in_a_browser_without_a_complaint(tmp_path: Path, paired: DiffResult) -> None:
    frame = paired.frame.head(2).with_columns(
        adjusted_difference=pl.Series([0.1, -0.6]),
        explained_by=pl.Series(["length", None]),
        label=pl.Series(["tea", "coffee"]),
        q_value=pl.Series([0.02, 0.01]),
    )
    html = diff_html(replace(paired, frame=frame))
    script = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)[0]
    old, new = (base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in (script, script + DRIVE))
    page = tmp_path / "r.html"
    page.write_text(html.replace(script, script + DRIVE).replace(old, new), encoding="utf-8")
    run = subprocess.run(
        [str(CHROMIUM), *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", f"{page.as_uri()}#latent-9"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert "CONSOLE" not in run.stderr
    seen = re.findall("<title>(.*?)</title>", run.stdout)[0].split("|")
    assert seen == ["5 9", "9 5", "9 5", "9 5", "5 9", "9", "9", "5", "5 9", "true", "2"]


# Numbers in words


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0%"), (1.0, "100%"), (0.684, "68%"), (0.1, "10%"), (0.9, "90%"), (0.031, "3.1%"), (0.0008, "0.080%"),
     (0.997, "99.70%"), (0.9999, "99.990%"), (1e-7, "0.0000%"), (1 / 3, "33%")],
)  # fmt: skip
def test_share(value: float, text: str) -> None:
    assert share(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.0, "1.00"), (0.21, "0.21"), (0.0341, "0.034"), (0.01, "0.010"), (0.0094, "9.4 × 10⁻³"),
     (2.34e-21, "2.3 × 10⁻²¹"), (0.0, "below 10⁻³⁰⁰")],
)  # fmt: skip
def test_p_in_words(value: float, text: str) -> None:
    assert p_in_words(value) == text


def test_differences() -> None:
    assert points(-0.26, -0.334, -0.189, towards=-0.26) == ("26", "19 to 33")
    assert points(-0.26, -0.334, -0.189) == ("−26", "−33 to −19")
    assert points(0.035, -0.01, 0.08) == ("3.5", "−1.0 to 8.0")
    assert points(0.0, -0.1, 0.1) == ("0", "−10 to 10")
    assert points(-0.02, -0.05, 0.01, towards=1) == ("−2.0", "−5.0 to 1.0")
    row = {"difference": -0.26, "ci_low": -0.334, "ci_high": -0.189}
    assert difference_in_points(row) == "-26 [-33, -19]"
    row = {"difference": 0.035, "ci_low": -0.01, "ci_high": 0.08}
    assert difference_in_points(row) == "+3.5 [-1.0, 8.0]"
    row = {"difference": 0.4, "ci_low": -0.001, "ci_high": 0.8}
    assert difference_in_points(row) == "+40 [0, 80]"


@pytest.mark.parametrize(
    ("names", "short"),
    [
        (("A", "B"), ("A", "B")),
        (("arena_gpt-4-0314", "arena_gpt-4-0613"), ("…0314", "…0613")),
        (("arena_gpt-4-turbo", "arena_gpt-3.5"), ("…4-turbo", "…3.5")),
        (("a rather long name", "nothing alike"), ("a rather long name", "nothing alike")),
        (("checkpoint-1000", "checkpoint-1000-tuned"), ("…1000", "…1000-tuned")),
    ],
)
def test_short_names(names: tuple[str, str], short: tuple[str, str]) -> None:
    assert short_names(names) == short


def test_count() -> None:
    assert [count(n, "pair") for n in (0, 1, 2000)] == ["0 pairs", "1 pair", "2,000 pairs"]


def test_visible_keeps_what_is_not_text_and_line_ends() -> None:
    assert visible("a\r\nb\rc\td") == "a\nb\nc\td"
    assert visible("\ud800x") == "⟨U+D800⟩x"
    assert visible(3) == 3
