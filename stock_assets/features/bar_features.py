"""Features of bars within the session: closes and their moving means, volatility, range, volume and the time of day.

**What a row looks at.** The bar itself and the LOOKBACK_BARS bars before it that were expected of its ticker, and
nothing later. A window counts expected bars (`bar_grid`): where more than MAX_MISSING of them are missing the column is
null, and a suspect bar counts as missing. A look-back crosses sessions; on an exchange that closes, its means and
`return_…` then hold the move of the closed hours, while `vol_…` and `range_…` never do: a return counts among them only
where its two bars adjoin.

The moving means and their differences are those of the system for minute bars that this platform follows; for models
they are fractions of the close, so that no input grows with the price.
"""

from collections.abc import Iterator
from datetime import date
from itertools import pairwise

import numpy as np
import polars as pl

from stock_assets.features.bar_grid import BarGrid, shifted, window_mean
from stock_assets.frames import BAR_KEYS
from stock_assets.tables import Column

#: Expected bars before its own that a row may look at.
LOOKBACK_BARS = 240
#: Lengths of the windows, in bars.
MEANS, RETURNS, VOLATILITIES, RANGES = (5, 10, 20, 60), (1, 5, 20, 60), (5, 20, 60, 240), (1, 5, 20, 60, 240)
#: Bars whose volatility scales the barriers of a label.
TRAILING = 60
#: Added to a bar's variance: a quote that does not move has 0.001 % a bar.
FLOOR = 1e-10
#: Share of the mean volume that is added to both sides of a ratio of volumes, so that a bar without trades has one.
_NO_TRADES = 0.01

_PRICE, _LOG = "listing currency", "log"
_TIME = "in the exchange's time zone"

#: The columns that models read, which do not grow with the price, by name.
_INPUTS: dict[str, Column] = {
    column.name: column
    for column in (
        *(
            Column(f"gap_{n}", pl.Float64(), f"close over the mean of the last {n} closes, less 1", "fraction")
            for n in MEANS
        ),
        *(
            Column(
                f"sma_diff_{a}_{b}",
                pl.Float64(),
                f"mean of the last {a} closes less that of the last {b}, over the close",
                "fraction",
            )
            for a, b in pairwise(MEANS)
        ),
        *(Column(f"return_{n}", pl.Float64(), f"log return over the last {n} bar(s)", _LOG) for n in RETURNS),
        *(
            Column(f"vol_{n}", pl.Float64(), f"½ ln(mean squared log return of the last {n} bars + 1e-10)", _LOG)
            for n in VOLATILITIES
        ),
        *(
            Column(
                f"range_{n}",
                pl.Float64(),
                f"½ ln(mean of ln(high / low)² / (4 ln 2) over the last {n} bar(s) + 1e-10), as Parkinson (1980)",
                _LOG,
            )
            for n in RANGES
        ),
        *(
            Column(
                f"volume_{n}",
                pl.Float64(),
                f"ln of the mean volume of the last {n} bar(s) over that of the last {LOOKBACK_BARS}",
                _LOG,
            )
            for n in (1, 5)
        ),
        Column("time_sin", pl.Float64(), f"sine of the time of day of bar_end, {_TIME}"),
        Column("time_cos", pl.Float64(), f"cosine of the time of day of bar_end, {_TIME}"),
        Column("week_sin", pl.Float64(), "sine of the session's day of the week"),
        Column("week_cos", pl.Float64(), "cosine of the session's day of the week"),
    )
}
#: Names of the columns that models read.
BAR_INPUTS = tuple(_INPUTS)

#: The columns beside BAR_KEYS.
BAR_FEATURES: tuple[Column, ...] = (
    Column("close", pl.Float64(), "the last price of the bar; null where it is suspect", _PRICE),
    *(Column(f"sma_{n}", pl.Float64(), f"mean of the last {n} closes", _PRICE) for n in MEANS),
    *_INPUTS.values(),
    Column("minute_of_day", pl.Int32(), f"minutes from midnight to bar_end, {_TIME}", "minutes"),
    Column("day_of_week", pl.Int8(), "day of the week of the session, 1 for Monday"),
)


