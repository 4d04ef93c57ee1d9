"""Bars of minutes as vendors have them: the times at which bars of a calendar's sessions begin, and rows of them."""

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta

import polars as pl

from stock_assets.market.calendar import TradingCalendar


def beginnings(
    calendar: TradingCalendar, step: int, *, before: int = 0, after: int = 0, on_the_hour: bool = False
) -> Iterator[datetime]:
    """When the bars of `step` minutes begin, from `before` minutes before each opening to `after` after each close;
    none lies within the rest at noon."""
    for session in calendar.sessions:
        at = calendar.opens[session] - timedelta(minutes=before)
        if on_the_hour:
            at = at.replace(minute=0)
        while at < calendar.closes[session] + timedelta(minutes=after):
            start, end = calendar.rests.get(session, (at, at))
            if not (start <= at and at + timedelta(minutes=step) <= end):
                yield at
            at += timedelta(minutes=step)


def rows(
    times: Iterable[datetime], ticker: str = "A", write: Callable[[datetime], object] = lambda at: at
) -> pl.DataFrame:
    """A bar at each of `times`; open, high, low and close say which row it is, each has a volume of 100."""
    times = list(times)
    price = [100.0 + i for i in range(len(times))]
    return pl.DataFrame(
        {
            "ticker": [ticker] * len(times),
            "timestamp": [write(at) for at in times],
            "open": price,
            "high": [value + 2 for value in price],
            "low": [value - 2 for value in price],
            "close": [value + 1 for value in price],
            "volume": [100.0] * len(times),
        }
    )
