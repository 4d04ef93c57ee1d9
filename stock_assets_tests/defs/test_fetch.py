"""What a vendor who does not answer for every ticker does to a run."""

from datetime import date

import dagster as dg
import polars as pl
import pytest

from stock_assets.market.calendar import calendar_of
from stock_assets.market.sources import Answer, Failure
from stock_assets.market.sources.budget import Budget, Politeness
from stock_assets.market.sources.registry import make_source
from stock_assets.market.sources.yahoo import YahooSource
from stock_assets.market.tables import OUTCOME_SCHEMA
from stock_assets_tests.defs.conftest import Graph, small_market
from stock_assets_tests.defs.test_flow import failure_of
from stock_assets_tests.market.fake_time import FakeTime
from stock_assets_tests.market.vendor import UNAVAILABLE, Vendor, plain_history, serving


class Flaky:
    """The simulated market, which does not answer for some tickers, and notes what it was asked."""

    name = "simulated"

    def __init__(self, settings) -> None:
        self.inner = make_source(settings)
        self.failing: dict[str, Failure] = {}
        self.asked: list[tuple[int, date, date]] = []
        self.settled = 0

    def universe(self) -> pl.DataFrame:
        return self.inner.universe()

    def fetch(self, tickers, first, last, *, fetched_at) -> Answer:
        self.asked.append((len(tickers), first, last))
        failures = {ticker: failure for ticker, failure in self.failing.items() if ticker in tickers}
        answering = [ticker for ticker in tickers if ticker not in failures]
        bars = self.inner.fetch(tickers, first, last, fetched_at=fetched_at).bars.filter(
            pl.col("ticker").is_in(answering)
        )
        return Answer(bars, failures, settle=self.settle)

    def settle(self) -> None:
        self.settled += 1


@pytest.fixture
def graph(instance: dg.DagsterInstance, tmp_path) -> Graph:
    graph = Graph(small_market(tmp_path, tickers=None), instance)
    graph.resources = {"source": Flaky(graph.settings)}
    graph.materialize(["universe"])
    return graph


def source_of(graph: Graph) -> Flaky:
    source = graph.resources["source"]
    assert isinstance(source, Flaky)
    return source


def told(graph: Graph, *outcome: str) -> list[tuple]:
    rows = graph.warehouse.read("fetch_outcomes").filter(pl.col("outcome").is_in(outcome or ["error", "unknown"]))
    assert rows.columns == OUTCOME_SCHEMA.names()
    return rows.select("ticker", "first", "last", "outcome").sort("ticker", "first").rows()


def of_ticker(graph: Graph, ticker: str) -> list[date]:
    return graph.table("raw_ohlcv").filter(pl.col("ticker") == ticker)["session"].to_list()


def test_few_failures_are_named_and_asked_for_again(graph: Graph) -> None:
    source, days = source_of(graph), graph.calendar.sessions
    source.failing = {"SIM07": Failure("HTTP 503 (5 tries)"), "SIM09": Failure("nothing", unknown=True)}
    result = graph.materialize(["raw_ohlcv"], days[0], days[9])

    (check,) = result.get_asset_check_evaluations()
    assert (check.check_name, check.passed, check.severity) == ("answered", False, dg.AssetCheckSeverity.WARN)
    assert check.metadata["named"].value == "SIM07, SIM09"
    assert told(graph) == [("SIM07", days[0], days[9], "error"), ("SIM09", days[0], days[9], "unknown")]
    assert source.settled == 1
    assert of_ticker(graph, "SIM08") == list(days[:10])
    assert of_ticker(graph, "SIM07") == []

    # the next range asks those who owe for all of theirs, and nobody else; not those of whom there is nothing
    source.failing.pop("SIM07")
    source.asked.clear()
    result = graph.materialize(["raw_ohlcv"], days[10], days[11])
    everyone = graph.warehouse.read("universe")["ticker"].n_unique()
    assert source.asked == [(everyone, days[5], days[11]), (1, days[0], days[4])]
    assert of_ticker(graph, "SIM07") == list(days[:12])
    assert told(graph) == [("SIM09", days[0], days[11], "unknown")]
    (check,) = result.get_asset_check_evaluations()
    assert check.metadata["named"].value == "SIM09"

    source.failing.clear()
    source.asked.clear()
    (check,) = graph.materialize(["raw_ohlcv"], days[12]).get_asset_check_evaluations()
    assert check.passed
    assert source.asked == [(everyone, days[7], days[12])]
    raw = graph.table("raw_ohlcv")
    assert raw.height == raw.select("ticker", "session").n_unique()


