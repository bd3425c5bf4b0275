"""Which rows of a table a filter keeps."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import polars as pl

from saelens_data.errors import InputError, choices

#: Name of the column that a filter expression is evaluated into; no source has it.
_MASK = "\0keep"


def mask_of(table: pl.DataFrame, where: pl.Expr | str) -> np.ndarray:
    """Where a Polars or SQL expression over the columns of a table is true, [rows] bool; nulls are not.

    Raises InputError for an expression that cannot be evaluated, naming the columns there are.
    """
    try:
        expr = pl.sql_expr(where) if isinstance(where, str) else where
        # with_columns, unlike select, refuses an expression whose length is neither 1 nor the table's.
        found: Any = table.with_columns(expr.alias(_MASK))[_MASK]
    except (pl.exceptions.PolarsError, TypeError, AttributeError) as error:
        reason = str(error).splitlines()[0].partition("; valid columns")[0]
        if absent := re.search(r'unable to find column "([^"]+)"', reason):
            reason = f"there is no column '{absent[1]}'; {choices(absent[1], table.columns)}"
            if f'"{absent[1]}"' in str(where):
                reason += f"; a value stands in single quotes, '{absent[1]}'"
            raise InputError(f"cannot evaluate {where!s}: {reason}") from error
        if "clause)" in reason:
            reason += ", a word of SQL: a column of that name needs double quotes"
        elif reason.startswith("unable to parse"):
            reason = "it is no whole expression of SQL, such as model = 'A'"
        raise InputError(f"cannot evaluate {where!s}: {reason}; columns: {', '.join(table.columns)}") from error
    if found.dtype != pl.Boolean:
        raise InputError(f"{where!s} gives {found.dtype}, not true or false: compare a column, as in \"model = 'A'\"")
    mask: np.ndarray = found.fill_null(value=False).to_numpy()
    return mask
