"""What the market room keeps."""

import polars as pl

from stock_assets.tables import KEY_COLUMNS, SESSION, TICKER, UTC_TIME, Column, Table, declare

#: What a finding may be, and what follows from it.
FINDING_KINDS = {
    "no_price": "a price that is not positive and finite, or a volume below 0, of a bar or of a minute of it: the bar "
    "is held out",
    "minutes": "bars of minutes that do not cover the session (`found` minutes of `expected`): the bar is held out",
    "pause": "bars of minutes with `found` minutes without one, in which the ticker trades otherwise: a pause in its "
    "trading or a hole in the file; the bar stays",
    "no_session": "a row of a day on which the exchange was closed: held out",
    "repeated": "a second row of a session: one of two that are alike is kept, of others none",
    "unit": "prices a hundred times too high or too low: repaired, the bar is suspect",
    "split": "a split that the vendor has not applied to this price, or not listed: repaired; a jump that may be a "
    "split or a real move: it stays, and the bar is suspect",
    "dividend": "a dividend against the adjusted closes, the price or those before: repaired where `expected` is known",
    "adjustment": "an adjusted close that contradicts the dividend: it decides nothing; where the question is open the "
    "bar is suspect",
    "frozen": "nothing traded and nothing moved: the bar is suspect",
    "absurd_return": "a return that no corporate action explains: the bar is suspect",
    "ohlc": "open or close outside [low, high]: the bar is suspect",
}

UNIVERSE = declare(
    Table(
        "universe",
        "market",
        "which tickers were members when",
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
            Column("currency", pl.String(), "what the prices are quoted in, ISO 4217; null where unknown"),
        ),
        keys=("ticker", "from_session"),
        exists="both",
    )
)

RAW_OHLCV = declare(
    Table(
        "raw_ohlcv",
        "market",
        "every version of a bar as the vendor stated it, and when it was fetched; append-only",
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
            Column("source", pl.String(), "the name of the source, as STOCK_ASSETS_SOURCE spells it"),
            Column("fetched_at", UTC_TIME, "when the source was asked", unit="UTC"),
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
                f"what is wrong: {', '.join(FINDING_KINDS)}",
            ),
            Column("column", pl.String(), "the figure that is wrong"),
            Column("found", pl.Float64(), "the vendor's figure, as traded"),
            Column("expected", pl.Float64(), "the figure that its other figures imply; null where they imply none"),
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
            Column("reason", pl.String(), "what was seen, or the vendor's own words"),
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
        "every version of a bar of ^VIX, ^GSPC and SPY, where the source has them; append-only",
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
            Column("source", pl.String(), "the name of the source, as STOCK_ASSETS_SOURCE spells it"),
            Column("fetched_at", UTC_TIME, "when the source was asked", unit="UTC"),
        ),
        keys=("series", "session", "fetched_at"),
        partitions="session",
    )
)

#: One version of a bar, in the vendor's own basis, split-adjusted as of `fetched_at`. `later_splits` is the product of
#: every split after the bar and up to `fetched_at`: a price or a dividend times it, and a volume divided by it, is the
#: figure as traded. A source without corporate actions has null `dividend` and `split_ratio`, 1.0 `later_splits`, and
#: returns that follow from `previous_adj_close`, the adjusted close of the ticker's preceding bar *in the same answer*,
#: null for its first bar. `split_ratio` is 1.0 on ordinary days, 4.0 on the ex-date of a 4-for-1 split.
RAW_SCHEMA = RAW_OHLCV.schema
#: The one clean bar of a (ticker, session), as traded on that day. `total_return` is null on a ticker's first bar.
BAR_SCHEMA = DAILY_BARS.schema
RESTATEMENT_SCHEMA = RESTATEMENTS.schema
QUARANTINE_SCHEMA = QUARANTINE.schema
OUTCOME_SCHEMA = FETCH_OUTCOMES.schema
#: One version of a bar of a series. `total_return` is that of the adjusted closes of two sessions of one answer: of a
#: fund with its dividends, of an index without.
CONTEXT_SCHEMA = CONTEXT_SERIES.schema
#: A universe as a source states it: the currency follows from the settings.
UNIVERSE_SCHEMA = pl.Schema({name: dtype for name, dtype in UNIVERSE.schema.items() if name != "currency"})
