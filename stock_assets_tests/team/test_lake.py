"""The store as a lake: the tests of the file's store on it, and what only a lake has.

They need extensions of DuckDB, which `make test-lake` installs beside a DuckDB that has them.
"""

import itertools
import multiprocessing
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import duckdb
import polars as pl
import pytest
from rich.console import Console

from benchmarks.compare_stores import MOMENTS, compared
from stock_assets.cli.migrate import migrate
from stock_assets.errors import BadBarsError, LakeError, QueryError, SettingsError, StockAssetsError, StoreBusyError
from stock_assets.lakes import Lake
from stock_assets.lifecycle.materialize.backup import back_up
from stock_assets.settings import read_settings
from stock_assets.storage import lake as lakes
from stock_assets.storage.attached import literal
from stock_assets.storage.changes import Change
from stock_assets.storage.lake import EXTENSIONS, merge_files
from stock_assets.storage.restore import restore
from stock_assets.storage.store_copy import copy_store
from stock_assets.storage.warehouse import Warehouse
from stock_assets.tables import TABLES
from stock_assets_tests.storage.markets import market_in
from stock_assets_tests.storage.test_warehouse import (
    BARS,
    DAYS,
    rows,
    test_a_column_name_from_outside_is_never_sql,  # noqa: F401
    test_a_failed_write_leaves_what_was_there,  # noqa: F401
    test_a_new_column_is_null_in_older_rows,  # noqa: F401
    test_a_persons_query_is_read_only_and_reaches_no_other_file,  # noqa: F401
    test_absent_tables_and_sessions_are_named,  # noqa: F401
    test_read_selects_sessions_and_columns,  # noqa: F401
    test_replacing_touches_the_chosen_sessions_alone,  # noqa: F401
    test_replacing_twice_gives_the_same_rows,  # noqa: F401
    test_rows_outside_the_chosen_sessions_are_refused_and_nothing_changes,  # noqa: F401
)
from stock_assets_tests.team.postgres import Server
from stock_assets_tests.waiting import HANG_SECONDS

NUMBERS = itertools.count()
FORK = multiprocessing.get_context("spawn")


def _missing() -> str | None:
    """The extension that this DuckDB lacks."""
    with duckdb.connect(":memory:") as connection:
        for extension in EXTENSIONS:
            try:
                connection.execute(f"LOAD {extension}")
            except duckdb.Error:
                return extension
    return None


MISSING = _missing()
IN_BUCKET = pytest.mark.parametrize("warehouse", ["folder", "bucket"], indirect=True)


@pytest.fixture
def warehouse(request: pytest.FixtureRequest, tmp_path: Path, postgres: Server) -> Warehouse:
    """A new lake, with its files in a folder or, for a test of `IN_BUCKET`, in a bucket."""
    if MISSING and "REQUIRE_LAKE" not in os.environ:
        pytest.skip(f"DuckDB {duckdb.__version__} has no extension {MISSING} here: make test-lake installs one")
    in_bucket = getattr(request, "param", None) == "bucket"
    files = request.getfixturevalue("s3").bucket() if in_bucket else tmp_path / "lake"
    lake = Lake(postgres.database(f"lake_{os.getpid()}_{next(NUMBERS)}"), str(files))
    return Warehouse(tmp_path / "store.duckdb", wait=10, lake=lake)


@pytest.mark.skipif(MISSING is None, reason="every extension is there")
def test_a_missing_extension_is_one_line(tmp_path: Path, postgres: Server):
    lake = Lake(postgres.database(f"without_{os.getpid()}"), str(tmp_path))
    with pytest.raises(LakeError, match=rf"needs the extension {MISSING} of DuckDB .* once: python -c"):
        Warehouse(tmp_path / "store.duckdb", lake=lake).replace_sessions("test_bars", DAYS, rows(DAYS))


