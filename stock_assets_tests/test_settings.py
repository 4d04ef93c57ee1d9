import os
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

from stock_assets.errors import SettingsError
from stock_assets.extensions import load_extensions
from stock_assets.settings import PROJECT_DIR, Settings, read_origins, read_settings
from stock_assets.settings_file import environment_for_child


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch):
    for field in Settings.model_fields:
        monkeypatch.delenv(f"STOCK_ASSETS_{field.upper()}", raising=False)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, where a settings file is looked for."""
    monkeypatch.delenv("STOCK_ASSETS_CONFIG")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_default_is_the_simulated_market():
    config = read_settings()
    assert (config.source, config.start, config.end, config.model_start_year) == (
        "simulated",
        date(2023, 1, 3),
        None,
        2025,
    )


def test_each_source_has_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("STOCK_ASSETS_SNAPSHOT", str(tmp_path))
    monkeypatch.setenv("STOCK_ASSETS_SOURCE", "snapshot")
    assert read_settings().data_dir.name == "snapshot"
    assert read_settings(source="simulated").data_dir.name == "simulated"


@pytest.mark.parametrize(
    ("variable", "value", "named"),
    [
        ("SOURCE", "Bloom berg", "expected the name of the source that prices come from"),
        ("START", "last year", "expected the first session, as YYYY-MM-DD"),
        ("HORIZON", "0", "expected sessions a label looks ahead"),
        ("BUY_THRESHOLD", "2.7", "expected the return, as a fraction"),
        ("TICKERS", " , ", "expected tickers separated by commas"),
        ("FIRST_MODEL_YEAR", "soon", "expected the first year that a model serves"),
        ("TIME_ZONE", "Moon/Base", "expected the zone of a snapshot's times that name none"),
        ("DATE_FORMAT", "%m/%d", "it has no year); expected how a snapshot writes dates and times"),
        ("DATE_FORMAT", "DD/MM/YYYY", "it has no year); expected how a snapshot writes dates and times"),
        ("MLFLOW", "", "expected off, or a tracking URI of MLflow"),
        ("MLFLOW", "on", "expected off, or a tracking URI of MLflow"),
        ("MLFLOW", "sqlite:///", "expected off, or a tracking URI of MLflow"),
        ("MLFLOW", "http://", "expected off, or a tracking URI of MLflow"),
        ("MLFLOW", "ftp://host", "expected off, or a tracking URI of MLflow"),
        ("DATA_DIR", "what?", "expected the folder of the DuckDB file"),
        ("AFTER_CLOSE_MINUTES", "721", "expected minutes after the close of a session"),
    ],
)
def test_a_wrong_value_is_one_line_with_variable_value_and_expectation(
    variable: str, value: str, named: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(f"STOCK_ASSETS_{variable}", value)
    with pytest.raises(SettingsError) as caught:
        read_settings()
    message = str(caught.value)
    assert f"STOCK_ASSETS_{variable}={value!r}" in message
    assert named in message
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"SOURCE": "snapshot"}, "STOCK_ASSETS_SNAPSHOT is not set"),
        (
            {"START": "2019-12-31", "END": "2010-01-04"},
            "STOCK_ASSETS_END=2010-01-04 lies before STOCK_ASSETS_START=2019-12-31",
        ),
        ({"FIRST_MODEL_YEAR": "2022"}, "STOCK_ASSETS_FIRST_MODEL_YEAR=2022"),
        (
            {"FIRST_MODEL_YEAR": "2024", "END": "2023-12-31"},
            "FIRST_MODEL_YEAR=2024; expected a year up to STOCK_ASSETS_END=2023",
        ),
        (
            {"END": "2023-12-31"},
            "STOCK_ASSETS_START=2023-01-03 and STOCK_ASSETS_END=2023-12-31 lie in one year; expected two",
        ),
        ({"SAUCE": "yahoo"}, "STOCK_ASSETS_SAUCE is no setting"),
    ],
)
def test_settings_that_do_not_fit_together(values: dict[str, str], named: str, monkeypatch: pytest.MonkeyPatch):
    for name, value in values.items():
        monkeypatch.setenv(f"STOCK_ASSETS_{name}", value)
    with pytest.raises(SettingsError, match=named):
        read_settings()


def test_the_address_of_dagsters_database_is_left_to_dagster(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("STOCK_ASSETS_DAGSTER", "postgresql+psycopg2://user:password@host/dagster")
    assert read_settings().source == "simulated"


@pytest.mark.parametrize(
    "content",
    [
        b"AAPL\nBRK-B\n",
        b"\xef\xbb\xbfAAPL\r\nBRK-B\r\n",  # a byte order mark
        "Symbol\nAAPL\nBRK-B".encode("utf-16"),
        b"# my tickers\nticker,name\nAAPL,Apple\n\nBRK-B,Berkshire  # since 1996\n",
        b'"Ticker"\n"AAPL"\n"BRK-B"\n',
    ],
)
def test_a_file_of_tickers_as_people_have_it(content: bytes, tmp_path: Path):
    (tmp_path / "tickers.txt").write_bytes(content)
    assert read_settings(tickers=str(tmp_path / "tickers.txt")).tickers == ("AAPL", "BRK-B")


def test_tickers_come_from_a_list_or_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("STOCK_ASSETS_TICKERS", "aapl, MSFT,AAPL")
    assert read_settings().tickers == ("AAPL", "MSFT")
    (tmp_path / "tickers.txt").write_text("brk-b\nmsft\n")
    monkeypatch.setenv("STOCK_ASSETS_TICKERS", str(tmp_path / "tickers.txt"))
    assert read_settings().tickers == ("BRK-B", "MSFT")


@pytest.mark.parametrize(
    "content",
    [
        "brk-b\nmsft\n".encode("utf-8-sig"),
        "brk-b\nmsft\n".encode("utf-16"),
        b"# my shares\n\nBRK-B  # Berkshire\r\nMSFT\r\n",
        b"Ticker\nBRK-B\nMSFT\n",
        b'Name,Symbol,Sector\n"Berkshire, B",BRK-B,Financials\nMicrosoft,MSFT,Technology\n',
        b"Symbol;Name\nBRK-B;Berkshire\nMSFT;Microsoft\n",
        b"BRK-B, MSFT\n",
    ],
    ids=["mark", "UTF-16", "comments", "header", "table", "semicolons", "one line"],
)
def test_a_file_of_tickers_is_read_as_people_write_it(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "tickers.txt").write_bytes(content)
    monkeypatch.setenv("STOCK_ASSETS_TICKERS", str(tmp_path / "tickers.txt"))
    assert read_settings().tickers == ("BRK-B", "MSFT")


def test_a_file_of_tickers_that_is_no_text_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "tickers.txt").write_bytes(b"\x89PNG\xff\xfe\x00")
    monkeypatch.setenv("STOCK_ASSETS_TICKERS", str(tmp_path / "tickers.txt"))
    with pytest.raises(SettingsError, match=r"tickers\.txt is neither UTF-8 nor UTF-16"):
        read_settings()


def test_the_registry_is_a_file_beside_the_store_unless_set_or_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert read_settings(data_dir=tmp_path).mlflow_uri == f"sqlite:///{tmp_path}/mlflow/mlflow.db"
    assert read_settings(data_dir=tmp_path).mlflow_artifacts == tmp_path / "mlflow" / "artifacts"
    monkeypatch.setenv("STOCK_ASSETS_MLFLOW", "http://models.example:5000")
    assert read_settings().mlflow_uri == "http://models.example:5000"
    monkeypatch.setenv("STOCK_ASSETS_MLFLOW", "off")
    assert read_settings().mlflow_uri is None


# ---------------------------------------------------------------- the settings file


def test_the_environment_stands_over_the_file_and_a_call_over_both(folder: Path, monkeypatch: pytest.MonkeyPatch):
    (folder / "stock_assets.toml").write_text("horizon = 5\nseed = 5\nstart = 2018-01-02\nmembers_only = false\n")
    monkeypatch.setenv("STOCK_ASSETS_HORIZON", "9")
    monkeypatch.setenv("STOCK_ASSETS_SEED", "9")
    config, given = read_origins(seed=11)
    assert (config.start, config.members_only, config.horizon, config.seed) == (date(2018, 1, 2), False, 9, 11)
    origins = {name: setting.origin for name, setting in given.items()}
    file = str(folder / "stock_assets.toml")
    assert origins == {"start": file, "members_only": file, "horizon": "STOCK_ASSETS_HORIZON", "seed": "call"}


def test_paths_begin_at_the_file_or_at_the_current_folder(folder: Path, monkeypatch: pytest.MonkeyPatch):
    (folder / "elsewhere").mkdir()
    for name in ("tickers.txt", "members.csv"):
        (folder / "elsewhere" / name).write_text("msft\n")
    (folder / "elsewhere" / "my.toml").write_text(
        'source = "snapshot"\nsnapshot = "prices"\ndata_dir = "data/tokyo"\ntickers = "tickers.txt"\n'
        'membership = "members.csv"\nmlflow = "sqlite:///models/mlflow.db"\n'
    )
    monkeypatch.setenv("STOCK_ASSETS_CONFIG", "elsewhere/my.toml")
    config, file_folder = read_settings(), folder / "elsewhere"
    assert (config.snapshot, config.data_dir) == (file_folder / "prices", file_folder / "data" / "tokyo")
    assert (config.tickers, config.membership) == (("MSFT",), str(file_folder / "members.csv"))
    assert config.mlflow_uri == f"sqlite:///{file_folder}/models/mlflow.db"
    monkeypatch.setenv("STOCK_ASSETS_DATA_DIR", "data/osaka")
    assert read_settings().data_dir == folder / "data" / "osaka"
    assert read_settings().dagster_home.is_absolute()
    assert read_settings(data_dir="data/kobe").data_dir == folder / "data" / "kobe"


def test_lists_of_the_file_are_lists_of_the_settings(folder: Path):
    lines = ('tickers = ["aapl", "msft", "AAPL"]', "context = []", 'extensions = ["math"]')
    (folder / "stock_assets.toml").write_text("\n".join(lines))
    config = read_settings()
    assert (config.tickers, config.context, config.extensions) == (("AAPL", "MSFT"), (), ("math",))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("saurce = 'yahoo'", r"stock_assets\.toml: saurce is no setting; expected one of source, snapshot, "),
        ("source = 'Bloomberg'", r"stock_assets\.toml: source = 'Bloomberg' is wrong \(.*\); expected the name of the"),
        ("source = yahoo", r"stock_assets\.toml cannot be read as TOML: "),
        ("[source]\nname = 'yahoo'", r"stock_assets\.toml: \[source\] is a table; expected no tables"),
        ("start = 2018-01-02\nend = 2017-01-02", r"lies before .*the settings file is .*stock_assets\.toml"),
    ],
)
def test_a_wrong_file_is_one_line_with_file_and_key(folder: Path, text: str, said: str):
    (folder / "stock_assets.toml").write_text(text)
    with pytest.raises(SettingsError, match=said) as caught:
        read_settings()
    assert str(folder) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_file_that_is_named_must_be_there(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("STOCK_ASSETS_CONFIG", "nowhere.toml")
    with pytest.raises(SettingsError, match=r"STOCK_ASSETS_CONFIG=nowhere\.toml is no file"):
        read_settings()
    (folder / "stock_assets.toml").write_text("horizon = 5\n")
    monkeypatch.setenv("STOCK_ASSETS_CONFIG", "off")
    assert read_settings().horizon == 7


def test_a_name_that_is_no_setting_is_refused_in_a_call():
    with pytest.raises(SettingsError, match="saurce is no setting; expected one of source"):
        read_settings(saurce="yahoo")


def test_a_process_in_another_folder_reads_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch):
    (folder / "stock_assets.toml").write_text('source = "snapshot"\nsnapshot = "prices"\n')
    monkeypatch.setenv("STOCK_ASSETS_DATA_DIR", "data/tokyo")
    here = read_settings()
    code = "from stock_assets.settings import settings; print(settings().snapshot, settings().data_dir)"
    elsewhere = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment_for_child(PROJECT_DIR), "PYTHONPATH": str(PROJECT_DIR)},
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
    )
    assert elsewhere.stdout.split() == [str(here.snapshot), str(here.data_dir)]
    assert here.data_dir == folder / "data" / "tokyo"


# ---------------------------------------------------------------- extensions


def test_extensions_beside_the_settings_file_are_imported_once(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    (folder / "my_toy_extension.py").write_text("loaded = []\n")
    (folder / "stock_assets.toml").write_text('extensions = "my_toy_extension"\n')
    try:
        load_extensions(read_settings())
        first = sys.modules["my_toy_extension"]
        load_extensions(read_settings())
        assert sys.modules["my_toy_extension"] is first
    finally:
        sys.modules.pop("my_toy_extension", None)


def test_an_extension_that_fails_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(folder)
    (folder / "my_broken_extension.py").write_text("1 / 0\n")
    with pytest.raises(SettingsError, match=r"my_broken_extension cannot be imported \(ZeroDivisionError"):
        load_extensions(read_settings(extensions="my_broken_extension"))


def test_a_worker_has_the_extensions_before_it_runs(folder: Path):
    (folder / "my_toy_extension.py").write_text("print('imported')\n")
    (folder / "my_worker.py").write_text("import sys\nprint('worked', sys.argv[1:], __name__)\n")
    worker = subprocess.run(
        [sys.executable, "-m", "stock_assets.extensions", "my_worker", "3"],
        env={
            **os.environ,
            "STOCK_ASSETS_EXTENSIONS": "my_toy_extension",
            "PYTHONPATH": os.pathsep.join((str(PROJECT_DIR), str(folder))),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert worker.stdout.splitlines() == ["imported", "worked ['3'] __main__"]


@pytest.mark.parametrize("variable", ["ALERT_WEBHOOK", "ALERT_URLS", "HEARTBEAT_URL", "MLFLOW"])
@pytest.mark.parametrize("address", ["hooks.example.com/hush-hush", "http//me:hush@host", "hooks.example.com?key=hush"])
def test_a_wrong_secret_is_never_shown(variable: str, address: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(f"STOCK_ASSETS_{variable}", address)
    with pytest.raises(SettingsError, match=rf"STOCK_ASSETS_{variable}=\*\*\* is wrong .*; expected") as caught:
        read_settings()
    assert "hush" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_representation_of_the_settings_shows_no_address():
    config = read_settings(
        alert_webhook="https://hooks.example.com/hush",
        alert_urls="slack://hush",
        heartbeat_url="https://hc.example.com/hush",
        mlflow="http://me:hush@models.example:5000",
    )
    assert "hush" not in f"{config!r} {config}"


def test_alert_addresses_are_separated_by_commas_that_an_address_may_hold_itself(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(
        "STOCK_ASSETS_ALERT_URLS", "slack://a/b/c, mailto://user:word@example.com?to=x@y.z,v@w.z,json://h"
    )
    config = read_settings()
    assert [url.get_secret_value() for url in config.alert_urls] == [
        "slack://a/b/c",
        "mailto://user:word@example.com?to=x@y.z,v@w.z",
        "json://h",
    ]
    assert "word" not in repr(config)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "stocks.example"])
def test_a_web_server_that_others_reach_wants_a_token(host: str):
    with pytest.raises(SettingsError, match=f"UI_HOST={host}, where others reach .*; expected STOCK_ASSETS_UI_TOKEN"):
        read_settings(ui_host=host)
    assert read_settings(ui_host=host, ui_token="correct horse").ui_host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.8.8.8"])
def test_a_web_server_on_loopback_wants_none(host: str):
    assert read_settings(ui_host=host).ui_token is None


@pytest.mark.parametrize("token", ["", "short", " leading", "trailing ", "two\nlines", "nul\0inside", "schlüssel"])
def test_a_token_that_nobody_could_send_is_refused_without_being_shown(token: str):
    with pytest.raises(
        SettingsError, match=r"UI_TOKEN=\*\*\* is wrong .*expected 8 printable ASCII characters or more"
    ):
        read_settings(ui_token=token)


def test_names_of_the_web_server_are_a_list_of_hosts():
    assert read_settings(ui_names="stocks.example, localhost:8080,[2001:db8::1]").ui_names == (
        "stocks.example",
        "localhost:8080",
        "[2001:db8::1]",
    )
    for wrong in ("https://stocks.example", "stocks.example/ui", "*", "a b"):
        with pytest.raises(SettingsError, match=r"UI_NAMES=.* is no name\)"):
            read_settings(ui_names=wrong)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"broker": "alpaca"}, "STOCK_ASSETS_BROKER=alpaca; expected STOCK_ASSETS_ALPACA_KEY"),
        ({"broker": "alpaca", "alpaca_key": "key"}, "STOCK_ASSETS_ALPACA_SECRET as well"),
        ({"trading": "live"}, "STOCK_ASSETS_TRADING=live with STOCK_ASSETS_BROKER=simulated"),
        (
            {"trading": "live", "broker": "alpaca", "alpaca_key": "key", "alpaca_secret": "hidden"},
            "STOCK_ASSETS_ACCOUNT_NUMBER with the number",
        ),
        ({"broker": "robinhood"}, "expected simulated, alpaca or off"),
        ({"paper_book": "My book"}, "expected the book that the account at the broker follows"),
        ({"account_number": "x"}, "expected the number of the account at the broker"),
    ],
)
def test_settings_of_trading_that_do_not_fit_are_one_line(values: dict[str, object], named: str):
    with pytest.raises(SettingsError) as raised:
        read_settings(**values)
    assert named in str(raised.value)
    assert "hidden" not in str(raised.value)


def test_live_trading_needs_the_account_number_spelled_out():
    account = {"broker": "alpaca", "alpaca_key": "key", "alpaca_secret": "hidden", "account_number": "PA12345"}
    config = read_settings(trading="live", **account)
    assert config.trading == "live"
    assert "hidden" not in repr(config)
