"""Every setting, from the settings file and the environment (`settings_file`), checked once.

A wrong value is one clear line: the variable or the file, what it holds, and what was expected.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, HttpUrl, SecretStr, ValidationError, field_validator, model_validator

from stock_assets.errors import SettingsError
from stock_assets.settings_file import PREFIX, Given, gather

PROJECT_DIR = Path(__file__).resolve().parent.parent
#: Settings that hold a password or a key: no output and no error shows their value.
SECRETS = ("alert_webhook", "alert_urls")
#: The value of the setting `membership` for the S&P 500 as Wikipedia lists it.
FROM_WIKIPEDIA = "wikipedia"
#: The market context series that a source is asked for where the setting `context` is unset.
CONTEXT_SERIES = ("^VIX", "^GSPC", "SPY")
#: Bytes of a file of tickers: far more than there are on all exchanges.
MOST_BYTES_OF_TICKERS = 5_000_000
#: The calendar is computed up to this day and no further. Fixed, never `now() + …`: the closures are part of
#: the identity of the partition definitions, which must not change from one day to the next.
CALENDAR_END = date(2035, 12, 31)


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
        try:
            ZoneInfo(zone)
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(f"{zone} is no time zone") from error
        return cls(start, end, zone)

    def window(self, session: date) -> tuple[datetime, datetime]:
        """(open, close) of `session`, UTC."""

        def at(minutes: int, day: date) -> datetime:
            day += timedelta(days=minutes // 1440)
            return datetime.combine(day, time(minutes % 1440 // 60, minutes % 60), ZoneInfo(self.zone)).astimezone(UTC)

        return at(self.start, session - timedelta(days=self.start >= self.end)), at(self.end, session)


@dataclass(frozen=True)
class LabelRule:
    """What a label looks at: so many sessions ahead, and the returns (fractions, both positive) at its two barriers."""

    horizon: int = 7
    buy_threshold: float = 0.027
    sell_threshold: float = 0.022


class Settings(BaseModel):
    """What one installation of stock_assets works on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str = Field(
        default="simulated",
        pattern="^[a-z][a-z0-9_-]*$",
        description="the name of the source that prices come from, in small letters",
    )
    snapshot: Path | None = Field(
        default=None, description="a Parquet file, a CSV, or a folder of either; the snapshot source reads it"
    )
    data_dir: Path = Field(
        default_factory=lambda data: PROJECT_DIR / "data" / data.get("source", "simulated"),
        description="the folder of the DuckDB file, the model artifacts and Dagster's own storage",
    )
    start: date = Field(default=date(2023, 1, 3), description="the first session, as YYYY-MM-DD")
    end: date | None = Field(
        default=None, description="the last session of a closed snapshot, as YYYY-MM-DD; open when unset"
    )
    tickers: tuple[str, ...] | None = Field(
        default=None,
        description="tickers separated by commas, or a file with one per line; all the source has when unset",
    )
    context: tuple[str, ...] | None = Field(
        default=None,
        description="index and fund symbols separated by commas, or off; ^VIX,^GSPC,SPY when unset (of a snapshot "
        "those that it holds)",
    )
    membership: str | None = Field(
        default=None,
        description="a Parquet or CSV file with ticker, start_date and end_date of every membership, or wikipedia for "
        "the S&P 500; every ticker is a member as long as the source has it when unset",
    )
    members_only: bool = Field(
        default=True,
        description="true or false: whether only the members of a session train, are predicted and are scored",
    )
    first_model_year: int | None = Field(
        default=None,
        description="the first year that a model serves; two full years after the start when unset",
    )
    exchange: str = Field(default="XNYS", description="an exchange_calendars code")
    currency: str | None = Field(
        default=None, description="the ISO 4217 code of the prices, such as USD; the exchange's when unset"
    )
    session_hours: str | None = Field(
        default=None,
        description="from when to when a session lasts, such as 17:00-17:00 America/New_York; as the exchange has it "
        "when unset",
    )
    horizon: int = Field(default=7, ge=1, le=60, description="sessions a label looks ahead")
    buy_threshold: float = Field(
        default=0.027, gt=0, lt=1, description="the return, as a fraction, above which a label is buy"
    )
    sell_threshold: float = Field(
        default=0.022, gt=0, lt=1, description="the loss, as a positive fraction, below which a label is sell"
    )
    seed: int = Field(default=0, ge=0, description="seeds the simulated market and the training")
    mlflow: str | None = Field(
        default=None,
        description="off, or a tracking URI of MLflow (http://host:port, sqlite:///file); a SQLite file in the data "
        "folder when unset",
    )
    after_close_minutes: int = Field(
        default=60, ge=0, le=720, description="minutes after the close of a session before it is fetched, 0 to 720"
    )
    max_failed_share: float = Field(
        default=0.05, ge=0, lt=1, description="the share of the tickers that may fail before a run does, 0 to below 1"
    )
    requests_per_second: float = Field(
        default=2.0, gt=0, le=50, description="requests a second that the yahoo source makes, above 0 to 50"
    )
    alert_webhook: HttpUrl | None = Field(
        default=None,
        description="the http(s) address that alerts are posted to as JSON; they are only logged when unset",
    )
    alert_urls: tuple[SecretStr, ...] = Field(
        default=(),
        description="apprise addresses separated by commas that alerts are sent to as well, such as slack://…, "
        "mailto://… or tgram://…",
    )
    extensions: tuple[str, ...] = Field(
        default=(), description="Python modules separated by commas that add to stock_assets and are imported first"
    )

    @field_validator("extensions", mode="before")
    @classmethod
    def _split_names(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("tickers", mode="before")
    @classmethod
    def _split_tickers(cls, value: object) -> object:
        if isinstance(value, list):
            value = ",".join(map(str, value))
        if not isinstance(value, str):
            return value
        if "," not in value and Path(value).is_file():
            if (size := Path(value).stat().st_size) > MOST_BYTES_OF_TICKERS:
                most = MOST_BYTES_OF_TICKERS / 1e6
                raise ValueError(f"a file of {size / 1e6:,.0f} MB; at most {most:g} MB of tickers")
            value = ",".join(Path(value).read_text().splitlines())
        tickers = tuple(dict.fromkeys(part.strip().upper() for part in value.split(",") if part.strip()))
        if not tickers:
            raise ValueError("expected tickers separated by commas, or a file with one per line")
        return tickers

    @field_validator("context", mode="before")
    @classmethod
    def _split_series(cls, value: object) -> object:
        return () if value in ("", "off", []) else cls._split_tickers(value)

    @field_validator("session_hours")
    @classmethod
    def _are_hours(cls, value: str | None) -> str | None:
        if value is not None:
            SessionHours.parse(value)
        return value

    @field_validator("currency")
    @classmethod
    def _is_a_currency(cls, value: str | None) -> str | None:
        if value is not None and not (len(value) == 3 and value.isascii() and value.isalpha()):
            raise ValueError("not three letters")
        return value and value.upper()

    @field_validator("alert_urls", mode="before")
    @classmethod
    def _split_urls(cls, value: object) -> object:
        if isinstance(value, list):
            value = ",".join(map(str, value))
        if not isinstance(value, str):
            return value
        # an address may hold commas itself, as one of several receivers of a mail
        urls = [url.strip() for url in re.split(r",(?=\s*[\w+.-]+://)", value) if url.strip()]
        if any("://" not in url for url in urls):
            raise ValueError("an address without a scheme such as slack://")
        return tuple(urls)

    @field_validator("membership")
    @classmethod
    def _is_wikipedia_or_a_file(cls, value: str | None) -> str | None:
        if value is not None and value != FROM_WIKIPEDIA and not Path(value).is_file():
            raise ValueError("no such file")
        return value

    @field_validator("mlflow")
    @classmethod
    def _names_a_registry(cls, value: str | None) -> str | None:
        if value is None or value == "off":
            return value
        parts = urlsplit(value)
        server = parts.scheme in ("http", "https") and parts.netloc
        file = parts.scheme == "sqlite" and not parts.netloc and parts.path.strip("/")
        if not (server or file):
            raise ValueError("neither off nor a tracking URI")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> "Settings":
        if self.source == "snapshot" and self.snapshot is None:
            raise ValueError(
                f"{PREFIX}SNAPSHOT is not set; {PREFIX}SOURCE=snapshot expects a Parquet file, a CSV or a folder"
            )
        if self.end is not None and self.end < self.start:
            raise ValueError(f"{PREFIX}END={self.end} lies before {PREFIX}START={self.start}; expected a later session")
        if not date(1990, 1, 1) <= self.start < CALENDAR_END:
            raise ValueError(f"{PREFIX}START={self.start}; expected a day from 1990-01-01 to {CALENDAR_END}")
        if self.model_start_year <= self.start.year:
            raise ValueError(
                f"{PREFIX}FIRST_MODEL_YEAR={self.model_start_year}; expected a year after {PREFIX}START="
                f"{self.start}, since a model learns from the years before the one it serves"
            )
        if self.end is not None and self.model_start_year > self.end.year:
            raise ValueError(
                f"{PREFIX}FIRST_MODEL_YEAR={self.model_start_year}; expected a year up to {PREFIX}END={self.end}, "
                "since a model serves the sessions of its year"
            )
        return self

    @property
    def model_start_year(self) -> int:
        """The first model year: configured, else after two full years of sessions, or the last year there is."""
        if self.first_model_year is not None:
            return self.first_model_year
        after_two_years = self.start.year + (2 if self.start.month == 1 else 3)
        return min(after_two_years, self.end.year) if self.end else after_two_years

    @property
    def context_series(self) -> tuple[str, ...]:
        """The market context series to ask for; a snapshot may lack the default ones."""
        return CONTEXT_SERIES if self.context is None else self.context

    @property
    def after_close(self) -> timedelta:
        """How long after its close a session is fetched."""
        return timedelta(minutes=self.after_close_minutes)

    @property
    def database(self) -> Path:
        return self.data_dir / "stock_assets.duckdb"

    @property
    def artifacts(self) -> Path:
        return self.data_dir / "artifacts"

    @property
    def staged_answers(self) -> Path:
        """The folder of a vendor's answers that are not stored yet."""
        return self.data_dir / "staged_answers"

    @property
    def mlflow_uri(self) -> str | None:
        """The tracking URI of the model registry; None when it is off."""
        if self.mlflow is None:
            return f"sqlite:///{self.data_dir.absolute() / 'mlflow' / 'mlflow.db'}"
        return None if self.mlflow == "off" else self.mlflow

    @property
    def mlflow_artifacts(self) -> Path:
        """Where a registry in SQLite keeps the files of its runs; a server knows its own place."""
        return self.data_dir.absolute() / "mlflow" / "artifacts"

    @property
    def dagster_home(self) -> Path:
        """Next to the store, because Dagster's memory of what is materialized must not outlive it."""
        return self.data_dir / "dagster"

    @property
    def label_rule(self) -> LabelRule:
        return LabelRule(self.horizon, self.buy_threshold, self.sell_threshold)


class Origins(NamedTuple):
    """The settings, and those that a person has set, by name."""

    settings: Settings
    given: Mapping[str, Given]


def read_settings(**overrides: object) -> Settings:
    """The settings of the file and the environment, with `overrides` in their place.

    Raises SettingsError, one line per wrong value.
    """
    return read_origins(**overrides).settings


def read_origins(**overrides: object) -> Origins:
    """As `read_settings`, with where each value comes from."""
    return checked(gather(Settings.model_fields, PROJECT_DIR, overrides))


def checked(given: Mapping[str, Given]) -> Origins:
    """The settings that `given` make, the others at their defaults. Raises SettingsError, one line per wrong value."""
    try:
        return Origins(Settings.model_validate({name: setting.value for name, setting in given.items()}), given)
    except ValidationError as error:
        raise SettingsError("\n".join(_problems(error, given))) from None


def _problems(error: ValidationError, given: Mapping[str, Given]) -> Iterator[str]:
    """A line per wrong value."""
    for problem in error.errors():
        message = problem["msg"].removeprefix("Value error, ")
        if not problem["loc"]:  # a rule across settings names them itself
            files = {setting.origin for setting in given.values() if setting.in_file}
            yield message + "".join(f" (the settings file is {file})" for file in files)
        elif problem["type"] != "default_factory_not_called":  # data_dir follows from source, named already
            name = str(problem["loc"][0])
            shown = given[name].named(name, secret=name in SECRETS)
            yield f"{shown} is wrong ({message}); expected {Settings.model_fields[name].description}"


@cache
def settings() -> Settings:
    """The settings of this process, read once."""
    return read_settings()
