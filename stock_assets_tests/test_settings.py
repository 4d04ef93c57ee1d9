from datetime import date
from pathlib import Path

import pytest

from stock_assets.errors import SettingsError
from stock_assets.settings import Settings, read_settings


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch):
    for field in Settings.model_fields:
        monkeypatch.delenv(f"STOCK_ASSETS_{field.upper()}", raising=False)


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
        ("MLFLOW", "", "expected off, or a tracking URI of MLflow"),
        ("MLFLOW", "on", "expected off, or a tracking URI of MLflow"),
        ("MLFLOW", "sqlite:///", "expected off, or a tracking URI of MLflow"),
        ("MLFLOW", "http://", "expected off, or a tracking URI of MLflow"),
        ("MLFLOW", "ftp://host/models", "expected off, or a tracking URI of MLflow"),
        ("AFTER_CLOSE_MINUTES", "721", "expected minutes after the close of a session"),
        ("ALERT_WEBHOOK", "hooks.example.com", "expected the http(s) address"),
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
        ({"END": "2023-12-31"}, "FIRST_MODEL_YEAR=2023; expected a year after STOCK_ASSETS_START=2023-01-03"),
        ({"SAUCE": "yahoo"}, "STOCK_ASSETS_SAUCE is no setting"),
    ],
)
def test_settings_that_do_not_fit_together(values: dict[str, str], named: str, monkeypatch: pytest.MonkeyPatch):
    for name, value in values.items():
        monkeypatch.setenv(f"STOCK_ASSETS_{name}", value)
    with pytest.raises(SettingsError, match=named):
        read_settings()


def test_tickers_come_from_a_list_or_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("STOCK_ASSETS_TICKERS", "aapl, MSFT,AAPL")
    assert read_settings().tickers == ("AAPL", "MSFT")
    (tmp_path / "tickers.txt").write_text("brk-b\nmsft\n")
    monkeypatch.setenv("STOCK_ASSETS_TICKERS", str(tmp_path / "tickers.txt"))
    assert read_settings().tickers == ("BRK-B", "MSFT")


def test_the_registry_is_a_file_beside_the_store_unless_set_or_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert read_settings(data_dir=tmp_path).mlflow_uri == f"sqlite:///{tmp_path}/mlflow/mlflow.db"
    assert read_settings(data_dir=tmp_path).mlflow_artifacts == tmp_path / "mlflow" / "artifacts"
    monkeypatch.setenv("STOCK_ASSETS_MLFLOW", "http://models.example:5000")
    assert read_settings().mlflow_uri == "http://models.example:5000"
    monkeypatch.setenv("STOCK_ASSETS_MLFLOW", "off")
    assert read_settings().mlflow_uri is None
