"""The step that makes `input_value`: a walk-forward with each group of inputs, and without it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from hashlib import blake2b
from io import BytesIO

import numpy as np
import polars as pl

from stock_assets.errors import StockAssetsError
from stock_assets.evaluation.input_groups import (
    FAMILIES,
    NOISE,
    InputGroup,
    absent_families,
    chosen_groups,
    input_groups,
    noise_columns,
)
from stock_assets.evaluation.input_value import ADDED, JUDGED_BY, LEFT_OUT, WAYS, Variant, value_table
from stock_assets.evaluation.input_walk import Training, WalkYear, run_training, trainings_of
from stock_assets.evaluation.materialize.side_columns import columns_on_demand
from stock_assets.features.lookback import MAX_MISSED
from stock_assets.features.side_features import GROUPS
from stock_assets.frames import KEYS
from stock_assets.market.calendar import calendar_of
from stock_assets.model.cutoffs import first_cutoff
from stock_assets.model.materialize.inputs import inputs_through, usable_between
from stock_assets.model.progress import Progress, Say, side_by_side
from stock_assets.model.registry import IN_SERVICE, MODELS, READS, ModelEntry, longest_lookback
from stock_assets.model.scaling import feature_columns
from stock_assets.model.splits import training_rows
from stock_assets.objects import Place, put
from stock_assets.setting_values import LabelRule
from stock_assets.settings import PROJECT_DIR, Settings
from stock_assets.side_inputs.registry import side_input
from stock_assets.storage.artifacts import CheckpointFile
from stock_assets.storage.code_version import read_code_version
from stock_assets.storage.warehouse import Warehouse
from stock_assets.tables import declared

TABLE = "input_value"


@dataclass(frozen=True)
class ValueQuestion:
    """What is compared."""

    model: str = IN_SERVICE
    groups: tuple[str, ...] = ()
    """of `input_groups`; all where there is none"""
    ways: tuple[str, ...] = tuple(WAYS)
    years: tuple[int, ...] = ()
    """model years; all with a usable label where there is none"""
    seeds: int = 2
    """trainings of each variant, whose scores are averaged"""
    tickers: int | None = None
    """tickers, drawn with the seed; all when unset"""
    workers: int | None = None
    """trainings side by side; as many as there are cores when unset"""


@dataclass(frozen=True)
class MadeValues:
    """What `measure_inputs` stored."""

    rows: pl.DataFrame
    """of the table, those of the model"""
    trainings: int
    """that this run did; those that an earlier one had done are not done again"""


def measure_inputs(
    store: Warehouse, settings: Settings, question: ValueQuestion, *, say: Say = lambda _: None
) -> MadeValues:
    """Trains and asks the model of `question` with and without each group of inputs, and stores what they are worth.

    A run that was cut off goes on: a network from its last epoch, and what is scored stays scored while code, inputs
    and labels are the same. `say` is called with the progress.

    Raises StockAssetsError for a model that reads no stationary features and for a group, a way or a year that there
    is not, MissingSessionsError as `inputs_through`, and what a training raises; no row is written then.
    """
    entry = _entry(question)
    years, groups, absent_reasons = _read(store, settings, question)
    groups_to_measure = chosen_groups(groups, question.groups, absent_reasons)
    seeds = range(settings.seed, settings.seed + question.seeds)
    scores = _Scores(
        settings.artifacts / TABLE, settings.label_rule, model_and_seed=(read_code_version(PROJECT_DIR), entry.name)
    )
    trainings = [
        training
        for year in years
        for seed in seeds
        for training in trainings_of(year, groups_to_measure, question.ways, seed=seed)
    ]
    remaining_trainings = [training for training in trainings if not scores.has(training)]
    say(f"{TABLE}: {len(remaining_trainings)} of {len(trainings)} training(s) of {entry.name} to do")
    # the longest first, which are those of the latest year
    tasks = [partial(_run, training=training, entry=entry, scores=scores) for training in reversed(remaining_trainings)]
    side_by_side(tasks, say, question.workers)
    counts = {name: len(group.columns) for name, group in groups.items()}
    table = value_table(scores.read(trainings), counts, model=entry.name, seed=settings.seed)
    named_reasons = {
        name: reason for name, reason in absent_reasons.items() if not question.groups or name in question.groups
    }
    rows = declared(TABLE).fit(pl.concat([table, _not_measured(named_reasons, table)], how="diagonal"))
    store.replace_rows(TABLE, pl.DataFrame({"model": [entry.name]}), rows)
    return MadeValues(rows, len(remaining_trainings))


def _not_measured(reasons: Mapping[str, str], table: pl.DataFrame) -> pl.DataFrame:
    """The rows of the groups that the comparisons of `table` lack, with the reason of each."""
    common_columns = table.select("model", "rows", "years", "seeds", "variants").head(1)
    names = pl.DataFrame(list(reasons.items()), {"group": pl.String, "note": pl.String}, orient="row")
    way = pl.when(pl.col("group").is_in(list(FAMILIES))).then(pl.lit(LEFT_OUT)).otherwise(pl.lit(ADDED))
    return names.with_columns(way.alias("way"), metric=pl.lit(JUDGED_BY), columns=pl.lit(0, pl.Int64)).join(
        common_columns, how="cross"
    )


def _entry(question: ValueQuestion) -> ModelEntry:
    """The model of `question`, whose ways are checked too."""
    if unknown := [way for way in question.ways if way not in WAYS]:
        raise StockAssetsError(f"{TABLE} was asked for the way {unknown[0]!r}; expected some of {', '.join(WAYS)}")
    entry = MODELS.get(question.model)
    if entry is None or entry.reads != "features":
        reads = f"which reads {READS[entry.reads]}" if entry else "which is none"
        able = ", ".join(name for name, other in MODELS.items() if other.reads == "features")
        raise StockAssetsError(f"{TABLE} was asked about {question.model}, {reads}; expected one of {able}")
    return entry


def _run(say: Say, *, training: Training, entry: ModelEntry, scores: "_Scores") -> None:
    say(f"{TABLE}: {training.name} begins")
    checkpoint = CheckpointFile(scores.path(training, training.variant).with_suffix(".checkpoint"))
    run_training(
        training,
        entry,
        rule=scores.rule,
        on_epoch=Progress(f"{TABLE}: {training.name}", say),
        checkpoint=checkpoint,
        keep=lambda variant, rows: scores.write(training, variant, rows),
    )
    checkpoint.clear()


# ---------------------------------------------------------------- the scores that are there


class _Scores:
    """The scores of sessions of every variant that was asked, one file each: what a run that was cut off leaves."""

    def __init__(self, folder: Place, rule: LabelRule, *, model_and_seed: tuple[str, str]) -> None:
        """`model_and_seed` is what names the code and the model."""
        self.rule, self._folder, self._about = rule, folder, (*model_and_seed, rule)
        self._years: dict[int, str] = {}

    def path(self, training: Training, variant: Variant) -> Place:
        """Named by everything that the scores depend on."""
        year, group = training.year, training.variants[variant]
        if year.year not in self._years:
            self._years[year.year] = year.digest(*self._about)
        digest = blake2b(repr((self._years[year.year], training.seed, *variant)).encode(), digest_size=10)
        if group:
            digest.update(repr(group.columns).encode())
        if variant.way == ADDED and group:
            digest.update(year.digest_of(group).encode())
        return self._folder / f"{year.year}-{digest.hexdigest()}.arrow"

    def has(self, training: Training) -> bool:
        """Whether all variants of `training` are scored."""
        return all(self.path(training, variant).is_file() for variant in training.variants)

    def write(self, training: Training, variant: Variant, rows: pl.DataFrame) -> None:
        buffer = BytesIO()
        rows.write_ipc(buffer)
        put(self.path(training, variant), buffer.getvalue())

    def read(self, trainings: Sequence[Training]) -> dict[Variant, pl.DataFrame]:
        """As `value_table` takes them."""
        parts: dict[Variant, list[pl.DataFrame]] = {}
        for training in trainings:
            for variant in training.variants:
                rows = pl.read_ipc(BytesIO(self.path(training, variant).read_bytes()))
                training_columns = {"model_year": pl.lit(training.year.year), "seed": pl.lit(training.seed)}
                parts.setdefault(variant, []).append(rows.with_columns(**training_columns))
        return {variant: pl.concat(frames) for variant, frames in parts.items()}


# ---------------------------------------------------------------- what is read


def _read(
    store: Warehouse, settings: Settings, question: ValueQuestion
) -> tuple[list[WalkYear], dict[str, InputGroup], dict[str, str]]:
    """The walk-forward of each year, all groups of inputs, and why others are not among them."""
    calendar, last_label = calendar_of(settings), store.last_session("labels")
    years = _years(settings, question, last_label)
    last = calendar.between(calendar.sessions[0], min(last_label, date(years[-1], 12, 31)))[-1]  # pyright: ignore[reportArgumentType,reportTypeIssues]: there is a label
    inputs = inputs_through(store, settings, last, needed_by=TABLE)
    labels, _ = usable_between(store, settings, calendar.sessions[0], last=last)
    features = _sample(inputs.features.sort(KEYS), question.tickers, settings.seed)
    labels = labels.join(features.select(KEYS), on=KEYS, how="semi").sort(KEYS)
    sides = question.groups if ADDED in question.ways else (NOISE,)
    added_columns, columns, absent_reasons = columns_on_demand(store, settings, features.select(KEYS), names=sides)
    groups = input_groups(feature_columns(features), GROUPS, columns)
    absent_reasons |= absent_families(groups) | _absent_sides(settings, groups)
    noise = noise_columns(features, groups[NOISE].columns, seed=settings.seed)
    added_columns = added_columns.with_columns(noise.select(groups[NOISE].columns).get_columns())
    walk = []
    for year in years:
        scored_labels = labels.filter(pl.col("session").dt.year() == year)
        if scored_labels.is_empty():
            raise StockAssetsError(f"{TABLE} found no usable label with features in {year}; expected some to score")
        first, until = scored_labels["session"].min(), pl.col("session") <= scored_labels["session"].max()
        lookback = calendar.before(first, longest_lookback() + MAX_MISSED)  # pyright: ignore[reportArgumentType]
        walk.append(
            WalkYear(
                year,
                cutoff := first_cutoff(calendar, year),
                features=features.filter(until),
                added=added_columns.filter(until),
                suspects=inputs.suspects.filter(until),
                train=training_rows(labels, cutoff),
                scored=scored_labels,
                asked_from=(*lookback, first)[0],  # pyright: ignore[reportArgumentType]
            )
        )
    return walk, groups, absent_reasons


def _absent_sides(settings: Settings, groups: Mapping[str, InputGroup]) -> dict[str, str]:
    """Why the model has no column of a side input that models read, by the name of its group."""
    sides = [side for side in GROUPS.values() if side.in_model and side.name not in groups]
    off = {
        side.name: [reason for name in side.reads if (reason := side_input(name).missing(settings))] for side in sides
    }
    return {name: (reasons or ["most sessions lack its columns"])[0] for name, reasons in off.items()}


def _years(settings: Settings, question: ValueQuestion, last_label: date | None) -> list[int]:
    """The years of `question`, ascending. Raises StockAssetsError for one without a label."""
    served_years = list(range(settings.model_start_year, (last_label.year if last_label else 0) + 1))
    years = sorted(set(question.years)) or served_years
    unserved_years = [year for year in years if year not in served_years]
    if unserved_years or not years:
        expectation = (
            f"some of {served_years[0]} to {served_years[-1]}"
            if served_years
            else "labels of a model year: materialize them first"
        )
        year_names = ", ".join(map(str, unserved_years)) or "all model years"
        raise StockAssetsError(f"{TABLE} was asked for {year_names}; expected {expectation}")
    return years


def _sample(features: pl.DataFrame, tickers: int | None, seed: int) -> pl.DataFrame:
    """The rows of at most `tickers` of the tickers, drawn with `seed`; all where it is None."""
    names = features["ticker"].unique().sort()
    if tickers is None or len(names) <= tickers:
        return features
    drawn_tickers = np.random.default_rng(seed).choice(names.to_numpy(), tickers, replace=False).tolist()
    return features.filter(pl.col("ticker").is_in(drawn_tickers))
