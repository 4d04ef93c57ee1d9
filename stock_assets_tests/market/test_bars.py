"""The steps raw_bars and bars on a real store, with a source that answers as vendors do."""

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from stock_assets.errors import EmptySourceError, MissingSessionsError, SourceError
from stock_assets.market.materialize.bars import clean_bars, fetch_raw_bars
from stock_assets.market.materialize.fetch import fetch_bars
from stock_assets.market.materialize.one_source import require_stored_market
from stock_assets.market.materialize.universe import make_universe
from stock_assets.market.sources import NOTHING_STORED, BarAnswer, Failure
from stock_assets.market.sources.registry import make_source
from stock_assets.market.sources.simulated_bars import SimulatedBars
from stock_assets.settings import Settings, read_settings
from stock_assets.storage.warehouse import Warehouse
from stock_assets.tables import declared

DAY, NEXT = date(2025, 6, 1), date(2025, 6, 2)


@dataclass
class Vendor:
    """The simulated market through a vendor's faults."""

    market: SimulatedBars
    change: list = field(default_factory=list)
    """functions of the bars, applied in turn"""
    failures: dict[str, Failure] = field(default_factory=dict)
    splits: dict[tuple[str, date], float] = field(default_factory=dict)
    settled: int = 0
    since: dict[str, datetime] = field(default_factory=dict)
    """of the newest request"""
    name = "simulated"

    def universe(self) -> pl.DataFrame:
        return self.market.universe()

    def fetch_bars(self, tickers, first, last, *, fetched_at, since=NOTHING_STORED):
        self.since = dict(since)
        bars = self.market.fetch_bars(tickers, first, last, fetched_at=fetched_at, since=since).bars
        for change in self.change:
            bars = change(bars)

        def settle() -> None:
            self.settled += 1

        bars = bars.filter(~pl.col("ticker").is_in(list(self.failures)))
        return BarAnswer(bars, self.failures, settle=settle, splits=self.splits)


@pytest.fixture
def config(tmp_path: Path) -> Settings:
    return read_settings(
        interval="15m", exchange="24/7", start=DAY, tickers=("SIM01", "SIM02", "SIM03"), data_dir=tmp_path / "data"
    )


@pytest.fixture
def vendor(config: Settings) -> Vendor:
    return Vendor(SimulatedBars.of(config))


@pytest.fixture
def store(config: Settings, vendor: Vendor) -> Warehouse:
    store = Warehouse(config.database)
    make_universe(store, config, vendor, now=datetime(2025, 6, 3, tzinfo=UTC))
    return store


def at(hour: int, minute: int = 0, day: int = 1) -> datetime:
    return datetime(2025, 6, day, hour, minute, 5, tzinfo=UTC)


def stored(store: Warehouse, table: str) -> pl.DataFrame:
    return declared(table).fit(store.read(table)).sort(pl.all())


def test_only_finished_bars_are_stored_and_a_second_look_adds_the_new_ones(store, config, vendor):
    first = fetch_raw_bars(store, config, vendor, sessions=[DAY], now=at(1))
    assert (first.bars.height, first.new_versions) == (12, 12)
    assert store.read("raw_bars")["bar_end"].max() == datetime(2025, 6, 1, 1, tzinfo=UTC)
    again = fetch_raw_bars(store, config, vendor, sessions=[DAY], now=at(1, 1))
    assert again.new_versions == 0
    later = fetch_raw_bars(store, config, vendor, sessions=[DAY], now=at(1, 15))
    assert later.new_versions == 3
    assert vendor.settled == 3


