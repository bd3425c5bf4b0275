"""The report of a comparison: one HTML file that needs nothing else, for readers who were not there.

`findings` puts the findings into words and charts, with `caveats` and `examples`; how that looks is in
`templates/`. `page` keeps the texts of documents, which are never trusted, from acting on it.
"""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path

from saelens_data.diff.two import DiffResult
from saelens_data.errors import InputError
from saelens_data.report.findings import shown_findings
from saelens_data.report.page import encoded, render, write_page
from saelens_data.report.parameters import in_words, parameters_in_words

#: Bytes of the page that a finding may take on average; of pages with few findings, those of `_LIGHT` findings.
_ROOM, _LIGHT = 38_000, 50


def write_diff_report(
    result: DiffResult, path: str | os.PathLike[str], *, findings: int = 50, examples: int = 4
) -> Path:
    """Write `result` as one HTML file; the same result gives the same bytes.

    The `findings` largest are shown, each with up to `examples` documents (if paired, pairs) of the kind that bears it
    out, and half as many of any other kind, counter-examples among them. Long texts of many bytes get fewer, so that 50
    findings stay below 2 MB. Without any finding, the ten nearest non-findings are shown and marked.
    Raises InputError for a path that cannot be written and for counts out of range.
    """
    return write_page(path, diff_html(result, findings=findings, examples=examples))


def diff_html(result: DiffResult, *, findings: int = 50, examples: int = 4) -> str:
    """The page that `write_diff_report` writes."""
    if findings < 1 or examples < 0:
        raise InputError(f"{findings} findings and {examples} examples asked for: give 1 and 0 or more")
    room = _ROOM * max(_LIGHT, min(findings, result.findings.height))
    html = _page(result, findings, examples)
    while examples and len(encoded(html)) > room:
        examples //= 2
        html = _page(result, findings, examples)
    return html


def _page(result: DiffResult, findings: int, examples: int) -> str:
    shown = shown_findings(result, findings=findings, examples=examples)
    favours = result.findings["favours"]
    return render(
        "diff",
        result=result,
        shown=shown,
        names=shown.names,
        n_docs={"a": result.a.n_docs, "b": result.b.n_docs},
        favours={side: (favours == name).sum() for side, name in shown.names.items()},
        n_latents=result.a.n_concepts - result.n_untestable,
        held_out=result.parameters.get("held_out"),
        parameters=_parameters(result),
    )


def _parameters(result: DiffResult) -> list[tuple[str, str]]:
    """How the comparison was made, then how the activations were; both values where the two sets' differ."""
    lines = dict(result.parameters)
    first, second = asdict(result.a.source), asdict(result.b.source)
    for key, value in first.items():
        lines[key] = value if value == second[key] else f"{in_words(value)} / {in_words(second[key])}"
    return parameters_in_words(lines)
