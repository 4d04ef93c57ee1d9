"""What the features room keeps at an interval below a day. Loaded where bars are made, and never at 1d."""

from stock_assets.features.bar_features import BAR_FEATURES
from stock_assets.features.bar_labels import BAR_LABELS
from stock_assets.tables import BAR_KEY_COLUMNS, UTC_TIME, Column, Table, declare

_FETCHED_AT = Column(
    "fetched_at", UTC_TIME, "when the version of its bar was fetched", unit="UTC", made_from=(("bars", "fetched_at"),)
)

BAR_FEATURE_TABLE = declare(
    Table(
        "bar_features",
        "features",
        "the inputs of the models at the end of a bar, and the moving means that people look at",
        (*BAR_KEY_COLUMNS, *BAR_FEATURES, _FETCHED_AT),
        keys=("ticker", "session", "bar_end"),
        partitions="session",
        exists="bar",
    )
)

BAR_LABEL_TABLE = declare(
    Table(
        "bar_labels",
        "features",
        "what the next bars did: return, direction, and the barrier that was passed first; null until it is known",
        (*BAR_KEY_COLUMNS, *BAR_LABELS),
        keys=("ticker", "session", "bar_end"),
        partitions="session",
        exists="bar",
    )
)
