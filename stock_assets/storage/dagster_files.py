"""The SQLite files of Dagster's storage: what is old in them goes, and what they wrote ahead is folded in.

Never removed are the materialization of a partition, as the store is compared with Dagster's memory, the newest
evaluation of a check, the runs that are under way, and a run that made the newest version of an asset.
The tables are those of Dagster 1.13 (`private/dagster.py`); a file without them is left as it is.
"""

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

#: Seconds that a locked file is waited for: the tidying of tomorrow comes by again.
WAIT = 5.0
#: The statuses of a run that is over. What is under way is never touched.
OVER = ("SUCCESS", "FAILURE", "CANCELED")
#: A file is written anew once so large a share of it, and so many bytes, are free.
FREE_SHARE, FREE_BYTES = 0.4, 32_000_000
#: Markdown of an old materialization that is longer, in characters, goes: it is a picture or a preview.
LONG_TEXT = 1000
REMOVED_TEXT = "*removed by the daily tidying: only recent materializations keep pictures and previews*"
#: Rows of one transaction, so that nobody waits for long.
_AT_ONCE = 500


class Tidied(NamedTuple):
    """How many of something went, and what their files shrank by, in bytes."""

    number: int
    bytes: int


@dataclass(frozen=True)
class DagsterFiles:
    """The files below a DAGSTER_HOME."""

    home: Path

    @property
    def shards(self) -> Path:
        """The folder of one database per run, and of `index.db`, which answers for all runs."""
        return self.home / "history" / "runs"

    @property
    def index(self) -> Path:
        return self.shards / "index.db"

    @property
    def runs(self) -> Path:
        return self.home / "history" / "runs.db"

    @property
    def ticks(self) -> Path:
        return self.home / "schedules" / "schedules.db"

    # ---------------------------------------------------------------- the events of one run

    def fold_in(self) -> Tidied:
        """Folds in what was written ahead, of one run or of all; a process that is killed leaves it beside the file."""
        logs = [*self.shards.glob("*.db-wal"), *self.runs.parent.glob("*.db-wal"), *self.ticks.parent.glob("*.db-wal")]
        logs = [log for log in logs if _size(log)]
        sizes = [_size(log) for log in logs]
        log_results = [fold_in(log.with_name(log.name.removesuffix("-wal"))) for log in logs]
        return Tidied(sum(log_results), sum(sizes) - sum(map(_size, logs)))

    def remove_shards(self, *, ended_before: datetime, failed_before: datetime) -> Tidied:
        """Removes the databases of the runs that ended before; of those that failed, the ones before `failed_before`.

        The run stays in the list of runs, and its materializations and checks stay in `index.db`.
        """
        ended_runs = self._runs_over()
        removed_count, freed_bytes = 0, 0
        for shard in self.shards.glob("*.db"):
            if shard == self.index or shard.stem not in ended_runs:
                continue
            status, end = ended_runs[shard.stem]
            if end < (ended_before if status == "SUCCESS" else failed_before):
                for file in (shard, shard.with_name(f"{shard.name}-wal"), shard.with_name(f"{shard.name}-shm")):
                    freed_bytes += _size(file)
                    file.unlink(missing_ok=True)
                removed_count += 1
        return Tidied(removed_count, freed_bytes)

    def _runs_over(self) -> dict[str, tuple[str, datetime]]:
        """(status, when it changed last) of the runs that are over, by run; of a naive UTC time."""
        if not _has_tables(self.runs, "runs"):
            return {}
        with opened(self.runs) as connection:
            rows = connection.execute(
                f"SELECT run_id, status, update_timestamp FROM runs WHERE status IN {OVER}"
            ).fetchall()
        return {run: (status, datetime.fromisoformat(changed_at)) for run, status, changed_at in rows}

    # ---------------------------------------------------------------- all runs

    def remove_runs(self, before: datetime) -> int:
        """Removes finished runs that ended before from the list; the one that made the newest version of an asset
        stays. Their number."""
        if not (_has_tables(self.runs, "runs", "run_tags") and _has_tables(self.index, "asset_keys")):
            return 0
        with opened(self.index) as connection:
            newest = {run for (run,) in connection.execute("SELECT last_run_id FROM asset_keys")}
        old = [run for run, (_, end) in self._runs_over().items() if end < before and run not in newest]
        with opened(self.runs) as connection:
            for run in old:
                with connection:
                    connection.execute("DELETE FROM run_tags WHERE run_id = ?", [run])
                    connection.execute("DELETE FROM runs WHERE run_id = ?", [run])
        return len(old)

    def thin_materializations(self, before: datetime) -> int:
        """Takes pictures and previews out of the materializations before, unless they are the newest of their asset;
        the number of those that had some."""
        if not _has_tables(self.index, "event_logs"):
            return 0
        statement = (
            "SELECT id, event FROM event_logs WHERE dagster_event_type = 'ASSET_MATERIALIZATION' AND timestamp < ? "
            "AND length(event) > ? AND id NOT IN (SELECT max(id) FROM event_logs "
            "WHERE dagster_event_type = 'ASSET_MATERIALIZATION' GROUP BY asset_key)"
        )
        changed_rows = 0
        with opened(self.index) as connection:
            old = connection.execute(statement, [f"{before:%Y-%m-%d %H:%M:%S}", LONG_TEXT]).fetchall()
            thin = [(text, number) for number, event in old if (text := without_long_texts(event)) is not None]
            for start in range(0, len(thin), _AT_ONCE):
                with connection:
                    changed_rows += connection.executemany(
                        "UPDATE event_logs SET event = ? WHERE id = ?", thin[start : start + _AT_ONCE]
                    ).rowcount
        return changed_rows

    def remove_checks(self, before: datetime) -> int:
        """Removes evaluations of checks before, unless they are the newest of their check, and what was planned of
        partitions that were materialized since: their number."""
        if not _has_tables(self.index, "event_logs", "asset_check_executions"):
            return 0
        moment = f"{before:%Y-%m-%d %H:%M:%S}"
        with opened(self.index) as connection, connection:
            checks = connection.execute(
                "DELETE FROM asset_check_executions WHERE evaluation_event_timestamp < ? AND id NOT IN "
                "(SELECT max(id) FROM asset_check_executions GROUP BY asset_key, check_name, partition)",
                [moment],
            ).rowcount
            connection.execute(
                "DELETE FROM event_logs WHERE timestamp < ? AND dagster_event_type IN "
                "('ASSET_CHECK_EVALUATION', 'ASSET_CHECK_EVALUATION_PLANNED') AND id NOT IN "
                "(SELECT evaluation_event_storage_id FROM asset_check_executions "
                "WHERE evaluation_event_storage_id IS NOT NULL)",
                [moment],
            )
            planned_checks = connection.execute(
                "DELETE FROM event_logs WHERE timestamp < ? AND dagster_event_type = 'ASSET_MATERIALIZATION_PLANNED' "
                "AND EXISTS (SELECT 1 FROM event_logs AS made WHERE made.asset_key = event_logs.asset_key "
                "AND made.partition IS event_logs.partition AND made.id > event_logs.id "
                "AND made.dagster_event_type = 'ASSET_MATERIALIZATION')",
                [moment],
            ).rowcount
        return checks + planned_checks

    def shrink(self) -> Tidied:
        """Writes a file anew that is mostly free space, where the disk has room for it: the number of files.

        SQLite does it whole or not at all; a file that is in use stays as it is.
        """
        shrunk_count, freed_bytes = 0, 0
        for file in (self.index, self.runs, self.ticks):
            if not _has_tables(file):
                continue
            with opened(file) as connection:
                free, pages, size = (
                    connection.execute(f"PRAGMA {name}").fetchone()[0]
                    for name in ("freelist_count", "page_count", "page_size")
                )
                pays = free * size > FREE_BYTES and free > FREE_SHARE * pages
                if not pays or shutil.disk_usage(file.parent).free < 2 * (pages - free) * size:
                    continue
                try:
                    connection.execute("VACUUM")
                except sqlite3.OperationalError as error:
                    if "locked" in str(error) or "busy" in str(error):
                        continue
                    raise
                shrunk_count, freed_bytes = shrunk_count + 1, freed_bytes + free * size
            fold_in(file)
        return Tidied(shrunk_count, freed_bytes)

    # ---------------------------------------------------------------- what steps and ticks printed

    def remove_printed(self, before: datetime) -> Tidied:
        """Removes the files of what steps and ticks printed that were written last before, and emptied folders."""
        removed_count, freed_bytes = 0, 0
        folders = [self.home / "storage"]
        for path in sorted(self.home.joinpath("storage").rglob("*"), reverse=True):  # files before their folders
            if path.is_dir():
                folders.append(path)
            elif path.stat().st_mtime < before.timestamp():
                freed_bytes += _size(path)
                path.unlink(missing_ok=True)
                removed_count += 1
        for folder in folders[1:]:
            if not any(folder.iterdir()):
                folder.rmdir()
        return Tidied(removed_count, freed_bytes)


