"""The sources by name: how one is registered, and how the one that the settings name is made.

A source is a module that calls `register_source`. One of this package has its line in BUILT_IN; any other module that
is imported at start registers its own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module

from stock_assets.errors import SettingsError, StockAssetsError
from stock_assets.market.sources import SETTLE, Source
from stock_assets.settings import PREFIX, Settings

#: Hears how far a long fetch is.
Say = Callable[[str], None]

#: The sources of this package and their modules, which are imported when the source is asked for.
BUILT_IN = {name: f"{__package__}.{name}" for name in ("simulated", "snapshot", "yahoo", "ccxt")}


@dataclass(frozen=True)
class RegisteredSource:
    """A source that the settings can name."""

    name: str
    make: Callable[[Settings, Say], Source]
    """reads and asks nothing yet"""
    text: str
    """what it is, in a few words"""
    lists_tickers: bool = True
    """whether its universe is known without STOCK_ASSETS_TICKERS"""
    settle: timedelta = SETTLE
    """so long after the close of a session it has the last bars below a day"""


_SOURCES: dict[str, RegisteredSource] = {}


def register_source(
    name: str,
    make: Callable[[Settings, Say], Source],
    text: str,
    *,
    lists_tickers: bool = True,
    settle: timedelta = SETTLE,
) -> None:
    """Makes the source available as STOCK_ASSETS_SOURCE=`name`.

    `make` gets the settings and a function that hears how far a long fetch is. Where `lists_tickers` is False and no
    tickers are configured, the universe is the members of the index. Bars below a day of a session are final `settle`
    after its close.

    Raises StockAssetsError where another source has that name.
    """
    if name in _SOURCES:
        raise StockAssetsError(
            f"a source named {name} is registered already ({_SOURCES[name].text}); expected another name"
        )
    _SOURCES[name] = RegisteredSource(name, make, text, lists_tickers, settle)


def require_source(name: str) -> None:
    """Raises SettingsError, which names all sources, where there is none called `name`; no source is made."""
    if name not in _SOURCES and name not in BUILT_IN:
        sources = "; ".join(f"{source.name} ({source.text})" for source in all_sources())
        raise SettingsError(f"{PREFIX}SOURCE={name!r} is wrong (no such source); expected one of {sources}")


def registered(name: str) -> RegisteredSource:
    """The source that STOCK_ASSETS_SOURCE=`name` means. Raises SettingsError where there is none."""
    require_source(name)
    if name not in _SOURCES:
        import_module(BUILT_IN[name])
    return _SOURCES[name]


def settle_time(settings: Settings) -> timedelta:
    """How long after its close a session of bars is over: the source has its last bars. Raises SettingsError."""
    return registered(settings.source).settle


def all_sources() -> list[RegisteredSource]:
    """Every source: those of this package, then the others."""
    built_in = [registered(name) for name in BUILT_IN]
    return [*built_in, *(source for name, source in _SOURCES.items() if name not in BUILT_IN)]


def make_source(settings: Settings, say: Say = lambda _: None) -> Source:
    """The source that the settings name; nothing is read or asked before it is used.

    Raises SettingsError where there is no source of that name.
    """
    return registered(settings.source).make(settings, say)
