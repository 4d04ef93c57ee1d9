"""The workload of the issue: ten years of 498 tickers, and how its figures are shown."""

import argparse
import os
import platform
import shlex
import signal
import socket
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from stock_assets.cli.graphql import DagsterClient
from stock_assets.cli.server import dagster_dev, prepare_home
from stock_assets.cores import usable_cores
from stock_assets.market.calendar import calendar_of
from stock_assets.settings import PREFIX, PROJECT_DIR, Settings, read_settings

DATA = Path(os.environ.get("REAL_DATA_DIR", PROJECT_DIR.parent / "shared" / "data"))
PRICES = DATA / "yahoo_sp500_2010_2019.parquet"
#: Tickers of the file that the reference study left out.
LEFT_OUT = ("AGN", "BRK", "CPRI", "HP")
DAILY = ("raw_ohlcv", "context_series", "daily_bars", "indicators", "stationary_features")
MADE = (*DAILY, "labels", "pca_model", "pca_components")
LIBRARIES = ("dagster", "polars", "duckdb", "torch")

RUN = """
  id status creationTime startTime endTime assetSelection { path } stepStats { stepKey startTime endTime }
  stats { ... on RunStatsSnapshot { enqueuedTime launchTime } }
"""


class Run(NamedTuple):
    """When a run did what, in seconds since 1970."""

    assets: str
    created: float  # then the events that announce every partition are written
    enqueued: float  # then it waits for the queue
    launched: float  # then its process starts and imports the definitions
    started: float  # then Dagster plans, up to the first step
    first_step: float
    last_step: float  # the one that makes pca_components, where there is one
    ended: float

    @classmethod
    def of(cls, run: dict[str, Any]) -> "Run":
        """From the answer to `RUN`. Raises RuntimeError where the run is not over and green."""
        if run["status"] != "SUCCESS":
            raise RuntimeError(f"run {run['id']} ended as {run['status']}")
        steps, stats = run["stepStats"], run["stats"]
        timed_steps = [step for step in steps if step["stepKey"] == "pca_components"] or steps
        return cls(
            ", ".join(step["stepKey"] for step in sorted(steps, key=lambda step: step["startTime"])),
            run["creationTime"],
            stats["enqueuedTime"],
            stats["launchTime"],
            run["startTime"],
            min(step["startTime"] for step in steps),
            max(step["endTime"] for step in timed_steps),
            run["endTime"],
        )


def preamble() -> None:
    """The command and what it ran on: the first lines of every page."""
    module = Path(sys.argv[0]).stem
    name = "benchmarks" if module == "__main__" else f"benchmarks.{module}"
    versions = ", ".join(f"{library} {version(library)}" for library in LIBRARIES)
    print(f"`python -m {shlex.join([name, *sys.argv[1:]])}`\n")
    print(
        f"{usable_cores()} cores, {platform.machine()}, Python {platform.python_version()}, {versions}.\n", flush=True
    )


