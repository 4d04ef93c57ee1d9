"""What the store records of every partition: made or not, with how many rows, in the transaction of the rows."""

from datetime import date, timedelta
from pathlib import Path

import duckdb
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stock_assets.errors import MissingTableError
from stock_assets.storage.changes import Change
from stock_assets.storage.warehouse import Warehouse
from stock_assets.tables import declared
from stock_assets_tests.tables import rows_of

DAYS = [date(2020, 1, 2) + timedelta(days=number) for number in range(6)]


@pytest.fixture
def store(tmp_path: Path) -> Warehouse:
    return Warehouse(tmp_path / "store.duckdb", wait=1)


def rows(table: str, *keys: tuple[str, date]) -> pl.DataFrame:
    named = {"ticker": [ticker for ticker, _ in keys], "session": [session for _, session in keys]}
    return rows_of(table, pl.DataFrame(named, schema={"ticker": pl.String, "session": pl.Date}))


def recorded(store: Warehouse, table: str) -> dict[str, int]:
    try:
        records = store.read("stored_partitions").filter(pl.col("table_name") == table)
    except MissingTableError:
        return {}
    assert not records["partition"].is_duplicated().any()
    return dict(records.select("partition", "rows").sort("partition").iter_rows())


def test_a_session_that_was_made_without_a_row_differs_from_one_that_was_never_made(store: Warehouse):
    store.replace_sessions("drift", DAYS[:2], declared("drift").empty())
    assert recorded(store, "drift") == {"2020-01-02": 0, "2020-01-03": 0}
    store.replace_sessions("indicators", DAYS[:2], rows("indicators", ("A", DAYS[1]), ("B", DAYS[1])))
    assert recorded(store, "indicators") == {"2020-01-02": 0, "2020-01-03": 2}
    store.replace_sessions("indicators", DAYS[1:2], rows("indicators", ("A", DAYS[1])))
    assert recorded(store, "indicators") == {"2020-01-02": 0, "2020-01-03": 1}


def test_rows_of_single_tickers_complete_no_session(store: Warehouse):
    late = rows("labels", ("B", DAYS[0]), ("B", DAYS[1]))
    store.replace_sessions("labels", DAYS[:1], rows("labels", ("A", DAYS[0])), beside={"labels": late})
    assert recorded(store, "labels") == {"2020-01-02": 2}
    settled = rows("daily_bars", ("A", DAYS[0]))
    store.write([Change("daily_bars", settled, settled.select("ticker", "session"))])
    assert recorded(store, "daily_bars") == {}


@pytest.mark.parametrize("table", ["predictions", "labels"])
def test_what_tells_others_of_a_table_is_still_to_be_made_once_it_is_written(store: Warehouse, table: str):
    published = rows_of("publication", pl.DataFrame({"session": DAYS[:2]}))
    store.replace_sessions("publication", DAYS[:2], published)
    store.replace_sessions(table, DAYS[1:3], rows(table, ("A", DAYS[1])))
    assert recorded(store, "publication") == {"2020-01-02": 1}
    assert recorded(store, table) == {"2020-01-03": 1, "2020-01-04": 0}
    store.replace_sessions("publication", DAYS[1:2], published.filter(pl.col("session") == DAYS[1]))
    assert recorded(store, "publication") == {"2020-01-02": 1, "2020-01-03": 1}
    store.replace_table(table, rows(table, ("A", DAYS[1])))
    assert recorded(store, "publication") == {}


def test_a_fetch_completes_the_sessions_that_it_asked_for(store: Warehouse):
    store.write([Change("raw_ohlcv", rows("raw_ohlcv", ("A", DAYS[1])), makes=DAYS[:2])])
    store.write([Change("raw_ohlcv", rows("raw_ohlcv", ("A", DAYS[1]), ("A", DAYS[4])), makes=DAYS[2:4])])
    assert recorded(store, "raw_ohlcv") == {"2020-01-02": 0, "2020-01-03": 2, "2020-01-04": 0, "2020-01-05": 0}


