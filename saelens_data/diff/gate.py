"""A comparison as a test that can fail: a rule over the findings of `diff`, a watchlist, outputs for CI.

Names, labels and notes come from documents that nobody vouches for: each output escapes them for its format.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl

from saelens_data.concepts import find_concepts
from saelens_data.diff.two import DiffResult
from saelens_data.display.table import html
from saelens_data.errors import InputError
from saelens_data.matrix import mask_of
from saelens_data.wording import count, difference_in_points, explained, one_line, p_in_words, share

#: Characters of a label in the outputs; labels that a message lists.
_CHARS, _LISTED = 120, 6
#: Concepts that a phrase may cover.
_NEAREST = 20
#: What Markdown, or HTML in it, takes for more than text, anywhere or at the beginning.
_MARKUP = re.compile(r"[\\`*\[\]|~$]|<(?=[a-z/!?])|&(?=[#a-z])|(?<![^\W_])_|_(?![^\W_])|^[-+=>\d]", re.IGNORECASE)
#: What a forge turns into a mention, a reference or a link even when escaped: a space of no width ends it.
_LINKS = re.compile(r"@|#|:(?=//)|\bwww(?=\.)", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class GateResult:
    """The outcome of `gate`: passed where `failed` is empty."""

    #: The SQL expression that no finding may match.
    rule: str
    #: The terms of the watchlist, files read; empty where every concept is watched.
    watch: tuple[str, ...]
    #: The findings that match, with all columns of the comparison.
    failed: pl.DataFrame
    #: One row for each term and concept that it covers: `term`, `latent`, `label`, `rank` of the row that tells of it
    #: (null if not tested), and `verdict`: "fails", "finding" (which the rule allows), "no finding" or "not tested".
    watched: pl.DataFrame
    #: Findings that the rule was asked about.
    n_judged: int

    @property
    def ok(self) -> bool:
        """No finding matches."""
        return self.failed.is_empty()

    def summary(self) -> str:
        """The verdict in a sentence."""
        verb = "matches" if self.failed.height == 1 else "match"
        on = f" on {count(self.watched['latent'].n_unique(), 'watched concept')}" if self.watch else ""
        verdict = f"{self.failed.height:,} of {count(self.n_judged, 'finding')}{on} {verb} {self.rule}"
        return f"{'Passed' if self.ok else 'Failed'}: {verdict}."

    def _repr_html_(self) -> str:
        """The verdict and the findings that match, as a table for notebooks; every text is escaped."""
        from saelens_data.diff.shown import of_findings  # noqa: PLC0415

        return html(self.summary(), of_findings(self.failed))


def gate(result: DiffResult, fail_on: str, watch: Sequence[str] = ()) -> GateResult:
    """Judge the findings of a comparison by a rule that none may match.

    `fail_on` is a SQL expression over the columns of `result.frame`; `difference` is A - B, so abs(difference) means
    either direction. It is asked of findings alone: what is not significant never fails. With `watch`, only of findings
    that hold a concept of the watchlist: a term is a latent's number, words that its label or explanation must all
    contain (parts of words will do, case does not matter), a phrase in double quotes, for the concepts that fit it as
    `find_concepts` says, or @FILE with a term on each line.

    Raises InputError for a rule that cannot be evaluated, is not true or false, or is null for a finding (a gate
    must not pass for want of a number), and for a term that covers no concept.
    """
    terms = read_watchlist(watch)
    covered = _covered(result, terms)
    rows = result.frame.filter(pl.col("finding"))
    if terms:
        told = _members(rows).filter(pl.col("latent").is_in(covered["latent"].to_list()))
        rows = rows.filter(pl.col("rank").is_in(told["rank"].to_list()))
    failed = rows.filter(pl.Series(mask_of(rows, fail_on)))
    if not_said := int(mask_of(rows, pl.sql_expr(fail_on).is_null()).sum()):
        raise InputError(
            f'the rule "{fail_on}" says neither yes nor no of {count(not_said, "finding")}, where a column it reads '
            "is null: say what holds there, as in COALESCE(adjusted_difference, difference) > 0.1"
        )
    watched = _verdicts(result.frame, covered, failed["rank"])
    return GateResult(fail_on, terms, failed, watched, rows.height)


def check_rule(fail_on: str) -> None:
    """Raise InputError for a rule that is no SQL expression, before there is a result to ask it of."""
    try:
        pl.sql_expr(fail_on)
    except pl.exceptions.PolarsError as error:
        raise InputError(f'the rule "{fail_on}" is no SQL expression: {str(error).splitlines()[0]}') from error


def read_watchlist(watch: Sequence[str]) -> tuple[str, ...]:
    """The terms without repeats, those of each @FILE in its place.

    Empty lines of a file and those that begin with # are skipped. Raises InputError for a file that cannot be read or
    holds no term, and for a term without a letter or digit.
    """
    terms = [term for given in watch for term in (_read(given[1:]) if given.startswith("@") else [given])]
    for term in terms:
        if not any(map(str.isalnum, term)):
            raise InputError(f"cannot watch '{term}': name a latent by its number, or words of a label")
    return tuple(dict.fromkeys(" ".join(term.split()) for term in terms))


def _read(name: str) -> list[str]:
    try:
        lines = Path(name).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise InputError(f"cannot read the watchlist '{name}': {reason}") from error
    terms = [line for line in map(str.strip, lines) if line and not line.startswith("#")]
    if not terms:
        raise InputError(f"the watchlist '{name}' names no concept: give a number or words on each line")
    return terms


def _covered(result: DiffResult, terms: Sequence[str]) -> pl.DataFrame:
    """One row for each term and concept that it covers: `term`, `latent`, `label`."""
    concepts = result.a.concepts
    said = [pl.col(name).fill_null("") for name in ("label", "explanation") if name in concepts.columns]
    table = concepts.select(
        pl.lit("").alias("term"),
        pl.col("latent").cast(pl.Int64),
        pl.col("label").cast(pl.String) if "label" in concepts.columns else pl.lit(None, pl.String).alias("label"),
        pl.concat_str([*said, pl.lit("")], separator="\n").str.to_lowercase().alias("text"),
    )
    found = [table.head(0)]
    for term in terms:
        if term.isdecimal():
            rows = table.filter(pl.col("latent").cast(pl.String) == str(int(term)))
        elif phrase := _quoted(term):
            near = find_concepts(result.a, phrase, n=_NEAREST).frame.filter("fits")
            rows = table.filter(pl.col("latent").is_in(near["latent"].cast(pl.Int64).to_list()))
        else:
            rows = table.filter(pl.col("text").str.contains(word, literal=True) for word in term.lower().split())
        if rows.is_empty():
            raise InputError(f"the watchlist covers nothing by '{term}': {_near(term, table)}")
        found.append(rows.with_columns(term=pl.lit(term)))
    return pl.concat(found).drop("text")


def _quoted(term: str) -> str | None:
    """The phrase of a term in double quotes."""
    return term[1:-1].strip() or None if len(term) > 2 and term[0] == term[-1] == '"' else None


def _near(term: str, table: pl.DataFrame) -> str:
    """What there is instead, for the message."""
    if _quoted(term):
        return "no concept of this encoder fits the phrase; say it in other words"
    if term.isdecimal():
        low, high = table.select(low=pl.col("latent").min(), high=pl.col("latent").max()).row(0)
        return f"latents go from {low} to {high}"
    labels = table.drop_nulls("label")
    if labels.is_empty():
        return "no concept has a label; name latents by number"
    words = labels["text"].str.extract_all(r"\w+").explode().unique().sort().drop_nulls().to_list()
    near = [match for word in term.lower().split() for match in get_close_matches(word, words, n=3, cutoff=0.6)]
    like = [labels.filter(pl.col("text").str.contains(rf"\b{word}\b")).head(2) for word in near]
    if not like or (found := pl.concat(like)).is_empty():
        return "no label has words like it; a part of a word will do, or a latent's number"
    nearest: list[str] = found["label"].unique(maintain_order=True).head(_LISTED).to_list()
    shown = "; ".join(f"'{one_line(label)}'" for label in nearest)
    return f"a part of a word will do; the nearest labels are {shown}"


def _members(frame: pl.DataFrame) -> pl.DataFrame:
    """Which row tells of each latent, findings first: `latent`, `rank`."""
    own = pl.concat_list("latent").cast(pl.List(pl.Int64))
    every = pl.coalesce(pl.col("members").cast(pl.List(pl.Int64)), own) if "members" in frame.columns else own
    return frame.select("rank", latent=every).explode("latent").sort("rank")


def _verdicts(frame: pl.DataFrame, covered: pl.DataFrame, failed: pl.Series) -> pl.DataFrame:
    """The covered concepts, each with the row that tells of it and what the gate says of that."""
    verdict = (
        pl.when(pl.col("rank").is_null())
        .then(pl.lit("not tested"))
        .when(pl.col("rank").is_in(failed.to_list()))
        .then(pl.lit("fails"))
        .when(pl.col("finding"))
        .then(pl.lit("finding"))
        .otherwise(pl.lit("no finding"))
    )
    told = _members(frame).sort(~pl.col("rank").is_in(failed.to_list()), maintain_order=True)
    told = told.unique("latent", keep="first", maintain_order=True)
    told = told.join(frame.select("rank", "finding"), on="rank", how="left")
    joined = covered.join(told, on="latent", how="left", maintain_order="left")
    return joined.select("term", "latent", "label", "rank", verdict=verdict)


# --- outputs


def to_junit(gated: GateResult, result: DiffResult) -> str:
    """JUnit XML: a test for each term of the watchlist, or one for the rule; skipped where no concept was tested."""
    cases = [_case(gated, result, term) for term in gated.watch or (None,)]
    sums = {tag: sum(case.find(part) is not None for case in cases) for tag, part in _COUNTED.items()}
    counts = {"tests": str(len(cases)), **{tag: str(n) for tag, n in sums.items()}, "errors": "0"}
    suite = ET.Element("testsuite", {"name": "saelens-data diff", **counts})
    suite.extend(cases)
    ET.SubElement(suite, "system-out").text = "\n".join(map(one_line, (result.summary(), *result.notes)))
    root = ET.Element("testsuites")
    root.append(suite)
    ET.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


_COUNTED = {"failures": "failure", "skipped": "skipped"}


def _case(gated: GateResult, result: DiffResult, term: str | None) -> ET.Element:
    rule = one_line(gated.rule)
    case = ET.Element(
        "testcase", classname="saelens-data diff", name=rule if term is None else f"{one_line(term)}: {rule}"
    )
    failed = gated.failed
    if term is not None:
        covered = gated.watched.filter(pl.col("term") == term)
        failed = failed.filter(pl.col("rank").is_in(covered["rank"].drop_nulls().to_list()))
        if (covered["verdict"] == "not tested").all():
            why = f"too rare for any outcome to be a finding: {count(covered.height, 'concept')}"
            ET.SubElement(case, "skipped", message=why)
    if failed.height:
        message = f"{count(failed.height, 'finding')} matching {rule}"
        failure = ET.SubElement(case, "failure", message=message, type="finding")
        failure.text = "\n".join(_in_a_line(row, result.names) for row in failed.iter_rows(named=True))
    return case


def _in_a_line(row: Mapping[str, Any], names: tuple[str, str]) -> str:
    shares = ", ".join(f"{share(row[f'density_{side}'])} in {name}" for side, name in zip("ab", names, strict=True))
    return one_line(
        f"{_label(row)} (latent {row['latent']}): {shares}, difference {difference_in_points(row)} points, "
        f"q = {p_in_words(row['q_value'])}"
    )


def to_markdown(result: DiffResult, gated: GateResult | None = None, *, rows: int = 20) -> str:
    """The comparison as a page of Markdown, such as CI shows it: verdict, findings (first those that fail), notes."""
    name_a, name_b = map(_md, result.names)
    lines = [f"## {name_a} against {name_b}", "", f"> {_md(result.summary())}"]
    if gated is not None:
        verdict, _, rest = _md(gated.summary()).partition(":")
        lines += ["", f"**{verdict}:**{rest}", *_md_watched(gated)]
    failing = gated.failed["rank"].to_list() if gated is not None else []
    found = result.findings.sort(~pl.col("rank").is_in(failing), maintain_order=True)
    if found.height and rows:
        lines += ["", f"| concept | in {name_a} | in {name_b} | difference [95%] | q | note |"]
        lines += ["|---|---:|---:|---:|---:|---|"]
        lines += [_md_row(row, fails=row["rank"] in failing) for row in islice(found.iter_rows(named=True), rows)]
    if found.height > rows:
        lines += ["", f"{count(found.height - rows, 'more finding')} not shown."]
    lines += ["", *(f"- {_md(note)}" for note in result.notes)] if result.notes else []
    return "\n".join(lines) + "\n"


def _md_watched(gated: GateResult) -> Iterator[str]:
    """A line for each term: how many concepts it covers and what was said of them."""
    if gated.watch:
        yield ""
    for term in gated.watch:
        verdicts = gated.watched.filter(pl.col("term") == term)["verdict"]
        said = (
            (verdict, int((verdicts == verdict).sum())) for verdict in ("fails", "finding", "no finding", "not tested")
        )
        parts = ", ".join(f"{n:,} {verdict}" for verdict, n in said if n)
        yield "- " + _md(f"watched: {term}: {count(len(verdicts), 'concept')} ({parts})")


def _md_row(row: Mapping[str, Any], *, fails: bool) -> str:
    notes = ["fails"] if fails else []
    if (more := len(row.get("members") or ()) - 1) > 0:
        notes.append(f"with {count(more, 'related concept')}")
    if row.get("explained_by"):
        notes.append(_md(explained(row)))
    if row.get("confirmed") is not None:
        notes.append("confirmed" if row["confirmed"] else "not confirmed")
    cells = [f"{_md(_label(row))} ({row['latent']})", share(row["density_a"]), share(row["density_b"])]
    cells += [difference_in_points(row), p_in_words(row["q_value"]), "; ".join(notes)]
    return f"| {' | '.join(cells)} |"


def _label(row: Mapping[str, Any]) -> str:
    label = one_line(row["label"] or "unlabelled")
    return label if len(label) <= _CHARS else label[: _CHARS - 1] + "…"


def _md(text: str) -> str:
    """The text for any place in a line of Markdown: it shows as it is, links to nothing and calls nobody."""
    return _MARKUP.sub(lambda m: f"&#{ord(m[0])};", _LINKS.sub("\\g<0>\u200b", one_line(text)))
