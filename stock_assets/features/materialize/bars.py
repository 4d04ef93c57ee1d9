"""The steps `bar_features` and `bar_labels`: what models of bars read, and what the next bars did.

A step makes what is new. The rows of a bar that came, came late or changed are made again from that bar to the end of
the sessions, since later rows look back at it; a look at the running session therefore reads the look-back alone.
"""

from collections.abc import Sequence
from datetime import date, datetime
from typing import NamedTuple

import polars as pl

from stock_assets.features.bar_features import LOOKBACK_BARS, TRAILING, bar_features
from stock_assets.features.bar_labels import BarLabelRule, bar_labels
from stock_assets.features.bar_tables import BAR_FEATURE_TABLE, BAR_LABELS
from stock_assets.frames import BAR_KEYS, RowSummary, differing
from stock_assets.market.bar_tables import BARS
from stock_assets.market.calendar import TradingCalendar, calendar_of
from stock_assets.market.intervals import Interval, expected_bars, lookback_start
from stock_assets.settings import Settings
from stock_assets.storage.changes import Change
from stock_assets.storage.ranges import blocks_of
from stock_assets.storage.warehouse import Warehouse
from stock_assets.tables import Table

#: Rows that are made and written at once.
BLOCK_ROWS = 300_000
_VERSION = [*BAR_KEYS, "fetched_at"]


class MadeBarRows(NamedTuple):
    """What a step stored."""

    rows: RowSummary
    """the rows that are new or were made again"""
    since: datetime | None
    """the end of the first bar that was made; None where nothing was new"""


def make_bar_features(store: Warehouse, settings: Settings, sessions: Sequence[date]) -> MadeBarRows:
    """Makes what is new of `bar_features` of `sessions` (ascending).

    Raises MissingSessionsError where `bars` lack one of the sessions, or one that the look-back reaches.
    """
    calendar, interval = calendar_of(settings), Interval.parse(settings.interval)
    summary, first_made = RowSummary(), None
    for part in _parts(store, sessions):
        bars, stored_versions = (_versions(store, table, part) for table in (BARS, BAR_FEATURE_TABLE))
        since = first_difference(bars, stored_versions)
        if since is None:
            store.require(["bars"], part, "bar_features")
            store.write([Change("bar_features", BAR_FEATURE_TABLE.empty(), makes=part)])
            continue
        first, start = lookback_start(calendar, interval, since, bars=LOOKBACK_BARS)
        read_sessions = calendar.between(first, part[-1])
        store.require(["raw_bars", "bars"], read_sessions, "bar_features")
        rows = BARS.fit(store.read("bars", first, part[-1])).filter(pl.col("bar_end") >= start)
        features = bar_features(
            rows,
            part[0],
            interval_minutes=interval.minutes,
            time_zone=calendar.local_zone,
            expected=expected_bars(calendar, read_sessions, interval).filter(pl.col("bar_end") >= start),
        ).filter(pl.col("bar_end") >= since)
        features = features.join(rows.select(_VERSION), on=BAR_KEYS, how="left", maintain_order="left")
        replaced_keys = stored_versions.filter(pl.col("bar_end") >= since).select(BAR_KEYS)
        store.write([Change("bar_features", features, replaced_keys if replaced_keys.height else None, makes=part)])
        summary.add(features)
        first_made = first_made or since
    return MadeBarRows(summary, first_made)


def make_bar_labels(store: Warehouse, settings: Settings, sessions: Sequence[date]) -> MadeBarRows:
    """Makes `bar_labels` of `sessions` (ascending) as far as they are known, and completes those of the session before.

    Labels are late: the last ones of a session on a market that never closes are known with the bars of the next one.
    Raises MissingSessionsError where `bars` lack one of the sessions, or one before them that a label looks at.
    """
    calendar, interval = calendar_of(settings), Interval.parse(settings.interval)
    rule = bar_label_rule(settings)
    summary, first_made = RowSummary(), None
    for part in _parts(store, sessions):
        label_sessions = [*calendar.before(part[0], 1), *part]
        first, start = lookback_start(
            calendar, interval, expected_bars(calendar, label_sessions[:1], interval)["bar_end"][0], bars=TRAILING
        )
        read_sessions = calendar.between(first, part[-1])
        store.require(["raw_bars", "bars"], read_sessions, "bar_labels")
        bars = BARS.fit(store.read_or(BARS.empty(), "bars", first, last=_after(calendar, part[-1])))
        ahead = calendar.between(first, _after(calendar, part[-1]))
        labels = bar_labels(
            bars.filter(pl.col("bar_end") >= start),
            rule,
            interval_minutes=interval.minutes,
            expected=expected_bars(calendar, ahead, interval).filter(pl.col("bar_end") >= start),
        )
        labels = BAR_LABELS.fit(labels.filter(pl.col("session").is_in(label_sessions)))
        stored_labels = BAR_LABELS.fit(
            store.read_or(BAR_LABELS.empty(), "bar_labels", label_sessions[0], last=part[-1])
        )
        changed_labels, replaced_keys = differing(stored_labels, labels, BAR_KEYS)
        store.write([Change("bar_labels", changed_labels, replaced_keys if replaced_keys.height else None, makes=part)])
        summary.add(labels.filter(pl.col("session").is_in(part)))
        first_made = first_made or changed_labels["bar_end"].min()
    return MadeBarRows(summary, first_made)  # pyright: ignore[reportArgumentType]: a moment


def bar_label_rule(settings: Settings) -> BarLabelRule:
    """The rule of the labels of bars."""
    return BarLabelRule(settings.horizon, settings.barrier_width)


def first_difference(rows: pl.DataFrame, stored_rows: pl.DataFrame) -> datetime | None:
    """The end of the first bar that one of two frames of the same keys and versions has and the other has not."""
    if stored_rows.is_empty() and rows.is_empty():
        return None
    new, lost_rows = differing(stored_rows, rows, BAR_KEYS)
    return pl.concat([new["bar_end"], lost_rows["bar_end"]]).min()  # pyright: ignore[reportReturnType]


def _parts(store: Warehouse, sessions: Sequence[date]) -> list[list[date]]:
    counts = store.rows_by("bars", "session", sessions[0], last=sessions[-1])
    return blocks_of([(day, counts.get(day, 0)) for day in sessions], BLOCK_ROWS)


def _versions(store: Warehouse, table: Table, sessions: Sequence[date]) -> pl.DataFrame:
    """BAR_KEYS and fetched_at of the rows of `table`."""
    empty = table.empty().select(_VERSION)
    rows = store.read_or(empty, table.name, sessions[0], last=sessions[-1], columns=_VERSION)
    return rows.cast(dict(empty.schema)).filter(pl.col("session").is_in(list(sessions)))  # pyright: ignore[reportArgumentType]


def _after(calendar: TradingCalendar, session: date) -> date:
    return calendar.shift(session, 1) or session
