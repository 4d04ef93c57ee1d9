"""Whether everything in a data folder, or in a backup of one, can be read: a line per problem. Nothing is changed."""

import json
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from stock_assets.errors import BackupError, StockAssetsError
from stock_assets.files import TEMPORARY, first_line
from stock_assets.objects import ObjectPath, Place, found_below
from stock_assets.storage.artifacts import MODEL, CheckpointFile, load_artifact
from stock_assets.storage.attached import attached
from stock_assets.storage.backup import STORE
from stock_assets.storage.elsewhere import DATABASE, read_rows
from stock_assets.storage.manifest import DATA, MANIFEST, Backup, check_files, put_file, read_manifest
from stock_assets.storage.migrations import schema_version
from stock_assets.storage.sqlite_copy import is_sqlite
from stock_assets.tables import SCHEMA_VERSION

if TYPE_CHECKING:
    import duckdb

#: Seconds that a writer is waited for.
PATIENCE = 60.0


def problems_of(
    folder: Path,
    more_problems: Callable[[Path], Iterable[str]] = lambda _: (),
    *,
    artifacts: Place | None = None,
    store: Path | None = None,
    other_folder: Path | None = None,
) -> Iterator[str]:
    """What is wrong in a data folder or a backup, one line each, with what `more_problems` finds in the data folder.
    `artifacts` and `store` are where they are, in the data folder when None, and `other_folder` is a folder that is
    looked at as well."""
    if not (folder / MANIFEST).exists():
        yield from _data_problems(folder, artifacts or folder / "artifacts", store=store, other_folder=other_folder)
        yield from more_problems(folder)
        return
    try:
        backup = Backup(folder, read_manifest(folder))
    except StockAssetsError as error:
        yield str(error)
        return
    if problems := check_files(backup):
        yield from problems
        return  # whatever else is found follows from these
    with _put_together(backup) as data:
        for problem in (*_data_problems(data, data / "artifacts"), *more_problems(data)):
            yield problem.replace(str(data), str(folder / DATA))


@contextmanager
def _put_together(backup: Backup) -> Iterator[Path]:
    """The data folder that a backup holds, among the temporary files: its large files put together from their blocks,
    links to all others. Raises BackupError where there is no room."""
    with tempfile.TemporaryDirectory(prefix="stock-assets-verify-") as folder:
        try:
            for name, backed_up in backup.manifest.files.items():
                if backed_up.blocks:
                    put_file(backup, name, Path(folder, name))
                else:
                    Path(folder, name).parent.mkdir(parents=True, exist_ok=True)
                    Path(folder, name).symlink_to((backup.folder / DATA / name).absolute())
        except OSError as error:
            raise BackupError(
                f"{backup.folder} cannot be put together in {folder}: {error.strerror}; name a folder with room for "
                "its store in TMPDIR"
            ) from error
        yield Path(folder)


def _data_problems(
    data: Path, artifacts: Place, *, store: Path | None = None, other_folder: Path | None = None
) -> Iterator[str]:
    store = store or data / STORE
    yield from _store_problems(store, artifacts)
    if isinstance(artifacts, ObjectPath):
        for artifact_file in found_below(artifacts):
            if artifact_file.place.name == MODEL or artifact_file.place.name.startswith(".checkpoint-"):
                yield from _file_problems(artifact_file.place)
    files = [*data.rglob("*"), *(other_folder.rglob("*") if other_folder else ())]
    for file in sorted(set(files)):
        if TEMPORARY not in str(file) and file.is_file() and file not in (store, data / STORE):
            yield from _file_problems(file)


