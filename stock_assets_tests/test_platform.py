"""The front door: frames of a market, time travel, and steps without Dagster."""

import shutil
from collections.abc import Iterator
from datetime import UTC, date, datetime
from importlib import import_module
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
from polars.testing import assert_frame_equal

import stock_assets
from stock_assets.cli.server import prepare_home
from stock_assets.errors import MissingTableError, SettingsError, StockAssetsError
from stock_assets.steps import STEPS
from stock_assets.storage.registry import NoRegistry
from stock_assets.tables import TABLES
from stock_assets_tests.tables import rows_of

pytestmark = [pytest.mark.xdist_group("demo"), pytest.mark.usefixtures("demo", "own_process")]
NOW = datetime(2026, 11, 2, 22, tzinfo=UTC)


@pytest.fixture
def p() -> stock_assets.Platform:
    return stock_assets.open()


# ---------------------------------------------------------------- tables


def test_rows_are_sorted_and_chosen_by_ticker_and_session(p: stock_assets.Platform):
    everything = p.bars()
    assert everything.equals(everything.sort("ticker", "session"))
    some = p.bars(["SIM02", "SIM01"], start="2018-02-01", end=date(2018, 2, 28))
    assert some["ticker"].unique().sort().to_list() == ["SIM01", "SIM02"]
    assert (some["session"].min(), some["session"].max()) == (date(2018, 2, 1), date(2018, 2, 28))
    assert some.equals(everything.filter(pl.col("ticker").is_in(["SIM01", "SIM02"]), pl.col("session").dt.month() == 2))


def test_every_table_has_its_method(p: stock_assets.Platform):
    assert p.features("SIM01").columns == p.table("stationary_features").columns
    assert p.features(columns=["rank_vol_22"]).columns == ["ticker", "session", "rank_vol_22"]
    assert set(p.labels()["label"].unique()) <= {-1, 0, 1}
    assert p.tables().filter(pl.col("table") == "labels")["rows"].item() == p.labels().height
    assert p.query("select max(session) as last from labels")["last"][0] == p.labels()["session"].max()
    assert p.models().is_empty()
    assert p.calendar.sessions[0] == date(2018, 1, 2)


def test_predictions_are_those_of_the_latest_session_of_one_or_of_a_range(p: stock_assets.Platform):
    latest = p.predictions()
    assert latest["session"].unique().to_list() == [date(2018, 5, 31)]
    assert latest.height == 8
    assert p.predictions("2018-05-31", model="rnn", tickers="SIM03").height == 1
    assert p.predictions("2018-05-30").is_empty()
    assert p.predictions("2018-05-01", "2018-12-31").equals(latest)
    with pytest.raises(StockAssetsError, match="no prediction of a model deepar; expected one of class_prior, rnn"):
        p.predictions(model="deepar")


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda p: p.bars("APPL"), "APPL is no ticker of this market; expected some of 4: SIM01, SIM02"),
        (lambda p: p.bars("SIM01", start="soon"), "'soon' is no day; expected one such as 2019-01-02"),
        (lambda p: p.features(columns=["rsi"]), "stationary_features has no column rsi; expected some of ticker, "),
        (lambda p: p.table("universe", start="2018-01-02"), "universe has no column session to choose rows by"),
        (lambda p: p.table("prices"), "no table prices is declared; expected one of "),
        (lambda p: p.query("drop table labels"), "the query failed: "),
        (lambda p: p.as_of("yesterday"), "'yesterday' is no moment"),
    ],
)
def test_a_question_that_cannot_be_answered_is_one_clear_error(p: stock_assets.Platform, ask, said: str):
    with pytest.raises(StockAssetsError) as caught:
        ask(p)
    assert said in str(caught.value)


def test_a_ticker_without_a_row_in_the_range_is_no_error(p: stock_assets.Platform):
    assert p.bars("SIM01", start="2019-01-02").is_empty()


