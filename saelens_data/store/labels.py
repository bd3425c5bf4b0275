"""labels.parquet: all labels of an SAE's latents, beside a store or in the folder of an encoder.

It is no part of the store: labels come after the activations and change without them. The file bears its own checksum.
"""

from __future__ import annotations

import io
import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from saelens_data.errors import StoreError
from saelens_data.matrix.label_table import LABEL_SCHEMA, LabelTable
from saelens_data.store.files import atomic_write_bytes
from saelens_data.store.manifest import Manifest

FILE = "labels.parquet"
#: The member of the file's metadata that says what it is, as JSON.
KEY = b"saelens_data.labels"
#: Raised when a reader of the previous version could misread a file.
VERSION = 1
#: Stands for the checksum while it is computed: SHA-256 of the file with these 64 zeros in its place.
_NO_CHECKSUM = "0" * 64


def read_labels(folder: Path) -> LabelTable | None:
    """The labels kept in a folder, None if there are none. Raises StoreError for a file that is not sound."""
    file = folder / FILE
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"{file} cannot be read ({error.strerror})") from error
    try:
        return _from_bytes(data)
    except (ValueError, KeyError, TypeError, AttributeError, OSError, pa.ArrowException) as error:
        raise StoreError(
            f"{file} is damaged: restore it from a copy, or delete it and import the labels again"
        ) from error


def store_labels(path: Path, manifest: Manifest) -> LabelTable | None:
    """The labels beside the store `path`. Raises StoreError as `read_labels`, and for labels of another SAE."""
    table = read_labels(path)
    if table is not None and table.sae_sha256 != manifest.source.sae_sha256:
        raise StoreError(
            f"{path / FILE} holds labels of another SAE than the store's: move that file elsewhere or delete it"
        )
    return table


def write_labels(folder: Path, table: LabelTable) -> None:
    """Keep a table in a folder, in place of what is there; an empty one removes the file. Raises OSError."""
    if len(table):
        atomic_write_bytes(folder / FILE, to_bytes(table))
    else:
        (folder / FILE).unlink(missing_ok=True)


def to_bytes(table: LabelTable) -> bytes:
    """The file; its bytes depend on the table's values alone."""
    about = {
        "checksum": _NO_CHECKSUM,
        "version": VERSION,
        "sae_sha256": table.sae_sha256,
        "origins": table.origins,
        "prefer": table.prefer,
    }
    arrow = table.rows.rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())
    sink = io.BytesIO()
    # Without Arrow's own schema, which would hold the metadata too, the checksum stands in the file once.
    options = {"compression": "zstd", "compression_level": 3, "store_schema": False}
    with pq.ParquetWriter(sink, arrow.schema, **options) as writer:
        writer.write_table(arrow)
        writer.add_key_value_metadata({KEY: json.dumps(about).encode()})
    data = sink.getvalue()
    return data.replace(_NO_CHECKSUM.encode(), sha256(data).hexdigest().encode(), 1)


def _from_bytes(data: bytes) -> LabelTable:
    source = pa.BufferReader(data)
    about: dict[str, Any] = json.loads(pq.read_metadata(source).metadata[KEY])
    if (version := int(about["version"])) > VERSION:
        raise StoreError(
            f"{FILE} has format {version} and this version of saelens_data reads up to {VERSION}: "
            "pip install -U saelens_data"
        )
    checksum = str(about["checksum"])
    if sha256(data.replace(checksum.encode(), _NO_CHECKSUM.encode(), 1)).hexdigest() != checksum:
        raise ValueError("wrong checksum")
    rows = pl.from_arrow(pq.read_table(source))
    assert isinstance(rows, pl.DataFrame)
    if dict(rows.schema) != LABEL_SCHEMA:
        raise ValueError("other columns")
    return LabelTable(rows, str(about["sae_sha256"]), tuple(about["origins"]), tuple(about["prefer"]))
