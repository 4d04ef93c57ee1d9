"""Trading sessions of an exchange: which days exist at all.

A session is the local trading date, without a time. Nothing here reads the clock: the last closed session is asked for
at a moment.
"""

import json
import warnings
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import cache, cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from stock_assets.errors import SettingsError
from stock_assets.files import disk_error, write_file
from stock_assets.setting_values import ExtraSession, SessionHours
from stock_assets.settings import CALENDAR_END, Settings

if TYPE_CHECKING:
    from exchange_calendars import ExchangeCalendar

#: The currencies that the exchanges of these codes quote in, ISO 4217; 24/7 is that of BTC-USD.
CURRENCIES = (
    dict.fromkeys(("XNYS", "XNAS", "ARCX", "BATS", "24/7"), "USD")
    | dict.fromkeys(("XAMS", "XBRU", "XDUB", "XETR", "XFRA", "XHEL", "XLIS", "XMAD", "XMIL", "XPAR", "XWBO"), "EUR")
    | {"XLON": "GBP", "XSWX": "CHF", "XSTO": "SEK", "XOSL": "NOK", "XCSE": "DKK", "XWAR": "PLN", "XIST": "TRY"}
    | {"XTKS": "JPY", "XHKG": "HKD", "XSHG": "CNY", "XSHE": "CNY", "XKRX": "KRW", "XTAI": "TWD", "XSES": "SGD"}
    | {"XBOM": "INR", "XNSE": "INR", "XASX": "AUD", "XNZE": "NZD", "XTSE": "CAD", "BVMF": "BRL", "XMEX": "MXN"}
    | {"XJSE": "ZAR", "XTAE": "ILS", "XSAU": "SAR"}
)
#: Counts the repairs of exchange_calendars in `private`: sessions that were kept under another one are not read.
_REPAIR = 3


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
    local_zone: str = field(default="UTC", compare=False)
    """The time zone of the exchange, or of the hours that the settings name: what people there call the time."""
    rests: Mapping[date, tuple[datetime, datetime]] = field(default_factory=dict, compare=False, repr=False)
    """From when to when (UTC) the exchange rests at noon, of the sessions on which it does."""

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
        closed_sessions = [day for day in recent if self.day_over(day) <= moment]
        return closed_sessions[-1] if closed_sessions else None

    def with_hours(self, hours: SessionHours) -> "TradingCalendar":
        """The same sessions, lasting from and to other times."""
        windows = {session: hours.window(session) for session in self.sessions}
        return replace(
            self,
            name=f"{self.name} {hours.start // 60:02d}:{hours.start % 60:02d} to {hours.end // 60:02d}:"
            f"{hours.end % 60:02d} {hours.zone}",
            opens={session: opening for session, (opening, _) in windows.items()},
            closes={session: closing for session, (_, closing) in windows.items()},
            local_zone=hours.zone,
            rests={},
        )

    def with_sessions(self, extra_hours: Mapping[date, tuple[int, int] | None], zone: tzinfo) -> "TradingCalendar":
        """The same calendar with sessions on the days `extra_hours`, from and to those minutes of the clock of `zone`;
        where they are None as long as the session next to it, or as it is. Days outside the calendar are left out.

        >>> india = trading_calendar("XBOM", date(2024, 1, 1), date(2024, 3, 28))
        >>> india.with_sessions({date(2024, 1, 20): None}, UTC).is_session(date(2024, 1, 20))
        True
        """
        opens, closes, rests = dict(self.opens), dict(self.closes), dict(self.rests)
        for day, hours in extra_hours.items():
            if not self.sessions[0] <= day <= self.sessions[-1]:
                continue
            if hours is not None:
                rests.pop(day, None)
                midnight = datetime.combine(day, time())
                opens[day], closes[day] = (
                    (midnight + timedelta(minutes=minutes)).replace(tzinfo=zone).astimezone(UTC) for minutes in hours
                )
            elif not self.is_session(day):
                nearest = self.before(day, 1)[0]
                opens[day], closes[day] = (moments[nearest] + (day - nearest) for moments in (self.opens, self.closes))
                if nearest in rests:
                    rests[day] = (rests[nearest][0] + (day - nearest), rests[nearest][1] + (day - nearest))
        sessions = tuple(sorted({*self.sessions, *(day for day in extra_hours if day in opens)}))
        return replace(self, sessions=sessions, opens=opens, closes=closes, rests=rests)

    def without(self, missing: Collection[date]) -> "TradingCalendar":
        """The same calendar without the days `missing`; those that are no sessions change nothing."""
        return replace(self, sessions=tuple(day for day in self.sessions if day not in missing))

    @cached_property
    def rests_on_weekends(self) -> bool:
        """Whether no session is a Saturday or a Sunday."""
        return all(session.weekday() < 5 for session in self.sessions)

    def closures(self) -> tuple[date, ...]:
        """The days on which the exchange stays closed, ascending; without the weekends where it always does."""
        return self._closures

    @cached_property
    def _closures(self) -> tuple[date, ...]:
        days = map(date.fromordinal, range(self.sessions[0].toordinal(), self.sessions[-1].toordinal()))
        ordinary = 5 if self.rests_on_weekends else 7
        return tuple(day for day in days if day not in self._position and day.weekday() < ordinary)


