"""Trading sessions of an exchange: which days exist at all.

A session is the local trading date, without a time. Nothing here reads the clock: whoever asks for the last
closed session passes the moment.
"""

import json
import os
import re
import warnings
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import cache, cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from stock_assets.errors import SettingsError

#: The calendar is computed up to this day and no further. Fixed, never `now() + …`: the closures are part of
#: the identity of the partition definitions, which must not change from one day to the next.
CALENDAR_END = date(2035, 12, 31)


#: The currencies that the exchanges of these codes quote in, ISO 4217; 24/7 is that of BTC-USD.
CURRENCIES = (
    dict.fromkeys(("XNYS", "XNAS", "ARCX", "BATS", "24/7"), "USD")
    | dict.fromkeys(("XAMS", "XBRU", "XDUB", "XETR", "XFRA", "XHEL", "XLIS", "XMAD", "XMIL", "XPAR", "XWBO"), "EUR")
    | {"XLON": "GBP", "XSWX": "CHF", "XSTO": "SEK", "XOSL": "NOK", "XCSE": "DKK", "XWAR": "PLN", "XIST": "TRY"}
    | {"XTKS": "JPY", "XHKG": "HKD", "XSHG": "CNY", "XSHE": "CNY", "XKRX": "KRW", "XTAI": "TWD", "XSES": "SGD"}
    | {"XBOM": "INR", "XNSE": "INR", "XASX": "AUD", "XNZE": "NZD", "XTSE": "CAD", "BVMF": "BRL", "XMEX": "MXN"}
    | {"XJSE": "ZAR", "XTAE": "ILS", "XSAU": "SAR"}
)


