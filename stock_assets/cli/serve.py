"""`stock-assets run`: Dagster and the API, what is missing, the score, and serving until a person ends it."""

import logging
import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from rich.console import Console

from stock_assets.cli.interruptions import end_by_signals, interruptions_held_back
from stock_assets.cli.output import cell, summarise
from stock_assets.closed_snapshot import forget
from stock_assets.errors import SettingsError, StockAssetsError
from stock_assets.escape import terminal
from stock_assets.files import open_to_others
from stock_assets.market.calendar import calendar_of
from stock_assets.market.materialize.one_source import require_stored_market
from stock_assets.settings import Settings, read_settings
from stock_assets.storage.migrations import stored_version
from stock_assets.storage.restore import settle_killed_restore
from stock_assets.storage.warehouse import Warehouse
from stock_assets.tables import SCHEMA_VERSION

if TYPE_CHECKING:
    import dagster as dg

    from stock_assets.cli.api import KeptAlive
    from stock_assets.cli.backfill import Stage
    from stock_assets.cli.graphql import DagsterClient
    from stock_assets.lifecycle.partitions import Keys

#: A `dagster dev` that ends by itself is started again, unless it does so this many times in a row this soon.
EARLY_ENDS, EARLY_SECONDS = 3, 300


def serve(settings: Settings, port: int, out: Console, *, err: Console) -> None:
    """Starts Dagster, makes what is missing, shows the score and serves; a server that ends is started again.

    Raises StockAssetsError when it ends too often, and what `dagster_dev` raises.
    """
    from stock_assets.cli.api import KeptAlive, require_free_api_port
    from stock_assets.cli.home import require_no_owner
    from stock_assets.cli.server import require_free_port, require_space

    end_by_signals()
    require_free_port(settings.ui_host, port)
    require_no_owner(settings.dagster_home)  # else its API's port would be named first
    require_free_api_port(settings)
    require_space(settings.data_dir)
    warn_of_open_folder(settings.data_dir, err)
    for settled_restore in settle_killed_restore(settings.data_dir, now=datetime.now(UTC)):
        out.print(terminal(settled_restore), highlight=False, soft_wrap=True)
    exchange = calendar_of(settings).name  # an exchange without a calendar is an error here, before anything starts
    settings = check_snapshot(settings, out)
    migrate(settings, out)
    require_stored_market(settings)
    market = "SIMULATED market, no real prices" if settings.source == "simulated" else f"source {settings.source}"
    out.print(f"stock_assets: {market}, exchange {exchange}, from {settings.start}; starting Dagster …", soft_wrap=True)
    try:
        with KeptAlive(settings, out) as api:
            keep_dagster(settings, port, api, out=out, err=err)
    except KeyboardInterrupt:
        out.print("\nstopped")


def keep_dagster(settings: Settings, port: int, api: "KeptAlive", *, out: Console, err: Console) -> NoReturn:
    """Serves until a person ends it: makes what is missing and shows it. Raises as `serve`."""
    from stock_assets.cli.server import LOG, dagster_dev, wait

    early = 0
    while early < EARLY_ENDS:
        start = time.monotonic()
        with dagster_dev(settings, port) as (client, process):
            out.print(f"Dagster is up at [link]{client.url}[/link]")
            make_and_show(Session(settings, client, out, err, api.url), start)
            code = wait(process, settings.dagster_home / LOG)
        early = early + 1 if time.monotonic() - start < EARLY_SECONDS else 0
        out.print(f"dagster dev ended by itself with exit code {code}; starting it again …", highlight=False)
    raise StockAssetsError(
        f"dagster dev ended {early} times within {EARLY_SECONDS} s of its start; see dagster-dev.log and "
        f"dagster-dev.previous.log in {settings.dagster_home}"
    )


