"""Rows of `scheduled_events`: days, the session that shows what happens, and since when each was known."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

import polars as pl

from stock_assets.market.calendar import TradingCalendar
from stock_assets.side_inputs.as_of import known_session
from stock_assets.side_inputs.tables import SCHEDULED_EVENTS
from stock_assets.tables import UTC_TIME

NEW_YORK = ZoneInfo("America/New_York")
#: A fetch since longer ago is no evening but a range.
EVENING = timedelta(days=31)
#: The columns of `scheduled_events` without session, which follows from known_at.
ROWS = pl.Schema({name: dtype for name, dtype in SCHEDULED_EVENTS.schema.items() if name != "session"})


class Event(NamedTuple):
    """One event of the schedule."""

    subject: str
    at: datetime
    """when it happens"""
    known_at: datetime
    """when a reader could first have known its day, by the record or the rule of the schedule"""
    assumed: bool = True


def new_york(day: date, at: time) -> datetime:
    """The moment (UTC) of the clock of New York.

    >>> new_york(date(2024, 7, 31), time(14)).isoformat()
    '2024-07-31T18:00:00+00:00'
    """
    return datetime.combine(day, at, NEW_YORK).astimezone(UTC)


def event_rows(
    events: Sequence[Event], calendar: TradingCalendar, *, source: str, fetched_at: datetime
) -> pl.DataFrame:
    """`events` as rows (`ROWS`), less those of which no session of `calendar` shows what happens, and those that became
    known after `fetched_at`."""
    frame = pl.DataFrame(
        [(event.subject, event.at, event.known_at, event.assumed) for event in events],
        {"subject": pl.String, "event_time": UTC_TIME, "known_at": UTC_TIME, "assumed": pl.Boolean},
        orient="row",
    )
    rows = frame.with_columns(
        day=pl.col("event_time").dt.convert_time_zone(calendar.local_zone).dt.date(),
        reaction_session=known_session(frame["event_time"], calendar),
        fetched_at=pl.lit(fetched_at).cast(UTC_TIME),
        source=pl.lit(source),
        withdrawn=pl.lit(value=False),
    )
    visible_events = rows.filter(
        pl.col("day") >= calendar.sessions[0],
        pl.col("reaction_session").is_not_null(),
        pl.col("known_at") <= fetched_at,
    )
    return visible_events.select(pl.col(name).cast(kind) for name, kind in ROWS.items()).unique(maintain_order=True)


def by_rule_or_seen(events: Sequence[Event], first: date, fetched_at: datetime) -> list[Event]:
    """What a vendor's calendar adds, whose `events` have the moment at which their rule makes them known.

    Of a range since long ago that rule holds. An evening adds coming events alone, which are known now: one may have
    been moved to its day since the rule's moment.
    """
    if fetched_at.date() - first > EVENING:
        return [
            event if event.known_at <= fetched_at else event._replace(known_at=fetched_at, assumed=False)
            for event in events
        ]
    return [event._replace(known_at=fetched_at, assumed=False) for event in events if event.at > fetched_at]
