"""Backups in a bucket: every content once, named by its digest, and a manifest for each backup.

    objects/<sha256>            a file, or a block of a large one (`storage/blocks.py`)
    manifests/<moment>.json     what a backup consists of; put last, and only where there is none

A backup is made like one in a folder (`storage/backup.py`), among the temporary files, and what the bucket lacks is put
there. One that is cut off has no manifest, and what it put is removed with the next.
"""

import json
import secrets
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from stock_assets.errors import BackupError
from stock_assets.files import make_folder, write_file
from stock_assets.objects import (
    AT_ONCE,
    ObjectPath,
    Place,
    delete,
    found_below,
    held,
    put,
    put_if_absent,
    read_all,
    replace_if,
)
from stock_assets.storage.backup import NAME, STORE, Copying, require_store
from stock_assets.storage.elsewhere import Elsewhere
from stock_assets.storage.manifest import (
    BLOCKS,
    DATA,
    MANIFEST,
    SETTINGS,
    Backup,
    Manifest,
    digest_of,
    newest_backup,
    parse_manifest,
)

OBJECTS, MANIFESTS, LOCK = "objects", "manifests", ".lock"
#: A backup that has taken so long was killed: the next one goes on.
LEASE = timedelta(hours=6)


@dataclass(frozen=True)
class BucketBackup:
    """A backup in a bucket, as `manifest.Backup`; its folder is a name alone."""

    folder: ObjectPath
    manifest: Manifest
    new_bytes: int = field(compare=False, default=0)


#: A backup, wherever it is.
AnyBackup = Backup | BucketBackup


def make_bucket_backup(
    data_dir: Path,
    target: ObjectPath,
    *,
    keep: int,
    now: datetime,
    settings: Path | None = None,
    elsewhere: Elsewhere | None = None,
) -> BucketBackup:
    """As `backup.make_backup`, to a bucket; the folder of the result is `target / <moment>`. Raises BucketError too."""
    elsewhere = elsewhere or Elsewhere()
    require_store(elsewhere.place_of(STORE, data_dir), keep)
    with _alone(target, now):
        present_digests = {file.place.name for file in found_below(target / OBJECTS)}
        newest = newest_backup_in(target)
        with tempfile.TemporaryDirectory(prefix="stock-assets-backup-") as folder:
            newest_manifest = newest.manifest if newest else None
            manifest = (
                _ToBucket(
                    data_dir, Path(folder), elsewhere, newest_manifest=newest_manifest, present_digests=present_digests
                )
                .run(settings, now)
                .manifest
            )
            new_bytes = _put_missing(Path(folder), manifest, target / OBJECTS, present_digests=present_digests)
        name = now.astimezone(UTC).strftime(NAME)
        text = json.dumps(asdict(manifest), indent=1).encode()
        if not put_if_absent(target / MANIFESTS / f"{name}.json", text):
            raise BackupError(f"{target / name} exists already; expected at most one backup a second")
        _prune(target, keep)
    return BucketBackup(target / name, manifest, new_bytes)


class _ToBucket(Copying):
    """One backup, without what the bucket holds already."""

    def __init__(
        self,
        data_dir: Path,
        temporary_folder: Path,
        elsewhere: Elsewhere,
        *,
        newest_manifest: Manifest | None,
        present_digests: set[str],
    ) -> None:
        super().__init__(data_dir, temporary_folder, None, elsewhere=elsewhere)
        self.newest_manifest, self.present_digests = newest_manifest, present_digests

    def _link(self, name: str, original: list[list[int]]) -> bool:
        backed_up = self.newest_manifest.files.get(name) if self.newest_manifest else None
        if self.newest_manifest is None or backed_up is None or backed_up.original != original:
            return False
        if not self.present_digests.issuperset(backed_up.blocks or [backed_up.sha256]):
            return False
        self.files[name] = backed_up
        if name == STORE:
            self.take_rows_of(self.newest_manifest)
        return True


def _put_missing(folder: Path, manifest: Manifest, objects: ObjectPath, *, present_digests: set[str]) -> int:
    """Puts the contents below `folder` that are not among `present_digests`; their bytes."""
    files = {path.name: path for path in (folder / BLOCKS).glob("*")}
    for name, backed_up in manifest.files.items():
        if (path := folder / DATA / name).is_file():
            files[backed_up.sha256] = path
    if manifest.settings:
        files[manifest.settings.sha256] = folder / SETTINGS
    missing = [(digest, path) for digest, path in files.items() if digest not in present_digests]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lambda item: put_if_absent(objects / item[0], item[1].read_bytes()), missing))
    return sum(path.stat().st_size for _, path in missing)


def _prune(target: ObjectPath, keep: int) -> None:
    """Removes the oldest backups beyond `keep`, and the contents that none of the others has."""
    manifests = bucket_backups(target)
    for old in manifests[:-keep]:
        delete(old)
    named_digests = {digest for manifest in manifests[-keep:] for digest in _contents(_read(manifest))}
    unnamed_places = [file.place for file in found_below(target / OBJECTS) if file.place.name not in named_digests]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(delete, unnamed_places))


