"""Moving saved models, reports and the publication between a folder and a bucket: compared object by object.

The source is never changed. Nothing that the target holds is replaced, so a move that was killed is begun again and
goes on; the pointer of the publication comes last, and until then a reader of the target finds no publication.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from stock_assets.errors import MoveError
from stock_assets.objects import AT_ONCE, Found, Place, found_below, name_below, put_if_absent
from stock_assets.storage.backup import LEFT_OUT, PUBLISHED
from stock_assets.storage.bucket_backup import write_rank


@dataclass(frozen=True)
class MovedObjects:
    """How many objects the target now holds, their bytes, and how many of them it did not hold before."""

    number: int
    bytes: int
    new: int


def move_objects(source: Place, target: Place, *, dry_run: bool) -> MovedObjects:
    """Copies what lies below `source` to `target`; what is published below a place of artifacts is left out there, as
    it is a place of its own.

    Raises MoveError where the target holds anything else; DamagedFileError, BucketError, FileNotFoundError where an
    object cannot be read or written. With `dry_run` nothing is written.
    """
    objects, target_objects = _objects(source), _objects(target)
    if extra := sorted(set(target_objects) - set(objects)):
        raise MoveError(
            f"{target} holds {len(extra)} object(s) that {source} lacks, {extra[0]} first; expected an empty place or "
            "what an earlier move put there. Nothing was written"
        )
    _require_same(source, target, [name for name in objects if name in target_objects])
    missing = sorted(set(objects) - set(target_objects), key=lambda name: (write_rank(name.rpartition("/")[2]), name))
    if not dry_run:
        for rank in (0, 1, 2):  # what names others after them
            names = [name for name in missing if write_rank(name.rpartition("/")[2]) == rank]
            _each(names, lambda name: put_if_absent(target / name, (source / name).read_bytes()))
        _require_same(source, target, missing)
    return MovedObjects(len(objects), sum(file.size for file in objects.values()), len(missing))


def _objects(place: Place) -> dict[str, Found]:
    """What lies below a place, by name, without locks and without what is published below it."""
    files_by_name = {name_below(file.place, place): file for file in found_below(place)}
    return {
        name: file
        for name, file in files_by_name.items()
        if not name.startswith(f"{PUBLISHED}/") and not name.endswith(LEFT_OUT)
    }


def _require_same(source: Place, target: Place, names: Sequence[str]) -> None:
    def differs(name: str) -> bool:
        return (source / name).read_bytes() != (target / name).read_bytes()

    if differing := [name for name, other in zip(names, _each(names, differs), strict=True) if other]:
        raise MoveError(
            f"{target / differing[0]} is not what {source / differing[0]} is, and so are {len(differing) - 1} more; "
            "expected an empty place or what an earlier move put there. Remove them there, and move again"
        )


def _each(names: Sequence[str], act: Callable[[str], bool]) -> list[bool]:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(act, names))
