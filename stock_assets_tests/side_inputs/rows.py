"""Rows of side inputs for tests, and the calendar that they are of."""

from collections.abc import Sequence
from datetime import UTC, date, datetime

import polars as pl

from stock_assets.market.calendar import TradingCalendar, trading_calendar
from stock_assets.side_inputs.announcing import announcement_rows, with_replays
from stock_assets.side_inputs.as_of import with_session
from stock_assets.tables import UTC_TIME

CALENDAR: TradingCalendar = trading_calendar("XNYS", date(2023, 1, 3), date(2024, 12, 31))
FETCHED = datetime(2025, 1, 1, tzinfo=UTC)


def at(text: str) -> datetime:
    """A moment in UTC, such as "2024-01-25 21:30"."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def announced(
    *dates: Sequence[object], origin: str, calendar: TradingCalendar = CALENDAR, source: str | None = None
) -> pl.DataFrame:
    """Versions of announcements of AAA: (day, moment, known_at) of each, and a flag that is set."""
    columns: dict[str, list[object]] = {name: [] for name in ("day", "moment", "known_at", "withdrawn", "reported")}
    for day, moment, known_at, *flags in dates:
        columns["day"].append(date.fromisoformat(str(day)))
        columns["moment"].append(moment)
        columns["known_at"].append(at(str(known_at)))
        for flag in ("withdrawn", "reported"):
            columns[flag].append(flag in flags)
    types = [pl.Date, pl.String, UTC_TIME, pl.Boolean, pl.Boolean]
    frame = pl.DataFrame(columns, dict(zip(columns, types, strict=True))).with_columns(ticker=pl.lit("AAA"))
    return announcement_rows(frame, calendar, origin=origin, source=source or origin, fetched_at=FETCHED)


def stored(*frames: pl.DataFrame, calendar: TradingCalendar = CALENDAR) -> pl.DataFrame:
    """All `frames` as the store holds them, with what repeats them a year later."""
    return with_session(with_replays(pl.concat(frames), calendar), calendar)
