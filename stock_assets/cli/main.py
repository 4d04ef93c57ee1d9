"""stock-assets: what a shell or cron needs."""

import logging
import os
import signal
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from stock_assets.errors import MissingTableError, StockAssetsError
from stock_assets.market.calendar import calendar_of
from stock_assets.market.sources.registry import require_source
from stock_assets.settings import Settings, read_settings
from stock_assets.storage.registry import open_registry
from stock_assets.storage.warehouse import Warehouse, query_frames

if TYPE_CHECKING:
    import polars as pl

    from stock_assets.cli.graphql import DagsterClient

app = typer.Typer(
    help="Prices to honest predictions, as a Dagster asset graph.", no_args_is_help=True, add_completion=False
)
out, err = Console(), Console(stderr=True)

#: Ctrl-C, kill, and the terminal that closes (which nohup makes us ignore).
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Port = Annotated[int, typer.Option(envvar="PORT", min=1, max=65535, help="the port of the web server")]


def main() -> NoReturn:
    """The command line; an error that a person can act on is one line and exit code 2."""
    try:
        app(standalone_mode=True)
    except StockAssetsError as error:
        err.print(f"[bold red]stock-assets:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(2)
    sys.exit(0)


def configuration() -> Settings:
    """The settings of the environment. Raises SettingsError, also for a source that is not registered."""
    config = read_settings()
    require_source(config.source)
    return config


#: A `dagster dev` that ends by itself is started again, unless it does so this many times in a row this soon.
EARLY_ENDS, EARLY_SECONDS = 3, 300


@app.command()
def run(port: Port = 3000) -> None:
    """Starts Dagster, materializes whatever is missing, shows the score, and keeps serving until Ctrl-C."""
    from stock_assets.cli.server import dagster_dev

    config = configuration()
    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN or number == signal.SIGINT:
            signal.signal(number, _interrupt)
    market = "SIMULATED market, no real prices" if config.source == "simulated" else f"source {config.source}"
    out.print(f"stock_assets: {market}, from {config.start}; starting Dagster …", soft_wrap=True)
    early = 0
    try:
        while early < EARLY_ENDS:
            began = time.monotonic()
            with dagster_dev(config, port) as (client, process):
                out.print(f"Dagster is up at [link]{client.url}[/link]")
                try:
                    complete(config, client)
                except StockAssetsError as error:
                    err.print(f"[bold red]not complete:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
                summarise(config, time.monotonic() - began)
                out.print(
                    f"\nBrowse the graph at [bold]{client.url}/asset-groups[/bold]  (Ctrl-C ends everything)",
                    highlight=False,
                )
                code = process.wait()
            early = early + 1 if time.monotonic() - began < EARLY_SECONDS else 0
            out.print(f"dagster dev ended by itself with exit code {code}; starting it again …", highlight=False)
        raise StockAssetsError(
            f"dagster dev ended {early} times within {EARLY_SECONDS} s of its start; see dagster-dev.log and "
            f"dagster-dev.previous.log in {config.dagster_home}"
        )
    except KeyboardInterrupt:
        out.print("\nstopped")


def _interrupt(_number: int, _frame: object) -> NoReturn:
    """Every ending leaves through the same door, once: a second signal must not stop the cleaning up."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def complete(config: Settings, client: "DagsterClient") -> None:
    """Backfills what was never materialized, first letting a backfill end that an earlier start left open."""
    import dagster as dg

    from stock_assets.cli import backfill

    os.environ["DAGSTER_HOME"] = str(config.dagster_home)
    keys = backfill.partition_keys(load_definitions(), datetime.now(UTC))
    if open_id := client.open_backfill():
        out.print(f"resuming backfill {open_id}")
        try:
            backfill.follow(client, open_id, keys, out, config.staged_answers)
        except StockAssetsError as error:
            said = escape(str(error))
            out.print(f"it ended early ({said}); what it left out is launched again", highlight=False, soft_wrap=True)
    with dg.DagsterInstance.get() as instance:
        targets = backfill.missing(instance, keys)
    if not targets:
        out.print("everything is materialized already")
        return
    backfill.follow(client, backfill.launch(client, targets, keys, "make run"), keys, out, config.staged_answers)


@app.command("backfill")
def backfill_command(
    start: Annotated[datetime, typer.Option(formats=["%Y-%m-%d"], help="first session")],
    end: Annotated[datetime, typer.Option(formats=["%Y-%m-%d"], help="last session")],
    assets: Annotated[str | None, typer.Option(help="asset keys separated by commas; all when unset")] = None,
    port: Port = 3000,
) -> None:
    """Backfills the sessions from --start to --end on the running instance, with live progress."""
    from stock_assets.cli import backfill
    from stock_assets.cli.graphql import DagsterClient

    client = DagsterClient(f"http://127.0.0.1:{port}")
    if not client.is_ready():
        raise StockAssetsError(f"the server at {client.url} is still loading the assets; try again in some seconds")
    keys = backfill.partition_keys(load_definitions(), datetime.now(UTC))
    chosen = [name.strip() for name in assets.split(",") if name.strip()] if assets else None
    targets = backfill.within(keys, start.date(), end.date(), chosen)
    began = time.monotonic()
    backfill_id = backfill.launch(client, targets, keys, f"{start.date()} to {end.date()}")
    backfill.follow(client, backfill_id, keys, out, configuration().staged_answers)
    out.print(f"done in {time.monotonic() - began:.0f} s")


@app.command()
def query(
    statement: Annotated[str, typer.Argument(help="a SELECT over the tables, e.g. 'select * from labels limit 5'")],
    as_of: Annotated[
        str | None,
        typer.Option(
            help="answer from the tables as they were at that moment, e.g. 2026-11-01T22:00Z: prices alone, read-only"
        ),
    ] = None,
) -> None:
    """Answers a SELECT from the store, read-only, as a table on the terminal."""
    config = configuration()
    warehouse = Warehouse(config.database)
    if as_of is None:
        answer = warehouse.query(statement)
    else:
        from stock_assets.market.materialize.time_travel import tables_as_of

        answer = query_frames(tables_as_of(warehouse, config, moment_of(as_of)), statement)
    table = Table(*map(escape, answer.columns))
    for row in answer.head(200).iter_rows():
        table.add_row(*("" if value is None else escape(str(value)) for value in row))
    out.print(table)
    if answer.height > 200:
        out.print(f"200 of {answer.height} rows shown")


def moment_of(text: str) -> datetime:
    """The moment that `text` writes in ISO 8601, in UTC where it names no zone. Raises StockAssetsError."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise StockAssetsError(f"--as-of {text!r} is no moment; expected one such as 2026-11-01T22:00Z") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


@app.command()
def models() -> None:
    """Lists which version of every model serves, since when and why, and the versions with another alias."""
    from stock_assets.lifecycle.materialize.champions import models_in_service

    config = configuration()
    registry = open_registry(config.mlflow_uri, config.mlflow_artifacts)
    rows = models_in_service(Warehouse(config.database), registry, calendar_of(config))
    if rows.is_empty():
        raise StockAssetsError("no model is trained yet. Materialize trained_rnn and trained_baselines first.")
    table = Table("model", "alias", "version", "trained through", "model year", "serves from", "why")
    for row in rows.iter_rows():
        table.add_row(*("" if value is None else escape(str(value)) for value in row))
    out.print(table)


@app.command("rollback")
def rollback_command(
    model: Annotated[str, typer.Argument(help="the model that goes back, such as rnn or ensemble")],
    to: Annotated[str | None, typer.Option(help="a version; the one that served before when unset")] = None,
    reason: Annotated[str, typer.Option(help="why, for the history")] = "rolled back from the shell",
) -> None:
    """Makes the version that served before the champion again, from the next session on."""
    from stock_assets.lifecycle.materialize.champions import rollback

    config = configuration()
    registry = open_registry(config.mlflow_uri, config.mlflow_artifacts)
    done, notes = rollback(
        Warehouse(config.database), registry, calendar_of(config), model, to, datetime.now(UTC), reason
    )
    for note in notes:
        err.print(f"[bold]stock-assets:[/] {escape(note)}", highlight=False, soft_wrap=True)
    out.print(
        f"{escape(done.version)} is the champion of {escape(model)} from {done.serves_from} on, in place of "
        f"{escape(str(done.replaced))}",
        highlight=False,
        soft_wrap=True,
    )


def summarise(config: Settings, seconds: float) -> None:
    """Rows per table, seconds, and the honest score beside the best naive baseline."""
    warehouse = Warehouse(config.database)
    table = Table("table", "rows", title=f"{seconds:.0f} s")
    for name, rows in warehouse.row_counts().items():
        table.add_row(name, f"{rows:,}")
    out.print(table)
    try:
        scores = warehouse.read("evaluation_report")
    except MissingTableError:
        return
    out.print(score_line(scores), highlight=False, soft_wrap=True)


def score_line(scores: "pl.DataFrame") -> str:
    """The best model's mean of yearly log-losses, with its interval, beside that of the best naive baseline."""
    from stock_assets.evaluation.metrics import best_naive
    from stock_assets.model.registry import naive_baselines

    means = scores.filter(scores["year"].is_null())
    best = means.filter(~means["model"].is_in(naive_baselines())).sort("log_loss").row(0, named=True)
    naive = best_naive(means, naive_baselines())
    assert naive is not None  # the report refuses predictions without one
    return (
        f"walk-forward, mean of yearly scores: {best['model']} log-loss {best['log_loss']:.4f} "
        f"[{best['log_loss_low']:.4f}, {best['log_loss_high']:.4f}], accuracy {best['accuracy']:.3f}; best naive "
        f"baseline {naive['model']} log-loss {naive['log_loss']:.4f}, accuracy {naive['accuracy']:.3f}"
    )


def load_definitions():
    logging.getLogger("dagster").setLevel(logging.WARNING)
    from stock_assets.definitions import defs

    return defs


if __name__ == "__main__":
    main()
