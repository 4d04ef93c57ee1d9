"""What every baseline shares: a cutoff, the kind of frame it reads, and the frame it answers in."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from datetime import date
from typing import Any, ClassVar, Literal

import numpy as np
import polars as pl

from stock_assets.errors import StockAssetsError
from stock_assets.frames import CLASSES, KEYS
from stock_assets.model.probabilities import probability_frame
from stock_assets.model.splits import require_after, require_known

#: What a baseline reads beside ticker and session: nothing; the principal components (pc_1 … pc_k, f64); the
#: stationary features (f32); or `known_label` of `baselines.known_labels`.
Inputs = Literal["none", "components", "features", "known_labels"]

#: What the description of its artifact calls it.
KIND = "baseline"

#: Rows answered at a time, so that the intermediate arrays of a long range stay small.
_CHUNK_ROWS = 32_768


@dataclass(frozen=True)
class Baseline:
    """A model of plain values. `cutoff` is the last session whose close the training has seen."""

    name: ClassVar[str]
    inputs: ClassVar[Inputs]
    cutoff: date

    def predict(self, features: pl.DataFrame, sessions: Collection[date] | None = None) -> pl.DataFrame:
        """ticker, session, p_sell, p_hold, p_buy, score of the rows of `features` at `sessions` (all when None).

        `features` is the frame that `inputs` names. Sorted by ticker and session. Raises CutoffError when a
        session is not after the cutoff.
        """
        rows = features if sessions is None else features.filter(pl.col("session").is_in(list(sessions)))
        rows = rows.sort(KEYS)
        require_after(self.cutoff, rows["session"].unique().to_list())
        parts = [self.probabilities(part) for part in rows.iter_slices(_CHUNK_ROWS)]
        return probability_frame(rows, np.concatenate([np.empty((0, len(CLASSES))), *parts]))

    def probabilities(self, rows: pl.DataFrame) -> np.ndarray:
        """float64 [N, 3] in the order of `rows`."""
        raise NotImplementedError

    def to_artifact(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """(tensors, description) for `storage.artifacts.save_artifact`; `baselines.baseline_from_artifact` reads it."""
        values = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "cutoff"}
        tensors = {name: value for name, value in values.items() if isinstance(value, np.ndarray)}
        return tensors, {
            "kind": KIND,
            "name": self.name,
            "classes": list(CLASSES),
            "cutoff": self.cutoff.isoformat(),
            "values": {name: value for name, value in values.items() if name not in tensors},
        }


def require_labels(labels: pl.DataFrame, cutoff: date) -> None:
    """Raises CutoffError for a label that ends after `cutoff`, StockAssetsError for no label at all."""
    require_known(labels, cutoff)
    if labels.is_empty():
        raise StockAssetsError(f"no label is known by the cutoff {cutoff}; expected usable labels before it")


def require_classes(labels: pl.Series, model: str, cutoff: date) -> list[int]:
    """Positions in CLASSES of those that occur among `labels`. Raises StockAssetsError for fewer than two."""
    seen = labels.unique().sort().to_list()
    if len(seen) < 2:
        raise StockAssetsError(
            f"{model} with cutoff {cutoff} has {len(labels)} row(s) of {len(seen)} class(es) to learn from; "
            "expected two classes or more"
        )
    return [CLASSES.index(c) for c in seen]


def output_layer(coefficients: np.ndarray, intercept: np.ndarray, seen: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """(weights [F, 3], bias [3]) for `softmax`, of what scikit-learn learned about the classes at `seen`.

    `coefficients` is [F, classes seen], of two classes only [F, 1]: scikit-learn keeps the later one's alone then. A
    class not seen gets a bias of -inf, which is a probability of 0.
    """
    weights, bias = np.zeros((len(coefficients), len(CLASSES))), np.full(len(CLASSES), -np.inf)
    if len(seen) == 2:
        weights[:, seen[1]], bias[seen] = coefficients[:, 0], [0.0, intercept[0]]
    else:
        weights[:, seen], bias[seen] = coefficients, intercept
    return weights, bias