def _store_problems(store: Path, artifacts: Place) -> Iterator[str]:
    """Reads every block of every table, and looks for the artifacts that the rows name."""
    import duckdb

    if not store.exists():
        yield f"{store} does not exist; restore it from a backup: stock-assets restore DIR"
        return
    try:
        with attached(store, read_only=True, wait=PATIENCE) as (connection, database):
            connection.execute(f"USE {database}")
            version = schema_version(connection)
            if version is not None and version > SCHEMA_VERSION:
                yield f"{store} has schema version {version}, and this stock_assets reads up to {SCHEMA_VERSION}"
                return
            tables = connection.execute(
                "SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = ? ORDER BY ALL", [database]
            ).fetchall()
            for schema, table in tables:
                try:
                    connection.execute(f'SELECT count(*), bit_xor(hash(t)) FROM "{schema}"."{table}" t').fetchall()
                except duckdb.Error as error:
                    yield f"{store}: the table {schema}.{table} cannot be read: {first_line(error)}"
            yield from _lost_rows(connection, store, tables)
            for schema, table in tables:
                columns = {name for name, *_ in connection.execute(f'DESCRIBE "{schema}"."{table}"').fetchall()}
                if "artifact" in columns:
                    rows = connection.execute(f'SELECT DISTINCT artifact FROM "{schema}"."{table}"').fetchall()
                    for (artifact,) in rows:
                        if artifact and not (artifacts / artifact / MODEL).is_file():
                            yield f"{store}: {schema}.{table} names {artifact}, which is not in {artifacts}"
            connection.execute("USE memory")
    except (StockAssetsError, duckdb.Error) as error:
        yield first_line(error)


def _lost_rows(
    connection: "duckdb.DuckDBPyConnection", store: Path, tables: Sequence[tuple[str, str]]
) -> Iterator[str]:
    """The tables that hold another number of rows than was recorded when they were written."""
    schemas = {table: schema for schema, table in tables}
    if "stored_partitions" not in schemas:
        return
    recorded_rows = connection.execute(
        "SELECT table_name, sum(rows) FROM lifecycle.stored_partitions GROUP BY ALL ORDER BY ALL"
    ).fetchall()
    for table, rows in recorded_rows:
        count = 0
        if table in schemas:
            count = connection.execute(f'SELECT count(*) FROM "{schemas[table]}"."{table}"').fetchall()[0][0]
        if count < rows:
            yield f"{store}: {table} holds {count} rows, and {rows} were written; materialize {table} again"


def _file_problems(file: Place) -> Iterator[str]:
    try:
        if file.name == MODEL:
            load_artifact(file.parent)
        elif file.name.startswith(".checkpoint-"):
            if CheckpointFile(file).load() is None:
                yield f"{file} is no checkpoint; remove it, and its training begins anew"
        elif isinstance(file, Path) and file.parent.name == DATABASE and file.name.endswith(".parquet"):
            read_rows(file)
        elif file.name.endswith(".json"):
            json.loads(file.read_bytes())
        elif isinstance(file, Path) and (file.name.endswith((".db", ".sqlite")) or is_sqlite(file)):
            yield from _sqlite_problems(file)
    except (ValueError, RecursionError) as error:
        yield f"{file} is no JSON: {first_line(error)}; remove it, and it is made again"
    except (OSError, StockAssetsError) as error:
        yield first_line(error) if isinstance(error, StockAssetsError) else f"{file} cannot be read: {error.strerror}"


def _sqlite_problems(file: Path) -> Iterator[str]:
    # without a journal nobody has it open, and nothing is written beside a file of a backup
    quiet = "" if file.with_name(f"{file.name}-wal").exists() else "&immutable=1"
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro{quiet}", uri=True)) as connection:
            answers = [row[0] for row in connection.execute("PRAGMA integrity_check(3)")]
            if answers != ["ok"]:
                yield f"{file} is damaged: {answers[0]}; restore it from a backup: stock-assets restore DIR"
            elif file.name == "mlflow.db":
                yield from _registry_problems(file, connection)
    except sqlite3.Error as error:
        yield f"{file} is damaged: {error}; restore it from a backup: stock-assets restore DIR"


def _registry_problems(file: Path, connection: sqlite3.Connection) -> Iterator[str]:
    """The versions whose saved model is not where it was put; a folder that was moved is found where it is now. A model
    that is a row of a table, as the ensemble is, has none."""
    root = connection.execute("SELECT artifact_location FROM experiments WHERE name = 'stock_assets'").fetchone()
    rows = "SELECT name, version, source FROM model_versions WHERE source LIKE '%/model'"
    for model, number, source in connection.execute(rows):
        here = file.parent / "artifacts"
        path = here / source.removeprefix(root[0]).lstrip("/") if root else Path(unquote(urlsplit(source).path))
        if not path.exists():
            yield f"{file}: version {number} of {model} names {path}, which does not exist"
