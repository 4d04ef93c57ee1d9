"""A market of bars as it runs: a session bar by bar, late and revised bars, a kill, and what is due when."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from stock_assets.cli.bars import make, make_due, scores_of
from stock_assets.lifecycle.bars import (
    LOOK,
    BarState,
    finished_due,
    judging_due,
    look_due,
    revision_due,
    sessions_over,
    sessions_running,
    training_due,
)
from stock_assets.lifecycle.evening import Work
from stock_assets.lifecycle.materialize.bars import read_bar_state
from stock_assets.market.calendar import TradingCalendar, calendar_of, trading_calendar
from stock_assets.market.intervals import Interval, expected_bars
from stock_assets.market.sources import NOTHING_STORED, BarAnswer
from stock_assets.market.sources.budget import Budget, Politeness
from stock_assets.market.sources.registry import settle_time
from stock_assets.market.sources.simulated_bars import SimulatedBars
from stock_assets.market.sources.yahoo_bars import YahooBars
from stock_assets.model.bar_schedule import training_of
from stock_assets.publication.bar_files import FILE, read_backtest, read_bar_pointer, read_bar_predictions
from stock_assets.settings import Settings, read_settings
from stock_assets.storage.attached import attached
from stock_assets.storage.warehouse import Warehouse
from stock_assets.tables import declared
from stock_assets.trading.bar_page import as_configured
from stock_assets_tests.lifecycle.bar_market import FIRST_SERVED, hours, use_quick_models
from stock_assets_tests.market.vendor import Vendor, serving
from stock_assets_tests.market.vendor_bars import Bars as YahooAnswers

BEFORE, END = datetime(2025, 6, 22, 0, 6, tzinfo=UTC), datetime(2025, 6, 23, 2, 40, tzinfo=UTC)
DAY = FIRST_SERVED
TABLES = ("bars", "bar_features", "bar_labels", "bar_predictions")
QUIET = lambda _: None  # noqa: E731


def rows(store: Warehouse, table: str, *, without: tuple[str, ...] = ("fetched_at",)) -> pl.DataFrame:
    """The table without the moments at which it was made, sorted."""
    return declared(table).fit(store.read(table)).drop(without, strict=False).sort(pl.all())


def same(found: pl.DataFrame, expected: pl.DataFrame) -> None:
    """Checks that the rows are the same, numbers to 1e-9."""
    assert found.height == expected.height
    for name, dtype in expected.schema.items():
        if dtype.is_float():
            assert (found[name].is_null() == expected[name].is_null()).all(), name
            off = (found[name] - expected[name]).abs() > 1e-9 * (1 + expected[name].abs())
            assert not off.fill_null(value=False).any(), name
        else:
            assert found[name].equals(expected[name], null_equal=True), name


def look(store: Warehouse, config: Settings, source: object, now: datetime, *, day: date = DAY) -> None:
    work = Work("look", LOOK, str(day), str(day), "a test looks")
    make(store, config, source, work=work, now=now, say=QUIET)


@pytest.fixture(scope="module")
def quick() -> Iterator[None]:
    with pytest.MonkeyPatch().context() as patch:
        use_quick_models(patch)
        yield


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, quick: None) -> Path:  # noqa: ARG001
    """The data folder of a store through the session before DAY, with the models of DAY."""
    config = hours(tmp_path_factory.mktemp("template") / "data")
    make_due(Warehouse(config.database), config, SimulatedBars.of(config), now=BEFORE, say=QUIET)
    return config.data_dir


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, quick: None) -> tuple[Warehouse, Settings]:  # noqa: ARG001
    """A store that was made at END from nothing."""
    config = hours(tmp_path_factory.mktemp("once") / "data")
    store = Warehouse(config.database)
    make_due(store, config, SimulatedBars.of(config), now=END, say=QUIET)
    return store, config


@pytest.fixture(scope="module")
def in_one_go(finished: tuple[Warehouse, Settings]) -> dict[str, pl.DataFrame]:
    """Its tables."""
    return {table: rows(finished[0], table) for table in TABLES}


def test_the_back_test_follows_a_session_and_is_published(finished):
    """The tables, the page and the file say the same, and its own rows can be booked again from the bars stored."""
    store, config = finished
    table, equity, fills = (store.read(name) for name in ("backtest", "bar_equity", "bar_fills"))
    base = as_configured(table)
    assert base["book"].to_list() == ["by_sign", "long_only", "hold", "equal_weight"]
    assert base["model"].to_list()[:2] == ["bar_rnn", "bar_rnn"]
    assert table.filter(pl.col("model") == "linear")["variant"].to_list() == ["base"]
    assert set(equity["book"]) == set(base["book"])
    assert equity.filter(pl.col("book") == "by_sign").height == 24 - 1  # the account stands at the end of the first bar
    assert store.row_counts()["backtests"] == table.height - 2, "the baselines are no trials"
    opens = store.read("bars", DAY, DAY).select("ticker", "bar_end", "open")
    filled = fills.filter(pl.col("filled") != 0).join(opens, on=["ticker", "bar_end"])
    assert filled.height > 40
    assert (filled["price"] == filled["open"]).all()
    published = read_backtest(config.published)
    assert published is not None
    assert [book["book"] for book in published["books"]] == base["book"].to_list()
    for book in published["books"]:
        last = equity.filter(pl.col("book") == book["book"]).sort("bar_end")["equity"][-1]
        assert book["equity"] == [{"session": str(DAY), "equity": last} | book["equity"][0]]
        assert book["total"] == pytest.approx(last / 1e6 - 1)
    assert scores_of(config)[-6:-1] == [
        f"back-test of {DAY} to {DAY}, after all costs:",
        *(
            f"{b['book']:14}{b['total']:>+10.2%} net, turnover {b['turnover']:.1f} a session"
            for b in published["books"]
        ),
    ]
    page = (config.artifacts / "bar_backtest" / "report.html").read_text()
    assert "SIMULATED" in page
    assert all(f">{name}</td>" in page for name in base["book"])


@pytest.fixture
def begun(tmp_path: Path, template: Path) -> tuple[Warehouse, Settings, SimulatedBars]:
    """A store through the session before DAY, with the models of DAY."""
    shutil.copytree(template, tmp_path / "data")
    config = hours(tmp_path / "data")
    store = Warehouse(config.database)
    assert DAY in read_bar_state(store, BEFORE).trained
    return store, config, SimulatedBars.of(config)


class Unruly:
    """A source whose newest bar is revised an hour later, and one of whose tickers is three hours late at noon."""

    name = "simulated"

    def __init__(self, market: SimulatedBars) -> None:
        self.market = market

    def universe(self) -> pl.DataFrame:
        return self.market.universe()

    def fetch_bars(self, tickers, first, last, *, fetched_at, since=NOTHING_STORED):
        bars = self.market.fetch_bars(tickers, first, last, fetched_at=fetched_at, since=since).bars
        noon = datetime(2025, 6, 22, 12, tzinfo=UTC)
        late = (pl.col("ticker") == "SIM02") & (pl.col("bar_end") == noon)
        bars = bars.filter(~late | pl.lit(fetched_at > noon + timedelta(hours=3)))
        fresh = pl.col("bar_end") > fetched_at - timedelta(minutes=30)
        return BarAnswer(
            bars.with_columns(
                close=pl.when(fresh).then(pl.col("close") * 0.6 + pl.col("low") * 0.4).otherwise("close"),
                volume=pl.when(fresh).then(pl.col("volume") / 2).otherwise("volume"),
            )
        )


@pytest.mark.parametrize("unruly", [False, True], ids=["calm", "late and revised"])
def test_a_day_bar_by_bar_is_the_day_in_one_go(begun, in_one_go, unruly: bool):
    store, config, source = begun
    vendor = Unruly(source) if unruly else source
    with attached(store.path, read_only=False, wait=0):  # once, and not at each of thousands of reads and writes
        for hour in range(1, 25):
            look(store, config, vendor, datetime(2025, 6, 22, tzinfo=UTC) + timedelta(hours=hour, seconds=5))
    make_due(store, config, vendor, now=END, say=QUIET)
    for table, expected in in_one_go.items():
        same(rows(store, table), expected)
    versions = declared("raw_bars").fit(store.read("raw_bars", DAY, DAY))
    assert (versions.height > 3 * 24) == unruly


def test_a_look_makes_the_new_bars_alone(begun):
    store, config, source = begun
    look(store, config, source, datetime(2025, 6, 22, 3, 0, 5, tzinfo=UTC))
    before = {table: store.read(table, DAY, DAY).height for table in ("bars", "bar_features", "bar_publication")}
    written: list[tuple[str, int]] = []
    write = Warehouse.write
    monkeypatch = pytest.MonkeyPatch()
    with monkeypatch.context() as patched:
        patched.setattr(
            Warehouse,
            "write",
            lambda self, changes: written.extend((c.table, c.rows.height) for c in changes) or write(self, changes),
        )
        look(store, config, source, datetime(2025, 6, 22, 4, 0, 5, tzinfo=UTC))
    assert {table: count for table, count in written if table in before} == dict.fromkeys(before, 3)
    assert ("bar_predictions", 2 * 3) in written  # the model in service and the naive one


def test_what_was_said_first_stays_said(begun):
    store, config, source = begun
    vendor = Unruly(source)
    first, second = (datetime(2025, 6, 22, hour, 0, 5, tzinfo=UTC) for hour in (5, 6))
    look(store, config, vendor, first)
    said = read_bar_predictions(config.published, DAY)
    look(store, config, vendor, second)
    later = read_bar_predictions(config.published, DAY)
    assert later.filter(pl.col("published_at") == first).equals(said)
    assert later.filter(pl.col("bar_end") == datetime(2025, 6, 22, 6, tzinfo=UTC)).height == 2 * 3
    predicted = rows(store, "bar_predictions").filter(pl.col("bar_end") == datetime(2025, 6, 22, 5, tzinfo=UTC))
    old = said.filter(pl.col("bar_end") == datetime(2025, 6, 22, 5, tzinfo=UTC)).select(predicted.columns)
    assert not predicted.equals(old.sort(pl.all()))  # the bar was revised, and predicted again
    pointer = read_bar_pointer(config.published)
    assert pointer is not None
    assert (pointer.session, pointer.bar_end, pointer.published_at) == (
        DAY,
        datetime(2025, 6, 22, 6, tzinfo=UTC),
        second,
    )
    assert later.schema == FILE


def test_no_model_has_seen_the_session_that_it_serves(begun):
    store, config, source = begun
    make_due(store, config, source, now=datetime(2025, 6, 24, 1, tzinfo=UTC), say=QUIET)
    predictions = declared("bar_predictions").fit(store.read("bar_predictions"))
    opened = pl.col("session").cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    assert predictions.filter(pl.col("trained_through") > opened - timedelta(days=1)).is_empty()
    assert predictions["session"].unique().sort().to_list() == [DAY, date(2025, 6, 23), date(2025, 6, 24)]
    # the references answer once the session is over
    references = predictions.filter(pl.col("model") == "linear")["session"].unique().sort().to_list()
    assert references == [DAY, date(2025, 6, 23)]


@dataclass(frozen=True)
class Drill:
    """A market whose looks are killed: of a session `day` that models serve."""

    settings: Callable[[Path], Settings]
    source: Callable[[Settings, str], Any]
    """of the settings and the address of the local Yahoo"""
    day: date
    before: datetime
    looks: tuple[datetime, ...]
    """three: the first two are those of the process that is killed"""
    end: datetime


def five_minutes(folder: Path) -> Settings:
    return read_settings(
        source="yahoo", interval="5m", exchange="XNYS", start=YAHOO[0], tickers=("AAA", "BBB"), data_dir=folder
    )


def local_yahoo(config: Settings, url: str) -> YahooBars:
    budget = Budget(Politeness(per_second=1000, tries=3, timeout=30.0))
    return YahooBars(calendar_of(config), Interval.parse("5m"), url, tickers=config.tickers, budget=budget)


#: The first session of the market of Yahoo, and the one whose looks are killed.
YAHOO = (date(2024, 11, 19), date(2024, 12, 3))
OPENED = datetime(2024, 12, 3, 14, 30, 7, tzinfo=UTC)
DRILLS = {
    "simulated": Drill(
        hours, lambda config, _: SimulatedBars.of(config), DAY, BEFORE,
        tuple(datetime(2025, 6, 22, hour, 0, 5, tzinfo=UTC) for hour in (2, 3, 4)), END,
    ),
    "yahoo": Drill(
        five_minutes, local_yahoo, YAHOO[1], datetime(2024, 12, 2, 21, 40, tzinfo=UTC),
        tuple(OPENED + timedelta(minutes=minutes) for minutes in (10, 15, 20)), OPENED + timedelta(hours=7, minutes=10),
    ),
}  # fmt: skip


def walks(calendar: TradingCalendar, seed: int) -> pl.DataFrame:
    """Rows of the local Yahoo: the bars of five minutes of all sessions."""
    ends = expected_bars(calendar, calendar.between(YAHOO[0], YAHOO[1]), Interval.parse("5m"))["bar_end"]
    generator = np.random.default_rng(seed)
    close = 50 * np.exp(np.cumsum(generator.normal(0, 0.002, len(ends))))
    opened = close * np.exp(generator.normal(0, 0.001, len(ends)))
    return pl.DataFrame({"at": ends}).with_columns(
        pl.col("at") - timedelta(minutes=5),
        open=opened,
        high=np.maximum(opened, close) * 1.001,
        low=np.minimum(opened, close) * 0.999,
        close=close,
        volume=generator.integers(100, 900, len(ends)).astype(float),
    )


@pytest.fixture(scope="module", params=DRILLS)
def drilled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, quick: None) -> Iterator[Any]:  # noqa: ARG001
    """(name, address of the local Yahoo, folder of a store through the session before, the tables in one go)."""
    drill, url = DRILLS[request.param], ""
    with ExitStack() as stack:
        if request.param == "yahoo":
            stack.enter_context(pytest.MonkeyPatch.context()).setenv("NO_PROXY", "127.0.0.1")
            calendar = trading_calendar("XNYS", YAHOO[0], date(2024, 12, 31))
            answers = {
                name: YahooAnswers(walks(calendar, seed), calendar, drill.end)
                for seed, name in enumerate(("AAA", "BBB"))
            }
            url = stack.enter_context(serving(Vendor(answers))).url
        tables = {}
        for name, now in (("template", drill.before), ("once", drill.end)):
            config = drill.settings(tmp_path_factory.mktemp(name) / "data")
            store = Warehouse(config.database)
            make_due(store, config, drill.source(config, url), now=now, say=QUIET)
            tables[name] = config, store
        assert drill.day in read_bar_state(tables["template"][1], drill.before, settle_time(config)).trained
        once = {table: rows(tables["once"][1], table) for table in TABLES}
        yield request.param, url, tables["template"][0].data_dir, once


CHILD = """
import os, signal, sys
from contextlib import contextmanager
from pathlib import Path
import pytest
from stock_assets.storage.warehouse import Warehouse
from stock_assets_tests.lifecycle.bar_market import use_quick_models
from stock_assets_tests.lifecycle.test_bars import DRILLS, look

