"""The report says what the result says, shows the words behind it, and trusts no text."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from keywords import keyword_matrix

from saelens_data.diff import DiffResult, diff
from saelens_data.errors import InputError
from saelens_data.matrix import ConceptMatrix
from saelens_data.page import visible
from saelens_data.report import diff_html, write_diff_report
from saelens_data.wording import count, difference_in_points, difference_in_words, p_in_words, share, short_names

VOID = {"meta", "link", "input", "rect", "line", "circle"}
PROMPTS = [f"What of number {i}?" for i in range(20)]
WORDS = {5: "tea", 9: "coffee", 12: "milk"}


def answers(words: list[str], filler: str = "Some more words stand here.") -> list[str]:
    return [f"{filler} Here is number {i}: {word} comes last." for i, word in enumerate(words)]


def set_of(words: list[str], **columns: list[object]) -> ConceptMatrix:
    return keyword_matrix(answers(words), WORDS, ["hot tea", None, "milk"], prompt=PROMPTS[: len(words)], **columns)


A = set_of(["tea"] * 15 + ["milk"] * 5)
B = set_of(["coffee"] * 12 + ["milk"] * 6 + ["tea"] * 2)


class Page(HTMLParser):
    """Elements of a page, checked to be balanced: (tag, attributes, the text inside)."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None], list[str]]] = []
        self._open: list[int] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs), []))
        if tag not in VOID:
            self._open.append(len(self.elements) - 1)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs), []))

    def handle_endtag(self, tag: str) -> None:
        assert self.elements[self._open.pop()][0] == tag

    def handle_data(self, data: str) -> None:
        for index in self._open:
            self.elements[index][2].append(data)

    def texts(self, tag: str, class_: str | None = None) -> list[str]:
        return [
            " ".join("".join(text).split())
            for name, attributes, text in self.elements
            if name == tag and (class_ is None or class_ in (attributes.get("class") or "").split())
        ]


@pytest.fixture(scope="module")
def paired() -> DiffResult:
    return diff(A, B, pair_on="prompt", names=("old", "new"))


def test_the_summary_is_in_plain_words(paired: DiffResult) -> None:
    lead = Page(diff_html(paired)).texts("div", "lead")[0]
    assert lead.startswith("20 documents of old were each compared with the document of new that has the same prompt.")
    assert "each of 3 concepts occurs; the 2 in which a difference could be told from chance were tested." in lead
    assert "2 concepts differ by more than chance explains: 1 is more frequent in old, 1 in new." in lead
    assert "(q < 0.05), at most 5% are expected to be false." in lead
    assert "density is the share of a set's documents in which it occurs at least once" in lead


def test_findings_hold_the_numbers_of_the_result(paired: DiffResult) -> None:
    page = Page(diff_html(paired))
    assert page.texts("span", "label") == ["hot tea", "unlabelled concept"]
    assert page.texts("span", "latent") == ["latent 5", "latent 9"]
    assert page.texts("span", "value") == ["75%", "10%", "0%", "60%"]
    first, second = page.texts("dl", "facts")
    row = paired.frame.row(0, named=True)
    interval = f"{100 * row['ci_low']:.0f} to {100 * row['ci_high']:.0f}"
    assert first == (
        f"density in old 75% (15 of 20) density in new 10% (2 of 20) difference 65 points more in old, 95% interval "
        f"{interval} pairs only old in 15, only new in 2, both in 0, neither in 3 p {p_in_words(row['p_value'])} "
        f"q {p_in_words(row['q_value'])} latent 5"
    )
    assert "60 points more in new, 95% interval" in second
    assert page.texts("span", "words")[0] == f"65 points more in old ({interval})"


