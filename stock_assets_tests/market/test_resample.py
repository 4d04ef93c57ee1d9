from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from stock_assets.errors import EmptySourceError, SettingsError, SourceError
from stock_assets.market.calendar import trading_calendar
from stock_assets.market.resample import session_bars
from stock_assets.market.sources.snapshot import SnapshotSource
from stock_assets.setting_values import SessionHours
from stock_assets.settings import read_settings

ALWAYS = trading_calendar("24/7", date(2025, 6, 1), date(2025, 6, 30))
NEW_YORK = trading_calendar("XNYS", date(2024, 11, 25), date(2024, 12, 6))
LATER = datetime(2025, 7, 1, tzinfo=UTC)


def minutes(first: datetime, count: int, step: int = 60, ticker: str = "BTC-USD", seed: int = 0) -> pl.DataFrame:
    """`count` bars of `step` minutes from `first` on."""
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, count)))
    opened = np.concatenate([[100.0], close[:-1]])
    return pl.DataFrame(
        {
            "ticker": [ticker] * count,
            "at": [first + timedelta(minutes=step * i) for i in range(count)],
            "open": opened,
            "high": np.maximum(opened, close) * 1.001,
            "low": np.minimum(opened, close) * 0.999,
            "close": close,
            "volume": rng.uniform(1, 9, count),
        },
        schema_overrides={"at": pl.Datetime("us", "UTC")},
    )


def test_a_session_is_first_highest_lowest_last_and_sum():
    rows = minutes(datetime(2025, 6, 2, tzinfo=UTC), 72)
    made = session_bars(rows, ALWAYS, "file").bars
    assert made["session"].to_list() == [date(2025, 6, day) for day in (2, 3, 4)]
    for session, *found in made.drop("ticker").rows():
        day = rows.filter(pl.col("at").dt.date() == session)
        *prices, volume = found
        assert prices == [day["open"][0], day["high"].max(), day["low"].min(), day["close"][-1]]
        assert volume == pytest.approx(day["volume"].sum())


def test_a_session_that_the_rows_do_not_span_is_left_out():
    rows = minutes(datetime(2025, 6, 2, 1, tzinfo=UTC), 46 + 1)  # 01:00 to 24:00 of the day after
    assert session_bars(rows, ALWAYS, "file").bars["session"].to_list() == [date(2025, 6, 3)]
    with pytest.raises(EmptySourceError, match="no whole session of 24/7"):
        session_bars(rows.head(40), ALWAYS, "file")


def test_an_exchange_trades_from_its_opening_to_its_close_and_shorter_on_half_days():
    rows = minutes(datetime(2024, 11, 26, tzinfo=UTC), 6 * 96, step=15, ticker="AAPL")
    made = session_bars(rows, NEW_YORK, "file").bars
    days = [date(2024, 11, day) for day in (26, 27, 29)]  # the 28th is Thanksgiving, the 29th a half day
    assert made["session"].to_list() == days
    for session, closes in zip(days, (time(16), time(16), time(13)), strict=True):
        zone = ZoneInfo("America/New_York")
        first, end = (datetime.combine(session, at, zone).astimezone(UTC) for at in (time(9, 30), closes))
        of_day = rows.filter((pl.col("at") >= first) & (pl.col("at") < end))
        assert made.filter(pl.col("session") == session)["volume"].item() == pytest.approx(of_day["volume"].sum())


def test_a_session_rule_moves_the_days_of_a_market_that_never_closes():
    hours = SessionHours.parse("17:00-17:00 America/New_York")
    assert hours.window(date(2025, 6, 3)) == (
        datetime(2025, 6, 2, 21, tzinfo=UTC),
        datetime(2025, 6, 3, 21, tzinfo=UTC),
    )
    assert hours.window(date(2025, 3, 9))[0] == datetime(2025, 3, 8, 22, tzinfo=UTC)  # an hour less, to summer time
    assert SessionHours.parse("00:00-24:00 UTC").window(date(2025, 6, 3))[1] == datetime(2025, 6, 4, tzinfo=UTC)
    calendar = ALWAYS.with_hours(hours)
    rows = minutes(datetime(2025, 6, 2, tzinfo=UTC), 72)
    made = session_bars(rows, calendar, "file").bars
    assert made["session"].to_list() == [date(2025, 6, 3), date(2025, 6, 4)]
    assert made["open"][0] == rows.filter(pl.col("at") == datetime(2025, 6, 2, 21, tzinfo=UTC))["open"].item()
    assert "17:00 to 17:00 America/New_York" in calendar.name


