"""The ledger and the pointer as they lie in the folder: which entry is the newest, which led to it, what they name."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from stock_assets.errors import PublicationError, PublicationFormError
from stock_assets.publication.layout import (
    ENTRIES,
    KINDS,
    LEDGER,
    POINTER,
    Entry,
    Facts,
    Files,
    Kind,
    Pointer,
    parse_entry,
    parse_pointer,
)


@dataclass(frozen=True)
class Newest:
    """What is published, by the pointer; by the ledger alone, without facts, where the pointer is lost or damaged."""

    entry: str
    published_at: datetime
    champions: Mapping[str, str]
    files: Files
    facts: Facts | None


def read_pointer(folder: Path) -> Pointer | None:
    """The pointer of `folder`; None before anything was published. Raises PublicationError as `parse_pointer`."""
    path = folder / POINTER
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    return parse_pointer(path, content)


def read_ledger(folder: Path) -> list[Entry]:
    """Every entry of the ledger, oldest first. Raises PublicationError for a damaged one."""
    return [parse_entry(path, path.read_bytes()) for path in sorted((folder / LEDGER).glob(ENTRIES))]


def read_newest(folder: Path) -> Newest | None:
    """What is published in `folder`; None before anything was, and where neither pointer nor ledger can be read.

    A pointer that is lost or damaged follows from the ledger: the newest entry whose predecessors are all there. Raises
    PublicationFormError for a pointer of another major version, which is not for this one to replace.
    """
    try:
        pointer = read_pointer(folder)
    except PublicationFormError:
        raise
    except PublicationError:
        pointer = None
    if pointer:
        return Newest(pointer.entry, pointer.published_at, pointer.champions, pointer.files, pointer.facts)
    for path in sorted((folder / LEDGER).glob(ENTRIES), reverse=True):
        try:
            chain = list(back_from(folder, path.stem))[::-1]
        except PublicationError:
            continue
        return Newest(chain[-1].id, chain[-1].published_at, chain[-1].champions, files_of(chain), None)
    return None


def back_from(folder: Path, newest: str) -> Iterator[Entry]:
    """The entries that led to `newest`, which comes first, read one by one.

    Raises PublicationError where one is damaged or gone.
    """
    at: str | None = newest
    while at is not None:
        path = folder / LEDGER / f"{at}.json"
        try:
            entry = parse_entry(path, path.read_bytes())
        except FileNotFoundError as error:
            raise PublicationError(
                f"the ledger lacks the entry {at}, which a later one names; restore it from a backup"
            ) from error
        yield entry
        at = entry.previous


def files_of(chain: Collection[Entry]) -> dict[Kind, dict[str, str]]:
    """The files that were published once the last entry of `chain`, oldest first, was written."""
    files: dict[Kind, dict[str, str]] = {kind: {} for kind in KINDS}
    for entry in chain:
        for kind in KINDS:
            files[kind] |= entry.files[kind]
    return files


def entries_of(folder: Path, newest: str, sessions: Collection[str]) -> dict[str, Entry]:
    """The entry that published the predictions of each of `sessions` as they are, by session (YYYY-MM-DD); `newest` is
    the entry of the pointer."""
    left, found = set(sessions), {}
    for entry in back_from(folder, newest):
        named = left & entry.files["predictions"].keys()
        found |= dict.fromkeys(named, entry)
        left -= named
        if not left:
            break
    return found
