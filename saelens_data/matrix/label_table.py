"""The label table: all labels that the latents of one SAE have, where each comes from, and which one is shown.

A label belongs to an SAE and not to documents: a table knows the SHA-256 of the SAE's weights, and goes with no other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from saelens_data.errors import InputError, choices

#: Columns of a label table; all but latent, label and origin may be null.
LABEL_SCHEMA = {
    "latent": pl.Int32,
    "label": pl.String,
    "explanation": pl.String,
    "origin": pl.String,
    "method": pl.String,
    "score": pl.Float64,
    "score_kind": pl.String,
    "score_low": pl.Float64,
    "score_high": pl.Float64,
    "baseline": pl.Float64,
    "n": pl.Int32,
    "created": pl.String,
    "extra": pl.String,
}
#: Origin of a label whose table names none.
GIVEN = "given"
#: What the score of these origins is, where a table of concepts has no room to say.
SCORE_KINDS = {"offline phrases": "cover"}
#: Columns of the concepts that a label fills.
_SHOWN = ("latent", "label", "explanation", "score", "origin")
_FLOATS = tuple(name for name, dtype in LABEL_SCHEMA.items() if dtype == pl.Float64)
_TEXTS = ("label", "explanation")
#: Control characters and line breaks; a label is one line.
_BREAKS = r"[\p{Cc}\p{Zl}\p{Zp}\s]+"


@dataclass(frozen=True, eq=False, repr=False)
class LabelTable:
    """Labels of the latents of one SAE, several for a latent if there are.

    `rows` one row for each label, sorted by latent and then in the order of `origins`; the columns of LABEL_SCHEMA:
    `latent`; `label` (short), `explanation` (longer); `origin` (who says so: "offline phrases",
    "neuronpedia:gpt-4o-mini", "llm:MODEL"), `method` (how); `score` with its `score_kind` and the interval
    `score_low` to `score_high`; `baseline`: the score, on the same documents, of the label that it would replace,
    null if it was compared with none; `n` documents scored on; `created` as the source says it, never a clock;
    `extra` a JSON object of whatever else is known, such as other scores.
    `origins` are all that occur, the most preferred first; `prefer` are those that the user puts before any score.
    """

    rows: pl.DataFrame
    sae_sha256: str
    origins: tuple[str, ...] = ()
    prefer: tuple[str, ...] = ()

    @staticmethod
    def of(
        rows: pl.DataFrame,
        *,
        sae_sha256: str,
        d_sae: int | None = None,
        origin: str | None = None,
        prefer: Sequence[str] = (),
    ) -> LabelTable:
        """A table of rows that have at least the columns `latent` and `label`; others of LABEL_SCHEMA may be absent.

        `origin` is that of rows without one. Labels and explanations are brought to one line. Of rows that are the
        same in latent, label, origin and method the first stays. Raises InputError for an unknown column, a latent
        that is no whole number or not below `d_sae`, an empty label, and a number that is not finite.
        """
        table = _typed(rows).with_columns(pl.col("origin").fill_null(origin or GIVEN))
        _check(table)
        origins = tuple(table["origin"].unique(maintain_order=True))
        found = LabelTable(_sorted(table, origins), sae_sha256, origins, tuple(prefer))
        found.require_within(d_sae)
        return found

    @staticmethod
    def of_concepts(concepts: pl.DataFrame, sae_sha256: str) -> LabelTable:
        """The labels that a table of concepts shows, one for a latent at most."""
        found = concepts.select(name for name in _SHOWN if name in concepts.columns)
        if "label" not in found.columns:
            found = found.clear().with_columns(pl.lit(None, pl.String).alias("label"))
        labelled = found.filter(pl.col("label").str.strip_chars() != "")
        if "origin" in labelled.columns:
            kind = pl.col("origin").replace_strict(SCORE_KINDS, default=None, return_dtype=pl.String)
            labelled = labelled.with_columns(score_kind=kind)
        return LabelTable.of(labelled, sae_sha256=sae_sha256)

    def __repr__(self) -> str:
        named = self.rows["latent"].n_unique()
        return f"LabelTable({self.rows.height:,} labels of {named:,} latents: {', '.join(self.origins) or 'none'})"

    def _repr_html_(self) -> str:
        """The first labels as a table for notebooks; every text is escaped."""
        from saelens_data.display.table import html  # noqa: PLC0415
        from saelens_data.matrix.shown import of_labels  # noqa: PLC0415

        return html(repr(self), of_labels(self.rows))

    def __len__(self) -> int:
        return self.rows.height

    def to_frame(self) -> pl.DataFrame:
        """The rows."""
        return self.rows

    def of_latents(self, latents: Iterable[int]) -> LabelTable:
        """The labels of these latents, with the same preference."""
        wanted = pl.Series(list(latents), dtype=pl.Int32)
        return replace(self, rows=self.rows.filter(pl.col("latent").is_in(wanted.implode())))

    def adding(self, newer: LabelTable) -> LabelTable:
        """Both tables' labels: where they name a latent from the same origin, those of `newer` alone.

        Its origins come before the others, and its `prefer`, if it has one, takes the place of this one's.
        Raises InputError if the two are of different SAEs.
        """
        self.require_sae(newer.sae_sha256)
        kept = self.rows.join(newer.rows.select("latent", "origin").unique(), on=["latent", "origin"], how="anti")
        origins = tuple(dict.fromkeys((*newer.origins, *self.origins)))
        rows = _sorted(pl.concat([newer.rows, kept]), origins)
        return LabelTable(rows, self.sae_sha256, origins, newer.prefer or self.prefer)

    def without(self, origin: str) -> LabelTable:
        """The table without an origin's labels. Raises InputError, listing the origins, for one it has not."""
        gone = self.named(origin)
        left = tuple(name for name in self.origins if name not in gone)
        rows = self.rows.filter(~pl.col("origin").is_in(gone))
        table = LabelTable(rows, self.sae_sha256, left)
        return replace(table, prefer=table.known(self.prefer))

    def known(self, names: Iterable[str]) -> tuple[str, ...]:
        """Those of `names` that stand for an origin of this table."""
        return tuple(name for name in names if any(_is_of(origin, name) for origin in self.origins))

    def preferring(self, *origins: str) -> LabelTable:
        """The table with the labels of these origins before all others, the first named first; none: the default.

        "neuronpedia" stands for all origins that begin with "neuronpedia:". Raises InputError for an origin that the
        table has not.
        """
        for origin in origins:
            self.named(origin)
        return replace(self, prefer=tuple(dict.fromkeys(origins)))

    def preferred(self) -> pl.DataFrame:
        """The label that is shown, of each latent that has one that may be: the rows of it, by latent.

        The order: the origins of `prefer`; labels that beat the label they would replace (`score` above `baseline`),
        by how much; labels that were compared with none, by the order of `origins` and, of one origin, by score.
        A label that did not beat its baseline is not used, unless its origin is in `prefer`.
        """
        named = pl.lit(len(self.prefer))
        for place, name in reversed(list(enumerate(self.prefer))):
            named = pl.when(_of(name)).then(pl.lit(place)).otherwise(named)
        margin = pl.col("score") - pl.col("baseline")
        ranked = self.rows.with_columns(
            _named=named, _margin=pl.when(margin > 0).then(margin), _at=_place(self.origins)
        ).filter((pl.col("_named") < len(self.prefer)) | (margin > 0) | margin.is_null())
        by = ["latent", "_named", "_margin", "_at", "score"]
        falling = [False, False, True, False, True]
        ordered = ranked.sort(by, descending=falling, nulls_last=True, maintain_order=True)
        return ordered.unique("latent", keep="first", maintain_order=True).select(*LABEL_SCHEMA)

    def rejected(self) -> pl.DataFrame:
        """Labels that did not beat the label they would replace."""
        return self.rows.filter(pl.col("score") <= pl.col("baseline"))

    def describe(self, concepts: pl.DataFrame) -> pl.DataFrame:
        """A table of concepts with the label, explanation, score and origin that this table prefers.

        A concept without any here keeps what it has.
        """
        shown = self.preferred().select(_SHOWN)
        return concepts.update(shown, on="latent", how="left", include_nulls=True)

    def require_sae(self, sae_sha256: str) -> None:
        """Raise InputError unless these are labels of the SAE whose weights have this SHA-256."""
        if sae_sha256 != self.sae_sha256:
            raise InputError(
                f"these are labels of another SAE (its sha256 begins with {self.sae_sha256[:12]}, "
                f"here {sae_sha256[:12]}): a latent's number means something else there"
            )

    def require_within(self, d_sae: int | None) -> None:
        """Raise InputError for a label of a latent that an SAE of `d_sae` latents has not; None: unknown."""
        if d_sae is not None and len(beyond := self.rows["latent"].filter(self.rows["latent"] >= d_sae)):
            raise InputError(
                f"there is a label for latent {beyond[0]}, and this SAE has {d_sae:,} (0 to {d_sae - 1}): "
                "these are labels of another SAE"
            )

    def named(self, origin: str) -> list[str]:
        """The origins that a name stands for. Raises InputError, listing all, if there are none."""
        found = [name for name in self.origins if _is_of(name, origin)]
        if not found:
            raise InputError(f"there are no labels of origin '{origin}': {choices(origin, self.origins)}")
        return found


