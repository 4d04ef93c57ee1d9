"""A publisher that is killed at one of its steps, in a process of its own.

Importing this module imports all that a publication needs and computes nothing: a process with it can be forked.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from stock_assets import files
from stock_assets.publication.materialize.publish import publish_sessions
from stock_assets.storage.registry import NoRegistry
from stock_assets.storage.warehouse import Warehouse
from stock_assets_tests.publication.markets import NOW, sessions_of, settings_of

COUNT = 12


@contextmanager
def stepping(at_step: int, disturb: Callable[[], None]) -> Iterator[list[str]]:
    """Calls `disturb` after the step of that number, counted from 1; yields the steps: what was written, renamed and
    committed, in order."""
    steps: list[str] = []

    def done(step: str) -> None:
        steps.append(step)
        if len(steps) == at_step:
            disturb()

    write, rename, commit = files.write_synced, Path.replace, Warehouse.write

    def written(path: Path, content: bytes) -> None:
        write(path, content)
        done(f"write {_kind(path)}")

    def renamed(path: Path, target: Path) -> Path:
        moved = rename(path, target)
        done(f"rename {_kind(target)}")
        return moved

    def committed(store: Warehouse, changes: list) -> None:
        commit(store, changes)
        done("commit")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "write_synced", written)
        patch.setattr(Path, "replace", renamed)
        patch.setattr(Warehouse, "write", committed)
        yield steps


def _kind(path: Path) -> str:
    """The folder of a published file, or the pointer."""
    parts = path.parts[path.parts.index("published") + 1 :]
    return parts[0] if len(parts) > 1 else "current.json"


def publish_last(folder: Path) -> None:
    """What an evening does: the last session is published after the others."""
    settings = settings_of(folder)
    last = sessions_of(settings, COUNT)[-1:]
    publish_sessions(Warehouse(settings.database), settings, last, registry=NoRegistry(), now=NOW + timedelta(days=1))


def killed_after(folder: Path, step: int) -> None:
    """Publishes in a process that ends without a word after its step of that number."""
    with stepping(step, lambda: os._exit(9)):
        publish_last(folder)
