"""Ten years of the daily chain with Dagster on Postgres, beside the same on SQLite, and the connections of ten runs.

    python -m benchmarks.team --postgres ADDRESS [--tickers 50] [--runs 10]

ADDRESS is of a Postgres server on which new databases may be made. The runs are those of a backfill (raw_ohlcv to
pca_components, and labels), in this process; then as many runs as --runs says, each in a process of its own, work on
one database at once, while its connections are counted.
"""

import multiprocessing
import os
import tempfile
import time
from datetime import date
from pathlib import Path

import yaml
from sqlalchemy import create_engine, make_url

from benchmarks.common import (
    DAILY,
    Target,
    fill,
    materialize,
    preamble,
    set_workload,
    table,
    targets,
    use,
    workload_parser,
)
from benchmarks.event_log import new_database
from stock_assets.market.calendar import calendar_of
from stock_assets.storage.warehouse import Warehouse

#: The sessions of each run that works beside others.
FEW = 60


def instance_on(address: str) -> str:
    """A dagster.yaml with Dagster's storage at `address`, and the rest as by default."""
    custom = {
        "module": "stock_assets.storage.postgres",
        "class": "BatchingPostgresStorage",
        "config": {"postgres_url": address},
    }
    return yaml.safe_dump({"storage": {"custom": custom}, "telemetry": {"enabled": False}})


def ten_years(folder: Path, instance: str | None) -> tuple[float, float, int]:
    """The seconds and the processor seconds of the four runs, and how many rows they made."""
    config = use(folder)
    sessions, cpu = calendar_of(config).sessions, sum(os.times()[:2])
    seconds = fill(config, sessions, instance)
    return seconds, sum(os.times()[:2]) - cpu, sum(Warehouse(config.database).row_counts().values())


def one_of_many(folder: str, instance: str) -> None:
    """One real run over a few sessions, with a store of its own, since a store takes one writing process."""
    config = use(Path(folder))
    sessions = calendar_of(config).sessions[:FEW]
    materialize(config, ["universe"], instance_yaml=instance)
    materialize(config, DAILY, sessions, instance)


def most_connections(server: str, folder: Path, runs: int) -> int:
    """The most connections that a database has while so many runs work on it, counted every 50 ms."""
    spawn = multiprocessing.get_context("spawn")
    with new_database(server) as address:
        processes = [
            spawn.Process(target=one_of_many, args=(str(folder / f"run_{number}"), instance_on(address)))
            for number in range(runs)
        ]
        for process in processes:
            process.start()
        engine, largest_count = create_engine(server), 0
        count_statement = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{make_url(address).database}'"
        while any(process.is_alive() for process in processes):
            with engine.connect() as connection:
                largest_count = max(largest_count, int(connection.exec_driver_sql(count_statement).scalar_one()))
            time.sleep(0.05)
        engine.dispose()
        if failed_codes := [process.exitcode for process in processes if process.exitcode]:
            raise SystemExit(f"{len(failed_codes)} of {runs} runs failed")
        return largest_count


def main() -> None:
    parser = workload_parser(__doc__)
    parser.add_argument("--postgres", metavar="ADDRESS", help="postgresql+psycopg2://user:password@host:port/database")
    parser.add_argument("--runs", type=int, default=10, help="how many work at once")
    parser.set_defaults(tickers=50, start=date(2010, 1, 4))
    options = parser.parse_args()
    if options.postgres is None:
        print("Not measured: it needs a server, `python -m benchmarks team --postgres ADDRESS`.\n")
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        set_workload(options, folder)
        single = ten_years(folder / "single", None)
        with new_database(options.postgres) as address:
            team = ten_years(folder / "team", instance_on(address))
        connections = most_connections(options.postgres, folder, options.runs)
    rows = [("SQLite", *single), ("Postgres", *team)]
    print(table(("Dagster on", "seconds", "processor seconds of the runs", "rows of the store"), rows))
    print(
        targets(
            Target("seconds on Postgres per second on SQLite", team[0] / single[0], 1.5),
            Target(f"connections of {options.runs} runs at once", float(connections), 60),
        )
    )


if __name__ == "__main__":
    preamble()
    main()
