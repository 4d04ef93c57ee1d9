"""The schemas of databases that other programs keep in SQLite: Dagster's and MLflow's.

Each holds the name of its last migration (alembic's revision). One of an older program is copied beside itself and
migrated, all or nothing; one that this program's version does not know is refused.
"""

import logging
import sqlite3
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from stock_assets.errors import DamagedFileError
from stock_assets.files import RESTORE

if TYPE_CHECKING:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

LOG = logging.getLogger("stock_assets.storage")


def bring_to_head(
    file: Path, program: str, config: "Config", *, scripts: "ScriptDirectory | None" = None, keep_copy: bool = True
) -> None:
    """Migrates the database to the newest revision of the installed `program`; one without a revision stays.

    Raises DamagedFileError for a revision that the program does not know, and for a migration that fails.
    """
    from alembic import command
    from alembic.script import ScriptDirectory
    from alembic.util.exc import CommandError
    from sqlalchemy import create_engine
    from sqlalchemy.exc import SQLAlchemyError

    from stock_assets.storage.sqlite_copy import copy_sqlite

    revision = revision_of(file)
    scripts = scripts or ScriptDirectory.from_config(config)
    if revision is None or revision in scripts.get_heads():
        return
    try:
        scripts.get_revision(revision)
    except CommandError as error:
        raise DamagedFileError(
            f"{file} has the schema {revision}, which {program} {version(program)} does not know: a newer {program} "
            f"wrote it; install that version again, or {RESTORE}"
        ) from error
    if keep_copy:
        copy_sqlite(file, file.with_name(f"{file.name}.v{revision}"))
    engine = create_engine(f"sqlite:///{file}")
    try:
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "heads")
    except (SQLAlchemyError, CommandError) as error:
        raise DamagedFileError(
            f"{file} has the schema {revision} of an older {program} and cannot be migrated: "
            f"{str(error).splitlines()[0]}; install the earlier version of {program}"
        ) from error
    finally:
        config.attributes.pop("connection", None)
        engine.dispose()
    LOG.info("%s had the schema %s of an older %s and is migrated", file.name, revision, program)


def revision_of(file: Path) -> str | None:
    """The revision of the database; None for a file that is not there or has none."""
    if not file.exists():
        return None
    with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        try:
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        except sqlite3.OperationalError as error:
            if "no such table" not in str(error):
                raise
            return None
    return row[0] if row else None


def reroot(connection: sqlite3.Connection, experiment: str, place: str) -> None:
    """Has the database of MLflow name the files of `experiment` below `place`, a file:// URI, where they were below
    another one.

    MLflow keeps absolute addresses, and so a data folder that was moved, restored elsewhere or mounted under another
    name would read and write files of the old place.
    """
    row = connection.execute("SELECT artifact_location FROM experiments WHERE name = ?", [experiment]).fetchone()
    if row is None or row[0] == place or not row[0].startswith("file:"):
        return
    before = row[0]
    connection.execute("PRAGMA secure_delete = ON")  # nor do freed bytes of the file name the old place
    tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    with connection:  # all or nothing
        for (table,) in tables:
            for _, column, kind, *_ in connection.execute(f'PRAGMA table_info("{table}")').fetchall():
                if kind.upper().startswith(("VARCHAR", "TEXT")):
                    connection.execute(
                        f'UPDATE "{table}" SET "{column}" = ? || substr("{column}", ?) '
                        f'WHERE "{column}" = ? OR substr("{column}", 1, ?) = ?',
                        [place, len(before) + 1, before, len(before) + 1, f"{before}/"],
                    )
