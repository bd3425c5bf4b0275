"""The report of many sets and of a trend says what the result says, in one light page that trusts no text."""

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
from click.testing import CliRunner
from keywords import keyword_matrix
from pages import Page, answers

from saelens_data import stats
from saelens_data.cli.main import cli
from saelens_data.diff.many import ManyResult, diff_many
from saelens_data.diff.trend import TrendResult, trend
from saelens_data.errors import InputError
from saelens_data.matrix import ConceptMatrix
from saelens_data.report.many import many_html, write_many_report
from saelens_data.report.trend import shown_trend
from saelens_data.store import write_store
from saelens_data.wording import p_in_words, points, share

WORDS = {5: "tea", 9: "coffee", 12: "milk"}
N = 20


def said_by(sets: dict[str, list[str]], labels=None, words=WORDS, **columns) -> ConceptMatrix:
    """One matrix of the answers of all sets."""
    said = [word for answer in sets.values() for word in answer]
    model = [name for name, answer in sets.items() for _ in answer]
    return keyword_matrix(answers(said), words, labels, model=model, **columns)


#: old has tea, new coffee; mid has some of both; odd is like mid.
SETS = {
    "old": ["tea"] * 18 + ["none"] * 2,
    "mid": ["tea"] * 6 + ["coffee"] * 4 + ["none"] * 10,
    "new": ["coffee"] * 17 + ["none"] * 3,
    "odd": ["tea"] * 5 + ["coffee"] * 3 + ["none"] * 12,
}
STEPS = {f"v{i}": ["tea"] * (2 + 8 * i) + ["coffee"] * (18 - 8 * i) for i in range(3)}


@pytest.fixture(scope="module")
def many() -> ManyResult:
    return diff_many(said_by(SETS, ["hot tea", None, "milk"]), "model", group=False)


@pytest.fixture(scope="module")
def rise() -> TrendResult:
    return trend(said_by(STEPS, ["hot tea", None, "milk"], prompt=list(range(3 * N))), "model", group=False)


def with_(result: ManyResult | TrendResult, **columns: object):
    """The same with these values in all rows."""
    types = {"explained_by": pl.String, "undecided": pl.Boolean, "apart": pl.Boolean, "nearest": pl.String}
    values = [pl.lit(value, types.get(name, pl.Float64)).alias(name) for name, value in columns.items()]
    return replace(result, frame=result.frame.with_columns(values))


# Many sets


def test_the_header_says_what_was_compared(many):
    page = Page(many_html(many))
    lead, found = page.texts("div", "lead")[0], many.findings.height
    assert page.texts("h1") == ["4 sets by model"]
    assert lead.startswith("80 documents in 4 sets by model were compared: each set with all others together. A model")
    assert f"; {many.n_tested} tests were made in 4 comparisons." in lead
    apart = many.findings["apart"].sum()
    assert f"{found} findings; in {apart} of them the set differs from each other set by itself" in lead
    assert "(q < 0.05), at most 5% are expected to be false." in lead
    assert page.texts("ul", "sets") == ["mid 20 documents new 20 documents odd 20 documents old 20 documents"]
    assert [text for text in page.texts("li") if text in many.notes] == list(many.notes)


def test_other_ways_to_compare_are_said():
    m = said_by(SETS, prompt=list(range(N)) * 4)
    lead = Page(many_html(diff_many(m, "model", reference="old"))).texts("div", "lead")[0]
    assert "were compared: each set with one of them." in lead
    lead = Page(many_html(diff_many(m, "model", pairs=True, pair_on="prompt"))).texts("div", "lead")[0]
    assert "were compared: every two sets, documents with the same prompt as pairs." in lead
    lead = Page(many_html(diff_many(m, "model", pair_on="prompt"))).texts("div", "lead")[0]
    assert "each set with all others together; those with the same prompt may depend on each other." in lead


