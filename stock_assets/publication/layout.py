"""The form of a publication: what lies where in the folder, what the pointer and an entry of the ledger hold.

    published/
      current.json                                       the pointer: what is published now; renamed last
      ledger/<entry>.json                                who said what, when and why; one entry per publication
      predictions/session=2026-11-20/<digest>.parquet    `tables.PREDICTIONS_FILE`
      bars/session=2026-11-20/<digest>.parquet           `tables.BARS_FILE`
      outcomes/session=2026-11-20/<digest>.parquet       `tables.OUTCOMES_FILE`, once the labels are known
      monitoring/<name>/<digest>.parquet                 one of `tables.MONITORING`
      cards/<version>/<digest>.json                      the card of a model version
      live/alerts.json                                   the open alerts; follows the table, no part of a publication

A file is named by its own digest and is never written twice, so it never changes. A session that is made again gets
another file beside the first, and the ledger says which was published when.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime
from typing import Any, Literal

from stock_assets.errors import PublicationError, PublicationFormError
from stock_assets.objects import Place

#: (major, minor) of the form. Another major is not read; a higher minor only adds.
SCHEMA = (1, 0)

#: The folder's name, below the data folder.
FOLDER = "published"
POINTER = "current.json"
LEDGER = "ledger"
#: The open alerts, beside the publication.
ALERTS = "live/alerts.json"

#: What is published, and what the key of each of its files is: a session, a version or a name.
Kind = Literal["predictions", "bars", "outcomes", "monitoring", "cards"]
BY_SESSION: tuple[Kind, ...] = ("predictions", "bars", "outcomes")
KINDS: tuple[Kind, ...] = (*BY_SESSION, "monitoring", "cards")

#: By kind and key, the digest of the file.
Files = Mapping[Kind, Mapping[str, str]]


def digest_of(content: bytes) -> str:
    """The name of a file: the first 12 hexadecimal digits of its SHA-256.

    >>> digest_of(b"")
    'e3b0c44298fc'
    """
    return hashlib.sha256(content).hexdigest()[:12]


def path_of(kind: Kind, key: str, digest: str) -> str:
    """Where a file lies in the folder.

    >>> path_of("bars", "2026-11-20", "e3b0c44298fc")
    'bars/session=2026-11-20/e3b0c44298fc.parquet'
    """
    folder = f"session={key}" if kind in BY_SESSION else key
    return f"{kind}/{folder}/{digest}.{'json' if kind == 'cards' else 'parquet'}"


@dataclass(frozen=True)
class Upcoming:
    """A session that is not published yet."""

    session: date
    closes_at: datetime
    """UTC"""
    due_at: datetime
    """when its predictions are asked for, UTC; late so long afterwards as `Facts.grace_seconds` says"""


@dataclass(frozen=True)
class Facts:
    """What the predictions are about: the market, the rule of the labels, and what comes next."""

    source: str
    """where the prices come from; 'simulated' is no real market"""
    exchange: str
    zone: str
    """the exchange's own time zone, in which moments are shown"""
    currency: str | None
    first_session: date
    """of the calendar"""
    horizon: int
    """in the ticker's own bars"""
    buy_threshold: float
    """fraction"""
    sell_threshold: float
    """fraction"""
    in_service: str
    """the model that answers when none is named"""
    upcoming: tuple[Upcoming, ...]
    """the next sessions, ascending; empty where the calendar of a snapshot ends"""
    grace_seconds: float
    dagster_url: str | None = None
    mlflow_url: str | None = None
    unpublished: tuple[date, ...] | None = None
    """the sessions between the first and the last published one that have no predictions, ascending; None where nobody
    counted them"""
    absent: tuple[str, ...] = ()
    """what the models lack, one text on each"""

    @property
    def simulated(self) -> bool:
        return self.source == "simulated"


@dataclass(frozen=True)
class Entry:
    """One entry of the ledger. `files` are those that the entry before it does not name, or names otherwise."""

    id: str
    published_at: datetime
    """UTC"""
    previous: str | None
    reason: str
    """why it was published, in one sentence"""
    code_version: str
    champions: Mapping[str, str]
    """the version that serves, by model"""
    files: Files

    def text(self) -> str:
        """The entry as JSON, which `parse_entry` reads."""
        return _text(asdict(self))


