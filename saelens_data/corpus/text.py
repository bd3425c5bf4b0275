"""Bytes -> text -> JSON -> columns: what the readers of files have in common."""

from __future__ import annotations

import codecs
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from math import inf
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from saelens_data.errors import InputError

#: Suffixes of compressed files, and the names of their codecs in Arrow.
CODECS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2", ".lz4": "lz4"}
#: How many bytes of a file are looked at to recognise it.
BLOCK = 1 << 16
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
#: Bytes that text hardly ever holds.
_CONTROL = bytes(b for b in range(32) if b not in b"\t\n\v\f\r\x1b")
# Raw control characters inside strings do no harm, and NaN is how some writers say null.
_JSON = json.JSONDecoder(strict=False, parse_constant={"NaN": None, "Infinity": inf, "-Infinity": -inf}.__getitem__)
#: Names under which one JSON object holds the array of documents.
_WRAPPERS = ("data", "rows", "examples", "instances", "samples", "results")
_TYPES: Mapping[type, type[pl.DataType]] = {str: pl.String, bool: pl.Boolean, int: pl.Int64, float: pl.Float64}
#: More keys than this in the objects of one column are data, not fields.
_MOST_FIELDS = 64
# The decoder joins pairs, so what is left stands alone.
_SURROGATE = re.compile("[\ud800-\udfff]")

#: A column as read: a Series, or Python values as long as they come from JSON, whose types may differ from row to row.
Column = pl.Series | list[Any]


@dataclass(frozen=True, eq=False)
class Table:
    """Columns of equal length, and what had to be repaired or guessed to read them."""

    columns: Mapping[str, Column]
    notes: tuple[str, ...] = ()
    #: The words of those columns of a csv that became numbers.
    words: Mapping[str, pl.Series] = field(default_factory=dict)

    @property
    def height(self) -> int:
        """Number of rows."""
        return max(map(len, self.columns.values()), default=0)

    def as_text(self, name: str) -> Column:
        """The column `name` as it stood in the file."""
        return self.words.get(name, self.columns[name])


def suffix_of(path: Path) -> str:
    """The suffix that names the format: ".jsonl" of "a.jsonl.gz"."""
    suffix = path.suffix.lower()
    return Path(path.stem).suffix.lower() if suffix in CODECS else suffix


@contextmanager
def opened(path: Path) -> Iterator[io.BufferedReader]:
    """Open a file, decompressed. Raises InputError if it cannot be read or is damaged."""
    codec = CODECS.get(path.suffix.lower())
    try:
        with path.open("rb") as plain:
            raw = pa.CompressedInputStream(pa.PythonFile(plain), codec) if codec else plain.raw
            yield io.BufferedReader(raw, BLOCK)
    except OSError as error:
        reason = (
            f"is damaged or not {codec}: copy it again" if codec and not error.errno else f"cannot be read: {error}"
        )
        raise InputError(f"the file '{path}' {reason}") from error


def check_text(path: Path, head: bytes) -> None:
    """Raise InputError if the head of a file looks binary.

    That is: it is not UTF-8 and holds NUL bytes or a tenth of control bytes, or every other byte is NUL.
    """
    if head.startswith(_UTF16):
        return
    nulls = [head[0::2].count(0), head[1::2].count(0)]
    wide = min(nulls) == 0 and max(nulls) * 4 > len(head)  # as in UTF-16 without a mark
    control = len(head) - len(head.translate(None, _CONTROL))
    if wide or ((any(nulls) or control * 10 > len(head)) and not _is_utf8(head)):
        raise InputError(f"the file '{path}' looks binary: give JSON lines, csv, parquet or plain text, as UTF-8")


def _is_utf8(head: bytes) -> bool:
    try:
        head.decode()
    except UnicodeDecodeError as error:
        return error.start >= len(head) - 3  # a character that the block cuts
    return True


def _decode_line(line: bytes) -> tuple[str, bool]:
    """The text of a line, and whether it was not UTF-8. Bytes that Windows-1252 lacks become U+FFFD."""
    try:
        return line.decode(), False
    except UnicodeDecodeError:
        return line.decode("cp1252", "replace"), True


def read_text(path: Path) -> tuple[str, int]:
    """The text of a file, and how many lines were not UTF-8."""
    with opened(path) as stream:
        data = stream.read()
    check_text(path, data[:BLOCK])
    if data.startswith(_UTF16):
        return data.decode("utf-16", "replace"), 0
    data = data.removeprefix(codecs.BOM_UTF8)
    try:
        return data.decode(), 0
    except UnicodeDecodeError:
        lines = [_decode_line(line) for line in data.split(b"\n")]
        return "\n".join(text for text, _ in lines), sum(foreign for _, foreign in lines)


def encoding_note(name: str, lines: int) -> tuple[str, ...]:
    """Say how many lines of a file were not UTF-8, if any."""
    return (f"{name}: lines that are not valid UTF-8, read as Windows-1252: {lines:,}",) if lines else ()


# JSON


