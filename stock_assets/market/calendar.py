"""Trading sessions of an exchange: which days exist at all.

A session is the local trading date, without a time. Nothing here reads the clock: whoever asks for the last
closed session passes the moment.
"""

import json
import os
import warnings
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import cache, cached_property
from importlib.metadata import version
from pathlib import Path

#: The calendar is computed up to this day and no further. Fixed, never `now() + …`: the closures are part of
#: the identity of the partition definitions, which must not change from one day to the next.
CALENDAR_END = date(2035, 12, 31)


@dataclass(frozen=True)
class TradingCalendar:
    """The sessions of one exchange from `sessions[0]` to `sessions[-1]`, ascending and without gaps."""

    name: str
    sessions: tuple[date, ...]
    closes: Mapping[date, datetime] = field(default_factory=dict, compare=False, repr=False)
    """When each session closes, in UTC: half days and daylight saving as the exchange has them."""

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

    def last_closed(self, moment: datetime) -> date | None:
        """The last session whose day is over at `moment` (an aware datetime), None before the first.

        A session is over at 00:00 UTC of the next day: the same evening in New York, and after the close
        of every exchange.
        """
        today = moment.astimezone(UTC).date()
        earlier = self.before(today, 1)
        return earlier[0] if earlier else None

    def closures(self) -> tuple[date, ...]:
        """The weekdays on which the exchange stays closed, ascending."""
        day, closed = self.sessions[0], []
        while day <= self.sessions[-1]:
            if day.weekday() < 5 and not self.is_session(day):
                closed.append(day)
            day += timedelta(days=1)
        return tuple(closed)


@cache
def trading_calendar(
    name: str, start: date, end: date = CALENDAR_END, cache_dir: Path | None = None
) -> TradingCalendar:
    """The sessions of exchange `name` (an exchange_calendars code such as XNYS) from `start` to `end`.

    With a `cache_dir` they are kept there in a file per version of exchange_calendars: every process that
    Dagster starts needs them, and the library brings pandas and half a second with it.
    """
    if cache_dir is None:
        return _calendar_of(name, _computed_closes(name, start, end))
    file = cache_dir / f"closes-{name}-{start}-{end}-{version('exchange_calendars')}.json"
    if not file.exists():
        cache_dir.mkdir(parents=True, exist_ok=True)
        temporary = file.with_name(f".{file.name}.{os.getpid()}")
        temporary.write_text(json.dumps(_computed_closes(name, start, end)))
        temporary.replace(file)
    return _calendar_of(name, json.loads(file.read_text()))


def _calendar_of(name: str, closes: dict[str, int]) -> TradingCalendar:
    moments = {date.fromisoformat(day): datetime.fromtimestamp(second, UTC) for day, second in closes.items()}
    return TradingCalendar(name, tuple(moments), moments)


def _computed_closes(name: str, start: date, end: date) -> dict[str, int]:
    """The session and the second since 1970 at which it closes."""
    import exchange_calendars

    with warnings.catch_warnings():
        # exchange_calendars 4.13 reads a timezone-aware Series in a way that pandas 3.1 deprecates
        warnings.filterwarnings("ignore", message="Series.values returning", category=DeprecationWarning)
        # start and end are passed because the library's own window is twenty years back and one ahead of now
        exchange = exchange_calendars.get_calendar(name, start=start, end=end)
    return {str(day.date()): int(close.timestamp()) for day, close in exchange.closes.items()}  # pyright: ignore[reportAttributeAccessIssue]: days


def runs_of(sessions: Iterable[date], calendar: TradingCalendar) -> list[tuple[date, date]]:
    """The contiguous stretches of `sessions` in the calendar, as (first, last), ascending."""
    stretches: list[tuple[date, date]] = []
    for session in sorted(sessions):
        if stretches and calendar.shift(stretches[-1][1], 1) == session:
            stretches[-1] = (stretches[-1][0], session)
        else:
            stretches.append((session, session))
    return stretches
