"""Which labels the models of earlier studies learn from, and which newest ones judge them while they do.

Labels of neighbouring sessions share all but one of their days. So each model learns from every third label of a
ticker, or from fewer where there are many, and how long it trains is decided on the newest labels, purged: random
validation rows would be neighbours of training rows.
"""

from datetime import date
from math import ceil

import polars as pl

from stock_assets.errors import StockAssetsError
from stock_assets.frames import KEYS
from stock_assets.model.baselines.base import require_labels
from stock_assets.model.scaling import feature_columns
from stock_assets.model.splits import train_validation_split

#: A model learns from every so many labels of a ticker, at the closest, and from about so many rows, at most.
EVERY, MOST_ROWS = 3, 120_000
#: The newest sessions of the labels, which judge before they train: a third of them, and a year at most.
TAIL_SHARE, TAIL_SESSIONS = 3, 252
#: Standardised inputs are cut to ± this many standard deviations.
CLIP = 5.0


def training_and_tail(
    features: pl.DataFrame, labels: pl.DataFrame, cutoff: date, *, model: str
) -> tuple[pl.DataFrame, pl.DataFrame, tuple[str, ...]]:
    """(rows before the tail, rows of the tail, input columns): thinned labels with their features, in order."""
    require_labels(labels, cutoff)
    step = max(EVERY, ceil(labels.height / MOST_ROWS))
    tail_sessions = min(labels["session"].n_unique() // TAIL_SHARE, TAIL_SESSIONS)
    train, tail = (
        features.join(thinned(part, step), on=KEYS).sort(KEYS)
        for part in train_validation_split(labels, cutoff, tail_sessions)
    )
    if train.is_empty() or tail.is_empty():
        raise StockAssetsError(
            f"{model} with cutoff {cutoff} has features for {train.height} label(s) to learn from and {tail.height} to "
            "be judged on; expected rows of the same tickers and sessions for both"
        )
    return train, tail, feature_columns(features)


def thinned(labels: pl.DataFrame, step: int) -> pl.DataFrame:
    """ticker, session, label of every `step`-th row of each ticker; they take turns, so that all sessions stay."""
    turn = pl.int_range(pl.len()).over("ticker") + pl.col("ticker").rank("dense")
    return labels.sort(KEYS).filter(turn % step == 0).select(*KEYS, "label")
