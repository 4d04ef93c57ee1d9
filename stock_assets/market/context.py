"""Context series: an index, a fund that holds it and a volatility index, which are no stocks of the universe."""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from types import MappingProxyType
from typing import NamedTuple

import polars as pl

from stock_assets.market.bars import UTC_TIME
from stock_assets.market.calendar import TradingCalendar
from stock_assets.market.sources.answers import check_values, in_order
from stock_assets.settings import CONTEXT_SERIES

VOLATILITY, INDEX, FUND = SERIES = CONTEXT_SERIES

#: One bar of a series and session. `total_return` (fraction) is that of the adjusted closes of two sessions of one
#: answer: of a fund with its dividends, of an index without; null on the first bar that the source has.
CONTEXT_SCHEMA = pl.Schema(
    {
        "series": pl.String,
        "session": pl.Date,
        **dict.fromkeys(("open", "high", "low", "close", "total_return"), pl.Float64),
        "source": pl.String,
        "fetched_at": UTC_TIME,
    }
)


class Context(NamedTuple):
    """What a source says of its series."""

    rows: pl.DataFrame
    """`CONTEXT_SCHEMA`, sorted by series and session"""
    off_session: dict[str, int]
    """Rows of each series that were left out, since the exchange was closed: ^VIX is quoted on some holidays."""
    failures: Mapping[str, str] = MappingProxyType({})
    """Why there is no answer for a series."""


def is_index(ticker: pl.Expr) -> pl.Expr:
    """Whether a ticker names an index, which nobody can buy: Yahoo's begin with ^."""
    return ticker.str.starts_with("^").fill_null(value=False)


def context_of(
    bars: pl.DataFrame, calendar: TradingCalendar, first: date, last: date, source: str, fetched_at: datetime
) -> Context:
    """The sessions from `first` to `last`, and to the day of `fetched_at` (UTC), among `bars` (`answers.BARS`).

    `bars` holds one ticker per series and begins before `first` where the source does; volumes may be null. Raises
    SourceError for a price that is none and for a session that comes twice.
    """
    known = min(last, fetched_at.astimezone(UTC).date())
    bars = bars.with_columns(pl.col("volume").fill_null(0.0))
    check_values(bars)
    sessions = pl.Series(calendar.sessions, dtype=pl.Date)
    asked = pl.col("session").is_between(max(first, sessions[0]), known)
    on_session = pl.col("session").is_in(sessions.implode())
    off = bars.filter(asked & ~on_session & (pl.col("session") <= sessions[-1])).group_by("ticker").len()
    rows = (
        in_order(bars.filter(on_session | (pl.col("session") < sessions[0])))
        .with_columns(total_return=pl.col("adj_close") / pl.col("adj_close").shift().over("ticker") - 1)
        .filter(asked)
        .with_columns(
            series="ticker", source=pl.lit(source), fetched_at=pl.lit(fetched_at.astimezone(UTC)).cast(UTC_TIME)
        )
        .select(CONTEXT_SCHEMA.names())
    )
    return Context(rows, dict(off.sort("ticker").iter_rows()))
