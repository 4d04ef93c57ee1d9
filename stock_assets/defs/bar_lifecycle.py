"""What watches over a market of bars: verdicts on challengers, drift, and whether the running session is fresh."""

from collections.abc import Sequence

import dagster as dg

from stock_assets.defs.champions import promotions_asset
from stock_assets.defs.partitions import running_days
from stock_assets.defs.tables import Clock, chosen_sessions, report_sessions, table_asset
from stock_assets.lifecycle.alerts import Channel
from stock_assets.lifecycle.bar_drift import INPUT_LIMIT, RECENT_BARS
from stock_assets.lifecycle.bars import JUDGED_SESSIONS
from stock_assets.lifecycle.materialize.bar_champions import judge_bar_challengers
from stock_assets.lifecycle.materialize.bar_drift import make_bar_drift, tell_bar_drift
from stock_assets.model.bar_models import BAR_IN_SERVICE
from stock_assets.model.materialize.bars import first_served_session
from stock_assets.settings import Settings
from stock_assets.storage.warehouse import Warehouse


def bar_promotions_asset(settings: Settings) -> dg.AssetsDefinition:
    """The asset `promotions`."""
    return promotions_asset(
        settings,
        deps=["trained_bar_models", "bar_labels"],
        judge=judge_bar_challengers,
        compared=(
            f"Which versions of {BAR_IN_SERVICE} became champion, and why. Every version but the first is judged once "
            f"against the champion, on the first {JUDGED_SESSIONS} sessions that it could have served."
        ),
        order="beside",
    )


def bar_drift_asset(settings: Settings, note: str) -> dg.AssetsDefinition:
    """The asset `drift`."""

    @table_asset(
        "drift",
        description=(
            f"How far the inputs of the {RECENT_BARS} sessions to each one lie from those that the champion learned "
            f"from; and, in bar_sessions, its log-loss beside the best naive model's. Drift of {INPUT_LIMIT:g} or more "
            "is an alert, and so is a champion that is surely worse." + note
        ),
        deps=["bar_features", "bar_predictions", "bar_labels"],
        partitions=running_days(settings, first_served_session(settings)),
    )
    def drift(
        context: dg.AssetExecutionContext,
        warehouse: dg.ResourceParam[Warehouse],
        channels: dg.ResourceParam[Sequence[Channel]],
        clock: dg.ResourceParam[Clock],
    ) -> dg.MaterializeResult:
        sessions = chosen_sessions(context)
        rows = make_bar_drift(warehouse, settings, sessions)
        for message in tell_bar_drift(warehouse, settings, channels, now=clock()):
            context.log.info(message)
        return report_sessions(context, rows, sessions)

    return drift
