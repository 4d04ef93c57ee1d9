"""An evening: what an idle tick costs, and how soon after a tick the predictions of a new session are there.

    python -m benchmarks.evening

A store of ten years but its last session, and one of three (alone with `--start 2017-01-03`). Every sensor is
evaluated on both; then a real `dagster dev` is started on the larger and, once it has been idle for a while as a server
is before an evening, its sensor `evening` makes the last session.
With --announcements the models read the dates of a file too.
"""

import logging
import statistics
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg

from benchmarks.common import RUN, fill, materialize, preamble, serve, set_workload, table, use, workload_parser
from benchmarks.one_run import copy_of, split
from benchmarks.walk_forward import add_announcements, set_announcements
from stock_assets.cli.graphql import DagsterClient
from stock_assets.definitions import build_definitions
from stock_assets.features.materialize import side_assets
from stock_assets.lifecycle.evening import EVENING, TRADED, with_side_inputs
from stock_assets.market.calendar import calendar_of
from stock_assets.settings import Settings
from stock_assets.storage.warehouse import Warehouse

TICKS = 50
PATIENCE = 300.0
#: Seconds that the server is left alone before its sensor begins to look.
IDLE = 20.0
SENSOR = {"repositoryLocationName": "stock_assets", "repositoryName": "__repository__", "sensorName": "evening"}
START = "mutation S($sensor: SensorSelector!) { startSensor(sensorSelector: $sensor) { __typename } }"
EVENINGS = "query E($filter: RunsFilter) { runsOrError(filter: $filter) { ... on Runs { results {" + RUN + "} } } }"


def ticks(config: Settings, now: datetime) -> dict[str, float]:
    """The median milliseconds of so many evaluations of each sensor."""
    logging.getLogger("dagster").setLevel(logging.WARNING)  # a line for each evaluation otherwise
    project = build_definitions(config)
    repository, resources = project.get_repository_def(), dict(project.resources or {}) | {"clock": lambda: now}
    medians: dict[str, float] = {}
    with dg.DagsterInstance.get() as instance:
        for definition in repository.sensor_defs:
            if definition.name == "alert_on_failure":
                continue  # Dagster asks it for failed runs alone
            milliseconds = []
            cursor = None
            for _ in range(TICKS):
                start = time.perf_counter()
                context = dg.build_sensor_context(instance, cursor, repository_def=repository, resources=resources)
                result = definition.evaluate_tick(context)
                milliseconds.append((time.perf_counter() - start) * 1000)
                cursor = result.cursor or cursor
            medians[definition.name] = statistics.median(milliseconds)
    return medians


def stop_sensor() -> None:
    """The sensor `evening` is off when the server starts."""
    from dagster._core.definitions.run_request import InstigatorType
    from dagster._core.remote_origin import (
        GrpcServerCodeLocationOrigin,
        RemoteInstigatorOrigin,
        RemoteRepositoryOrigin,
    )
    from dagster._core.scheduler.instigation import InstigatorState, InstigatorStatus, SensorInstigatorData

    location = GrpcServerCodeLocationOrigin(host="localhost", port=1, location_name=SENSOR["repositoryLocationName"])
    origin = RemoteInstigatorOrigin(RemoteRepositoryOrigin(location, SENSOR["repositoryName"]), SENSOR["sensorName"])
    with dg.DagsterInstance.get() as instance:
        stopped = InstigatorState(
            origin, InstigatorType.SENSOR, InstigatorStatus.STOPPED, SensorInstigatorData(min_interval=60)
        )
        instance.add_instigator_state(stopped)


def until_predicted(client: DagsterClient, warehouse: Warehouse, last: object) -> dict[str, float]:
    """Starts the sensor on the idle server: seconds since its tick asked for the run."""
    time.sleep(IDLE)
    if (answer := client.ask(START, {"sensor": SENSOR})["startSensor"]["__typename"]) != "Sensor":
        raise RuntimeError(f"the sensor did not start: {answer}")
    deadline = time.monotonic() + PATIENCE
    while last not in warehouse.sessions("predictions"):
        if time.monotonic() > deadline:
            raise TimeoutError(f"no predictions of {last} after {PATIENCE:.0f} s")
        time.sleep(0.2)
    seen_at = time.time()
    query = {"filter": {"tags": [{"key": "stock_assets/asked_by", "value": "evening"}]}}
    while (run := client.ask(EVENINGS, query)["runsOrError"]["results"][0])["status"] != "SUCCESS":
        time.sleep(0.5)
    requested_at = run["creationTime"]
    steps = {
        step["stepKey"]: (step["startTime"] - requested_at, step["endTime"] - requested_at) for step in run["stepStats"]
    }
    first = min(start for start, _ in steps.values())
    return {
        "queue, process start and planning": first,
        "steps up to predictions": steps["predictions"][1] - first,
        "**predictions are written**": steps["predictions"][1],
        "seen by a reader": seen_at - requested_at,
        "run over (trading, drift, operations, publication)": run["endTime"] - requested_at,
    }


def evening_store(config: Settings) -> None:
    """Everything but the last session's evening."""
    *sessions_before, last = calendar_of(config).sessions
    fill(config, sessions_before)
    materialize(config, ["trained_rnn", "trained_baselines", "trained_ensemble"], [last.year])  # pyright: ignore[reportArgumentType]
    sessions_of_year = [day for day in sessions_before if day.year == last.year]
    materialize(config, ["predictions", *TRADED, "drift", "publication"], sessions_of_year)
    materialize(config, ["operations"])


def main() -> None:
    parser = workload_parser(__doc__)
    add_announcements(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        medians: dict[str, dict[str, float]] = {}
        for start in sorted(
            {options.end.replace(year=options.end.year - 2, month=1, day=3), options.start}, reverse=True
        ):
            options.start = start
            # one model year: the books trade on every predicted session, and the store has those of the last year alone
            options.first_model_year = options.first_model_year or options.end.year
            set_workload(options, Path(folder))
            set_announcements(options.announcements, options.notice)
            config = use(Path(folder, str(start)))
            evening_store(config)
            last = calendar_of(config).sessions[-1]
            # before the session is due
            early = datetime.combine(last, datetime.min.time(), UTC) + timedelta(hours=12)
            medians[f"{len(calendar_of(config).sessions):,} sessions"] = ticks(config, early)
        rows = [
            [name, *(medians_of_sensor[name] for medians_of_sensor in medians.values())]
            for name in next(iter(medians.values()))
        ]
        print(table(("tick, median ms", *medians), rows))
        print(f"{TICKS} evaluations each.\n")
        with copy_of(config) as copied_config:
            steps = split(copied_config, with_side_inputs(EVENING, side_assets(copied_config)), last)
        stop_sensor()
        with serve(config) as client:
            seconds = until_predicted(client, Warehouse(config.database), last)
        print(table(("since the tick", "seconds"), list(seconds.items())))
        print(f"The same evening once more, on a copy of the store.\n\n{steps}")


if __name__ == "__main__":
    preamble()
    main()