def test_a_market_that_is_not_filled_says_so(tmp_path: Path):
    empty = stock_assets.open(tmp_path / "new")
    with pytest.raises(MissingTableError, match="no table daily_bars yet"):
        empty.bars()
    with pytest.raises(MissingTableError, match="no table predictions yet"):
        empty.predictions()


def test_settings_of_the_call_count(tmp_path: Path):
    p = stock_assets.open(tmp_path, horizon=5)
    assert (p.settings.data_dir, p.settings.horizon) == (tmp_path, 5)
    with pytest.raises(SettingsError, match="saurce is no setting"):
        stock_assets.open(saurce="yahoo")


# ---------------------------------------------------------------- as it was known


def test_the_market_as_it_was_known_has_the_same_interface(p: stock_assets.Platform, demo: Path, tmp_path: Path):
    shutil.copytree(demo, tmp_path / "later")
    later = stock_assets.open(tmp_path / "later")
    fetched = later.table("raw_ohlcv", "SIM01", start="2018-05-01", end="2018-05-01")
    known = fetched["fetched_at"][0]
    restated = fetched.with_columns(close=pl.col("close") * 2, high=pl.col("high") * 2, fetched_at=pl.lit(NOW))
    later.store.append("raw_ohlcv", restated)
    before, after = (later.as_of(moment).bars("SIM01", start="2018-05-01", end="2018-05-01") for moment in (known, NOW))
    assert before["close"].item() == p.bars("SIM01", start="2018-05-01", end="2018-05-01")["close"].item()
    assert after["close"].item() == 2 * before["close"].item()
    assert later.as_of(known).query("select count(*) as n from daily_bars")["n"].item() == p.bars().height
    assert later.as_of(known).calendar == p.calendar


def test_before_the_first_fetch_and_without_versions_nothing_is_known(p: stock_assets.Platform):
    with pytest.raises(StockAssetsError, match="nothing had been fetched by 2017-01-01 00:00 UTC"):
        p.as_of("2017-01-01").bars()
    past = p.as_of("2100-01-01")
    for ask in (past.labels, past.features, past.predictions):
        with pytest.raises(StockAssetsError, match="is not kept by version"):
            ask()


# ---------------------------------------------------------------- steps without Dagster


@pytest.fixture
def toy_step(monkeypatch: pytest.MonkeyPatch) -> Iterator[list]:
    """A step that makes a label of SIM01 per session; (sessions, now) of its calls."""
    calls = []

    def make_labels(store, *, sessions, now):
        calls.append((tuple(sessions), now))
        rows = rows_of("labels", pl.DataFrame({"ticker": "SIM01", "session": list(sessions)}))
        store.replace_sessions("labels", sessions, rows)

    monkeypatch.setitem(STEPS, "labels", make_labels)
    monkeypatch.setitem(STEPS, "universe", lambda: None)
    return calls


def test_a_step_makes_its_sessions_and_is_recorded(demo: Path, tmp_path: Path, toy_step: list):
    shutil.copytree(demo, tmp_path / "market")
    p = stock_assets.open(tmp_path / "market")
    made = p.materialize("labels", "2018-01-01", "2018-01-05", now=NOW, made_by="a test")
    sessions = (date(2018, 1, 2), date(2018, 1, 3), date(2018, 1, 4), date(2018, 1, 5))
    assert toy_step == [(sessions, NOW)]
    assert made == stock_assets.Materialization("labels", sessions[0], sessions[-1], 4, NOW)
    p.materialize("universe", now=NOW)
    history = p.table("manual_materializations")
    assert history.rows() == [
        ("labels", sessions[0], sessions[-1], 4, NOW, "a test"),
        ("universe", None, None, 4, NOW, "stock_assets.open()"),
    ]


