"""What a notebook shows of results: columns, bars, marked words, charts; and that hostile text stays text."""

from __future__ import annotations

import re
from base64 import b64decode
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import numpy as np
import polars as pl
import pytest
from keywords import keyword_matrix

import saelens_data as sd
from saelens_data.cluster.run import cluster
from saelens_data.diff.explain import ExplainResult
from saelens_data.display import plots, table
from saelens_data.display.bars import COLOURS, WIDTH, Scale, bar, steps
from saelens_data.display.stretches import stretches
from saelens_data.display.table import Column, Shown
from saelens_data.errors import InputError, MissingExtraError
from saelens_data.labels.card import _SCHEMA as CARD
from saelens_data.labels.card import ConceptCard
from saelens_data.labels.plan import LabelPlan
from saelens_data.labels.result import _SCHEMA as LABELS
from saelens_data.labels.result import LabelResult
from saelens_data.results import Result

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\u202e\"'"
WORDS = {5: "tea", 9: "coffee", 12: "milk", 20: "sugar"}
N = 40


class Table(HTMLParser):
    """A table as a reader sees it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.head, self.rows, self.marks, self.pictures, self.tags, self._in = [], [], [], [], set(), []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag == "img":
            kind, content = dict(attrs)["src"].split(",")
            assert kind == "data:image/svg+xml;base64"
            self.pictures[-1].append(b64decode(content).decode())
            return
        self._in.append(tag)
        if tag == "th":
            self.head.append("")
        elif tag == "td":
            self.rows[-1].append("")
        elif tag == "tr" and "tbody" in self._in:
            self.rows.append([])
            self.pictures.append([])
        elif tag == "mark":
            self.marks.append("")

    def handle_endtag(self, tag):
        self._in.remove(tag)

    def handle_data(self, data):
        if "mark" in self._in:
            self.marks[-1] += data
        if "th" in self._in:
            self.head[-1] += data
        elif "td" in self._in:
            self.rows[-1][-1] += data

    def column(self, name: str) -> list[str]:
        return [row[self.head.index(name)].strip() for row in self.rows]


def shown(result) -> Table:
    return Table(result._repr_html_())


def widths(picture: str) -> list[float]:
    """Of the rectangles: the rail, then the bar."""
    return [float(rect.get("width")) for rect in ET.fromstring(picture).iter("{http://www.w3.org/2000/svg}rect")]


def documents(word: str, n: int, every: int = 1) -> list[str]:
    said = [f" They pour {word} for all." if i % every == 0 else "" for i in range(n)]
    return [f"Here is number {i}, plain as day.{words} Nothing more is said." for i, words in enumerate(said)]


@pytest.fixture(scope="module")
def m():
    texts = documents("tea", N) + documents("coffee", N, 2)
    columns = {"side": ["x"] * N + ["y"] * N, "step": [1, 2, 3, 4] * (N // 2), "size": list(range(2 * N))}
    return keyword_matrix(texts, WORDS, **columns, prompt=[f"Ask {i}" for i in range(N)] * 2)


@pytest.fixture(scope="module")
def kinds(m):
    """A result of each kind."""
    a, b = (m.filter_docs(pl.col("side") == side) for side in "xy")
    rising = np.array([i % 4 >= 2 for i in range(2 * N)])
    texts = [f"Number {i}. {'They pour tea.' if up else 'They pour water.'}" for i, up in enumerate(rising)]
    steps_ = keyword_matrix(
        texts, WORDS, step=[i % 4 for i in range(2 * N)], size=[int(up) * 9 + i % 3 for i, up in enumerate(rising)]
    )
    halves = keyword_matrix([f"{t} {'They pour milk.' if 'tea' in t else ''}" for t in texts], WORDS)
    found = cluster(m, k=2, seed=0)
    verdict = {"latent": 5, "label": "hot drinks", "used": True, "score": 0.8, "score_low": 0.7, "score_high": 0.9}
    other = {"latent": 9, "label": None, "used": False, "why": "too few", "before": "coffee", "before_embedding": 0.6}
    labels = pl.DataFrame([verdict, other], schema=LABELS)
    said = {
        "hypothesis": "names tea",
        "favours": "x",
        "findings": [1],
        "verified": True,
        "share_a": 0.9,
        "share_b": 0.1,
    }
    said |= {"difference": 0.8, "low": 0.6, "high": 0.9, "n_a": 20, "n_b": 20, "missing": 0}
    plan = {
        "what": "all",
        "calls": 3,
        "answered": 1,
        "read": 900,
        "written": 80,
        "cost": 0.01,
        "most": 0.05,
        "seconds": 2.0,
    }
    diff = sd.diff(a, b, names=("x", "y"))
    return {
        "diff": diff,
        "gate": sd.gate(diff, "abs(difference) > 0.9"),
        "many": sd.diff_many(m, "side"),
        "trend": sd.trend(steps_, "step"),
        "correlate": sd.correlate(halves, without=("everywhere", "spans", "length")),
        "with": sd.correlate_with(m, "side"),
        "ordered": sd.correlate_with(steps_, "size"),
        "cluster": replace(found, frame=found.frame.with_columns(concepts=pl.lit(["tea", "pouring"], pl.List(pl.String)))),
        "assign": sd.assign(found, m),
        "retrieve": sd.retrieve(m, "pour coffee", n=3, mode="lexical"),
        "query": sd.retrieve(m, "#9", n=3, mode="concepts"),
        "examples": sd.examples(m, 9, n=3),
        "labels": LabelResult(frame=labels, labels=pl.DataFrame(), verdicts=pl.DataFrame(), calls=1, read=1, written=1, cost=None),
        "plan": LabelPlan(frame=pl.DataFrame([plan]), latents=1, lacking=0, priced=None),
        "explanation": ExplainResult(frame=pl.DataFrame([said]), names=("x", "y"), calls=2, cost=None),
        "matrix": m,
        "label table": sd.LabelTable.of(
            pl.DataFrame({"latent": [5, 9], "label": ["hot", "black"], "score": [0.8, None]}), sae_sha256="0", origin="me"
        ),
    }  # fmt: skip


COLUMNS = {
    "diff": ["#", "concept", "in x", "in y", "x less y, points", "q", "finding", "strongest example"],
    "gate": ["#", "concept", "favours", "difference, points", "q"],
    "many": ["#", "set", "against", "concept", "set less other, points", "in x", "in y", "q", "finding"],
    "trend": ["#", "concept", "0", "each step", "3", "points a step", "q", "finding", "strongest example"],
    "correlate": ["#", "concept", "", "with", "both", "by chance", "NPMI, and its end nearest to chance", "q", "group"],
    "with": ["#", "concepts", "", "side", "both", "by chance", "NPMI, and its end nearest to chance", "q", "group"],
    "ordered": ["#", "concept", "documents", "chance of the higher 'size'", "mean with it", "without", "q", "group"],
    "cluster": ["", "name", "documents", "comes again", "set apart by", "central document"],
    "assign": ["document", "cluster", "name", "membership", "beyond its documents"],
    "retrieve": ["#", "document", "asked", "score", "by", "words"],
    "query": ["#", "document", "asked", "score", "by", "words"],
    "examples": ["#", "document", "activation", "where it is strongest"],
    "labels": ["latent", "label", "used", "why not", "detection", "label before", "its embedding"],
    "plan": ["", "calls to send", "answered before", "tokens in", "tokens out", "cost", "at most", "seconds"],
    "explanation": ["hypothesis", "said to favour", "in x", "in y", "x less y, points", "verified", "findings"],
    "label table": ["latent", "label", "origin", "score"],
    "matrix": ["doc_id", "text", "side", "step", "size", "prompt", "active concepts", "the strongest"],
}  # fmt: skip


@pytest.mark.parametrize("kind", COLUMNS)
def test_each_kind_shows_its_readable_columns(kinds, kind):
    assert shown(kinds[kind]).head == COLUMNS[kind]


def test_numbers_are_those_of_the_frame_rounded(kinds):
    row = kinds["diff"].frame.row(0, named=True)
    (first, *_) = shown(kinds["diff"]).rows
    assert [cell.strip() for cell in first[:4]] == [
        "1",
        f"{row['label']} ({row['latent']})",
        f"{row['density_a']:.0%}",
        f"{row['density_b']:.0%}",
    ]
    at, low, high = (100 * row[name] for name in ("difference", "ci_low", "ci_high"))
    assert first[4].strip() == f"{at:+.0f} [{low:.0f}, {high:.0f}]"
    assert shown(kinds["labels"]).column("detection") == ["0.80 [0.70, 0.90]", ""]
    assert shown(kinds["plan"]).column("tokens in") == ["900"]


def test_the_words_that_made_an_activation_are_marked(kinds, m):
    texts = dict(m.docs.select("doc_id", "text").iter_rows())
    evidence = kinds["examples"].frame
    assert shown(kinds["examples"]).marks == evidence["text"].to_list() == ["They pour coffee for all."] * 3
    cells = shown(kinds["examples"]).column("where it is strongest")
    assert cells == [texts[doc_id] for doc_id in evidence["doc_id"]]
    assert "They pour tea for all." in shown(kinds["diff"]).marks
    assert set(shown(kinds["retrieve"]).marks) == {"pour", "coffee"}
    assert set(shown(kinds["query"]).marks) == {"They pour coffee for all."}
    assert set(shown(kinds["cluster"]).marks) <= {"They pour tea for all.", "They pour coffee for all."} != set()


def test_bars_are_as_long_as_the_values(kinds):
    page, frame = shown(kinds["query"]), kinds["query"].frame
    lengths = np.array([widths(pictures[0])[1] for pictures in page.pictures])
    np.testing.assert_allclose(lengths / WIDTH, frame["score"] / frame["score"].max(), atol=0.1 / WIDTH)
    values = [0.0, 0.25, 0.5, 1.0, 7.0]
    drawn = [widths(svg(bar(Scale(0.0, 1.0), value)))[1] for value in values]
    assert drawn == [0.0, WIDTH / 4, WIDTH / 2, WIDTH, WIDTH]


def svg(img: str) -> str:
    return b64decode(re.search(r"base64,([^\"]+)", img)[1]).decode()


def test_a_bar_of_a_difference_begins_in_the_middle_and_has_a_whisker():
    found = svg(bar(Scale(-1.0, 1.0), -0.5, (-0.75, -0.25), colour=1))
    rail, own = ET.fromstring(found).iter("{http://www.w3.org/2000/svg}rect")
    assert (float(own.get("x")), float(own.get("width"))) == (WIDTH / 4, WIDTH / 4)
    assert (own.get("fill"), rail.get("width")) == (COLOURS[1], str(WIDTH))
    assert f"M{round(WIDTH / 8, 1)} 7H{round(3 * WIDTH / 8, 1)}" in found
    assert f"M{WIDTH / 2} 0v14" in found
    columns = ET.fromstring(svg(steps([0.1, None, 0.4], 0.4))).iter("{http://www.w3.org/2000/svg}rect")
    heights = [float(rect.get("height")) for rect in columns][1::2]
    assert heights == [3.5, 0.0, 14.0]


def test_scales_of_a_column():
    assert table.about(0.5)([0.4, 0.9]) == Scale(0.5 - 0.4, 0.9, 0.5)
    assert table.from_zero([3.0, -1.0]) == Scale(-1.0, 3.0)
    assert table.from_zero([]) == Scale(0.0, 1.0)


def test_columns_without_values_and_numbers_that_are_none():
    frame = pl.DataFrame({"a": [1.5, float("nan")], "b": [None, None], "c": [float("inf"), 2.0]})
    columns = (Column("a", "a", table.number), Column("b", "b"), Column("c", "c", table.number, scale=table.from_zero))
    page = Table(table.html("s", Shown.of(frame, *columns, noun="group")))
    assert page.head == ["a", "c"]
    assert [[cell.strip() for cell in row] for row in page.rows] == [["1.5", "inf"], ["", "2"]]
    assert [len(pictures) for pictures in page.pictures] == [0, 1]
    none = Table(table.html("nothing", Shown.of(frame.clear(), *columns)))
    assert (none.head, none.tags) == ([], {"div", "p"})


def test_rows_beyond_those_shown_are_counted():
    frame = pl.DataFrame({"a": range(1_013)})
    assert "and 1,003 more groups" in table.html("s", Shown.of(frame, Column("a", "a"), noun="group"))
    assert "more" not in table.html("s", Shown.of(frame.head(10), Column("a", "a")))
    assert "and 1 more row<" in table.html("s", Shown.of(frame.head(11), Column("a", "a")))


def test_hostile_text_stays_text():
    texts = [f"{HOSTILE} They pour tea for all {HOSTILE}. {i}" for i in range(N)] + documents("coffee", N)
    m = keyword_matrix(texts, WORDS, [HOSTILE] * 4, side=[f"a{HOSTILE}"] * N + [f"b{HOSTILE}"] * N)
    m = m.with_docs(pl.DataFrame({"doc_id": m.docs["doc_id"], HOSTILE: [HOSTILE] * (2 * N)}))
    a, b = m.take_docs(range(N)), m.take_docs(range(N, 2 * N))
    results = [
        m,
        sd.diff(a, b, names=(HOSTILE, "b")),
        sd.gate(sd.diff(a, b, names=(HOSTILE, "b")), "difference > 0.5"),
        sd.diff_many(m, "side"),
        sd.correlate_with(m, "side", without=("length", "everywhere")),
        sd.examples(m, 5),
        sd.retrieve(m, "pour tea script", mode="lexical"),
        cluster(m, k=2, seed=0),
        Result(pl.DataFrame({HOSTILE: [HOSTILE]}), notes=(HOSTILE,)),
    ]
    for result in results:
        html = result._repr_html_()
        assert "&lt;img src=x onerror=alert(2)&gt;" in html
        assert Table(html).tags <= {"div", "p", "table", "thead", "tbody", "tr", "th", "td", "img", "mark", "ul", "li"}
        assert "\u202e" not in html
        assert "⟨U+202E⟩" in html


def test_a_card_marks_its_examples_and_draws_its_scores():
    rows = [
        {"part": "density", "what": "documents here", "value": 0.25, "low": 0.2, "high": 0.5, "n": 80},
        {"part": "example", "what": "strongest", "value": 17.5, "doc_id": "d1", "text": "said <<They pour>> twice"},
        {"part": "example", "what": "odd", "value": 1.0, "doc_id": "d2", "text": "a << b"},
    ]
    page = shown(ConceptCard(frame=pl.DataFrame(rows, schema=CARD), latent=5, label="tea"))
    assert page.head == ["", "what", "value", "of", "document", "activation or cosine", "text"]
    assert page.column("value") == ["0.25 [0.20, 0.50]", "", ""]
    assert page.column("activation or cosine") == ["", "17.5", "1"]
    assert page.column("text") == ["", "said They pour twice", "a << b"]
    assert page.marks == ["They pour"]
    assert [len(pictures) for pictures in page.pictures] == [1, 0, 0]


def test_long_words_are_cut_between_words():
    text = "word " * 100
    found = list(stretches(text, [(100, 300, "")], 60))
    assert [s.kind for s in found] == ["cut", "", "mark", "", "cut"]
    assert found[2].text == ("word " * 12).rstrip()


# Charts


def values(chart) -> list[dict]:
    """The rows that a chart draws; those of the layers, where it is layered, are one."""
    spec = chart.to_dict()
    sets = [layer["data"] for layer in spec["layer"] if "data" in layer] if "layer" in spec else []
    (rows,) = [data["values"] for data in [spec.get("data"), *sets] if data and "zero" not in data["values"][0]][:1]
    return rows


def test_the_chart_of_a_comparison_draws_its_findings(kinds):
    frame = kinds["diff"].findings
    drawn = pl.DataFrame(values(kinds["diff"].plot()))
    names = ["difference", "ci_low", "ci_high", "q_value", "density_a", "density_b", "latent"]
    assert drawn.select(names).rows() == frame.select(names).rows()
    assert drawn["name"].to_list() == [f"{i}. {label}" for i, label in enumerate(frame["label"], start=1)]
    assert drawn["more"].to_list() == frame["favours"].to_list()
    assert len(values(kinds["diff"].plot(n=1))) == 1


def test_the_chart_of_several_sets_has_every_density(kinds):
    many = kinds["many"]
    rows = many.findings.unique("latent", keep="first", maintain_order=True)
    drawn = pl.DataFrame(values(many.plot()))
    assert drawn["share"].to_list() == [share for each in rows["densities"] for share in each]
    assert drawn["set"].to_list() == list(many.sets) * rows.height


def test_the_chart_of_a_trend_has_wilson_intervals(kinds):
    trend = kinds["trend"]
    drawn = pl.DataFrame(values(trend.plot()))
    assert drawn["share"].to_list() == trend.findings["densities"][0].to_list() == [0.0, 0.0, 1.0, 1.0]
    assert drawn["step"].to_list() == list(trend.steps)
    np.testing.assert_allclose(drawn["high"][0], 1.959964**2 / (20 + 1.959964**2), rtol=1e-5)
    assert drawn["low"][0] == 0.0


@pytest.mark.parametrize(
    ("kind", "columns"),
    [
        ("correlate", ["npmi", "npmi_low", "n_both", "expected", "q_value"]),
        ("with", ["npmi", "npmi_low", "n_both", "expected", "q_value"]),
        ("ordered", ["latent", "auc", "auc_low", "auc_high", "n", "q_value", "direction"]),
        ("explanation", ["difference", "low", "high"]),
        ("examples", ["activation", "text"]),
    ],
)
def test_the_data_of_a_chart_are_those_of_the_frame(kinds, kind, columns):
    result = kinds[kind]
    drawn = values(result.plot())
    assert [[row[name] for name in columns] for row in drawn] == [
        list(row) for row in result.frame.select(columns).rows()
    ]


def test_the_chart_of_a_search_adds_up_or_takes_a_column(kinds, m):
    found = kinds["retrieve"]
    drawn = pl.DataFrame(values(found.plot()))
    totals = drawn.group_by("name", maintain_order=True).agg(pl.col("score").sum())
    np.testing.assert_allclose(totals["score"], found.frame["score"])
    coloured = values(found.plot("step"))
    steps_ = dict(m.docs.select("doc_id", "step").iter_rows())
    assert [row["by"] for row in coloured] == [str(steps_[name]) for name in found.frame["doc_id"]]
    with pytest.raises(InputError, match="there is no column 'sidee' to colour by; did you mean 'side'"):
        found.plot("sidee")


def test_the_chart_of_labels_takes_the_score_there_is(kinds):
    labels = kinds["labels"]
    (row,) = values(labels.plot())
    assert (row["name"], row["score"], row["low"], row["high"], row["used"]) == ("1. hot drinks", 0.8, 0.7, 0.9, "used")
    bare = LabelResult(
        frame=labels.frame[1:], labels=pl.DataFrame(), verdicts=pl.DataFrame(), calls=0, read=0, written=0, cost=None
    )
    (row,) = values(bare.plot())
    assert (row["name"], row["score"]) == ("1. coffee", 0.6)
    with pytest.raises(InputError, match="no label has a score"):
        LabelResult(
            frame=labels.frame.clear(),
            labels=pl.DataFrame(),
            verdicts=pl.DataFrame(),
            calls=0,
            read=0,
            written=0,
            cost=None,
        ).plot()


def test_the_charts_of_clusters_and_of_documents_put_into_them(kinds):
    sizes = kinds["assign"].frame.group_by("cluster").len()
    drawn = values(kinds["assign"].plot())
    assert sorted(row["documents"] for row in drawn) == sorted(sizes["len"])
    assert len(values(kinds["cluster"].plot("side"))) == kinds["cluster"].coordinates.n


DRAWN = ["diff", "many", "trend", "correlate", "with", "ordered", "cluster", "assign", "retrieve", "examples", "labels", "explanation"]  # fmt: skip


@pytest.mark.parametrize("kind", DRAWN)
def test_charts_are_the_same_each_time_and_need_the_extra(kinds, kind, monkeypatch):
    assert kinds[kind].plot().to_dict() == kinds[kind].plot().to_dict()
    monkeypatch.setattr(plots, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"drawing a chart .* pip install 'saelens_data\[plots\]'"):
        kinds[kind].plot()


def test_results_without_a_chart_say_so(kinds):
    with pytest.raises(InputError, match="there is no chart of a result of kind 'plan': show the table"):
        kinds["plan"].plot()
    with pytest.raises(InputError, match="there is nothing to draw: the result has no rows"):
        plots.bars(pl.DataFrame(schema={"y": pl.String, "x": pl.Float64}), y="y", x="x", title="", tooltip={})


def test_names_of_columns_are_not_read_as_paths(m):
    named = m.with_docs(pl.DataFrame({"doc_id": m.docs["doc_id"], "a.b:[c]": ["v"] * m.n_docs}))
    spec = cluster(named, k=2, seed=0).plot("a.b:[c]").to_dict()
    assert spec["encoding"]["color"]["title"] == "a.b:[c]"
    chart = plots.bars(
        pl.DataFrame({"a.b": ["q"], "x:y": [1.0]}), y="a.b", x="x:y", title="t", tooltip={"a.b": "n"}
    ).to_dict()
    assert chart["encoding"]["y"]["field"] == "a\\.b"
    assert chart["encoding"]["x"] == {"field": "x\\:y", "title": "t", "type": "quantitative"}
