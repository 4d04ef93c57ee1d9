"""One published session as arrays in memory, and the sessions that are kept there.

A file never changes and is named by its digest, so a session in memory serves every publication that names the same
files: a new publication costs the reading of what is new in it.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import numpy as np
import polars as pl

from stock_assets.errors import PublicationError, TableError
from stock_assets.frames import PROBABILITIES
from stock_assets.objects import Place
from stock_assets.publication.layout import Kind, Pointer, path_of
from stock_assets.publication.read import Publication
from stock_assets.publication.tables import BARS_FILE, OUTCOMES_FILE, PREDICTIONS_FILE
from stock_assets.tables import Table

#: Sessions that stay in memory from the newest on, and bytes of their arrays: 190 sessions of 500 tickers and 8 models.
NEWEST, NEWEST_BYTES = 260, 18_000_000
#: Bytes of the older sessions that were asked for last.
OLDER_BYTES = 2_000_000
EPOCH = date(1970, 1, 1).toordinal()


class DamagedFile(PublicationError):
    """A published file that is absent or is not what its name says. `file` names it within the folder."""

    def __init__(self, file: str, reason: str) -> None:
        super().__init__(f"{file} {reason}")
        self.file, self.why = file, reason


class Files(NamedTuple):
    """The digests of a session's files; None where it has no such file."""

    session: str
    predictions: str
    bars: str | None
    outcomes: str | None

    @classmethod
    def of(cls, pointer: Pointer, session: date) -> "Files | None":
        """The files of `session`; None where it has no predictions."""
        key, files = str(session), pointer.files
        predictions = files["predictions"].get(key)
        if predictions is None:
            return None
        return cls(key, predictions, files["bars"].get(key), files["outcomes"].get(key))


@dataclass(frozen=True)
class ModelRows:
    """What one model says of the tickers of a session, in their order. Every array has one entry per ticker."""

    tickers: Mapping[str, int]
    """the place of each ticker"""
    probabilities: np.ndarray
    """float64 [N, 3]: p_sell, p_hold, p_buy, as they are published"""
    scores: np.ndarray | None
    """float64 [N]; None where each is p_buy - p_sell to the last bit"""
    ranks: np.ndarray
    """int16 [N], int32 of more than 32,767 tickers"""
    versions: tuple[tuple[str, date | None], ...]
    """(version, cutoff) of those that made the rows"""
    version_of: np.ndarray | None
    """uint8 [N], the place in `versions`; None where there is one alone"""

    @property
    def size(self) -> int:
        """The bytes of its arrays."""
        arrays = (self.probabilities, self.scores, self.ranks, self.version_of)
        # of equal rows one alone is there
        return sum(array.nbytes if array.strides[0] else array[0].nbytes for array in arrays if array is not None)

    def version(self, row: int) -> tuple[str, date | None]:
        return self.versions[0 if self.version_of is None else self.version_of[row]]

    def score(self, row: int) -> float:
        if self.scores is not None:
            return float(self.scores[row])
        sell, _hold, buy = self.probabilities[row].tolist()
        return buy - sell


@dataclass(frozen=True)
class Outcomes:
    """What came true of a session. Every array has one entry per ticker."""

    tickers: Mapping[str, int]
    labels: np.ndarray
    """int8 [N]"""
    known_on: np.ndarray
    """int32 [N]: the session on which the label became known, in days since 1970"""

    def of(self, ticker: str) -> tuple[int, date] | None:
        """(label, the session on which it became known); None where it is not known."""
        place = self.tickers.get(ticker)
        if place is None:
            return None
        return int(self.labels[place]), date.fromordinal(EPOCH + int(self.known_on[place]))


@dataclass(frozen=True)
class Day:
    """A published session. Nothing of it changes."""

    session: date
    models: Mapping[str, ModelRows]
    left_out: Mapping[str, str | None]
    """why, by ticker"""
    suspect: Mapping[str, str]
    """why the bar is, by ticker"""
    outcomes: Outcomes

    @cached_property
    def size(self) -> int:
        """The bytes of its arrays."""
        outcomes = self.outcomes.labels.nbytes + self.outcomes.known_on.nbytes
        return outcomes + sum(rows.size for rows in self.models.values())

    @cached_property
    def tickers(self) -> list[str]:
        """Every ticker with a row, sorted."""
        return sorted({*self.left_out, *(ticker for rows in self.models.values() for ticker in rows.tickers)})

    def holds(self, ticker: str) -> bool:
        return ticker in self.left_out or any(ticker in rows.tickers for rows in self.models.values())


