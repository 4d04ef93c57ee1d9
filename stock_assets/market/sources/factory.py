"""From a setting to a source."""

from collections.abc import Callable

import polars as pl

from stock_assets.market.sources import Source
from stock_assets.settings import Settings


def make_source(
    settings: Settings,
    say: Callable[[str], None] = lambda _: None,
    members: Callable[[], pl.DataFrame] | None = None,
) -> Source:
    """The source that the settings name; nothing is read or asked before it is used.

    `say` hears how far a long fetch is; `members` is the universe of a vendor that has no list of all.
    """
    match settings.source:
        case "simulated":
            from stock_assets.market.sources.simulated import SimulatedSource

            return SimulatedSource(settings.calendar, settings.seed, settings.tickers)
        case "snapshot":
            from stock_assets.market.sources.snapshot import SnapshotSource

            assert settings.snapshot is not None  # the settings refuse a snapshot source without a path
            return SnapshotSource(settings.snapshot, settings.calendar, settings.tickers, settings.end)
        case "yahoo":
            from stock_assets.market.sources.budget import Budget, Pace, Politeness
            from stock_assets.market.sources.yahoo import YahooSource

            return YahooSource(
                settings.calendar,
                settings.tickers,
                on_progress=Pace("Yahoo", say),
                members=members,
                staged=settings.staged_answers,
                budget=Budget(Politeness(per_second=settings.requests_per_second), say=say),
            )
