"""Days that a rule gives: expiries of monthly options, and the employment report. Pure, and without a record.

>>> from stock_assets.market.calendar import trading_calendar
>>> calendar = trading_calendar("XNYS", date(2019, 1, 1), date(2019, 12, 31))
>>> [str(day) for day in expiry_days(date(2019, 4, 1), date(2019, 5, 31), calendar)]  # April: Good Friday
['2019-04-18', '2019-05-17']
>>> [str(day) for day in payroll_days(date(2014, 6, 1), date(2015, 1, 31)) if day.month in (1, 7)]
['2014-07-03', '2015-01-09']
"""

from collections.abc import Iterator
from datetime import date, timedelta

from stock_assets.market.calendar import TradingCalendar

FRIDAY = 4


def expiry_days(first: date, last: date, calendar: TradingCalendar) -> list[date]:
    """The last sessions of monthly options from `first` to `last`: the third Friday of a month, or the session before
    it where that is none (https://www.theocc.com/market-data/market-data-reports/series-and-trading-data/expiration).
    """
    days = []
    for month in _months(first, last):
        friday = month + timedelta(days=(FRIDAY - month.weekday()) % 7 + 14)
        days += calendar.before(friday + timedelta(days=1), 1)
    return sorted({day for day in days if first <= day <= last})


def payroll_days(first: date, last: date) -> list[date]:
    """The days of the employment report from `first` to `last`, by the rule of the Bureau of Labor Statistics: the
    third Friday after the week of the 12th, which the figures of a month are about
    (https://www.bls.gov/ces/publications/news-release-schedule.htm).

    One that would fall on the first three days of January comes a week later, and one on the holiday of 4 July a day
    earlier. A report that was put off, as in October 2013, has the day on which it was due.
    """
    days = []
    for month in _months(first - timedelta(days=62), last):
        twelfth = month.replace(day=12)
        sunday = twelfth - timedelta(days=(twelfth.weekday() + 1) % 7)
        friday = sunday + timedelta(days=5 + 21)
        if friday.month == 1 and friday.day <= 3:
            friday += timedelta(days=7)
        if friday == _independence_day(friday.year):
            friday -= timedelta(days=1)
        days.append(friday)
    return [day for day in days if first <= day <= last]


def _independence_day(year: int) -> date:
    """The day on which the holiday is kept: the Friday before a Saturday, the Monday after a Sunday."""
    day = date(year, 7, 4)
    return day + timedelta(days={5: -1, 6: 1}.get(day.weekday(), 0))


def _months(first: date, last: date) -> Iterator[date]:
    month = first.replace(day=1)
    while month <= last:
        yield month
        month = (month + timedelta(days=32)).replace(day=1)
