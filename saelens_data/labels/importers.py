"""Read labels that others made: Neuronpedia's exports, Goodfire's JSON, delphi's folders, plain tables.

A layout is recognised by what the file holds, never by its name alone. Nothing is fetched and nothing is executed.
"""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from saelens_data.errors import InputError, choices
from saelens_data.labels.delphi import is_delphi, read_delphi
from saelens_data.labels.files import LabelFile
from saelens_data.matrix.label_table import LABEL_SCHEMA

#: First bytes of compressed and of Parquet files.
_GZIP, _PARQUET = b"\x1f\x8b", b"PAR1"
#: Layouts that are recognised, as a person is told of them.
LAYOUTS = (
    "a Neuronpedia export (jsonl, jsonl.gz or a folder of them)",
    'a JSON object {"latent": "label"}',
    "a delphi folder with explanations/",
    "a csv, tsv, jsonl or parquet table with the columns latent and label",
)
#: Suffixes of the files of a folder that are read.
_SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".json.gz")
#: Suffixes that are no part of a name.
_KNOWN = (*_SUFFIXES, ".csv", ".csv.gz", ".tsv", ".txt", ".parquet")
#: Columns by which rows are known as Neuronpedia's, and as a table of labels.
_NEURONPEDIA, _TABLE = ("modelId", "layer", "index", "description"), ("latent", "label")
#: Numbers of a Neuronpedia row that fill most of the file and are not read.
_LARGE = ("embedding",)


def read_labels(path: str | Path, *, origin: str | None = None, source: str | None = None) -> LabelFile:
    """Read labels of one of LAYOUTS.

    `origin` replaces what the file says of where its labels come from. `source` chooses among several SAEs in one
    file or folder: Neuronpedia's "MODEL/SOURCE" or "SOURCE", or delphi's module. Raises InputError for a file that is
    missing, empty, of another layout, damaged, or that holds labels of several SAEs.
    """
    path = Path(path)
    try:
        found = _read(path, source)
    except OSError as error:
        raise InputError(f"the labels in '{path}' cannot be read: {error.strerror or error}") from error
    if not found.rows.height:
        raise InputError(f"'{path}' holds no labels")
    named = pl.lit(origin) if origin else pl.col("origin").fill_null(f"file:{_stem(path)}")
    return LabelFile(found.rows.with_columns(origin=named), found.layout, found.source, found.notes)


def _stem(path: Path) -> str:
    name = path.resolve().name
    return next((name.removesuffix(suffix) for suffix in _KNOWN if name.endswith(suffix)), name)


def _read(path: Path, source: str | None) -> LabelFile:
    if not path.exists():
        raise InputError(f"there are no labels at '{path}': give {', '.join(LAYOUTS)}")
    if not path.is_dir():
        return _of_file(path, source)
    if is_delphi(path):
        return read_delphi(path, source)
    files = sorted(file for file in path.iterdir() if file.name.endswith(_SUFFIXES))
    if not files:
        raise InputError(f"the folder '{path}' holds no labels that are known here: give {', '.join(LAYOUTS)}")
    rows = [row for file in files for row in _objects(file)]
    if not rows or not _has(rows[0], _NEURONPEDIA):
        raise InputError(f"the folder '{path}' is not a Neuronpedia export, whose rows have {', '.join(_NEURONPEDIA)}")
    return _neuronpedia(rows, path, source)


def _of_file(path: Path, source: str | None) -> LabelFile:
    with path.open("rb") as file:
        head = file.read(4)
    if not head:
        raise InputError(f"'{path}' is empty")
    if head == _PARQUET:
        return _table(_parsed(path, lambda: pl.read_parquet(path)), path)
    data = _unpacked(path)
    first = data.lstrip()[:1]
    if first in (b"{", b"["):
        return _of_json(data, path, source)
    separator = "\t" if b"\t" in data.split(b"\n", 1)[0] else ","
    frame = _parsed(path, lambda: pl.read_csv(io.BytesIO(data), separator=separator, infer_schema=False))
    return _table(frame.with_columns(pl.col(pl.String).replace("", None)), path)


