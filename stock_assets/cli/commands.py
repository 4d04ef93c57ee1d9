"""stock-assets: what a shell or cron needs."""

import os
import sys
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from stock_assets.cli.migrate_command import migrate_command
from stock_assets.cli.output import frame_table
from stock_assets.cli.profiles import Profile
from stock_assets.cli.query import SECONDS, SHOWN_ROWS, Format, hide_closed_pipe, write_answer
from stock_assets.cli.trading import trading_commands
from stock_assets.cli.work_command import work_command
from stock_assets.errors import StockAssetsError
from stock_assets.escape import lines, terminal
from stock_assets.extensions import load_extensions
from stock_assets.files import DISK_ERRORS, PRIVATE, disk_error, write_file
from stock_assets.market.calendar import calendar_of
from stock_assets.market.sources.registry import require_source
from stock_assets.settings import Settings, read_origins, read_settings
from stock_assets.settings_file import CONFIG, FILE_NAME
from stock_assets.storage.registry import open_registry
from stock_assets.storage.warehouse import Warehouse

app = typer.Typer(
    help="Prices to honest predictions, as a Dagster asset graph.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,  # they hold settings, which hold secrets
)
app.add_typer(trading_commands, name="trading")
app.command("migrate")(migrate_command)
app.command("work")(work_command)
out, err = Console(emoji=False), Console(emoji=False, stderr=True)

Port = Annotated[int, typer.Option(envvar="PORT", min=1, max=65535, help="the port of the web server")]


def command_line() -> NoReturn:
    """Executes the command of this process; an error that a person can act on is one line and exit code 2."""
    os.umask(PRIVATE)  # what the command writes is its user's alone
    try:
        app(standalone_mode=True)
    except StockAssetsError as error:
        _end_with(error)
    except OSError as error:
        if error.filename is None or error.errno not in DISK_ERRORS:
            raise  # a fault of ours, with its traceback
        _end_with(disk_error(Path(os.fsdecode(error.filename)), error))
    sys.exit(0)


def _end_with(error: StockAssetsError) -> NoReturn:
    err.print(f"[bold red]stock-assets:[/] {terminal(error)}", highlight=False, soft_wrap=True)
    sys.exit(2)


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


@app.command("bars")
def bars_command() -> None:
    """Makes all that is due of a market of bars (STOCK_ASSETS_INTERVAL below 1d) here and now, without Dagster."""
    from stock_assets.cli.bars import make_due, scores_of
    from stock_assets.market.sources.registry import make_source

    config = configured()
    start, say = time.monotonic(), partial(out.print, highlight=False, markup=False, soft_wrap=True)
    works = make_due(
        Warehouse.of(config),
        config,
        make_source(config, say),
        now=datetime.now(UTC),
        say=say,
        registry=open_registry(config.mlflow_uri, config.mlflow_artifacts),
    )
    say(f"{len(works)} step(s) in {time.monotonic() - start:.0f} s" if works else "nothing is due")
    for line in scores_of(config):
        say(line)


@app.command("serve")
def serve_command(
    host: Annotated[str | None, typer.Option(help="the address; that of the settings, loopback, when unset")] = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="the port; that of the settings when unset")
    ] = None,
) -> None:
    """Serves what is published, as an API and a dashboard, until Ctrl-C; beyond loopback with tokens alone."""
    from stock_assets.cli.api import serve

    api_settings = {"api_host": host, "api_port": port}
    serve(read_settings(**{name: value for name, value in api_settings.items() if value is not None}), out)


@app.command("backfill")
def backfill_command(
    start: Annotated[datetime, typer.Option(formats=["%Y-%m-%d"], help="first session")],
    end: Annotated[datetime, typer.Option(formats=["%Y-%m-%d"], help="last session")],
    assets: Annotated[str | None, typer.Option(help="asset keys separated by commas; all when unset")] = None,
    port: Port = 3000,
) -> None:
    """Backfills the sessions from --start to --end on the running instance, and shows its progress; Ctrl-C cancels."""
    from stock_assets.cli import backfill
    from stock_assets.cli.serve import load_definitions
    from stock_assets.cli.server import web_client
    from stock_assets.market.materialize.one_source import require_stored_market

    require_stored_market(configured())
    client = web_client(configured(), port)
    if not client.is_ready():
        raise StockAssetsError(f"the server at {client.url} is still loading the assets; try again in some seconds")
    keys = backfill.partition_keys(load_definitions(), datetime.now(UTC))
    chosen_assets = [name.strip() for name in assets.split(",") if name.strip()] if assets else None
    targets = backfill.within(keys, start.date(), end.date(), assets=chosen_assets)
    begin_time = time.monotonic()
    launch = partial(backfill.launch, client, targets, keys, title=f"{start.date()} to {end.date()}")
    with backfill.cancelled_by_ctrl_c(client, launch, out) as backfill_id:
        backfill.follow(client, backfill_id, keys, console=out, staged=configured().staged_answers)
    out.print(f"done in {time.monotonic() - begin_time:.0f} s")


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
        data_folder = terminal(str(platform.settings.data_dir))
        err.print(f"[bold]stock-assets:[/] {here}{data_folder}", highlight=False, soft_wrap=True)
    market = platform.as_of(as_of) if as_of else platform
    try:
        with market.answer(statement, Limits(timeout)) as answer:
            write_answer(answer, form, limit=limit, output=output, out=out)
    except BrokenPipeError:
        hide_closed_pipe()
        raise typer.Exit(0) from None


