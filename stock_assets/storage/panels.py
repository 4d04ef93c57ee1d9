"""Rows of many tickers and sessions as a frame that lies in a file and is mapped into memory.

Its pages are read where they are looked at and given back when memory is short, so that a frame may be larger than the
memory. The file has no name: it is gone with the frame, or with the process.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import polars as pl

from stock_assets.files import disk_errors_of
from stock_assets.frames import KEYS
from stock_assets.storage.scratch import frame_in, scratch, scratch_folder


def mapped_by_ticker(store: Path, groups: Sequence[Sequence[str]], parts: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """All rows of `parts`, at least one frame, all with ticker and session among the same columns: sorted by ticker and
    session, in a file beside the store. `groups` of tickers, ascending, hold every one; the rows of a group are in
    memory at a time."""
    with scratch(store, groups, by="ticker") as scratch_rows:
        for part in parts:
            scratch_rows.add(part)
        return mapped(store, (scratch_rows.block(number).sort(KEYS) for number in range(len(groups))))


def mapped(store: Path, parts: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """`parts`, at least one, with the same columns, one after the other, in a file beside the store."""
    import pyarrow as pa

    with scratch_folder(store) as folder, disk_errors_of(folder):
        file, writer = folder / "rows.arrow", None
        for part in parts:
            rows = part.to_arrow()
            writer = writer or pa.ipc.new_file(file, rows.schema)
            writer.write_table(rows)
        assert writer is not None  # of parts there is at least one
        writer.close()
        return frame_in(file)
