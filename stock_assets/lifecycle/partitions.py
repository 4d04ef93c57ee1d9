"""What the store has of the partitions of a table, and where Dagster's memory of them differs."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

from stock_assets.lifecycle.alerts import Alert
from stock_assets.lifecycle.evening import LEDGER, TRADED, Work

#: The keys of every asset, in flow order; None for one that is made as a whole.
Keys = Mapping[str, Sequence[str] | None]
#: The key of a table that is made as a whole.
WHOLE = ""
#: What is made again with an asset: what is traded on predictions that were made again, and their publication.
FOLLOWED_BY = {"predictions": (*TRADED, "publication"), "target_weights": LEDGER}
#: What no backfill makes: two cost hours, and an order of the past cannot be sent.
ON_DEMAND = ("tuned_hyperparameters", "input_value", "orders")
#: Dagster and the store are compared so often.
EVERY = timedelta(days=1)
#: The key of the alert about what the store lacks.
KEY = "store/lost"
#: More stretches of an asset than these are made in one run, with what lies between them.
MOST_RANGES = 8
#: Assets that a message names before it counts the rest.
NAMED = 6


@dataclass(frozen=True)
class Stored:
    """The partitions of a table that were made at some time, by name; the empty name is that of the whole table."""

    with_rows: frozenset[str] = frozenset()
    without_rows: frozenset[str] = frozenset()
    """those that were made and have no row, as of a market that is too young"""
    lost: frozenset[str] = frozenset()
    """those that have fewer rows than were written"""

    @property
    def there(self) -> frozenset[str]:
        """Those with every row that was written."""
        return self.with_rows | self.without_rows

    @property
    def all(self) -> frozenset[str]:
        """Those that were made at some time."""
        return self.there | self.lost


@dataclass(frozen=True)
class Comparison:
    """Where Dagster and the store differ, by asset; an asset that is no table is left out."""

    lost: Mapping[str, Sequence[str]]
    """what Dagster holds as materialized and the store lacks, wholly or in part"""
    unreported: Mapping[str, Sequence[str]]
    """what the store has rows of and Dagster has no materialization of"""

    @property
    def text(self) -> str:
        """What is lost, in words; empty for nothing."""
        parts = [f"{asset}{_span(partitions)}" for asset, partitions in self.lost.items()]
        further_assets = f" and {len(parts) - NAMED} more assets" if len(parts) > NAMED else ""
        return ", ".join(parts[:NAMED]) + further_assets


def _span(partitions: Sequence[str]) -> str:
    first, last = partitions[0], partitions[-1]
    if first == last:
        return f" {first}".rstrip()
    return f" {first} to {last} ({len(partitions)})"


def compared(
    keys: Keys, materialized: Mapping[str, Collection[str]], stored_partitions: Mapping[str, Stored]
) -> Comparison:
    """Compares what Dagster holds as `materialized` with `stored_partitions`, both by asset.

    >>> held = {"labels": {"2026-03-02", "2026-03-03"}}
    >>> compared({"labels": ["2026-03-02", "2026-03-03"]}, held, {"labels": Stored(frozenset({"2026-03-02"}))}).text
    'labels 2026-03-03'
    """
    lost_keys, unreported_keys = {}, {}
    for asset in (asset for asset in keys if asset in stored_partitions):
        held_keys, partitions = materialized.get(asset, ()), stored_partitions[asset]
        of_asset = _keys(keys, asset)
        if absent_keys := [key for key in of_asset if key in held_keys and key not in partitions.there]:
            lost_keys[asset] = absent_keys
        if new := [key for key in of_asset if key not in held_keys and key in partitions.with_rows]:
            unreported_keys[asset] = new
    return Comparison(lost_keys, unreported_keys)


def held_by_both(
    keys: Keys, materialized: Mapping[str, Collection[str]], stored_partitions: Mapping[str, Stored]
) -> dict[str, set[str]]:
    """What needs no making, by asset: what Dagster holds and the store has, and what the store has rows of."""
    held_keys = {asset: set(materialized.get(asset, ())) for asset in keys}
    return {
        asset: (held_keys[asset] & stored_partitions[asset].there) | stored_partitions[asset].with_rows
        if asset in stored_partitions
        else held_keys[asset]
        for asset in keys
    }


def works_of(comparison: Comparison, keys: Keys, *, now: datetime) -> list[Work]:
    """The runs that make what is lost again, in flow order. What is made on demand is left to a person."""
    works = []
    for asset, partitions in comparison.lost.items():
        if asset in ON_DEMAND:
            continue
        for first, last in runs_over(partitions, _keys(keys, asset)):
            name = f"lost {asset} {first}".rstrip() + f", found {now.isoformat()}"
            span = _span([first, last] if last != first else [first])
            reason = f"the store lost {asset}{span}, which Dagster holds as materialized"
            assets = (asset, *FOLLOWED_BY.get(asset, ()))
            works.append(Work(name, assets, first or None, last or None, reason))
    return works


def ranges_of(chosen_keys: Sequence[str], all_keys: Sequence[str]) -> list[tuple[str, str]]:
    """`chosen_keys` as contiguous (first, last) ranges of `all_keys`.

    >>> ranges_of(["a", "b", "d"], ["a", "b", "c", "d"])
    [('a', 'b'), ('d', 'd')]
    """
    place = {key: i for i, key in enumerate(all_keys)}
    ranges: list[tuple[str, str]] = []
    for key in chosen_keys:
        if ranges and place[key] == place[ranges[-1][1]] + 1:
            ranges[-1] = (ranges[-1][0], key)
        else:
            ranges.append((key, key))
    return ranges


def runs_over(chosen_keys: Sequence[str], all_keys: Sequence[str]) -> list[tuple[str, str]]:
    """`ranges_of` where they are at most MOST_RANGES, else one range from the first key to the last."""
    ranges = ranges_of(chosen_keys, all_keys)
    return ranges if len(ranges) <= MOST_RANGES else [(ranges[0][0], ranges[-1][-1])]


def alert_of_lost(comparison: Comparison, now: datetime) -> Alert:
    """The alert about what the store lacks."""
    count = sum(map(len, comparison.lost.values()))
    return Alert(
        KEY,
        f"the store lost {count} partition(s) that were made",
        f"The store lacks rows that Dagster holds as materialized: {comparison.text}. They are made again.",
        None,
        now,
    )


@dataclass(frozen=True)
class Search:
    """How far the daily comparison is: the cursor of its sensor."""

    at: datetime | None = None
    """the newest comparison; None before the first"""
    works: tuple[Work, ...] = ()
    """the runs that make again what it found, kept until all have succeeded"""

    def due(self, now: datetime) -> bool:
        """Whether it is time for another."""
        return self.at is None or now - self.at >= EVERY

    def text(self) -> str:
        """The search as JSON, which `parse` reads.

        >>> Search.parse(Search(None, (Work("lost drift", ("drift",), None, None, "why"),)).text()).works[0].assets
        ('drift',)
        """
        return json.dumps({"at": self.at and self.at.isoformat(), "works": [asdict(work) for work in self.works]})

    @classmethod
    def parse(cls, text: str | None) -> "Search":
        """The search that `text` holds; a first one for None."""
        content = json.loads(text) if text else {"at": None, "works": []}
        works = tuple(Work(**{**work, "assets": tuple(work["assets"])}) for work in content["works"])
        return cls(content["at"] and datetime.fromisoformat(content["at"]), works)


def _keys(keys: Keys, asset: str) -> Sequence[str]:
    of_asset = keys[asset]
    return [WHOLE] if of_asset is None else of_asset
