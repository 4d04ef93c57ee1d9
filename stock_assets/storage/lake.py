"""A DuckLake in the place of the store's file: its catalog is a Postgres database, its rows are Parquet files in a
folder or a bucket, and DuckDB reads and writes both.

Any number of hosts read it at once. One process writes at a time, as with a file: DuckLake's own search for conflicts
misses some (ducklake#1393, #1094, #1341), so a writer holds an advisory lock of the catalog's database, which Postgres
gives back should its process be killed.
"""

import os
import random
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stock_assets.addresses import scrubbed
from stock_assets.errors import BadBarsError, LakeError, StoreBusyError
from stock_assets.files import TEMPORARY, first_line
from stock_assets.lakes import Lake
from stock_assets.storage.attached import attached, database_of, engine_beside, literal, quoted
from stock_assets.storage.changes import execute

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

    from stock_assets.storage.warehouse import Warehouse
    from stock_assets.tables import Table

#: Extensions of DuckDB that a lake needs, by the name that loads them; the last for buckets alone.
EXTENSIONS = ("ducklake", "postgres_scanner", "httpfs")
#: Snapshots of the catalog that no reader can be at work on any more.
OLD = timedelta(days=7)
#: Names the lock of the one writer among the advisory locks of the database.
_WRITER = 7_091_866_421

_NUMBERS = count(1)
_LOCK = threading.Lock()


#: The name of the lake's database in the DuckDB of a process, which keeps it: attaching asks Postgres many questions.
_ATTACHED: dict[tuple[int, Lake, bool], str] = {}


class _Writer(threading.local):
    """The connections by which this thread holds the locks of the one writer."""

    def __init__(self) -> None:
        self.held: dict[Lake, Any] = {}


_WRITERS = _Writer()


@contextmanager
def attached_store(store: "Warehouse", *, read_only: bool) -> Iterator[tuple["duckdb.DuckDBPyConnection", str]]:
    """A connection to which the store's file or lake is attached, and the name of its database there. Who writes to a
    lake is alone.

    Raises LakeError for a catalog that does not answer within the store's `wait` seconds, StoreBusyError where another
    process writes for longer, and for a file as `attached`.
    """
    lake, wait = store.lake, store.wait
    if lake is None:
        with attached(store.path, read_only, wait) as attachment:
            yield attachment
        return
    engine = engine_beside(store.path)
    if read_only:
        with _attachment(engine, lake, read_only=True, wait=wait) as attachment:
            yield attachment
        return
    with _one_writer(lake, wait), _attachment(engine, lake, read_only=False, wait=wait) as attachment:
        yield attachment


@contextmanager
def _attachment(
    engine: "duckdb.DuckDBPyConnection", lake: Lake, *, read_only: bool, wait: float
) -> Iterator[tuple["duckdb.DuckDBPyConnection", str]]:
    import duckdb

    name = _attach(engine, lake, read_only=read_only, deadline=time.monotonic() + wait)
    try:
        with engine.cursor() as connection:
            yield connection, name
    except (duckdb.IOException, duckdb.HTTPException, duckdb.TransactionException) as error:
        _ATTACHED.pop((os.getpid(), lake, read_only), None)  # its connections may be dead: the next use attaches anew
        raise _unreachable(lake, error) from error


def _attach(engine: "duckdb.DuckDBPyConnection", lake: Lake, *, read_only: bool, deadline: float) -> str:
    import duckdb
    from psycopg2.extensions import make_dsn

    key = os.getpid(), lake, read_only
    with _LOCK:
        if key in _ATTACHED:
            return _ATTACHED[key]
        _load(engine, lake)
        name = f"lake_{next(_NUMBERS)}"
        options = ["DATA_INLINING_ROW_LIMIT 0", f"DATA_PATH {literal(lake.files)}", *["READ_ONLY"] * read_only]
        statement = (
            f"ATTACH {literal(f'ducklake:postgres:{make_dsn(**lake.words())}')} AS {name} ({', '.join(options)})"
        )
        while True:
            try:
                engine.execute(statement)
                break
            except duckdb.Error as error:
                if "onnect" not in str(error) or time.monotonic() > deadline:
                    raise _unreachable(lake, error) from None
            time.sleep(0.5 * random.uniform(0.5, 1.5))
        _ATTACHED[key] = name
        return name


