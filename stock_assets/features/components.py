"""Principal components of the features: fitted once on a stated window, then only applied.

A model is plain numbers. It is stored as a table (`to_frame`) and read back to the same bits
(`from_frame`).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from hashlib import sha256

import numpy as np
import polars as pl
from threadpoolctl import threadpool_limits

from stock_assets.errors import ArtifactError, BadBarsError
from stock_assets.features.tables import PCA_MODEL
from stock_assets.frames import KEYS, columns_not_finite, first_not_finite

_CHUNK_ROWS = 100_000


@dataclass(frozen=True, eq=False)
class PcaModel:
    """A standard scaler and the principal axes of what it scales."""

    columns: tuple[str, ...]
    """The f features, in order."""
    mean: np.ndarray
    """[f] of the fit window, in the features' own units."""
    scale: np.ndarray
    """[f] standard deviation (ddof 0) of the fit window; 1 for a feature that was constant."""
    components: np.ndarray
    """[k, f] orthonormal axes in standardised units, most variance first, largest loading positive."""
    explained_variance_ratio: np.ndarray
    """[k] shares of the standardised variance of the fit window."""
    fit_from: date
    """The first session fitted on."""
    fit_through: date
    """The last session that the fit was allowed to see."""
    n_rows: int
    """Rows fitted on."""

    @cached_property
    def version(self) -> str:
        """Twelve hex digits of the SHA-256 of everything above."""
        digest = sha256(repr((self.columns, self.fit_from, self.fit_through, self.n_rows)).encode())
        for numbers in (self.mean, self.scale, self.components, self.explained_variance_ratio):
            digest.update(np.ascontiguousarray(numbers, dtype="<f8").tobytes())
        return digest.hexdigest()[:12]


def fit_pca(features: pl.DataFrame, columns: Sequence[str], *, fit_through: date, explained: float = 0.95) -> PcaModel:
    """The scaler and the fewest components that keep `explained` of the variance, up to `fit_through` only.

    `features` are rows of ticker, session and `columns`, in any order; leave suspect rows out beforehand. All
    sessions count alike up to `fit_through`, later ones are not looked at. A column that is constant has a loading
    of 0 in every component.

    Raises BadBarsError where a column is missing, a number is null or not finite, fewer than two rows lie in
    the window, or no column varies; ValueError unless 0 < explained <= 1.
    """
    # sums depend on the order of their terms in the last bit, and the version on every bit: hence sorted
    rows = _checked_rows(features, columns, fit_through).sort("session", "ticker")
    return fit_pca_in_blocks(lambda: (rows,), columns, fit_through=fit_through, explained=explained)


@threadpool_limits.wrap(limits=1, user_api="blas")  # the last bits would depend on the number of threads
def fit_pca_in_blocks(
    blocks: Callable[[], Iterable[pl.DataFrame]], columns: Sequence[str], *, fit_through: date, explained: float = 0.95
) -> PcaModel:
    """As `fit_pca`, of rows that are not in memory together: `blocks` returns them twice, by ascending sessions.

    The tests compare with scikit-learn's PCA, which holds every row at once and takes a second to import.
    """
    if not 0 < explained <= 1:
        raise ValueError(f"explained is {explained}; expected a share above 0 and up to 1")
    rows, total, first = 0, np.zeros(len(columns)), fit_through
    for block in blocks():
        checked_block = _checked_rows(block, columns, fit_through)
        first, rows = min([first, *checked_block["session"].unique()]), rows + checked_block.height
        for chunk in _chunks(checked_block, columns):
            total += chunk.sum(axis=0)
    if rows < 2:
        raise BadBarsError(f"features have {rows} row(s) up to {fit_through}; expected two or more to fit on")
    mean, products = total / rows, np.zeros((len(columns), len(columns)))
    for block in blocks():
        for chunk in _chunks(_checked_rows(block, columns, fit_through), columns):
            centred = np.subtract(chunk, mean, out=chunk)
            products += centred.T @ centred
    deviation = np.sqrt(np.diag(products) / rows)
    varies = deviation > 1e-12 * np.maximum(1.0, np.abs(mean))
    if not varies.any():
        raise BadBarsError(f"no column of {', '.join(columns)} varies up to {fit_through}; expected one to")
    scale = np.where(varies, deviation, 1.0)
    correlations = (products / rows / np.outer(scale, scale))[np.ix_(varies, varies)]
    variances, vectors = np.linalg.eigh(correlations)
    ratio = np.maximum(variances[::-1], 0.0) / variances.clip(0.0).sum()
    count = min(int(np.searchsorted(ratio.cumsum(), explained, side="right")) + 1, len(ratio))
    axes = np.zeros((count, len(columns)))
    axes[:, varies] = vectors[:, ::-1].T[:count]
    return PcaModel(
        columns=tuple(columns),
        mean=mean,
        scale=scale,
        components=_directed(axes),
        explained_variance_ratio=ratio[:count],
        fit_from=first,
        fit_through=fit_through,
        n_rows=rows,
    )


def _directed(axes: np.ndarray) -> np.ndarray:
    """`axes` with the largest loading positive: an axis has no direction of its own."""
    return axes * np.sign(np.take_along_axis(axes, np.abs(axes).argmax(axis=1)[:, None], axis=1))


