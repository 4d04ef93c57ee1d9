"""The command line: one line and exit code 2 for what a person can act on, and never a traceback."""

import errno
import io
import os
import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path

import duckdb
import polars as pl
import pytest
from rich.console import Console

from stock_assets.cli import output, serve
from stock_assets.evaluation.metrics import best_naive
from stock_assets.model.registry import naive_baselines
from stock_assets.settings import Settings, read_settings
from stock_assets.storage import migrations
from stock_assets.storage.warehouse import Warehouse
from stock_assets.tables import SCHEMA_VERSION
from stock_assets_tests.cli.conftest import Call, one_line
from stock_assets_tests.market.generators import raw_answer, universe_of
from stock_assets_tests.tables import rows_of


@pytest.fixture
def store(data_dir: Path) -> Warehouse:
    warehouse = Warehouse(data_dir / "stock_assets.duckdb")
    bars = pl.DataFrame({"ticker": ["SIM01", "SIM02"], "session": [date(2019, 1, 2)] * 2, "close": [10.0, None]})
    warehouse.replace_sessions("daily_bars", [date(2019, 1, 2)], rows_of("daily_bars", bars))
    return warehouse


@pytest.mark.usefixtures("store")
def test_a_query_is_answered_as_a_table(call: Call):
    code, said, complaint = call("query", "select ticker, close from daily_bars order by ticker")
    assert (code, complaint) == (0, "")
    rows = [[cell.strip() for cell in line.strip("│┃").split("│")] for line in said.splitlines() if "SIM" in line]
    assert rows == [["SIM01", "10.0"], ["SIM02", ""]]


@pytest.mark.usefixtures("store")
def test_a_query_shows_brackets_as_they_are(call: Call):
    _, said, _ = call("query", """select '[red]x[/]' as "[bold]name" """)
    assert "[red]x[/]" in said
    assert "[bold]name" in said


@pytest.mark.usefixtures("store")
def test_a_long_answer_says_that_it_is_cut(call: Call):
    code, said, _ = call("query", "select * from range(201)")
    assert code == 0
    assert said.splitlines()[-1] == "200 of 201 rows shown"


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("selekt 1", "the query failed: Parser Error"),
        ("select * from nothing", "the query failed: Catalog Error"),
        ("delete from daily_bars", "the query failed: "),
        ("select * from read_csv('/etc/passwd')", "the query failed: Permission Error"),
    ],
)
def test_a_query_that_cannot_be_answered_is_an_error_without_a_traceback(call: Call, statement: str, said: str):
    code, answer, complaint = call("query", statement)
    assert (code, answer) == (2, "")
    assert complaint.startswith(f"stock-assets: {said}")
    assert "Traceback" not in complaint


@pytest.fixture
def versions(data_dir: Path) -> Warehouse:
    """Two versions of one bar, and what was listed of it."""
    warehouse, day = Warehouse(data_dir / "stock_assets.duckdb"), date(2023, 1, 4)
    first = raw_answer([day], [10.0]).with_columns(fetched_at=pl.lit(datetime(2023, 1, 4, 22, tzinfo=UTC)))
    later = raw_answer([day], [11.0]).with_columns(fetched_at=pl.lit(datetime(2023, 1, 5, 22, tzinfo=UTC)))
    warehouse.replace_table("universe", rows_of("universe", universe_of(first)))
    warehouse.append("raw_ohlcv", pl.concat([first, later]))
    return warehouse


@pytest.mark.usefixtures("versions")
@pytest.mark.parametrize(
    ("moment", "close", "provisional"),
    [("2023-01-04T22:00Z", 10.0, True), ("2023-01-05T21:59:59", 10.0, True), ("2023-01-05T23:00+01:00", 11.0, False)],
)
def test_a_query_is_answered_from_what_was_known_then(call: Call, moment: str, close: float, provisional: bool):
    code, said, complaint = call("query", "--as-of", moment, "select close, provisional from daily_bars")
    assert (code, complaint) == (0, "")
    assert f"│ {close} " in said
    assert str(provisional) in said


