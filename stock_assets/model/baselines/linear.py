"""Multinomial logistic regression: the model that any harder one has to beat."""

from dataclasses import dataclass
from datetime import date
from math import ceil
from typing import Any

import numpy as np
import polars as pl

from stock_assets.errors import StockAssetsError
from stock_assets.frames import KEYS
from stock_assets.model.baselines.base import (
    ScaledBaseline,
    output_layer,
    register_baseline,
    require_classes,
    require_labels,
)
from stock_assets.model.baselines.samples import thinned
from stock_assets.model.lesson import Lesson
from stock_assets.model.probabilities import softmax
from stock_assets.model.scaling import feature_columns, fit_scaler, standardised

#: Labels that a regression learns from, at most: of more, every so many of each ticker, so that their inputs fit into
#: memory. A market of 800 tickers reaches it after ten years.
MOST_LABELS = 2_000_000


@register_baseline
@dataclass(frozen=True)
class Logistic(ScaledBaseline):
    """Multinomial logistic regression on standardised features. A class absent from the training gets 0."""

    name, role, reads = "logistic", "champion", "components"
    title = "logistic regression"
    weights: np.ndarray
    """float64 [F, 3]"""
    bias: np.ndarray
    """float64 [3]; -inf for a class absent from the training"""
    every: int = 1
    """it learned from every so many labels of each ticker"""

    @classmethod
    def fit(cls, lesson: Lesson) -> "Logistic":
        return fit_logistic(lesson.inputs.components, lesson.labels, lesson.cutoff)

    def to_artifact(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """As every baseline; `every` where not all labels were learned from."""
        tensors, description = super().to_artifact()
        if self.every == 1:
            del description["values"]["every"]
        return tensors, description

    def probabilities(self, rows: pl.DataFrame) -> np.ndarray:
        scaled = self.scaled(rows)
        return softmax(scaled @ self.weights + self.bias)


def fit_logistic(
    features: pl.DataFrame, labels: pl.DataFrame, cutoff: date, *, regularisation: float = 1.0
) -> Logistic:
    """Multinomial logistic regression on the floating-point columns of `features`.

    Minimises the sum of the rows' log-losses + `regularisation` / 2 × the squared weights. The
    scaler is fitted on the rows that train: those of all `labels`, or of more than MOST_LABELS every k-th of each
    ticker, with the smallest k that leaves no more. Raises as `fit_class_prior`, BadBarsError for features that are
    not finite, and StockAssetsError when only one class is left to learn or the optimizer does not
    converge.
    """
    from sklearn.linear_model import LogisticRegression

    require_labels(labels, cutoff)
    columns = feature_columns(features)
    stride = ceil(labels.height / MOST_LABELS)
    thinned_labels = thinned(labels, stride) if stride > 1 else labels.select(*KEYS, "label")
    rows = features.join(thinned_labels, on=KEYS).sort(KEYS)
    class_numbers = require_classes(rows["label"], "a logistic regression", cutoff)
    mean, std = fit_scaler(rows, columns)
    model = LogisticRegression(C=1 / regularisation, max_iter=500)
    model.fit(standardised(rows, columns, mean=mean, std=std), rows["label"].to_numpy())
    if model.n_iter_.max() >= model.max_iter:
        raise StockAssetsError(f"a logistic regression with cutoff {cutoff} did not converge in {model.max_iter} steps")
    weights, bias = output_layer(np.asarray(model.coef_).T, np.asarray(model.intercept_), class_numbers)
    return Logistic(cutoff, columns, mean, std, weights, bias, max(1, stride))
