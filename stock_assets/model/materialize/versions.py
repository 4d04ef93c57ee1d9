"""Saved versions of the models: kept under a name made of their content, checked, loaded and asked."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, NamedTuple

import polars as pl

from stock_assets.errors import ArtifactError, CutoffError, MissingTableError
from stock_assets.features.side_features import may_be_null
from stock_assets.frames import KEYS, PROBABILITIES
from stock_assets.model.lesson import Inputs
from stock_assets.model.materialize.inputs import StoredInputs
from stock_assets.model.progress import side_by_side
from stock_assets.model.registry import ENSEMBLE, MODELS, ModelEntry
from stock_assets.model.scaling import feature_columns, require_schema, schema_hash
from stock_assets.settings import Settings
from stock_assets.storage.artifacts import artifact_version, load_artifact, save_artifact
from stock_assets.storage.warehouse import Warehouse

#: The tables of the versions that may serve, and that of those that never do.
TRAINED = ("trained_rnn", "trained_baselines")
REFERENCES = "trained_references"
VERSION_COLUMNS = ["model", "model_year", "version", "trained_through", "pca_version", "artifact"]


def save(settings: Settings, entry: ModelEntry, year: int, *, model: Any, inputs: Inputs) -> tuple[str, str]:
    """(version, folder below the artifacts folder) of a model, saved under a name made of its content."""
    tensors, description = model.to_artifact()
    columns = feature_columns(getattr(inputs, entry.frame))
    description |= {"reads": entry.frame, "columns": list(columns), "schema": schema_hash(columns)}
    version = f"{entry.name}-{model.cutoff}-{artifact_version(tensors, description)}"
    folder = f"{entry.table}/{year}/{version}"
    save_artifact(settings.artifacts / folder, tensors, description)
    return version, folder


@dataclass(frozen=True)
class Version:
    """One saved model, ready to predict. Its model is registered."""

    model: str
    version: str
    cutoff: date
    folder: str

    def predict(self, settings: Settings, inputs: StoredInputs, sessions: Collection[date]) -> pl.DataFrame:
        """Its predictions, with the columns of the table `predictions`.

        Raises ArtifactError for an artifact that is damaged, or that was made for other columns than `inputs` have.
        """
        entry = MODELS[self.model]
        artifact = load_artifact(settings.artifacts / self.folder)
        trained_on = artifact.description.get("columns", [])
        columns = feature_columns(getattr(inputs, entry.frame))
        # a model from before a series of the market context or a side input was there goes on without it
        columns = [name for name in columns if name in trained_on or name not in may_be_null()]
        require_schema(self.version, artifact.description, columns)
        model = entry.load(artifact.tensors, artifact.description)
        rows = entry.predict(model, inputs, sessions)  # pyright: ignore[reportArgumentType]: a property, cached
        return rows.with_columns(
            model=pl.lit(self.model), model_version=pl.lit(self.version), trained_through=pl.lit(self.cutoff)
        )


class Assignment(NamedTuple):
    """Which versions serve which sessions, each span within one model year, and what a person should read of it."""

    spans: Sequence[tuple[Sequence[Version], Sequence[date]]]
    notes: Sequence[str] = ()


#: Decides which versions serve, given the version of the principal components that are there. The rule is that of the
#: lifecycle room, which stands above this one.
Assign = Callable[[str], Assignment]


def answers_of(
    versions: Sequence[Version], settings: Settings, inputs: StoredInputs, *, sessions: Collection[date]
) -> pl.DataFrame:
    """What all `versions` (one or more) predict for `sessions`, as many at once as there are cores."""
    inputs.read_now()
    jobs = [lambda _say, version=version: version.predict(settings, inputs, sessions) for version in versions]
    return pl.concat(side_by_side(jobs))


def base_versions(
    store: Warehouse, year: int, first: date, *, pca_version: str, tables: Sequence[str] = TRAINED
) -> list[Version]:
    """The first version of every registered model of `year`, which serves it from its first session on.

    Raises ArtifactError when a table has none, CutoffError when it is trained through session `first` or later.
    """
    rows = pl.concat([_first(store, table, year, first=first).select(VERSION_COLUMNS) for table in tables])
    return [usable(row, first, pca_version) for row in registered(rows).sort("model").iter_rows(named=True)]


def registered(rows: pl.DataFrame) -> pl.DataFrame:
    """The `rows` (with a column `model`) whose model is registered: a model that was removed never stops others."""
    return rows.filter(pl.col("model").is_in(list(MODELS)))


def skipped_models(store: Warehouse, year: int, entries: Collection[str], *, tables: Sequence[str]) -> list[str]:
    """Sentences about the models among `entries` without a version for `year`, and about versions without a model."""
    trained_versions = pl.concat([store.read(table, columns=VERSION_COLUMNS) for table in tables])
    models = set(trained_versions.filter(pl.col("model_year") == year)["model"])
    return [
        f"{model} has no version for model year {year}; it is predicted once {MODELS[model].table} {year} is "
        "materialized again"
        for model in entries
        if model not in models
    ] + [
        f"the versions of {model} for model year {year} are skipped: no model of that name is registered"
        for model in sorted(models - set(MODELS))
    ]


def serving_weights(store: Warehouse, year: int, first: date) -> pl.DataFrame:
    """member, weight, version, trained_through: the ensemble of `year`. Raises as `base_versions`."""
    return _first(store, "trained_ensemble", year, first=first)


def ensemble(answers: pl.DataFrame, weights: pl.DataFrame) -> pl.DataFrame:
    """The weighted mean of the members' `answers`, where all of them answer, as a model of its own.

    `weights` is that of `serving_weights`; the result has the columns of `Version.predict`.
    """
    weighted = weights.filter(pl.col("weight") > 0).select("weight", model="member")
    columns = (*PROBABILITIES, "score")
    return (
        answers.join(weighted, on="model")
        .group_by(KEYS)
        .agg(
            *((pl.col(column) * pl.col("weight")).sum() for column in columns),
            pl.col("trained_through").max(),
            pl.len().alias("members"),
        )
        .filter(pl.col("members") == weighted.height)
        .drop("members")
        .with_columns(
            model=pl.lit(ENSEMBLE),
            model_version=pl.lit(weights["version"][0]),
            # a member may have been trained again since it was weighed
            trained_through=pl.max_horizontal("trained_through", pl.lit(weights["trained_through"][0])),
        )
    )


def by_year(sessions: Iterable[date]) -> list[tuple[int, list[date]]]:
    """The sessions of each year, ascending by year."""
    years: dict[int, list[date]] = {}
    for session in sessions:
        years.setdefault(session.year, []).append(session)
    return sorted(years.items())


def usable(row: dict[str, Any], first: date, pca_version: str) -> Version:
    """The version in a row of a table of trained models, if it may predict session `first`.

    Raises ArtifactError where it reads other components than those of `pca_version`, CutoffError where it was trained
    through `first` or later.
    """
    if row["pca_version"] != pca_version:
        raise ArtifactError(
            f"{row['version']} reads principal components {row['pca_version']}, found {pca_version} in pca_components. "
            f"Train {row['model']} of model year {row['model_year']} again."
        )
    _require_before(row["version"], row["trained_through"], first)
    if row["artifact"] is None:
        raise ArtifactError(
            f"{row['version']} lost as a challenger long ago, and its saved model was tidied away. Train "
            f"{row['model']} of model year {row['model_year']} again with that cutoff."
        )
    return Version(row["model"], row["version"], row["trained_through"], row["artifact"])


def _first(store: Warehouse, table: str, year: int, *, first: date) -> pl.DataFrame:
    """The rows of `table` of the earliest cutoff of `year`, which has to lie before session `first`."""
    try:
        rows = store.read(table).filter(pl.col("model_year") == year)
    except MissingTableError:
        rows = pl.DataFrame()
    if rows.is_empty():
        raise ArtifactError(
            f"predictions of {first} need {table} of model year {year}. Materialize {table} {year} first."
        )
    rows = rows.filter(pl.col("trained_through") == pl.col("trained_through").min())
    _require_before(f"{table} {year}", rows["trained_through"][0], first)
    return rows


def _require_before(model: str, cutoff: date, first: date) -> None:
    if cutoff >= first:
        raise CutoffError(f"{model} was trained through {cutoff}, which is not before the session {first} to predict")