def test_model_years_and_whole_tables_have_records_and_histories_have_none(store: Warehouse):
    version = rows_of("trained_rnn", pl.DataFrame({"model_year": [2019, 2020], "model": ["rnn", "rnn"]}))
    store.replace_rows("trained_rnn", version.select("model_year", "trained_through").unique(), version)
    assert recorded(store, "trained_rnn") == {"2019": 1, "2020": 1}
    store.replace_table("universe", declared("universe").empty())
    store.append("promotions", declared("promotions").empty())
    store.append("alerts", rows_of("alerts", pl.DataFrame({"key": ["a"]})))
    assert [recorded(store, table) for table in ("universe", "promotions", "alerts")] == [{"": 0}, {"": 0}, {}]


def test_a_table_that_is_replaced_forgets_the_partitions_it_had(store: Warehouse):
    store.replace_sessions("predictions", DAYS[:2], rows("predictions", ("A", DAYS[0])))
    store.replace_table("predictions", rows("predictions", ("A", DAYS[2])))
    assert recorded(store, "predictions") == {"2020-01-04": 1}


def test_a_record_is_written_with_its_rows_or_not_at_all(store: Warehouse, monkeypatch: pytest.MonkeyPatch):
    store.replace_sessions("indicators", DAYS[:1], rows("indicators", ("A", DAYS[0])))

    def fails(*_: object) -> None:
        raise RuntimeError("the process ends")

    monkeypatch.setattr("stock_assets.storage.warehouse.record_partitions", fails)
    with pytest.raises(RuntimeError):
        store.replace_sessions("indicators", DAYS[:2], rows("indicators", ("A", DAYS[1])))
    assert store.read("indicators")["session"].to_list() == DAYS[:1]
    assert recorded(store, "indicators") == {"2020-01-02": 1}


@settings(max_examples=20, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.lists(st.integers(0, 5), min_size=1, max_size=3, unique=True),
            st.lists(st.tuples(st.sampled_from("ABC"), st.integers(0, 2)), max_size=4, unique=True),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_after_any_writes_every_record_equals_the_rows_there_are(tmp_path_factory, writes):
    store = Warehouse(tmp_path_factory.mktemp("store") / "store.duckdb", wait=1)
    made = set()
    for places, keys in writes:
        chosen = [(ticker, DAYS[places[place % len(places)]]) for ticker, place in keys]
        store.replace_sessions(
            "indicators", [DAYS[place] for place in places], rows("indicators", *dict.fromkeys(chosen))
        )
        made |= {DAYS[place] for place in places}
        counts = dict(store.read("indicators").group_by("session").len().iter_rows())
        assert recorded(store, "indicators") == {str(day): counts.get(day, 0) for day in sorted(made)}


# ---------------------------------------------------------------- a store from before there were records


def test_an_older_store_gets_the_records_of_its_rows(tmp_path: Path):
    """A hole is no record, what lies before the first row of a table with a look-back is one without a row."""
    path = tmp_path / "older.duckdb"
    store = Warehouse(path, wait=1)
    for table, days in {"raw_ohlcv": DAYS, "daily_bars": DAYS, "indicators": [*DAYS[2:4], DAYS[5]]}.items():
        store.append(table, rows(table, *(("A", day) for day in days)))
    store.append("predictions", rows("predictions", *(("A", day) for day in DAYS[4:])))
    store.replace_table("universe", rows_of("universe", pl.DataFrame({"ticker": ["A", "B"]})))
    store.append("context_series", declared("context_series").empty())
    with duckdb.connect(path) as connection:
        connection.execute("DROP TABLE lifecycle.stored_partitions")
        connection.execute("DELETE FROM main.schema_version")
        connection.execute("INSERT INTO main.schema_version VALUES (1)")
    moved = path.rename(tmp_path / "moved.duckdb")
    store = Warehouse(moved, wait=1)
    assert recorded(store, "raw_ohlcv") == {str(day): 1 for day in DAYS}
    assert recorded(store, "indicators") == {str(day): int(day >= DAYS[2]) for day in DAYS if day != DAYS[4]}
    assert recorded(store, "predictions") == {str(day): 1 for day in DAYS[4:]}
    assert recorded(store, "context_series") == {str(day): 0 for day in DAYS}
    assert recorded(store, "universe") == {"": 2}
    assert recorded(store, "drift") == {}
