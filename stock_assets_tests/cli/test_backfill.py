"""What a backfill is asked to make, and what is told of it."""

import io
import os
import signal
from collections.abc import Sequence
from datetime import UTC, date, datetime
from functools import partial
from itertools import pairwise

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from rich.progress import Progress

from stock_assets.cli import backfill, progress
from stock_assets.definitions import build_definitions
from stock_assets.errors import StockAssetsError
from stock_assets.lifecycle.partitions import WHOLE
from stock_assets.market.sources.staging import Staging
from stock_assets.settings import read_settings
from stock_assets_tests.defs.test_definitions import GRAPH

DAYS = ["2018-12-27", "2018-12-28", "2018-12-31", "2019-01-02", "2019-01-03"]
KEYS: dict[str, Sequence[str] | None] = {
    "universe": None,
    "raw_ohlcv": DAYS,
    "labels": DAYS[:3],
    "trained_rnn": ["2018", "2019"],
    "evaluation_report": None,
    "operations": None,
}


@pytest.fixture
def held() -> dict[str, set[str]]:
    """What Dagster and the store agree on."""
    return {}


def materialized(held: dict[str, set[str]], asset: str, *partitions: str) -> None:
    held.setdefault(asset, set()).update(partitions or [WHOLE])


# ---------------------------------------------------------------- which partitions there are


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Sequence[str] | None]:
    config = read_settings(
        source="simulated",
        data_dir=tmp_path_factory.mktemp("data"),
        start=date(2018, 1, 2),
        end=date(2019, 6, 28),
        first_model_year=2019,
    )
    return backfill.partition_keys(build_definitions(config), datetime(2026, 1, 2, tzinfo=UTC))


def test_every_asset_comes_after_what_it_needs(keys):
    order = list(keys)
    assert len(order) == len(GRAPH)
    for before, after in (
        ("universe", "raw_ohlcv"),
        ("raw_ohlcv", "daily_bars"),
        ("daily_bars", "labels"),
        ("pca_model", "pca_components"),
        ("trained_rnn", "predictions"),
        ("predictions", "target_weights"),
        ("target_weights", "fills"),
        ("predictions", "drift"),
        ("leakage_audit", "evaluation_report"),
        ("evaluation_report", "publication"),
        ("operations", "publication"),
    ):
        assert order.index(before) < order.index(after)


def test_the_keys_of_every_asset_are_its_own(keys):
    assert {asset for asset, all_keys in keys.items() if all_keys is None} == {
        "universe",
        "pca_model",
        "tuned_hyperparameters",
        "input_value",
        "evaluation_report",
        "leakage_audit",
        "operations",
        "promotions",
        "backtest",
        "tear_sheet",
    }
    assert (keys["raw_ohlcv"][0], keys["raw_ohlcv"][-1]) == ("2018-01-02", "2019-06-28")
    assert len(keys["labels"]) == len(keys["raw_ohlcv"]) - 7
    assert keys["predictions"][0] == "2019-01-02"
    assert list(keys["trained_rnn"]) == ["2019"]


# ---------------------------------------------------------------- what is missing


def test_everything_is_missing_in_an_empty_instance(held):
    assert backfill.missing(KEYS, held) == {asset: all_keys and list(all_keys) for asset, all_keys in KEYS.items()}


def test_what_is_made_on_demand_is_never_missing(held):
    on_demand = dict.fromkeys(backfill.ON_DEMAND)
    assert backfill.missing(on_demand | {"universe": None}, held) == {"universe": None}
    chosen = backfill.within(on_demand, date(2018, 1, 2), date(2018, 1, 2), assets=[*on_demand])
    assert chosen == on_demand


def test_nothing_is_missing_when_everything_is_there(held):
    for asset, all_keys in KEYS.items():
        materialized(held, asset, *(all_keys or ()))
    assert backfill.missing(KEYS, held) == {}


