"""How far the newest sessions lie from those that the model in service was trained on.

Two figures per column compare the rows of RECENT sessions with those of the REFERENCE sessions up to the cutoff:

- the population stability index (Siddiqi 2006, Credit Risk Scorecards): Σ (r - f) ln(r / f) over BINS bins, r and f
  the recent and the reference share of rows in the bin. The bins end at the deciles of the reference; where deciles
  coincide there are fewer. A share below FLOOR counts as FLOOR, so that an empty decile costs .69 and not infinity.
- the two-sample Kolmogorov-Smirnov distance: the largest difference of the two distribution functions.

The recent window ends at the session itself. It has RECENT sessions even where the first of them lie before the cutoff,
because a few sessions alone would show how similar neighbouring days are and no change of the market. So the figures
are small just after a training and complete RECENT sessions after it.

A single column moves with every swing of volatility, above all a market column, which has one value per session.
Retraining therefore watches one figure per session over all columns of a kind, `summary`.
"""

from collections.abc import Sequence
from datetime import date

import numpy as np
import polars as pl

from stock_assets.errors import StockAssetsError
from stock_assets.frames import columns_not_finite
from stock_assets.lifecycle.tables import DRIFT

#: Sessions of the recent window, that of the figure included: a month.
RECENT = 21
#: Sessions of the reference, the last of them the cutoff: a year, so that every season is in it.
REFERENCE = 252
#: A reference needs at least so many sessions, a quarter, to show what is ordinary.
SMALLEST_REFERENCE = 63
#: Bins of the population stability index.
BINS = 10
#: Smallest share of a bin.
FLOOR = 1e-4
#: Values of a reference that the distributions are compared at: a distance is too small by 1 / LEVELS at most, and
#: exact where the reference has no more rows.
LEVELS = 1000
#: The quantile of the distances of a kind's columns that is watched: nine columns in ten have moved less. With limits
#: that are reached as rarely, it reaches them sooner than the median when the market changes
#: (`python -m benchmarks drift`).
QUANTILE = 0.9

INPUT, PREDICTION = "input", "prediction"
#: The columns of `drift_figures`.
FIGURES = pl.Schema({name: DRIFT.schema[name] for name in ("session", "column", "psi", "ks")})


def drift_figures(
    reference: pl.DataFrame,
    recent: pl.DataFrame,
    columns: Sequence[str],
    *,
    sessions: Sequence[date],
    length: int = RECENT,
) -> pl.DataFrame:
    """session, column, psi, ks (`FIGURES`) of `columns` for each of `sessions` that has `length` - 1 others before it.

    `reference` and `recent` hold `columns` (floating-point numbers), `recent` also session. Both may be in any order,
    and a row may be in both. `sessions` are consecutive and ascending; the recent windows are counted in them. The
    result is sorted by session, then in the order of `columns`. A figure depends on the reference and on its own window
    alone, and counts are whole numbers, so a session alone gives the same figure as a range.

    Raises StockAssetsError where a number is null or not finite, and where the reference or a window has no row.
    """
    windows = len(sessions) - length + 1
    if windows < 1:
        return FIGURES.to_frame()
    place = pl.DataFrame({"session": list(sessions)}, {"session": pl.Date}).with_row_index("day")
    recent = recent.join(place, on="session")
    day = recent["day"].to_numpy()
    size = _windowed(np.bincount(day, minlength=len(sessions)), length)
    if reference.is_empty() or not size.all():
        last = sessions[length - 1 + int(size.argmin())]
        empty = "the reference" if reference.is_empty() else f"the window up to {last}"
        raise StockAssetsError(f"{empty} has no row to compare; expected some on each side")
    figures = [
        _column(_numbers(reference, name), _numbers(recent, name), day, days=len(sessions), length=length)
        for name in columns
    ]
    psi, ks = (np.stack(kind, axis=1).ravel() for kind in zip(*figures, strict=True))  # by session, then by column
    return pl.DataFrame(
        {
            "session": np.repeat(np.array(sessions[length - 1 :], "datetime64[D]"), len(columns)),
            "column": list(columns) * windows,
            "psi": psi,
            "ks": ks,
        },
        FIGURES,
    )


def summary(figures: pl.DataFrame, kind: str) -> pl.DataFrame:
    """session, drift: the QUANTILE of the KS distances of the columns of `kind`; no row without a figure of it.

    `figures` have session, kind and ks.
    """
    of_kind = figures.filter(pl.col("kind") == kind)
    return of_kind.group_by("session").agg(drift=pl.col("ks").quantile(QUANTILE, "linear")).sort("session")


def _numbers(rows: pl.DataFrame, name: str) -> np.ndarray:
    if columns_not_finite(rows, [name]):
        raise StockAssetsError(f"{name} has numbers that are null or not finite; expected finite ones to compare")
    return rows[name].to_numpy()


def _column(
    reference: np.ndarray, recent: np.ndarray, day: np.ndarray, *, days: int, length: int
) -> tuple[np.ndarray, np.ndarray]:
    """(psi, ks) of each recent window, float64 [days - length + 1]; `day` [N] is the place of each row of `recent`."""
    reference_in_order = np.sort(reference)
    at = reference_in_order[np.ceil(np.arange(1, LEVELS + 1) / LEVELS * len(reference_in_order)).astype(int) - 1]
    # just below a value as well: the distribution functions jump where many rows are equal
    edges = np.unique(np.concatenate([at, np.nextafter(at, at.dtype.type(-np.inf))]))
    expected = np.searchsorted(reference_in_order, edges, side="right") / len(reference_in_order)

    cells = len(edges) + 1  # a row is in the cell of the first edge that it does not exceed
    cell_numbers = day * cells + np.searchsorted(edges, recent)
    counts = _windowed(np.bincount(cell_numbers, minlength=days * cells).reshape(days, cells), length)
    observed_shares = (counts.cumsum(axis=1) / counts.sum(axis=1, keepdims=True))[:, :-1]

    deciles = np.unique(np.searchsorted(edges, at[LEVELS // BINS - 1 : -1 : LEVELS // BINS]))
    return _psi(expected[deciles], observed_shares[:, deciles]), np.abs(observed_shares - expected).max(axis=1)


def _windowed(counts: np.ndarray, length: int) -> np.ndarray:
    """Sums over `length` neighbours along the first axis, of which there are `length` - 1 fewer."""
    total = np.cumsum(counts, axis=0)
    total[length:] -= total[:-length].copy()
    return total[length - 1 :]


def _psi(expected: np.ndarray, observed_shares: np.ndarray) -> np.ndarray:
    """Indices of the distribution functions at the ends of all bins but the last, [B] and [D, B]."""
    shares = [np.diff(ends, prepend=0.0, append=1.0).clip(FLOOR) for ends in (expected, observed_shares)]
    return ((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum(axis=-1)
