"""The steps `trained_bar_models` and `bar_predictions`."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple

import polars as pl

from stock_assets.errors import ArtifactError
from stock_assets.features.bar_features import LOOKBACK_BARS
from stock_assets.features.bar_grid import MAX_MISSING
from stock_assets.features.bar_tables import BAR_FEATURE_TABLE, BAR_LABELS
from stock_assets.features.materialize.bars import bar_label_rule, first_difference
from stock_assets.frames import BAR_KEYS, RowSummary
from stock_assets.market.calendar import TradingCalendar, calendar_of
from stock_assets.market.intervals import Interval, lookback_start
from stock_assets.market.sources.registry import settle_time
from stock_assets.model.bar_lesson import BarLesson, answerable, known_by
from stock_assets.model.bar_models import BAR_IN_SERVICE, BAR_MODELS, BarModelEntry
from stock_assets.model.bar_schedule import BarTraining, first_served, training_of
from stock_assets.model.bar_tables import BAR_PREDICTIONS, TRAINED_BAR_MODELS
from stock_assets.settings import PROJECT_DIR, Settings
from stock_assets.storage.artifacts import CheckpointFile, artifact_version, load_artifact, save_artifact
from stock_assets.storage.changes import Change
from stock_assets.storage.code_version import read_code_version
from stock_assets.storage.trainings import Registry, Training
from stock_assets.storage.warehouse import Warehouse
from stock_assets.tables import UTC_TIME

#: Hears how far a training is.
Say = Callable[[str], None]
_VERSION = [*BAR_KEYS, "fetched_at"]


class TrainedBarModels(NamedTuple):
    """What a training step stored."""

    rows: pl.DataFrame
    """`TRAINED_BAR_MODELS` of the sessions"""
    trainings: Sequence[BarTraining]
    """those that were run; the others serve on"""


class MadeBarPredictions(NamedTuple):
    """What a prediction step stored."""

    rows: RowSummary
    """rows that are new or were made again"""
    since: datetime | None
    """the end of the first bar that was predicted; None where nothing was new"""


def first_served_session(settings: Settings) -> date:
    """The first session that has models. Raises as `bar_schedule.first_served`."""
    return first_served(calendar_of(settings), Interval.parse(settings.interval))


def train_bar_models(
    store: Warehouse,
    settings: Settings,
    sessions: Sequence[date],
    *,
    now: datetime,
    registry: Registry,
    say: Say = lambda _: None,
) -> TrainedBarModels:
    """Writes the newest version of every model for each of `sessions` (ascending), and trains those that are not there;
    `registry` keeps every training.

    A session that begins a training of its own (`bar_schedule.training_of`) is trained anew; any other gets the
    versions of the training before it, which is run where the store lacks it. Raises MissingSessionsError where
    features or labels of the sessions to learn from are missing, and whatever a training raises; nothing is written
    then.
    """
    calendar = calendar_of(settings)
    stored_models = TRAINED_BAR_MODELS.fit(store.read_or(TRAINED_BAR_MODELS.empty(), "trained_bar_models"))
    parts, trainings, models_by_session = [], [], dict[date, pl.DataFrame]()
    for session in sessions:
        training = _training(settings, calendar, session)
        begins = training.serves_from
        if begins not in models_by_session:
            models_of_session = stored_models.filter(pl.col("session") == begins, pl.col("cutoff") == training.cutoff)
            if session == begins or set(models_of_session["model"]) != set(BAR_MODELS):
                trainings.append(training)
                models_of_session = _train_models(store, settings, training, now=now, say=say)
                _track(settings, registry, models_of_session)
            models_by_session[begins] = models_of_session
        parts.append(models_by_session[begins].with_columns(session=pl.lit(session)))
        if session != begins and trainings and trainings[-1] == training and begins not in sessions:
            parts.append(models_by_session[begins])
    rows = pl.concat([TRAINED_BAR_MODELS.empty(), *parts]).unique(["session", "model"], maintain_order=True)
    replaced_keys = rows.select("session").unique()
    store.write([Change("trained_bar_models", rows, replaced_keys, makes=rows["session"].unique().to_list())])
    for training in trainings:
        for name in BAR_MODELS:
            _checkpoint(settings, training, name).clear()
    return TrainedBarModels(rows.filter(pl.col("session").is_in(list(sessions))), trainings)


def _training(settings: Settings, calendar: TradingCalendar, session: date) -> BarTraining:
    interval = Interval.parse(settings.interval)
    return training_of(calendar, interval, session, most=settings.training_sessions, every=settings.training_every)


def _train_models(
    store: Warehouse, settings: Settings, training: BarTraining, *, now: datetime, say: Say
) -> pl.DataFrame:
    """`TRAINED_BAR_MODELS` of the session that `training` begins with."""
    first, last = training.sessions[0], training.sessions[-1]
    store.require(["raw_bars", "bars", "bar_features", "bar_labels"], training.sessions, "trained_bar_models")
    features = BAR_FEATURE_TABLE.fit(store.read("bar_features", first, last)).drop("fetched_at")
    labels = known_by(BAR_LABELS.fit(store.read("bar_labels", first, last)), training.cutoff)
    rows = []
    for entry in BAR_MODELS.values():
        say(f"{entry.name} for {training.serves_from}: {labels.height} labels of {len(training.sessions)} session(s)")
        lesson = BarLesson(
            features,
            labels,
            training.cutoff,
            settings.seed,
            bar_label_rule(settings),
            Interval.parse(settings.interval).minutes,
            checkpoint=_checkpoint(settings, training, entry.name),
        )
        model = entry.train(lesson)
        tensors, description = model.to_artifact()
        version = f"{entry.name}-{training.cutoff:%Y%m%dT%H%M}-{artifact_version(tensors, description)}"
        folder = f"trained_bar_models/{training.serves_from}/{version}"
        save_artifact(settings.artifacts / folder, tensors, description)
        rows.append(
            {
                "session": training.serves_from,
                "model": entry.name,
                "role": entry.role,
                "version": version,
                "cutoff": training.cutoff,
                "trained_at": now,
                "training_rows": labels["label"].count(),
                "artifact": folder,
            }
        )
    return pl.DataFrame(rows, TRAINED_BAR_MODELS.schema)


def _track(settings: Settings, registry: Registry, rows: pl.DataFrame) -> None:
    """Has `registry` keep a training (`TRAINED_BAR_MODELS`), before its rows are written: what serves was tracked."""
    code = read_code_version(PROJECT_DIR)
    for row in rows.iter_rows(named=True):
        registry.track(
            Training(
                row["model"],
                row["version"],
                date.min.year,  # bars have no model years
                row["cutoff"].date(),
                {"seed": settings.seed, "interval": settings.interval, "horizon": settings.horizon},
                {"training_rows": row["training_rows"]},
                code,
                folder=settings.artifacts / row["artifact"],
            )
        )


def _checkpoint(settings: Settings, training: BarTraining, model: str) -> CheckpointFile:
    folder = settings.artifacts / "trained_bar_models" / str(training.serves_from)
    return CheckpointFile(folder / f".checkpoint-{model}-{training.cutoff:%Y%m%dT%H%M}")


def make_bar_predictions(
    store: Warehouse,
    settings: Settings,
    sessions: Sequence[date],
    *,
    now: datetime,
    champions: Mapping[date, str],
) -> MadeBarPredictions:
    """Makes what is new of `bar_predictions` of `sessions` (ascending): BAR_IN_SERVICE by the version that `champions`
    has for the session, every other model by its newest training.

    While a session runs, the model in service and the naive ones answer; the references answer once it is over at
    `now`, as long after its close as the source takes. A bar that has features, and was predicted from another version
    of it or by another model, is predicted again with all bars after it.

    Raises MissingSessionsError where features or versions of a session are missing, ArtifactError where a saved model
    is gone.
    """
    calendar, summary, first_made = calendar_of(settings), RowSummary(), None
    for session in sessions:
        store.require(["bars", "bar_features", "trained_bar_models"], [session], "bar_predictions")
        trained_models = TRAINED_BAR_MODELS.fit(store.read("trained_bar_models", last=session))
        newest = trained_models.filter(pl.col("session") == session)
        versions = {row["model"]: row for row in newest.iter_rows(named=True) if row["model"] in BAR_MODELS}
        serving = trained_models.filter(pl.col("version") == champions[session])
        versions |= {row["model"]: row for row in serving.head(1).iter_rows(named=True)}
        is_over = calendar.closes[session] + settle_time(settings) <= now
        roles = ("champion", "naive", "reference") if is_over else ("champion", "naive")
        requested_versions = {name: row for name, row in versions.items() if BAR_MODELS[name].role in roles}
        if serving.is_empty():
            raise ArtifactError(
                f"{champions[session]} serves {session} by the table promotions, and trained_bar_models has it no "
                f"more; roll back to another version with `stock-assets rollback {BAR_IN_SERVICE}`"
            )
        predictions, replaced_keys, since = _predict_session(
            store, settings, calendar, session=session, versions=requested_versions
        )
        store.write([Change("bar_predictions", predictions, replaced_keys, makes=[session])])
        summary.add(predictions)
        first_made = first_made or since
    return MadeBarPredictions(summary, first_made)


def answers_of_version(
    store: Warehouse, settings: Settings, row: Mapping[str, Any], *, sessions: Sequence[date]
) -> pl.DataFrame:
    """What one version (a `row` of `TRAINED_BAR_MODELS`) predicts for the bars of `sessions` (ascending), as rows of
    `bar_predictions`. Raises as `make_bar_predictions`; CutoffError is for the reader of the predictions."""
    entry, calendar = BAR_MODELS[row["model"]], calendar_of(settings)
    store.require(["bars", "bar_features"], sessions, "promotions")
    begins = calendar.opens[sessions[0]] + timedelta(minutes=1)
    first, start = lookback_start(calendar, Interval.parse(settings.interval), begins, bars=_lookback([entry]))
    features = BAR_FEATURE_TABLE.fit(store.read("bar_features", first, sessions[-1]))
    own = features.filter(pl.col("session").is_in(list(sessions)))
    keys = own.filter(pl.Series(answerable(own))).select(_VERSION)
    return _answer(settings, entry, row, features=features.filter(pl.col("bar_end") >= start), keys=keys)


def _lookback(entries: Iterable[BarModelEntry]) -> int:
    """Expected bars before the first one that `entries` predict which they look at, holes included."""
    return math.ceil(max(LOOKBACK_BARS, *(entry.lookback_rows for entry in entries)) / (1 - MAX_MISSING))


def _predict_session(
    store: Warehouse,
    settings: Settings,
    calendar: TradingCalendar,
    *,
    session: date,
    versions: Mapping[str, dict[str, Any]],
) -> tuple[pl.DataFrame, pl.DataFrame | None, datetime | None]:
    """(new rows of `session`, keys of the rows that they replace, the end of the first bar that is predicted)."""
    empty = BAR_PREDICTIONS.empty()
    columns = ["model", "model_version", *_VERSION]
    stored_rows = store.read_or(empty.select(columns), "bar_predictions", session, last=session, columns=columns)
    stored_rows = stored_rows.cast(dict(empty.select(columns).schema))  # pyright: ignore[reportArgumentType]
    needed_columns = [*_VERSION, "vol_60", "vol_240"]
    inputs = store.read("bar_features", session, session, columns=needed_columns)
    keys = inputs.filter(pl.Series(answerable(inputs))).select(_VERSION).cast(dict(empty.select(_VERSION).schema))  # pyright: ignore[reportArgumentType]
    parts, replaced_keys, moments = [empty], [], []
    lookback = _lookback(BAR_MODELS[name] for name in versions)
    features: dict[datetime, pl.DataFrame] = {}
    for name, row in versions.items():
        own = stored_rows.filter(pl.col("model") == name, pl.col("model_version") == row["version"]).select(_VERSION)
        others = stored_rows.filter(pl.col("model") == name, pl.col("model_version") != row["version"])
        since = first_difference(keys, own) if others.is_empty() else keys["bar_end"].min()
        outdated_rows = (
            stored_rows.filter(pl.col("model") == name, pl.col("bar_end") >= since) if since else stored_rows.clear()
        )
        replaced_keys.append(pl.concat([outdated_rows, others]).select("model", *BAR_KEYS).unique())
        if since is None:
            continue
        moments.append(since)
        if since not in features:
            first, start = lookback_start(calendar, Interval.parse(settings.interval), since, bars=lookback)  # pyright: ignore[reportArgumentType]
            rows = BAR_FEATURE_TABLE.fit(store.read("bar_features", first, session))
            features[since] = rows.filter(pl.col("bar_end") >= start)  # pyright: ignore[reportArgumentType]
        new_keys = keys.filter(pl.col("bar_end") >= since)
        answer = _answer(settings, BAR_MODELS[name], row, features=features[since], keys=new_keys)  # pyright: ignore[reportArgumentType]
        parts.append(answer.select(empty.columns))
    outdated_rows = pl.concat(replaced_keys)
    return pl.concat(parts), outdated_rows if outdated_rows.height else None, min(moments, default=None)


def _answer(
    settings: Settings, entry: BarModelEntry, row: Mapping[str, Any], *, features: pl.DataFrame, keys: pl.DataFrame
) -> pl.DataFrame:
    """Rows of `bar_predictions`. Raises ArtifactError where the saved model is gone or damaged."""
    if row["artifact"] is None:
        raise ArtifactError(
            f"{row['version']} lost as a challenger long ago, and its saved model was tidied away; expected a version "
            f"that has one: `stock-assets rollback {entry.name}` goes back to another"
        )
    artifact = load_artifact(settings.artifacts / row["artifact"])
    model = entry.load(artifact.tensors, artifact.description)
    rows = entry.predict(model, features.drop("fetched_at"), keys.select(BAR_KEYS))
    return rows.join(keys, on=BAR_KEYS, how="left", maintain_order="left").with_columns(
        model=pl.lit(entry.name),
        model_version=pl.lit(row["version"]),
        trained_through=pl.lit(row["cutoff"]).cast(UTC_TIME),
    )
