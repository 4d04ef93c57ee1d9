"""The models of the leakage audit: each learns from what one question hands over, and answers it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from typing import Protocol

import numpy as np
import polars as pl

from stock_assets.errors import StockAssetsError
from stock_assets.frames import CLASS_NAMES, CLASSES, KEYS
from stock_assets.model.config import DeepArConfig, RnnClassifierConfig, RnnConfig
from stock_assets.model.lesson import InputFrames, Lesson
from stock_assets.model.probabilities import probability_frame

#: Labels that a model of single rows is handed over: the newest that it may read, and those of the rows before.
MEMORY = 7


@dataclass(frozen=True)
class AuditQuestion:
    """What one model of the audit may learn from, and which sessions it has to predict."""

    components: pl.DataFrame
    """ticker, session and the inputs, floating-point numbers; of all sessions"""
    handed_labels: pl.DataFrame | None
    """ticker, session, known_label: a label that is handed over, or null; None where none is"""
    labels: pl.DataFrame
    """usable labels to learn from, all known by the cutoff"""
    cutoff: date
    sessions: Sequence[date]
    """the sessions to predict"""

    def inputs(self) -> pl.DataFrame:
        """The components and, where labels are handed over, the newest MEMORY of them.

        There is a column per label and class: 1 for the class of the label, all 0 for null.
        """
        if self.handed_labels is None:
            return self.components
        ago = (pl.col("known_label").shift(back).over("ticker") for back in range(MEMORY))
        is_class = (
            (label == c).fill_null(value=False).cast(pl.Float64).alias(f"known_{back}_{CLASS_NAMES[c]}")
            for back, label in enumerate(ago)
            for c in CLASSES
        )
        label_columns = self.handed_labels.sort(KEYS).select(*KEYS, *is_class)
        components_with_labels = self.components.join(label_columns, on=KEYS, how="left", maintain_order="left")
        return components_with_labels.with_columns(pl.col(label_columns.columns[2:]).fill_null(0.0))


#: Learns from a question and answers it: ticker, session, p_sell, p_hold, p_buy and, where the model has a point
#: forecast of the label other than p_buy - p_sell, `expected`.
AuditedModel = Callable[[AuditQuestion], pl.DataFrame]


class Fitted(Protocol):
    """A baseline that is fitted."""

    def predict(self, features: pl.DataFrame, sessions: Sequence[date], /) -> pl.DataFrame: ...


def of_rows(fit: Callable[[pl.DataFrame, pl.DataFrame, date], Fitted], stride: int = 1) -> AuditedModel:
    """The model that `fit` makes of (features, labels, cutoff): one that looks at a session's own row alone.

    It learns from every `stride`-th session: neighbours share all but one of a horizon's days.
    """

    def answer(question: AuditQuestion) -> pl.DataFrame:
        inputs = question.inputs()
        return fit(inputs, _every_nth_session(question.labels, stride), question.cutoff).predict(
            inputs, question.sessions
        )

    return answer


def of_recurrent(config: RnnClassifierConfig, seed: int) -> AuditedModel:
    """The recurrent classifier, with a handed label among its inputs."""

    def answer(question: AuditQuestion) -> pl.DataFrame:
        from stock_assets.model.networks.rnn_classifier import train_rnn_classifier

        inputs = InputFrames(components=question.inputs())
        lesson = Lesson(inputs, question.labels, question.cutoff, seed, horizon=0)  # the horizon is read by `rnn` alone
        return train_rnn_classifier(lesson, config).predict(inputs, question.sessions)

    return answer


def of_deepar(config: DeepArConfig, seed: int) -> AuditedModel:
    """The reference study's own network; `expected` is the location of its distribution."""

    def answer(question: AuditQuestion) -> pl.DataFrame:
        from stock_assets.model.networks.deepar import forecast_to_probabilities, train_deepar

        inputs = InputFrames(components=question.components)
        if question.handed_labels is not None:
            inputs = replace(inputs, known_labels=question.handed_labels)
        lesson = Lesson(inputs, question.labels, question.cutoff, seed, horizon=0)  # the horizon is read by `rnn` alone
        forecast = train_deepar(lesson, config).forecast(inputs, question.sessions)
        return forecast_to_probabilities(forecast).with_columns(expected=forecast["location"])

    return answer


def of_rnn(config: RnnConfig, seed: int, suspects: pl.DataFrame, *, horizon: int) -> AuditedModel:
    """The model `rnn`; its components have to be the stationary features."""

    def answer(question: AuditQuestion) -> pl.DataFrame:
        from stock_assets.model.networks.rnn import train_rnn

        inputs = InputFrames(features=question.inputs(), suspects=suspects)
        lesson = Lesson(inputs, question.labels, question.cutoff, seed, horizon)
        return train_rnn(lesson, config).predict(inputs, question.sessions)

    return answer


def persistence(question: AuditQuestion) -> pl.DataFrame:
    """Copies the label that is handed over; no row where there is none."""
    if question.handed_labels is None:
        raise StockAssetsError("persistence copies a label that is handed over; expected a question with one")
    copied_labels = question.handed_labels.drop_nulls().filter(pl.col("session").is_in(list(question.sessions)))
    return probability_frame(
        copied_labels, (copied_labels["known_label"].to_numpy()[:, None] == np.asarray(CLASSES)).astype(float)
    )


def audited_models(horizon: int, seed: int) -> Mapping[str, AuditedModel]:
    """The models that read the components, by name.

    Small networks do, and the baselines take bolder settings than their honest ones, which hold a model back from
    whatever predicts well.
    """
    from stock_assets.model.baselines.linear import fit_logistic
    from stock_assets.model.baselines.mlp import fit_mlp
    from stock_assets.model.baselines.svm import fit_svm
    from stock_assets.model.baselines.trees import fit_trees

    mlp = partial(fit_mlp, penalty=0.01, passes=8, patience=2)
    trees = partial(fit_trees, share=1.0, leaves=31, rows_per_leaf=100, rounds=200)
    classifier = RnnClassifierConfig(epochs=3, learning_rate=5e-3, segments_per_epoch=512)
    deepar = DeepArConfig(hidden=48, epochs=8, learning_rate=1e-2, batch=32, segments_per_epoch=1024)
    return {
        "logistic": of_rows(fit_logistic, stride=3 * horizon),
        "svm": of_rows(fit_svm),
        "mlp": of_rows(mlp),
        "trees": of_rows(trees),
        "rnn_classifier": of_recurrent(classifier, seed),
        "deepar": of_deepar(deepar, seed),
    }


def audited_rnn(horizon: int, seed: int, suspects: pl.DataFrame) -> Mapping[str, AuditedModel]:
    """The model that reads the stationary features, by name; `suspects` has ticker, session, suspect."""
    small = RnnConfig(hidden=32, epochs=2, segments_per_epoch=8192)
    return {"rnn": of_rnn(small, seed, suspects, horizon=horizon)}


def _every_nth_session(labels: pl.DataFrame, stride: int) -> pl.DataFrame:
    sessions = labels["session"].unique().sort()
    return labels.filter(pl.col("session").is_in(sessions.gather_every(stride).to_list()))
