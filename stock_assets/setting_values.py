"""Values of settings that are more than one number or word."""

import codecs
import csv
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, BeforeValidator, SecretStr
from pydantic.fields import FieldInfo

from stock_assets.errors import SettingsError
from stock_assets.objects import ObjectPath, Place, place_of

#: What the column of tickers is called in a list of companies.
_TICKER_NAMES = ("ticker", "tickers", "symbol", "symbols", "act_symbol", "code", "ts_code")


def zone_name(text: str) -> str:
    """`text`, the name of a time zone. Raises ValueError for anything else."""
    try:
        ZoneInfo(text)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{text} is no time zone") from error
    return text


@dataclass(frozen=True)
class SessionHours:
    """From when to when a session lasts, in minutes of the clock of `zone`: it ends on its own day, where an end of
    1440 is the midnight after it, and begins on that day or, if the start is no earlier, on the one before."""

    start: int
    end: int
    zone: str

    @classmethod
    def parse(cls, text: str) -> "SessionHours":
        """Of "17:00-17:00 America/New_York" or "00:00-24:00 UTC". Raises ValueError for anything else."""
        parts = re.fullmatch(r"(\d\d):(\d\d)-(\d\d):(\d\d) (\S+)", text.strip())
        if parts is None:
            raise ValueError("not of the form 17:00-17:00 America/New_York")
        *digits, zone = parts.groups()
        hours = [int(digit) for digit in digits]
        start, end = hours[0] * 60 + hours[1], hours[2] * 60 + hours[3]
        if hours[1] > 59 or hours[3] > 59 or start >= 1440 or not 0 < end <= 1440:
            raise ValueError("no time of the day")
        return cls(start, end, zone_name(zone))

    def window(self, session: date) -> tuple[datetime, datetime]:
        """(open, close) of `session`, UTC."""

        def at(minutes: int, day: date) -> datetime:
            day += timedelta(days=minutes // 1440)
            return datetime.combine(day, time(minutes % 1440 // 60, minutes % 60), ZoneInfo(self.zone)).astimezone(UTC)

        return at(self.start, session - timedelta(days=self.start >= self.end)), at(self.end, session)


@dataclass(frozen=True)
class ExtraSession:
    """A session that the exchange's calendar lacks, or has at another time."""

    day: date
    hours: tuple[int, int] | None = None
    """from when to when, in minutes of the exchange's own clock; None for those of the session next to it"""

    @classmethod
    def parse(cls, text: str) -> "ExtraSession":
        """Of "2024-01-20" or "2024-01-20 09:15-12:30". Raises ValueError for anything else.

        >>> ExtraSession.parse("2024-01-20 09:15-12:30").hours
        (555, 750)
        """
        parts = re.fullmatch(r"(\d{4}-\d\d-\d\d)(?:\s+(\d\d):(\d\d)-(\d\d):(\d\d))?", text.strip())
        if parts is None:
            raise ValueError(f"{text!r} is not of the form 2024-01-20 or 2024-01-20 09:15-12:30")
        day, *digits = parts.groups()
        if digits[0] is None:
            return cls(date.fromisoformat(day))
        hours = [int(digit) for digit in digits]
        begin, end = hours[0] * 60 + hours[1], hours[2] * 60 + hours[3]
        if hours[1] > 59 or hours[3] > 59 or not begin < end <= 1440:
            raise ValueError(f"{text!r} holds no times of one day")
        return cls(date.fromisoformat(day), (begin, end))


def _is_currency(text: str) -> str:
    if not (len(text) == 3 and text.isascii() and text.isalpha()):
        raise ValueError("not three letters")
    return text.upper()


def _are_hours(text: str) -> str:
    SessionHours.parse(text)
    return text


#: An ISO 4217 code, and a text of `SessionHours`.
Currency = Annotated[str, AfterValidator(_is_currency)]
Hours = Annotated[str, AfterValidator(_are_hours)]


def _fits_in_an_address(path: Path) -> Path:
    if "?" in str(path):  # the addresses of SQLite files, of Optuna and MLflow, end at a question mark
        raise ValueError("a path with a question mark")
    return path


def _is_a_place(address: object) -> Place:
    if not isinstance(address, str | Path | ObjectPath):
        raise ValueError("no address")
    try:
        return place_of(address)
    except SettingsError as error:
        raise ValueError(str(error)) from None


def _is_a_token(token: SecretStr) -> SecretStr:
    if not re.fullmatch(r"[!-~][ -~]{6,}[!-~]", token.get_secret_value()):
        raise ValueError("too short, or not of ASCII characters")
    return token


def _are_hosts(names: tuple[str, ...]) -> tuple[str, ...]:
    if odd_names := [name for name in names if not re.fullmatch(r"(\[[0-9a-fA-F:]+\]|[\w.-]+)(:\d{1,5})?", name)]:
        raise ValueError(f"{odd_names[0]!r} is no name")
    return names


def _is_a_date_format(text: str) -> str:
    for part, directives in (("year", "%[Yy]"), ("month", "%[mbB]"), ("day", "%[de]")):
        if not re.search(directives, text):
            raise ValueError(f"it has no {part}")
    return text


#: The name of a time zone, and how a file writes dates.
Zone = Annotated[str, AfterValidator(zone_name)]
DateFormat = Annotated[str, AfterValidator(_is_a_date_format)]
DataFolder = Annotated[Path, AfterValidator(_fits_in_an_address)]
#: A folder, or a place in a bucket.
ObjectsAddress = Annotated[Path | ObjectPath, BeforeValidator(_is_a_place)]
#: A secret that a person types: 8 printable ASCII characters or more.
Token = Annotated[SecretStr, AfterValidator(_is_a_token)]
#: Names of this machine as browsers write them, each with or without a port.
HostNames = Annotated[tuple[str, ...], AfterValidator(_are_hosts)]


def _are_sessions(texts: tuple[str, ...]) -> tuple[str, ...]:
    for text in texts:
        ExtraSession.parse(text)
    return texts


#: Texts of which each is an `ExtraSession`.
ExtraSessions = Annotated[tuple[str, ...], AfterValidator(_are_sessions)]


@dataclass(frozen=True)
class LabelRule:
    """What a label looks at: so many sessions ahead, and the returns (fractions, both positive) at its two barriers."""

    horizon: int = 7
    buy_threshold: float = 0.027
    sell_threshold: float = 0.022


def tickers_of_file(path: Path) -> list[str]:
    """The tickers in a file, as they stand there: one per line, several with commas between them, or a table.

    A table has a row of names, of which one is ticker or symbol. Empty lines and what follows a # do not count. Raises
    ValueError for a file that is no text.
    """
    content = path.read_bytes()
    encoding = "utf-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        lines = content.decode(encoding).splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is neither UTF-8 nor UTF-16: {error}") from error
    lines = [text for line in lines if (text := re.sub(r"(^|\s)#.*", "", line).strip())]
    separator = next((mark for mark in "\t;" if lines and mark in lines[0]), ",")
    rows = [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=separator, skipinitialspace=True)]
    names = [cell.lower() for cell in rows[0]] if rows else []
    column = next((names.index(name) for name in _TICKER_NAMES if name in names), None)
    if column is None:
        return [cell for row in rows for cell in row if cell]
    return [row[column] for row in rows[1:] if len(row) > column and row[column]]


def require_model_years(start: date, end: date | None, first: int, *, is_stated: bool) -> None:
    """Raises ValueError, which names the settings, where no model could learn before its `first` year and serve in it.

    `is_stated` is whether a person set the first model year.
    """
    if not is_stated and end is not None and first <= start.year:
        raise ValueError(
            f"STOCK_ASSETS_START={start} and STOCK_ASSETS_END={end} lie in one year; expected two calendar years or "
            "more, since a model learns from the years before the one it serves"
        )
    if first <= start.year:
        raise ValueError(
            f"STOCK_ASSETS_FIRST_MODEL_YEAR={first}; expected a year after STOCK_ASSETS_START={start}, since a model "
            "learns from the years before the one it serves"
        )
    if end is not None and first > end.year:
        raise ValueError(
            f"STOCK_ASSETS_FIRST_MODEL_YEAR={first}; expected a year up to STOCK_ASSETS_END={end}, since a model "
            "serves the sessions of its year"
        )


def split_addresses(value: object) -> object:
    """The addresses of a list or of a text with commas between; anything else as it is. Raises ValueError for one
    without a scheme."""
    if isinstance(value, list):
        value = ",".join(map(str, value))
    if not isinstance(value, str):
        return value
    # an address may hold commas itself, as one of several receivers of a mail
    urls = [url.strip() for url in re.split(r",(?=\s*[\w+.-]+://)", value) if url.strip()]
    if any("://" not in url for url in urls):
        raise ValueError("an address without a scheme such as slack://")
    return tuple(urls)


def tracking_uri(value: str) -> str:
    """A tracking URI of MLflow, as it is. Raises ValueError for anything else."""
    parts = urlsplit(value)
    server = parts.scheme in ("http", "https") and parts.netloc
    file = parts.scheme == "sqlite" and not parts.netloc and parts.path.strip("/")
    if not (server or file):
        raise ValueError("neither off nor a tracking URI")
    return value


def inherited_last(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """The fields of `model` as they are shown: pydantic puts inherited ones first, and a person sets these last."""
    inherited_names = [name for base in model.__bases__ if issubclass(base, BaseModel) for name in base.model_fields]
    fields = model.model_fields
    return {
        name: fields[name] for name in (*(name for name in fields if name not in inherited_names), *inherited_names)
    }