@app.command()
def models() -> None:
    """Lists which version of every model serves, since when and why, and the versions with another alias."""
    from stock_assets.platform import Platform

    rows, of_days = Platform(config := configured()).models(), config.interval == "1d"
    if rows.is_empty():
        tables = "trained_rnn and trained_baselines" if of_days else "trained_bar_models"
        raise StockAssetsError(f"no model is trained yet. Materialize {tables} first.")
    titles = {name: name.replace("_", " ") for name in rows.columns if of_days or name != "model_year"}
    out.print(frame_table(rows.select(*titles).rename(titles | {"reason": "why"})))


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
    promotion, notes = rollback(
        Warehouse.of(config),
        registry,
        calendar_of(config),
        model=model,
        to=to,
        now=datetime.now(UTC),
        reason=reason,
    )
    for note in notes:
        err.print(f"[bold]stock-assets:[/] {terminal(note)}", highlight=False, soft_wrap=True)
    out.print(
        f"{terminal(promotion.version)} is the champion of {terminal(model)} from {promotion.serves_from} on, in place "
        f"of {terminal(promotion.replaced)}; to have it serve the newest predicted session too: stock-assets republish",
        highlight=False,
        soft_wrap=True,
    )


@app.command("republish")
def republish_command(
    model: Annotated[str | None, typer.Argument(help="the model it is about; every one when unset")] = None,
) -> None:
    """Predicts and publishes the newest predicted session again, by the version under the alias or of the rollback."""
    from stock_assets.publication.materialize.republish import republish

    config = configured()
    registry = open_registry(config.mlflow_uri, config.mlflow_artifacts)
    store = Warehouse.of(config)
    republication = republish(store, config, registry, now=datetime.now(UTC), model=model)
    for note in republication.again.notes:
        err.print(f"[bold]stock-assets:[/] {terminal(note)}", highlight=False, soft_wrap=True)
    out.print(terminal(republication.text), highlight=False, soft_wrap=True)


@app.command("backup")
def backup_command(
    folder: Annotated[
        str | None, typer.Argument(metavar="DIR", help="their folder or bucket; backup_dir when unset")
    ] = None,
    keep: Annotated[int | None, typer.Option(min=1, help="backups that are kept; backup_keep when unset")] = None,
) -> None:
    """Copies the store, the models and Dagster's memory, also while the platform runs."""
    from stock_assets.cli.backup import back_up
    from stock_assets.objects import place_of

    settings = configured()
    target = place_of(folder) if folder else settings.backup_dir
    if target is None:
        raise StockAssetsError("no folder is named; expected stock-assets backup DIR, or the setting backup_dir")
    back_up(settings, target, keep=keep or settings.backup_keep, now=datetime.now(UTC), out=out)


@app.command("restore")
def restore_command(
    folder: Annotated[
        str, typer.Argument(metavar="DIR", help="a backup, or the folder or bucket of several: the newest")
    ],
    to: Annotated[Path | None, typer.Option(metavar="FOLDER", help="the data folder; that of the settings")] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="replace a folder that is not empty, and keep its content beside it")
    ] = False,
) -> None:
    """Puts a backup in the place of the data folder, after a check of every file."""
    from stock_assets.cli.backup import restore
    from stock_assets.lifecycle.materialize.backup import elsewhere_of
    from stock_assets.objects import place_of

    settings = read_settings()
    elsewhere = None if to else elsewhere_of(settings)
    target = to or settings.data_dir
    restore(place_of(folder), target, replace=replace, now=datetime.now(UTC), out=out, elsewhere=elsewhere)


