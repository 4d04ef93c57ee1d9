"""Raw answers made by hand, for the tests of the market room."""

from collections.abc import Sequence
from datetime import UTC, date, datetime

import polars as pl

from stock_assets.market.tables import RAW_SCHEMA, UNIVERSE_SCHEMA

FETCHED = datetime(2030, 1, 1, tzinfo=UTC)


def raw_answer(sessions: Sequence[date], closes: Sequence[float], ticker: str = "A", **columns: object) -> pl.DataFrame:
    """A plain answer of one ticker, with `columns` (a value or one per session) in place of the plain ones."""
    plain: dict[str, object] = {
        "ticker": ticker,
        "session": list(sessions),
        "open": list(closes),
        "high": [close * 1.01 for close in closes],
        "low": [close * 0.99 for close in closes],
        "close": list(closes),
        "adj_close": list(closes),
        "volume": 1e6,
        "dividend": 0.0,
        "split_ratio": 1.0,
        "later_splits": 1.0,
        "previous_adj_close": [None, *closes[:-1]],
        "source": "test",
        "fetched_at": FETCHED,
    }
    return pl.DataFrame(plain | columns, schema_overrides=dict(RAW_SCHEMA)).select(RAW_SCHEMA.names())


def universe_of(raw: pl.DataFrame) -> pl.DataFrame:
    """Every ticker of `raw`, a member from its first bar on."""
    return (
        raw.group_by("ticker")
        .agg(from_session=pl.col("session").min())
        .select(
            "ticker",
            name=pl.col("ticker"),
            sector=pl.lit(None, pl.String),
            from_session="from_session",
            to_session=pl.lit(None, pl.Date),
        )
        .cast(dict(UNIVERSE_SCHEMA))
    )
