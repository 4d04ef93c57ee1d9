"""Times without a zone that give it away: a clock that is set skips an hour in spring and repeats one in autumn."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl

from stock_assets.errors import SourceError

#: A zone for every rule by which clocks are set; others skip and repeat the same hours of the clock.
ZONES = (
    *("America/New_York", "Europe/London", "Europe/Berlin", "Europe/Athens", "Australia/Sydney", "Pacific/Auckland"),
    "America/Santiago",
)
_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)


def refuse_changed_clock(minutes: pl.DataFrame, place: str) -> None:
    """Raises SourceError where `minutes` (ticker, at), whose times name no zone and are read as UTC, skip or repeat the
    very hour that clocks of some zone do, though they have it once on the days around: around the clock every zone fits
    the sessions, and that hour alone shows which one it is.
    """
    if minutes.is_empty():
        return
    hour = pl.col("at").dt.truncate("1h").alias("hour")
    of_ticker = minutes.group_by("ticker", hour).agg(bars=pl.len(), times=pl.col("at").n_unique())
    busiest_times = of_ticker.group_by("hour").agg(pl.col("bars", "times").sort_by("bars").last())
    bars_of = {at: (bars, times) for at, bars, times in busiest_times.iter_rows()}

    def once(at: datetime) -> bool:
        bars, times = bars_of.get(at, (0, 0))
        return 0 < bars == times

    for zone, at, repeats_hour in _changes(minutes["at"].min(), minutes["at"].max()):  # pyright: ignore[reportArgumentType]
        bars, times = bars_of.get(at, (0, 0))
        is_changed = bars == 2 * times > 0 if repeats_hour else bars == 0
        if is_changed and all(once(at + shift) for shift in (-_HOUR, _HOUR, -_DAY, _DAY)):
            verb, fault = ("repeat", "two bars of each time") if repeats_hour else ("skip", "no bar")
            raise SourceError(
                f"{place} has times without a zone, and {fault} from {at:%H:%M} to {at + _HOUR:%H:%M} on "
                f"{at:%Y-%m-%d}, an hour that clocks as in {zone} {verb}; expected times that name their zone, or "
                f"STOCK_ASSETS_TIME_ZONE={zone} (or UTC, if they are of it)"
            )


def _changes(first: datetime, last: datetime) -> Iterator[tuple[str, datetime, bool]]:
    """Zone, beginning of an hour of the clock (as if it were of UTC) and whether it comes twice, or never."""
    days = pl.datetime_range(first - _DAY, last, "1d", eager=True)
    for zone in ZONES:
        clock = ZoneInfo(zone)
        midnights = [day.replace(hour=0, minute=0, second=0, microsecond=0) for day in days]
        ahead = [midnight.astimezone(clock).utcoffset() or timedelta() for midnight in midnights]
        for midnight, before, after in zip(midnights, ahead, ahead[1:], strict=False):
            if before != after:
                hours = (midnight + i * _HOUR for i in range(25))
                change = next(hour for hour in hours if hour.astimezone(clock).utcoffset() == after)
                wall_time = change.astimezone(clock).replace(tzinfo=UTC)
                yield zone, wall_time if after < before else wall_time - _HOUR, after < before
