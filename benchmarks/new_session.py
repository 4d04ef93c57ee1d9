"""One new session, from the launch of its run to its rows in pca_components, on a real `dagster dev`.

    python -m benchmarks.new_session [--sessions 3]

The store holds everything before the last sessions of the range. Each of these then arrives by itself, in one
run launched through GraphQL, as the UI launches it, on a server that was idle for a while. The figure is the median.
"""

import statistics
import tempfile
import time
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from benchmarks.common import DAILY, RUN, Run, Target, fill, preamble, serve, set_workload, table, targets, use
from benchmarks.common import workload_parser as parser_of
from benchmarks.imports import seconds_of
from benchmarks.one_run import copy_of, split
from stock_assets.cli.graphql import DagsterClient
from stock_assets.market.calendar import calendar_of
from stock_assets.storage.warehouse import Warehouse

ASSETS = (*DAILY, "pca_components")
POLL_SECONDS = 0.25
#: Seconds that the server is left alone before each launch.
IDLE = 20.0
LAUNCH = """
mutation Launch($params: ExecutionParams!) { launchRun(executionParams: $params) {
  __typename ... on LaunchRunSuccess { run { id } } ... on PythonError { message } } }
"""
STATUS = "query Status($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"
DETAILS = f"query Details($id: ID!) {{ runOrError(runId: $id) {{ ... on Run {{ {RUN} }} }} }}"


class Arrival(NamedTuple):
    session: date
    launch: float
    run: Run

    @property
    def seconds(self) -> float:
        """From the launch to the end of the step that writes pca_components, the last that predictions wait for."""
        return self.run.last_step - self.launch

    @property
    def shares(self) -> list[float]:
        moments = (self.launch, *self.run[2:7])
        return [later - earlier for earlier, later in pairwise(moments)]


def arrive(client: DagsterClient, session: date) -> Arrival:
    selector = {
        "repositoryLocationName": "stock_assets",
        "repositoryName": "__repository__",
        "jobName": "__ASSET_JOB",
        "assetSelection": [{"path": [asset]} for asset in ASSETS],
    }
    tags = [{"key": "dagster/partition", "value": str(session)}]
    time.sleep(IDLE)
    launch = time.time()
    params = {"selector": selector, "runConfigData": {}, "executionMetadata": {"tags": tags}}
    answer = client.ask(LAUNCH, {"params": params})["launchRun"]
    if answer["__typename"] != "LaunchRunSuccess":
        raise RuntimeError(f"the run was not accepted: {answer.get('message', answer['__typename'])}")
    run_id = answer["run"]["id"]
    while client.ask(STATUS, {"id": run_id})["runOrError"]["status"] not in ("SUCCESS", "FAILURE", "CANCELED"):
        time.sleep(POLL_SECONDS)
    if failures := client.failures(run_id):
        raise RuntimeError(failures[0])
    return Arrival(session, launch, Run.of(client.ask(DETAILS, {"id": run_id})["runOrError"]))


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--sessions", type=int, default=3, help="how many arrive, one after the other")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        set_workload(options, Path(folder))
        config = use(Path(folder, "store"))
        sessions = calendar_of(config).sessions
        fill(config, sessions[: -options.sessions])
        use(config.data_dir)
        with copy_of(config) as copied_config:
            steps = split(copied_config, ASSETS, sessions[-options.sessions])
        with serve(config) as client:
            arrivals = [arrive(client, session) for session in sessions[-options.sessions :]]
        rows = Warehouse(config.database).read("pca_components", sessions[-options.sessions], columns=["session"])
        counts = dict(rows.group_by("session").len().iter_rows())
    import_seconds = seconds_of("stock_assets.definitions")
    if missing := [str(arrival.session) for arrival in arrivals if not counts.get(arrival.session)]:
        raise RuntimeError(f"no rows in pca_components on {', '.join(missing)}")

    header = ("session", "rows", "seconds", "request", "queue", "process start-up", "planning", "steps")
    print(table(header, [(str(a.session), counts[a.session], a.seconds, *a.shares) for a in arrivals]))
    print(
        "Request: GraphQL and the events that announce the run. Queue: until the daemon launches it. Process start-up: "
        f"until RUN_START; importing the definitions alone takes a fresh process {import_seconds:.2f} s. Planning: "
        f"until the first step. Steps: {', '.join(ASSETS)}.\n"
    )
    print(targets(Target("one new session, s", statistics.median(a.seconds for a in arrivals), 3)))
    print(f"The first of them once more, on a copy of the store.\n\n{steps}")


if __name__ == "__main__":
    preamble()
    main()
