import multiprocessing
import os
import signal
import time
from datetime import date, timedelta
from pathlib import Path

import duckdb
import polars as pl
import pytest

from stock_assets.errors import BadBarsError, MissingSessionsError, QueryError, StoreBusyError
from stock_assets.storage.warehouse import MissingTableError, Warehouse

DAYS = [date(2020, 1, 1) + timedelta(days=i) for i in range(10)]


def rows(days: list[date], value: float = 1.0) -> pl.DataFrame:
    return pl.DataFrame({"ticker": "A", "session": days, "close": value}, schema_overrides={"session": pl.Date})


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    return Warehouse(tmp_path / "store" / "test.duckdb", wait=10)


def test_replacing_twice_gives_the_same_rows(warehouse: Warehouse):
    for _ in range(2):
        warehouse.replace_sessions("daily_bars", DAYS, rows(DAYS))
    assert warehouse.read("daily_bars").sort("session").equals(rows(DAYS))


def test_replacing_touches_the_chosen_sessions_alone(warehouse: Warehouse):
    warehouse.replace_sessions("daily_bars", DAYS, rows(DAYS))
    warehouse.replace_sessions("daily_bars", DAYS[3:5], rows(DAYS[3:4], 2.0))
    kept = warehouse.read("daily_bars").sort("session")
    assert kept["session"].to_list() == DAYS[:4] + DAYS[5:]
    assert kept.filter(pl.col("close") == 2.0)["session"].to_list() == [DAYS[3]]


def test_rows_outside_the_chosen_sessions_are_refused_and_nothing_changes(warehouse: Warehouse):
    warehouse.replace_sessions("daily_bars", DAYS, rows(DAYS))
    with pytest.raises(BadBarsError, match="2020-01-05"):
        warehouse.replace_sessions("daily_bars", DAYS[:2], rows([DAYS[0], DAYS[4]], 3.0))
    assert warehouse.read("daily_bars")["close"].unique().to_list() == [1.0]


def test_a_failed_write_leaves_what_was_there(warehouse: Warehouse):
    warehouse.replace_sessions("daily_bars", DAYS, rows(DAYS))
    with pytest.raises(duckdb.Error):
        warehouse.replace_sessions("daily_bars", DAYS, rows(DAYS).with_columns(close=pl.lit("not a number")))
    assert warehouse.read("daily_bars").height == len(DAYS)


def test_a_new_column_is_null_in_older_rows(warehouse: Warehouse):
    warehouse.replace_sessions("pca_components", DAYS[:1], rows(DAYS[:1]))
    warehouse.replace_sessions("pca_components", DAYS[1:2], rows(DAYS[1:2]).with_columns(pc_9=pl.lit(0.5)))
    assert warehouse.read("pca_components").sort("session")["pc_9"].to_list() == [None, 0.5]


def test_read_selects_sessions_and_columns(warehouse: Warehouse):
    warehouse.replace_sessions("daily_bars", DAYS, rows(DAYS))
    part = warehouse.read("daily_bars", DAYS[2], DAYS[4], ["session"])
    assert (part.columns, part["session"].sort().to_list()) == (["session"], DAYS[2:5])


def test_absent_tables_and_sessions_are_named(warehouse: Warehouse):
    with pytest.raises(MissingTableError, match="Materialize labels first"):
        warehouse.read("labels")
    warehouse.replace_sessions("daily_bars", DAYS[2:], rows(DAYS[2:]))
    with pytest.raises(MissingTableError, match="Materialize labels first"):
        warehouse.read("labels")
    with pytest.raises(MissingSessionsError, match=r"2 session\(s\) of daily_bars .* 2020-01-01, 2020-01-02"):
        warehouse.require(["daily_bars", "labels"], DAYS, "indicators")
    assert warehouse.sessions("labels") == set()