def test_comparisons_with_findings_come_first_and_the_others_are_named(many):
    page = Page(many_html(many))
    counts = dict(many.findings.group_by("set").len().iter_rows())
    assert set(counts) == {"old", "new"}
    order = sorted(counts, key=lambda name: (-counts[name], name))
    rows = [text for text in page.texts("tr") if " against the rest" in text]
    for text, name in zip(rows, order, strict=True):
        apart = many.findings.filter(pl.col("set") == name)["apart"].sum()
        first = many.findings.filter(pl.col("set") == name)["label"][0] or "unlabelled concept"
        assert text == f"{name} against the rest 20 / 60 {counts[name]} {apart} {first}"
    assert page.texts("nav", "contents")[0].endswith("No finding: mid against the rest, odd against the rest.")
    titles = [text for text in page.texts("h2") if "against" in text]
    assert titles == [f"{n} against the rest {counts[n]} finding{'s' * (counts[n] > 1)}" for n in order]
    ids = [a["id"] for tag, a, _ in page.elements if tag == "section" and "comparison" in (a.get("class") or "")]
    links = [a["href"] for tag, a, _ in page.elements if tag == "a" and (a.get("href") or "").startswith("#set-")]
    assert [f"#{i}" for i in ids] == [link for link in links if "latent" not in link]
    every = [a["id"] for _, a, _ in page.elements if "id" in a]
    assert len(every) == len(set(every))


def test_a_finding_shows_the_density_of_every_set(many):
    html = many_html(many)
    page = Page(html)
    row = many.findings.row(0, named=True)
    each = ", ".join(f"{name} {share(d)}" for name, d in zip(many.sets, row["densities"], strict=True))
    assert any(f"density in each set {each}" in text for text in page.texts("dl", "facts"))
    svg = re.findall(r'<svg class="track strip".*?</svg>', html)
    assert len(svg) == many.findings.height
    low, high = min(row["densities"]), max(row["densities"])
    mine = [one for one in svg if f"the densities of all 4 sets, {share(low)} to {share(high)}" in one]
    by_name = {name: float(at) for name, at in re.findall(r'<title>(\w+):.*?cx="([\d.]+)%"', mine[0])}
    titles = re.findall(r"<title>(.*?)</title>", mine[0])
    assert sorted(titles) == sorted(f"{n}: {share(d)}" for n, d in zip(many.sets, row["densities"], strict=True))
    assert by_name == pytest.approx({n: 100 * d for n, d in zip(many.sets, row["densities"], strict=True)}, abs=0.01)
    assert re.findall(r'<g class="(\w+)"', mine[0])[-1] == "a"  # the set is drawn last, over the others


def test_whether_a_set_is_unlike_each_other_is_said(many):
    page = Page(many_html(many))
    row = many.findings.row(0, named=True)
    assert row["apart"]
    said = (
        f"Unlike each other set by itself: {row['set']} differs from all 3 others (p < 0.05 each), which have "
        f"{share(row['others_low'])} to {share(row['others_high'])}."
    )
    assert said in page.texts("li")
    assert "unlike each other set" in page.texts("span", "flag")


def test_what_may_come_of_one_other_set_names_it(many):
    row = many.findings.row(0, named=True)
    pooled = replace(
        many,
        frame=many.frame.with_columns(apart=pl.lit(False), holds_against=pl.lit(1, pl.Int64), nearest=pl.lit("mid")),
    )
    page = Page(many_html(pooled))
    densities = dict(zip(many.sets, row["densities"], strict=True))
    others = {name: d for name, d in densities.items() if name != row["set"]}
    far = (min if row["difference"] > 0 else max)(others, key=others.__getitem__)
    said = (
        f"By itself {row['set']} differs from 1 of the 3 other sets (p < 0.05 each): mid has {share(densities['mid'])}. "
        f"It may come of one other set, {far} with {share(others[far])}."
    )
    assert said in page.texts("li")
    assert f"may come of {far}" in page.texts("span", "flag")
    strong = pooled.frame.with_columns(auc=pl.lit(0.9), p_strength=pl.lit(0.0), p_presence=pl.lit(0.5))
    tested = Page(many_html(replace(pooled, frame=strong)))
    assert any(text.endswith("(p < 0.05 each), so that it may come of one of them.") for text in tested.texts("li"))


def test_against_one_set_nothing_is_said_of_the_others():
    result = diff_many(said_by(SETS), "model", reference="old")
    page = Page(many_html(result))
    assert not [text for text in page.texts("li") if "other set" in text]
    assert "unlike each other set" not in " ".join(page.texts("th"))


