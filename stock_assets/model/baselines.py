"""The models a network has to beat: two naive priors and a logistic regression.

Each is a dataclass of plain arrays with a `cutoff`, answers in the frame of every model, and is saved as
tensors and JSON.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date
from typing import Any, ClassVar

import numpy as np
import polars as pl

from stock_assets.errors import ArtifactError, StockAssetsError
from stock_assets.model.config import CLASSES
from stock_assets.model.probabilities import probability_frame, softmax
from stock_assets.model.scaling import feature_columns, fit_scaler, standardised
from stock_assets.model.splits import KEYS, require_after, require_known

#: Baselines that look at no feature. The best of them is what any score must be read against.
NAIVE = ("class_prior", "ticker_prior")


@dataclass(frozen=True)
class Baseline:
    """What all baselines share. `cutoff` is the last session whose close the training has seen."""

    name: ClassVar[str]
    cutoff: date

    def predict(self, features: pl.DataFrame, sessions: Collection[date] | None = None) -> pl.DataFrame:
        """ticker, session, p_sell, p_hold, p_buy, score of the feature rows at `sessions` (all when None).

        Sorted by ticker and session. Raises CutoffError when a session is not after the cutoff.
        """
        rows = features if sessions is None else features.filter(pl.col("session").is_in(list(sessions)))
        rows = rows.sort(KEYS)
        require_after(self.cutoff, rows["session"].unique().to_list())
        return probability_frame(rows, self.probabilities(rows))

    def probabilities(self, rows: pl.DataFrame) -> np.ndarray:
        """float64 [N, 3] in the order of `rows`."""
        raise NotImplementedError

    def to_artifact(self):
        return baselines_to_artifact([self])


@dataclass(frozen=True)
class ClassPrior(Baseline):
    """Every row gets the class frequencies of the training labels."""

    name = "class_prior"
    prior: np.ndarray
    """float64 [3]"""

    def probabilities(self, rows: pl.DataFrame) -> np.ndarray:
        return np.tile(self.prior, (rows.height, 1))


@dataclass(frozen=True)
class TickerPrior(Baseline):
    """Every row gets its ticker's class frequencies, a ticker unknown to the training the class prior."""

    name = "ticker_prior"
    prior: np.ndarray
    """float64 [3], of all tickers"""
    tickers: tuple[str, ...]
    by_ticker: np.ndarray
    """float64 [T, 3]"""

    def probabilities(self, rows: pl.DataFrame) -> np.ndarray:
        position = {ticker: i for i, ticker in enumerate(self.tickers)}
        table = np.vstack([self.by_ticker, self.prior])
        return table[[position.get(ticker, -1) for ticker in rows["ticker"]]]


@dataclass(frozen=True)
class Logistic(Baseline):
    """Multinomial logistic regression on standardised features. A class absent from the training gets 0."""

    name = "logistic"
    features: tuple[str, ...]
    mean: np.ndarray
    """float64 [F], of the training rows"""
    std: np.ndarray
    """float64 [F], likewise; 1 where a column is constant"""
    weights: np.ndarray
    """float64 [F, 3]"""
    bias: np.ndarray
    """float64 [3]; -inf for a class absent from the training"""

    def probabilities(self, rows: pl.DataFrame) -> np.ndarray:
        scaled = standardised(rows, self.features, self.mean, self.std)
        return softmax(scaled @ self.weights + self.bias)


def fit_class_prior(labels: pl.DataFrame, cutoff: date) -> ClassPrior:
    """The class frequencies of `labels`, which are usable and purged, with one imaginary label per class.

    Raises CutoffError for a label that ends after `cutoff`, StockAssetsError for no label at all.
    """
    _require_labels(labels, cutoff)
    counts = _class_counts(labels) + 1.0  # so that a class never seen does not cost an infinite log-loss
    return ClassPrior(cutoff, counts / counts.sum())


def fit_ticker_prior(labels: pl.DataFrame, cutoff: date, pseudo_count: float = 100.0) -> TickerPrior:
    """The class frequencies of each ticker, shrunk to those of all.

    (count of the ticker and class + pseudo_count × class prior) / (count of the ticker + pseudo_count).
    Labels of neighbouring sessions share six of their seven days, so a hundred labels are about fifteen
    observations. Raises as `fit_class_prior`.
    """
    prior = fit_class_prior(labels, cutoff).prior
    counts = labels.group_by("ticker").agg((pl.col("label") == c).sum().alias(str(c)) for c in CLASSES).sort("ticker")
    table = counts.drop("ticker").cast(pl.Float64).to_numpy() + pseudo_count * prior
    return TickerPrior(cutoff, prior, tuple(counts["ticker"]), table / table.sum(axis=1, keepdims=True))


