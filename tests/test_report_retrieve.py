"""The report of a search says what the result says, in one light page that trusts no text."""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
import subprocess
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from keywords import keyword_matrix
from pages import Page

from saelens_data.errors import InputError
from saelens_data.matrix import ConceptMatrix
from saelens_data.report.retrieve import retrieve_html, write_retrieve_report
from saelens_data.retrieve import RetrieveResult, retrieve
from saelens_data.retrieve.result import EMBEDDING, HIT_SCHEMA, Hit, hit_table

WORDS = {5: "tea", 9: "coffee", 12: "milk"}
TEXTS = [
    "Some words first. Then tea comes. Milk is white, and milk goes in.",
    "Only coffee here.",
    "Nothing at all. " * 100 + "A cup of tea. " + "More words. " * 100,
]
PARTS = [(0, 0.25), (2, -0.125)]


def matrix(texts: list[str] = TEXTS, labels: list[str | None] | None = None) -> ConceptMatrix:
    prompts = [f"What of {i}?" if i != 1 else None for i in range(len(texts))]
    return keyword_matrix(texts, WORDS, labels or ["hot tea", None, "white milk"], prompt=prompts)


def result_of(m: ConceptMatrix, hits: list[Hit], **fields: Any) -> RetrieveResult:
    shown = {"query": '"a hot drink"', "mode": "hybrid", "n_docs": m.n_docs, **fields}
    prompts = dict(m.docs.select("doc_id", "prompt").drop_nulls().iter_rows())
    parameters = {"encoder": "minilm-8k", "mode": shown["mode"], "n": 1_000, "feedback": 12}
    return RetrieveResult(**{"frame": hit_table(m, hits), "prompts": prompts, "parameters": parameters, **shown})


@pytest.fixture(scope="module")
def found() -> RetrieveResult:
    hits = [
        Hit(0, 0.625, PARTS, [(EMBEDDING, 0.5)]),
        Hit(2, 0.5, [(0, 0.5)], [(EMBEDDING, 0.0)]),
        Hit(1, 0.375, [(1, 0.125)], [(EMBEDDING, 0.25)]),
    ]
    return result_of(matrix(), hits)


def of_texts(evidence: list[list[tuple[int, int]]], texts: list[str | None], **columns: Any) -> RetrieveResult:
    """Documents of these texts, each with the places of its evidence, weightiest first."""
    rows = [
        {
            "rank": i + 1,
            "doc_id": f"d{i}",
            "score": 0.5,
            "text": text,
            "concepts": [{"latent": 5, "label": "tea", "share": 0.5}],
            "evidence": [{"start": s, "end": e, "text": None, "latents": [5]} for s, e in places],
            **columns,
        }
        for i, (text, places) in enumerate(zip(texts, evidence, strict=True))
    ]
    return RetrieveResult(frame=pl.DataFrame(rows, schema=HIT_SCHEMA), query="5", mode="concepts", n_docs=len(rows))


# What is said


def test_the_header_says_what_was_asked_and_how(found):
    page = Page(retrieve_html(found))
    lead = page.texts("div", "lead")[0]
    assert page.texts("h1") == ['"a hot drink"']
    assert lead.startswith(
        "3 documents were ranked by their concepts and the reader's embedding of their texts. All are shown, the best"
    )
    assert page.texts("title") == ['"a hot drink": documents found', *page.texts("title")[1:]]
    table = page.texts("section", "parameters")[0]
    assert "documents asked for 1,000 first documents that pull the phrase 12" in table
    assert page.texts("section", "notes") == []
    noted = Page(retrieve_html(replace(found, notes=("Look twice.",), n_docs=4_000)))
    assert noted.texts("section", "notes") == ["To keep in mind Look twice."]
    assert "4,000 documents were ranked" in noted.texts("div", "lead")[0]
    assert "The first 3 are shown" in noted.texts("div", "lead")[0]


def test_examples_are_named_and_shown_as_a_query(found):
    like = {"like": [f"id {i}" for i in range(6)], "unlike": ["no"]}
    page = Page(retrieve_html(replace(found, query="5 or 9", parameters=like)))
    assert page.texts("h1") == ["like id 0, id 1, id 2, id 3 and 2 more and unlike no"]
    assert "The examples as a query, which ranks similarly: 5 or 9" in page.texts("div", "lead")[0]
    assert "id 4, id 5" in page.texts("section", "parameters")[0]