use_quick_models(pytest.MonkeyPatch())
name, url, folder, write, inside = sys.argv[1:]
drill, left = DRILLS[name], [int(write)]
config = drill.settings(Path(folder))
store, source = Warehouse(config.database), drill.source(config, url)
transaction = Warehouse._transaction.__wrapped__

def counted(self):
    for connection in transaction(self):
        yield connection
        left[0] -= 1
        if left[0] == 0 and inside == "inside":
            os.kill(os.getpid(), signal.SIGKILL)
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)

Warehouse._transaction = contextmanager(counted)
for now in drill.looks[:2]:
    look(store, config, source, now, day=drill.day)
"""


@pytest.mark.filterwarnings("ignore:The inplace keyword in DataFrame:DeprecationWarning")  # of yfinance 1.7
@pytest.mark.parametrize("inside", ["inside", "after"])
@pytest.mark.parametrize("write", [1, 3, 4, 5, 8])
def test_a_kill_during_the_session_loses_nothing(drilled, tmp_path: Path, write: int, inside: str):
    """The process is killed by signal 9 in its n-th transaction, or right after it; the next look goes on."""
    name, url, template, in_one_go = drilled
    if name == "yahoo" and (write, inside) not in {(1, "inside"), (3, "after"), (5, "inside"), (8, "after")}:
        pytest.skip("the other transactions are those of any source")
    drill = DRILLS[name]
    shutil.copytree(template, tmp_path / "data")
    config = drill.settings(tmp_path / "data")
    child = subprocess.run(
        [sys.executable, "-c", CHILD, name, url, str(config.data_dir), str(write), inside],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        check=False,
    )
    assert child.returncode == -signal.SIGKILL, child.stderr.decode()
    store, source = Warehouse(config.database), drill.source(config, url)
    look(store, config, source, drill.looks[2], day=drill.day)
    make_due(store, config, source, now=drill.end, say=QUIET)
    for table, expected in in_one_go.items():
        same(rows(store, table), expected)
    said = read_bar_predictions(config.published, drill.day)
    assert said.select("model", "ticker", "bar_end").is_unique().all()
    predicted = in_one_go["bar_predictions"].filter(pl.col("session") == drill.day, pl.col("model") != "linear")
    assert said.height == predicted.height > 0
    versions = rows(store, "raw_bars", without=())
    assert versions.select("ticker", "bar_end", "fetched_at").is_unique().all()
    assert versions.height == versions.select("ticker", "bar_end").unique().height, "no bar was revised"


MERGING = """
import os, signal, sys
from datetime import datetime
from pathlib import Path
import pytest
from stock_assets.market.sources.simulated_bars import SimulatedBars
from stock_assets.publication import bar_files
from stock_assets.publication.materialize import bars
from stock_assets.storage.warehouse import Warehouse
from stock_assets_tests.lifecycle.bar_market import hours, use_quick_models
from stock_assets_tests.lifecycle.test_bars import END, QUIET, look
from stock_assets.cli.bars import make_due

