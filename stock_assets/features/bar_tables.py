"""What the features room keeps at an interval below a day. Loaded where bars are made, and never at 1d."""

import polars as pl

from stock_assets.features.bar_features import BAR_FEATURES
from stock_assets.tables import BAR_KEY_COLUMNS, UTC_TIME, Column, Table, declare

BAR_LABELS = declare(
    Table(
        "bar_labels",
        "features",
        "what the next bars did: return, direction, and the barrier that was touched first",
        (
            *BAR_KEY_COLUMNS,
            Column(
                "known_at", UTC_TIME, "the end of the bar at which the row became known; null until then", unit="UTC"
            ),
            Column(
                "future_return",
                pl.Float64(),
                "close of the last bar of the horizon / close - 1; null until it is known",
                unit="fraction",
                made_from=(("bars", "close"),),
            ),
            Column("direction", pl.Int8(), "sign of future_return: -1, 0 or 1; null until it is known"),
            Column(
                "label",
                pl.Int8(),
                "buy (1), sell (-1) or hold (0): the barrier that a close touches first; null until it is known",
                made_from=(("bars", "close"),),
            ),
        ),
        keys=("ticker", "session", "bar_end"),
        partitions="session",
        exists="bar",
    )
)

BAR_FEATURE_TABLE = declare(
    Table(
        "bar_features",
        "features",
        "the inputs of the models at the end of a bar, and the moving means that people look at",
        (
            *BAR_KEY_COLUMNS,
            *BAR_FEATURES,
            Column("fetched_at", UTC_TIME, "when the version of its bar was fetched", unit="UTC"),
        ),
        keys=("ticker", "session", "bar_end"),
        partitions="session",
        exists="bar",
    )
)