def workload_parser(doc: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--start", type=date.fromisoformat, default=date(2010, 1, 4), help="first session")
    parser.add_argument("--end", type=date.fromisoformat, default=date(2019, 12, 31), help="last session")
    parser.add_argument("--first-model-year", type=int, help="default: the fifth, or the last if there are fewer")
    parser.add_argument("--tickers", type=int, help="how many, in the order of the alphabet (default: all)")
    return parser


def set_workload(options: argparse.Namespace, folder: Path) -> None:
    """Puts the workload into the environment, as a user would, with its files in `folder`; says which it is."""
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        del os.environ[name]
    year = options.first_model_year or min(options.start.year + 4, options.end.year)
    settings = {"CONFIG": "off", "START": options.start, "END": options.end, "FIRST_MODEL_YEAR": year}
    if PRICES.exists():
        import polars as pl

        tickers = pl.read_parquet(PRICES, columns=["ticker"])["ticker"].unique().sort().to_list()
        settings |= {"SOURCE": "snapshot", "SNAPSHOT": PRICES}
    else:
        from stock_assets.market.sources.simulated_laws import TICKERS as tickers
    tickers = [ticker for ticker in tickers if ticker not in LEFT_OUT][: options.tickers]
    list_of_tickers = folder / "tickers.txt"
    list_of_tickers.write_text("\n".join(tickers))
    os.environ |= {PREFIX + name: str(value) for name, value in (settings | {"TICKERS": list_of_tickers}).items()}
    prices = PRICES.name if PRICES.exists() else f"the SIMULATED market ({PRICES.name} is not in {DATA.name}/)"
    sessions = len(calendar_of(read_settings()).sessions)
    print(
        f"{len(tickers)} tickers x {sessions:,} sessions, {options.start} to {options.end}, of {prices}.\n", flush=True
    )


def use(data_dir: Path) -> Settings:
    """The settings of the workload with its store in `data_dir`, in the environment as well."""
    os.environ[PREFIX + "DATA_DIR"] = str(data_dir)
    config = read_settings()
    os.environ["DAGSTER_HOME"] = str(config.dagster_home)
    os.environ.pop("DAGSTER_EVENT_BATCH_SIZE", None)  # our storage sets it, no other may inherit it
    return config


@contextmanager
def serve(config: Settings, instance: str | None = None) -> Iterator[DagsterClient]:
    """A real `dagster dev` on a port of its own."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # leave no process behind
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with dagster_dev(config, port, instance) as (client, _):
        yield client


def materialize(
    config: Settings, assets: Sequence[str], sessions: Sequence[date] = (), instance_yaml: str | None = None
) -> float:
    """Makes `assets`, partitioned by `sessions` or not at all, in one run in this process: its seconds."""
    import dagster as dg

    from stock_assets.definitions import build_definitions

    prepare_home(config, instance_yaml)
    defs, tags = build_definitions(config), {}
    if sessions:
        first, last = str(sessions[0]), str(sessions[-1])
        tags = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
    with dg.DagsterInstance.get() as instance:
        start = time.perf_counter()
        dg.materialize(
            list(defs.assets or ()),  # pyright: ignore[reportArgumentType]
            selection=list(assets),
            tags=tags,
            instance=instance,
            resources=dict(defs.resources or {}),
            run_config={"loggers": {"console": {"config": {"log_level": "ERROR"}}}},
        )
        return time.perf_counter() - start


def fill(config: Settings, sessions: Sequence[date], instance_yaml: str | None = None) -> float:
    """Makes everything up to labels and pca_components in this process, in the four runs that a backfill
    makes of it: their seconds, without the universe.
    """
    from stock_assets.features.materialize import side_groups

    materialize(config, ["universe"], instance_yaml=instance_yaml)
    groups = side_groups(config)
    side = [*sorted({name for group in groups for name in group.reads}), "side_features"] if groups else []
    return (
        materialize(config, [*DAILY, *side], sessions, instance_yaml)
        + materialize(config, ["labels"], sessions[: -config.horizon], instance_yaml)
        + materialize(config, ["pca_model"], instance_yaml=instance_yaml)
        + materialize(config, ["pca_components"], sessions, instance_yaml)
    )


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; figures with one decimal, or three digits where they are small."""

    def text(value: object) -> str:
        if isinstance(value, float):
            return f"{value:,.1f}" if abs(value) >= 10 or value == 0 else f"{value:.2f}"
        return f"{value:,}" if isinstance(value, int) else str(value)

    lines = [header, ["---", *["--:"] * (len(header) - 1)], *([text(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


class Target(NamedTuple):
    figure: str
    measured: float
    limit: float
    at_least: bool = False

    def row(self) -> Sequence[object]:
        is_met = self.measured >= self.limit if self.at_least else self.measured <= self.limit
        limit_text = f"{'at least' if self.at_least else 'at most'} {self.limit:g}"
        return self.figure, self.measured, limit_text, "met" if is_met else "missed"


def targets(*all_targets: Target) -> str:
    return table(("figure", "measured", "target", ""), [target.row() for target in all_targets])