@dataclass
class Shared:
    """Values that most sessions have in common, kept once: their lists of tickers and the labels' objects."""

    tickers: dict[tuple[str, ...], Mapping[str, int]] = field(default_factory=dict)

    def places(self, tickers: list[str]) -> Mapping[str, int]:
        key = tuple(tickers)
        if key not in self.tickers:
            if len(self.tickers) > NEWEST:  # an index that changes every day: the oldest lists go
                self.tickers.pop(next(iter(self.tickers)))
            self.tickers[key] = {ticker: place for place, ticker in enumerate(key)}
        return self.tickers[key]


def frame_of(publication: Publication, table: Table, *, kind: Kind, key: str) -> pl.DataFrame:
    """A published file as `table` declares it. Raises DamagedFile for what is absent, damaged or of other columns."""
    digest = publication.pointer.files[kind].get(key)
    if digest is None:
        return table.empty()
    file = path_of(kind, key, digest)
    content = content_of(publication, kind, key)
    try:
        # a later minor version of the form may have further columns
        frame = table.fit(pl.read_parquet(BytesIO(content)).select(table.names))
    except (pl.exceptions.PolarsError, TableError) as error:
        raise DamagedFile(file, f"is damaged: {type(error).__name__}") from error
    # of all columns at once: a page of a ticker's history reads hundreds of files
    finite = frame.select(pl.selectors.float().is_finite().all())
    for name, is_so in zip(finite.columns, *finite.rows() or [()], strict=True):
        if not is_so:
            raise DamagedFile(file, f"is damaged: {name} holds a number that is not finite")
    return frame


def content_of(publication: Publication, kind: Kind, key: str) -> bytes:
    """The bytes of a published file. Raises DamagedFile; KeyError where `key` has none."""
    digest = publication.pointer.files[kind][key]
    try:
        return publication.content(kind, key, digest)
    except PublicationError as error:
        raise DamagedFile(path_of(kind, key, digest), relative(error, publication.folder)) from error


def file_of(publication: Publication, kind: Kind, key: str) -> Path:
    """A file of this machine with what `content_of` returns. Raises as that."""
    digest = publication.pointer.files[kind][key]
    try:
        return publication.file(kind, key, digest)
    except PublicationError as error:
        raise DamagedFile(path_of(kind, key, digest), relative(error, publication.folder)) from error


def relative(error: PublicationError, folder: Place) -> str:
    """What `error` says, without where the folder lies on this machine.

    >>> relative(PublicationError("/home/me/published/current.json is damaged"), Path("/home/me/published"))
    'current.json is damaged'
    """
    return str(error).replace(f"{folder}/", "").replace(str(folder), "the folder of what is published")


def read_day(publication: Publication, files: Files, shared_arrays: Shared, *, ticker: str | None = None) -> Day:
    """The session of `files`, or what it holds of one ticker. Raises DamagedFile."""
    key, session = files.session, date.fromisoformat(files.session)
    frame = frame_of(publication, PREDICTIONS_FILE, kind="predictions", key=key)
    bars = frame_of(publication, BARS_FILE, kind="bars", key=key)
    outcomes = frame_of(publication, OUTCOMES_FILE, kind="outcomes", key=key)
    models = frame["model"].drop_nulls().unique().sort().to_list()
    if ticker is not None:
        frame, bars, outcomes = (
            rows_of_kind.filter(pl.col("ticker") == ticker) for rows_of_kind in (frame, bars, outcomes)
        )
    predicted_rows = frame.filter(pl.col("status") == "predicted").sort("model", "ticker")
    of_model = {model: rows for (model,), rows in predicted_rows.partition_by("model", as_dict=True).items()}
    absent_rows = frame.filter(pl.col("status") != "predicted")
    suspects = bars.filter(pl.col("suspect").is_not_null())
    labels = outcomes.drop_nulls(["label", "horizon_end"])
    required = ["model", "model_version", *PROBABILITIES, "score", "rank"]
    if predicted_rows.select(required).null_count().transpose().to_series().sum():
        file = path_of("predictions", key, files.predictions)
        raise DamagedFile(file, "is damaged: a predicted row lacks a value")
    return Day(
        session,
        {model: _model_rows(of_model.get(model, predicted_rows.clear()), shared_arrays) for model in models},
        dict(zip(absent_rows["ticker"].to_list(), absent_rows["reason"].to_list(), strict=True)),
        dict(zip(suspects["ticker"].to_list(), suspects["suspect"].to_list(), strict=True)),
        Outcomes(
            shared_arrays.places(labels["ticker"].to_list()),
            labels["label"].to_numpy().copy(),
            labels["horizon_end"].to_physical().to_numpy().copy(),
        ),
    )