def test_a_running_session_is_asked_for_from_before_the_newest_bar_on(store, config, vendor, monkeypatch):
    """A ticker that lags is asked from its own newest bar on, one without any as a whole, and a session that is over
    too; what came late within the overlap is found."""
    monkeypatch.setattr("stock_assets.market.materialize.bars.OVERLAP_BARS", 8)
    end = at(6) - timedelta(seconds=5)
    lags = (pl.col("ticker") == "SIM02") & (pl.col("bar_end") > end - timedelta(hours=1))
    late = (pl.col("ticker") == "SIM01") & (pl.col("bar_end") == end - timedelta(minutes=45))
    vendor.change = [lambda bars: bars.filter(~lags & ~late & (pl.col("ticker") != "SIM03"))]
    fetch_raw_bars(store, config, vendor, sessions=[DAY], now=at(6))
    vendor.change = []
    fetched = fetch_raw_bars(store, config, vendor, sessions=[DAY], now=at(6, 1))
    assert vendor.since == {"SIM01": end - timedelta(hours=2), "SIM02": end - timedelta(hours=3)}
    assert fetched.new_versions == 1 + 4 + 24
    assert store.read("bar_gaps").is_empty()
    fetch_raw_bars(store, config, vendor, sessions=[DAY], now=at(1, day=2))
    assert vendor.since == {}
    asked = declared("bar_requests").fit(store.read("bar_requests")).row(0)
    assert asked == (DAY, at(1, day=2))


def test_an_outage_over_midnight_is_no_error_and_an_empty_closed_session_is(store, config, vendor, monkeypatch):
    monkeypatch.setattr("stock_assets.market.materialize.bars.OVERLAP_BARS", 8)
    fetch_raw_bars(store, config, vendor, sessions=[DAY], now=at(23, 40))
    vendor.change = [lambda bars: bars.clear()]
    later = datetime(2025, 6, 2, 0, 4, tzinfo=UTC)
    assert fetch_raw_bars(store, config, vendor, sessions=[DAY, NEXT], now=later).new_versions == 0
    with pytest.raises(EmptySourceError, match="has no bar of any ticker in 1 session"):
        fetch_raw_bars(store, config, vendor, sessions=[DAY], now=at(1, day=2))


def test_a_revised_bar_becomes_a_version_and_the_newest_counts(store, config, vendor):
    end = datetime(2025, 6, 1, 1, tzinfo=UTC)
    right = pl.col("bar_end") == end
    vendor.change = [lambda bars: bars.with_columns(close=pl.when(right).then("open").otherwise("close"))]
    fetch_raw_bars(store, config, vendor, sessions=[DAY], now=at(1))
    clean_bars(store, config, [DAY])
    vendor.change = []
    fetched = fetch_raw_bars(store, config, vendor, sessions=[DAY], now=at(1, 10))
    cleaned = clean_bars(store, config, [DAY])
    assert (fetched.new_versions, cleaned.changed) == (3, 3)
    versions = stored(store, "raw_bars").filter(right).sort("ticker", "fetched_at")
    assert versions["ticker"].to_list() == ["SIM01"] * 2 + ["SIM02"] * 2 + ["SIM03"] * 2
    newest = versions.unique("ticker", keep="last", maintain_order=True)
    clean = stored(store, "bars").filter(right).sort("ticker")
    assert clean["close"].to_list() == newest["close"].to_list()
    assert clean["fetched_at"].dt.convert_time_zone("UTC").unique().to_list() == [at(1, 10)]


def test_a_session_of_a_split_is_suspect_until_the_bars_before_it_are_fetched_again(store, config, vendor):
    """The vendor takes the split out of all its bars from the next session on; those that are stored are not."""
    fetch_raw_bars(store, config, vendor, sessions=[DAY], now=at(0, 10, day=2))
    vendor.splits = {("SIM01", NEXT): 4.0}
    figures = ("open", "high", "low", "close")
    part = pl.when(pl.col("ticker") == "SIM01").then(0.25).otherwise(1.0)
    vendor.change = [lambda bars: bars.with_columns(pl.col(figures) * part)]
    fetch_raw_bars(store, config, vendor, sessions=[NEXT], now=at(3, day=2))
    assert stored(store, "bar_splits").rows() == [("SIM01", NEXT, 4.0, at(3, day=2))]
    cleaned = clean_bars(store, config, [DAY, NEXT])
    marked = stored(store, "bars").filter(pl.col("suspect").is_not_null())
    assert marked.select("ticker", "session").unique().rows() == [("SIM01", NEXT)]
    assert marked.height == 12
    assert cleaned.suspect["split"] >= 11  # the first bar jumps
    fetch_raw_bars(store, config, vendor, sessions=[NEXT], now=at(4, day=2))
    assert stored(store, "bar_splits").height == 1, "it is kept as it was seen first"
    assert clean_bars(store, config, [NEXT]).suspect["split"] >= 15
    fetch_raw_bars(store, config, vendor, sessions=[DAY], now=at(5, day=2))
    assert clean_bars(store, config, [DAY, NEXT]).suspect == {}


