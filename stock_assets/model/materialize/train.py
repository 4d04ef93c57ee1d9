"""The step that trains model years: read what was known by each cutoff, train the models of one table, keep them."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import date, datetime
from typing import Any

import polars as pl

from stock_assets.features.side_features import may_be_null
from stock_assets.model.lesson import Lesson
from stock_assets.model.materialize.inputs import StoredInputs, inputs_through
from stock_assets.model.materialize.versions import save
from stock_assets.model.progress import Progress, Say, side_by_side
from stock_assets.model.registry import MODELS, ModelEntry, learning_curve, models_into
from stock_assets.settings import PROJECT_DIR, Settings
from stock_assets.storage.artifacts import CheckpointFile
from stock_assets.storage.code_version import read_code_version
from stock_assets.storage.registry import Registry, Training
from stock_assets.storage.warehouse import Warehouse
from stock_assets.tables import declared

#: Epochs of a network, one dict each: `model_year`, `epoch` and what the network reports of it.
Epochs = list[dict[str, Any]]
#: Draws (epochs with `skill`, title of the loss, title of the skill) as a PNG.
DrawCurve = Callable[[pl.DataFrame, str, str], bytes]


@dataclass(frozen=True)
class Tracking:
    """Where trainings are tracked, and how the learning curve that is kept with them is drawn."""

    registry: Registry
    draw_curve: DrawCurve


@dataclass(frozen=True)
class TrainedModels:
    """What a training step stored."""

    rows: pl.DataFrame
    """of the table, in the order of the years and of the models"""
    curves: Mapping[str, tuple[pl.DataFrame, str, str]]
    """by network, over all its years: what `DrawCurve` takes"""
    labels_left_out: Mapping[int, Mapping[str, int]]
    """by model year and reason"""
    context_columns: list[str]
    """the inputs that are columns of the market context or of side inputs"""


@dataclass(frozen=True)
class _Job:
    """One training of one model for one year, and what came of it."""

    entry: ModelEntry
    year: int
    lesson: Lesson
    checkpoint: CheckpointFile
    epochs: Epochs = field(default_factory=list)


def train_models(
    store: Warehouse,
    settings: Settings,
    cutoffs: Mapping[int, date],
    *,
    table: str,
    tracking: Tracking,
    now: datetime,
    say: Say,
) -> TrainedModels:
    """Trains the registered models of `table` for every model year of `cutoffs`, and replaces their rows.

    `cutoffs` holds the last session that each year's models may know. A network that was cut off goes on from its last
    epoch; those that were done are done. The checkpoints are removed once the rows are written. `say` is called with
    the progress of every epoch.

    Raises MissingSessionsError where sessions up to the last cutoff are missing, and whatever a training raises; no
    row is written then.
    """
    years = sorted(cutoffs)
    inputs = inputs_through(store, settings, cutoffs[years[-1]], needed_by=table)
    inputs.read_now({entry.frame for entry in models_into(table).values()})
    jobs, left_out = [], {}
    for year in years:
        labels, left_out[year] = inputs.labels_at(cutoffs[year])
        jobs += [
            _job(settings, entry, year, cutoff=cutoffs[year], inputs=inputs, labels=labels)
            for entry in models_into(table).values()
        ]
    # the longest first, which are the last ones of the latest year, so that no core waits for one at the end
    tasks = [lambda say, job=job: _train(settings, job, inputs, now=now, say=say) for job in reversed(jobs)]
    results = side_by_side(tasks, say)[::-1]
    rows = pl.DataFrame([row for row, _ in results], schema=declared(table).schema)
    # before the rows: a version that serves is one that was tracked
    code = read_code_version(PROJECT_DIR)
    for job, (row, trained) in zip(jobs, results, strict=True):
        tracking.registry.track(
            _training(settings, job, row, trained=trained, code=code, draw_curve=tracking.draw_curve)
        )
    store.replace_rows(table, rows.select("model_year", "trained_through").unique(), rows)
    for job in jobs:
        job.checkpoint.clear()
    columns = [name for name in inputs.features.columns if name in may_be_null()]
    return TrainedModels(rows, _curves(jobs), left_out, columns)


def _job(
    settings: Settings, entry: ModelEntry, year: int, *, cutoff: date, inputs: StoredInputs, labels: pl.DataFrame
) -> _Job:
    checkpoint = CheckpointFile(settings.artifacts / entry.table / str(year) / f".checkpoint-{entry.name}-{cutoff}")
    rule = settings.label_rule
    lesson = Lesson(
        inputs,  # pyright: ignore[reportArgumentType]: its properties are cached
        labels,
        cutoff,
        settings.seed,
        rule.horizon,
        checkpoint=checkpoint,
        buy_threshold=rule.buy_threshold,
        sell_threshold=rule.sell_threshold,
    )
    return _Job(entry, year, lesson, checkpoint)


def _train(
    settings: Settings, job: _Job, inputs: StoredInputs, *, now: datetime, say: Say
) -> tuple[dict[str, Any], Any]:
    """(row of the table, trained model) of one job, which gets its epochs."""
    lesson = replace(job.lesson, on_epoch=Progress(f"{job.year} {job.entry.name}", say))
    trained = job.entry.train(lesson)
    version, folder = save(settings, job.entry, job.year, trained=trained, inputs=inputs)
    row = {
        "model_year": job.year,
        "model": job.entry.name,
        "version": version,
        "trained_through": trained.cutoff,
        "trained_at": now,
        "training_rows": lesson.labels.height,
        "pca_version": inputs.pca_version,
        "artifact": folder,
    }
    if job.entry.curve is not None:
        row |= {name: getattr(trained, name) for name in _SCORES}
        job.epochs.extend({"model_year": job.year, **asdict(epoch)} for epoch in trained.curve)
    return row, trained


#: What a network says of its best epoch; null for a model without epochs.
_SCORES = ("best_epoch", "validation_accuracy", "validation_log_loss")


def _curves(jobs: list[_Job]) -> dict[str, tuple[pl.DataFrame, str, str]]:
    """The learning curves of the networks, over all their years."""
    epochs: dict[str, Epochs] = {}
    for job in jobs:
        if job.epochs:
            epochs.setdefault(job.entry.name, []).extend(job.epochs)
    return {model: learning_curve(MODELS[model], rows) for model, rows in epochs.items()}


def _training(
    settings: Settings, job: _Job, row: Mapping[str, Any], *, trained: Any, code: str, draw_curve: DrawCurve
) -> Training:
    """What the registry keeps of a training."""
    params = getattr(trained, "config", None)
    return Training(
        row["model"],
        row["version"],
        row["model_year"],
        row["trained_through"],
        params=(params.to_dict() if params else {}) | {"seed": settings.seed},
        metrics={name: row.get(name) for name in ("training_rows", *_SCORES)},
        code_version=code,
        curve=[{name: value for name, value in epoch.items() if name != "model_year"} for epoch in job.epochs],
        figures={"learning_curve": draw_curve(*learning_curve(job.entry, job.epochs))} if job.epochs else {},
        pca_version=row["pca_version"],
        folder=settings.artifacts / row["artifact"],
    )
