"""Which training serves a session of bars, and what it may know. Follows from the calendar and the settings alone."""

from datetime import date, datetime
from typing import NamedTuple

from stock_assets.errors import StockAssetsError
from stock_assets.market.calendar import TradingCalendar

#: Sessions before the cutoff that the first training needs; there is one more session between the cutoff and the first
#: session that it serves, in which it is trained.
FEWEST_SESSIONS = 3


class BarTraining(NamedTuple):
    """One training of the models of bars."""

    serves_from: date
    """the first session that it serves, which names it"""
    cutoff: datetime
    """the opening of the session before, UTC: so it can be trained while that session runs"""
    sessions: tuple[date, ...]
    """those that it learns from, ascending"""


def first_served(calendar: TradingCalendar) -> date:
    """The first session that has models. Raises StockAssetsError for a calendar that is too short."""
    if len(calendar.sessions) <= FEWEST_SESSIONS + 1:
        raise StockAssetsError(
            f"{calendar.name} has {len(calendar.sessions)} session(s) from the start to the end; models of bars need "
            f"{FEWEST_SESSIONS + 2}: {FEWEST_SESSIONS} to learn from, one to train in and one to serve"
        )
    return calendar.sessions[FEWEST_SESSIONS + 1]


def training_of(calendar: TradingCalendar, session: date, *, most: int, every: int) -> BarTraining:
    """The training that serves `session`: the newest of those that there are `every` so many sessions; it learns from
    `most` sessions at most.

    Raises StockAssetsError for a session before the first that is served.

    >>> from stock_assets.market.calendar import trading_calendar
    >>> always = trading_calendar("24/7", date(2025, 6, 1), date(2025, 6, 30))
    >>> training = training_of(always, date(2025, 6, 8), most=20, every=5)
    >>> training.serves_from.day, training.cutoff.day, [day.day for day in training.sessions]
    (5, 4, [1, 2, 3])
    """
    first = calendar.position(first_served(calendar))
    place = calendar.position(session)
    if place < first:
        raise StockAssetsError(
            f"no model of bars serves {session}; the first session with models is {calendar.sessions[first]}"
        )
    anchor = first + (place - first) // every * every
    learned = calendar.sessions[max(0, anchor - 1 - most) : anchor - 1]
    return BarTraining(calendar.sessions[anchor], calendar.opens[calendar.sessions[anchor - 1]], learned)
