"""Trained networks as plain values: they are saved, loaded and predict without any training."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any, ClassVar, Generic, Self, TypeVar

import numpy as np
from torch import nn

from stock_assets.errors import ArtifactError
from stock_assets.frames import CLASSES
from stock_assets.model.config import NetworkConfig


@dataclass(frozen=True)
class Epoch:
    """What one epoch achieved. Epoch 0 is the untrained network."""

    epoch: int
    epochs: int
    """Epochs that may come, at most."""
    train_loss: float
    """Mean loss over the epoch, with dropout, while the weights still moved."""
    validation_loss: float
    """Loss of the validation labels; its minimum chooses the best epoch."""


@dataclass(frozen=True)
class ClassifierEpoch(Epoch):
    """An epoch of a network that answers with class probabilities; `validation_loss` is their log-loss."""

    accuracy: float
    """Share of validation labels that the most probable class hits."""
    rmse: float
    """Root mean squared distance of that class to the validation label, both as -1, 0, 1."""


Config = TypeVar("Config", bound=NetworkConfig)
Report = TypeVar("Report", bound=Epoch)


@dataclass(frozen=True, kw_only=True)
class Trained(Generic[Config, Report]):
    """Everything that predictions need, and the form in which it is saved."""

    kind: ClassVar[str]
    """Names the kind of network in an artifact. Never change one: stored artifacts hold it."""
    configuration: ClassVar[type[NetworkConfig]]
    report: ClassVar[type[Epoch]]
    moment: ClassVar[type[date]] = date
    """the type of the cutoff"""

    config: Config
    features: tuple[str, ...]
    """Input columns, in order."""
    weights: dict[str, np.ndarray]
    """float32, the state of the module after the best epoch"""
    cutoff: date
    """Last session whose close the training has seen; the last moment, where `moment` is datetime."""
    seed: int
    curve: tuple[Report, ...]
    best_epoch: int

    def module(self) -> nn.Module:
        """The module in evaluation mode. Raises ArtifactError when the weights do not fit the configuration."""
        raise NotImplementedError

    def own_tensors(self) -> dict[str, np.ndarray]:
        """The arrays that this kind keeps besides its weights."""
        raise NotImplementedError

    def own_description(self) -> dict[str, Any]:
        """The JSON values that this kind keeps besides those of every kind."""
        return {}

    @classmethod
    def own_fields(cls, tensors: Mapping[str, np.ndarray], description: Mapping[str, Any]) -> dict[str, Any]:
        """The fields that this kind adds, of what `own_tensors` and `own_description` gave.

        Raises KeyError for one that is missing, ArtifactError for one that does not fit.
        """
        raise NotImplementedError

    def to_artifact(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """(tensors, description) for `storage.artifacts.save_artifact`."""
        tensors = {f"{_PREFIX}{name}": value for name, value in self.weights.items()}
        return tensors | self.own_tensors(), {
            "kind": self.kind,
            "classes": list(CLASSES),
            "config": self.config.to_dict(),
            "features": list(self.features),
            "cutoff": self.cutoff.isoformat(),
            "seed": self.seed,
            "best_epoch": self.best_epoch,
            "curve": [asdict(report) for report in self.curve],
            **self.own_description(),
        }

    @classmethod
    def from_artifact(cls, tensors: Mapping[str, np.ndarray], description: Mapping[str, Any]) -> Self:
        """The network that `to_artifact` described. Raises ArtifactError when something is missing or unknown."""
        try:
            if (description["kind"], tuple(description["classes"])) != (cls.kind, CLASSES):
                raise ArtifactError(
                    f"artifact is a {description['kind']!r} with classes {description['classes']}; "
                    f"expected {cls.kind!r} with classes {list(CLASSES)}"
                )
            model = cls(
                config=cls.configuration.from_dict(description["config"]),  # pyright: ignore[reportArgumentType]
                features=tuple(description["features"]),
                weights={
                    name.removeprefix(_PREFIX): value for name, value in tensors.items() if name.startswith(_PREFIX)
                },
                cutoff=cls.moment.fromisoformat(description["cutoff"]),
                seed=description["seed"],
                curve=tuple(cls.report(**report) for report in description["curve"]),  # pyright: ignore[reportArgumentType]
                best_epoch=description["best_epoch"],
                **cls.own_fields(tensors, description),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"artifact of kind {cls.kind!r} is incomplete: {error!r}") from error
        model.module()  # so that weights of another shape are refused here, not at the first prediction
        return model


@dataclass(frozen=True, kw_only=True)
class TrainedClassifier(Trained[Config, ClassifierEpoch]):
    """A network whose inputs are standardised and whose epochs are judged by the log-loss of class probabilities."""

    report = ClassifierEpoch

    mean: np.ndarray
    """float64 [F], of the training rows alone"""
    std: np.ndarray
    """float64 [F], likewise; 1 where a column is constant"""

    @property
    def validation_log_loss(self) -> float:
        return self.curve[self.best_epoch].validation_loss

    @property
    def validation_accuracy(self) -> float:
        return self.curve[self.best_epoch].accuracy

    def own_tensors(self) -> dict[str, np.ndarray]:
        return {"mean": self.mean, "std": self.std}

    @classmethod
    def own_fields(cls, tensors: Mapping[str, np.ndarray], description: Mapping[str, Any]) -> dict[str, Any]:
        mean, std, features = tensors["mean"], tensors["std"], description["features"]
        if not len(mean) == len(std) == len(features):
            raise ArtifactError(
                f"artifact of kind {cls.kind!r} has {len(mean)} means and {len(std)} deviations; "
                f"expected one each of its {len(features)} features"
            )
        return {"mean": mean, "std": std}


def hits(predictions: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """(accuracy, root mean squared distance) of the classes `predictions` and `labels`, int64 [V] each.

    >>> hits(np.array([0, 2, 2, 1]), np.array([0, 0, 2, 1]))
    (0.75, 1.0)
    """
    distance = predictions - labels
    return float((distance == 0).mean()), float(np.sqrt((distance**2).mean()))


_PREFIX = "weights/"
