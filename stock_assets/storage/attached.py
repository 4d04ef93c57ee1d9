"""The one DuckDB of this process, to which a store's file is attached while it is used.

Starting a DuckDB takes far longer than attaching a file to one that runs, and an evening asks its store again and
again. A file stays attached, and locked, only as long as somebody here uses it.
"""

import atexit
import errno
import os
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from stock_assets.cores import usable_cores
from stock_assets.errors import DamagedFileError, MemoryBudgetError, StoreBusyError
from stock_assets.files import RESTORE, disk_error, first_line
from stock_assets.memory import DEFAULT_MEMORY, Memory
from stock_assets.settings_file import PREFIX
from stock_assets.tables import rooms

if TYPE_CHECKING:
    import duckdb

T = TypeVar("T")

#: What DuckDB says where the disk, and not the file, is the trouble.
_DISK = {
    "No space left": errno.ENOSPC,
    "Read-only file system": errno.EROFS,
    "Permission denied": errno.EACCES,
    "Is a directory": errno.EISDIR,
    "Not a directory": errno.ENOTDIR,
}

#: What DuckDB says while another process, or another thread of this one, has the file open in its own way.
_BUSY = ("Could not set lock", "Conflicting lock", "different configuration", "being used by another process")


@dataclass
class _Attached:
    name: str
    read_only: bool
    users: int = 1
    alone: bool = False
    """whether its user wants no other, also of this process"""


_ENGINES: dict[int, "duckdb.DuckDBPyConnection"] = {}
#: The memory that the engine of a process was given last: setting it anew takes longer than a small read.
_LIMITS: dict[int, Memory] = {}
_FILES: dict[Path, _Attached] = {}
_NUMBERS = count(1)
_LOCK = threading.Lock()


@contextmanager
def attached(
    path: Path, read_only: bool, wait: float, *, exclusive: bool = False
) -> Iterator[tuple["duckdb.DuckDBPyConnection", str]]:
    """A connection to which the file is attached, and the name of its database there; nobody else has it if
    `exclusive`.

    Raises StoreBusyError as `patiently`, and DamagedFileError for a file that cannot be read or written.
    """
    engine = engine_beside(path)
    with damage_of(path):
        name = patiently(lambda: _attach(engine, path, read_only, exclusive=exclusive), path, wait)
        try:
            with engine.cursor() as connection:
                yield connection, name
        finally:
            _detach(engine, path)


@contextmanager
def opened(path: Path, wait: float) -> Iterator["duckdb.DuckDBPyConnection"]:
    """A read-only connection to the file in a DuckDB of its own. Raises as `attached`."""
    import duckdb

    with damage_of(path), patiently(lambda: duckdb.connect(path, read_only=True), path, wait) as connection:
        yield connection


@contextmanager
def damage_of(path: Path) -> Iterator[None]:
    """What DuckDB says about a damaged file or a full disk is one DamagedFileError, with the way back, and what it says
    of too little memory one MemoryBudgetError."""
    import duckdb

    try:
        yield
    except duckdb.OutOfMemoryException as error:
        if any(message in str(error) for message in _DISK):
            raise _damaged(path, error) from error
        raise _out_of_memory(path, error) from error
    except (
        duckdb.IOException,
        duckdb.FatalException,
        duckdb.InternalException,
        duckdb.SerializationException,
    ) as error:
        raise _damaged(path, error) from error
    except duckdb.Error as error:
        # a commit that the disk refuses is a TransactionException
        if "orrupt" not in str(error) and not any(message in str(error) for message in _DISK):
            raise
        raise _damaged(path, error) from error


def _out_of_memory(path: Path, error: Exception) -> MemoryBudgetError:
    memory = _LIMITS.get(os.getpid(), DEFAULT_MEMORY)
    return MemoryBudgetError(
        f"{path.name} needs more than the {memory.duckdb >> 20} MiB that DuckDB may take, a quarter of {PREFIX}MEMORY="
        f"{memory.total >> 20}MiB ({first_line(error)}); expected a larger {PREFIX}MEMORY, or fewer sessions at once"
    )


def _damaged(path: Path, error: Exception) -> DamagedFileError:
    for message, number in _DISK.items():
        if message in str(error):  # its own words may stand in a line of their own, behind what DuckDB was about to do
            return disk_error(path, OSError(number, os.strerror(number)))
    line = first_line(error).rstrip(".!")
    return DamagedFileError(f"{path} cannot be read: {line}; {RESTORE}")