def check_snapshot(settings: Settings, out: Console) -> Settings:
    """Reads a snapshot and prints what was guessed of its files, so that what is wrong is one line before the start.

    Returns the settings, with an end where the files end long ago and none was set.
    """
    if settings.source != "snapshot":
        return settings
    from stock_assets.market.closing import close_where_old
    from stock_assets.market.sources.registry import make_source
    from stock_assets.market.sources.snapshot import SnapshotSource

    if forget(settings.data_dir):  # newer rows may have come since the last start
        settings = read_settings()
    source = make_source(settings, lambda line: out.print(cell(line), soft_wrap=True))
    if not isinstance(source, SnapshotSource) or (end := close_where_old(settings, source, datetime.now(UTC))) is None:
        return settings
    out.print(
        f"the files of the snapshot end on {end}, so it is closed there: no session after it is due. Once they hold "
        "newer ones, the next start goes on",
        soft_wrap=True,
    )
    try:
        return read_settings()
    except SettingsError:  # no model year before that end, say: nothing of it stays
        forget(settings.data_dir)
        raise


def warn_of_open_folder(folder: Path, err: Console) -> None:
    """Says in one line that other users of this machine can look into a data folder, as those of older versions."""
    if mode := open_to_others(folder):
        path = terminal(folder)
        warning = f"other users of this machine can look into {path} (mode {mode}); chmod -R go= {path} ends that"
        err.print(f"[bold]stock-assets:[/] {warning}", highlight=False, soft_wrap=True)


def migrate(settings: Settings, out: Console) -> None:
    """Brings a store of an older version to today's, and prints so. Raises StockAssetsError for a newer one."""
    if settings.lake is not None or not settings.database.exists():
        return  # connecting to a lake migrates it
    before = stored_version(settings.database)
    if before is None or before == SCHEMA_VERSION:
        return
    with Warehouse.of(settings).connect(read_only=False):
        pass  # connecting migrates
    out.print(f"the store had schema version {before} and has version {SCHEMA_VERSION} now", soft_wrap=True)


@dataclass(frozen=True)
class Session:
    """A server that runs, for some settings, and the consoles that hear of it."""

    settings: Settings
    client: "DagsterClient"
    out: Console
    err: Console
    dashboard: str
    """where the API and its pages answer"""


def make_and_show(session: Session, start: float) -> None:
    """Makes what is missing and shows the score; then makes what no prediction waits for."""
    from stock_assets.cli import backfill

    if session.settings.interval != "1d":
        advice = "the sensors make bars, models and predictions, and follow the running session; browse the graph at"
        session.out.print(f"{advice} {session.client.url}/asset-groups  (Ctrl-C ends everything)", highlight=False)
        return
    now = datetime.now(UTC)  # a session that closes meanwhile is its evening's, in both stages
    stage_report = make_stage(session, backfill.FIRST, now)
    summarise(session.settings, time.monotonic() - start, session.out)
    show_tonight(session)
    session.out.print(
        f"\nBrowse the graph at [bold]{session.client.url}/asset-groups[/bold]  (Ctrl-C ends everything)",
        highlight=False,
    )
    session.out.print(f"Tonight's calls at [bold]{session.dashboard}[/bold]", highlight=False)
    if stage_report is not None and make_stage(session, backfill.LATER, now):
        session.out.print("the references are made as well, and the reports compare with them")


def show_tonight(session: Session) -> None:
    """Shows the strongest buys and sells beside the score, and what trading on them gave; else why they cannot be
    read."""
    from stock_assets.cli.results import result_lines, result_of
    from stock_assets.cli.tonight import tonight, tonight_lines
    from stock_assets.features.materialize import absent_of

    settings, store = session.settings, Warehouse.of(session.settings)
    try:
        calls = tonight(settings.published, store, simulated=settings.source == "simulated")
        result = result_of(store, settings.paper_book)
        absent_tables = absent_of(store, settings)
    except StockAssetsError as error:
        session.err.print(f"[bold red]not shown:[/] {terminal(error)}", highlight=False, soft_wrap=True)
        return
    if calls is not None:
        for line in ("", *tonight_lines(calls), *(result_lines(result) if result else ())):
            session.out.print(line, highlight=False, markup=False, soft_wrap=True)
    for table in absent_tables:
        session.out.print(f"\n{table}", style="yellow", highlight=False, markup=False)


