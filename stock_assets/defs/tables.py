"""How every asset presents itself and its rows: one decorator and one report for all tables."""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import Literal

import dagster as dg
import polars as pl

from stock_assets.escape import markdown
from stock_assets.frames import RowSummary, markdown_table
from stock_assets.private.dagster import add_partition_metadata
from stock_assets.tables import Table, declared

#: When it is now, UTC: a resource, so that a test may set it.
Clock = Callable[[], datetime]
#: What the descriptions of the assets of a simulated market end with.
SIMULATED = " **SIMULATED: made-up prices with a planted signal, no market.**"
OWNERS = ["team:stock_assets"]
#: Everything that opens DuckDB holds this pool: one process writes at a time.
DUCKDB_POOL = "duckdb"
PREVIEW_ROWS, FEWEST_ROWS = 8, 3
#: Dagster's UI hides Markdown of so many characters behind a link.
SHOWN_WITHOUT_A_CLICK = 1000


def table_asset(
    table: str,
    *,
    description: str,
    deps: Sequence[str | dg.AssetDep] = (),
    partitions: dg.PartitionsDefinition | None = None,
    checks: Sequence[dg.AssetCheckSpec] = (),
    kinds: Iterable[str] = ("polars",),
    order: Literal["as ready", "last", "beside"] = "as ready",
) -> Callable[[Callable[..., object]], dg.AssetsDefinition]:
    """The decorator of an asset that is the DuckDB table of the same name, in the group of its room.

    A run makes assets of the order "last" after all others that are ready, because no prediction waits for them. Those
    "beside" hold no pool: other runs write while they compute, and they wait for the store when they write.
    """
    with warnings.catch_warnings():
        # backfill_policy is in beta since 2023; constraints.txt pins the version this was tried with
        warnings.simplefilter("ignore", dg.BetaWarning)
        return dg.asset(
            key=table,
            group_name=declared(table).room,
            description=description,
            deps=deps,
            partitions_def=partitions,
            # one run for the whole range; Dagster's own bookkeeping costs more than the data
            backfill_policy=dg.BackfillPolicy.single_run() if partitions else None,
            check_specs=list(checks),
            kinds={"duckdb", *kinds},
            owners=OWNERS,
            pool=None if order == "beside" else DUCKDB_POOL,
            op_tags={"dagster/priority": "-1"} if order == "last" else None,
            metadata=_about(table),
        )


def tables_asset(
    name: str,
    descriptions: Mapping[str, str],
    *,
    deps: Sequence[str],
    partitions: dg.PartitionsDefinition,
    checks: Sequence[dg.AssetCheckSpec] = (),
    kinds: Iterable[str] = ("polars",),
) -> Callable[[Callable[..., object]], dg.AssetsDefinition]:
    """The decorator of one step, called `name`, that is several DuckDB tables, by the `descriptions` of each.

    A run that asks for one of them makes all.
    """
    specs = [
        dg.AssetSpec(
            table,
            group_name=declared(table).room,
            description=description,
            deps=deps,
            kinds={"duckdb", *kinds},
            owners=OWNERS,
            metadata=_about(table),
        )
        for table, description in descriptions.items()
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)  # as above
        return dg.multi_asset(
            name=name,
            specs=specs,
            can_subset=True,
            partitions_def=partitions,
            backfill_policy=dg.BackfillPolicy.single_run(),
            check_specs=list(checks),
            pool=DUCKDB_POOL,
        )


def _about(table: str) -> dict[str, str | dg.TableSchema]:
    """What the UI shows of a table before a run made it."""
    return {
        "dagster/table_name": f"{declared(table).room}.{table}",
        "dagster/column_schema": column_schema(declared(table)),
    }


def chosen_sessions(context: dg.AssetExecutionContext) -> list[date]:
    """The sessions of this run's partitions, ascending; any chunk of a range is right."""
    return sorted(date.fromisoformat(key) for key in context.partition_keys)


def report_sessions(
    context: dg.AssetExecutionContext,
    rows: pl.DataFrame | RowSummary,
    sessions: Sequence[date],
    *,
    table: str | None = None,
    checks: Sequence[dg.AssetCheckResult] = (),
    about_last: Mapping[str, dg.MetadataValue] | None = None,
) -> dg.MaterializeResult:
    """Rows per partition on every partition; preview, range and pictures on the last one alone. `table` names the one
    of a step that makes several.

    Dagster stores what a range run returns once per partition and twice on disk: a picture in each of ten
    years of events would take gigabytes.
    """
    asset = dg.AssetKey(table) if table else context.asset_key
    if isinstance(rows, pl.DataFrame):
        counts, last = dict(rows.group_by("session").len().iter_rows()), rows.filter(pl.col("session") == sessions[-1])
    else:
        counts, last = rows.counts, rows.last
    metadata_of_sessions = {
        str(session): {"dagster/partition_row_count": counts.get(session, 0)} for session in sessions
    }
    metadata_of_sessions[str(sessions[-1])] |= {
        "sessions_in_run": len(sessions),
        "first_session": str(sessions[0]),
        "last_session": str(sessions[-1]),
        "rows_in_run": rows.height,
        "preview": preview(last),
        **column_lineage(asset.to_user_string()),
        **(about_last or {}),
    }
    add_partition_metadata(context, asset, metadata_of_sessions)
    return dg.MaterializeResult(asset_key=asset, check_results=list(checks))


def job_of(op: dg.OpDefinition, name: str, *, description: str) -> dg.JobDefinition:
    """The job of one op, which the UI and the command line start by its name."""

    @dg.job(name=name, description=description)
    def job() -> None:
        op()

    return job


def column_schema(table: Table) -> dg.TableSchema:
    """The columns of a table as the UI shows them: name, type, and what they hold in which unit."""
    columns = [
        dg.TableColumn(column.name, column.duckdb_type, f"{column.text}, {column.unit}" if column.unit else column.text)
        for column in table.columns
    ]
    if numbered_columns := table.numbered:
        columns.append(
            dg.TableColumn(
                f"{numbered_columns.name}1 … {numbered_columns.name}k",
                numbered_columns.duckdb_type,
                numbered_columns.text,
            )
        )
    return dg.TableSchema(columns)


def column_lineage(table: str) -> dict[str, dg.MetadataValue]:
    """Which columns the columns of `table` are made of; the UI reads it from the last materialization alone."""
    parents = {column.name: column.made_from for column in declared(table).columns if column.made_from}
    if not parents:
        return {}
    return {
        "dagster/column_lineage": dg.MetadataValue.column_lineage(
            dg.TableColumnLineage(
                {
                    column: [dg.TableColumnDep(dg.AssetKey(parent), name) for parent, name in made_from]
                    for column, made_from in parents.items()
                }
            )
        )
    }


def preview(frame: pl.DataFrame, rows: int = PREVIEW_ROWS, columns: int = 12) -> dg.MetadataValue:
    """The first rows of `frame` as a table in the UI, where possible so few that it is visible without a click."""
    shown_rows = frame.head(rows).select(frame.columns[:columns])
    text = markdown_table(shown_rows)
    while len(text) >= SHOWN_WITHOUT_A_CLICK and shown_rows.height > FEWEST_ROWS:
        shown_rows = shown_rows.head(shown_rows.height - 1)
        text = markdown_table(shown_rows)
    return dg.MetadataValue.md(text)


def picture(png: bytes, alt: str) -> dg.MetadataValue:
    """A PNG, shown inline by the UI."""
    import base64

    return dg.MetadataValue.md(f"![{markdown(alt)}](data:image/png;base64,{base64.b64encode(png).decode()})")
