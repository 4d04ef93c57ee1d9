"""A backup that was made: what its manifest says, its files, and whether they are what they were.

It is one folder, named by its moment: `manifest.json`, the settings file, below `data/` the data folder as it was, and
below `blocks/` what the large files consist of (`storage/blocks.py`).
"""

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from stock_assets.errors import BackupError
from stock_assets.files import make_folder
from stock_assets.objects import Place
from stock_assets.storage.blocks import BLOCK

MANIFEST, DATA, BLOCKS, SETTINGS = "manifest.json", "data", "blocks", "settings.toml"
#: The form of the manifest; a backup of a form that is not among these is not read. The first had no blocks.
LAYOUT, LAYOUTS = 2, (1, 2)


@dataclass(frozen=True)
class BackedUp:
    """One file of a backup: its size and digest there, and what its original looked like."""

    size: int
    sha256: str
    original: list[list[int]]
    """size and time of change (nanoseconds) of the file and of its journal; equal ones are the same content"""
    blocks: list[str] = field(default_factory=list)
    """the names of the blocks that it consists of, in their order; none for a file that lies there as it was"""


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
        return parse_manifest(file, file.read_bytes())
    except FileNotFoundError:
        raise BackupError(f"{folder} is no backup: it has no {MANIFEST}") from None
    except OSError as error:
        raise BackupError(f"{file} cannot be read: {type(error).__name__}; take another backup") from error


def parse_manifest(file: Place, content: bytes) -> Manifest:
    """The manifest `file` of a backup. Raises BackupError for what is none, or one that this version does not read."""
    try:
        fields = json.loads(content)
        if fields["layout"] not in LAYOUTS:
            raise BackupError(
                f"{file.parent} has layout {fields['layout']!r}; this version of stock_assets reads {LAYOUT}"
            )
        files = {_plain(name): BackedUp(**values) for name, values in fields.pop("files").items()}
        for block in (block for backed_up in files.values() for block in backed_up.blocks):
            _plain(block)
        settings = fields.pop("settings")
        return Manifest(**fields, files=files, settings=BackedUp(**settings) if settings else None)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BackupError(f"{file} cannot be read: {type(error).__name__}; take another backup") from error


def check_files(backup: Backup) -> list[str]:
    """What is wrong with the files of a backup, one line each: absent, cut short or altered."""
    problems = []
    for name in backup.manifest.files:
        backed_up, digest, size = backup.manifest.files[name], hashlib.sha256(), 0
        try:
            for piece in pieces(backup, name):
                digest.update(piece)
                size += len(piece)
        except OSError as error:
            problems.append(f"{error.filename} cannot be read: {error.strerror}")
            continue
        if (size, digest.hexdigest()) != (backed_up.size, backed_up.sha256):
            difference = f"{size} bytes, expected {backed_up.size} with another digest"
            problems.append(f"{backup.folder / DATA / name} was altered or cut short: {difference}")
    if (settings := backup.manifest.settings) and digest_of(backup.folder / SETTINGS) != settings.sha256:
        problems.append(f"{backup.folder / SETTINGS} was altered or cut short")
    return problems


def pieces(backup: Backup, name: str) -> Iterator[bytes]:
    """The content of a file of a backup, piece by piece. Raises OSError where it cannot be read."""
    if blocks := backup.manifest.files[name].blocks:
        yield from ((backup.folder / BLOCKS / block).read_bytes() for block in blocks)
        return
    with (backup.folder / DATA / name).open("rb") as content:
        yield from iter(partial(content.read, BLOCK), b"")


def put_file(backup: Backup, name: str, target: Path) -> None:
    """Writes a file of a backup to `target`, for its owner alone; its folder is made."""
    if not backup.manifest.files[name].blocks:
        copy_file(backup.folder / DATA / name, target)
        return
    make_folder(target.parent)
    with target.open("wb") as content:
        content.writelines(pieces(backup, name))
    target.chmod(0o600)


def digest_of(file: Path) -> str:
    """The SHA-256 of the content."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def copy_file(source: Path, copy: Path) -> None:
    """A copy for its owner alone; its folder is made."""
    make_folder(copy.parent)
    shutil.copyfile(source, copy)
    copy.chmod(0o600)


def _plain(name: str) -> str:
    """`name`, which stays below the folder that it is put in. Raises BackupError for one that leaves it."""
    if name.startswith("/") or ".." in Path(name).parts:
        raise BackupError(f"the manifest lists {name!r}, which leads out of the backup; nothing was read")
    return name
