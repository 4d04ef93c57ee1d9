"""The step that trains model years: read what was known by each cutoff, train the models of one table, keep them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from functools import partial
from typing import Any, cast

import polars as pl

from stock_assets.features.side_features import may_be_null
from stock_assets.model.lesson import Inputs
from stock_assets.model.materialize.inputs import StoredInputs, inputs_through
from stock_assets.model.materialize.units import SCORES, Outcome, TrainingUnit, train_unit
from stock_assets.model.progress import Say, side_by_side
from stock_assets.model.registry import MODELS, learning_curve, models_into
from stock_assets.settings import PROJECT_DIR, Settings
from stock_assets.storage.code_version import read_code_version
from stock_assets.storage.registry import Registry, Training
from stock_assets.storage.warehouse import Warehouse
from stock_assets.tables import declared

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
    """One training of one model for one year."""

    unit: TrainingUnit
    labels: pl.DataFrame
    """those known by the cutoff"""


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
    jobs, left_out = list[_Job](), {}
    for year in years:
        labels, left_out[year] = inputs.labels_at(cutoffs[year])
        jobs += [
            _Job(TrainingUnit(model, year, cutoffs[year], settings.seed, settings.label_rule), labels)
            for model in models_into(table)
        ]
    # the longest first, which are the last ones of the latest year, so that no core waits for one at the end
    outcomes = _outcomes(settings, jobs[::-1], inputs, say=say)[::-1]
    units_with_outcome = [(job.unit, outcome) for job, outcome in zip(jobs, outcomes, strict=True)]
    rows = pl.DataFrame(
        [_row(*unit_with_outcome, now=now, inputs=inputs) for unit_with_outcome in units_with_outcome],
        schema=declared(table).schema,
    )
    # before the rows: a version that serves is one that was tracked
    code = read_code_version(PROJECT_DIR)
    for unit, outcome in units_with_outcome:
        training = _training(settings, unit, outcome, code=code, draw_curve=tracking.draw_curve)
        tracking.registry.track(replace(training, pca_version=inputs.pca_version))
    store.replace_rows(table, rows.select("model_year", "trained_through").unique(), rows)
    for job in jobs:
        job.unit.checkpoint(settings.artifacts).clear()
    columns = [name for name in inputs.features.columns if name in may_be_null()]
    return TrainedModels(rows, _curves(units_with_outcome), left_out, columns)


def _outcomes(settings: Settings, jobs: Sequence[_Job], inputs: StoredInputs, *, say: Say) -> list[Outcome]:
    """What came of each of `jobs`: done on this machine, or, where Dagster is a team's, by the workers of other hosts
    as well."""

    def outcome(job: _Job, say: Say) -> Outcome:
        checkpoint, plain = job.unit.checkpoint(settings.artifacts), cast(Inputs, inputs)  # its properties are cached
        return train_unit(job.unit, settings, plain, labels=job.labels, checkpoint=checkpoint, say=say)

    if settings.dagster_postgres is None:
        return side_by_side([partial(outcome, job) for job in jobs], say)
    from stock_assets.model.materialize.shared_training import publish_inputs
    from stock_assets.model.materialize.sharing import Work, shared_results

    work = Work(
        "training",
        [job.unit.name for job in jobs],
        [job.unit.to_json() for job in jobs],
        publish=lambda folder: publish_inputs(folder, inputs, {job.unit.cutoff: job.labels for job in jobs}),
    )
    results = shared_results(settings, work, lambda place, say: outcome(jobs[place], say).to_json(), say=say)
    return [Outcome.from_json(text) for text in results]


def _row(unit: TrainingUnit, outcome: Outcome, *, now: datetime, inputs: StoredInputs) -> dict[str, Any]:
    """The row of a table of trained models."""
    return {
        "model_year": unit.year,
        "model": unit.model,
        "version": outcome.version,
        "trained_through": outcome.trained_through,
        "trained_at": now,
        "training_rows": outcome.training_rows,
        "pca_version": inputs.pca_version,
        "artifact": outcome.artifact,
        **outcome.scores,
    }


def _curves(units_with_outcome: Sequence[tuple[TrainingUnit, Outcome]]) -> dict[str, tuple[pl.DataFrame, str, str]]:
    """The learning curves of the networks, over all their years."""
    epochs: dict[str, list[dict[str, Any]]] = {}
    for unit, outcome in units_with_outcome:
        if outcome.epochs:
            epochs.setdefault(unit.model, []).extend(outcome.epochs)
    return {model: learning_curve(MODELS[model], rows) for model, rows in epochs.items()}


def _training(
    settings: Settings, unit: TrainingUnit, outcome: Outcome, *, code: str, draw_curve: DrawCurve
) -> Training:
    """What the registry keeps of a training, without the components that it read."""
    epochs = outcome.epochs
    return Training(
        unit.model,
        outcome.version,
        unit.year,
        outcome.trained_through,
        params={**outcome.params, "seed": unit.seed},
        metrics={"training_rows": outcome.training_rows, **{name: outcome.scores.get(name) for name in SCORES}},
        code_version=code,
        curve=[{name: value for name, value in epoch.items() if name != "model_year"} for epoch in epochs],
        figures={"learning_curve": draw_curve(*learning_curve(unit.entry, epochs))} if epochs else {},
        folder=settings.artifacts / outcome.artifact,
    )
