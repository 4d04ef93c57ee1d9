"""What Dagster's event log costs a range run: the stock SQLite storage against the batching one.

    python benchmarks/event_log.py [--partitions 500] [--stock-partitions 80] [--assets 7] [--postgres ADDRESS]

With the address of a Postgres server, on which new databases may be made, dagster-postgres with its own batching and
ours on Postgres are measured too.

Materializes one chain of daily assets that compute nothing, in one run over a range of days, with a row
count on each day as our assets report it, and prints a Markdown table. Both storages are timed on the days
the stock one gets, then the batching one on all of them, since the fixed cost of a run weighs less the
longer it is.
"""

import argparse
import os
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import NamedTuple

import dagster as dg
import yaml
from sqlalchemy import create_engine, make_url

from stock_assets.private.dagster import add_partition_metadata

DAYS = dg.DailyPartitionsDefinition("2010-01-01", end_date="2020-01-01", exclusions=["0 0 * * 0,6"])
TEN_YEARS = 7 * 2516  # partitions and assets of the backfill that the platform is built for


def _custom(module: str, storage: str, **config: str) -> dict[str, object]:
    return {"custom": {"module": module, "class": storage, "config": config}}


#: How dagster.yaml names each storage, from its folder or its database.
STORAGES = {
    "stock": lambda home: {"sqlite": {"base_dir": home}},
    "batching": lambda home: _custom("stock_assets.storage.event_log", "BatchingSqliteStorage", base_dir=home),
    "dagster-postgres": lambda url: _custom("dagster_postgres.storage", "DagsterPostgresStorage", postgres_url=url),
    "batching on Postgres": lambda url: _custom(
        "stock_assets.storage.postgres", "BatchingPostgresStorage", postgres_url=url
    ),
}


class Measured(NamedTuple):
    storage: str
    partitions: int
    seconds: float
    materializations: int  # partitions times assets; each is planned once and materialized once
    bytes_written: int

    @property
    def milliseconds_each(self) -> float:
        return self.seconds * 1000 / self.materializations

    def row(self, baseline: float) -> str:
        bytes_each = self.bytes_written / self.materializations
        return (
            f"| {self.storage} | {self.partitions:,} | {self.seconds:.1f} | {self.milliseconds_each:.2f} "
            f"| {baseline / self.milliseconds_each:.1f} | {bytes_each / 2:,.0f} | {bytes_each * TEN_YEARS / 1e6:,.0f} |"
        )


def chain_of_assets(number: int) -> Sequence[dg.AssetsDefinition]:
    assets: list[dg.AssetsDefinition] = []
    for i in range(number):

        @dg.asset(
            name=f"asset_{i}",
            partitions_def=DAYS,
            backfill_policy=dg.BackfillPolicy.single_run(),
            deps=assets[-1:],
        )
        def nothing(context: dg.AssetExecutionContext) -> None:
            add_partition_metadata(context, context.asset_key, {key: {"rows": 498} for key in context.partition_keys})

        assets.append(nothing)
    return assets


def folder_size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@contextmanager
def new_database(server: str) -> Iterator[str]:
    """The address of a database that is dropped afterwards."""
    url, name = make_url(server), f"benchmark_{os.getpid()}_{time.monotonic_ns()}"
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
        try:
            yield url.set(database=name).render_as_string(hide_password=False)
        finally:
            connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
    engine.dispose()


def measure(
    storage: str, assets: Sequence[dg.AssetsDefinition], partitions: int, *, server: str | None = None
) -> Measured:
    """One run with `storage`, in a new folder, or in a new database of the Postgres `server`."""
    # the batching storages set it, the stock one of SQLite has none, and that of Postgres can use it
    os.environ.pop("DAGSTER_EVENT_BATCH_SIZE", None)
    if storage == "dagster-postgres":
        os.environ["DAGSTER_EVENT_BATCH_SIZE"] = "1000"
    keys = DAYS.get_partition_keys()[:partitions]
    with tempfile.TemporaryDirectory() as home, new_database(server) if server else nullcontext(home) as storage_place:
        settings = {"storage": STORAGES[storage](storage_place), "telemetry": {"enabled": False}}
        Path(home, "dagster.yaml").write_text(yaml.safe_dump(settings))
        with dg.DagsterInstance.from_config(home) as instance:
            empty, start = folder_size(Path(home)), time.perf_counter()
            dg.materialize(
                assets,
                instance=instance,
                tags={
                    "dagster/asset_partition_range_start": keys[0],
                    "dagster/asset_partition_range_end": keys[-1],
                },
                run_config={"loggers": {"console": {"config": {"log_level": "ERROR"}}}},
            )
            seconds = time.perf_counter() - start
            materializations = sum(len(instance.get_materialized_partitions(asset.key)) for asset in assets)
        if materializations != len(keys) * len(assets):
            raise RuntimeError(f"{storage}: {materializations} materializations of {len(keys) * len(assets)}")
        return Measured(storage, len(keys), seconds, materializations, folder_size(Path(home)) - empty)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--partitions", type=int, default=500, help="days of the longer, batching run")
    parser.add_argument("--stock-partitions", type=int, default=80, help="days that both storages get")
    parser.add_argument("--assets", type=int, default=7)
    parser.add_argument("--postgres", metavar="ADDRESS", help="postgresql+psycopg2://… of a server to measure on too")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # the backfill policy is in beta
    assets = chain_of_assets(options.assets)
    measure("stock", assets, 1)  # imports, and the code paths' first use
    runs = [
        measure("stock", assets, min(options.stock_partitions, options.partitions)),
        measure("batching", assets, min(options.stock_partitions, options.partitions)),
        measure("batching", assets, options.partitions),
    ]
    if options.postgres:
        for storage in ("dagster-postgres", "batching on Postgres"):
            runs.append(measure(storage, assets, options.partitions, server=options.postgres))
    print("| storage | days | seconds | ms per day and asset | times faster | bytes per event | MB, 10 years |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for run in runs:
        print(run.row(runs[0].milliseconds_each))


if __name__ == "__main__":
    main()