def _load(engine: "duckdb.DuckDBPyConnection", lake: Lake) -> None:
    """Loads the extensions, and gives DuckDB the credentials of the bucket. Raises LakeError where one is missing."""
    import duckdb

    in_bucket = "://" in lake.files
    for extension in EXTENSIONS if in_bucket else EXTENSIONS[:2]:
        try:
            engine.execute(f"LOAD {extension}")
        except duckdb.Error as error:
            raise LakeError(
                f"{lake} needs the extension {extension} of DuckDB {duckdb.__version__}, which is not installed "
                f"({first_line(error)}); with a network, once: "
                f"""python -c "import duckdb; duckdb.sql('INSTALL {extension}')" """.rstrip()
            ) from None
    if in_bucket:
        engine.execute(f"CREATE OR REPLACE SECRET lake_files (TYPE s3, {', '.join(_credentials(lake.files))})")


def _credentials(files: str) -> Iterator[str]:
    """The words of DuckDB's secret, from the environment variables that every client of S3 reads."""
    yield f"SCOPE {literal('/'.join(files.split('/')[:3]))}"
    for word, variable in (
        ("KEY_ID", "AWS_ACCESS_KEY_ID"),
        ("SECRET", "AWS_SECRET_ACCESS_KEY"),
        ("SESSION_TOKEN", "AWS_SESSION_TOKEN"),
        ("REGION", "AWS_REGION"),
    ):
        if value := os.environ.get(variable):
            yield f"{word} {literal(value)}"
    if endpoint := os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL"):
        scheme, _, host = endpoint.rstrip("/").partition("://")
        yield f"ENDPOINT {literal(host)}, URL_STYLE 'path', USE_SSL {'false' if scheme == 'http' else 'true'}"


@contextmanager
def _one_writer(lake: Lake, wait: float) -> Iterator[None]:
    """One thread of one process at a time; a thread that is the writer may ask again."""
    connections = _WRITERS.held
    if lake in connections:
        yield
        return
    connection = connections[lake] = _locked(lake, wait)
    try:
        yield
    finally:
        del connections[lake]
        connection.close()


def _locked(lake: Lake, wait: float) -> Any:
    """A connection that holds the lock of the writer."""
    import psycopg2

    deadline, pause = time.monotonic() + wait, 0.01
    connection = None
    while True:
        try:
            connection = connection or psycopg2.connect(**lake.words(), keepalives_idle=10, keepalives_count=3)
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_try_advisory_lock(%s)", [_WRITER])
                if cursor.fetchone() == (True,):
                    return connection
            busy_error = StoreBusyError(
                f"{lake} was written by another process for more than {wait:g} s; try again when its run is over"
            )
        except psycopg2.OperationalError as error:
            connection, busy_error = None, _unreachable(lake, error)
        if time.monotonic() > deadline:
            if connection:
                connection.close()
            raise busy_error
        time.sleep(pause * random.uniform(0.5, 1.5))
        pause = min(0.5, pause * 1.5)


def require_lock(lake: Lake) -> None:
    """Raises LakeError unless this thread is still the one writer: a connection that was cut gave its lock back."""
    import psycopg2

    try:
        with _WRITERS.held[lake].cursor() as cursor:
            cursor.execute("SELECT 1")
    except psycopg2.Error as error:
        raise _unreachable(lake, error) from error


