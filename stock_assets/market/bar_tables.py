"""What the market room keeps at an interval below a day. Loaded where bars are made, and never at 1d."""

import polars as pl

from stock_assets.tables import BAR_KEY_COLUMNS, KEY_COLUMNS, SESSION, UTC_TIME, Column, Table, declare

_FIGURES = ("open", "high", "low", "close", "volume")

RAW_BARS = declare(
    Table(
        "raw_bars",
        "market",
        "every version of a finished bar as the vendor stated it, and when it was fetched; append-only",
        (
            *BAR_KEY_COLUMNS,
            Column("open", pl.Float64(), "first price"),
            Column("high", pl.Float64(), "highest price"),
            Column("low", pl.Float64(), "lowest price"),
            Column("close", pl.Float64(), "last price"),
            Column("volume", pl.Float64(), "what was traded, in units of the ticker"),
            Column("source", pl.String(), "the name of the source, as STOCK_ASSETS_SOURCE spells it"),
            Column("fetched_at", UTC_TIME, "when the source was asked", unit="UTC"),
        ),
        keys=("ticker", "session", "bar_end", "fetched_at"),
        partitions="session",
        exists="bar",
    )
)

BARS = declare(
    Table(
        "bars",
        "market",
        "the one clean bar: the version fetched last, and why it is suspect, if it is",
        (
            *BAR_KEY_COLUMNS,
            Column("open", pl.Float64(), "first price", made_from=(("raw_bars", "open"),)),
            Column("high", pl.Float64(), "highest price", made_from=(("raw_bars", "high"),)),
            Column("low", pl.Float64(), "lowest price", made_from=(("raw_bars", "low"),)),
            Column("close", pl.Float64(), "last price", made_from=(("raw_bars", "close"),)),
            Column(
                "volume", pl.Float64(), "what was traded, in units of the ticker", made_from=(("raw_bars", "volume"),)
            ),
            Column(
                "suspect",
                pl.String(),
                "why the row neither trains nor scores; null for a trusted bar",
                made_from=tuple(("raw_bars", figure) for figure in _FIGURES),
            ),
            Column("fetched_at", UTC_TIME, "when that version was fetched: its row of raw_bars", unit="UTC"),
        ),
        keys=("ticker", "session", "bar_end"),
        partitions="session",
        exists="bar",
    )
)

BAR_GAPS = declare(
    Table(
        "bar_gaps",
        "market",
        "a stretch of a session in which a ticker has no bar, and why",
        (
            *KEY_COLUMNS,
            Column("first", UTC_TIME, "the end of the first bar that is missing", unit="UTC"),
            Column("last", UTC_TIME, "the end of the last one", unit="UTC"),
            Column("bars", pl.Int64(), "bars that are missing"),
            Column(
                "outcome",
                pl.String(),
                "outage (no ticker has the bar), not_listed, delisted, limit (the vendor has no bars so old), unknown "
                "(to the vendor), error, or no_bar (the ticker alone has none)",
            ),
            Column("reason", pl.String(), "what was seen, or the vendor's own words"),
        ),
        keys=("ticker", "session", "first"),
        history=True,
        exists="bar",
    )
)

BAR_REQUESTS = declare(
    Table(
        "bar_requests",
        "market",
        "when the vendor was asked last for the bars of a session, also where nothing was new",
        (SESSION, Column("asked_at", UTC_TIME, "when the source was asked", unit="UTC")),
        keys=("session",),
        history=True,
        exists="bar",
    )
)

BAR_SPLITS = declare(
    Table(
        "bar_splits",
        "market",
        "a split that the vendor stated and takes out of its bars before it: those that were fetched earlier are at "
        "another basis",
        (
            *KEY_COLUMNS,
            Column("ratio", pl.Float64(), "new shares per old one"),
            Column("seen_at", UTC_TIME, "when the source was asked that stated it first", unit="UTC"),
        ),
        keys=("ticker", "session"),
        history=True,
        exists="bar",
    )
)

BAR_INTERVAL = declare(
    Table(
        "bar_interval",
        "market",
        "the interval of the bars of this store, which has one",
        (Column("interval", pl.String(), "as STOCK_ASSETS_INTERVAL spells it"),),
        keys=("interval",),
        history=True,
        exists="bar",
    )
)

#: A version of a bar as a source states it, without the moment at which it was asked.
SOURCE_BAR_SCHEMA = pl.Schema({name: dtype for name, dtype in RAW_BARS.schema.items() if name != "fetched_at"})
