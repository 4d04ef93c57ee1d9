"""Saved versions of the models: kept under a name made of their content, checked, loaded and asked."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

import polars as pl

from stock_assets.errors import ArtifactError, CutoffError, MissingTableError
from stock_assets.features.market_context import MARKET_CONTEXT
from stock_assets.model.materialize.inputs import Learnable
from stock_assets.model.progress import side_by_side
from stock_assets.settings import Settings
from stock_assets.storage.warehouse import Warehouse

if TYPE_CHECKING:
    from stock_assets.model.recipes import Recipe

TRAINED = ("trained_rnn", "trained_baselines")
ENSEMBLE = "ensemble"
VERSION_COLUMNS = ["model", "model_year", "version", "trained_through", "pca_version", "artifact"]


def save(
    settings: Settings, table: str, year: int, model: str, recipe: "Recipe", trained: Any, known: Learnable
) -> tuple[str, str]:
    """(version, folder below the artifacts folder) of a model, saved under a name made of its content."""
    from stock_assets.model.scaling import feature_columns, schema_hash
    from stock_assets.storage.artifacts import artifact_version, save_artifact

    tensors, description = trained.to_artifact()
    columns = feature_columns(getattr(known, recipe.reads))
    description |= {"reads": recipe.reads, "columns": list(columns), "schema": schema_hash(columns)}
    version = f"{model}-{trained.cutoff}-{artifact_version(tensors, description)}"
    folder = f"{table}/{year}/{version}"
    save_artifact(settings.artifacts / folder, tensors, description)
    return version, folder


@dataclass(frozen=True)
class Version:
    """One saved model, ready to predict."""

    model: str
    version: str
    cutoff: date
    folder: str

    def predict(self, settings: Settings, known: Learnable, sessions: Collection[date]) -> pl.DataFrame:
        """Its answer with model, model_version and trained_through.

        Raises ArtifactError for an artifact that is damaged, or that was made for other columns than `known` has.
        """
        from stock_assets.model.recipes import RECIPES
        from stock_assets.model.scaling import feature_columns, require_schema
        from stock_assets.storage.artifacts import load_artifact

        recipe = RECIPES[self.model]
        artifact = load_artifact(settings.artifacts / self.folder)
        made_for = artifact.description.get("columns", [])
        columns = feature_columns(getattr(known, recipe.reads))
        # a model from before a context series was there goes on without it
        columns = [name for name in columns if name in made_for or name not in MARKET_CONTEXT]
        require_schema(self.version, artifact.description, columns)
        trained = recipe.load(artifact.tensors, artifact.description)
        answer = recipe.predict(trained, known, sessions)  # pyright: ignore[reportArgumentType]: a property, cached
        return answer.with_columns(
            model=pl.lit(self.model), model_version=pl.lit(self.version), trained_through=pl.lit(self.cutoff)
        )


def answers_of(
    versions: Sequence[Version], settings: Settings, known: Learnable, sessions: Collection[date]
) -> pl.DataFrame:
    """What all `versions` answer for `sessions`, as many at once as there are cores."""
    _ = known.features, known.known_labels  # read before the threads start, which would each read them
    jobs = [lambda _say, version=version: version.predict(settings, known, sessions) for version in versions]
    return pl.concat(side_by_side(jobs))


def base_versions(
    warehouse: Warehouse, year: int, first: date, pca_version: str, tables: Sequence[str] = TRAINED
) -> list[Version]:
    """The first version of every model of `year`, which serves it from its first session on.

    Raises ArtifactError when a table has none, CutoffError when it is trained through session `first` or later.
    """
    rows = pl.concat([_first(warehouse, table, year, first).select(VERSION_COLUMNS) for table in tables])
    return [usable(row, first, pca_version) for row in rows.sort("model").iter_rows(named=True)]


def serving_weights(warehouse: Warehouse, year: int, first: date) -> pl.DataFrame:
    """member, weight, version, trained_through: the ensemble of `year`. Raises as `base_versions`."""
    return _first(warehouse, "trained_ensemble", year, first)


def ensemble(answers: pl.DataFrame, weights: pl.DataFrame) -> pl.DataFrame:
    """The weighted mean of the members' `answers`, where all of them answer, as a model of its own.

    `weights` is that of `serving_weights`; the result has the columns of `Version.predict`.
    """
    weighted = weights.filter(pl.col("weight") > 0).select("weight", model="member")
    columns = ("p_sell", "p_hold", "p_buy", "score")
    return (
        answers.join(weighted, on="model")
        .group_by("ticker", "session")
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
    years: dict[int, list[date]] = {}
    for session in sessions:
        years.setdefault(session.year, []).append(session)
    return sorted(years.items())


def _first(warehouse: Warehouse, table: str, year: int, first: date) -> pl.DataFrame:
    """The rows of `table` of the earliest cutoff of `year`, which has to lie before session `first`."""
    try:
        rows = warehouse.read(table).filter(pl.col("model_year") == year)
    except MissingTableError:
        rows = pl.DataFrame()
    if rows.is_empty():
        raise ArtifactError(
            f"predictions of {first} need {table} of model year {year}. Materialize {table} {year} first."
        )
    rows = rows.filter(pl.col("trained_through") == pl.col("trained_through").min())
    _require_before(f"{table} {year}", rows["trained_through"][0], first)
    return rows


def usable(row: dict[str, Any], first: date, pca_version: str) -> Version:
    """The version in a row of a table of trained models, if it may predict session `first`."""
    if row["pca_version"] != pca_version:
        raise ArtifactError(
            f"{row['version']} reads principal components {row['pca_version']}, found {pca_version} in pca_components. "
            f"Train {row['model']} of model year {row['model_year']} again."
        )
    _require_before(row["version"], row["trained_through"], first)
    return Version(row["model"], row["version"], row["trained_through"], row["artifact"])


def _require_before(what: str, cutoff: date, first: date) -> None:
    if cutoff >= first:
        raise CutoffError(f"{what} was trained through {cutoff}, which is not before the session {first} to predict")
