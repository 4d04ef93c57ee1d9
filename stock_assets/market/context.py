"""The market context: an index, a fund that holds it and a volatility index, which are no stocks of the universe."""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from types import MappingProxyType
from typing import NamedTuple

import polars as pl

from stock_assets.errors import SourceError
from stock_assets.market.adjustments import SETTLING, figures_differ, utc
from stock_assets.market.calendar import TradingCalendar
from stock_assets.market.repair import impossible
from stock_assets.market.sources.answers import PRICES, check_values, in_order
from stock_assets.market.sources.row_checks import SHARE_OF_ROWS
from stock_assets.market.tables import CONTEXT_SCHEMA
from stock_assets.settings import CONTEXT_SERIES
from stock_assets.tables import UTC_TIME

VOLATILITY, INDEX, FUND = SERIES = CONTEXT_SERIES


class MarketContext(NamedTuple):
    """The answer of a source about its series."""

    rows: pl.DataFrame
    """`CONTEXT_SCHEMA`, sorted by series and session"""
    off_session: dict[str, int]
    """rows of each series that were left out, since the exchange was closed: ^VIX is quoted on some holidays"""
    failures: Mapping[str, str] = MappingProxyType({})
    """why there is no answer for a series"""


def is_index(ticker: pl.Expr) -> pl.Expr:
    """Whether a ticker names an index, which cannot be bought: Yahoo's begin with ^."""
    return ticker.str.starts_with("^").fill_null(value=False)


def _priced(bars: pl.DataFrame) -> pl.DataFrame:
    """The rows of `bars` whose prices are possible. Raises SourceError where too few of a series are."""
    faults = impossible()
    unpriced = pl.any_horizontal(*(faults[name] for name in ("open", "high", "low", "close", "adj_close")))
    counts = bars.group_by("ticker").agg(wrong=unpriced.sum(), rows=pl.len())
    if (broken := counts.filter(pl.col("wrong") > SHARE_OF_ROWS * pl.col("rows"))).height:
        row = bars.filter(unpriced, pl.col("ticker") == broken["ticker"][0]).row(0, named=True)
        column = next((name for name in PRICES if not (row[name] or 0) > 0), "close")
        raise SourceError(
            f"{row['place']}, ticker {row['ticker']}, session {row['session']}, column {column}: found {row[column]} "
            f"({broken['wrong'][0]} such rows of {broken['rows'][0]}), expected a finite price above 0"
        )
    return bars.filter(~unpriced)


def context_of(
    bars: pl.DataFrame, calendar: TradingCalendar, *, first: date, last: date, source: str, fetched_at: datetime
) -> MarketContext:
    """The sessions from `first` to `last`, and to the day of `fetched_at` (UTC), among `bars` (`answers.BARS`).

    `bars` holds one ticker per series and begins before `first` where the source does; volumes may be null. A row
    without a price is left out, and so is the same row once more. Raises SourceError for a session with two prices and
    for a series with more than a few impossible ones.
    """
    through = min(last, fetched_at.astimezone(UTC).date())
    bars = bars.with_columns(pl.col("volume").fill_null(0.0))
    check_values(bars)
    bars = _priced(bars).unique(maintain_order=True)
    sessions = pl.Series(calendar.sessions, dtype=pl.Date)
    in_request = pl.col("session").is_between(max(first, sessions[0]), through)
    on_session = pl.col("session").is_in(sessions.implode())
    off = bars.filter(in_request & ~on_session & (pl.col("session") <= sessions[-1])).group_by("ticker").len()
    rows = (
        in_order(bars.filter(on_session | (pl.col("session") < sessions[0])))
        .with_columns(total_return=pl.col("adj_close") / pl.col("adj_close").shift().over("ticker") - 1)
        .filter(in_request)
        .with_columns(
            series="ticker", source=pl.lit(source), fetched_at=pl.lit(fetched_at.astimezone(UTC)).cast(UTC_TIME)
        )
        .select(CONTEXT_SCHEMA.names())
    )
    return MarketContext(rows, dict(off.sort("ticker").iter_rows()))


def newest_context(rows: pl.DataFrame) -> pl.DataFrame:
    """The version of every (series, session) that was fetched last, sorted by both.

    `rows` are of the table context_series, whole or some columns of it: series, session and fetched_at at least.
    """
    return rows.sort(*_KEYS, "fetched_at").unique(_KEYS, keep="last", maintain_order=True)


def new_context_versions(stored_rows: pl.DataFrame, answered_rows: pl.DataFrame) -> pl.DataFrame:
    """The rows of `answered_rows` that are not in `stored_rows` (newest versions) or differ from them: what to append.

    Both are `CONTEXT_SCHEMA`. Figures that are apart by no more than a vendor's rounding are the same.
    """
    pairs = answered_rows.join(stored_rows, on=_KEYS, how="left", suffix="_before", maintain_order="left")
    return pairs.filter(_differs_from_before()).select(answered_rows.columns)


def changed_context(rows: pl.DataFrame, moment: datetime, bars_fetched: pl.DataFrame) -> pl.DataFrame:
    """series, session, sorted, of the bars that versions fetched after `moment` restate or add late.

    `rows` are versions (`CONTEXT_SCHEMA`). A bar is restated where it differs from the newest version of `moment`.
    It is late where there was none, although its session had been fetched by then: another series had a bar, or the
    shares had theirs more than `SETTLING` before; `bars_fetched` (session, first_fetched in UTC) holds since when.
    Other bars are new, and nothing was made of them.
    """
    rows = rows.with_columns(utc("fetched_at"))
    then = moment.astimezone(UTC)
    until = pl.col("fetched_at") <= then
    before, after = newest_context(rows.filter(until)), newest_context(rows.filter(~until))
    if before.is_empty():
        return after.select("series", "session").clear()
    pairs = (
        after.filter(pl.col("session") >= before["session"].min())
        .join(before, on=_KEYS, how="left", suffix="_before")
        .join(bars_fetched, on="session", how="left")
    )
    without_series = pl.col("session").is_in(before["session"].unique().implode())
    with_bars = (pl.col("first_fetched") <= then) & (pl.col("fetched_at") > pl.col("first_fetched") + SETTLING)
    had_been_fetched = pl.col("fetched_at_before").is_not_null() | without_series | with_bars.fill_null(value=False)
    return pairs.filter(_differs_from_before() & had_been_fetched).select("series", "session").sort("session", "series")


_KEYS = ["series", "session"]


def _differs_from_before() -> pl.Expr:
    """Whether a row says something else than its columns `…_before`, which are null where there was no row."""
    figures = ("open", "high", "low", "close")
    # growth, as a rounding of the adjusted closes is no share of a return near zero
    growth = pl.col("total_return") + 1, pl.col("total_return_before") + 1
    return (
        pl.col("fetched_at_before").is_null()
        | pl.col("source").ne_missing(pl.col("source_before"))
        | pl.any_horizontal(
            *(figures_differ(pl.col(name), pl.col(f"{name}_before")) for name in figures), figures_differ(*growth)
        )
    )
