"""The entries of the networks, apart from their modules: reading the list of models does not load torch."""

from collections.abc import Collection
from datetime import date
from typing import Any

import numpy as np
import polars as pl

from stock_assets.model.config import DeepArConfig, RnnConfig, VolatilityConfig
from stock_assets.model.registry import CurveTitles, Inputs, ModelEntry, TrainingTask, register_model


def _train_rnn(task: TrainingTask) -> Any:
    from stock_assets.model.volatility import train_volatility

    return train_volatility(
        task.inputs.features,
        task.labels,
        task.inputs.suspects,
        VolatilityConfig(),
        task.cutoff,
        task.seed,
        task.horizon,
        task.on_epoch,
        task.checkpoint,
    )


def _load_rnn(tensors: dict[str, np.ndarray], description: dict[str, Any]) -> Any:
    from stock_assets.model.volatility import TrainedVolatility

    return TrainedVolatility.from_artifact(tensors, description)


def _predict_rnn(model: Any, inputs: Inputs, sessions: Collection[date]) -> pl.DataFrame:
    from stock_assets.model.volatility import predict_volatility

    return predict_volatility(model, inputs.features, inputs.suspects, sessions)


def _train_rnn_classifier(task: TrainingTask) -> Any:
    from stock_assets.model.training import train_rnn

    components = task.inputs.components
    return train_rnn(components, task.labels, RnnConfig(), task.cutoff, task.seed, task.on_epoch, task.checkpoint)


def _load_rnn_classifier(tensors: dict[str, np.ndarray], description: dict[str, Any]) -> Any:
    from stock_assets.model.training import TrainedRnn

    return TrainedRnn.from_artifact(tensors, description)


def _predict_rnn_classifier(model: Any, inputs: Inputs, sessions: Collection[date]) -> pl.DataFrame:
    from stock_assets.model.training import predict

    return predict(model, inputs.components, sessions)


def _train_deepar(task: TrainingTask) -> Any:
    from stock_assets.model.deepar import train_deepar

    return train_deepar(
        task.inputs.components,
        task.labels,
        task.inputs.known_labels,
        DeepArConfig(),
        task.cutoff,
        task.seed,
        task.on_epoch,
        task.checkpoint,
    )


def _load_deepar(tensors: dict[str, np.ndarray], description: dict[str, Any]) -> Any:
    from stock_assets.model.deepar import TrainedDeepAr

    return TrainedDeepAr.from_artifact(tensors, description)


def _predict_deepar(model: Any, inputs: Inputs, sessions: Collection[date]) -> pl.DataFrame:
    from stock_assets.model.deepar import predict_deepar

    return predict_deepar(model, inputs.components, inputs.known_labels, sessions)


_CLASSES_JUDGED = CurveTitles("log-loss", "validation accuracy", "accuracy")

RNN = register_model(
    ModelEntry(
        name="rnn",
        role="champion",
        title="a recurrent network that forecasts the volatility of the horizon and a direction, and maps them to the "
        "barriers",
        reads="features",
        table="trained_rnn",
        train=_train_rnn,
        load=_load_rnn,
        predict=_predict_rnn,
        lookback_rows=VolatilityConfig.context,
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
        train=_train_rnn_classifier,
        load=_load_rnn_classifier,
        predict=_predict_rnn_classifier,
        lookback_rows=RnnConfig.context,
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
        train=_train_deepar,
        load=_load_deepar,
        predict=_predict_deepar,
        lookback_rows=DeepArConfig.context,
        curve=_CLASSES_JUDGED,
    )
)
