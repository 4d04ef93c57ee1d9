"""What a person has stated about the files of a snapshot, and what is said about how they were read."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from stock_assets.errors import EmptySourceError

#: Our columns of a file, by which STOCK_ASSETS_COLUMNS names them.
COLUMNS = (
    *("ticker", "session", "at", "clock", "open", "high", "low", "close", "adj_close", "volume", "dividend"),
    *("split_ratio", "sector", "name"),
)
#: What a person writes for them besides.
_ALIASES = {"date": "session", "time": "at", "timestamp": "at", "adjusted_close": "adj_close"}


class NoBarsError(EmptySourceError):
    """A table in which there is no bar; in a folder it is passed over."""


@dataclass(frozen=True)
class Reading:
    """Where a file could mean two things, these decide."""

    date_format: str | None = None
    """STOCK_ASSETS_DATE_FORMAT"""
    time_zone: str | None = None
    """STOCK_ASSETS_TIME_ZONE"""
    decimal: str | None = None
    """STOCK_ASSETS_DECIMAL: "." or "," """
    columns: tuple[str, ...] = ()
    """STOCK_ASSETS_COLUMNS: `close=Last` names a column; names alone are those of a file without a header"""
    prices: str | None = None
    """STOCK_ASSETS_PRICES: what a close is where dividends and splits have no adjusted close with them"""
    ticker: str | None = None
    """the one ticker of STOCK_ASSETS_TICKERS"""

    @property
    def pairs(self) -> Mapping[str, str]:
        """Their names by ours."""
        parts = (part.split("=", 1) for part in self.columns if "=" in part)
        return {_ALIASES.get(column.strip(), column.strip()): file_column.strip() for column, file_column in parts}

    @property
    def in_order(self) -> tuple[str, ...]:
        """The names of the columns of a file without a header."""
        return tuple(part for part in self.columns if "=" not in part)


class Note(NamedTuple):
    """Something that was guessed or passed over, and of which file."""

    what: str
    """the same for all files of a kind"""
    which: str
    """the file, and what was made of it"""


@dataclass
class Notes:
    """All that there is to say about how a snapshot was read."""

    all: list[Note] = field(default_factory=list)

    def add(self, subject: str, which: str) -> None:
        self.all.append(Note(subject, which))

    def lines(self, limit: int = 20) -> list[str]:
        """One line per kind, with at most `limit` files.

        >>> notes = Notes([Note("passed over, empty", "a.csv"), Note("passed over, empty", "b.csv")])
        >>> notes.lines()
        ['passed over, empty: a.csv, b.csv']
        """
        return [f"{subject}: {_first_names(which, limit)}" for subject, which in self.by_kind().items()]

    def by_kind(self) -> dict[str, list[str]]:
        kinds: dict[str, list[str]] = {}
        for subject, which in self.all:
            kinds.setdefault(subject, []).append(which)
        return kinds


def _first_names(names: Iterable[str], limit: int) -> str:
    names = list(names)
    return ", ".join(names[:limit]) + (f", … ({len(names)} in all)" if len(names) > limit else "")
