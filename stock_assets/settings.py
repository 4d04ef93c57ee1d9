"""Every setting, from the settings file and the environment (`settings_file`), checked once.

A wrong value is one clear line: the variable or the file, what it holds, and what was expected."""

from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import ConfigDict, Field, HttpUrl, SecretStr, ValidationError, field_validator, model_validator

from stock_assets.address_settings import ADDRESSES, AddressSettings
from stock_assets.bar_settings import BarSettings, market_folder
from stock_assets.closed_snapshot import noted_end
from stock_assets.errors import SettingsError
from stock_assets.escape import shortened
from stock_assets.memory import MemorySettings
from stock_assets.setting_places import Places
from stock_assets.setting_values import (
    Currency,
    DataFolder,
    DateFormat,
    ExtraSessions,
    HostNames,
    Hours,
    LabelRule,
    ObjectsAddress,
    Token,
    Zone,
    inherited_last,
    require_model_years,
    split_addresses,
    tickers_of_file,
    tracking_uri,
)
from stock_assets.settings_file import PREFIX, Given, gather, is_loopback
from stock_assets.side_settings import SIDE_SECRETS, SideSettings
from stock_assets.tickers import EXPECTED, no_tickers
from stock_assets.trading_settings import TRADING_SECRETS, TradingSettings

PROJECT_DIR = Path(__file__).resolve().parent.parent
#: Settings that hold a password or a key: no output and no error shows their value.
SECRETS = ("alert_webhook", "alert_urls", "heartbeat_url", "ui_token", *SIDE_SECRETS, *TRADING_SECRETS)
#: The value of the setting `membership` for the S&P 500 as Wikipedia lists it.
FROM_WIKIPEDIA = "wikipedia"
#: The market context series that a source is asked for where the setting `context` is unset.
CONTEXT_SERIES = ("^VIX", "^GSPC", "SPY")
#: Bytes of a file of tickers: far more than there are on all exchanges.
MOST_BYTES_OF_TICKERS = 5_000_000
#: The calendar is computed up to this day and no further. Fixed, never `now() + …`: the closures are part of
#: the identity of the partition definitions, which must not change from one day to the next.
CALENDAR_END = date(2035, 12, 31)