def require_unique(connection: "duckdb.DuckDBPyConnection", table: "Table", rows: "pa.Table") -> None:
    """Raises BadBarsError where the table now holds two rows of one key among the partitions of `rows`: a lake has
    no keys of its own, and what a missed conflict wrote twice would be trained on twice."""
    if table.history or not table.keys:
        return
    keys, place = ", ".join(map(quoted, table.keys)), f"{table.room}.{quoted(table.name)}"
    bounds = ""
    if "session" in table.keys:
        bounds = "WHERE session BETWEEN (SELECT min(session) FROM _incoming) AND (SELECT max(session) FROM _incoming)"
    statement = f"SELECT {keys}, count(*) FROM {place} {bounds} GROUP BY {keys} HAVING count(*) > 1 LIMIT 1"
    if row := execute(connection, statement, rows).fetchone():
        key_text = ", ".join(f"{key} {value}" for key, value in zip(table.keys, row, strict=False))
        raise BadBarsError(f"{table.name} would hold {row[-1]} rows of {key_text}; expected one, so nothing is written")


def lake_exists(lake: Lake) -> bool:
    """Whether anything was ever written; what is attached is not asked for again. Raises LakeError."""
    return any((os.getpid(), lake, read_only) in _ATTACHED for read_only in (False, True)) or bool(snapshot(lake))


def snapshot(lake: Lake) -> tuple[int, ...]:
    """Differs once anything was written. Raises LakeError."""
    import psycopg2

    try:
        connection = psycopg2.connect(**lake.words())
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT to_regclass('ducklake_snapshot') IS NOT NULL")
                if cursor.fetchone() != (True,):
                    return ()
                cursor.execute("SELECT max(snapshot_id) FROM ducklake_snapshot")
                return cursor.fetchone()
        finally:
            connection.close()
    except psycopg2.Error as error:
        raise _unreachable(lake, error) from error


@contextmanager
def file_for(store: "Warehouse", statement: str) -> Iterator[Path]:
    """The file that answers a person's statement: the store's. Of a lake, one that is removed, with every table and the
    rows of those that the statement names: whoever reads the lake itself could write to it, and see its password."""
    if store.lake is None:
        yield store.path
        return
    with tempfile.TemporaryDirectory(prefix=f"{TEMPORARY}{store.path.name}-", dir=store.path.parent) as folder:
        file = Path(folder, store.path.name)
        with store.connect(read_only=True) as connection:
            _copy_tables(connection, file, _tables_of(statement))
        yield file


def _copy_tables(connection: "duckdb.DuckDBPyConnection", file: Path, table_names: frozenset[str]) -> None:
    lake = database_of(connection)
    tables = connection.execute(
        "SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = ? ORDER BY ALL", [lake]
    ).fetchall()
    connection.execute("BEGIN TRANSACTION")  # all tables as of one moment
    connection.execute(f"ATTACH {literal(file)} AS copied")
    for room, table in tables:
        rows = "" if table in table_names else "WHERE false"
        target, source = (f"{quoted(database)}.{quoted(room)}.{quoted(table)}" for database in ("copied", lake))
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS copied.{quoted(room)}")
        connection.execute(f"CREATE TABLE {target} AS SELECT * FROM {source} {rows}")
    connection.execute("COMMIT")
    connection.execute("DETACH copied")


def _tables_of(statement: str) -> frozenset[str]:
    """The names of the tables that a person's statement reads, and of the schema's version; a statement that DuckDB
    cannot read names none."""
    import duckdb

    names = {"schema_version"}
    with duckdb.connect(":memory:") as connection, suppress(duckdb.Error, UnicodeEncodeError):
        names |= connection.get_table_names(statement)
    return frozenset(names)


def merge_files(connection: "duckdb.DuckDBPyConnection") -> int:
    """Merges the small files of single sessions, ends the snapshots before OLD and removes the files that no snapshot
    names any more; the number of files that went."""
    database = database_of(connection)
    connection.execute(f"CALL ducklake_merge_adjacent_files('{database}')")
    older = f"older_than => now() - INTERVAL '{OLD.days} days'"
    connection.execute(f"CALL ducklake_expire_snapshots('{database}', {older})")
    return len(connection.execute(f"CALL ducklake_cleanup_old_files('{database}', {older})").fetchall())


def _unreachable(lake: Lake, error: Exception) -> LakeError:
    line = scrubbed(first_line(error), lake.catalog)
    return LakeError(
        f"{lake} cannot be read or written: {line}; expected a Postgres database that answers, and files in "
        f"{lake.files} that this host may read and write"
    )
