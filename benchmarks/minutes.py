"""A market of minutes: the backfill of 30 days of 20 tickers, looks at the running session, and the back-test.

    python -m benchmarks minutes [--days N] [--judged N]

The simulated market at 1m, in a process of its own: bars, features and labels of the days that are over, with the
memory of the process; then looks at the next minutes of the running day, whose models are trained before on a few days
and are no part of either figure. A look follows the champion of the registry (MLflow) and of the table `promotions`,
and ends with the published file of the newest bar. At last the answers, the report and the back-test of the newest
days, which no look waits for. Seconds are those of a clock: give the load of the machine with them.
"""

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path

from benchmarks.common import Target, preamble, targets
from stock_assets.cli.bars import make
from stock_assets.lifecycle.bars import FINISHED, JUDGED, LOOK, PROMOTED, TRAINED
from stock_assets.lifecycle.evening import Work
from stock_assets.market.sources.simulated_bars import SimulatedBars
from stock_assets.publication.materialize.bar_backtest import publish_bar_backtest
from stock_assets.settings import read_settings
from stock_assets.storage.registry import open_registry
from stock_assets.storage.warehouse import Warehouse

START, DAYS, LOOKS = date(2025, 6, 1), 30, 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=DAYS, help=f"days that are over (default: {DAYS})")
    parser.add_argument("--judged", type=int, default=3, help="days that are predicted and back-tested (default: 3)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), options.days, options.judged)


def measure(folder: Path, days: int, judged: int) -> None:
    """Prints the figures of a store in `folder`."""
    settings = read_settings(
        interval="1m", source="simulated", exchange="24/7", start=START, data_dir=folder / "data", training_sessions=3
    )
    store, source = Warehouse(settings.database), SimulatedBars.of(settings)
    running = START + timedelta(days=days)
    noon = datetime(running.year, running.month, running.day, 12, 0, 1, tzinfo=UTC)
    registry = open_registry(settings.mlflow_uri, settings.mlflow_artifacts)
    run = partial(make, store, settings, source, say=lambda _: None, registry=registry)

    def work(assets: tuple[str, ...], first: date, last: date) -> Work:
        return Work("benchmark", assets, str(first), str(last), "a benchmark")

    last = running - timedelta(days=1)
    backfill = timed(lambda: run(work=work(FINISHED, START, last), now=noon))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    rows = store.row_counts()["bars"]
    since = running - timedelta(days=judged)
    run(work=work((*TRAINED, *PROMOTED), since, running), now=noon)
    run(work=work(LOOK, running, running), now=noon)
    looks = []
    for minute in range(1, LOOKS + 1):
        now = noon + timedelta(minutes=minute)
        looks.append(timed(partial(run, work=work(LOOK, running, running), now=now)))
    run(work=work(JUDGED[:-1], since, last), now=noon)
    tested = timed(lambda: publish_bar_backtest(store, settings, now=noon))
    load = os.getloadavg()
    print(f"Load of the machine at the end: {load[0]:.1f}, and {load[2]:.1f} over 15 minutes.\n")
    print(
        targets(
            Target(f"bars, features and labels of {days} days, {rows:,} bars (s)", backfill[0], 60.0),
            Target("the same, processor seconds", backfill[1], 60.0),
            Target("memory of the process (GB)", memory, 4.0),
            Target(
                f"a look with its champion, to the published file, median of {LOOKS} (s)",
                sorted(look[0] for look in looks)[LOOKS // 2],
                10.0,
            ),
            Target("the same, processor seconds", sorted(look[1] for look in looks)[LOOKS // 2], 10.0),
            Target(f"back-test of {judged} days, processor seconds", tested[1], 120.0),
        )
    )


def timed(run: Callable[[], object]) -> tuple[float, float]:
    """(seconds, processor seconds) of a call."""
    start, processor = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - start, time.process_time() - processor


if __name__ == "__main__":
    preamble()
    main()
