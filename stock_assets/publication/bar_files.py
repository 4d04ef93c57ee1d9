"""What is published of bars below a day: files that never change, and a pointer to what is newest.

    published/
      bar_backtest.json                                       the back-test of the newest sessions; replaced by a rename
      bars.json                                               the pointer: the newest bar; renamed last
      bar_predictions/session=2026-11-20/<digest>.parquet     `FILE`: the bars that one look added; once the session is
                                                              over, one file with all of them takes their place

A bar is said once: where a later look predicts it again, since it was revised, what was said stays.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from types import MappingProxyType
from typing import Any

import polars as pl

from stock_assets.errors import PublicationError
from stock_assets.frames import BAR_KEYS
from stock_assets.model.bar_tables import BAR_PREDICTIONS
from stock_assets.objects import Place, delete, found_below, put, read_all
from stock_assets.publication.layout import digest_of, parse_json
from stock_assets.publication.write import parquet_of
from stock_assets.tables import UTC_TIME

#: (major, minor) of the form. Another major is not read.
SCHEMA = (1, 1)
POINTER, FOLDER, BACKTEST = "bars.json", "bar_predictions", "bar_backtest.json"
#: The columns of a file: those of the table, and when it was said.
FILE = pl.Schema({**BAR_PREDICTIONS.schema, "published_at": UTC_TIME})


@dataclass(frozen=True)
class BarPointer:
    """What is newest."""

    session: date
    bar_end: datetime
    """the end of the newest published bar, UTC"""
    published_at: datetime
    """UTC"""
    digest: str
    """of the newest file"""
    facts: Mapping[str, Any]
    """source, exchange, interval, horizon, barrier_width and in_service; champion, the version that served the newest
    bar; next_bar_end, and late_after, the moment from which on that bar is late (ISO 8601; null after the last one)"""


def put_bars(folder: Place, session: date, rows: pl.DataFrame, *, now: datetime) -> str:
    """Writes `rows` (`BAR_PREDICTIONS` of one session) as one file, and returns its digest. Raises PublicationError for
    a number that is not finite."""
    return _put(folder, session, rows.with_columns(published_at=pl.lit(now).cast(UTC_TIME)))


def _put(folder: Place, session: date, rows: pl.DataFrame) -> str:
    file_rows = rows.select(FILE.names()).sort("model", *BAR_KEYS)
    data = parquet_of(file_rows, f"{FOLDER} {session}")
    digest = digest_of(data)
    put(folder / FOLDER / f"session={session}" / f"{digest}.parquet", data)
    return digest


def point_to(folder: Place, pointer: BarPointer) -> None:
    """Makes `pointer` what is newest, unless a later bar is published already."""
    try:
        before = read_bar_pointer(folder)
    except PublicationError:
        before = None  # a damaged one is made anew
    if before is None or before.bar_end <= pointer.bar_end:
        values = {"schema": SCHEMA, **asdict(pointer)}
        put(folder / POINTER, json.dumps(values, default=lambda value: value.isoformat()).encode())


def read_bar_pointer(folder: Place) -> BarPointer | None:
    """The newest bar that is published; None before one was. Raises PublicationError for a damaged pointer, or one of
    another major version."""
    path = folder / POINTER
    try:
        if (values := _document(path)) is None:
            return None
        return BarPointer(
            date.fromisoformat(values["session"]),
            datetime.fromisoformat(values["bar_end"]).astimezone(UTC),
            datetime.fromisoformat(values["published_at"]).astimezone(UTC),
            values["digest"],
            dict(values["facts"]),
        )
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise PublicationError(f"{path} is damaged: {error!r}; publish again: materialize bar_publication") from error


def _document(path: Place) -> dict[str, Any] | None:
    """The JSON object at `path`; None where there is none. Raises PublicationError for another major version or no
    JSON, and KeyError, TypeError or IndexError where the version is damaged."""
    try:
        values = parse_json(path, path.read_bytes())
    except FileNotFoundError:
        return None
    if values["schema"][0] != SCHEMA[0]:
        raise PublicationError(f"{path} is of form {values['schema']}; this version reads {SCHEMA[0]}.x")
    return values


def read_bar_predictions(folder: Place, session: date) -> pl.DataFrame:
    """`FILE` of a session, sorted by model, ticker and bar: what was said first of every bar; no row where nothing was.

    Raises PublicationError for a file that is not what its name says.
    """
    return _said_first(_contents(folder, session))


def follow_bar_predictions(
    folder: Place, session: date, known_parts: Mapping[Place, pl.DataFrame]
) -> tuple[pl.DataFrame, dict[Place, pl.DataFrame]]:
    """As `read_bar_predictions` for a reader that follows a running session: (rows, the files that they are of). Those
    of an earlier call, `known_parts`, are not read again. Raises as that."""
    parts = _contents(folder, session, known_parts)
    return _said_first(parts), parts


def merge_bars(folder: Place, session: date) -> str | None:
    """Makes one file of those of a session that is over, with what was said first of every bar; returns its digest,
    None where there is none. The files that it holds stay until `remove_merged`. Raises as `read_bar_predictions`."""
    parts = _contents(folder, session)
    if len(parts) < 2:
        return next((path.name.removesuffix(".parquet") for path in parts), None)
    return _put(folder, session, _said_first(parts))


def remove_merged(folder: Place, session: date, digest: str) -> int:
    """Removes the files of `session` that the one of `digest` holds the rows of, and returns their number. Of a kill
    before it is done, readers see nothing: the rows that are there twice are the same.

    Raises PublicationError where one of them has a row that the file of `digest` lacks; nothing is removed then.
    """
    parts = _contents(folder, session)
    others = {path: rows for path, rows in parts.items() if path.name != f"{digest}.parquet"}
    if not others:
        return 0
    whole = next(rows for path, rows in parts.items() if path.name == f"{digest}.parquet")
    for path, rows in others.items():
        if (lacking := rows.join(whole, on=["model", *BAR_KEYS], how="anti")).height:
            row = lacking.row(0, named=True)
            raise PublicationError(
                f"{path} holds {row['ticker']} at {row['bar_end']}, which {digest}.parquet lacks; expected a file with "
                "all of the session: materialize bar_publication again"
            )
    for path in others:
        delete(path)
    return len(others)


def _contents(
    folder: Place, session: date, known_parts: Mapping[Place, pl.DataFrame] = MappingProxyType({})
) -> dict[Place, pl.DataFrame]:
    """`FILE` by the files of a session, without reading those of `known_parts`. One that a merge removes
    meanwhile is read again as a part of its whole."""
    while True:
        places = [file.place for file in found_below(folder / FOLDER / f"session={session}")]
        new = [place for place in places if place not in known_parts]
        try:
            contents = read_all(new)
        except FileNotFoundError:
            continue
        break
    parts = {place: known_parts[place] for place in places if place in known_parts}
    for path, content in zip(new, contents, strict=True):
        if f"{digest_of(content)}.parquet" != path.name:
            raise PublicationError(f"{path} is damaged: its digest is {digest_of(content)}; restore it from a backup")
        parts[path] = pl.read_parquet(content)
    return parts


def _said_first(parts: Mapping[Place, pl.DataFrame]) -> pl.DataFrame:
    rows = pl.concat([FILE.to_frame(), *parts.values()]).sort("published_at", maintain_order=True)
    return rows.unique(["model", *BAR_KEYS], keep="first").sort("model", *BAR_KEYS)


def put_backtest(folder: Place, document: Mapping[str, Any]) -> None:
    """Writes the back-test (`bar_backtest.backtest_document`) in the place of the one before. Raises ValueError for a
    number that is not finite."""
    put(folder / BACKTEST, json.dumps(document, allow_nan=False).encode())


def read_backtest(folder: Place) -> dict[str, Any] | None:
    """The back-test that is published; None before one was. Raises PublicationError for a damaged one, or one of
    another major version."""
    path = folder / BACKTEST
    try:
        if (values := _document(path)) is None:
            return None
        for book in values["books"]:
            _ = book["book"], book["equity"]
    except (KeyError, TypeError, IndexError) as error:
        raise PublicationError(f"{path} is damaged: {error!r}; make it again: materialize backtest") from error
    return dict(values)
