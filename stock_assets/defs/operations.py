"""The lifecycle group: how the running platform does, for the person who looks after it."""

from datetime import date, datetime, timedelta

import dagster as dg
import polars as pl

from stock_assets.defs.alerts import span, what
from stock_assets.defs.freshness import state_of
from stock_assets.defs.tables import SIMULATED, Clock, picture, preview, table_asset
from stock_assets.errors import MissingTableError
from stock_assets.files import write_file
from stock_assets.market.calendar import calendar_of
from stock_assets.model.materialize.inputs import usable_between
from stock_assets.settings import Settings
from stock_assets.storage.warehouse import Warehouse

#: Predicted sessions that are looked at.
SESSIONS = 250
#: How far back failed runs are listed, and how many at most: reading them must not take longer in bad times.
FAILURES, MOST_FAILURES = timedelta(days=30), 50
#: Tables that are shown once they are there, by the column that tells the newest rows, and how many of them.
HISTORIES = {"alerts": "last_at", "retraining_decisions": "decided_at", "promotions": "decided_at"}
MOST_ROWS = 50

SERVED = """
SELECT session, model, model_version AS version, any_value(trained_through) AS trained_through, count(*) AS rows
FROM model.predictions WHERE session >= ? GROUP BY session, model, model_version
"""
SCORED = """
SELECT model, model_version, trained_through, ticker, session, p_sell, p_hold, p_buy, score
FROM model.predictions WHERE session >= ? AND model IN (SELECT unnest(?))
"""
NOTHING_SERVED = pl.DataFrame(
    schema={"session": pl.Date, "model": pl.String, "version": pl.String, "trained_through": pl.Date}
    | {"rows": pl.Int64, "age": pl.Int64}
)
NOTHING_SCORED = pl.DataFrame(
    schema={"model": pl.String, "session": pl.Date, "label": pl.Int8, "predicted": pl.Int8, "surprise": pl.Float64}
)
NO_SUSPECTS = pl.DataFrame(schema={"session": pl.Date, "suspects": pl.Int64})
SUSPECTS = "SELECT session, count(suspect) AS suspects FROM market.daily_bars WHERE session >= ? GROUP BY session"


def operations_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    note = SIMULATED if settings.source == "simulated" else ""

    @table_asset(
        "operations",
        description=(
            f"How the platform does: the last {SESSIONS} predicted sessions, with the skill of each once its labels "
            "are known, and a self-contained HTML page with lag, alarms, models in service, drift, retraining and "
            "promotions." + note
        ),
        deps=["predictions", "labels", "daily_bars", "drift", "promotions"],
        kinds=("matplotlib",),
        last=True,
    )
    def operations(
        context: dg.AssetExecutionContext, warehouse: dg.ResourceParam[Warehouse], clock: dg.ResourceParam[Clock]
    ) -> dg.MaterializeResult:
        from stock_assets.evaluation import plots
        from stock_assets.lifecycle import operations as page

        now = clock()
        last = warehouse.last_session("predictions")
        served, scored, suspects = recent(warehouse, settings, last)
        sessions = page.session_table(served, scored, suspects)
        warehouse.replace_table("operations", sessions)
        skill = page.live_skill(sessions)
        failed = failures(context.instance, now)
        drift = optional(warehouse, "drift", sessions["session"].min())  # pyright: ignore[reportArgumentType]: a date
        tables = {
            "in_service": served.filter(pl.col("session") == pl.col("session").max()).sort("model"),
            "failures": failed,
            "drift": drift if drift is None else drift.filter(pl.col("session") == pl.col("session").max()),
        }
        for name, column in HISTORIES.items():
            rows = optional(warehouse, name)
            tables[name] = rows if rows is None else rows.sort(column, descending=True).head(MOST_ROWS)
        figures = {"live_skill": plots.live_skill(skill)} if skill.height else {}
        if drift is not None and drift.height:
            figures["drift"] = plots.drift(drift)
        state = state_of(settings, last, now)
        facts = page.OperationsFacts(settings.source, now, last, state, page.naive_baseline(scored))
        path = settings.artifacts / "operations" / "operations.html"
        write_file(path, page.render_operations(sessions, tables, figures, facts).encode())
        return dg.MaterializeResult(
            metadata={
                "page": dg.MetadataValue.path(str(path)),
                "dagster/row_count": sessions.height,
                "last_session": str(last),
                "freshness": state.reason,
                "sessions_behind": state.sessions_behind,
                "failed_runs_30_days": failed.height,
                "naive_baseline": str(facts.naive),
                "sessions": preview(sessions.reverse()),
                **{name: preview(table) for name, table in tables.items() if table is not None and table.height},
                **{name: picture(png, name.replace("_", " ")) for name, png in figures.items()},
            }
        )

    return [operations]


def recent(
    warehouse: Warehouse, settings: Settings, last: date | None
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """What `operations.session_table` is made of, for the sessions up to `last`; empty where nothing is predicted."""
    from stock_assets.evaluation import metrics
    from stock_assets.lifecycle.operations import JUDGED, with_age

    if last is None:
        return NOTHING_SERVED, NOTHING_SCORED, NO_SUSPECTS
    before = calendar_of(settings).before(last, SESSIONS - 1)
    first = before[0] if before else last
    served = with_age(warehouse.read_sql("predictions", SERVED, [first]), calendar_of(settings))
    suspects = warehouse.read_sql("daily_bars", SUSPECTS, [first])
    try:
        labels, _ = usable_between(warehouse, settings, first)
    except MissingTableError:  # predictions come a horizon before their labels
        return served, NOTHING_SCORED, suspects
    answers = warehouse.read_sql("predictions", SCORED, [first, list(JUDGED)])
    return served, metrics.scored_rows(answers, labels), suspects


def failures(instance: dg.DagsterInstance, now: datetime) -> pl.DataFrame:
    """at, what, partitions, run_id of the runs that failed in the last FAILURES, the newest first."""
    wanted = dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE], created_after=now - FAILURES)
    rows = [
        (record.create_timestamp, what(record.dagster_run), span(record.dagster_run), record.dagster_run.run_id)
        for record in instance.get_run_records(wanted, limit=MOST_FAILURES)
    ]
    schema = {"at": pl.Datetime("us", "UTC"), "what": pl.String, "partitions": pl.String, "run_id": pl.String}
    return pl.DataFrame(rows, schema, orient="row")


def optional(warehouse: Warehouse, table: str, first: date | None = None) -> pl.DataFrame | None:
    """The rows of `table`, None before anything was written to it."""
    try:
        return warehouse.read(table, first)
    except MissingTableError:
        return None
