"""From the bars of minutes to the bars of sessions."""

from datetime import timedelta

import polars as pl

from stock_assets.errors import EmptySourceError, SourceError
from stock_assets.market.calendar import TradingCalendar
from stock_assets.tables import UTC_TIME


def session_bars(minutes: pl.DataFrame, calendar: TradingCalendar, place: str) -> pl.DataFrame:
    """ticker, session, open (the first), high, low, close (the last), volume (the sum) of the `minutes` of a session.

    `minutes` has ticker, at (when the bar begins, UTC), open, high, low, close, volume, in any order. A session's are
    those from its opening on and before its close; all others are left out, and so is a session that the rows do not
    span from end to end: half a day is no bar. Sorted by ticker and session.

    Raises SourceError, which names `place`, for a bar without a ticker, a time or a price above 0 and for a time that
    comes twice, EmptySourceError where no session is whole.
    """
    prices = pl.col("open", "high", "low", "close")
    wrong = minutes.filter(
        pl.any_horizontal(pl.col("ticker", "at").is_null())
        | ~pl.all_horizontal(prices.is_finite() & (prices > 0)).fill_null(value=False)
        | ~(pl.col("volume").is_finite() & (pl.col("volume") >= 0)).fill_null(value=False)
    )
    if wrong.height:
        row = wrong.row(0, named=True)
        raise SourceError(
            f"{place}, ticker {row['ticker']}, time {row['at']}: found {row}, expected prices above 0 and a volume "
            f"({wrong.height} such row(s))"
        )
    rows = minutes.sort("ticker", "at")
    again = (pl.col("ticker") == pl.col("ticker").shift()) & (pl.col("at") == pl.col("at").shift())
    if (twice := rows.filter(again)).height:
        row = twice.row(0, named=True)
        raise SourceError(f"{place}, ticker {row['ticker']}, time {row['at']}: found a second row, expected one")
    hours = pl.DataFrame(
        {
            "session": calendar.sessions,
            "opens": [calendar.opens[day] for day in calendar.sessions],
            "closes": [calendar.closes[day] for day in calendar.sessions],
        },
        schema={"session": pl.Date, "opens": UTC_TIME, "closes": UTC_TIME},
    )
    times = rows["at"].unique().sort()
    length = times.diff().drop_nulls().min() if len(times) > 1 else timedelta(0)
    whole = hours.filter((pl.col("opens") >= times.min()) & (pl.col("closes") <= times.max() + length))  # pyright: ignore[reportOperatorIssue, reportOptionalOperand]
    bars = (
        rows.sort("at")
        .join_asof(whole.sort("opens"), left_on="at", right_on="opens", strategy="backward")
        .filter(pl.col("at") < pl.col("closes"))
        .group_by("ticker", "session")
        .agg(
            pl.col("open").first(),
            pl.col("high").max(),
            pl.col("low").min(),
            pl.col("close").last(),
            pl.col("volume").sum(),
        )
    )
    if bars.is_empty():
        raise EmptySourceError(
            f"{place} has bars from {times.min()} to {times.max()}, which hold no whole session of {calendar.name}, "
            f"{calendar.sessions[0]} to {calendar.sessions[-1]}"
        )
    return bars.sort("ticker", "session")
