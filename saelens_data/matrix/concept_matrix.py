"""ConceptMatrix: documents x concepts, the object that every analysis reads and none writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, Protocol, TypeVar

import numpy as np
import polars as pl
from scipy.sparse import csr_array

from saelens_data.errors import InputError, choices
from saelens_data.matrix.by_latent import ByLatent, Columns, in_memory
from saelens_data.matrix.evidence import Evidence
from saelens_data.matrix.fields import Beside, field_of
from saelens_data.matrix.filters import mask_of
from saelens_data.matrix.label_table import LabelTable
from saelens_data.matrix.source import Source
from saelens_data.matrix.sparse import canonical_csr, gather, join_ptr, read_only

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
            object.__setattr__(self, "vectors", read_only(v))
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

    def _repr_html_(self) -> str:
        """The first documents as a table for notebooks; every text is escaped."""
        from saelens_data.display.table import html  # noqa: PLC0415
        from saelens_data.matrix.shown import of_matrix  # noqa: PLC0415

        return html(repr(self), of_matrix(self))

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
        return self.take_docs(np.flatnonzero(mask_of(self.docs, where)))

    def take_docs(self, rows: np.ndarray | Sequence[int]) -> ConceptMatrix:
        """The documents at these row numbers, in this order.

        Raises IndexError for a row that is not there, ValueError for one asked for twice (ids are unique).
        """
        rows = _row_numbers(rows, self.n_docs)
        indptr, index = gather(self.X.indptr, rows)
        X = canonical_csr(self.X.data[index], self.X.indices[index], indptr, (len(rows), self.n_concepts))
        evidence = None
        if (ev := self.evidence) is not None:
            evidence = Evidence(ev.mean[index], ev.unit[index], ev.units.take(rows))
        vectors = None if self.vectors is None else self.vectors[rows]
        beside = None if self.beside is None else self.beside.take(rows)
        return replace(self, X=X, docs=self.docs[rows], evidence=evidence, vectors=vectors, beside=beside)

    def filter_concepts(self, where: pl.Expr | str) -> ConceptMatrix:
        """Concepts for which `where` (a Polars or SQL expression over `concepts`) is true."""
        keep = mask_of(self.concepts, where)
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
            join_ptr([p.X.indptr for p in parts]),
            (docs.height, first.n_concepts),
        )
        kept = [p.evidence for p in parts if p.evidence is not None]
        evidence = Evidence.joined(kept) if len(kept) == len(parts) else None
        dense = [p.vectors for p in parts if p.vectors is not None]
        vectors = np.concatenate(dense) if len(dense) == len(parts) else None
        beside = Beside.joined([p.beside for p in parts])
        return replace(first, X=X, docs=docs, evidence=evidence, vectors=vectors, beside=beside)


def _row_numbers(rows: np.ndarray | Sequence[int], n_docs: int) -> np.ndarray:
    found = np.asarray(rows)
    if found.dtype == np.bool_ or (found.size and not np.issubdtype(found.dtype, np.integer)):
        raise IndexError(f"row numbers are wanted, not {found.dtype}: np.flatnonzero turns a mask into them")
    if found.size and (found.min() < 0 or found.max() >= n_docs):
        raise IndexError(f"rows {found.min()} to {found.max()} asked for, there are {n_docs} documents")
    if len(np.unique(found)) != len(found):
        raise ValueError("a document is asked for twice: doc_id would not be unique")
    return found.astype(np.int64)