def test_the_reports_are_judged_anew_when_a_day_is_missing(held):
    for asset, all_keys in KEYS.items():
        materialized(held, asset, *(key for key in all_keys or () if key not in (DAYS[1], DAYS[4])))
    assert backfill.missing(KEYS, held) == {
        "raw_ohlcv": [DAYS[1], DAYS[4]],
        "labels": [DAYS[1]],
        "evaluation_report": None,
        "operations": None,
    }


def test_a_missing_report_alone_asks_for_nothing_before_it(held):
    for asset, all_keys in KEYS.items():
        if asset != "operations":
            materialized(held, asset, *(all_keys or ()))
    assert backfill.missing(KEYS, held) == {"operations": None}


def test_the_newest_session_is_published_again_with_what_was_missing(held):
    keys = {"labels": DAYS, "publication": DAYS}
    assert backfill.missing(keys, held) == keys
    materialized(held, "labels", *DAYS[:4])
    materialized(held, "publication", *DAYS[1:])
    assert backfill.missing(keys, held) == {"labels": DAYS[4:], "publication": [DAYS[0], DAYS[4]]}


#: The same graph with the models that no prediction waits for.
WITH_REFERENCES = {
    "universe": None,
    "raw_ohlcv": DAYS,
    "trained_rnn": ["2018", "2019"],
    "trained_references": ["2018", "2019"],
    "reference_predictions": DAYS,
    "leakage_audit": None,
    "evaluation_report": None,
    "backtest": None,
    "tear_sheet": None,
    "operations": None,
}


def test_the_references_are_made_after_everything_else(held):
    first = backfill.missing(WITH_REFERENCES, held)
    assert list(first) == [asset for asset in WITH_REFERENCES if asset not in backfill.LATER.assets]
    for asset, all_keys in first.items():
        materialized(held, asset, *(all_keys or ()))
    assert backfill.missing(WITH_REFERENCES, held) == {}
    later = backfill.missing(WITH_REFERENCES, held, backfill.LATER)
    of_the_stage = {*backfill.LATER.assets, *backfill.LATER.again}
    assert list(later) == [asset for asset in WITH_REFERENCES if asset in of_the_stage]
    for asset in backfill.LATER.assets:
        materialized(held, asset, *(WITH_REFERENCES[asset] or ()))
    assert backfill.missing(WITH_REFERENCES, held, backfill.LATER) == {}


def test_a_graph_without_references_has_nothing_to_make_later(held):
    assert backfill.missing(KEYS, held, backfill.LATER) == {}


# ---------------------------------------------------------------- what a range means


def test_a_range_is_every_partition_it_touches():
    assert backfill.within(KEYS, date(2018, 12, 28), date(2019, 1, 2), assets=None) == {
        "raw_ohlcv": DAYS[1:4],
        "labels": DAYS[1:3],
        "trained_rnn": ["2018", "2019"],
    }


def test_a_range_without_a_session_of_an_asset_leaves_it_out():
    assert backfill.within(KEYS, date(2019, 1, 2), date(2019, 1, 3), assets=None) == {
        "raw_ohlcv": DAYS[3:],
        "trained_rnn": ["2019"],
    }


def test_a_range_of_all_assets_leaves_out_what_is_made_on_demand():
    """Orders of the past cannot be sent: with them, every range of predicted sessions failed."""
    keys = {"predictions": DAYS, "orders": DAYS, "publication": DAYS}
    chosen = backfill.within(keys, date(2018, 12, 31), date(2019, 1, 2), assets=None)
    assert chosen == {"predictions": DAYS[2:4], "publication": DAYS[2:4]}
    (named,) = backfill.within(keys, date(2018, 12, 31), date(2018, 12, 31), assets=["orders"])
    assert named == "orders"


def test_named_assets_alone_are_made_unpartitioned_ones_too():
    chosen = backfill.within(KEYS, date(2018, 12, 31), date(2018, 12, 31), assets=["evaluation_report", "labels"])
    assert chosen == {"labels": ["2018-12-31"], "evaluation_report": None}


