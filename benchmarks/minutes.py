"""A market of minutes: the backfill of 30 days of 20 tickers, and one look at the running session.

    python -m benchmarks minutes [--days N]

The simulated market at 1m, in a process of its own: bars, features and labels of the days that are over, with the
memory of the process; then looks at the next minutes of the running day, whose models are trained before on a few days
and are no part of either figure.
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path

from benchmarks.common import Target, preamble, targets
from stock_assets.cli.bars import make
from stock_assets.lifecycle.bars import FINISHED, LOOK, TRAINED
from stock_assets.lifecycle.evening import Work
from stock_assets.market.sources.simulated_bars import SimulatedBars
from stock_assets.settings import read_settings
from stock_assets.storage.warehouse import Warehouse

START, DAYS, LOOKS = date(2025, 6, 1), 30, 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=DAYS, help=f"days that are over (default: {DAYS})")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), options.days)


def measure(folder: Path, days: int) -> None:
    """Prints the figures of a store in `folder`."""
    settings = read_settings(
        interval="1m", source="simulated", exchange="24/7", start=START, data_dir=folder / "data", training_sessions=3
    )
    store, source = Warehouse(settings.database), SimulatedBars.of(settings)
    running = START + timedelta(days=days)
    noon = datetime(running.year, running.month, running.day, 12, 0, 1, tzinfo=UTC)
    run = partial(make, store, settings, source, say=lambda _: None)

    def work(assets: tuple[str, ...], first: date, last: date) -> Work:
        return Work("benchmark", assets, str(first), str(last), "a benchmark")

    last = running - timedelta(days=1)
    backfill = timed(lambda: run(work=work(FINISHED, START, last), now=noon))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    rows = store.row_counts()["bars"]
    run(work=work(TRAINED, running, running), now=noon)
    run(work=work(LOOK, running, running), now=noon)
    looks = []
    for minute in range(1, LOOKS + 1):
        now = noon + timedelta(minutes=minute)
        looks.append(timed(partial(run, work=work(LOOK, running, running), now=now)))
    print(
        targets(
            Target(f"bars, features and labels of {days} days, {rows:,} bars (s)", backfill[0], 60.0),
            Target("the same, processor seconds", backfill[1], 60.0),
            Target("memory of the process (GB)", memory, 4.0),
            Target(
                f"a look at the running day, median of {LOOKS} (s)", sorted(look[0] for look in looks)[LOOKS // 2], 10.0
            ),
            Target("the same, processor seconds", sorted(look[1] for look in looks)[LOOKS // 2], 10.0),
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
