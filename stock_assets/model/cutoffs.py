"""The cutoff of a training: the last session that it may learn from."""

from collections.abc import Iterable
from datetime import date

from stock_assets.errors import CutoffError
from stock_assets.market.calendar import TradingCalendar


def first_cutoff(calendar: TradingCalendar, year: int) -> date:
    """The last session before the year: the first version of a model year must know nothing later."""
    return calendar.before(date(year, 1, 1), 1)[0]


def cutoffs_of(calendar: TradingCalendar, years: Iterable[int], text: str | None = None) -> dict[int, date]:
    """The cutoff of each model year: that in `text`, else that of its first version. Raises as `cutoff_within`."""
    return {year: cutoff_within(calendar, year, text) if text else first_cutoff(calendar, year) for year in years}


def cutoff_within(calendar: TradingCalendar, year: int, text: str) -> date:
    """The cutoff, YYYY-MM-DD in `text`, of a retraining within `year`.

    Raises CutoffError for a text that is no date, and for a cutoff that is no session after that of the first version
    and before the last session of the year.
    """
    try:
        cutoff = date.fromisoformat(text)
    except ValueError:
        raise CutoffError(f"cutoff {text!r} of model year {year} is no date; expected YYYY-MM-DD") from None
    first, last = first_cutoff(calendar, year), calendar.between(date(year, 1, 1), date(year, 12, 31))[-1]
    if not first < cutoff < last or not calendar.is_session(cutoff):
        raise CutoffError(
            f"cutoff {cutoff} of model year {year}; expected a session after {first}, the cutoff of its first "
            f"version, and before {last}, the last session that it serves"
        )
    return cutoff
