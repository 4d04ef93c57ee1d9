"""What the evaluation room keeps."""

import polars as pl

from stock_assets.tables import Column, Table, declare

EVALUATION_REPORT = declare(
    Table(
        "evaluation_report",
        "evaluation",
        "scores with intervals, and one HTML page with every figure",
        (
            Column("model", pl.String(), "the model, or a naive baseline"),
            Column("year", pl.Int32(), "the test year; null for the mean of the yearly scores"),
            Column("sessions", pl.Int64(), "sessions scored"),
            Column("rows", pl.Int64(), "trusted predictions whose label is known"),
            Column("accuracy", pl.Float64(), "share of rows whose most probable class came true"),
            Column(
                "log_loss", pl.Float64(), "mean negative log-probability of what came true, in nats; lower is better"
            ),
            Column("accuracy_low", pl.Float64(), "lower end of the 95 % interval of accuracy, day-block bootstrap"),
            Column("accuracy_high", pl.Float64(), "upper end of the 95 % interval of accuracy, day-block bootstrap"),
            Column("log_loss_low", pl.Float64(), "lower end of the 95 % interval of log_loss, day-block bootstrap"),
            Column("log_loss_high", pl.Float64(), "upper end of the 95 % interval of log_loss, day-block bootstrap"),
            Column("rank_ic_low", pl.Float64(), "lower end of the 95 % interval of rank_ic, day-block bootstrap"),
            Column("rank_ic_high", pl.Float64(), "upper end of the 95 % interval of rank_ic, day-block bootstrap"),
            Column("rank_ic", pl.Float64(), "mean daily rank correlation of the score with the next session's return"),
            Column("rank_ic_t", pl.Float64(), "t-statistic of the daily rank IC"),
            Column("balanced_accuracy", pl.Float64(), "mean over the classes of the share that is hit"),
            Column("macro_f1", pl.Float64(), "mean F1 over the classes"),
            Column("brier", pl.Float64(), "mean squared error of the probabilities, summed over the classes"),
            Column("rmse", pl.Float64(), "root mean squared error of the class taken as -1, 0, 1"),
            Column("ordinal_rmse", pl.Float64(), "root mean squared error of p_buy - p_sell against the label"),
        ),
        keys=("model",),
    )
)

LEAKAGE_AUDIT = declare(
    Table(
        "leakage_audit",
        "evaluation",
        "every model honest and cheating, side by side",
        (
            Column("protocol", pl.String(), "honest or cheating"),
            Column("model", pl.String(), "what was scored"),
            Column(
                "lag",
                pl.Int32(),
                "in a sweep, rows between the session and the label that is copied or read; else null",
            ),
            Column("rows", pl.Int64(), "rows that were scored"),
            Column("accuracy", pl.Float64(), "share of rows whose most probable class came true"),
            Column("rmse", pl.Float64(), "root mean squared error of the class taken as -1, 0, 1"),
            Column(
                "ordinal_rmse",
                pl.Float64(),
                "root mean squared error of the point forecast of the label; null for persistence",
            ),
            Column(
                "log_loss", pl.Float64(), "mean negative log-probability of what came true, in nats; lower is better"
            ),
            Column("note", pl.String(), "where the score comes from"),
        ),
        keys=("protocol", "model"),
    )
)
