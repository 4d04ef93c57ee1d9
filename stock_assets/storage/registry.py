"""The model registry: every training as an MLflow run, every version under a name, and aliases that point at them.

Only this file and `private/mlflow.py` import mlflow. By default the registry is a SQLite file beside the store, and
nothing leaves the machine; its aliases and runs are read without MLflow, which takes seconds to import. The table
`promotions` decides which version serves; the aliases mirror it (`lifecycle/materialize/champions.py`).
"""

import os
import shutil
import sqlite3
import warnings
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stock_assets.addresses import redacted, scrubbed
from stock_assets.errors import ArtifactError, DamagedFileError, RegistryError
from stock_assets.files import RESTORE, TEMPORARY, make_folder, sync
from stock_assets.private.mlflow_tables import REVISION, Alias, Tables
from stock_assets.storage.artifacts import local_artifact
from stock_assets.storage.revisions import bring_to_head, reroot, revision_of
from stock_assets.storage.trainings import NoRegistry, Registry, TrackedRun, Training

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "stock_assets"
#: What MLflow takes in one batch.
_METRICS_AT_ONCE, _PARAMS_AT_ONCE = 1000, 100
#: The most that MLflow answers at once: far more than there are.
_ALL_VERSIONS, _ALL_MODELS = 200_000, 1000


def open_registry(uri: str | None, artifacts: Path) -> Registry:
    """The registry at `uri`, none for None. Nothing is imported, made or requested before it is used."""
    return NoRegistry() if uri is None else MlflowRegistry(uri, artifacts)