@settings(derandomize=True, deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000), cut=st.integers(30, 170))
def test_order_and_later_bars_change_no_session_that_was_over(seed, cut):
    parts = [minutes(datetime(2025, 6, 2, tzinfo=UTC), 180, ticker=name, seed=seed) for name in ("BTC-USD", "ETH-USD")]
    rows = pl.concat(parts)
    whole = session_bars(rows, ALWAYS, "file").bars
    assert_frame_equal(session_bars(rows.sample(fraction=1, shuffle=True, seed=seed), ALWAYS, "file").bars, whole)
    moment = datetime(2025, 6, 2, tzinfo=UTC) + timedelta(hours=cut)
    over = whole.filter(pl.col("session") < moment.date())
    assert_frame_equal(session_bars(rows.filter(pl.col("at") < moment), ALWAYS, "file").bars, over)


@pytest.mark.parametrize(
    ("column", "value"), [("close", 0.0), ("high", None), ("volume", -1.0), ("open", float("inf"))]
)
def test_the_session_of_a_minute_that_is_no_bar_is_held_out_and_named(column: str, value: float | None):
    rows = minutes(datetime(2025, 6, 2, tzinfo=UTC), 72)
    here = pl.int_range(pl.len()) == 7
    wrong = rows.with_columns(pl.when(here).then(pl.lit(value, pl.Float64)).otherwise(column).alias(column))
    made = session_bars(wrong, ALWAYS, "file")
    assert made.bars["session"].to_list() == [date(2025, 6, 3), date(2025, 6, 4)]
    whole = session_bars(rows, ALWAYS, "file").bars
    assert_frame_equal(made.bars, whole.filter(pl.col("session") != date(2025, 6, 2)))
    stated = "nothing" if value is None else str(value)
    reason = f"{column} of {stated} at 07:00:00"
    assert made.held_out.rows() == [("BTC-USD", date(2025, 6, 2), reason)]
    (finding,) = made.findings.rows()
    assert finding == ("BTC-USD", date(2025, 6, 2), "no_price", column, value, None, False)


def test_a_minute_that_comes_twice_alike_counts_once_and_of_two_the_session_is_held_out():
    rows = minutes(datetime(2025, 6, 2, tzinfo=UTC), 72)
    whole = session_bars(rows, ALWAYS, "file").bars
    again = session_bars(pl.concat([rows, rows.head(1)]), ALWAYS, "file")
    assert_frame_equal(again.bars, whole)
    assert again.held_out.is_empty()
    assert again.findings.select("session", "kind", "repaired").rows() == [(date(2025, 6, 2), "repeated", True)]
    other = rows.head(1).with_columns(close=pl.col("close") * 1.5)
    made = session_bars(pl.concat([rows, other]), ALWAYS, "file")
    assert_frame_equal(made.bars, whole.tail(2))
    assert made.held_out["reason"].to_list() == ["a second row of 00:00:00"]
    assert made.findings.select("session", "kind", "repaired").rows() == [(date(2025, 6, 2), "repeated", False)]


def test_minutes_without_any_figure_are_no_trades_and_a_price_outside_of_the_session_harms_none():
    times = [datetime(2024, 11, 25, tzinfo=UTC) + timedelta(minutes=5 * i) for i in range(6 * 288)]
    rows = minutes(times[0], len(times), step=5, ticker="A")
    whole = session_bars(rows, NEW_YORK, "file")
    at_night = pl.col("at").dt.hour() < 9
    nothing = rows.with_columns(
        pl.when(at_night).then(None).otherwise(pl.col(name)).alias(name) for name in ("open", "high", "low", "close")
    ).with_columns(volume=pl.when(at_night).then(0.0).otherwise("volume"))
    assert_frame_equal(session_bars(nothing, NEW_YORK, "file").bars, whole.bars)
    first = pl.col("at") == pl.lit(times[0]).dt.cast_time_unit("us")
    made = session_bars(rows.with_columns(low=pl.when(first).then(-1.0).otherwise("low")), NEW_YORK, "file")
    assert_frame_equal(made.bars, whole.bars)
    assert made.findings.is_empty()


def test_many_minutes_that_are_no_bars_are_one_error_that_names_them():
    rows = minutes(datetime(2025, 6, 2, tzinfo=UTC), 72)
    wrong = rows.with_columns(low=pl.when(pl.col("at").dt.hour() % 4 == 1).then(0.0).otherwise("low"))
    with pytest.raises(
        SourceError, match=r"file: 18 of 72 rows are no bars, more than 10%.*BTC-USD 2025-06-02 01:00:00"
    ):
        session_bars(wrong, ALWAYS, "file")
    with pytest.raises(SourceError, match="expected a ticker and a time"):
        session_bars(rows.with_columns(at=pl.lit(None, rows.schema["at"])), ALWAYS, "file")


