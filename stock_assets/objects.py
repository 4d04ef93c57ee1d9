"""Objects in a folder or in a bucket: one small interface, by which what is kept can lie on one machine or be shared.

A place is a `Path` or an `ObjectPath`, which reads as a path does: `place / "name"`, `read_bytes`, `exists`. What
writes is a function:

==================  ===================================================================================================
`put`               the content in the place of what is there; a reader sees the old or the new, also after a crash
`put_if_absent`     the content, unless something is there: of several at once one wins
`replace_if`        the content in the place of one version of it: of several at once one wins
`found_below`       what lies below a place
`delete`            removes
==================  ===================================================================================================

In a folder an object is a file that is written aside, synced and renamed. In a bucket it is one request, and the
server decides who wins (If-None-Match, If-Match).
"""

import fcntl
import hashlib
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from stock_assets import buckets
from stock_assets.buckets import SCHEMES, Bucket, Version
from stock_assets.errors import DamagedFileError, SettingsError
from stock_assets.files import (
    TEMPORARY,
    aside,
    disk_errors_of,
    make_folder,
    open_to_others,
    sync,
    write_file,
    write_synced,
)

#: Requests to a bucket at once.
AT_ONCE = 16
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")


@dataclass(frozen=True)
class ObjectPath:
    """A place in a bucket: an object, or what the keys of several begin with.

    >>> place = place_of("s3://prices/team")
    >>> str(place / "trained_rnn" / "2024"), (place / "model.json").name
    ('s3://prices/team/trained_rnn/2024', 'model.json')
    """

    bucket: Bucket
    key: str = ""
    """without a slash at its ends"""

    def __truediv__(self, name: str) -> "ObjectPath":
        return ObjectPath(self.bucket, f"{self.key}/{name}".strip("/"))

    def __str__(self) -> str:
        return f"{self.bucket}/{self.key}".rstrip("/")

    @property
    def name(self) -> str:
        """The last part of the key."""
        return self.key.rpartition("/")[2]

    @property
    def parent(self) -> "ObjectPath":
        return ObjectPath(self.bucket, self.key.rpartition("/")[0])

    def with_suffix(self, suffix: str) -> "ObjectPath":
        """As of a `Path`."""
        return ObjectPath(self.bucket, PurePosixPath(self.key).with_suffix(suffix).as_posix())

    def read_bytes(self) -> bytes:
        """The content. Raises FileNotFoundError, BucketError."""
        return buckets.get(self.bucket, self.key)[0]

    def is_file(self) -> bool:
        """Whether it is an object. Raises BucketError."""
        return buckets.version_of(self.bucket, self.key) is not None

    def is_dir(self) -> bool:
        """Whether there are objects below it. Raises BucketError."""
        return next(buckets.listed(self.bucket, self.key), None) is not None

    def exists(self) -> bool:
        """Whether it is an object, or there are some below it. Raises BucketError."""
        return self.is_file() or self.is_dir()


#: Where an object is, or several are.
Place = Path | ObjectPath


class Found(NamedTuple):
    """An object below a place."""

    place: Place
    size: int
    changed_at: datetime
    """UTC"""


class Held(NamedTuple):
    """The content of an object, and the version that `replace_if` takes."""

    content: bytes
    version: str | Version


def place_of(address: str | Path | ObjectPath) -> Place:
    """The place that an address names: `s3://bucket/prefix`, `gs://bucket/prefix` or a folder.

    Raises SettingsError for another scheme, a bucket that cannot be one, and an address with a user, a password or a
    query: credentials come from the environment.

    >>> place_of("/srv/stocks"), place_of("gs://prices").bucket.name
    (PosixPath('/srv/stocks'), 'prices')
    >>> place_of("s3://key:secret@prices")
    Traceback (most recent call last):
    ...
    stock_assets.errors.SettingsError: s3://(hidden) names no bucket; expected s3://bucket/prefix, without a password
    """
    if not isinstance(address, str):
        return address
    scheme, separator, remainder = address.partition("://")
    if not separator:
        return Path(address)
    name, _, key = remainder.partition("/")
    if scheme not in SCHEMES:
        expected = " or ".join(f"{scheme_name}://bucket/prefix" for scheme_name in SCHEMES)
        raise SettingsError(f"{scheme[:16]}:// names no place of objects; expected a folder, {expected}")
    parts = key.strip("/").split("/") if key.strip("/") else []
    if not _BUCKET.fullmatch(name) or any(part in ("", ".", "..") or set(part) & set("?#@") for part in parts):
        raise SettingsError(
            f"{scheme}://(hidden) names no bucket; expected {scheme}://bucket/prefix, without a password"
        )
    return ObjectPath(Bucket(scheme, name), "/".join(parts))


