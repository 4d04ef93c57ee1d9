"""What is missing of the graph as few runs, one after the other: each run costs the start of a process."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from stock_assets.lifecycle.evening import Work
from stock_assets.lifecycle.partitions import Keys, runs_over

#: The keys of every asset to make, in flow order; None for an unpartitioned asset.
Targets = Mapping[str, Sequence[str] | None]
#: First and last key of each contiguous stretch.
_Ranges = list[tuple[str, str]]


@dataclass
class _Group:
    """Assets that one run makes per stretch of keys."""

    assets: list[str] = field(default_factory=list)
    ranges: _Ranges | None = None
    """None while every asset is unpartitioned"""


def works_in_turn(targets: Targets, keys: Keys, upstream: Mapping[str, Collection[str]], *, reason: str) -> list[Work]:
    """The runs that make `targets`, in order. Assets share a run where their keys are the same or they have none, and
    nothing that they read is made by a later one. `upstream` holds what each asset reads.

    >>> days = ["d1", "d2", "d3"]
    >>> targets = {"universe": None, "bars": days, "labels": days[:2], "features": days}
    >>> reads = {"bars": ["universe"], "labels": ["bars"], "features": ["bars"]}
    >>> works = works_in_turn(targets, targets, reads, reason="missing")
    >>> [(work.assets, work.first, work.last) for work in works]
    [(('universe', 'bars', 'features'), 'd1', 'd3'), (('labels',), 'd1', 'd2')]
    """
    groups: list[_Group] = []
    place: dict[str, int] = {}
    for asset, chosen_keys in targets.items():
        ranges = None if chosen_keys is None else runs_over(chosen_keys, keys[asset] or ())
        earliest = max((place[parent] for parent in upstream.get(asset, ()) if parent in place), default=0)
        fitting = (at for at in range(earliest, len(groups)) if _fits(ranges, groups[at].ranges))
        place[asset] = at = next(fitting, len(groups))
        if at == len(groups):
            groups.append(_Group())
        groups[at].assets.append(asset)
        groups[at].ranges = groups[at].ranges or ranges
    return [work for group in groups for work in _works(group, reason)]


def _fits(ranges: _Ranges | None, of_group: _Ranges | None) -> bool:
    """What has no partitions is made once, so it shares no run with assets of several stretches."""
    if ranges is None or of_group is None:
        return len(ranges or of_group or [()]) == 1
    return ranges == of_group


def _works(group: _Group, reason: str) -> list[Work]:
    """A run per stretch."""
    assets = tuple(group.assets)
    if group.ranges is None:
        return [Work(_name(assets, ""), assets, None, None, reason)]
    return [Work(_name(assets, f" {first} to {last}"), assets, first, last, reason) for first, last in group.ranges]


def _name(assets: Sequence[str], span: str) -> str:
    return f"{assets[0]}{f' … {assets[-1]}' if len(assets) > 1 else ''}{span}"
