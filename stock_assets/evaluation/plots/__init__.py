"""Pictures as PNG bytes, 900 pixels wide. Importing them loads no matplotlib; drawing does."""

from stock_assets.evaluation.plots.announcements import known_lags, reaction_moves
from stock_assets.evaluation.plots.inputs import input_values
from stock_assets.evaluation.plots.market import (
    bollinger,
    candlestick,
    label_distribution,
    price_and_volume,
    rsi_and_momentum,
)
from stock_assets.evaluation.plots.operations import (
    drift,
    drift_through_time,
    live_skill,
)
from stock_assets.evaluation.plots.scores import (
    accuracy_by_sector,
    accuracy_by_ticker,
    calibration,
    confusion,
    growth,
    lag_sweep,
    rank_ic_through_time,
)
from stock_assets.evaluation.plots.style import picture
from stock_assets.evaluation.plots.training import (
    ablation,
    epochs,
    explained_variance,
    hyperparameter_importance,
    learning_curve,
    optimization_history,
)

__all__ = [
    "ablation",
    "accuracy_by_sector",
    "accuracy_by_ticker",
    "bollinger",
    "calibration",
    "candlestick",
    "confusion",
    "drift",
    "drift_through_time",
    "epochs",
    "explained_variance",
    "growth",
    "hyperparameter_importance",
    "input_values",
    "known_lags",
    "label_distribution",
    "lag_sweep",
    "learning_curve",
    "live_skill",
    "optimization_history",
    "picture",
    "price_and_volume",
    "rank_ic_through_time",
    "reaction_moves",
    "rsi_and_momentum",
]
