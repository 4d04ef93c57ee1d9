"""Answers that wait on disk until their rows are stored, so that a killed run does not ask for them again."""

import os
import shutil
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from urllib.parse import quote

import polars as pl


@dataclass(frozen=True)
class Staging:
    """One Parquet file per ticker in a folder that is named by the day and the range that was asked for."""

    folder: Path

    def load(self, ticker: str) -> pl.DataFrame | None:
        """What was saved; None when there is no file, or one that cannot be read: then the ticker is asked for again,
        which costs a request and nothing else."""
        try:
            return pl.read_parquet(self._file(ticker), glob=False)
        except (FileNotFoundError, pl.exceptions.PolarsError):
            return None

    def save(self, ticker: str, bars: pl.DataFrame) -> None:
        """Keeps `bars`; a kill leaves the whole file or none."""
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self._file(ticker)
        temporary = file.with_name(f".{file.name}")
        with temporary.open("wb") as opened:
            bars.write_parquet(opened)
            opened.flush()
            os.fsync(opened.fileno())
        temporary.replace(file)

    def clear(self) -> None:
        """Removes all that was saved."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _file(self, ticker: str) -> Path:
        return self.folder / f"{quote(ticker, safe='^=&')}.parquet"


def staging(root: Path, asked_on: date, first: date, last: date) -> Staging:
    """The place of the answers of a day for a range. Those of other days are removed: a vendor adjusts its history for
    every split and dividend, so that answers of two days do not go together."""
    if root.exists():
        for folder in root.iterdir():
            if not folder.name.startswith(f"{asked_on}_"):
                shutil.rmtree(folder)
    return Staging(root / f"{asked_on}_{first}_{last}")
