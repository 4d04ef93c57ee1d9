"""Answers that wait on disk until their rows are stored, so that a killed run does not ask for them again."""

import shutil
from dataclasses import dataclass
from datetime import date
from io import BytesIO
from pathlib import Path
from urllib.parse import quote

import polars as pl

from stock_assets.files import write_file

#: The file that holds the number of tickers asked for.
_ASKED = "asked"


@dataclass(frozen=True)
class Staging:
    """One Parquet file per ticker in a folder that is named by the day and the range that was asked for."""

    folder: Path

    def expect(self, requested_count: int) -> None:
        """Notes how many tickers are asked for; other processes read it by `progress`."""
        write_file(self.folder / _ASKED, str(requested_count).encode())

    def load(self, ticker: str) -> pl.DataFrame | None:
        """What was saved; None when there is no file, or one that cannot be read: then the ticker is asked for again,
        which costs a request and nothing else."""
        try:
            return pl.read_parquet(self._file(ticker), glob=False)
        except (OSError, pl.exceptions.PolarsError):
            return None

    def save(self, ticker: str, bars: pl.DataFrame) -> None:
        """Keeps `bars`; a kill leaves the whole file or none."""
        content = BytesIO()
        bars.write_parquet(content)
        write_file(self._file(ticker), content.getvalue())

    def clear(self) -> None:
        """Removes all that was saved."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _file(self, ticker: str) -> Path:
        return self.folder / f"{quote(ticker, safe='^=&')}.parquet"


def staging(root: Path, *, asked_on: date, first: date, last: date) -> Staging:
    """The place of the answers of a day for a range. Those of other days are removed: a vendor adjusts its history for
    every split and dividend, so that answers of two days do not go together."""
    if root.exists():
        for folder in root.iterdir():
            if not folder.name.startswith(f"{asked_on}_"):
                shutil.rmtree(folder)
    return Staging(root / f"{asked_on}_{first}_{last}")


def progress(root: Path) -> tuple[int, int] | None:
    """The numbers of tickers done and asked for, of the fetch that wrote last; None without one."""
    try:
        newest = max(root.glob(f"*/{_ASKED}"), key=lambda file: file.stat().st_mtime, default=None)
        return newest and (len(list(newest.parent.glob("[!.]*.parquet"))), int(newest.read_text()))
    except (OSError, ValueError):  # settled meanwhile, or damaged
        return None
