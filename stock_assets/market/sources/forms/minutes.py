"""Files of bars of minutes, made into bars of sessions."""

import polars as pl

from stock_assets.errors import SourceError
from stock_assets.market.calendar import TradingCalendar
from stock_assets.market.resample import session_bars
from stock_assets.tables import UTC_TIME


def of_sessions(table: pl.DataFrame, calendar: TradingCalendar, place: str) -> pl.DataFrame:
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