@app.command("verify")
def verify_command(
    folder: Annotated[
        str | None, typer.Argument(metavar="FOLDER", help="a data folder or a backup; that of the settings when unset")
    ] = None,
) -> None:
    """Opens every table, database and model, and compares store and Dagster; exit code 2 for a problem."""
    from stock_assets.cli.backup import verify
    from stock_assets.objects import place_of

    if folder:
        verify(place_of(folder), out)
    else:
        verify(configured().data_dir, out, settings=configured())


@app.command()
def status(
    as_json: Annotated[bool, typer.Option("--json", help="as JSON, for a program")] = False,
) -> None:
    """Says whether predictions are fresh, daemon and server alive, alarms open; needs no server and no free store.

    The exit code is 0 where all is well; 1 where a session is late, an alarm is open, the daemon is dead or the API
    does not answer; 2 where nothing can be seen.
    """
    from stock_assets.cli.status import show_status

    raise typer.Exit(show_status(configured(), out, as_json=as_json, now=datetime.now(UTC)))


@app.command("token")
def token_command(
    name: Annotated[str, typer.Argument(help="the client that gets it, such as reports")],
    scopes: Annotated[str, typer.Option(help="read, predict, or both with a comma between")] = "read",
) -> None:
    """Makes a token of the API, shows it once, and keeps its digest in the file of api_tokens."""
    from stock_assets.serving.tokens import SETTING, add_token

    settings = configured()
    file = settings.api_tokens or settings.data_dir / "api_tokens"
    token = add_token(file, name, [scope.strip() for scope in scopes.split(",")])
    out.print(token, highlight=False, markup=False, soft_wrap=True)
    note = f"its digest is in {terminal(file)}; it is shown this once"
    if settings.api_tokens is None:
        note += f". Have the API ask for tokens: export {SETTING}={terminal(file)}"
    err.print(f"[bold]stock-assets:[/] {note}", highlight=False, soft_wrap=True)


@app.command()
def tidy() -> None:
    """Removes what is old, as the schedule `nightly_tidy` does every night, and shows what went."""
    from stock_assets.lifecycle.materialize.tidy import tidy as tidy_up

    config = configured()
    registry = open_registry(config.mlflow_uri, config.mlflow_artifacts)
    tidying = tidy_up(Warehouse.of(config), config, registry, now=datetime.now(UTC))
    for removal in tidying.removed:
        out.print(str(removal), highlight=False, markup=False, soft_wrap=True)
    for message in tidying.failures:
        err.print(
            f"[bold]stock-assets:[/] left for the next time: {terminal(message)}", highlight=False, soft_wrap=True
        )


@app.command()
def config() -> None:
    """Shows every setting and where it comes from: the default, the settings file or the environment."""
    from stock_assets.cli.setup import settings_lines

    for line in settings_lines(read_origins()):
        out.print(lines(line), highlight=False, markup=False, soft_wrap=True)


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
    profile: Annotated[
        Profile, typer.Option(help="one machine, several hosts or Kubernetes: docs/team.md")
    ] = Profile.SINGLE,
) -> None:
    """Asks four questions and writes the settings file, in the current folder or as FILE of --config."""
    from stock_assets.cli.profiles import files_of, missing_variables
    from stock_assets.cli.setup import write_settings

    file_name = os.environ.get(CONFIG, "off")
    file = Path(FILE_NAME if file_name == "off" else file_name).absolute()
    companion_files = files_of(profile, file.parent)
    if prices is None:
        question = "Path of the snapshot?" if source == "snapshot" else "Tickers, separated by commas (empty: all)?"
        prices = typer.prompt(question, default="" if source != "snapshot" else None)
    if data_dir is None:
        data_dir = typer.prompt("Folder of the store and the models?", default=f"data/{source}")
    for target in (file, *companion_files):
        if target.exists():
            typer.confirm(f"{target} exists. Replace it?", abort=True)
    of_prices = "snapshot" if source == "snapshot" else "tickers"
    write_settings(file, {"source": source, of_prices: prices or "", "start": start, "data_dir": data_dir or ""})
    for path, text in companion_files.items():
        write_file(path, text.encode())
        out.print(f"{terminal(path)} is written", highlight=False, soft_wrap=True)
    if missing := missing_variables(profile, os.environ):
        out.print(missing, highlight=False, soft_wrap=True)
    starts = "`make run` starts" if profile is Profile.SINGLE else "`stock-assets run` starts all of it on this machine"
    out.print(f"{terminal(file)} is written; {starts}", highlight=False, soft_wrap=True)
