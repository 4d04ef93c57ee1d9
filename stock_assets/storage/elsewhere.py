"""What belongs to a platform and is not in its data folder, as a backup takes it along and a restore puts it back.

A backup keeps each as it would lie in the data folder, so that it can be restored to one machine as well.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from stock_assets.errors import BackupError
from stock_assets.files import TEMPORARY, make_folder
from stock_assets.objects import Place

#: The folder of a backup with what a database holds (`storage/dagster_parquet.py`).
DATABASE = "dagster_database"
_MOMENT = "%Y-%m-%dT%H-%M-%SZ"


@dataclass(frozen=True)
class Elsewhere:
    """Places outside a data folder, by the name that they would have in it."""

    objects: Mapping[str, Place] = field(default_factory=dict)
    """artifacts and what is published, in a folder or a bucket"""
    paths: Mapping[str, Path] = field(default_factory=dict)
    """the store and the folder of Dagster"""
    database: str | None = field(default=None, repr=False)
    """the address of Dagster's database, with its password"""

    def place_of(self, name: str, data_dir: Path) -> Path:
        """Where a file is that would be `data_dir / name`.

        >>> Elsewhere(paths={"dagster": Path("/fast")}).place_of("dagster/history/runs.db", Path("/data"))
        PosixPath('/fast/history/runs.db')
        """
        for own, path in self.paths.items():
            if name == own or name.startswith(f"{own}/"):
                return path / name[len(own) + 1 :] if name != own else path
        return data_dir / name


def require_free(elsewhere: Elsewhere, *, replace: bool) -> None:
    """Raises BackupError where something is in the way of what a restore puts outside the data folder, unless
    `replace`."""
    for path in elsewhere.paths.values():
        if not replace and (path.is_file() or (path.is_dir() and any(path.iterdir()))):
            raise BackupError(
                f"{path} is in use already; expected none. --replace puts the backup in its place and keeps what is "
                "there beside it"
            )


def put_elsewhere(data_dir: Path, elsewhere: Elsewhere, *, now: datetime) -> list[str]:
    """Moves what a restore has put into `data_dir` to the paths outside of it; what was there stays beside, as
    `….before-<moment>`. Returns what was moved, in words.

    Each is copied beside its place before the first is renamed. A kill in between leaves those that were not renamed in
    the data folder, complete: restore again with --replace.
    """
    ready = []
    for name, path in elsewhere.paths.items():
        if (source := data_dir / name).exists():
            make_folder(path.parent)
            temporary_path = path.with_name(f"{TEMPORARY}restore-{path.name}")
            if temporary_path.is_dir():
                shutil.rmtree(temporary_path)
            shutil.copytree(source, temporary_path) if source.is_dir() else shutil.copyfile(source, temporary_path)
            temporary_path.chmod(0o700 if temporary_path.is_dir() else 0o600)
            ready.append((source, temporary_path, path))
    messages = []
    for source, temporary_path, path in ready:
        if path.exists():
            path.rename(path.with_name(f"{path.name}.before-{now.astimezone(UTC):{_MOMENT}}"))
        temporary_path.rename(path)
        shutil.rmtree(source) if source.is_dir() else source.unlink()
        messages.append(f"{source.name} is {path}")
    return messages


def read_rows(file: Path) -> pl.DataFrame:
    """The rows of a file of DATABASE. Raises BackupError where it cannot be read."""
    try:
        return pl.read_parquet(file)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise BackupError(f"{file} cannot be read: {type(error).__name__}; take another backup") from error
