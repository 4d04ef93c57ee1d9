"""Rows of `announcements`: when on its day one is, which session shows it, and what it says of the next year."""

from datetime import datetime, timedelta

import polars as pl

from stock_assets.market.calendar import TradingCalendar
from stock_assets.side_inputs.tables import ANNOUNCEMENTS
from stock_assets.tables import UTC_TIME

#: A company reports on about the same day of the week a year later.
A_YEAR = timedelta(days=364)
#: The columns of `announcement_rows` without session, which follows from known_at.
ROWS = pl.Schema({name: dtype for name, dtype in ANNOUNCEMENTS.schema.items() if name != "session"})

_OPTIONAL = ("withdrawn", "reported", "assumed")


def announcement_rows(
    dates: pl.DataFrame, calendar: TradingCalendar, *, origin: str, source: str, fetched_at: datetime
) -> pl.DataFrame:
    """`dates` as rows of `announcements` (`ROWS`).

    `dates` has ticker, day (Date, in the exchange's time zone), moment (one of MOMENTS) and known_at (UTC), and may
    have event_time (UTC) where it is known, withdrawn, reported and assumed (Boolean; False without the column).
    """
    flags = [name for name in _OPTIONAL if name not in dates.columns]
    rows = dates.rename({"ticker": "subject"}).with_columns(
        *(pl.lit(value=False).alias(name) for name in flags),
        reaction_session=reaction_session(dates["day"], dates["moment"], calendar),
        fetched_at=pl.lit(fetched_at).cast(UTC_TIME),
        source=pl.lit(source),
        origin=pl.lit(origin),
    )
    if "event_time" not in dates.columns:
        rows = rows.with_columns(event_time=event_time(dates["day"], dates["moment"], calendar))
    return rows.select(pl.col(name).cast(dtype) for name, dtype in ROWS.items())


def reaction_session(day: pl.Series, moment: pl.Series, calendar: TradingCalendar) -> pl.Series:
    """Date: the first session whose close can show what was announced on `day` at `moment`: that of the day, or the
    next one after `post`; null for days before the calendar and after its last session.

    >>> from datetime import date
    >>> from stock_assets.market.calendar import trading_calendar
    >>> calendar = trading_calendar("XNYS", date(2024, 7, 1), date(2024, 7, 31))
    >>> days = pl.Series([date(2024, 7, 3), date(2024, 7, 3), date(2024, 7, 6)])
    >>> [str(day) for day in reaction_session(days, pl.Series(["pre", "post", "pre"]), calendar)]
    ['2024-07-03', '2024-07-05', '2024-07-08']
    """
    sessions = pl.Series("reaction_session", calendar.sessions, dtype=pl.Date)
    same_session, later = sessions.search_sorted(day, side="left"), sessions.search_sorted(day, side="right")
    places = later.zip_with(moment == "post", same_session) if len(day) else same_session
    reactions = sessions.extend_constant(None, 1).gather(places)
    return reactions.set((day < calendar.sessions[0]).fill_null(value=True), None)


def event_time(day: pl.Series, moment: pl.Series, calendar: TradingCalendar) -> pl.Series:
    """UTC: the open of the session of `day` for `pre`, its close for `post`, and noon of the exchange for `during`,
    `unknown` and days without a session."""
    hours = pl.DataFrame(
        {
            "day": list(calendar.sessions),
            "open": [calendar.opens.get(session) for session in calendar.sessions],
            "close": [calendar.closes.get(session) for session in calendar.sessions],
        },
        schema={"day": pl.Date, "open": UTC_TIME, "close": UTC_TIME},
    )
    noon = pl.col("day").cast(pl.Datetime("us")).dt.offset_by("12h").dt.replace_time_zone(calendar.local_zone)
    noon = noon.dt.convert_time_zone("UTC")
    times = pl.DataFrame({"day": day, "moment": moment}).join(hours, on="day", how="left", maintain_order="left")
    at = pl.when(pl.col("moment") == "pre").then("open").when(pl.col("moment") == "post").then("close")
    return times.select(event_time=pl.coalesce(at, noon).cast(UTC_TIME))["event_time"]


def day_and_moment(at: pl.Series, calendar: TradingCalendar) -> pl.DataFrame:
    """day (Date, in the exchange's time zone) and moment of each of `at` (UTC): before the open of its session, during
    it, or at its close or later; unknown on a day without a session.

    >>> from datetime import date
    >>> from stock_assets.market.calendar import trading_calendar
    >>> calendar = trading_calendar("XNYS", date(2024, 7, 1), date(2024, 7, 31))
    >>> at = pl.Series(["2024-07-04 01:00", "2024-07-05 13:29", "2024-07-05 20:00"]).str.to_datetime(time_zone="UTC")
    >>> [(str(day), moment) for day, moment in day_and_moment(at, calendar).rows()]
    [('2024-07-03', 'post'), ('2024-07-05', 'pre'), ('2024-07-05', 'post')]
    """
    days = at.dt.convert_time_zone(calendar.local_zone).dt.date().alias("day")
    opens, closes = (
        event_time(days, pl.Series([moment]).new_from_index(0, len(days)), calendar) for moment in ("pre", "post")
    )
    moment = (
        pl.when(~pl.col("day").is_in(list(calendar.sessions)))
        .then(pl.lit("unknown"))
        .when(pl.col("at") < pl.col("open"))
        .then(pl.lit("pre"))
        .when(pl.col("at") >= pl.col("close"))
        .then(pl.lit("post"))
        .otherwise(pl.lit("during"))
    )
    frame = pl.DataFrame({"day": days, "at": at, "open": opens, "close": closes})
    return frame.select("day", moment=moment)


def with_replays(rows: pl.DataFrame, calendar: TradingCalendar) -> pl.DataFrame:
    """`rows` (`ROWS`) and, of each that was filed or is of a file, one of 364 days later, known when that one was: what
    a reader expects where nothing surer is said. One that is withdrawn withdraws it too."""
    repeated_rows = rows.filter(pl.col("origin").is_in(["filed", "file"])).with_columns(
        pl.col("event_time", "day") + A_YEAR, origin=pl.lit("replayed"), reported=pl.lit(value=False)
    )
    reactions = reaction_session(repeated_rows["day"], repeated_rows["moment"], calendar)
    return pl.concat([rows, repeated_rows.with_columns(reaction_session=reactions)])
