"""Copies of a data folder, made while the platform runs (`storage/manifest.py` says what one consists of).

A backup is written under a name that begins with `.tmp-` and renamed last. A file that has not changed since the
backup before is a hard link to the copy there, and the store and other large files are kept as blocks, of which those
that have not changed are such links (`storage/blocks.py`): every backup is whole and costs only what is new.

What is copied first must not know more than what is copied later: Dagster's memory before the store, or a restored
Dagster would remember rows that the restored store lacks; the store before the artifacts that its rows name.
"""

import fcntl
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import IO, TYPE_CHECKING

from stock_assets.errors import BackupError
from stock_assets.files import ACCOUNT_LOCK, TEMPORARY, locked, make_folder, sync, write_file
from stock_assets.objects import Found, found_below, name_below
from stock_assets.storage.attached import attached, literal
from stock_assets.storage.blocks import BLOCK, split
from stock_assets.storage.elsewhere import DATABASE, Elsewhere
from stock_assets.storage.manifest import (
    BLOCKS,
    DATA,
    MANIFEST,
    SETTINGS,
    BackedUp,
    Backup,
    Manifest,
    backups,
    copy_file,
    digest_of,
    newest_backup,
)
from stock_assets.storage.migrations import schema_version
from stock_assets.storage.sqlite_copy import PATIENCE, copy_sqlite, is_sqlite
from stock_assets.storage.work_files import FOLDER

if TYPE_CHECKING:
    import duckdb

#: The name of a backup is its moment, so that names sort by age.
NAME = "%Y-%m-%dT%H-%M-%SZ"
STORE = "stock_assets.duckdb"
#: The folder of what is published.
PUBLISHED = "published"
#: What other hosts read of a step that is under way, and what a killed one left of it.
_IN_TRANSIT = f"artifacts/{FOLDER}/"
#: The simulated accounts, which are copied together with the store: an order is in both or in neither.
ACCOUNTS = "paper/"
#: What is not copied: locks, journals that belong to an open file, what is being written, what a run makes again.
LEFT_OUT = ("-wal", "-shm", "-journal", ".lock", ".log", ".wal")
FOLDERS_LEFT_OUT = ("staged_answers", f"{STORE}.tmp")
_RUNS = "dagster/history/runs/"
#: The pointer names entries of the ledger, these the files, and the table `publication` what the pointer names.
_PUBLISHED = ("published/current.json", "published/ledger/")
_PLACES = (
    "dagster/schedules/",
    f"{_RUNS}index.db",
    _RUNS,
    "dagster/",
    "mlflow/mlflow.db",
    ACCOUNTS,
    STORE,
    *_PUBLISHED,
)
#: The copies of a database that a migration leaves beside it.
BEFORE_A_MIGRATION = re.compile(r"\.(db|duckdb)\.v")
#: A file of more bytes is kept in blocks, as the store always is.
LARGE = 64 * BLOCK


def make_backup(
    data_dir: Path,
    target: Path,
    *,
    keep: int,
    now: datetime,
    settings: Path | None = None,
    elsewhere: Elsewhere | None = None,
) -> Backup:
    """Copies `data_dir`, what is `elsewhere`, and the file `settings` where there is one, to a new folder below
    `target`; the oldest beyond `keep` are removed then.

    Raises BackupError where there is no store, where `target` lies inside a folder that is copied, and where another
    backup is being made there; StoreBusyError where a writer holds the store; MoveError and StockAssetsError where
    Dagster's database cannot be read.
    """
    elsewhere = elsewhere or Elsewhere()
    require_store(elsewhere.place_of(STORE, data_dir), keep)
    for folder in (data_dir, *elsewhere.paths.values()):
        if target.resolve().is_relative_to(folder.resolve()):
            folder_name = "the data folder" if folder == data_dir else "the folder"
            raise BackupError(f"{target} lies inside {folder_name} {folder}; expected a folder of its own")
    with _usable(target), _alone(target):
        for leftover in target.glob(f"{TEMPORARY}*"):  # of a killed backup: we hold the lock
            shutil.rmtree(leftover)
        folder = target / now.astimezone(UTC).strftime(NAME)
        if folder.exists():
            raise BackupError(f"{folder} exists already; expected at most one backup a second")
        temporary_folder = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=target))  # 0700
        try:
            copy = Copying(data_dir, temporary_folder, newest_backup(target), elsewhere=elsewhere).run(settings, now)
            os.sync()
            temporary_folder.rename(folder)
        except BaseException:
            shutil.rmtree(temporary_folder, ignore_errors=True)
            raise
        sync(target)
        for old in backups(target)[:-keep]:
            old.rename(renamed_folder := target / f"{TEMPORARY}{old.name}")  # never half of a backup under its own name
            shutil.rmtree(renamed_folder)
    return Backup(folder, copy.manifest, copy.new_bytes)


