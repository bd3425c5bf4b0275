"""ConceptMatrix: documents x concepts, the object that every analysis reads and none writes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
import polars as pl
from scipy.sparse import csr_array

from saelens_data.by_latent import ByLatent, Columns, in_memory
from saelens_data.errors import InputError, choices
from saelens_data.fields import DEFAULT_FIELD, Beside, field_of
from saelens_data.label_table import LabelTable

#: Columns of `docs` that the package itself fills.
DOC_COLUMNS = ("doc_id", "text", "n_units", "n_tokens", "error")
#: Columns of `concepts` that always exist, in this order.
CONCEPT_SCHEMA = {
    "latent": pl.Int32,
    "label": pl.String,
    "explanation": pl.String,
    "score": pl.Float64,
    "origin": pl.String,
}
#: Name of the column that a filter expression is evaluated into; no source has it.
_MASK = "\0keep"

T = TypeVar("T")


class Keeper(Protocol):
    """Keeps on disk what is worked out from all of a matrix; what cannot be kept is None, and never an OSError."""

    def by_latent(self) -> ByLatent | None:
        """The activations by latent."""

    def array(
        self, name: str, shape: tuple[int, ...], key: Mapping[str, str], build: Callable[[], np.ndarray]
    ) -> np.ndarray:
        """The float32 array that `build` returned for `key`: kept if it can be, new if not."""

    def file(
        self, name: str, key: Mapping[str, str], write: Callable[[Path], None], read: Callable[[Path], T | None]
    ) -> T | None:
        """What `read` makes of the file that `write` wrote for `key`."""


@dataclass(frozen=True)
class Source:
    """Where the activations come from. Two matrices combine only if their sources agree."""

    #: Name of the encoder, as `load_encoder` takes it.
    encoder: str
    #: Name of the model that read the text.
    reader: str
    #: SHA-256 of the reader's weights.
    reader_sha256: str
    #: Name of the SAE.
    sae: str
    #: SHA-256 of the SAE's weights.
    sae_sha256: str
    #: Which of the reader's states the SAE reads.
    hook: str
    #: Units to document: "max", or "mean" for what `pooled("mean")` returns.
    pooling: str = "max"
    #: Limits that change the numbers, such as the longest span in tokens.
    limits: Mapping[str, int] = field(default_factory=dict)
    #: Arithmetic of the reader; changes the numbers by rounding only.
    dtype: str = "float32"
    #: Versions of the libraries that made the numbers.
    versions: Mapping[str, str] = field(default_factory=dict)
    #: What a look at some texts said of reader and SAE when they were loaded; says nothing of these documents.
    checks: Mapping[str, float] = field(default_factory=dict)
    #: Which field of conversations was read; plain texts are "response" too.
    field: str = DEFAULT_FIELD

    @property
    def unit(self) -> str:
        """What the units of a document are: "token", or "span"."""
        return "token" if "overlap" in self.limits else "span"

    def differences(self, other: Source) -> list[str]:
        """Name the fields in which two sources disagree; dtype and versions only round, checks are none."""
        keys = (f.name for f in fields(self) if f.name not in ("dtype", "versions", "checks"))
        return [key for key in keys if getattr(self, key) != getattr(other, key)]

    def require_same(self, other: Source) -> None:
        """Raise InputError, naming each difference, unless the two sources agree."""
        if (keys := self.differences(other)) == ["field"]:
            raise InputError(
                f"the two sets are of different fields ('{self.field}' and '{other.field}'): take one field of both"
            )
        if keys:
            parts = "; ".join(f"{key}: {getattr(self, key)!r} and {getattr(other, key)!r}" for key in keys)
            raise InputError(f"the two sets were encoded differently ({parts}): encode both with one encoder")


@dataclass(frozen=True, eq=False)
class Units:
    """The spans or tokens of each document, as character offsets into its text.

    `ptr` [n_docs + 1] int64 delimits the units of document i: `start[ptr[i]:ptr[i+1]]` and `end[...]`.
    """

    ptr: np.ndarray
    start: np.ndarray
    end: np.ndarray

    def __post_init__(self) -> None:
        if not (len(self.start) == len(self.end) == int(self.ptr[-1])):
            raise ValueError(
                f"units: {len(self.start)} starts, {len(self.end)} ends, {int(self.ptr[-1])} expected by ptr"
            )

    def take(self, rows: np.ndarray) -> Units:
        """The units of the documents `rows`, in that order."""
        ptr, index = _gather(self.ptr, rows)
        return Units(ptr, self.start[index], self.end[index])


@dataclass(frozen=True, eq=False)
class Evidence:
    """What is kept beside each maximum, aligned with `X.data`.

    `mean` [nnz] float32: mean activation over all units of the document (inactive units count as 0).
    `unit` [nnz] int32: number, within its document, of the unit that holds the maximum (the first, on ties).
    """

    mean: np.ndarray
    unit: np.ndarray
    units: Units


@dataclass(frozen=True, eq=False, repr=False)
class ConceptMatrix:
    """Sparse concept activations of a set of documents.

    `X` [documents, latents] csr_array float32, >= 0, sorted indices, no stored zeros.
    `docs` one row for each row of X: `doc_id` (unique), `text`, the source's columns, `n_units`, `n_tokens`, `error`.
    `concepts` one row for each column of X: `latent`, `label`, `explanation`, `score`, `origin`, ...
    `vectors` [documents, dim] float16: the mean of the reader's own embeddings of a document's units, each of length
    1, brought to length 1; zeros for a document without units. None if the reader or an older store has none.
    `beside` knows the same documents in other fields, such as the prompts of these answers.
    `label_table` holds further labels of the concepts, of which `concepts` shows one; see `labels`.
    Misaligned parts raise ValueError at construction; `X` and `vectors` become read-only views.
    """

    X: csr_array
    docs: pl.DataFrame
    concepts: pl.DataFrame
    source: Source
    evidence: Evidence | None = None
    vectors: np.ndarray | None = None
    beside: Beside | None = None
    label_table: LabelTable | None = None
    #: Keeps what is worked out from it; not handed on by `replace`, which may bring another X.
    keeper: Keeper | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        X = self.X
        if X.format != "csr" or X.dtype != np.float32 or not X.has_canonical_format:
            raise ValueError(f"X: csr float32 with sorted, distinct latents in each row wanted: {X.format} {X.dtype}")
        rows, columns = X.shape
        object.__setattr__(self, "X", canonical_csr(X.data[: X.nnz], X.indices[: X.nnz], X.indptr, X.shape))
        for axis, name, have, want in (
            ("documents", "docs", self.docs.height, rows),
            ("concepts", "concepts", self.concepts.height, columns),
        ):
            if have != want:
                raise ValueError(f"{axis}: X has {want}, the {name} table has {have} rows")
        for table, key in ((self.docs, "doc_id"), (self.concepts, "latent")):
            if key not in table.columns:
                raise ValueError(f"the column '{key}' is missing; {choices(key, table.columns)}")
        if self.evidence is not None:
            self._check_evidence(self.evidence)
        if (v := self.vectors) is not None:
            if v.ndim != 2 or len(v) != rows or v.dtype != np.float16:
                raise ValueError(f"vectors: [{rows}, dim] float16 wanted, got {list(v.shape)} {v.dtype}")
            object.__setattr__(self, "vectors", _read_only(v))
        if self.beside is not None and self.beside.n_docs != rows:
            raise ValueError(f"beside: other fields have {self.beside.n_docs} documents, X has {rows}")

    def _check_evidence(self, ev: Evidence) -> None:
        if not len(ev.mean) == len(ev.unit) == self.X.nnz:
            raise ValueError(f"evidence: {len(ev.mean)} means, {len(ev.unit)} units, {self.X.nnz} activations")
        if len(ev.units.ptr) != self.n_docs + 1:
            raise ValueError(f"evidence: units of {len(ev.units.ptr) - 1} documents, X has {self.n_docs}")

    def __repr__(self) -> str:
        n, d = self.X.shape
        return f"ConceptMatrix({n:,} documents x {d:,} concepts, {self.X.nnz:,} activations, {self.source.encoder})"

    @property
    def n_docs(self) -> int:
        """Number of documents."""
        return int(self.X.shape[0])

    @property
    def n_concepts(self) -> int:
        """Number of concepts."""
        return int(self.X.shape[1])

    @cached_property
    def by_latent(self) -> ByLatent:
        """The same activations by latent; of a whole store mapped from disk, and written there when first asked for."""
        if self.keeper and (found := self.keeper.by_latent()):
            return found
        arrays = {"indices": self.X.indices, "max": self.X.data}
        if self.evidence is not None:
            arrays["mean"] = self.evidence.mean
        columns = Columns(self.X.indptr, lambda name, start, stop: arrays[name][start:stop], self.n_concepts)
        return in_memory(columns, tuple(arrays)[1:])

    def density(self) -> np.ndarray:
        """Share of documents in which each latent is active, [latents] float64."""
        support = np.bincount(self.X.indices, minlength=self.n_concepts)
        return support / max(self.n_docs, 1)

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the fields that these documents have, this matrix's own first."""
        own = self.source.field
        return (own, *(name for name in (self.beside.names if self.beside else ()) if name != own))

    def field(self, name: str) -> ConceptMatrix:
        """The same documents in another field, row for row: its activations, text, evidence and vectors.

        Opened when it is called, with all concepts; the other columns of `docs` stay, the text of this field as a
        column of its name unless there is one, and labels given to this matrix hold. Raises InputError, listing the
        fields there are, for another name; StoreError for a field that is not whole.
        """
        if name == self.source.field:
            return self
        if name not in self.fields:
            raise InputError(
                f"these documents have no field '{name}': {choices(name, self.fields)}; "
                f"encode the conversations with --field {self.source.field} --field {name} (fields=)"
            )
        return field_of(self, name, DOC_COLUMNS)

    def pooled(self, how: Literal["max", "mean"]) -> ConceptMatrix:
        """The same matrix with the other pooled values. Raises InputError if they were not kept."""
        if how == self.source.pooling:
            return self
        if how == "max":
            raise InputError("this matrix holds means: the maxima are in the matrix that pooled('mean') was called on")
        if self.evidence is None:
            raise InputError("this matrix holds no means: open the store it came from")
        X = canonical_csr(self.evidence.mean, self.X.indices, self.X.indptr, self.X.shape)
        return replace(self, X=X, source=replace(self.source, pooling="mean"))

    def filter_docs(self, where: pl.Expr | str) -> ConceptMatrix:
        """Documents for which `where` (a Polars or SQL expression over `docs`) is true.

        Raises InputError for an expression that cannot be evaluated, naming the columns there are.
        """
        return self.take_docs(np.flatnonzero(_mask(self.docs, where)))

    def take_docs(self, rows: np.ndarray | Sequence[int]) -> ConceptMatrix:
        """The documents at these row numbers, in this order.

        Raises IndexError for a row that is not there, ValueError for one asked for twice (ids are unique).
        """
        rows = _row_numbers(rows, self.n_docs)
        indptr, index = _gather(self.X.indptr, rows)
        X = canonical_csr(self.X.data[index], self.X.indices[index], indptr, (len(rows), self.n_concepts))
        evidence = None
        if (ev := self.evidence) is not None:
            evidence = Evidence(ev.mean[index], ev.unit[index], ev.units.take(rows))
        vectors = None if self.vectors is None else self.vectors[rows]
        beside = None if self.beside is None else self.beside.take(rows)
        return replace(self, X=X, docs=self.docs[rows], evidence=evidence, vectors=vectors, beside=beside)

    def filter_concepts(self, where: pl.Expr | str) -> ConceptMatrix:
        """Concepts for which `where` (a Polars or SQL expression over `concepts`) is true."""
        keep = _mask(self.concepts, where)
        position = np.cumsum(keep, dtype=self.X.indices.dtype) - 1
        kept = keep[self.X.indices]
        index = np.flatnonzero(kept)
        indptr = np.concatenate([[0], np.cumsum(kept, dtype=np.int64)])[self.X.indptr]
        evidence = None
        if (ev := self.evidence) is not None:
            evidence = Evidence(ev.mean[index], ev.unit[index], ev.units)
        shape = (self.n_docs, int(keep.sum()))
        X = canonical_csr(self.X.data[index], position[self.X.indices[index]], indptr, shape)
        return replace(self, X=X, concepts=self.concepts.filter(pl.Series(keep)), evidence=evidence)

    def with_docs(self, columns: pl.DataFrame) -> ConceptMatrix:
        """Add or replace columns of `docs` by a table keyed on `doc_id`; null where the table has no row.

        Raises InputError without that column or with an id twice.
        """
        if "doc_id" not in columns.columns or columns["doc_id"].is_duplicated().any():
            raise InputError("the table of new columns needs a column 'doc_id' with each id once")
        table = columns.with_columns(pl.col("doc_id").cast(pl.String))
        kept = self.docs.drop([c for c in table.columns if c != "doc_id"], strict=False)
        docs = kept.join(table, on="doc_id", how="left", maintain_order="left")
        return replace(self, docs=docs).backed(self.keeper)

    @property
    def labels(self) -> LabelTable:
        """All labels of these concepts: those shown in `concepts`, and those beside them."""
        shown = LabelTable.of_concepts(self.concepts, self.source.sae_sha256)
        if self.label_table is None:
            return shown
        return shown.adding(self.label_table).of_latents(self.concepts["latent"])

    def with_labels(self, labels: pl.DataFrame | LabelTable) -> ConceptMatrix:
        """Replace label, explanation, score and origin where the table (keyed on `latent`) has a row.

        A column that the table lacks becomes null there: an old score says nothing of a new label. A LabelTable may
        have many labels for a latent: they are added to those there are, and `concepts` shows the preferred one.
        Raises InputError for missing columns, a latent that is not a whole number or is there twice, labels of
        another SAE.
        """
        if isinstance(labels, LabelTable):
            all_labels = self.labels.adding(labels)
            described = replace(self, concepts=all_labels.describe(self.concepts), label_table=all_labels)
            return described.backed(self.keeper)
        if "latent" not in labels.columns or "label" not in labels.columns:
            raise InputError(
                f"a label table needs the columns 'latent' and 'label'; it has {', '.join(labels.columns)}"
            )
        try:
            table = labels.select(
                (pl.col(name) if name in labels.columns else pl.lit(None)).cast(dtype).alias(name)
                for name, dtype in CONCEPT_SCHEMA.items()
            )
        except pl.exceptions.PolarsError as error:
            raise InputError(f"the label table cannot be read: {str(error).splitlines()[0]}") from error
        if (twice := table["latent"].is_duplicated()).any():
            raise InputError(f"the label table names latent {table['latent'].filter(twice)[0]} more than once")
        concepts = self.concepts.update(table, on="latent", how="left", include_nulls=True)
        return replace(self, concepts=concepts, label_table=self.labels).backed(self.keeper)

    def backed(self, keeper: Keeper | None) -> ConceptMatrix:
        """The same matrix, which asks `keeper` for what it keeps before that is computed."""
        found = replace(self)
        object.__setattr__(found, "keeper", keeper)
        return found

    @staticmethod
    def concat(parts: Sequence[ConceptMatrix]) -> ConceptMatrix:
        """Stack documents of matrices from one encoder; the concept table is the first one's.

        Raises InputError if sources or concepts differ, ids repeat, or a column has types that do not combine.
        """
        if not parts:
            raise ValueError("nothing to concatenate")
        first = parts[0]
        for part in parts[1:]:
            first.source.require_same(part.source)
            if not first.concepts["latent"].equals(part.concepts["latent"]):
                raise InputError(
                    f"the sets hold different concepts ({first.n_concepts} and {part.n_concepts}): "
                    "concatenate first, then filter concepts"
                )
        try:
            docs = pl.concat([part.docs for part in parts], how="diagonal_relaxed")
        except pl.exceptions.PolarsError as error:
            raise InputError(f"the document tables do not combine: {str(error).splitlines()[0]}") from error
        if (twice := docs["doc_id"].is_duplicated()).any():
            raise InputError(f"doc_id '{docs['doc_id'].filter(twice)[0]}' is in more than one set: ids must be unique")
        X = canonical_csr(
            np.concatenate([p.X.data for p in parts]),
            np.concatenate([p.X.indices for p in parts]),
            _join_ptr([p.X.indptr for p in parts]),
            (docs.height, first.n_concepts),
        )
        kept = [p.evidence for p in parts if p.evidence is not None]
        evidence = _concat_evidence(kept) if len(kept) == len(parts) else None
        dense = [p.vectors for p in parts if p.vectors is not None]
        vectors = np.concatenate(dense) if len(dense) == len(parts) else None
        beside = Beside.joined([p.beside for p in parts])
        return replace(first, X=X, docs=docs, evidence=evidence, vectors=vectors, beside=beside)


