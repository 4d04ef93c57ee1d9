import multiprocessing
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import date, timedelta
from pathlib import Path

import duckdb
import polars as pl
import pytest

from stock_assets.errors import (
    BadBarsError,
    MissingSessionsError,
    MissingTableError,
    QueryError,
    StoreBusyError,
    TableError,
)
from stock_assets.storage.changes import ROW_GROUP, Change
from stock_assets.storage.warehouse import Warehouse
from stock_assets.tables import KEY_COLUMNS, Column, Table, declare
from stock_assets_tests.waiting import HANG_SECONDS

DAYS = [date(2020, 1, 1) + timedelta(days=i) for i in range(10)]


#: Tables of these tests.
CLOSE = Column("close", pl.Float64(), "the close")
BARS = declare(
    Table(
        "test_bars", "market", "a close", (*KEY_COLUMNS, Column("close", pl.Float64(), "the close")), keys=("session",)
    )
)
SCORES = declare(
    Table(
        "test_scores",
        "features",
        "scores",
        (*KEY_COLUMNS, CLOSE),
        numbered=Column("pc_", pl.Float64(), "a score"),
    )
)
NOTES = declare(Table("test_notes", "lifecycle", "a note", (Column("key", pl.String(), "its name"),), history=True))


def rows(days: list[date], value: float = 1.0) -> pl.DataFrame:
    return pl.DataFrame({"ticker": "A", "session": days, "close": value}, schema_overrides={"session": pl.Date})


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    return Warehouse(tmp_path / "store" / "test.duckdb", wait=10)


def test_a_range_that_is_written_again_in_blocks_records_its_rows(warehouse: Warehouse):
    many = ROW_GROUP // len(DAYS) * 2
    replaced = Change("test_bars", BARS.empty(), pl.DataFrame({"session": DAYS}))
    for _ in range(2):
        blocks = (pl.concat([rows([day])] * many) for day in DAYS)
        warehouse.write_in_blocks(replaced, blocks)
    assert warehouse.read("stored_partitions")["rows"].to_list() == [many * len(DAYS)]
    assert warehouse.rows_by("test_bars", "session", DAYS[0], last=DAYS[-1]) == dict.fromkeys(DAYS, many)


def test_replacing_twice_gives_the_same_rows(warehouse: Warehouse):
    for _ in range(2):
        warehouse.replace_sessions("test_bars", DAYS, rows(DAYS))
    assert warehouse.read("test_bars").sort("session").equals(rows(DAYS))


def test_replacing_touches_the_chosen_sessions_alone(warehouse: Warehouse):
    warehouse.replace_sessions("test_bars", DAYS, rows(DAYS))
    warehouse.replace_sessions("test_bars", DAYS[3:5], rows(DAYS[3:4], 2.0))
    kept = warehouse.read("test_bars").sort("session")
    assert kept["session"].to_list() == DAYS[:4] + DAYS[5:]
    assert kept.filter(pl.col("close") == 2.0)["session"].to_list() == [DAYS[3]]


def test_rows_outside_the_chosen_sessions_are_refused_and_nothing_changes(warehouse: Warehouse):
    warehouse.replace_sessions("test_bars", DAYS, rows(DAYS))
    with pytest.raises(BadBarsError, match="2020-01-05"):
        warehouse.replace_sessions("test_bars", DAYS[:2], rows([DAYS[0], DAYS[4]], 3.0))
    assert warehouse.read("test_bars")["close"].unique().to_list() == [1.0]


def test_a_failed_write_leaves_what_was_there(warehouse: Warehouse):
    warehouse.replace_sessions("test_bars", DAYS, rows(DAYS))
    with pytest.raises(TableError, match="rows of test_bars hold close as String; expected Float64"):
        warehouse.replace_sessions("test_bars", DAYS, rows(DAYS).with_columns(close=pl.lit("not a number")))
    assert warehouse.read("test_bars").height == len(DAYS)


def test_a_new_column_is_null_in_older_rows(warehouse: Warehouse):
    warehouse.replace_sessions("test_scores", DAYS[:1], rows(DAYS[:1]))
    warehouse.replace_sessions("test_scores", DAYS[1:2], rows(DAYS[1:2]).with_columns(pc_9=pl.lit(0.5)))
    assert warehouse.read("test_scores").sort("session")["pc_9"].to_list() == [None, 0.5]


def test_read_selects_sessions_and_columns(warehouse: Warehouse):
    warehouse.replace_sessions("test_bars", DAYS, rows(DAYS))
    part = warehouse.read("test_bars", DAYS[2], DAYS[4], columns=["session"])
    assert (part.columns, part["session"].sort().to_list()) == (["session"], DAYS[2:5])


def test_absent_tables_and_sessions_are_named(warehouse: Warehouse):
    with pytest.raises(MissingTableError, match="Materialize labels first"):
        warehouse.read("labels")
    warehouse.replace_sessions("test_bars", DAYS[2:], rows(DAYS[2:]))
    with pytest.raises(MissingTableError, match="Materialize labels first"):
        warehouse.read("labels")
    with pytest.raises(MissingSessionsError, match=r"2 session\(s\) of test_bars .* 2020-01-01, 2020-01-02"):
        warehouse.require(["test_bars", "labels"], DAYS, "indicators")
    assert warehouse.sessions("labels") == set()


