"""The group side_inputs: what is known beside prices. An asset for each side input that the settings turn on."""

import dagster as dg
import polars as pl

from stock_assets.defs import checks
from stock_assets.defs.partitions import trading_days
from stock_assets.defs.tables import SIMULATED, Clock, chosen_sessions, picture, report_sessions, table_asset
from stock_assets.settings import Settings
from stock_assets.side_inputs.lags import known_lags
from stock_assets.side_inputs.materialize import FetchedSide, fetch_side_input
from stock_assets.side_inputs.registry import SideInput, chosen_side_inputs
from stock_assets.storage.warehouse import Warehouse

ANSWERED = {"answered": "every subject that was asked for has an answer; names the others, which the next run asks for"}


def side_input_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    return [_side_input(entry, settings) for entry in chosen_side_inputs(settings)]


def _side_input(entry: SideInput, settings: Settings) -> dg.AssetsDefinition:
    name, note = entry.table.name, SIMULATED if settings.source == "simulated" else ""

    @table_asset(
        name,
        description=(
            f"{entry.text[:1].upper()}{entry.text[1:]}: every version, with the moment at which a reader could first "
            "have known it. Append-only; a row belongs to the first session at whose close it was known." + note
        ),
        deps=["universe"] if entry.subjects == "tickers" else [],
        partitions=trading_days(settings),
        checks=checks.specs(name, ANSWERED, blocking=False),
    )
    def side_input(
        context: dg.AssetExecutionContext, warehouse: dg.ResourceParam[Warehouse], clock: dg.ResourceParam[Clock]
    ) -> dg.MaterializeResult:
        sessions = chosen_sessions(context)
        fetched_rows = fetch_side_input(warehouse, settings, name, sessions=sessions, now=clock(), say=context.log.info)
        answer_check = checks.answered_result(fetched_rows.failures, fetched_rows.subjects, table=name)
        return report_sessions(
            context, fetched_rows.rows, sessions, checks=[answer_check], about_last=_about(name, fetched_rows)
        )

    return side_input


def _about(table: str, fetched_rows: FetchedSide) -> dict[str, dg.MetadataValue]:
    """How many rows are of which source, and how long after they were known they were fetched."""
    from stock_assets.evaluation import plots

    lags = known_lags({table: fetched_rows.rows})
    kinds = [name for name in ("source", "origin") if name in fetched_rows.rows.columns]
    counts = fetched_rows.rows.group_by(kinds).len().sort(kinds)
    lag = fetched_rows.added.select((pl.col("fetched_at") - pl.col("known_at")).dt.total_seconds() / 3600).to_series()
    return {
        **({"known_lags": picture(plots.known_lags(lags), "lags of what was known")} if lags.height else {}),
        "rows_by_source": dg.MetadataValue.json({", ".join(row[:-1]): row[-1] for row in counts.iter_rows()}),
        "new_versions": dg.MetadataValue.int(fetched_rows.added.height),
        "without_an_answer": dg.MetadataValue.json(dict(fetched_rows.failures)),
        "notes": dg.MetadataValue.json(list(fetched_rows.notes)),
        **({"median_hours_from_known_to_fetched": dg.MetadataValue.float(float(lag.median()))} if len(lag) else {}),  # pyright: ignore[reportArgumentType]: a number
    }