@pytest.mark.usefixtures("versions")
@pytest.mark.parametrize(
    ("moment", "statement", "said"),
    [
        ("yesterday", "select 1", "'yesterday' is no moment; expected one such as 2026-11-01T22:00Z"),
        ("2023-01-04T21:59Z", "select 1", "nothing had been fetched by 2023-01-04 21:59 UTC"),
        ("2023-01-04T22:00Z", "select * from predictions", "the query failed: Catalog Error"),
        ("2023-01-04T22:00Z", "select * from read_csv('/etc/passwd')", "the query failed: Permission Error"),
    ],
)
def test_what_was_not_known_then_is_an_error(call: Call, moment: str, statement: str, said: str):
    code, answer, complaint = call("query", "--as-of", moment, statement)
    assert (code, answer) == (2, "")
    assert complaint.startswith(f"stock-assets: {said}")


def test_a_query_before_anything_was_made(call: Call, data_dir: Path):
    code, _, complaint = call("query", "select 1")
    assert code == 2
    assert one_line(complaint)
    assert f"no store at {data_dir / 'stock_assets.duckdb'} yet" in complaint


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("SOURCE", "bloomberg", "STOCK_ASSETS_SOURCE='bloomberg' is wrong"),
        ("START", "[yesterday]", "STOCK_ASSETS_START='[yesterday]' is wrong"),
        ("SAUCE", "yahoo", "STOCK_ASSETS_SAUCE is no setting"),
    ],
)
@pytest.mark.parametrize("command", [("run",), ("query", "select 1")])
def test_a_wrong_setting_stops_every_command(call: Call, monkeypatch, command, name, value, said):
    monkeypatch.setenv(f"STOCK_ASSETS_{name}", value)
    code, _, complaint = call(*command)
    assert code == 2
    assert one_line(complaint)
    assert said in complaint


def test_a_backfill_needs_a_server(call: Call):
    code, _, complaint = call("backfill", "--start", "2018-01-02", "--end", "2018-01-05", "--port", "9")
    assert code == 2
    assert one_line(complaint)
    assert "no Dagster web server answers at http://127.0.0.1:9" in complaint


@pytest.mark.parametrize(
    "arguments",
    [
        ("backfill", "--start", "2018-13-02", "--end", "2018-01-05"),
        ("backfill", "--start", "2018-01-02"),
        ("run", "--port", "0"),
        ("fly",),
    ],
)
def test_a_wrong_command_line_is_explained(call: Call, arguments):
    code, _, complaint = call(*arguments)
    assert code == 2
    assert complaint.startswith("Usage: ")
    assert "Traceback" not in complaint


def scores(**log_losses: float) -> pl.DataFrame:
    rows = [
        {"model": model, "year": year, "log_loss": loss, "log_loss_low": loss - 0.01, "log_loss_high": loss + 0.01}
        for model, loss in log_losses.items()
        for year in (2019, None)
    ]
    return pl.DataFrame(rows).with_columns(accuracy=pl.lit(0.4))


def test_the_score_stands_beside_the_best_naive_baseline():
    table = scores(rnn=1.05, logistic=1.04, ticker_prior=1.076, class_prior=1.09)
    line = output.score_line(table)
    assert "logistic log-loss 1.0400 [1.0300, 1.0500]" in line
    assert line.endswith("best naive baseline ticker_prior log-loss 1.0760, accuracy 0.400")
    naive = best_naive(table.filter(pl.col("year").is_null()), naive_baselines())
    assert naive is not None
    assert naive["model"] == "ticker_prior"


@pytest.mark.usefixtures("store")
def test_the_summary_names_every_table_and_copes_without_a_score(data_dir, capsys):
    output.summarise(read_settings(data_dir=data_dir), 12.4, Console(width=80))
    said = capsys.readouterr().out
    assert "12 s" in said
    assert any("daily_bars" in line and "2" in line for line in said.splitlines())
    assert "log-loss" not in said


def test_an_older_store_is_migrated_before_the_server_starts(data_dir: Path, store: Warehouse):
    said = io.StringIO()
    serve.migrate(read_settings(data_dir=data_dir), Console(file=said))
    assert said.getvalue() == ""
    with store.connect(read_only=False) as connection:
        connection.execute("DROP TABLE main.schema_version")
    migrations._CURRENT.clear()
    serve.migrate(read_settings(data_dir=data_dir), Console(file=said, width=200))
    assert said.getvalue() == f"the store had schema version 0 and has version {SCHEMA_VERSION} now\n"


