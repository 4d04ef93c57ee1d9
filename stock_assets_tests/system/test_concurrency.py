"""Eight runs at once on days that overlap, and somebody who reads meanwhile."""

from concurrent.futures import ThreadPoolExecutor, wait

import pytest
from polars.testing import assert_frame_equal

from stock_assets.market.calendar import calendar_of
from stock_assets_tests.system.chain import WRITERS as ASSETS
from stock_assets_tests.system.conftest import Server, stock_assets

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("system")]

RUNS = 8
#: Sessions of every run, and between the first ones of two neighbours.
LENGTH, STEP = 120, 30
#: Seconds between two readers, each of which opens the store anew; every SHELL-th is a command in a process of its own,
#: whose start takes a processor for seconds.
READER_PAUSE, SHELL = 0.5, 20
BARS = "select count(*) as bars from daily_bars"

LAUNCH = """
mutation Launch($params: [ExecutionParams!]!) {
  launchMultipleRuns(executionParamsList: $params) {
    ... on LaunchMultipleRunsResult { launchMultipleRunsResult {
      __typename
      ... on LaunchRunSuccess { run { runId } }
      ... on PythonError { message }
    } }
    ... on PythonError { message }
  }
}"""


def parameters(first: str, last: str) -> dict:
    """One run of `ASSETS` over a range, as the UI asks for it."""
    return {
        "mode": "default",
        "runConfigData": "{}",
        "selector": {
            "repositoryLocationName": "stock_assets",
            "repositoryName": "__repository__",
            "pipelineName": "__ASSET_JOB",
            "assetSelection": [{"path": [asset]} for asset in ASSETS],
        },
        "executionMetadata": {
            "tags": [
                {"key": "dagster/asset_partition_range_start", "value": first},
                {"key": "dagster/asset_partition_range_end", "value": last},
            ]
        },
    }


def launch(server: Server, ranges: list[tuple[str, str]]) -> list[str]:
    """The ids of as many runs of `ASSETS`, launched at once."""
    answer = server.client.ask(LAUNCH, {"params": [parameters(*days) for days in ranges]})
    launched = answer["launchMultipleRuns"]["launchMultipleRunsResult"]
    assert [result["__typename"] for result in launched] == ["LaunchRunSuccess"] * len(ranges)
    return [result["run"]["runId"] for result in launched]


def test_runs_at_once_all_succeed_and_a_reader_is_always_answered(server: Server):
    before = server.tables()
    days = [str(day) for day in calendar_of(server.settings).sessions]
    ranges = [(days[start], days[start + LENGTH - 1]) for start in range(0, RUNS * STEP, STEP)]
    run_ids = launch(server, ranges)

    with ThreadPoolExecutor(1) as waiting:
        ends = waiting.submit(lambda: [server.finished(run_id) for run_id in run_ids])
        answers, counts = [], []
        while not answers or not wait([ends], timeout=READER_PAUSE).done:
            if len(counts) % SHELL == 0:
                answers.append(stock_assets(server.settings, "query", BARS))
            counts.append(server.warehouse.query(BARS).item())
    assert ends.result() == ["SUCCESS"] * RUNS
    bars = before["daily_bars"].height
    assert set(counts) == {bars}
    for answer in answers:
        assert answer.returncode == 0, answer.stderr
        assert str(bars) in answer.stdout
        assert answer.stderr == ""

    for name, rows in server.tables().items():
        assert_frame_equal(rows, before[name], rel_tol=1e-9, abs_tol=1e-9)
    said = " ".join(text for run_id in run_ids for text in server.client.failures(run_id))
    assert said == ""
