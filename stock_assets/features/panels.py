"""Numbers of T sessions and N tickers as arrays, in memory or in a file."""

import tempfile
from pathlib import Path

import numpy as np
import polars as pl

from stock_assets.files import disk_errors_of


def filled(shape: tuple[int, int], value: float | bool, folder: Path | None = None) -> np.ndarray:
    """An array whose numbers are all `value`: in memory, or mapped from a file of `folder`, which is gone with it.

    The type is that of `value`: float64 or bool. Pages of a file are given back where memory is short. Raises
    DamagedFileError where the disk is full.

    >>> filled((1, 2), 0.5)
    array([[0.5, 0.5]])
    """
    if folder is None:
        return np.full(shape, value)
    row = np.full(shape[1], value)
    # written, not only mapped: a page that finds no place on the disk later would kill the process
    with disk_errors_of(folder), tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(shape[0]):
            file.write(row.data)
        file.flush()
        return np.memmap(file, row.dtype, "r+", shape=shape) if row.size * shape[0] else np.full(shape, value)


def places(tickers: pl.Series, of: pl.Series) -> np.ndarray:
    """int64: the place of each of `of` among `tickers` (unique, of which every one is one).

    >>> places(pl.Series(["A", "B"]), pl.Series(["B", "A", "B"]))
    array([1, 0, 1])
    """
    return of.cast(pl.Enum(tickers)).to_physical().to_numpy().astype(np.int64)