@pytest.mark.parametrize(
    ("start", "end", "assets", "said"),
    [
        (date(2019, 1, 3), date(2019, 1, 2), None, "--start 2019-01-03 lies after --end 2019-01-02"),
        (date(2019, 1, 2), date(2019, 1, 3), ["lables"], "no asset lables; expected one of universe, raw_ohlcv"),
        (date(2018, 12, 29), date(2018, 12, 30), ["raw_ohlcv"], "no asset has a partition from 2018-12-29 to"),
        (date(1999, 1, 1), date(1999, 12, 31), None, "no asset has a partition from 1999-01-01 to 1999-12-31"),
    ],
)
def test_a_range_that_cannot_be_made_is_one_clear_error(start, end, assets, said):
    with pytest.raises(StockAssetsError, match=said):
        backfill.within(KEYS, start, end, assets=assets)


@given(st.integers(1, 30), st.data())
@settings(derandomize=True, deadline=None, max_examples=60)
def test_ranges_hold_exactly_the_chosen_keys_and_never_touch(count: int, data: st.DataObject):
    all_keys = [f"{number:02d}" for number in range(count)]
    chosen = sorted(data.draw(st.sets(st.sampled_from(all_keys))))
    ranges = backfill.ranges_of(chosen, all_keys)
    expanded = [key for first, last in ranges for key in all_keys if first <= key <= last]
    assert expanded == chosen
    for (_, last), (first, _) in pairwise(ranges):
        assert int(first) > int(last) + 1


# ---------------------------------------------------------------- launching and following


class FakeClient:
    """A server that answers with the given states of a backfill, one after the other."""

    def __init__(self, *states: dict, failures: Sequence[str] = ()) -> None:
        self.left, self._failures = list(states), list(failures)
        self.launched: list[tuple[dict, str]] = []
        self.latest: dict[str, tuple[str | None, set[str]]] = {}
        self.cancelled: list[str] = []
        self.url = "http://127.0.0.1:3000"

    def cancel(self, backfill_id: str) -> None:
        self.cancelled.append(backfill_id)

    def launch(self, partitions, title: str) -> str:
        self.launched.append((dict(partitions), title))
        return "abcdefgh"

    def backfill(self, backfill_id: str) -> dict:
        assert backfill_id == "abcdefgh"
        return self.left.pop(0) if len(self.left) > 1 else self.left[0]

    def latest_runs(self, assets) -> dict[str, tuple[str | None, set[str]]]:
        return {asset: self.latest.get(asset, (None, set())) for asset in assets}

    def failures(self, run_id: str) -> list[str]:
        return [f"{run_id} {text}" for text in self._failures]


def state(status: str, *runs: dict, statuses: Sequence[dict] = (), error: str | None = None) -> dict:
    return {
        "status": status,
        "error": {"message": error} if error else None,
        "assetBackfillData": {"assetBackfillStatuses": list(statuses)},
        "runs": list(runs),
    }


def run(status: str, assets: Sequence[str] = (), first: str = "", last: str = "", run_id: str = "run-1") -> dict:
    tags = {backfill.RANGE_START: first, backfill.RANGE_END: last} if last else {backfill.PARTITION: first}
    return {
        "id": run_id,
        "status": status,
        "tags": [{"key": key, "value": value} for key, value in tags.items() if value],
        "assetSelection": [{"path": [asset]} for asset in assets],
    }


def counts(asset: str, targeted: int, done: int, failed: int = 0) -> dict:
    return {
        "assetKey": {"path": [asset]},
        "numPartitionsTargeted": targeted,
        "numPartitionsMaterialized": done,
        "numPartitionsFailed": failed,
    }


def test_one_launch_asks_for_ranges():
    client = FakeClient(state("COMPLETED_SUCCESS"))
    targets: backfill.Targets = {"universe": None, "raw_ohlcv": [DAYS[0], DAYS[1], DAYS[4]]}
    assert backfill.launch(client, targets, KEYS, title="why") == "abcdefgh"  # pyright: ignore[reportArgumentType]
    wanted = {"universe": None, "raw_ohlcv": [(DAYS[0], DAYS[1]), (DAYS[4], DAYS[4])]}
    assert client.launched == [(wanted, "why")]


