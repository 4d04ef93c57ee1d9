"""From the bars of a file to those of an interval that is as long or longer."""

from datetime import timedelta
from typing import NamedTuple

import polars as pl

from stock_assets.errors import SourceError
from stock_assets.market.bars_of_minutes import in_bars, traded
from stock_assets.market.calendar import TradingCalendar
from stock_assets.market.clocks import refuse_changed_clock
from stock_assets.market.coverage import bar_lengths, coverage, in_sessions, stamped_at_end
from stock_assets.market.intervals import Interval
from stock_assets.market.resample import (
    doubt_zone,
    faults_of,
    priced_minutes,
    refuse_many,
    refuse_times_of_ends,
    session_hours,
)

_BAR = ["ticker", "session", "bar_end"]


class IntervalBars(NamedTuple):
    """What the bars of a file make."""

    bars: pl.DataFrame
    """ticker, session, bar_end, open (the first), high, low, close (the last), volume (the sum), sorted"""
    held_out: pl.DataFrame
    """ticker, session, bar_end, reason: bars of which a row is none, or that hold trades from after the close"""


def interval_bars(
    minutes: pl.DataFrame, calendar: TradingCalendar, interval: Interval, *, place: str, zone_is_certain: bool = True
) -> IntervalBars:
    """The bars of `interval` that `minutes` make (ticker, at, open, high, low, close, volume; `at`, UTC, is when a row
    begins, and rows last as long as `coverage.bar_lengths` finds).

    Rows outside of the sessions are left out, and so are rows without a trade. A gap stays a gap. The first and the
    last bar of a ticker count where its rows reach their edges: what was traded before and after is not in the file.
    With `zone_is_certain` False the times may be those of the exchange's own zone.

    Raises SourceError, which names `place`, where rows last longer than the interval or reach from one bar into the
    next, where the times seem to be those at which rows end or another zone would fit better, and for too many faults.
    """
    rows = traded(priced_minutes(minutes, place))
    if not zone_is_certain:
        refuse_changed_clock(rows, place)
    hours = session_hours(calendar)
    lengths = bar_lengths(rows.select("ticker", "at").unique(maintain_order=True))
    if not zone_is_certain:
        doubt_zone(lengths, coverage(lengths, hours), calendar, place=place)
    refuse_times_of_ends(stamped_at_end(lengths, hours), place)
    _refuse_longer(lengths, interval, place)
    faults = faults_of(rows, in_sessions(lengths, hours).select("ticker", "at", "session"))
    refuse_many(faults, rows.height, place)
    placed_rows = in_bars(lengths, calendar, interval)
    _refuse_crossing(placed_rows, interval, calendar, place=place)
    held_out = pl.concat([_with_foreign_trades(placed_rows, lengths), _faulty(placed_rows, faults)]).unique(
        _BAR, keep="first"
    )
    first, last = pl.col("at") == pl.col("at").min().over("ticker"), pl.col("at") == pl.col("at").max().over("ticker")
    torn_bars = placed_rows.filter(
        (first & (pl.col("at") > pl.col("bar_begin"))) | (last & (pl.col("end") < pl.col("bar_end")))
    )
    bars = (
        rows.unique(["ticker", "at"], keep="first", maintain_order=True)
        .join(placed_rows.select("ticker", "at", "session", "bar_end"), on=["ticker", "at"])
        .join(held_out, on=_BAR, how="anti")
        .join(torn_bars, on=_BAR, how="anti")
        .sort("ticker", "at")
        .group_by(_BAR)
        .agg(
            pl.col("open").first(),
            pl.col("high").max(),
            pl.col("low").min(),
            pl.col("close").last(),
            pl.col("volume").sum(),
        )
    )
    return IntervalBars(bars.sort("ticker", "bar_end"), held_out.sort(_BAR))


def _refuse_longer(lengths: pl.DataFrame, interval: Interval, place: str) -> None:
    """SourceError where most rows of a ticker last longer than the interval, or do not divide it."""
    usual = lengths.group_by("ticker").agg(pl.col("length").median()).sort("ticker")
    microseconds = interval.length // timedelta(microseconds=1)
    odd_lengths = usual.filter(microseconds % pl.col("length").dt.total_microseconds() != 0)
    if odd_lengths.height:
        ticker, length = odd_lengths.row(0)
        raise SourceError(
            f"{place}, ticker {ticker}: found bars of {length.total_seconds() / 60:g} minutes, of which those of "
            f"STOCK_ASSETS_INTERVAL={interval.text} cannot be made; expected bars as long, or shorter ones that divide "
            "it, or a longer interval"
        )


def _refuse_crossing(placed_rows: pl.DataFrame, interval: Interval, calendar: TradingCalendar, *, place: str) -> None:
    """SourceError for a row that reaches from one bar into the next of its session."""
    crossing = placed_rows.filter(pl.col("end") > pl.col("bar_end"), pl.col("bar_end") < pl.col("stops"))
    if crossing.height:
        row = crossing.row(0, named=True)
        raise SourceError(
            f"{place}, ticker {row['ticker']}, session {row['session']}: found a bar from {row['at']:%H:%M:%S} to "
            f"{row['end']:%H:%M:%S} UTC, expected none that reaches over {row['bar_end']:%H:%M}, where a bar of "
            f"{interval.text} of {calendar.name} ends; expected finer bars, or another STOCK_ASSETS_INTERVAL"
        )


def _with_foreign_trades(placed_rows: pl.DataFrame, lengths: pl.DataFrame) -> pl.DataFrame:
    """The bars of which a row reaches over the close or into the rest at noon, of tickers that trade on at its end.

    They hold those trades too.
    """
    overrunning_rows = placed_rows.filter(pl.col("end") > pl.col("stops"))
    after = lengths.select("ticker", end="at")
    at = pl.col("at").dt.strftime("%H:%M")
    late_rows = overrunning_rows.join(after, on=["ticker", "end"], how="semi")
    return late_rows.select(*_BAR, reason=pl.format("a row of {} reaches over the close", at))


def _faulty(placed_rows: pl.DataFrame, faults: pl.DataFrame) -> pl.DataFrame:
    """The bars of which a row has a fault that is not repaired."""
    broken = faults.filter(~pl.col("repaired")).unique(["ticker", "at"], keep="first", maintain_order=True)
    return placed_rows.join(broken.select("ticker", "at", "fault"), on=["ticker", "at"]).select(*_BAR, reason="fault")
