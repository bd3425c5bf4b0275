"""What an importer of labels returns."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl


@dataclass(frozen=True, eq=False)
class LabelFile:
    """Labels as a file or a folder has them."""

    #: Columns of LABEL_SCHEMA; `origin` is null where the file does not say.
    rows: pl.DataFrame
    #: What was recognised, as "Neuronpedia export".
    layout: str
    #: The SAE as the file names it, such as "llama3.1-8b-it/19-resid-post-gf"; None if it does not.
    source: str | None = None
    #: Sentences on what was left out.
    notes: tuple[str, ...] = ()