def require_store(store: Path, keep: int) -> None:
    """Raises BackupError where there is nothing to back up, and where none is to be kept."""
    if not store.exists():
        raise BackupError(
            f"there is no store in {store.parent}; expected {store.name} there, so there is nothing to back up"
        )
    if keep < 1:
        raise BackupError(f"{keep} backups are to be kept; expected at least 1")


class Copying:
    """One backup that is being written to `temporary_folder`."""

    def __init__(self, data_dir: Path, temporary_folder: Path, before: Backup | None, *, elsewhere: Elsewhere) -> None:
        self.data_dir, self.data, self.before, self.elsewhere = data_dir, temporary_folder / DATA, before, elsewhere
        self.temporary_folder, self.files, self.new_bytes = temporary_folder, dict[str, BackedUp](), 0
        self.rows: dict[str, int] = {}
        self.schema_version: int | None = None
        self.predicted_through: str | None = None

    def run(self, settings: Path | None, now: datetime) -> Backup:
        """Copies everything; the manifest comes last."""
        if self.elsewhere.database is not None:  # before the store, which may know more
            self._take_database(self.elsewhere.database)
        names = sorted(self._names(), key=_order)
        has_accounts = any(name.startswith(ACCOUNTS) for name in names)
        for is_account, group in groupby(names, key=lambda name: has_accounts and name.startswith((ACCOUNTS, STORE))):
            with locked(self.data_dir / ACCOUNT_LOCK) if is_account else nullcontext():  # nobody trades meanwhile
                for name in group:
                    self._take(name)
        for folder, place in self.elsewhere.objects.items():
            for first in (*_PUBLISHED, ""):  # listed anew: what is read next may name what came since
                for file in found_below(place):
                    name = f"{folder}/{name_below(file.place, place)}"
                    # what is published may lie with the artifacts, and is a place of its own
                    if name.startswith(first) and not name.startswith((f"artifacts/{PUBLISHED}/", _IN_TRANSIT)):
                        self._take_object(name, file)
        settings_copy = None
        if settings is not None:
            copy_file(settings, self.temporary_folder / SETTINGS)
            settings_copy = BackedUp(
                (self.temporary_folder / SETTINGS).stat().st_size, digest_of(self.temporary_folder / SETTINGS), []
            )
        manifest = Manifest(
            now.astimezone(UTC).isoformat(),
            version("stock_assets"),
            self.schema_version,
            self.predicted_through,
            str(self.data_dir.absolute()),
            self.files,
            self.rows,
            settings_copy,
        )
        write_file(self.temporary_folder / MANIFEST, json.dumps(asdict(manifest), indent=1).encode())
        (self.temporary_folder / MANIFEST).chmod(0o600)
        return Backup(self.temporary_folder, manifest, self.new_bytes)

    def _names(self) -> Iterator[str]:
        """The files to copy, by the path that they have or would have below the data folder."""
        outside = self.elsewhere.paths
        for name in files_below(self.data_dir):
            elsewhere = name in outside or name.partition("/")[0] in (*outside, DATABASE)
            if not elsewhere and not name.startswith(_IN_TRANSIT):
                yield name
        for own, path in outside.items():
            yield from [own] if path.is_file() else (f"{own}/{name}" for name in files_below(path))

    def _take_database(self, address: str) -> None:
        """What Dagster's database holds as of one moment."""
        from stock_assets.storage.dagster_database import database_rows
        from stock_assets.storage.dagster_parquet import write_files

        with database_rows(address) as rows:
            for file in write_files(rows, self.data / DATABASE):
                name, size, digest = f"{DATABASE}/{file.name}", file.stat().st_size, digest_of(file)
                self.files[name] = BackedUp(size, digest, [])
                if not self._is_before(name, self.files[name]):
                    self.new_bytes += size

    def _is_before(self, name: str, backed_up: BackedUp) -> bool:
        """Whether the backup before has the same file, which then takes the place of the copy."""
        if self.before is None or self.before.manifest.files.get(name) != backed_up:
            return False
        earlier = self.before.folder / DATA / name
        if not earlier.exists() or digest_of(earlier) != backed_up.sha256:
            return False
        (self.data / name).unlink()
        os.link(earlier, self.data / name)
        return True

    def _take(self, name: str) -> None:
        """Copies one file, or links it to the copy of the backup before where it is the same."""
        source, copy = self.elsewhere.place_of(name, self.data_dir), self.data / name
        make_folder(copy.parent)
        original = _looks(source)
        if original and self._link(name, original):
            return
        try:
            if name == STORE:
                self.files[name] = self._copy_store(source, original)
                return
            if is_sqlite(source):
                copy_sqlite(source, copy)
            else:
                copy_file(source, copy)
        except FileNotFoundError:  # cleared since it was listed, as a checkpoint or the shard of a deleted run is
            copy.unlink(missing_ok=True)
            return
        if copy.stat().st_size > LARGE:
            with copy.open("rb") as content:
                self.files[name] = self._in_blocks(content, original)
            copy.unlink()
            return
        copy.chmod(0o600)
        size = copy.stat().st_size
        self.files[name] = BackedUp(size, digest_of(copy), original)
        self.new_bytes += size

    def _take_object(self, name: str, file: Found) -> None:
        """Copies what is kept outside the data folder, or links it as `_take` does."""
        original = [[file.size, int(file.changed_at.timestamp() * 1e6)]]
        if name in self.files or file.place.name.endswith(LEFT_OUT) or self._link(name, original):
            return
        try:
            content = file.place.read_bytes()
        except FileNotFoundError:  # cleared since it was listed
            return
        write_file(self.data / name, content)
        self.files[name] = BackedUp(len(content), digest_of(self.data / name), original)
        self.new_bytes += len(content)

    def take_rows_of(self, before: Manifest) -> None:
        """What the manifest `before` says of the store, which has not changed since."""
        self.rows, self.schema_version = before.rows, before.schema_version
        self.predicted_through = before.predicted_through

    def _link(self, name: str, original: list[list[int]]) -> bool:
        """Links the file to that of the backup before; whether it looks the same, and is there."""
        backed_up = self.before.manifest.files.get(name) if self.before else None
        if self.before is None or backed_up is None or backed_up.original != original:
            return False
        parts = [f"{BLOCKS}/{block}" for block in dict.fromkeys(backed_up.blocks)] or [f"{DATA}/{name}"]
        if not all((self.before.folder / part).exists() for part in parts):
            return False
        for part in parts:
            make_folder((self.temporary_folder / part).parent)
            with suppress(FileExistsError):  # a block of another file, too
                os.link(self.before.folder / part, self.temporary_folder / part)
        self.files[name] = backed_up
        if name == STORE:
            self.take_rows_of(self.before.manifest)
        return True

    def _copy_store(self, source: Path, original: list[list[int]]) -> BackedUp:
        """The store as of one moment, whoever wants to write meanwhile; every block of every table is read, and its
        checksum with it."""
        with attached(source, read_only=True, wait=PATIENCE) as (connection, database):
            connection.execute(f"USE {database}")
            try:
                self.rows, self.schema_version = read_every_row(connection), schema_version(connection)
                if "predictions" in self.rows:
                    newest = "SELECT max(session) FROM model.predictions"
                    (last,) = connection.execute(newest).fetchall()[0]
                    self.predicted_through = str(last) if last else None
            finally:
                connection.execute("USE memory")
            if _looks(source)[1:]:  # what its log holds is not in the file yet
                copy = self.temporary_folder / STORE
                connection.execute(f"ATTACH {literal(copy)} AS backup")
                connection.execute(f"COPY FROM DATABASE {database} TO backup")
                connection.execute("DETACH backup")
                with copy.open("rb") as content:
                    backed_up = self._in_blocks(content, original)
                copy.unlink()
                return backed_up
            # by another process: closing the file in this one would give back DuckDB's lock
            with subprocess.Popen(["cat", source], stdout=subprocess.PIPE) as reading:
                assert reading.stdout
                backed_up = self._in_blocks(reading.stdout, original)
            if reading.returncode or backed_up.size != source.stat().st_size:
                raise BackupError(f"{source} could not be read to its end; try again, or restore it from a backup")
            return backed_up

    def _in_blocks(self, content: IO[bytes], original: list[list[int]]) -> BackedUp:
        earlier = self.before.folder / BLOCKS if self.before else None
        names, size, digest, new_bytes = split(content, self.temporary_folder / BLOCKS, earlier)
        self.new_bytes += new_bytes
        return BackedUp(size, digest, original, names)


