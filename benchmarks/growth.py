"""What an evening leaves on the disk, by kind.

    python -m benchmarks.growth [--evenings 250] [--untidied]

The platform's own sensors and runs make one evening after the other on a clock that is moved, on real storage, and the
job `tidy` follows each night. The ticks of a day are the last look of every sensor, copied as often as the daemon looks
in a day. The market is simulated and small; the rows of the store, which are the market's own, are counted apart.
"""

import argparse
import logging
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import yaml

from benchmarks.common import Target, preamble, table, targets
from stock_assets.settings import PROJECT_DIR, Settings

if TYPE_CHECKING:
    from stock_assets_tests.system.evenings import Platform

#: The last session before the first evening.
BEFORE = date(2021, 3, 31)
#: The looks of a sensor in a day, of which almost all ask for nothing.
LOOKS = 24 * 60
#: MB that an evening may leave, besides the market's own rows.
LIMIT = 0.6
#: What stands in the place of dagster.yaml's: runs are executed where they are launched.
IN_PROCESS = {
    "storage": {
        "custom": {
            "module": "stock_assets.storage.event_log",
            "class": "BatchingSqliteStorage",
            "config": {"base_dir": {"env": "DAGSTER_HOME"}},
        }
    },
    "run_launcher": {
        "module": "dagster._core.launcher.sync_in_memory_run_launcher",
        "class": "SyncInMemoryRunLauncher",
    },
    "run_coordinator": {"module": "dagster._core.run_coordinator", "class": "DefaultRunCoordinator"},
}
ROWS = "the market's own rows"


def kind_of(path: Path, folder: Path) -> str:
    """What a file below the data folder holds, for the table of this page."""
    place, name = path.relative_to(folder).as_posix(), path.name
    signs = {
        "write-ahead logs of Dagster": name.endswith(("-wal", "-shm")),
        "events of all runs (index.db)": name == "index.db",
        "events of one run each": place.startswith("dagster/history/runs/"),
        "runs (runs.db)": name == "runs.db",
        "ticks": place.startswith("dagster/schedules/"),
        "what steps and ticks printed": place.startswith("dagster/storage/"),
        "model registry": place.startswith("mlflow/"),
        "publication": place.startswith("published/"),
        "saved models and pages": place.startswith("artifacts/"),
    }
    return next((kind for kind, sign in signs.items() if sign), "other files")


def bytes_by_kind(config: Settings) -> Counter[str]:
    """Bytes below the data folder, by kind; of the store the rows and the free space."""
    import duckdb

    sizes: Counter[str] = Counter()
    for path in config.data_dir.rglob("*"):
        if path.is_file() and path != config.database:
            sizes[kind_of(path, config.data_dir)] += path.stat().st_size
    with duckdb.connect(config.database, read_only=True) as store:
        ((used_bytes,),) = store.execute("SELECT block_size * used_blocks FROM pragma_database_size()").fetchall()
    sizes[ROWS] = used_bytes
    sizes["free space of the store"] = config.database.stat().st_size - used_bytes
    return sizes


def copy_ticks(instance: dg.DagsterInstance, moment: datetime) -> None:
    """Adds to the last idle tick of every sensor as many as a day has, spread over the day before `moment`."""
    from sqlalchemy import text

    with instance.schedule_storage.connect() as connection:  # pyright: ignore[reportOptionalMemberAccess, reportAttributeAccessIssue]
        last = "SELECT * FROM job_ticks WHERE id IN (SELECT max(id) FROM job_ticks WHERE status = 'SKIPPED' "
        for tick in connection.execute(text(last + "GROUP BY selector_id)")).mappings().all():
            row = {name: value for name, value in tick.items() if name != "id"}
            times = [f"{moment - timedelta(minutes=look):%Y-%m-%d %H:%M:%S.%f}" for look in range(1, LOOKS)]
            statement = f"INSERT INTO job_ticks ({', '.join(row)}) VALUES ({', '.join(f':{name}' for name in row)})"
            connection.execute(text(statement), [row | {"timestamp": at} for at in times])


@contextmanager
def evenings_of(folder: Path) -> Iterator[tuple[Settings, "Platform", dg.Definitions]]:
    """The drill's small market up to BEFORE, on real storage with the project's own retention."""
    import pytest

    from stock_assets.definitions import build_definitions
    from stock_assets_tests.system import drill_market
    from stock_assets_tests.system.drill_market import Plants, planted
    from stock_assets_tests.system.evenings import platform
    from stock_assets_tests.system.test_drill import fewer_models, fill, moment, use

    own_sections = yaml.safe_load((PROJECT_DIR / "dagster.yaml").read_text())
    sections = {name: own_sections[name] for name in ("retention", "compute_logs", "telemetry", "python_logs")}
    with pytest.MonkeyPatch.context() as patch:
        config = use(patch, folder)
        never = date(2034, 1, 3)
        plants = Plants(regime=never, restated=("SIM01", never, never), corrupt=(never, never))
        patch.setenv("DRILL_PLANTS", plants.text())
        fewer_models(patch)
        with platform(config, Path(drill_market.__file__), yaml.safe_dump(sections | IN_PROCESS)) as running:
            defs = planted(build_definitions(config), plants)
            fill(config, defs, running.instance, BEFORE)
            running.tick(moment(BEFORE) + timedelta(minutes=10))
            yield config, running, defs


def play(running: "Platform", defs: dg.Definitions, sessions: Sequence[date], *, with_tidying: bool) -> None:
    """Makes the evening, and the night, of each of `sessions`."""
    from dagster._core.test_utils import freeze_time

    from stock_assets_tests.system.test_drill import DAILY_WORK, moment

    night = defs.resolve_job_def("tidy")
    for session in sessions:
        running.evening(moment(session), DAILY_WORK)
        copy_ticks(running.instance, moment(session))
        if with_tidying:
            with freeze_time(moment(session) + timedelta(hours=4)):
                assert night.execute_in_process(instance=running.instance).success


def report(before: Mapping[str, int], after: Mapping[str, int], evenings: int) -> float:
    """Prints the page; the kB that an evening left besides the market's own rows."""
    rows = [[kind, (after[kind] - before.get(kind, 0)) / evenings / 1000, after[kind] / 1e6] for kind in sorted(after)]
    other_growth = sum(growth for kind, growth, _ in rows if kind != ROWS)
    print(table(("kind", "kB an evening", "MB at the end"), [*rows, ["all but the rows", other_growth, ""]]))
    return other_growth


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--evenings", type=int, default=250)
    parser.add_argument("--untidied", action="store_true", help="without the nights' tidying")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    from stock_assets.market.calendar import calendar_of

    with tempfile.TemporaryDirectory() as folder, evenings_of(Path(folder, "data")) as (config, running, defs):
        before, start = bytes_by_kind(config), time.monotonic()
        calendar = calendar_of(config)
        first = calendar.position(BEFORE) + 1
        sessions = calendar.sessions[first : first + options.evenings]
        play(running, defs, sessions, with_tidying=not options.untidied)
        other_growth = report(before, bytes_by_kind(config), len(sessions))
        print(f"{len(sessions)} evenings in {time.monotonic() - start:,.0f} s.\n")
        print(targets(Target("MB an evening", other_growth / 1000, LIMIT)))


if __name__ == "__main__":
    preamble()
    main()