@dataclass(frozen=True)
class SessionHours:
    """From when to when a session lasts, in minutes of the clock of `zone`: it ends on its own day, where an end of
    1440 is the midnight after it, and begins on that day or, if the start is no earlier, on the one before."""

    start: int
    end: int
    zone: str

    @classmethod
    def parse(cls, text: str) -> "SessionHours":
        """Of "17:00-17:00 America/New_York" or "00:00-24:00 UTC". Raises ValueError for anything else."""
        found = re.fullmatch(r"(\d\d):(\d\d)-(\d\d):(\d\d) (\S+)", text.strip())
        if found is None:
            raise ValueError("not of the form 17:00-17:00 America/New_York")
        *digits, zone = found.groups()
        hours = [int(digit) for digit in digits]
        start, end = hours[0] * 60 + hours[1], hours[2] * 60 + hours[3]
        if hours[1] > 59 or hours[3] > 59 or start >= 1440 or not 0 < end <= 1440:
            raise ValueError("no time of the day")
        try:
            ZoneInfo(zone)
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(f"{zone} is no time zone") from error
        return cls(start, end, zone)

    def window(self, session: date) -> tuple[datetime, datetime]:
        """(open, close) of `session`, UTC."""

        def at(minutes: int, day: date) -> datetime:
            day += timedelta(days=minutes // 1440)
            return datetime.combine(day, time(minutes % 1440 // 60, minutes % 60), ZoneInfo(self.zone)).astimezone(UTC)

        return at(self.start, session - timedelta(days=self.start >= self.end)), at(self.end, session)


@dataclass(frozen=True)
class TradingCalendar:
    """The sessions of one exchange from `sessions[0]` to `sessions[-1]`, ascending and without gaps."""

    name: str
    sessions: tuple[date, ...]
    closes: Mapping[date, datetime] = field(default_factory=dict, compare=False, repr=False)
    """When each session closes, in UTC: half days and daylight saving as the exchange has them."""
    opens: Mapping[date, datetime] = field(default_factory=dict, compare=False, repr=False)
    zone: str = "UTC"
    """At midnight of this time zone a session's day is over: the exchange's own east of Greenwich, where it comes
    before that of UTC, which is the same evening in the Americas."""

    @cached_property
    def _zone(self) -> tzinfo:
        return UTC if self.zone == "UTC" else ZoneInfo(self.zone)

    @cached_property
    def _position(self) -> dict[date, int]:
        return {session: i for i, session in enumerate(self.sessions)}

    def is_session(self, day: date) -> bool:
        return day in self._position

    def position(self, session: date) -> int:
        """The number of sessions before `session`. Raises ValueError where it is none."""
        if session not in self._position:
            raise ValueError(f"{session} is no session of {self.name}")
        return self._position[session]

    def between(self, first: date, last: date) -> tuple[date, ...]:
        """The sessions from `first` to `last`, both included; the ends need not be sessions."""
        return self.sessions[bisect_left(self.sessions, first) : bisect_right(self.sessions, last)]

    def before(self, day: date, count: int) -> tuple[date, ...]:
        """The `count` sessions before `day` (fewer where the calendar begins), ascending."""
        end = bisect_left(self.sessions, day)
        return self.sessions[max(0, end - count) : end]

    def shift(self, session: date, count: int) -> date | None:
        """The session `count` sessions after (negative: before) `session`; None outside the calendar."""
        i = self.position(session) + count
        return self.sessions[i] if 0 <= i < len(self.sessions) else None

    def day_over(self, session: date) -> datetime:
        """Midnight after `session` in `zone`, UTC; its close where that is later."""
        midnight = datetime.combine(session + timedelta(days=1), time(), self._zone).astimezone(UTC)
        return max(midnight, self.closes.get(session, midnight))

    def last_closed(self, moment: datetime) -> date | None:
        """The last session whose day is over (`day_over`) at `moment` (an aware datetime), None before the first."""
        recent = self.before(moment.astimezone(UTC).date() + timedelta(days=2), 5)
        over = [day for day in recent if self.day_over(day) <= moment]
        return over[-1] if over else None

    def with_hours(self, hours: SessionHours) -> "TradingCalendar":
        """The same sessions, lasting from and to other times."""
        windows = {session: hours.window(session) for session in self.sessions}
        return replace(
            self,
            name=f"{self.name} {hours.start // 60:02d}:{hours.start % 60:02d} to {hours.end // 60:02d}:"
            f"{hours.end % 60:02d} {hours.zone}",
            opens={session: opened for session, (opened, _) in windows.items()},
            closes={session: closed for session, (_, closed) in windows.items()},
        )

    @cached_property
    def rests_on_weekends(self) -> bool:
        """Whether no session is a Saturday or a Sunday."""
        return all(session.weekday() < 5 for session in self.sessions)

    def closures(self) -> tuple[date, ...]:
        """The days on which the exchange stays closed, ascending; without the weekends where it always does."""
        day, closed = self.sessions[0], []
        while day <= self.sessions[-1]:
            if (day.weekday() < 5 or not self.rests_on_weekends) and not self.is_session(day):
                closed.append(day)
            day += timedelta(days=1)
        return tuple(closed)


@cache
def trading_calendar(
    name: str, start: date, end: date = CALENDAR_END, cache_dir: Path | None = None
) -> TradingCalendar:
    """The sessions of exchange `name` (an exchange_calendars code such as XNYS) from `start` to `end`.

    Raises SettingsError for a name that is none. With a `cache_dir` they are kept there in a file per version of
    exchange_calendars: every process that Dagster starts needs them, and the library brings pandas and half a second
    with it.
    """
    if cache_dir is None:
        return _calendar_of(name, _computed_hours(name, start, end))
    file = cache_dir / f"hours-{name.replace('/', '-')}-{start}-{end}-{version('exchange_calendars')}.json"
    if not file.exists():
        cache_dir.mkdir(parents=True, exist_ok=True)
        temporary = file.with_name(f".{file.name}.{os.getpid()}")
        temporary.write_text(json.dumps(_computed_hours(name, start, end)))
        temporary.replace(file)
    return _calendar_of(name, json.loads(file.read_text()))


def _calendar_of(name: str, known: Mapping[str, Any]) -> TradingCalendar:
    days = [date.fromisoformat(day) for day in known["days"]]
    opens, closes = ([datetime.fromtimestamp(second, UTC) for second in known[key]] for key in ("opens", "closes"))
    return TradingCalendar(
        name, tuple(days), dict(zip(days, closes, strict=True)), dict(zip(days, opens, strict=True)), known["zone"]
    )


def _computed_hours(name: str, start: date, end: date) -> dict[str, Any]:
    """zone, the days of the sessions, and the seconds since 1970 at which each opens and closes."""
    import exchange_calendars
    from exchange_calendars.errors import InvalidCalendarName

    with warnings.catch_warnings():
        # exchange_calendars 4.13 reads a timezone-aware Series in a way that pandas 3.1 deprecates
        warnings.filterwarnings("ignore", message="Series.values returning", category=DeprecationWarning)
        # start and end are passed because the library's own window is twenty years back and one ahead of now
        try:
            exchange = exchange_calendars.get_calendar(name, start=start, end=end)
        except InvalidCalendarName as error:
            known = exchange_calendars.get_calendar_names(include_aliases=False)
            raise SettingsError(
                f"STOCK_ASSETS_EXCHANGE={name} is no calendar; expected one of {', '.join(known)}"
            ) from error
    ahead = datetime(start.year, 1, 1, tzinfo=ZoneInfo(str(exchange.tz))).utcoffset()
    return {
        "zone": str(exchange.tz) if ahead and ahead > timedelta(0) else "UTC",
        "days": [str(day.date()) for day in exchange.closes.index],  # pyright: ignore[reportAttributeAccessIssue]: days
        "opens": [int(moment.timestamp()) for moment in exchange.opens],
        "closes": [int(moment.timestamp()) for moment in exchange.closes],
    }


def runs_of(sessions: Iterable[date], calendar: TradingCalendar) -> list[tuple[date, date]]:
    """The contiguous stretches of `sessions` in the calendar, as (first, last), ascending."""
    stretches: list[tuple[date, date]] = []
    for session in sorted(sessions):
        if stretches and calendar.shift(stretches[-1][1], 1) == session:
            stretches[-1] = (stretches[-1][0], session)
        else:
            stretches.append((session, session))
    return stretches