def canonical_csr(data: np.ndarray, indices: np.ndarray, indptr: np.ndarray, shape: tuple[int, int]) -> csr_array:
    """A read-only csr_array over these very arrays, whose rows are known to be sorted and distinct.

    Nothing is scanned, so arrays mapped from disk stay unread. The two index arrays get one dtype,
    int32 unless one of them needs int64.
    """
    wide = len(data) > np.iinfo(np.int32).max or indices.dtype == np.int64
    X = csr_array(shape, dtype=data.dtype)
    index = (array.astype(np.int64 if wide else np.int32, copy=False) for array in (indices, indptr))
    X.data, X.indices, X.indptr = (_read_only(array) for array in (data, *index))
    X.has_canonical_format = True
    return X


def _read_only(array: np.ndarray) -> np.ndarray:
    view = array.view()
    view.flags.writeable = False
    return view


def _row_numbers(rows: np.ndarray | Sequence[int], n_docs: int) -> np.ndarray:
    found = np.asarray(rows)
    if found.dtype == np.bool_ or (found.size and not np.issubdtype(found.dtype, np.integer)):
        raise IndexError(f"row numbers are wanted, not {found.dtype}: np.flatnonzero turns a mask into them")
    if found.size and (found.min() < 0 or found.max() >= n_docs):
        raise IndexError(f"rows {found.min()} to {found.max()} asked for, there are {n_docs} documents")
    if len(np.unique(found)) != len(found):
        raise ValueError("a document is asked for twice: doc_id would not be unique")
    return found.astype(np.int64)


