"""Every model of bars, one entry each: its role, how it is trained, loaded and asked.

`bar_rnn` is the champion: the model in service at intervals below a day. The references are those of the system for
minute bars that this platform follows, and the naive ones are what skill is measured against. A model from outside the
package is one call of `register_bar_model`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from stock_assets.errors import StockAssetsError
from stock_assets.model.bar_baselines import (
    BarClassPrior,
    BarLinear,
    BarModel,
    BarTickerPrior,
    BarTimePrior,
    BarTrees,
)
from stock_assets.model.bar_lesson import BarLesson
from stock_assets.model.config import BarLstmConfig, BarRnnConfig
from stock_assets.model.network_entries import loaded_on_call
from stock_assets.model.registry import Role

#: The model whose predictions people use at intervals below a day.
BAR_IN_SERVICE = "bar_rnn"


def _answer_of_model(model: Any, features: pl.DataFrame, keys: pl.DataFrame) -> pl.DataFrame:
    return model.predict(features, keys)


@dataclass(frozen=True, kw_only=True)
class BarModelEntry:
    """One model of bars."""

    name: str
    role: Role
    title: str
    """what it is in a few words, for the UI"""
    train: Callable[[BarLesson], Any]
    """returns something with `cutoff` (a moment) and `to_artifact`"""
    load: Callable[[dict[str, np.ndarray], dict[str, Any]], Any]
    """what `train` returned, from its tensors and description"""
    predict: Callable[[Any, pl.DataFrame, pl.DataFrame], pl.DataFrame] = _answer_of_model
    """of the model, rows of `bar_features` and BAR_KEYS: BAR_KEYS, expected_return, p_sell, p_hold, p_buy, score"""
    lookback_rows: int = 1
    """rows of features of a ticker that a prediction looks at, that of the bar included"""


#: Every model of bars by name, in the order in which they are trained.
BAR_MODELS: dict[str, BarModelEntry] = {}


def register_bar_model(entry: BarModelEntry) -> BarModelEntry:
    """`entry`, which is trained and predicted from now on. Raises StockAssetsError where another has its name."""
    if BAR_MODELS.setdefault(entry.name, entry) != entry:
        raise StockAssetsError(f"there is a model of bars {entry.name} already; expected another name")
    return entry


def naive_bar_models() -> tuple[str, ...]:
    """The models of role naive: a report compares every score with the best of them."""
    return tuple(name for name, entry in BAR_MODELS.items() if entry.role == "naive")


def _entry(model: type[BarModel]) -> BarModelEntry:
    return BarModelEntry(name=model.name, role=model.role, title=model.title, train=model.fit, load=model.from_artifact)


_RNN, _LSTM = (f"stock_assets.model.networks.{name}" for name in ("bar_rnn", "bar_lstm"))

register_bar_model(
    BarModelEntry(
        name=BAR_IN_SERVICE,
        role="champion",
        title="a recurrent network that forecasts how much the next bars move and a direction, and maps them to the "
        "barriers",
        train=loaded_on_call(_RNN, "train_bar_rnn"),
        load=loaded_on_call(_RNN, "BarRnn.from_artifact"),
        lookback_rows=BarRnnConfig().reach,
    )
)
for _model in (BarClassPrior, BarTickerPrior, BarTimePrior, BarLinear, BarTrees):
    register_bar_model(_entry(_model))
register_bar_model(
    BarModelEntry(
        name="bar_lstm",
        role="reference",
        title="an LSTM that predicts the classes themselves",
        train=loaded_on_call(_LSTM, "train_bar_lstm"),
        load=loaded_on_call(_LSTM, "BarLstm.from_artifact"),
        lookback_rows=BarLstmConfig.context,
    )
)
