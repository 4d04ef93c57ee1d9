"""Which training serves a session of bars, and what it may know. Follows from the calendar and the settings alone."""

from datetime import date, datetime
from typing import NamedTuple

from stock_assets.errors import StockAssetsError
from stock_assets.features.bar_features import LOOKBACK_BARS
from stock_assets.market.calendar import TradingCalendar
from stock_assets.market.intervals import Interval, bar_ends

#: Sessions before the cutoff that the first training needs at least, and bars of a ticker that they hold: twice the
#: look-back of a feature. One more session lies between the cutoff and the first session that is served: in it the
#: models are trained.
FEWEST_SESSIONS, FEWEST_BARS = 3, 2 * LOOKBACK_BARS


class BarTraining(NamedTuple):
    """One training of the models of bars."""

    serves_from: date
    """the first session that it serves, which names it"""
    cutoff: datetime
    """the opening of the session before, UTC: so it can be trained while that session runs"""
    sessions: tuple[date, ...]
    """those that it learns from, ascending"""


def fewest_sessions(calendar: TradingCalendar, interval: Interval) -> int:
    """The sessions that the first training learns from."""
    return max(FEWEST_SESSIONS, -(-FEWEST_BARS // len(bar_ends(calendar, calendar.sessions[0], interval))))


def first_served(calendar: TradingCalendar, interval: Interval) -> date:
    """The first session that has models. Raises StockAssetsError for a calendar that is too short."""
    fewest = fewest_sessions(calendar, interval)
    if len(calendar.sessions) <= fewest + 1:
        raise StockAssetsError(
            f"{calendar.name} has {len(calendar.sessions)} session(s) from the start to the end; models of bars of "
            f"{interval.text} need {fewest + 2}: {fewest} to learn from, one to train in and one to serve"
        )
    return calendar.sessions[fewest + 1]


def training_of(calendar: TradingCalendar, interval: Interval, session: date, *, most: int, every: int) -> BarTraining:
    """The training that serves `session`: the newest of those that there are `every` so many sessions; it learns from
    `most` sessions at most.

    Raises StockAssetsError for a session before the first that is served.

    >>> from stock_assets.market.calendar import trading_calendar
    >>> always = trading_calendar("24/7", date(2025, 6, 1), date(2025, 6, 30))
    >>> training = training_of(always, Interval.parse("1m"), date(2025, 6, 8), most=20, every=5)
    >>> training.serves_from.day, training.cutoff.day, [day.day for day in training.sessions]
    (5, 4, [1, 2, 3])
    """
    first = calendar.position(first_served(calendar, interval))
    place = calendar.position(session)
    if place < first:
        raise StockAssetsError(
            f"no model of bars serves {session}; the first session with models is {calendar.sessions[first]}"
        )
    anchor = first + (place - first) // every * every
    training_sessions = calendar.sessions[max(0, anchor - 1 - most) : anchor - 1]
    return BarTraining(calendar.sessions[anchor], calendar.opens[calendar.sessions[anchor - 1]], training_sessions)