def make_stage(session: Session, stage: "Stage", now: datetime) -> bool | None:
    """Whether anything of `stage` was missing at `now` and is made; None where it could not be, and why is shown."""
    try:
        return complete(session, stage, now)
    except StockAssetsError as error:
        session.err.print(f"[bold red]not complete:[/] {terminal(error)}", highlight=False, soft_wrap=True)
        return None


def complete(session: Session, stage: "Stage", now: datetime) -> bool:
    """Makes what of `stage` was never materialized by `now` or is not in the store, first letting a backfill end that
    an earlier start left open; whether anything was missing.

    Raises StockAssetsError with the first failure of every failed run.
    """
    import dagster as dg

    from stock_assets.cli import backfill, runs
    from stock_assets.definitions import comparison
    from stock_assets.lifecycle.filling import works_in_turn

    settings, client, out = session.settings, session.client, session.out
    os.environ["DAGSTER_HOME"] = str(settings.dagster_home)
    definitions = load_definitions()
    keys = backfill.partition_keys(definitions, now)
    if open_id := client.open_backfill():
        out.print(f"resuming backfill {open_id}")
        try:
            backfill.follow(client, open_id, keys, console=out, staged=settings.staged_answers)
        except StockAssetsError as error:
            early = f"it ended early ({terminal(error)}); what it left out is launched again"
            out.print(early, highlight=False, soft_wrap=True)
    with dg.DagsterInstance.get() as instance:
        targets = backfill.missing(keys, agreed(session, instance, keys), stage)
    if not targets:
        if stage is backfill.FIRST:
            out.print("everything is materialized already")
        return False
    upstream = comparison.upstream_of(definitions.get_repository_def())
    works = works_in_turn(targets, keys, upstream, reason=stage.reason)
    runs.make_in_turn(client, works, targets, keys=keys, console=out, staged=settings.staged_answers)
    return True


def agreed(session: Session, instance: "dg.DagsterInstance", keys: "Keys") -> dict[str, set[str]]:
    """What Dagster holds as materialized and the store has. Where they differ it is shown, and what only the store has
    is reported to Dagster. Raises StoreBusyError where a writer holds the store too long."""
    from stock_assets.definitions import comparison
    from stock_assets.lifecycle.partitions import compared, held_by_both
    from stock_assets.publication.materialize.compare import stored_partitions

    with interruptions_held_back():
        materialized_keys = comparison.materialized(instance, keys)
    store = Warehouse.of(session.settings)
    partitions_of = stored_partitions(store, keys, publication_folder=session.settings.published)
    different = compared(keys, materialized_keys, partitions_of)
    if different.lost:
        place = session.settings.database
        problem = f"{place} lacks rows" if place.exists() else f"there is no store at {place}; it lacks rows"
        text = f"{problem} that Dagster holds as materialized: {different.text}. They are made again."
        session.err.print(f"[bold yellow]lost:[/] {terminal(text)}", highlight=False, soft_wrap=True)
    events = list(comparison.events_of(different.unreported))
    if events:
        text = f"the store has {len(events)} partition(s) that Dagster does not know; they are reported to it"
        session.out.print(text, highlight=False, soft_wrap=True)
        with interruptions_held_back():
            for event in events:
                instance.report_runless_asset_event(event)
    return held_by_both(keys, materialized_keys, partitions_of)


def load_definitions() -> "dg.Definitions":
    """The assets of the settings of this process, without Dagster's own chatter."""
    logging.getLogger("dagster").setLevel(logging.WARNING)
    from stock_assets.definitions import defs

    return defs
