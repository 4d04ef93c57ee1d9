"""What is published of bars below a day: files that never change, and a pointer to what is newest.

    published/
      bars.json                                               the pointer: the newest bar; renamed last
      bar_predictions/session=2026-11-20/<digest>.parquet     `FILE`: the bars that one look added

A bar is said once: where a later look predicts it again, since it was revised, what was said stays.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from typing import Any

import polars as pl

from stock_assets.errors import PublicationError
from stock_assets.frames import BAR_KEYS
from stock_assets.model.bar_tables import BAR_PREDICTIONS
from stock_assets.objects import Place, found_below, put, read_all
from stock_assets.publication.layout import digest_of, parse_json
from stock_assets.publication.write import parquet_of
from stock_assets.tables import UTC_TIME

#: (major, minor) of the form. Another major is not read.
SCHEMA = (1, 0)
POINTER, FOLDER = "bars.json", "bar_predictions"
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
    """source, exchange, interval, horizon, barrier_width and in_service"""


def put_bars(folder: Place, session: date, rows: pl.DataFrame, *, now: datetime) -> str:
    """Writes `rows` (`BAR_PREDICTIONS` of one session) as one file, and returns its digest. Raises PublicationError for
    a number that is not finite."""
    said = rows.with_columns(published_at=pl.lit(now).cast(UTC_TIME)).select(FILE.names()).sort("model", *BAR_KEYS)
    data = parquet_of(said, f"{FOLDER} {session}")
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
        values = parse_json(path, path.read_bytes())
    except FileNotFoundError:
        return None
    try:
        if values["schema"][0] != SCHEMA[0]:
            raise PublicationError(f"{path} is of form {values['schema']}; this version reads {SCHEMA[0]}.x")
        return BarPointer(
            date.fromisoformat(values["session"]),
            datetime.fromisoformat(values["bar_end"]).astimezone(UTC),
            datetime.fromisoformat(values["published_at"]).astimezone(UTC),
            values["digest"],
            dict(values["facts"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise PublicationError(f"{path} is damaged: {error!r}; publish again: materialize bar_publication") from error


def read_bar_predictions(folder: Place, session: date) -> pl.DataFrame:
    """`FILE` of a session, sorted by model, ticker and bar: what was said first of every bar; no row where nothing was.

    Raises PublicationError for a file that is not what its name says.
    """
    parts = [FILE.to_frame()]
    places = [found.place for found in found_below(folder / FOLDER / f"session={session}")]
    for path, content in zip(places, read_all(places), strict=True):
        if f"{digest_of(content)}.parquet" != path.name:
            raise PublicationError(f"{path} is damaged: its digest is {digest_of(content)}; restore it from a backup")
        parts.append(pl.read_parquet(content))
    rows = pl.concat(parts).sort("published_at", maintain_order=True)
    return rows.unique(["model", *BAR_KEYS], keep="first").sort("model", *BAR_KEYS)
