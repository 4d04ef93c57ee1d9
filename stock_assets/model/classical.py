"""The classifiers of earlier studies: a support vector machine, a neural network, boosted trees.

The first two are what Kara, Boyacioglu & Baykan (2011, Expert Systems with Applications 38) compare on the direction
of a stock index. All three read the stationary features: on the principal components the first two did worse in 2012
and 2013.

Labels of neighbouring sessions share six of their seven days. So each model learns from every third label of a ticker,
or from fewer where there are many, and how long it trains is decided on the newest labels, purged: random validation
rows would be neighbours of training rows.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property
from itertools import islice
from math import ceil
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from stock_assets.errors import ArtifactError, StockAssetsError
from stock_assets.frames import CLASSES, KEYS
from stock_assets.model.baseline import Baseline, output_layer, require_classes, require_labels
from stock_assets.model.probabilities import softmax
from stock_assets.model.scaling import feature_columns, fit_scaler, standardised
from stock_assets.model.splits import train_validation_split

if TYPE_CHECKING:
    from lightgbm import Booster

#: A model learns from every so many labels of a ticker, at the closest, and from about so many rows, at most.
EVERY, MOST_ROWS = 3, 120_000
#: The newest sessions of the labels, which judge before they train: a third of them, and a year at most.
TAIL_SHARE, TAIL_SESSIONS = 3, 252
#: Standardised inputs are cut to ± this many standard deviations.
CLIP = 5.0


@dataclass(frozen=True)
class Svm(Baseline):
    """Linear support vector machines, one class against the rest, on random Fourier features.

    The features √(2/W) cos(x·ω + φ) of W random waves approximate a radial basis function kernel (Rahimi & Recht 2007);
    a multinomial logit turns the three decision values into probabilities (Platt 1999).
    """

    name, inputs = "svm", "features"
    features: tuple[str, ...]
    mean: np.ndarray
    """float64 [F], of the training rows"""
    std: np.ndarray
    """float64 [F], likewise; 1 where a column is constant"""
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

    def waves(self, rows: pl.DataFrame, dtype: type = np.float64) -> np.ndarray:
        """The random Fourier features, `dtype` [N, W]."""
        scaled = standardised(rows, self.features, self.mean, self.std, self.clip, dtype)
        angles = scaled @ self.frequencies + self.phases
        np.cos(angles, out=angles)
        angles *= np.sqrt(2 / len(self.phases), dtype=dtype)
        return angles

    def decisions(self, rows: pl.DataFrame) -> np.ndarray:
        """The signed distances that the machines decide by, float64 [N, 3]."""
        return self.waves(rows) @ self.planes + self.offsets

    def probabilities(self, rows: pl.DataFrame) -> np.ndarray:
        return softmax(self.decisions(rows) @ self.weights + self.bias)


@dataclass(frozen=True)
class Mlp(Baseline):
    """One hidden layer of tanh units on standardised features, as in Kara et al. A class absent from the training
    gets 0.
    """

    name, inputs = "mlp", "features"
    features: tuple[str, ...]
    mean: np.ndarray
    """float64 [F], of the training rows"""
    std: np.ndarray
    """float64 [F], likewise; 1 where a column is constant"""
    clip: float
    hidden_weights: np.ndarray
    """float32 [F, H]"""
    hidden_bias: np.ndarray
    """float32 [H]"""
    weights: np.ndarray
    """float64 [H, 3]"""
    bias: np.ndarray
    """float64 [3]; -inf for a class absent from the training"""

    def probabilities(self, rows: pl.DataFrame) -> np.ndarray:
        scaled = standardised(rows, self.features, self.mean, self.std, self.clip)
        return softmax(np.tanh(scaled @ self.hidden_weights + self.hidden_bias) @ self.weights + self.bias)


@dataclass(frozen=True)
class Trees(Baseline):
    """Gradient-boosted trees of LightGBM (Ke et al. 2017)."""

    name, inputs = "trees", "features"
    features: tuple[str, ...]
    text: str
    """The model in LightGBM's own text format"""

    @cached_property
    def _booster(self) -> "Booster":
        lightgbm = _lightgbm()
        try:
            return lightgbm.Booster(model_str=self.text)
        except lightgbm.basic.LightGBMError as error:
            raise ArtifactError(f"the saved trees are no LightGBM model: {error}") from error

    def probabilities(self, rows: pl.DataFrame) -> np.ndarray:
        return np.asarray(self._booster.predict(_raw(rows, self.features), num_threads=1))


