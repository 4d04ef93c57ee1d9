"""A table, and the step that makes it, from outside: one module, and the setting `extensions`."""

import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest

import stock_assets
from stock_assets.platform import STEPS
from stock_assets.tables import TABLES

EXTENSION = """
import polars as pl

from stock_assets.platform import STEPS
from stock_assets.tables import KEY_COLUMNS, Column, Table, declare

MOONS = declare(
    Table(
        "toy_moons",
        "toys",
        "the age of the moon on a session",
        (*KEY_COLUMNS, Column("age", pl.Float64(), "days since the new moon of 2000-01-06", unit="days")),
        keys=("ticker", "session"),
        partitions="session",
    )
)


def make_moons(store, sessions):
    age = ((pl.col("session") - pl.date(2000, 1, 6)).dt.total_days() % 29.53).cast(pl.Float64)
    rows = pl.DataFrame({"session": list(sessions)}).with_columns(age=age, ticker=pl.lit("MOON"))
    store.replace_sessions(MOONS.name, sessions, rows)


STEPS[MOONS.name] = make_moons
"""


@pytest.fixture
def _extension(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "toy_moons_extension.py").write_text(EXTENSION)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("toy_moons_extension", None)
    TABLES.pop("toy_moons", None)
    STEPS.pop("toy_moons", None)


@pytest.mark.usefixtures("_extension")
def test_a_table_of_an_extension_is_made_stored_and_read(tmp_path: Path):
    p = stock_assets.open(tmp_path / "data", extensions="toy_moons_extension")
    p.materialize("toy_moons", "2023-01-03", "2023-01-06", now=datetime(2026, 1, 1, tzinfo=UTC))
    moons = p.table("toy_moons", start="2023-01-06")
    assert moons["session"].to_list() == [date(2023, 1, 6)]
    assert moons["age"].item() == pytest.approx(8401 % 29.53)
    assert p.query("select count(*) as days from toy_moons")["days"].item() == 4
    tables = p.tables().filter(pl.col("table") == "toy_moons")
    assert tables.select("room", "rows").row(0) == ("toys", 4)


def test_the_code_location_of_dagster_has_the_extension(tmp_path: Path):
    (tmp_path / "toy_moons_extension.py").write_text(EXTENSION)
    (tmp_path / "stock_assets.toml").write_text('extensions = ["toy_moons_extension"]\ndata_dir = "data"\n')
    code = "import stock_assets.definitions; from stock_assets.tables import TABLES; print('toy_moons' in TABLES)"
    loaded = subprocess.run(
        [sys.executable, "-c", code],
        env={"PATH": "/usr/bin:/bin", "STOCK_ASSETS_CONFIG": str(tmp_path / "stock_assets.toml"), **_python_path()},
        capture_output=True,
        text=True,
        check=True,
    )
    assert loaded.stdout.strip() == "True"


def _python_path() -> dict[str, str]:
    return {"PYTHONPATH": str(Path(stock_assets.__file__).parent.parent)}
