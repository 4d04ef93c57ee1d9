"""The ledger as the API reads it: every entry once, since none changes, and the way that leads to a publication."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stock_assets.errors import PublicationError
from stock_assets.publication.layout import LEDGER, Entry, parse_entry
from stock_assets.publication.read import chain_to


@dataclass(frozen=True)
class Chain:
    """The entries that led to a publication, oldest first."""

    entries: tuple[Entry, ...] = ()
    trouble: str | None = None
    """why the chain is not whole; then it has no entry"""

    @property
    def by_id(self) -> Mapping[str, int]:
        """The place of every entry."""
        return {entry.id: place for place, entry in enumerate(self.entries)}

    def published(self) -> Mapping[tuple[str, str], Entry]:
        """The entry that named a file of predictions first, by session and digest."""
        first: dict[tuple[str, str], Entry] = {}
        for entry in self.entries:
            for key in entry.files["predictions"].items():
                first.setdefault(key, entry)
        return first


class Ledger:
    """The entries in `folder` that were read already."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / LEDGER
        self._entries: dict[str, Entry] = {}

    def chain(self, newest: str) -> Chain:
        """The way to the entry `newest`, with those that came since the last look."""
        trouble = None
        for path in sorted(self._folder.glob("*.json")):
            if path.stem not in self._entries:
                try:
                    self._entries[path.stem] = parse_entry(path, path.read_bytes())
                except OSError as error:
                    trouble = trouble or f"{LEDGER}/{path.name} cannot be read: {error.strerror}"
                except PublicationError as error:
                    trouble = trouble or str(error).replace(f"{self._folder}/", f"{LEDGER}/")
        try:
            return Chain(tuple(chain_to(self._entries.values(), newest)))
        except PublicationError as error:
            return Chain((), trouble or str(error))
