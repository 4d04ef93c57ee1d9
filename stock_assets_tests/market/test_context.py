"""The context series of every source: point in time, on sessions alone, and no stocks."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from stock_assets.errors import SettingsError, SourceError
from stock_assets.market.calendar import trading_calendar
from stock_assets.market.context import SERIES
from stock_assets.market.sources.budget import Budget, Politeness
from stock_assets.market.sources.simulated import SimulatedSource
from stock_assets.market.sources.snapshot import SnapshotSource
from stock_assets.market.sources.yahoo import YahooSource
from stock_assets.market.tables import CONTEXT_SCHEMA
from stock_assets.settings import read_settings
from stock_assets_tests.market.fake_time import FakeTime
from stock_assets_tests.market.vendor import UNKNOWN, Vendor, serving

CALENDAR = trading_calendar("XNYS", date(2020, 1, 1), date(2020, 12, 31))
DAYS = CALENDAR.sessions
LATER = datetime(2021, 3, 1, tzinfo=UTC)
HOLIDAY = date(2020, 9, 7)  # Labor Day


def evening_of(session: date) -> datetime:
    return datetime.combine(session + timedelta(days=1), datetime.min.time(), UTC)


class TestSimulated:
    source = SimulatedSource(CALENDAR, seed=3)

    def test_later_sessions_and_the_range_asked_for_change_nothing(self):
        whole = self.source.context(DAYS[0], DAYS[-1], LATER).rows.drop("fetched_at")
        assert whole.height == len(SERIES) * len(DAYS)
        for first, last, asked in ((0, 100, DAYS[100]), (57, 57, DAYS[57]), (40, 250, DAYS[90])):
            part = self.source.context(DAYS[first], DAYS[last], evening_of(asked)).rows
            until = min(DAYS[last], asked)
            expected = whole.filter(pl.col("session").is_between(DAYS[first], until))
            assert_frame_equal(part.drop("fetched_at"), expected, check_exact=True)

    def test_the_index_is_what_the_companies_return(self):
        bars = self.source.fetch([f"SIM{i:02d}" for i in range(1, 61)], DAYS[0], DAYS[-1], fetched_at=LATER).bars
        price = pl.col("close") / pl.col("close").shift().over("ticker") - 1  # quoted prices are split-adjusted
        mean = bars.with_columns(price=price).group_by("session").agg(pl.col("price").mean()).sort("session")
        index = self.source.context(DAYS[0], DAYS[-1], LATER).rows.filter(pl.col("series") == "^GSPC")
        assert index["total_return"][1:].to_list() == pytest.approx(mean["price"][1:].to_list())
        assert index["total_return"][0] is None
        assert (index["close"] / index["close"].shift() - 1)[1:].to_list() == pytest.approx(
            index["total_return"][1:].to_list()
        )

    def test_the_fund_earns_the_dividends_and_volatility_looks_like_one(self):
        rows = self.source.context(DAYS[0], DAYS[-1], LATER).rows
        total = dict(rows.group_by("series").agg((1 + pl.col("total_return")).product()).iter_rows())
        assert 1.005 < total["SPY"] / total["^GSPC"] < 1.05
        assert rows.filter(pl.col("series") == "^VIX")["close"].is_between(2, 90).all()
        assert rows.filter(~pl.col("high").ge(pl.max_horizontal("open", "close"))).is_empty()
        assert rows.filter(~pl.col("low").le(pl.min_horizontal("open", "close"))).is_empty()

    def test_nothing_before_the_first_close_and_nothing_unknown(self):
        nothing = self.source.context(DAYS[0], DAYS[-1], datetime(2019, 1, 1, tzinfo=UTC))
        assert nothing.rows.schema == CONTEXT_SCHEMA
        assert nothing.rows.is_empty()
        with pytest.raises(SourceError, match=r"no series \^FTSE; it has \^VIX, \^GSPC, SPY"):
            SimulatedSource(CALENDAR, series=("^FTSE",)).context(DAYS[0], DAYS[1], LATER)


def bars(ticker: str, days: tuple[date, ...] = DAYS[150:180], volume: float | None = 1.0) -> pl.DataFrame:
    close = [100.0 + i for i in range(len(days))]
    prices = dict.fromkeys(("open", "high", "low", "close"), close) | {"adj_close": [c / 2 for c in close]}
    rows = pl.DataFrame({"ticker": ticker, "date": days, **prices})
    return rows.with_columns(volume=pl.lit(volume, pl.Float64))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A stock in one file; in another the indices: ^VIX on a holiday too, one nobody asked for, a fund."""
    on_holiday = tuple(sorted([*DAYS[150:180], HOLIDAY]))
    negative = bars("^IRX").with_columns(close=pl.lit(-0.1))
    bars("AAPL").write_parquet(tmp_path / "prices.parquet")
    indices = [bars("^VIX", on_holiday, None), bars("^GSPC"), bars("SPY"), negative]
    pl.concat(indices).write_parquet(tmp_path / "indices.parquet")
    return tmp_path


