"""Writes a publication: immutable files first, then the entry of the ledger, and the pointer last.

A process that is killed on the way leaves the old pointer, and files that the next attempt finds by their digest.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from io import BytesIO
from pathlib import Path

import polars as pl

from stock_assets.errors import PublicationError
from stock_assets.files import TEMPORARY, locked, write_file
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
from stock_assets.publication.ledger import read_newest, read_pointer

__all__ = ["NewFiles", "parquet_of", "publish", "read_pointer"]


@dataclass
class NewFiles:
    """The files of one publication, by kind and key, as they are put into the folder."""

    folder: Path
    digests: dict[Kind, dict[str, str]] = field(default_factory=lambda: {kind: {} for kind in KINDS})

    def put(self, kind: Kind, key: str, content: pl.DataFrame | bytes) -> str:
        """Writes one file unless it is there already, whole, and returns its digest.

        Raises PublicationError for a frame with a number that is not finite, which JSON cannot hold.
        """
        data = content if isinstance(content, bytes) else parquet_of(content, f"{kind} {key}")
        digest = digest_of(data)
        path = self.folder / path_of(kind, key, digest)
        if not _holds(path, data):
            write_file(path, data)
        self.digests[kind][key] = digest
        return digest


def parquet_of(frame: pl.DataFrame, what: str) -> bytes:
    """`frame` as a Parquet file. Raises PublicationError for a number that is neither finite nor null."""
    floats = [name for name, dtype in frame.schema.items() if dtype.is_float()]
    for name in floats:
        if count := int((~frame[name].drop_nulls().is_finite()).sum()):
            raise PublicationError(f"{what} holds {count} value(s) of {name} that are not finite; nothing is published")
    sink = BytesIO()
    frame.write_parquet(sink, compression="zstd", statistics=True)
    return sink.getvalue()


def publish(
    folder: Path,
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
    damaged is made anew from the ledger. `now` is aware.
    """
    with locked(folder / ".lock"):
        before = read_newest(folder)
        files = _merged(before.files if before else {}, new.digests)
        if before and files == before.files and facts == before.facts and champions == before.champions:
            return Pointer(before.entry, before.published_at, facts, before.champions, files)
        moment = max(now, before.published_at) if before else now  # the ledger ascends, also under a clock set back
        changed: Files = {
            kind: {
                key: digest
                for key, digest in files[kind].items()
                if not before or before.files[kind].get(key) != digest
            }
            for kind in KINDS
        }
        draft = Entry("", moment, before and before.entry, reason, code_version, dict(champions), changed)
        entry = Entry(
            entry_id(moment, draft.text()), moment, draft.previous, reason, code_version, dict(champions), changed
        )
        for leftover in (folder / LEDGER).glob(f"{TEMPORARY}*"):  # of a killed process: this one holds the lock
            leftover.unlink()
        write_file(folder / LEDGER / f"{entry.id}.json", entry.text().encode())
        pointer = Pointer(entry.id, moment, facts, dict(champions), files)
        write_file(folder / POINTER, pointer.text().encode())
        return pointer


def _holds(path: Path, data: bytes) -> bool:
    """Whether the file is there with this content: a damaged one is written again."""
    try:
        return path.stat().st_size == len(data) and path.read_bytes() == data
    except OSError:
        return False


def _merged(before: Files, new: Files) -> Files:
    return {kind: {**before.get(kind, {}), **new.get(kind, {})} for kind in KINDS}