def _of_json(data: bytes, path: Path, source: str | None) -> LabelFile:
    try:
        whole = json.loads(data)
    except (ValueError, RecursionError):
        whole = None  # lines, each an object
    if isinstance(whole, Mapping) and not _has(whole, _NEURONPEDIA) and not _has(whole, _TABLE):
        return _mapping(whole, path)
    rows = list(_rows_of(whole, path)) if whole is not None else list(_lines(data, path))
    if not rows:
        raise InputError(f"'{path}' holds no labels")
    if _has(rows[0], _NEURONPEDIA):
        return _neuronpedia(rows, path, source)
    if not _has(rows[0], _TABLE):
        raise _unknown(path, rows[0])
    frame = _parsed(path, lambda: pl.DataFrame(rows, infer_schema_length=None, strict=False))
    return _table(frame, path)


def _mapping(labels: Mapping[str, Any], path: Path) -> LabelFile:
    """{"12": "label"}: Goodfire's labels, and others of the kind."""
    wrong = [key for key, label in labels.items() if not (_is_number(key) and isinstance(label, str | None))]
    if wrong:
        raise _unknown(path, labels)
    rows = [{"latent": int(key), "label": label} for key, label in labels.items()]
    return _finished(rows, 'JSON object {"latent": "label"}')


def _neuronpedia(rows: Iterable[Mapping[str, Any]], path: Path, source: str | None) -> LabelFile:
    """Rows of Neuronpedia's explanations; another explainer is another origin."""
    by_source: dict[str, list[dict[str, Any]]] = {}
    for number, row in enumerate(rows, start=1):
        index = str(row.get("index", ""))
        if not _has(row, _NEURONPEDIA) or not _is_number(index):
            raise InputError(f"row {number} of '{path}' is not a Neuronpedia explanation: {_short(row)}")
        explainer = row.get("explanationModelName") or row.get("typeName") or row.get("authorId")
        value, kind, extra = _neuronpedia_score(row)
        found = {
            "latent": int(index),
            "label": row["description"],
            "origin": f"neuronpedia:{explainer}" if explainer else "neuronpedia",
            "method": row.get("typeName"),
            "score": value,
            "score_kind": kind,
            "created": row.get("createdAt"),
            "extra": extra,
        }
        by_source.setdefault(f"{row['modelId']}/{row['layer']}", []).append(found)
    chosen = _chosen(by_source, source, path)
    return _finished(by_source[chosen], "Neuronpedia export", chosen)


def _neuronpedia_score(row: Mapping[str, Any]) -> tuple[float | None, str | None, str | None]:
    """A score and its kind, and all there are as JSON; scoreV1 and scoreV2 are 0 or null where there is none."""
    scores = {}
    for score in row.get("scores") or ():
        if isinstance(score, Mapping) and isinstance(score.get("value"), int | float):
            scores[str(score.get("explanationScoreTypeName") or "score")] = float(score["value"])
    for name in ("scoreV2", "scoreV1"):
        if isinstance(value := row.get(name), int | float) and value:
            scores[name] = float(value)
    if not scores:
        return None, None, None
    kind = next(iter(scores))
    return scores[kind], kind, json.dumps({"scores": scores}, sort_keys=True) if len(scores) > 1 else None


def _chosen(found: Mapping[str, Any], source: str | None, path: Path) -> str:
    names = [name for name in found if source is None or source in (name, name.split("/", 1)[-1])]
    if len(names) == 1:
        return names[0]
    if not found:
        raise InputError(f"'{path}' holds no labels")
    if source is None:
        raise InputError(
            f"'{path}' holds labels of {len(found)} SAEs: choose one with --source (source=): {choices('', found)}"
        )
    raise InputError(f"'{path}' holds no labels of '{source}': {choices(source, found)}")


