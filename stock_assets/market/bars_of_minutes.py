"""From klines and minutes to the bars of an interval: which bar a row belongs to, and the bars that rows make."""

from datetime import datetime, timedelta

import polars as pl

from stock_assets.errors import SourceError
from stock_assets.market.bar_tables import SOURCE_BAR_SCHEMA
from stock_assets.market.calendar import TradingCalendar
from stock_assets.market.intervals import Interval, stretches
from stock_assets.tables import UTC_TIME

FIGURES = ("open", "high", "low", "close", "volume")

#: A vendor's rows: `at` is the moment at which a row begins, as the exchanges state it.
KLINES = pl.Schema({"ticker": pl.String, "at": UTC_TIME, **dict.fromkeys(FIGURES, pl.Float64)})


def in_bars(rows: pl.DataFrame, calendar: TradingCalendar, interval: Interval) -> pl.DataFrame:
    """Those of `rows` (with `at`, UTC) that begin within a session and not in its rest at noon, with session, bar_begin
    and bar_end (UTC) of the bar that they begin in, and `stops`, when trading stops after it.

    Bars are counted from the opening and from the end of the rest; the last one before trading stops ends there.
    """
    day = timedelta(days=1)
    sessions = () if rows.is_empty() else calendar.between(rows["at"].min().date() - day, rows["at"].max().date() + day)  # pyright: ignore
    hours = pl.DataFrame(
        [(session, *stretch) for session in sessions for stretch in stretches(calendar, session)],
        {"session": pl.Date, "starts": UTC_TIME, "stops": UTC_TIME},
        orient="row",
    )
    length = interval.length
    place = (pl.col("at") - pl.col("starts")).dt.total_microseconds() // (length // timedelta(microseconds=1))
    begin = pl.col("starts") + place * length
    return (
        rows.with_row_index("row")
        .sort("at")
        .join_asof(hours.sort("starts"), left_on="at", right_on="starts", strategy="backward")
        .filter(pl.col("at") < pl.col("stops"))
        .with_columns(bar_begin=begin, bar_end=pl.min_horizontal(begin + length, "stops"))
        .sort("row")
        .drop("row", "starts")
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
    require_whole(rows, calendar, interval, source=source)
    # `through` counts for the bar as the exchange has it, which may reach beyond the close
    whole = rows.filter(pl.col("at") + interval.length <= through, ~pl.all_horizontal(pl.col(FIGURES[:4]).is_null()))
    newest = whole.unique(["ticker", "bar_end"], keep="last", maintain_order=True)
    return traded(newest).pipe(as_source_bars, source)


def require_whole(rows: pl.DataFrame, calendar: TradingCalendar, interval: Interval, *, source: str) -> None:
    """Raises SourceError where one of `rows` (of `in_bars`) begins within a bar: the sessions do not fit them."""
    astray = rows.filter(pl.col("at") != pl.col("bar_begin"))
    if astray.height:
        row = astray.row(0, named=True)
        raise SourceError(
            f"{source}, ticker {row['ticker']}: found a bar of {interval.text} that begins at {row['at']:%H:%M:%S} UTC "
            f"of {row['at']:%Y-%m-%d}, expected one at {row['bar_begin']:%H:%M:%S}, as the sessions of {calendar.name} "
            "have them; expected hours of sessions (STOCK_ASSETS_SESSION_HOURS) or an interval that fit the bars"
        )


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
