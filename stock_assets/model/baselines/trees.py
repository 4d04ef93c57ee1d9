"""Gradient-boosted trees on the stationary features."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from stock_assets.errors import ArtifactError, StockAssetsError
from stock_assets.frames import CLASSES
from stock_assets.model.baselines.base import Baseline, register_baseline, require_classes
from stock_assets.model.baselines.samples import training_and_tail
from stock_assets.model.lesson import Lesson
from stock_assets.model.scaling import column_values, require_finite

if TYPE_CHECKING:
    from lightgbm import Booster


@register_baseline
@dataclass(frozen=True)
class Trees(Baseline):
    """Gradient-boosted trees of LightGBM (Ke et al. 2017)."""

    name, role, reads = "trees", "champion", "features"
    title = "gradient-boosted trees"
    features: tuple[str, ...]
    text: str
    """The model in LightGBM's own text format"""

    @classmethod
    def fit(cls, lesson: Lesson) -> "Trees":
        return fit_trees(lesson.inputs.features, lesson.labels, lesson.cutoff, seed=lesson.seed)

    @cached_property
    def _booster(self) -> "Booster":
        return booster_of(self.text)

    def probabilities(self, rows: pl.DataFrame) -> np.ndarray:
        return np.asarray(self._booster.predict(_raw(rows, self.features), num_threads=1))


def fit_trees(  # every parameter after the cutoff is a hyperparameter
    features: pl.DataFrame,
    labels: pl.DataFrame,
    cutoff: date,
    *,
    seed: int = 0,
    leaves: int = 15,
    rows_per_leaf: int = 500,
    share: float = 0.15,
    rate: float = 0.1,
    rounds: int = 100,
    patience: int = 10,
) -> Trees:
    """Boosted trees on the floating-point columns of `features`, a tree per class and round.

    Each tree looks at a random `share` of the columns and, like extremely randomised trees (Geurts, Ernst & Wehenkel
    2006), at one random threshold of each: what is fitted less sharply outlives its regime. The number of rounds,
    `rounds` at most, is the one with the lowest log-loss on the tail; the search ends `patience` rounds after it. Then
    as many are grown on all rows. `labels` are usable and purged; features after `cutoff` are not looked at. One
    thread, so that the same rows give the same trees on any number of cores.

    Raises as `fit_svm`, and StockAssetsError where LightGBM cannot be loaded.
    """
    train, tail, columns = training_and_tail(features, labels, cutoff, model="boosted trees")
    require_classes(train["label"], "boosted trees", cutoff)
    parameters = {
        "num_leaves": leaves,
        "min_data_in_leaf": rows_per_leaf,
        "feature_fraction": share,
        "learning_rate": rate,
        "seed": seed,
    }
    rows = pl.concat([train, tail])
    text = grown(
        _raw(rows, columns),
        rows["label"].to_numpy() - CLASSES[0],
        train.height,
        parameters=parameters,
        rounds=rounds,
        patience=patience,
    )
    return Trees(cutoff, columns, text)


def grown(
    inputs: np.ndarray,
    classes: np.ndarray,
    learns: int,
    *,
    parameters: Mapping[str, Any],
    rounds: int = 100,
    patience: int = 10,
) -> str:
    """The text of boosted trees on `inputs`, float32 [N, F], and `classes`, 0 to 2 [N]; NaN counts as missing.

    The rows after the first `learns` judge how many rounds there are, `rounds` at most; then as many are grown on all
    of them. `parameters` are LightGBM's, beside those that every fit has.
    """
    lightgbm = load_lightgbm()
    parameters = {
        "objective": "multiclass",
        "num_class": len(CLASSES),
        "extra_trees": True,
        "max_bin": 63,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 1,
        "verbosity": -1,
        **parameters,
    }
    data = lightgbm.Dataset(inputs, classes, params=parameters)
    training_data, validation_data = data.subset(range(learns)), data.subset(range(learns, len(inputs)))
    stop = lightgbm.early_stopping(patience, verbose=False)
    search_booster = lightgbm.train(parameters, training_data, rounds, [validation_data], callbacks=[stop])
    return lightgbm.train(parameters, data, search_booster.best_iteration).model_to_string()


def _raw(rows: pl.DataFrame, columns: tuple[str, ...]) -> np.ndarray:
    """float32 [N, F]: trees need no scale, and LightGBM takes single precision as it is.

    A null of the market context stays missing. LightGBM learns where missing values go from those of the training;
    where the training had none, it reads 0.
    """
    require_finite(rows, columns)
    return np.column_stack([column_values(rows, column).astype(np.float32) for column in columns])


def booster_of(text: str) -> "Booster":
    """The trees of `grown`. Raises ArtifactError where the text is none of LightGBM's."""
    lightgbm = load_lightgbm()
    try:
        return lightgbm.Booster(model_str=text)
    except lightgbm.basic.LightGBMError as error:
        raise ArtifactError(f"the saved trees are no LightGBM model: {error}") from error


def load_lightgbm() -> ModuleType:
    """The library. Raises StockAssetsError where its system library is missing."""
    try:
        import lightgbm
    except OSError:  # its wheel leaves the OpenMP runtime to the system; torch's brings one, which then serves both
        import torch  # noqa: F401

        try:
            import lightgbm
        except OSError as error:
            raise StockAssetsError(
                f"LightGBM cannot be loaded ({error}); it needs the system library libgomp.so.1 (Debian: apt-get "
                "install libgomp1)"
            ) from error
    return lightgbm