class TestSnapshot:
    def test_rows_on_holidays_are_left_out_and_counted(self, folder: Path):
        answer = SnapshotSource(folder, CALENDAR).context(DAYS[152], DAYS[179], LATER)
        assert answer.off_session == {"^VIX": 1}
        assert answer.rows["session"].is_in(DAYS[152:180]).all()
        assert set(answer.rows["series"]) == set(SERIES)
        assert answer.rows.schema == CONTEXT_SCHEMA
        # the return over the holiday is that of two sessions
        after = answer.rows.filter((pl.col("series") == "^VIX") & (pl.col("session") == date(2020, 9, 8)))
        before = CALENDAR.shift(date(2020, 9, 8), -1)
        closes = dict(answer.rows.filter(pl.col("series") == "^VIX").select("session", "close").iter_rows())
        assert after["total_return"].item() == pytest.approx(after["close"].item() / closes[before] - 1)

    def test_an_index_is_no_ticker_and_a_fund_only_where_it_is_named(self, folder: Path):
        assert SnapshotSource(folder, CALENDAR).universe()["ticker"].to_list() == ["AAPL"]
        chosen = SnapshotSource(folder, CALENDAR, tickers=("AAPL", "SPY"))
        assert chosen.universe()["ticker"].to_list() == ["AAPL", "SPY"]
        assert set(chosen.context(DAYS[152], DAYS[153], LATER).rows["series"]) == set(SERIES)

    def test_a_snapshot_without_indices_has_none_unless_they_are_named(self, tmp_path: Path):
        bars("AAPL").write_parquet(tmp_path / "prices.parquet")
        assert SnapshotSource(tmp_path, CALENDAR).context(DAYS[150], DAYS[179], LATER).rows.is_empty()
        named = SnapshotSource(tmp_path, CALENDAR, series=("^VIX",))
        with pytest.raises(SourceError, match=r"has no series \^VIX, which STOCK_ASSETS_CONTEXT names"):
            named.context(DAYS[150], DAYS[179], LATER)

    def test_a_value_that_is_none_is_refused(self, folder: Path):
        bars("^VIX").with_columns(close=pl.lit(0.0)).write_parquet(folder / "indices.parquet")
        with pytest.raises(SourceError, match=r"ticker \^VIX.*column close: found 0.0"):
            SnapshotSource(folder, CALENDAR).context(DAYS[150], DAYS[179], LATER)

    @pytest.mark.real_data
    def test_the_real_indices(self, real_data, tmp_path: Path):
        for name in ("yahoo_102_tickers_with_actions_2016_2026.parquet", "index_daily_2009_2026.parquet"):
            (tmp_path / name).symlink_to(real_data(name))
        calendar = trading_calendar("XNYS", date(2016, 3, 14), date(2026, 3, 13))
        source = SnapshotSource(tmp_path, calendar)
        answer = source.context(calendar.sessions[0], calendar.sessions[-1], datetime(2026, 4, 1, tzinfo=UTC))
        counts = dict(answer.rows.group_by("series").len().iter_rows())
        assert counts == dict.fromkeys(SERIES, len(calendar.sessions))
        assert answer.off_session == {"^VIX": 29}  # quoted on the holidays of bond traders too, since 2022
        assert answer.rows["total_return"].null_count() == 0  # 2009 lies before
        assert len(source.universe()) == 102


@pytest.mark.filterwarnings("ignore:The inplace keyword in DataFrame:DeprecationWarning")
def test_yahoo_answers_per_series_and_a_silent_one_has_no_row():
    days = (*DAYS[150:156],)
    history = pl.DataFrame({"session": [*days, HOLIDAY]}).with_columns(
        **{name: pl.lit(20.0) for name in ("open", "high", "low", "close", "adj_close")},
        volume=pl.lit(0.0),
        dividend=pl.lit(0.0),
        split_ratio=pl.lit(1.0),
    )
    time = FakeTime()
    budget = Budget(Politeness(per_second=1000.0), clock=time.clock, sleep=time.sleep)
    with serving(Vendor({"^VIX": history, "^GSPC": UNKNOWN})) as vendor:
        source = YahooSource(CALENDAR, ("AAPL",), vendor.url, series=("^VIX", "^GSPC"), budget=budget)
        answer = source.context(days[1], DAYS[180], LATER)
    assert answer.rows["session"].to_list() == list(days[1:])
    assert answer.rows["total_return"].to_list() == [0.0] * 5
    assert answer.off_session == {"^VIX": 1}
    assert answer.rows["source"].unique().to_list() == ["yahoo"]
    assert list(answer.failures) == ["^GSPC"]
    assert "^GSPC" in answer.failures["^GSPC"] or "Not Found" in answer.failures["^GSPC"]


def test_the_setting_names_series_or_turns_them_off():
    assert read_settings().context_series == SERIES
    assert read_settings(context="off").context_series == ()
    assert read_settings(context="^vix, ^N225").context_series == ("^VIX", "^N225")
    with pytest.raises(SettingsError, match="STOCK_ASSETS_CONTEXT"):
        read_settings(context=",")
