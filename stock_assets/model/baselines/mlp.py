"""A neural network of one hidden layer, the other model that Kara, Boyacioglu & Baykan (2011, Expert Systems with
Applications 38) compare on the direction of a stock index. On the principal components it did worse in 2012 and 2013
than on the stationary features, which it reads.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date
from itertools import islice
from typing import Any

import numpy as np
import polars as pl

from stock_assets.frames import CLASSES, surprises
from stock_assets.model.baselines.base import (
    Baseline,
    ScaledBaseline,
    output_layer,
    register_baseline,
    require_classes,
)
from stock_assets.model.baselines.samples import CLIP, training_and_tail
from stock_assets.model.lesson import Lesson
from stock_assets.model.probabilities import softmax
from stock_assets.model.scaling import fit_scaler, standardised


@register_baseline
@dataclass(frozen=True)
class Mlp(ScaledBaseline):
    """One hidden layer of tanh units on standardised features, as in Kara et al. A class absent from the training
    gets 0.
    """

    name, role, reads = "mlp", "champion", "features"
    title = "a neural network of one hidden layer"
    clip: float
    hidden_weights: np.ndarray
    """float32 [F, H]"""
    hidden_bias: np.ndarray
    """float32 [H]"""
    weights: np.ndarray
    """float64 [H, 3]"""
    bias: np.ndarray
    """float64 [3]; -inf for a class absent from the training"""

    @classmethod
    def fit(cls, lesson: Lesson) -> "Mlp":
        return fit_mlp(lesson.inputs.features, lesson.labels, lesson.cutoff, seed=lesson.seed)

    def probabilities(self, rows: pl.DataFrame) -> np.ndarray:
        scaled = self.scaled(rows, clip=self.clip)
        return softmax(np.tanh(scaled @ self.hidden_weights + self.hidden_bias) @ self.weights + self.bias)


def fit_mlp(  # every parameter after the cutoff is a hyperparameter
    features: pl.DataFrame,
    labels: pl.DataFrame,
    cutoff: date,
    *,
    seed: int = 0,
    hidden: int = 32,
    penalty: float = 0.04,
    passes: int = 30,
    patience: int = 4,
) -> Mlp:
    """A neural network of one hidden layer on the floating-point columns of `features`.

    Adam minimises the mean log-loss + `penalty` / 2 × the squared weights. The number of passes, `passes` at most, is
    the one with the lowest log-loss on the tail; the search ends `patience` passes after it. Then the network trains
    that long on all rows. After no pass it is the class prior. `labels` are usable and purged; features after
    `cutoff` are not looked at. Raises as `fit_svm`.
    """
    train, tail, columns = training_and_tail(features, labels, cutoff, model="an MLP")
    least, best = np.inf, 0
    for i, model in enumerate(
        islice(_passes(train, columns, cutoff, seed=seed, hidden=hidden, penalty=penalty), passes + 1)
    ):
        loss = _log_loss(model, tail)
        if loss < least:
            least, best = loss, i
        elif i - best >= patience:
            break
    return next(
        islice(
            _passes(pl.concat([train, tail]), columns, cutoff, seed=seed, hidden=hidden, penalty=penalty), best, None
        )
    )


def _passes(
    rows: pl.DataFrame, columns: tuple[str, ...], cutoff: date, *, seed: int, hidden: int, penalty: float
) -> Iterator[Mlp]:
    """The network after 0, 1, 2, … passes over `rows`; after 0 it is their class prior."""
    from sklearn.neural_network import MLPClassifier

    mean, std = fit_scaler(rows, columns)
    inputs, outcomes = (
        standardised(rows, columns, mean=mean, std=std, clip=CLIP, dtype=np.float32),
        rows["label"].to_numpy(),
    )
    class_numbers = require_classes(rows["label"], "an MLP", cutoff)
    prior = np.full(len(CLASSES), -np.inf)
    prior[class_numbers] = [np.log((outcomes == CLASSES[i]).mean()) for i in class_numbers]
    weights, first_bias = np.zeros((len(columns), hidden), np.float32), np.zeros(hidden, np.float32)
    initial_model = Mlp(cutoff, columns, mean, std, CLIP, weights, first_bias, np.zeros((hidden, len(CLASSES))), prior)
    yield initial_model
    batch = min(256, max(32, rows.height // 100), rows.height)  # a small panel needs its hundred steps a pass, too
    network: Any = MLPClassifier(
        (hidden,),
        activation="tanh",
        alpha=penalty * batch,  # scikit-learn divides it by the rows of a batch
        batch_size=batch,  # pyright: ignore[reportArgumentType]
        random_state=np.random.RandomState(seed),  # an integer would shuffle every pass alike
    )
    while True:
        network.partial_fit(inputs, outcomes, classes=[CLASSES[i] for i in class_numbers])
        (first, last), (first_bias, last_bias) = network.coefs_, network.intercepts_
        weights, bias = output_layer(last, last_bias, class_numbers)
        # the first layer goes on changing in place
        yield replace(
            initial_model, hidden_weights=first.copy(), hidden_bias=first_bias.copy(), weights=weights, bias=bias
        )


def _log_loss(model: Baseline, rows: pl.DataFrame) -> float:
    return float(surprises(rows["label"].to_numpy(), model.probabilities(rows)).mean())
