"""Standardised inputs. One column at a time, so that a large panel is never held twice."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from stock_assets.errors import ArtifactError, BadBarsError


def feature_columns(features: pl.DataFrame) -> tuple[str, ...]:
    """The columns that feed a model, in order: those of floating-point numbers, so that keys and versions are not."""
    return tuple(name for name, dtype in features.schema.items() if dtype.is_float())


def schema_hash(columns: Sequence[str]) -> str:
    """Twelve hexadecimal digits that name these columns in this order."""
    return hashlib.sha256("\n".join(columns).encode()).hexdigest()[:12]


def require_schema(version: str, description: Mapping[str, Any], columns: Sequence[str]) -> None:
    """Raises ArtifactError when the model that `description` tells of was made for other columns than `columns`."""
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
    """(mean, std) of the columns over `rows` (at least one), float64 [F] each; std is 1 where a column is
    constant.

    Raises BadBarsError for a value that is not finite.
    """
    values = [_finite(rows, column) for column in columns]
    mean, std = np.array([v.mean() for v in values]), np.array([v.std() for v in values])
    # rounding leaves a constant column with a tiny deviation, by which one must not divide
    return mean, np.where(std > 1e-12 * np.maximum(1.0, np.abs(mean)), std, 1.0)


def standardised(
    rows: pl.DataFrame,
    columns: Sequence[str],
    mean: np.ndarray,
    std: np.ndarray,
    clip: float = np.inf,
    dtype: type = np.float64,
) -> np.ndarray:
    """(x - mean) / std cut to ± clip, `dtype` [N, F], in the order of `rows` and `columns`.

    Raises ArtifactError for a column that `rows` lack, BadBarsError for a value that is not finite.
    """
    missing = [name for name in columns if name not in rows.columns]
    if missing:
        raise ArtifactError(
            f"the model was trained on columns that the features lack: {', '.join(missing)}; train it again"
        )
    values = np.empty((rows.height, len(columns)), dtype)
    for i, column in enumerate(columns):
        values[:, i] = np.clip((_finite(rows, column) - mean[i]) / std[i], -clip, clip)
    return values


def _finite(rows: pl.DataFrame, column: str) -> np.ndarray:
    values = rows[column].cast(pl.Float64).fill_null(np.nan).to_numpy()
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        ticker, session = rows.select("ticker", "session").row(int(bad[0]))
        raise BadBarsError(
            f"features of {ticker} at {session}: {column} is {values[bad[0]]}, as are {len(bad) - 1} more "
            "row(s); expected finite numbers"
        )
    return values
