"""stock-assets: what a shell or cron needs."""

import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.markup import escape

from stock_assets.cli.output import frame_table
from stock_assets.cli.query import SECONDS, SHOWN_ROWS, Format, hide_closed_pipe, write_answer
from stock_assets.errors import StockAssetsError
from stock_assets.extensions import load_extensions
from stock_assets.market.calendar import calendar_of
from stock_assets.market.sources.registry import require_source
from stock_assets.settings import Settings, read_origins, read_settings
from stock_assets.settings_file import CONFIG, FILE_NAME
from stock_assets.storage.registry import open_registry
from stock_assets.storage.warehouse import Warehouse

app = typer.Typer(
    help="Prices to honest predictions, as a Dagster asset graph.", no_args_is_help=True, add_completion=False
)
out, err = Console(), Console(stderr=True)

Port = Annotated[int, typer.Option(envvar="PORT", min=1, max=65535, help="the port of the web server")]


def main() -> NoReturn:
    """The command line; an error that a person can act on is one line and exit code 2."""
    try:
        app(standalone_mode=True)
    except StockAssetsError as error:
        err.print(f"[bold red]stock-assets:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(2)
    sys.exit(0)


def configured() -> Settings:
    """The settings, with their extensions imported. Raises SettingsError for a source that is none."""
    settings = read_settings()
    load_extensions(settings)
    require_source(settings.source)
    return settings


@app.callback()
def choose_settings_file(
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", metavar="FILE", help=f"the settings file; {FILE_NAME} here or in the project when unset"
        ),
    ] = None,
) -> None:
    """Prices to honest predictions, as a Dagster asset graph."""
    if config is not None:
        os.environ[CONFIG] = str(config.absolute())  # the processes that this one starts read it too


@app.command()
def run(port: Port = 3000) -> None:
    """Starts Dagster, materializes whatever is missing, shows the score, and keeps serving until Ctrl-C."""
    from stock_assets.cli.serve import serve

    serve(configured(), port, out, err=err)


@app.command("backfill")
def backfill_command(
    start: Annotated[datetime, typer.Option(formats=["%Y-%m-%d"], help="first session")],
    end: Annotated[datetime, typer.Option(formats=["%Y-%m-%d"], help="last session")],
    assets: Annotated[str | None, typer.Option(help="asset keys separated by commas; all when unset")] = None,
    port: Port = 3000,
) -> None:
    """Backfills the sessions from --start to --end on the running instance, and shows its progress."""
    from stock_assets.cli import backfill
    from stock_assets.cli.graphql import DagsterClient
    from stock_assets.cli.serve import load_definitions

    client = DagsterClient(f"http://127.0.0.1:{port}")
    if not client.is_ready():
        raise StockAssetsError(f"the server at {client.url} is still loading the assets; try again in some seconds")
    keys = backfill.partition_keys(load_definitions(), datetime.now(UTC))
    chosen = [name.strip() for name in assets.split(",") if name.strip()] if assets else None
    targets = backfill.within(keys, start.date(), end.date(), assets=chosen)
    began = time.monotonic()
    backfill_id = backfill.launch(client, targets, keys, title=f"{start.date()} to {end.date()}")
    backfill.follow(client, backfill_id, keys, console=out, staged=configured().staged_answers)
    out.print(f"done in {time.monotonic() - began:.0f} s")


@app.command()
def query(
    statement: Annotated[str, typer.Argument(help="a SELECT over the tables, e.g. 'select * from labels limit 5'")],
    as_of: Annotated[
        str | None,
        typer.Option(
            help="answer from the market tables as they were known at that moment, e.g. 2026-11-01T22:00Z; read-only"
        ),
    ] = None,
    form: Annotated[Format, typer.Option("--format", help="how the answer is written")] = Format.TABLE,
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="a file instead of the terminal")] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help=f"the most rows; {SHOWN_ROWS} of a table and all otherwise when unset")
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.001, help="the most seconds")] = SECONDS,
) -> None:
    """Answers a SELECT from the store, read-only, as a table on the terminal, CSV, JSON or Parquet."""
    from stock_assets.platform import Platform
    from stock_assets.storage.queries import Limits

    platform = Platform(configured())
    if not {"source", "data_dir"} & set(read_origins().given):
        here = f"no setting names a market, so this is the {platform.settings.source} one in "
        where = escape(str(platform.settings.data_dir))
        err.print(f"[bold]stock-assets:[/] {here}{where}", highlight=False, soft_wrap=True)
    market = platform.as_of(as_of) if as_of else platform
    try:
        with market.answer(statement, Limits(timeout)) as answer:
            write_answer(answer, form, limit=limit, output=output, out=out)
    except KeyboardInterrupt:
        err.print("[bold]stock-assets:[/] interrupted", highlight=False)
        raise typer.Exit(130) from None
    except BrokenPipeError:
        hide_closed_pipe()
        raise typer.Exit(0) from None


