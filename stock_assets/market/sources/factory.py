"""From a setting to a source and its universe."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import polars as pl

from stock_assets.errors import SourceError
from stock_assets.market import membership
from stock_assets.market.calendar import calendar_of
from stock_assets.market.sources import Source
from stock_assets.settings import FROM_WIKIPEDIA, Settings


def make_source(settings: Settings, say: Callable[[str], None] = lambda _: None) -> Source:
    """The source that the settings name; nothing is read or asked before it is used. `say` hears how far a long fetch
    is."""
    match settings.source:
        case "simulated":
            from stock_assets.market.sources.simulated import SimulatedSource

            return SimulatedSource(calendar_of(settings), settings.seed, settings.tickers, settings.context_series)
        case "snapshot":
            from stock_assets.market.sources.snapshot import SnapshotSource

            assert settings.snapshot is not None  # the settings refuse a snapshot source without a path
            return SnapshotSource(
                settings.snapshot, calendar_of(settings), settings.tickers, settings.end, settings.context
            )
        case "yahoo":
            from stock_assets.market.sources.budget import Budget, Pace, Politeness
            from stock_assets.market.sources.yahoo import YahooSource

            return YahooSource(
                calendar_of(settings),
                settings.tickers,
                on_progress=Pace("Yahoo", say),
                series=settings.context_series,
                staged=settings.staged_answers,
                budget=Budget(Politeness(per_second=settings.requests_per_second), say=say),
            )


def make_universe(settings: Settings, source: Source, now: datetime) -> tuple[pl.DataFrame, dict[str, int | str]]:
    """(`UNIVERSE_SCHEMA`, what there is to tell about it): what the source offers, while it was a member.

    Of Yahoo without STOCK_ASSETS_TICKERS, which offers everything and lists nothing, it is the members themselves:
    those of STOCK_ASSETS_MEMBERSHIP, or today's S&P 500. Raises SourceError where nothing is left.
    """
    calendar, wanted = calendar_of(settings), settings.membership
    lists_nothing = settings.source == "yahoo" and settings.tickers is None
    if wanted is None and not lists_nothing:
        return source.universe(), {}
    cache, warning = settings.data_dir / "membership" / "sp500.html", None
    if wanted is None:
        members, warning = membership.current_members(calendar, cache, now)
    elif wanted == FROM_WIKIPEDIA:
        members, warning = membership.sp500(calendar, cache, now)
    else:
        members = membership.as_universe(membership.read_intervals(Path(wanted)), calendar)
    universe = members.with_columns(membership.hyphenated()) if lists_nothing else source.universe()
    kept = universe if lists_nothing else membership.restricted(universe, members)
    if kept.is_empty():
        raise SourceError(
            f"none of the {universe['ticker'].n_unique()} ticker(s) that {source.name} offers was a member by "
            f"STOCK_ASSETS_MEMBERSHIP={wanted} between {calendar.sessions[0]} and {calendar.sessions[-1]}"
        )
    told: dict[str, int | str] = {
        "members": members["ticker"].n_unique(),
        "members_without_prices": members["ticker"].n_unique() - kept["ticker"].n_unique(),
        "never_members": universe["ticker"].n_unique() - kept["ticker"].n_unique(),
    }
    return kept, told | ({"warning": warning} if warning else {})
