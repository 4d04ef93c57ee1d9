"""What the store has of the partitions of a table, and where Dagster's memory of them differs."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Stored:
    """The partitions of a table that were made at some time, by name; the empty name is that of the whole table."""

    with_rows: frozenset[str]
    without_rows: frozenset[str]
    """those that were made and have no row, as of a market that is too young"""
    lost: frozenset[str]
    """those that have fewer rows than were written"""

    @property
    def there(self) -> frozenset[str]:
        """Those with every row that was written."""
        return self.with_rows | self.without_rows

    @property
    def all(self) -> frozenset[str]:
        """Those that were made at some time."""
        return self.there | self.lost
