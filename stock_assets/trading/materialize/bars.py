"""The bars of the store as a panel that the ledger reads."""

from collections.abc import Sequence
from datetime import date

import polars as pl

from stock_assets.frames import KEYS
from stock_assets.market.calendar import calendar_of
from stock_assets.market.materialize.context import read_context
from stock_assets.settings import Settings
from stock_assets.storage.warehouse import Warehouse
from stock_assets.trading.books import Limits
from stock_assets.trading.panel import LOOKBACK_SESSIONS, Panel, panel_of

#: The columns of daily_bars that a panel is made of.
BAR_COLUMNS = (
    *KEYS,
    *("open", "high", "low", "close", "volume", "dividend", "split_ratio", "total_return", "is_member", "suspect"),
)


def read_panel(
    store: Warehouse, settings: Settings, sessions: Sequence[date], *, limits: Limits, needed_by: str
) -> Panel:
    """The panel of `sessions`, ascending and without gaps, with what the sessions before them show.

    Raises MissingSessionsError, whose text names `needed_by`, where daily_bars lacks one of them.
    """
    before = calendar_of(settings).before(sessions[0], LOOKBACK_SESSIONS)
    first, last = (*before, sessions[0])[0], sessions[-1]
    store.require(["daily_bars"], [*before, *sessions], needed_by, why="bars, and what they show of the value traded")
    bars = store.read("daily_bars", first, last, columns=BAR_COLUMNS)
    context = read_context(store, first, last).select("series", "session", "total_return")
    return panel_of(bars, universe_of(store), context, sessions=sessions, limits=limits)


def universe_of(store: Warehouse) -> pl.DataFrame:
    """The universe in the order in which its sectors count."""
    return store.read("universe").sort("ticker", "from_session")
