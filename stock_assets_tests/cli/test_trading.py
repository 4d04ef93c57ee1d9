"""stock-assets trading: what a person sees and does of the account, from a shell."""

from datetime import timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from stock_assets.cli import trading
from stock_assets.cli.commands import app
from stock_assets.cli.results import FEWEST, Result, result_lines, result_of
from stock_assets.storage.warehouse import Warehouse
from stock_assets.trading.materialize.orders import trade_evening
from stock_assets_tests.tables import rows_of
from stock_assets_tests.trading.paper_market import (
    START,
    Hands,
    desk_of,
    evening_of,
    fill,
    no_pause,
    predict,
    sessions_of,
    settings_of,
)


@pytest.fixture(scope="module")
def traded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder after the first evening of an account."""
    folder, clock = tmp_path_factory.mktemp("traded"), Hands()
    settings = settings_of(folder)
    store = Warehouse(settings.database)
    fill(store, settings, 2)
    (session, _) = sessions_of(settings, 2)
    clock.now = evening_of(session)
    predict(store, session)
    trade_evening(desk_of(store, settings, clock), session, pause=no_pause)
    return folder


@pytest.fixture
def shell(traded: Path, monkeypatch: pytest.MonkeyPatch):
    """Runs a command on that account, an hour later."""
    names = {"DATA_DIR": str(traded), "START": str(START), "FIRST_MODEL_YEAR": "2023", "MLFLOW": "off"}
    for name, value in {**names, "CONTEXT": "off"}.items():
        monkeypatch.setenv(f"STOCK_ASSETS_{name}", value)
    settings = settings_of(traded)
    now = evening_of(sessions_of(settings, 1)[0]) + timedelta(hours=1)
    monkeypatch.setattr(trading, "utc_now", lambda: now)

    def run(*arguments: str):
        return CliRunner().invoke(app, ["trading", *arguments])

    return run


def test_status_and_the_kill_switch(shell):
    shown = shell("status")
    assert shown.exit_code == 0, shown.output
    assert "long_only at simulated, account PA-long_only" in shown.output
    assert "to the back-test +0.00, unexplained +0.00" in shown.output
    assert "30 of 30 gates passed; the kill switch is off" in shown.output
    assert "accepted" in shown.output
    assert "order(s) are cancelled" in shell("halt", "--by", "ada").output
    halted = shell("status")
    assert halted.exit_code == 1
    assert "the kill switch is ON" in halted.output
    assert "! halted by ada" in halted.output
    refused = shell("resume", "--by", "rule: x")
    assert "no rule clears the kill switch" in str(refused.exception)


def test_reconciling_and_a_break_that_is_none(shell):
    done = shell("reconcile")
    assert done.exit_code == 0, done.output
    assert "+0.00 to the back-test, of which +0.00 are unexplained" in done.output
    assert "no break of cash is open" in str(shell("accept-break", "cash").exception)


def test_the_summary_shows_the_net_result_beside_the_market(tmp_path: Path):
    import polars as pl

    store = Warehouse(tmp_path / "s.duckdb")
    assert result_of(store, "long_only") is None
    days = pl.date_range(START, START + timedelta(days=FEWEST), eager=True)
    rows = pl.DataFrame({"session": days, "net_return": 0.001, "market": 0.0005}).with_columns(book=pl.lit("long_only"))
    store.append("equity", rows_of("equity", rows.with_columns(pl.lit("long_only").alias("book"))))
    result = result_of(store, "long_only")
    assert result is not None
    assert (result.sessions, round(result.net, 4), round(result.market or 0, 4)) == (FEWEST, 0.252, 0.126)
    assert result_lines(result)[-1] == "better than SPY"
    worse = Result("a_book_of_a_long_name", 2000, -1.0, (-1.2, -0.8), 10.0, (-12.0, -10.0), 123456789.0)
    lines = result_lines(worse)
    assert "WORSE than SPY" in lines
    assert lines[-1] == "paper account 123,456,789"
    assert all(len(line) <= 40 for line in lines)
    assert result_lines(Result("b", 20, 0.1, None, None, None, None))[-1] == "no fund of the market to compare with"