def fit_logistic(features: pl.DataFrame, labels: pl.DataFrame, cutoff: date, regularisation: float = 1.0) -> Logistic:
    """Multinomial logistic regression on the floating-point columns of `features`.

    The penalty is `regularisation` / 2 × the squared weights, beside the sum of the rows' log-losses. The
    scaler is fitted on the rows that train. Raises as `fit_class_prior`, BadBarsError for features that are
    not finite, and StockAssetsError when only one class is left to learn or the optimizer does not
    converge.
    """
    from sklearn.linear_model import LogisticRegression

    _require_labels(labels, cutoff)
    columns = feature_columns(features)
    rows = features.join(labels.select(*KEYS, "label"), on=KEYS).sort(KEYS)
    classes = rows["label"].unique().sort()
    if len(classes) < 2:
        raise StockAssetsError(
            f"a logistic regression with cutoff {cutoff} has {rows.height} row(s) of {len(classes)} "
            "class(es) to learn from; expected two classes or more"
        )
    mean, std = fit_scaler(rows, columns)
    model = LogisticRegression(C=1 / regularisation, max_iter=500)
    model.fit(standardised(rows, columns, mean, std), rows["label"].to_numpy())
    if model.n_iter_.max() >= model.max_iter:
        raise StockAssetsError(f"a logistic regression with cutoff {cutoff} did not converge in {model.max_iter} steps")
    weights, bias = np.zeros((len(columns), len(CLASSES))), np.full(len(CLASSES), -np.inf)
    coefficients, intercept = np.asarray(model.coef_), np.asarray(model.intercept_)
    seen = [CLASSES.index(c) for c in classes]
    if len(seen) == 2:  # scikit-learn keeps one row of weights then, that of the later class
        weights[:, seen[1]], bias[seen] = coefficients[0], [0.0, intercept[0]]
    else:
        weights[:, seen], bias[seen] = coefficients.T, intercept
    return Logistic(cutoff, columns, mean, std, weights, bias)


def baselines_to_artifact(baselines: Sequence[Baseline]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """(tensors, description) of baselines with distinct names, for `storage.artifacts.save_artifact`."""
    tensors: dict[str, np.ndarray] = {}
    described = []
    for baseline in baselines:
        values = {field.name: getattr(baseline, field.name) for field in fields(baseline)}
        arrays = {name: value for name, value in values.items() if isinstance(value, np.ndarray)}
        tensors |= {f"{baseline.name}/{name}": value for name, value in arrays.items()}
        plain = {name: value for name, value in values.items() if name not in arrays}
        described.append(plain | {"name": baseline.name, "cutoff": baseline.cutoff.isoformat()})
    return tensors, {"kind": "baselines", "classes": list(CLASSES), "baselines": described}


def baselines_from_artifact(tensors: Mapping[str, np.ndarray], description: Mapping[str, Any]) -> list[Baseline]:
    """The baselines that `baselines_to_artifact` described. Raises ArtifactError for anything missing or unknown."""
    kinds: dict[str, type[Baseline]] = {kind.name: kind for kind in (ClassPrior, TickerPrior, Logistic)}
    try:
        if (description["kind"], tuple(description["classes"])) != ("baselines", CLASSES):
            raise ArtifactError(
                f"artifact is a {description['kind']!r} with classes {description['classes']}; expected "
                f"'baselines' with classes {list(CLASSES)}"
            )
        loaded = []
        for plain in description["baselines"]:
            values: dict[str, Any] = {
                name: tuple(value) if isinstance(value, list) else value for name, value in plain.items()
            }
            name, cutoff = values.pop("name"), date.fromisoformat(values.pop("cutoff"))
            prefix = f"{name}/"
            arrays = {key.removeprefix(prefix): array for key, array in tensors.items() if key.startswith(prefix)}
            loaded.append(kinds[name](cutoff=cutoff, **values, **arrays))
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"artifact of baselines is incomplete: {error!r}") from error
    return loaded


def _class_counts(labels: pl.DataFrame) -> np.ndarray:
    return np.array([(labels["label"] == c).sum() for c in CLASSES], np.float64)


def _require_labels(labels: pl.DataFrame, cutoff: date) -> None:
    require_known(labels, cutoff)
    if labels.is_empty():
        raise StockAssetsError(f"no label is known by the cutoff {cutoff}; expected usable labels before it")
