"""The lifecycle group: how far the market has moved since the serving model was trained."""

from collections.abc import Sequence
from datetime import date

import dagster as dg
import polars as pl

from stock_assets.defs.partitions import predicted_days
from stock_assets.defs.tables import SIMULATED, chosen_sessions, picture, report_sessions, table_asset
from stock_assets.errors import MissingSessionsError, MissingTableError
from stock_assets.features.materialize import MADE_BEFORE_PCA, trusted
from stock_assets.features.stationary import FIRST_BAR, STATIONARY
from stock_assets.frames import PROBABILITIES
from stock_assets.lifecycle import drift
from stock_assets.lifecycle.retraining import Policy
from stock_assets.market.calendar import calendar_of
from stock_assets.model.registry import IN_SERVICE
from stock_assets.settings import Settings
from stock_assets.storage.warehouse import Warehouse
from stock_assets.tables import declared

#: No row, where the market is too young for a reference.
NONE = pl.DataFrame(schema={**drift.SCHEMA, "kind": pl.String, "reference_through": pl.Date})
#: The model whose cutoff and predictions are watched.
SERVING = IN_SERVICE


def lifecycle_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    calendar = calendar_of(settings)
    note = SIMULATED if settings.source == "simulated" else ""
    first_predicted = calendar.between(date(settings.model_start_year, 1, 1), calendar.sessions[-1])[0]

    def figures_of(warehouse: Warehouse, cutoff: date, sessions: Sequence[date]) -> list[pl.DataFrame]:
        """The figures of both kinds for the `sessions` that a model with this cutoff served."""
        reference = (*calendar.before(cutoff, drift.REFERENCE - 1), cutoff)
        recent = (*calendar.before(sessions[0], drift.RECENT - 1), *calendar.between(sessions[0], sessions[-1]))
        found = []
        featured = [session for session in reference if calendar.position(session) >= FIRST_BAR - 1]
        if len(featured) >= drift.SMALLEST_REFERENCE:
            why = f"the {drift.RECENT} sessions of drift, and its reference, which ends at the cutoff {cutoff}"
            warehouse.require(MADE_BEFORE_PCA, sorted({*featured, *recent}), "drift", why)
            learned, seen = (inputs(warehouse, days[0], days[-1]) for days in (featured, recent))
            found.append(drift.drift(learned, seen, list(STATIONARY), recent).with_columns(kind=pl.lit(drift.INPUT)))
        # what was said before the cutoff, by whichever version served then: a version's answers to the rows that it
        # learned from are surer than those it will ever give again, and would be drift by themselves
        said = answers(warehouse, reference[0], cutoff)
        if said["session"].n_unique() >= drift.SMALLEST_REFERENCE:
            predicted = [session for session in recent if session >= first_predicted]
            warehouse.require(["predictions"], predicted, "drift", f"the {drift.RECENT} sessions of drift")
            answered = answers(warehouse, recent[0], recent[-1])
            found.append(drift.drift(said, answered, PROBABILITIES, recent).with_columns(kind=pl.lit(drift.PREDICTION)))
        return [
            rows.filter(pl.col("session").is_in(list(sessions))).with_columns(reference_through=pl.lit(cutoff))
            for rows in found
        ]

    @table_asset(
        "drift",
        description=(
            f"How the last {drift.RECENT} sessions differ from the {drift.REFERENCE} up to the cutoff of the serving "
            "model: population stability index and Kolmogorov-Smirnov distance of each input and each probability. "
            "There are no prediction rows before the model has answered "
            f"{drift.SMALLEST_REFERENCE} sessions of the reference." + note
        ),
        deps=["stationary_features", "predictions", "daily_bars"],
        partitions=predicted_days(settings),
        last=True,
    )
    def drift_asset(context: dg.AssetExecutionContext, warehouse: dg.ResourceParam[Warehouse]) -> dg.MaterializeResult:
        sessions = chosen_sessions(context)
        served: dict[date, list[date]] = {}
        for session, cutoff in cutoffs(warehouse, sessions).items():
            served.setdefault(cutoff, []).append(session)
        parts = [part for cutoff, days in served.items() for part in figures_of(warehouse, cutoff, days)]
        rows = pl.concat([NONE, *parts]).select(declared("drift").names).sort("session", maintain_order=True)
        warehouse.replace_sessions("drift", sessions, rows)
        return report_sessions(context, rows, sessions, about_last=drift_picture(warehouse, sessions[-1]))

    return [drift_asset]


def inputs(warehouse: Warehouse, first: date, last: date) -> pl.DataFrame:
    """ticker, session and the inputs of the trusted rows, in the precision in which the network reads them."""
    rows = warehouse.read("stationary_features", first, last, ["ticker", "session", *STATIONARY])
    return trusted(warehouse, rows.cast({pl.Float64: pl.Float32}))


def answers(warehouse: Warehouse, first: date, last: date) -> pl.DataFrame:
    """session, p_sell, p_hold, p_buy of the serving model."""
    statement = (
        f"SELECT session, {', '.join(PROBABILITIES)} FROM model.predictions WHERE model = ? AND session BETWEEN ? AND ?"
    )
    return warehouse.read_sql("predictions", statement, [SERVING, first, last])


def cutoffs(warehouse: Warehouse, sessions: Sequence[date]) -> dict[date, date]:
    """The cutoff of the serving model of each of `sessions`. Raises MissingSessionsError where it gave no answer."""
    statement = (
        "SELECT session, max(trained_through) FROM model.predictions "
        "WHERE model = ? AND session BETWEEN ? AND ? GROUP BY session"
    )
    try:
        found = dict(warehouse.read_sql("predictions", statement, [SERVING, sessions[0], sessions[-1]]).iter_rows())
    except MissingTableError:
        found = {}
    if absent := [session for session in sessions if session not in found]:
        warehouse.require([*MADE_BEFORE_PCA, "predictions"], absent, "drift")
        raise MissingSessionsError("drift", "predictions", absent, f"rows of {SERVING}, whose cutoff it needs")
    return {session: found[session] for session in sessions}


def drift_picture(warehouse: Warehouse, last: date) -> dict[str, dg.MetadataValue]:
    from stock_assets.evaluation import plots

    figures = warehouse.read("drift", last=last, columns=["session", "kind", "ks", "reference_through"])
    if figures.is_empty():
        return {}
    policy = Policy()
    limits = {drift.INPUT: policy.input_drift, drift.PREDICTION: policy.prediction_drift}
    lines = pl.concat(drift.summary(figures, kind).with_columns(kind=pl.lit(kind)) for kind in limits)
    cutoffs = figures["reference_through"].unique().sort().to_list()
    return {"drift": picture(plots.drift_through_time(lines, limits, cutoffs), "drift through time")}