@dataclass(frozen=True)
class Pointer:
    """What is published now. `files` are all of them."""

    entry: str
    published_at: datetime
    """UTC"""
    facts: Facts
    champions: Mapping[str, str]
    files: Files
    schema: tuple[int, int] = field(default=SCHEMA)

    @property
    def sessions(self) -> tuple[date, ...]:
        """The sessions with predictions, ascending."""
        return tuple(sorted(map(date.fromisoformat, self.files.get("predictions", {}))))

    def text(self) -> str:
        """The pointer as JSON, which `parse_pointer` reads."""
        return _text(asdict(self))


def entry_id(published_at: datetime, content: str) -> str:
    """The name of an entry: its moment in UTC, then a digest, so that names sort by time.

    >>> entry_id(datetime(2026, 11, 20, 21, 30, tzinfo=UTC), "")
    '20261120T213000.000000Z-e3b0c442'
    """
    return f"{published_at.astimezone(UTC):%Y%m%dT%H%M%S.%f}Z-{digest_of(content.encode())[:8]}"


def parse_pointer(path: Place, content: bytes) -> Pointer:
    """The pointer at `path`. Raises PublicationError that names the file: for what is no pointer, and for one of
    another major version of the form."""
    values = parse_json(path, content)
    schema = values.get("schema")
    if not (isinstance(schema, list) and len(schema) == 2 and all(isinstance(part, int) for part in schema)):
        raise PublicationError(f"{path} has no schema version; expected {SCHEMA[0]}.{SCHEMA[1]}")
    if schema[0] != SCHEMA[0]:
        raise PublicationFormError(
            f"{path} is a publication of form {schema[0]}.{schema[1]}, and this version reads {SCHEMA[0]}.x; run the "
            "server of the version that published it"
        )
    try:
        facts = dict(values["facts"])
        facts["first_session"] = date.fromisoformat(facts["first_session"])
        facts["upcoming"] = tuple(
            Upcoming(date.fromisoformat(row["session"]), _moment(row["closes_at"]), _moment(row["due_at"]))
            for row in facts["upcoming"]
        )
        if (unpublished_days := facts.get("unpublished")) is not None:
            facts["unpublished"] = tuple(map(date.fromisoformat, unpublished_days))
        facts["absent"] = tuple(map(str, facts.get("absent", ())))
        names = Facts.__dataclass_fields__
        return Pointer(
            values["entry"],
            _moment(values["published_at"]),
            Facts(**{name: value for name, value in facts.items() if name in names}),
            dict(values["champions"]),
            _files(values["files"]),
            (schema[0], schema[1]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(path, error) from error


def parse_entry(path: Place, content: bytes) -> Entry:
    """The entry of the ledger at `path`. Raises PublicationError that names the file."""
    values = parse_json(path, content)
    try:
        return Entry(
            values["id"],
            _moment(values["published_at"]),
            values["previous"],
            values["reason"],
            values["code_version"],
            dict(values["champions"]),
            _files(values["files"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(path, error) from error


def _files(values: Mapping[str, Mapping[str, str]]) -> Files:
    return {kind: dict(values.get(kind, {})) for kind in KINDS}


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text} has no time zone")
    return moment.astimezone(UTC)


def parse_json(path: Place, content: bytes) -> dict[str, Any]:
    """The JSON object at `path`. Raises PublicationError that names the file."""
    try:
        values = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, error) from error
    if not isinstance(values, dict):
        raise PublicationError(f"{path} is damaged: {type(values).__name__} in the place of an object")
    return values


def _damaged(path: Place, error: BaseException) -> PublicationError:
    return PublicationError(
        f"{path} is damaged: {type(error).__name__} {error}; publish again: materialize publication"
    )


def _text(values: Mapping[str, Any]) -> str:
    return json.dumps(values, default=_plain, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _plain(value: object) -> str:
    if isinstance(value, date):  # a datetime is one as well
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no place in a publication")
