"""Other markets through the same graph, by configuration alone: Tokyo, and bitcoin around the clock."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import numpy as np
import polars as pl
import pytest

from stock_assets.defs.partitions import labelled_days, model_years, predicted_days, trading_days
from stock_assets.features.stationary import FIRST_BAR
from stock_assets.lifecycle.evening import State, chain_due, due_at
from stock_assets.market.calendar import calendar_of, currency_of, trading_calendar
from stock_assets.settings import Settings, read_settings
from stock_assets_tests.defs.conftest import DAILY_CHAIN, Graph, small_market

HOUR = timedelta(hours=1)


def tokyo(folder: Path, **more: object) -> Settings:
    plain = {"source": "simulated", "exchange": "XTKS", "start": date(2024, 12, 2), "tickers": ("SIM01", "SIM02")}
    return read_settings(**(plain | {"data_dir": folder} | more))


def test_tokyo_has_its_own_sessions_and_currency_through_the_graph(instance: dg.DagsterInstance, tmp_path: Path):
    graph = Graph(tokyo(tmp_path, end=date(2025, 12, 30), first_model_year=2025), instance)
    days = graph.calendar.sessions
    graph.materialize(["universe"])
    graph.materialize(DAILY_CHAIN, days[0], days[74])
    graph.materialize(["labels"], days[0], days[67])
    assert graph.warehouse.sessions("daily_bars") == set(days[:75])
    assert not {date(2024, 12, 31), date(2025, 1, 1), date(2025, 1, 2), date(2025, 1, 13)} & set(days)
    assert date(2025, 1, 20) in days  # a holiday in New York
    assert graph.warehouse.sessions("labels") == set(days[:68])
    horizon_ends = graph.table("labels").filter(pl.col("session") == days[20])["horizon_end"]
    assert horizon_ends.unique().to_list() == [days[27]]
    assert graph.warehouse.sessions("stationary_features") == set(days[FIRST_BAR - 1 : 75])
    assert set(graph.warehouse.read("universe")["currency"]) == {"JPY"}


@pytest.mark.usefixtures("planned_pictures")
@pytest.mark.parametrize("exchange", ["XTKS", "24/7"])
def test_a_market_whose_members_leave_is_learned_and_judged(
    exchange: str, instance: dg.DagsterInstance, tmp_path: Path
):
    """From prices to the report; SIM01 and SIM02 leave in the model year, and are judged until then."""
    left = date(2019, 2, 15)
    members = pl.DataFrame(
        [(f"SIM{i:02d}", date(2018, 1, 1), left if i < 3 else None) for i in range(1, 8)],
        {"ticker": pl.String, "start_date": pl.Date, "end_date": pl.Date},
        orient="row",
    )
    members.write_csv(tmp_path / "members.csv")
    chosen = {
        "exchange": exchange,
        "membership": str(tmp_path / "members.csv"),
        "end": date(2019, 4, 26),
        "mlflow": "off",
    }
    settings = small_market(tmp_path / "store", **chosen)
    graph = Graph(settings, instance)
    graph.materialize_everything()
    assert set(graph.calendar.sessions) - set(trading_calendar("XNYS", settings.start, settings.end).sessions)
    predicted = graph.table("predictions")
    assert predicted["ticker"].n_unique() == 7
    gone = predicted.filter(pl.col("ticker").is_in(["SIM01", "SIM02"]))
    assert graph.calendar.before(left, 1)[0] <= gone["session"].max() <= left
    event = instance.get_latest_materialization_event(dg.AssetKey("evaluation_report"))
    assert event is not None
    assert event.asset_materialization is not None
    shown = event.asset_materialization.metadata["survivorship"].value
    assert "daily_return" in shown
    assert "log_loss" in shown


def test_a_session_of_tokyo_is_due_in_its_own_evening(tmp_path: Path):
    config = tokyo(tmp_path)
    calendar, session = calendar_of(config), date(2025, 1, 8)
    midnight = datetime(2025, 1, 8, 15, tzinfo=UTC)
    assert calendar.closes[session] == datetime(2025, 1, 8, 6, 30, tzinfo=UTC)
    assert due_at(calendar, session, HOUR) == midnight
    assert calendar.last_closed(midnight - timedelta(seconds=1)) == date(2025, 1, 7)
    assert calendar.last_closed(midnight) == session
    # whenever a session is due its partition is there, and none of a day that is not over
    for moment, last in ((midnight, "2025-01-08"), (midnight - timedelta(seconds=1), "2025-01-07")):
        assert trading_days(config).get_partition_keys(current_time=moment)[-1] == last
    assert labelled_days(config).get_partition_keys(current_time=midnight)[-1] == str(calendar.shift(session, -7))
    years = frozenset({2025})
    waits = chain_due(calendar, HOUR, State(midnight - HOUR, date(2025, 1, 7), None, years))
    assert waits.sessions == ()
    assert waits.reason == "2025-01-07 is predicted; 2025-01-08 is due at 2025-01-08 15:00 UTC"
    assert chain_due(calendar, HOUR, State(midnight, date(2025, 1, 7), None, years)).sessions == (session,)
    new_year = State(datetime(2025, 1, 3, tzinfo=UTC), date(2024, 12, 30), None, years)
    assert chain_due(calendar, HOUR, new_year).sessions == ()  # the exchange rests until the 6th


def test_days_and_years_of_tokyo_fit_together(tmp_path: Path):
    config = tokyo(tmp_path, start=date(2023, 12, 1), end=date(2025, 12, 30), first_model_year=2024)
    days, years = predicted_days(config), model_years(config)
    mapping = dg.TimeWindowPartitionMapping()
    for asked, expected in ((["2024-01-04", "2024-12-30"], "2024"), (["2025-01-06"], "2025")):
        found = mapping.get_upstream_mapped_partitions_result_for_partitions(
            days.subset_with_partition_keys(asked), days, years
        )
        assert list(found.partitions_subset.get_partition_keys()) == [expected]


def test_london_keeps_its_own_half_days_and_due_times(tmp_path: Path):
    config = read_settings(source="simulated", exchange="XLON", start=date(2025, 1, 2), data_dir=tmp_path)
    calendar = calendar_of(config)
    assert calendar.closes[date(2025, 12, 24)] == datetime(2025, 12, 24, 12, 30, tzinfo=UTC)
    assert due_at(calendar, date(2025, 12, 24), HOUR) == datetime(2025, 12, 25, tzinfo=UTC)
    assert date(2025, 5, 26) not in calendar.sessions
    assert currency_of(config) == "GBP"


def around_the_clock(path: Path, folder: Path, start: date, **more: object) -> Settings:
    return read_settings(source="snapshot", snapshot=path, exchange="24/7", start=start, data_dir=folder, **more)


@pytest.mark.real_data
def test_ten_days_of_bitcoin_reach_their_labels(real_data, instance: dg.DagsterInstance, tmp_path: Path):
    """Minutes in, labels out. Ten days are too few for a feature, whose first row is the 67th bar, or a model."""
    path = real_data("crypto_1m_btc_eth_2025_06.parquet")
    graph = Graph(around_the_clock(path, tmp_path, date(2025, 6, 7)), instance)
    graph.materialize(["universe"])
    graph.materialize(DAILY_CHAIN, "2025-06-07", "2025-06-16")
    graph.materialize(["labels"], "2025-06-07", "2025-06-09")
    bars = graph.table("daily_bars")
    # the minutes of ETH begin within the 7th and those of BTC end within the 16th
    assert bars.height == 18
    assert set(bars.select("ticker", "session").rows()).isdisjoint(
        {("ETHUSDT", date(2025, 6, 7)), ("BTCUSDT", date(2025, 6, 16))}
    )
    assert date(2025, 6, 7).weekday() == 5  # a Saturday
    suspect = dict(bars.group_by("ticker").agg(pl.col("suspect").unique()).iter_rows())
    assert suspect == {"BTCUSDT": [None], "ETHUSDT": ["short_history"]}  # ETH begins a day after the market
    assert bars["is_member"].all()
    assert graph.table("labels").select("ticker", "session").rows() == [
        (ticker, date(2025, 6, day))
        for day, tickers in ((7, ("BTCUSDT",)), (8, ("BTCUSDT", "ETHUSDT")), (9, ("ETHUSDT",)))
        for ticker in tickers
    ]
    closes = bars.filter(pl.col("ticker") == "BTCUSDT")["close"].to_list()
    label = graph.table("labels").row(0, named=True)
    assert label["forward_return_horizon"] == pytest.approx(closes[7] / closes[0] - 1)
    assert graph.table("stationary_features").is_empty()
    assert graph.warehouse.read("universe").select("ticker", "currency").rows() == [
        ("BTCUSDT", "USD"),
        ("ETHUSDT", "USD"),
    ]


def test_days_that_never_end_have_features_on_weekends(instance: dg.DagsterInstance, tmp_path: Path):
    """A hundred days of made-up hours, with sessions that end at the close of New York."""
    rng, first = np.random.default_rng(0), datetime(2025, 1, 1, tzinfo=UTC)
    frames = []
    for ticker in ("BTC-USD", "ETH-USD", "XRP-USD"):
        close = 100 * np.exp(np.cumsum(rng.normal(0, 0.008, 2400)))
        wide = np.abs(rng.normal(0, 0.002, 2400))
        prices = {"open": close, "high": close * (1 + wide), "low": close * (1 - wide), "close": close}
        at = [first + i * HOUR for i in range(2400)]
        frames.append(pl.DataFrame({"ticker": ticker, "ts": at, **prices, "volume": rng.uniform(1, 9, 2400)}))
    pl.concat(frames).write_parquet(tmp_path / "hours.parquet")
    hours = "17:00-17:00 America/New_York"
    config = around_the_clock(tmp_path / "hours.parquet", tmp_path / "store", date(2025, 1, 2), session_hours=hours)
    graph = Graph(config, instance)
    graph.materialize(["universe"])
    graph.materialize(DAILY_CHAIN, "2025-01-02", "2025-04-10")
    graph.materialize(["labels"], "2025-01-02", "2025-04-03")
    days = graph.calendar.between(date(2025, 1, 2), date(2025, 4, 10))
    assert len(days) == 99
    features = graph.table("stationary_features")
    assert features["session"].unique().sort().to_list() == list(days[FIRST_BAR - 1 :])
    assert {day.weekday() for day in features["session"]} == set(range(7))
    assert graph.table("labels").height == 3 * 92
    assert due_at(graph.calendar, date(2025, 4, 5), HOUR) == datetime(2025, 4, 6, tzinfo=UTC)
    assert trading_days(config).get_partition_keys(current_time=datetime(2025, 4, 6, tzinfo=UTC))[-1] == "2025-04-05"
