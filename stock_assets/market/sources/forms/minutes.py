"""Files of bars of minutes, made into bars of sessions."""

from typing import NamedTuple

import polars as pl

from stock_assets.errors import SourceError
from stock_assets.market.calendar import TradingCalendar
from stock_assets.market.resample import session_bars
from stock_assets.tables import UTC_TIME


class ByDay(NamedTuple):
    """A file of which every row belongs to a day."""

    table: pl.DataFrame
    """the file's columns under our names with `session`, without `at` and `clock`"""
    held_out: pl.DataFrame | None
    """of a file of bars of minutes; null where the rows are the file's own daily bars"""


def by_day(table: pl.DataFrame, calendar: TradingCalendar, place: str, *, date_format: str | None = None) -> ByDay:
    """`table` as it is where its rows are daily bars, else the bars of sessions that its bars of minutes make."""
    del date_format
    if "at" in table.columns:
        return ByDay(_of_sessions(table, calendar, place), pl.DataFrame())
    return ByDay(table.drop("clock", strict=False), None)


def _of_sessions(table: pl.DataFrame, calendar: TradingCalendar, place: str) -> pl.DataFrame:
    """The bars of minutes in `table` as bars of sessions, with the sector, if it has one.

    `table` has ticker, at (Datetime or text), open, high, low, close, volume (numbers or text).
    """
    if actions := sorted({"adj_close", "dividend", "split_ratio"} & {*table.columns}):
        raise SourceError(f"{place} has a timestamp and {', '.join(actions)}; expected bars of minutes as traded")
    at = pl.col("at") if isinstance(table.schema["at"], pl.Datetime) else pl.col("at").str.to_datetime(strict=False)
    zone = getattr(table.schema["at"], "time_zone", None)
    at = (at.dt.replace_time_zone("UTC") if zone is None else at.dt.convert_time_zone("UTC")).cast(UTC_TIME)
    numbers = pl.col("open", "high", "low", "close", "volume").cast(pl.Float64, strict=False)
    try:
        minutes = table.select("ticker", at.alias("at"), numbers)
    except pl.exceptions.PolarsError as error:
        raise SourceError(f"{place} has times that cannot be read: {str(error).splitlines()[0]}") from error
    bars = session_bars(minutes, calendar, place)
    if "sector" in table.columns:
        bars = bars.join(table.group_by("ticker").agg(pl.col("sector").drop_nulls().last()), on="ticker")
    return bars