def test_pairs_stand_side_by_side_with_what_was_asked(paired: DiffResult) -> None:
    page = Page(diff_html(paired, examples=1))
    assert page.texts("h3")[:2] == [
        "Only in old: 15 of 20 pairs; the strongest",
        "Only in new: 2 of 20 pairs; the strongest",
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


def test_independent_sets_show_examples_of_each() -> None:
    result = diff(A, B, names=("old", "new"))
    page = Page(diff_html(result, examples=2))
    assert page.texts("h3")[:2] == ["In old: 15 of 20 documents; the 2 strongest", "In new: 2 of 20 documents"]
    assert page.texts("h3")[2:4] == ["In old: none of 20 documents", "In new: 12 of 20 documents; the 2 strongest"]
    assert [text.split()[1] for text in page.texts("figure", "document")] == ["d0", "d1", "d18", "d19", "d0", "d1"]
    assert page.texts("div", "lead")[0].startswith("20 documents of old were compared with 20 documents of new.")
    assert "pairs" not in page.texts("dl", "facts")[0]


def test_the_pair_is_named_by_its_value_where_no_prompt_is_known() -> None:
    sets = (replace(m, docs=m.docs.drop("prompt").with_columns(key=pl.col("doc_id"))) for m in (A, B))
    page = Page(diff_html(diff(*sets, pair_on="key"), examples=1))
    assert page.texts("p", "prompt")[0] == "Asked key: d0"


def test_no_finding_is_said_and_the_nearest_are_marked() -> None:
    words = {i: f"word{i:02d}" for i in range(14)}
    rng = np.random.default_rng(0)
    texts = answers([" ".join(w for w in words.values() if rng.random() < 0.5) for _ in range(40)])
    m = keyword_matrix(texts, words)
    result = diff(m.take_docs(range(20)), m.take_docs(range(20, 40)))
    assert result.findings.height == 0
    assert result.n_tested > 10
    page = Page(diff_html(result))
    said = page.texts("div", "lead")[0]
    assert f"No finding. None of the {result.n_tested} concepts tested differs by more than chance explains" in said
    assert page.texts("h2")[0] == "The nearest to a finding none of these 10 is one"
    assert page.texts("span", "latent") == [f"latent {n} · not a finding" for n in result.frame["latent"].head(10)]


def test_nothing_to_test() -> None:
    m = keyword_matrix(["One of none.", "Two of none."], WORDS)
    page = Page(diff_html(diff(m.take_docs([0]), m.take_docs([1]))))
    assert "No finding. No concept occurs in enough documents" in page.texts("div", "lead")[0]
    assert page.texts("article") == []


def test_notes_and_parameters_are_shown(paired: DiffResult) -> None:
    page = Page(diff_html(replace(paired, notes=("First caveat.", "Second <b>caveat</b>."))))
    assert page.texts("li") == ["First caveat.", "Second <b>caveat</b>."]
    rows = dict(zip(page.texts("th"), page.texts("td"), strict=True))
    assert rows["encoder"] == "words"
    assert rows["test"] == "McNemar exact, two-sided"
    assert rows["concepts tested (what q is corrected for)"] == "2"
    assert rows["concepts not tested"] == "1"
    assert rows["limits"] == "max tokens 9"
    assert rows["versions"] == "numpy 2"
    assert rows["documents"] == "20, 20"


def test_sources_that_differ_in_rounding_are_both_named(paired: DiffResult) -> None:
    b = replace(paired.b, source=replace(paired.b.source, dtype="bfloat16"))
    page = Page(diff_html(replace(paired, b=b)))
    assert dict(zip(page.texts("th"), page.texts("td"), strict=True))["arithmetic"] == "float32 / bfloat16"


def test_only_the_largest_findings_are_shown(paired: DiffResult) -> None:
    page = Page(diff_html(paired, findings=1))
    assert page.texts("span", "label") == ["hot tea"]
    assert page.texts("h2")[1] == "Findings the 1 largest of 2"


def test_without_evidence_the_findings_remain(paired: DiffResult) -> None:
    bare = replace(paired, a=replace(paired.a, evidence=None))
    assert Page(diff_html(bare)).texts("span", "value") == ["75%", "10%", "0%", "60%"]
    assert Page(diff_html(bare)).texts("figure") == []
    assert Page(diff_html(paired, examples=0)).texts("figure") == []


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
    html = write_diff_report(replace(result, notes=(HOSTILE[6],)), tmp_path / "r.html", examples=24).read_bytes()
    assert not set(range(32)) - {10} & set(html)
    page = Page(html.decode())
    assert [tag for tag, _, _ in page.elements].count("script") == 1
    assert {tag for tag, _, _ in page.elements} == {tag for tag, _, _ in Page(diff_html(diff(A, B))).elements} | {
        "li",
        "ul",
    }
    allowed = r"class|id|for|href|rel|content|name|charset|http-equiv|lang|dir|role|type|hidden|value|placeholder"
    allowed += r"|autocomplete|spellcheck|focusable|data-side|aria-[a-z]+|x1|x2|y1|y2|cx|cy|r|rx|width|height|scope"
    for _, attributes, _ in page.elements:
        assert all(re.fullmatch(allowed, name) for name in attributes), attributes
    shown = " ".join(page.texts("blockquote"))
    for text in HOSTILE[:4]:
        assert text in shown
    assert "⟨U+202E⟩gnihton⟨U+202C⟩ tea ⟨U+2066⟩here⟨U+2069⟩ tea" in shown
    assert "tea ⟨U+0000⟩⟨U+0007⟩⟨U+001B⟩[31m tea ⟨U+007F⟩" in shown
    assert page.texts("li") == [HOSTILE[6]]
    assert page.texts("title") == [f"{HOSTILE[0]} and {HOSTILE[1]}: what differs"]


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
    assert [link[:19] for link in links] == ["data:image/svg+xml,"]
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
    result = diff(behind(a, "some text " * 100_000), behind(b, "and other " * 100_000), pair_on="doc_id")
    assert result.findings.height == 50
    html = write_diff_report(result, tmp_path / "r.html").read_bytes()
    assert len(html) < 700_000
    page = Page(html.decode())
    assert len(page.texts("mark")) == 50 * 4
    assert set(page.texts("mark")) == {f"The {word} <here>." for word in words.values()}
    assert max(map(len, page.texts("blockquote"))) < 530


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
    names = ("old", "new")
    row = {"difference": -0.26, "ci_low": -0.334, "ci_high": -0.189, "favours": "new"}
    assert difference_in_words(row, names) == ("26 points more", "19 to 33")
    assert difference_in_points(row) == "-26 [-33, -19]"
    row = {"difference": 0.035, "ci_low": -0.01, "ci_high": 0.08, "favours": "old"}
    assert difference_in_words(row, names) == ("3.5 points more", "−1.0 to 8.0")
    assert difference_in_points(row) == "+3.5 [-1.0, 8.0]"
    row = {"difference": 0.0, "ci_low": -0.1, "ci_high": 0.1, "favours": None}
    assert difference_in_words(row, names) == ("no difference", "−10 to 10")
    row = {"difference": 0.4, "ci_low": -0.001, "ci_high": 0.8, "favours": "old"}
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
