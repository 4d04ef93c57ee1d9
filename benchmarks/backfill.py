"""Ten years, backfilled as a user launches them, on our event storage and on Dagster's own.

    python -m benchmarks.backfill [--order fresh|pca] [--stock-sessions N]

Launches raw_ohlcv to pca_components and labels through GraphQL on a real `dagster dev`, in the middle of its backfill
daemon's loop, and follows it to its last row; then the same with the stock SQLite storage in dagster.yaml.
Everything starts from an empty store that holds `universe` alone (order fresh), or also a `pca_model`, so that the
daily chain is one run (order pca).

The stock storage takes eight minutes or so. With --stock-sessions it gets the last N sessions alone, on a copy of
the finished store; its figure for all of them is then what waiting and start-up took, plus the rest times as many.
That is too much where N is small, since a run costs something whatever its length.
"""

import shutil
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import psutil
import yaml

from benchmarks.common import (
    DAILY,
    MADE,
    RUN,
    Run,
    Target,
    fill,
    materialize,
    preamble,
    serve,
    set_workload,
    table,
    use,
)
from benchmarks.common import targets as targets_table
from benchmarks.common import workload_parser as parser_of
from stock_assets.cli.backfill import FINISHED
from stock_assets.cli.graphql import DagsterClient
from stock_assets.market.calendar import calendar_of
from stock_assets.settings import PROJECT_DIR, Settings
from stock_assets.storage.warehouse import Warehouse

SAMPLE_SECONDS = 0.5
POLL_SECONDS = 1.0
#: The backfill daemon looks every second (dagster.yaml), first when the server starts. A user launches at any moment of
#: that loop: this long after its start the wait is what it is on average, and the same for both storages.
HALF_A_LOOP_AFTER_ONE = 17.5
RUNS = f"""
query Runs($id: String!) {{ partitionBackfillOrError(backfillId: $id) {{ ... on PartitionBackfill {{
  runs(limit: 1000) {{ {RUN} }} }} }} }}
"""
OWNER = "outside the assets"
KINDS = ("source", "read", "compute", "describe", "write", "event log")


class Measured(NamedTuple):
    """One backfill, from its launch (seconds since 1970) on."""

    launch: float
    runs: list[Run]
    pairs: int  # partitions times assets
    rss: int  # highest sum over all processes of `dagster dev`, which counts shared pages more than once
    uss: int  # the same without shared pages
    home_growth: int

    @property
    def seconds(self) -> float:
        return max(run.ended for run in self.runs) - self.launch

    @property
    def inside(self) -> float:
        return union((run.started, run.ended) for run in self.runs)

    @property
    def scaling(self) -> float:
        """The seconds that grow with the number of partitions: announcing them, and the runs."""
        return sum(run.enqueued - run.created for run in self.runs) + self.inside

    def seconds_of(self, pairs: int) -> float:
        """What `pairs` would take."""
        return self.seconds + self.scaling * (pairs / self.pairs - 1)


def union(intervals: Iterator[tuple[float, float]]) -> float:
    """The length of what `intervals` cover."""
    covered_seconds, end_reached = 0.0, 0.0
    for start, end in sorted(intervals):
        covered_seconds += max(0.0, end - max(start, end_reached))
        end_reached = max(end_reached, end)
    return covered_seconds


class PeakMemory:
    """The highest memory of every process below this one, sampled while it is entered."""

    def __init__(self) -> None:
        self.rss, self.uss, self._over = 0, 0, threading.Event()
        self._pool = ThreadPoolExecutor(1)

    def _watch(self) -> None:
        while not self._over.wait(SAMPLE_SECONDS):
            rss = uss = 0
            for process in psutil.Process().children(recursive=True):
                with suppress(psutil.NoSuchProcess, psutil.AccessDenied):  # it ends while we look
                    memory = process.memory_full_info()
                    rss, uss = rss + memory.rss, uss + memory.uss
            self.rss, self.uss = max(self.rss, rss), max(self.uss, uss)

    def __enter__(self) -> "PeakMemory":
        self._watching = self._pool.submit(self._watch)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._watching.result()
        self._pool.shutdown()


