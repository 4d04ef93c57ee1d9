"""The ledger and the pointer as they lie in the folder: which entry is the newest, which led to it, what they name."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from stock_assets.errors import PublicationError, PublicationFormError
from stock_assets.objects import Held, Place, found_below, held, read_all
from stock_assets.publication.layout import (
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


def read_pointer(folder: Place) -> Pointer | None:
    """The pointer of `folder`; None before anything was published. Raises PublicationError as `parse_pointer`."""
    return _pointer(folder, held(folder / POINTER))


def _pointer(folder: Place, pointer_file: Held | None) -> Pointer | None:
    return parse_pointer(folder / POINTER, pointer_file.content) if pointer_file else None


def entry_files(folder: Place) -> list[Place]:
    """The entries of the ledger, oldest first, without those that a killed process left aside, half-written."""
    return [file.place for file in found_below(folder / LEDGER) if file.place.name.endswith(".json")]


def read_ledger(folder: Place) -> list[Entry]:
    """Every entry of the ledger, oldest first. Raises PublicationError for a damaged one."""
    files = entry_files(folder)
    return [parse_entry(file, content) for file, content in zip(files, read_all(files), strict=True)]


def read_newest(folder: Place) -> Newest | None:
    """As `newest_by` the pointer that is there."""
    return newest_by(folder, held(folder / POINTER))


def newest_by(folder: Place, pointer_file: Held | None) -> Newest | None:
    """What is published in `folder`; None before anything was, and where neither pointer nor ledger can be read.

    A pointer that is lost or damaged follows from the ledger: the newest entry whose predecessors are all there. Raises
    PublicationFormError for a pointer of another major version, which is not for this one to replace.
    """
    try:
        pointer = _pointer(folder, pointer_file)
    except PublicationFormError:
        raise
    except PublicationError:
        pointer = None
    if pointer:
        return Newest(pointer.entry, pointer.published_at, pointer.champions, pointer.files, pointer.facts)
    for file in reversed(entry_files(folder)):
        try:
            chain = list(back_from(folder, file.name.removesuffix(".json")))[::-1]
        except PublicationError:
            continue
        return Newest(chain[-1].id, chain[-1].published_at, chain[-1].champions, files_of(chain), None)
    return None


def back_from(folder: Place, newest: str) -> Iterator[Entry]:
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


def entries_of(folder: Place, newest: str, sessions: Collection[str]) -> dict[str, Entry]:
    """The entry that published the predictions of each of `sessions` as they are, by session (YYYY-MM-DD); `newest` is
    the entry of the pointer."""
    remaining_sessions, entries = set(sessions), {}
    for entry in back_from(folder, newest):
        named_sessions = remaining_sessions & entry.files["predictions"].keys()
        entries |= dict.fromkeys(named_sessions, entry)
        remaining_sessions -= named_sessions
        if not remaining_sessions:
            break
    return entries
