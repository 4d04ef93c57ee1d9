"""How the tables are cut: trading days, the trading days whose labels are known, and model years.

Every set is computed from the settings and the exchange calendar alone, so it is the same in every process
and on every day. The window of session D closes at midnight of the calendar's zone (UTC from London westwards): the day
is there the same evening.
"""

import warnings
from datetime import date, datetime, time, timedelta
from functools import cache
from zoneinfo import ZoneInfo

import dagster as dg

from stock_assets.market.calendar import TradingCalendar, calendar_of
from stock_assets.settings import Settings

WEEKENDS = "0 0 * * 0,6"  # one cron string: as dates, key checks would be eight times slower


@cache  # one set of days for all assets that share it: making it costs more than any of them
def _days(
    calendar: TradingCalendar, first: date, last: date | None, *, end_offset: int = 0
) -> dg.DailyPartitionsDefinition:
    """The sessions from `first` to `last`; open-ended and `end_offset` sessions late where `last` is None.

    A plain daily set with the closures excluded, not a weekday cron: that would hide Friday until Monday.
    """

    def midnight(day: date) -> datetime:
        return datetime.combine(day, time(), ZoneInfo(calendar.zone) if calendar.zone != "UTC" else None)

    weekends = [WEEKENDS] if calendar.rests_on_weekends else []
    return dg.DailyPartitionsDefinition(
        start_date=midnight(first),
        end_date=midnight(last + timedelta(days=1)) if last else None,
        timezone=calendar.zone,
        end_offset=end_offset,
        exclusions=[*weekends, *map(midnight, calendar.closures())] or None,
    )


def trading_days(config: Settings) -> dg.DailyPartitionsDefinition:
    """One partition per session from the first of the settings on."""
    calendar = calendar_of(config)
    return _days(calendar, calendar.sessions[0], config.end and calendar.sessions[-1])


def labelled_days(config: Settings) -> dg.DailyPartitionsDefinition:
    """The trading days whose label can be known: they end one horizon before the others."""
    calendar = calendar_of(config)
    last = config.end and calendar.shift(calendar.sessions[-1], -config.horizon)
    offset = 0 if config.end else -config.horizon  # a negative offset counts sessions, closures included
    return _days(calendar, calendar.sessions[0], last, end_offset=offset)


def predicted_days(config: Settings) -> dg.DailyPartitionsDefinition:
    """The trading days that a model can serve: from the first session of the first model year on.

    A day before it would go green with no model behind it.
    """
    calendar = calendar_of(config)
    first = calendar.between(date(config.model_start_year, 1, 1), calendar.sessions[-1])[0]
    return _days(calendar, first, config.end and calendar.sessions[-1])


def running_days(config: Settings, first: date | None = None, *, ahead: int = 0) -> dg.DailyPartitionsDefinition:
    """One partition per session from `first`, the first of the settings when None, through the one that runs or comes
    next, and so many `ahead` of it: what is made of bars below a day."""
    calendar = calendar_of(config)
    opens_before = any(calendar.opens[day].date() < day for day in calendar.sessions[:1])  # 17:00 the evening before
    offset = 0 if config.end else 1 + int(opens_before) + ahead
    return _days(calendar, first or calendar.sessions[0], config.end and calendar.sessions[-1], end_offset=offset)


def model_years(config: Settings) -> dg.TimeWindowPartitionsDefinition:
    """The years that a model serves. The running year is one of them: its model was trained before it began."""
    return dg.TimeWindowPartitionsDefinition(
        cron_schedule="0 0 1 1 *",
        fmt="%Y",
        start=str(config.model_start_year),
        end=str(config.end.year + 1) if config.end else None,
        timezone=calendar_of(config).zone,
        end_offset=0 if config.end else 1,
    )


with warnings.catch_warnings():
    # the parameter is in beta; constraints.txt pins the version this was tried with
    warnings.simplefilter("ignore", dg.BetaWarning)
    #: The same session of a set that ends earlier.
    WHERE_THERE_IS_ONE = dg.TimeWindowPartitionMapping(allow_nonexistent_upstream_partitions=True)
    #: Models of bars learn from the sessions through the one two before; that one is what asks for them by lineage.
    LEARNS_TWO_SESSIONS_BEFORE = dg.TimeWindowPartitionMapping(
        start_offset=-2, end_offset=-2, allow_nonexistent_upstream_partitions=True
    )
#: A model year learns from every year before it; the year before is what asks for it by lineage.
LEARNS_FROM_THE_YEAR_BEFORE = dg.TimeWindowPartitionMapping(start_offset=-1, end_offset=-1)
