"""What the lifecycle room keeps at an interval below a day. Loaded where bars are made, and never at 1d."""

import polars as pl

from stock_assets.tables import SESSION, Column, Table, declare

BAR_SESSIONS = declare(
    Table(
        "bar_sessions",
        "lifecycle",
        "how good the champion was in a session that is over, beside the best naive model, and how far inputs moved",
        (
            SESSION,
            Column("version", pl.String(), "the version of the model in service that predicted the session"),
            Column("rows", pl.Int64(), "bars of the session with a label, as far as labels are known"),
            Column("log_loss", pl.Float64(), "of the champion; null without a label", unit="nats"),
            Column("naive", pl.String(), "the naive model of the lowest log-loss over the 20 sessions to this one"),
            Column("naive_log_loss", pl.Float64(), "its log-loss in the session", unit="nats"),
            Column(
                "input_drift", pl.Float64(), "the 90 % quantile of the KS distances of the inputs; null without any"
            ),
        ),
        keys=("session",),
        history=True,
        exists="bar",
    )
)
