"""How time, memory and disk grow with the market: the daily chain of the simulated market at any size.

    python -m benchmarks scale [--tickers 500 --years 10] [--tickers 1500 --years 20] … [--keep FOLDER] [--models]
    python -m benchmarks scale --tickers 1500 --years 20 --keep FOLDER --only side_features --only evening

Sizes are pairs, the smallest first. The market is as many worlds of sixty companies as it takes
(`benchmarks.wide_market`), made one world at a time. Each stage is a step of the platform, without Dagster, in a
process of its own; its memory is the peak of that process and of every one below it, and its own memory is that
without pages of files, which the system takes back where memory is short. With --models two model years are trained and
weighed, and the last one predicted and reported, too. --only measures stages again on a store that was kept. The last
table compares seconds per row with those of the first size.
"""

import argparse
import io
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, timedelta
from pathlib import Path
from typing import NamedTuple

import psutil

from benchmarks.common import Target, preamble, table, targets
from stock_assets.market.calendar import calendar_of
from stock_assets.settings import PREFIX, read_settings

END = date(2019, 12, 31)
#: Seconds between two looks at the memory.
SAMPLE = 0.2
#: Sessions that the evening adds.
EVENING = 1
BACKFILL = (
    "universe",
    "raw_ohlcv",
    "context_series",
    "announcements",
    "daily_bars",
    "indicators",
    "stationary_features",
    "side_features",
    "labels",
    "pca_model",
    "pca_components",
)
#: Of the last model year; two years are trained.
MODELS = ("trained_rnn", "trained_baselines", "trained_ensemble", "predictions", "evaluation_report")
DAILY = tuple(name for name in BACKFILL if name not in ("universe", "pca_model"))


class Stage(NamedTuple):
    """What one stage took."""

    name: str
    rows: int
    processor: float
    """seconds of the step alone, without the start of its process"""
    seconds: float
    """from the start of its process to its end"""
    peak: int
    """bytes of memory (RSS) of all its processes together"""
    own: int
    """of them without pages of files"""
    store: int
    """bytes of the store afterwards"""


class Size(NamedTuple):
    """A market."""

    tickers: int
    years: int

    def __str__(self) -> str:
        return f"{self.tickers:,} x {self.years}"


def environment(size: Size, folder: Path) -> dict[str, str]:
    """The settings of the market of `size` with its store in `folder`."""
    from benchmarks.wide_market import wide_tickers

    (folder / "tickers.txt").write_text("\n".join(wide_tickers(size.tickers)))
    (folder / "announcements.parquet").touch()  # it is filled by the stage that reads it
    start = date(END.year - size.years + 1, 1, 2)
    settings = {
        "CONFIG": "off",
        "EXTENSIONS": "benchmarks.wide_market",
        "SOURCE": "wide",
        "TICKERS": folder / "tickers.txt",
        "ANNOUNCEMENTS": folder / "announcements.parquet",
        "START": start,
        "END": END,
        "FIRST_MODEL_YEAR": END.year - 1,
        "DATA_DIR": folder / "data",
    }
    other_variables = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    return other_variables | {PREFIX + name: str(value) for name, value in settings.items()}


def run_stage(name: str, first: int, last: int) -> None:
    """Makes the table `name` of the sessions at the places from `first` to `last`, in this process."""
    from benchmarks.wide_market import write_announcements
    from stock_assets.extensions import load_extensions
    from stock_assets.market.sources.registry import make_source
    from stock_assets.steps import call_step, steps
    from stock_assets.storage.registry import NoRegistry
    from stock_assets.storage.warehouse import Warehouse

    config = read_settings()
    load_extensions(config)
    calendar = calendar_of(config)
    if name == "announcements" and config.announcements and not config.announcements.stat().st_size:
        write_announcements(config.announcements, config.tickers or (), calendar, seed=config.seed)
    sessions = list(calendar.sessions[first : last + 1])
    if name == "labels":
        places = (max(0, place - config.horizon) for place in range(first, last + 1))
        sessions = sorted({calendar.sessions[place] for place in places if place <= last - config.horizon})
    if name in MODELS:
        sessions = [session for session in sessions if session.year == END.year]
    now = calendar.closes[sessions[-1]] + timedelta(hours=20)
    arguments = {
        "store": lambda: Warehouse.of(config),
        "settings": lambda: config,
        "sessions": lambda: sessions,
        "years": lambda: [END.year - 1, END.year],
        "registry": NoRegistry,
        "now": lambda: now.astimezone(UTC),
        "source": lambda: make_source(config),
    }
    before = time.process_time()
    call_step(steps()[name], arguments)
    print(time.process_time() - before)


def memory_of(process: psutil.Process) -> tuple[int, int]:
    """(RSS of the process and of all below it, what of it are no pages of files)."""
    total = own = 0
    for one_process in (process, *process.children(recursive=True)):
        try:
            memory = one_process.memory_info()
        except psutil.NoSuchProcess:  # it ends while we look
            continue
        total, own = total + memory.rss, own + memory.rss - memory.shared
    return total, own