def test_partitions_are_counted_while_the_run_is_still_under_way():
    runs = [
        run("SUCCESS", ["universe"]),
        run("STARTED", ["raw_ohlcv", "labels"], DAYS[0], DAYS[2], "run-2"),
        run("SUCCESS", ["raw_ohlcv"], DAYS[2], run_id="run-3"),
        run("FAILURE", ["trained_rnn"], "2019", "2019", "run-4"),
    ]
    latest: dict[str, tuple[str | None, set[str]]] = {"raw_ohlcv": ("run-2", set()), "labels": (None, {"run-2"})}
    done, running = backfill.finished_partitions(runs, latest, KEYS)
    assert done == {"universe": 1, "raw_ohlcv": 3}
    assert running == {"labels"}


def test_following_tells_how_far_a_fetch_is(monkeypatch, tmp_path):
    monkeypatch.setattr(backfill, "POLL_SECONDS", 0)
    days = ["raw_ohlcv"], DAYS[0], DAYS[4]
    behind = [counts("raw_ohlcv", 5, 0)]
    under_way = Staging(tmp_path / "2020-01-02_2019-01-02_2019-12-31")
    under_way.expect(3)
    under_way.save("AAPL", pl.DataFrame({"close": [1.0]}))
    client = FakeClient(state("CANCELED", run("STARTED", *days), statuses=behind))
    client.latest = {"raw_ohlcv": (None, {"run-1"})}
    console = Console(record=True, width=150, file=io.StringIO(), force_terminal=True)
    with pytest.raises(StockAssetsError):
        backfill.follow(client, "abcdefgh", KEYS, console=console, staged=tmp_path)  # pyright: ignore[reportArgumentType]
    assert "running: 1 of 3 tickers, about 0 s to go" in console.export_text()


def test_following_ends_with_the_last_run_before_the_daemon_notices(monkeypatch):
    monkeypatch.setattr(backfill, "POLL_SECONDS", 0)
    days = ["raw_ohlcv"], DAYS[0], DAYS[4]
    behind = [counts("raw_ohlcv", 5, 0)]
    client = FakeClient(
        state("REQUESTED"),
        state("REQUESTED", statuses=behind),
        state("REQUESTED", run("STARTED", *days), statuses=behind),
        state("REQUESTED", run("SUCCESS", *days), statuses=behind),
    )
    client.latest = {"raw_ohlcv": ("run-1", set())}  # its rows are there before the run is over
    console = Console(record=True, width=100, file=io.StringIO())
    backfill.follow(client, "abcdefgh", KEYS, console=console)  # pyright: ignore[reportArgumentType]
    assert "5/5" in console.export_text()
    assert len(client.left) == 1


def press() -> None:
    """A Ctrl-C, as the terminal sends it."""
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize(
    ("last", "said"), [("CANCELED", "it is over. What it made stays"), ("CANCELING", "it is not over yet; see http")]
)
@pytest.mark.parametrize("moment", ["launching", "following", "twice"])
def test_a_ctrl_c_cancels_the_backfill_and_says_what_became_of_it(monkeypatch, last, said, moment):
    monkeypatch.setattr(backfill, "POLL_SECONDS", 0)
    monkeypatch.setattr(backfill, "CANCEL_SECONDS", 0.01)
    handler = signal.getsignal(signal.SIGINT)
    client = FakeClient(state("CANCELING"), state(last))

    def launch() -> str:
        if moment == "launching":
            press()
        return client.launch({}, "why")

    if moment == "twice":
        cancel = client.cancel

        def pressed_again(backfill_id: str) -> None:
            press()
            cancel(backfill_id)

        monkeypatch.setattr(client, "cancel", pressed_again)
    pipe = io.StringIO()
    cancelled = backfill.cancelled_by_ctrl_c(client, launch, Console(file=pipe))  # pyright: ignore[reportArgumentType]
    with pytest.raises(KeyboardInterrupt), cancelled:
        press()
    assert client.cancelled == ["abcdefgh"]
    assert said in pipe.getvalue()
    assert signal.getsignal(signal.SIGINT) is handler


