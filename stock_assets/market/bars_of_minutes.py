"""From klines and minutes to the bars of an interval: which bar a row belongs to, and the bars that rows make."""

from datetime import datetime, timedelta

import polars as pl

from stock_assets.errors import SourceError
from stock_assets.market.bar_tables import SOURCE_BAR_SCHEMA
from stock_assets.market.calendar import TradingCalendar
from stock_assets.market.intervals import Interval
from stock_assets.tables import UTC_TIME

FIGURES = ("open", "high", "low", "close", "volume")

#: A vendor's rows: `at` is the moment at which a row begins, as the exchanges state it.
KLINES = pl.Schema({"ticker": pl.String, "at": UTC_TIME, **dict.fromkeys(FIGURES, pl.Float64)})


def in_bars(rows: pl.DataFrame, calendar: TradingCalendar, interval: Interval) -> pl.DataFrame:
    """Those of `rows` (with `at`, UTC) that begin within a session, with session, bar_begin and bar_end (UTC) of the
    bar that they begin in. Bars are counted from the opening; the last one of a session ends with it, and one that
    lies in the rest at noon as a whole is none."""
    days = calendar.sessions
    hours = pl.DataFrame(
        {
            "session": days,
            "opens": [calendar.opens[day] for day in days],
            "closes": [calendar.closes[day] for day in days],
            "rest": [calendar.rests.get(day, (None, None))[0] for day in days],
            "rest_over": [calendar.rests.get(day, (None, None))[1] for day in days],
        },
        schema={"session": pl.Date} | dict.fromkeys(("opens", "closes", "rest", "rest_over"), UTC_TIME),
    )
    length = interval.length
    place = (pl.col("at") - pl.col("opens")).dt.total_microseconds() // (length // timedelta(microseconds=1))
    begin = pl.col("opens") + place * length
    return (
        rows.with_row_index("row")
        .sort("at")
        .join_asof(hours.sort("opens"), left_on="at", right_on="opens", strategy="backward")
        .filter(pl.col("at") < pl.col("closes"))
        .with_columns(bar_begin=begin, bar_end=pl.min_horizontal(begin + length, "closes"))
        .filter(
            ((pl.col("bar_begin") < pl.col("rest")) | (pl.col("bar_end") > pl.col("rest_over"))).fill_null(value=True)
        )
        .sort("row")
        .drop("row", "opens", "closes", "rest", "rest_over")
    )


def bars_of_klines(
    klines: pl.DataFrame, calendar: TradingCalendar, interval: Interval, *, source: str, through: datetime
) -> pl.DataFrame:
    """The finished bars of `klines` (`KLINES`, each of the length of `interval`), as `SOURCE_BAR_SCHEMA`, sorted.

    Order does not matter but for a kline that comes again with other figures: the one that comes last counts, since it
    was stated last. A bar that ends after `through` is unfinished and left out, as are bars outside of the sessions,
    klines without any price, and those in which nothing was traded (a volume of 0): exchanges fill quiet minutes and
    outages with them. A ticker that never has a volume keeps its bars.

    Raises SourceError for a kline that begins within a bar of the interval: the sessions do not fit the vendor's bars.
    """
    rows = in_bars(klines, calendar, interval)
    astray = rows.filter(pl.col("at") != pl.col("bar_begin"))
    if astray.height:
        row = astray.row(0, named=True)
        raise SourceError(
            f"{source}, ticker {row['ticker']}: found a bar of {interval.text} that begins at {row['at']:%H:%M:%S} UTC "
            f"of {row['at']:%Y-%m-%d}, expected one at {row['bar_begin']:%H:%M:%S}, as the sessions of {calendar.name} "
            "have them; expected hours of sessions (STOCK_ASSETS_SESSION_HOURS) or an interval that fit the bars"
        )
    # `through` counts for the bar as the exchange has it, which may reach beyond the close
    whole = rows.filter(pl.col("at") + interval.length <= through, ~pl.all_horizontal(pl.col(FIGURES[:4]).is_null()))
    newest = whole.unique(["ticker", "bar_end"], keep="last", maintain_order=True)
    return traded(newest).pipe(as_source_bars, source)


def traded(rows: pl.DataFrame) -> pl.DataFrame:
    """`rows` without those in which nothing was traded; a ticker that never has a volume keeps all."""
    volume = pl.col("volume").fill_nan(None).fill_null(0.0)
    return rows.filter((volume != 0) | (volume == 0).all().over("ticker"))


def as_source_bars(rows: pl.DataFrame, source: str) -> pl.DataFrame:
    """`rows` with ticker, session, bar_end and figures as `SOURCE_BAR_SCHEMA`, sorted."""
    return (
        rows.with_columns(source=pl.lit(source))
        .select(SOURCE_BAR_SCHEMA.names())
        .match_to_schema(SOURCE_BAR_SCHEMA)
        .sort("ticker", "bar_end")
    )
