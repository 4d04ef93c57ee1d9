"""The card of a model version: what it learned from, how well it does beside the best naive baseline, and its limits.

    {"version", "model", "title", "role", "reads", "model_year", "trained_through", "trained_at",
     "training": {"first", "through", "rows"}, "seed", "code_version", "columns": […], "columns_hash", "config": {…},
     "members": [{"member", "weight"}], "validation": {"best_epoch", "log_loss", "accuracy"},
     "scores": [{"year", "rows", "log_loss", "log_loss_low", …, "naive", "naive_log_loss"}],
     "promotions": [{"decided_at", "outcome", "kind", "version", "replaced", "improvement", …, "reason"}],
     "limits": […], "run": {"id", "experiment", "url"}}

What is not there is null, as the run of a version that no model registry tracked.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from math import isfinite
from typing import Any

import polars as pl

from stock_assets.evaluation.metrics import best_naive

#: What no score shows.
LIMITS = (
    "Most of the gain over a naive baseline is volatility: the model forecasts how likely a large move is, and hardly "
    "its direction.",
    "The probabilities are about the total return of the ticker's own next bars, before costs and before taxes.",
    "It knows prices, volumes and, where the source has it, market context; no news, no accounts, no earnings dates.",
    "A ticker with a suspect bar, with too little history, or outside the universe is left out.",
    "It is no investment advice.",
)
SIMULATED = "The prices are simulated: a made-up market with a planted signal. No score says anything about a real one."
#: What a card shows of a score, beside the year and its rows.
SCORES = ("log_loss", "log_loss_low", "log_loss_high", "accuracy", "accuracy_low", "accuracy_high", "rank_ic")
SCORES += ("rank_ic_low", "rank_ic_high")


@dataclass(frozen=True)
class Made:
    """How a version was made: what of its card never changes."""

    version: str
    model: str
    title: str
    role: str
    reads: str
    model_year: int
    trained_through: date
    trained_at: datetime | None
    first: date
    """the first session of the market, where its training begins"""
    rows: int | None
    """labels learned from, after the purge"""
    seed: int
    code_version: str | None
    columns: Sequence[str]
    columns_hash: str | None
    config: Mapping[str, Any]
    members: Sequence[Mapping[str, Any]]
    """of an ensemble: member, weight"""
    validation: Mapping[str, Any]
    run: Mapping[str, Any] | None
    """of the model registry: id, experiment, url"""


def made_fields(training_of_version: Made) -> dict[str, Any]:
    """The fields of a card that never change."""
    fields = {
        name: getattr(training_of_version, name) for name in Made.__dataclass_fields__ if name not in ("first", "rows")
    }
    return fields | {
        "training": {
            "first": training_of_version.first,
            "through": training_of_version.trained_through,
            "rows": training_of_version.rows,
        }
    }


def card(
    fields: Mapping[str, Any], report: pl.DataFrame, promotions: pl.DataFrame, *, naive: Sequence[str], simulated: bool
) -> bytes:
    """The card as JSON: `fields` (`made_fields`), the scores of the model in `report` (evaluation_report), and what
    `promotions` (the table) says of the version. `naive` names the naive baselines."""
    of_version = promotions.filter((pl.col("version") == fields["version"]) | (pl.col("replaced") == fields["version"]))
    columns = ("decided_at", "outcome", "kind", "version", "replaced", "serves_from")
    columns += ("improvement", "improvement_low", "improvement_high", "reason")
    content = {
        **fields,
        "scores": scores_of(report, fields["model"], fields["model_year"], naive=naive),
        "promotions": of_version.sort("decided_at").select(columns).to_dicts(),
        "limits": [*([SIMULATED] if simulated else []), *LIMITS],
    }
    text = json.dumps(_finite(content), default=_plain, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode()


def scores_of(report: pl.DataFrame, model: str, year: int, *, naive: Sequence[str]) -> list[dict[str, Any]]:
    """The scores of `model` in `year`, then those of all years (year null), each beside the best naive baseline of all
    years; none before the year is scored."""
    best = best_naive(report.filter(pl.col("year").is_null()), naive)
    rows_of_years = []
    for of_year in (pl.col("year") == year, pl.col("year").is_null()):
        rows = {row["model"]: row for row in report.filter(of_year).iter_rows(named=True)}
        if model in rows:
            scores = {name: rows[model].get(name) for name in ("year", "rows", *SCORES)}
            baseline_scores = rows.get(best["model"]) if best else None
            baseline = {f"naive_{name}": baseline_scores and baseline_scores.get(name) for name in SCORES}
            rows_of_years.append(scores | {"naive": best and best["model"]} | baseline)
    return rows_of_years


def _finite(value: Any) -> Any:
    """`value` with null in the place of every number that is not finite."""
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: _finite(part) for name, part in value.items()}
    return [_finite(part) for part in value] if isinstance(value, list | tuple) else value


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, date) else str(value)  # a datetime is a date as well