class Stopwatch:
    """Seconds per (asset, kind) inside wrapped functions; a call within a call counts for itself alone."""

    def __init__(self) -> None:
        self.seconds: dict[tuple[str, str], float] = defaultdict(float)
        self._asset, self._inner = OWNER, [0.0]
        self._thread = threading.current_thread()

    def wrap(self, function: Callable[..., Any], kind: str, asset_of: Callable[..., str | None]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            if threading.current_thread() is not self._thread:
                return function(*args, **kwargs)
            before, self._asset = self._asset, asset_of(*args) or self._asset
            self._inner.append(0.0)
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                whole = time.perf_counter() - start
                self.seconds[self._asset, kind] += whole - self._inner.pop()
                self._inner[-1] += whole
                self._asset = before

        return timed

    @contextmanager
    def running(self, config: Settings) -> Iterator[None]:
        """Wraps what a run does: the source, the store, the assets' own functions, and the event log."""
        from dagster._core.execution.plan import compute_generator

        from stock_assets.defs import evaluation, features, lifecycle, market, model, side_inputs, trading
        from stock_assets.market.sources.registry import make_source
        from stock_assets.storage.event_log import BatchingSqliteEventLogStorage as EventLog

        def same(*_: object) -> None:
            return None

        def of_event(_storage: object, event: Any) -> str | None:
            return (event[0] if isinstance(event, list) else event).step_key

        modules = (market, side_inputs, features, model, trading, lifecycle, evaluation)
        source = type(make_source(config))
        wrapped = [
            (source, "universe", "source", same),
            (source, "fetch", "source", same),
            (source, "context", "source", same),
            (Warehouse, "_select", "read", same),
            (Warehouse, "write", "write", same),
            (compute_generator, "invoke_compute_fn", "compute", lambda _, c, *__: c.op_execution_context.op.name),
            *(
                (module, "report_sessions", "describe", same)
                for module in modules
                if hasattr(module, "report_sessions")
            ),
            *((EventLog, name, "event log", of_event) for name in ("store_event", "store_event_batch")),
        ]
        with ExitStack() as stack:
            for owner, name, kind, asset_of in wrapped:
                stack.enter_context(patch.object(owner, name, self.wrap(getattr(owner, name), kind, asset_of)))
            yield

    def table(self, seconds: float) -> str:
        rows = [[asset, *(self.seconds[asset, kind] for kind in KINDS)] for asset in (*MADE, OWNER)]
        sums = [sum(column) for column in list(zip(*rows, strict=True))[1:]]
        rows = [[*row, sum(row[1:])] for row in [*rows, ["together", *sums]]]
        return table(("seconds", *KINDS, "sum"), rows) + (
            f"\nThe runs took {seconds:.1f} s. The other {seconds - sum(sums):.1f} s are Dagster's own: planning, "
            "and objects per partition and event.\n"
        )


def stock_storage() -> str:
    """The project's dagster.yaml with Dagster's SQLite storage."""
    config = yaml.safe_load((PROJECT_DIR / "dagster.yaml").read_text())
    return yaml.safe_dump(config | {"storage": {"sqlite": {"base_dir": {"env": "DAGSTER_HOME"}}}})


def folder_size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def measure(config: Settings, sessions: Sequence[date], order: str, instance: str | None = None) -> Measured:
    """One backfill of `sessions` on the store as it is. Raises RuntimeError unless all of it was made."""
    first, last, last_labelled = (
        str(session) for session in (sessions[0], sessions[-1], sessions[-1 - config.horizon])
    )
    ranges = {asset: [(first, last)] for asset in (*DAILY, "pca_components")}
    targets = ranges | {"labels": [(first, last_labelled)]} | ({"pca_model": None} if order == "fresh" else {})
    pairs = len(ranges) * len(sessions) + len(sessions) - config.horizon + (order == "fresh")
    with serve(config, instance) as client, PeakMemory() as peak:
        time.sleep(HALF_A_LOOP_AFTER_ONE)
        before, launch = folder_size(config.dagster_home), time.time()
        backfill_id = client.launch(targets, "benchmark")
        backfill = wait_for(client, backfill_id)
        runs = client.ask(RUNS, {"id": backfill_id})["partitionBackfillOrError"]["runs"]
        growth = folder_size(config.dagster_home) - before
    made_partitions = sum(
        status.get("numPartitionsMaterialized", int(status.get("materialized", False)))
        for status in backfill["assetBackfillData"]["assetBackfillStatuses"]
    )
    if backfill["status"] != "COMPLETED_SUCCESS" or made_partitions != pairs:
        raise RuntimeError(
            f"the backfill ended as {backfill['status']}, {made_partitions:,} of {pairs:,} partitions made"
        )
    in_order = sorted(map(Run.of, runs), key=lambda run: run.created)
    return Measured(launch, in_order, pairs, peak.rss, peak.uss, growth)


def wait_for(client: DagsterClient, backfill_id: str) -> dict[str, Any]:
    while True:
        state = client.backfill(backfill_id)
        if state["status"] in FINISHED:
            return state
        if failures := [
            text for run in state["runs"] if run["status"] == "FAILURE" for text in client.failures(run["id"])
        ]:
            raise RuntimeError(failures[0])
        time.sleep(POLL_SECONDS)


def stages(measurement: Measured) -> str:
    """A row per run, and the whole. Runs may overlap, so the whole is no sum of the inside."""
    rows, end_reached = [], measurement.launch
    for run in measurement.runs:
        waits = (max(0.0, run.created - end_reached), run.enqueued - run.created, run.launched - run.enqueued)
        rows.append([run.assets, *waits, run.started - run.launched, run.ended - run.started])
        end_reached = max(end_reached, run.ended)
    together = [sum(column) for column in list(zip(*rows, strict=True))[1:-1]]
    rows.append(["together", *together, measurement.inside])
    return table(("run", "daemon's loop, s", "announcing, s", "queue, s", "process start-up, s", "inside, s"), rows)


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--order", choices=("fresh", "pca"), default="fresh")
    parser.add_argument(
        "--stock-sessions",
        type=int,
        metavar="N",
        help="the last N alone; 0 leaves the stock storage out (default: all)",
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        set_workload(options, Path(folder))
        compare(options.order, options.stock_sessions, Path(folder))


def compare(order: str, stock_sessions: int | None, folder: Path) -> None:
    config = use(folder / "in_process")
    sessions, watch = calendar_of(config).sessions, Stopwatch()
    last = sessions if stock_sessions is None else sessions[len(sessions) - stock_sessions :]
    if len(last) <= config.horizon and stock_sessions != 0:
        raise SystemExit(f"--stock-sessions {stock_sessions}: expected more than the {config.horizon} of the horizon")
    with watch.running(config):
        seconds = fill(config, sessions)
    model = Warehouse(config.database).read("pca_model")

    def prepare(name: str, instance: str | None) -> Settings:
        config = use(folder / name)
        materialize(config, ["universe"], instance_yaml=instance)
        if order == "pca":
            Warehouse(config.database).replace_table("pca_model", model)
        return use(config.data_dir)

    own_config = prepare("batching", None)
    measurement = measure(own_config, sessions, order)
    warehouse = Warehouse(own_config.database)
    print(f"### On our storage, order {order}\n")
    print("Making `universe` is not timed. 'Inside' is from RUN_START to the end of the run.\n")
    print(stages(measurement))
    print(table(("table", "rows"), warehouse.row_counts().items()))
    print(f"The DuckDB file holds {own_config.database.stat().st_size / 1e6:,.0f} MB.\n")
    print("### Where the seconds inside runs go\n\nThe same four runs in one process, with a stopwatch in it.\n")
    print(watch.table(seconds), flush=True)
    goals = [
        Target("launch to the last row, s", measurement.seconds, 40),
        Target("of it inside runs, s", measurement.inside, 18),
        Target("peak memory, GiB (sum of RSS)", measurement.rss / 2**30, 4),
        Target("DAGSTER_HOME grew by, MB", measurement.home_growth / 1e6, 250),
    ]
    if last:
        stock_config = prepare("stock", stock_storage())
        if len(last) < len(sessions):
            shutil.copy(own_config.database, stock_config.database)
        stock = measure(stock_config, last, order, stock_storage())
        print(f"### On the stock storage, {len(last):,} sessions\n\n{stages(stock)}")
        note = "" if len(last) == len(sessions) else f" (extrapolated from {len(last):,} sessions)"
        ten_years = stock.seconds_of(measurement.pairs)
        rows = [
            (f"stock{note}", ten_years, *(1000 * s / stock.pairs for s in (stock.scaling, stock.inside))),
            (
                "batching",
                measurement.seconds,
                *(1000 * s / measurement.pairs for s in (measurement.scaling, measurement.inside)),
            ),
        ]
        per = "ms per partition and asset"
        print(table(("storage", f"{len(sessions):,} sessions, s", f"{per}, announced and made", f"{per}, made"), rows))
        goals.append(Target("times faster than the stock storage", ten_years / measurement.seconds, 8, at_least=True))
    print(
        f"Peak memory of all processes: {measurement.rss / 2**30:.2f} GiB RSS, {measurement.uss / 2**30:.2f} GiB USS.\n"
    )
    print(targets_table(*goals))


if __name__ == "__main__":
    preamble()
    main()
