"""The report of correlations says what the result says, in one light page that trusts no text."""

from __future__ import annotations

import re

import numpy as np
import polars as pl
import pytest
from keywords import keyword_matrix

from saelens_data.correlate import correlate, correlate_with
from saelens_data.errors import InputError
from saelens_data.report.correlate import correlate_html, write_correlate_report

EVIL = "<script>alert(1)</script>"


def texts(n: int = 200) -> list[str]:
    """Tea and cake far apart in a quarter of the documents; milk and salt by themselves."""
    rng = np.random.default_rng(0)
    found = []
    for i in range(n):
        first = "Here is some tea." if i % 4 == 0 or rng.random() < 0.05 else "Here is nothing."
        last = "There is cake." if i % 4 == 0 or rng.random() < 0.05 else "There is none."
        middle = [
            "Milk stands here." if rng.random() < 0.2 else "Words.",
            "More words.",
            f"Say {i} {EVIL}.",
            "And so on.",
        ]
        found.append(" ".join([first, *middle, last]))
    return found


@pytest.fixture(scope="module")
def page() -> str:
    m = keyword_matrix(texts(), {1: "tea", 2: "cake", 3: "Milk"}, ["hot <b>tea</b>", "sweet cake", "white milk"])
    return correlate_html(correlate(m))


def test_the_page_has_the_pair_its_table_and_its_documents(page):
    result = correlate(keyword_matrix(texts(), {1: "tea", 2: "cake", 3: "Milk"}, ["a tea", "b cake", "c milk"]))
    row = result.frame.row(0, named=True)
    n, a, b, both = 200, row["n_a"], row["n_b"], row["n_both"]
    four = re.search(r'<table class="four">.*?</table>', page, re.DOTALL).group(0)
    cells = [int(x.replace(",", "")) for x in re.findall(r"<td>([\d,]+)</td>", four)]
    assert cells == [both, a - both, a, b - both, n - a - b + both, n - a, b, n - b, n]
    assert '<mark class="a">' in page
    assert '<mark class="b">' in page
    assert f"{both} documents with both" in page
    for name in ("few", "everywhere", "similar", "spans", "length", "third"):
        assert f"<code>{name}</code>" in page


def test_no_text_acts(page):
    assert EVIL not in page
    assert "<b>tea</b>" not in page
    assert "&lt;script&gt;" in page
    assert page.count("<script>") == 1
    assert "http://" not in re.sub(r"xmlns='http://www.w3.org/2000/svg'", "", page)


def test_the_same_result_gives_the_same_bytes_and_bad_counts_are_refused(tmp_path):
    result = correlate(keyword_matrix(texts(), {1: "tea", 2: "cake"}, ["a tea", "b cake"]))
    one, other = (write_correlate_report(result, tmp_path / name).read_bytes() for name in ("a.html", "b.html"))
    assert one == other
    assert "<figcaption>" not in correlate_html(result, examples=0)
    with pytest.raises(InputError):
        correlate_html(result, groups=0)
    with pytest.raises(InputError):
        write_correlate_report(result, tmp_path / "no" / "a.html")


def test_columns_have_pages_too():
    m = keyword_matrix(texts(), {1: "tea", 2: "Milk"}, ["a tea", "b milk"], score=[i % 4 == 0 for i in range(200)])
    assert "score: True" in correlate_html(correlate_with(m, "score"))
    m = m.with_docs(m.docs.select("doc_id", (-pl.int_range(200) % 4).alias("rate")))
    html = correlate_html(correlate_with(m, "rate"))
    assert "higher with chance" in html
    assert "rate: " in html


def test_nothing_found_is_said():
    m = keyword_matrix(texts(), {3: "Milk"}, ["white milk"])
    assert "No finding." in correlate_html(correlate(m))
