"""The table `daily_bars`: the one clean bar of every ticker and session."""

from collections.abc import Sequence
from datetime import date, datetime
from typing import NamedTuple

import polars as pl

from stock_assets.market import adjustments, quality
from stock_assets.market.calendar import TradingCalendar, calendar_of
from stock_assets.market.materialize.quarantine import doubts_of, new_in_quarantine
from stock_assets.market.renames import all_under_newest_name, continued
from stock_assets.market.requests import LOOK_AGAIN
from stock_assets.market.tables import BAR_SCHEMA
from stock_assets.settings import Settings
from stock_assets.storage.changes import Change
from stock_assets.storage.warehouse import Warehouse


class CleanedBars(NamedTuple):
    """The clean bars of some sessions, and what was found on the way."""

    bars: pl.DataFrame
    """of the asked sessions (`BAR_SCHEMA`)"""
    universe: pl.DataFrame
    """`UNIVERSE_SCHEMA`"""
    findings: pl.DataFrame
    """all of these sessions (`QUARANTINE_SCHEMA` without seen_at), also those that were known"""
    restated: int
    """figures that changed since they were stored"""


def clean_daily_bars(store: Warehouse, settings: Settings, sessions: Sequence[date], *, now: datetime) -> CleanedBars:
    """Makes the bars of `sessions` (ascending) of the newest versions of raw_ohlcv, in the place of those stored.

    Restated figures and new findings are appended, and earlier provisional bars that a later fetch confirms are marked
    as settled, all in one transaction.

    Raises MissingSessionsError where raw_ohlcv lacks a session of the look-back.
    """
    calendar = calendar_of(settings)
    lookback = calendar.before(sessions[0], quality.LOOKBACK_SESSIONS)
    why = f"{quality.LOOKBACK_SESSIONS} sessions of look-back"
    store.require(["raw_ohlcv"], [*lookback, *sessions], "daily_bars", why=why)
    raw = store.read("raw_ohlcv", (lookback or sessions)[0], sessions[-1])
    universe = store.read("universe")
    until_last = adjustments.traded_sessions(raw, calendar.between(calendar.sessions[0], sessions[-1]))
    both = adjustments.clean_bars_and_findings(
        continued(raw, universe),
        universe,
        until_last,
        closes=calendar.closes,
        doubts=doubts_of(store, sessions[0], sessions[-1]),
    )
    bars, findings = (frame.filter(pl.col("session").is_in(sessions)) for frame in both)
    restated = adjustments.restatements(_stored_bars(store, sessions, bars), bars, now)
    added = {"restatements": restated, "quarantine": new_in_quarantine(store, findings, now)}
    settled = _settled_bars(store, calendar, raw, universe=universe, first=sessions[0])
    replaced = pl.DataFrame({"session": sessions}, schema={"session": pl.Date})
    store.write(
        [
            Change("daily_bars", bars, replaced),
            *(Change(table, rows) for table, rows in added.items() if rows.height),
            *([Change("daily_bars", settled, settled.select("ticker", "session"))] if settled.height else []),
        ]
    )
    return CleanedBars(bars, universe, findings, restated.height)


def _settled_bars(
    store: Warehouse, calendar: TradingCalendar, raw: pl.DataFrame, *, universe: pl.DataFrame, first: date
) -> pl.DataFrame:
    """The provisional bars of the week before `first` that what was fetched since confirms, as they are from now on.

    A bar of a renamed ticker may be made of the vendor's answer under the old name and confirmed by the one under the
    new name: both are looked at.
    """
    sessions = calendar.before(first, LOOK_AGAIN)
    if not sessions:
        return BAR_SCHEMA.to_frame()
    bars = _stored_bars(store, sessions, BAR_SCHEMA.to_frame())
    if "provisional" not in bars.columns or not bars["provisional"].any():
        return BAR_SCHEMA.to_frame()
    versions = all_under_newest_name(raw.filter(pl.col("session").is_in(sessions)), universe)
    return adjustments.confirmed(bars, versions, calendar.closes)


def _stored_bars(store: Warehouse, sessions: Sequence[date], like: pl.DataFrame) -> pl.DataFrame:
    """The stored bars of `sessions`; no row of the columns of `like` before the first write."""
    stored = store.read_or(like.clear(), "daily_bars", sessions[0], last=sessions[-1])
    return stored.filter(pl.col("session").is_in(sessions))
