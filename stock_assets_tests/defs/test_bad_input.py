"""A broken snapshot is one clear error of the run, and the store stays empty."""

import re
from datetime import date
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from stock_assets.defs.checks import finite_result
from stock_assets.settings import read_settings
from stock_assets_tests.defs.conftest import Graph
from stock_assets_tests.defs.test_flow import failure_of

DAYS = ["2018-01-02", "2018-01-03", "2018-01-04"]


def frame(**columns: object) -> pl.DataFrame:
    plain: dict[str, object] = {"ticker": "AAA", "date": DAYS, "open": 10.0, "high": 11.0, "low": 9.0, "close": 10.5}
    return pl.DataFrame(plain | {"adj_close": 10.5, "volume": 1000.0} | columns)


def write(path: Path, content: pl.DataFrame | bytes) -> Path:
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif path.suffix == ".parquet":
        content.write_parquet(path)
    else:
        content.write_csv(path)
    return path


@pytest.mark.parametrize(
    ("name", "content", "named"),
    [
        ("empty.csv", b"", "empty"),
        ("rows.csv", frame().clear(), "empty.csv|no row|holds no"),
        ("column.csv", frame().drop("close"), "close"),
        ("text.csv", frame(close=["10.5", "ten", "10.5"]), "ten"),
        ("corrupt.parquet", b"PAR1 nothing PAR1", "corrupt.parquet"),
    ],
)
def test_bad_input_is_one_clear_error_and_nothing_is_written(
    name: str, content, named: str, instance: dg.DagsterInstance, tmp_path: Path
):
    path = write(tmp_path / name, content)
    settings = read_settings(
        source="snapshot",
        snapshot=path,
        data_dir=tmp_path / "data",
        start=date(2017, 12, 29),
        end=date(2018, 1, 4),
        first_model_year=2018,
    )
    graph = Graph(settings, instance)
    result = graph.materialize(["universe"], fail=True)
    message = failure_of(result)
    assert message.split(":")[0] in ("SourceError", "EmptySourceError", "NoBarsError"), message
    assert re.search(named, message), message
    assert graph.warehouse.row_counts() == {}


@pytest.mark.parametrize(
    "content",
    [
        frame(date=[DAYS[1], DAYS[0], DAYS[2]]),
        frame(date=[DAYS[0], DAYS[0], DAYS[2]]),
        frame(low=[9.0, -9.0, 9.0]),
        frame(date=["2017-12-29", "2018-01-01", "2018-01-02"]),
    ],
    ids=["rows out of order", "a row twice", "a price below 0", "a holiday"],
)
def test_an_odd_row_stops_no_other(content: pl.DataFrame, instance: dg.DagsterInstance, tmp_path: Path):
    settings = read_settings(
        source="snapshot",
        snapshot=write(tmp_path / "prices.csv", content),
        data_dir=tmp_path / "data",
        start=date(2017, 12, 29),
        end=date(2018, 1, 4),
        first_model_year=2018,
    )
    graph = Graph(settings, instance)
    graph.materialize(["universe"])
    assert graph.warehouse.read("universe")["ticker"].to_list() == ["AAA"]


def test_an_unknown_ticker_is_named(instance: dg.DagsterInstance, tmp_path: Path):
    path = write(tmp_path / "prices.csv", frame())
    settings = read_settings(
        source="snapshot",
        snapshot=path,
        data_dir=tmp_path / "data",
        start=date(2018, 1, 2),
        end=date(2019, 1, 4),
        first_model_year=2019,
        tickers=("AAA", "ZZZ"),
    )
    message = failure_of(Graph(settings, instance).materialize(["universe"], fail=True))
    assert message.startswith("SourceError")
    assert "ZZZ" in message


def test_every_number_that_is_not_finite_is_named():
    days = [date(2020, 1, 2), date(2020, 1, 3), date(2020, 1, 6)]
    rows = pl.DataFrame({"ticker": ["A", "B", "C"], "session": days, "whole": [1.0, 2.0, 3.0]})
    rows = rows.with_columns(broken=pl.Series([1.0, None, float("inf")]), odd=pl.Series([float("nan"), 2.0, 3.0]))
    found = finite_result("indicators", rows, ["whole", "broken", "odd"])
    assert not found.passed
    sample = str(found.metadata["sample"].value)
    assert [column for column in ("whole", "broken", "odd") if column in sample] == ["broken", "odd"]
    assert found.metadata["named"].value == "B, C, A"
    assert finite_result("indicators", rows, ["whole"]).passed
