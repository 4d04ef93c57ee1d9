"""What the evaluation room keeps."""

from collections.abc import Collection

import polars as pl

from stock_assets.evaluation.metrics import METRICS, Metric
from stock_assets.tables import TABLES, Column, Table, declare

_ENDS = {"_low": "lower end", "_high": "upper end"}


def report_table(metrics: Collection[Metric]) -> Table:
    """The table `evaluation_report` with the columns of `metrics`."""
    texts = {metric.name: metric.text for metric in metrics}
    ends = {
        f"{metric.name}{end}": f"{text} of the 95 % interval of {metric.name}, day-block bootstrap"
        for metric in metrics
        if metric.daily
        for end, text in _ENDS.items()
    }
    columns = [column for metric in metrics for column in metric.columns]
    return Table(
        "evaluation_report",
        "evaluation",
        "scores with intervals, and one HTML page with every figure",
        (
            Column("model", pl.String(), "the model, or a naive baseline"),
            Column("year", pl.Int32(), "the test year; null for the mean of the yearly scores"),
            Column("sessions", pl.Int64(), "sessions scored"),
            Column("rows", pl.Int64(), "trusted predictions whose label is known"),
            *(Column(name, pl.Float64(), (texts | ends)[name]) for name in columns),
        ),
        keys=("model",),
    )


EVALUATION_REPORT = declare(report_table(METRICS.values()))


def add_metric(metric: Metric) -> None:
    """Adds `metric` to METRICS, and so its columns to `evaluation_report` and to the report's table of scores.

    Call it before the graph is loaded. The next report is made with the new columns. Raises ValueError where there is
    a metric of that name.
    """
    if metric.name in METRICS:
        raise ValueError(f"there is a metric {metric.name} already; expected another name than {', '.join(METRICS)}")
    METRICS[metric.name] = metric
    TABLES["evaluation_report"] = report_table(METRICS.values())


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
            Column("accuracy", pl.Float64(), METRICS["accuracy"].text),
            Column("rmse", pl.Float64(), METRICS["rmse"].text),
            Column(
                "ordinal_rmse",
                pl.Float64(),
                "root mean squared error of the point forecast of the label; null for persistence",
            ),
            Column("log_loss", pl.Float64(), METRICS["log_loss"].text),
            Column("note", pl.String(), "where the score comes from"),
        ),
        keys=("protocol", "model"),
    )
)

INPUT_VALUE = declare(
    Table(
        "input_value",
        "evaluation",
        "what each group of inputs is worth to a model: left out, permuted, added; on demand, `make run` leaves it out",
        (
            Column("model", pl.String(), "the model that reads the inputs"),
            Column("group", pl.String(), "the group of columns; noise shows what luck looks like"),
            Column(
                "way",
                pl.String(),
                "left_out (trained and asked without it), permuted (asked with it shuffled) or added (not read by the "
                "model: trained and asked with it)",
            ),
            Column("metric", pl.String(), "log_loss, accuracy or rank_ic; lower is better for log_loss alone"),
            Column(
                "difference",
                pl.Float64(),
                "the score with the group less that without it, mean of the years, on the same rows; null where it was "
                "not measured",
            ),
            Column(
                "low",
                pl.Float64(),
                "lower end of its paired 95 % interval: day-block bootstrap, and the luck of trainings among the seeds",
            ),
            Column("high", pl.Float64(), "upper end of the same"),
            Column("score", pl.Float64(), "the score of the model as it is, on these rows"),
            Column("columns", pl.Int64(), "columns of the group"),
            Column("rows", pl.Int64(), "rows that were scored, the same for all"),
            Column("years", pl.String(), "the model years, with commas between"),
            Column("seeds", pl.Int64(), "trainings of each variant; of one, the intervals lack the luck of trainings"),
            Column("variants", pl.Int64(), "groups and ways compared: of 20, one interval misses 0 by luck"),
            Column("note", pl.String(), "why it was not measured; null where it was"),
        ),
        keys=("model", "group", "way", "metric"),
    )
)
