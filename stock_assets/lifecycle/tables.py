"""What the lifecycle room keeps."""

import polars as pl

from stock_assets.tables import SESSION, UTC_TIME, Column, Table, declare

DRIFT = declare(
    Table(
        "drift",
        "lifecycle",
        "how far the last month lies from the year up to the model's cutoff, per input and per probability",
        (
            SESSION,
            Column(
                "kind",
                pl.String(),
                "input: a column of stationary_features, below a day of bar_features; prediction: a probability of the "
                "model in service",
            ),
            Column("column", pl.String(), "the column whose recent rows are compared with the reference"),
            Column("psi", pl.Float64(), "population stability index over the deciles of the reference (Siddiqi 2006)"),
            Column("ks", pl.Float64(), "two-sample Kolmogorov-Smirnov distance, from 0 (alike) to 1"),
            Column("reference_through", pl.Date(), "the cutoff of the model in service, where the reference ends"),
        ),
        keys=("session", "kind", "column"),
        partitions="predicted session",
        exists="both",
    )
)

PROMOTIONS = declare(
    Table(
        "promotions",
        "lifecycle",
        "every verdict on a challenger, every rollback and every moved alias, with its reason",
        (
            Column("model", pl.String(), "the model"),
            Column("version", pl.String(), "the version that the decision is about"),
            Column("model_year", pl.Int32(), "the year that it serves; 1 below a day, where there are no model years"),
            Column("serves_from", pl.Date(), "the first session that the decision holds for"),
            Column("decided_at", UTC_TIME, "when it was decided", unit="UTC"),
            Column("outcome", pl.String(), "champion: it serves from then on; challenger: it does not"),
            Column(
                "kind", pl.String(), "judged on a window, rollback by a person, or alias: moved in the model registry"
            ),
            Column(
                "replaced", pl.String(), "the version that served before; of a challenger, the one it was compared with"
            ),
            Column("window_first", pl.Date(), "first session compared; null where nothing was, as below"),
            Column("window_last", pl.Date(), "last session compared"),
            Column("sessions", pl.Int64(), "sessions compared"),
            Column("rows", pl.Int64(), "predictions compared, those that both versions made and that have a label"),
            Column("improvement", pl.Float64(), "log-loss of the champion less that of the challenger", unit="nats"),
            Column("improvement_low", pl.Float64(), "lower end of its 95 % interval, paired day-block bootstrap"),
            Column("improvement_high", pl.Float64(), "upper end of its 95 % interval"),
            Column("margin", pl.Float64(), "the improvement that a promotion requires", unit="nats"),
            Column("reason", pl.String(), "why, in one sentence"),
        ),
        keys=("model", "version", "decided_at"),
        exists="both",
    )
)

RETRAINING_DECISIONS = declare(
    Table(
        "retraining_decisions",
        "lifecycle",
        "whether the model in service is trained again after a session, and why",
        (
            SESSION,
            Column("decided_at", UTC_TIME, "when it was decided", unit="UTC"),
            Column("retrain", pl.Boolean(), "whether a training was asked for"),
            Column("rule", pl.String(), "the rule that asked for it, or what forbade it"),
            Column("reason", pl.String(), "the figure and its limit, in one sentence"),
            Column("model_year", pl.Int32(), "the year of the next session"),
            Column("cutoff", pl.Date(), "the cutoff of the training that is asked for; null without one"),
            Column("facts", pl.String(), "every fact that the decision rests on, as JSON"),
        ),
        keys=("session",),
        history=True,
    )
)

OPERATIONS = declare(
    Table(
        "operations",
        "lifecycle",
        "one row per recent session with its live skill, and one HTML page: lag, alarms, models, drift, promotions",
        (
            SESSION,
            Column("models", pl.Int64(), "models that predicted the session, the ensemble included"),
            Column("rows", pl.Int64(), "tickers that the model in service predicted"),
            Column("suspects", pl.Int64(), "bars of the session that are suspect, and neither train nor score"),
            Column("version", pl.String(), "the version of rnn that predicted the session"),
            Column("trained_through", pl.Date(), "its cutoff"),
            Column("age", pl.Int64(), "sessions between its cutoff and the session"),
            Column("scored", pl.Int64(), "rows of rnn whose label is known and trusted"),
            Column("log_loss", pl.Float64(), "of rnn on these rows, mean, in nats; null until a label is known"),
            Column("ensemble_log_loss", pl.Float64(), "of the ensemble"),
            Column("naive_log_loss", pl.Float64(), "of the naive baseline that was best over all these sessions"),
            Column("accuracy", pl.Float64(), "share of rows whose most probable class came true"),
        ),
        keys=("session",),
    )
)

ALERTS = declare(
    Table(
        "alerts",
        "lifecycle",
        "one trouble that a person was alerted to",
        (
            Column("key", pl.String(), "the trouble: the same at every repetition"),
            Column("title", pl.String(), "the newest alert in a line"),
            Column("text", pl.String(), "the newest alert in full"),
            Column("run_id", pl.String(), "the last run it is about; null where it is about none"),
            Column("first_at", UTC_TIME, "when it came first since it was last resolved", unit="UTC"),
            Column("last_at", UTC_TIME, "when it came last", unit="UTC"),
            Column("sent_at", UTC_TIME, "when it was sent last, UTC; null while a channel has not taken it"),
            Column("count", pl.Int64(), "times it came that no message has reported yet"),
            Column("resolved_at", UTC_TIME, "when it was over, UTC; null while it lasts"),
        ),
        keys=("key",),
        history=True,
        exists="both",
    )
)

MANUAL_MATERIALIZATIONS = declare(
    Table(
        "manual_materializations",
        "lifecycle",
        "rows that a person had made without Dagster, through `stock_assets.open()`",
        (
            Column("table_name", pl.String(), "the table"),
            Column("first", pl.Date(), "first session that was made; null for a table that is made as a whole"),
            Column("last", pl.Date(), "last session that was made"),
            Column("rows", pl.Int64(), "rows that these sessions have afterwards"),
            Column("made_at", UTC_TIME, "when", unit="UTC"),
            Column("made_by", pl.String(), "by whom, as the caller named itself"),
        ),
        keys=("table_name", "made_at"),
        history=True,
    )
)
