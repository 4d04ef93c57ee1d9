"""What every baseline shares: its entry among the models, a cutoff, and the frame it answers in.

A new baseline is one class in a file of this package (or of your own) with `register_baseline` above it:

    @register_baseline
    @dataclass(frozen=True)
    class Coin(Baseline):
        name, role, reads, title = "coin", "champion", "none", "a fair coin"

        @classmethod
        def fit(cls, lesson: Lesson) -> "Coin":
            return cls(lesson.cutoff)

        def probabilities(self, rows: pl.DataFrame) -> np.ndarray:
            return np.full((rows.height, 3), 1 / 3)
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date
from typing import Any, ClassVar, Self, TypeVar

import numpy as np
import polars as pl

from stock_assets.errors import ArtifactError, StockAssetsError
from stock_assets.frames import CLASSES, KEYS
from stock_assets.model.lesson import Inputs, Lesson
from stock_assets.model.probabilities import probability_frame
from stock_assets.model.registry import ModelEntry, Reads, Role, register_model
from stock_assets.model.scaling import standardised
from stock_assets.model.splits import require_after, require_known

#: What the description of its artifact calls it.
KIND = "baseline"

#: Rows answered at a time, so that the intermediate arrays of a long range stay small.
_CHUNK_ROWS = 32_768


@dataclass(frozen=True)
class PlainModel:
    """A model of plain values, and the form in which it is saved."""

    name: ClassVar[str]
    role: ClassVar[Role]
    title: ClassVar[str]
    """what it is in a few words, for the UI"""
    naive: ClassVar[bool] = False
    moment: ClassVar[type[date]] = date
    """the type of the cutoff"""
    cutoff: date
    """The last session whose close the training has seen; the last moment, where `moment` is datetime."""

    def to_artifact(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """(tensors, description) for `storage.artifacts.save_artifact`; `from_artifact` reads them."""
        values = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "cutoff"}
        tensors = {name: value for name, value in values.items() if isinstance(value, np.ndarray)}
        return tensors, {
            "kind": KIND,
            "name": self.name,
            "classes": list(CLASSES),
            "cutoff": self.cutoff.isoformat(),
            "values": {name: value for name, value in values.items() if name not in tensors},
        }

    @classmethod
    def from_artifact(cls, tensors: Mapping[str, np.ndarray], description: Mapping[str, Any]) -> Self:
        """The model that `to_artifact` described. Raises ArtifactError for another one and for anything missing."""
        try:
            kind = description["kind"], description["name"], tuple(description["classes"])
            if kind != (KIND, cls.name, CLASSES):
                raise ArtifactError(f"artifact is {kind}; expected {(KIND, cls.name, CLASSES)}")
            plain = {name: tuple(v) if isinstance(v, list) else v for name, v in description["values"].items()}
            return cls(cutoff=cls.moment.fromisoformat(description["cutoff"]), **plain, **tensors)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ArtifactError(f"artifact of a baseline is incomplete: {error!r}") from error


@dataclass(frozen=True)
class Baseline(PlainModel):
    """A model of plain values whose rows are sessions."""

    reads: ClassVar[Reads]

    @classmethod
    def fit(cls, lesson: Lesson) -> "Baseline":
        """The model that learned from `lesson`."""
        raise NotImplementedError

    def predict(self, features: pl.DataFrame, sessions: Collection[date] | None = None) -> pl.DataFrame:
        """ticker, session, p_sell, p_hold, p_buy, score of the rows of `features` at `sessions` (all when None).

        `features` is the frame that `reads` names; any that has the keys where it is none. Sorted by ticker and
        session. Raises CutoffError when a session is not after the cutoff.
        """
        rows = features if sessions is None else features.filter(pl.col("session").is_in(list(sessions)))
        rows = rows.sort(KEYS)
        require_after(self.cutoff, rows["session"].unique().to_list())
        parts = [self.probabilities(part) for part in rows.iter_slices(_CHUNK_ROWS)]
        return probability_frame(rows, np.concatenate([np.empty((0, len(CLASSES))), *parts]))

    def probabilities(self, rows: pl.DataFrame) -> np.ndarray:
        """float64 [N, 3] in the order of `rows`."""
        raise NotImplementedError


@dataclass(frozen=True)
class ScaledBaseline(Baseline):
    """A baseline that reads its columns standardised."""

    features: tuple[str, ...]
    mean: np.ndarray
    """float64 [F], of the training rows"""
    std: np.ndarray
    """float64 [F], likewise; 1 where a column is constant"""

    def scaled(self, rows: pl.DataFrame, *, clip: float = np.inf, dtype: type = np.float64) -> np.ndarray:
        """The columns of `rows`, standardised and cut to ± `clip`, `dtype` [N, F]."""
        return standardised(rows, self.features, mean=self.mean, std=self.std, clip=clip, dtype=dtype)


Kind = TypeVar("Kind", bound=type[Baseline])


def register_baseline(baseline: Kind) -> Kind:
    """`baseline`, with an entry among the models. Raises StockAssetsError where another model has its name."""
    table = "trained_references" if baseline.role == "reference" else "trained_baselines"
    register_model(entry_of(baseline, table=table))
    return baseline


def entry_of(baseline: type[Baseline], *, table: str) -> ModelEntry:
    """The entry of a class of baselines whose versions are rows of `table`."""

    def predict(model: Baseline, inputs: Inputs, sessions: Collection[date]) -> pl.DataFrame:
        return model.predict(getattr(inputs, entry.frame), sessions)

    entry = ModelEntry(
        name=baseline.name,
        role=baseline.role,
        title=baseline.title,
        reads=baseline.reads,
        table=table,
        train=baseline.fit,
        load=baseline.from_artifact,
        predict=predict,
        naive=baseline.naive,
    )
    return entry


def require_labels(labels: pl.DataFrame, cutoff: date) -> None:
    """Raises CutoffError for a label that ends after `cutoff`, StockAssetsError for no label at all."""
    require_known(labels, cutoff)
    if labels.is_empty():
        raise StockAssetsError(f"no label is known by the cutoff {cutoff}; expected usable labels before it")


def require_classes(labels: pl.Series, model: str, cutoff: date) -> list[int]:
    """Positions in CLASSES of those that occur among `labels`. Raises StockAssetsError for fewer than two."""
    classes = labels.unique().sort().to_list()
    if len(classes) < 2:
        raise StockAssetsError(
            f"{model} with cutoff {cutoff} has {len(labels)} row(s) of {len(classes)} class(es) to learn from; "
            "expected two classes or more"
        )
    return [CLASSES.index(c) for c in classes]


def output_layer(
    coefficients: np.ndarray, intercept: np.ndarray, class_numbers: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """(weights [F, 3], bias [3]) for `softmax`, of what scikit-learn learned about the classes at `class_numbers`.

    `coefficients` is [F, classes seen], of two classes only [F, 1]: scikit-learn keeps the later one's alone then. A
    class not seen gets a bias of -inf, which is a probability of 0.
    """
    weights, bias = np.zeros((len(coefficients), len(CLASSES))), np.full(len(CLASSES), -np.inf)
    if len(class_numbers) == 2:
        weights[:, class_numbers[1]], bias[class_numbers] = coefficients[:, 0], [0.0, intercept[0]]
    else:
        weights[:, class_numbers], bias[class_numbers] = coefficients, intercept
    return weights, bias