def _table(frame: pl.DataFrame, path: Path) -> LabelFile:
    if lacking := [name for name in _TABLE if name not in frame.columns]:
        raise InputError(
            f"'{path}' has no column '{lacking[0]}': {choices(lacking[0], frame.columns)}; rename the columns that "
            "hold them to latent and label"
        )
    known = frame.select(name for name in LABEL_SCHEMA if name in frame.columns)
    ignored = [name for name in frame.columns if name not in LABEL_SCHEMA]
    notes = (f"Columns that are not read: {', '.join(ignored)}.",) if ignored else ()
    found = _finished(known, "table")
    return LabelFile(found.rows, found.layout, None, (*notes, *found.notes))


def _finished(rows: Sequence[Mapping[str, Any]] | pl.DataFrame, layout: str, source: str | None = None) -> LabelFile:
    """The rows without those that have no label, and a note on these."""
    try:
        frame = rows if isinstance(rows, pl.DataFrame) else pl.DataFrame(rows, infer_schema_length=None)
    except (pl.exceptions.PolarsError, TypeError) as error:
        raise InputError(f"the labels cannot be read: {str(error).splitlines()[0]}") from error
    if not frame.height:
        return LabelFile(pl.DataFrame(schema=LABEL_SCHEMA), layout, source)
    if frame["label"].dtype not in (pl.String, pl.Null):
        raise InputError(f"labels are wanted as text, not as {frame['label'].dtype}")
    schema: dict[str, Any] = {**LABEL_SCHEMA, "latent": frame["latent"].dtype}
    try:
        typed = frame.select(
            (pl.col(name) if name in frame.columns else pl.lit(None)).cast(dtype, strict=True).alias(name)
            for name, dtype in schema.items()
        )
    except pl.exceptions.PolarsError as error:
        raise InputError(f"the labels cannot be read: {str(error).splitlines()[0]}") from error
    labelled = typed.filter(pl.col("label").str.contains(r"[^\s\p{Cc}]"))
    left_out = typed.height - labelled.height
    notes = (f"{left_out:,} rows without a label are left out.",) if left_out else ()
    return LabelFile(labelled, layout, source, notes)


def _objects(path: Path) -> Iterator[Mapping[str, Any]]:
    data = _unpacked(path)
    if data.lstrip()[:1] == b"[":
        try:
            yield from _rows_of(json.loads(data), path)
        except (ValueError, RecursionError) as error:
            raise InputError(f"'{path}' is not JSON: fetch or export the file again") from error
    else:
        yield from _lines(data, path)


def _lines(data: bytes, path: Path) -> Iterator[Mapping[str, Any]]:
    for number, line in enumerate(data.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"line {number} of '{path}' is not JSON: fetch or export the file again") from error
        yield _row(row, path)


def _rows_of(whole: Any, path: Path) -> Iterator[Mapping[str, Any]]:
    for row in whole if isinstance(whole, list) else [whole]:
        yield _row(row, path)


def _row(row: Any, path: Path) -> Mapping[str, Any]:
    if not isinstance(row, dict):
        raise _unknown(path, row)
    for name in _LARGE:
        row.pop(name, None)
    return row


def _has(row: Mapping[str, Any], names: Sequence[str]) -> bool:
    return all(name in row for name in names)


def _unpacked(path: Path) -> bytes:
    data = path.read_bytes()
    if not data.startswith(_GZIP):
        return data
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"'{path}' is damaged or cut off ({error}): fetch it again") from error


def _parsed(path: Path, parse: Callable[[], pl.DataFrame]) -> pl.DataFrame:
    try:
        return parse()
    except (pl.exceptions.PolarsError, TypeError, ValueError) as error:
        raise InputError(f"the table '{path}' cannot be read: {str(error).splitlines()[0]}") from error


def _is_number(text: Any) -> bool:
    return isinstance(text, str) and text.isascii() and text.isdigit() and len(text) < 12


def _unknown(path: Path, found: Any) -> InputError:
    return InputError(f"'{path}' has a layout that is not known here ({_short(found)}): give {', '.join(LAYOUTS)}")


def _short(found: Any, most: int = 60) -> str:
    if isinstance(found, Mapping):
        return "it has " + ", ".join(str(key)[:30] for key in list(found)[:6])
    text = str(found)
    return f"it has {text[:most]}" + ("…" if len(text) > most else "")