def test_a_persons_query_is_read_only_and_reaches_no_other_file(warehouse: Warehouse, tmp_path: Path):
    warehouse.replace_sessions("daily_bars", DAYS, rows(DAYS))
    (tmp_path / "secret.csv").write_text("a\n1\n")
    assert warehouse.query("SELECT count(*) AS n FROM daily_bars")["n"].item() == len(DAYS)
    for statement in (
        "DELETE FROM daily_bars",
        f"COPY daily_bars TO '{tmp_path / 'out.csv'}'",
        f"SELECT * FROM read_csv('{tmp_path / 'secret.csv'}')",
        f"ATTACH '{tmp_path / 'other.duckdb'}'",
        "SET enable_external_access = true",
    ):
        with pytest.raises(QueryError):
            warehouse.query(statement)
    assert not (tmp_path / "out.csv").exists()


def test_a_column_name_from_outside_is_never_sql(warehouse: Warehouse):
    warehouse.replace_sessions("daily_bars", DAYS, rows(DAYS))
    with pytest.raises(duckdb.Error):
        warehouse.read("daily_bars", columns=['close" FROM daily_bars; DROP TABLE daily_bars; --'])
    with pytest.raises(KeyError):
        warehouse.read("daily_bars; DROP TABLE daily_bars")
    assert warehouse.read("daily_bars").height == len(DAYS)


def _hold(path: Path, ready: "multiprocessing.synchronize.Event", seconds: float) -> None:
    with Warehouse(path).connect(read_only=False):
        ready.set()
        time.sleep(seconds)


def test_a_locked_store_is_waited_for_then_one_clear_error(warehouse: Warehouse):
    warehouse.replace_sessions("daily_bars", DAYS, rows(DAYS))
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    holder = context.Process(target=_hold, args=(warehouse.path, ready, 3.0))
    holder.start()
    assert ready.wait(30)
    with pytest.raises(StoreBusyError, match=r"locked by another process for more than 0\.2 s"):
        Warehouse(warehouse.path, wait=0.2).read("daily_bars")
    assert warehouse.read("daily_bars").height == len(DAYS)  # waits until the holder lets go
    holder.join()


def test_who_reads_while_this_process_writes_sees_what_is_committed(warehouse: Warehouse):
    warehouse.replace_sessions("daily_bars", DAYS, rows(DAYS))
    with warehouse.connect(read_only=False) as connection:
        connection.execute("BEGIN")
        connection.execute("DELETE FROM daily_bars")
        assert warehouse.read("daily_bars").height == len(DAYS)
        connection.execute("COMMIT")
        assert warehouse.read("daily_bars").height == 0
    with warehouse.connect(read_only=True), pytest.raises(StoreBusyError):
        warehouse.patient(0).append("daily_bars", rows(DAYS))


def test_a_store_without_a_room_is_read_and_gets_it(warehouse: Warehouse):
    warehouse.path.parent.mkdir()
    with duckdb.connect(warehouse.path) as connection:
        connection.execute("CREATE SCHEMA market")
        connection.execute("CREATE TABLE market.daily_bars AS SELECT DATE '2020-01-01' AS session")
    assert warehouse.read_sql("daily_bars", "SELECT * FROM daily_bars").height == 1
    assert warehouse.query("SELECT * FROM daily_bars").height == 1
    warehouse.append("alerts", pl.DataFrame({"key": ["a"]}))
    assert warehouse.query("SELECT * FROM alerts, daily_bars").height == 1


def _write_for_ever(path: Path, started: "multiprocessing.synchronize.Event") -> None:
    warehouse, value = Warehouse(path), 0.0
    many = pl.concat([rows(DAYS).with_columns(ticker=pl.lit(f"T{i}")) for i in range(2000)])
    while True:
        value += 1.0
        warehouse.replace_sessions("daily_bars", DAYS, many.with_columns(close=pl.lit(value)))
        started.set()


def test_a_killed_writer_leaves_whole_sessions(warehouse: Warehouse):
    context = multiprocessing.get_context("spawn")
    for delay in (0.0, 0.03, 0.08, 0.13):
        started = context.Event()
        writer = context.Process(target=_write_for_ever, args=(warehouse.path, started))
        writer.start()
        assert started.wait(60)
        time.sleep(delay)
        os.kill(writer.pid or 0, signal.SIGKILL)
        writer.join()
        stored = warehouse.read("daily_bars")
        assert stored.height == 2000 * len(DAYS)
        assert stored["close"].n_unique() == 1  # never half of one write and half of the next
