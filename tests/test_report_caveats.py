"""Each caveat stands where it is true and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import polars as pl
import pytest
from keywords import keyword_matrix
from pages import WORDS, Page, answers, of_groups, stronger, with_

from saelens_data.diff.two import DiffResult, diff
from saelens_data.report.caveats import Grounds, caveats
from saelens_data.report.findings import shown_findings
from saelens_data.report.two import diff_html


@pytest.fixture(scope="module")
def grouped() -> DiffResult:
    return of_groups()


def said(result: DiffResult, row: int = 0) -> list[str]:
    """What is to be weighed about a finding."""
    shown = shown_findings(result, findings=50, examples=0)
    return [caveat.text for caveat in shown.findings[row].caveats]


CAVEATS = {
    "explained": "Explained by",
    "undecided": "It may or may not be explained",
    "confirmed": "Confirmed in",
    "unconfirmed": "Not confirmed in",
    "strength": "Strength only",
    "few": "It rests on few documents",
    "longer": "It favours the set with the longer documents",
    "everywhere": "It is nearly everywhere",
    "guess": "Its label is a guess",
    "unlabelled": "It has no label",
    "chosen": "The numbers are those of latent",
    "disagree": "Its latents do not agree",
}


def kinds(result: DiffResult, row: int = 0) -> set[str]:
    texts = said(result, row)
    found = {kind for kind, start in CAVEATS.items() for text in texts if text.startswith(start)}
    assert len(found) == len(texts)
    return found


def many(a: Sequence[str], b: Sequence[str], **options: object) -> DiffResult:
    """Sets of 100 documents that repeat these words."""
    sets = (
        keyword_matrix(answers([words[i % len(words)] for i in range(100)]), WORDS, ["hot tea", "x", "y"])
        for words in (a, b)
    )
    return diff(*sets, names=("old", "new"), **options)


PLAIN = many(["tea", "tea", "milk", "x"], ["tea", "milk", "x", "x"])


def test_a_finding_without_doubts_has_no_caveat() -> None:
    assert kinds(PLAIN) == set()
    page = Page(diff_html(PLAIN))
    assert "To weigh" not in page.texts("h3")
    assert page.texts("span", "flag") == []


@pytest.mark.parametrize(
    ("columns", "kind", "text", "flag"),
    [
        ({"explained_by": "length"}, "explained", "Explained by length: documents of equal length need not differ, and less than half of the difference would be left.", "explained by length"),
        ({"undecided": True}, "undecided", "It may or may not be explained by length: at equal length nothing need be left, but there are too few documents to show that.", "may be length"),
        ({"confirmed": True, "confirm_difference": 0.2, "confirm_low": 0.1, "confirm_high": 0.3, "confirm_q": 0.001}, "confirmed", "Confirmed in documents held out: the difference there is 20 points (10 to 30); q, of presence and strength, 1.0 × 10⁻³.", "confirmed"),
        ({"confirmed": False, "confirm_difference": -0.02, "confirm_low": -0.1, "confirm_high": 0.06, "confirm_q": 0.8}, "unconfirmed", "Not confirmed in documents held out: the difference there is −2.0 points (−10.0 to 6.0); q, of presence and strength, 0.80.", "not confirmed"),
        ({"label": None}, "unlabelled", "It has no label: read the examples.", None),
    ],
)  # fmt: skip
def test_caveats_of_columns(columns: dict[str, object], kind: str, text: str, flag: str | None) -> None:
    result = with_(PLAIN, **columns)
    assert kinds(result) == {kind}
    assert said(result) == [text]
    page = Page(diff_html(result))
    assert page.texts("li")[-1] == text
    assert page.texts("span", "flag") == ([flag] if flag else [])


def test_false_and_null_are_no_caveats() -> None:
    assert kinds(with_(PLAIN, explained_by=None, undecided=False, confirmed=None)) == set()


def test_strength_only_unless_presence_shows_by_itself() -> None:
    result = stronger("tea tea tea", "tea")
    assert "strength" in kinds(result)
    assert "strength" in kinds(with_(result, p_presence=0.05))
    assert "strength" not in kinds(with_(result, p_presence=0.0499))
    assert "strength" not in kinds(with_(result, p_presence=0.2, p_strength=0.3))


def test_few_documents() -> None:
    words = (["tea"] * 12 + ["x"] * 88, ["x"] * 100)
    assert said(many(*words)) == ["It rests on few documents: 12 documents of both sets with it."]
    assert said(many(*words, pair_on="doc_id")) == ["It rests on few documents: 12 pairs in which one alone has it."]
    rare = many(["tea"] * 100, ["tea"] * 85 + ["x"] * 15)
    assert said(rare)[0] == "It rests on few documents: 15 documents of both sets without it."
    assert kinds(many(["tea"] * 20 + ["x"] * 80, ["x"] * 100)) == set()
    assert kinds(stronger("tea tea tea", "tea", "prompt")) == {"strength", "everywhere"}


def test_nearly_everywhere() -> None:
    common = many(["tea"], ["tea"] * 80 + ["x"] * 20)
    assert said(common) == ["It is nearly everywhere: in 80% of either set's documents or more."]
    assert kinds(many(["tea"], ["tea"] * 79 + ["x"] * 21)) == set()


def test_the_favoured_set_is_longer() -> None:
    def lengthened(result: DiffResult, a: int, b: int) -> DiffResult:
        sets = (m.docs.with_columns(n_units=pl.lit(n)) for m, n in ((result.a, a), (result.b, b)))
        docs_a, docs_b = sets
        return replace(result, a=replace(result.a, docs=docs_a), b=replace(result.b, docs=docs_b))

    assert PLAIN.frame["favours"][0] == "old"
    (text,) = said(lengthened(PLAIN, 22, 20))
    assert text.startswith("It favours the set with the longer documents (22.0 against 20.0 units on average)")
    assert text.endswith("read the adjusted difference.")
    assert kinds(lengthened(PLAIN, 21, 20)) == set()
    assert kinds(lengthened(PLAIN, 20, 22)) == set()
    unadjusted = replace(PLAIN, parameters={**PLAIN.parameters, "adjusted_for": []})
    assert said(lengthened(unadjusted, 22, 20))[0].endswith("no adjustment for that was possible.")


def test_the_label_is_a_guess() -> None:
    def scored(score: float | None) -> DiffResult:
        concepts = PLAIN.a.concepts.with_columns(score=pl.lit(score, pl.Float64))
        return replace(PLAIN, a=replace(PLAIN.a, concepts=concepts))

    assert said(scored(0.25)) == ["Its label is a guess (it scores 0.25 of 1): read the examples, not the label."]
    assert kinds(scored(0.5)) == kinds(scored(None)) == set()


def test_members_that_disagree(grouped: DiffResult) -> None:
    assert kinds(grouped) == {"chosen", "few"}
    assert said(grouped)[-1].startswith(
        "The numbers are those of latent 6, chosen among 2 near-duplicates for its small p"
    )
    against = grouped.frame.with_columns(any_a=pl.lit(0.3), any_b=pl.lit(0.4))
    assert said(replace(grouped, frame=against))[-1] == (
        "Its latents do not agree: one or another is in 30% of old and 40% of new."
    )
    turned = pl.when(pl.col("latent") == 5).then(-pl.col("delta")).otherwise("delta")
    latents = grouped.latents.with_columns(delta=turned)
    assert said(replace(grouped, latents=latents))[-1] == (
        "Its latents do not agree: one or another is in 75% of old and 10% of new; latent 5 by itself favours the other set."
    )
    weak = latents.with_columns(p_value=pl.when(pl.col("latent") == 5).then(0.05).otherwise("p_value"))
    assert kinds(replace(grouped, latents=weak)) == {"chosen", "few"}


def test_caveats_of_strength_name_strength() -> None:
    result = with_(stronger("tea tea tea", "tea"), explained_by="length")
    rows = result.frame.row(0, named=True)
    first = caveats(Grounds.of(result), rows, [rows])[0]
    assert (first.flag, first.tone) == ("explained by length", "doubt")
    assert first.text.endswith("less than half of the strength would be left.")