def _concat_evidence(parts: Sequence[Evidence]) -> Evidence:
    units = Units(
        _join_ptr([p.units.ptr for p in parts]),
        np.concatenate([p.units.start for p in parts]),
        np.concatenate([p.units.end for p in parts]),
    )
    return Evidence(np.concatenate([p.mean for p in parts]), np.concatenate([p.unit for p in parts]), units)


def _join_ptr(parts: Sequence[np.ndarray]) -> np.ndarray:
    counts = np.concatenate([np.diff(np.asarray(p, dtype=np.int64)) for p in parts])
    return np.concatenate([[0], np.cumsum(counts)])


def _gather(ptr: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """New ptr and the positions of the entries of `rows`, without a Python loop."""
    start = ptr[rows].astype(np.int64)
    counts = ptr[rows + 1] - start
    new = np.zeros(len(rows) + 1, dtype=np.int64)
    np.cumsum(counts, out=new[1:])
    index = np.arange(new[-1], dtype=np.int64) + np.repeat(start - new[:-1], counts)
    return new, index


def _mask(table: pl.DataFrame, where: pl.Expr | str) -> np.ndarray:
    try:
        expr = pl.sql_expr(where) if isinstance(where, str) else where
        # with_columns, unlike select, refuses an expression whose length is neither 1 nor the table's.
        found: Any = table.with_columns(expr.alias(_MASK))[_MASK]
    except (pl.exceptions.PolarsError, TypeError, AttributeError) as error:
        reason = str(error).splitlines()[0].partition("; valid columns")[0]
        if absent := re.search(r'unable to find column "([^"]+)"', reason):
            reason = f"there is no column '{absent[1]}'; {choices(absent[1], table.columns)}"
            raise InputError(f"cannot evaluate {where!s}: {reason}") from error
        if "clause)" in reason:
            reason += ", a word of SQL: a column of that name needs double quotes"
        raise InputError(f"cannot evaluate {where!s}: {reason}; columns: {', '.join(table.columns)}") from error
    if found.dtype != pl.Boolean:
        raise InputError(f"{where!s} gives {found.dtype}, not true or false: compare a column, as in \"model = 'A'\"")
    mask: np.ndarray = found.fill_null(value=False).to_numpy()
    return mask
