"""How the running platform does: one row per recent session, live skill, and one HTML page for the operator."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import polars as pl

from stock_assets.evaluation.metrics import best_naive
from stock_assets.lifecycle.freshness import Freshness
from stock_assets.lifecycle.tables import OPERATIONS
from stock_assets.market.calendar import TradingCalendar
from stock_assets.model.registry import ENSEMBLE, IN_SERVICE, live_yardsticks
from stock_assets.pages.inputs import inputs_view
from stock_assets.pages.models import models_view
from stock_assets.pages.paper import TABLES as PAPER_TABLES
from stock_assets.pages.paper import paper_view
from stock_assets.pages.skill import skill_view
from stock_assets.pages.templates import page_template

#: Sessions of the rolling mean of the log-loss.
WINDOW = 21

#: `served_rows` and `scored_rows` of `session_table` before there is a prediction, and before there is a label of one.
NOTHING_SERVED = pl.DataFrame(
    schema={"session": pl.Date, "model": pl.String, "version": pl.String, "trained_through": pl.Date}
    | {"rows": pl.Int64, "age": pl.Int64}
)
NOTHING_SCORED = pl.DataFrame(
    schema={"model": pl.String, "session": pl.Date, "label": pl.Int8, "predicted": pl.Int8, "surprise": pl.Float64}
)

#: The tables that the page shows, and the columns that it needs of each.
TABLES = {
    "in_service": ("model", "version", "trained_through", "age", "rows"),
    "failures": ("at", "what", "partitions", "run_id"),
    "alerts": ("title", "text", "first_at", "last_at", "sent_at", "count", "resolved_at"),
    "drift": ("session", "kind", "column", "psi", "ks"),
    "retraining_decisions": ("session", "decided_at", "rule", "retrain", "reason"),
    "promotions": ("model", "version", "decided_at", "outcome", "kind", "replaced", "improvement", "reason"),
    **dict.fromkeys(PAPER_TABLES, ()),
}
#: Columns that a section of the dashboard shows beside these, and what they hold where the store has none.
_SHOWN: dict[str, dict[str, Any]] = {
    "in_service": {"alias": pl.String, "model_year": pl.Int32, "serves_from": pl.Date, "reason": pl.String},
    "drift": {"psi": pl.Float64, "ks": pl.Float64, "reference_through": pl.Date},
    "promotions": {
        "improvement_low": pl.Float64,
        "improvement_high": pl.Float64,
        "decided_at": pl.Datetime("us", "UTC"),
    },
    "retraining_decisions": {"decided_at": pl.Datetime("us", "UTC")},
}
_CONSTANT = {"in_service": {"alias": "champion"}}
#: What is measured where a publication is made, and not here.
_UNKNOWN = ("expected_log_loss", "rank_ic", "left_out")
_NO_RELIABILITY = pl.DataFrame(
    schema={"class": pl.String, "bin": pl.Int32, "probability": pl.Float64, "frequency": pl.Float64, "rows": pl.Int64}
)
_NO_HISTOGRAM = pl.DataFrame(schema={"column": pl.String, "bin": pl.Int32})
_NO_SCORE = pl.DataFrame(schema={"model": pl.String, "naive": pl.Boolean, "log_loss": pl.Float64})


@dataclass(frozen=True)
class OperationsFacts:
    """What the page is about."""

    source: str
    """where the prices come from; 'simulated' puts a banner on top"""
    at: datetime
    """when it was made"""
    last_session: date | None
    """the last session of the predictions"""
    freshness: Freshness
    naive: str | None
    """the naive baseline that skill is measured against; None before a label is known"""


def scored_models() -> tuple[str, ...]:
    """The models that the page scores."""
    return (IN_SERVICE, ENSEMBLE, *live_yardsticks())


def with_age(served_rows: pl.DataFrame, calendar: TradingCalendar) -> pl.DataFrame:
    """`served_rows` (session, trained_through, …) with `age`, the sessions after the cutoff up to the session."""
    pairs = served_rows.select("session", "trained_through").unique()
    ages = [len(calendar.between(cutoff + timedelta(days=1), day)) for day, cutoff in pairs.iter_rows()]
    return served_rows.join(pairs.with_columns(age=pl.Series(ages, dtype=pl.Int64)), on=["session", "trained_through"])


def naive_baseline(scored_rows: pl.DataFrame) -> str | None:
    """The name of the best naive baseline over all rows of `scored_rows` (`metrics.scored_rows`), None for no row."""
    best = best_naive(scored_rows.group_by("model").agg(log_loss=pl.col("surprise").mean()), live_yardsticks())
    return None if best is None else best["model"]


def session_table(served_rows: pl.DataFrame, scored_rows: pl.DataFrame, suspects: pl.DataFrame) -> pl.DataFrame:
    """The rows of the table `operations`: one per predicted session, ascending.

    `served_rows` has session, model, version, trained_through, rows, age of every model; `scored_rows` is
    `metrics.scored_rows` of `scored_models` on usable labels; `suspects` has session, suspects. Where no label of a
    session is known yet, `scored` is 0 and the scores are null.
    """
    in_service = served_rows.filter(pl.col("model") == IN_SERVICE).drop("model")
    baseline = naive_baseline(scored_rows)

    def mean_loss(model: str | None, name: str) -> pl.DataFrame:
        rows = scored_rows.filter(pl.col("model") == model) if model else scored_rows.clear()
        return rows.group_by("session").agg(pl.col("surprise").mean().alias(name))

    of_service = scored_rows.filter(pl.col("model") == IN_SERVICE).group_by("session")
    skill = of_service.agg(
        scored=pl.len(), log_loss=pl.col("surprise").mean(), accuracy=(pl.col("label") == pl.col("predicted")).mean()
    )
    return (
        served_rows.group_by("session")
        .agg(models=pl.len())
        .join(in_service, on="session", how="left")
        .join(suspects, on="session", how="left")
        .join(skill, on="session", how="left")
        .join(mean_loss(ENSEMBLE, "ensemble_log_loss"), on="session", how="left")
        .join(mean_loss(baseline, "naive_log_loss"), on="session", how="left")
        .with_columns(pl.col("rows", "suspects", "scored").fill_null(0))
        .select(pl.col(name).cast(kind) for name, kind in OPERATIONS.schema.items())
        .sort("session")
    )


def live_skill(sessions: pl.DataFrame, window: int = WINDOW) -> pl.DataFrame:
    """session, model, log_loss, gain of every scored session.

    log_loss is the mean over the last `window` sessions (fewer at the start) of the daily log-loss, in nats, of the
    model in service, the ensemble and the best naive baseline; gain is the running sum of the baseline's log-loss less
    the model's.
    """
    scored_sessions = sessions.drop_nulls(["log_loss", "naive_log_loss"]).sort("session")
    columns = {IN_SERVICE: "log_loss", ENSEMBLE: "ensemble_log_loss", "naive": "naive_log_loss"}
    return pl.concat(
        scored_sessions.select(
            "session",
            model=pl.lit(model),
            log_loss=pl.col(column).rolling_mean(window, min_samples=1),
            gain=(pl.col("naive_log_loss") - pl.col(column)).cum_sum(),
        )
        for model, column in columns.items()
    ).drop_nulls("log_loss")


def render_operations(
    sessions: pl.DataFrame, tables: Mapping[str, pl.DataFrame | None], *, facts: OperationsFacts
) -> str:
    """One self-contained HTML page: inline style and charts, no script, nothing from the network. The sections on
    skill, inputs and models are those of the dashboard.

    `sessions` is that of `session_table`; `tables` are those of TABLES, newest row first, None where the table does not
    exist yet. Works without any row.

    Raises ValueError for an unknown table, and for one that lacks a column.
    """
    if unknown := sorted({*tables} - {*TABLES}):
        raise ValueError(f"{', '.join(unknown)} is no part of the page; expected {', '.join(TABLES)}")
    for name, table in tables.items():
        if table is not None and (missing_columns := sorted({*TABLES[name]} - {*table.columns})):
            raise ValueError(f"{name} has no column {', '.join(missing_columns)}; expected {', '.join(TABLES[name])}")
    frames = {name: _complete(name, tables.get(name)) for name in TABLES}
    rows = {name: frames[name].to_dicts() for name in ("failures", "alerts")}
    row_in_service = {row["model"]: row for row in frames["in_service"].to_dicts()}.get(IN_SERVICE)
    session_rows = sessions.with_columns(
        pl.lit(None, pl.Float64).alias(name) for name in {*_UNKNOWN} - {*sessions.columns}
    )
    rolling = live_skill(sessions).with_columns(low=pl.lit(None, pl.Float64), high=pl.lit(None, pl.Float64))
    return page_template("operations.html.j2", "stock_assets.lifecycle").render(
        title=f"stock_assets: operations, {facts.source} prices",
        facts=facts,
        simulated=facts.source == "simulated",
        alerts=rows["alerts"],
        failures=rows["failures"],
        in_service=row_in_service,
        open_alerts=frames["alerts"]["resolved_at"].null_count(),
        model=IN_SERVICE,
        skill=skill_view(session_rows, rolling, _NO_RELIABILITY, model=IN_SERVICE, listed=WINDOW),
        inputs=inputs_view(frames["drift"], _NO_HISTOGRAM, session_rows, outcomes=None),
        models=models_view(
            frames["in_service"],
            frames["promotions"],
            frames["retraining_decisions"],
            scores=_NO_SCORE,
            model=IN_SERVICE,
        ),
        card_address=None,
        paper=paper_view({name: tables.get(name) for name in PAPER_TABLES}),
    )


def _complete(name: str, table: pl.DataFrame | None) -> pl.DataFrame:
    """`table` with a null in every column that its section shows and it lacks; no row for None."""
    columns = {**dict.fromkeys(TABLES[name], pl.Null), **_SHOWN.get(name, {})}
    frame = pl.DataFrame(schema=columns) if table is None else table
    return frame.with_columns(
        pl.lit(value).cast(_SHOWN[name][column]).alias(column)
        for column, value in ({**dict.fromkeys(_SHOWN.get(name, {})), **_CONSTANT.get(name, {})}).items()
        if column not in frame.columns
    )
