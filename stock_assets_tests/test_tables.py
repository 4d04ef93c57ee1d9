"""A frame fits the declaration of its table, or is refused by one sentence that says why."""

from datetime import UTC, date, datetime

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from stock_assets.errors import TableError
from stock_assets.tables import KEY_COLUMNS, TABLES, UTC_TIME, Column, Table, declare, declared, rooms
from stock_assets_tests.tables import ROOMS

PRICES = Table(
    "prices",
    "market",
    "a price",
    (
        *KEY_COLUMNS,
        Column("close", pl.Float64(), "last price", unit="listing currency"),
        Column("shares", pl.Int32(), "shares traded"),
        Column("fetched_at", UTC_TIME, "when it was fetched", unit="UTC"),
    ),
    keys=("ticker", "session"),
    numbered=Column("level_", pl.Float64(), "a level"),
)
ROW = {
    "ticker": ["A"],
    "session": [date(2020, 1, 2)],
    "close": [1.5],
    "shares": [3],
    "fetched_at": [datetime(2020, 1, 2, tzinfo=UTC)],
}
FITTING = pl.DataFrame(ROW, PRICES.schema)


@given(st.permutations(list(PRICES.schema)))
def test_columns_may_come_in_any_order(order: list[str]):
    assert_frame_equal(PRICES.fit(FITTING.select(order)), FITTING)


@pytest.mark.parametrize("dtype", [pl.Int8, pl.Int64, pl.UInt16])
def test_whole_numbers_of_another_width_become_those_of_the_table(dtype: type[pl.DataType]):
    assert_frame_equal(PRICES.fit(FITTING.cast({"shares": dtype})), FITTING)


def test_a_column_without_a_value_and_another_name_of_utc_are_taken():
    elsewhere = FITTING.with_columns(
        close=pl.lit(None), fetched_at=pl.col("fetched_at").dt.convert_time_zone("America/New_York")
    )
    fitted = PRICES.fit(elsewhere)
    assert fitted.schema == PRICES.schema
    assert fitted["fetched_at"].equals(FITTING["fetched_at"])


def test_numbered_columns_are_as_many_as_there_are():
    more = FITTING.with_columns(level_1=pl.lit(0.5), level_2=pl.lit(0.25))
    assert_frame_equal(PRICES.fit(more), more)
    with pytest.raises(TableError, match="rows of prices have the column level_x, which it lacks"):
        PRICES.fit(FITTING.with_columns(level_x=pl.lit(0.5)))


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (
            FITTING.drop("close"),
            "rows of prices lack the column close; found ticker, .*, expected ticker, session, close",
        ),
        (
            FITTING.with_columns(extra=pl.lit(1)),
            "rows of prices have the column extra, which it lacks; expected ticker",
        ),
        (FITTING.with_columns(close=pl.lit("1.5")), "rows of prices hold close as String; expected Float64"),
        (FITTING.cast({"close": pl.Float32}), "rows of prices hold close as Float32; expected Float64"),
        (FITTING.cast({"close": pl.Int64}), "rows of prices hold close as Int64; expected Float64"),
        (FITTING.cast({"shares": pl.Float64}), "rows of prices hold shares as Float64; expected Int32"),
        (FITTING.with_columns(shares=pl.lit(2**40)), "rows of prices hold a number that does not fit its column"),
        (FITTING.with_columns(pl.col("fetched_at").dt.replace_time_zone(None)), "hold fetched_at as Datetime"),
        (
            FITTING.with_columns(ticker=pl.lit(None, pl.String)),
            "rows of prices hold a null in ticker; expected a value",
        ),
    ],
)
def test_what_does_not_fit_is_refused_by_name(frame: pl.DataFrame, message: str):
    with pytest.raises(TableError, match=message):
        PRICES.fit(frame)


def test_a_name_is_declared_once_and_an_unknown_one_is_refused():
    other = Table("labels", "market", "no labels", KEY_COLUMNS)
    with pytest.raises(TableError, match="labels is declared twice, in features and in market"):
        declare(other)
    assert declare(declared("labels")) is declared("labels")
    with pytest.raises(TableError, match=r"no table lables is declared; expected one of .*labels"):
        declared("lables")
    with pytest.raises(TableError, match="the keys of odd are no columns of it: day"):
        Table("odd", "market", "odd", KEY_COLUMNS, keys=("day",))


def test_every_table_of_the_package_is_whole():
    assert set(ROOMS) <= set(TABLES)
    for table in TABLES.values():
        assert table.room in rooms(), table.name
        assert len(set(table.names)) == len(table.columns), table.name
        assert all(column.text and column.duckdb_type for column in table.columns), table.name
        for column in table.columns:
            for parent, name in column.made_from:
                assert declared(parent).column(name), (table.name, column.name, parent, name)
