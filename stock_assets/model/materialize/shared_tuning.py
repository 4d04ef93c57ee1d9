"""Trials of a study on several hosts: their storage is the team's Postgres, and a worker's unit is one more process
that does trials until there are enough."""

import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import make_url, text

from stock_assets.files import write_file
from stock_assets.model import trials as trials_of
from stock_assets.model.materialize.sharing import LOOK_SECONDS, LedBatch, Work, led_batch
from stock_assets.model.progress import Say
from stock_assets.model.trials import HEARTBEAT, Heartbeat, TrialRow
from stock_assets.model.tuning import Study
from stock_assets.objects import Place
from stock_assets.settings import Settings
from stock_assets.storage.postgres import pooled_engine
from stock_assets.storage.postgres_link import LINK, link_options, linked
from stock_assets.storage.work_files import put_content, read_content

#: The schema of Optuna's tables: in the public one both Optuna and Dagster would keep their version in one table.
SCHEMA = "stock_assets_tuning"
#: Processes of other hosts that may do trials of one study at once.
MOST_HELPERS = 32


def search(
    settings: Settings,
    study: Study,
    trials: int,
    *,
    workers: int,
    on_trial: Callable[[TrialRow], None] | None,
    say: Say,
    heartbeat: Heartbeat = HEARTBEAT,
) -> Any:
    """As `trials.search`, with the workers of other hosts; `say` receives what they do. Dagster is a team's. Raises as
    `trials.search` does, and StockAssetsError with the message of a worker that failed."""
    assert settings.dagster_postgres is not None
    folder = settings.data_dir / "tuning"
    places = range(min(trials, MOST_HELPERS))
    work = Work(
        "tuning",
        [f"process {place} of {study.name}" for place in places],
        [str(place) for place in places],
        publish=lambda shared: {
            "study": study.name,
            "trials": trials,
            "heartbeat": list(heartbeat),
            "files": {
                file.name: put_content(shared, file.read_bytes())
                for file in sorted((folder / study.name).iterdir())
                if file.suffix != ".log"
            },
        },
    )
    with led_batch(settings, work) as batch:
        helpers = _Helpers(tuning_storage(settings.dagster_postgres), batch, say)
        return trials_of.search(
            study, folder, trials, workers=workers, on_trial=on_trial, heartbeat=heartbeat, helpers=helpers
        )


def tuning_storage(address: str) -> str:
    """The address of Optuna's storage in the database at `address`: a schema of its own, which is made where it lacks.
    Raises StockAssetsError where the server does not answer."""
    with linked(pooled_engine(address)) as connection:
        connection.execute(text("SELECT pg_advisory_lock(8430025220)"))  # CREATE … IF NOT EXISTS of two fails for one
        connection.exec_driver_sql(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
        connection.execute(text("SELECT pg_advisory_unlock(8430025220)"))
    url = make_url(address)
    options = f"{url.query.get('options') or LINK['options']} -c search_path={SCHEMA}"
    url = url.update_query_dict({**{name: str(value) for name, value in link_options(url).items()}, "options": options})
    return url.render_as_string(hide_password=False)


class _Helpers:
    """`trials.Helpers`: the workers of other hosts, as the search sees them."""

    def __init__(self, storage: str, batch: LedBatch, say: Say) -> None:
        self.storage, self._batch, self._say = storage, batch, say
        self._looked_at = -LOOK_SECONDS

    def look(self) -> None:
        if time.monotonic() >= self._looked_at + LOOK_SECONDS:
            self._batch.look(self._say)
            self._looked_at = time.monotonic()

    def at_work(self) -> bool:
        return self._batch.is_elsewhere()


class SharedTrials:
    """One more process of a search, on another host than that of the store."""

    def __init__(self, settings: Settings, folder: Place, files: Mapping[str, Any]) -> None:
        """Reads what `search` published. Raises DamagedFileError, BucketError."""
        assert settings.dagster_postgres is not None
        self._storage = tuning_storage(settings.dagster_postgres)
        self._trials, self._heartbeat = files["trials"], Heartbeat(*files["heartbeat"])
        self._folder = tempfile.TemporaryDirectory(prefix="stock-assets-trials-")  # as long as this object
        self._inputs = Path(self._folder.name, files["study"])
        for name, content in files["files"].items():
            write_file(self._inputs / Path(name).name, read_content(folder, content))

    def __call__(self, spec: str, say: Say, *, require_held: Callable[[], None]) -> str:
        """Does trials until there are enough; returns the number of processes that were killed meanwhile. Raises
        StockAssetsError with the message of one that failed, and what `require_held` raises."""
        study = trials_of.open_storage(self._inputs.parent, self._inputs.name, self._heartbeat, address=self._storage)
        if trials_of.enough(study, self._trials):
            return "0"
        say(f"does trials of {self._inputs.name}")
        arguments: Sequence[object] = (self._inputs, self._trials, len(study.trials), os.getpid(), *self._heartbeat)

        def report() -> None:
            say("")
            require_held()

        # its number follows those of the processes of the data host: no two draw the same
        number = 1 + MOST_HELPERS + int(spec)
        deaths = trials_of.run_workers(self._inputs, arguments, [number], report=report, storage=self._storage)
        return str(deaths)