def test_a_persons_query_is_read_only_and_reaches_no_other_file(warehouse: Warehouse, tmp_path: Path):
    warehouse.replace_sessions("test_bars", DAYS, rows(DAYS))
    (tmp_path / "secret.csv").write_text("a\n1\n")
    assert warehouse.query("SELECT count(*) AS n FROM test_bars")["n"].item() == len(DAYS)
    for statement in (
        "DELETE FROM test_bars",
        f"COPY daily_bars TO '{tmp_path / 'out.csv'}'",
        f"SELECT * FROM read_csv('{tmp_path / 'secret.csv'}')",
        f"ATTACH '{tmp_path / 'other.duckdb'}'",
        "SET enable_external_access = true",
    ):
        with pytest.raises(QueryError):
            warehouse.query(statement)
    assert not (tmp_path / "out.csv").exists()


def test_a_column_name_from_outside_is_never_sql(warehouse: Warehouse):
    warehouse.replace_sessions("test_bars", DAYS, rows(DAYS))
    with pytest.raises(duckdb.Error):
        warehouse.read("test_bars", columns=['close" FROM test_bars; DROP TABLE test_bars; --'])
    with pytest.raises(MissingTableError):
        warehouse.read("test_bars; DROP TABLE test_bars")
    assert warehouse.read("test_bars").height == len(DAYS)


def _hold(path: Path, ready: "multiprocessing.synchronize.Event", over: "multiprocessing.synchronize.Event") -> None:
    with Warehouse(path).connect(read_only=False):
        ready.set()
        over.wait(HANG_SECONDS)


def test_a_locked_store_is_waited_for_then_one_clear_error(warehouse: Warehouse):
    warehouse.replace_sessions("test_bars", DAYS, rows(DAYS))
    context = multiprocessing.get_context("spawn")
    ready, over = context.Event(), context.Event()
    holder = context.Process(target=_hold, args=(warehouse.path, ready, over))
    holder.start()
    try:
        assert ready.wait(HANG_SECONDS)
        with pytest.raises(StoreBusyError, match=r"locked by another process for more than 0\.2 s"):
            Warehouse(warehouse.path, wait=0.2).read("test_bars")
        with ThreadPoolExecutor(1) as pool:
            reading = pool.submit(warehouse.patient(HANG_SECONDS).read, "test_bars")
            assert not wait([reading], timeout=0.3).done, "it waits until the holder lets go"
            over.set()
            assert reading.result().height == len(DAYS)
    finally:
        over.set()
        holder.join()


def test_who_reads_while_this_process_writes_sees_what_is_committed(warehouse: Warehouse):
    warehouse.replace_sessions("test_bars", DAYS, rows(DAYS))
    with warehouse.connect(read_only=False) as connection:
        connection.execute("BEGIN")
        connection.execute("DELETE FROM test_bars")
        assert warehouse.read("test_bars").height == len(DAYS)
        connection.execute("COMMIT")
        assert warehouse.read("test_bars").height == 0
    with warehouse.connect(read_only=True), pytest.raises(StoreBusyError):
        warehouse.patient(0).append("test_bars", rows(DAYS))


def test_a_store_without_a_room_is_read_and_gets_it(warehouse: Warehouse):
    warehouse.path.parent.mkdir()
    with duckdb.connect(warehouse.path) as connection:
        connection.execute("CREATE SCHEMA market")
        connection.execute("CREATE TABLE market.test_bars AS SELECT DATE '2020-01-01' AS session")
    assert warehouse.read_sql("test_bars", "SELECT * FROM test_bars").height == 1
    assert warehouse.query("SELECT * FROM test_bars").height == 1
    warehouse.append("test_notes", pl.DataFrame({"key": ["a"]}))
    assert warehouse.query("SELECT * FROM test_notes, test_bars").height == 1


def _write_for_ever(path: Path, started: "multiprocessing.synchronize.Event") -> None:
    warehouse, value = Warehouse(path), 0.0
    many = pl.concat([rows(DAYS).with_columns(ticker=pl.lit(f"T{i}")) for i in range(2000)])
    while True:
        value += 1.0
        warehouse.replace_sessions("test_bars", DAYS, many.with_columns(close=pl.lit(value)))
        started.set()


def test_a_killed_writer_leaves_whole_sessions(warehouse: Warehouse):
    context = multiprocessing.get_context("spawn")
    for delay in (0.0, 0.03, 0.08, 0.13):
        started = context.Event()
        writer = context.Process(target=_write_for_ever, args=(warehouse.path, started))
        writer.start()
        assert started.wait(HANG_SECONDS)
        time.sleep(delay)
        os.kill(writer.pid or 0, signal.SIGKILL)
        writer.join()
        stored = warehouse.read("test_bars")
        assert stored.height == 2000 * len(DAYS)
        assert stored["close"].n_unique() == 1  # never half of one write and half of the next