def test_findings_hold_the_numbers_of_the_single_comparison(many):
    page = Page(many_html(many))
    row = many.findings.row(0, named=True)
    interval = points(row["difference"], row["ci_low"], row["ci_high"], towards=row["difference"])
    more = row["set"] if row["difference"] > 0 else "the rest"
    assert f"{interval[0]} points more in {more} ({interval[1]})" in " ".join(page.texts("table", "measures"))
    assert any(f"q {p_in_words(row['q_value'])}" in text for text in page.texts("dl", "facts"))
    assert set(page.texts("mark")) <= {
        f"Here is number {i}: {w} comes last." for i in range(80) for w in WORDS.values()
    }
    assert page.texts("mark")


def test_only_so_many_findings_of_each(many):
    page = Page(many_html(many, findings=1, examples=0))
    counts = dict(many.findings.group_by("set").len().iter_rows())
    titles = [text for text in page.texts("h2") if "against" in text]
    for title in titles:
        n = counts[title.split()[0]]
        assert title.endswith("the rest 1 finding" if n == 1 else f"the first 1 of {n} findings")
    assert page.texts("mark") == []


def test_without_a_finding_the_nearest_comparison_is_shown():
    alike = {name: ["tea"] * (8 + i) + ["none"] * (12 - i) for i, name in enumerate("abc")}
    result = diff_many(said_by(alike), "model")
    assert result.findings.height == 0
    page = Page(many_html(result))
    first = result.frame["set"][0]
    assert "No finding. None of the" in page.texts("div", "lead")[0]
    assert [t for t in page.texts("h2") if "against" in t] == [
        f"{first} against the rest the nearest to a finding, none is one"
    ]
    assert page.texts("nav") == []
    nothing = diff_many(said_by({name: ["none"] * 4 for name in "abc"}), "model")
    assert "No concept occurs in enough documents" in Page(many_html(nothing)).texts("div", "lead")[0]


def test_long_texts_of_many_findings_stay_below_two_megabytes():
    words = {i: f"word{i:02d}" for i in range(96)}
    sets = {
        f"set {k}": [" ".join(f"word{6 * k + j:02d}" for j in range(6)) + " 長い文章" * 200] * 12 for k in range(16)
    }
    result = diff_many(said_by(sets, words=words), "model", group=False)
    assert result.findings.height >= 16 * 6
    html = many_html(result, findings=12, examples=8)
    assert 1_000_000 < len(html.encode()) < 2_000_000
    page = Page(html)
    assert len([text for text in page.texts("h2") if "against" in text]) == 16
    assert len(page.texts("article")) >= 16 * 6
    assert len(page.texts("mark")) >= 16 * 6


def test_where_room_is_scarce_examples_go_first_and_every_comparison_stays(many, monkeypatch):
    monkeypatch.setattr("saelens_data.report.many._ROOM", 1)
    page = Page(many_html(many))
    assert len(page.texts("article")) == 2
    assert page.texts("mark") == []
    titles = [text for text in page.texts("h2") if "against" in text]
    assert all("the first 1 of 2 findings" in title for title in titles)


# Trends


def test_the_header_of_a_trend(rise):
    page = Page(many_html(rise))
    lead = page.texts("div", "lead")[0]
    assert page.texts("h1") == ["v0 to v2"]
    assert lead.startswith("60 documents in 3 steps of model were searched for what rises or falls. A model read")
    assert "2 findings: 1 rising, 1 falling." in lead
    assert page.texts("ol", "sets") == ["v0 20 documents v1 20 documents v2 20 documents"]


def test_a_trend_is_drawn_to_scale(rise):
    shown = shown_trend(rise, findings=50, examples=0)
    row = rise.findings.row(0, named=True)
    first = shown.findings[0]
    assert (first.latent, first.side) == (row["latent"], "a" if row["slope"] > 0 else "b")
    counts = np.round(np.array(row["densities"]) * N)
    low, high = stats.wilson(counts, N)
    assert [step.width for step in first.steps] == pytest.approx(100 * counts / N)
    assert [step.low for step in first.steps] == pytest.approx(100 * low)
    assert [step.x for step in first.steps] == pytest.approx([100 / 6, 50, 500 / 6])
    assert [step.y for step in first.steps] == pytest.approx(51 - 46 * counts / N)
    assert [step.y_high for step in first.steps] == pytest.approx(51 - 46 * high)
    slope = first.effects[0]
    end = float(shown.scales[1].rstrip("%")) / 100
    assert end >= max(abs(row["slope_low"]), abs(row["slope_high"]))
    keys = ("slope_low", "slope_high", "slope")
    assert (slope.low, slope.high, slope.at) == pytest.approx(tuple(50 + 50 * row[key] / end for key in keys))


