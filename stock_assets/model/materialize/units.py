"""One training of one model for one model year: what it is given and what it returns, in plain values, so that it can
be done on another host."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

import polars as pl

from stock_assets.errors import StockAssetsError
from stock_assets.model.lesson import Checkpoint, Inputs, Lesson
from stock_assets.model.materialize.versions import save
from stock_assets.model.progress import Progress, Say
from stock_assets.model.registry import MODELS, ModelEntry
from stock_assets.objects import Place
from stock_assets.setting_values import LabelRule
from stock_assets.settings import Settings
from stock_assets.storage.artifacts import CheckpointFile

#: What a network says of its best epoch; null for a model without epochs.
SCORES = ("best_epoch", "validation_accuracy", "validation_log_loss")


@dataclass(frozen=True)
class TrainingUnit:
    """What is trained, on which inputs and labels aside."""

    model: str
    year: int
    cutoff: date
    """the last session whose close the training may see"""
    seed: int
    rule: LabelRule

    @property
    def name(self) -> str:
        return f"{self.year} {self.model}"

    @property
    def entry(self) -> ModelEntry:
        """The model. Raises StockAssetsError where none of that name is registered."""
        if self.model not in MODELS:
            raise StockAssetsError(f"there is no model {self.model}; expected one of {', '.join(MODELS)}")
        return MODELS[self.model]

    def checkpoint(self, artifacts: Place) -> CheckpointFile:
        """Where the training goes on from, whichever process began it."""
        return CheckpointFile(artifacts / self.entry.table / str(self.year) / f".checkpoint-{self.model}-{self.cutoff}")

    def to_json(self) -> str:
        return json.dumps(asdict(self) | {"cutoff": str(self.cutoff)})

    @classmethod
    def from_json(cls, text: str) -> "TrainingUnit":
        plain = json.loads(text)
        rule = LabelRule(**plain.pop("rule"))
        return cls(**plain | {"cutoff": date.fromisoformat(plain["cutoff"]), "rule": rule})


@dataclass(frozen=True)
class Outcome:
    """What came of a training."""

    version: str
    artifact: str
    """the folder below the artifacts folder"""
    trained_through: date
    training_rows: int
    scores: Mapping[str, float | None]
    """SCORES of a network, nothing of any other model"""
    params: Mapping[str, Any]
    """of the configuration of a network"""
    epochs: list[dict[str, Any]]
    """of a network, one dict each: `model_year`, `epoch` and what the network reports of it"""

    def to_json(self) -> str:
        """Numbers keep every bit."""
        return json.dumps(
            asdict(self) | {"trained_through": str(self.trained_through)}, default=lambda number: number.item()
        )

    @classmethod
    def from_json(cls, text: str) -> "Outcome":
        plain = json.loads(text)
        return cls(**plain | {"trained_through": date.fromisoformat(plain["trained_through"])})


def train_unit(
    unit: TrainingUnit,
    settings: Settings,
    inputs: Inputs,
    *,
    labels: pl.DataFrame,
    checkpoint: Checkpoint,
    say: Say,
) -> Outcome:
    """Trains the model on `labels`, those known by the cutoff, and saves it. Raises what the training and
    `save_artifact` raise."""
    lesson = Lesson(
        inputs,
        labels,
        unit.cutoff,
        unit.seed,
        unit.rule.horizon,
        on_epoch=Progress(unit.name, say),
        checkpoint=checkpoint,
        buy_threshold=unit.rule.buy_threshold,
        sell_threshold=unit.rule.sell_threshold,
    )
    entry = unit.entry
    model = entry.train(lesson)
    version, folder = save(settings, entry, unit.year, model=model, inputs=inputs)
    config, has_curve = getattr(model, "config", None), entry.curve is not None
    return Outcome(
        version,
        folder,
        model.cutoff,
        labels.height,
        scores={name: getattr(model, name) for name in SCORES} if has_curve else {},
        params=config.to_dict() if config else {},
        epochs=[{"model_year": unit.year, **asdict(epoch)} for epoch in model.curve] if has_curve else [],
    )
