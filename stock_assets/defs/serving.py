"""What models read from the store, where trained ones are kept, and which of them serves a session."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import TYPE_CHECKING, Any

import polars as pl

from stock_assets.defs.features import MADE_BEFORE_PCA
from stock_assets.defs.progress import side_by_side
from stock_assets.errors import ArtifactError, CutoffError
from stock_assets.features.context import CONTEXT, present
from stock_assets.features.labels import labels as barrier_labels
from stock_assets.features.lookback import MAX_MISSED
from stock_assets.features.stationary import FIRST_BAR, STATIONARY
from stock_assets.lifecycle.promotion import champions
from stock_assets.model.splits import NO_MEMBER
from stock_assets.settings import Settings
from stock_assets.storage.champions import read_promotions
from stock_assets.storage.warehouse import MissingTableError, Warehouse

if TYPE_CHECKING:
    from stock_assets.model.recipes import Recipe

TRAINED = ("trained_rnn", "trained_baselines")
ENSEMBLE = "ensemble"
MADE_BEFORE_MODELS = (*MADE_BEFORE_PCA, "pca_components")
VERSION_COLUMNS = ["model", "model_year", "version", "trained_through", "pca_version", "artifact"]


class Learnable:
    """Model inputs and usable labels of the sessions from `first` to `last`, read once for several cutoffs.

    It is the `model.recipes.Inputs` of these sessions.
    """

    def __init__(
        self, warehouse: Warehouse, settings: Settings, first: date, last: date, bars_first: date | None = None
    ) -> None:
        """`bars_first` is where the bars begin whose labels are known at `first`."""
        self._read = lambda table, columns=None: warehouse.read(table, first, last, columns)
        self._settings = settings
        components = self._read("pca_components")
        versions = components["pca_version"].unique().to_list()
        if len(versions) != 1:
            raise ArtifactError(
                f"pca_components mixes the fits {', '.join(sorted(versions))}; expected one: materialize "
                "pca_components again for every session"
            )
        self.pca_version: str = versions[0]
        self.components = components.drop("pca_version")
        bars = ["ticker", "session", "suspect", "total_return", "is_member"]
        self._bars = warehouse.read("daily_bars", bars_first or first, last, bars)
        self._flagged = self._bars.filter(pl.col("suspect").is_not_null()).select("ticker", "session", "suspect")
        self._outsiders = outsiders(self._bars, settings.members_only)
        strangers = self._outsiders.join(self._flagged, on=["ticker", "session"], how="anti")
        self.suspects = pl.concat([self._flagged, strangers.with_columns(suspect=pl.lit(NO_MEMBER))])
        """ticker, session, suspect of the rows that neither train nor score"""

    @cached_property
    def features(self) -> pl.DataFrame:
        """The stationary inputs, and those of the context series that are there from the first session on."""
        rows = self._read("stationary_features")
        # single precision is what the network computes in, and half the memory
        return rows.select("ticker", "session", *STATIONARY, *present(rows)).cast({pl.Float64: pl.Float32})

    @cached_property
    def known_labels(self) -> pl.DataFrame:
        """Of the bars themselves: the labels of the last sessions may not be materialized yet, though known."""
        from stock_assets.model.baselines import known_labels

        rule = self._settings
        made = barrier_labels(self._bars, rule.horizon, rule.buy_threshold, rule.sell_threshold)
        return known_labels(made, self._bars.select("ticker", "session"))

    @cached_property
    def _labels(self) -> pl.DataFrame:
        return self._read("labels")

    def labels_at(self, cutoff: date) -> tuple[pl.DataFrame, dict[str, int]]:
        """(usable labels known by `cutoff`, rows left out by reason)."""
        from stock_assets.model.splits import training_rows, usable_labels

        return usable_labels(training_rows(self._labels, cutoff), self._flagged, self._outsiders)


def inputs_for(warehouse: Warehouse, settings: Settings, sessions: Sequence[date], needed_by: str) -> Learnable:
    """What the models read to predict `sessions`: their features and the context before them."""
    from stock_assets.model.recipes import CONTEXT

    calendar = settings.calendar
    # every ticker that has features missed at most MAX_MISSED sessions, so this holds its whole context
    reach = CONTEXT - 1 + MAX_MISSED
    lookback = [day for day in calendar.before(sessions[0], reach) if calendar.position(day) >= FIRST_BAR - 1]
    of_range = calendar.between(sessions[0], sessions[-1])
    warehouse.require(MADE_BEFORE_MODELS, [*lookback, *of_range], needed_by, "features of the day and its context")
    first = (*lookback, sessions[0])[0]
    # the labels known at the first of them are those of a horizon earlier
    bars = calendar.before(first, settings.horizon + MAX_MISSED)
    return Learnable(warehouse, settings, first, sessions[-1], (*bars, first)[0])


def usable_between(
    warehouse: Warehouse, first: date, last: date | None = None, members_only: bool = False
) -> tuple[pl.DataFrame, dict[str, int]]:
    """The labels from `first` to `last` that may train and score, and the rows left out by reason.

    Whoever joins them with predictions need not ask for members: only they are predicted.
    """
    from stock_assets.model.splits import usable_labels

    columns = ["ticker", "session", "suspect", *(["is_member"] if members_only else [])]
    bars = warehouse.read("daily_bars", first, columns=columns)
    return usable_labels(warehouse.read("labels", first, last), bars, outsiders(bars, members_only))


def outsiders(bars: pl.DataFrame, members_only: bool) -> pl.DataFrame:
    """ticker, session of the `bars` of no members; none where they count too."""
    return (bars.filter(~pl.col("is_member")) if members_only else bars.clear()).select("ticker", "session")


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
        columns = [name for name in columns if name in made_for or name not in CONTEXT]
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


def champions_of(
    warehouse: Warehouse, year: int, sessions: Sequence[date], pca_version: str
) -> list[tuple[list[Version], list[date]]]:
    """Which versions of all models serve which of `sessions`, ascending and all of `year`.

    A model's first version of the year, until the table `promotions` says that another one does. Raises as
    `base_versions`, for the versions that were promoted too.
    """
    base_versions(warehouse, year, sessions[0], pca_version)
    trained = pl.concat([warehouse.read(table, columns=VERSION_COLUMNS) for table in TRAINED])
    trained = trained.filter(pl.col("model_year") == year)
    promotions = read_promotions(warehouse)
    rows = {row["version"]: row for row in trained.iter_rows(named=True)}
    models = trained["model"].unique().sort().to_list()
    by_model = [champions(promotions, trained, model, sessions) for model in models]
    spans: dict[tuple[str, ...], list[date]] = {}
    for session in sessions:
        spans.setdefault(tuple(serving[session] for serving in by_model), []).append(session)
    for version in {version for versions in spans for version in versions} - set(rows):
        raise ArtifactError(
            f"{version} serves by the table promotions, and no table of trained models has it any more; expected one "
            f"of {', '.join(sorted(rows))}: roll back to it with `stock-assets rollback`"
        )
    return [
        ([usable(rows[version], span[0], pca_version) for version in versions], span)
        for versions, span in spans.items()
    ]


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