def test_findings_hold_the_numbers_of_the_trend(rise):
    page = Page(many_html(rise))
    table = page.texts("table", "measures")
    for text, row in zip(table, rise.findings.iter_rows(named=True), strict=True):
        for name, density in zip(rise.steps, row["densities"], strict=True):
            low, high = stats.wilson(np.array([round(density * N)]), N)
            interval = f"({share(low[0])} to {share(high[0])}; {round(density * N)} of 20)"
            assert f"{name} {share(density)} {interval}" in text
        number, interval = points(row["slope"], row["slope_low"], row["slope_high"])
        sign = "+" if row["slope"] > 0 else ""
        assert f"slope {sign}{number} points a step ({interval})" in text
        number, interval = points(row["adjusted_slope"], row["adjusted_low"], row["adjusted_high"])
        assert f"at equal length {'+' if row['adjusted_slope'] > 0 else ''}{number} points a step ({interval})" in text
    words = {row["favours"]: row for row in rise.findings.iter_rows(named=True)}
    assert set(words) == {"rising", "falling"}
    facts = page.texts("dl", "facts")[0]
    row = rise.findings.row(0, named=True)
    assert f"p {p_in_words(row['p_value'])} q {p_in_words(row['q_value'])}" in facts


def test_a_trend_shows_documents_of_the_first_and_the_last_step(rise):
    page = Page(many_html(rise, examples=2))
    tea = next(text for text in page.texts("article") if "hot tea" in text)
    assert "counter-examples In v0: 2 of 20 documents; the strongest" in tea
    assert "evidence Not in v0: 18 of 20 documents; one of them" in tea
    assert "evidence In v2: 18 of 20 documents; the 2 strongest" in tea
    assert "Here is number 40: tea comes last." in page.texts("mark")
    assert "Asked 40" in tea
    assert page.texts("mark", "member") == []


def test_what_a_sceptic_weighs_in_a_trend(rise):
    page = Page(many_html(with_(rise, explained_by="length", undecided=False)))
    assert any(text.startswith("Explained by length: documents of equal length need not") for text in page.texts("li"))
    page = Page(many_html(with_(rise, explained_by="length", undecided=True)))
    assert any(text.startswith("It may or may not be explained by length: at equal") for text in page.texts("li"))
    assert "may be length" in page.texts("span", "flag")
    page = Page(many_html(with_(rise, p_rank=0.0001, p_presence=0.5)))
    assert "Strength only: it is not shown to be in more or fewer documents." in page.texts("li")
    assert any(text.startswith("Strength carries it: from step to step it is") for text in page.texts("p", "carried"))
    assert "It has no label: read the examples." in page.texts("li")
    steps = {"v0": ["tea"] * 2 + ["no"] * 38, "v1": ["tea"] * 38 + ["no"] * 2, "v2": ["tea"] * 20 + ["no"] * 20}
    up_down = trend(said_by(steps), "model")
    assert "It does not go one way: the opposite from v1 to v2." in Page(many_html(up_down)).texts("li")


def test_a_trend_without_a_finding():
    flat = {f"v{i}": ["tea"] * (8 + i % 2) + ["none"] * (12 - i % 2) for i in range(3)}
    page = Page(many_html(trend(said_by(flat), "model")))
    assert "No finding." in page.texts("div", "lead")[0]
    assert page.texts("h2")[-2] == "The nearest to a finding none of these 1 is one"
    assert any("not a finding" in text for text in page.texts("span", "latent"))