use_quick_models(pytest.MonkeyPatch())
config = hours(Path(sys.argv[1]))
store, source = Warehouse(config.database), SimulatedBars.of(config)
for hour in (2, 3, 4):
    look(store, config, source, datetime.fromisoformat(f"2025-06-22T0{hour}:00:05+00:00"))

def killing(function):
    def killed(*arguments, **options):
        function(*arguments, **options)
        os.kill(os.getpid(), signal.SIGKILL)
    return killed

place, name = {"put": (bars, "merge_bars"), "pointed": (bars, "point_to"), "one removed": (bar_files, "delete"),
               "removed": (bars, "remove_merged")}[sys.argv[2]]
if sys.argv[2] == "pointed":
    merge = bars.merge_bars
    def merged(*arguments):
        bars.point_to = killing(bars.point_to)
        return merge(*arguments)
    bars.merge_bars = merged
else:
    setattr(place, name, killing(getattr(place, name)))
make_due(store, config, source, now=END, say=QUIET)
"""


@pytest.mark.parametrize("moment", ["put", "pointed", "one removed", "removed"])
def test_the_files_of_a_session_become_one_also_after_a_kill(begun, moment: str):
    """The process is killed by signal 9 once so much of the merge is done: readers see no difference, and the next
    call leaves one file that the pointer and the table name."""
    store, config, source = begun
    child = subprocess.run(
        [sys.executable, "-c", MERGING, str(config.data_dir), moment],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        check=False,
    )
    assert child.returncode == -signal.SIGKILL, child.stderr.decode()
    said = read_bar_predictions(config.published, DAY)
    assert said.height == 2 * 3 * 24
    assert said["published_at"].n_unique() == 4
    make_due(store, config, source, now=END, say=QUIET)
    (file,) = (config.published / "bar_predictions" / f"session={DAY}").iterdir()
    assert read_bar_predictions(config.published, DAY).equals(said)
    assert store.read("bar_publication", DAY, DAY)["digest"].unique().to_list() == [file.stem]
    assert DAY in read_bar_state(store, END).judged


def test_what_is_revised_after_the_session_is_asked_for_once_more(begun):
    """A close that the vendor corrects half an hour after midnight reaches the tables with the call after one o'clock,
    and what was published stays."""
    store, config, source = begun
    end = datetime(2025, 6, 22, 22, tzinfo=UTC)

    class Late(Unruly):
        def fetch_bars(self, tickers, first, last, *, fetched_at, since=NOTHING_STORED):
            bars = self.market.fetch_bars(tickers, first, last, fetched_at=fetched_at, since=since).bars
            wrong = (pl.col("bar_end") == end) & pl.lit(fetched_at < end + timedelta(hours=2, minutes=30))
            return BarAnswer(bars.with_columns(close=pl.when(wrong).then("low").otherwise("close")))

    vendor = Late(source)
    make_due(store, config, vendor, now=datetime(2025, 6, 23, 0, 6, tzinfo=UTC), say=QUIET)
    said = read_bar_predictions(config.published, DAY)
    before = rows(store, "bar_predictions").filter(pl.col("session") == DAY)
    assert make_due(store, config, vendor, now=datetime(2025, 6, 23, 0, 50, tzinfo=UTC), say=QUIET) == []
    works = make_due(store, config, vendor, now=datetime(2025, 6, 23, 1, 0, 5, tzinfo=UTC), say=QUIET)
    assert [work.name for work in works] == [f"revised bars of {DAY}", "look at 2025-06-23: 2025-06-23 01:00"]
    right = source.fetch_bars(["SIM01"], DAY, DAY, fetched_at=END).bars.filter(pl.col("bar_end") == end)
    stored = rows(store, "bars").filter(pl.col("bar_end") == end, pl.col("ticker") == "SIM01")
    assert stored["close"].to_list() == right["close"].to_list()
    assert not rows(store, "bar_predictions").filter(pl.col("session") == DAY).equals(before)
    assert read_bar_predictions(config.published, DAY).equals(said)
    (again,) = make_due(store, config, vendor, now=datetime(2025, 6, 23, 1, 30, tzinfo=UTC), say=QUIET)
    assert again == works[-1]


# ---------------------------------------------------------------- what is due

ALWAYS = trading_calendar("24/7", date(2025, 6, 1), date(2025, 6, 30))
NEW_YORK = trading_calendar("XNYS", date(2025, 6, 2), date(2025, 6, 30))
MINUTE = Interval.parse("1m")
training = partial(training_of, ALWAYS, MINUTE, most=20, every=5)


def state(now: datetime, labelled: int = 0, trained: int = 0, judged: int = 0) -> BarState:
    sessions = ALWAYS.sessions
    return BarState(now, set(sessions[:labelled]), set(sessions[4 : 4 + trained]), set(sessions[4 : 4 + judged]))


def test_all_sessions_that_are_over_are_one_run():
    work = finished_due(ALWAYS, state(datetime(2025, 6, 9, 0, 6, tzinfo=UTC), labelled=2))
    assert work is not None
    assert (work.first, work.last) == ("2025-06-03", "2025-06-08")
    assert finished_due(ALWAYS, state(datetime(2025, 6, 9, 0, 4, tzinfo=UTC), labelled=7)) is None


def test_a_training_serves_the_sessions_up_to_the_next_one_and_waits_for_its_labels():
    noon = datetime(2025, 6, 4, 12, tzinfo=UTC)
    assert training_due(ALWAYS, MINUTE, state(noon, labelled=2), training=training) is None
    work = training_due(ALWAYS, MINUTE, state(noon, labelled=3), training=training)
    assert work is not None
    assert (work.first, work.last) == ("2025-06-05", "2025-06-05")
    later = training_due(
        ALWAYS, MINUTE, state(datetime(2025, 6, 9, 12, tzinfo=UTC), labelled=8, trained=5), training=training
    )
    assert later is not None
    assert later.first == "2025-06-10"
    behind = training_due(ALWAYS, MINUTE, state(datetime(2025, 6, 12, 12, tzinfo=UTC), labelled=11), training=training)
    assert behind is not None
    assert (behind.first, behind.last) == ("2025-06-05", "2025-06-09")


def test_a_session_is_judged_once_it_is_over_and_has_models():
    now = datetime(2025, 6, 8, 12, tzinfo=UTC)
    assert judging_due(ALWAYS, state(now, labelled=7)) is None
    work = judging_due(ALWAYS, state(now, labelled=7, trained=5, judged=1))
    assert work is not None
    assert (work.first, work.last) == ("2025-06-06", "2025-06-07")
    assert judging_due(ALWAYS, state(now, labelled=7, trained=5, judged=3)) is None


def test_a_session_is_asked_for_once_more_when_the_next_one_begins_and_no_later_than_four_days_after():
    friday, closed = date(2025, 6, 6), NEW_YORK.closes[date(2025, 6, 6)]
    labelled = set(NEW_YORK.between(date(2025, 6, 2), friday))

    def due(now: datetime, asked: datetime) -> str | None:
        work = revision_due(NEW_YORK, MINUTE, BarState(now, labelled, set(), set(), asked_at={friday: asked}))
        return work.first if work else None

    monday = NEW_YORK.opens[date(2025, 6, 9)] + timedelta(minutes=1)
    asked = closed + timedelta(minutes=5)
    assert due(monday - timedelta(seconds=1), asked) is None
    assert due(monday, asked) == str(friday)
    assert due(monday + timedelta(seconds=1), monday) is None
    assert due(closed + timedelta(days=4), asked) == str(friday)
    assert due(closed + timedelta(days=4, seconds=1), asked) is None


def test_a_look_is_due_once_for_every_bar_and_at_midnight_for_both_sessions():
    looks = []
    looked = None
    for second in range(0, 400, 2):
        now = datetime(2025, 6, 5, 23, 58, tzinfo=UTC) + timedelta(seconds=second)
        due = look_due(ALWAYS, MINUTE, state(now, labelled=4, trained=3), looked=looked, every=timedelta(minutes=1))
        if not isinstance(due, str):
            looked = due[1]
            looks.append((looked, due[0].first, due[0].last))
    ends = [datetime(2025, 6, 5, 23, 58, tzinfo=UTC) + timedelta(minutes=k) for k in range(7)]
    assert [end for end, *_ in looks] == ends
    assert looks[3][1:] == ("2025-06-05", "2025-06-06")
    assert all(last == "2025-06-06" for _, _, last in looks[3:])


def test_looks_keep_their_distance_and_the_last_bar_is_looked_at_anyway():
    sessions = set(NEW_YORK.sessions)
    looked, ends = None, []
    begin = NEW_YORK.opens[date(2025, 6, 9)]
    for minute in range(400):
        now = begin + timedelta(minutes=minute, seconds=3)
        due = look_due(
            NEW_YORK, MINUTE, BarState(now, sessions, sessions, set()), looked=looked, every=timedelta(minutes=7)
        )
        if not isinstance(due, str):
            looked = due[1]
            ends.append(looked)
    assert {b - a for a, b in pairwise(ends[:-1])} == {timedelta(minutes=7)}
    assert ends[-1] == NEW_YORK.closes[date(2025, 6, 9)]


def test_nothing_is_looked_at_while_the_exchange_is_closed_or_without_models():
    night = datetime(2025, 6, 9, 4, tzinfo=UTC)
    assert sessions_running(NEW_YORK, night) == []
    assert sessions_over(NEW_YORK, night)[-1] == date(2025, 6, 6)
    answer = look_due(NEW_YORK, MINUTE, state(night), looked=None, every=timedelta(minutes=1))
    assert answer == "no session with models is running"
    noon = datetime(2025, 6, 9, 16, tzinfo=UTC)
    assert isinstance(look_due(NEW_YORK, MINUTE, state(noon), looked=None, every=timedelta(minutes=1)), str)


def test_a_session_of_yahoo_is_over_half_an_hour_later(tmp_path: Path):
    day, found = date(2025, 6, 6), []
    for source in ("simulated", "yahoo"):
        settle = settle_time(hours(tmp_path).model_copy(update={"source": source}))
        moments = [NEW_YORK.closes[day] + timedelta(minutes=minutes) for minutes in (4, 6, 34, 36)]
        found.append([day in sessions_over(NEW_YORK, moment, settle) for moment in moments])
        assert [day not in sessions_running(NEW_YORK, moment, settle) for moment in moments] == found[-1]
    assert found == [[False, True, True, True], [False, False, False, True]]
