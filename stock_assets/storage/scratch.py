"""Rows on the disk between the order of tickers, in which they are computed, and that of sessions, in which they lie.

A file per part and block lies beside the store until its block was read. What a killed process left is removed by the
next one.
"""

import os
import shutil
import tempfile
from collections.abc import Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl

from stock_assets.files import TEMPORARY, disk_errors_of, is_running, make_folder
from stock_assets.tables import declared

_NAME = "blocks"

#: What a block is made of.
By = Literal["session", "ticker"]


class Scratch:
    """Rows with ticker and session in a folder, by block: of consecutive sessions, or of tickers.

    Up to `hold` bytes of rows wait in memory, so that those of many groups of tickers on a block of sessions lie in few
    files.
    """

    def __init__(
        self, folder: Path, blocks: Sequence[Sequence[Hashable]], by: By = "session", *, hold: int = 0
    ) -> None:
        self._folder, self._by, self._hold = folder, by, hold
        self._number = {value: number for number, block in enumerate(blocks) for value in block}
        self._parts, self._empty = 0, pl.DataFrame()
        self._waiting: dict[int, list[pl.DataFrame]] = {}
        self._held = 0

    def add(self, rows: pl.DataFrame) -> None:
        """Keeps `rows`, each of which belongs to a block."""
        self._empty = rows.clear()
        values, numbers = list(self._number), list(self._number.values())
        block = rows[self._by].replace_strict(values, numbers, return_dtype=pl.Int32)
        for number, part in _partitioned(rows, block.to_numpy()):
            self._waiting.setdefault(number, []).append(part)
        self._held += rows.estimated_size()
        if self._held > self._hold:
            self._write()

    def _write(self) -> None:
        self._parts += 1
        for number, parts in self._waiting.items():
            folder = self._of(number)
            make_folder(folder)
            with disk_errors_of(self._folder):
                pl.concat(parts, rechunk=True).write_ipc(folder / f"{self._parts}.arrow")
        self._waiting, self._held = {}, 0

    def each(self, table: str, blocks: Iterable[Sequence[date]], *, keep: bool = False) -> Iterator[pl.DataFrame]:
        """What `read` returns of each of `blocks`, which are of sessions; without a row the columns of `table`."""
        for block in blocks:
            rows = self.read(block[0], block[-1], keep=keep)
            yield rows if rows.width else declared(table).empty()

    def read(self, first: date, last: date, *, keep: bool = False) -> pl.DataFrame:
        """The rows from session `first` to `last`, each in a block, sorted by session and ticker; the blocks up to
        `last` are removed unless they are kept. No column where no row was added."""
        return _sorted(self.unsorted(first, last, keep=keep))

    def unsorted(self, first: date, last: date, *, keep: bool = False) -> pl.DataFrame:
        """As `read`, in any order."""
        numbers = range(self._number[first], self._number[last] + 1)
        rows = pl.concat([self.block(number, keep=keep) for number in numbers])
        return rows.filter(pl.col("session").is_between(first, last)) if rows.height else rows

    def block(self, number: int, *, keep: bool = False) -> pl.DataFrame:
        """The rows of one block, in the order in which they were added, which are removed unless they are kept."""
        if self._waiting:
            self._write()
        folder = self._of(number)
        files = sorted(folder.glob("*.arrow"), key=lambda file: int(file.stem))
        frames = [frame_in(file) for file in files]
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
        return pl.concat(frames) if frames else self._empty

    def _of(self, block: int) -> Path:
        return self._folder / str(block)


def frame_in(file: Path) -> pl.DataFrame:
    """The frame in an Arrow file, which is mapped into memory and may be removed meanwhile."""
    import pyarrow as pa

    frame = pl.from_arrow(pa.ipc.open_file(pa.memory_map(str(file))).read_all(), rechunk=False)
    assert isinstance(frame, pl.DataFrame)
    return frame


def _partitioned(rows: pl.DataFrame, block: np.ndarray) -> Iterator[tuple[int, pl.DataFrame]]:
    """(number, its rows in their order) of each number of `block`, int32 [N]."""
    if (block[1:] < block[:-1]).any():
        order = np.argsort(block, kind="stable")
        rows, block = rows[order], block[order]
    begins = np.flatnonzero(np.diff(block, prepend=-1)).tolist()
    for begin, end in zip(begins, [*begins[1:], len(block)], strict=True):
        yield int(block[begin]), rows.slice(begin, end - begin)


def _sorted(rows: pl.DataFrame) -> pl.DataFrame:
    """`rows` by session and ticker. What was added in order is sorted in runs, which a stable sort merges; numbers in
    the place of tickers are sorted several times as fast as texts."""
    if rows.is_empty():
        return rows
    number = rows["ticker"].cast(pl.Enum(rows["ticker"].unique().sort())).to_physical().to_numpy().astype(np.int64)
    key = (rows["session"].to_physical().to_numpy().astype(np.int64) << 32) | number
    return rows if (key[1:] >= key[:-1]).all() else rows[np.argsort(key, kind="stable")]


@contextmanager
def scratch(
    store: Path, blocks: Sequence[Sequence[Hashable]], by: By = "session", *, hold: int = 0
) -> Iterator[Scratch]:
    """An empty `Scratch` of `blocks` beside the file of the store; those of sessions are ascending."""
    with scratch_folder(store) as folder:
        yield Scratch(folder, blocks, by, hold=hold)


@contextmanager
def scratch_folder(store: Path) -> Iterator[Path]:
    """An empty folder of this process beside the file of the store. What killed processes left is removed before."""
    folders = store.with_name(f"{TEMPORARY}{_NAME}")
    for folder in folders.glob("*-*"):
        if not is_running(int(folder.name.partition("-")[0])):
            shutil.rmtree(folder, ignore_errors=True)
    make_folder(folders)
    folder = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=folders))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
