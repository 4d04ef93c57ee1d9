"""The steps of the market room on a real store: one transaction a fetch, renamed tickers, versions of the context."""

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from stock_assets.errors import StockAssetsError
from stock_assets.market.calendar import calendar_of
from stock_assets.market.context import MarketContext
from stock_assets.market.materialize.clean import clean_daily_bars
from stock_assets.market.materialize.context import (
    changed_context_since,
    fetch_context,
    last_context_fetch,
    read_context,
)
from stock_assets.market.materialize.fetch import fetch_bars
from stock_assets.market.materialize.time_travel import tables_as_of
from stock_assets.market.sources import Answer
from stock_assets.market.tables import CONTEXT_SCHEMA, CONTEXT_SERIES
from stock_assets.settings import Settings, read_settings
from stock_assets.storage.changes import Change
from stock_assets.storage.warehouse import Warehouse
from stock_assets_tests.market.generators import raw_answer, universe_of
from stock_assets_tests.tables import rows_of

EVENING, NEXT_EVENING = timedelta(hours=1), timedelta(hours=25)


def settings_of(folder: Path, **overrides: object) -> Settings:
    plain: dict[str, object] = {"data_dir": folder, "start": date(2022, 5, 2), "end": date(2023, 12, 29)}
    return read_settings(**(plain | overrides))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_of(tmp_path)


@pytest.fixture
def store(settings: Settings) -> Warehouse:
    return Warehouse(settings.database)


def at(moment: datetime) -> pl.Expr:
    return pl.lit(moment, pl.Datetime("us", "UTC")).alias("fetched_at")


@dataclass
class Told:
    """A source that answers what the test gives it."""

    bars: pl.DataFrame | None = None
    series: pl.DataFrame = field(default_factory=lambda: CONTEXT_SCHEMA.to_frame())
    name: str = "test"

    def fetch(self, tickers, first, last, *, fetched_at) -> Answer:
        assert self.bars is not None
        asked = pl.col("ticker").is_in(tickers) & pl.col("session").is_between(first, last)
        return Answer(self.bars.filter(asked).with_columns(at(fetched_at)))

    def context(self, first, last, fetched_at) -> MarketContext:
        rows = self.series.filter(pl.col("session").is_between(first, last))
        return MarketContext(rows.with_columns(at(fetched_at)), {})


@dataclass(frozen=True)
class Recorded(Warehouse):
    """A store that notes the tables of each transaction."""

    transactions: list[list[str]] = field(default_factory=list)

    def write(self, changes) -> None:
        self.transactions.append([change.table for change in changes])
        super().write(changes)


def test_a_fetch_writes_versions_findings_and_outcomes_in_one_transaction(settings: Settings):
    store, days = Recorded(settings.database), calendar_of(settings).sessions[:12]
    # the vendor has not applied its split of the last session to the bar before it
    closes = [100.0] * 10 + [400.0, 100.0]
    bars = raw_answer(days, closes, "A", split_ratio=[1.0] * 11 + [4.0], later_splits=[4.0] * 10 + [1.0, 1.0])
    store.replace_table("universe", rows_of("universe", universe_of(bars)))
    store.transactions.clear()
    fetched = fetch_bars(store, settings, Told(bars), sessions=days, now=calendar_of(settings).closes[days[-1]])  # pyright: ignore[reportArgumentType]: a source of a test
    assert (fetched.new_versions, fetched.unapplied_splits) == (12, 1)
    assert store.transactions == [["raw_ohlcv", "quarantine", "fetch_outcomes"]]
    store.transactions.clear()
    clean_daily_bars(store, settings, days, now=calendar_of(settings).closes[days[-1]])
    assert len(store.transactions) == 1


