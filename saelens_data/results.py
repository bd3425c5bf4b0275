"""Result: what every analysis returns. Frozen; a table, how it was made, and what its reader must know."""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
from polars import selectors as cs

from saelens_data.display.table import Shown, everything, html
from saelens_data.errors import InputError
from saelens_data.store.files import atomic_write_bytes


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """The outcome of an analysis.

    `frame` one row for each line of the result, best first.
    `parameters` what it was made with, as JSON can hold it.
    `notes` sentences for the reader: what was left out, repaired or is to be doubted.
    `kind` the name of the analysis.
    """

    frame: pl.DataFrame
    parameters: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    kind: str = "result"

    def __repr__(self) -> str:
        return f"{self.summary()}\n{self.frame}"

    def _repr_html_(self) -> str:
        """The first rows as a table for notebooks, with bars and marked words; without script, every text escaped."""
        return html(self.summary(), self._shown(), self.notes)

    def _shown(self) -> Shown:
        """Which columns a notebook shows, and how."""
        return everything(self.frame)

    def plot(self) -> Any:
        """An Altair chart, of results that have one. Raises InputError for others."""
        from saelens_data.display.plots import none_of  # noqa: PLC0415

        raise none_of(self.kind, "show the table, or draw from to_frame()")

    def summary(self) -> str:
        """What was found, in a sentence or two."""
        return f"{self.kind}: {self.frame.height:,} rows"

    def to_frame(self) -> pl.DataFrame:
        """The table."""
        return self.frame

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the result as .csv, .json, .jsonl or .parquet, by the suffix; the file is whole or not there.

        JSON holds kind, parameters, notes and rows, Parquet the first three as metadata; CSV and JSON lines hold
        the rows alone. Lists in CSV are numbers with spaces, or else JSON in a cell. The same result gives the same
        bytes. Raises InputError for another suffix and for a place that cannot be written.
        """
        path = Path(path)
        suffix = path.suffix.lower()
        if suffix not in _FORMATS:
            raise InputError(f"cannot save a result as '{path.name}': its name must end in {', '.join(_FORMATS)}")
        write_whole(path, self.to_bytes(suffix))
        return path

    def to_bytes(self, suffix: str) -> bytes:
        """What `save` writes to a file of this suffix, such as ".csv"."""
        return _FORMATS[suffix](self)


def _csv(result: Result) -> bytes:
    lists = [name for name, dtype in result.frame.schema.items() if dtype in (pl.List(pl.Int32), pl.List(pl.Float64))]
    frame = result.frame.with_columns(pl.col(name).cast(pl.List(pl.String)).list.join(" ") for name in lists)
    nested = frame.select(cs.nested())
    return frame.with_columns(_as_json(column) for column in nested).write_csv().encode()


def _as_json(column: pl.Series) -> pl.Series:
    cells = [None if value is None else _dumps(value, separators=(",", ":")) for value in column.to_list()]
    return pl.Series(column.name, cells, dtype=pl.String)


def _jsonl(result: Result) -> bytes:
    return "".join(_dumps(row) + "\n" for row in result.frame.iter_rows(named=True)).encode()


def _json(result: Result) -> bytes:
    rows = ",\n".join(_dumps(row) for row in result.frame.iter_rows(named=True))
    head = ",\n".join(f'"{key}": {_dumps(value)}' for key, value in _about(result).items())
    return f'{{{head},\n"rows": [\n{rows}\n]}}\n'.encode()


def _parquet(result: Result) -> bytes:
    buffer = io.BytesIO()
    result.frame.write_parquet(buffer, metadata={key: _dumps(value) for key, value in _about(result).items()})
    return buffer.getvalue()


_FORMATS: dict[str, Callable[[Result], bytes]] = {".csv": _csv, ".json": _json, ".jsonl": _jsonl, ".parquet": _parquet}


def _about(result: Result) -> dict[str, Any]:
    return {"kind": result.kind, "parameters": result.parameters, "notes": result.notes}


def _dumps(value: Any, separators: tuple[str, str] | None = None) -> str:
    return json.dumps(_plain(value), ensure_ascii=False, allow_nan=False, separators=separators)


def _plain(value: Any) -> Any:
    """The value as JSON knows it: a number that is not finite is null, a date its ISO text."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (str, int)):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that the old one or the new one is there. Raises InputError where it cannot be written."""
    try:
        atomic_write_bytes(path, content)
    except OSError as error:
        raise InputError(f"cannot write '{path}': {error.strerror or error}; choose another place") from error