class MlflowRegistry:
    """A registry behind an MLflow tracking URI (sqlite:/// or http); `artifacts` is where a SQLite one keeps files.

    Several processes may use it at once, also while it is made. A run is complete when its model version exists; the
    next `track` of that version continues a run that was cut off before.
    """

    def __init__(self, uri: str, artifacts: Path) -> None:
        self.uri, self.artifacts = uri, artifacts
        path = uri.removeprefix("sqlite:///")
        self._file = Path(path) if path != uri else None

    def track(self, training: Training) -> None:
        """Raises ArtifactError when `training.folder` is not there."""
        if training.folder is not None and not training.folder.is_dir():
            raise ArtifactError(f"{training.version} cannot be tracked: {training.folder} does not exist")
        with self._asking() as client, self._locked():
            if self._number(client, training.model, training.version) is not None:
                return
            run_facts = {
                "version": training.version,
                "model_year": str(training.model_year),
                "trained_through": str(training.trained_through),
                "pca_version": training.pca_version,
            }
            run_facts = {name: value for name, value in run_facts.items() if value is not None}
            tags = run_facts | {"model": training.model, "code_version": training.code_version}
            experiment = self._experiment(client)
            earlier_runs = client.search_runs([experiment], f"tags.version = '{training.version}'", max_results=1)
            run = (
                earlier_runs[0] if earlier_runs else client.create_run(experiment, run_name=training.version, tags=tags)
            )
            _log(client, run, training)
            source = str(run.info.artifact_uri)
            for name, png in training.figures.items():
                client.log_stream(run.info.run_id, BytesIO(png), f"figures/{name}.png")
            if training.folder is not None:
                with local_artifact(training.folder) as folder:
                    client.log_artifacts(run.info.run_id, str(folder), "model")
                source = f"{source}/model"
            client.set_terminated(run.info.run_id)
            _register_model(client, training.model)
            client.create_model_version(training.model, source, run.info.run_id, tags=run_facts)

    def alias(self, model: str, alias: str) -> str | None:
        return self.aliases().get(model, {}).get(alias)

    def aliases(self) -> dict[str, dict[str, str]]:
        """Raises ArtifactError for an alias on a version that stock_assets did not track, and so has no name."""
        if self._absent:
            return {}  # making it takes seconds, and it would be empty
        by_model: dict[str, dict[str, str]] = {}
        with self._reading() as tables:
            alias_rows = tables.aliases(EXPERIMENT) if tables else self._aliases()
        for model, alias, number, version in alias_rows:
            of_model = by_model.setdefault(model, {})
            if alias is None:
                continue
            if version is None:
                raise ArtifactError(
                    f"the alias {alias} of {model} in {self._without_password} points at version {number}, which "
                    "stock_assets did not make; expected one with the tag version"
                )
            of_model[alias] = version
        return by_model

    def _aliases(self) -> list[Alias]:
        """As `Tables.aliases`, of MLflow's client."""
        with self._asking() as client:
            filter_text = f"tags.made_by = '{EXPERIMENT}'"
            models = {m.name: m.aliases for m in client.search_registered_models(filter_text, max_results=_ALL_MODELS)}
            versions = client.search_model_versions(max_results=_ALL_VERSIONS) if any(models.values()) else []
            names = {(v.name, int(v.version)): v.tags.get("version") for v in versions}
        rows = [
            Alias(m, a, int(n), names.get((m, int(n))))
            for m, aliases_of_model in models.items()
            for a, n in aliases_of_model.items()
        ]
        return [
            *rows,
            *(Alias(model, None, None, None) for model, aliases_of_model in models.items() if not aliases_of_model),
        ]

    def set_alias(self, model: str, alias: str, version: str) -> None:
        with self._reading() as tables:
            is_set = tables.set_alias(model, alias, version) if tables else self._set_alias(model, alias, version)
        if not is_set:
            raise ArtifactError(
                f"{version} of {model} was never registered in {self._without_password}, so it cannot be its {alias}"
            )

    def _set_alias(self, model: str, alias: str, version: str) -> bool:
        with self._asking() as client:
            number = self._number(client, model, version)
            if number is not None:
                client.set_registered_model_alias(model, alias, number)
        return number is not None

    def runs(self) -> dict[str, TrackedRun]:
        if self._absent:
            return {}
        with self._reading() as tables:
            if tables:
                return {version: TrackedRun(run, model, code) for version, run, model, code in tables.runs(EXPERIMENT)}
        with self._asking() as client:
            return {
                str(tags["version"]): TrackedRun(run.info.run_id, run.info.experiment_id, tags.get("code_version"))
                for run in self._runs(client)
                if "version" in (tags := run.data.tags)
            }

    def versions(self) -> dict[str, datetime]:
        """None where the registry is a server, which other people use and tidy."""
        if self._file is None or self._absent:
            return {}
        with self._asking() as client:
            return {
                str(run.data.tags["version"]): datetime.fromtimestamp(run.info.start_time / 1000, UTC)
                for run in self._runs(client)
                if "version" in run.data.tags
            }

    def remove(self, versions: Collection[str]) -> int:
        if not versions or self._file is None:
            return 0
        from stock_assets.private.mlflow import remove_run

        with self._asking() as client, self._locked():
            runs_of_versions = [run for run in self._runs(client) if run.data.tags.get("version") in versions]
            for run in runs_of_versions:
                name = f"name = '{run.data.tags['model']}' and tags.version = '{run.data.tags['version']}'"
                for version in client.search_model_versions(name):
                    client.delete_model_version(version.name, version.version)
                client.delete_run(run.info.run_id)
                # the files first: a run without files is removed next time, files without a run are for ever
                folder = self.artifacts / run.info.run_id
                shutil.rmtree(folder, ignore_errors=not folder.exists())
                remove_run(self.uri, self.artifacts, run.info.run_id)
        return len(runs_of_versions)

    def _runs(self, client: "MlflowClient") -> list[Any]:
        """Every run, also one whose removal was cut off."""
        from mlflow.entities import ViewType

        experiment = client.get_experiment_by_name(EXPERIMENT)
        if experiment is None:
            return []
        runs: list[Any] = []
        token: str | None = None
        while token != "":
            page = client.search_runs([experiment.experiment_id], run_view_type=ViewType.ALL, page_token=token)
            runs, token = [*runs, *page], page.token or ""
        return runs

    # ---------------------------------------------------------------- the connection

    @property
    def _absent(self) -> bool:
        """Whether it is a file that nothing was tracked in yet."""
        return self._file is not None and not self._file.exists()

    @contextmanager
    def _reading(self) -> Iterator[Tables | None]:
        """MLflow's tables in the file; None where it is a server, or a file for MLflow itself to open or refuse."""
        try:
            is_known_revision = self._file is not None and revision_of(self._file) == REVISION
        except sqlite3.DatabaseError:
            is_known_revision = False
        try:
            yield self._tables if is_known_revision else None
        except sqlite3.Error as error:
            raise RegistryError(f"the model registry {self._without_password} does not answer: {error}") from error

    @cached_property
    def _tables(self) -> Tables:
        """The tables of the file, which name the files of this data folder wherever it was before."""
        assert self._file is not None
        with self._locked(), closing(sqlite3.connect(self._file)) as connection:
            reroot(connection, EXPERIMENT, self.artifacts.absolute().as_uri())
        return Tables(self._file)

    @cached_property
    def _client(self) -> "MlflowClient":
        import logging

        from mlflow import MlflowClient

        # it logs how it makes its tables, and the traceback of what it raises; we raise one line
        logging.getLogger("mlflow").setLevel(logging.CRITICAL)
        if self._file is not None:
            with self._locked():
                self._make_or_check(self._file)
        return MlflowClient(self.uri, self.uri)

    def _make_or_check(self, file: Path) -> None:
        """Makes the database, whole or not at all, or checks that the file is one.

        MLflow would make the tables one by one, several processes at once, and a killed one would leave half of them;
        and it would try to open a damaged file for a hundred seconds.
        """
        from stock_assets.private.mlflow import make_tables, migrations

        if file.exists():
            try:
                with closing(sqlite3.connect(file)) as connection:
                    connection.execute("SELECT version_num FROM alembic_version").fetchone()
                    reroot(connection, EXPERIMENT, self.artifacts.absolute().as_uri())
            except sqlite3.DatabaseError as error:
                raise RegistryError(
                    f"{self._without_password} is no registry of MLflow or is damaged: {error}; {RESTORE}"
                ) from error
            bring_to_head(file, "mlflow", migrations(file))
            return
        temporary_file = file.with_name(f"{TEMPORARY}{file.name}")  # one name for all: the caller holds the lock
        for leftover in file.parent.glob(f"{temporary_file.name}*"):  # of a killed process, and its journal
            leftover.unlink()
        make_tables(temporary_file, self.artifacts)
        temporary_file.replace(file)
        sync(file.parent)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One process or thread at a time, where the registry is a file."""
        if self._file is None:
            yield
            return
        import fcntl

        make_folder(self._file.parent)
        with self._file.with_name(f".{self._file.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # given back by the kernel should we be killed
            yield

    @contextmanager
    def _asking(self) -> Iterator["MlflowClient"]:
        """The client; whatever goes wrong while it is used is one RegistryError."""
        # read when mlflow is imported
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
        # its own patience with a server that does not answer is several minutes
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
        with warnings.catch_warnings():
            # mlflow 3.17 uses what SQLAlchemy 2.1 and pydantic deprecate
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", FutureWarning)
            from alembic.util.exc import CommandError
            from mlflow.exceptions import MlflowException
            from sqlalchemy.exc import SQLAlchemyError

            try:
                yield self._client
            except DamagedFileError:  # an OSError too, that says all there is
                raise
            except (MlflowException, SQLAlchemyError, CommandError, OSError) as error:
                line = (str(error).strip() or repr(error)).splitlines()[0]
                if self._file is None:  # neither its words nor its chain may show a password or a token
                    line = scrubbed(line, self.uri)
                    raise RegistryError(
                        f"the model registry {self._without_password} does not answer: {line}"
                    ) from None
                raise RegistryError(f"the model registry {self._without_password} does not answer: {line}") from error

    @property
    def _without_password(self) -> str:
        """The URI without its secrets."""
        return self.uri if self._file is not None else redacted(self.uri)

    def _experiment(self, client: "MlflowClient") -> str:
        from mlflow.exceptions import MlflowException

        if experiment := client.get_experiment_by_name(EXPERIMENT):
            return experiment.experiment_id
        # a server decides itself where its files are
        place = self.artifacts.absolute().as_uri() if self._file is not None else None
        try:
            return client.create_experiment(EXPERIMENT, place)
        except MlflowException:
            if experiment := client.get_experiment_by_name(EXPERIMENT):  # another process was quicker
                return experiment.experiment_id
            raise

    def _number(self, client: "MlflowClient", model: str, version: str) -> str | None:
        """MLflow's own number of a version, None for one that was never registered."""
        versions = client.search_model_versions(f"name = '{model}' and tags.version = '{version}'")
        return str(versions[0].version) if versions else None


def _log(client: "MlflowClient", run: Any, training: Training) -> None:
    """Logs parameters, scores and epochs; those of a run that was cut off before stay as they are."""
    from mlflow.entities import Metric, Param

    moment = run.info.start_time  # the same in a second attempt, so that nothing is there twice
    last = int(max((epoch["epoch"] or 0 for epoch in training.curve), default=0))
    metrics = [Metric(name, value, moment, last) for name, value in training.metrics.items() if value is not None]
    metrics += [
        Metric(f"epoch/{name}", value, moment, int(epoch["epoch"] or 0))
        for epoch in training.curve
        for name, value in epoch.items()
        if name != "epoch" and value is not None
    ]
    params = [Param(name, str(value)) for name, value in training.params.items() if name not in run.data.params]
    for i in range(0, len(metrics), _METRICS_AT_ONCE):
        client.log_batch(run.info.run_id, metrics=metrics[i : i + _METRICS_AT_ONCE])
    for i in range(0, len(params), _PARAMS_AT_ONCE):
        client.log_batch(run.info.run_id, params=params[i : i + _PARAMS_AT_ONCE])


def _register_model(client: "MlflowClient", model: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(model)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    client.set_registered_model_tag(model, "made_by", EXPERIMENT)
