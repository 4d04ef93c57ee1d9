"""Which models there are: what each reads, how it is trained, loaded and asked.

Whoever trains, predicts or audits goes through here, so that a model is added in one place.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal, Protocol

import numpy as np
import polars as pl

from stock_assets.model import baselines, classical
from stock_assets.model.baseline import Baseline
from stock_assets.model.config import DeepArConfig, RnnConfig, UpdateConfig, VolatilityConfig
from stock_assets.model.deepar import TrainedDeepAr, predict_deepar, train_deepar
from stock_assets.model.descent import Checkpoint
from stock_assets.model.training import TrainedRnn, predict, train_rnn, update_rnn
from stock_assets.model.volatility import TrainedVolatility, predict_volatility, train_volatility, update_volatility

Reads = Literal["features", "components", "known_labels"]


class Inputs(Protocol):
    """What models read, all of the same tickers and sessions."""

    @property
    def features(self) -> pl.DataFrame:
        """ticker, session and the stationary inputs (f32)"""
        ...

    @property
    def components(self) -> pl.DataFrame:
        """ticker, session and the principal components (f64)"""
        ...

    @property
    def known_labels(self) -> pl.DataFrame:
        """ticker, session, known_label (i8): the newest label known at the session's close, null where none is"""
        ...

    @property
    def suspects(self) -> pl.DataFrame:
        """ticker, session of the rows that neither train nor count in a session's mean"""
        ...


@dataclass(frozen=True)
class Lesson:
    """Everything that one training is given."""

    inputs: Inputs
    labels: pl.DataFrame
    """usable and purged: known by the cutoff"""
    cutoff: date
    seed: int
    horizon: int
    on_epoch: Callable[[Any], None] | None = None
    """Hears of every epoch of a network."""
    checkpoint: Checkpoint | None = None


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
    update: Callable[[Any, Lesson], Any] | None = None
    """What `train` gave, after a few steps on the labels known since its cutoff; None where a model cannot. Nobody
    calls it by default: ARCHITECTURE.md says why. Of the lesson it hears inputs, labels and cutoff alone."""


def _baseline(kind: type[Baseline], fit: Callable[[Lesson], Baseline]) -> Recipe:
    # one that looks at nothing but the keys is given the smallest frame that has them
    reads: Reads = "known_labels" if kind.inputs == "none" else kind.inputs
    return Recipe(
        reads,
        fit,
        baselines.baseline_from_artifact,
        lambda model, inputs, sessions: model.predict(getattr(inputs, reads), sessions),
    )


#: Those of `trained_rnn`.
NETWORKS = {
    "rnn": Recipe(
        "features",
        lambda given: train_volatility(
            given.inputs.features,
            given.labels,
            given.inputs.suspects,
            VolatilityConfig(),
            given.cutoff,
            given.seed,
            given.horizon,
            given.on_epoch,
            given.checkpoint,
        ),
        TrainedVolatility.from_artifact,
        lambda model, inputs, sessions: predict_volatility(model, inputs.features, inputs.suspects, sessions),
        VolatilityConfig.context,
        lambda model, given: update_volatility(
            model, given.inputs.features, given.labels, given.inputs.suspects, given.cutoff, UpdateConfig()
        ),
    ),
    "rnn_classifier": Recipe(
        "components",
        lambda given: train_rnn(
            given.inputs.components,
            given.labels,
            RnnConfig(),
            given.cutoff,
            given.seed,
            given.on_epoch,
            given.checkpoint,
        ),
        TrainedRnn.from_artifact,
        lambda model, inputs, sessions: predict(model, inputs.components, sessions),
        RnnConfig.context,
        lambda model, given: update_rnn(model, given.inputs.components, given.labels, given.cutoff, UpdateConfig()),
    ),
    "deepar": Recipe(
        "components",
        lambda given: train_deepar(
            given.inputs.components,
            given.labels,
            given.inputs.known_labels,
            DeepArConfig(),
            given.cutoff,
            given.seed,
            given.on_epoch,
            given.checkpoint,
        ),
        TrainedDeepAr.from_artifact,
        lambda model, inputs, sessions: predict_deepar(model, inputs.components, inputs.known_labels, sessions),
        DeepArConfig.context,
    ),
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