def fold_in(database: Path, wait: float = 1.0) -> bool:
    """Folds what was written ahead into the file and empties its write-ahead log; False where somebody reads it for
    longer than `wait` seconds."""
    with opened(database, wait) as connection:
        busy, *_ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return not busy


def without_long_texts(event: str) -> str | None:
    """The stored event with REMOVED_TEXT for the long Markdown of its metadata; None where it has none."""
    event_fields = json.loads(event)
    entries = event_fields["dagster_event"]["event_specific_data"]["materialization"]["metadata_entries"]
    long = [
        entry["entry_data"]
        for entry in entries
        if entry["entry_data"]["__class__"] == "MarkdownMetadataEntryData"
        and len(entry["entry_data"]["md_str"] or "") > LONG_TEXT
    ]
    for data in long:
        data["md_str"] = REMOVED_TEXT
    return json.dumps(event_fields) if long else None


@contextmanager
def opened(database: Path, wait: float = WAIT) -> Iterator[sqlite3.Connection]:
    """A connection to an existing file, which is waited for as long as `wait`, in seconds."""
    with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=rw", timeout=wait, uri=True)) as connection:
        yield connection


def _has_tables(database: Path, *tables: str) -> bool:
    if not database.exists():
        return False
    with opened(database) as connection:
        table_names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    return set(tables) <= table_names


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0