def test_a_trend_over_fifty_steps_stays_below_two_megabytes():
    words = {i: f"word{i:02d}" for i in range(50)}
    said = " ".join(words.values()) + " "
    steps = {f"v{i:02d}": [said + "<&>" * 300] * (i // 5) + ["no"] * (12 - i // 5) for i in range(50)}
    result = trend(said_by(steps, words=words), "model", group=False)
    assert result.findings.height == 50
    html = many_html(result, examples=8)
    assert len(html.encode()) < 2_000_000
    assert len(Page(html).texts("article")) >= 12


# Both


HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "\u202egnihton\u202c",
    "</style><b>",
    "{{ 7*7 }}",
]


def test_hostile_names_labels_and_texts_are_text():
    sets = {HOSTILE[0]: ["tea"] * 18 + ["x"] * 2, HOSTILE[1]: ["coffee"] * 20, HOSTILE[2]: [HOSTILE[3]] * 20}
    prompts = [HOSTILE[1]] * 60
    m = said_by(sets, [HOSTILE[4], HOSTILE[0], None], prompt=prompts)
    for result in (diff_many(m, "model"), trend(m, "model", order=list(sets))):
        page = Page(many_html(replace(result, notes=(HOSTILE[1],))))
        tags = [tag for tag, _, _ in page.elements]
        assert tags.count("script") == tags.count("style") == 1
        assert not {"img", "iframe", "object"} & set(tags)
        assert not [name for _, attributes, _ in page.elements for name in attributes if name.startswith("on")]
        assert HOSTILE[4] in page.texts("span", "label")
        assert HOSTILE[1] in page.texts("li")
        assert f"{HOSTILE[0]} 20 documents" in page.texts("li")
        assert "⟨U+202E⟩gnihton⟨U+202C⟩ 20 documents" in page.texts("li")
        assert any(HOSTILE[1] in text for text in page.texts("p", "prompt"))


@pytest.mark.parametrize("kind", ["many", "rise"])
def test_the_page_allows_its_own_style_and_script_alone(kind, request):
    html = many_html(request.getfixturevalue(kind))
    policy = next(a["content"] for tag, a, _ in Page(html).elements if tag == "meta" and a.get("http-equiv"))
    assert "default-src 'none'" in policy
    for tag in ("style", "script"):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert re.findall(r"url\(|@import|fetch\(| style=|https?://(?!www\.w3\.org/2000/svg)", html) == []


def test_the_same_result_gives_the_same_bytes(tmp_path, many, rise):
    for number, result in enumerate((many, rise)):
        first = write_many_report(result, tmp_path / f"{number}.html").read_bytes()
        assert write_many_report(result, tmp_path / f"{number}.html").read_bytes() == first
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.html", "1.html"]


def test_a_place_that_cannot_be_written_and_counts_out_of_range(tmp_path, many):
    with pytest.raises(InputError, match=r"cannot write '.*r.html': No such file or directory"):
        write_many_report(many, tmp_path / "none" / "r.html")
    with pytest.raises(InputError, match="0 findings and 3 examples asked for: give 1 and 0 or more"):
        write_many_report(many, tmp_path / "r.html", findings=0)
    with pytest.raises(InputError, match="-1 examples asked for"):
        write_many_report(many, tmp_path / "r.html", examples=-1)


def test_the_command_line_writes_it(tmp_path):
    store, report = tmp_path / "all.sae", tmp_path / "r.html"
    write_store(store, said_by(SETS))
    ended = CliRunner().invoke(cli, ["diff", str(store), "--by", "model", "--report", str(report)])
    assert ended.exit_code == 0, ended.output
    assert f"wrote {report}" in ended.stderr
    assert "<h1>4 sets" in report.read_text(encoding="utf-8")
    trending = ["diff", str(store), "--by", "model", "--trend", "--order", "old,mid,odd,new", "--report", str(report)]
    ended = CliRunner().invoke(cli, [*trending, "--aa-check", "--splits", "2"])
    assert ended.exit_code == 0, ended.output
    page = Page(report.read_text(encoding="utf-8"))
    assert page.texts("h1") == ["old to new"]
    assert any(text.startswith("A/A check: ") for text in page.texts("li"))


# In a browser


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --enable-logging=stderr --v=0 --dump-dom"
).split()


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium to look with")
def test_a_browser_runs_the_script_and_refuses_nothing(tmp_path, rise):
    path = write_many_report(rise, tmp_path / "r.html")
    url = f"{path.as_uri()}#latent-9"
    command = [str(CHROMIUM), *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", url]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "CONSOLE" not in ended.stderr
    assert re.search(r'id="latent-9"[^>]*>\s*<details open', ended.stdout)
    assert not re.search(r'<form class="tools"[^>]* hidden', ended.stdout)
    assert Path(path).stat().st_size < 2_000_000
