"""The ledger as the API reads it: every entry once, since none changes, and the way that leads to a publication."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from stock_assets.errors import PublicationError
from stock_assets.objects import Place
from stock_assets.publication.layout import KINDS, LEDGER, Entry, Kind, parse_entry
from stock_assets.publication.read import Publication


@dataclass(frozen=True)
class Chain:
    """The entries that led to a publication, oldest first."""

    entries: tuple[Entry, ...] = ()
    trouble: str | None = None
    """why the chain is not whole; then it has no entry"""

    @cached_property
    def by_id(self) -> Mapping[str, int]:
        """The place of every entry."""
        return {entry.id: place for place, entry in enumerate(self.entries)}

    @cached_property
    def published(self) -> Mapping[tuple[str, str], Entry]:
        """The entry that named a file of predictions first, by session and digest."""
        first: dict[tuple[str, str], Entry] = {}
        for entry in self.entries:
            for key in entry.files["predictions"].items():
                first.setdefault(key, entry)
        return first


def name_of(entry: Entry) -> str:
    """The file of an entry, within the folder of what is published."""
    return f"{LEDGER}/{entry.id}.json"


class Ledger:
    """The entries in `folder` that were read already."""

    def __init__(self, folder: Place) -> None:
        self._folder = folder / LEDGER
        self._entries: dict[str, Entry] = {}

    def chain(self, newest: str) -> Chain:
        """The way to the entry `newest`. Entries that were written and never pointed to are no part of it."""
        chain: list[Entry] = []
        at: str | None = newest
        while at is not None:
            try:
                entry = self._entries.get(at) or self._read(at)
            except PublicationError as error:
                return Chain((), str(error).replace(f"{self._folder}/", f"{LEDGER}/"))
            chain.append(entry)
            at = entry.previous
            if len(chain) > len(self._entries):
                return Chain((), f"the ledger is damaged: {name_of(entry)} leads back to itself")
        return Chain(tuple(chain[::-1]))

    def _read(self, name: str) -> Entry:
        """The entry from its file. Raises PublicationError where it is absent or damaged."""
        path = self._folder / f"{name}.json"
        try:
            entry = parse_entry(path, path.read_bytes())
        except OSError as error:
            raise PublicationError(f"{path} cannot be read: {error.strerror}; restore it from a backup") from error
        if entry.id != name:
            raise PublicationError(f"{path} is damaged: it says that it is {entry.id}")
        self._entries[name] = entry
        return entry


def after(publication: Publication, chain: Sequence[Entry]) -> Publication:
    """What was published after the last entry of `chain`, the first entries of the way to `publication`."""
    files: dict[Kind, dict[str, str]] = {kind: {} for kind in KINDS}
    for entry in chain:
        for kind in KINDS:
            files[kind] |= entry.files[kind]
    last = chain[-1]
    pointer = replace(
        publication.pointer, entry=last.id, published_at=last.published_at, champions=last.champions, files=files
    )
    return Publication(publication.folder, pointer)
