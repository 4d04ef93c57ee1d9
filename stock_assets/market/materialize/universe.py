"""The table `universe`: which tickers were members when."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import polars as pl

from stock_assets.errors import SourceError
from stock_assets.market import membership
from stock_assets.market.calendar import calendar_of, currency_of
from stock_assets.market.materialize.one_source import require_one_source
from stock_assets.market.sources import ReadsFiles, Source
from stock_assets.market.sources.registry import registered
from stock_assets.settings import FROM_WIKIPEDIA, Settings
from stock_assets.storage.warehouse import Warehouse
from stock_assets.tickers import require_tickers


class MadeUniverse(NamedTuple):
    """The universe, and what there is to report about it."""

    rows: pl.DataFrame
    """`UNIVERSE_SCHEMA`, with `currency` once it is stored"""
    counts: Mapping[str, int] = MappingProxyType({})
    """members, members_without_prices and never_members; empty without a list of members"""
    warning: str | None = None
    """why the list of members is an old copy"""
    notes: Mapping[str, Sequence[str]] = MappingProxyType({})
    """what the source guessed and passed over, and of which files; empty for a source without files"""


def make_universe(store: Warehouse, settings: Settings, source: Source, *, now: datetime) -> MadeUniverse:
    """Stores what `source` offers, while it was a member, in the place of the whole table.

    Raises SourceError where nothing is left, and where the store holds the prices of another source.
    """
    universe = offered_members(settings, source, now)
    require_tickers(universe.rows["ticker"], f"the universe of the source {source.name}")
    currency = pl.lit(currency_of(settings), pl.String)
    rows = universe.rows.sort("ticker", "from_session").with_columns(currency=currency)
    require_one_source(store, source)
    store.replace_table("universe", rows)
    return universe._replace(rows=rows, notes=source.notes() if isinstance(source, ReadsFiles) else {})


def offered_members(settings: Settings, source: Source, now: datetime) -> MadeUniverse:
    """What `source` offers, while it was a member by STOCK_ASSETS_MEMBERSHIP, if that is set.

    Of a source that lists no tickers (Yahoo offers everything), without STOCK_ASSETS_TICKERS, it is the members
    themselves: those of STOCK_ASSETS_MEMBERSHIP, or today's S&P 500. Raises SourceError where nothing is left.
    """
    calendar, setting = calendar_of(settings), settings.membership
    members_alone = settings.tickers is None and not registered(settings.source).lists_tickers
    if setting is None and not members_alone:
        return MadeUniverse(source.universe())
    cache, warning = settings.data_dir / "membership" / "sp500.html", None
    if setting is None:
        members, warning = membership.current_members(calendar, cache, now)
    elif setting == FROM_WIKIPEDIA:
        members, warning = membership.sp500(calendar, cache, now)
    else:
        members = membership.as_universe(membership.read_intervals(Path(setting)), calendar)
    offered_tickers = members.with_columns(membership.hyphenated()) if members_alone else source.universe()
    members_with_prices = offered_tickers if members_alone else membership.restricted(offered_tickers, members)
    if members_with_prices.is_empty():
        raise SourceError(
            f"none of the {offered_tickers['ticker'].n_unique()} ticker(s) that {source.name} offers was a member by "
            f"STOCK_ASSETS_MEMBERSHIP={setting} between {calendar.sessions[0]} and {calendar.sessions[-1]}"
        )
    counts = {
        "members": members["ticker"].n_unique(),
        "members_without_prices": members["ticker"].n_unique() - members_with_prices["ticker"].n_unique(),
        "never_members": offered_tickers["ticker"].n_unique() - members_with_prices["ticker"].n_unique(),
    }
    return MadeUniverse(members_with_prices, counts, warning)