def _model_rows(rows: pl.DataFrame, shared_arrays: Shared) -> ModelRows:
    probabilities = np.ascontiguousarray(rows.select(PROBABILITIES).to_numpy(), dtype=np.float64)
    scores = rows["score"].to_numpy()
    versions = list(zip(rows["model_version"].to_list(), rows["trained_through"].to_list(), strict=True))
    places = {version: place for place, version in enumerate(dict.fromkeys(versions))}
    codes = [places[version] for version in versions]
    differ = not np.array_equal(scores, probabilities[:, 2] - probabilities[:, 0])
    if len(probabilities) > 1 and (probabilities == probabilities[0]).all():  # a prior says the same of every ticker
        probabilities = np.broadcast_to(probabilities[0].copy(), probabilities.shape)
    ranks = rows["rank"].to_numpy()
    return ModelRows(
        shared_arrays.places(rows["ticker"].to_list()),
        probabilities,
        scores.copy() if differ else None,
        ranks.astype(np.int16 if ranks.max(initial=0) <= np.iinfo(np.int16).max else np.int32),
        tuple(places),
        None if len(places) == 1 else np.array(codes, np.uint8),
    )


class Days:
    """The sessions in memory. Threads may share it."""

    def __init__(self, *, newest_bytes: int = NEWEST_BYTES, older_bytes: int = OLDER_BYTES) -> None:
        self._newest_bytes, self._older_bytes = newest_bytes, older_bytes
        self._days: dict[Files, Day] = {}
        self._older: OrderedDict[Files, Day] = OrderedDict()
        self._newest: frozenset[Files] = frozenset()
        self._shared, self._lock = Shared(), Lock()

    def get(self, files: Files) -> Day | None:
        """The session, where it is in memory."""
        day = self._days.get(files)
        if day is None and (day := self._older.get(files)) is not None:
            with self._lock:
                if files in self._older:
                    self._older.move_to_end(files)
        return day

    def read(self, publication: Publication, files: Files) -> Day:
        """The session, from its files where it is not in memory. Raises DamagedFile."""
        if (day := self.get(files)) is not None:
            return day
        day = read_day(publication, files, self._shared)
        with self._lock:
            if files in self._newest:
                self._days[files] = day
                while len(self._days) > 1 and size_of(self._days) > self._newest_bytes:
                    del self._days[min(self._days, key=lambda held_files: held_files.session)]
            else:
                self._older[files] = day
                while len(self._older) > 1 and size_of(self._older) > self._older_bytes:
                    self._older.popitem(last=False)
        return day

    @property
    def is_full(self) -> bool:
        """Whether another session would displace the oldest one of the newest."""
        return size_of(self._days) * (len(self._days) + 1) > self._newest_bytes * len(self._days)

    def keep(self, pointer: Pointer) -> list[Files]:
        """Makes the newest sessions of `pointer` those that stay, and returns them, the newest first."""
        newest = [files for session in pointer.sessions[::-1][:NEWEST] if (files := Files.of(pointer, session))]
        with self._lock:
            self._newest = frozenset(newest)
            for files in [files for files in self._days if files not in self._newest]:
                del self._days[files]
            for files in [files for files in self._older if files in self._newest]:
                self._days[files] = self._older.pop(files)
        return newest


def size_of(days: Mapping[Files, Day]) -> int:
    """The bytes of their arrays."""
    return sum(day.size for day in days.values())