def test_each_document_has_its_rank_id_score_and_prompt(found):
    page = Page(retrieve_html(found))
    articles = page.texts("article")
    for row, text, label in zip(found.frame.rows(named=True), articles, page.texts("span", "label"), strict=True):
        assert label == row["doc_id"]
        assert text.startswith(f"{row['rank']} {row['doc_id']} ")
        assert f"{row['score']:.3f}" in text
    assert page.texts("p", "prompt") == ["Asked What of 0?", "Asked What of 2?"]
    assert page.texts("article")[0].startswith("1 d0 hot tea; white milk")
    assert page.texts("article")[2].startswith("3 d1 latent 9")


def test_parts_of_the_score_are_listed_with_their_shares(found):
    tables = Page(retrieve_html(found)).texts("table", "parts")
    assert tables[0] == (
        "What made the score hot tea 5 +0.250 white milk 12 -0.125 embedding of the text +0.500 score 0.625"
    )
    assert tables[2] == "What made the score latent 9 +0.125 embedding of the text +0.250 score 0.375"


def stacks(html: str) -> list[list[tuple[str, float, float]]]:
    """Of each document the kind, place and width of what its bar stacks."""
    drawn = re.findall(r'<svg class="stack".*?</svg>', html, re.DOTALL)
    parts = r'<g class="(\w+)">.*?x="([-\d.]+)%" y="4" width="([-\d.]+)%"'
    return [[(kind, float(x), float(width)) for kind, x, width in re.findall(parts, one)] for one in drawn]


def test_bars_stack_what_made_the_score_on_one_scale(found):
    html = retrieve_html(found)

    # From -0.125 to 0.75: what all bars reach.
    def place(value: float) -> float:
        return round(100 * (value + 0.125) / 0.875, 2)

    first, second, third = stacks(html)
    assert first == [
        ("concept", place(0), pytest.approx(place(0.125), abs=0.011)),
        ("concept", 0, place(0)),
        ("embedding", place(0.25), pytest.approx(100 * 0.5 / 0.875, abs=0.01)),
    ]
    assert second[0] == ("concept", place(0), pytest.approx(100 * 0.5 / 0.875, abs=0.01))
    assert third[1] == ("embedding", place(0.125), pytest.approx(100 * 0.25 / 0.875, abs=0.01))
    sums = [float(x) for x in re.findall(r'class="sum" x1="([\d.]+)%"', html)]
    assert sums == [place(score) for score in found.frame["score"]]
    assert set(re.findall(r'class="zero" x1="([\d.]+)%"', html)) == {f"{place(0):.2f}"}
    assert "<title>white milk -0.125</title>" in html


def test_the_key_explains_what_is_drawn_alone(found):
    key = Page(retrieve_html(found)).texts("p", "key")[0]
    assert key.startswith("a concept the embedding of the text What counts against a document is left of")
    shares = [(latent % 3, 0.01 * (latent + 1)) for latent in range(12)]
    key = Page(retrieve_html(result_of(matrix(), [Hit(0, 0.78, shares)], mode="concepts"))).texts("p", "key")[0]
    assert key == "a concept all other concepts The thick stroke is the score, the sum of all."
    named = [("word 'tea'", 0.4), ("word 'cup'", 0.2)]
    page = Page(retrieve_html(result_of(matrix(), [Hit(0, 0.6, [], named)], mode="lexical")))
    assert page.texts("p", "key")[0].startswith("a word The thick")
    query = [('"tea"', 0.4), ('not "other concepts"', 0.2)]
    assert Page(retrieve_html(result_of(matrix(), [Hit(0, 0.6, [], query)]))).texts("p", "key")[0].startswith("a part")


def test_nothing_found_is_said():
    m = matrix()
    page = Page(retrieve_html(result_of(m, [], notes=("No document has any of it.",))))
    assert page.texts("div", "lead")[0].startswith("Nothing found in 3 documents, ranked by their concepts and")
    assert page.texts("article") == page.texts("section", "findings") == []


