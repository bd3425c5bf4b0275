"""Files, folders and frames -> columns, before anyone knows which column holds the text.

What is read, by suffix (each also with .gz, .zst, .bz2 or .lz4 after it, except inside folders):

- .jsonl .ndjson .json: one JSON object a line; or one array of objects; or one object that holds such an array as
  `data`, `rows`, `examples`, `instances`, `samples` or `results`. Lines end at "\\n" alone, so U+2028 and U+0085 inside
  a string break nothing. Blank lines are skipped, NaN counts as null, lone surrogates become U+FFFD with a note. Broken
  JSON and values that are not objects are errors that name file, line and column. A column whose values are of several
  types, or nested too irregularly for a table, becomes JSON strings, with a note.
- .csv .tsv: with a header. A quoted field may hold line breaks; a line with too many or too few fields is an error that
  names it; blank lines are skipped. A .csv without a comma in its header is separated by ";", tab or "|". A column of
  nothing but numbers becomes numbers, unless it is the text.
- .parquet .arrow .feather .ipc: as they are.
- .txt .md: one document. A folder: one document for each such file below it, in the order of their paths, hidden ones
  left out; `doc_id` is the path, and `folder` its folder where there is more than one.
- a folder written by `Dataset.save_to_disk`, or by `DatasetDict.save_to_disk` (all splits, told apart by a column
  `split`). Class numbers become class names. The package `datasets` is not needed.
- anything else is recognised by its content, or is an error.

Text is UTF-8 or, with a byte order mark, UTF-16; a line that is not valid UTF-8 is read as Windows-1252, with a note. A
file that looks binary is an error; NUL characters inside text are kept. An empty file is a table of no rows.
"""

from __future__ import annotations

import codecs
import csv
import io
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
from pyarrow import parquet

from saelens_data.corpus.text import (
    BLOCK,
    CODECS,
    Column,
    Table,
    check_text,
    document_rows,
    encoding_note,
    opened,
    read_json,
    read_text,
    suffix_of,
)
from saelens_data.errors import InputError, choices
from saelens_data.store.manifest import is_store

_TEXT_SUFFIXES = (".txt", ".md")
_NUMBERS = (
    (r"^(0|-?[1-9][0-9]{0,17})$", pl.Int64),  # not 007, which is a name
    (r"^-?(0|[1-9][0-9]{0,14})(\.[0-9]+)?([eE][-+]?[0-9]{1,3})?$", pl.Float64),  # not an id longer than a double holds
)


def read_path(path: Path, limit: int | None = None) -> Table:
    """Read the first `limit` documents of a file or folder. Raises InputError for what cannot be read."""
    try:
        if not path.exists():
            raise InputError(_missing(path))
        if path.is_dir():
            return _read_folder(path, limit)
    except OSError as error:
        where = error.filename or path
        raise InputError(f"'{where}' cannot be read ({error.strerror}): give another file or folder") from error
    if not path.is_file():
        raise InputError(f"'{path}' is no file but a device or a pipe: save the texts to a file first")
    return (_READERS.get(suffix_of(path)) or _sniff(path))(path, limit)


def _missing(path: Path) -> str:
    """What to say of a path that is not there."""
    if path.name == "-":
        return "texts are not read from standard input: save them to a file first"
    if not path.parent.is_dir():
        return f"there is no file or folder '{path}', because there is no folder '{path.parent}'"
    names = [p.name for p in path.parent.iterdir() if suffix_of(p) in _READERS or p.is_dir()]
    names = sorted(name for name in names if not name.startswith("."))
    return f"there is no file or folder '{path}'; {choices(path.name, names)}"


def name_of(path: Path) -> str:
    """The name of a file without the suffixes that say what it is, or that of a folder."""
    if path.is_dir() or suffix_of(path) not in _READERS:
        return path.resolve().name
    return Path(path.stem).stem if path.suffix.lower() in CODECS else path.stem


def read_frame(frame: pl.DataFrame) -> Table:
    """The columns of a Polars frame."""
    return Table({s.name: s.to_list() if s.dtype == pl.Object else s for s in frame.iter_columns()})


def read_pandas(frame: Any) -> Table:
    """The columns of a pandas frame; its index is left out."""
    names = [str(name) for name in frame.columns]
    if len(set(names)) < len(names):
        raise InputError(f"the pandas frame has two columns '{Counter(names).most_common(1)[0][0]}': rename one")
    return Table({name: _from_pandas(frame.iloc[:, i]) for i, name in enumerate(names)})


def _from_pandas(values: Any) -> Column:
    try:
        return pl.Series(pl.from_pandas(values))
    except (pa.ArrowException, ValueError, TypeError, OverflowError):  # several types, lone surrogates, huge integers
        present = values.astype(object).where(values.notna(), None)
        return [value.tolist() if hasattr(value, "tolist") else value for value in present]


# Separated values