def _write_for_ever(warehouse: Warehouse, started) -> None:
    for value in itertools.count(1.0):
        warehouse.replace_sessions("test_bars", DAYS, rows(DAYS, value))
        started.set()


@pytest.fixture
def writer(warehouse: Warehouse) -> Iterator[multiprocessing.process.BaseProcess]:
    """A process that writes all sessions again and again."""
    started = FORK.Event()
    process = FORK.Process(target=_write_for_ever, args=(warehouse, started), daemon=True)
    process.start()
    assert started.wait(HANG_SECONDS)
    yield process
    process.kill()
    process.join()


def test_readers_of_other_processes_see_whole_sessions_while_one_writes(warehouse: Warehouse, writer):
    for _ in range(5):
        read = warehouse.read("test_bars")
        assert read.sort("session")["session"].to_list() == DAYS
        assert read["close"].n_unique() == 1
    assert writer.is_alive()


@IN_BUCKET
def test_a_killed_writer_gives_the_lock_back_and_leaves_whole_sessions(warehouse: Warehouse, writer):
    assert writer.pid
    os.kill(writer.pid, signal.SIGKILL)
    assert warehouse.read("test_bars")["close"].n_unique() == 1
    warehouse.replace_sessions("test_bars", DAYS, rows(DAYS, -1.0))
    assert warehouse.read("test_bars")["close"].to_list() == [-1.0] * len(DAYS)


def _hold(warehouse: Warehouse, ready, over) -> None:
    with warehouse.connect(read_only=False):
        ready.set()
        over.wait(HANG_SECONDS)


def test_one_process_writes_at_a_time_and_a_table_of_another_name_waits_too(warehouse: Warehouse):
    """Every write records its partitions in one table of all."""
    ready, over = FORK.Event(), FORK.Event()
    holder = FORK.Process(target=_hold, args=(warehouse, ready, over))
    holder.start()
    try:
        assert ready.wait(HANG_SECONDS)
        with pytest.raises(StoreBusyError, match=r"written by another process for more than 0\.2 s"):
            replace(warehouse, wait=0.2).append("test_notes", pl.DataFrame({"key": ["a"]}))
    finally:
        over.set()
        holder.join()
    warehouse.append("test_notes", pl.DataFrame({"key": ["a"]}))


@IN_BUCKET
def test_a_writer_whose_lock_was_cut_commits_nothing(warehouse: Warehouse, postgres: Server):
    """Another may have begun to write meanwhile."""
    warehouse.replace_sessions("test_bars", DAYS, rows(DAYS))
    key = lakes._WRITER & 0xFFFFFFFF  # pg_locks shows its halves
    cut = f"SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objid = {key}"

    def blocks() -> Iterator[pl.DataFrame]:
        yield rows(DAYS[:5], 2.0)
        assert postgres.execute(cut) == [(True,)]
        yield rows(DAYS[5:], 2.0)

    change = Change("test_bars", rows([]), pl.DataFrame({"session": DAYS}))
    with pytest.raises(LakeError, match="cannot be read or written"):
        warehouse.write_in_blocks(change, blocks())
    assert warehouse.read("test_bars")["close"].unique().to_list() == [1.0]
    warehouse.replace_sessions("test_bars", DAYS, rows(DAYS, 3.0))
    assert warehouse.read("test_bars")["close"].unique().to_list() == [3.0]


def test_a_catalog_that_was_started_anew_is_attached_anew(warehouse: Warehouse, postgres: Server):
    warehouse.replace_sessions("test_bars", DAYS, rows(DAYS))
    postgres.stop()
    with pytest.raises(LakeError, match=r"the lake lake_\d+_\d+ on 127.0.0.1 cannot be read or written") as refused:
        replace(warehouse, wait=0.1).replace_sessions("test_bars", DAYS, rows(DAYS, 2.0))
    assert "secret" not in str(refused.value)
    postgres.start()
    for attempt in range(3):
        try:
            warehouse.replace_sessions("test_bars", DAYS, rows(DAYS, 2.0))
            break
        except LakeError:  # a connection that died is noticed when it is used, and the next use makes a new one
            assert attempt < 2
    assert warehouse.read("test_bars")["close"].unique().to_list() == [2.0]


