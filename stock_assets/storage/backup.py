"""Copies of a data folder: made while the platform runs, checked file by file, and put back.

A backup is one folder, named by its moment: `manifest.json`, the settings file, and below `data/` the data folder as
it was. It is written under a name that begins with `.tmp-` and renamed last. A file that has not changed since the
backup before is a hard link to the copy there, so every backup is whole and costs only what is new.

What is copied first must not know more than what is copied later: Dagster's memory before the store, or a restored
Dagster would remember rows that the restored store lacks; the store before the artifacts that its rows name.
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from stock_assets.errors import BackupError
from stock_assets.files import ACCOUNT_LOCK, TEMPORARY, locked, make_folder, sync, write_file
from stock_assets.storage.attached import attached
from stock_assets.storage.migrations import schema_version

if TYPE_CHECKING:
    import duckdb

MANIFEST, DATA, SETTINGS = "manifest.json", "data", "settings.toml"
#: The form of the manifest; a backup of another form is not read.
LAYOUT = 1
#: The name of a backup is its moment, so that names sort by age.
NAME = "%Y-%m-%dT%H-%M-%SZ"
STORE = "stock_assets.duckdb"
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
_SQLITE = b"SQLite format 3\0"
#: The copies of a database that a migration leaves beside it.
BEFORE_A_MIGRATION = re.compile(r"\.(db|duckdb)\.v")
#: Seconds that a locked SQLite file is waited for.
PATIENCE = 60.0


@dataclass(frozen=True)
class BackedUp:
    """One file of a backup: its size and digest there, and what its original looked like."""

    size: int
    sha256: str
    original: list[list[int]]
    """size and time of change (nanoseconds) of the file and of its journal; equal ones are the same content"""


@dataclass(frozen=True)
class Manifest:
    """What a backup holds. `files` are named by their path below `data/`, `rows` by table."""

    made_at: str
    package: str
    schema_version: int | None
    predicted_through: str | None
    """the newest session with predictions, as YYYY-MM-DD"""
    data_dir: str
    files: dict[str, BackedUp]
    rows: dict[str, int]
    settings: BackedUp | None = None
    layout: int = LAYOUT


@dataclass(frozen=True)
class Backup:
    """A backup that was made: its folder, what it holds, and the bytes that are new in it."""

    folder: Path
    manifest: Manifest
    new_bytes: int = field(compare=False, default=0)


def make_backup(data_dir: Path, target: Path, *, keep: int, now: datetime, settings: Path | None = None) -> Backup:
    """Copies `data_dir`, and the file `settings` where there is one, to a new folder below `target`; the oldest beyond
    `keep` are removed then.

    Raises BackupError where there is no store, where `target` lies inside the data folder, and where another backup
    is being made there; StoreBusyError where a writer holds the store.
    """
    if not (data_dir / STORE).exists():
        raise BackupError(f"there is no store in {data_dir}; expected {STORE} there, so there is nothing to back up")
    if target.resolve().is_relative_to(data_dir.resolve()):
        raise BackupError(f"{target} lies inside the data folder {data_dir}; expected a folder of its own")
    if keep < 1:
        raise BackupError(f"{keep} backups are to be kept; expected at least 1")
    with _usable(target), _alone(target):
        for leftover in target.glob(f"{TEMPORARY}*"):  # of a killed backup: we hold the lock
            shutil.rmtree(leftover)
        folder = target / now.astimezone(UTC).strftime(NAME)
        if folder.exists():
            raise BackupError(f"{folder} exists already; expected at most one backup a second")
        aside = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=target))  # 0700
        try:
            made = _Copying(data_dir, aside, newest_backup(target)).run(settings, now)
            os.sync()
            aside.rename(folder)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise
        sync(target)
        for old in backups(target)[:-keep]:
            old.rename(gone := target / f"{TEMPORARY}{old.name}")  # never half of a backup under its own name
            shutil.rmtree(gone)
    return Backup(folder, made.manifest, made.new_bytes)


def backups(target: Path) -> list[Path]:
    """The folders of the whole backups below `target`, the oldest first."""
    return sorted(path.parent for path in target.glob(f"[0-9]*/{MANIFEST}"))


def newest_backup(target: Path) -> Backup | None:
    """The newest backup below `target`, None without one. Raises BackupError for a manifest that cannot be read."""
    folders = backups(target)
    return Backup(folders[-1], read_manifest(folders[-1])) if folders else None


def read_manifest(folder: Path) -> Manifest:
    """Raises BackupError where `folder` is no backup, or one that this version does not read."""
    file = folder / MANIFEST
    try:
        fields = json.loads(file.read_bytes())
        if fields["layout"] != LAYOUT:
            raise BackupError(f"{folder} has layout {fields['layout']!r}; this version of stock_assets reads {LAYOUT}")
        files = {_plain(name): BackedUp(**about) for name, about in fields.pop("files").items()}
        settings = fields.pop("settings")
        return Manifest(**fields, files=files, settings=BackedUp(**settings) if settings else None)
    except FileNotFoundError:
        raise BackupError(f"{folder} is no backup: it has no {MANIFEST}") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BackupError(f"{file} cannot be read: {type(error).__name__}; take another backup") from error


def check_files(backup: Backup) -> list[str]:
    """What is wrong with the files of a backup, one line each: absent, cut short or altered."""
    listed = {f"{DATA}/{name}": about for name, about in backup.manifest.files.items()}
    if backup.manifest.settings:
        listed[SETTINGS] = backup.manifest.settings
    problems = []
    for name, about in listed.items():
        file = backup.folder / name
        try:
            size, digest = file.stat().st_size, digest_of(file)
        except OSError as error:
            problems.append(f"{file} cannot be read: {error.strerror}")
            continue
        if (size, digest) != (about.size, about.sha256):
            problems.append(f"{file} was altered or cut short: {size} bytes, expected {about.size} with another digest")
    return problems


class _Copying:
    """One backup that is being written to `aside`."""

    def __init__(self, data_dir: Path, aside: Path, before: Backup | None) -> None:
        self.data_dir, self.data, self.before = data_dir, aside / DATA, before
        self.aside, self.files, self.new_bytes = aside, dict[str, BackedUp](), 0
        self.rows: dict[str, int] = {}
        self.schema_version: int | None = None
        self.predicted_through: str | None = None

    def run(self, settings: Path | None, now: datetime) -> Backup:
        names = sorted(self._names(), key=_order)
        has_accounts = any(name.startswith(ACCOUNTS) for name in names)
        for traded, group in groupby(names, key=lambda name: has_accounts and name.startswith((ACCOUNTS, STORE))):
            with locked(self.data_dir / ACCOUNT_LOCK) if traded else nullcontext():  # nobody trades meanwhile
                for name in group:
                    self._take(name)
        kept = None
        if settings is not None:
            copy_file(settings, self.aside / SETTINGS)
            kept = BackedUp((self.aside / SETTINGS).stat().st_size, digest_of(self.aside / SETTINGS), [])
        manifest = Manifest(
            now.astimezone(UTC).isoformat(),
            version("stock_assets"),
            self.schema_version,
            self.predicted_through,
            str(self.data_dir.absolute()),
            self.files,
            self.rows,
            kept,
        )
        write_file(self.aside / MANIFEST, json.dumps(asdict(manifest), indent=1).encode())
        (self.aside / MANIFEST).chmod(0o600)
        return Backup(self.aside, manifest, self.new_bytes)

    def _names(self) -> Iterator[str]:
        """The files to copy, by their path below the data folder."""
        for folder, folders, files in os.walk(self.data_dir):
            folders[:] = [name for name in folders if not name.startswith(TEMPORARY) and name not in FOLDERS_LEFT_OUT]
            for name in files:
                path = Path(folder) / name
                before_a_migration = BEFORE_A_MIGRATION.search(name)
                if not (
                    name.startswith(TEMPORARY) or name.endswith(LEFT_OUT) or before_a_migration or path.is_symlink()
                ):
                    yield path.relative_to(self.data_dir).as_posix()

    def _take(self, name: str) -> None:
        """Copies one file, or links it to the copy of the backup before where it is the same."""
        source, copy = self.data_dir / name, self.data / name
        make_folder(copy.parent)
        original = _looks(source)
        known = self.before.manifest.files.get(name) if self.before else None
        if known and original and known.original == original:
            os.link(self.before.folder / DATA / name, copy)  # pyright: ignore[reportOptionalMemberAccess]: known
            self.files[name] = known
            if name == STORE:
                self._keep_figures(self.before.manifest)  # pyright: ignore[reportOptionalMemberAccess]: known
            return
        try:
            if name == STORE:
                self._copy_store(source, copy)
            elif is_sqlite(source):
                copy_sqlite(source, copy)
            else:
                copy_file(source, copy)
        except FileNotFoundError:  # cleared since it was listed, as a checkpoint or the shard of a deleted run is
            copy.unlink(missing_ok=True)
            return
        copy.chmod(0o600)
        size = copy.stat().st_size
        self.files[name] = BackedUp(size, digest_of(copy), original)
        self.new_bytes += size

    def _keep_figures(self, before: Manifest) -> None:
        self.rows, self.schema_version = before.rows, before.schema_version
        self.predicted_through = before.predicted_through

    def _copy_store(self, source: Path, copy: Path) -> None:
        """All tables as of one moment, whoever writes meanwhile; every block is read, and its checksum with it."""
        with attached(source, read_only=True, wait=PATIENCE) as (connection, database):
            connection.execute(f"ATTACH '{_text(copy)}' AS backup")
            try:
                connection.execute(f"COPY FROM DATABASE {database} TO backup")
                connection.execute("USE backup")
                self.rows, self.schema_version = row_counts(connection), schema_version(connection)
                if "predictions" in self.rows:
                    newest = "SELECT max(session) FROM model.predictions"
                    (last,) = connection.execute(newest).fetchall()[0]
                    self.predicted_through = str(last) if last else None
            finally:
                connection.execute("USE memory")
                connection.execute("DETACH backup")


def row_counts(connection: "duckdb.DuckDBPyConnection") -> dict[str, int]:
    """The number of rows of every table of the database in use."""
    statement = "SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = current_database()"
    tables = connection.execute(statement).fetchall()
    return {
        table: connection.execute(f'SELECT count(*) FROM "{schema}"."{table}"').fetchall()[0][0]
        for schema, table in sorted(tables)
        if schema != "main"
    }


def is_sqlite(file: Path) -> bool:
    """Whether the file is a database of SQLite. Raises OSError where it cannot be read."""
    with file.open("rb") as content:
        return content.read(len(_SQLITE)) == _SQLITE


def copy_sqlite(source: Path, copy: Path) -> None:
    """The database as of one moment, with what its journal holds. Raises BackupError where it is damaged or locked."""
    deadline = time.monotonic() + PATIENCE

    def patience(*_: int) -> None:
        if time.monotonic() > deadline:
            raise BackupError(f"{source} was locked for more than {PATIENCE:g} s; try again when its run is over")

    try:
        with (
            closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)) as original,
            closing(sqlite3.connect(copy)) as target,
        ):
            original.backup(target, progress=patience)
    except sqlite3.Error as error:
        if not source.exists():
            raise FileNotFoundError(source) from error
        raise BackupError(
            f"{source} cannot be copied: {error}; restore it from a backup: stock-assets restore DIR"
        ) from error


def digest_of(file: Path) -> str:
    """The SHA-256 of the content."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _looks(file: Path) -> list[list[int]]:
    """Size and time of change of the file and of its journals; empty where the file is gone."""
    looks = []
    for path in (file, *(file.with_name(f"{file.name}{end}") for end in ("-wal", "-journal", ".wal"))):
        try:
            about = path.stat()
        except FileNotFoundError:
            continue
        if about.st_size or path == file:  # whoever looks at a database leaves an empty journal
            looks.append([about.st_size, about.st_mtime_ns])
    return looks


def _order(name: str) -> tuple[int, str]:
    """Dagster's cursors and index first, the logs of the runs next, then the list of runs, the registry, the accounts
    and the store, the pointer and the ledger of the publication, and at last what rows and entries name: each may know
    less than what follows, and never more."""
    return next((i for i, place in enumerate(_PLACES) if name.startswith(place)), len(_PLACES)), name


def _plain(name: str) -> str:
    """`name`, which stays below the folder that it is put in. Raises BackupError for one that leaves it."""
    if name.startswith("/") or ".." in Path(name).parts:
        raise BackupError(f"the manifest lists {name!r}, which leads out of the backup; nothing was read")
    return name


def copy_file(source: Path, copy: Path) -> None:
    """A copy for its owner alone; its folder is made."""
    make_folder(copy.parent)
    shutil.copyfile(source, copy)
    copy.chmod(0o600)


def _text(path: Path) -> str:
    return str(path).replace("'", "''")


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
