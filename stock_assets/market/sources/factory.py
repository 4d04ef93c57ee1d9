"""From a setting to a source."""

from stock_assets.market.sources import Source
from stock_assets.settings import Settings


def make_source(settings: Settings) -> Source:
    """The source that the settings name; nothing is read or asked before it is used."""
    match settings.source:
        case "simulated":
            from stock_assets.market.sources.simulated import SimulatedSource

            return SimulatedSource(settings.calendar, settings.seed, settings.tickers, settings.context_series)
        case "snapshot":
            from stock_assets.market.sources.snapshot import SnapshotSource

            assert settings.snapshot is not None  # the settings refuse a snapshot source without a path
            return SnapshotSource(
                settings.snapshot, settings.calendar, settings.tickers, settings.end, settings.context
            )
        case "yahoo":
            from stock_assets.market.sources.yahoo import YahooSource

            return YahooSource(settings.calendar, settings.tickers, series=settings.context_series)