def test_two_rows_of_one_key_are_refused_and_nothing_is_written(warehouse: Warehouse):
    warehouse.replace_sessions("test_bars", DAYS[:3], rows(DAYS[:3]))
    with pytest.raises(BadBarsError, match="test_bars would hold 2 rows of session 2020-01-02; expected one"):
        warehouse.append("test_bars", rows(DAYS[1:5]))
    assert warehouse.read("test_bars").height == 3
    assert BARS.keys == ("session",)


@IN_BUCKET
def test_files_of_single_sessions_are_merged_and_the_rows_stay(warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch):
    for day in DAYS:
        warehouse.replace_sessions("test_bars", [day], rows([day]))
    before, stamp = warehouse.read("test_bars").sort("session"), warehouse.stamp()
    monkeypatch.setattr(lakes, "OLD", lakes.OLD * 0)
    with warehouse.connect(read_only=False) as connection:
        merge_files(connection)
        name = connection.execute("SELECT current_database()").fetchall()[0][0]
        listed = f"SELECT count(*) FROM ducklake_list_files('{name}', 'test_bars', schema => 'market')"
        assert connection.execute(listed).fetchall() == [(1,)]
    assert warehouse.stamp() != stamp
    assert warehouse.read("test_bars").sort("session").equals(before)


@IN_BUCKET
def test_a_persons_query_shows_no_password_and_reaches_no_catalog(warehouse: Warehouse):
    warehouse.replace_sessions("test_bars", DAYS, rows(DAYS))
    assert warehouse.query("SELECT count(*) AS n FROM market.test_bars").item() == len(DAYS)
    assert "secret" not in str(warehouse.query("SELECT * FROM duckdb_databases()"))
    with pytest.raises(QueryError):
        warehouse.query("SELECT * FROM duckdb_secrets()")


def test_a_password_with_quotes_and_blanks_reaches_the_catalog(warehouse: Warehouse, postgres: Server):
    assert warehouse.lake
    password, database = r"it's a \ secret", warehouse.lake.catalog.rpartition("/")[2]
    postgres.execute("CREATE ROLE quoted LOGIN SUPERUSER PASSWORD " + literal(password))
    catalog = f"postgresql+psycopg2://quoted:{quote(password)}@127.0.0.1:{postgres.port}/{database}"
    by_role = replace(warehouse, lake=replace(warehouse.lake, catalog=catalog))
    by_role.replace_sessions("test_bars", DAYS, rows(DAYS))
    assert warehouse.read("test_bars").height == len(DAYS)


def test_the_settings_name_a_lake(tmp_path: Path):
    address = "postgresql+psycopg2://me:hunter2@host/lake"
    config = read_settings(store=f"ducklake:{address}", data_dir=tmp_path)
    assert config.lake == Lake(address, str(tmp_path / "lake"))
    assert "hunter2" not in repr(config) + str(config.lake)
    assert config.database == tmp_path / "stock_assets.duckdb"
    for wrong in ("ducklake:postgres:password=hunter2", "ducklake:postgresql://me:hunter2@host/lake"):
        with pytest.raises(SettingsError, match=r"catalog|driver") as refused:
            read_settings(store=wrong, data_dir=tmp_path)
        assert "hunter2" not in str(refused.value)
    with pytest.raises(SettingsError, match="s3://bucket/prefix"):
        read_settings(store=f"ducklake:{address}", lake_files="ftp://host/a", data_dir=tmp_path)