@threadpool_limits.wrap(limits=1, user_api="blas")  # the products are small: other threads would wait, and burn a core
def transform(model: PcaModel, features: pl.DataFrame) -> pl.DataFrame:
    """The components of every row of `features`, in its order.

    Returns ticker, session, pc_1 … pc_k (f64, in standard deviations of a feature) and pca_version (str).

    Raises BadBarsError where a column of the model is missing, or a number is null or not finite.
    """
    rows = _checked_rows(features, model.columns)
    scores = np.empty((rows.height, len(model.components)), order="F")
    rows_done = 0
    for chunk in _chunks(rows, model.columns):
        scores[rows_done : rows_done + len(chunk)] = _standard_values(model, chunk) @ model.components.T
        rows_done += len(chunk)
    return rows.select(
        *KEYS,
        *(pl.Series(name, scores[:, i]) for i, name in enumerate(component_names(model))),
        pl.lit(model.version).alias("pca_version"),
    )


def component_names(model: PcaModel) -> list[str]:
    """The columns of `transform`: pc_1 … pc_k."""
    return [f"pc_{i + 1}" for i in range(len(model.components))]


def explained_out_of_sample(model: PcaModel, features: pl.DataFrame) -> float:
    """The share of the variance of `features`, standardised by the model, that its components reproduce.

    On the fit window this is the sum of `explained_variance_ratio`; on later rows it measures how well the axes
    still fit. NaN where the rows do not vary at all.

    Raises BadBarsError where there are no rows, a column is missing, or a number is null or not finite.
    """
    rows = _checked_rows(features, model.columns)
    if not rows.height:
        raise BadBarsError("no rows of features; expected some to judge the components on")
    total = reproduced_variance = 0.0
    for chunk in _chunks(rows, model.columns):
        standard_chunk = _standard_values(model, chunk)
        total += float((standard_chunk**2).sum())
        reproduced_variance += float(((standard_chunk @ model.components.T) ** 2).sum())
    return reproduced_variance / total if total else float("nan")


def to_frame(model: PcaModel) -> pl.DataFrame:
    """The model as a table `pca_model`: one row per component (from 1) and feature."""
    count, width = model.components.shape
    return pl.DataFrame(
        {
            "pca_version": [model.version] * (count * width),
            "component": np.repeat(np.arange(1, count + 1), width),
            "position": np.tile(np.arange(width), count),
            "feature": list(model.columns) * count,
            "loading": model.components.ravel(),
            "mean": np.tile(model.mean, count),
            "scale": np.tile(model.scale, count),
            "explained_variance_ratio": np.repeat(model.explained_variance_ratio, width),
            "fit_from": [model.fit_from] * (count * width),
            "fit_through": [model.fit_through] * (count * width),
            "n_rows": [model.n_rows] * (count * width),
        },
        schema=PCA_MODEL.schema,
    )


def from_frame(frame: pl.DataFrame) -> PcaModel:
    """The model that `to_frame` wrote, bit for bit; rows and columns may come in any order.

    Raises ArtifactError where the table is empty, holds more than one model, lacks a row or column, or its
    numbers are not those that its version names.
    """
    schema = PCA_MODEL.schema
    missing = [name for name in schema if name not in frame.columns]
    if missing:
        raise ArtifactError(f"the PCA table lacks {', '.join(missing)}; expected {', '.join(schema)}")
    versions = frame["pca_version"].unique().sort().to_list()
    if len(versions) != 1:
        raise ArtifactError(f"the PCA table holds {len(versions)} models {versions}; expected one")
    rows = frame.select(pl.col(name).cast(dtype) for name, dtype in schema.items()).sort("component", "position")
    width = rows["position"].n_unique()
    count, first_component = rows["component"].n_unique(), rows.head(width)
    if rows.height != count * width:
        raise ArtifactError(f"the PCA table has {rows.height} rows; expected {count} components of {width} features")
    model = PcaModel(
        columns=tuple(first_component["feature"]),
        mean=first_component["mean"].to_numpy(),
        scale=first_component["scale"].to_numpy(),
        components=rows["loading"].to_numpy().reshape(count, width),
        explained_variance_ratio=rows["explained_variance_ratio"].to_numpy()[::width],
        fit_from=first_component["fit_from"][0],
        fit_through=first_component["fit_through"][0],
        n_rows=first_component["n_rows"][0],
    )
    if model.version != versions[0]:
        raise ArtifactError(f"the PCA table's numbers are those of {model.version}; expected {versions[0]}")
    return model


def _standard_values(model: PcaModel, chunk: np.ndarray) -> np.ndarray:
    """`chunk`, [n, f] of `_chunks`, standardised in its own memory."""
    return np.divide(np.subtract(chunk, model.mean, out=chunk), model.scale, out=chunk)


def _checked_rows(features: pl.DataFrame, columns: Sequence[str], through: date | None = None) -> pl.DataFrame:
    """The keys and `columns` of the rows up to `through`. Raises BadBarsError where a number is not finite."""
    missing = [name for name in (*KEYS, *columns) if name not in features.columns]
    if missing or not columns:
        raise BadBarsError(f"features lack {', '.join(missing) or 'any column'}; expected {', '.join(columns)}")
    rows = features.select(*KEYS, *columns)
    if through is not None:
        rows = rows.filter(pl.col("session") <= through)
    for name in columns_not_finite(rows, columns)[:1]:
        bad = first_not_finite(rows, name)
        raise BadBarsError(f"{bad['ticker']} {bad['session']}: {name} is {bad[name]}; expected a finite number")
    return rows


def _chunks(rows: pl.DataFrame, columns: Sequence[str]) -> Iterator[np.ndarray]:
    """The numbers as arrays [n, f] of their own, so many rows at a time that memory stays small."""
    for part in rows.select(pl.col(name).cast(pl.Float64) for name in columns).iter_slices(_CHUNK_ROWS):
        yield part.to_numpy(writable=True)
