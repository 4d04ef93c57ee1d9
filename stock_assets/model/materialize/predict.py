"""The steps that predict sessions, and the one reader of all predictions."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import polars as pl

from stock_assets.errors import MissingTableError
from stock_assets.frames import KEYS
from stock_assets.model.materialize.inputs import StoredInputs, inputs_for
from stock_assets.model.materialize.versions import (
    REFERENCES,
    TRAINED,
    Assign,
    Assignment,
    Version,
    answers_of,
    base_versions,
    by_year,
    ensemble,
    serving_weights,
    skipped_models,
)
from stock_assets.model.registry import longest_lookback, models_of
from stock_assets.model.windows import missing_history
from stock_assets.settings import Settings
from stock_assets.storage.warehouse import Warehouse
from stock_assets.tables import declared


@dataclass(frozen=True)
class Predictions:
    """What a step stored."""

    rows: pl.DataFrame
    """of its table, sorted by session, ticker and model"""
    left_out: dict[str, int]
    """feature rows of these sessions without a prediction, by reason"""
    notes: list[str]
    """sentences about versions that changed and models that were skipped"""


def make_predictions(
    store: Warehouse,
    settings: Settings,
    sessions: Sequence[date],
    *,
    assign: Assign,
    beside: Mapping[str, pl.DataFrame] | None = None,
    stored_rows: pl.DataFrame | None = None,
) -> Predictions:
    """Predicts `sessions`, ascending, by the versions that `assign` names and by the ensemble of each model year.

    Registered models without a version in a year are skipped, as are versions of models that are registered no more.
    The ensemble has no row where one of its weighed members is missing. Where other versions serve once they are made,
    they are made again by these. The rows of `beside`, by table, are appended in the transaction of the predictions.
    A version whose rows of `sessions` are in `stored_rows`, with the columns of the table, is not asked again: another
    version of one model then costs no more than its own answers and the ensemble's.

    Raises MissingSessionsError, ArtifactError and CutoffError as `inputs_for`, `serving_weights` and `assign`.
    """
    inputs = inputs_for(store, settings, sessions, needed_by="predictions")
    assignment, earlier_notes = assign(inputs.pca_version), []
    while True:
        parts, notes = _predicted(
            store, settings, inputs, sessions=sessions, assignment=assignment, stored_rows=stored_rows
        )
        current = assign(inputs.pca_version)
        if _serving(current) == _serving(assignment):
            rows, left_out = _trusted("predictions", parts, sessions, inputs=inputs)
            store.replace_sessions("predictions", sessions, rows, beside=beside)
            return Predictions(rows, left_out, list(dict.fromkeys([*earlier_notes, *notes])))
        # a person rolled back or moved an alias meanwhile, and was told that it holds for these sessions
        assignment, earlier_notes = current, [*earlier_notes, *assignment.notes]


def _serving(assignment: Assignment) -> list[tuple[list[Version], list[date]]]:
    return [(list(versions), list(span)) for versions, span in assignment.spans]


def _predicted(
    store: Warehouse,
    settings: Settings,
    inputs: StoredInputs,
    *,
    sessions: Sequence[date],
    assignment: Assignment,
    stored_rows: pl.DataFrame | None,
) -> tuple[list[pl.DataFrame], list[str]]:
    """(rows of `predictions`, notes) of the versions of `assignment`."""
    models = models_of("champion", "naive")
    weights, notes = {}, list(assignment.notes)
    for year, days in by_year(sessions):
        weights[year] = serving_weights(store, year, days[0])
        notes += skipped_models(store, year, models, tables=TRAINED)
    parts = [declared("predictions").empty()]
    for versions, span in assignment.spans:
        of_year = weights[span[0].year]
        members = set(of_year.filter(pl.col("weight") > 0)["member"])
        if missing_models := sorted(members - {version.model for version in versions}):
            notes.append(
                f"the ensemble of {span[0].year} has no rows from {span[0]} on, since it weighs "
                f"{', '.join(missing_models)}; materialize trained_ensemble {span[0].year} again"
            )
        # an ensemble from before a model became a reference goes on with it
        requested_versions = [version for version in versions if version.model in models or version.model in members]
        answers = _answers(requested_versions, settings, inputs, sessions=span, stored_rows=stored_rows)
        ensemble_rows = ensemble(answers, of_year)
        parts += [answers.filter(pl.col("model").is_in(list(models))), ensemble_rows]
    return parts, notes


def _answers(
    versions: Sequence[Version],
    settings: Settings,
    inputs: StoredInputs,
    *,
    sessions: Sequence[date],
    stored_rows: pl.DataFrame | None,
) -> pl.DataFrame:
    """What `versions` predict for `sessions`; where `stored_rows` holds rows of a version, these."""
    rows = declared("predictions").empty() if stored_rows is None else stored_rows
    rows = rows.filter(
        pl.col("session").is_in(list(sessions)), pl.col("model_version").is_in([v.version for v in versions])
    )
    stored_versions = set(rows["model_version"])
    new_versions = [version for version in versions if version.version not in stored_versions]
    parts = [answers_of(new_versions, settings, inputs.of(sessions), sessions=sessions)] if new_versions else []
    return pl.concat([*parts, rows], how="diagonal") if rows.height else parts[0]


def make_reference_predictions(store: Warehouse, settings: Settings, sessions: Sequence[date]) -> Predictions:
    """Predicts `sessions`, ascending, by the first version of every reference model of their year.

    Raises MissingSessionsError, ArtifactError and CutoffError as `inputs_for` and `base_versions`.
    """
    inputs = inputs_for(store, settings, sessions, needed_by="reference_predictions")
    parts, notes = [declared("reference_predictions").empty()], []
    for year, days in by_year(sessions):
        versions: list[Version] = base_versions(
            store, year, days[0], pca_version=inputs.pca_version, tables=[REFERENCES]
        )
        notes += skipped_models(store, year, models_of("reference"), tables=[REFERENCES])
        parts.append(answers_of(versions, settings, inputs.of(days), sessions=days))
    rows, left_out = _trusted("reference_predictions", parts, sessions, inputs=inputs)
    store.replace_sessions("reference_predictions", sessions, rows)
    return Predictions(rows, left_out, list(dict.fromkeys(notes)))


def predictions_with_references(
    store: Warehouse, first: date | None = None, last: date | None = None, *, columns: Collection[str] | None = None
) -> pl.DataFrame:
    """The rows of `predictions` from `first` to `last`, and those of the reference models where they are made.

    Stores from before the reference models had a table of their own hold rows of them in `predictions`: these count
    for the models and sessions that reference_predictions lacks.

    Raises MissingTableError before the first prediction.
    """
    names = list(columns) if columns is not None else declared("predictions").names
    needed_columns = list(dict.fromkeys([*names, "model", "session"]))
    rows = store.read("predictions", first, last, columns=needed_columns)
    try:
        references = store.read("reference_predictions", first, last, columns=needed_columns)
    except MissingTableError:
        return rows.select(names)
    newer = references.select("model", "session").unique()
    return pl.concat([rows.join(newer, on=["model", "session"], how="anti"), references]).select(names)


def _trusted(
    table: str, parts: Sequence[pl.DataFrame], sessions: Sequence[date], *, inputs: StoredInputs
) -> tuple[pl.DataFrame, dict[str, int]]:
    """(the trusted rows of `parts`, with the columns of `table`; how many of `sessions` are left out, by reason)."""
    names = declared(table).names
    rows = (
        pl.concat([part.select(names) for part in parts])
        .join(inputs.suspects, on=KEYS, how="anti")
        .sort("session", "ticker", "model")
    )
    of_range = inputs.suspects.filter(pl.col("session").is_in(list(sessions)))
    left_out = {
        **dict(of_range["suspect"].value_counts().sort("suspect").iter_rows()),
        **missing_history(inputs.components, sessions, longest_lookback()),
    }
    return rows, left_out