def test_dagster_knows_what_was_made_without_it(tmp_path: Path, toy_step: list, monkeypatch: pytest.MonkeyPatch):
    p = stock_assets.open(tmp_path)
    home = prepare_home(p.settings)
    monkeypatch.setenv("DAGSTER_HOME", "/elsewhere")
    p.materialize("labels", "2018-01-02", "2018-01-04", now=NOW, made_by="a test")
    assert toy_step
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    with dg.DagsterInstance.get() as instance:
        asset = dg.AssetKey("labels")
        assert instance.get_materialized_partitions(asset) == {"2018-01-02", "2018-01-03", "2018-01-04"}
        event = instance.get_latest_materialization_event(asset)
        assert event is not None
        assert event.asset_materialization is not None
        assert event.asset_materialization.metadata["made_by"].value == "a test"


@pytest.mark.usefixtures("toy_step")
@pytest.mark.parametrize(
    ("table", "days", "said"),
    [
        ("raw_ohlcv", (), "there is no step that makes raw_ohlcv; expected one of universe, labels"),
        ("labels", (), "labels is made per session; expected a first and a last session"),
        ("labels", ("2018-01-06", "2018-01-07"), "XNYS has no session from 2018-01-06 to 2018-01-07"),
        ("universe", ("2018-01-02",), "universe is made as a whole; expected no first and no last session"),
    ],
)
def test_what_cannot_be_made_is_one_clear_error(monkeypatch, p: stock_assets.Platform, table, days, said):
    for name in set(STEPS) - {"labels", "universe"}:
        monkeypatch.delitem(STEPS, name)
    with pytest.raises(StockAssetsError, match=said):
        p.materialize(table, *days)


def test_a_step_gets_what_its_parameters_name(p: stock_assets.Platform, monkeypatch: pytest.MonkeyPatch):
    got = {}

    def step(years, source, registry, settings, extra="kept"):
        got.update(years=years, source=source, registry=registry, settings=settings, extra=extra)

    monkeypatch.setattr(p.__class__, "_record", lambda *_: None)
    monkeypatch.setitem(STEPS, "labels", step)
    p.materialize("labels", "2018-12-31", "2019-01-02")
    assert (got["years"], got["source"].name, got["extra"]) == ([2018, 2019], "simulated", "kept")
    assert isinstance(got["registry"], NoRegistry)
    monkeypatch.setitem(STEPS, "labels", lambda clock: clock)
    with pytest.raises(StockAssetsError, match="the step asks for clock; expected some of store, settings, sessions"):
        p.materialize("labels", "2018-01-02")


def test_a_step_may_be_named_by_its_module(p: stock_assets.Platform, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(STEPS, "labels", "no_such_room.materialize:make_labels")
    with pytest.raises(ModuleNotFoundError, match="no_such_room"):
        p.materialize("labels", "2018-01-02")


def test_every_step_is_there_and_makes_a_declared_table():
    for table, step in STEPS.items():
        assert table in TABLES
        if isinstance(step, str):
            module, _, function = step.partition(":")
            assert callable(getattr(import_module(module), function)), step


def test_a_market_made_without_dagster_equals_one_made_by_the_assets(p: stock_assets.Platform, tmp_path: Path):
    by_hand = stock_assets.open(tmp_path)
    by_hand.materialize("universe", now=NOW)
    for table in ("raw_ohlcv", "context_series", "daily_bars"):
        assert by_hand.materialize(table, "2018-01-02", "2018-01-31", now=NOW).rows > 0
    assert by_hand.materialize("labels", "2018-01-02", "2018-01-12", now=NOW).rows > 0
    moments = pl.selectors.datetime()  # the assets fetched at another time
    for table in ("universe", "raw_ohlcv", "context_series", "daily_bars"):
        days = {} if table == "universe" else {"start": "2018-01-02", "end": "2018-01-31"}
        mine, theirs = (market.table(table, **days).drop(moments) for market in (by_hand, p))
        assert_frame_equal(mine, theirs)
    assert_frame_equal(by_hand.labels(), p.labels(end="2018-01-12"))
