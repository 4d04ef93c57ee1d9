"""Shows the settings with where they come from, and writes a settings file from four answers."""

import json
from collections.abc import Mapping
from datetime import date
from pathlib import Path

from stock_assets.addresses import HIDDEN, redacted
from stock_assets.errors import SettingsError
from stock_assets.files import write_file
from stock_assets.market.sources.registry import require_source
from stock_assets.setting_values import inherited_last
from stock_assets.settings import SECRETS, Origins, Settings, checked
from stock_assets.settings_file import Given, absolute


def settings_lines(origins: Origins) -> list[str]:
    """`name = value  # where from` of every setting, in the words of the settings file; secrets are hidden."""
    lines = []
    for name, field in inherited_last(Settings).items():
        value, given_value = getattr(origins.settings, name), origins.given.get(name)
        origin = given_value.origin if given_value else "default"
        if value is None or value == ():
            lines.append(f"{name} is unset  # {origin}: {field.description}")
        else:
            lines.append(f"{name} = {HIDDEN if name in SECRETS else shown(value)}  # {origin}")
    return lines


def shown(value: object) -> str:
    """`value` as TOML writes it, without what may be a secret in an address."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(shown, value))}]"
    text = redacted(value) if isinstance(value, str) and "://" in value else str(value)
    return json.dumps(text, ensure_ascii=False)


def write_settings(file: Path, answers: Mapping[str, str]) -> Settings:
    """Writes `answers`, by setting, to the settings file `file`, whole or not at all; the settings that it makes.

    An empty answer leaves the setting at its default. Raises SettingsError for a wrong answer; then nothing is written.
    """
    texts_of_settings = {name: text.strip() for name, text in answers.items() if text.strip()}
    given_values = {
        name: Given(absolute(name, text, file.parent), text, str(file)) for name, text in texts_of_settings.items()
    }
    settings = checked(given_values).settings
    require_source(settings.source)
    if settings.snapshot is not None and not settings.snapshot.exists():
        raise SettingsError(f"{settings.snapshot} is no file or folder; expected a Parquet file, a CSV or a folder")
    lines = [
        "# What stock_assets works on; `stock-assets config` shows every setting. Relative paths begin at this file.",
        *(f"{name} = {_as_written(name, text, settings)}" for name, text in texts_of_settings.items()),
    ]
    write_file(file, ("\n".join(lines) + "\n").encode())
    return settings


def _as_written(name: str, text: str, settings: Settings) -> str:
    value = getattr(settings, name)
    return shown(value if isinstance(value, bool | int | float | date) else text)