def _read_separated(path: Path, limit: int | None) -> Table:
    text, foreign = read_text(path)
    notes = encoding_note(path.name, foreign)
    if "\n" not in text:
        text = text.replace("\r", "\n")  # as old spreadsheets end their lines
    header = text.partition("\n")[0]
    separator = "\t" if suffix_of(path) == ".tsv" else _separator(header)
    try:
        frame = pl.read_csv(text.encode(), separator=separator, infer_schema=False, n_rows=limit)
    except pl.exceptions.NoDataError:
        return Table({}, notes)
    except pl.exceptions.PolarsError as error:
        _check_fields(path.name, text, separator, limit)
        raise InputError(
            f"{path.name} cannot be read as csv: quote every field that holds '{separator}', a quote or a line break"
        ) from error
    if frame.width > 1:
        if frame.to_series(-1).has_nulls():
            _check_fields(path.name, text, separator, limit)
        frame = frame.filter(~pl.all_horizontal(pl.all().is_null()))
    typed = {name: _typed(frame[name]) for name in frame.columns}
    words = {name: frame[name] for name in frame.columns if typed[name].dtype != pl.String}
    return Table(typed, notes, words)


def _separator(header: str) -> str:
    return "," if "," in header else max(",;\t|", key=header.count)  # the comma for a single column, too


def _check_fields(name: str, text: str, separator: str, limit: int | None) -> None:
    """Raise InputError naming the first line that has not as many fields as the header; blank lines are fine."""
    most = csv.field_size_limit(sys.maxsize)
    try:
        reader = csv.reader(io.StringIO(text, newline="\n"), delimiter=separator)
        width, line = len(next(reader)), reader.line_num + 1
        for fields in islice(reader, limit):
            if fields and len(fields) != width:
                raise InputError(
                    f"{name}, line {line}: {len(fields)} fields where the header has {width}: "
                    f"quote every field that holds '{separator}', a quote or a line break"
                )
            line = reader.line_num + 1
    except csv.Error:
        return  # no verdict: it is stricter than Polars in some ways
    finally:
        csv.field_size_limit(most)


def _typed(values: pl.Series) -> pl.Series:
    """Numbers, if there are values and all of them are numbers."""
    present = values.drop_nulls()
    for pattern, dtype in _NUMBERS:
        if len(present) and present.str.contains(pattern).all():
            return values.cast(dtype)
    return values


# Columnar files


def _read_parquet(path: Path, limit: int | None) -> Table:
    return read_frame(_frame([path], _parquet_table, limit))


def _read_arrow(path: Path, limit: int | None) -> Table:
    return read_frame(_frame([path], _arrow_table, limit))


