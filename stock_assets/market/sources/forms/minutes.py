"""Whether a file holds daily bars or bars of minutes, and these made into bars of sessions.

What the cells say decides, never the name of their column.
"""

from typing import NamedTuple

import polars as pl

from stock_assets.errors import SourceError
from stock_assets.market.calendar import TradingCalendar, local_hours
from stock_assets.market.resample import session_bars
from stock_assets.market.times import Moments, parse_moments

#: A time of the day after a date: what makes a cell more than a date.
_MOMENT = r"\d[T\s,]+\d{1,2}(?::\d\d|-[AP]M)|^\s*\d{8}[T\s]\s*\d{4,6}\b"
#: A number that is a date, such as 20180102, lies between these.
_DAYS = (18_000_101, 21_001_231)
#: 09:30, 093000, 930, and the 0 of a midnight that was a number.
_MIDNIGHT = r"^\s*(?:0{1,6}|0?0:00(?::00(?:\.0+)?)?)?\s*$"


class ByDay(NamedTuple):
    """A file of which every row belongs to a day."""

    table: pl.DataFrame
    """the file's columns under our names with `session`, without `at` and `clock`"""
    held_out: pl.DataFrame | None
    """`SessionBars.held_out` of a file of bars of minutes; null where the rows are the file's own daily bars"""


def by_day(
    table: pl.DataFrame,
    calendar: TradingCalendar,
    place: str,
    *,
    date_format: str | None = None,
    time_zone: str | None = None,
) -> ByDay:
    """`table` as it is where its rows are daily bars, else the bars of sessions that its bars of minutes make.

    `table` has ticker, open, high, low, close, volume, and of session (a date), at (a moment) and clock (the time of
    the day) what the file has, each as the file has it. Rows are daily where they have no time of the day, where all
    are at midnight, or where each ticker has one a day, at the opening, the close or the exchange's own midnight.

    Raises SourceError, which names `place`, for times that cannot be read, and as `session_bars` does.
    """
    column = _moments_of(table)
    if column is None:
        return ByDay(_as_days(table), None)
    moments = parse_moments(column, date_format, zone=time_zone, place=place)
    rest = table.drop("at", "clock", "session", strict=False)
    days = _days(moments, table["ticker"], calendar)
    if days is not None:
        return ByDay(rest.with_columns(session=days), None)
    certain = moments.zoned or time_zone is not None
    return _of_sessions(rest.with_columns(at=moments.at), calendar, place, zone_is_certain=certain)


def _moments_of(table: pl.DataFrame) -> pl.Series | None:
    """What the file has of moments, as one column; None where no cell says more than a date."""
    for name in ("at", "session"):
        if name in table.columns and _has_moments(table[name]):
            return table[name]
    day = next((name for name in ("session", "at") if name in table.columns), None)
    if "clock" not in table.columns:
        return None
    clock = table["clock"].cast(pl.String).str.strip_chars()
    if day is None:
        return table["clock"]
    if bool(clock.str.contains(_MIDNIGHT).fill_null(value=True).all()):
        return None
    digits = clock.str.contains(r"^\d{1,6}$").fill_null(value=False)
    width = 6 if (clock.filter(digits).str.len_chars().max() or 0) > 4 else 4  # pyright: ignore[reportOperatorIssue]
    clock = clock.zip_with(~digits, clock.str.zfill(width))
    text = table[day].cast(pl.String).str.strip_chars()
    return pl.select(pl.concat_str(text, pl.lit(" "), clock.fill_null(""))).to_series().str.strip_chars()


def _has_moments(column: pl.Series) -> bool:
    """Whether a cell says more than a date."""
    if isinstance(column.dtype, pl.Datetime):
        return True
    numbers = column.cast(pl.Float64, strict=False)
    if bool((~numbers.is_between(*_DAYS)).any()):
        return True
    return column.dtype == pl.String and bool(column.str.contains(_MOMENT).any())


def _as_days(table: pl.DataFrame) -> pl.DataFrame:
    """A moment that is a date alone is the session."""
    if "session" not in table.columns and "at" in table.columns:
        table = table.rename({"at": "session"})
    return table.drop("at", "clock", strict=False)


def _days(moments: Moments, tickers: pl.Series, calendar: TradingCalendar) -> pl.Series | None:
    """The day of each row where the rows are daily bars, None where they are bars of minutes."""
    for clock in (moments.wall, moments.at):
        if _at_midnight(clock):
            return clock.dt.date().alias("session")
    rows = pl.DataFrame([tickers.alias("ticker"), moments.at.alias("at")])
    if not bool(rows.select(pl.struct("ticker", pl.col("at").dt.date()).is_unique().all()).item()):
        return None
    zone, _ = local_hours(calendar.name, calendar.sessions[0], calendar.sessions[-1])
    local = moments.at.dt.convert_time_zone(zone).dt.replace_time_zone(None)
    if _at_midnight(local):
        return local.dt.date().alias("session")
    known = moments.at.is_between(calendar.opens[calendar.sessions[0]], calendar.closes[calendar.sessions[-1]])
    for edges in (calendar.opens, calendar.closes):
        sessions = dict(zip(edges.values(), edges.keys(), strict=True))
        at_edge = [sessions.get(moment) for moment in moments.at]
        days = pl.Series("session", at_edge, pl.Date)
        if bool(known.any()) and days.filter(known.fill_null(value=False)).null_count() == 0:
            return days.zip_with(days.is_not_null(), local.dt.date()).alias("session")
    return None


def _at_midnight(clock: pl.Series) -> bool:
    return bool((clock.dt.truncate("1d") == clock).all())


def _of_sessions(table: pl.DataFrame, calendar: TradingCalendar, place: str, *, zone_is_certain: bool) -> ByDay:
    """The bars of minutes in `table` (at in UTC) as bars of sessions, with the sector, if it has one."""
    if actions := sorted({"adj_close", "dividend", "split_ratio"} & {*table.columns}):
        raise SourceError(f"{place} has a timestamp and {', '.join(actions)}; expected bars of minutes as traded")
    numbers = pl.col("open", "high", "low", "close", "volume").cast(pl.Float64, strict=False)
    minutes = table.select("ticker", "at", numbers)
    bars, held_out = session_bars(minutes, calendar, place, zone_is_certain=zone_is_certain)
    if "sector" in table.columns:
        bars = bars.join(table.group_by("ticker").agg(pl.col("sector").drop_nulls().last()), on="ticker")
    return ByDay(bars, held_out)
