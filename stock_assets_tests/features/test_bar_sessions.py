"""Sessions of every kind through raw_bars, bars, features and labels of a real store, from a file of five minutes."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest

from stock_assets.features.materialize.bars import make_bar_features, make_bar_labels
from stock_assets.market.calendar import TradingCalendar, calendar_of
from stock_assets.market.materialize.bars import clean_bars, fetch_raw_bars
from stock_assets.market.materialize.universe import make_universe
from stock_assets.market.sources.registry import make_source
from stock_assets.settings import read_settings
from stock_assets.storage.warehouse import Warehouse

FIVE = timedelta(minutes=5)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
#: by exchange: first and last session, the stretches of each as the exchange publishes them, and those of single days
MARKETS = {
    "XTKS": (date(2024, 10, 30), date(2024, 11, 8), "09:00-11:30 12:30-15:30", dict.fromkeys(
        (date(2024, 10, 30), date(2024, 10, 31), date(2024, 11, 1)), "09:00-11:30 12:30-15:00")),
    "XHKG": (date(2024, 12, 16), date(2024, 12, 31), "09:30-12:00 13:00-16:00", dict.fromkeys(
        (date(2024, 12, 24), date(2024, 12, 31)), "09:30-12:00")),
    "XNYS": (date(2024, 10, 30), date(2024, 11, 8), "09:30-16:00", {}),
    "XNAS": (date(2024, 11, 22), date(2024, 12, 3), "09:30-16:00", {date(2024, 11, 29): "09:30-13:00"}),
    "24/7": (date(2024, 10, 30), date(2024, 11, 4), "00:00-24:00", {}),
}  # fmt: skip


def begins(calendar: TradingCalendar, exchange: str) -> dict[date, list[datetime]]:
    """When the bars of each session begin, by the exchange's published hours alone."""
    _, _, usual, special = MARKETS[exchange]
    zone, found = ZoneInfo(calendar.local_zone), {}
    for day in calendar.sessions:
        midnight = datetime(day.year, day.month, day.day)
        found[day] = []
        for stretch in special.get(day, usual).split():
            start, stop = ((int(each[:2]) * 60 + int(each[3:])) for each in stretch.split("-"))
            local = [midnight + timedelta(minutes=minute) for minute in range(start, stop, 5)]
            found[day] += [at.replace(tzinfo=zone).astimezone(UTC) for at in local]
    return found


@pytest.fixture(scope="module", params=list(MARKETS))
def market(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    """(settings, store, grid, times in the file by ticker, faults): an outage, a hole of A, and B, listed at noon."""
    exchange, folder = request.param, tmp_path_factory.mktemp(request.param.replace("/", "-"))
    first, last, *_ = MARKETS[exchange]
    file = folder / "minutes.parquet"
    config = read_settings(
        data_dir=folder / "data", source="snapshot", snapshot=file, interval="5m", exchange=exchange, start=first,
        end=last, horizon=3,
    )  # fmt: skip
    grid = begins(calendar_of(config), exchange)
    days = list(grid)
    outage = set(grid[days[2]][10:14])
    hole = set(grid[days[3]][20:22])
    listed = grid[days[1]][len(grid[days[1]]) // 2]
    every = [at for day in days for at in grid[day]]
    kept = {
        "A": [at for at in every if at not in outage | hole],
        "B": [at for at in every if at >= listed and at not in outage],
    }
    parts = []
    for seed, (ticker, times) in enumerate(kept.items()):
        close = 100 * np.exp(np.cumsum(1e-3 * np.random.default_rng(seed).standard_normal(len(times))))
        rows = pl.DataFrame({"ticker": [ticker] * len(times), "timestamp": times, "close": close})
        parts.append(rows.with_columns(open="close", high=pl.col("close") + 1, low=pl.col("close") - 1, volume=100.0))
    pl.concat(parts).write_parquet(file)
    store, source = Warehouse(config.database), make_source(config)
    make_universe(store, config, source, now=NOW)  # pyright: ignore[reportArgumentType]
    fetch_raw_bars(store, config, source, sessions=days, now=NOW)
    clean_bars(store, config, days)
    make_bar_features(store, config, days)
    make_bar_labels(store, config, days)
    return config, store, grid, kept, (outage, hole, listed)


def ends(store: Warehouse, table: str, ticker: str) -> list[datetime]:
    rows = store.read(table).filter(pl.col("ticker") == ticker).sort("bar_end")
    return rows["bar_end"].dt.convert_time_zone("UTC").to_list()


def test_every_table_has_the_bars_of_the_file_and_no_other(market):
    _, store, _, kept, _ = market
    for ticker, times in kept.items():
        for table in ("raw_bars", "bars", "bar_features", "bar_labels"):
            assert ends(store, table, ticker) == [at + FIVE for at in times]
    assert store.read("bars")["suspect"].null_count() == store.read("bars").height


def test_gaps_are_the_outage_the_hole_and_the_time_before_a_listing_and_no_rest(market):
    _, store, grid, _, (outage, hole, listed) = market
    days = list(grid)
    expected = {
        ("A", days[2], "outage", 4),
        ("B", days[2], "outage", 4),
        ("A", days[3], "no_bar", 2),
        ("B", days[0], "not_listed", len(grid[days[0]])),
        ("B", days[1], "not_listed", sum(at < listed for at in grid[days[1]])),
    }
    gaps = store.read("bar_gaps")
    assert {tuple(row) for row in gaps.select("ticker", "session", "outcome", "bars").iter_rows()} == expected
    assert gaps.height == len(expected)
    assert min(outage) + FIVE in gaps["first"].dt.convert_time_zone("UTC").to_list()
    assert min(hole) + FIVE in gaps["first"].dt.convert_time_zone("UTC").to_list()


def test_features_look_back_over_closes_and_rests(market):
    """The mean of 20 bars is that of the 20 before, whatever closes lie between; a rest is nothing missing."""
    _, store, grid, _, _ = market
    features = store.read("bar_features").sort("ticker", "bar_end")
    whole = features.filter(pl.col("ticker") == "A", pl.col("session") == list(grid)[-1])
    means = {name for name in features.columns if name.startswith("sma_") and name.removeprefix("sma_").isdigit()}
    assert means >= {"sma_5", "sma_10", "sma_20", "sma_60"}
    assert whole.select(pl.col(sorted(means)).null_count()).row(0) == (0,) * len(means)
    closes = store.read("bars").filter(pl.col("ticker") == "A").sort("bar_end")["close"]
    assert whole["sma_20"].to_list() == pytest.approx(closes.rolling_mean(20).tail(whole.height).to_list())


def test_labels_end_before_the_close_and_before_the_rest(market):
    config, store, grid, _, _ = market
    day, after = list(grid)[-2:]
    labels = store.read("bar_labels").filter(pl.col("ticker") == "A", pl.col("session") == day).sort("bar_end")
    known = dict(zip(*(labels[name].dt.convert_time_zone("UTC") for name in ("bar_end", "known_at")), strict=True))
    assert list(known) == [at + FIVE for at in grid[day]]
    times = [at + FIVE for at in grid[day] + grid[after]]
    for i, end in enumerate(known):
        stop = next(k for k in range(i, len(times)) if k + 1 == len(times) or times[k + 1] - times[k] > FIVE)
        last = times[min(i + config.horizon, stop)]
        assert known[end] == (None if last == end else last)
