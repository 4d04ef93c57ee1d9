"""`stock-assets query`: every type in every format, every failure in one line, and nothing without a bound."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
from datetime import date
from pathlib import Path

import duckdb
import polars as pl
import pytest
from rich.console import Console

from stock_assets.cli import commands as cli
from stock_assets.storage.warehouse import Warehouse
from stock_assets_tests.cli.conftest import Call, one_line
from stock_assets_tests.tables import rows_of
from stock_assets_tests.waiting import HANG_SECONDS

#: The function that answers a column of every type that DuckDB has, with its extremes and a null.
ALL_TYPES = [name for name, *_ in duckdb.sql("DESCRIBE FROM test_all_types()").fetchall()]
FORMATS = ("table", "csv", "json", "parquet")
#: Beside them: no value, no finite one, and the edges of Python's calendar.
ODD = {
    "infinite date": "SELECT DATE 'infinity' AS x, DATE '-infinity' AS y",
    "infinite moment": "SELECT TIMESTAMPTZ 'infinity' AS x, TIMESTAMP '-infinity' AS y",
    "before and after Python": "SELECT DATE '0044-03-15 (BC)' AS x, TIMESTAMP '99999-01-01 00:00:00' AS y",
    "not a number": "SELECT 'nan'::DOUBLE AS x, 'inf'::FLOAT AS y, ['nan'::DOUBLE, 1] AS z, {'a': '-inf'::DOUBLE} AS s",
    "names twice": 'SELECT 1 AS a, 2 AS a, 3 AS "A"',
    "nested": "SELECT MAP {'k': [{'a': INTERVAL 1 DAY}]} AS x, [union_value(n := 1)] AS y",
    "nothing": "SELECT 1 AS a WHERE false",
    "json": """SELECT '{"a": [1, null]}'::JSON AS x""",
    "texts": "SELECT 'a,\"b\"\n' AS x, '' AS y, chr(27) || '[31m' AS z, '🦆' AS u",
    "description": "DESCRIBE daily_bars",
    "tables": "SHOW TABLES",
    "summary": "SUMMARIZE daily_bars",
    "plan": "EXPLAIN SELECT 1",
    "comment": "SELECT 1 -- one",
    "semicolon": "SELECT 1;",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("market")
    bars = pl.DataFrame({"ticker": ["SIM01", "SIM02"], "session": [date(2019, 1, 2)] * 2, "close": [10.0, None]})
    Warehouse(folder / "stock_assets.duckdb").append("daily_bars", rows_of("daily_bars", bars))
    return folder


@pytest.fixture(autouse=True)
def _market(folder: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG001
    monkeypatch.setenv("STOCK_ASSETS_DATA_DIR", str(folder))


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("column", ALL_TYPES)
def test_every_type_is_answered_in_every_format(call: Call, tmp_path: Path, column: str, form: str):
    file = tmp_path / "answer"
    statement = f'SELECT "{column}" FROM test_all_types()'
    code, _, complaint = call("query", statement, "--format", form, "--output", str(file))
    assert (code, complaint) == (0, "")
    assert len(rows_in(file, form)) == 3


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("statement", ODD.values(), ids=ODD)
def test_odd_values_are_answered_in_every_format(call: Call, tmp_path: Path, statement: str, form: str):
    file = tmp_path / "answer"
    code, said, complaint = call("query", statement, "--format", form, "--output", str(file))
    assert (code, said, complaint) == (0, "", "")
    assert (len(rows_in(file, form)) == 0) == statement.endswith("WHERE false")


def rows_in(file: Path, form: str) -> list:
    if form == "json":
        return json.loads(file.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    if form == "csv":
        return list(csv.reader(io.StringIO(file.read_text())))[1:]
    if form == "parquet":
        # by DuckDB's own connection: one that is opened takes longer than the command
        return duckdb.execute("SELECT count(*) OVER () FROM read_parquet(?)", [str(file)]).fetchall()
    return [line for line in file.read_text().splitlines() if line.startswith("│")]


def test_values_come_back_as_they_were(call: Call, tmp_path: Path):
    statement = "SELECT 1.5 AS f, 'a,b' AS t, DATE '2019-01-02' AS d, NULL AS n, '' AS e, true AS b, [1, 2] AS l"
    _, said, _ = call("query", statement, "--format", "csv")
    assert said == 'f,t,d,n,e,b,l\n1.5,"a,b",2019-01-02,,"",true,"[1, 2]"\n'
    _, said, _ = call("query", statement, "--format", "json")
    assert json.loads(said) == [{"f": 1.5, "t": "a,b", "d": "2019-01-02", "n": None, "e": "", "b": True, "l": [1, 2]}]
    file = tmp_path / "x.parquet"
    call("query", statement, "--format", "parquet", "--output", str(file))
    (row,) = pl.read_parquet(file).rows(named=True)
    assert (float(row["f"]), row["d"], row["n"], row["b"], row["l"]) == (1.5, date(2019, 1, 2), None, True, [1, 2])


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("select cast(ticker as int) from daily_bars", "the query failed: Conversion Error: Could not convert string"),
        ("select error('x')", "the query failed: Invalid Input Error: x"),
        ("select error('a' || chr(10) || 'b')", "the query failed: Invalid Input Error: a b"),
        ("select 1; select 2", "the query failed: it is 2 statements; expected one SELECT"),
        ("", "the query failed: it is 0 statements; expected one SELECT"),
        ("/* nothing */", "the query failed: it is 0 statements; expected one SELECT"),
        ("selec 1", "the query failed: Parser Error"),
        ("select ?", "the query failed: Invalid Input Error: Values were not provided"),
        ("select columns('nothing') from daily_bars", "the query failed: Binder Error"),
        ("select * exclude (a) from (select 1 as a)", "the query failed: Binder Error"),
        ("create table t (a int)", "the query failed: it is no SELECT but CREATE; expected one SELECT"),
        ("drop table daily_bars", "the query failed: it is no SELECT but DROP"),
        ("set memory_limit = '90GB'", "the query failed: it is no SELECT but SET"),
        ("copy (select 1) to 'x.csv'", "the query failed: it is no SELECT but COPY"),
        ("install httpfs", "the query failed: it is no SELECT but LOAD"),
        ("select * from read_csv('/etc/passwd')", "the query failed: Permission Error"),
        ("select * from '/etc/passwd'", "the query failed:"),
        ("select * from read_text('/etc/hostname')", "the query failed: Permission Error"),
        ("select * from glob('/etc/*')", "the query failed: Permission Error"),
        ("select * from connection", "the query failed: Catalog Error: Table with name connection does not exist"),
        ("select '\ud800'", "the statement is no UTF-8 text"),
    ],
)
def test_whatever_fails_is_one_line(call: Call, statement: str, said: str):
    for form in ("table", "csv", "json"):
        code, answer, complaint = call("query", statement, "--format", form)
        assert (code, answer) == (2, "")
        assert one_line(complaint)
        assert complaint.startswith(f"stock-assets: {said}")


def test_a_failure_after_the_first_rows_is_one_line_and_leaves_no_file(call: Call, tmp_path: Path):
    statement = "select if(range < 90000, range, error('late')) from range(100000)"
    for form in FORMATS[1:]:
        code, said, complaint = call("query", statement, "--format", form, "--output", str(tmp_path / "x"))
        assert (code, said) == (2, "")
        assert one_line(complaint)
        assert "late" in complaint
    assert not [file for file in tmp_path.iterdir() if file.name.endswith("x")]


def test_a_file_is_replaced_whole_or_not_at_all(call: Call, tmp_path: Path):
    file = tmp_path / "x.csv"
    file.write_text("before")
    call("query", "select error('x')", "--format", "csv", "--output", str(file))
    assert file.read_text() == "before"
    call("query", "select 1 as a", "--format", "csv", "--output", str(file))
    assert file.read_text() == "a\n1\n"
    code, _, complaint = call("query", "select 1", "--output", str(tmp_path / "no folder" / "x"))
    assert code == 2
    assert one_line(complaint)


def test_parquet_needs_a_file(call: Call):
    code, said, complaint = call("query", "select 1", "--format", "parquet")
    assert (code, said) == (2, "")
    assert complaint == "stock-assets: Parquet is no text; expected a file: --output FILE\n"


@pytest.mark.parametrize(
    "statement", ["select count(*) from range(10000000000000)", "select * from range(10000000000000) where range < 0"]
)
def test_a_query_that_takes_too_long_ends(call: Call, statement: str):
    code, _, complaint = call("query", statement, "--timeout", "0.2")  # nothing else ends it
    assert (code, one_line(complaint)) == (2, True)
    assert "the query took longer than 0.2 s" in complaint


def test_memory_and_disk_have_bounds_and_leave_nothing(folder: Path):
    from stock_assets.errors import QueryError
    from stock_assets.storage.queries import Limits

    store, sort = Warehouse(folder / "stock_assets.duckdb"), "select md5(range::text) as x from range({}) order by x"
    with store.answer(sort.format(400_000), Limits(memory="40MB", disk="1GB")) as answer:
        assert answer.height() == 400_000
    with (
        pytest.raises(QueryError, match=r"the query failed: Out of Memory Error"),
        store.answer(sort.format(4_000_000), Limits(memory="40MB", disk="1MB")) as answer,
    ):
        answer.frame()
    assert [file.name for file in folder.iterdir()] == ["stock_assets.duckdb"]


@pytest.mark.parametrize(("form", "lines"), [("csv", 4), ("json", 5), ("table", 8)])
def test_the_number_of_rows_has_a_limit(call: Call, form: str, lines: int):
    _, said, complaint = call("query", "select * from range(9)", "--format", form, "--limit", "3")
    assert (len(said.splitlines()), complaint) == (lines, "")


def test_an_answer_in_a_pipe_is_whole(call: Call, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cli.out, "width", 80)
    _, said, _ = call("query", "select * from daily_bars")
    assert "2019-01-02" in said
    assert "…" not in said
    assert len({len(line) for line in said.splitlines()}) == 1
    assert len(said.splitlines()) == 6


def test_an_answer_on_a_narrow_terminal_is_a_block_per_row(call: Call, monkeypatch: pytest.MonkeyPatch):
    screen = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
    monkeypatch.setattr(cli, "out", screen)
    call("query", "select * from daily_bars order by ticker")
    lines = screen.file.getvalue().splitlines()  # pyright: ignore[reportAttributeAccessIssue]
    assert max(map(len, lines)) <= 80
    assert [line.split() for line in lines if line.startswith(("ticker", "session", "close"))] == [
        ["ticker", "SIM01"],
        ["session", "2019-01-02"],
        ["close", "10.0"],
        ["ticker", "SIM02"],
        ["session", "2019-01-02"],
        ["close"],
    ]


def test_no_text_steers_the_terminal(call: Call):
    _, said, _ = call("query", "select chr(27) || '[31m' || chr(10) || chr(7) as x, 'a' as \"b\x1b[0m\"")
    assert "\x1b" not in said
    assert r"\x1b[31m\n\x07" in said


@pytest.mark.parametrize(
    "moment",
    ["9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+14:00", "2020-13-01", "2020-01-01T00:00+99:00", "now", ""],
)
def test_a_moment_that_is_none_is_one_line(call: Call, moment: str):
    code, said, complaint = call("query", "select 1", "--as-of", moment or " ")
    assert (code, said) == (2, "")
    assert one_line(complaint)


def test_a_second_shell_is_told_which_market_answers(call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    from stock_assets import settings

    monkeypatch.delenv("STOCK_ASSETS_DATA_DIR")
    monkeypatch.setattr(settings, "PROJECT_DIR", tmp_path)
    _, _, complaint = call("query", "select 1")
    first, second = complaint.splitlines()
    where = f"{tmp_path}/data/simulated"
    assert first == f"stock-assets: no setting names a market, so this is the simulated one in {where}"
    assert "there is no store" in second


@pytest.fixture
def shell(folder: Path):
    environment = {**os.environ, "STOCK_ASSETS_DATA_DIR": str(folder)}

    def start(*arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "stock_assets.cli.main", "query", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )

    return start


def test_a_pipe_that_is_closed_is_no_error(shell):
    with shell("select * from range(3000000)", "--format", "csv") as process:
        assert process.stdout.readline() == "range\n"
        process.stdout.close()
        assert (process.wait(HANG_SECONDS), process.stderr.read()) == (0, "")


def test_ctrl_c_is_one_line(shell):
    with shell("select * from range(10000000000000)", "--format", "csv") as process:
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        assert (process.wait(HANG_SECONDS), process.stderr.read()) == (130, "stock-assets: interrupted\n")
