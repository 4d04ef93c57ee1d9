"""The step that weighs the ensemble of a model year on what its members predicted in the years before."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import polars as pl

from stock_assets.frames import KEYS, probability_of_label
from stock_assets.market.calendar import calendar_of
from stock_assets.model.cutoffs import first_cutoff
from stock_assets.model.materialize.inputs import inputs_for, usable_between
from stock_assets.model.materialize.versions import TRAINED, answers_of, base_versions
from stock_assets.model.pool import common_members, pool_weights
from stock_assets.model.registry import ENSEMBLE, IN_SERVICE, models_of
from stock_assets.settings import PROJECT_DIR, Settings
from stock_assets.storage.artifacts import artifact_version
from stock_assets.storage.code_version import read_code_version
from stock_assets.storage.registry import Registry, Training
from stock_assets.storage.warehouse import Warehouse
from stock_assets.tables import declared

#: The weights are chosen on the predictions of so many model years before, on every so-manieth session: neighbouring
#: sessions share all but one of the days of their labels.
WEIGHED_YEARS, WEIGHED_EVERY = 3, 7


@dataclass(frozen=True)
class WeighedEnsembles:
    """What the step stored."""

    rows: pl.DataFrame
    """of the table trained_ensemble"""
    notes: list[str]
    """sentences about the models that were not weighed"""


def weigh_ensembles(
    store: Warehouse, settings: Settings, years: Sequence[int], *, registry: Registry
) -> WeighedEnsembles:
    """Weighs the members of each of `years` and replaces their rows of trained_ensemble.

    Judged are the models that served in the WEIGHED_YEARS years before, as far as they are trained. A model that only
    some of these years have is left out: there is nothing to weigh it by in the others. Without an earlier year the
    model in service is the whole ensemble.
    """
    calendar = calendar_of(settings)
    trained_years = set.intersection(*(set(store.read(table)["model_year"]) for table in TRAINED))
    judged_years: dict[int, pl.DataFrame] = {}
    rows, notes = [], []
    for year in sorted(years):
        earlier = [y for y in range(year - WEIGHED_YEARS, year) if y in trained_years]
        for y in earlier:
            if y not in judged_years:
                judged_years[y] = judge_year(store, settings, y)
        of_year, left_out = weigh(year, first_cutoff(calendar, year), [judged_years[y] for y in earlier])
        rows += of_year
        notes += left_out
    frame = pl.DataFrame(rows, schema=declared("trained_ensemble").schema)
    _track(registry, frame)
    store.replace_rows("trained_ensemble", frame.select("model_year").unique(), frame)
    return WeighedEnsembles(frame, notes)


def judge_year(store: Warehouse, settings: Settings, year: int) -> pl.DataFrame:
    """ticker, session and, per model of `year`, the probability that it gave to what came true, on some sessions.

    Null where a model has no prediction. The rows are those of usable labels, and the models those that may serve.
    """
    calendar = calendar_of(settings)
    of_year = calendar.between(date(year, 1, 1), first_cutoff(calendar, year + 1))
    sessions = of_year[: -settings.horizon : WEIGHED_EVERY]
    inputs = inputs_for(store, settings, sessions, needed_by="trained_ensemble")
    labels, _ = usable_between(store, settings, sessions[0], last=sessions[-1])
    versions = [
        version
        for version in base_versions(store, year, sessions[0], pca_version=inputs.pca_version)
        if version.model in models_of("champion", "naive")
    ]
    return (
        answers_of(versions, settings, inputs, sessions=sessions)
        .join(labels.select(*KEYS, "label"), on=KEYS)
        .with_columns(of_label=probability_of_label())
        .pivot("model", index=KEYS, values="of_label")
        .sort("session", "ticker")
    )


def weigh(year: int, cutoff: date, judged_years: Sequence[pl.DataFrame]) -> tuple[list[dict[str, Any]], list[str]]:
    """(rows of trained_ensemble of one model year, sentences about the models left out).

    `judged_years` are the frames of `judge_year` of the years before.
    """
    probabilities, partial = common_members(judged_years)
    if probabilities.height:
        weights = map(float, pool_weights(probabilities.to_numpy()))
        losses = probabilities.select(-pl.all().clip(1e-12).log().mean()).row(0)
        by_member = dict(zip(probabilities.columns, weights, strict=True))
    else:
        by_member, losses = {IN_SERVICE: 1.0}, [None]
    version = f"{ENSEMBLE}-{cutoff}-{artifact_version({}, {'weights': by_member, 'year': year})}"
    rows = [
        {
            "model_year": year,
            "member": member,
            "weight": weight,
            "log_loss": loss,
            "rows": probabilities.height,
            "version": version,
            "trained_through": cutoff,
        }
        for (member, weight), loss in zip(by_member.items(), losses, strict=True)
    ]
    notes = [
        f"{model} is no member of the ensemble of {year}: only {years} of the {len(judged_years)} years before have it"
        for model, years in partial.items()
    ]
    return rows, notes


def _track(registry: Registry, rows: pl.DataFrame) -> None:
    """Keeps the weights of each year, before their rows are written."""
    code = read_code_version(PROJECT_DIR)
    for (year,), of_year in rows.partition_by("model_year", as_dict=True, maintain_order=True).items():
        version, cutoff = of_year["version"][0], of_year["trained_through"][0]
        weights: Mapping[str, float] = {
            f"weight/{member}": weight for member, weight in of_year.select("member", "weight").rows()
        }
        registry.track(Training(ENSEMBLE, version, int(str(year)), cutoff, weights, {}, code))