def read_json(path: Path, limit: int | None) -> Table:
    """Read the first `limit` objects of a file of JSON lines or of one JSON array."""
    with opened(path) as stream:
        start = stream.peek(BLOCK)[:BLOCK].removeprefix(codecs.BOM_UTF8).lstrip()[:1]
    if start == b"[" or (start != b"" and suffix_of(path) == ".json"):
        text, foreign = read_text(path)
        rows = document_rows(path, text)
        if rows is not None:
            return _from_rows(rows[:limit], encoding_note(path.name, foreign))
    return _read_json_lines(path, limit)


def document_rows(path: Path, text: str) -> list[dict[str, Any]] | None:
    """The objects of one JSON document, or None if the text is several documents."""
    try:
        value = _JSON.decode(text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data" and not text.lstrip().startswith("["):
            return None
        raise _broken(path, error.lineno, error) from error
    except (ValueError, RecursionError) as error:
        raise _broken(path, 1, error) from error
    if isinstance(value, dict):
        lists = (value[key] for key in _WRAPPERS if isinstance(value.get(key), list))
        value = next((rows for rows in lists if rows and isinstance(rows[0], dict)), [value])
    if not isinstance(value, list):
        raise _not_object(path.name, value)
    for number, row in enumerate(value, start=1):
        if not isinstance(row, dict):
            raise _not_object(f"{path.name}, item {number}", row)
    return value


def _read_json_lines(path: Path, limit: int | None) -> Table:
    rows: list[dict[str, Any]] = []
    foreign = 0
    with opened(path) as stream:
        check_text(path, stream.peek(BLOCK)[:BLOCK])
        for number, raw in enumerate(_lines(stream), start=1):
            line, odd = _decode_line(raw)
            if line.isspace():
                continue
            rows.append(_parse_line(path, number, line))
            foreign += odd
            if len(rows) == limit:
                break
    return _from_rows(rows, encoding_note(path.name, foreign))


def _lines(stream: io.BufferedReader) -> Iterator[bytes]:
    head = stream.peek(4)[:4]
    if head.startswith(_UTF16):
        yield from io.BytesIO(stream.read().decode("utf-16", "replace").encode())
    else:
        stream.read(len(codecs.BOM_UTF8) if head.startswith(codecs.BOM_UTF8) else 0)
        yield from stream


def _parse_line(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        value = _JSON.decode(line)
    except (ValueError, RecursionError) as error:
        raise _broken(path, number, error) from error
    if not isinstance(value, dict):
        raise _not_object(f"{path.name}, line {number}", value)
    return value


def _broken(path: Path, line: int, error: Exception) -> InputError:
    column, reason = (error.colno, error.msg) if isinstance(error, json.JSONDecodeError) else (1, str(error))
    return InputError(f"{path.name}, line {line}, column {column}: broken JSON ({reason}): repair or delete that line")


def _not_object(where: str, value: Any) -> InputError:
    return InputError(f'{where}: a JSON {type(value).__name__} where an object is expected: write {{"text": ...}}')


def _from_rows(rows: Sequence[Mapping[str, Any]], notes: tuple[str, ...]) -> Table:
    names = dict.fromkeys(chain.from_iterable(rows))
    return Table({_scrub(name): [row.get(name) for row in rows] for name in names}, notes)


# Columns


class _IrregularError(Exception):
    """No type of a table holds these values."""


def as_series(name: str, column: Column) -> tuple[pl.Series, tuple[str, ...]]:
    """The column as a Series, and notes on what had to be changed.

    Values of several types become JSON strings; a lone surrogate becomes U+FFFD.
    """
    if isinstance(column, pl.Series):
        return column.alias(name), ()
    try:
        return pl.Series(name, column, dtype=_dtype(column)), ()
    except UnicodeEncodeError:
        series, notes = as_series(name, [_scrub(value) for value in column])
        return series, (*notes, f"lone surrogates in the column '{name}' were replaced by U+FFFD")
    except (_IrregularError, TypeError, OverflowError):
        texts = [None if v is None else json.dumps(v, ensure_ascii=False, default=str) for v in column]
        series, notes = as_series(name, texts)
        return series, (*notes, f"the column '{name}' holds values of several types and was kept as JSON strings")


def _dtype(values: Iterable[Any]) -> pl.DataType | type[pl.DataType]:
    """The type that holds all of these values of JSON. Raises _IrregularError if there is none."""
    present = [value for value in values if value is not None]
    kinds = set(map(type, present))
    if kinds == {list}:
        return pl.List(_dtype(chain.from_iterable(present)))
    if kinds == {dict}:
        keys = dict.fromkeys(chain.from_iterable(present))
        if not 0 < len(keys) <= _MOST_FIELDS:
            raise _IrregularError
        return pl.Struct({key: _dtype([value.get(key) for value in present]) for key in keys})
    if not kinds <= set(_TYPES) or (len(kinds) > 1 and kinds != {int, float}):
        raise _IrregularError
    return pl.Float64 if float in kinds else _TYPES[kinds.pop()] if kinds else pl.String


def _scrub(value: Any) -> Any:
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, list):
        return [_scrub(item) for item in value]
    if isinstance(value, dict):
        return {_scrub(key): _scrub(item) for key, item in value.items()}
    return value