@pytest.mark.parametrize("ahead", [timedelta(seconds=1), timedelta(days=7)])
def test_a_version_from_the_future_is_an_error_that_names_it(settings: Settings, store: Warehouse, ahead: timedelta):
    """Fetched under a clock that was ahead, it would hide every correction until its time comes."""
    days, closes = calendar_of(settings).sessions[:12], calendar_of(settings).closes
    bars = raw_answer(days, [100.0] * 12, "A")
    store.replace_table("universe", rows_of("universe", universe_of(bars)))
    now = closes[days[-1]] + EVENING
    fetch_bars(store, settings, Told(bars), sessions=days, now=now + ahead)  # pyright: ignore[reportArgumentType]: a source of a test
    before = store.read("raw_ohlcv").height
    corrected = Told(bars.with_columns(close=pl.col("close") * 0.99, low=pl.col("low") * 0.98))
    named = f"raw_ohlcv holds A of {days[0]} as fetched at {now + ahead:%Y-%m-%d %H:%M} UTC, and the clock says"
    for step in (fetch_bars, fetch_context):
        with pytest.raises(StockAssetsError, match=named):
            step(store, settings, corrected, sessions=days[-2:], now=now)  # pyright: ignore[reportArgumentType]: a source of a test
    assert store.read("raw_ohlcv").height == before, "nothing half-written stays"
    fetched = fetch_bars(store, settings, corrected, sessions=days[-2:], now=now + ahead)  # pyright: ignore[reportArgumentType]: a source of a test
    assert fetched.new_versions == 2, "it goes on at that time"


class TestRenamed:
    """BBB became NEW's ticker: META was FB until 2022-06-08."""

    @pytest.mark.parametrize("same", [True, False])
    def test_a_bar_that_was_made_under_the_old_name_is_confirmed_under_the_new(
        self, settings: Settings, store: Warehouse, same: bool
    ):
        calendar = calendar_of(settings)
        days = calendar.between(settings.start, date(2022, 6, 9))
        before, change = days[-2], days[-1]
        old = raw_answer(days[:-1], [190.0] * (len(days) - 1), "FB").with_columns(at(calendar.closes[before] + EVENING))
        store.append("raw_ohlcv", old)
        new = raw_answer(days, [190.0] * len(days), "META")
        store.replace_table("universe", rows_of("universe", universe_of(new)))
        clean_daily_bars(store, settings, days[:-1], now=calendar.closes[before] + EVENING)
        bars = store.read("daily_bars", before, before)
        assert bars.select("ticker", "provisional").rows() == [("META", True)]

        # the next evening the vendor answers under the new name
        told = new if same else new.with_columns(volume=pl.col("volume") * 2)
        now = calendar.closes[change] + EVENING
        store.append("raw_ohlcv", told.filter(pl.col("session") >= before).with_columns(at(now)))
        clean_daily_bars(store, settings, [change], now=now)
        bars = store.read("daily_bars", before, before)
        assert bars["provisional"].to_list() == [not same]
        assert bars["fetched_at"].to_list() == [now if same else calendar.closes[before] + EVENING]


def series_of(days, vix: list[float], growth: list[float | None] | None = None) -> pl.DataFrame:
    """^VIX with the closes `vix`, and ^GSPC."""
    frames = [
        pl.DataFrame({"series": name, "session": days, **dict.fromkeys(("open", "high", "low", "close"), closes)})
        for name, closes in (("^VIX", vix), ("^GSPC", [4000.0] * len(days)))
    ]
    return pl.concat(frames).with_columns(
        total_return=pl.Series([*(growth or [0.0] * len(days)), *[0.0] * len(days)], dtype=pl.Float64),
        source=pl.lit("test"),
        fetched_at=pl.lit(None, pl.Datetime("us", "UTC")),
    )


def fetch(store: Warehouse, settings: Settings, source: Told, sessions, now: datetime):
    return fetch_context(store, settings, source, sessions=sessions, now=now)  # pyright: ignore[reportArgumentType]: a source of a test


