"""The 25 classic indicators of the reference study, on total-return prices.

They are computed on the index p = cumulative product of (1 + total return), then brought to the price basis
of their own day (value * close / p), so that no later split or dividend ever changes a row. RSI and MACD are
the study's own: exponential means of span k instead of Wilder's smoothing, no seeding with a simple mean.
"""

from collections.abc import Iterable
from datetime import date

import polars as pl

from stock_assets.features.lookback import by_session, histories, refuse

#: A history's first row: its 51st bar, the first with a 50-bar momentum.
FIRST_BAR = 51

#: Where gains and losses together average less than this part of the price, the quote is frozen. Without the
#: limit RSI would be the ratio of two remnants of moves long ago, and depend on how far back history reaches.
FROZEN = 1e-9

_MEANS, _STDS, _BANDS, _SPANS = (5, 10, 25, 50), (10, 25, 50), (25, 50), (5, 10, 25, 50)
_MACDS = ((5, 10), (5, 25), (5, 50), (10, 25), (10, 50), (25, 50))

#: What each column is, in order; prices in the currency of the listing, at the price basis of the day.
DESCRIPTIONS: dict[str, str] = (
    {f"ma_{k}": f"Mean of the last {k} closes (price)" for k in _MEANS}
    | {f"std_{k}": f"Sample standard deviation (ddof 1) of the last {k} closes (price)" for k in _STDS}
    | {f"bb_upper_{k}": f"Upper Bollinger band: ma_{k} + 2 std_{k} (price)" for k in _BANDS}
    | {f"bb_lower_{k}": f"Lower Bollinger band: ma_{k} - 2 std_{k} (price)" for k in _BANDS}
    | {
        f"rsi_{k}": f"Relative strength 0 to 100: 100 up / (up + down), exponential means of span {k} "
        "of gains and losses; 50 where the quote is frozen"
        for k in _SPANS
    }
    | {f"macd_{a}_{b}": f"Exponential mean of span {a} minus that of span {b} (price)" for a, b in _MACDS}
    | {f"momentum_{k}": f"Close minus the close {k} bars ago (price)" for k in _MEANS}
)

#: The 25 names, in the order of the table.
INDICATORS: tuple[str, ...] = tuple(DESCRIPTIONS)


def indicators(bars: pl.DataFrame, first: date | None = None, sessions: Iterable[date] | None = None) -> pl.DataFrame:
    """The indicators of every session from `first` on, using that session's close and earlier bars only.

    `bars` are rows of `daily_bars` with LOOKBACK_SESSIONS sessions up to `first` (or all there are), in any
    order; `sessions` as in `histories`.

    Returns ticker, session and the 25 INDICATORS (f64, all finite), sorted by session and ticker; rows only
    from the 51st bar of a history that is long enough (see `lookback`). Prices are in the currency of the
    listing, on the price basis of their session.

    Raises BadBarsError for bars without keys, closes or returns that make sense.
    """
    to_price = pl.col("close") / pl.col("p")
    columns = [name if name.startswith("rsi") else pl.col(name) * to_price for name in INDICATORS]
    return by_session(
        histories(bars, ["close"], sessions),
        with_indicators,
        ["ticker", "session", *columns],
        FIRST_BAR,
        first,
    )


def with_indicators(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows of `histories` with `close`, plus the index `p` and the 25, in units of p.

    Windows reach over the first bars of a history, so a row means something from FIRST_BAR on only.
    """
    usable = pl.col("close").is_finite() & (pl.col("close") > 0)
    refuse(rows, usable.not_().fill_null(True), "close", "a positive price")
    p = pl.col("p")
    rows = rows.with_columns((1 + pl.col("total_return").fill_null(0.0)).cum_prod().over("history").alias("p"))
    change = p.diff().over("history").fill_null(0.0)
    rows = rows.with_columns(change.clip(lower_bound=0.0).alias("gain"), (-change).clip(lower_bound=0.0).alias("loss"))
    rows = rows.with_columns(
        *(p.rolling_mean(k).over("history").alias(f"ma_{k}") for k in _MEANS),
        *(p.rolling_std(k, ddof=1).over("history").alias(f"std_{k}") for k in _STDS),
        *(pl.col("gain").ewm_mean(span=k, adjust=True).over("history").alias(f"up_{k}") for k in _SPANS),
        *(pl.col("loss").ewm_mean(span=k, adjust=True).over("history").alias(f"down_{k}") for k in _SPANS),
        *(p.ewm_mean(span=k, adjust=False).over("history").alias(f"ewm_{k}") for k in _SPANS),
        *((p - p.shift(k).over("history")).alias(f"momentum_{k}") for k in _MEANS),
    )
    return rows.with_columns(
        *((pl.col(f"ma_{k}") + 2 * pl.col(f"std_{k}")).alias(f"bb_upper_{k}") for k in _BANDS),
        *((pl.col(f"ma_{k}") - 2 * pl.col(f"std_{k}")).alias(f"bb_lower_{k}") for k in _BANDS),
        *(_rsi(k).alias(f"rsi_{k}") for k in _SPANS),
        *((pl.col(f"ewm_{a}") - pl.col(f"ewm_{b}")).alias(f"macd_{a}_{b}") for a, b in _MACDS),
    )


def _rsi(span: int) -> pl.Expr:
    up, moves = pl.col(f"up_{span}"), pl.col(f"up_{span}") + pl.col(f"down_{span}")
    return pl.when(moves > FROZEN * pl.col("p")).then(100 * up / moves).otherwise(50.0)