def _is_of(origin: str, name: str) -> bool:
    return origin == name or origin.startswith(f"{name}:")


def _of(name: str) -> pl.Expr:
    return (pl.col("origin") == name) | pl.col("origin").str.starts_with(f"{name}:")


def _place(origins: Sequence[str]) -> pl.Expr:
    place = {name: at for at, name in enumerate(origins)}
    return pl.col("origin").replace_strict(place, default=len(place), return_dtype=pl.Int32)


def _sorted(table: pl.DataFrame, origins: Sequence[str]) -> pl.DataFrame:
    """In an order that follows from the values alone, so that the same labels make the same file."""
    distinct = table.unique(["latent", "label", "origin", "method"], keep="first", maintain_order=True)
    by = [pl.col("latent"), _place(origins), pl.col("score"), pl.col("method"), pl.col("label")]
    falling = [False, False, True, False, False]
    return distinct.sort(by, descending=falling, nulls_last=True, maintain_order=True)


def _typed(rows: pl.DataFrame) -> pl.DataFrame:
    for name in ("latent", "label"):
        if name not in rows.columns:
            raise InputError(f"a label table needs the column '{name}'; it has {', '.join(rows.columns) or 'none'}")
    if strange := [name for name in rows.columns if name not in LABEL_SCHEMA]:
        raise InputError(f"a label table has no column '{strange[0]}'; {choices(strange[0], LABEL_SCHEMA)}")
    found = rows.with_columns(_whole(rows["latent"]))
    try:
        table = found.select(
            (pl.col(name) if name in found.columns else pl.lit(None)).cast(dtype).alias(name)
            for name, dtype in LABEL_SCHEMA.items()
        )
    except pl.exceptions.PolarsError as error:
        raise InputError(f"the label table cannot be read: {str(error).splitlines()[0]}") from error
    one_line = (pl.col(name).str.replace_all(_BREAKS, " ").str.strip_chars() for name in _TEXTS)
    return table.with_columns(one_line)


def _whole(latents: pl.Series) -> pl.Series:
    """Latents as whole numbers, from numbers or from their digits. Raises InputError."""
    try:
        # Through int64, so that a number too large for a latent is named below as it was written.
        exact = latents.cast(pl.Int64)
        if latents.dtype.is_float() and not (exact == latents).all():
            raise InputError("the label table has a latent that is not a whole number")
    except pl.exceptions.PolarsError as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"the label table has a latent that is not a whole number: {reason}") from error
    if exact.null_count():
        raise InputError("the label table has a label without a latent: give each row the number of its latent")
    large = exact.filter((exact < 0) | (exact > np.iinfo(np.int32).max))
    if len(large):
        raise InputError(f"the label table has a latent {large[0]}, which no SAE has")
    return exact


def _check(table: pl.DataFrame) -> None:
    for name in ("label", "origin"):
        if (empty := table[name].is_null() | (table[name] == "")).any():
            raise InputError(f"the {name} of latent {table['latent'].filter(empty)[0]} is empty: leave such rows out")
    for name in _FLOATS:
        if not table[name].drop_nulls().is_finite().all():
            raise InputError(f"'{name}' holds a number that is not finite: leave it empty where it is unknown")