def test_without_a_ctrl_c_nothing_is_cancelled():
    client, handler = FakeClient(state("COMPLETED_SUCCESS")), signal.getsignal(signal.SIGINT)
    launch = partial(client.launch, {}, "why")
    with backfill.cancelled_by_ctrl_c(client, launch, Console()) as backfill_id:  # pyright: ignore[reportArgumentType]
        assert backfill_id == "abcdefgh"
        assert signal.getsignal(signal.SIGINT) is handler
    assert client.cancelled == []


@pytest.mark.parametrize("width", [40, 120])
def test_a_pipe_gets_a_line_per_change(monkeypatch, width):
    monkeypatch.setattr(backfill, "POLL_SECONDS", 0)
    days = ["raw_ohlcv"], DAYS[0], DAYS[4]
    steps = [counts("raw_ohlcv", 2516, 0), counts("raw_ohlcv", 2516, 100), counts("raw_ohlcv", 2516, 2516)]
    client = FakeClient(
        *(state("REQUESTED", run("STARTED", *days), statuses=[step, counts("labels", 3, 0)]) for step in steps),
        state("CANCELED", run("STARTED", *days), statuses=[steps[-1], counts("labels", 3, 0, 1)]),
    )
    client.latest = {"raw_ohlcv": (None, {"run-1"})}
    pipe = io.StringIO()
    with pytest.raises(StockAssetsError):
        backfill.follow(client, "abcdefgh", KEYS, console=Console(file=pipe, width=width))  # pyright: ignore[reportArgumentType]
    assert pipe.getvalue().splitlines() == ["raw_ohlcv 0/2,516 running", "raw_ohlcv 2,516/2,516", "labels 0/3 1 failed"]


def test_an_asset_that_takes_long_gets_a_line_now_and_then():
    now, pipe = [0.0], io.StringIO()
    lines = progress.Lines(Console(file=pipe), lambda: now[0])
    for second in range(25):
        now[0] = float(second)
        lines.show([progress.AssetProgress("raw_ohlcv", second, 100, "running")])
    assert pipe.getvalue().splitlines() == [f"raw_ohlcv {done}/100 running" for done in (0, 10, 20)]


@pytest.mark.parametrize("width", [40, 90])
def test_a_terminal_gets_bars_that_fit(width):
    bars = Progress(*progress.columns_for(width), console=Console(file=io.StringIO()))
    progress.Bars(bars).show([progress.AssetProgress("stationary_features", 900, 2516, "running")])
    console = Console(record=True, width=width, file=io.StringIO())
    console.print(bars.get_renderable())
    (text,) = console.export_text().splitlines()
    assert len(text) <= width
    assert "stationary_features" in text
    assert "900/2516" in text


@pytest.mark.parametrize(
    ("last", "said"),
    [
        (state("COMPLETED_FAILED", run("FAILURE")), "^run-1 raw_ohlcv: no bar$"),
        (state("REQUESTED", run("FAILURE"), statuses=[counts("raw_ohlcv", 1, 1)]), "^run-1 raw_ohlcv: no bar$"),
        (state("FAILED", error="the daemon broke\n"), "^the daemon broke$"),
        (state("CANCELED"), "^the backfill ended as CANCELED$"),
    ],
)
def test_a_backfill_that_did_not_succeed_says_why(last, said):
    client = FakeClient(last, failures=["raw_ohlcv: no bar", "daily_bars: a second one"])
    with pytest.raises(StockAssetsError, match=said):
        backfill.follow(client, "abcdefgh", KEYS, console=Console(file=io.StringIO()))  # pyright: ignore[reportArgumentType]
