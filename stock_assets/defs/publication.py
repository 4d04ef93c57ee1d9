"""The asset of the publication: what the files say of a session, and whether they say what the store holds."""

import os
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import dagster as dg
import polars as pl

from stock_assets.addresses import http_address
from stock_assets.defs import checks
from stock_assets.defs.operations import failures
from stock_assets.defs.partitions import WHERE_THERE_IS_ONE, predicted_days
from stock_assets.defs.tables import SIMULATED, Clock, chosen_sessions, preview, report_sessions, table_asset
from stock_assets.private.dagster import AssetCheckExecutionRecordStatus
from stock_assets.publication.materialize.compare import differing_rows
from stock_assets.publication.materialize.publish import DagsterView, Published, publish_sessions
from stock_assets.publication.read import Publication
from stock_assets.publication.tables import MONITORING
from stock_assets.settings import Settings
from stock_assets.settings_file import UI_URL
from stock_assets.storage.registry import Registry
from stock_assets.storage.warehouse import Warehouse

PUBLICATION_CHECKS = {
    "published_equals_stored": "the files, read back, hold exactly the predictions of the store: rows and values"
}


def publication_asset(settings: Settings, assets_with_checks: Iterable[dg.AssetsDefinition]) -> dg.AssetsDefinition:
    """The asset `publication`, which publishes the results of the checks of `assets_with_checks`: not of its own, or
    each publication would be about the one before."""
    keys = [key for assets in assets_with_checks for key in assets.check_keys]

    @table_asset(
        "publication",
        description=(
            "Immutable files of what is said of a session: predictions of every model, who is left out and why, bars, "
            "outcomes once their labels are known, model cards and monitoring tables, an entry of the ledger and a "
            "pointer that is renamed last. The API and the dashboard read nothing else, and any tool can: "
            "docs/publication.md." + (SIMULATED if settings.source == "simulated" else "")
        ),
        deps=[
            "universe",
            "daily_bars",
            dg.AssetDep("labels", partition_mapping=WHERE_THERE_IS_ONE),
            "predictions",
            "drift",
            "promotions",
            "evaluation_report",
            "operations",
            "equity",
            "orders",
        ],
        partitions=predicted_days(settings),
        checks=checks.specs("publication", PUBLICATION_CHECKS),
        order="last",
    )
    def publication(
        context: dg.AssetExecutionContext,
        warehouse: dg.ResourceParam[Warehouse],
        registry: dg.ResourceParam[Registry],
        clock: dg.ResourceParam[Clock],
    ) -> dg.MaterializeResult:
        sessions, now = chosen_sessions(context), clock()
        instance = context.instance
        view = DagsterView(failures(instance, now), check_results(instance, keys), os.environ.get(UI_URL))
        new_publication = publish_sessions(warehouse, settings, sessions, registry=registry, now=now, dagster=view)
        return report_publication(context, settings, warehouse, new_publication=new_publication)

    return publication


def check_results(instance: dg.DagsterInstance, keys: Sequence[dg.AssetCheckKey]) -> pl.DataFrame:
    """`MONITORING["checks"]`: the newest result of every check of `keys`."""
    rows = []
    for key, record in instance.event_log_storage.get_asset_check_summary_records(keys).items():
        last_check = record.last_completed_check_execution_record
        evaluation = last_check and last_check.evaluation
        if last_check and evaluation:
            named_offenders = evaluation.metadata.get("named")
            rows.append(
                (
                    key.asset_key.to_user_string(),
                    key.name,
                    last_check.status == AssetCheckExecutionRecordStatus.SUCCEEDED,
                    evaluation.severity.value,
                    None if named_offenders is None else str(named_offenders.value),
                    datetime.fromtimestamp(last_check.create_timestamp, UTC),
                    last_check.run_id,
                )
            )
    return pl.DataFrame(rows, MONITORING["checks"].schema, orient="row")


def report_publication(
    context: dg.AssetExecutionContext, settings: Settings, warehouse: Warehouse, *, new_publication: Published
) -> dg.MaterializeResult:
    """The files by session, and the check on them."""
    sessions = chosen_sessions(context)
    publication = Publication(new_publication.folder, new_publication.pointer)
    different = differing_rows(warehouse, publication, sessions)
    equal = checks.result("publication", "published_equals_stored", different, blocking=True)
    details = {
        "entry": dg.MetadataValue.text(new_publication.pointer.entry),
        "path": dg.MetadataValue.path(str(new_publication.folder)),
        "published_rows": dg.MetadataValue.int(int(new_publication.rows["rows"].sum())),
        "dashboard": dg.MetadataValue.url(http_address(settings.api_host, settings.api_port)),
        "strongest": preview(publication.strongest(sessions[-1])),
    }
    return report_sessions(context, new_publication.rows, sessions, checks=[equal], about_last=details)
