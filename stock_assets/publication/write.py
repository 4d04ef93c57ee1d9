"""Writes a publication: immutable files first, then the entry of the ledger, and the pointer last.

A process that is killed on the way leaves the old pointer, and files that the next attempt finds by their digest.
Of two publishers at once the second publishes after the first: in a folder it waits, in a bucket it finds that the
pointer has changed and begins anew.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from io import BytesIO

import polars as pl

from stock_assets.errors import PublicationError
from stock_assets.files import TEMPORARY, locked
from stock_assets.objects import ObjectPath, Place, delete, held, put, put_if_absent, replace_if
from stock_assets.publication.layout import (
    KINDS,
    LEDGER,
    POINTER,
    Entry,
    Facts,
    Files,
    Kind,
    Pointer,
    digest_of,
    entry_id,
    path_of,
)
from stock_assets.publication.ledger import Newest, back_from, newest_by, read_pointer

__all__ = ["NewFiles", "parquet_of", "publish", "read_pointer"]


@dataclass
class NewFiles:
    """The files of one publication, by kind and key, as they are put into the folder."""

    folder: Place
    digests: dict[Kind, dict[str, str]] = field(default_factory=lambda: {kind: {} for kind in KINDS})

    def put(self, kind: Kind, key: str, content: pl.DataFrame | bytes) -> str:
        """Writes one file unless it is there already, whole, and returns its digest.

        Raises PublicationError for a frame with a number that is not finite, which JSON cannot hold.
        """
        data = content if isinstance(content, bytes) else parquet_of(content, f"{kind} {key}")
        digest = digest_of(data)
        path = self.folder / path_of(kind, key, digest)
        is_new = isinstance(path, ObjectPath) and put_if_absent(path, data)  # one request where it is
        if not is_new and not _holds(path, data):
            put(path, data)
        self.digests[kind][key] = digest
        return digest


def parquet_of(frame: pl.DataFrame, subject: str) -> bytes:
    """`frame` as a Parquet file. Raises PublicationError for a number that is neither finite nor null."""
    floats = [name for name, dtype in frame.schema.items() if dtype.is_float()]
    for name in floats:
        if count := int((~frame[name].drop_nulls().is_finite()).sum()):
            raise PublicationError(
                f"{subject} holds {count} value(s) of {name} that are not finite; nothing is published"
            )
    sink = BytesIO()
    frame.write_parquet(sink, compression="zstd", statistics=True)
    return sink.getvalue()


def publish(
    folder: Place,
    new: NewFiles,
    facts: Facts,
    *,
    champions: Mapping[str, str],
    reason: str,
    code_version: str,
    now: datetime,
) -> Pointer:
    """Makes the files of `new` the published ones of their keys; every other key keeps its file.

    Where nothing differs from what is published, neither entry nor pointer is written. A pointer that was lost or
    damaged is made anew from the ledger. `now` is aware. Raises PublicationFormError as `read_newest`, BucketError.
    """
    with _one_writer(folder):
        while True:
            pointer_file = held(folder / POINTER)
            before = newest_by(folder, pointer_file)
            files = _merged(before.files if before else {}, new.digests)
            if before and files == before.files and facts == before.facts and champions == before.champions:
                return Pointer(before.entry, before.published_at, facts, before.champions, files)
            # the ledger ascends, also under a clock set back
            moment = max(now, before.published_at) if before else now
            facts_of_entry = reason, code_version, dict(champions), _changed_files(before, files)
            draft = Entry("", moment, before and before.entry, *facts_of_entry)
            entry = Entry(entry_id(moment, draft.text()), moment, draft.previous, *facts_of_entry)
            put(folder / LEDGER / f"{entry.id}.json", entry.text().encode())
            pointer = Pointer(entry.id, moment, facts, dict(champions), files)
            if replace_if(folder / POINTER, pointer.text().encode(), pointer_file and pointer_file.version):
                return pointer
            _take_back(folder, entry)


@contextmanager
def _one_writer(folder: Place) -> Iterator[None]:
    """One publisher at a time in a folder, where what killed ones left is removed; in a bucket the pointer decides."""
    if isinstance(folder, ObjectPath):
        yield
        return
    with locked(folder / ".lock"):
        for leftover in (folder / LEDGER).glob(f"{TEMPORARY}*"):
            leftover.unlink()
        yield


def _take_back(folder: Place, entry: Entry) -> None:
    """Removes an entry whose pointer came too late, unless a later one names it: then an answer was lost."""
    now = read_pointer(folder)
    if now is None or entry.id not in {entry_back.id for entry_back in back_from(folder, now.entry)}:
        delete(folder / LEDGER / f"{entry.id}.json")


def _changed_files(before: Newest | None, files: Files) -> Files:
    """Those of `files` that `before` does not name, or names otherwise."""
    return {
        kind: {
            key: digest for key, digest in files[kind].items() if not before or before.files[kind].get(key) != digest
        }
        for kind in KINDS
    }


def _holds(path: Place, data: bytes) -> bool:
    """Whether the file is there with this content: a damaged one is written again."""
    try:
        return path.read_bytes() == data
    except OSError:
        return False


def _merged(before: Files, new: Files) -> Files:
    return {kind: {**before.get(kind, {}), **new.get(kind, {})} for kind in KINDS}
