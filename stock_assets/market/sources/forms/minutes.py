"""Whether a file holds daily bars or bars of minutes, and these made into bars of sessions.

What the cells say decides, never the name of their column.
"""

from collections.abc import Mapping
from datetime import date, datetime
from typing import NamedTuple

import polars as pl

from stock_assets.errors import SourceError
from stock_assets.market.bar_resample import IntervalBars, interval_bars
from stock_assets.market.calendar import TradingCalendar
from stock_assets.market.intervals import Interval
from stock_assets.market.resample import SessionBars, session_bars
from stock_assets.market.times import Moments, parse_moments
from stock_assets.tables import UTC_TIME

#: A time of the day after a date: what makes a cell more than a date.
_MOMENT = r"\d[T\s,]+\d{1,2}(?::\d\d|-[AP]M)|^\s*\d{8}[T\s]\s*\d{4,6}\b"
#: A number that is a date, such as 20180102, lies between these.
_DAYS = (18_000_101, 21_001_231)
#: From 1980 to 2100; and which share of them has to be sessions.
_SPREADSHEET, MOSTLY = (29_221, 73_051), 0.9
_EPOCH = datetime(1899, 12, 30)
#: 09:30, 093000, 930, and the 0 of a midnight that was a number.
_MIDNIGHT = r"^\s*(?:0{1,6}|0?0:00(?::00(?:\.0+)?)?)?\s*$"


class ByDay(NamedTuple):
    """A file of which every row belongs to a day."""

    table: pl.DataFrame
    """the file's columns under our names with `session`, without `at` and `clock`"""
    sessions: SessionBars | None
    """what bars of minutes made; None where the rows are the file's own daily bars"""


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
    table = _without_stamp(table)
    moments = _read_moments(table, calendar, place, date_format=date_format, time_zone=time_zone)
    if moments is None:
        return ByDay(_as_days(table), None)
    figures = table.drop("at", "clock", "session", strict=False)
    certain = moments.zoned or time_zone is not None
    days = _days(moments, table["ticker"], calendar, zone_is_certain=certain)
    if days is not None:
        return ByDay(figures.with_columns(session=days), None)
    return _of_sessions(figures.with_columns(at=moments.at), calendar, place, zone_is_certain=certain)


def by_bar(
    table: pl.DataFrame,
    calendar: TradingCalendar,
    interval: Interval,
    *,
    place: str,
    date_format: str | None = None,
    time_zone: str | None = None,
) -> IntervalBars:
    """The bars of `interval` that the finer or equal bars of `table` make; `table` is as that of `by_day`.

    Raises SourceError, which names `place`, for times that cannot be read, for daily bars, and as `interval_bars` does.
    """
    table = _without_stamp(table)
    moments = _read_moments(table, calendar, place, date_format=date_format, time_zone=time_zone)
    certain = time_zone is not None or (moments is not None and moments.zoned)
    if moments is None or _days(moments, table["ticker"], calendar, zone_is_certain=certain) is not None:
        raise SourceError(
            f"{place} holds daily bars and STOCK_ASSETS_INTERVAL is {interval.text}; expected bars of {interval.text} "
            "or shorter ones, or STOCK_ASSETS_INTERVAL=1d"
        )
    minutes = _as_traded(table.drop("at", "clock", "session", strict=False).with_columns(at=moments.at), place)
    return interval_bars(minutes, calendar, interval, place=place, zone_is_certain=certain)


def _read_moments(
    table: pl.DataFrame, calendar: TradingCalendar, place: str, *, date_format: str | None, time_zone: str | None
) -> Moments | None:
    """What the file has of moments; None where no cell says more than a date."""
    column = _moments_of(table)
    if column is None:
        return None
    return parse_moments(_of_spreadsheet(column, calendar), date_format, zone=time_zone, place=place)


def _without_stamp(table: pl.DataFrame) -> pl.DataFrame:
    """`table` without a moment that is the same in rows of several days: when the file was written."""
    if not {"at", "session"} <= {*table.columns} or table["at"].n_unique() > 1 or table["session"].n_unique() < 2:
        return table
    return table.drop("at")


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


def _of_spreadsheet(column: pl.Series, calendar: TradingCalendar) -> pl.Series:
    """`column` as datetimes where it holds the numbers of days that spreadsheets count since 1899-12-30, which are
    sessions: as seconds since 1970 they would all lie on its first day."""
    days = column.cast(pl.Float64, strict=False)
    empty = column.is_null() if column.dtype != pl.String else column.str.strip_chars().fill_null("") == ""
    if days.is_empty() or not bool((days.is_between(*_SPREADSHEET) | empty).fill_null(value=False).all()):
        return column
    moments = days.to_frame("days").select(_EPOCH + pl.duration(seconds=(pl.col("days") * 86_400).round())).to_series()
    days_in_calendar = moments.dt.date().filter(
        moments.dt.date().is_between(calendar.sessions[0], calendar.sessions[-1])
    )
    are_sessions = days_in_calendar.is_in(pl.Series(calendar.sessions).implode())
    return moments if days_in_calendar.len() and are_sessions.sum() > MOSTLY * days_in_calendar.len() else column


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


