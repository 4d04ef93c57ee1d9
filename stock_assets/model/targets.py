"""What the model `rnn` learns to forecast: readings of the horizon's volatility, and a direction.

The readings follow range-based volatility (Garman & Klass 1980, Parkinson 1980).
"""

import numpy as np
import polars as pl

from stock_assets.frames import KEYS, beside_tickers, by_tickers, in_order

#: Three readings of the volatility of the horizon, in logs.
VOLATILITIES = ("log_total", "log_close", "log_range")
TARGETS = (*VOLATILITIES, "direction")
#: Daily total volatility (log) and daily log return: what the targets are made from, both among the features.
DAILY_VOLATILITY, DAILY_RETURN = "vol_total_1", "log_return_1"
#: What the name of either begins with in a frame that holds it for the targets alone: its inputs lack the column, or
#: hold it changed. No model reads it.
OUTCOME = "outcome_"
#: Rows that are computed at once: each takes a hundred bytes or more of each of a dozen columns on the way.
_ROWS = 250_000


def volatility_targets(features: pl.DataFrame, labels: pl.DataFrame, horizon: int) -> pl.DataFrame:
    """ticker, session and TARGETS (f64) of the labels whose horizon is complete among the feature rows.

    With v and r the daily total variance and log return of the `horizon` rows after the session:
    - log_total: ½ ln(mean v + 1e-5), log_close: ½ ln(mean r² + 1e-5);
    - log_range: ln(highest - lowest cumulative sum of r, 0 among them, + 0.002), the range of the closes;
    - direction: forward_return_1 as a normal score, Φ⁻¹((rank - ½) / count) among the session's labels.
    """
    rank = (pl.col("forward_return_1").rank() - 0.5) / pl.len()
    labelled_rows = labels.select(*KEYS, "horizon_end", "forward_return_1")
    # part by part, so that of all rows together only what remains is in memory
    complete = pl.concat(
        _volatility_ahead(rows, horizon)
        .join(those, on=KEYS)
        .filter(pl.col("end") == pl.col("horizon_end"))
        .select(*KEYS, *VOLATILITIES, "forward_return_1")
        for rows, those in beside_tickers(in_order(_daily(features)), labelled_rows, _ROWS)
    )
    return (
        complete.with_columns(rank.over("session").map_batches(_normal_score, pl.Float64).alias("direction"))
        .select(*KEYS, *TARGETS)
        .sort(KEYS)
    )


def volatility_ahead(rows: pl.DataFrame, horizon: int) -> pl.DataFrame:
    """ticker, session, VOLATILITIES (f64) of the ticker's next `horizon` rows, and `end`, the session of the last one.

    `rows` are feature rows sorted by ticker and session, and so is the result. Null where fewer rows follow.
    """
    return pl.concat(_volatility_ahead(part, horizon) for part in by_tickers(_daily(rows), _ROWS))


def daily_returns(rows: pl.DataFrame, at: np.ndarray) -> np.ndarray:
    """float64, of the shape of `at`: log returns of the feature `rows` in these places, as the targets are made of."""
    return _daily(rows)[DAILY_RETURN].gather(at.ravel()).cast(pl.Float64).to_numpy().reshape(at.shape)


def _daily(rows: pl.DataFrame) -> pl.DataFrame:
    """The keys and what the targets are made from: a window over tickers copies every column that its frame has."""
    return rows.select(
        *KEYS,
        *(
            pl.col(f"{OUTCOME}{name}" if f"{OUTCOME}{name}" in rows.columns else name).alias(name)
            for name in (DAILY_VOLATILITY, DAILY_RETURN)
        ),
    )


def _volatility_ahead(rows: pl.DataFrame, horizon: int) -> pl.DataFrame:
    """`volatility_ahead` of `_daily` rows."""
    variance = (2 * pl.col(DAILY_VOLATILITY)).exp() - 1e-5
    steps = range(1, horizon + 1)

    def ahead(column: pl.Expr) -> list[pl.Expr]:
        return [column.shift(-step).over("ticker") for step in steps]

    returns = ahead(pl.col(DAILY_RETURN))
    paths = [pl.sum_horizontal(returns[:step]) for step in steps]
    return rows.select(
        *KEYS,
        (0.5 * (pl.mean_horizontal(ahead(variance)) + 1e-5).log()).alias("log_total"),
        (0.5 * (pl.mean_horizontal([r**2 for r in returns]) + 1e-5).log()).alias("log_close"),
        (pl.max_horizontal(*paths, 0.0) - pl.min_horizontal(*paths, 0.0) + 0.002).log().alias("log_range"),
        pl.col("session").shift(-horizon).over("ticker").alias("end"),
    )


def _normal_score(share: pl.Series) -> pl.Series:
    from scipy.special import ndtri

    return pl.Series(ndtri(share.to_numpy()))