def fit_svm(
    features: pl.DataFrame,
    labels: pl.DataFrame,
    cutoff: date,
    seed: int = 0,
    waves: int = 256,
    width: float = 0.25,
    penalty: float = 1e-4,
    passes: int = 5,
) -> Svm:
    """Support vector machines on the floating-point columns of `features`, then their probabilities.

    The kernel is exp(-`width`² |x - y|² / (2 F)) of the F standardised columns; the machines minimise the mean hinge
    loss + `penalty` / 2 × the squared weights, by averaged stochastic gradient descent in `passes` passes over the
    labels before the tail. The logit learns from those rows and the tail together: from the tail alone it took over
    the mood of half a year. `labels` are usable and purged; features after `cutoff` are not looked at.

    Raises CutoffError for a label that ends after `cutoff`, BadBarsError for features that are not finite, and
    StockAssetsError for too little history or only one class.
    """
    from sklearn.linear_model import LogisticRegression, SGDClassifier

    train, tail, columns = _lessons(features, labels, cutoff, "an SVM")
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
        one: Any = SGDClassifier(alpha=penalty, max_iter=passes, tol=None, average=True, random_state=seed)  # pyright: ignore[reportArgumentType]
        one.fit(inputs, outcomes == CLASSES[i])
        machine.planes[:, i], machine.offsets[i] = one.coef_[0], one.intercept_[0]

    planes = machine.planes.astype(np.float32)  # so that the waves are not copied into double precision
    decisions = np.vstack([part @ planes for part in (inputs, machine.waves(tail, np.float32))]) + machine.offsets
    known = pl.concat([train["label"], tail["label"]])
    logit = LogisticRegression().fit(decisions, known.to_numpy())
    seen = require_classes(known, "an SVM", cutoff)
    weights, bias = output_layer(np.asarray(logit.coef_).T, np.asarray(logit.intercept_), seen)
    return replace(machine, weights=weights, bias=bias)


def fit_mlp(
    features: pl.DataFrame,
    labels: pl.DataFrame,
    cutoff: date,
    seed: int = 0,
    hidden: int = 32,
    penalty: float = 0.04,
    passes: int = 30,
    patience: int = 4,
) -> Mlp:
    """A neural network of one hidden layer on the floating-point columns of `features`.

    Adam minimises the mean log-loss + `penalty` / 2 × the squared weights. The number of passes, `passes` at most, is
    that with the least log-loss on the tail, the search ending `patience` passes after it; then the network trains
    that long on all rows. Without a pass it is the class prior. `labels` are usable and purged; features after
    `cutoff` are not looked at. Raises as `fit_svm`.
    """
    train, tail, columns = _lessons(features, labels, cutoff, "an MLP")
    least, best = np.inf, 0
    for i, found in enumerate(islice(_passes(train, columns, cutoff, seed, hidden, penalty), passes + 1)):
        loss = _log_loss(found, tail)
        if loss < least:
            least, best = loss, i
        elif i - best >= patience:
            break
    return next(islice(_passes(pl.concat([train, tail]), columns, cutoff, seed, hidden, penalty), best, None))


