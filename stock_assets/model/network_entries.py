"""The entries of the networks, apart from their modules: reading the list of models does not load torch."""

from collections.abc import Callable, Collection
from datetime import date
from importlib import import_module
from typing import Any

import polars as pl

from stock_assets.model.config import DeepArConfig, RnnClassifierConfig, RnnConfig
from stock_assets.model.lesson import Inputs
from stock_assets.model.registry import CurveTitles, ModelEntry, register_model


def loaded_on_call(module: str, name: str) -> Callable[..., Any]:
    """The function `name` of `module`, or the method `Class.method`; the module is imported when it is called."""

    def call(*arguments: Any) -> Any:
        target: Any = import_module(module)
        for part in name.split("."):
            target = getattr(target, part)
        return target(*arguments)

    return call


def predict(model: Any, inputs: Inputs, sessions: Collection[date]) -> pl.DataFrame:
    """What the trained network `model` predicts for `sessions`."""
    return model.predict(inputs, sessions)


_CLASSES_JUDGED = CurveTitles("log-loss", "validation accuracy", "accuracy")
_RNN, _CLASSIFIER, _DEEPAR = (f"stock_assets.model.networks.{name}" for name in ("rnn", "rnn_classifier", "deepar"))

RNN = register_model(
    ModelEntry(
        name="rnn",
        role="champion",
        title="a recurrent network that forecasts the volatility of the horizon and a direction, and maps them to the "
        "barriers",
        reads="features",
        table="trained_rnn",
        train=loaded_on_call(_RNN, "train_rnn"),
        load=loaded_on_call(_RNN, "load_rnn"),
        predict=predict,
        lookback_rows=RnnConfig.context,
        curve=CurveTitles("smooth L1 + squared error", "validation R², volatility across tickers", "r2"),
    )
)

RNN_CLASSIFIER = register_model(
    ModelEntry(
        name="rnn_classifier",
        role="champion",
        title="a recurrent network that predicts the classes themselves",
        reads="components",
        table="trained_rnn",
        train=loaded_on_call(_CLASSIFIER, "train_rnn_classifier"),
        load=loaded_on_call(_CLASSIFIER, "RnnClassifier.from_artifact"),
        predict=predict,
        lookback_rows=RnnClassifierConfig.context,
        curve=_CLASSES_JUDGED,
    )
)

DEEPAR = register_model(
    ModelEntry(
        name="deepar",
        role="reference",
        title="the network of the reference study, which also reads the newest label that is known",
        reads="components",
        table="trained_references",
        train=loaded_on_call(_DEEPAR, "train_deepar"),
        load=loaded_on_call(_DEEPAR, "DeepAr.from_artifact"),
        predict=predict,
        lookback_rows=DeepArConfig.context,
        curve=_CLASSES_JUDGED,
    )
)