def bucket_backups(target: ObjectPath) -> list[Place]:
    """The manifests of the backups in a bucket, the oldest first."""
    return [file.place for file in found_below(target / MANIFESTS) if file.place.name.endswith(".json")]


def newest_backup_in(target: Place) -> AnyBackup | None:
    """The newest backup in a folder or a bucket, None without one. Raises as `manifest.newest_backup`, BucketError."""
    if isinstance(target, Path):
        return newest_backup(target)
    manifests = bucket_backups(target)
    if not manifests:
        return None
    return BucketBackup(target / manifests[-1].name.removesuffix(".json"), _read(manifests[-1]))


@contextmanager
def local_backup(place: Place) -> Iterator[Path]:
    """The folder of a backup on this machine: `place`, or a copy of the backup `place`, or of the newest one below it,
    in a bucket, each content checked, which is removed afterwards.

    Raises BackupError where there is none or a content is absent or altered, BucketError.
    """
    if isinstance(place, Path):
        yield place
        return
    manifest = place.parent / MANIFESTS / f"{place.name}.json"
    target = place.parent
    if not manifest.is_file():
        target, manifest_places = place, bucket_backups(place)
        if not manifest_places:
            raise BackupError(f"there is no backup in {place}; expected one that `stock-assets backup` has made")
        manifest = manifest_places[-1]
    with tempfile.TemporaryDirectory(prefix="stock-assets-backup-") as name:
        folder = Path(name)
        manifest_of_backup = _read(manifest)
        write_file(folder / MANIFEST, manifest.read_bytes())
        files = {
            digest: [folder / BLOCKS / digest]
            for backed_up in manifest_of_backup.files.values()
            for digest in backed_up.blocks
        }
        for path, backed_up in manifest_of_backup.files.items():
            if not backed_up.blocks:
                files.setdefault(backed_up.sha256, []).append(folder / DATA / path)
        if manifest_of_backup.settings:
            files.setdefault(manifest_of_backup.settings.sha256, []).append(folder / SETTINGS)
        _fetch(target / OBJECTS, files)
        yield folder


def _fetch(objects: ObjectPath, files: Mapping[str, list[Path]]) -> None:
    """Writes each content to its files, some at once, so that memory holds no more than a few."""
    digests = sorted(files)
    for first in range(0, len(digests), AT_ONCE):
        part_of_digests = digests[first : first + AT_ONCE]
        try:
            contents = read_all([objects / digest for digest in part_of_digests])
        except FileNotFoundError as error:
            raise BackupError(f"{error.filename} is gone; take another backup") from None
        for digest, content in zip(part_of_digests, contents, strict=True):
            for file in files[digest]:
                make_folder(file.parent)
                file.write_bytes(content)
                file.chmod(0o600)
            if digest_of(files[digest][0]) != digest:
                raise BackupError(f"{objects / digest} was altered or cut short; take another backup")


def put_back(data_dir: Path, places: Mapping[str, Place]) -> list[str]:
    """Moves what a restore has put into the folders of `data_dir` that `places` names to the places that hold it: what
    never changes first, then what names it. Returns what was moved, in words. Raises BucketError.
    """
    messages = []
    for folder, place in places.items():
        files = sorted(found_below(data_dir / folder), key=lambda file: write_rank(file.place.name))
        for file in files:
            put(place / Path(str(file.place)).relative_to(data_dir / folder).as_posix(), file.place.read_bytes())
        for file in files:
            delete(file.place)
        if files:
            messages.append(f"{len(files):,} files of {folder}/ are in {place}")
    return messages


def write_rank(name: str) -> int:
    """Files before the `model.json` of their artifact and the entry that names them, the pointer last."""
    return 2 if name == "current.json" else 1 if name.endswith(".json") else 0


def _read(manifest: Place) -> Manifest:
    return parse_manifest(manifest, manifest.read_bytes())


def _contents(manifest: Manifest) -> Iterable[str]:
    for backed_up in manifest.files.values():
        yield from backed_up.blocks or [backed_up.sha256]
    if manifest.settings:
        yield manifest.settings.sha256


@contextmanager
def _alone(target: ObjectPath, now: datetime) -> Iterator[None]:
    """One backup at a time, by an object that says since when; one older than LEASE was left by a killed backup."""
    lock, own = target / LOCK, f"{now.astimezone(UTC).isoformat()} {secrets.token_hex(8)}".encode()
    held_lock = held(lock)
    if held_lock is not None:
        since = held_lock.content.split()[0].decode()
        if now - datetime.fromisoformat(since) < LEASE:
            raise BackupError(
                f"another backup to {target} is under way since {since}; try again when it is over, or remove {lock} "
                "should it have been killed"
            )
    if not replace_if(lock, own, held_lock and held_lock.version):
        raise BackupError(f"another backup to {target} has just begun; try again when it is over")
    try:
        yield
    finally:
        if (held_lock := held(lock)) is not None and held_lock.content == own:
            delete(lock)
