"""What the model room keeps at an interval below a day. Loaded where bars are made, and never at 1d."""

import polars as pl

from stock_assets.tables import BAR_KEY_COLUMNS, SESSION, UTC_TIME, Column, Table, declare

TRAINED_BAR_MODELS = declare(
    Table(
        "trained_bar_models",
        "model",
        "the version of a model of bars that serves a session",
        (
            SESSION,
            Column("model", pl.String(), "the model, an entry of model.bar_models"),
            Column("role", pl.String(), "champion, naive or reference"),
            Column("version", pl.String(), "model, cutoff and a hash of the weights"),
            Column("cutoff", UTC_TIME, "no label that became known later was used", unit="UTC"),
            Column("trained_at", UTC_TIME, "when it was trained", unit="UTC"),
            Column("training_rows", pl.Int64(), "labels learned from, after the purge"),
            Column(
                "artifact", pl.String(), "folder of the weights below the artifacts folder; null once they are removed"
            ),
        ),
        keys=("session", "model"),
        partitions="session",
        exists="bar",
    )
)

BAR_PREDICTIONS = declare(
    Table(
        "bar_predictions",
        "model",
        "probabilities and expected return at the end of a bar, of a model trained before its session",
        (
            Column("model", pl.String(), "a model of trained_bar_models"),
            Column("model_version", pl.String(), "the version that made the row"),
            Column("trained_through", UTC_TIME, "the cutoff of that version; always before the session", unit="UTC"),
            *BAR_KEY_COLUMNS,
            Column(
                "expected_return", pl.Float64(), "of the horizon; null where the model states none", unit="fraction"
            ),
            Column("p_sell", pl.Float64(), "probability that the lower barrier is touched first"),
            Column("p_hold", pl.Float64(), "probability that neither is touched"),
            Column("p_buy", pl.Float64(), "probability that the upper barrier is touched first"),
            Column("score", pl.Float64(), "p_buy - p_sell"),
            Column("fetched_at", UTC_TIME, "when the version of its bar was fetched", unit="UTC"),
        ),
        keys=("model", "ticker", "session", "bar_end"),
        partitions="session",
        exists="bar",
    )
)