def files_below(folder: Path) -> Iterator[str]:
    """The files below `folder` that a backup copies, by their path in it."""
    for here, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(TEMPORARY) and name not in FOLDERS_LEFT_OUT]
        for name in files:
            path = Path(here) / name
            before_a_migration = BEFORE_A_MIGRATION.search(name)
            if not (name.startswith(TEMPORARY) or name.endswith(LEFT_OUT) or before_a_migration or path.is_symlink()):
                yield path.relative_to(folder).as_posix()


def read_every_row(connection: "duckdb.DuckDBPyConnection") -> dict[str, int]:
    """Reads all of every table of the database in use; its number of rows, by table."""
    statement = "SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = current_database()"
    tables = connection.execute(statement).fetchall()
    counts = {}
    for schema, table in sorted(tables):
        (row,) = connection.execute(f'SELECT count(*), bit_xor(hash(t)) FROM "{schema}"."{table}" t').fetchall()
        if schema != "main":
            counts[table] = row[0]
    return counts


def _looks(file: Path) -> list[list[int]]:
    """Size and time of change of the file and of its journals; empty where the file is gone."""
    looks = []
    for path in (file, *(file.with_name(f"{file.name}{end}") for end in ("-wal", "-journal", ".wal"))):
        try:
            file_status = path.stat()
        except FileNotFoundError:
            continue
        if file_status.st_size or path == file:  # whoever looks at a database leaves an empty journal
            looks.append([file_status.st_size, file_status.st_mtime_ns])
    return looks


def _order(name: str) -> tuple[int, str]:
    """Dagster's cursors and index first, the logs of the runs next, then the list of runs, the registry, the accounts
    and the store, the pointer and the ledger of the publication, and at last what rows and entries name: each may know
    less than what follows, and never more."""
    return next((i for i, place in enumerate(_PLACES) if name.startswith(place)), len(_PLACES)), name


@contextmanager
def _usable(target: Path) -> Iterator[None]:
    """The folder, made where there is none; what the disk says meanwhile is one line."""
    try:
        target.mkdir(mode=0o700, parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise BackupError(
            f"{error.filename or target} cannot be used: {error.strerror or error}; no backup was made. Make room or "
            "choose another folder"
        ) from error


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    """One backup at a time."""
    with (target / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BackupError(f"another backup to {target} is under way; try again when it is over") from error
        yield
