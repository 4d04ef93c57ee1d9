"""Rows that are computed ticker by ticker and stored session by session, on the disk in between.

A file per part and block of sessions lies beside the store until its block was read. What a killed process left is
removed by the next one.
"""

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import polars as pl

from stock_assets.files import TEMPORARY, disk_errors_of, is_running, make_folder
from stock_assets.tables import declared

_NAME = "blocks"


class Scratch:
    """Rows with ticker and session of consecutive blocks of sessions, in a folder."""

    def __init__(self, folder: Path, blocks: Sequence[Sequence[date]]) -> None:
        self._folder, self._ends = folder, pl.Series([block[-1] for block in blocks], dtype=pl.Date)
        self._parts = 0

    def add(self, rows: pl.DataFrame) -> None:
        """Keeps `rows`, none of them after the last block."""
        self._parts += 1
        block = self._ends.search_sorted(rows["session"], side="left")
        parts = rows.with_columns(block=block).partition_by("block", include_key=False, as_dict=True)
        for (number,), part in parts.items():
            folder = self._of(number)
            make_folder(folder)
            with disk_errors_of(self._folder):
                part.write_ipc(folder / f"{self._parts}.arrow")

    def each(self, table: str, blocks: Iterable[Sequence[date]], *, keep: bool = False) -> Iterator[pl.DataFrame]:
        """What `read` returns of each of `blocks`; without a row the columns of `table`."""
        for block in blocks:
            rows = self.read(block[0], block[-1], keep=keep)
            yield rows if rows.width else declared(table).empty()

    def read(self, first: date, last: date, *, keep: bool = False) -> pl.DataFrame:
        """The rows from session `first` to `last`, sorted by session and ticker; the blocks up to `last` are removed
        unless they are kept. No column without a row."""
        low, high = self._ends.search_sorted(first), self._ends.search_sorted(last)
        folders = [self._of(number) for number in range(low, high + 1)]
        files = [file for folder in folders for file in sorted(folder.glob("*.arrow"))]
        frames = [pl.read_ipc(file) for file in files]
        if not keep:
            for folder in folders:
                shutil.rmtree(folder, ignore_errors=True)
        if not frames:
            return pl.DataFrame()
        rows = pl.concat(frames)
        return rows.filter(pl.col("session").is_between(first, last)).sort("session", "ticker")

    def _of(self, block: int) -> Path:
        return self._folder / str(block)


@contextmanager
def scratch(store: Path, blocks: Sequence[Sequence[date]]) -> Iterator[Scratch]:
    """An empty `Scratch` of `blocks` (ascending, without gaps between them) beside the file of the store."""
    folders = store.with_name(f"{TEMPORARY}{_NAME}")
    _remove_leftovers(folders)
    folder = folders / f"{os.getpid()}-{id(blocks)}"
    make_folder(folder)
    try:
        yield Scratch(folder, blocks)
    finally:
        shutil.rmtree(folder)


def _remove_leftovers(folders: Path) -> None:
    for folder in folders.glob("*-*"):
        if not is_running(int(folder.name.partition("-")[0])):
            shutil.rmtree(folder, ignore_errors=True)