def test_a_late_bar_is_added_and_its_gap_goes(store, config, vendor):
    late = (pl.col("ticker") == "SIM02") & (pl.col("bar_end") == datetime(2025, 6, 1, 0, 30, tzinfo=UTC))
    vendor.change = [lambda bars: bars.filter(~late)]
    fetched = fetch_raw_bars(store, config, vendor, sessions=[DAY], now=at(1))
    assert fetched.missing == {"no_bar": 1}
    gap = store.read("bar_gaps").row(0, named=True)
    assert (gap["ticker"], gap["bars"], gap["outcome"]) == ("SIM02", 1, "no_bar")
    vendor.change = []
    assert fetch_raw_bars(store, config, vendor, sessions=[DAY], now=at(1, 1)).missing == {}
    assert store.read("bar_gaps").is_empty()


def test_the_newest_bars_of_a_running_session_are_no_gap_until_another_ticker_has_them(store, config, vendor):
    vendor.change = [lambda bars: bars.filter(pl.col("bar_end") < pl.lit(datetime(2025, 6, 1, 1, tzinfo=UTC)))]
    assert fetch_raw_bars(store, config, vendor, sessions=[DAY], now=at(1)).missing == {}
    closed = fetch_raw_bars(store, config, vendor, sessions=[DAY], now=at(1, day=2))
    assert closed.missing == {"outage": 3 * 93}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda bars: pl.concat([bars, bars.head(1)]), "SIM01.*a bar twice"),
        (
            lambda bars: bars.with_columns(pl.col("bar_end") - timedelta(minutes=1)),
            "the sessions asked for do not have",
        ),
        (lambda bars: bars.with_columns(session=pl.lit(NEXT)), "another session than the calendar's"),
        (lambda bars: bars.with_columns(pl.col("bar_end") + timedelta(days=1)), "an unfinished bar"),
        (lambda bars: bars.drop("volume"), "answered the columns"),
        (lambda bars: bars.with_columns(ticker=pl.lit("<b>")), "<b>"),
    ],
)
def test_an_answer_that_breaks_the_protocol_is_refused_and_nothing_is_stored(store, config, vendor, change, message):
    vendor.change = [change]
    with pytest.raises(SourceError, match=message):
        fetch_raw_bars(store, config, vendor, sessions=[DAY], now=at(1))
    assert store.row_counts().get("raw_bars", 0) == 0
    assert vendor.settled == 0


def test_too_many_failures_stop_the_run_and_few_are_named(store, config, vendor):
    vendor.failures = {"SIM03": Failure("HTTP 503")}
    with pytest.raises(SourceError, match="no answer for 1 of 3 tickers"):
        fetch_raw_bars(store, config, vendor, sessions=[DAY], now=at(1))
    lenient = config.model_copy(update={"max_failed_share": 0.5})
    fetched = fetch_raw_bars(store, lenient, vendor, sessions=[DAY], now=at(1))
    assert (fetched.failures, fetched.missing) == ({"SIM03": "HTTP 503"}, {"error": 4})


def test_a_closed_session_without_a_bar_is_an_error_and_a_running_one_is_none(store, config, vendor):
    vendor.change = [lambda bars: bars.clear()]
    assert fetch_raw_bars(store, config, vendor, sessions=[DAY], now=at(1)).new_versions == 0
    with pytest.raises(EmptySourceError, match="has no bar of any ticker in 1 session"):
        fetch_raw_bars(store, config, vendor, sessions=[DAY], now=at(1, day=2))