def measured(name: str, variables: dict[str, str], span: tuple[int, int]) -> Stage:
    """The stage in a process of its own. Raises RuntimeError where it fails."""
    start, peak, own = time.monotonic(), 0, 0
    command = [sys.executable, "-m", "benchmarks.scale", "--stage", name, str(span[0]), str(span[1])]
    with subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, text=True) as process:
        try:
            stage_process = psutil.Process(process.pid)
            while process.poll() is None:
                peak, own = (max(pair) for pair in zip((peak, own), memory_of(stage_process), strict=True))
                time.sleep(SAMPLE)
        except psutil.NoSuchProcess:
            process.wait()
        finally:
            process.kill()
        seconds = (process.stdout or io.StringIO()).read().split()
    if process.returncode:
        raise RuntimeError(f"the stage {name} ended with {process.returncode}")
    store, wall = Path(variables[f"{PREFIX}DATA_DIR"], "stock_assets.duckdb"), time.monotonic() - start
    return Stage(name, rows_of(store, name), float(seconds[-1]), wall, peak, own, store.stat().st_size)


def rows_of(store: Path, name: str) -> int:
    # the tables of these rooms are declared where they are imported
    import stock_assets.evaluation.tables
    import stock_assets.model.tables  # noqa: F401
    from stock_assets.storage.warehouse import Warehouse

    return Warehouse(store).row_counts().get(name, 0)


def backfill(size: Size, folder: Path, only: Sequence[str], names: Sequence[str] = BACKFILL) -> list[Stage]:
    """Every stage of `names` of the market of `size`, all its sessions but the last one, then an evening of that
    one."""
    variables = environment(size, folder)
    os.environ |= {name: value for name, value in variables.items() if name.startswith(PREFIX)}
    last = len(calendar_of(read_settings()).sessions) - 1
    stages = []
    for name in (name for name in names if not only or name in only):
        stages.append(measured(name, variables, (0, last - EVENING)))
        print(f"{size}: {stages[-1]}", file=sys.stderr, flush=True)
    if not only or "evening" in only:
        stages += [evening._replace(name=f"evening: {evening.name}") for evening in evenings(variables, last)]
    return stages


def evenings(variables: dict[str, str], last: int) -> Iterator[Stage]:
    for name in DAILY:
        stage = measured(name, variables, (last, last))
        print(f"evening: {stage}", file=sys.stderr, flush=True)
        yield stage


def stage_table(stages: Sequence[Stage]) -> str:
    rows = [
        [
            stage.name,
            stage.rows,
            stage.processor,
            stage.seconds,
            stage.peak / 2**30,
            stage.own / 2**30,
            stage.store / 1e6,
        ]
        for stage in stages
    ]
    rows.append(
        [
            "together",
            "",
            sum(stage.processor for stage in stages),
            sum(stage.seconds for stage in stages),
            max(stage.peak for stage in stages) / 2**30,
            max(stage.own for stage in stages) / 2**30,
            stages[-1].store / 1e6,
        ]
    )
    return table(("stage", "rows", "processor, s", "wall, s", "peak, GiB", "own, GiB", "store, MB"), rows)


def growth(results: dict[Size, list[Stage]]) -> str:
    """Processor seconds per million bars by stage, and the ratio to the first size."""
    sizes = list(results)
    header = ["processor s per million bars", *map(str, sizes), *(f"ratio, {size}" for size in sizes[1:])]
    bars = {size: max(stage.rows for stage in results[size]) / 1e6 for size in sizes}
    rows = []
    stages_of_backfill = {size: [stage for stage in results[size] if ":" not in stage.name] for size in sizes}
    for place, stage in enumerate(stages_of_backfill[sizes[0]]):
        costs = [stages_of_backfill[size][place].processor / bars[size] for size in sizes]
        rows.append([stage.name, *costs, *(cost / costs[0] for cost in costs[1:])])
    whole = [sum(stage.processor for stage in stages_of_backfill[size]) / bars[size] for size in sizes]
    rows.append(["together", *whole, *(cost / whole[0] for cost in whole[1:])])
    return table(header, rows)


@contextmanager
def data_folder(kept_folder: Path | None) -> Iterator[Path]:
    if kept_folder:
        kept_folder.mkdir(parents=True, exist_ok=True)
        yield kept_folder
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tickers", type=int, action="append")
    parser.add_argument("--years", type=int, action="append")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where the stores stay (default: nowhere)")
    parser.add_argument(
        "--only", action="append", default=[], choices=(*BACKFILL, *MODELS, "evening"), help="on a store that was kept"
    )
    parser.add_argument("--models", action="store_true", help="train, weigh, predict and report the last model year")
    parser.add_argument("--stage", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.stage:
        name, first, last = options.stage
        run_stage(name, int(first), int(last))
        return
    preamble()
    pairs = zip(options.tickers or [500], options.years or [10], strict=True)
    results: dict[Size, list[Stage]] = {}
    for size in (Size(*pair) for pair in pairs):
        with data_folder(options.keep and options.keep / f"{size.tickers}x{size.years}") as folder:
            models = options.models or set(options.only) & set(MODELS)
            results[size] = backfill(size, folder, options.only, BACKFILL + MODELS if models else BACKFILL)
        print(f"### {size} years\n\n{stage_table(results[size])}", flush=True)
    if len(results) > 1:
        print(growth(results))
    largest = list(results.values())[-1]
    print(targets(Target("peak memory, GiB", max(stage.peak for stage in largest) / 2**30, 8)))


if __name__ == "__main__":
    main()