class TestContextVersions:
    @pytest.fixture
    def days(self, settings: Settings) -> tuple[date, ...]:
        return calendar_of(settings).sessions[:12]

    @staticmethod
    def evening(settings: Settings, day: date) -> datetime:
        return calendar_of(settings).closes[day] + EVENING

    def test_an_unchanged_answer_appends_nothing(self, settings: Settings, store: Warehouse, days):
        source = Told(series=series_of(days, [20.0 + i for i in range(12)]))
        first = fetch(store, settings, source, days[:10], self.evening(settings, days[9]))
        assert (first.new_versions, first.rows.height) == (20, 20)
        before = store.read("context_series")
        # rounding of the vendor's seven digits is no other figure, neither of a level nor of a small return
        rounded = pl.col("close") * (1 + 1e-8), pl.col("total_return") + 2e-7
        source.series = source.series.with_columns(close=rounded[0], total_return=rounded[1])
        again = fetch(store, settings, source, days[:10], self.evening(settings, days[10]))
        assert (again.new_versions, again.late, again.restated) == (0, 0, 0)
        assert_frame_equal(again.rows, first.rows)
        assert_frame_equal(store.read("context_series"), before, check_row_order=False)

    def test_a_restated_value_is_a_new_version_and_is_found(self, settings: Settings, store: Warehouse, days):
        source = Told(series=series_of(days, [20.0] * 12))
        first, second = (self.evening(settings, day) for day in days[9:11])
        fetch(store, settings, source, days[:10], first)
        source.series = series_of(days, [20.0] * 8 + [25.0] + [20.0] * 3)
        fetched = fetch(store, settings, source, days[10:11], second)
        assert (fetched.new_versions, fetched.restated, fetched.late) == (2, 1, 0)
        versions = store.read("context_series", days[8], days[8]).filter(pl.col("series") == "^VIX")
        assert versions.sort("fetched_at")["close"].to_list() == [20.0, 25.0]
        newest = read_context(store, days[8], days[8])
        assert dict(newest.select("series", "close").iter_rows()) == {"^VIX": 25.0, "^GSPC": 4000.0}
        # the new session is no change: nothing was made of it
        assert changed_context_since(store, first, days[10]).rows() == [("^VIX", days[8])]
        assert changed_context_since(store, first, days[7]).is_empty()
        assert changed_context_since(store, second, days[10]).is_empty()
        assert changed_context_since(store, first - EVENING, days[10]).is_empty()
        assert last_context_fetch(store) == second

    def test_a_late_bar_is_found_and_a_restatement_taken_back_is_none(self, settings: Settings, store: Warehouse, days):
        whole = series_of(days, [20.0] * 12)
        source = Told(series=whole.filter(~((pl.col("series") == "^VIX") & (pl.col("session") == days[7]))))
        first, second, third = (self.evening(settings, day) for day in days[9:12])
        fetched = fetch(store, settings, source, days[:10], first)
        assert fetched.absent.rows() == [("^VIX", days[7])]
        source.series = series_of(days, [20.0] * 5 + [30.0] + [20.0] * 6)
        fetched = fetch(store, settings, source, days[10:11], second)
        assert (fetched.late, fetched.restated) == (1, 1)
        assert changed_context_since(store, first, days[10]).rows() == [("^VIX", days[5]), ("^VIX", days[7])]
        source.series = whole
        fetch(store, settings, source, days[6:12], third)
        assert changed_context_since(store, second, days[10]).rows() == [("^VIX", days[5])]
        # it is again what it was at the first
        assert changed_context_since(store, first, days[10]).rows() == [("^VIX", days[7])]

    def test_an_evening_without_any_series_is_filled_when_the_vendor_is_back(
        self, settings: Settings, store: Warehouse, days
    ):
        whole = series_of(days, [20.0] * 12)
        source = Told(raw_answer(days, [10.0] * 12, "A"), whole)
        universe = universe_of(source.bars)  # pyright: ignore[reportArgumentType]
        store.replace_table("universe", rows_of("universe", universe))
        for until, series in ((9, whole), (10, whole.clear()), (11, whole)):
            sessions, now = days[:10] if until == 9 else days[until : until + 1], self.evening(settings, days[until])
            source.series = series
            fetch_bars(store, settings, source, sessions=sessions, now=now)  # pyright: ignore[reportArgumentType]: a source of a test
            fetch(store, settings, source, sessions, now)
        assert store.sessions("context_series") == {*days}
        changed = changed_context_since(store, self.evening(settings, days[10]))
        assert changed.rows() == [("^GSPC", days[10]), ("^VIX", days[10])]
        assert read_context(store).height == 24

    def test_what_is_fetched_in_the_evening_of_its_bars_is_new(self, settings: Settings, store: Warehouse, days):
        bars = raw_answer(days, [10.0] * 12, "A")
        store.replace_table("universe", rows_of("universe", universe_of(bars)))
        source = Told(bars, series_of(days, [20.0] * 12))
        for sessions in (days[:10], days[10:11]):
            now = self.evening(settings, sessions[-1])
            fetch_bars(store, settings, source, sessions=sessions, now=now)  # pyright: ignore[reportArgumentType]: a source of a test
            assert changed_context_since(store, now).is_empty()
            fetch(store, settings, source, sessions, now + timedelta(minutes=5))
            assert changed_context_since(store, now).is_empty()

    def test_the_table_of_a_store_from_before_versions_goes_on(self, settings: Settings, store: Warehouse, days):
        source = Told(series=series_of(days, [20.0] * 12))
        fetch(store, settings, source, days[:10], self.evening(settings, days[9]))
        old = store.read("context_series").unique(["series", "session"])
        with store.connect(read_only=False) as connection:  # one row per series and session, in another order
            connection.register("old", old.select(sorted(old.columns)).to_arrow())
            connection.execute("CREATE OR REPLACE TABLE market.context_series AS SELECT * FROM old")
        source.series = series_of(days, [20.0] * 9 + [25.0] + [20.0] * 2)
        fetched = fetch(store, settings, source, days[10:11], self.evening(settings, days[10]))
        assert (fetched.new_versions, fetched.restated) == (2, 1)
        newest = read_context(store, days[9], days[9]).filter(pl.col("series") == "^VIX")
        assert newest["close"].to_list() == [25.0]
        assert newest.columns == CONTEXT_SERIES.names

    def test_as_of_a_moment_the_context_is_what_had_been_fetched(self, settings: Settings, store: Warehouse, days):
        bars = raw_answer(days, [10.0] * 12, "A")
        store.replace_table("universe", rows_of("universe", universe_of(bars)))
        store.append("raw_ohlcv", bars.with_columns(at(self.evening(settings, days[9]))))
        source = Told(series=series_of(days, [20.0] * 12))
        fetch(store, settings, source, days[:10], self.evening(settings, days[9]))
        source.series = series_of(days, [20.0] * 9 + [25.0] + [20.0] * 2)
        fetch(store, settings, source, days[10:11], self.evening(settings, days[10]))
        for number, close in ((9, 20.0), (10, 25.0)):
            then = tables_as_of(store, settings, self.evening(settings, days[number]))["context_series"]
            assert then.filter(pl.col("series") == "^VIX", pl.col("session") == days[9])["close"].to_list() == [close]
            assert then["session"].max() == days[number]
            assert not then.select("series", "session").is_duplicated().any()
        with pytest.raises(StockAssetsError, match=r"nothing had been fetched by 2022-05-02 19:00 UTC"):
            tables_as_of(store, settings, datetime(2022, 5, 2, 19, tzinfo=UTC))


def test_a_transaction_that_fails_in_the_middle_writes_nothing(store: Warehouse):
    import duckdb

    days = [date(2022, 5, 2)]
    bars = raw_answer(days, [10.0])
    broken = Change("daily_bars", rows_of("daily_bars", bars.select("ticker", "session")), bars.select(nothing="open"))
    with pytest.raises(duckdb.BinderException):
        store.write([Change("raw_ohlcv", bars), broken])
    assert store.row_counts() == {}