def test_a_failed_second_look_leaves_the_bars_that_are_there(graph: Graph) -> None:
    source, days = source_of(graph), graph.calendar.sessions
    graph.materialize(["raw_ohlcv"], days[0], days[9])
    source.failing = {"SIM07": Failure("HTTP 503")}
    graph.materialize(["raw_ohlcv"], days[10])
    assert told(graph) == [("SIM07", days[10], days[10], "error")]
    assert of_ticker(graph, "SIM07") == list(days[:10])


def test_too_many_failures_fail_the_run_and_write_nothing(graph: Graph) -> None:
    source, days = source_of(graph), graph.calendar.sessions
    source.failing = {f"SIM0{i}": Failure("HTTP 503 (5 tries)") for i in range(1, 6)}
    message = failure_of(graph.materialize(["raw_ohlcv"], days[0], days[9], fail=True))
    assert message.startswith("SourceError: ")
    assert "simulated: no answer for 5 of 55 tickers, 9.1%, where 5.0% may fail. " in message
    assert "SIM01, SIM02, SIM03, SIM04, SIM05: HTTP 503 (5 tries)" in message
    assert set(graph.warehouse.row_counts()) == {"universe"}
    assert source.settled == 0


def test_why_there_is_no_bar_is_a_stretch_per_ticker(graph: Graph) -> None:
    days = graph.calendar.sessions
    graph.materialize(["raw_ohlcv"], days[0], days[9])
    graph.materialize(["raw_ohlcv"], days[10], days[19])
    universe = graph.warehouse.read("universe")
    late = universe.filter(pl.col("from_session") > days[19])["ticker"].sort().to_list()
    assert told(graph, "not_listed") == [(ticker, days[0], days[19], "not_listed") for ticker in late]
    assert late


def test_what_a_source_says_of_its_progress_is_in_the_log_of_the_run(
    instance: dg.DagsterInstance, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def talking(settings, say):
        say("Yahoo: 120 of 500 tickers, about 190 s to go")
        return make_source(settings)

    monkeypatch.setattr("stock_assets.definitions.make_source", talking)
    result = Graph(small_market(tmp_path), instance).materialize(["universe"])
    said = [entry.user_message for entry in instance.all_logs(result.run_id)]
    assert "Yahoo: 120 of 500 tickers, about 190 s to go" in said


# yfinance 1.7 sorts with inplace=True, which pandas 3.1 deprecates
@pytest.mark.filterwarnings("ignore:The inplace keyword in DataFrame:DeprecationWarning")
def test_yahoo_asks_in_the_next_run_for_what_the_failed_one_lacks(
    instance: dg.DagsterInstance, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    tickers = tuple(f"T{i}" for i in range(6))
    settings = small_market(tmp_path, source="yahoo", tickers=tickers)
    days, everything = calendar_of(settings).sessions, plain_history(calendar_of(settings).sessions, step=1.0)
    broken = {"T4", "T5"}
    vendor = Vendor(
        dict.fromkeys(tickers, everything), fails=lambda ticker, _: UNAVAILABLE if ticker in broken else None
    )

    def yahoo() -> YahooSource:
        time = FakeTime()
        budget = Budget(Politeness(per_second=1000, tries=2), clock=time.clock, sleep=time.sleep)
        return YahooSource(calendar_of(settings), tickers, vendor.url, staged=settings.staged_answers, budget=budget)

    graph = Graph(settings, instance)
    with serving(vendor):
        graph.resources = {"source": yahoo()}
        graph.materialize(["universe"])
        message = failure_of(graph.materialize(["raw_ohlcv"], days[0], days[9], fail=True))
        assert "yahoo: no answer for 2 of 6 tickers, 33.3%, where 5.0% may fail. T4, T5: HTTP 503" in message
        assert vendor.asked == {"T0": 1, "T1": 1, "T2": 1, "T3": 1, "T4": 2, "T5": 2}

        broken.clear()
        graph.resources = {"source": yahoo()}
        graph.materialize(["raw_ohlcv"], days[0], days[9])
        assert vendor.asked == {"T0": 1, "T1": 1, "T2": 1, "T3": 1, "T4": 3, "T5": 3}
    assert graph.table("raw_ohlcv").height == 60
    assert not list(settings.staged_answers.iterdir())