def name_below(place: Place, root: Place) -> str:
    """The name of `place` within `root`, with slashes.

    >>> name_below(Path("/srv/stocks/published/current.json"), Path("/srv/stocks"))
    'published/current.json'
    """
    return str(place).removeprefix(f"{root}/")


def put(place: Place, content: bytes) -> None:
    """Puts `content` in the place of what is there. Raises DamagedFileError, BucketError."""
    if isinstance(place, Path):
        write_file(place, content)
    else:
        buckets.put(place.bucket, place.key, content)


def put_if_absent(place: Place, content: bytes) -> bool:
    """Whether nothing was there, and now is an object of this content. Raises DamagedFileError, BucketError.

    False as well where a try that was not answered had put it: compare the content.
    """
    if isinstance(place, ObjectPath):
        return buckets.put_if_absent(place.bucket, place.key, content)
    with disk_errors_of(place):
        make_folder(place.parent)
        temporary = aside(place)
        try:
            write_synced(temporary, content)
            os.link(temporary, place)  # refuses where a file is there, unlike a rename
        except FileExistsError:
            return False
        finally:
            temporary.unlink(missing_ok=True)
        sync(place.parent)
    return True


def held(place: Place) -> Held | None:
    """The content of the object with its version; None where there is none. Raises DamagedFileError, BucketError."""
    try:
        if isinstance(place, ObjectPath):
            return Held(*buckets.get(place.bucket, place.key))
        with disk_errors_of(place):
            content = place.read_bytes()
    except FileNotFoundError:
        return None
    return Held(content, hashlib.sha256(content).hexdigest())


def replace_if(place: Place, content: bytes, version: str | Version | None) -> bool:
    """Whether the object was of that version (None: absent), and now has this content.

    True as well where it has this content already, as after a try that was not answered: what several writers put has
    to differ. Raises DamagedFileError, BucketError.
    """
    if version is None:
        is_replaced = put_if_absent(place, content)
    elif isinstance(place, ObjectPath):
        assert isinstance(version, Version)
        is_replaced = buckets.replace_if(place.bucket, place.key, content, version=version)
    else:
        with _alone(place.parent):
            held_object = held(place)
            if is_replaced := held_object is not None and held_object.version == version:
                write_file(place, content)
    # a try that was not answered may have been the one that put it
    return is_replaced or ((held_object := held(place)) is not None and held_object.content == content)


def found_below(place: Place) -> Iterator[Found]:
    """The objects below `place`, by name, without what is being written. Raises BucketError."""
    if isinstance(place, ObjectPath):
        for meta in buckets.listed(place.bucket, place.key):
            yield Found(ObjectPath(place.bucket, meta.key), meta.size, meta.changed_at)
        return
    for file in sorted(place.rglob("*")):
        if file.name.startswith(TEMPORARY):
            continue
        try:
            file_status = file.stat()
        except FileNotFoundError:  # removed since it was listed
            continue
        if file.is_file():
            yield Found(file, file_status.st_size, datetime.fromtimestamp(file_status.st_mtime, UTC))


def delete(place: Place) -> None:
    """Removes the object, if there is one. Raises BucketError, OSError."""
    if isinstance(place, ObjectPath):
        buckets.delete(place.bucket, place.key)
    else:
        place.unlink(missing_ok=True)


def read_all(places: Sequence[Place]) -> list[bytes]:
    """The contents of `places`, those of a bucket some at once. Raises as `read_bytes`."""
    if not places or isinstance(places[0], Path):
        return [place.read_bytes() for place in places]
    with ThreadPoolExecutor(min(AT_ONCE, len(places))) as pool:
        return list(pool.map(lambda place: place.read_bytes(), places))


def local_copy(place: Place, is_whole: Callable[[bytes], bool]) -> Path:
    """A file of this machine with the content of an object that never changes: its own, or a copy of what is in a
    bucket, which stays for the next time. `is_whole` says of a content whether it is that of the object's name.

    The copies are in the folder for temporary files (TMPDIR), for their owner alone. What is not whole there is fetched
    again, and what is not whole in the bucket is returned all the same, for the reader to refuse. Raises
    FileNotFoundError, BucketError, DamagedFileError.
    """
    if isinstance(place, Path):
        return place
    folder = Path(tempfile.gettempdir(), f"stock_assets-{os.getuid()}")
    make_folder(folder)
    if folder.stat().st_uid != os.getuid() or open_to_others(folder):
        raise DamagedFileError(f"{folder} belongs to others, or is open to them; remove it, or name another in TMPDIR")
    # another server has other buckets of the same name
    server = hashlib.sha256(buckets.endpoint().encode()).hexdigest()[:12]
    copy = folder / server / place.bucket.scheme / place.bucket.name / place.key
    if not (copy.is_file() and is_whole(copy.read_bytes())):
        write_file(copy, place.read_bytes())
    return copy


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process or thread at a time in a folder, by a lock of the folder itself, which leaves no file."""
    make_folder(folder)
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