@pytest.mark.parametrize("name", ["ts", "Timestamp", "open_time"])
@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_a_snapshot_of_minutes_is_one_of_sessions(tmp_path: Path, name: str, kind: str):
    rows = minutes(datetime(2025, 6, 2, tzinfo=UTC), 72)
    path = tmp_path / f"minutes.{kind}"
    named = rows.rename({"at": name})
    if kind == "parquet":
        named.write_parquet(path)
    else:
        named.with_columns(pl.col(name).dt.strftime("%Y-%m-%d %H:%M:%S")).write_csv(path)
    source = SnapshotSource(path, ALWAYS)
    bars = source.fetch(["BTC-USD"], date(2025, 6, 1), date(2025, 6, 30), fetched_at=LATER).bars
    assert bars["session"].to_list() == [date(2025, 6, day) for day in (2, 3, 4)]
    assert bars["close"].to_list() == pytest.approx(session_bars(rows, ALWAYS, "x").bars["close"].to_list())
    assert bars["adj_close"].equals(bars["close"].rename("adj_close"))
    assert source.universe()["from_session"].to_list() == [date(2025, 6, 2)]


def test_minutes_with_adjusted_closes_are_refused(tmp_path: Path):
    rows = minutes(datetime(2025, 6, 2, tzinfo=UTC), 48).rename({"at": "ts"})
    rows.with_columns(adj_close=0.9 * pl.col("close")).write_parquet(tmp_path / "minutes.parquet")
    with pytest.raises(SourceError, match=r"has a timestamp and adj_close; expected bars of minutes as traded"):
        SnapshotSource(tmp_path, ALWAYS).universe()


def test_minutes_with_dividends_and_splits_are_refused(tmp_path: Path):
    rows = minutes(datetime(2025, 6, 2, tzinfo=UTC), 48).rename({"at": "ts"})
    first = pl.int_range(pl.len()) == 30
    rows.with_columns(
        dividend=pl.when(first).then(1.0).otherwise(0.0), split_ratio=pl.when(first).then(2.0).otherwise(0.0)
    ).write_parquet(tmp_path / "minutes.parquet")
    with pytest.raises(SourceError, match=r"has a timestamp and dividend, split_ratio; expected bars of minutes"):
        SnapshotSource(tmp_path, ALWAYS).universe()


def test_the_empty_actions_that_yfinance_writes_into_minutes_change_nothing(tmp_path: Path):
    rows = minutes(datetime(2025, 6, 2, tzinfo=UTC), 72).rename({"at": "Datetime"})
    table = rows.with_columns(pl.col("close").alias("Adj Close"), Dividends=0.0, **{"Stock Splits": pl.lit(0.0)})
    table.write_csv(tmp_path / "minutes.csv")
    assert (
        SnapshotSource(tmp_path, ALWAYS)
        .fetch(["BTC-USD"], date(2025, 6, 1), date(2025, 6, 30), fetched_at=LATER)
        .bars.height
        == 3
    )


@pytest.mark.real_data
def test_ten_real_days_of_bitcoin(real_data):
    path = real_data("crypto_1m_btc_eth_2025_06.parquet")
    bars = (
        SnapshotSource(path, ALWAYS)
        .fetch(["BTCUSDT", "ETHUSDT"], date(2025, 6, 1), date(2025, 6, 30), fetched_at=LATER)
        .bars
    )
    # the file holds BTC from 21:41 on the 6th to 21:41 on the 16th and ETH from 8:43 on the 7th to 8:43 on the 17th
    days = [date(2025, 6, day) for day in range(7, 17)]
    assert bars["session"].to_list() == [*days[:-1], *days[1:]]
    raw = pl.read_parquet(path).filter(pl.col("ticker") == "BTCUSDT", pl.col("ts").dt.date() == days[3])
    assert raw.height == 1440
    row = bars.row(by_predicate=(pl.col("ticker") == "BTCUSDT") & (pl.col("session") == days[3]), named=True)
    assert (row["high"], row["low"]) == (raw["high"].max(), raw["low"].min())
    assert row["volume"] == pytest.approx(raw["volume"].sum())


@pytest.mark.parametrize(
    "text", ["9-17", "25:00-26:00 UTC", "09:00-24:30 UTC", "09:75-17:00 UTC", "09:00-17:00 Moon/Base"]
)
def test_hours_that_are_none_are_one_clear_error(text: str):
    with pytest.raises(SettingsError, match=r"STOCK_ASSETS_SESSION_HOURS=.*expected from when to when"):
        read_settings(session_hours=text)
