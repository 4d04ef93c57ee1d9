"""Calendars that are computed once for all workers and all runs of the tests.

Some fifty files ask for one when they are imported, every worker imports them all, and exchange_calendars takes a fifth
of a second for each: half of what it took a worker to begin.
"""

import hashlib
import json
import os
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from stock_assets.files import locked
from stock_assets.market import calendar

#: What computes them, without importing pandas here.
SOURCES = (Path(calendar.__file__), Path(calendar.__file__).parents[1] / "private" / "exchange_calendars.py")


def _made_by() -> str:
    """What changes when a calendar could be computed otherwise: our code, and the versions of its libraries."""
    sources = (source.read_bytes() for source in SOURCES)
    versions = (version(name).encode() for name in ("exchange_calendars", "pandas", "numpy", "tzdata"))
    return hashlib.sha256(b"\0".join((*sources, *versions))).hexdigest()[:16]


def keep_hours(folder: Path) -> None:
    """From now on in this process, the hours of an exchange are read from `folder` once a process has computed them."""
    computed, here = calendar._computed_hours, folder / _made_by()

    def kept(name: str, start: date, end: date | None) -> dict[str, Any]:
        file = here / f"{name.replace('/', '-')}-{start}-{end}.json"
        if not file.exists():
            with locked(file.with_suffix(".lock")):  # the others wait instead of computing the same
                if not file.exists():
                    # not by what a test may have fail
                    aside = file.with_suffix(".new")
                    aside.write_text(json.dumps(computed(name, start, end)))
                    os.replace(aside, file)  # noqa: PTH105
        return json.loads(file.read_bytes())

    calendar._computed_hours = kept