# ---------------------------------------------------------------- the settings file


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder of its own, without a setting in the environment."""
    for name in ("STOCK_ASSETS_CONFIG", "STOCK_ASSETS_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def test_init_asks_four_questions_and_config_shows_the_answers(call: Call, folder: Path, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("yahoo\n2018-01-02\nAAPL, MSFT\n\n"))
    code, said, complaint = call("init")
    assert (code, complaint) == (0, "")
    assert said.count("?") == 4
    assert (folder / "stock_assets.toml").read_text().splitlines()[1:] == [
        'source = "yahoo"',
        'tickers = "AAPL, MSFT"',
        "start = 2018-01-02",
        'data_dir = "data/yahoo"',
    ]
    code, said, _ = call("config")
    assert code == 0
    file = folder / "stock_assets.toml"
    assert f'source = "yahoo"  # {file}' in said
    assert f'data_dir = "{folder / "data" / "yahoo"}"  # {file}' in said
    assert "horizon = 7  # default" in said
    assert [path.name for path in folder.iterdir()] == ["stock_assets.toml"]  # nothing half written stays


def test_a_wrong_answer_writes_nothing(call: Call, folder: Path):
    arguments = ("--source", "snapshot", "--prices", "nowhere.parquet", "--start", "2018-01-02", "--data-dir", "data")
    code, _, complaint = call("init", *arguments)
    assert code == 2
    assert one_line(complaint)
    assert "nowhere.parquet is no file or folder" in complaint
    assert not list(folder.iterdir())
    code, _, complaint = call(
        "init", "--source", "bloomberg", "--prices", "", "--start", "2018-01-02", "--data-dir", ""
    )
    assert code == 2
    assert "bloomberg" in complaint


def test_a_settings_file_is_not_replaced_unasked(call: Call, folder: Path, monkeypatch):
    (folder / "stock_assets.toml").write_text("horizon = 5\n")
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    arguments = ("--source", "simulated", "--prices", "", "--start", "2018-01-02", "--data-dir", "")
    code, _, _ = call("init", *arguments)
    assert code == 1
    assert (folder / "stock_assets.toml").read_text() == "horizon = 5\n"


def test_config_names_the_file_and_the_environment_and_hides_secrets(call: Call, folder: Path, monkeypatch):
    webhook, registry = "https://hooks.example.com/T0KEN", "http://me:pa55@models.example:5000"
    (folder / "other.toml").write_text(f'alert_webhook = "{webhook}"\nmlflow = "{registry}"\nhorizon = 5\n')
    monkeypatch.setenv("STOCK_ASSETS_HORIZON", "9")
    code, said, _ = call("--config", "other.toml", "config")
    assert code == 0
    assert "T0KEN" not in said
    assert "pa55" not in said
    assert f"alert_webhook = (hidden)  # {folder / 'other.toml'}" in said
    assert "horizon = 9  # STOCK_ASSETS_HORIZON" in said
    assert len([line for line in said.splitlines() if " # " in line]) == len(Settings.model_fields)


def test_a_query_reads_the_market_of_the_settings_file(call: Call, folder: Path):
    (folder / "stock_assets.toml").write_text('source = "yahoo"\ndata_dir = "prices"\n')
    code, _, complaint = call("query", "select 1")
    assert code == 2
    assert f"no store at {folder / 'prices' / 'stock_assets.duckdb'} yet" in complaint


def test_an_extension_that_cannot_be_imported_is_one_line(call: Call, monkeypatch):
    monkeypatch.setenv("STOCK_ASSETS_EXTENSIONS", "no_such_module")
    code, _, complaint = call("query", "select 1")
    assert code == 2
    assert one_line(complaint)
    assert "the extension no_such_module cannot be imported (ModuleNotFoundError" in complaint


def test_what_a_command_writes_is_its_users_alone(call):
    before = os.umask(0o022)
    try:
        assert call("config")[0] == 0
        assert os.umask(0o022) == 0o077
    finally:
        os.umask(before)


#: Every command that reads what is stored.
READS = (
    *(("query", "select 1"), ("models",), ("rollback", "rnn"), ("run", "--port", "39999")),
    *(("query", "select 1", "--as-of", "2026-01-01"), ("verify",)),
)


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("arguments", READS, ids=" ".join)
def test_a_newer_store_is_refused_by_every_command(call: Call, data_dir: Path, arguments: tuple[str, ...]):
    with duckdb.connect(data_dir / "stock_assets.duckdb") as connection:
        connection.execute("INSERT INTO main.schema_version VALUES (99)")
    migrations._CURRENT.clear()
    code, said, complaint = call(*arguments)
    assert code == 2
    assert f"has schema version 99, and this stock_assets reads up to {SCHEMA_VERSION}" in said + complaint
    assert one_line(complaint)


@pytest.mark.parametrize("arguments", [*READS, ("backup", "elsewhere")], ids=" ".join)
def test_a_damaged_store_is_one_line_of_every_command(
    call: Call, data_dir: Path, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
):
    (data_dir / "stock_assets.duckdb").write_bytes(b"no store" * 1000)
    monkeypatch.chdir(data_dir.parent)
    code, said, complaint = call(*arguments)
    assert code == 2
    assert "stock_assets.duckdb cannot be read: " in said + complaint
    assert "stock-assets restore DIR" in said + complaint
    assert one_line(complaint)


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("name", ["history/runs.db", "history/runs/index.db", "schedules/schedules.db"])
def test_a_damaged_memory_of_dagster_is_one_line(call: Call, data_dir: Path, name: str):
    file = data_dir / "dagster" / name
    file.parent.mkdir(parents=True)
    file.write_bytes(b"no database" * 1000)
    (data_dir / "dagster" / "history").mkdir(exist_ok=True)
    code, _, complaint = call("run", "--port", "39999")
    assert code == 2
    assert one_line(complaint)
    assert f"{file} is damaged: file is not a database; restore it from a backup: stock-assets restore DIR" in complaint


@pytest.mark.usefixtures("store")
def test_backup_verify_and_restore_from_the_shell(call: Call, data_dir: Path, tmp_path_factory: pytest.TempPathFactory):
    backups = tmp_path_factory.mktemp("backups")
    code, said, complaint = call("backup", str(backups), "--keep", "2")
    assert (code, complaint) == (0, "")
    assert " rows in " in said
    assert call("verify", str(backups))[0] == 0
    assert call("verify")[1] == f"{data_dir} is sound\n"
    code, _, complaint = call("restore", str(backups))
    assert (code, one_line(complaint)) == (2, True)
    assert f"{data_dir} is not empty" in complaint
    code, said, complaint = call("restore", str(backups), "--to", str(backups / "new"))
    assert (code, complaint) == (0, "")
    assert call("verify", str(backups / "new"))[1] == f"{backups / 'new'} is sound\n"
    code, said, complaint = call("backup")
    assert (code, one_line(complaint)) == (2, True)
    assert "expected stock-assets backup DIR, or the setting backup_dir" in complaint


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_disk_that_refuses_is_one_line(call: Call, data_dir: Path, number: int, monkeypatch: pytest.MonkeyPatch):
    file = data_dir / "dagster" / "dagster-dev.log"

    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), str(file))

    monkeypatch.setattr("stock_assets.cli.serve.serve", refuse)
    code, _, complaint = call("run")
    assert code == 2
    assert one_line(complaint)
    assert f"{file} cannot be read or written: {os.strerror(number)}; " in complaint


def test_a_fault_of_our_own_keeps_its_traceback(call: Call, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object, **__: object) -> None:
        raise OSError("no file and no disk")

    monkeypatch.setattr("stock_assets.cli.serve.serve", fail)
    with pytest.raises(OSError, match="no file and no disk"):
        call("run")


def test_a_token_is_shown_once_and_kept_as_a_digest(call: Call, data_dir: Path, monkeypatch: pytest.MonkeyPatch):
    code, said, complaint = call("token", "desk", "--scopes", "read,predict")
    file = data_dir / "api_tokens"
    assert code == 0
    assert said.strip() not in file.read_text()
    assert f"export STOCK_ASSETS_API_TOKENS={file}" in complaint
    monkeypatch.setenv("STOCK_ASSETS_API_TOKENS", str(file))
    assert "export" not in call("token", "reports")[2]
    assert [line.split()[::2] for line in file.read_text().splitlines()] == [
        ["desk", "read,predict"],
        ["reports", "read"],
    ]
    for arguments in (("token", "desk"), ("token", "a b"), ("token", "x", "--scopes", "write")):
        code, said, complaint = call(*arguments)
        assert (code, said) == (2, "")
        assert len(complaint.strip().splitlines()) == 1


#: The command line, with a Ctrl-C the moment it imports something.
PRESSED = """
import os, signal, sys
class Pressing:
    def find_spec(self, name, *_):
        if name == "stock_assets.storage.registry":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Pressing())
sys.argv = ["stock-assets", "models"]
from stock_assets.cli.main import main
main()
"""


def test_a_ctrl_c_is_one_line_from_the_first_import_on():
    ended = subprocess.run([sys.executable, "-c", PRESSED], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "stock-assets: interrupted\n")
