"""The asset of drift: how far the market has moved since the model in service was trained."""

import dagster as dg

from stock_assets.defs.partitions import predicted_days
from stock_assets.defs.tables import SIMULATED, chosen_sessions, picture, report_sessions, table_asset
from stock_assets.lifecycle import drift
from stock_assets.lifecycle.materialize.drift import DriftHistory, drift_history, make_drift
from stock_assets.settings import Settings
from stock_assets.storage.warehouse import Warehouse


def drift_asset(settings: Settings) -> dg.AssetsDefinition:
    """The asset `drift`."""

    @table_asset(
        "drift",
        description=(
            f"How the last {drift.RECENT} sessions differ from the {drift.REFERENCE} up to the cutoff of the model in "
            "service: population stability index and Kolmogorov-Smirnov distance of each input and each probability. "
            f"Rows about predictions begin once the model has predicted {drift.SMALLEST_REFERENCE} sessions of the "
            "reference." + (SIMULATED if settings.source == "simulated" else "")
        ),
        deps=["stationary_features", "predictions", "daily_bars"],
        partitions=predicted_days(settings),
        order="last",
    )
    def drift_of_sessions(
        context: dg.AssetExecutionContext, warehouse: dg.ResourceParam[Warehouse]
    ) -> dg.MaterializeResult:
        sessions = chosen_sessions(context)
        rows = make_drift(warehouse, settings, sessions)
        return report_sessions(
            context, rows, sessions, about_last=drift_picture(drift_history(warehouse, sessions[-1]))
        )

    return drift_of_sessions


def drift_picture(history: DriftHistory | None) -> dict[str, dg.MetadataValue]:
    """Drift through time as a picture in the UI; none without a history."""
    from stock_assets.evaluation import plots

    if history is None:
        return {}
    png = plots.drift_through_time(history.lines, history.limits, history.cutoffs)
    return {"drift": picture(png, "drift through time")}
