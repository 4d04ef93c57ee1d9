"""What the market room keeps."""

import polars as pl

from stock_assets.tables import KEY_COLUMNS, SESSION, TICKER, UTC_TIME, Column, Table, declare

UNIVERSE = declare(
    Table(
        "universe",
        "market",
        "who was a member when",
        (
            TICKER,
            Column("name", pl.String(), "the company, where the source knows it"),
            Column(
                "sector",
                pl.String(),
                "the sector, where the source knows it: simulated does, a snapshot may, yahoo does not",
            ),
            Column("from_session", pl.Date(), "the first session of the membership"),
            Column("to_session", pl.Date(), "the last session of the membership; null while it lasts"),
            Column("currency", pl.String(), "what the prices are quoted in, ISO 4217; null where nobody said"),
        ),
        keys=("ticker", "from_session"),
    )
)

RAW_OHLCV = declare(
    Table(
        "raw_ohlcv",
        "market",
        "what the vendor said, word for word, and when; append-only",
        (
            *KEY_COLUMNS,
            Column("open", pl.Float64(), "first price, in the vendor's basis (split-adjusted as of fetched_at)"),
            Column("high", pl.Float64(), "highest price, in the vendor's basis"),
            Column("low", pl.Float64(), "lowest price, in the vendor's basis"),
            Column("close", pl.Float64(), "last price, in the vendor's basis"),
            Column("adj_close", pl.Float64(), "close adjusted for splits and dividends, as of fetched_at"),
            Column("volume", pl.Float64(), "shares traded, in the vendor's basis"),
            Column(
                "dividend",
                pl.Float64(),
                "dividend on its ex-date, in the vendor's basis; null where the source has none",
            ),
            Column(
                "split_ratio",
                pl.Float64(),
                "new shares per old one on the ex-date, 1 on ordinary days; null where unknown",
            ),
            Column("later_splits", pl.Float64(), "product of the split ratios after the bar and up to fetched_at"),
            Column("previous_adj_close", pl.Float64(), "adjusted close of the preceding bar in the same answer"),
            Column("source", pl.String(), "who said it: simulated, snapshot or yahoo"),
            Column("fetched_at", UTC_TIME, "when it was said", unit="UTC"),
        ),
        keys=("ticker", "session", "fetched_at"),
        partitions="session",
    )
)

DAILY_BARS = declare(
    Table(
        "daily_bars",
        "market",
        "the one clean bar **as traded**, with its total return, which version it is made from, and why it is suspect, "
        "if it is",
        (
            *KEY_COLUMNS,
            Column(
                "open",
                pl.Float64(),
                "first price as traded, in the currency of the listing",
                made_from=(("raw_ohlcv", "open"), ("raw_ohlcv", "later_splits")),
            ),
            Column(
                "high",
                pl.Float64(),
                "highest price as traded",
                made_from=(("raw_ohlcv", "high"), ("raw_ohlcv", "later_splits")),
            ),
            Column(
                "low",
                pl.Float64(),
                "lowest price as traded",
                made_from=(("raw_ohlcv", "low"), ("raw_ohlcv", "later_splits")),
            ),
            Column(
                "close",
                pl.Float64(),
                "last price as traded",
                made_from=(("raw_ohlcv", "close"), ("raw_ohlcv", "later_splits")),
            ),
            Column(
                "volume",
                pl.Float64(),
                "shares traded on the day",
                made_from=(("raw_ohlcv", "volume"), ("raw_ohlcv", "later_splits")),
            ),
            Column(
                "dividend",
                pl.Float64(),
                "dividend per share on its ex-date, as paid",
                made_from=(("raw_ohlcv", "dividend"), ("raw_ohlcv", "later_splits")),
            ),
            Column(
                "split_ratio",
                pl.Float64(),
                "new shares per old one on the ex-date, 1 on ordinary days",
                made_from=(("raw_ohlcv", "split_ratio"),),
            ),
            Column(
                "total_return",
                pl.Float64(),
                "(close + dividend) * split_ratio / previous close - 1; no later event changes it",
                made_from=(
                    ("raw_ohlcv", "close"),
                    ("raw_ohlcv", "dividend"),
                    ("raw_ohlcv", "split_ratio"),
                    ("raw_ohlcv", "later_splits"),
                    ("raw_ohlcv", "adj_close"),
                    ("raw_ohlcv", "previous_adj_close"),
                ),
            ),
            Column(
                "is_member",
                pl.Boolean(),
                "whether the universe held the ticker on that session",
                made_from=(("universe", "from_session"), ("universe", "to_session")),
            ),
            Column(
                "suspect",
                pl.String(),
                "why the row neither trains nor scores; null for a trusted bar",
                made_from=(
                    ("raw_ohlcv", "open"),
                    ("raw_ohlcv", "high"),
                    ("raw_ohlcv", "low"),
                    ("raw_ohlcv", "close"),
                    ("raw_ohlcv", "volume"),
                ),
            ),
            Column(
                "provisional",
                pl.Boolean(),
                "whether the version it is made from was fetched before the vendor settled it",
            ),
            Column("fetched_at", UTC_TIME, "when that version was fetched, UTC: its row of raw_ohlcv"),
        ),
        keys=("ticker", "session"),
        partitions="session",
    )
)

