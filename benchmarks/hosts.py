"""Model years on one host and on two: seconds, processor seconds, and what is shipped.

    python -m benchmarks.hosts --postgres ADDRESS [--tickers 50]

ADDRESS is of a Postgres server on which new databases may be made. A core stands for a host: the step `trained_rnn` of
all model years has the first one, and `stock-assets work` the second. Both have the artifacts in one folder.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from benchmarks.common import fill, preamble, set_workload, table, use, workload_parser
from benchmarks.event_log import new_database
from stock_assets.market.calendar import calendar_of
from stock_assets.settings import PREFIX, read_settings
from stock_assets.storage.warehouse import Warehouse

TABLE = "trained_rnn"


class Measured(NamedTuple):
    """One way to train all model years."""

    seconds: float
    step: float
    """processor seconds of the step's process"""
    start: float
    """those of the worker before its first unit"""
    worker: float
    """those of the worker afterwards"""
    units: int
    """that the worker did"""
    shipped: float
    """MB of what the units read"""


def step() -> None:
    """Trains every model year of the settings, and prints what a run would log."""
    from stock_assets.model.cutoffs import cutoffs_of
    from stock_assets.model.materialize.train import Tracking, train_models
    from stock_assets.storage.registry import NoRegistry

    config = read_settings()
    years = sorted({day.year for day in calendar_of(config).sessions if day.year >= config.model_start_year})
    train_models(
        Warehouse.of(config),
        config,
        cutoffs_of(calendar_of(config), years),
        table=TABLE,
        tracking=Tracking(NoRegistry(), lambda *_: b""),
        now=datetime.now(UTC),
        say=print,
    )


def on_core(core: int, command: Sequence[str], log: Path, **environment: str) -> "subprocess.Popen[bytes]":
    with log.open("wb") as sink:
        own = os.environ | {PREFIX + name: value for name, value in environment.items()}
        return subprocess.Popen(["taskset", "-c", str(core), *command], env=own, stdout=sink, stderr=sink)


def processor_seconds(process: "subprocess.Popen[bytes]") -> float:
    """Those of a process, once it has ended. Raises SystemExit where it failed."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{process.args} ended with {process.returncode}")
    return usage.ru_utime + usage.ru_stime


def so_far(process: "subprocess.Popen[bytes]") -> float:
    """The processor seconds of a process that runs."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def measured(folder: Path, address: str, *, hosts: int) -> Measured:
    log, workers, start = folder / f"step-{hosts}.log", [], 0.0
    team = {"DAGSTER": address, "ARTIFACTS": str(folder / f"artifacts-{hosts}"), "MLFLOW": "off"}
    for number in range(1, hosts):
        waits = folder / f"worker-{number}.log"
        work = [str(Path(sys.executable).with_name("stock-assets")), "work", "--slots", "1"]
        workers.append(on_core(number, work, waits, **team, DATA_DIR=str(folder / f"worker-{number}")))
        while "waits for units" not in waits.read_text():
            time.sleep(0.1)
        start += so_far(workers[-1])
    began = time.perf_counter()
    code = "from benchmarks.hosts import step; step()"
    alone = processor_seconds(on_core(0, [sys.executable, "-c", code], log, **team))
    seconds = time.perf_counter() - began
    for worker in workers:
        worker.send_signal(signal.SIGTERM)
    lines = log.read_text().splitlines()
    sizes = [float(line.split()[-2]) for line in lines if "are shared with" in line]
    done = sum(" is done by worker" in line for line in lines)
    return Measured(seconds, alone, start, sum(map(processor_seconds, workers)) - start, done, sum(sizes))


def main() -> None:
    parser = workload_parser(__doc__)
    parser.add_argument("--postgres", metavar="ADDRESS", help="postgresql+psycopg2://user:password@host:port/database")
    parser.set_defaults(tickers=50)
    options = parser.parse_args()
    if options.postgres is None:
        print("Not measured: it needs a server, `python -m benchmarks hosts --postgres ADDRESS`.\n")
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        set_workload(options, folder)
        config = use(folder / "store")
        fill(config, calendar_of(config).sessions)
        rows, made = [], []
        for hosts in (1, 2):
            with new_database(options.postgres) as address:
                found = measured(folder, address, hosts=hosts)
            made.append(Warehouse(config.database).read(TABLE).drop("trained_at"))
            rows.append((hosts, found.seconds, *found[1:4], sum(found[1:4]), found.units, found.shipped))
    header = ("hosts", "seconds", "step", "worker's start", "worker", "together", "its units", "MB shipped")
    print("Processor seconds of the step, of the worker until it waits and afterwards, and together:\n")
    print(table(header, rows))
    same = "the same, to the bit" if made[0].equals(made[1]) else "DIFFERENT"
    print(f"{made[0].height} trainings; the versions of both are {same}.\n")


if __name__ == "__main__":
    preamble()
    main()
