"""Standardised inputs. One column at a time, so that a large panel is never held twice.

A null in a column of the market context stands for the training mean, which is 0 after standardising: the series had
no recent bar then. A null or NaN in any other column is an error.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from stock_assets.errors import ArtifactError, BadBarsError
from stock_assets.features.side_features import may_be_null
from stock_assets.frames import columns_not_finite, first_not_finite
from stock_assets.model.targets import OUTCOME

#: Rows that are looked at at once, since columns without their nulls are copies.
_ROWS = 250_000


def feature_columns(features: pl.DataFrame) -> tuple[str, ...]:
    """The columns that feed a model, in order: those of floating-point numbers, so that keys and versions are not, nor
    what is there for the targets alone."""
    return tuple(name for name, dtype in features.schema.items() if dtype.is_float() and not name.startswith(OUTCOME))


def schema_hash(columns: Sequence[str]) -> str:
    """Twelve hexadecimal digits that name these columns in this order."""
    return hashlib.sha256("\n".join(columns).encode()).hexdigest()[:12]


def require_schema(version: str, description: Mapping[str, Any], columns: Sequence[str]) -> None:
    """Raises ArtifactError when the model with this `description` was made for other columns than `columns`."""
    if description.get("schema") == schema_hash(columns):
        return
    made_for = description.get("columns", [])
    lacking, unknown = [c for c in made_for if c not in columns], [c for c in columns if c not in made_for]
    differ = [
        *([f"lacking now: {', '.join(lacking)}"] if lacking else []),
        *([f"unknown to it: {', '.join(unknown)}"] if unknown else []),
    ]
    raise ArtifactError(
        f"{version} was trained on columns with the schema {description.get('schema')}, found {schema_hash(columns)} "
        f"({'; '.join(differ) or 'in another order'}). Materialize its model year again."
    )


def fit_scaler(rows: pl.DataFrame, columns: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """(mean, std) of the columns over `rows` (at least one), float64 [F] each.

    std is 1 where a column is constant. Nulls of the market context do not count; a column of nothing else has the
    mean 0. Raises BadBarsError for any other value that is not finite.
    """
    require_finite(rows, columns)
    values = [_present(column_values(rows, column)) for column in columns]
    mean, std = np.array([v.mean() for v in values]), np.array([v.std() for v in values])
    # rounding leaves a constant column with a tiny deviation, by which one must not divide
    return mean, np.where(std > 1e-12 * np.maximum(1.0, np.abs(mean)), std, 1.0)


def standardised(
    rows: pl.DataFrame,
    columns: Sequence[str],
    *,
    mean: np.ndarray,
    std: np.ndarray,
    clip: float = np.inf,
    dtype: type = np.float64,
) -> np.ndarray:
    """(x - mean) / std cut to ± clip, `dtype` [N, F], in the order of `rows` and `columns`.

    A null of the market context or of a side input becomes 0. Raises ArtifactError for a column that `rows` lack,
    BadBarsError for any other value that is not finite.
    """
    require_finite(rows, columns)
    values = np.empty((rows.height, len(columns)), dtype)
    for i, column in enumerate(columns):
        scaled = np.clip((column_values(rows, column) - mean[i]) / std[i], -clip, clip)
        values[:, i] = zero_where_unknown(scaled)
    return values


def require_finite(rows: pl.DataFrame, columns: Sequence[str]) -> None:
    """Raises ArtifactError for a column that `rows` lack, BadBarsError for a value that is not finite.

    A null in a column of the market context or of a side input is allowed.
    """
    missing = [name for name in columns if name not in rows.columns]
    if missing:
        raise ArtifactError(
            f"the model was trained on columns that the features lack: {', '.join(missing)}; train it again"
        )
    lenient = [name for name in columns if name in may_be_null()]
    needed_rows = rows.select("ticker", "session", *columns)
    parts = (part.with_columns(pl.col(lenient).fill_null(0.0)) for part in needed_rows.iter_slices(_ROWS))
    if not any(columns_not_finite(part, columns) for part in parts):
        return
    rows_to_check = needed_rows.with_columns(pl.col(lenient).fill_null(0.0))
    for column in columns_not_finite(rows_to_check, columns):
        bad = first_not_finite(rows_to_check, column)
        finite = rows_to_check.select(pl.col(column).is_finite().fill_null(value=False).sum()).item()
        raise BadBarsError(
            f"features of {bad['ticker']} at {bad['session']}: {column} is {bad[column]}, as are "
            f"{rows_to_check.height - finite - 1} more row(s); expected finite numbers"
        )


def column_values(rows: pl.DataFrame, column: str) -> np.ndarray:
    """float64 [N]: the column as it is, with NaN for null."""
    return rows[column].cast(pl.Float64).fill_null(np.nan).to_numpy()


def zero_where_unknown(values: np.ndarray) -> np.ndarray:
    """`values` with 0 in the place of NaN, changed in place."""
    values[np.isnan(values)] = 0.0
    return values


def _present(values: np.ndarray) -> np.ndarray:
    """The values that are there; a single 0 where none is."""
    unknown = np.isnan(values)
    if not unknown.any():
        return values
    return values[~unknown] if not unknown.all() else np.zeros(1)
