"""The table `daily_bars`: the one clean bar of every ticker and session."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from itertools import repeat
from typing import NamedTuple

import polars as pl

from stock_assets.market import adjustments, quality
from stock_assets.market.calendar import TradingCalendar, calendar_of
from stock_assets.market.checks import BarSummary
from stock_assets.market.materialize.quarantine import doubts_of, new_in_quarantine
from stock_assets.market.renames import all_under_newest_name, companies, continued
from stock_assets.market.requests import LOOK_AGAIN
from stock_assets.market.tables import BAR_SCHEMA, RAW_SCHEMA
from stock_assets.settings import Settings
from stock_assets.storage.changes import Change
from stock_assets.storage.ranges import (
    blocks_of,
    blocks_of_sessions,
    in_the_place_of,
    rows_of_groups,
    rows_within,
    too_long,
)
from stock_assets.storage.scratch import scratch
from stock_assets.storage.warehouse import Warehouse

#: Columns that are in memory while one of a bar is made.
_WORK = 4


class CleanedBars(NamedTuple):
    """The clean bars of some sessions, and what was found on the way."""

    bars: BarSummary
    """of the asked sessions"""
    findings: pl.DataFrame
    """all of these sessions (`QUARANTINE_SCHEMA` without seen_at), also those that were known"""
    restated: int
    """figures that changed since they were stored"""


def clean_daily_bars(store: Warehouse, settings: Settings, sessions: Sequence[date], *, now: datetime) -> CleanedBars:
    """Makes the bars of `sessions` (ascending) of the newest versions of raw_ohlcv, in the place of those stored.

    Restated figures and new findings are appended, and earlier provisional bars that a later fetch confirms are marked
    as settled, all in one transaction. A range that does not fit into memory is made some companies at a time.

    Raises MissingSessionsError where raw_ohlcv lacks a session of the look-back.
    """
    calendar = calendar_of(settings)
    lookback = calendar.before(sessions[0], quality.LOOKBACK_SESSIONS)
    purpose = f"{quality.LOOKBACK_SESSIONS} sessions of look-back"
    store.require(["raw_ohlcv"], [*lookback, *sessions], "daily_bars", why=purpose)
    cleaning = _Cleaning(store, calendar, store.read("universe"), (*lookback, *sessions), sessions, now)
    columns = len(BAR_SCHEMA)
    if not too_long(store, "raw_ohlcv", sessions, columns=columns):
        raw = store.read("raw_ohlcv", cleaning.read_sessions[0], sessions[-1])
        until_last = adjustments.traded_sessions(raw, calendar.between(calendar.sessions[0], sessions[-1]))
        return cleaning.write(None, [cleaning.bars_of(raw, until_last, stored_bars=None)], raw)
    blocks = blocks_of_sessions(store, "raw_ohlcv", sessions, columns=columns)
    with scratch(store.path, blocks) as scratch_bars:
        parts = []
        for part in cleaning.by_company(columns):
            scratch_bars.add(part.bars)
            parts.append(part._replace(bars=part.bars.clear()))
        week = calendar.before(sessions[0], LOOK_AGAIN)
        raw = store.read("raw_ohlcv", week[0], week[-1]) if week else RAW_SCHEMA.to_frame()
        return cleaning.write(scratch_bars.each("daily_bars", blocks), parts, raw)


class _Made(NamedTuple):
    bars: pl.DataFrame
    findings: pl.DataFrame
    restated: pl.DataFrame


@dataclass(frozen=True)
class _Cleaning:
    """One making of daily_bars."""

    store: Warehouse
    calendar: TradingCalendar
    universe: pl.DataFrame
    read_sessions: Sequence[date]
    sessions: Sequence[date]
    now: datetime

    def by_company(self, columns: int) -> Iterator[_Made]:
        """The bars of some companies at a time, as many as a block holds with so many columns."""
        store, first, last = self.store, self.read_sessions[0], self.sessions[-1]
        days = self.calendar.between(self.calendar.sessions[0], last)
        until_last = adjustments.traded_on(_traded(store, first, last), days)
        counts = store.rows_by("raw_ohlcv", "ticker", first, last=last)
        stored_counts = store.rows_by("daily_bars", "ticker", self.sessions[0], last=last)
        made_sessions = store.rows_by("daily_bars", "session", self.sessions[0], last=last)
        names = companies({*counts, *stored_counts})
        sizes = ((group, sum(counts.get(ticker, 0) for ticker in group)) for group in names)
        blocks = blocks_of(sizes, rows_within(store.memory.block, _WORK * columns))
        groups = [[ticker for group in block for ticker in group] for block in blocks]
        raw = rows_of_groups(store, "raw_ohlcv", groups, first=first, last=last)
        stored_blocks = rows_of_groups(store, "daily_bars", groups, first=self.sessions[0], last=last)
        for rows, before in zip(raw, stored_blocks if stored_counts else repeat(BAR_SCHEMA.to_frame()), strict=False):
            yield self.bars_of(rows, until_last, stored_bars=before, made_sessions=made_sessions)

    def bars_of(
        self,
        raw: pl.DataFrame,
        until_last: Sequence[date],
        *,
        stored_bars: pl.DataFrame | None,
        made_sessions: Collection[date] | None = None,
    ) -> _Made:
        """The bars of `raw`, of all tickers or of some companies; then `stored_bars` are their bars before, and
        `made_sessions` the sessions that any ticker had one of."""
        clean_and_findings = adjustments.clean_bars_and_findings(
            continued(raw, self.universe),
            self.universe,
            until_last,
            closes=self.calendar.closes,
            doubts=doubts_of(self.store, self.sessions[0], self.sessions[-1]),
        )
        bars, findings = (frame.filter(pl.col("session").is_in(list(self.sessions))) for frame in clean_and_findings)
        before = _stored_bars(self.store, self.sessions, bars) if stored_bars is None else stored_bars
        before = before.filter(pl.col("session").is_in(list(self.sessions)))
        return _Made(bars, findings, adjustments.restatements(before, bars, self.now, made_sessions=made_sessions))

    def write(self, blocks: Iterable[pl.DataFrame] | None, parts: Sequence[_Made], raw: pl.DataFrame) -> CleanedBars:
        """Stores the bars in `blocks` of whole sessions, or of the one part where it is None, and what was found."""
        findings, restatements = (
            pl.concat([getattr(part, name) for part in parts]) for name in ("findings", "restated")
        )
        settled_bars = _settled_bars(self.store, self.calendar, raw, universe=self.universe, first=self.sessions[0])
        new_rows = {"restatements": restatements, "quarantine": new_in_quarantine(self.store, findings, self.now)}
        changes = [Change(table, rows) for table, rows in new_rows.items() if rows.height]
        if settled_bars.height:
            changes.append(Change("daily_bars", settled_bars, settled_bars.select("ticker", "session")))
        summary, replacement = BarSummary(universe=self.universe), in_the_place_of("daily_bars", self.sessions)
        if blocks is None:
            summary.add(parts[0].bars)
            self.store.write([replace(replacement, rows=parts[0].bars), *changes])
        else:
            self.store.write_in_blocks(replacement, summary.of_each(blocks), beside=changes)
        return CleanedBars(summary, findings, restatements.height)


def _traded(store: Warehouse, first: date, last: date) -> set[date]:
    """The sessions of which raw_ohlcv has a bar with possible figures (`repair.impossible`)."""
    possible = " AND ".join(f"isfinite({name}) AND {name} > 0" for name in ("open", "high", "low", "close"))
    rows = store.read_sql(
        "raw_ohlcv",
        f"""SELECT DISTINCT session FROM market.raw_ohlcv WHERE session BETWEEN ? AND ? AND {possible}
        AND isfinite(volume) AND volume >= 0
        AND (split_ratio IS NOT NULL OR (isfinite(adj_close) AND adj_close > 0))""",
        [first, last],
    )
    return set(rows["session"])


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
    rows = store.read_or(like.clear(), "daily_bars", sessions[0], last=sessions[-1])
    return rows.filter(pl.col("session").is_in(sessions))