def _frame(paths: Sequence[Path], read: Callable[[Path, int | None], Any], limit: int | None) -> pl.DataFrame:
    """The rows of files of one schema, each read as an Arrow table."""
    try:
        table = pa.concat_tables([read(path, limit) for path in paths]).slice(0, limit)
        table.validate(full=True)  # offsets of a damaged file would lead out of memory
        return pl.DataFrame(pl.from_arrow(table))
    except (pa.ArrowException, OSError, ValueError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        names, reason = ", ".join(path.name for path in paths[:3]), str(error).partition("\n")[0]
        raise InputError(
            f"cannot read {names} in '{paths[0].parent}', which may be damaged ({reason.rstrip('.')}): copy it again"
        ) from error


def _parquet_table(path: Path, limit: int | None) -> Any:
    """Row groups up to the limit, by Arrow, because Polars panics on damaged files."""
    source: Any = path
    if path.suffix.lower() in CODECS:
        with opened(path) as stream:
            source = pa.BufferReader(stream.read())
    file = parquet.ParquetFile(source)
    groups, rows = 0, 0
    while groups < file.num_row_groups and (limit is None or rows < limit):
        rows += file.metadata.row_group(groups).num_rows
        groups += 1
    return file.read_row_groups(range(groups))


def _arrow_table(path: Path, limit: int | None) -> Any:  # noqa: ARG001 - mapped rows cost nothing until they are used
    source = pa.memory_map(str(path))
    start = source.read(6)
    source.seek(0)
    return (pa.ipc.open_file if start == b"ARROW1" else pa.ipc.open_stream)(source).read_all()


# Folders


def _read_folder(path: Path, limit: int | None) -> Table:
    if is_store(path):
        raise InputError(f"'{path}' is a store, encoded already: give the texts that it was made of")
    if (path / "dataset_dict.json").exists():
        return _read_splits(path, limit)
    if (path / "state.json").exists() and (path / "dataset_info.json").exists():
        return read_frame(_dataset_frame(path, limit))
    return _read_text_folder(path, limit)


def _load(path: Path) -> dict[str, Any]:
    """The one JSON object in a small file."""
    rows = document_rows(path, read_text(path)[0])
    return rows[0] if rows else {}


def _read_splits(path: Path, limit: int | None) -> Table:
    splits = _load(path / "dataset_dict.json").get("splits", [])
    frames = [_dataset_frame(path / split, limit) for split in splits]
    parts = [
        frame.rename({"split": "split_source"}, strict=False).with_columns(split=pl.lit(split))
        for split, frame in zip(splits, frames, strict=True)
    ]
    try:
        frame = pl.concat(parts, how="diagonal_relaxed").head(limit or sys.maxsize) if parts else pl.DataFrame()
    except pl.exceptions.PolarsError as error:
        raise InputError(
            f"the splits of '{path}' have other types of columns: give one, as {path / splits[0]}"
        ) from error
    counts = ", ".join(f"{split} ({part.height:,})" for split, part in zip(splits, parts, strict=True))
    return replace(read_frame(frame), notes=(f"all splits were read, told apart by the column 'split': {counts}",))


def _dataset_frame(path: Path, limit: int | None) -> pl.DataFrame:
    """The rows of a saved `Dataset`, with the names of classes instead of their numbers."""
    state = _load(path / "state.json")
    if state.get("_indices_data_files"):
        raise InputError(f"'{path}' was saved by an old version of datasets: load it and save it again")
    files = [path / entry["filename"] for entry in state.get("_data_files", [])]
    frame = _frame(files, _arrow_table, limit) if files else pl.DataFrame()
    features = _load(path / "dataset_info.json").get("features") or {}
    names = {key: f["names"] for key, f in features.items() if isinstance(f, dict) and f.get("_type") == "ClassLabel"}
    return frame.with_columns(
        pl.col(key).replace_strict(range(len(classes)), classes, default=None, return_dtype=pl.String)
        for key, classes in names.items()
        if key in frame.columns and frame[key].dtype.is_integer()
    )


def _read_text_folder(path: Path, limit: int | None) -> Table:
    files = sorted(p for p in path.rglob("*") if p.is_file() and not _is_hidden(p.relative_to(path)))
    texts = [p for p in files if p.suffix.lower() in _TEXT_SUFFIXES]
    others = Counter(p.suffix.lower() or p.name for p in files if p not in set(texts))
    found = ", ".join(f"{n:,} {suffix}" for suffix, n in others.most_common(5))
    if not texts:
        raise InputError(f"the folder '{path}' has no .txt or .md file (it holds {found or 'nothing'}): give a file")
    tables = [p for p in files if p.suffix.lower() in {".jsonl", ".ndjson", ".csv", ".tsv", ".parquet"}]
    if tables and all(p.stem.upper() == "README" for p in texts):
        raise InputError(f"the folder '{path}' holds files of texts and a README: give one file, such as '{tables[0]}'")
    notes = (f"the folder '{path.name}' also holds {found}: passed over",) if found else ()
    return _read_documents(path, texts[:limit], notes)


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _read_documents(root: Path, files: Sequence[Path], notes: tuple[str, ...]) -> Table:
    """One document for each file."""
    texts, foreign = zip(*map(read_text, files), strict=True)
    paths = [file.relative_to(root) for file in files]
    columns: dict[str, Column] = {"doc_id": [path.as_posix() for path in paths], "text": list(texts)}
    if len({path.parent for path in paths}) > 1:
        columns["folder"] = [path.parent.as_posix() for path in paths]
    for path, lines in zip(paths, foreign, strict=True):
        notes += encoding_note(path.as_posix(), lines)
    return Table(columns, notes)


def _read_document(path: Path, limit: int | None) -> Table:  # noqa: ARG001 - a reader of one document
    note = f"{path.name} was read as one document: give a csv or JSON lines for many"
    return _read_documents(path.parent, [path], (note,))


# Which reader


def _sniff(path: Path) -> Reader:
    """The reader for a file whose suffix says nothing. Raises InputError if its content says nothing either."""
    with opened(path) as stream:
        head = stream.peek(BLOCK)[:BLOCK]
    if head.startswith(b"PAR1"):
        return _read_parquet
    if head.startswith(b"ARROW1"):
        return _read_arrow
    check_text(path, head)
    start, _, rest = head.removeprefix(codecs.BOM_UTF8).lstrip().partition(b"\n")
    if start[:1] in (b"{", b"[", b""):
        return read_json
    separator = _separator(start.decode("utf-8", "replace")).encode()
    if start.count(separator) == rest.partition(b"\n")[0].count(separator) > 0:
        return _read_separated
    raise InputError(f"cannot tell what '{path.name}' holds: name it .jsonl, .json, .csv, .tsv, .parquet or .txt")


Reader = Callable[[Path, int | None], Table]
_READERS: Mapping[str, Reader] = {
    **dict.fromkeys((".jsonl", ".ndjson", ".json"), read_json),
    **dict.fromkeys((".csv", ".tsv"), _read_separated),
    **dict.fromkeys((".arrow", ".feather", ".ipc"), _read_arrow),
    **dict.fromkeys(_TEXT_SUFFIXES, _read_document),
    ".parquet": _read_parquet,
}
