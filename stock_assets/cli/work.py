"""`stock-assets work`: a host without the store that takes units of work from the steps of the data host."""

import os
import signal
from collections.abc import Callable
from datetime import datetime
from types import FrameType
from typing import NoReturn

from stock_assets.cores import usable_cores
from stock_assets.errors import SettingsError, StockAssetsError
from stock_assets.files import first_line
from stock_assets.settings import Settings
from stock_assets.settings_file import PREFIX

Say = Callable[[str], None]


def work(settings: Settings, slots: int | None, *, now: datetime, say: Say) -> None:
    """Works until SIGTERM or Ctrl-C, which give its units to others at once: what is saved is whole at any moment.

    `slots` units are done side by side, one per core when None. Raises SettingsError where Dagster is no team's, where
    the clock of this host differs from the database's at `now`, and for another version or other settings than those of
    a step; StockAssetsError where the database or the bucket does not answer.
    """
    address = settings.dagster_postgres
    if address is None:
        raise SettingsError(
            f"{PREFIX}DAGSTER names no Postgres database, where the units of work are; expected the address that the "
            "data host has (docs/team.md)"
        )
    from stock_assets.model.materialize.worker import Worker
    from stock_assets.storage.platform_row import require_same_database
    from stock_assets.storage.postgres_link import shown
    from stock_assets.storage.work_queue import WorkQueue

    _end_at_once()
    require_same_database(address, now=now)
    queue, slots = WorkQueue(address, "worker"), slots or usable_cores()
    say(f"{queue.name} waits for units of work in {shown(address)}, {slots} at a time; Ctrl-C ends it")
    try:
        Worker(settings, queue, slots).run(say)
    except StockAssetsError:
        raise
    except OSError as error:
        raise StockAssetsError(f"this worker ends: {first_line(error)}") from error


def _end_at_once() -> None:
    """Has the two signals end this process without waiting for its threads, some of which compute for minutes: the
    server frees the units when the connection ends."""

    def end(number: int, _frame: FrameType | None) -> NoReturn:
        name = signal.Signals(number).name
        os.write(2, f"stock-assets: ended by {name}; its units are taken by others\n".encode())
        os._exit(0 if number == signal.SIGTERM else 128 + number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