class Settings(MemorySettings, TradingSettings, SideSettings, BarSettings, AddressSettings, Places):
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
    data_dir: DataFolder = Field(
        default_factory=lambda data: PROJECT_DIR / "data" / market_folder(data),
        description="the folder of the DuckDB file, the model artifacts and Dagster's own storage",
    )
    artifacts: ObjectsAddress = Field(
        default_factory=lambda data: data["data_dir"] / "artifacts",
        description="where saved models, reports and what is published are: a folder, s3://bucket/prefix or "
        "gs://bucket/prefix; in the data folder when unset",
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
        default=None, description="the first year that a model serves; two full years after the start when unset"
    )
    exchange: str = Field(default="XNYS", description="an exchange_calendars code")
    currency: Currency | None = Field(
        default=None, description="the ISO 4217 code of the prices, such as USD; the exchange's when unset"
    )
    session_hours: Hours | None = Field(
        default=None,
        description="from when to when a session lasts, such as 17:00-17:00 America/New_York; as the exchange has it "
        "when unset",
    )
    time_zone: Zone | None = Field(
        default=None,
        description="the zone of a snapshot's times that name none, such as America/New_York; UTC when unset, unless "
        "they fit the exchange's own zone better: then an error asks for it",
    )
    extra_sessions: ExtraSessions = Field(
        default=(),
        description="days separated by commas on which the exchange opens though its calendar says otherwise, such as "
        "2024-01-20 or 2024-01-20 09:15-12:30 (its own time)",
    )
    missing_sessions: tuple[date, ...] = Field(
        default=(),
        description="days separated by commas on which the exchange stays closed though its calendar says otherwise, "
        "such as 2023-09-01",
    )
    date_format: DateFormat | None = Field(
        default=None,
        description="how a snapshot writes dates and times, such as %d/%m/%Y; needed where day or month may be first",
    )
    decimal: Literal[".", ","] | None = Field(
        default=None,
        description=". or , as the sign before the decimals of a snapshot; needed where 1,234 could be either",
    )
    columns: tuple[str, ...] = Field(
        default=(),
        description="names of a snapshot's columns separated by commas: close=Last says that Last is the close; names "
        "alone, such as date,open,high,low,close,volume, are those of files without a header, in their order",
    )
    prices: Literal["as_traded", "split_adjusted", "adjusted"] | None = Field(
        default=None,
        description="as_traded, split_adjusted or adjusted: what a snapshot's closes are beside dividends and splits",
    )
    horizon: int = Field(default=7, ge=1, le=60, description="sessions a label looks ahead, below 1d bars")
    buy_threshold: float = Field(
        default=0.027, gt=0, lt=1, description="the return, as a fraction, above which a label is buy"
    )
    sell_threshold: float = Field(
        default=0.022, gt=0, lt=1, description="the loss, as a positive fraction, below which a label is sell"
    )
    seed: int = Field(default=0, ge=0, description="seeds the simulated market and the training")
    mlflow: str | None = Field(
        default=None,
        repr=False,
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
        repr=False,
        description="the http(s) address that alerts are posted to as JSON; they are only logged when unset",
    )
    alert_urls: tuple[SecretStr, ...] = Field(
        default=(),
        description="apprise addresses separated by commas that alerts are sent to as well, such as slack://…, "
        "mailto://… or tgram://…",
    )
    heartbeat_url: HttpUrl | None = Field(
        default=None,
        repr=False,
        description="the http(s) address that is asked for after every look at the predictions, such as a check of "
        "healthchecks.io or a push monitor of Uptime Kuma; none when unset",
    )
    ui_host: str = Field(
        default="127.0.0.1", pattern="^[^\\s/@]+$", description="the address that the web server listens on"
    )
    ui_token: Token | None = Field(
        default=None,
        description="8 printable ASCII characters or more that the web server asks everybody for; it asks for none, "
        "and listens on loopback alone, when unset",
    )
    ui_names: HostNames = Field(
        default=(),
        description="names separated by commas, with a port where it is another, by which browsers reach the web "
        "server besides its own address, such as stocks.example or localhost:8080",
    )
    api_host: str = Field(
        default="127.0.0.1", pattern="^[^\\s/@]+$", description="the address that the API and its dashboard listen on"
    )
    api_port: int = Field(default=8000, ge=1, le=65535, description="the port of the API and its dashboard, 1 to 65535")
    api_tokens: Path | None = Field(
        default=None,
        description="the file of the hashed tokens that the API asks everybody for; it asks for none, and listens on "
        "loopback alone, when unset",
    )
    api_rate_limit: int | None = Field(
        default=None,
        ge=0,
        le=1_000_000,
        description="requests a minute that a token of the API may make, or without tokens an address, and 0 for any "
        "number; 6000 with tokens and any number without them when unset",
    )
    on_demand: bool = Field(
        default=False, description="true or false: whether the API predicts on demand, in a process of its own"
    )
    backup_dir: ObjectsAddress | None = Field(
        default=None,
        description="where a backup goes after every evening: a folder, best on another disk, s3://bucket/prefix or "
        "gs://bucket/prefix; no backup when unset",
    )
    backup_keep: int = Field(default=7, ge=1, le=1000, description="backups that are kept, 1 to 1000")
    extensions: tuple[str, ...] = Field(
        default=(), description="Python modules separated by commas that add to stock_assets and are imported first"
    )

    @field_validator("extensions", "ui_names", "columns", "extra_sessions", "missing_sessions", mode="before")
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
                max_megabytes = MOST_BYTES_OF_TICKERS / 1e6
                raise ValueError(f"a file of {size / 1e6:,.0f} MB; at most {max_megabytes:g} MB of tickers")
            value = ",".join(tickers_of_file(Path(value)))
        tickers = tuple(dict.fromkeys(part.strip().upper() for part in value.split(",") if part.strip()))
        if not tickers:
            raise ValueError("expected tickers separated by commas, or a file with one per line")
        return tickers

    @field_validator("context", mode="before")
    @classmethod
    def _split_series(cls, value: object) -> object:
        return () if value in ("", "off", []) else cls._split_tickers(value)

    @field_validator("tickers", "context")
    @classmethod
    def _are_tickers(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if odd_tickers := no_tickers(value or ()):
            raise ValueError(f"found the ticker {shortened(repr(odd_tickers[0]), 80)}, expected {EXPECTED}")
        return value

    @field_validator("alert_urls", mode="before")
    @classmethod
    def _split_urls(cls, value: object) -> object:
        return split_addresses(value)

    @field_validator("membership")
    @classmethod
    def _is_wikipedia_or_a_file(cls, value: str | None) -> str | None:
        if value is not None and value != FROM_WIKIPEDIA and not Path(value).is_file():
            raise ValueError("no such file")
        return value

    @field_validator("mlflow")
    @classmethod
    def _names_a_registry(cls, value: str | None) -> str | None:
        return value if value is None or value == "off" else tracking_uri(value)

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
        if self.interval == "1d":  # models of bars serve sessions, not years
            require_model_years(
                self.start, self.end, self.model_start_year, is_stated=self.first_model_year is not None
            )
        if self.ui_token is None and not is_loopback(self.ui_host):
            raise ValueError(
                f"{PREFIX}UI_HOST={self.ui_host}, where others reach the web server; expected {PREFIX}UI_TOKEN as well"
            )
        if self.api_tokens is None and not is_loopback(self.api_host):
            raise ValueError(
                f"{PREFIX}API_HOST={self.api_host}, where others reach the API; expected {PREFIX}API_TOKENS as well"
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
    origins = checked(gather(inherited_last(Settings), PROJECT_DIR, overrides))
    return checked({**origins.given, "end": end}) if (end := noted_end(origins.settings)) else origins


def checked(given_values: Mapping[str, Given]) -> Origins:
    """The settings that `given_values` make, the others at their defaults. Raises SettingsError, one line per wrong
    value."""
    try:
        return Origins(
            Settings.model_validate({name: setting.value for name, setting in given_values.items()}), given_values
        )
    except ValidationError as error:
        raise SettingsError("\n".join(_problems(error, given_values))) from None


def _problems(error: ValidationError, given_values: Mapping[str, Given]) -> Iterator[str]:
    """A line per wrong value."""
    for problem in error.errors():
        message = problem["msg"].removeprefix("Value error, ")
        if not problem["loc"]:  # a rule across settings names them itself
            files = {setting.origin for setting in given_values.values() if setting.in_file}
            yield message + "".join(f" (the settings file is {file})" for file in files)
        elif problem["type"] != "default_factory_not_called":  # data_dir follows from source, named already
            name = str(problem["loc"][0])
            setting_text = given_values[name].named(name, secret=_may_hold_a_password(name, given_values[name].written))
            yield f"{setting_text} is wrong ({message}); expected {Settings.model_fields[name].description}"


def _may_hold_a_password(name: str, text: object) -> bool:
    """Whether no output may show what a person wrote: a malformed address of a server may hold a secret as well."""
    if name in ("artifacts", "backup_dir"):
        return "://" in str(text) and not {"@", "?", "#"}.isdisjoint(str(text))
    if name in ADDRESSES:
        return ":" in str(text)
    if name != "mlflow":
        return name in SECRETS
    remainder = str(text).rpartition("://")[2].strip("/")
    return (
        not str(text).startswith("sqlite:///") and not {"@", "?", "#", "/"}.isdisjoint(remainder)
    ) or "@" in remainder


@cache
def settings() -> Settings:
    """The settings of this process, read once."""
    return read_settings()
