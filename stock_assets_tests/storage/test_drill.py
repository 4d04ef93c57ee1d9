"""A data folder is backed up while it is written, lost, put back elsewhere, and goes on there."""

import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path

import pytest
from polars.testing import assert_frame_equal
from rich.console import Console

from stock_assets.cli import backup as commands
from stock_assets.errors import StockAssetsError
from stock_assets.storage.backup import make_backup
from stock_assets.storage.registry import open_registry
from stock_assets.storage.restore import restore
from stock_assets.storage.verification import problems_of
from stock_assets.tables import TABLES
from stock_assets_tests.storage.markets import market_in

pytestmark = pytest.mark.xdist_group("market")

NOW = datetime(2019, 1, 16, 23, tzinfo=UTC)

#: A process that writes to the store, to Dagster's memory and to a model's folder until it is killed.
WRITER = """
import sys, itertools, pathlib
from datetime import UTC, datetime
import dagster as dg, polars as pl
from stock_assets.lifecycle.tables import ALERTS
from stock_assets.storage.warehouse import Warehouse
folder = pathlib.Path(sys.argv[1])
store = Warehouse(folder / "stock_assets.duckdb")
with dg.DagsterInstance.from_config(str(folder / "dagster")) as instance:
    for number in itertools.count():
        row = dict.fromkeys(ALERTS.names) | {"key": f"writer {number}", "first_at": datetime.now(UTC)}
        store.append("alerts", pl.DataFrame([row], ALERTS.schema))
        instance.report_runless_asset_event(dg.AssetMaterialization("written", metadata={"number": number}))
        print(number, flush=True)
"""


def test_a_restored_folder_goes_on_elsewhere_with_the_same_rows(market: Path, tmp_path: Path):
    first, second = tmp_path / "first", tmp_path / "elsewhere" / "second"
    shutil.copytree(market, first)  # a moved folder, too: its registry names the other one
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(first)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"DAGSTER_HOME": str(first / "dagster")},
    )
    assert writer.stdout
    try:
        for _ in range(3):
            assert writer.stdout.readline()
        backup = make_backup(first, tmp_path / "backups", keep=2, now=NOW)
        assert writer.poll() is None, "the writer was hindered"
    finally:
        writer.kill()
        writer.wait()
        writer.stdout.close()
    assert backup.manifest.rows["alerts"] >= 3
    assert backup.folder.stat().st_mode & 0o777 == 0o700
    with market_in(first) as original:
        original.evening(original.sessions[-1])
        expected = {name: original.store.read(name) for name in original.store.row_counts()}
    shutil.rmtree(first)

    restore(tmp_path / "backups", second, now=NOW)
    assert list(problems_of(second)) == []
    assert list(commands.lost_rows(second)) == []
    with market_in(second) as restored:
        assert {
            **restored.store.row_counts(),
            "stored_partitions": backup.manifest.rows["stored_partitions"],
        } == backup.manifest.rows
        restored.evening(restored.sessions[-1])
        for name, rows in expected.items():
            if name != "alerts":
                made = restored.store.read(name)
                # when a row was written
                timed = [column for column in made.columns if column.endswith("_at") or column == "entry"]
                assert_frame_equal(made.drop(timed), rows.drop(timed), check_row_order=False, abs_tol=1e-12)
    assert list(problems_of(second)) == []


def test_a_moved_folder_keeps_its_models_and_no_path_of_the_old_place(market: Path, tmp_path: Path):
    moved = tmp_path / "moved"
    shutil.copytree(market, moved)
    with market_in(moved) as here:
        registry = open_registry(here.settings.mlflow_uri, here.settings.mlflow_artifacts)
        assert registry.aliases()["rnn"]
        here.evening(here.sessions[-1])
    # Dagster's history says where it was; nothing is read from there
    for file in moved.rglob("*"):
        if file.is_file() and "dagster" not in file.parts:
            assert str(market).encode() not in file.read_bytes(), file
    assert list(problems_of(moved)) == []


@pytest.mark.parametrize("table", ["predictions", "labels", "indicators"])
def test_verify_names_the_sessions_that_dagster_remembers_and_the_store_lost(market: Path, tmp_path: Path, table: str):
    moved = tmp_path / "moved"
    shutil.copytree(market, moved)
    said = Console(file=StringIO(), width=400)
    commands.verify(moved, said)
    with market_in(moved) as here:
        sessions = sorted(here.store.sessions(table))[-5:]
        with here.store.connect(read_only=False) as connection:
            connection.execute(f"DELETE FROM {TABLES[table].room}.{table} WHERE session >= ?", [sessions[0]])
    with pytest.raises(StockAssetsError, match="2 problem"):
        commands.verify(moved, said)
    assert f"{table} holds " in said.file.getvalue()
    assert (
        f"{table}: Dagster remembers rows of 5 {TABLES[table].partitions}(s), {sessions[0]} to {sessions[-1]}"
        in said.file.getvalue()
    )


def test_verify_misses_a_saved_model(market: Path, tmp_path: Path):
    moved = tmp_path / "moved"
    shutil.copytree(market, moved)
    gone = next((moved / "artifacts" / "trained_rnn").rglob("model.json")).parent
    shutil.rmtree(gone)
    (problem,) = problems_of(moved)
    assert gone.name in problem
