"""A moved alias: how soon after `stock-assets republish`, or its Dagster job, the API answers with the other version.

    python -m benchmarks.republish [--tickers 60] [--start 2018-01-02]

The store has two versions of `rnn` of one model year. The alias `champion` goes from one to the other and back, and the
newest predicted session with it, while a real API serves. The command is a process of its own, so its imports count.
"""

import http.client
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg

from benchmarks.common import (
    Target,
    fill,
    materialize,
    preamble,
    serve,
    set_workload,
    table,
    targets,
    use,
    workload_parser,
)
from benchmarks.serving import API, HOST, free_port, process, until_answered
from stock_assets.cli.graphql import DagsterClient
from stock_assets.definitions import build_definitions
from stock_assets.market.calendar import calendar_of
from stock_assets.publication.materialize.publish import publish_sessions
from stock_assets.settings import Settings
from stock_assets.storage.registry import open_registry
from stock_assets.storage.warehouse import Warehouse

MODEL, PUBLISHED, TIMES = "rnn", 40, 5
PATIENCE = 120.0
QUIET = {"loggers": {"console": {"config": {"log_level": "ERROR"}}}}
LAUNCH = """mutation { launchRun(executionParams: {selector: {repositoryLocationName: "stock_assets",
  repositoryName: "__repository__", jobName: "republish"}, runConfigData: "{}", mode: "default"})
  { __typename ... on LaunchRunSuccess { run { id } } ... on PythonError { message } } }"""


def two_versions(config: Settings) -> list[str]:
    """Fills the store, trains the model of its last year twice, predicts and publishes: the two versions."""
    sessions = calendar_of(config).sessions
    year = sessions[-1].year
    fill(config, sessions)
    materialize(config, ["trained_rnn", "trained_baselines", "trained_ensemble"], [year])  # pyright: ignore[reportArgumentType]
    of_year = [day for day in sessions if day.year == year]
    materialize(config, ["predictions", "drift"], of_year)
    project = build_definitions(config)
    with dg.DagsterInstance.get() as instance:
        job = project.resolve_implicit_global_asset_job_def()
        run_config = {"ops": {"trained_rnn": {"config": {"cutoff": str(of_year[len(of_year) // 2])}}}} | QUIET
        asset = [dg.AssetKey("trained_rnn")]
        job.execute_in_process(run_config, instance=instance, asset_selection=asset, partition_key=str(year))
    store = Warehouse(config.database)
    publish_sessions(store, config, of_year[-PUBLISHED:], registry=registry_of(config), now=datetime.now(UTC))
    rows = store.read("trained_rnn", columns=["model", "version", "trained_through"]).sort("trained_through")
    return [version for model, version, _ in rows.iter_rows() if model == MODEL]


def registry_of(config: Settings):
    return open_registry(config.mlflow_uri, config.mlflow_artifacts)


def served(port: int, ticker: str) -> str:
    """The version behind the newest answer about `ticker`."""
    connection = http.client.HTTPConnection(HOST, port, timeout=10)
    connection.request("GET", f"/v1/predictions/{ticker}?model={MODEL}")
    answer = json.loads(connection.getresponse().read())
    connection.close()
    return answer["model_version"]


@contextmanager
def api(config: Settings):
    port = free_port()
    with process([sys.executable, "-c", API, str(config.data_dir), str(port)]):
        until_answered(port, "/readyz")
        yield port


def command() -> None:
    run = "import sys; sys.argv = ['stock-assets', 'republish']; from stock_assets.cli.main import main; main()"
    subprocess.run([sys.executable, "-c", run], check=True, capture_output=True)


def children() -> float:
    """Seconds that the processes which this one waited for have spent on a processor."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def launch(client: DagsterClient) -> None:
    answer = client.ask(LAUNCH)["launchRun"]
    if answer["__typename"] != "LaunchRunSuccess":
        raise RuntimeError(f"the job republish was not launched: {answer}")


def switch(config: Settings, port: int, version: str, start: Callable[[], None]) -> float:
    """Seconds from the start of `start` to the first answer of `version`, whose alias was moved before."""
    ticker = Warehouse(config.database).read("universe")["ticker"].sort()[0]
    registry_of(config).set_alias(MODEL, "champion", version)
    begin = time.perf_counter()
    start()
    while served(port, ticker) != version:
        if time.perf_counter() - begin > PATIENCE:
            raise TimeoutError(f"{version} is not served after {PATIENCE:.0f} s")
        time.sleep(0.02)
    return time.perf_counter() - begin


def main() -> None:
    parser = workload_parser(__doc__)
    parser.set_defaults(tickers=60, start=datetime(2018, 1, 2).date())
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        set_workload(options, Path(folder))
        config = use(Path(folder, "data"))
        versions = two_versions(config)
        turns = [versions[(n + 1) % 2] for n in range(TIMES)]
        with api(config) as port:
            processor = children()
            by_command = [switch(config, port, version, command) for version in turns]
            processor = (children() - processor) / TIMES
            start = time.perf_counter()
            command()
            least_seconds = time.perf_counter() - start
            with serve(config) as client:
                turns = [versions[(TIMES + 1 + n) % 2] for n in range(TIMES)]
                by_job = [switch(config, port, version, lambda: launch(client)) for version in turns]
        rows = [("`stock-assets republish`", by_command), ("the job `republish` of a running Dagster", by_job)]
        header = ("start to the first answer of the other version, seconds", "median", "worst")
        print(table(header, [(name, statistics.median(seconds), max(seconds)) for name, seconds in rows]))
        print(
            f"{TIMES} switches each. Of the command's seconds {processor:.1f} are the processor's. With nothing to do "
            f"it takes {least_seconds:.1f} s.\n"
        )
        print(targets(Target("command to the first new answer, median, s", statistics.median(by_command), 5)))


if __name__ == "__main__":
    preamble()
    main()
