"""The report of a comparison: one HTML file that needs nothing else, for readers who were not there.

`report_findings` puts the findings into words and charts, with `report_caveats` and `report_examples`; how that looks
is in `templates/`. `page` keeps the texts of documents, which are never trusted, from acting on it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from saelens_data.diff.two import DiffResult
from saelens_data.errors import InputError
from saelens_data.report.findings import shown_findings
from saelens_data.results import write_whole

#: Bytes of the page that a finding may take on average; of pages with few findings, those of `_LIGHT` findings.
_ROOM, _LIGHT = 38_000, 50
#: Words for keys of the parameters that do not speak for themselves.
_TERMS = {
    "pair_on": "paired on",
    "cluster_on": "clustered on",
    "concepts": "concepts in all",
    "tested": "concepts tested",
    "untestable": "concepts not tested",
    "grouped": "near-duplicates grouped",
    "groups": "groups tested (what q is corrected for)",
    "held_out": "documents held out",
    "reader_sha256": "reader's weights (SHA-256)",
    "sae": "SAE",
    "sae_sha256": "SAE's weights (SHA-256)",
    "dtype": "arithmetic",
}


def write_diff_report(
    result: DiffResult, path: str | os.PathLike[str], *, findings: int = 50, examples: int = 4
) -> Path:
    """Write `result` as one HTML file; the same result gives the same bytes.

    The `findings` largest are shown, each with up to `examples` documents (if paired, pairs) of the kind that bears it
    out, and half as many of any other kind, counter-examples among them. Long texts of many bytes get fewer, so that 50
    findings stay below 2 MB. Without any finding, the ten nearest non-findings are shown and marked.
    Raises InputError for a path that cannot be written and for counts out of range.
    """
    path = Path(path)
    write_whole(path, _encoded(diff_html(result, findings=findings, examples=examples)))
    return path


def diff_html(result: DiffResult, *, findings: int = 50, examples: int = 4) -> str:
    """The page that `write_diff_report` writes."""
    if findings < 1 or examples < 0:
        raise InputError(f"{findings} findings and {examples} examples asked for: give 1 and 0 or more")
    room = _ROOM * max(_LIGHT, min(findings, result.findings.height))
    html = _page(result, findings, examples)
    while examples and len(_encoded(html)) > room:
        examples //= 2
        html = _page(result, findings, examples)
    return html


def _encoded(html: str) -> bytes:
    return html.encode("utf-8", errors="replace")


def _page(result: DiffResult, findings: int, examples: int) -> str:
    from saelens_data.report.page import render  # noqa: PLC0415

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
        lines[key] = value if value == second[key] else f"{_plain(value)} / {_plain(second[key])}"
    return [(_TERMS.get(key, key.replace("_", " ")), _plain(value)) for key, value in lines.items()]


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key.replace('_', ' ')} {item}" for key, item in value.items()) or "none"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(_plain(item) for item in value)
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return "none" if value is None else str(value)