def fit_trees(
    features: pl.DataFrame,
    labels: pl.DataFrame,
    cutoff: date,
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
    `rounds` at most, is that with the least log-loss on the tail, the search ending `patience` rounds after it; then as
    many are grown on all rows. `labels` are usable and purged; features after `cutoff` are not looked at. One thread,
    so that the same rows give the same trees on any number of cores.

    Raises as `fit_svm`, and StockAssetsError where LightGBM cannot be loaded.
    """
    lightgbm = _lightgbm()
    train, tail, columns = _lessons(features, labels, cutoff, "boosted trees")
    require_classes(train["label"], "boosted trees", cutoff)
    parameters = {
        "objective": "multiclass",
        "num_class": len(CLASSES),
        "num_leaves": leaves,
        "min_data_in_leaf": rows_per_leaf,
        "feature_fraction": share,
        "extra_trees": True,
        "learning_rate": rate,
        "max_bin": 63,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 1,
        "seed": seed,
        "verbosity": -1,
    }
    known = pl.concat([train, tail])
    data = lightgbm.Dataset(_raw(known, columns), known["label"].to_numpy() - CLASSES[0], params=parameters)
    learned, judged = data.subset(range(train.height)), data.subset(range(train.height, known.height))
    stop = lightgbm.early_stopping(patience, verbose=False)
    searched = lightgbm.train(parameters, learned, rounds, [judged], callbacks=[stop])
    return Trees(cutoff, columns, lightgbm.train(parameters, data, searched.best_iteration).model_to_string())


def _lessons(
    features: pl.DataFrame, labels: pl.DataFrame, cutoff: date, model: str
) -> tuple[pl.DataFrame, pl.DataFrame, tuple[str, ...]]:
    """(rows before the tail, rows of the tail, input columns): thinned labels with their features, in order."""
    require_labels(labels, cutoff)
    step = max(EVERY, ceil(labels.height / MOST_ROWS))
    tail_sessions = min(labels["session"].n_unique() // TAIL_SHARE, TAIL_SESSIONS)
    train, tail = (
        features.join(thinned(part, step), on=KEYS).sort(KEYS)
        for part in train_validation_split(labels, cutoff, tail_sessions)
    )
    if train.is_empty() or tail.is_empty():
        raise StockAssetsError(
            f"{model} with cutoff {cutoff} has features for {train.height} label(s) to learn from and {tail.height} to "
            "be judged on; expected rows of the same tickers and sessions for both"
        )
    return train, tail, feature_columns(features)


def thinned(labels: pl.DataFrame, step: int) -> pl.DataFrame:
    """ticker, session, label of every `step`-th row of each ticker; they take turns, so that all sessions stay."""
    turn = pl.int_range(pl.len()).over("ticker") + pl.col("ticker").rank("dense")
    return labels.sort(KEYS).filter(turn % step == 0).select(*KEYS, "label")


def _passes(
    rows: pl.DataFrame, columns: tuple[str, ...], cutoff: date, seed: int, hidden: int, penalty: float
) -> Iterator[Mlp]:
    """The network after 0, 1, 2, … passes over `rows`; after 0 it is their class prior."""
    from sklearn.neural_network import MLPClassifier

    mean, std = fit_scaler(rows, columns)
    inputs, outcomes = standardised(rows, columns, mean, std, CLIP, np.float32), rows["label"].to_numpy()
    seen = require_classes(rows["label"], "an MLP", cutoff)
    prior = np.full(len(CLASSES), -np.inf)
    prior[seen] = [np.log((outcomes == CLASSES[i]).mean()) for i in seen]
    weights, first_bias = np.zeros((len(columns), hidden), np.float32), np.zeros(hidden, np.float32)
    untrained = Mlp(cutoff, columns, mean, std, CLIP, weights, first_bias, np.zeros((hidden, len(CLASSES))), prior)
    yield untrained
    batch = min(256, max(32, rows.height // 100), rows.height)  # a small panel needs its hundred steps a pass, too
    network: Any = MLPClassifier(
        (hidden,),
        activation="tanh",
        alpha=penalty * batch,  # scikit-learn divides it by the rows of a batch
        batch_size=batch,  # pyright: ignore[reportArgumentType]
        random_state=np.random.RandomState(seed),  # an integer would shuffle every pass alike
    )
    while True:
        network.partial_fit(inputs, outcomes, classes=[CLASSES[i] for i in seen])
        (first, last), (first_bias, last_bias) = network.coefs_, network.intercepts_
        weights, bias = output_layer(last, last_bias, seen)
        # the first layer goes on changing in place
        yield replace(untrained, hidden_weights=first.copy(), hidden_bias=first_bias.copy(), weights=weights, bias=bias)


def _log_loss(model: Baseline, rows: pl.DataFrame) -> float:
    of_label = model.probabilities(rows)[np.arange(rows.height), rows["label"].to_numpy() - CLASSES[0]]
    return float(-np.log(np.maximum(of_label, 1e-15)).mean())


def _raw(rows: pl.DataFrame, columns: tuple[str, ...]) -> np.ndarray:
    """float32 [N, F]: trees need no scale, and LightGBM takes single precision as it is."""
    return standardised(rows, columns, np.zeros(len(columns)), np.ones(len(columns)), dtype=np.float32)


def _lightgbm() -> ModuleType:
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