def test_a_session_alone_is_cleaned_as_within_a_range(store, config, vendor):
    jump = pl.col("bar_end") == datetime(2025, 6, 2, 0, 15, tzinfo=UTC)  # the first bar of a session
    figures = ["open", "high", "low", "close"]
    vendor.change = [lambda bars: bars.with_columns(pl.when(jump).then(pl.col(figures) * 2).otherwise(pl.col(figures)))]
    fetch_raw_bars(store, config, vendor, sessions=[DAY, NEXT], now=at(1, day=3))
    clean_bars(store, config, [DAY, NEXT])
    whole = stored(store, "bars")
    assert whole.filter(jump)["suspect"].to_list() == ["absurd_return"] * 3
    store.replace_table("bars", whole.clear())
    for day in (NEXT, DAY):
        clean_bars(store, config, [day])
    assert stored(store, "bars").equals(whole)


def test_the_session_before_is_required(store, config, vendor):
    fetch_raw_bars(store, config, vendor, sessions=[NEXT], now=at(1, day=3))
    with pytest.raises(MissingSessionsError, match="raw_bars"):
        clean_bars(store, config, [NEXT])


def test_one_interval_per_store(store, config, vendor):
    fetch_raw_bars(store, config, vendor, sessions=[DAY], now=at(1))
    minutes = config.model_copy(update={"interval": "5m"})
    with pytest.raises(SourceError, match="holds bars of 15m and STOCK_ASSETS_INTERVAL is 5m"):
        fetch_raw_bars(store, minutes, Vendor(SimulatedBars.of(minutes)), sessions=[DAY], now=at(2))
    days = config.model_copy(update={"interval": "1d"})
    with pytest.raises(SourceError, match="holds bars of 15m and STOCK_ASSETS_INTERVAL is 1d"):
        require_stored_market(days)
    with pytest.raises(SourceError, match="holds bars of 15m and STOCK_ASSETS_INTERVAL is 1d"):
        fetch_bars(store, days, make_source(days), sessions=[DAY], now=at(1, day=3))


def test_another_source_and_one_of_days_are_refused(store, config, vendor):
    fetch_raw_bars(store, config, vendor, sessions=[DAY], now=at(1))

    @dataclass
    class Other(Vendor):
        name = "other"

    with pytest.raises(SourceError, match="holds simulated prices and STOCK_ASSETS_SOURCE is other"):
        fetch_raw_bars(store, config, Other(vendor.market), sessions=[DAY], now=at(2))
    days = make_source(read_settings())
    with pytest.raises(SourceError, match="the source simulated has no bars of 15m; expected STOCK_ASSETS_INTERVAL=1d"):
        fetch_raw_bars(store, config, days, sessions=[DAY], now=at(2))


def test_a_write_that_fails_leaves_nothing(store, config, vendor, monkeypatch):
    monkeypatch.setattr("stock_assets.storage.warehouse.record_partitions", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        fetch_raw_bars(store, config, vendor, sessions=[DAY], now=at(1))
    assert set(store.row_counts().values()) == {3}  # the universe
    assert vendor.settled == 0


def test_a_clock_that_went_back_is_an_error(store, config, vendor):
    fetch_raw_bars(store, config, vendor, sessions=[DAY], now=at(2))
    with pytest.raises(SourceError, match="expected nothing from the future"):
        fetch_raw_bars(store, config, vendor, sessions=[DAY], now=at(1))


def test_a_long_range_is_written_in_parts_that_are_each_whole(store, config, vendor, monkeypatch):
    fetch_raw_bars(store, config, vendor, sessions=[DAY, NEXT], now=at(1, day=3))
    clean_bars(store, config, [DAY, NEXT])
    at_once = {table: stored(store, table) for table in ("raw_bars", "bars", "bar_gaps")}
    for table, rows in at_once.items():
        store.replace_table(table, rows.clear())
    monkeypatch.setattr("stock_assets.market.materialize.bars.BLOCK_ROWS", 100)
    fetch_raw_bars(store, config, vendor, sessions=[DAY, NEXT], now=at(1, day=3))
    clean_bars(store, config, [DAY, NEXT])
    assert all(stored(store, table).equals(rows) for table, rows in at_once.items())
