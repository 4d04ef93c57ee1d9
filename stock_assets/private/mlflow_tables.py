"""MLflow's own tables in a SQLite file, read and written without MLflow, which takes seconds to import.

They are private to MLflow and may change with it. So they are used only where the file has the revision that this was
tried with; the client is asked elsewhere. `test_private_mlflow.py` compares the answers with the client's.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

#: alembic's revision of the tables of MLflow 3.17.2.
REVISION = "dc11669786a5"

_ALIASES = """
SELECT ours.name, alias.alias, alias.version, tag.value
FROM registered_model_tags AS ours
LEFT JOIN registered_model_aliases AS alias USING (workspace, name)
LEFT JOIN model_versions AS version
    ON (version.workspace, version.name, version.version) = (ours.workspace, ours.name, alias.version)
    AND version.current_stage IS NOT 'Deleted_Internal'
LEFT JOIN model_version_tags AS tag
    ON (tag.workspace, tag.name, tag.version, tag.key) = (ours.workspace, ours.name, version.version, 'version')
WHERE ours.key = 'made_by' AND ours.value = ?
ORDER BY ours.name, alias.alias
"""
_NUMBER = """
SELECT tag.version FROM model_version_tags AS tag JOIN model_versions AS version USING (workspace, name, version)
WHERE tag.key = 'version' AND tag.name = ? AND tag.value = ? AND version.current_stage IS NOT 'Deleted_Internal'
ORDER BY tag.version DESC LIMIT 1
"""
_SET = """
INSERT INTO registered_model_aliases (name, alias, version) VALUES (?, ?, ?)
ON CONFLICT (workspace, name, alias) DO UPDATE SET version = excluded.version
"""
_RUNS = """
SELECT tag.value, run.run_uuid, run.experiment_id, code.value
FROM runs AS run JOIN experiments AS experiment USING (experiment_id)
JOIN tags AS tag ON tag.run_uuid = run.run_uuid AND tag.key = 'version'
LEFT JOIN tags AS code ON code.run_uuid = run.run_uuid AND code.key = 'code_version'
WHERE experiment.name = ?
ORDER BY run.start_time DESC
"""


class Alias(NamedTuple):
    """A model, and one of its aliases; None for all the others where it has none."""

    model: str
    alias: str | None
    number: int | None
    """of the version behind it, as MLflow counts"""
    version: str | None
    """its tag `version`; None without one"""


class Tables:
    """The tables in `file`, of the revision that is known. What they cannot do is a `sqlite3.Error`."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def aliases(self, made_by: str) -> list[Alias]:
        """Of every registered model with the tag `made_by`."""
        with self._connected() as connection:
            return [Alias(*row) for row in connection.execute(_ALIASES, [made_by])]

    def set_alias(self, model: str, alias: str, version: str) -> bool:
        """Points the alias at the version with that tag; False where there is none, and nothing is changed."""
        with self._connected() as connection, connection:
            row = connection.execute(_NUMBER, [model, version]).fetchone()
            if row is not None:
                connection.execute(_SET, [model, alias, row[0]])
        return row is not None

    def runs(self, experiment: str) -> list[tuple[str, str, str, str | None]]:
        """Tag `version`, id, experiment's id and tag `code_version` of every run that has the first, newest first."""
        with self._connected() as connection:
            return [
                (version, run, str(model_name), code)
                for version, run, model_name, code in connection.execute(_RUNS, [experiment])
            ]

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(f"{self.file.absolute().as_uri()}?mode=rw", uri=True, timeout=30)) as connection:
            yield connection