def _days(
    moments: Moments, tickers: pl.Series, calendar: TradingCalendar, *, zone_is_certain: bool
) -> pl.Series | None:
    """The day of each row where the rows are daily bars, None where they are bars of minutes."""
    for clock in (moments.wall, moments.at):
        if _at_midnight(clock):
            return clock.dt.date().alias("session")
    rows = pl.DataFrame([tickers.alias("ticker"), moments.at.alias("at")])
    if not bool(rows.select(pl.struct("ticker", pl.col("at").dt.date()).is_unique().all()).item()):
        return None
    zone = calendar.local_zone
    local = moments.at.dt.convert_time_zone(zone).dt.replace_time_zone(None)
    if _at_midnight(local):
        return local.dt.date().alias("session")
    readings = [moments.at]
    if not zone_is_certain:
        local_moments = moments.wall.dt.replace_time_zone(zone, ambiguous="null", non_existent="null")
        readings.append(local_moments.dt.convert_time_zone("UTC"))
    for at in readings:
        for edges in (calendar.opens, calendar.closes):
            if (days := _at_edge(at, edges, zone)) is not None:
                return days
    return None


def _at_edge(at: pl.Series, edges: Mapping[date, datetime], zone: str) -> pl.Series | None:
    """The session of each row where all within the calendar are at the edge of one (`edges`), on half days perhaps at
    the usual time of the day in `zone`; None where they are not. Rows beyond the calendar keep their date."""
    sessions = pl.DataFrame({"session": edges.keys(), "edge": edges.values()}, {"session": pl.Date, "edge": UTC_TIME})
    clock = sessions["edge"].dt.convert_time_zone(zone).dt.time()
    local = at.dt.convert_time_zone(zone).alias("local")
    exact = at.alias("edge").to_frame().join(sessions, on="edge", how="left", maintain_order="left")["session"]
    of_session = local.dt.date().is_in(sessions["session"].implode())
    as_usual = (local.dt.time() == clock.mode(maintain_order=True)[0]) & of_session
    within = at.is_between(sessions["edge"].min(), sessions["edge"].max()).fill_null(value=False)
    if not within.any() or not (exact.is_not_null() | as_usual.fill_null(value=False)).filter(within).all():
        return None
    return exact.fill_null(local.dt.date())


def _at_midnight(clock: pl.Series) -> bool:
    return bool((clock.dt.truncate("1d") == clock).all())


def _of_sessions(table: pl.DataFrame, calendar: TradingCalendar, place: str, *, zone_is_certain: bool) -> ByDay:
    """The bars of minutes in `table` (at in UTC) as bars of sessions, with the sector, if it has one."""
    minutes = _as_traded(table, place)
    bars_of_sessions = session_bars(minutes, calendar, place, zone_is_certain=zone_is_certain)
    bars = bars_of_sessions.bars
    if "sector" in table.columns:
        bars = bars.join(table.group_by("ticker").agg(pl.col("sector").drop_nulls().last()), on="ticker")
    return ByDay(bars, bars_of_sessions)


def _as_traded(table: pl.DataFrame, place: str) -> pl.DataFrame:
    """ticker, at, open, high, low, close, volume of `table`. Raises SourceError for adjusted prices."""
    if actions := _actions(table):
        raise SourceError(f"{place} has a timestamp and {', '.join(actions)}; expected bars of minutes as traded")
    return table.select("ticker", "at", pl.col("open", "high", "low", "close", "volume").cast(pl.Float64, strict=False))


def _actions(table: pl.DataFrame) -> list[str]:
    """The columns that say that a price is adjusted, or will be: yfinance writes them into minutes too, empty."""
    none = {"adj_close": pl.col("close").cast(pl.Float64, strict=False), "dividend": pl.lit(0.0)}
    stated_columns = [name for name in ("adj_close", "dividend") if name in table.columns]
    acts = [
        name for name in stated_columns if _any(table, name, pl.col(name).cast(pl.Float64, strict=False) != none[name])
    ]
    splits = pl.col("split_ratio").cast(pl.Float64, strict=False)
    if "split_ratio" in table.columns and _any(table, "split_ratio", ~splits.is_in([0.0, 1.0])):
        acts.append("split_ratio")
    return acts


def _any(table: pl.DataFrame, name: str, flag: pl.Expr) -> bool:
    """Whether `flag` holds for a row of `table`, or its cell `name` holds a text that is no number."""
    text = pl.col(name).cast(pl.String).str.strip_chars()
    is_unread = (text != "") & pl.col(name).cast(pl.Float64, strict=False).is_null()
    return bool(table.select((flag.fill_null(value=False) | is_unread.fill_null(value=False)).any()).item())
