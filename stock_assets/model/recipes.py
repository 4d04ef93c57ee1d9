"""Which models there are: what each reads, how it is trained, loaded and asked.

Whoever trains, predicts or audits goes through here, so that a model is added in one place.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal

import numpy as np
import polars as pl

from stock_assets.model import baselines, classical
from stock_assets.model.baseline import Baseline
from stock_assets.model.config import DeepArConfig, RnnClassifierConfig, RnnConfig
from stock_assets.model.lesson import Inputs, Lesson
from stock_assets.model.networks.deepar import DeepAr, train_deepar
from stock_assets.model.networks.rnn import Rnn, train_rnn
from stock_assets.model.networks.rnn_classifier import RnnClassifier, train_rnn_classifier

Reads = Literal["features", "components", "known_labels"]


@dataclass(frozen=True)
class Recipe:
    """How to come by a model and by its answers."""

    reads: Reads
    """The frame whose columns are its inputs."""
    train: Callable[[Lesson], Any]
    """Gives something with `cutoff` and `to_artifact`; a network also has `curve`, `best_epoch`,
    `validation_log_loss` and `validation_accuracy`."""
    load: Callable[[dict[str, np.ndarray], dict[str, Any]], Any]
    """What `train` gave, of its tensors and description."""
    predict: Callable[[Any, Inputs, Collection[date]], pl.DataFrame]
    """ticker, session, p_sell, p_hold, p_buy, score."""
    context: int = 1
    """Rows of a ticker that a prediction looks at, that of the session included."""


def _baseline(kind: type[Baseline], fit: Callable[[Lesson], Baseline]) -> Recipe:
    # one that looks at nothing but the keys is given the smallest frame that has them
    reads: Reads = "known_labels" if kind.inputs == "none" else kind.inputs
    return Recipe(
        reads,
        fit,
        baselines.baseline_from_artifact,
        lambda model, inputs, sessions: model.predict(getattr(inputs, reads), sessions),
    )


def _network(reads: Reads, train: Callable[[Lesson], Any], trained: Any, context: int) -> Recipe:
    return Recipe(
        reads, train, trained.from_artifact, lambda model, inputs, sessions: model.predict(inputs, sessions), context
    )


#: Those of `trained_rnn`.
NETWORKS = {
    "rnn": _network("features", train_rnn, Rnn, RnnConfig.context),
    "rnn_classifier": _network("components", train_rnn_classifier, RnnClassifier, RnnClassifierConfig.context),
    "deepar": _network("components", train_deepar, DeepAr, DeepArConfig.context),
}

#: Those of `trained_baselines`.
BASELINES = {
    "class_prior": _baseline(baselines.ClassPrior, lambda given: baselines.fit_class_prior(given.labels, given.cutoff)),
    "ticker_prior": _baseline(
        baselines.TickerPrior, lambda given: baselines.fit_ticker_prior(given.labels, given.cutoff)
    ),
    "persistence": _baseline(
        baselines.Persistence,
        lambda given: baselines.fit_persistence(given.inputs.known_labels, given.labels, given.cutoff),
    ),
    "logistic": _baseline(
        baselines.Logistic, lambda given: baselines.fit_logistic(given.inputs.components, given.labels, given.cutoff)
    ),
    "svm": _baseline(
        classical.Svm,
        lambda given: classical.fit_svm(given.inputs.features, given.labels, given.cutoff, given.seed),
    ),
    "mlp": _baseline(
        classical.Mlp,
        lambda given: classical.fit_mlp(given.inputs.features, given.labels, given.cutoff, given.seed),
    ),
    "trees": _baseline(
        classical.Trees,
        lambda given: classical.fit_trees(given.inputs.features, given.labels, given.cutoff, given.seed),
    ),
}

RECIPES = NETWORKS | BASELINES
#: Rows of a ticker that the model with the longest memory looks at: what a day's prediction needs at least.
CONTEXT = max(recipe.context for recipe in RECIPES.values())