@cache
def trading_calendar(
    name: str, start: date, end: date | None = None, *, cache_dir: Path | None = None
) -> TradingCalendar:
    """The sessions of exchange `name` (an exchange_calendars code such as XNYS) from `start` to `end`.

    Where `end` is None they go on to CALENDAR_END, or to the last day whose holidays exchange_calendars has recorded.
    Raises SettingsError for a name that is none, for days outside that record, and for a calendar that
    exchange_calendars cannot compute. With a `cache_dir` they are kept there in a file per version of
    exchange_calendars: every process that Dagster starts needs them, and the library brings pandas and half a second
    with it.
    """
    if cache_dir is None:
        return _calendar_of(name, _computed_hours(name, start, end))
    versions = f"{version('exchange_calendars')}-{_REPAIR}"
    file = cache_dir / f"hours-{name.replace('/', '-')}-{start}-{end or CALENDAR_END}-{versions}.json"
    try:
        return _calendar_of(name, json.loads(file.read_bytes()))
    except (FileNotFoundError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        hours = _computed_hours(name, start, end)  # there is none yet, or it is damaged: it is made again
    except OSError as error:
        raise disk_error(file, error) from error
    write_file(file, json.dumps(hours).encode())
    return _calendar_of(name, hours)


def _calendar_of(name: str, hours: Mapping[str, Any]) -> TradingCalendar:
    days = [date.fromisoformat(day) for day in hours["days"]]
    opens, closes = ([datetime.fromtimestamp(second, UTC) for second in hours[key]] for key in ("opens", "closes"))
    return TradingCalendar(
        name,
        tuple(days),
        dict(zip(days, closes, strict=True)),
        dict(zip(days, opens, strict=True)),
        hours["zone"],
        hours["local_zone"],
        {
            date.fromisoformat(day): (datetime.fromtimestamp(start, UTC), datetime.fromtimestamp(end, UTC))
            for day, start, end in hours["rests"]
        },
    )


def _computed_hours(name: str, start: date, end: date | None) -> dict[str, Any]:
    """Both zones, the days of the sessions, the seconds since 1970 at which each opens and closes, and the rests."""
    with warnings.catch_warnings():
        # exchange_calendars 4.13 uses what pandas 3.1 deprecates
        warnings.simplefilter("ignore", DeprecationWarning)
        exchange = _exchange(name, start, end)
    ahead = datetime(start.year, 1, 1, tzinfo=ZoneInfo(str(exchange.tz))).utcoffset()
    return {
        "local_zone": str(exchange.tz),
        "zone": str(exchange.tz) if ahead and ahead > timedelta(0) else "UTC",
        "days": [str(day.date()) for day in exchange.closes.index],  # pyright: ignore[reportAttributeAccessIssue]: days
        "opens": [int(moment.timestamp()) for moment in exchange.opens],
        "closes": [int(moment.timestamp()) for moment in exchange.closes],
        "rests": [(str(day), int(start.timestamp()), int(end.timestamp())) for day, (start, end) in _rests(exchange)],
    }


def _exchange(name: str, start: date, end: date | None) -> "ExchangeCalendar":
    """The calendar of exchange_calendars, see `trading_calendar`."""
    from exchange_calendars.errors import InvalidCalendarName

    from stock_assets.private.exchange_calendars import exchange_calendars

    try:
        # start and end are passed because the library's own window is twenty years back and one ahead of now
        return exchange_calendars.get_calendar(name, start=start, end=end or CALENDAR_END)
    except InvalidCalendarName as error:
        names = exchange_calendars.get_calendar_names(include_aliases=False)
        raise SettingsError(
            f"STOCK_ASSETS_EXCHANGE={name} is no calendar; expected one of {', '.join(names)}"
        ) from error
    except (ValueError, NotImplementedError) as error:  # it says in no other way which days it has
        first, last = _recorded_days(name, error)
    if start < first:
        raise SettingsError(
            f"STOCK_ASSETS_START={start} lies before the calendar {name}, which exchange_calendars has from {first}; "
            "expected a later day"
        )
    if (end or start) > last:
        setting = f"STOCK_ASSETS_END={end}" if end else f"STOCK_ASSETS_START={start}"
        raise SettingsError(
            f"{setting} lies after the calendar {name}, which exchange_calendars has through {last}; expected an "
            "earlier day, or a newer exchange_calendars"
        )
    return exchange_calendars.get_calendar(name, start=start, end=end or min(last, CALENDAR_END))


def _recorded_days(name: str, error: Exception) -> tuple[date, date]:
    """First and last day that the calendar `name` can be computed for. Raises SettingsError where it never can."""
    from stock_assets.private.exchange_calendars import exchange_calendars

    try:
        exchange = exchange_calendars.get_calendar(name)
    except (ValueError, NotImplementedError):
        raise SettingsError(
            f"exchange_calendars {version('exchange_calendars')} cannot compute the calendar STOCK_ASSETS_EXCHANGE="
            f"{name} ({str(error)[:80]}); expected another exchange of the same sessions, or another version of "
            "exchange_calendars"
        ) from error
    first, last = exchange.bound_min(), exchange.bound_max()
    return first.date() if first else date.min, last.date() if last else date.max


def calendar_of(settings: Settings) -> TradingCalendar:
    """The sessions of the settings from `start` to `end`, or as far ahead as the calendar goes when the end is open.

    Raises SettingsError for an exchange that has no calendar.
    """
    calendar = trading_calendar(settings.exchange, settings.start, settings.end, cache_dir=settings.data_dir)
    if settings.extra_sessions or settings.missing_sessions:
        calendar = _declared(calendar, settings.extra_sessions, settings.missing_sessions)
    return _with_hours(calendar, settings.session_hours) if settings.session_hours else calendar


@cache
def _declared(calendar: TradingCalendar, extra: tuple[str, ...], missing: tuple[date, ...]) -> TradingCalendar:
    """`calendar` with the `extra` sessions (`ExtraSession`) within it and without the `missing` ones."""
    extra_hours = {session.day: session.hours for session in map(ExtraSession.parse, extra)}
    return calendar.with_sessions(extra_hours, ZoneInfo(calendar.local_zone)).without(missing)


@cache
def _with_hours(calendar: TradingCalendar, hours: str) -> TradingCalendar:
    return calendar.with_hours(SessionHours.parse(hours))


def currency_of(settings: Settings) -> str | None:
    """The currency of the prices; None where that of the exchange is unknown."""
    return settings.currency or CURRENCIES.get(settings.exchange)


def _rests(exchange: "ExchangeCalendar") -> list[tuple[date, tuple[datetime, datetime]]]:
    """From when to when (UTC) the exchange rests at noon, by session."""
    rests = zip(exchange.break_starts.dropna().items(), exchange.break_ends.dropna(), strict=True)
    return [(day.date(), (start.to_pydatetime(), end.to_pydatetime())) for (day, start), end in rests]  # pyright: ignore[reportAttributeAccessIssue]: pandas' days
