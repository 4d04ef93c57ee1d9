"""Trainings of model years on other hosts: what they read, as files beside the artifacts."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, cast

import numpy as np
import polars as pl

from stock_assets.model.lesson import Checkpoint, Inputs
from stock_assets.model.market_rows import HoldsMarket
from stock_assets.model.materialize.inputs import StoredInputs
from stock_assets.model.materialize.units import TrainingUnit, train_unit
from stock_assets.model.progress import Say
from stock_assets.objects import Place
from stock_assets.settings import Settings
from stock_assets.storage.work_files import put_frame, read_frame

#: The frames of `lesson.Inputs`, any of which a model may read.
_FRAMES = ("features", "components", "known_labels", "suspects")


def publish_inputs(folder: Place, inputs: StoredInputs, labels: Mapping[date, pl.DataFrame]) -> dict[str, Any]:
    """Puts the frames of `inputs` and the labels known by each cutoff into `folder`; returns the names of their files.
    Raises DamagedFileError, BucketError."""
    return {
        "frames": {name: put_frame(folder, getattr(inputs, name)) for name in _FRAMES},
        "labels": {str(cutoff): put_frame(folder, rows) for cutoff, rows in labels.items()},
    }


class SharedInputs(HoldsMarket):
    """The `lesson.Inputs` that `publish_inputs` put into a folder: each frame is read when it is first asked for, into
    a file of this host that is mapped into memory. Reading raises DamagedFileError, BucketError."""

    def __init__(self, settings: Settings, folder: Place, files: Mapping[str, Any]) -> None:
        """`files` is what `publish_inputs` returned."""
        self.scratch = settings.database.parent
        self._scratch_beside, self._folder = settings.database, folder
        self._files = files["frames"] | {f"labels {cutoff}": names for cutoff, names in files["labels"].items()}
        self._frames: dict[str, pl.DataFrame] = {}
        self._reading = threading.Lock()

    features = property(lambda self: self._frame("features"))
    components = property(lambda self: self._frame("components"))
    known_labels = property(lambda self: self._frame("known_labels"))
    suspects = property(lambda self: self._frame("suspects"))

    def labels_at(self, cutoff: date) -> pl.DataFrame:
        """The labels known by a cutoff of the batch."""
        return self._frame(f"labels {cutoff}")

    def _frame(self, name: str) -> pl.DataFrame:
        with self._reading:
            if name not in self._frames:
                self._frames[name] = read_frame(self._folder, self._files[name], self._scratch_beside)
            return self._frames[name]


@dataclass(frozen=True)
class _HeldCheckpoint:
    """A checkpoint that only the process whose unit it is writes."""

    checkpoint: Checkpoint
    require_held: Callable[[], None]

    def load(self) -> tuple[Mapping[str, np.ndarray], Mapping[str, Any]] | None:
        return self.checkpoint.load()

    def save(self, tensors: Mapping[str, np.ndarray], description: Mapping[str, Any]) -> None:
        self.require_held()
        self.checkpoint.save(tensors, description)


class SharedTrainings:
    """The trainings of a batch, on another host than that of the store."""

    def __init__(self, settings: Settings, folder: Place, files: Mapping[str, Any]) -> None:
        self._settings, self._inputs = settings, SharedInputs(settings, folder, files)

    def __call__(self, spec: str, say: Say, *, require_held: Callable[[], None]) -> str:
        """`units.Outcome.to_json` of the training in `spec`, which is `units.TrainingUnit.to_json`. Raises what
        `train_unit` and reading raise, and what `require_held` raises where the unit is another's meanwhile."""
        unit = TrainingUnit.from_json(spec)
        return train_unit(
            unit,
            self._settings,
            cast(Inputs, self._inputs),
            labels=self._inputs.labels_at(unit.cutoff),
            checkpoint=_HeldCheckpoint(unit.checkpoint(self._settings.artifacts), require_held),
            say=say,
        ).to_json()
