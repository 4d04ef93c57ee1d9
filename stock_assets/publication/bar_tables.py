"""What the publication room keeps at an interval below a day. Loaded where bars are made, and never at 1d."""

import polars as pl

from stock_assets.tables import BAR_KEY_COLUMNS, UTC_TIME, Column, Table, declare

BAR_PUBLICATION = declare(
    Table(
        "bar_publication",
        "publication",
        "when the predictions at the end of a bar were published, and in which file; what was said first stays",
        (
            *BAR_KEY_COLUMNS,
            Column("digest", pl.String(), "the file's name: the first 12 hexadecimal digits of its SHA-256"),
            Column("published_at", UTC_TIME, "when the file was written", unit="UTC"),
        ),
        keys=("ticker", "session", "bar_end"),
        partitions="session",
        exists="bar",
    )
)