def test_words_are_looked_up_without_an_encoder():
    page = Page(retrieve_html(retrieve(matrix(), "milk tea", mode="lexical")))
    assert page.texts("mark") == ["tea", "Milk", "milk", "tea"]
    assert page.texts("p", "prompt") == ["Asked What of 0?", "Asked What of 2?"]
    assert "ranked by the words themselves (BM25)" in page.texts("div", "lead")[0]


# The texts


def quotes(html: str) -> list[str]:
    """The texts as they stand, marks and cuts in brackets."""
    found = re.findall(r"<blockquote[^>]*>(.*?)</blockquote>", html, re.DOTALL)
    marked = [re.sub(r"</(?:mark|span)>", "]", re.sub(r"<(?:mark|span)[^>]*>", "[", one)) for one in found]
    return [unescape(one) for one in marked]


def test_evidence_is_marked_and_says_of_what(found):
    html = retrieve_html(found)
    first, long, other = quotes(html)
    assert first == "Some words first. [Then tea comes.] Milk is white, and milk goes in."
    assert other == "[Only coffee here.]"
    assert "[A cup of tea.]" in long
    assert '<mark title="hot tea">Then' in html
    assert '<mark title="latent 9">Only' in html


def test_a_long_text_is_cut_around_its_evidence(found):
    long, text = quotes(retrieve_html(found))[1], TEXTS[2]
    body = long.removeprefix("[… ]").removesuffix("[ …]").replace("[A cup of tea.]", "A cup of tea.")
    assert body in text
    assert 1_400 < len(body) <= 1_500
    start = text.index("A cup") - text.index(body)
    assert abs(start - (len(body) - start - 14)) <= 60
    assert long.startswith("[… ]")
    assert long.endswith("[ …]")


def test_places_far_apart_share_the_room():
    text = "".join(f"{i:05d} " for i in range(2_000))
    (shown,) = quotes(retrieve_html(of_texts([[(6_000, 6_005), (0, 5), (11_994, 11_999), (600, 605)]], [text])))
    first, middle, last = shown.split("[ … ]")
    assert first.startswith("[00000] 00001")
    assert "[01000]" in middle
    assert last.endswith("[01999] ")
    assert all(450 < len(part) <= 520 for part in (first, middle, last))
    (shown,) = quotes(retrieve_html(of_texts([[(6_000, 6_005), (6_300, 6_305)]], [text])))  # one place holds both
    assert shown.count("…") == 2
    assert "[01000] 01001" in shown
    assert "[01050] 01051" in shown


def test_evidence_that_is_longer_than_the_room_and_texts_without_any():
    text = "word " * 1_000
    long, none, lost = quotes(retrieve_html(of_texts([[(500, 4_500)], [], [(0, 4), (2, 9)]], [text, text, text[:20]])))
    assert long == f"[… ][{text[500:1_999]}][ …]"
    assert none == f"{text[:1_500].rstrip()}[ …]"
    assert lost == "[word][ word] word word "
    page = Page(retrieve_html(of_texts([[(3, 9)]], [None])))
    assert page.texts("figure", "document") == ["The text was not kept with this set."]


# What is never trusted, and the size


HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "\u202egnihton\u202c tea",
    "</style><b>",
    "{{ 7*7 }}",
]


def test_hostile_texts_ids_labels_queries_and_prompts_are_text():
    m = keyword_matrix([f"{text} tea" for text in HOSTILE], WORDS, [HOSTILE[0], HOSTILE[1], None], prompt=HOSTILE)
    m = m.with_docs(m.docs.select("doc_id").with_columns(text=m.docs["text"]))
    hits = [Hit(i, 0.5, [(0, 0.25)], [(HOSTILE[3], 0.25)]) for i in range(len(HOSTILE))]
    result = result_of(m, hits, query=HOSTILE[0], notes=(HOSTILE[1],))
    result = replace(
        result, frame=result.frame.with_columns(doc_id=pl.Series(HOSTILE)), prompts={HOSTILE[1]: HOSTILE[1]}
    )
    html = retrieve_html(result)
    page = Page(html)
    tags = [tag for tag, _, _ in page.elements]
    assert tags.count("script") == tags.count("style") == 1
    assert not {"img", "iframe", "object", "b"} & set(tags)
    assert not [name for _, attributes, _ in page.elements for name in attributes if name.startswith("on")]
    assert page.texts("h1") == [HOSTILE[0]]
    assert page.texts("span", "label")[:2] == HOSTILE[:2]
    assert page.texts("span", "label")[2] == "⟨U+202E⟩gnihton⟨U+202C⟩ tea"
    assert page.texts("li") == [HOSTILE[1]]
    assert page.texts("p", "prompt") == [f"Asked {HOSTILE[1]}"]
    assert page.texts("mark")[4] == "{{ 7*7 }} tea"


