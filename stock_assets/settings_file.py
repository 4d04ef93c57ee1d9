"""What a person has set: in the file stock_assets.toml, in the environment over it, and in a call over both.

    # stock_assets.toml: every key is a setting, relative paths begin at this file
    source = "snapshot"
    snapshot = "prices.parquet"
    start = 2010-01-04

The file is the one that `stock-assets --config FILE` or STOCK_ASSETS_CONFIG names (`off`: none), else the one in the
current folder, else the one in the folder of the project. A setting `start` is STOCK_ASSETS_START in the environment,
where relative paths begin at the current folder.
"""

import os
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from stock_assets.errors import SettingsError

PREFIX = "STOCK_ASSETS_"
#: Names the settings file; `off` means that there is none.
CONFIG = f"{PREFIX}CONFIG"
#: Names the address of Dagster's web server, for the processes that it starts.
UI_URL = "DAGSTER_WEB_SERVER"
FILE_NAME = "stock_assets.toml"
#: The origin of a setting that the caller of this process gave.
CALL = "call"

#: Settings that are a path, a path or a word, and a list or the path of one.
_PATHS, _PATH_OR_WORD, _PATH_OR_LIST = (
    ("data_dir", "snapshot", "store", "dagster", "artifacts", "backup_dir", "api_tokens", "books", "lake_files"),
    ("membership",),
    ("tickers",),
)
_WORDS = ("wikipedia",)
#: Those of them that may be the address of a server or a bucket.
_ADDRESSES = ("store", "dagster", "artifacts", "backup_dir", "lake_files")
_SQLITE = "sqlite:///"


@dataclass(frozen=True)
class Given:
    """One setting that a person has set."""

    value: object
    """with absolute paths"""
    written: object
    """as it stands there"""
    origin: str
    """CALL, the name of the variable or the path of the file"""

    @property
    def in_file(self) -> bool:
        return self.origin != CALL and not self.origin.startswith(PREFIX)

    def named(self, setting: str, *, secret: bool = False) -> str:
        """Where and what, for an error: `STOCK_ASSETS_START='soon'` or `stock_assets.toml: start = 'soon'`."""
        value_text = "***" if secret else repr(self.written)
        if self.in_file:
            return f"{self.origin}: {setting} = {value_text}"
        return f"{PREFIX}{setting.upper()}={value_text}"


def settings_file(project: Path) -> Path | None:
    """The absolute path of the settings file, None without one. Raises SettingsError where CONFIG names no file."""
    file_name = os.environ.get(CONFIG)
    if file_name == "off":
        return None
    if file_name:
        path = Path(file_name).expanduser().absolute()
        if not path.is_file():
            raise SettingsError(f"{CONFIG}={file_name} is no file; expected a {FILE_NAME}, or off for none")
        return path
    return next((file for folder in (Path.cwd(), project) if (file := folder / FILE_NAME).is_file()), None)


def gather(settings: Collection[str], project: Path, overrides: Mapping[str, object]) -> dict[str, Given]:
    """Each of `settings` that is set, by name: in the file, else in the environment, else in `overrides`, the last of
    which counts.

    Raises SettingsError for a file that cannot be read and for a name that is no setting.
    """
    given_values: dict[str, Given] = {}
    if file := settings_file(project):
        values = read_file(file)
        _require_settings({key: f"{file}: {key}" for key in values}, settings)
        for key, value in values.items():
            given_values[key] = Given(absolute(key, value, file.parent), value, str(file))
    variables = {
        name.removeprefix(PREFIX).lower(): name for name in os.environ if name.startswith(PREFIX) and name != CONFIG
    }
    _require_settings(variables, settings)
    for key, name in variables.items():
        given_values[key] = Given(absolute(key, os.environ[name], Path.cwd()), os.environ[name], name)
    _require_settings({key: key for key in overrides}, settings)
    for key, value in overrides.items():
        given_values[key] = Given(absolute(key, value, Path.cwd()), value, CALL)
    return given_values


def _require_settings(names: Mapping[str, str], settings: Collection[str]) -> None:
    """Raises SettingsError for the names, as they stand there, that are no setting."""
    if unknown := sorted(name_as_written for name, name_as_written in names.items() if name not in settings):
        expected = ", ".join(settings)
        if unknown[0].startswith(PREFIX):
            expected = ", ".join(PREFIX + name.upper() for name in settings)
        raise SettingsError(f"{', '.join(unknown)} is no setting; expected one of {expected}")


def read_file(file: Path) -> dict[str, object]:
    """The keys and values of a settings file. Raises SettingsError for one that is no TOML or has tables."""
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise SettingsError(f"{file} cannot be read as TOML: {error}") from error
    for key, value in values.items():
        if isinstance(value, dict):
            raise SettingsError(
                f"{file}: [{key}] is a table; expected no tables, only lines such as start = 2018-01-02"
            )
    return values


def absolute(setting: str, value: object, folder: Path) -> object:
    """`value` of `setting`, whose path begins at `folder` where it is relative."""
    if not isinstance(value, str | Path):
        return value
    text = str(value)
    if setting in _ADDRESSES and ("://" in text or "ducklake:" in text):
        return value
    if setting in _PATHS or (setting in _PATH_OR_WORD and text not in _WORDS):
        return str(folder / Path(text).expanduser())
    if setting in _PATH_OR_LIST and "," not in text and (folder / text).is_file():
        return str(folder / text)
    if setting == "mlflow" and text.startswith(_SQLITE) and text.removeprefix(_SQLITE).strip("/"):
        return _SQLITE + str(folder / text.removeprefix(_SQLITE))
    return value


def environment_for_child(project: Path) -> dict[str, str]:
    """The environment variables by which a process in another folder reads the same settings as this one."""
    file = settings_file(project)
    variables = {
        name: str(absolute(name.removeprefix(PREFIX).lower(), value, Path.cwd()))
        for name, value in os.environ.items()
        if name.startswith(PREFIX) and name != CONFIG
    }
    return {**variables, CONFIG: str(file) if file else "off"}


def is_loopback(host: str) -> bool:
    """Whether `host`, an address or a name, is reached by this machine alone.

    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, True, False)
    """
    try:
        ip = ip_address(host)
    except ValueError:
        return host.lower() == "localhost"
    return (getattr(ip, "ipv4_mapped", None) or ip).is_loopback
