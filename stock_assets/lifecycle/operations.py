"""How the running platform does: one row per recent session, live skill, and one HTML page for the operator."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import polars as pl

from stock_assets.evaluation.metrics import best_naive
from stock_assets.evaluation.report import Image, page_template
from stock_assets.lifecycle.freshness import Freshness
from stock_assets.lifecycle.tables import OPERATIONS
from stock_assets.market.calendar import TradingCalendar
from stock_assets.model.registry import ENSEMBLE, IN_SERVICE, live_yardsticks

#: Sessions of the rolling mean of the log-loss.
WINDOW = 21
#: Sessions, and columns that drifted most, that the page lists before one unfolds the rest.
LISTED = 10

#: `served` and `scored` of `session_table` before there is a prediction, and before there is a label of one.
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
}


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


def with_age(served: pl.DataFrame, calendar: TradingCalendar) -> pl.DataFrame:
    """`served` (session, trained_through, …) with `age`, the sessions after the cutoff up to the session."""
    pairs = served.select("session", "trained_through").unique()
    ages = [len(calendar.between(cutoff + timedelta(days=1), day)) for day, cutoff in pairs.iter_rows()]
    return served.join(pairs.with_columns(age=pl.Series(ages, dtype=pl.Int64)), on=["session", "trained_through"])


def naive_baseline(scored: pl.DataFrame) -> str | None:
    """The name of the best naive baseline over all rows of `scored` (`metrics.scored_rows`), None for no row."""
    best = best_naive(scored.group_by("model").agg(log_loss=pl.col("surprise").mean()), live_yardsticks())
    return None if best is None else best["model"]


def session_table(served: pl.DataFrame, scored: pl.DataFrame, suspects: pl.DataFrame) -> pl.DataFrame:
    """The rows of the table `operations`: one per predicted session, ascending.

    `served` has session, model, version, trained_through, rows, age of every model; `scored` is `metrics.scored_rows`
    of `scored_models` on usable labels; `suspects` has session, suspects. Where no label of a session is known yet,
    `scored` is 0 and the scores are null.
    """
    in_service = served.filter(pl.col("model") == IN_SERVICE).drop("model")
    baseline = naive_baseline(scored)

    def mean_loss(model: str | None, name: str) -> pl.DataFrame:
        rows = scored.filter(pl.col("model") == model) if model else scored.clear()
        return rows.group_by("session").agg(pl.col("surprise").mean().alias(name))

    of_service = scored.filter(pl.col("model") == IN_SERVICE).group_by("session")
    skill = of_service.agg(
        scored=pl.len(), log_loss=pl.col("surprise").mean(), accuracy=(pl.col("label") == pl.col("predicted")).mean()
    )
    return (
        served.group_by("session")
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
    scored = sessions.drop_nulls(["log_loss", "naive_log_loss"]).sort("session")
    columns = {IN_SERVICE: "log_loss", ENSEMBLE: "ensemble_log_loss", "naive": "naive_log_loss"}
    return pl.concat(
        scored.select(
            "session",
            model=pl.lit(model),
            log_loss=pl.col(column).rolling_mean(window, min_samples=1),
            gain=(pl.col("naive_log_loss") - pl.col(column)).cum_sum(),
        )
        for model, column in columns.items()
    ).drop_nulls("log_loss")


def render_operations(
    sessions: pl.DataFrame,
    tables: Mapping[str, pl.DataFrame | None],
    figures: Mapping[str, bytes],
    *,
    facts: OperationsFacts,
) -> str:
    """One self-contained HTML page: inline style, pictures as data URIs, no script, nothing from the network.

    `sessions` is that of `session_table`; `tables` are those of TABLES, newest row first, None where the table does not
    exist yet; `figures` are PNGs, `live_skill` and `drift`. Works without any row.

    Raises ValueError for an unknown table or figure, and for a table that lacks a column.
    """
    if unknown := sorted({*tables} - {*TABLES}) + sorted({*figures} - {"live_skill", "drift"}):
        raise ValueError(f"{', '.join(unknown)} is no part of the page; expected {', '.join(TABLES)}, live_skill")
    for name, table in tables.items():
        if table is not None and (absent := sorted({*TABLES[name]} - {*table.columns})):
            raise ValueError(f"{name} has no column {', '.join(absent)}; expected {', '.join(TABLES[name])}")
    recent = sessions.sort("session", descending=True)
    scored = recent.drop_nulls(["log_loss", "naive_log_loss"]).head(WINDOW)
    alerts = tables.get("alerts")
    rows = {name: [] if (table := tables.get(name)) is None else table.to_dicts() for name in TABLES}
    return page_template("operations.html.j2", "stock_assets.lifecycle").render(
        title=f"stock_assets: operations, {facts.source} prices",
        facts=facts,
        simulated=facts.source == "simulated",
        sessions=recent.to_dicts(),
        scored=scored.height,
        loss=scored["log_loss"].mean(),
        naive_loss=scored["naive_log_loss"].mean(),
        tables=rows,
        in_service={row["model"]: row for row in rows["in_service"]}.get(IN_SERVICE),
        open_alerts=0 if alerts is None else alerts["resolved_at"].null_count(),
        model=IN_SERVICE,
        window=WINDOW,
        listed=LISTED,
        figures={name: Image.of(png) for name, png in figures.items()},
    )