def bar_features(
    bars: pl.DataFrame,
    first: date,
    *,
    interval_minutes: int,
    time_zone: str = "UTC",
    expected: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """BAR_KEYS and BAR_FEATURES of the bars of sessions from `first` on, sorted by BAR_KEYS.

    `bars` are rows of the table `bars`, in any order: those asked for and, of all tickers from one moment on, the
    LOOKBACK_BARS expected ones before. `expected` (session, bar_end) are the bars that the calendar expects, which may
    go on beyond the last bar; see `BarGrid.of` for what holds without. `time_zone` is the exchange's: on a market that
    closes, the same time after the opening has the same `time_sin` on both sides of daylight saving.

    Null where a look-back is short or has too many holes; every column but the time is null in a suspect bar.

    Raises BadBarsError as `BarGrid.of`.

    >>> from datetime import UTC, datetime
    >>> ends = [datetime(2025, 6, 7, 0, minute, tzinfo=UTC) for minute in range(1, 7)]
    >>> prices = dict.fromkeys(("open", "high", "low", "close"), [100.0, 100.0, 100.0, 100.0, 100.0, 106.0])
    >>> bars = pl.DataFrame(
    ...     {"ticker": "BTC", "session": date(2025, 6, 7), "bar_end": ends, **prices, "volume": 1.0, "suspect": None},
    ...     schema_overrides={"bar_end": pl.Datetime("us", "UTC"), "suspect": pl.String},
    ... )
    >>> bar_features(bars, date(2025, 6, 7), interval_minutes=1)["sma_5"].to_list()[-3:]
    [100.0, 100.0, 101.2]
    """
    grid = BarGrid.of(bars, interval_minutes, expected)
    in_range = (grid.rows["session"] >= first).to_numpy()
    columns = {name: grid.at_rows(values)[in_range] for name, values in _matrices(grid)}
    empty = np.isnan(columns["close"])
    for name, values in columns.items():
        columns[name] = np.where(empty, np.nan, values)
    rows = grid.rows.filter(pl.Series(in_range)).with_columns(
        **{name: pl.Series(values).fill_nan(None) for name, values in columns.items()}
    )
    local = pl.col("bar_end").dt.convert_time_zone(time_zone)
    rows = rows.with_columns(
        minute_of_day=local.dt.hour().cast(pl.Int32) * 60 + local.dt.minute(),
        day_of_week=pl.col("session").dt.weekday(),
    )
    day, week = pl.col("minute_of_day") * (2 * np.pi / 1440), pl.col("day_of_week") * (2 * np.pi / 7)
    rows = rows.with_columns(time_sin=day.sin(), time_cos=day.cos(), week_sin=week.sin(), week_cos=week.cos())
    return rows.select(*BAR_KEYS, *(pl.col(column.name).cast(column.dtype) for column in BAR_FEATURES))


def _matrices(grid: BarGrid) -> Iterator[tuple[str, np.ndarray]]:
    """(name, float64 [T, P]) of every column that is made of bars; NaN where it is unknown."""
    close = grid.matrix("close")
    yield "close", close
    means = {n: window_mean(close, n) for n in MEANS}
    for n, mean in means.items():
        yield f"sma_{n}", mean
        yield f"gap_{n}", close / mean - 1
    for a, b in pairwise(MEANS):
        yield f"sma_diff_{a}_{b}", (means[a] - means[b]) / close
    log = np.log(close)
    for n in RETURNS:
        yield f"return_{n}", log - shifted(log, n, np.nan)
    squares = grid.returns(close) ** 2
    for n in VOLATILITIES:
        yield f"vol_{n}", log_volatility(window_mean(squares, n))
    ranges = np.log(grid.matrix("high") / grid.matrix("low")) ** 2 / (4 * np.log(2))
    for n in RANGES:
        yield f"range_{n}", log_volatility(window_mean(ranges, n))
    volume = grid.matrix("volume")
    usual = window_mean(volume, LOOKBACK_BARS)
    with np.errstate(invalid="ignore", divide="ignore"):
        for n in (1, 5):
            ratio = np.log((window_mean(volume, n) + _NO_TRADES * usual) / ((1 + _NO_TRADES) * usual))
            yield f"volume_{n}", np.where(usual == 0, 0.0, ratio)


def log_volatility(variance: np.ndarray) -> np.ndarray:
    """½ ln(variance + FLOOR) of the variance of a bar."""
    return 0.5 * np.log(variance + FLOOR)


def trailing_volatility(grid: BarGrid, close: np.ndarray) -> np.ndarray:
    """float64 [T, P]: the volatility of a bar, of the last TRAILING returns of `close`; e to the power of the feature
    of that length."""
    return np.exp(log_volatility(window_mean(grid.returns(close) ** 2, TRAILING)))