@app.command()
def models() -> None:
    """Lists which version of every model serves, since when and why, and the versions with another alias."""
    from stock_assets.platform import Platform

    rows = Platform(configured()).models()
    if rows.is_empty():
        raise StockAssetsError("no model is trained yet. Materialize trained_rnn and trained_baselines first.")
    titles = {name: name.replace("_", " ") for name in rows.columns} | {"reason": "why"}
    out.print(frame_table(rows.rename(titles)))


@app.command("rollback")
def rollback_command(
    model: Annotated[str, typer.Argument(help="the model that goes back, such as rnn or ensemble")],
    to: Annotated[str | None, typer.Option(help="a version; the one that served before when unset")] = None,
    reason: Annotated[str, typer.Option(help="why, for the history")] = "rolled back from the shell",
) -> None:
    """Makes the version that served before the champion again, from the next session on."""
    from stock_assets.lifecycle.materialize.champions import rollback

    config = configured()
    registry = open_registry(config.mlflow_uri, config.mlflow_artifacts)
    done, notes = rollback(
        Warehouse(config.database),
        registry,
        calendar_of(config),
        model=model,
        to=to,
        now=datetime.now(UTC),
        reason=reason,
    )
    for note in notes:
        err.print(f"[bold]stock-assets:[/] {escape(note)}", highlight=False, soft_wrap=True)
    out.print(
        f"{escape(done.version)} is the champion of {escape(model)} from {done.serves_from} on, in place of "
        f"{escape(str(done.replaced))}",
        highlight=False,
        soft_wrap=True,
    )


@app.command()
def tidy() -> None:
    """Removes what is old, as the schedule `nightly_tidy` does every night, and shows what went."""
    from stock_assets.lifecycle.materialize.tidy import tidy as tidy_up

    config = configured()
    registry = open_registry(config.mlflow_uri, config.mlflow_artifacts)
    tidying = tidy_up(Warehouse(config.database), config, registry, now=datetime.now(UTC))
    for removed in tidying.removed:
        out.print(str(removed), highlight=False, markup=False, soft_wrap=True)
    for message in tidying.left:
        err.print(f"[bold]stock-assets:[/] left for the next time: {escape(message)}", highlight=False, soft_wrap=True)


@app.command()
def config() -> None:
    """Shows every setting and where it comes from: the default, the settings file or the environment."""
    from stock_assets.cli.setup import settings_lines

    for line in settings_lines(read_origins()):
        out.print(line, highlight=False, markup=False, soft_wrap=True)


@app.command()
def init(
    source: Annotated[
        str, typer.Option(prompt="Where do prices come from: simulated, snapshot or yahoo?", help="see README")
    ] = "simulated",
    prices: Annotated[
        str | None, typer.Option(help="the snapshot's path, or tickers separated by commas; asked when unset")
    ] = None,
    start: Annotated[str, typer.Option(prompt="First session (YYYY-MM-DD)?", help="YYYY-MM-DD")] = "2023-01-03",
    data_dir: Annotated[
        str | None, typer.Option(help="the folder of the store and the models; asked when unset")
    ] = None,
) -> None:
    """Asks four questions and writes the settings file, in the current folder or as FILE of --config."""
    from stock_assets.cli.setup import write_settings

    named = os.environ.get(CONFIG, "off")
    file = Path(FILE_NAME if named == "off" else named).absolute()
    if prices is None:
        question = "Path of the snapshot?" if source == "snapshot" else "Tickers, separated by commas (empty: all)?"
        prices = typer.prompt(question, default="" if source != "snapshot" else None)
    if data_dir is None:
        data_dir = typer.prompt("Folder of the store and the models?", default=f"data/{source}")
    if file.exists():
        typer.confirm(f"{file} exists. Replace it?", abort=True)
    of_prices = "snapshot" if source == "snapshot" else "tickers"
    write_settings(file, {"source": source, of_prices: prices or "", "start": start, "data_dir": data_dir or ""})
    out.print(f"{file} is written; `make run` starts", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    main()