def patiently(open_file: Callable[[], T], path: Path, wait: float) -> T:
    """What `open_file` returns.

    Raises StoreBusyError where another process keeps the file open in the other way for more than `wait` seconds, or,
    for who wants to write, a reader of this process does. Who reads while this process writes sees what is committed.
    """
    import duckdb

    deadline, pause = time.monotonic() + wait, 0.01
    while True:
        try:
            return open_file()
        except (duckdb.IOException, duckdb.ConnectionException) as error:
            if not any(sign in str(error) for sign in _BUSY):
                raise
            if time.monotonic() > deadline:
                raise StoreBusyError(
                    f"{path.name} was locked by another process for more than {wait:g} s; "
                    "close the program that holds it open, or try again when its run is over"
                ) from error
            # jitter, so that several waiting processes do not knock at the same moment
            time.sleep(pause * random.uniform(0.5, 1.5))
            pause = min(0.5, pause * 1.5)


def engine_beside(path: Path) -> "duckdb.DuckDBPyConnection":
    """That of this process, made at the first use; what does not fit into memory goes beside the first store."""
    import duckdb

    with _LOCK:
        if os.getpid() not in _ENGINES:
            _ENGINES[os.getpid()] = duckdb.connect(
                ":memory:", config={"temp_directory": f"{path}.tmp", "threads": usable_cores()}
            )
            atexit.register(_stop)
        return _ENGINES[os.getpid()]


def search_rooms(connection: "duckdb.DuckDBPyConnection", database: str, make: bool = False) -> None:
    """Unqualified names of tables are looked for in every room of the database; one it lacks is made, or left out."""
    import duckdb

    def search(room_names: Iterable[str]) -> None:
        connection.execute(f"SET search_path = '{','.join(f'{quoted(database)}.{room}' for room in room_names)}'")

    try:
        search(rooms())
    except duckdb.CatalogException:  # a store without one of them
        if make:
            for room in rooms():
                connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(database)}.{room}")
            search(rooms())
        else:
            statement = "SELECT schema_name FROM duckdb_schemas() WHERE database_name = ?"
            schema_names = {name for (name,) in connection.execute(statement, [database]).fetchall()}
            search([room for room in rooms() if room in schema_names] or ["main"])


def quoted(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'


def literal(text: str | Path) -> str:
    """`text` as a text of SQL, with its quotes.

    >>> print(literal("the trader's store"))
    'the trader''s store'
    """
    return "'" + str(text).replace("'", "''") + "'"


def database_of(connection: "duckdb.DuckDBPyConnection") -> str:
    """The name of the database that the connection searches."""
    return connection.execute("SELECT current_database()").fetchall()[0][0]


def limit_memory(connection: "duckdb.DuckDBPyConnection", memory: Memory) -> None:
    """Gives the DuckDB of this process its part of `memory`."""
    if _LIMITS.get(os.getpid()) != memory:
        connection.execute(f"SET memory_limit = '{memory.duckdb}B'")
        _LIMITS[os.getpid()] = memory


def _stop() -> None:
    _LIMITS.pop(os.getpid(), None)
    if engine := _ENGINES.pop(os.getpid(), None):
        engine.close()


def _attach(engine: "duckdb.DuckDBPyConnection", path: Path, read_only: bool, *, exclusive: bool) -> str:
    import duckdb

    with _LOCK:
        attachment = _FILES.get(path)
        if attachment is not None and not attachment.users:
            _let_go(engine, path, attachment)
            attachment = None
        if attachment is None:
            attachment = _Attached(f"store_{next(_NUMBERS)}", read_only, alone=exclusive)
            before = _inode(path)
            engine.execute(f"ATTACH {literal(path)} AS {attachment.name}{' (READ_ONLY)' if read_only else ''}")
            if before not in (None, _inode(path)):
                # a compacted file took its name between our opening it and our locking it: what we would write to the
                # old one, nobody would read
                engine.execute(f"DETACH {attachment.name}")
                raise duckdb.IOException(f"Conflicting lock: {path.name} was put in its place meanwhile")
            _FILES[path] = attachment
        elif exclusive or attachment.alone or (attachment.read_only and not read_only):
            raise duckdb.ConnectionException(f"{path.name} is open in this process with a different configuration")
        else:
            attachment.users += 1
        return attachment.name


def _inode(path: Path) -> int | None:
    """Which file has the name; None where there is none. It is not opened: that would give back DuckDB's lock."""
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None


def _detach(engine: "duckdb.DuckDBPyConnection", path: Path) -> None:
    with _LOCK:
        attachment = _FILES[path]
        attachment.users -= 1
        if not attachment.users:
            _let_go(engine, path, attachment)


def _let_go(engine: "duckdb.DuckDBPyConnection", path: Path, attachment: _Attached) -> None:
    """Gives the file back. Where DuckDB cannot, as on a full disk, what was committed is in its journal: this DuckDB is
    stopped, so that the file is not locked for as long as the process lives, and the error is raised.
    """
    try:
        engine.execute(f"DETACH {attachment.name}")
    except BaseException:
        if not any(other.users for other in _FILES.values()):
            _FILES.clear()
            _stop()
        raise  # else it is tried again with the next use of the file
    del _FILES[path]
