"""Earnings announcements, seen from prices alone: past days of a joint burst of volume and range, replayed.

A company reports four times a year, on nearly the same days. There is no free source of announcement dates as they
were known at the time, so past days are found by the bursts of volume and range that announcements cause.
"""

import numpy as np
import polars as pl

from stock_assets.features.formulas import Feature
from stock_assets.frames import KEYS

#: Calendar days from an announcement to the next ones of the same company: one, two, three quarters, a year, two years.
LAGS = (91, 182, 273, 364, 728)
#: Calendar days after the session in which an announcement is looked for: the default horizon of a label.
AHEAD = (1, 10)
#: The burst that counts: this large, and the largest of so many bars before and after.
LARGE = 1.2
ALONE_WITHIN = 20
#: The bars after must lie within so many days: fewer than the nearest replay is ahead, so that a burst is never used
#: before it is known to be the largest.
CONFIRMED_WITHIN = 80

#: The columns of `event_columns`, in order.
FEATURES: dict[str, Feature] = {
    f"event_{lag}": Feature(
        f"Largest burst (features.events) {lag} days before one of the next {AHEAD[1]} days; 0 if none",
        0.0,
        6.0,
        pl.col(f"event_{lag}"),
        "session",
    )
    for lag in LAGS
}


def burst_sizes(rows: pl.DataFrame) -> pl.DataFrame:
    """`rows` (history, bar, volume_ratio, vol_total_1, suspect) with burst, before the median of the session is taken
    off.

    burst = clip(z, -1, 3) + ½ clip(2 vol_total_1 - its median over 66 bars, -2, 6); z is volume_ratio over its standard
    deviation of 60 bars.
    """
    ratio = pl.col("volume_ratio")
    z = (ratio / ratio.rolling_std(60, min_samples=20).over("history").clip(lower_bound=0.1)).clip(-1.0, 3.0)
    total = 2 * pl.col("vol_total_1")
    # only a history's first bar has none: a median over a column without a null takes a quarter of the time
    median = pl.when(pl.col("bar") > 66).then(total.fill_null(0.0).rolling_median(66).over("history"))
    excess = (total - median).clip(-2.0, 6.0)
    return rows.with_columns((z + 0.5 * excess).alias("burst"))


def usual_bursts(sizes: pl.DataFrame) -> pl.DataFrame:
    """session, usual: the median of each session's `burst_sizes`."""
    return sizes.group_by("session").agg(usual=pl.col("burst").median())


def bursts(sizes: pl.DataFrame, usual: pl.DataFrame | None = None) -> pl.DataFrame:
    """ticker, session, burst of the days that stand out, of `burst_sizes` with ticker and session.

    A burst counts minus the median of its session: that of all tickers, in `usual` where `sizes` are not of them all.
    """
    size = 2 * ALONE_WITHIN + 1
    after = pl.col("session").shift(-ALONE_WITHIN).over("history") - pl.col("session")
    if usual is None:
        sizes = sizes.with_columns(usual=pl.col("burst").median().over("session"))
    else:
        sizes = sizes.join(usual, on="session", how="left", maintain_order="left")
    return (
        sizes.with_columns((pl.col("burst") - pl.col("usual")).alias("burst"))
        .with_columns(
            pl.col("burst").rolling_max(size, center=True, min_samples=ALONE_WITHIN + 1).over("history").alias("peak"),
            (after <= pl.duration(days=CONFIRMED_WITHIN)).fill_null(False).alias("confirmed"),
        )
        .filter("confirmed", pl.col("burst") > LARGE, pl.col("burst") == pl.col("peak"), pl.col("suspect").is_null())
        .select(*KEYS, "burst")
    )


def event_columns(rows: pl.DataFrame, events: pl.DataFrame) -> list[pl.Series]:
    """The columns of FEATURES, one value (f64) per row (ticker, session) of `rows`, from the `events` of `bursts`."""
    tickers = pl.concat([rows["ticker"], events["ticker"]]).unique().sort()
    day, column = rows["session"].to_physical().to_numpy(), tickers.search_sorted(rows["ticker"]).to_numpy()
    if not len(day):
        return [pl.Series(name, [], dtype=pl.Float64) for name in FEATURES]
    low, high = AHEAD
    oldest, newest = int(day.min()) - max(LAGS) + low, int(day.max()) - min(LAGS) + high
    events_in_range = events.filter(pl.col("session").to_physical().is_between(oldest, newest))
    calendar = np.zeros((newest - oldest + 1, len(tickers)))
    calendar[
        events_in_range["session"].to_physical().to_numpy() - oldest,
        tickers.search_sorted(events_in_range["ticker"]).to_numpy(),
    ] = events_in_range["burst"].to_numpy()
    largest = calendar.copy()  # that of a day and the high - low after it
    for step in range(1, high - low + 1):
        np.maximum(largest[:-step], calendar[step:], out=largest[:-step])
    return [pl.Series(f"event_{lag}", largest[day - lag + low - oldest, column]) for lag in LAGS]
