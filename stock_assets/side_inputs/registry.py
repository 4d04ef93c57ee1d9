"""The side inputs by name: which table each has, and which sources answer for it under the settings."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Literal

import polars as pl

from stock_assets.errors import SettingsError, StockAssetsError
from stock_assets.market.calendar import TradingCalendar
from stock_assets.settings import PREFIX, Settings
from stock_assets.side_inputs import SideSource
from stock_assets.tables import Table

#: Hears how far a long fetch is.
Say = Callable[[str], None]

#: The side inputs of this package and the modules that register them, imported when one is asked for.
BUILT_IN = {
    name: f"{__package__}.{module}"
    for name, module in {
        "announcements": "announcement_input",
        "fundamentals": "fundamental_input",
        "macro": "macro_input",
        "scheduled_events": "schedule_input",
        "texts": "text_input",
    }.items()
}
#: Those that help the model, which are there where the settings allow them and name no others.
DEFAULTS = ("announcements",)


@dataclass(frozen=True, kw_only=True)
class SideInput:
    """One side input."""

    table: Table
    subjects: Literal["tickers", "own"]
    """what its sources are asked about: the tickers of the universe, or subjects that they name themselves"""
    sources: Callable[[Settings, Say], Sequence[SideSource]]
    """those that the settings allow; none where the settings lack what they need. Reads and asks nothing yet"""
    text: str
    """what it is, in a few words"""
    missing: Callable[[Settings], str | None]
    """why it has no source under the settings, and which setting gives it one; None where it has one"""
    follows: Callable[[pl.DataFrame, TradingCalendar], pl.DataFrame] = lambda rows, _: rows
    """the rows of the sources, without session, with those that follow from them"""


_SIDE_INPUTS: dict[str, SideInput] = {}


def register_side_input(entry: SideInput) -> SideInput:
    """`entry`, under the name of its table. Raises StockAssetsError where that name is taken."""
    if _SIDE_INPUTS.setdefault(entry.table.name, entry) != entry:
        raise StockAssetsError(f"a side input {entry.table.name} is registered already; expected another name")
    return entry


def side_input(name: str) -> SideInput:
    """The side input called `name`. Raises SettingsError where there is none."""
    if name in BUILT_IN and name not in _SIDE_INPUTS:
        import_module(BUILT_IN[name])
    if name not in _SIDE_INPUTS:
        expected = ", ".join(side_input_names())
        raise SettingsError(f"{PREFIX}SIDE_INPUTS names {name!r}; expected some of {expected}, or off")
    return _SIDE_INPUTS[name]


def side_input_names() -> tuple[str, ...]:
    """The names of all side inputs: those of this package, then the others."""
    return tuple(dict.fromkeys((*BUILT_IN, *_SIDE_INPUTS)))


def all_side_inputs() -> list[SideInput]:
    """Every side input, in the order of `side_input_names`."""
    return [side_input(name) for name in side_input_names()]


def chosen_side_inputs(settings: Settings) -> list[SideInput]:
    """Those that the settings turn on, in their order: by name, or DEFAULTS as far as they have a source.

    Raises SettingsError for a name that is none, and for one that has no source.
    """
    if settings.side_inputs is None:
        return [entry for entry in map(side_input, DEFAULTS) if entry.missing(settings) is None]
    entries = [side_input(name) for name in dict.fromkeys(settings.side_inputs)]
    for entry in entries:
        if reason := entry.missing(settings):
            raise SettingsError(f"{PREFIX}SIDE_INPUTS names {entry.table.name}, but {reason}")
    return entries
