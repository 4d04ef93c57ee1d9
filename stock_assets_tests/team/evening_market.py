"""The definitions of the drill over hosts, in which a session has closed once the drill says so; and the same evenings
on one machine:

python -m stock_assets_tests.team.evening_market FOLDER

makes everything up to LAST_BEFORE in FOLDER/filled, a copy of it in FOLDER/single, and there the EVENINGS, with the
number of rows of every table after each in FOLDER/single/rows.json.
"""

import json
import os
import shutil
import sys
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import dagster as dg

from stock_assets.defs import automation, lost
from stock_assets.lifecycle import evening
from stock_assets.model.registry import MODELS
from stock_assets.settings import PREFIX, settings

FIRST, LAST_BEFORE, END = date(2020, 1, 2), date(2021, 3, 31), date(2021, 5, 28)
#: HOSTS_EVENINGS, up to ten, makes more of them.
EVENINGS = tuple(date(2021, 4, day) for day in (1, 5, 6, 7, 8, 9, 12, 13, 14, 15))[
    : int(os.environ.get("HOSTS_EVENINGS", "2"))
]
SETTINGS = {
    "CONFIG": "off",
    "SOURCE": "simulated",
    "START": str(FIRST),
    "END": str(END),
    "FIRST_MODEL_YEAR": "2021",
    "TICKERS": "SIM01,SIM02,SIM03,SIM04",
}
#: Models that the evenings do without, and sensors that ask for nothing in them, or for none of their work.
UNUSED = ("deepar", "rnn_classifier", "svm", "mlp")
NO_EVENING = ("reference_models", "store_comparison", "freshness", "opening_orders", "new_model_year")
#: The file that names the last session that has closed.
CLOSED = "DRILL_CLOSED"


def close(session: date) -> None:
    """From now on `session` is due, and those before it."""
    file = Path(os.environ[CLOSED])
    file.with_suffix(".new").write_text(str(session))
    file.with_suffix(".new").rename(file)


def prepare() -> None:
    """Few models, sensors that look at every turn of the daemon, and sessions that close as `close` says."""
    for name in UNUSED:
        MODELS.pop(name, None)
    decide, sensor = evening.chain_due, cast(Any, dg.sensor)

    def closed_only(*arguments: object) -> evening.Plan:
        plan, last = decide(*arguments), Path(os.environ[CLOSED]).read_text()  # pyright: ignore[reportArgumentType]
        sessions = tuple(session for session in plan.sessions if str(session) <= last)
        return replace(plan, sessions=sessions, reason=plan.reason if sessions else f"{last} is the last that closed")

    evening.chain_due = automation.chain_due = closed_only
    evening.RETRY, lost.SETTLED_AFTER = timedelta(seconds=2), timedelta(seconds=5)
    dg.sensor = lambda **options: sensor(**options | {"minimum_interval_seconds": 1})


def definitions() -> dg.Definitions:
    from stock_assets.definitions import build_definitions

    project = build_definitions(settings())
    return dg.Definitions(
        assets=project.assets,
        asset_checks=project.asset_checks,
        sensors=[sensor for sensor in project.sensors or () if sensor.name not in NO_EVENING],
        jobs=project.jobs,
        executor=project.executor,
        resources=project.resources,
    )


def main(folder: Path) -> None:
    from stock_assets.storage.warehouse import Warehouse
    from stock_assets_tests.system.evenings import platform
    from stock_assets_tests.system.kills import until_quiet
    from stock_assets_tests.system.test_drill import fill

    def use(name: str) -> None:
        os.environ[f"{PREFIX}DATA_DIR"] = str(folder / name)
        settings.cache_clear()
        os.environ["DAGSTER_HOME"] = str(settings().dagster_home)

    # a day for each: a sensor does not look again before its last look
    days = [datetime.now(UTC) - timedelta(days=ago) for ago in range(len(EVENINGS), -1, -1)]
    use("filled")
    close(LAST_BEFORE)
    with platform(settings(), Path(__file__)) as running:
        fill(settings(), definitions(), running.instance, LAST_BEFORE, now=days[0])
        until_quiet(running, days[0])
    shutil.copytree(folder / "filled", folder / "single")
    use("single")
    rows = {}
    with platform(settings(), Path(__file__)) as running:
        for session, now in zip(EVENINGS, days[1:], strict=True):
            close(session)
            until_quiet(running, now)
            rows[str(session)] = Warehouse(running.store).row_counts()
            assert session in Warehouse(running.store).sessions("predictions")
    (folder / "single" / "rows.json").write_text(json.dumps(rows))


if CLOSED in os.environ:
    prepare()
    if __name__ == "__main__":
        main(Path(sys.argv[1]))
    else:
        defs = definitions()