def test_the_page_allows_its_own_style_and_script_alone(found):
    html = retrieve_html(found)
    policy = next(a["content"] for tag, a, _ in Page(html).elements if tag == "meta" and a.get("http-equiv"))
    assert "default-src 'none'" in policy
    for tag in ("style", "script"):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert re.findall(r"url\(|@import|fetch\(| style=|https?://(?!www\.w3\.org/2000/svg)", html) == []


@pytest.mark.parametrize("character", ["\x01", "🙂", '"', "長"])
def test_fifty_long_documents_of_any_characters_stay_below_two_megabytes(character):
    text = character * 4_000
    concepts = [[{"latent": i, "label": character * 999, "share": 0.1} for i in range(8)]] * 50
    frame = of_texts([[(2_000, 2_009)]] * 50, [text] * 50).frame
    frame = frame.with_columns(concepts=pl.Series(concepts, dtype=HIT_SCHEMA["concepts"]))
    html = retrieve_html(replace(of_texts([], []), frame=frame, n_docs=50))
    assert len(html.encode()) < 2_000_000
    assert len(Page(html).texts("article")) == 50


def test_too_many_documents_are_fewer_and_this_is_said(monkeypatch):
    monkeypatch.setattr("saelens_data.report.retrieve._ROOM", 100_000)
    result = of_texts([[(0, 4)]] * 99, ["word " * 400] * 99)
    page = Page(retrieve_html(result))
    shown = len(page.texts("article"))
    assert 10 < shown < 99
    assert f"The first {shown} are shown" in page.texts("div", "lead")[0]
    assert "The search gave 99 documents; more than these" in page.texts("div", "lead")[0]
    assert 350 < len(page.texts("blockquote")[0]) < 420


def test_the_same_result_gives_the_same_bytes(tmp_path, found):
    first = write_retrieve_report(found, tmp_path / "r.html").read_bytes()
    assert write_retrieve_report(found, tmp_path / "r.html").read_bytes() == first
    assert [path.name for path in tmp_path.iterdir()] == ["r.html"]
    with pytest.raises(InputError, match=r"cannot write '.*r.html': No such file or directory"):
        write_retrieve_report(found, tmp_path / "none" / "r.html")


# In a browser


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --enable-logging=stderr --v=0 --dump-dom"
).split()
#: Uses the page as a reader would and writes what is then seen into the title.
DRIVE = """
{
  const seen = () => [...document.querySelectorAll(".finding:not([hidden])")].map((f) => f.id.slice(9)).join(" ");
  const [words, button] = ["input", "button"].map((tag) => document.querySelector(`.tools ${tag}`));
  const sort = document.querySelector(".tools").elements.sort;
  const set = (control, value) => { control.value = value; control.dispatchEvent(new Event(control === words ? "input" : "change")); };
  const said = [document.querySelector(".tools").hidden, seen()];
  set(words, "hot cup"); said.push(seen(), document.querySelector("output").textContent);
  set(words, ""); set(sort, "label"); said.push(seen());
  button.click(); said.push(document.querySelectorAll("details[open]").length, button.textContent);
  document.title = said.join("|");
}
"""


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium to look with")
def test_the_page_works_in_a_browser_without_a_complaint(tmp_path: Path, found: RetrieveResult) -> None:
    html = retrieve_html(found)
    script = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)[0]
    old, new = (base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in (script, script + DRIVE))
    page = tmp_path / "r.html"
    page.write_text(html.replace(script, script + DRIVE).replace(old, new), encoding="utf-8")
    command = [str(CHROMIUM), *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", page.as_uri()]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "CONSOLE" not in run.stderr
    seen = re.findall("<title>(.*?)</title>", run.stdout)[0].split("|")
    assert seen == ["false", "1 2 3", "2", "1 of 3", "1 3 2", "0", "Open all"]
