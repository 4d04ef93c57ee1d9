"""How the running platform does: one row per recent session, live skill, and one HTML page for the operator."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import polars as pl

from stock_assets.evaluation.metrics import best_naive
from stock_assets.evaluation.report import Image, page_template
from stock_assets.lifecycle.freshness import Freshness
from stock_assets.market.calendar import TradingCalendar
from stock_assets.model.registry import ENSEMBLE, IN_SERVICE, live_yardsticks

#: The model whose answers people use, and the average it is a part of.
JUDGED = (IN_SERVICE, ENSEMBLE, *live_yardsticks())
#: Sessions of the rolling mean of the log-loss.
WINDOW = 21
#: Sessions, and columns that drifted most, that the page lists before one unfolds the rest.
LISTED = 10

SCHEMA = {
    "session": pl.Date,
    "models": pl.Int64,
    "rows": pl.Int64,
    "suspects": pl.Int64,
    "version": pl.String,
    "trained_through": pl.Date,
    "age": pl.Int64,
    "scored": pl.Int64,
    "log_loss": pl.Float64,
    "ensemble_log_loss": pl.Float64,
    "naive_log_loss": pl.Float64,
    "accuracy": pl.Float64,
}

#: What the page shows, each with its columns or more. None where nothing has been written yet.
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
    """One row per predicted session, ascending, with the columns of SCHEMA.

    `served` has session, model, version, trained_through, rows, age of every model; `scored` is `metrics.scored_rows`
    of the JUDGED models on trusted labels; `suspects` has session, suspects. Where no label of a session is known yet,
    `scored` is 0 and the scores are null.
    """
    ours = served.filter(pl.col("model") == IN_SERVICE).drop("model")
    baseline = naive_baseline(scored)

    def mean_loss(model: str | None, name: str) -> pl.DataFrame:
        rows = scored.filter(pl.col("model") == model) if model else scored.clear()
        return rows.group_by("session").agg(pl.col("surprise").mean().alias(name))

    rnn = scored.filter(pl.col("model") == IN_SERVICE).group_by("session")
    skill = rnn.agg(
        scored=pl.len(), log_loss=pl.col("surprise").mean(), accuracy=(pl.col("label") == pl.col("predicted")).mean()
    )
    return (
        served.group_by("session")
        .agg(models=pl.len())
        .join(ours, on="session", how="left")
        .join(suspects, on="session", how="left")
        .join(skill, on="session", how="left")
        .join(mean_loss(ENSEMBLE, "ensemble_log_loss"), on="session", how="left")
        .join(mean_loss(baseline, "naive_log_loss"), on="session", how="left")
        .with_columns(pl.col("rows", "suspects", "scored").fill_null(0))
        .select(pl.col(name).cast(kind) for name, kind in SCHEMA.items())
        .sort("session")
    )


def live_skill(sessions: pl.DataFrame, window: int = WINDOW) -> pl.DataFrame:
    """session, model, log_loss, gain of every scored session: the mean daily log-loss over the last `window` sessions
    (fewer at the start) of rnn, ensemble and the best naive baseline, and the running sum of what each loses less than
    the baseline, in nats per row."""
    known = sessions.drop_nulls(["log_loss", "naive_log_loss"]).sort("session")
    columns = {IN_SERVICE: "log_loss", ENSEMBLE: "ensemble_log_loss", "naive": "naive_log_loss"}
    return pl.concat(
        known.select(
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
    facts: OperationsFacts,
) -> str:
    """One self-contained HTML page: inline style, pictures as data URIs, no script, nothing from the network.

    `sessions` is that of `session_table`; `tables` are those of TABLES, newest row first, None where there is no such
    table yet; `figures` are PNGs, `live_skill` and `drift`. Works without any row.

    Raises ValueError for a table or figure it does not know and for one that is missing a column.
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
