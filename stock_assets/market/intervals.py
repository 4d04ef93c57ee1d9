"""Intervals: how long a bar lasts, when the bars of a session end, and which session a moment lies in.

A bar holds what was traded from its start, included, to its end, excluded, and is named by its end. The bars of a
session are counted from its opening, and from the end of its rest at noon, as the exchanges and vendors do; the last
one before the rest or the close ends there and may be shorter, as the bar from 15:30 to 16:00 of New York at 1h.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl

from stock_assets.market.calendar import TradingCalendar, calendar_of
from stock_assets.settings import Settings
from stock_assets.tables import UTC_TIME

#: The intervals that the setting `interval` names, in minutes.
MINUTES = {"1m": 1, "5m": 5, "15m": 15, "1h": 60, "1d": 1440}

#: A bar that is not published so many bars after its end, and one look, is late.
LATE_BARS = 10


@dataclass(frozen=True)
class Interval:
    """How long a bar lasts."""

    text: str
    """as the setting spells it"""
    minutes: int

    @classmethod
    def parse(cls, text: str) -> "Interval":
        """Of one of MINUTES. Raises ValueError for anything else.

        >>> Interval.parse("5m").minutes
        5
        """
        if text not in MINUTES:
            raise ValueError(f"{text!r} is no interval; expected one of {', '.join(MINUTES)}")
        return cls(text, MINUTES[text])

    @property
    def is_daily(self) -> bool:
        """Whether one bar is a session."""
        return self.text == "1d"

    @property
    def length(self) -> timedelta:
        """How long a bar lasts, but for the last one of a session."""
        return timedelta(minutes=self.minutes)


def stretches(calendar: TradingCalendar, session: date) -> list[tuple[datetime, datetime]]:
    """From when to when (UTC) is traded in `session`: two stretches where the exchange rests at noon, else one.

    Raises ValueError for a day that is no session.

    >>> from stock_assets.market.calendar import trading_calendar
    >>> tokyo = trading_calendar("XTKS", date(2024, 1, 4), date(2024, 1, 5))
    >>> [f"{start:%H:%M} {end:%H:%M}" for start, end in stretches(tokyo, date(2024, 1, 4))]
    ['00:00 02:30', '03:30 06:00']
    """
    calendar.position(session)
    opening, closing = calendar.opens[session], calendar.closes[session]
    if session not in calendar.rests:
        return [(opening, closing)]
    rest_begin, rest_end = calendar.rests[session]
    return [(opening, rest_begin), (rest_end, closing)]


def bar_ends(calendar: TradingCalendar, session: date, interval: Interval) -> pl.Series:
    """The ends of the bars of `session` (UTC, ascending); none lies in its rest at noon.

    Raises ValueError for a day that is no session.

    >>> from stock_assets.market.calendar import trading_calendar
    >>> new_york = trading_calendar("XNYS", date(2024, 1, 2), date(2024, 1, 5))
    >>> ends = bar_ends(new_york, date(2024, 1, 2), Interval.parse("1h"))
    >>> len(ends), ends[0].strftime("%H:%M"), ends[-1].strftime("%H:%M")
    (7, '15:30', '21:00')
    >>> tokyo = trading_calendar("XTKS", date(2024, 1, 4), date(2024, 1, 5))  # 9:00 to 15:00, it rests from 11:30
    >>> [f"{end:%H:%M}" for end in bar_ends(tokyo, date(2024, 1, 4), Interval.parse("15m"))[9:11]]  # to 12:30
    ['02:30', '03:45']
    """
    ends: list[datetime] = []
    for start, stop in stretches(calendar, session):
        # of the exact minutes: a change of the clocks within a session lengthens or shortens it
        count = -(-(stop - start) // interval.length)
        ends += [min(start + k * interval.length, stop) for k in range(1, count + 1)]
    return pl.Series("bar_end", ends, UTC_TIME)


def expected_bars(calendar: TradingCalendar, sessions: Iterable[date], interval: Interval) -> pl.DataFrame:
    """session, bar_end of every bar of `sessions`, sorted."""
    parts = [
        pl.DataFrame({"bar_end": bar_ends(calendar, session, interval)}).select(
            session=pl.lit(session), bar_end="bar_end"
        )
        for session in sessions
    ]
    return pl.concat([pl.DataFrame(schema={"session": pl.Date, "bar_end": UTC_TIME}), *parts]).sort("bar_end")


def bar_grace(settings: Settings) -> timedelta:
    """How long after its end a bar is published at the latest: LATE_BARS bars and one look."""
    interval = Interval.parse(settings.interval)
    return LATE_BARS * interval.length + timedelta(minutes=settings.look_minutes or interval.minutes)


def next_bar_end(settings: Settings, newest: datetime) -> datetime | None:
    """The end of the first bar after that of `newest`, perhaps of the next session; None after the calendar's last."""
    calendar, interval = calendar_of(settings), Interval.parse(settings.interval)
    nearby_sessions = calendar.between(newest.date() - timedelta(days=1), newest.date() + timedelta(days=14))
    for session in nearby_sessions:
        later = bar_ends(calendar, session, interval).filter(bar_ends(calendar, session, interval) > newest)
        if len(later):
            return later[0]
    return None


def lookback_start(
    calendar: TradingCalendar, interval: Interval, moment: datetime, *, bars: int
) -> tuple[date, datetime]:
    """(session, bar_end) of the bar that is so many `bars` before the one that ends at `moment`; of the calendar's
    first bar where there are fewer.

    >>> from stock_assets.market.calendar import trading_calendar
    >>> always = trading_calendar("24/7", date(2024, 1, 1), date(2024, 1, 3))
    >>> _, end = lookback_start(always, Interval.parse("1m"), datetime(2024, 1, 2, 0, 10, tzinfo=UTC), bars=20)
    >>> end.strftime("%d %H:%M")
    '01 23:50'
    """
    remaining_bars, days = (
        bars,
        calendar.before(moment.astimezone(UTC).date() + timedelta(days=2), len(calendar.sessions)),
    )
    at = calendar.sessions[0]
    for day in reversed(days):
        if calendar.opens[day] >= moment:
            continue
        ends = bar_ends(calendar, day, interval)
        earlier = ends.filter(ends < moment)
        if remaining_bars <= len(earlier):
            return day, earlier[-remaining_bars] if remaining_bars else moment
        remaining_bars, at = remaining_bars - len(earlier), day
    return at, bar_ends(calendar, at, interval)[0]


def session_of(calendar: TradingCalendar, bar_ends: pl.Series) -> pl.Series:
    """The session (pl.Date) that the bar of each of `bar_ends` (UTC) lies in; null outside all of them.

    A bar lies in a session when it ends after its opening and at its close at the latest.
    """
    sessions = calendar.sessions
    opens, closes = (
        np.array([moments[session] for session in sessions], dtype="datetime64[us]")
        for moments in (_naive(calendar.opens), _naive(calendar.closes))
    )
    ends = bar_ends.dt.convert_time_zone("UTC").dt.replace_time_zone(None).cast(pl.Datetime("us")).to_numpy()
    place = np.searchsorted(closes, ends, side="left")  # the first session that closes at the end or later
    within = np.minimum(place, len(sessions) - 1)
    inside = (place < len(sessions)) & (opens[within] < ends)
    days = np.array(sessions, dtype="datetime64[D]")[within]
    return pl.Series("session", np.where(inside, days, np.datetime64("NaT")), pl.Date)


def _naive(moments: Mapping[date, datetime]) -> dict[date, datetime]:
    return {day: moment.astimezone(UTC).replace(tzinfo=None) for day, moment in moments.items()}
