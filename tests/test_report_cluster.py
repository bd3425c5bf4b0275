"""The report of clusters says what the result says, and its map trusts no text and needs no network."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import json
import math
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from keywords import keyword_matrix
from pages import Page
from planted import planted
from synthetic import write

import saelens_data as sd
from saelens_data.cli.main import cli
from saelens_data.cluster import ClusterResult, cluster
from saelens_data.cluster.coordinates import Coordinates
from saelens_data.cluster.hierarchy import MergeTree
from saelens_data.cluster.methods import Clusters
from saelens_data.cluster.quality import Agreement
from saelens_data.errors import InputError
from saelens_data.report import cluster_map
from saelens_data.report.cluster import cluster_html, write_cluster_report
from saelens_data.report.cluster_charts import curve_of, tree_of
from saelens_data.report.cluster_map import draw_map, positions, sample
from saelens_data.wording import p_in_words, share

WORDS = {5: "tea", 9: "coffee", 12: "milk", 20: "sugar"}
DRINKS = ["tea"] * 18 + ["coffee"] * 16 + ["milk"] * 12
TEXTS = [
    f"Number {i} begins. Then {drink} comes{' with sugar' if i % 4 == 0 else ''}. It ends."
    for i, drink in enumerate(DRINKS)
] + ["Nothing of that here."] * 3
N = len(TEXTS)
COLUMNS: dict[str, Any] = {
    "drink": [*DRINKS, None, None, None],
    "score": pl.Series([None if i == 3 else math.nan if i == 4 else 0.1234567 * i for i in range(N)]),
    "count": list(range(1_000, 1_000 + N)),
    "few": [i % 3 for i in range(N)],
    "flag": [None if i == 7 else i % 2 == 0 for i in range(N)],
    "day": [dt.date(2026, 1, 1 + i % 5) for i in range(N)],
    "tags": pl.Series([[f"t{i % 4}", "all"] for i in range(N)], dtype=pl.List(pl.String)),
    "about": [{"a": i % 2} for i in range(N)],
    "many": [f"v{min(i % 20, 14)}" for i in range(N)],
    "own": [f"only {i}" for i in range(N)],
    "empty": pl.Series([None] * N, dtype=pl.String),
}


@pytest.fixture(scope="module")
def found() -> ClusterResult:
    m = keyword_matrix(TEXTS, WORDS, ["hot tea", None, "white milk", "sugar"], **COLUMNS)
    return cluster(m, k=3, truth="drink", leakage="few")


@pytest.fixture(scope="module")
def html(found: ClusterResult) -> str:
    return cluster_html(found)


def map_data(html: str) -> dict[str, Any]:
    (data,) = re.findall(r'<script type="application/json" id="map-data">(.*?)</script>', html, re.DOTALL)
    return json.loads(data)  # type: ignore[no-any-return]


def column(html: str, name: str) -> dict[str, Any]:
    return next(column for column in map_data(html)["columns"] if column["name"] == name)


def decoded(column: dict[str, Any]) -> list[str | None]:
    return [None if code < 0 else [*column["values"], "other"][code] for code in column["codes"]]


# What is said


def test_the_header_says_what_was_grouped_by_what(found: ClusterResult, html: str) -> None:
    page = Page(html)
    lead = page.texts("div", "lead")[0]
    assert page.texts("h1") == ["3 clusters"]
    assert lead.startswith("46 documents were grouped by 4 concepts, using k-means. 3 documents are in no cluster.")
    assert page.texts("section", "notes")[0].startswith("To keep in mind Unassigned: 3 documents in which none")
    asked = {**found.parameters, "by": ["a drink", "a taste"], "without": ["heat"], "method": "spectral"}
    axis = replace(found.axis, notes=("Chosen so.", "Left out so."))
    other = Page(cluster_html(replace(found, parameters=asked, axis=axis, notes=("Chosen so.", "A note."))))
    assert other.texts("h1") == ["3 clusters by a drink, a taste without heat"]
    assert (
        "by 4 concepts chosen for “a drink” and “a taste”, with “heat” taken out, using spectral"
        in other.texts("div", "lead")[0]
    )
    assert "Chosen so. Left out so." in other.texts("div", "lead")[0]
    assert other.texts("section", "notes") == ["To keep in mind A note."]  # said once


def test_how_far_to_trust_it_is_the_results_numbers(found: ClusterResult, html: str) -> None:
    table = Page(html).texts("section", "trust")[0]
    truth, leak = found.quality["truth"], found.quality["leakage"]
    assert f"They come again {found.quality['stability']:.2f} " in table
    halves = found.quality["halves"]
    said = "more than a cloud" if halves["beyond"] else "A cloud without clusters gives about as much"
    assert f"They are there at all {halves['stability']:.2f} " in table
    assert said in table
    assert f"without any, at {halves['null']:.2f}." in table
    assert f"They are apart {found.quality['silhouette']:.2f} " in table
    assert f"They agree with “drink” {truth.accuracy:.3f} The clusters follow it closely" in table
    assert f"NMI {truth.nmi:.3f}, ARI {truth.ari:.3f}" in table
    assert f"They give away “few” {leak.gain:.3f} The clusters say little or nothing of it" in table
    assert f"{share(leak.predicted)}, who knows nothing for {share(leak.majority)}" in table
    bars = re.findall(r'class="grade" y="3" width="([\d.]+)%"', html)
    wanted = [found.quality["stability"], halves["stability"], found.quality["silhouette"], truth.accuracy, leak.gain]
    assert [float(bar) for bar in bars] == pytest.approx([100 * value for value in wanted], abs=0.005)


def test_subtraction_is_shown_before_and_after(found: ClusterResult) -> None:
    def leak(gain: float) -> Agreement:
        return Agreement(46, 2, 0.5, 0.1 * gain, 0.0, 0.5 + gain / 2, 0.5, gain)

    left = {
        "heat": {"explained": 0.02, "explained_before": 0.6},
        "gone": {"explained": math.nan, "explained_before": 1},
    }
    quality = {**found.quality, "halves": None, "leakage": leak(0.04), "leakage_before": leak(0.7), "left_out": left}
    html = cluster_html(replace(found, quality=quality))
    table = Page(html).texts("section", "trust")[0]
    assert "0.040 of the way (NMI 0.004); with nothing left out 0.700 (NMI 0.070)." in table
    assert "What is left of “heat” 0.020 The clusters say little or nothing of it: 2.0% of how" in table
    assert "with nothing left out it was 60%." in table
    assert "gone" not in table
    assert re.findall(r'class="sum" x1="([\d.]+)%" x2="[\d.]+%" y1="0" y2="15"', html)[:2] == ["70.00", "60.00"]
    worse = Page(cluster_html(replace(found, quality={**quality, "stability": 0.3, "silhouette": math.nan})))
    assert "Other clusters come out each time" in worse.texts("section", "trust")[0]
    assert "They are apart" not in worse.texts("section", "trust")[0]


def test_each_cluster_has_a_card_with_its_numbers(found: ClusterResult, html: str) -> None:
    page = Page(html)
    assert page.texts("span", "label") == found.names
    for row, card in zip(found.frame.rows(named=True), page.texts("article"), strict=True):
        assert card.startswith(f"{row['cluster']} {row['name']}")
        assert f"{row['size']} documents, {share(row['share'])}" in card
        assert f"stability {row['stability']:.2f} · mean membership {row['membership']:.2f}" in card
        for concept in found.concepts.filter(pl.col("cluster") == row["cluster"]).rows(named=True):
            numbers = f"{share(concept['here'])} here, {share(concept['there'])} elsewhere"
            assert (
                f"{numbers} {p_in_words(concept['q_value']) if concept['q_value'] is not None else 'not tested'}"
                in card
            )
    assert len(page.texts("article")) == 3


def test_examples_have_their_evidence_marked(found: ClusterResult, html: str) -> None:
    page = Page(html)
    marked = [row["evidence"].strip() for row in found.examples.rows(named=True) if row["evidence"]]
    assert page.texts("mark") == marked
    assert len(marked) == found.examples.height
    for row in found.examples.rows(named=True):
        assert f"{row['doc_id']} membership {row['membership']:.2f}" in " ".join(page.texts("figcaption"))
    border = found.examples.filter(pl.col("kind") == "border").row(0, named=True)
    assert f"next to {border['next']} {found.names[border['next']]}" in " ".join(page.texts("figcaption"))


def test_the_chosen_concepts_are_listed(found: ClusterResult, html: str) -> None:
    table = Page(html).texts("section", "axis-table")[0]
    for row in found.axis.table.rows(named=True):
        assert f"{row['latent']} {row['label'] or 'latent ' + str(row['latent'])} " in table
    assert share(found.axis.table["density"][0]) in table


# The charts


def test_the_tree_joins_clusters_at_their_heights() -> None:
    tree = tree_of(MergeTree(np.array([[0.0, 2.0, 1.0, 7.0], [1.0, 3.0, 4.0, 12.0]])), ["a", "b", "c"])
    assert tree is not None
    assert [leaf for leaf, _, _ in tree.leaves] == [1, 0, 2]
    assert tree.steps == (
        "0 with 2, 7 documents, at 1.00: 2 clusters left",
        "1 with 0 and 2, 12 documents, at 4.00: 1 cluster left",
    )
    (x, y, _), (top, _, _) = tree.nodes
    assert (x - tree.start) / (top - tree.start) == pytest.approx(0.25)
    at = {leaf: height for leaf, _, height in tree.leaves}
    assert y == (at[0] + at[2]) / 2
    assert (tree.start, at[1], top, at[1]) in tree.lines
    assert tree_of(MergeTree(np.empty((0, 4))), ["a"]) is None


def test_the_curve_says_why_this_number(found: ClusterResult) -> None:
    frame = pl.DataFrame(
        {
            "k": [2, 3, 5],
            "stability": [1.0, 0.75, 0.5],
            "error": [0.0, 0.1, 0.1],
            "null": [0.5, 0.25, 0.0],
            "null_error": [0.1] * 3,
            "excess": [0.5, 0.5, 0.5],
            "beyond": [True] * 3,
        }
    )
    curve = curve_of(frame, 3)
    (_, _, top, _, _), (k, x, y, high, low), (_, _, last, _, _) = curve.points
    assert (k, curve.chosen) == (3, x)
    assert y == pytest.approx((top + last) / 2)
    assert low - high == pytest.approx(0.8 * (y - top), rel=1e-6)
    page = Page(cluster_html(replace(found, curve=frame)))
    assert "2 1.00 0.50 +0.50 3 0.75 0.25 +0.50 5 0.50 0.00 +0.50" in page.texts("section", "curve")[0]
    assert "Why 3" in page.texts("h2")


# The map


def test_the_map_holds_each_document_with_its_cluster(found: ClusterResult, html: str) -> None:
    data, rows = map_data(html), found.coordinates.rows
    assert data["cluster"] == found.clusters.labels.tolist()
    assert data["ids"] == found.m.docs["doc_id"][rows].to_list()
    assert data["texts"] == found.m.docs["text"][rows].to_list()
    assert data["names"] == found.names
    assert data["membership"] == np.rint(100 * found.clusters.membership).tolist()
    assert len(data["x"]) == len(data["y"]) == found.coordinates.n
    for values in (data["x"], data["y"]):
        assert all(isinstance(x, int) for x in values)
        assert min(values) >= 0
        assert max(values) <= data["ends"]
    said = Page(html).texts("section", "map")[0]
    assert "3 documents have none of the chosen concepts and so no place." in said
    assert "Places: t-SNE of the documents' coordinates by the chosen concepts." in said
    assert "as few documents share a value: own." in said


def test_columns_of_every_type_can_be_coloured_by(found: ClusterResult, html: str) -> None:
    docs = found.m.docs[found.coordinates.rows]
    names = [column["name"] for column in map_data(html)["columns"]]
    assert names == ["drink", "score", "count", "few", "flag", "day", "tags", "about", "many", "n_units", "n_tokens"]
    assert decoded(column(html, "drink")) == docs["drink"].to_list()
    assert column(html, "drink")["values"] == ["tea", "coffee", "milk"]  # the most frequent first
    assert column(html, "few")["values"] == ["0", "1", "2"]
    flags = {True: "yes", False: "no", None: None}
    assert decoded(column(html, "flag")) == [flags[flag] for flag in docs["flag"]]
    assert decoded(column(html, "day"))[:2] == ["2026-01-01", "2026-01-02"]
    assert decoded(column(html, "tags"))[1] == '["t1", "all"]'
    assert decoded(column(html, "about"))[1] == '{"a": 1}'
    scores = column(html, "score")["numbers"]
    assert scores[:6] == [0, 0.1235, 0.2469, None, None, 0.6173]  # neither null nor NaN has a place on a scale
    assert column(html, "count")["numbers"] == docs["count"].to_list()
    many = column(html, "many")
    assert (len(many["values"]), many["more"], many["values"][0]) == (15, 3, "v14")
    assert decoded(many) == docs["many"].to_list()
    long = draw_map(replace(found, m=replace(found.m, docs=found.m.docs.with_columns(many=pl.lit("one")))))
    assert [column["more"] for column in json.loads(long.data)["columns"] if column["name"] == "many"] == [0]


def test_a_set_without_texts_columns_and_labels_is_shown_too(found: ClusterResult) -> None:
    m = replace(found.m, docs=found.m.docs.select("doc_id"))
    bare = cluster_html(cluster(m, k=2))
    data = map_data(bare)
    assert data["texts"] is None
    assert data["columns"] == []
    assert "The text was not kept." in Page(bare).texts("article")[0]


def test_one_cluster_is_a_page_too(found: ClusterResult) -> None:
    one = found.clusters
    labels = np.where(np.arange(len(one.labels)) % 5 == 0, -1, 0)  # a fifth is noise
    lone = replace(
        found,
        frame=found.frame.head(1),
        clusters=Clusters(labels, one.membership, one.centres[:1]),
        tree=MergeTree(np.empty((0, 4))),
        concepts=found.concepts.clear(),
        examples=found.examples.clear(),
        quality={"stability": math.nan, "silhouette": math.nan},
    )
    page = Page(cluster_html(lone))
    assert page.texts("h1") == ["1 cluster"]
    assert page.texts("section", "tree") == []
    assert "No concept is more frequent" in page.texts("article")[0]
    assert map_data(cluster_html(lone))["cluster"].count(-1) == 10


def of_many(found: ClusterResult, n: int, text: str = "Some words of a text. ") -> ClusterResult:
    """A result on n documents, a tenth of them in the last cluster, without the time to group them."""
    rng = np.random.default_rng(0)
    labels = rng.choice(3, n, p=[0.6, 0.3, 0.1])
    P = (rng.normal(size=(n, 3)) + 3 * np.eye(3)[labels]).astype(np.float32)
    docs = pl.DataFrame(
        {
            "doc_id": [f"document-{i:06}" for i in range(n)],
            "text": [text * 20] * n,
            "kind": [f"k{i % 30}" for i in range(n)],
            "value": rng.normal(size=n),
        }
    )
    m: Any = SimpleNamespace(docs=docs, n_docs=n)
    transform = found.coordinates.transform
    return replace(
        found,
        m=m,
        coordinates=Coordinates(P, np.arange(n), transform, "svd"),
        clusters=Clusters(labels, rng.random(n).astype(np.float32), found.clusters.centres),
        assignments=pl.DataFrame({"doc_id": docs["doc_id"], "cluster": labels.astype(np.int32)}),
    )


def first_two(Z: np.ndarray, seed: int) -> np.ndarray:
    return np.asarray(Z[:, :2], dtype=np.float64)


def test_ten_thousand_documents_stay_a_small_file(found: ClusterResult, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_map, "_tsne", first_two)
    html = cluster_html(of_many(found, 10_000))
    data = map_data(html)
    assert len(data["x"]) == 10_000
    assert max(map(len, data["texts"])) == 200
    assert len(html.encode()) < 3_000_000
    assert "10,000 documents" in Page(html).texts("section", "map")[0]


def test_more_documents_are_a_sample_of_every_cluster_and_it_is_said(
    found: ClusterResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_map, "_tsne", first_two)
    many = of_many(found, 24_000)
    drawn = draw_map(many)
    labels = json.loads(drawn.data)["cluster"]
    assert (drawn.shown, drawn.placed, len(labels)) == (20_000, 24_000, 20_000)
    for code, size in enumerate(np.bincount(many.clusters.labels)):
        assert labels.count(code) == pytest.approx(size * 20 / 24, abs=1)
    assert max(map(len, json.loads(drawn.data)["texts"])) <= drawn.chars == 100
    monkeypatch.setattr(cluster_map, "MOST", 30)
    said = Page(cluster_html(found)).texts("section", "map")[0]
    assert said.startswith("Map 30 documents of 46")
    assert "A sample is drawn, the same share of every cluster." in said


def test_a_sample_has_some_of_every_cluster() -> None:
    labels = np.array([0] * 700 + [1] * 299 + [-1])
    part = sample(labels, 100, 0)
    assert len(part) == 100
    assert np.array_equal(part, np.unique(part))
    assert np.bincount(labels[part] + 1).tolist() == [1, 70, 29]
    assert np.array_equal(sample(labels, 100, 0), part)
    assert np.array_equal(sample(labels, 1_000, 0), np.arange(1_000))


@pytest.mark.parametrize("landmarks", [1_000, 60])
def test_documents_lie_beside_those_of_their_kind(landmarks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_map, "_LANDMARKS", landmarks)
    rng = np.random.default_rng(0)
    kind = np.repeat(np.arange(4), 50)
    Z = (4 * np.eye(4)[kind] + rng.normal(scale=0.5, size=(200, 4))).astype(np.float32)
    points, way = positions(Z, 0)
    assert ("60 documents" in way) == (landmarks == 60)
    far = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(far, np.inf)
    assert (kind[far.argmin(axis=1)] == kind).mean() >= 0.98
    assert np.array_equal(positions(Z, 0)[0], points)
    assert points.min() == 0
    assert points.max() == 4_095


@pytest.mark.parametrize(
    "Z", [np.zeros((0, 3)), np.ones((1, 1)), np.ones((40, 3)), np.eye(9)], ids=["none", "one", "equal", "few"]
)
def test_sets_of_no_extent_have_places(Z: np.ndarray) -> None:
    points, _ = positions(Z.astype(np.float32), 0)
    assert points.shape == (len(Z), 2)
    assert ((points >= 0) & (points <= 4_095)).all()


def test_umap_is_taken_where_it_is_installed() -> None:
    pytest.importorskip("umap")
    Z = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    points, way = positions(Z, 0)
    assert way.startswith("UMAP")
    assert np.array_equal(positions(Z, 0)[0], points)


# What is never trusted


HOSTILE = [
    "</script><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "<!--<script>",
    "\u202egnihton\u202c \u2028 tea",
    "]]></style><b>{{ 7*7 }}",
]


def test_hostile_texts_names_and_values_are_text() -> None:
    texts = [f"{HOSTILE[i % 5]} {drink} and more." for i, drink in enumerate(DRINKS)]
    m = keyword_matrix(texts, WORDS, HOSTILE[:4], **{HOSTILE[1]: [HOSTILE[i % 5] for i in range(len(texts))]})
    m = replace(m, docs=m.docs.with_columns(doc_id=pl.Series([f"{HOSTILE[i % 5]}{i}" for i in range(len(texts))])))
    result = cluster(m, k=3, truth=HOSTILE[1])
    result = replace(
        result, notes=(HOSTILE[0],), parameters={**result.parameters, "by": [HOSTILE[0]], "without": [HOSTILE[1]]}
    )
    html = cluster_html(result)
    page = Page(html)
    tags = [tag for tag, _, _ in page.elements]
    assert (tags.count("script"), tags.count("style")) == (2, 1)
    assert not {"img", "iframe", "object"} & set(tags)
    assert not [name for _, attributes, _ in page.elements for name in attributes if name.startswith("on")]
    assert page.texts("section", "notes") == [f"To keep in mind {HOSTILE[0]}"]
    data = map_data(html)
    assert data["texts"][0] == texts[0]
    assert data["texts"][3].startswith("⟨U+202E⟩gnihton⟨U+202C⟩")
    assert data["columns"][0]["name"] == HOSTILE[1]
    assert HOSTILE[2] in data["columns"][0]["values"]
    raw = html.split('id="map-data">')[1].split("</script>")[0]
    assert not set("<>&\u2028\u2029") & set(raw)


def test_the_page_allows_its_own_style_and_script_alone(html: str) -> None:
    policy = next(a["content"] for tag, a, _ in Page(html).elements if tag == "meta" and a.get("http-equiv"))
    assert policy is not None
    assert "default-src 'none'" in policy
    for tag in ("style", "script"):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert re.findall(r"url\(|@import|fetch\(|innerHTML| style=|https?://(?!www\.w3\.org/2000/svg)", html) == []


def test_the_same_result_gives_the_same_bytes(tmp_path: Path, found: ClusterResult, html: str) -> None:
    assert write_cluster_report(found, tmp_path / "c.html").read_bytes() == html.encode()
    assert [path.name for path in tmp_path.iterdir()] == ["c.html"]
    assert sd.write_cluster_report is write_cluster_report
    with pytest.raises(InputError, match=r"cannot write '.*c.html': No such file or directory"):
        write_cluster_report(found, tmp_path / "none" / "c.html")


def test_the_command_writes_the_page(tmp_path: Path) -> None:
    m = planted(0, n=60, k=2, own=6, others=4)
    counted = m.docs.with_columns(n_units=pl.lit(3, pl.Int32), n_tokens=pl.lit(9, pl.Int32))
    store, page = tmp_path / "m.sae", tmp_path / "c.html"
    write(store, replace(m, docs=counted), docs_per_shard=40)
    asked = ["cluster", str(store), "-k", "2", "--report"]
    ended = CliRunner().invoke(cli, [*asked, str(page)], catch_exceptions=False)
    assert f"wrote {page}" in ended.stderr
    assert Page(page.read_text(encoding="utf-8")).texts("h1") == ["2 clusters"]
    with pytest.raises(InputError, match=r"cannot write 'c\.pdf': its name must end in \.html"):
        CliRunner().invoke(cli, [*asked, "c.pdf"], catch_exceptions=False)


# In a browser


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --enable-logging=stderr --v=0 --virtual-time-budget=3000 --dump-dom"
).split()
#: Uses the map as a reader would and writes what is then seen into the title.
DRIVE = """
{
  const [canvas, told, legend, tools] = ["canvas", ".told", ".legend", ".tools"].map((s) => document.querySelector(s));
  const [words, output, next] = ["input", "output", "button[name=next]"].map((s) => tools.querySelector(s));
  const title = () => told.querySelector("h3")?.textContent ?? "-";
  const keys = () => [...legend.querySelectorAll("button")].map((b) => b.textContent).join(", ");
  const press = (key) => canvas.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
  const set = (control, value, event) => { control.value = value; control.dispatchEvent(new Event(event)); };
  const point = (type, x, y) => {
    const box = canvas.getBoundingClientRect();
    canvas.dispatchEvent(new PointerEvent(type, { clientX: box.left + x, clientY: box.top + y, pointerId: 1, bubbles: true }));
  };
  canvas.setPointerCapture = () => {}; // made events have no pointer to capture
  const said = [keys()];
  let at = null;
  for (let x = 4; x < canvas.clientWidth && !at; x += 8)
    for (let y = 4; y < canvas.clientHeight && !at; y += 8) {
      point("pointermove", x, y);
      if (title() !== "-") at = [x, y];
    }
  const seen = title();
  const text = told.querySelector("blockquote").textContent.startsWith("Number ");
  point("pointerdown", ...at); point("pointerup", ...at);
  point("pointermove", 1, 1);
  said.push(seen === title() && text, told.querySelector(".kept") !== null);
  press("Escape"); said.push(title());
  press("ArrowRight"); const one = title(); press("ArrowRight"); said.push(one !== "-" && title() !== one);
  set(words, "number 20 coffee", "input"); said.push(output.textContent);
  next.click(); said.push(title());
  set(words, "", "input"); said.push(output.textContent);
  set(tools.elements.colour, "2", "change"); said.push(keys());
  legend.querySelector("button").click(); said.push(legend.querySelector("button").getAttribute("aria-pressed"), legend.querySelectorAll("button").length);
  set(tools.elements.colour, "3", "change"); said.push(legend.textContent);
  set(tools.elements.colour, "10", "change"); said.push([...legend.querySelectorAll("button")].at(-1).textContent);
  requestAnimationFrame(() => requestAnimationFrame(() => {
    const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    said.push(pixels.some((value) => value > 0));
    document.title = said.join("|");
  }));
}
"""


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium to look with")
def test_the_map_works_in_a_browser_without_a_complaint(tmp_path: Path, found: ClusterResult, html: str) -> None:
    script = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)[0]
    old, new = (base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in (script, script + DRIVE))
    page = tmp_path / "c.html"
    page.write_text(html.replace(script, script + DRIVE).replace(old, new), encoding="utf-8")
    command = [str(CHROMIUM), *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", page.as_uri()]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "CONSOLE" not in run.stderr
    seen = re.findall("<title>(.*?)</title>", run.stdout)[0].split("|")
    sizes = zip(range(3), found.names, found.frame["size"], strict=True)
    many = found.m.docs["many"][found.coordinates.rows].value_counts(sort=True)["count"].to_list()
    others = sum(many[12:])
    assert seen == [
        ", ".join(f"{i} {name}{size}" for i, name, size in sizes),
        "true",
        "true",
        "-",
        "true",
        "1 of 46",
        "d20",
        "",
        "tea18, coffee16, milk12",
        "false",
        "4",
        "05.556no value2",
        f"other values (3){others}",
        "true",
    ]