RESTATEMENTS = declare(
    Table(
        "restatements",
        "market",
        "a figure of a stored bar that the vendor, or a bar before it, has changed since",
        (
            *KEY_COLUMNS,
            Column("column", pl.String(), "the figure of daily_bars that changed"),
            Column("before", pl.Float64(), "what was stored; null where there was no bar"),
            Column("after", pl.Float64(), "what is stored now; null where the bar is gone"),
            Column("seen_at", UTC_TIME, "when the platform saw it", unit="UTC"),
        ),
        keys=("ticker", "session", "column", "seen_at"),
        history=True,
    )
)

QUARANTINE = declare(
    Table(
        "quarantine",
        "market",
        "a figure of the vendor that other figures of the vendor contradict",
        (
            *KEY_COLUMNS,
            Column(
                "kind",
                pl.String(),
                "what is wrong: no_price, unit, split, dividend, adjustment, frozen, absurd_return, ohlc",
            ),
            Column("column", pl.String(), "the figure that is wrong"),
            Column("found", pl.Float64(), "what the vendor said, as traded"),
            Column("expected", pl.Float64(), "what its other figures say; null where they cannot tell"),
            Column("repaired", pl.Boolean(), "whether daily_bars holds the expected figure, or needs no such figure"),
            Column("seen_at", UTC_TIME, "when the platform saw it", unit="UTC"),
        ),
        keys=("ticker", "session", "kind", "column", "seen_at"),
        history=True,
    )
)

FETCH_OUTCOMES = declare(
    Table(
        "fetch_outcomes",
        "market",
        "why a ticker has no bar over a stretch of sessions",
        (
            TICKER,
            Column("first", pl.Date(), "the first session of a stretch without a bar"),
            Column("last", pl.Date(), "its last session"),
            Column("outcome", pl.String(), "not_listed, delisted, halted, holiday, unknown (to the vendor) or error"),
            Column("reason", pl.String(), "what was seen, or what the vendor said"),
            Column("fetched_at", UTC_TIME, "when the vendor was asked last", unit="UTC"),
        ),
        keys=("ticker", "first"),
        history=True,
    )
)

CONTEXT_SERIES = declare(
    Table(
        "context_series",
        "market",
        "^VIX, ^GSPC and SPY, where the source has them",
        (
            Column("series", pl.String(), "an index (^VIX, ^GSPC) or a fund that holds one (SPY)"),
            SESSION,
            Column("open", pl.Float64(), "first value, in the vendor's basis"),
            Column("high", pl.Float64(), "highest value"),
            Column("low", pl.Float64(), "lowest value"),
            Column("close", pl.Float64(), "last value; of ^VIX in percent a year"),
            Column(
                "total_return",
                pl.Float64(),
                "return since the session before, of a fund with its dividends, as a fraction; null on the first bar",
            ),
            Column("source", pl.String(), "who said it: simulated, snapshot or yahoo"),
            Column("fetched_at", UTC_TIME, "when it was said", unit="UTC"),
        ),
        keys=("series", "session"),
        partitions="session",
    )
)