@IN_BUCKET
def test_a_store_is_copied_to_a_lake_and_back(warehouse: Warehouse, tmp_path: Path):
    file, back = Warehouse(tmp_path / "file.duckdb"), Warehouse(tmp_path / "back.duckdb")
    closes = pl.Series("close", [float("nan"), None, *range(len(DAYS) - 2)], dtype=pl.Float64)
    file.replace_sessions("test_bars", DAYS, rows(DAYS).with_columns(closes))
    file.append("test_notes", pl.DataFrame({"key": ["a", None]}))
    for source, target in ((file, warehouse), (file, warehouse), (warehouse, back)):  # twice is as good as once
        assert copy_store(source, target)["market.test_bars"] == len(DAYS)
    for table in ("test_bars", "test_notes"):
        assert back.read(table).equals(file.read(table)), table
    back.replace_sessions("test_bars", DAYS[:1], rows(DAYS[:1], 5.0))
    with pytest.raises(StockAssetsError, match=r"holds .* expected an empty store, or the same tables"):
        copy_store(back, warehouse)
    assert warehouse.read("test_notes").equals(file.read("test_notes"))


def test_a_lake_is_migrated_to_and_back_and_is_in_a_backup(warehouse: Warehouse, tmp_path: Path):
    assert warehouse.lake
    data, console, now = tmp_path / "data", Console(), datetime(2026, 1, 2, tzinfo=UTC)
    address = f"ducklake:{warehouse.lake.catalog}"
    single = read_settings(data_dir=data, lake_files=warehouse.lake.files)
    file = Warehouse.of(single)
    file.replace_sessions("test_bars", DAYS, rows(DAYS))
    migrate(single, [address], dry_run=True, now=now, out=console)
    assert not warehouse.exists()
    migrate(single, [address], dry_run=False, now=now, out=console)
    assert warehouse.read("test_bars").equals(file.read("test_bars"))
    team = read_settings(data_dir=data, store=address, lake_files=warehouse.lake.files)
    file.path.unlink()
    Warehouse.of(team).replace_sessions("test_bars", DAYS[:1], rows(DAYS[:1], 7.0))
    backup = back_up(team, tmp_path / "backups", keep=1, now=now).folder
    migrate(team, [str(data)], dry_run=False, now=now, out=console)
    for store in (file, Warehouse.of(team)):
        assert store.read("test_bars").filter(session=DAYS[0])["close"].to_list() == [7.0]
    file.path.unlink()
    restore(backup, tmp_path / "restored", now=now)
    assert Warehouse(tmp_path / "restored" / file.path.name).read("test_bars").height == len(DAYS)
    for wrong in ("ducklake:here", "ducklake:postgresql://me:hunter2@host/lake"):
        with pytest.raises(
            SettingsError, match=r"--to: .*expected postgresql\+psycopg2://user@host/database"
        ) as refused:
            migrate(single, [wrong], dry_run=True, now=now, out=console)
        assert "hunter2" not in str(refused.value)


def test_a_market_on_a_lake_has_the_rows_of_one_in_a_file(warehouse: Warehouse, tmp_path: Path):
    """A backfill with its models, and an evening."""
    assert warehouse.lake
    stores = []
    for name, store in (("file", None), ("lake", f"ducklake:{warehouse.lake.catalog}")):
        with market_in(tmp_path / name, store=store, lake_files=warehouse.lake.files) as market:
            market.fill(market.sessions[-2])
            market.evening(market.sessions[-1])
            stores.append(market.store)
    file, lake = stores
    assert not lake.path.exists()
    # moments, and what is named after one
    left_out = [*MOMENTS, "artifact", "version", "model_version", "entry", "published_at"]
    differences = {}
    for name in lake.row_counts():
        tolerance = 1e-9 if TABLES[name].room in ("market", "features") else 1e-6
        one, other = file.read(name), lake.read(name)
        differences[name] = compared(name, one, other, tolerance=tolerance, left_out=left_out)
    assert {name: said for name, said in differences.items() if said} == {}
    assert lake.row_counts() == file.row_counts() != {}
