"""Support vector machines, one of the two models that Kara, Boyacioglu & Baykan (2011, Expert Systems with
Applications 38) compare on the direction of a stock index. On the principal components it did worse in 2012 and 2013
than on the stationary features, which it reads.
"""

from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import numpy as np
import polars as pl

from stock_assets.frames import CLASSES
from stock_assets.model.baselines.base import ScaledBaseline, output_layer, register_baseline, require_classes
from stock_assets.model.baselines.samples import CLIP, training_and_tail
from stock_assets.model.lesson import Lesson
from stock_assets.model.probabilities import softmax
from stock_assets.model.scaling import fit_scaler


@register_baseline
@dataclass(frozen=True)
class Svm(ScaledBaseline):
    """Linear support vector machines, one class against the rest, on random Fourier features.

    The features √(2/W) cos(x·ω + φ) of W random waves approximate a radial basis function kernel (Rahimi & Recht 2007);
    a multinomial logit turns the three decision values into probabilities (Platt 1999).
    """

    name, role, reads = "svm", "reference", "features"
    title = "support vector machines on random Fourier features"
    clip: float
    frequencies: np.ndarray
    """float32 [F, W]"""
    phases: np.ndarray
    """float32 [W]"""
    planes: np.ndarray
    """float64 [W, 3], the machines' weights; 0 for a class absent from their training"""
    offsets: np.ndarray
    """float64 [3], likewise"""
    weights: np.ndarray
    """float64 [3, 3], of the logit"""
    bias: np.ndarray
    """float64 [3]; -inf for a class absent from the training"""

    @classmethod
    def fit(cls, lesson: Lesson) -> "Svm":
        return fit_svm(lesson.inputs.features, lesson.labels, lesson.cutoff, seed=lesson.seed)

    def waves(self, rows: pl.DataFrame, dtype: type = np.float64) -> np.ndarray:
        """The random Fourier features, `dtype` [N, W]."""
        scaled = self.scaled(rows, clip=self.clip, dtype=dtype)
        angles = scaled @ self.frequencies + self.phases
        np.cos(angles, out=angles)
        angles *= np.sqrt(2 / len(self.phases), dtype=dtype)
        return angles

    def decisions(self, rows: pl.DataFrame) -> np.ndarray:
        """The signed distances that the machines decide by, float64 [N, 3]."""
        return self.waves(rows) @ self.planes + self.offsets

    def probabilities(self, rows: pl.DataFrame) -> np.ndarray:
        return softmax(self.decisions(rows) @ self.weights + self.bias)


def fit_svm(  # every parameter after the cutoff is a hyperparameter
    features: pl.DataFrame,
    labels: pl.DataFrame,
    cutoff: date,
    *,
    seed: int = 0,
    waves: int = 256,
    width: float = 0.25,
    penalty: float = 1e-4,
    passes: int = 5,
) -> Svm:
    """Support vector machines on the floating-point columns of `features`, then their probabilities.

    The kernel is exp(-`width`² |x - y|² / (2 F)) of the F standardised columns; the machines minimise the mean hinge
    loss + `penalty` / 2 × the squared weights, by averaged stochastic gradient descent in `passes` passes over the
    labels before the tail. The logit learns from those rows and the tail together: from the tail alone it
    learned the class frequencies of half a year. `labels` are usable and purged; features after `cutoff` are not
    looked at.

    Raises CutoffError for a label that ends after `cutoff`, BadBarsError for features that are not finite, and
    StockAssetsError for too little history or only one class.
    """
    from sklearn.linear_model import LogisticRegression, SGDClassifier

    train, tail, columns = training_and_tail(features, labels, cutoff, model="an SVM")
    mean, std = fit_scaler(train, columns)
    rng = np.random.default_rng(seed)
    machine = Svm(
        cutoff,
        columns,
        mean,
        std,
        CLIP,
        frequencies=rng.normal(0, width / np.sqrt(len(columns)), (len(columns), waves)).astype(np.float32),
        phases=rng.uniform(0, 2 * np.pi, waves).astype(np.float32),
        planes=np.zeros((waves, len(CLASSES))),
        offsets=np.zeros(len(CLASSES)),
        weights=np.zeros((len(CLASSES), len(CLASSES))),
        bias=np.zeros(len(CLASSES)),
    )
    inputs, outcomes = machine.waves(train, np.float32), train["label"].to_numpy()
    for i in require_classes(train["label"], "an SVM", cutoff):
        classifier: Any = SGDClassifier(alpha=penalty, max_iter=passes, tol=None, average=True, random_state=seed)  # pyright: ignore[reportArgumentType]
        classifier.fit(inputs, outcomes == CLASSES[i])
        machine.planes[:, i], machine.offsets[i] = classifier.coef_[0], classifier.intercept_[0]

    planes = machine.planes.astype(np.float32)  # so that the waves are not copied into double precision
    decisions = np.vstack([part @ planes for part in (inputs, machine.waves(tail, np.float32))]) + machine.offsets
    all_labels = pl.concat([train["label"], tail["label"]])
    logit = LogisticRegression().fit(decisions, all_labels.to_numpy())
    class_numbers = require_classes(all_labels, "an SVM", cutoff)
    weights, bias = output_layer(np.asarray(logit.coef_).T, np.asarray(logit.intercept_), class_numbers)
    return replace(machine, weights=weights, bias=bias)
