"""What the evaluation room keeps at an interval below a day. Loaded where bars are made, and never at 1d."""

import polars as pl

from stock_assets.evaluation.bar_scores import SCORES
from stock_assets.tables import Column, Table, declare

_TEXTS = {
    "mse_ratio": "squared error of the expected return over that of predicting no change",
    "log_loss": "mean negative log-probability of what came true, in nats; lower is better",
    "log_loss_gain": "log-loss of the best naive model less this one's, in nats",
    "accuracy": "share of rows whose most probable class came true",
    "rank_ic": "Spearman correlation of score and return across tickers, mean of the bars",
    "gross": "what a position by the sign of the score earns a day, a fraction of the capital",
    "net": "the same after the spread",
    "turnover": "capital traded a day",
}
_ENDS = {"": "", "_low": "lower end of the 95 % interval by day blocks: ", "_high": "upper end of the same: "}

BAR_REPORT = declare(
    Table(
        "bar_report",
        "evaluation",
        "scores of the predictions of bars with intervals by day blocks, and one HTML page with every figure",
        (
            Column("model", pl.String(), "the model, or a naive baseline"),
            Column("days", pl.Int64(), "sessions scored"),
            Column("rows", pl.Int64(), "bars scored: those with a label that every model predicted"),
            *(
                Column(f"{name}{end}", pl.Float64(), f"{text}{_TEXTS[name]}")
                for name in SCORES
                for end, text in _ENDS.items()
            ),
        ),
        keys=("model",),
        exists="bar",
    )
)
